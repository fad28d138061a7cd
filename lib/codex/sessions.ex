defmodule Codex.Sessions do
  @moduledoc """
  Reads the threads that the CLI has recorded in its home, without a CLI.

      {:ok, page} = Codex.Sessions.list(cwd: "/srv/app", limit: 20)
      for session <- page.sessions, do: {session.title, session.usage["input_tokens"]}

      {:ok, session} = Codex.Sessions.find("release notes")
      {:ok, thread} = Codex.resume_thread(session.id)

  All four generations of rollout files are read, plain or compressed, live or archived. Files are
  scanned by native threads; a scan keeps one line of each file in memory. Nothing is written.

  `:codex_home` names the home; by default it is looked up on each call (`Codex.Home.resolve/1`). An
  unreadable file or a broken line never fails a call: results have `problems`, a list of
  `Codex.Sessions.Problem`.

  ## Errors

    * `Codex.Config.Error` - there is no home
    * `Codex.OptionError` - an argument or option is invalid
    * `{:session_not_found, text}` - no thread has this id, name or beginning of an id
    * `{:ambiguous_session, text, ids}` - several threads have it
    * `{:native, words}` - the native library is not loaded
  """

  import Kernel, except: [apply: 2]

  alias Codex.{Home, OptionError}
  alias Codex.Options.Schema
  alias Codex.Sessions.{Filter, History, Listing, Moves, Page, Patches, Record, Session, Store}
  alias Codex.Sessions.Turn

  @typedoc "Why no thread was read. See the list above."
  @type reason ::
          Codex.Config.Error.t()
          | OptionError.t()
          | {:session_not_found, String.t()}
          | {:ambiguous_session, String.t(), [String.t()]}
          | {:native, String.t()}

  @home {:codex_home, :os_path, "the home of the CLI", shown: "`CODEX_HOME`, else `~/.codex`"}

  @list Schema.new([
          @home,
          {:limit, :positive, "the most sessions of a page", default: 100},
          {:after, :string, "continues after the page with this `next`"}
          | Filter.rows()
        ])
  @one Schema.new([@home])

  @doc """
  Lists sessions, the newest first.

  Only the files of the page are read; a filter reads on until the page is full. The result is a
  `Codex.Sessions.Page`.

  Options:

  #{Schema.docs(@list)}
  """
  @spec list(keyword() | map()) :: {:ok, Page.t()} | {:error, reason()}
  def list(opts \\ []) do
    with {:ok, opts} <- Schema.validate(@list, opts),
         {:ok, filter} <- Filter.new(opts),
         {:ok, store} <- open(opts),
         do: {:ok, Listing.page(store, filter, opts)}
  end

  @doc """
  Finds a session by its id, its name, or the beginning of its id that no other session has.

  The option is `:codex_home`.
  """
  @spec find(String.t(), keyword() | map()) :: {:ok, Session.t()} | {:error, reason()}
  def find(text, opts \\ []) do
    with {:ok, opts} <- Schema.validate(@one, opts),
         {:ok, store} <- open(opts),
         {:ok, id} <- Listing.id(store, text) do
      [record] = store |> Record.stream([id]) |> Enum.to_list()
      {:ok, Record.session(record, store)}
    end
  end

  @doc """
  Returns the turns of a session, the oldest first, without their events. Turns that were copied
  from its parent are not among them; reverted ones are.

  The session is a `Codex.Sessions.Session`, or text as `find/2` takes it. The option is
  `:codex_home`.
  """
  @spec turns(Session.t() | String.t(), keyword() | map()) ::
          {:ok, [Turn.t()]} | {:error, reason()}
  def turns(session, opts \\ []) do
    with {:ok, opts} <- Schema.validate(@one, opts),
         {:ok, store} <- open(opts),
         {:ok, id} <- Listing.id(store, session) do
      [record] = store |> Record.stream([id], turns: true) |> Enum.to_list()
      {:ok, Record.turns(record)}
    end
  end

  @doc "Lists the recorded threads of a folder by their first lines; see `Codex.Sessions.Entries`."
  @spec list_sessions(keyword() | map()) ::
          {:ok, [Codex.Sessions.Entries.entry()]} | {:error, reason() | :not_a_directory}
  defdelegate list_sessions(opts \\ []), to: Codex.Sessions.Entries, as: :list

  # --- Changes of the home ------------------------------------------------------------------------

  @typedoc """
  The result of a change: the thread, its files before and after (paths from the home on; `to` is nil
  for a deleted file), and the ids of threads that name it as their parent or hold their history in
  its files, or nil if nobody asked.
  """
  @type moved :: %{
          id: String.t(),
          files: [%{from: Path.t(), to: Path.t() | nil}],
          referrers: [String.t()] | nil
        }

  @typedoc """
  The reason why nothing was changed:

    * `{:session_in_use, id}` - a CLI has the thread open
    * `{:already_archived, id}`, `{:not_archived, id}`
    * `{:session_referenced, id, ids}` - its files hold the history of these threads
    * `{:wrong_session_file, path, id}` - the first line of the file names this other thread
    * `{:file_exists, path}` - the new place is taken
    * `{:write_failed, path, reason}` - the files that had moved are back
  """
  @type move_reason ::
          reason()
          | {:session_in_use, String.t()}
          | {:already_archived, String.t()}
          | {:not_archived, String.t()}
          | {:session_referenced, String.t(), [String.t()]}
          | {:wrong_session_file, Path.t(), String.t()}
          | {:file_exists, Path.t()}
          | {:write_failed, Path.t(), Codex.Reason.file()}

  @move Schema.new([
          @home,
          {:referrers, :boolean,
           "looks for threads that refer to this one, which reads all files of the home",
           default: true}
        ])
  @delete Schema.new([
            @home,
            {:force, :boolean, "deletes a thread whose files hold the history of others",
             default: false}
          ])

  @doc """
  Archives a thread: all its files move to `archived_sessions`, or none. The CLI lists it as
  archived then, and does not resume it.

  A thread that a CLI has open is left alone; CLI versions before 0.163 do not show that they have.

  Options:

  #{Schema.docs(@move)}
  """
  @spec archive(Session.t() | String.t(), keyword() | map()) ::
          {:ok, moved()} | {:error, move_reason()}
  def archive(session, opts \\ []), do: move(:archive, session, @move, opts)

  @doc "Takes a thread out of the archive. Options and result are those of `archive/2`."
  @spec unarchive(Session.t() | String.t(), keyword() | map()) ::
          {:ok, moved()} | {:error, move_reason()}
  def unarchive(session, opts \\ []), do: move(:unarchive, session, @move, opts)

  @doc """
  Deletes all files of a thread, or none, also its copies that readers leave out.

  Options:

  #{Schema.docs(@delete)}
  """
  @spec delete(Session.t() | String.t(), keyword() | map()) ::
          {:ok, moved()} | {:error, move_reason()}
  def delete(session, opts \\ []), do: move(:delete, session, @delete, opts)

  defp move(job, session, schema, opts) do
    with {:ok, opts} <- Schema.validate(schema, opts),
         {:ok, store} <- open(opts),
         {:ok, id} <- Listing.id(store, session),
         do: Moves.run(job, store, id, opts)
  end

  # --- Prompts ------------------------------------------------------------------------------------

  @typedoc "A prompt that somebody typed into the CLI's terminal interface."
  @type prompt :: %{session_id: String.t(), time: DateTime.t(), text: String.t()}

  @doc """
  Reads `history.jsonl` of the home, the oldest prompt first. Of a file above 64 MiB, the last 64 MiB
  are read. The option is `:codex_home`.
  """
  @spec history(keyword() | map()) ::
          {:ok, %{prompts: [prompt()], problems: [Codex.Sessions.Problem.t()]}}
          | {:error, reason() | Codex.Reason.file()}
  def history(opts \\ []) do
    with {:ok, opts} <- Schema.validate(@one, opts),
         {:ok, home} <- home(opts),
         {:ok, prompts, problems} <- History.read(home),
         do: {:ok, %{prompts: prompts, problems: problems}}
  end

  @append Schema.new([
            @home,
            {:session_id, :text, "the id of the thread", required: true},
            {:time, :any, "the time", shown: "now", expected: "a `DateTime`"}
          ])

  @doc """
  Appends a prompt to `history.jsonl`, under the lock of the CLI and with mode 0600.

  The user's configuration is honoured: with `history.persistence = "none"` the result is
  `{:ok, :disabled}`, and above `history.max_bytes` the oldest prompts go. Errors:
  `{:lock_held, path}` if another program holds the file for 2 seconds, `{:write_failed, path, reason}`.

  Options:

  #{Schema.docs(@append)}
  """
  @spec append_history(String.t(), keyword() | map()) ::
          {:ok, :recorded | :disabled}
          | {:error, reason() | {:lock_held, Path.t()} | {:write_failed, Path.t(), term()}}
  def append_history(text, opts) do
    with :ok <- prompt(text),
         {:ok, opts} <- Schema.validate(@append, opts),
         {:ok, time} <- time(opts.time),
         {:ok, home} <- home(opts),
         do: History.append(home, %{session_id: opts.session_id, time: time, text: text})
  end

  defp prompt(text) do
    if is_binary(text) and String.valid?(text),
      do: :ok,
      else: {:error, OptionError.argument(:text, text, "a prompt as text")}
  end

  defp time(nil), do: {:ok, DateTime.utc_now()}
  defp time(%DateTime{} = time), do: {:ok, time}
  defp time(other), do: {:error, OptionError.invalid(:time, other, "a `DateTime`")}

  # --- File changes -------------------------------------------------------------------------------

  @doc """
  Applies file changes to a work tree with `git apply`.

  `input` is a unified diff as text, a turn (`Codex.Sessions.Turn`, `Codex.Turn.Result`), its events,
  `Codex.Items.FileChange` items, or their changes. The changes of `codex exec` hold no diff.

  In a repository, `--3way` is tried first: it merges, and stages the result. If a file differs from
  the index, the diff is applied to the work tree alone. All is checked before anything is written,
  and a merge with conflicts writes nothing. Paths outside of `:cwd` are refused, also those behind a
  link.

  The result has `success`, `exit_code`, `stdout`, `stderr`, `method` (`:three_way` or
  `:work_tree`) and `paths`, relative to the top of the repository. Names are bytes as git has them.

  Errors: `{:apply_failed, result}`, `:empty_patch`, `:invalid_apply_input`,
  `{:invalid_apply_input, value}`, `{:missing_diff, change}`, `{:invalid_change_path, change}`,
  `{:outside_cwd, paths}`, `{:unreadable, path, reason}`, `{:invalid_working_directory, path}`,
  `:git_not_found`, `:timeout`, `{:exec_start_failed, reason}`, `Codex.OptionError`.

  Options:

  #{Patches.apply_docs()}
  """
  @spec apply(term(), keyword() | map()) :: {:ok, map()} | {:error, term()}
  def apply(input, opts \\ []), do: Patches.apply(input, opts)

  @doc """
  Takes the file changes of turns back, all or none.

  `input` is one of:

    * a turn, a result, its events or items: the recorded changes are reversed, the newest first
    * a list of turns: all of them are taken back, given in the order in which they ran
    * a snapshot that an older CLI made before a turn (`Codex.Items.GhostSnapshot`, or a map with
      `id`, `preexisting_untracked_files` and `preexisting_untracked_dirs`): the files below `:cwd`
      get the contents of that time, and files made since then are removed

  All is checked before anything is written; if a write fails, the files before it are put back. The
  user's index stays as it is. The result has `restored` and `removed_paths` (relative to `:cwd`), and
  `not_undone`: the items of commands and tools, whose effects nothing can take back.

  Errors: `{:undo_conflict, paths, words}` if a file is not as the turn left it,
  `{:changed_meanwhile, path}`, `{:ghost_commit_missing, id}`, `:missing_ghost_commit_id`,
  `:invalid_ghost_snapshot`, `:invalid_undo_input`, `{:not_a_git_repo, status, words}`,
  `{:git_restore_failed, status, words}`, `{:unreadable, path, reason}`,
  `{:write_failed, path, reason}`, and those of `apply/2` about changes and git.

  Options:

  #{Patches.undo_docs()}
  """
  @spec undo(term(), keyword() | map()) :: {:ok, map()} | {:error, term()}
  def undo(input, opts \\ []), do: Patches.undo(input, opts)

  defp home(opts), do: Home.resolve(Map.to_list(Map.take(opts, [:codex_home])))

  defp open(opts) do
    with {:ok, home} <- home(opts), do: Store.open(home)
  end
end
