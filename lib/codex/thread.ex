defmodule Codex.Thread do
  @moduledoc """
  A conversation with Codex: a value that names the conversation and holds the options of its turns.

      {:ok, thread} = Codex.start_thread()
      {:ok, result} = Codex.Thread.run(thread, "What does this project do?")
      result.final_response.text

      {:ok, result} = Codex.Thread.run(result.thread, "And who calls it?")

  `result.thread` is the thread after the turn; use it for the next turn.

  Turns run with `codex exec`, one process each, or, with the option `transport: {:app_server,
  conn}`, over a connection of `Codex.AppServer.connect/2`, or with `transport: {:pool, name}` over
  the servers of a `Codex.Pool`. The functions are the same for all transports;
  `guides/app_server.md` lists the differences.

  ## Options of a turn

  The functions below take these options as the last argument, a map or keyword list. A value given
  here wins over the thread's; nil keeps the thread's value.

  #{Codex.Options.Table.docs(:turn)}

  ## Errors

  If the turn could not start: a `Codex.OptionError`, or the reasons of `Codex.Exec`.

  If the turn started:

    * `{:turn_failed, error}` - the turn failed; the `Codex.Error` has the CLI's message
    * `{:exec_failed, error}` - the turn has no end: the process of the CLI or the connection
      failed. The `Codex.Error` has `kind`, `exit_status`, `signal` and `stderr`. Over a connection
      the kind may also be `:thread_busy` (another turn of the thread is running), `:interrupted`,
      or the reason why the thread could not be opened

  In both, `error.result` is the `Codex.Turn.Result` up to the failure. Its `thread` can be resumed.

  A run is tried once, unless `retry` or `rate_limit` ask for more: see `guides/errors.md`.
  `attempts` of the result counts the tries.
  """

  alias Codex.AppServer.Backend
  alias Codex.{AgentRunner, Error, Exec, RateLimit, Turn}
  alias Codex.OptionError
  alias Codex.Options.{Merge, Schema}

  @interrupt Schema.new(
               [{:clean_background, :boolean, "ends the commands that the turn leaves running"}],
               places: true
             )
  alias Codex.Thread.Runner
  alias Codex.Turn.{Driver, Job, Result}

  @enforce_keys [:codex_opts, :thread_opts]
  defstruct [
    :codex_opts,
    :thread_opts,
    :thread_id,
    :resume,
    :fork_of,
    :continuation_token,
    :rate_limits,
    :transport_ref,
    :ref,
    :agent,
    metadata: %{},
    labels: %{},
    usage: %{},
    pending_tool_outputs: [],
    pending_tool_failures: [],
    transport: :exec
  ]

  @typedoc """
    * `thread_id` - nil until the first turn has begun
    * `resume` - `:last` if the next turn resumes the newest thread
    * `fork_of` - the id of the thread that the first turn forks
    * `usage` - the last running total that the CLI reported
    * `agent` - identifies the instructions and tools of the agent that began it
    * `ref` - identifies the conversation before it has an id: see `Codex.stop/1`
    * `transport` - the transport of its turns; `transport_ref` - the connection that has the thread
      loaded
  """
  @type t :: %__MODULE__{
          codex_opts: Codex.Options.t(),
          thread_opts: Codex.Thread.Options.t(),
          thread_id: String.t() | nil,
          resume: :last | nil,
          fork_of: String.t() | nil,
          continuation_token: String.t() | nil,
          rate_limits: RateLimit.Snapshot.t() | nil,
          transport_ref: GenServer.server() | nil,
          ref: reference() | nil,
          agent: binary() | nil,
          metadata: map(),
          labels: map(),
          usage: map(),
          pending_tool_outputs: list(),
          pending_tool_failures: list(),
          transport: :exec | {:app_server | :pool, GenServer.server()}
        }

  @typedoc """
  Why a turn failed, or was not started (`t:Codex.Exec.reason/0`, `t:Codex.AppServer.reason/0`). See
  `run/3`.
  """
  @type failure ::
          {:turn_failed, Error.t()}
          | {:exec_failed, Error.t()}
          | {:max_attempts_reached, pos_integer(), map()}
          | Exec.reason()
          | Codex.AppServer.reason()
          | Codex.Pool.reason()

  @doc """
  Runs a turn and waits for its end.

  `input` is text, or a list of blocks: `%{type: :text, text: text}` and
  `%{type: :local_image, path: path}`. The text `/new` begins a new thread: id, metadata, labels and
  usage are dropped first.

  `opts` also accepts `turn_opts`, a map or list that then replaces the options of the turn; options
  beside it are checked, and have no effect. With `agent`, `run_config` or `max_turns`, the call is
  one of `Codex.AgentRunner.run/3`, which may run several turns.

  With `on_event`, a function gets the events while the turn runs:

      Codex.Thread.run(thread, "Tidy up", on_event: fn
        %Codex.Events.ItemStarted{item: %Codex.Items.CommandExecution{command: command}} ->
          IO.puts(Codex.Text.line(command))

        %Codex.Events.ThreadTokenUsageUpdated{usage: %{"input_tokens" => n}} when n > 100_000 ->
          {:halt, :budget}

        _event ->
          :ok
      end)

  If the function returns `:halt` or `{:halt, reason}`, the turn is stopped, and the call returns
  `{:exec_failed, error}` of the kind `:interrupted` with `reason` in its details and the result so
  far. If it raises, throws or exits, the turn is stopped with the kind `:tool_failure`; the details
  have the exception as `raw` and the `stacktrace`. Other return values are ignored.
  """
  @spec run(t(), Codex.Input.t(), map() | keyword()) ::
          {:ok, Result.t()} | {:error, failure() | AgentRunner.reason()}
  def run(thread, input, opts \\ %{}) do
    if Runner.loop?(opts) do
      AgentRunner.run(thread, input, opts)
    else
      with {:ok, opts} <- Runner.opts(opts), do: run_turn(thread, input, opts)
    end
  end

  @doc """
  Runs a turn and returns a `Codex.RunResultStreaming` to read while the turn runs. Takes the
  options of `run/3` except `on_event`.

      {:ok, run} = Codex.Thread.run_streamed(thread, "Write a story")
      run |> Codex.Stream.text() |> Enum.each(&IO.write/1)
      {:ok, result} = Codex.RunResultStreaming.result(run)
      {:ok, next} = Codex.Thread.run_streamed(result.thread, "Go on")

  The CLI starts with the first read.
  """
  @spec run_streamed(t(), Codex.Input.t(), map() | keyword()) ::
          {:ok, Codex.RunResultStreaming.t()} | {:error, failure() | AgentRunner.reason()}
  def run_streamed(thread, input, opts \\ %{}) do
    if Runner.loop?(opts),
      do: AgentRunner.run_streamed(thread, input, opts),
      else: stream(thread, input, opts)
  end

  defp stream(thread, input, opts) do
    with {:ok, opts} <- Runner.opts(opts),
         token = Runner.token(),
         {:ok, job, turn} <-
           Runner.prepare(thread, {:run, input}, opts, :elements, run_token: token) do
      stream = &Driver.stream(%{job | last?: &1})
      {:ok, Codex.RunResultStreaming.new(stream, turn, token)}
    end
  end

  @doc """
  Runs turns while the CLI asks to continue (with a continuation token), at most `max_attempts`
  turns (default 3).

  Options:

  #{Runner.docs()}

  The current CLI never asks to continue, so one turn is enough.

  Returns the errors of `run/3` and `{:max_attempts_reached, attempts, %{continuation: token}}`.
  """
  @spec run_auto(t(), Codex.Input.t(), map() | keyword()) ::
          {:ok, Result.t()} | {:error, failure()}
  def run_auto(thread, input, opts \\ []),
    do: Runner.auto(thread, opts, &run_turn(&1, input, &2))

  @doc "Runs one turn with options of a turn alone: `run/3` without `turn_opts`."
  @spec run_turn(t(), Codex.Input.t(), map() | keyword()) ::
          {:ok, Result.t()} | {:error, failure()}
  def run_turn(thread, input, turn_opts \\ %{}), do: run_turn(thread, input, turn_opts, nil)

  @doc false
  # With a hook: see `Codex.Turn.Job`.
  def run_turn(thread, input, turn_opts, hook) do
    with {:ok, job, turn} <-
           Runner.prepare(thread, {:run, input}, turn_opts, :blocking, hook: hook),
         do: job |> read(turn) |> Turn.result()
  end

  defp read(job, turn), do: job |> Driver.stream() |> Enum.reduce_while(turn, &Turn.step/2)

  @doc """
  Runs a code review and waits for its end.

  Targets: `:uncommitted_changes`, `{:base_branch, branch}`, `{:commit, sha}`, `{:commit, sha,
  title}`, `{:custom, instructions}` or the instructions as text. The following gate passes only if
  the review calls the patch correct and has no urgent finding; findings without a priority count
  as urgent:

      passed? =
        case Codex.Thread.review(thread, {:base_branch, "main"}) do
          {:ok, %{review: review}} ->
            Enum.each(review.findings, &IO.puts/1)
            review.correctness == :correct and Enum.all?(review.findings, &(&1.priority in [2, 3]))

          {:error, reason} ->
            IO.puts(:stderr, Codex.Error.normalize(reason).message)
            false
        end

      System.halt(if passed?, do: 0, else: 1)

  Returns a result like `run_turn/3`; its `review` is a `Codex.Review`. Errors besides those of
  `run_turn/3`:

    * `{:review_unreadable, error}` - the answer is not a review, but prose, truncated JSON or
      empty. The `Codex.Error` has the turn in `result`, and the answer in `details.raw`
    * `{:invalid_review_target, value}` - not a target, or a branch, a commit or a repository that
      does not exist, see `Codex.Exec`. Nothing has run. For a server of
      `Codex.AppServer.connect_remote/2`, only the form of the target is checked
    * `{:unsupported_option, name}`

  Over an app-server the review is a turn of this thread. Items `Codex.Items.ReviewMode` mark its
  beginning and end. A review cannot be steered and uses the thread's options: options of the turn
  that change how the model runs (`model`, …) are refused. `codex exec` begins a new thread for each
  review, so a thread that has begun already returns `{:error, {:unsupported, :exec}}`.

  The CLI counts no tokens of a review: `usage` is nil. `retry` repeats a failed review from its
  beginning, even after it has run commands (`:resume`, too); see `guides/errors.md`.
  """
  @spec review(t(), Codex.Review.target(), map() | keyword()) ::
          {:ok, Result.t()}
          | {:error, failure() | Codex.Review.unreadable() | {:unsupported, :exec}}
  def review(thread, target, turn_opts \\ %{}) do
    with {:ok, job, turn} <- Runner.prepare(thread, {:review, target}, turn_opts, :blocking),
         turn = read(job, %{turn | review: []}),
         {:ok, result} <- Turn.result(turn) do
      case found(job, turn) do
        {:ok, review} -> {:ok, %{result | review: review}}
        {:error, {tag, error}} -> {:error, {tag, %{error | result: result}}}
      end
    end
  end

  defp found(job, turn),
    do: Driver.review(job, Enum.reverse(turn.review), turn.thread.thread_id)

  @doc """
  Runs a code review lazily, like `run_turn_streamed/3`.

  If the answer is not a review, reading raises `Codex.Error` after the last event (`review/3`
  returns `{:review_unreadable, error}` then). `Codex.Review.find/2` returns the review after the
  stream has ended.
  """
  @spec review_streamed(t(), Codex.Review.target(), map() | keyword()) ::
          {:ok, Enumerable.t()} | {:error, failure() | {:unsupported, :exec}}
  def review_streamed(thread, target, turn_opts \\ %{}) do
    with {:ok, job, turn} <- Runner.prepare(thread, {:review, target}, turn_opts, :events) do
      start = fn -> %{turn | keep?: false, review: []} end

      each = fn event, turn ->
        {event, turn} = Turn.add(turn, event)
        {[event], turn}
      end

      last = fn turn ->
        :ok = raise_unreadable(job, turn)
        {[], turn}
      end

      {:ok, job |> Driver.stream() |> Stream.transform(start, each, last, fn _turn -> :ok end)}
    end
  end

  # A failed turn has its own event.
  defp raise_unreadable(job, turn) do
    with {:ok, _result} <- Turn.result(turn),
         {:error, {_unreadable, error}} <- found(job, turn) do
      raise error
    else
      _review_or_failure -> :ok
    end
  end

  @doc """
  Runs one turn lazily: a stream of `Codex.Events`, as from `Codex.Exec.run_stream/2`. A failed turn
  ends with a `Codex.Events.TurnFailed`, which is an element and not an exception;
  `Codex.Stream.text/1` raises it. If the CLI does not end the turn, reading raises `Codex.Error`.

  The stream does not return a thread: if `thread` has no id, running it again begins another
  conversation. To continue after a streamed turn, take the thread of
  `Codex.RunResultStreaming.result/1`, or resume the thread by the id of
  `Codex.Events.ThreadStarted`.
  """
  @spec run_turn_streamed(t(), Codex.Input.t(), map() | keyword()) ::
          {:ok, Enumerable.t()} | {:error, failure()}
  def run_turn_streamed(thread, input, turn_opts \\ %{}) do
    with {:ok, job, turn} <- Runner.prepare(thread, {:run, input}, turn_opts, :events) do
      {:ok, job |> Driver.stream() |> Stream.map(&(turn |> Turn.add(&1) |> elem(0)))}
    end
  end

  @doc """
  Adds input to the turn that runs in this thread, from any process: text or blocks as in `run/3`.

  Works over an app-server, while a process of this node runs the turn on the same connection. The
  thread may be the value from before its first turn.

  Returns `:ok`, or `{:error, reason}`: `{:unsupported, :exec}`, `:missing_thread_id` (the server
  has not named the thread yet), `{:no_turn, thread_id}`, a reason about the input, the server's
  error (the turn has just ended or is a review, which cannot be steered), or `{:app_server_down,
  info}`.
  """
  @spec steer(t(), Codex.Input.t()) :: :ok | {:error, steer_reason()}
  def steer(%__MODULE__{} = thread, input),
    do: Driver.steer(Runner.transport(thread), thread, input)

  def steer(other, _input), do: Runner.no_thread(other)

  @typedoc "Why a running turn got no input. See `steer/2`."
  @type steer_reason ::
          {:unsupported, :exec}
          | Codex.Reason.turn()
          | Codex.Input.reason()
          | Codex.AppServer.reason()

  @doc """
  Interrupts the turn that runs in this thread, from any process. Its reader gets an error of the
  kind `:interrupted` with the result so far; the thread can be continued.

  The server does not end the running command, which continues in the background. The option
  `clean_background: true`, here or of the thread, ends it; that needs a connection with
  `experimental_api: true`.

  Returns `:ok`, or `{:error, reason}` as `steer/2`. If the server does not
  answer within `request_timeout_ms` of the thread (30_000), the reason is `{:timeout, method, ms}`,
  and the turn ends when the server continues. `Codex.stop/1` ends a turn on both transports.
  """
  @spec interrupt(t(), keyword() | map()) ::
          :ok | {:error, steer_reason() | OptionError.t()}
  def interrupt(thread, opts \\ [])

  def interrupt(%__MODULE__{} = thread, opts) do
    with :ok <- Driver.check(Runner.transport(thread), thread, :interrupt),
         {:ok, opts} <- Schema.set(@interrupt, opts) do
      clean? = Map.get(opts, :clean_background, thread.thread_opts.clean_background)
      Driver.interrupt(Runner.transport(thread), thread, clean? == true)
    end
  end

  def interrupt(other, _opts), do: Runner.no_thread(other)

  @doc """
  Returns `{:ok, result}` for a result without open calls of host tools. Since host tools are called
  while their turn runs (option `tools`), a result has none, and `pending_tool_outputs` of a thread
  is empty. A result with calls that other software has recorded is `{:error, {:unsupported,
  :handle_tool_requests, why}}`.
  """
  @spec handle_tool_requests(Result.t(), term(), map() | keyword()) ::
          {:ok, Result.t()}
          | {:error, {:unsupported, :handle_tool_requests, String.t()} | OptionError.t()}
  def handle_tool_requests(result, attempt, opts \\ %{})

  def handle_tool_requests(%Result{} = result, _attempt, _opts) do
    if Enum.any?(result.events, &is_struct(&1, Codex.Events.ToolCallRequested)) do
      why = "the CLI takes outputs of tools while the turn runs; give the tools to the thread"
      {:error, {:unsupported, :handle_tool_requests, why}}
    else
      {:ok, result}
    end
  end

  def handle_tool_requests(other, _attempt, _opts),
    do: {:error, OptionError.argument(:result, other, "a Codex.Turn.Result")}

  @doc """
  Returns the newest known limits of the thread's account, or nil: the limits that a turn of this
  thread reported, otherwise those of any run of the account (`Codex.RateLimit.snapshot/1`).
  `codex exec` reports only the end of the limit that stopped a turn.
  """
  @spec rate_limits(t()) :: RateLimit.Snapshot.t() | nil
  def rate_limits(%__MODULE__{rate_limits: nil} = thread) do
    RateLimit.snapshot(account(thread))
  end

  def rate_limits(%__MODULE__{rate_limits: limits}), do: limits

  defp account(%{transport: {:app_server, _conn}} = thread), do: Backend.account(thread)

  defp account(%{transport: {:pool, _pool}} = thread), do: Codex.Pool.Turn.account(thread)

  defp account(thread),
    do: thread.codex_opts |> Merge.merge(thread.thread_opts, %{}) |> RateLimit.account()

  @doc """
  Checks which credential a run of this thread would use, and whether it is accepted. Nothing runs.

  For a thread over a connection of `Codex.AppServer.connect/2` or a pool, home, environment and
  configuration are those of its server.

  Returns `{:ok, preflight}` (`Codex.Auth.Preflight`), or `{:error, reason}`: a reason for which no
  run starts, `{:unsupported, :remote}` for a server of `Codex.AppServer.connect_remote/2` (ask that
  server with `Codex.AppServer.account_read/2`), or `{:app_server_down, info}`.
  """
  @spec preflight(t()) ::
          {:ok, Codex.Auth.Preflight.t()}
          | {:error,
             Codex.Config.Error.t()
             | Codex.Exec.reason()
             | Codex.AppServer.reason()
             | Codex.Pool.reason()
             | :timeout
             | {:unsupported, :remote}}
  def preflight(%__MODULE__{transport: {:app_server, _conn}} = thread),
    do: Backend.preflight(thread)

  def preflight(%__MODULE__{transport: {:pool, _pool}} = thread) do
    with {:ok, conn} <- Codex.Pool.Turn.connection(thread),
         do: Backend.preflight(%{thread | transport: {:app_server, conn}})
  end

  def preflight(%__MODULE__{} = thread) do
    # Only the options around the prompt count.
    with {:ok, job} <- Job.new({:run, "?"}, thread.codex_opts, thread, %{}),
         {:ok, argv} <- Exec.Argv.build(job),
         do: argv |> Exec.Argv.surroundings() |> Codex.Auth.preflight()
  end

  @doc false
  @spec build(Codex.Options.t(), Codex.Thread.Options.t(), keyword()) :: t()
  def build(%Codex.Options{} = opts, %Codex.Thread.Options{} = thread_opts, extra \\ []) do
    fields = [
      codex_opts: opts,
      thread_opts: thread_opts,
      metadata: thread_opts.metadata,
      labels: thread_opts.labels,
      transport: thread_opts.transport,
      ref: make_ref()
    ]

    struct!(__MODULE__, fields ++ extra)
  end

  @doc false
  # The thread, the response and the usage after these events.
  def reduce_events(thread, events, opts \\ %{}) do
    turn = Turn.new(thread, Map.get(opts, :structured_output?, false))
    turn = Enum.reduce(events, turn, fn event, turn -> turn |> Turn.add(event) |> elem(1) end)
    {turn.thread, Turn.response(turn), turn.thread.usage}
  end

  @doc false
  def last_response_id(events) do
    Enum.reduce(events, nil, fn
      %Codex.Events.TurnCompleted{response_id: id}, _last when is_binary(id) -> id
      _event, last -> last
    end)
  end

  @doc false
  def merge_usage(a, b) do
    Map.merge(a || %{}, b || %{}, fn
      _key, x, y when is_number(x) and is_number(y) -> x + y
      _key, _x, y -> y
    end)
  end

  defimpl Inspect do
    # The host's `metadata` and `labels` are not shown.
    def inspect(thread, opts) do
      fields = [
        thread_id: thread.thread_id,
        resume: thread.resume,
        fork_of: thread.fork_of,
        transport: if(thread.transport != :exec, do: thread.transport),
        usage: thread.usage,
        codex_opts: thread.codex_opts,
        thread_opts: thread.thread_opts
      ]

      Codex.ShortInspect.fields(Codex.Thread, fields, opts)
    end
  end
end
