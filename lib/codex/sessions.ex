defmodule Codex.Sessions do
  @moduledoc """
  Reads the threads that the CLI has recorded in its home, without a CLI.

      {:ok, page} = Codex.Sessions.list(cwd: "/srv/app", limit: 20)
      for session <- page.sessions, do: {session.title, session.usage["input_tokens"]}

      {:ok, session} = Codex.Sessions.find("release notes")
      {:ok, thread} = Codex.resume_thread(session.id)

  All four generations of rollout files are read, plain or compressed, live or archived. Files are
  scanned by native threads; a scan keeps one line of each file in memory.

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

  alias Codex.{Home, OptionError, Redaction}
  alias Codex.Sessions.{Export, Filter, History, Index, Listing, Moves, Options, Page}
  alias Codex.Sessions.{Patches, Prices, Record, Search, Session, Store, Tail, Transcript, Turn}
  alias Codex.Sessions.Usage

  @typedoc "Why no thread was read. See the list above."
  @type reason ::
          Codex.Config.Error.t()
          | OptionError.t()
          | {:session_not_found, String.t()}
          | {:ambiguous_session, String.t(), [String.t()]}
          | {:native, String.t()}

  @session "a session, or its id, name or beginning of its id"

  @doc """
  Lists sessions, the newest first.

  Only the files of the page are read; a filter reads on until the page is full. The result is a
  `Codex.Sessions.Page`.

  Options:

  #{Options.docs(:list)}
  """
  @spec list(keyword() | map()) :: {:ok, Page.t()} | {:error, reason()}
  def list(opts \\ []) do
    with {:ok, opts} <- Options.validate(:list, opts),
         {:ok, filter} <- Filter.new(opts),
         {:ok, home} <- home(opts),
         :ok <- Index.check(opts.index, home),
         do: Listing.page(home, filter, opts)
  end

  @doc """
  Finds a session by its id, its name, or the beginning of its id that no other session has.

  The option is `:codex_home`.
  """
  @spec find(String.t(), keyword() | map()) :: {:ok, Session.t()} | {:error, reason()}
  def find(text, opts \\ []) do
    with {:ok, _opts, store, id} <- one(:home, text, opts) do
      [record] = store |> Record.stream([id]) |> Enum.to_list()
      {:ok, record.session}
    end
  end

  @doc """
  Reads a session with its turns and their events, as a `Codex.Sessions.Transcript`.

  Events and items are the structs that both transports deliver. Lines of older CLI versions become
  the same items: a command with its output, a patch with its changes. Turns that were copied from
  the parent are left out, as are copies of events in the form of the model's interface.

  The session is a `Codex.Sessions.Session`, or text as `find/2` takes it.

  Options:

  #{Options.docs(:read)}
  """
  @spec read(Session.t() | String.t(), keyword() | map()) ::
          {:ok, Transcript.t()} | {:error, reason()}
  def read(session, opts \\ []) do
    with {:ok, opts, store, id} <- one(:read, session, opts),
         do: {:ok, Transcript.read(store, id, Map.to_list(opts))}
  end

  @doc """
  Streams the events of a session lazily, the oldest first, in little memory. Reads the file while
  the stream runs.

  Session and options are those of `read/2`. Raises `Codex.Error` for an unknown session or invalid
  options, and when a file turns out to be unreadable.
  """
  @spec stream(Session.t() | String.t(), keyword() | map()) :: Enumerable.t()
  def stream(session, opts \\ []) do
    case one(:read, session, opts) do
      {:ok, opts, store, id} -> Transcript.stream(store, id, Map.to_list(opts))
      {:error, reason} -> raise Codex.Error.normalize(reason)
    end
  end

  @doc """
  Follows a session: streams its events while a CLI records them.

      session
      |> Codex.Sessions.tail(from: :start)
      |> Enum.each(&IO.inspect/1)

  The stream goes on if the thread is archived, compressed or taken out of the archive, and when a
  CLI resumes it. A revert begins with another `Codex.Events.ThreadStarted`: the CLI records the
  turns after it in a new file. A line counts when its newline is written.

  The stream ends if the file is missing at two looks in a row, which is a deletion. Otherwise it
  has no end, and waits in the process that runs it: halt it (`Enum.take/2`), or run it in a process
  of its own. Its file is closed when it ends, is halted, or the process dies.

  The session is a `Codex.Sessions.Session`, or text as `find/2` takes it. Raises `Codex.Error` for
  an unknown session, for invalid options, and if a file cannot be read, is shorter than what was
  read of it, or was replaced by another one.

  Options:

  #{Options.docs(:tail)}
  """
  @spec tail(Session.t() | String.t(), keyword() | map()) :: Enumerable.t()
  def tail(session, opts \\ []) do
    case one(:tail, session, opts) do
      {:ok, opts, store, id} -> Tail.stream(store, id, opts)
      {:error, reason} -> raise Codex.Error.normalize(reason)
    end
  end

  @doc """
  Returns the turns of a session, the oldest first, without their events, which `read/2` adds.
  Turns that were copied from the parent are left out; reverted turns are not.

  The session is a `Codex.Sessions.Session`, or text as `find/2` takes it. The option is
  `:codex_home`.
  """
  @spec turns(Session.t() | String.t(), keyword() | map()) ::
          {:ok, [Turn.t()]} | {:error, reason()}
  def turns(session, opts \\ []) do
    with {:ok, _opts, store, id} <- one(:home, session, opts) do
      [record] = store |> Record.stream([id], turns: true) |> Enum.to_list()
      {:ok, Record.turns(record)}
    end
  end

  @doc """
  Searches prompts, answers, commands and patches for a text or a regular expression, in the newest
  session first. Returns a lazy stream of `Codex.Sessions.Match` structs.

      Codex.Sessions.search("release notes", parts: [:prompt]) |> Enum.take(10)

  A text is found as it stands, in the same case. Outputs of commands are not searched, nor are
  turns that were copied from a parent. Raises `Codex.Error` for invalid arguments.

  Options:

  #{Options.docs(:search)}
  """
  @spec search(String.t() | Regex.t(), keyword() | map()) :: Enumerable.t()
  def search(pattern, opts \\ []) do
    with :ok <- pattern(pattern),
         {:ok, opts} <- Options.validate(:search, opts),
         {:ok, store} <- open(opts),
         {:ok, ids} <- searched(store, opts.session) do
      Search.stream(store, ids, pattern, opts)
    else
      {:error, reason} -> raise Codex.Error.normalize(reason)
    end
  end

  defp searched(store, nil), do: {:ok, store.order}

  defp searched(store, session),
    do: with({:ok, id} <- Listing.id(store, session), do: {:ok, [id]})

  defp pattern(%Regex{}), do: :ok

  defp pattern(text) do
    if is_binary(text) and text != "" and String.valid?(text),
      do: :ok,
      else: {:error, OptionError.argument(:pattern, text, "a text or a regular expression")}
  end

  @doc """
  Sums up the tokens of all sessions, or of one, as a `Codex.Sessions.Usage`.

      {:ok, usage} = Codex.Sessions.usage(scope: :thread, by: :model)
      {:ok, usage} = Codex.Sessions.usage(session, scope: :tree)

  Each call of a model counts once: for the thread that made it, also if its turn was reverted.
  Copies of calls in forks and agents do not count, running totals are not trusted.

  The session is a `Codex.Sessions.Session`, or text as `find/2` takes it. With the scope `:tree`,
  the tree that the session belongs to is summed up.

  Options:

  #{Options.docs(:usage)}
  """
  @spec usage(Session.t() | String.t() | keyword() | map(), keyword() | map()) ::
          {:ok, Usage.t()} | {:error, reason()}
  def usage(session_or_opts \\ [], opts \\ [])

  def usage(session, opts) when is_binary(session) or is_struct(session, Session) do
    with {:ok, opts, store, id} <- one(:usage, session, opts),
         :ok <- Prices.check(opts.prices),
         do: Usage.of(store, id, with_scope(opts, :thread))
  end

  def usage(opts, []) do
    with {:ok, opts} <- Options.validate(:usage, opts),
         :ok <- Prices.check(opts.prices),
         {:ok, store} <- open(opts, files: opts.scope == :turn),
         do: Usage.of(store, :all, with_scope(opts, :store))
  end

  def usage(other, _opts), do: {:error, OptionError.argument(:session, other, @session)}

  defp with_scope(opts, default), do: %{opts | scope: opts.scope || default}

  @doc """
  Lists the log files of the CLI in the home, the last changed first, as
  `%{path: path, size: bytes, modified: seconds}`. The option is `:codex_home`.
  """
  @spec log_files(keyword() | map()) ::
          {:ok, [%{path: Path.t(), size: non_neg_integer(), modified: integer()}]}
          | {:error, reason() | {:unreadable, Path.t(), String.t()}}
  def log_files(opts \\ []) do
    with {:ok, opts} <- Options.validate(:home, opts),
         {:ok, home} <- home(opts),
         do: Codex.Home.log_files(home)
  end

  @doc "Lists the recorded threads of a folder by their first lines; see `Codex.Sessions.Entries`."
  @spec list_sessions(keyword() | map()) ::
          {:ok, [Codex.Sessions.Entries.entry()]} | {:error, reason() | :not_a_directory}
  defdelegate list_sessions(opts \\ []), to: Codex.Sessions.Entries, as: :list

  # --- Changes of the home ------------------------------------------------------------------------

  @typedoc """
  The result of a change: the thread, its files before and after (paths from the home on; `to` is
  nil for a deleted file), and the ids of threads that name it as their parent or hold their history
  in its files, or nil if nobody asked.
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

  @doc """
  Archives a thread: all its files move to `archived_sessions`, or none. The CLI lists it as
  archived then, and does not resume it.

  A thread that a CLI has open is left alone; CLI versions before 0.163 do not show that they have.

  Options:

  #{Options.docs(:move)}
  """
  @spec archive(Session.t() | String.t(), keyword() | map()) ::
          {:ok, moved()} | {:error, move_reason()}
  def archive(session, opts \\ []), do: move(:archive, session, :move, opts)

  @doc "Takes a thread out of the archive. Options and result are those of `archive/2`."
  @spec unarchive(Session.t() | String.t(), keyword() | map()) ::
          {:ok, moved()} | {:error, move_reason()}
  def unarchive(session, opts \\ []), do: move(:unarchive, session, :move, opts)

  @doc """
  Deletes all files of a thread, or none, also its copies that readers leave out.

  Options:

  #{Options.docs(:delete)}
  """
  @spec delete(Session.t() | String.t(), keyword() | map()) ::
          {:ok, moved()} | {:error, move_reason()}
  def delete(session, opts \\ []), do: move(:delete, session, :delete, opts)

  defp move(job, session, set, opts) do
    with {:ok, opts} <- Options.validate(set, opts),
         {:ok, store} <- open(opts),
         {:ok, id} <- Listing.id(store, session),
         do: Moves.run(job, store, id, opts)
  end

  # --- Prompts ------------------------------------------------------------------------------------

  @typedoc "A prompt that somebody typed into the CLI's terminal interface."
  @type prompt :: %{session_id: String.t(), time: DateTime.t(), text: String.t()}

  @doc """
  Reads `history.jsonl` of the home, the oldest prompt first. Of a file above 64 MiB, the last 64
  MiB are read. The option is `:codex_home`.
  """
  @spec history(keyword() | map()) ::
          {:ok, %{prompts: [prompt()], problems: [Codex.Sessions.Problem.t()]}}
          | {:error, reason() | Codex.Reason.file()}
  def history(opts \\ []) do
    with {:ok, opts} <- Options.validate(:home, opts),
         {:ok, home} <- home(opts),
         {:ok, prompts, problems} <- History.read(home),
         do: {:ok, %{prompts: prompts, problems: problems}}
  end

  @doc """
  Appends a prompt to `history.jsonl`, under the lock of the CLI and with mode 0600.

  The user's configuration is honoured: with `history.persistence = "none"` the result is
  `{:ok, :disabled}`, and above `history.max_bytes` the oldest prompts go. Errors:
  `{:lock_held, path}` if another program holds the file for 2 seconds, `{:write_failed, path,
  reason}`.

  Options:

  #{Options.docs(:append_history)}
  """
  @spec append_history(String.t(), keyword() | map()) ::
          {:ok, :recorded | :disabled}
          | {:error, reason() | {:lock_held, Path.t()} | {:write_failed, Path.t(), term()}}
  def append_history(text, opts) do
    with :ok <- prompt(text),
         {:ok, opts} <- Options.validate(:append_history, opts),
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

  @typedoc "Why file changes were not read, or git did not run."
  @type patch_reason ::
          OptionError.t()
          | {:invalid_apply_input, term()}
          | {:invalid_change_path, term()}
          | {:missing_diff, term()}
          | {:invalid_working_directory, Path.t()}
          | {:unreadable, Path.t(), Codex.Reason.file()}
          | :git_not_found
          | :timeout
          | {:exec_start_failed, term()}

  @typedoc "The result of `apply/2`. Paths are relative to the top of the repository."
  @type applied :: %{
          success: boolean(),
          exit_code: non_neg_integer() | nil,
          stdout: binary(),
          stderr: binary(),
          method: :three_way | :work_tree,
          paths: [binary()]
        }

  @typedoc "Why nothing was applied."
  @type apply_reason ::
          patch_reason()
          | :empty_patch
          | :invalid_apply_input
          | {:apply_failed, applied()}
          | {:outside_cwd, [binary()]}

  @typedoc "The result of `undo/2`. Paths are relative to the working directory."
  @type undone :: %{
          restored: [binary()],
          removed_paths: [binary()],
          not_undone: [Codex.Items.t()]
        }

  @typedoc "Why nothing was taken back."
  @type undo_reason ::
          reason()
          | patch_reason()
          | :invalid_undo_input
          | :invalid_ghost_snapshot
          | :missing_ghost_commit_id
          | {:turn_not_found, String.t()}
          | {:undo_conflict, [binary()], words :: binary()}
          | {:changed_meanwhile, binary()}
          | {:ghost_commit_missing, String.t()}
          | {:not_a_git_repo, non_neg_integer() | nil, words :: binary()}
          | {:git_restore_failed, non_neg_integer() | nil, words :: binary()}
          | {:write_failed, Path.t(), Codex.Reason.file()}

  @doc """
  Applies file changes to a work tree with `git apply`.

  `input` is a unified diff as text, a turn (`Codex.Sessions.Turn`, `Codex.Turn.Result`), its
  events, `Codex.Items.FileChange` items, or their changes. The changes of `codex exec` hold no
  diff.

  In a repository, `--3way` is tried first: it merges, and stages the result. If a file differs from
  the index, the diff is applied to the work tree alone. All is checked before anything is written,
  and a merge with conflicts writes nothing. Paths outside of `:cwd` are refused, also those behind
  a link.

  Result and errors: `t:applied/0`, `t:apply_reason/0`. Names are bytes as git has them.

  Options:

  #{Patches.apply_docs()}
  """
  @spec apply(term(), keyword() | map()) :: {:ok, applied()} | {:error, apply_reason()}
  def apply(input, opts \\ []), do: Patches.apply(input, opts)

  @doc """
  Takes the file changes of turns back, all or none.

      {:ok, done} = Codex.Sessions.undo(session, after: turn_id)
      for command <- done.not_undone, do: IO.puts(command.command)

  `input` is one of:

    * a `Codex.Sessions.Session`, with the option `:turn` for one turn or `:after` for all turns
      after one. A snapshot of that time is used if the repository has it, otherwise the recorded
      changes
    * a turn, a result, its events or items: the recorded changes are reversed, the newest first
    * a list of turns: all of them are taken back, given in the order in which they ran
    * a snapshot that an older CLI made before a turn (`Codex.Items.GhostSnapshot`, or a map with
      `id`, `preexisting_untracked_files` and `preexisting_untracked_dirs`): the files below `:cwd`
      get the contents of that time, and files made since then are removed

  All is checked before anything is written; if a write fails, the files before it are put back. The
  user's index stays as it is. The result has `restored` and `removed_paths` (relative to `:cwd`),
  and `not_undone`: the items of commands and tools, whose effects nothing can take back.

  Errors: `t:undo_reason/0`; `{:undo_conflict, paths, words}` if a file is not as the turn left it.

  Options:

  #{Patches.undo_docs()}

  Options with a session, whose `cwd` is then the default of `:cwd` and `:from`:

  #{Patches.session_docs()}
  """
  @spec undo(term(), keyword() | map()) :: {:ok, undone()} | {:error, undo_reason()}
  def undo(input, opts \\ [])

  def undo(%Session{} = session, opts) do
    with {:ok, opts} <- Patches.session_options(opts),
         {:ok, transcript} <- read(session, Map.take(opts, [:codex_home])),
         do: Patches.undo_turns(transcript, opts)
  end

  def undo(input, opts), do: Patches.undo(input, opts)

  @doc """
  Writes a session as a document, for people or programs.

      {:ok, _path} = Codex.Sessions.export(session, format: :html, to: "session.html")

  A page is one file that loads nothing: turns with their messages, commands, diffs and tokens, a
  chart, and a search (`page.html#search=text` begins one). All texts of the session are escaped,
  and the page runs no other script than its own. JSON is one object: the fields of
  `Codex.Sessions.Session` and `turns`, each with its fields and `items`.

  Returns `{:ok, iodata}`, or with `:to` `{:ok, path}`. Errors: the list above,
  `{:write_failed, path, reason}`.

  Options:

  #{Options.docs(:export)}
  """
  @spec export(Session.t() | String.t(), keyword() | map()) ::
          {:ok, iodata() | Path.t()} | {:error, reason() | {:write_failed, Path.t(), atom()}}
  def export(session, opts \\ []) do
    with {:ok, opts, store, id} <- one(:export, session, opts),
         {:ok, patterns} <- patterns(opts.redact) do
      # The bytes of images are for pages; a document of text has none.
      images = if opts.format == :html, do: opts.images, else: :skip
      read = Transcript.read(store, id, images: images)
      {session, turns} = mask({read.session, read.turns}, patterns)
      Export.run(opts.format, session, turns, opts.max_text_bytes, opts.to)
    end
  end

  defp patterns(redact) do
    with :error <- Redaction.cast(redact) do
      expected = "a list of texts that are not blank, and of regular expressions"
      {:error, OptionError.invalid([:redact], "[redacted]", expected)}
    end
  end

  defp mask(read, []), do: read
  defp mask(read, patterns), do: read |> Redaction.mask(Redaction.new(patterns)) |> elem(0)

  defp home(opts), do: Home.resolve(Map.to_list(Map.take(opts, [:codex_home])))

  defp one(set, session, opts) do
    with {:ok, opts} <- Options.validate(set, opts),
         {:ok, store} <- open(opts),
         {:ok, id} <- Listing.id(store, session),
         do: {:ok, opts, store, id}
  end

  defp open(opts, wanted \\ []) do
    index = opts[:index]

    with {:ok, home} <- home(opts),
         :ok <- Index.check(index, home),
         {:ok, store} <- Store.open(home, wanted),
         do: {:ok, %{store | index: index}}
  end
end
