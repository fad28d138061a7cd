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

  alias Codex.{Home, OptionError}
  alias Codex.Options.Schema
  alias Codex.Sessions.{Filter, Listing, Page, Record, Session, Store, Turn}

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

  defp open(opts) do
    with {:ok, home} <- Home.resolve(Map.to_list(Map.take(opts, [:codex_home]))),
         do: Store.open(home)
  end
end
