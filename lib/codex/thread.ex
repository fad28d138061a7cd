defmodule Codex.Thread do
  @moduledoc """
  A conversation with Codex: a value that says which one, and how to run its turns.

      {:ok, thread} = Codex.start_thread()
      {:ok, result} = Codex.Thread.run(thread, "What does this project do?")
      result.final_response.text

      {:ok, result} = Codex.Thread.run(result.thread, "And who calls it?")

  `result.thread` is the thread as it is after the turn; go on with that one.

  Its turns run `codex exec`, a process each, or, with the option `transport: {:app_server, conn}`, over a connection of
  `Codex.AppServer.connect/2`. The functions are the same on both lanes; `guides/app_server.md` tells what differs.

  ## Options of a turn

  The last argument of the functions below, as map or keyword list. A value here wins over the thread's; nil leaves it.

  #{Codex.Options.Table.docs(:turn)}

  ## Errors

  What could not begin: the reasons of `Codex.Exec`, `{:unknown_option, key, nearest}`,
  `{:misplaced_option, key, places}` (an option of another list: of the client, of the thread, …),
  `{:invalid_<option>, value}`; over a connection also `{:invalid_option, key, value, expected}` for input that the protocol does not take.
  What began:

    * `{:turn_failed, error}` - the turn failed; the `Codex.Error` has the CLI's message
    * `{:exec_failed, error}` - the CLI did not end the turn; the kind of the `Codex.Error` tells why, it has `exit_status`,
      `signal` and `stderr`. Over a connection also: the thread could not be opened, another turn of it is running (`:thread_busy`), or
      the turn was interrupted (`:interrupted`)

  In both, `error.result` is the `Codex.Turn.Result` of what there was until then. Its `thread` can be resumed.

  A run is tried once, unless `retry` or `rate_limit` say otherwise: see `guides/errors.md`. `attempts` of the result tells how often it
  was.
  """

  alias Codex.AppServer.Lane
  alias Codex.{Error, Exec, RateLimit, Turn}
  alias Codex.Options.Table
  alias Codex.Thread.Runner
  alias Codex.Turn.{Cancellation, Result, Running}

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
    metadata: %{},
    labels: %{},
    usage: %{},
    pending_tool_outputs: [],
    pending_tool_failures: [],
    transport: :exec
  ]

  @typedoc """
    * `thread_id` - nil until the first turn has begun
    * `resume` - `:last` where the next turn resumes the newest thread
    * `fork_of` - the thread that the first turn forks
    * `usage` - the last running total that the CLI reported
    * `ref` - tells conversations apart that have no id yet: see `Codex.stop/1`
    * `transport` - how its turns run; `transport_ref` - the connection that has it loaded
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
          metadata: map(),
          labels: map(),
          usage: map(),
          pending_tool_outputs: list(),
          pending_tool_failures: list(),
          transport: :exec | {:app_server, GenServer.server()}
        }

  @type failure ::
          {:turn_failed, Error.t()}
          | {:exec_failed, Error.t()}
          | {:max_attempts_reached, pos_integer(), map()}
          | Exec.reason()
          | Lane.reason()

  @doc """
  Runs a turn and waits for its end.

  `input` is text, or a list of blocks: `%{type: :text, text: text}` and `%{type: :local_image, path: path}`. Text that is
  `/new` begins a new thread: id, metadata, labels and usage are forgotten first.

  Besides the options of a turn, `opts` accepts `turn_opts` (then only those count). One call runs
  one turn: options of a loop over turns (`max_turns`, `agent`, `run_config`, `backoff`) are
  `{:unsupported_option, name}`.

  With `on_event`, a function gets the events while the turn runs:

      Codex.Thread.run(thread, "Tidy up", on_event: fn
        %Codex.Events.ItemStarted{item: %Codex.Items.CommandExecution{command: command}} ->
          IO.puts(Codex.Text.line(command))

        %Codex.Events.ThreadTokenUsageUpdated{usage: %{"input_tokens" => n}} when n > 100_000 ->
          {:halt, :budget}

        _event ->
          :ok
      end)

  If it returns `:halt` or `{:halt, reason}`, the turn is stopped, and the call returns
  `{:exec_failed, error}` of the kind `:interrupted` with `reason` in its details and the result so
  far. If it raises, throws or exits, the turn is stopped, too; the kind is `:tool_failure`, and
  the details have the exception as `raw` and the `stacktrace`. What else it returns does not matter.
  """
  @spec run(t(), Exec.Args.input(), map() | keyword()) :: {:ok, Result.t()} | {:error, failure()}
  def run(thread, input, opts \\ %{}) do
    with {:ok, opts} <- Runner.opts(opts), do: run_turn(thread, input, opts)
  end

  @doc """
  Runs a turn; the `Codex.RunResultStreaming` that comes back is read while it runs. Options as in
  `run/3`, but for `on_event`.

      {:ok, run} = Codex.Thread.run_streamed(thread, "Tell me a story")
      run |> Codex.Stream.text() |> Enum.each(&IO.write/1)
      {:ok, result} = Codex.RunResultStreaming.result(run)
      {:ok, next} = Codex.Thread.run_streamed(result.thread, "Go on")

  The CLI starts with the first read.
  """
  @spec run_streamed(t(), Exec.Args.input(), map() | keyword()) ::
          {:ok, Codex.RunResultStreaming.t()} | {:error, failure()}
  def run_streamed(thread, input, opts \\ %{}) do
    with {:ok, opts} <- Runner.opts(opts),
         {:ok, opts} <- Table.check(:turn, opts),
         token = Runner.token(),
         {:ok, stream, turn} <- prepare(thread, {:run, input}, opts, nil, :element, token) do
      {:ok, Codex.RunResultStreaming.new(stream, turn, token)}
    end
  end

  @doc """
  Runs turns as long as the CLI asks to go on (a continuation token), at most `max_attempts` (default 3) of them.

  Options: `max_attempts`, `backoff` (a function of the attempt's number, called before the next one; the default sleeps
  100, 200, 400 … at most 5_000 ms), `turn_opts`. CLI 0.169 never asks to go on, so one run is all it takes.
  Error besides those of `run/3`: `{:max_attempts_reached, attempts, %{continuation: token}}`.
  """
  @spec run_auto(t(), Exec.Args.input(), map() | keyword()) ::
          {:ok, Result.t()} | {:error, failure()}
  def run_auto(thread, input, opts \\ []),
    do: Runner.auto(thread, opts, &run_turn(&1, input, &2))

  @doc "Runs one turn; `run/3` without the options of a run."
  @spec run_turn(t(), Exec.Args.input(), map() | keyword()) ::
          {:ok, Result.t()} | {:error, failure()}
  def run_turn(thread, input, turn_opts \\ %{}) do
    with {:ok, stream, turn} <- prepare(thread, {:run, input}, turn_opts, 3_600_000, :element),
         do: finish(stream, turn)
  end

  defp finish(stream, turn), do: stream |> read(turn) |> Turn.result()

  defp read(stream, turn) do
    Enum.reduce_while(stream, turn, &Turn.step/2)
  rescue
    # The CLI could not be started.
    error in Error -> Turn.lost(turn, error)
  end

  @doc """
  Runs a code review and waits for its end.

  Targets: `:uncommitted_changes`, `{:base_branch, branch}`, `{:commit, sha}`, `{:commit, sha,
  title}`, `{:custom, instructions}` or the instructions as text. This gate lets nothing pass but
  a review that calls the patch correct and has no urgent finding; findings without a priority
  count as urgent:

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

  Returns what `run_turn/3` returns; the `review` of the result is a `Codex.Review`. Errors
  besides those of `run_turn/3`:

    * `{:review_unreadable, error}` - the answer is no review: prose, JSON that was cut, or
      nothing. The `Codex.Error` has the turn in `result`, and the answer in `details.raw`
    * `{:invalid_review_target, value}` - not a target; or a branch, a commit or a repository that
      does not exist, see `Codex.Exec`. Nothing has run. Over a connection to a server elsewhere
      (`Codex.AppServer.connect_remote/2`) only the form of the target is checked
    * `{:unsupported_option, name}`

  Over an app-server the review is a turn of this thread: items `Codex.Items.ReviewMode` tell when
  it is entered and exited, nothing can steer it, and options of the turn that say how it runs
  (`model`, …) are not taken: those of the thread count. `codex exec` begins a thread of its own
  for a review. If the thread has begun already, that is `{:error, {:unsupported, :exec}}`.

  The CLI (0.169) counts no tokens of a review: `usage` is nil. `retry` repeats a review that
  failed from its beginning, whatever it had done (`:resume`, too); see `guides/errors.md`.
  """
  @spec review(t(), Codex.Review.target(), map() | keyword()) ::
          {:ok, Result.t()}
          | {:error, failure() | Codex.Review.unreadable() | {:unsupported, :exec}}
  def review(thread, target, turn_opts \\ %{}) do
    with {:ok, stream, turn} <-
           prepare(thread, {:review, target}, turn_opts, 3_600_000, :element),
         turn = read(stream, %{turn | review: []}),
         {:ok, result} <- Turn.result(turn) do
      case found(turn, thread, target, turn_opts) do
        {:ok, review} -> {:ok, %{result | review: review}}
        {:error, {tag, error}} -> {:error, {tag, %{error | result: result}}}
      end
    end
  end

  @doc """
  Runs a code review lazily; as `run_turn_streamed/3`.

  Reading raises `Codex.Error` after the last event if the answer is no review, as `review/3`
  returns `{:review_unreadable, error}`. `Codex.Review.find/2` reads the review, once the stream
  has ended.
  """
  @spec review_streamed(t(), Codex.Review.target(), map() | keyword()) ::
          {:ok, Enumerable.t()} | {:error, failure() | {:unsupported, :exec}}
  def review_streamed(thread, target, turn_opts \\ %{}) do
    with {:ok, stream, turn} <- prepare(thread, {:review, target}, turn_opts, nil, :raise) do
      start = fn -> %{turn | keep?: false, review: []} end

      each = fn event, turn ->
        {event, turn} = Turn.add(turn, event)
        {[event], turn}
      end

      last = fn turn ->
        # A turn that failed has said so.
        with {:ok, _result} <- Turn.result(turn),
             {:error, {_unreadable, error}} <- found(turn, thread, target, turn_opts),
             do: raise(error)

        {[], turn}
      end

      {:ok, Stream.transform(stream, start, each, last, fn _turn -> :ok end)}
    end
  end

  defp found(turn, %{transport: {:app_server, conn}}, _target, _turn_opts) do
    home =
      with {:ok, %{"codexHome" => home}} <- Codex.AppServer.server_info(conn),
           do: home,
           else: (_ -> nil)

    Codex.Review.of(Enum.reverse(turn.review), turn.thread.thread_id, home)
  end

  defp found(turn, thread, target, turn_opts) do
    {:ok, turn_opts} = Table.check(:turn, turn_opts)
    exec = %Exec.Options{codex_opts: thread.codex_opts, thread: thread, turn_opts: turn_opts}
    Exec.reviewed(Enum.reverse(turn.review), target, exec)
  end

  @doc """
  Runs one turn lazily: a stream of `Codex.Events`, as from `Codex.Exec.run_stream/2`. A failed turn
  ends with its `Codex.Events.TurnFailed`, which is an element and no exception; `Codex.Stream.text/1`
  raises it. If the CLI does not end the turn, reading raises `Codex.Error`.

  The stream has no thread to go on with: running `thread` again begins another conversation, unless
  it has an id. To go on after a streamed turn, take the thread of `Codex.RunResultStreaming.result/1`,
  or resume the thread by the id of `Codex.Events.ThreadStarted`.
  """
  @spec run_turn_streamed(t(), Exec.Args.input(), map() | keyword()) ::
          {:ok, Enumerable.t()} | {:error, failure()}
  def run_turn_streamed(thread, input, turn_opts \\ %{}) do
    with {:ok, stream, turn} <- prepare(thread, {:run, input}, turn_opts, nil, :raise) do
      {:ok, Stream.map(stream, fn event -> turn |> Turn.add(event) |> elem(0) end)}
    end
  end

  @doc """
  Gives the turn that runs in this thread more input, from any process: text or blocks, as `run/3` takes them.

  Only over an app-server, while a process of this node runs the turn on the same connection. The
  thread may be the value from before its first turn.

  Returns `:ok`, or `{:error, reason}`: `{:unsupported, :exec}`, `:missing_thread_id` (the server has
  not named the thread yet), `{:no_turn, thread_id}`, what is wrong with the input, the server's error (the turn has just ended, is another one, or a review, which cannot be steered), or
  `{:app_server_down, info}`.
  """
  @spec steer(t(), Exec.Args.input()) :: :ok | {:error, steer_reason()}
  def steer(%__MODULE__{transport: {:app_server, conn}} = thread, input),
    do: Lane.steer(conn, Running.thread_id(thread), input, thread.thread_opts.request_timeout_ms)

  def steer(%__MODULE__{}, _input), do: {:error, {:unsupported, :exec}}
  def steer(other, _input), do: no_thread(other)

  @type steer_reason :: {:unsupported, :exec} | Lane.steer_reason()

  @doc """
  Interrupts the turn that runs in this thread, from any process. Its reader gets an error of the kind `:interrupted`, with what there
  was until then; the thread can go on.

  The server (0.169) does not end the command that runs: it lives on in the background. `clean_background: true`, here or as an option of
  the thread, ends it; that needs a connection with `experimental_api: true`.

  Returns `:ok`, or `{:error, reason}` as `steer/2`; other options are
  `{:unknown_option, key, nearest}` or `{:misplaced_option, key, places}`. If the server does not
  answer within `request_timeout_ms` of the thread (30_000), the reason is `{:timeout, method, ms}`,
  and
  the turn ends when the server goes on. `Codex.stop/1` ends a turn on both transports.
  """
  @spec interrupt(t(), keyword() | map()) ::
          :ok | {:error, steer_reason() | Table.reason()}
  def interrupt(thread, opts \\ [])

  def interrupt(%__MODULE__{transport: {:app_server, conn}} = thread, opts) do
    with {:ok, opts} <- Runner.map(opts),
         nil <- Enum.find(Map.keys(opts), &(&1 != :clean_background)) do
      clean? = Map.get(opts, :clean_background, thread.thread_opts.clean_background)
      interrupt(conn, thread, clean? == true)
    else
      {:error, _} = error ->
        error

      key ->
        {:error, Codex.Options.Unknown.reason(key, [:clean_background])}
    end
  end

  def interrupt(%__MODULE__{}, _opts), do: {:error, {:unsupported, :exec}}
  def interrupt(other, _opts), do: no_thread(other)

  # Before the server has named the thread, there is a run to stop and nothing to interrupt.
  defp interrupt(conn, thread, clean?) do
    id = Running.thread_id(thread)

    if id == nil and Cancellation.stop({:thread, nil, thread.ref}) == :ok,
      do: :ok,
      else: Lane.interrupt(conn, id, clean?, thread.thread_opts.request_timeout_ms)
  end

  # The stream of a turn and the turn before its first event. Everything is checked now.
  defp prepare(thread, what, turn_opts, default, lost, run_token \\ nil)

  defp prepare(%{transport: :exec, thread_id: id}, {:review, _}, _, _, _, _) when is_binary(id),
    do: {:error, {:unsupported, :exec}}

  defp prepare(%__MODULE__{} = thread, what, turn_opts, default, lost, run_token) do
    thread = if new?(what), do: Turn.reset(thread), else: thread

    with {:ok, turn_opts} <- Table.check(:turn, turn_opts) do
      with {:ok, stream} <- stream(thread, what, turn_opts, default, lost, run_token),
           do: {:ok, stream, turn(loaded(thread), turn_opts)}
    end
  end

  defp prepare(other, _what, _turn_opts, _default, _lost, _run_token), do: no_thread(other)

  defp no_thread(value) do
    expected = "a Codex.Thread, as {:ok, thread} of Codex.start_thread/2 has it"
    {:error, {:invalid_option, :thread, value, expected}}
  end

  defp turn(thread, turn_opts),
    do: Turn.new(thread, turn_opts[:output_schema] != nil, turn_opts)

  defp stream(%{transport: :exec} = thread, what, turn_opts, default, lost, run_token) do
    exec = %Exec.Options{
      codex_opts: thread.codex_opts,
      thread: thread,
      turn_opts: turn_opts,
      run_token: run_token
    }

    Exec.stream(what, exec, default, lost)
  end

  defp stream(thread, what, turn_opts, default, lost, run_token),
    do: Lane.stream(what, thread, turn_opts, run_token, default, lost)

  # Where it stands from now on: a connection that lost it is asked to resume it.
  defp loaded(%{transport: {:app_server, conn}} = thread),
    do: %{thread | transport_ref: Lane.connection(conn)}

  defp loaded(thread), do: thread

  defp new?({:run, text}) when is_binary(text),
    do: byte_size(text) < 64 and String.trim(text) == "/new"

  defp new?({:run, [%{type: type, text: text} | _]}) when type in [:text, "text"],
    do: new?({:run, text})

  defp new?(_what), do: false

  @doc """
  The newest that is known of the limits of the thread's account, or nil: what a turn of this thread reported, else what any run
  of the account did (`Codex.RateLimit.snapshot/1`). On `codex exec` (0.169) that is when the limit ends that a turn ran into.
  """
  @spec rate_limits(t()) :: RateLimit.Snapshot.t() | nil
  def rate_limits(%__MODULE__{rate_limits: nil} = thread) do
    RateLimit.snapshot(account(thread))
  end

  def rate_limits(%__MODULE__{rate_limits: limits}), do: limits

  defp account(%{transport: {:app_server, conn}} = thread),
    do: Lane.account(conn, thread.codex_opts)

  defp account(thread) do
    settings = Exec.Reach.settings(thread.codex_opts, thread.thread_opts, %{})
    RateLimit.account(settings)
  end

  @doc """
  Tells which credential a run of this thread would use, and whether it would do. Nothing runs.

  For a thread over a connection of `Codex.AppServer.connect/2`, home, environment and
  configuration are those of its server.

  Returns `{:ok, preflight}` (`Codex.Auth.Preflight`), or `{:error, reason}`: a
  `Codex.Config.Error` if the configuration cannot be read, the reasons that a run gives before it
  starts, `{:unsupported, :remote}` for a server of `Codex.AppServer.connect_remote/2` (its home is
  elsewhere: ask it with `Codex.AppServer.account_read/2`), or `{:app_server_down, info}`.
  """
  @spec preflight(t()) ::
          {:ok, Codex.Auth.Preflight.t()}
          | {:error,
             Codex.Config.Error.t()
             | Codex.Exec.reason()
             | Lane.reason()
             | {:unsupported, :remote}}
  def preflight(%__MODULE__{transport: {:app_server, _conn}} = thread), do: Lane.preflight(thread)

  def preflight(%__MODULE__{} = thread) do
    with {:ok, options} <- Codex.Exec.Options.new(codex_opts: thread.codex_opts, thread: thread),
         # Only what surrounds the prompt counts.
         {:ok, args} <- Codex.Exec.Args.run("?", options),
         do: Codex.Auth.preflight(Codex.Exec.Args.surroundings(args))
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
    # What the host keeps in `metadata` and `labels` is not shown.
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

      Codex.Brief.fields(Codex.Thread, fields, opts)
    end
  end
end
