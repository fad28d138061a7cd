defmodule Codex do
  @external_resource readme = Path.expand("../README.md", __DIR__)
  @moduledoc readme |> File.read!() |> String.split("<!-- MDOC -->") |> Enum.fetch!(1)

  alias Codex.{Batch, Options, Thread}
  alias Codex.Hooks.Unreachable
  alias Codex.Options.Merge
  alias Codex.Turn.{Cancellation, Running}

  @typedoc "Why no thread was made: an option is wrong, or the transport does not support it."
  @type reason ::
          Codex.Reason.option() | Codex.Reason.output_schema() | Codex.AppServer.reason()

  @doc """
  Makes a new thread. No process starts yet: the CLI starts with the first turn.

  Options: `Codex.Options` and `Codex.Thread.Options`, as structs, maps or keyword lists. Returns
  `{:ok, thread}` or `{:error, reason}`: a `Codex.OptionError`, or for options that the `transport`
  of the thread cannot send
  `{:unsupported_option, name}`, `{:unsupported_option, name, value}` and `{:dangerous, name}`.
  `Codex.Error.normalize/1` puts each of them into words.

      iex> {:ok, thread} = Codex.start_thread([model: "gpt-6"], sandbox: :read_only)
      iex> thread.thread_id
      nil
      iex> {:error, error} = Codex.start_thread([], sandbx: :read_only)
      iex> Exception.message(error)
      "unknown option :sandbx; did you mean :sandbox?"
      iex> {:error, error} = Codex.start_thread(sandbox: :read_only)
      iex> Exception.message(error)
      "option :sandbox belongs to a thread: give it to the second argument of Codex.start_thread/2"
  """
  @spec start_thread(Options.t() | map() | keyword(), Thread.Options.t() | map() | keyword()) ::
          {:ok, Thread.t()} | {:error, reason()}
  def start_thread(opts \\ %{}, thread_opts \\ %{}), do: build(opts, thread_opts, [])

  @doc """
  Continues a stored thread. `id` is the id or name of a thread, or `:last` for the newest thread of
  the working directory.

  The thread is looked up by the first turn. If there is no such thread, that turn fails with
  `{:exec_failed, %Codex.Error{kind: :thread_not_found}}`; with `:last`, the CLI then begins a new
  thread. Stored threads keep no settings, so pass the options again. Options and errors are those
  of `start_thread/2`.
  """
  @spec resume_thread(
          String.t() | :last,
          Options.t() | map() | keyword(),
          Thread.Options.t() | map() | keyword()
        ) ::
          {:ok, Thread.t()} | {:error, reason()}
  def resume_thread(id, opts \\ %{}, thread_opts \\ %{})
  def resume_thread(:last, opts, thread_opts), do: build(opts, thread_opts, resume: :last)

  def resume_thread(id, opts, thread_opts) when is_binary(id) and id != "",
    do: build(opts, thread_opts, thread_id: id)

  def resume_thread(other, _opts, _thread_opts) do
    expected = "the id or the name of a thread, or :last"
    {:error, Codex.OptionError.argument(:id, other, expected)}
  end

  @doc """
  Makes a new thread that begins with the history of another thread. The other thread is not
  changed.

  The first turn runs `codex exec fork`. If there is no thread `id`, it fails with `{:exec_failed,
  %Codex.Error{kind: :thread_not_found}}`. The usage of the new thread counts from the total of the
  other thread. Options and errors are those of `start_thread/2`.
  """
  @spec fork_thread(
          String.t(),
          Options.t() | map() | keyword(),
          Thread.Options.t() | map() | keyword()
        ) ::
          {:ok, Thread.t()} | {:error, reason()}
  def fork_thread(id, opts \\ %{}, thread_opts \\ %{})

  def fork_thread(id, opts, thread_opts) when is_binary(id) and id != "",
    do: build(opts, thread_opts, fork_of: id)

  def fork_thread(other, _opts, _thread_opts),
    do: {:error, Codex.OptionError.argument(:id, other, "the id of a thread")}

  @doc """
  Runs a turn for each element of an enumerable, a few at a time, and returns their results as a
  lazy enumerable, a `Codex.Batch`.

  `fun` makes a job of an element: a prompt, or a map or keyword list with `prompt`, `key`, `cwd`,
  `options`, `timeout_ms` (see `Codex.Batch`). Nothing runs before the batch is read, and elements
  are taken from the enumerable when a job can begin.

      "lib/**/*.ex"
      |> Path.wildcard()
      |> Codex.map(&%{key: &1, prompt: "Review \#{&1}"}, max_concurrency: 4)
      |> Enum.each(fn
        %{status: :ok} = result -> IO.puts("\#{result.key}: \#{result.result}")
        result -> IO.puts("\#{result.key}: \#{result.status}")
      end)

  Options are those of `Codex.Batch.new/2`. Raises `Codex.OptionError` for invalid options. A job
  that cannot run is a result with the status `:failed`.
  """
  @spec map(Enumerable.t(), (term() -> Batch.job()), keyword() | map()) :: Batch.t()
  def map(enumerable, fun, opts \\ [])

  def map(enumerable, fun, opts) when is_function(fun, 1) do
    case Batch.new(enumerable, opts) do
      {:ok, batch} -> %{batch | jobs: Stream.map(batch.jobs, fun)}
      {:error, error} -> raise error
    end
  end

  def map(_enumerable, fun, _opts),
    do: Codex.OptionError.wrong!(:fun, fun, "a function of arity 1")

  @doc """
  Lists the turns and reviews that run on this node, oldest first: turns of `codex exec` and of
  app-servers, including turns that wait for a retry.

      for %{ref: ref, started_at: at} <- Codex.running(),
          DateTime.diff(DateTime.utc_now(), at) > 600,
          do: Codex.stop(ref)
  """
  @spec running() :: [Running.t()]
  def running, do: Running.list()

  @doc """
  Stops a turn that runs on this node, from any process. `target` is an entry of `running/0` or its
  `ref`, a thread, the id of a thread, the pid of the process that reads the turn, or a
  `Codex.RunResultStreaming`.

      Enum.each(Codex.running(), &Codex.stop/1)

  The reader gets an error of the kind `:interrupted` with the result so far, and the thread can be
  continued. `stop/1` does not wait for that. A thread returned by `start_thread/2` identifies its
  turn at once: before the thread has an id, and while the turn waits for a retry.

  Returns `:ok`, or `{:error, :not_found}` if no such turn runs. Raises `ArgumentError` for anything
  else.

  The reader of a stream gets the error as an exception. Rescue it if your application does not
  treat a stop by the user as a failure, so that a `Task` does not log a crash:

      Task.Supervisor.start_child(MyApp.Tasks, fn ->
        try do
          {:ok, events} = Codex.Thread.run_turn_streamed(thread, prompt)
          for text <- Codex.Stream.text(events), do: send(chat, {:text, text})
          send(chat, :done)
        rescue
          error ->
            case Codex.Error.normalize(error) do
              %{kind: :interrupted} -> send(chat, :stopped)
              error -> send(chat, {:failed, error})
            end
        end
      end)
  """
  @spec stop(
          Running.t()
          | reference()
          | Thread.t()
          | String.t()
          | pid()
          | Codex.RunResultStreaming.t()
        ) :: :ok | {:error, :not_found}
  def stop(%Thread{} = thread),
    do: Cancellation.stop({:thread, thread.thread_id, thread.ref})

  def stop(%Codex.RunResultStreaming{} = run), do: Codex.RunResultStreaming.cancel(run)
  def stop(target), do: Cancellation.stop(target)

  @doc "Lists the recorded threads of a folder; see `Codex.Sessions.list_sessions/1`."
  @spec list_sessions(keyword() | map()) ::
          {:ok, [Codex.Sessions.Entries.entry()]}
          | {:error, Codex.Sessions.reason() | :not_a_directory}
  defdelegate list_sessions(opts \\ []), to: Codex.Sessions

  defp build(opts, thread_opts, extra) do
    with {:ok, thread} <- Thread.Start.new(opts, thread_opts, extra),
         settings = Merge.merge(thread.codex_opts, thread.thread_opts, %{}),
         :ok <- Unreachable.warn(settings),
         do: {:ok, thread}
  end
end
