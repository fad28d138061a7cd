defmodule Codex.SessionStore do
  @moduledoc """
  Mirrors the session files of threads into a store while the CLI writes them, and materialises a
  thread on another node before it is resumed there.

      store = {Codex.SessionStore.File, path: "/mnt/shared/codex"}

      # Node A: each line of the session file goes to the store while the turn runs.
      {:ok, thread} = Codex.start_thread([], session_store: store)
      {:ok, result} = Codex.Thread.run(thread, "Find the bug")
      result.mirror.state
      #=> :current

      # Node B, with another home: the files come from the store before the turn begins.
      {:ok, thread} = Codex.resume_thread(thread_id, [], session_store: store)
      {:ok, result} = Codex.Thread.run(thread, "Fix it")

  `guides/session_store.md` describes the mechanism, its costs and limits, and has adapters for Ecto
  and S3.

  ## Stores

  A store is `{module, opts}` or `{module, opts, settings}`; the module implements the callbacks
  below. `Codex.SessionStore.Memory` and `Codex.SessionStore.File` are such modules, and
  `Codex.SessionStore.Conformance` tests others. The settings:

  #{Codex.SessionStore.Settings.docs()}

  ## Adapters

  A store holds files of bytes. A key is `{thread_id, file}` with the name of a session file; a
  thread has several files after a revert. Bytes are appended at the end, as whole lines, and never
  change. All callbacks get the `opts` of the store first. They may raise, exit or hang: the SDK
  calls them in processes of their own with a limit of time (`call_ms`).

  Two nodes may append to the same key. The offset decides: `c:append/4` refuses every offset but
  the present size, in one atomic step.

  ## Errors

  `Codex.Error.normalize/1` has the words of:

    * `{:session_store_failed, callback, failure}` - the adapter failed. `failure` is `:timeout`,
      `{:raised, exception}` with the module of the exception, `:exited`, `:invalid` (it returned
      another value than its callback may return) or `{:error, reason}`
    * `{:session_store_conflict, file, stored, local}` - the store and the home have different
      content, of these lengths in bytes
    * `{:session_not_stored, id}` - the store has no files of this thread, or not the file with the
      history that a thread of it needs
    * `{:invalid_stored_session, file, why}` - the store returned a name or content that is not
      written into a home: `:name`, `:content`, `:link`, `{:too_large, limit}`
    * `{:session_line_too_long, file, limit}` - a line is longer than the limit, in bytes
  """

  alias Codex.{Home, OptionError}
  alias Codex.Options.Schema
  alias Codex.SessionStore.{Adapter, Mirror, Name, Restore, Settings, Status}

  @enforce_keys [:module, :opts, :settings]
  defstruct @enforce_keys

  @typedoc """
  A store as it is configured: an adapter, its options, and settings of the SDK. See above.
  """
  @type store :: {module(), keyword() | map()} | {module(), keyword() | map(), keyword() | map()}

  @typedoc "A store whose settings are checked. `inspect/1` hides the options of the adapter."
  @type t :: %__MODULE__{module: module(), opts: keyword() | map(), settings: map()}

  @typedoc "A session file: the id of its thread and its name, `rollout-….jsonl`."
  @type key :: {thread_id :: String.t(), file :: String.t()}

  @typedoc "Why an adapter failed. See above."
  @type failure :: :timeout | {:raised, module()} | :exited | :invalid | {:error, term()}

  @typedoc "Why a thread was not mirrored or materialised. See above."
  @type reason ::
          OptionError.t()
          | Codex.Config.Error.t()
          | {:session_store_failed, atom(), failure()}
          | {:session_store_conflict, String.t(), non_neg_integer(), non_neg_integer()}
          | {:session_not_stored, String.t()}
          | {:session_not_found, String.t()}
          | {:invalid_stored_session, String.t(), atom() | {:too_large, pos_integer()}}
          | {:session_line_too_long, String.t(), pos_integer()}
          | {:session_in_use, String.t()}
          | {:wrong_session_file, String.t(), String.t()}
          | {:unreadable_session, String.t(), term()}
          | {:write_failed, String.t(), Codex.Reason.file()}
          | {:native, String.t()}

  @doc """
  Appends bytes to a file, which begins to exist with its first bytes.

  `bytes` are whole lines with their newlines, and `offset` is the size that the file has before.
  For any other offset, the file stays as it is and the result is `{:error, {:conflict, have}}` with
  its size; a missing file has the size 0. Check and write must be one step for all nodes. The bytes
  must be safe when `:ok` is returned.
  """
  @callback append(opts :: term(), key(), offset :: non_neg_integer(), bytes :: binary()) ::
              :ok | {:error, {:conflict, have :: non_neg_integer()} | term()}

  @doc """
  Reads bytes of a file from any offset on: at least one and at most `max_bytes`, or `""` at the end
  and of a missing file.
  """
  @callback read(
              opts :: term(),
              key(),
              offset :: non_neg_integer(),
              max_bytes :: pos_integer()
            ) :: {:ok, binary()} | {:error, term()}

  @doc "Returns the files of a thread with their sizes, in any order; an unknown thread has none."
  @callback files(opts :: term(), thread_id :: String.t()) ::
              {:ok, [{file :: String.t(), size :: non_neg_integer()}]} | {:error, term()}

  @doc """
  Returns the ids of the stored threads in ascending order: at most `limit` of them, from the first
  that is greater than `after_id` on.
  """
  @callback threads(opts :: term(), after_id :: String.t() | nil, limit :: pos_integer()) ::
              {:ok, [String.t()]} | {:error, term()}

  @doc "Deletes all files of a thread. An unknown thread is no error."
  @callback delete(opts :: term(), thread_id :: String.t()) :: :ok | {:error, term()}

  @home {:codex_home, :os_path, "the home of the CLI", shown: "`CODEX_HOME`, else `~/.codex`"}
  @of_home Schema.new([@home])
  @pages Schema.new([
           {:after, :text, "continues after this id"},
           {:limit, :positive, "the most ids", default: 1_000}
         ])

  @doc """
  Checks a store.

      iex> {:ok, store} = Codex.SessionStore.new({Codex.SessionStore.Memory, name: MyApp.Sessions})
      iex> {store.module, store.settings.flush_ms}
      {Codex.SessionStore.Memory, 1_000}
      iex> {:error, error} = Codex.SessionStore.new({Codex.SessionStore.Memory, [], flush: 1})
      iex> error.path
      [:session_store, :flush]

  The error is a `Codex.OptionError`.
  """
  @spec new(t() | store()) :: {:ok, t()} | {:error, OptionError.t()}
  def new(%__MODULE__{} = store), do: {:ok, store}

  def new(store) do
    case Settings.check(store) do
      {:ok, {module, opts, settings}} ->
        {:ok, %__MODULE__{module: module, opts: opts, settings: settings}}

      {:error, %OptionError{} = error} ->
        {:error, OptionError.inside(error, :session_store)}

      # The options of an adapter may hold credentials.
      :error ->
        expected = "{module, opts} or {module, opts, settings} of a Codex.SessionStore"
        {:error, OptionError.argument(:session_store, "[redacted]", expected)}
    end
  end

  @doc """
  Mirrors everything that the home has of a thread, and waits for it: for threads that ran without
  the option `session_store`, and after a crash of the VM.

  Returns the status, which is `:current`, or the first error: nothing is tried again. The files
  with the history of a fork are mirrored, too. A thread that runs is mirrored up to its present
  end.

  Options:

  #{Schema.docs(@of_home)}
  """
  @spec sync(t() | store(), String.t(), keyword() | map()) ::
          {:ok, Status.t()} | {:error, reason()}
  def sync(store, thread_id, opts \\ []) do
    with {:ok, store, thread_id, home} <- checked(store, thread_id, opts),
         do: Mirror.sync(store, home, thread_id)
  end

  @doc """
  Compares the home with the store. Nothing is written.

  The state is `:current` if the store has all whole lines of the home, `:behind` if it lacks some,
  and `:failed` with an `error` if the content differs.

  Options:

  #{Schema.docs(@of_home)}
  """
  @spec status(t() | store(), String.t(), keyword() | map()) ::
          {:ok, Status.t()} | {:error, reason()}
  def status(store, thread_id, opts \\ []) do
    with {:ok, store, thread_id, home} <- checked(store, thread_id, opts),
         do: Mirror.status(store, home, thread_id)
  end

  @typedoc """
  A file of a materialised thread: its path from the home on, its size in bytes, and its `state`:

    * `:written` - the home had no such file
    * `:extended` - the home had a shorter file with the same beginning
    * `:same` - the home had this file
    * `:longer` - the file of the home has more lines than the store; it stays
  """
  @type materialised :: %{
          path: Path.t(),
          bytes: non_neg_integer(),
          state: :written | :extended | :same | :longer
        }

  @doc """
  Writes a thread of the store into a home, so that a CLI can resume it: all of its files, and those
  with the history of a fork.

  Each file is written under a temporary name with mode 0600, and renamed when it is whole. A file
  of the home is only replaced by a longer one with the same beginning; half a line at its end does
  not count. Different content is `{:session_store_conflict, file, stored, local}`. A thread that a
  CLI has open is `{:session_in_use, id}`, unless there is nothing to write.

  Options:

  #{Schema.docs(@of_home)}
  """
  @spec materialise(t() | store(), String.t(), keyword() | map()) ::
          {:ok, [materialised()]} | {:error, reason()}
  def materialise(store, thread_id, opts \\ []) do
    with {:ok, store, thread_id, home} <- checked(store, thread_id, opts),
         do: Restore.run(store, home, thread_id)
  end

  @doc """
  Returns the ids of stored threads in ascending order.

  Options:

  #{Schema.docs(@pages)}
  """
  @spec threads(t() | store(), keyword() | map()) :: {:ok, [String.t()]} | {:error, reason()}
  def threads(store, opts \\ []) do
    with {:ok, store} <- new(store),
         {:ok, opts} <- Schema.validate(@pages, opts),
         do: Adapter.threads(store, opts.after, opts.limit)
  end

  @doc "Returns the stored files of a thread with their sizes in bytes, the oldest first."
  @spec files(t() | store(), String.t()) ::
          {:ok, [{String.t(), non_neg_integer()}]} | {:error, reason()}
  def files(store, thread_id) do
    with {:ok, store} <- new(store),
         {:ok, thread_id} <- thread_id(thread_id),
         do: Adapter.files(store, thread_id)
  end

  @doc """
  Deletes a thread from the store, with the history that forks of it may need. The home keeps its
  files.
  """
  @spec delete(t() | store(), String.t()) :: :ok | {:error, reason()}
  def delete(store, thread_id) do
    with {:ok, store} <- new(store),
         {:ok, thread_id} <- thread_id(thread_id),
         do: Adapter.delete(store, thread_id)
  end

  defp checked(store, thread_id, opts) do
    :ok = Codex.Started.check!()

    with {:ok, store} <- new(store),
         {:ok, thread_id} <- thread_id(thread_id),
         {:ok, opts} <- Schema.validate(@of_home, opts),
         {:ok, home} <- Home.resolve(codex_home: opts.codex_home),
         do: {:ok, store, thread_id, home}
  end

  defp thread_id(id) do
    if Name.id?(id),
      do: {:ok, id},
      else:
        {:error, OptionError.argument(:thread_id, id, "the id of a thread, a lower-case UUID")}
  end

  defimpl Inspect do
    def inspect(store, _opts), do: "#Codex.SessionStore<#{Kernel.inspect(store.module)}>"
  end
end
