defmodule Codex.AppServer.Run do
  @moduledoc false
  # One turn over a connection as the state of a stream, in the process that reads it: which thread, which turn, and the clocks. The
  # connection sends what the turn says (`:codex_turn`, see `Codex.AppServer.Turns`), and nothing else is taken from the mailbox.
  #
  # The turn is this process's own: however the stream ends before it, it is interrupted, also by the connection where this process is
  # killed.

  alias Codex.{Clocks, Error, Events, TransportError, Turn}
  alias Codex.AppServer.{Connection, EventDecoder, Loss, Opening, RequestHandlers}
  alias Codex.Clocks.Limits
  alias Codex.Error.Redact
  alias Codex.Turn.{Cancellation, Extras, Running, Warnings}

  # How long a reader waits for the end of a turn that it does not want any more.
  @grace 700
  @cleaning "thread/backgroundTerminals/clean"
  @request_timeout 30_000
  # How often a turn that waits for a server looks whether it is still wanted.
  @slice 200
  @longest 0xFFFFFFFF

  @enforce_keys [:job, :conn, :clocks, :call, :own, :silence_option]
  defstruct [
    :job,
    :conn,
    :monitor,
    :clocks,
    :call,
    :own,
    :silence_option,
    :thread_id,
    :turn_id,
    :total,
    :before,
    :response_id,
    :event,
    :extras,
    late: nil,
    ended?: false,
    closed?: false,
    asked: %{}
  ]

  @typedoc """
  What is to run: over which connection, in which thread, with which parameters (`Codex.AppServer.Reach`), which tokens cancel it, and what
  must not be shown.
  """
  @type job :: %{
          conn: GenServer.server(),
          thread:
            :start
            | {:loaded | :resume | :fork, String.t()}
            | {:last, cwd :: String.t() | nil},
          begin: {method :: String.t(), params :: map()},
          reach: Codex.AppServer.Reach.t(),
          settings: map(),
          handler: RequestHandlers.handlers(),
          tokens: [String.t()],
          about: Codex.Turn.Running.about(),
          secrets: [String.t()]
        }
  @type t :: %__MODULE__{}

  @doc "The beginning. Nothing is sent before the first event is wanted."
  @spec start(job(), timeout() | nil, Codex.Retry.Attempts.call() | nil) :: t()
  def start(job, default_timeout, call \\ nil) do
    own =
      if call, do: Cancellation.begin([call.ref]), else: Cancellation.begin(job.tokens, job.about)

    conn = Connection.whereis(job.conn)

    %__MODULE__{
      job: job,
      conn: conn,
      monitor: conn && Process.monitor(conn),
      clocks: Clocks.new(Limits.of(job.settings, default_timeout), now(), call && call.since),
      silence_option: Limits.silence_option(job.settings, default_timeout),
      call: call,
      own: own,
      extras: Extras.new(job.settings.keep)
    }
  end

  @doc "The next events, as `Stream.resource/3` wants them."
  @spec next(t()) :: {[Events.t()], t()} | {:halt, t()}
  def next(%{ended?: true} = run), do: {:halt, run}
  def next(%{conn: nil} = run), do: fail(run, Loss.error({:no_connection, run.job.conn}))
  def next(%{turn_id: nil} = run), do: run |> check_cancelled() |> open()

  def next(run) do
    asked_at = now()
    run = %{run | clocks: resume(run, asked_at)}

    case run |> due(asked_at) |> Clocks.look(run.late) do
      {:wait, ms, late} -> wait(%{run | late: late}, ms)
      {:expired, name, limit} -> fail(run, expired(run, name, limit))
    end
  end

  @doc """
  The same, but a run that is lost ends with `{:failed, exception}`: its reader keeps what came
  before. At the end, `{:warnings, texts}` and `{:extras, map}` come for the result.
  """
  @spec next_or_failure(t() | :failed) ::
          {[Events.t() | {atom(), term()}], t() | :failed} | {:halt, term()}
  def next_or_failure(:failed), do: {:halt, :failed}

  def next_or_failure(%{ended?: true, closed?: false} = run),
    do: {closing(run), %{run | closed?: true}}

  def next_or_failure(run) do
    next(run)
  rescue
    error in Error ->
      _ = stop(run)
      {[{:failed, error} | closing(run)], :failed}
  end

  defp closing(run), do: warnings(run) ++ extras(run)

  # MCP servers start while the turn runs: the end is the time to ask.
  defp warnings(run) do
    with {:ok, [_ | _] = notices} <- Connection.call(run.conn, {:notices, run.thread_id}) do
      texts =
        for {method, params} <- notices, do: Warnings.text(EventDecoder.decode(method, params))

      [{:warnings, texts |> Enum.reject(&is_nil/1) |> Redact.redact(run.job.secrets)}]
    else
      _none -> []
    end
  end

  defp extras(run) do
    Extras.elements(run.extras, fn ->
      case Connection.call(run.conn, :stderr) do
        {:ok, text} -> Redact.redact(text, run.job.secrets)
        {:error, _gone} -> ""
      end
    end)
  end

  # --- Opening ----------------------------------------------------------------------------------------------------------

  defp open(run) do
    run = await_server(run, now() + left(run))

    case Opening.open(run.job, &request(run, &1, &2, &3)) do
      {:ok, {thread_id, turn_id}} ->
        :ok = Running.begun((run.call || run.own).ref, thread_id)
        event = %Events.ThreadStarted{thread_id: thread_id}
        {[event], saw(%{run | thread_id: thread_id, turn_id: turn_id}, [event])}

      {:error, reason} ->
        fail(run, unanswered(run, reason))
    end
  end

  # Before anything is sent: what is lost later may have been done. A cancel is heard meanwhile.
  defp await_server(run, deadline) do
    ms = min(@slice, deadline - now())

    if ms > 0 and Connection.call(run.conn, {:await_server, ms}) == {:ok, :not_yet},
      do: run |> check_cancelled() |> await_server(deadline),
      else: run
  end

  defp request(run, method, params, opts) do
    run = check_cancelled(run)
    experimental = Map.get(run.job.reach.experimental, method, [])
    opts = [timeout_ms: left(run), experimental: experimental] ++ opts

    # The answer to a request that starts a turn is awaited: only with its id can the turn be ended.
    if opts[:follow],
      do: Connection.request(run.conn, method, params, opts),
      else: request_while_wanted(run, method, params, opts)
  end

  defp request_while_wanted(run, method, params, opts) do
    with :unwanted <-
           Connection.request_while_wanted(run.conn, method, params, opts, fn ->
             cancelled?(run)
           end),
         do: fail(run, cancelled())
  end

  # No longer than the clocks of the run go on.
  defp left(run) do
    limit = run.job.settings.request_timeout_ms || @request_timeout

    case Clocks.due(run.clocks, now()) do
      {:wait, ms} -> [limit, ms] |> Enum.min() |> max(1) |> min(@longest)
      {:expired, name, limit} -> fail(run, expired(run, name, limit))
    end
  end

  # A clock of the run, or that of the request.
  defp unanswered(run, {:timeout, _method, ms}) do
    case Clocks.due(run.clocks, now()) do
      {:expired, name, limit} -> expired(run, name, limit)
      {:wait, _} -> expired(run, :request, ms)
    end
  end

  defp unanswered(_run, reason), do: Loss.error(reason)

  # --- Waiting ----------------------------------------------------------------------------------------------------------

  # While somebody is asked, it is us who are silent.
  defp due(%{asked: asked, clocks: clocks}, now) when asked == %{}, do: Clocks.due(clocks, now)

  defp due(%{asked: asked, clocks: clocks}, now) do
    case Clocks.due(%{clocks | silence: :infinity, stall: :infinity}, now) do
      {:wait, ms} -> {:wait, min(ms, RequestHandlers.timeout(asked, now))}
      expired -> expired
    end
  end

  defp resume(%{asked: asked, clocks: clocks}, now) when asked == %{},
    do: Clocks.resume(clocks, now)

  defp resume(run, _now), do: run.clocks

  defp wait(run, ms) do
    %{thread_id: thread, turn_id: turn, monitor: monitor, asked: asked} = run
    cancel = run.own.cancel

    receive do
      {:codex_turn, _conn, ^thread, ^turn, what} ->
        run = %{run | extras: raw(run.extras, what), clocks: Clocks.heard(run.clocks, now())}
        {events, run} = told(what, run)
        {events, run |> saw(events) |> pause()}

      {^cancel, :cancelled} ->
        fail(run, cancelled())

      {:DOWN, ^monitor, :process, _, reason} ->
        fail(run, Loss.error({:down, reason}))

      {:DOWN, ref, :process, _, reason} when is_map_key(asked, ref) ->
        {[], answered(%{run | asked: RequestHandlers.ended(asked, ref, reason, run.conn)})}
    after
      ms -> {[], expire(run)}
    end
  end

  # As the server sent it; the connection has decoded it.
  defp raw(%{json: json} = extras, {:notification, method, params}) when json != nil do
    case Codex.JSON.encode(%{"method" => method, "params" => params}) do
      {:ok, line} -> Extras.add(extras, line <> "\n")
      {:error, _} -> extras
    end
  end

  defp raw(extras, _what), do: extras

  # Which clock it was, the next look at them says.
  defp expire(%{asked: asked} = run) when asked == %{}, do: %{run | late: run.late && 0}

  defp expire(run),
    do: answered(%{run | asked: RequestHandlers.expire(run.asked, run.conn, now())})

  defp told({:notification, "turn/completed", _params}, run), do: {[], run}

  # The only place where the provider's id of a response stands; with `experimental_raw_events`.
  defp told(
         {:notification, "rawResponse/completed" = method, %{"responseId" => id} = params},
         run
       ),
       do: {[EventDecoder.decode(method, params)], %{run | response_id: id}}

  defp told({:notification, method, params}, run) do
    case EventDecoder.decode(method, params) do
      %Events.ThreadTokenUsageUpdated{} = event -> {[event], used(event, run)}
      %Events.Error{} = event -> failing(event, run)
      # That of a review has an id of its own.
      %Events.TurnStarted{} = event -> {[%{event | turn_id: run.turn_id}], run}
      event -> {[event], run}
    end
  end

  defp told({:request, request, others?}, run) do
    asked = RequestHandlers.start(run.asked, run.conn, run.job.handler, request, others?, now())
    {[], %{run | asked: asked}}
  end

  defp told({:answered, token}, run) do
    case RequestHandlers.close(run.asked, token) do
      {:ok, asked} -> {[], answered(%{run | asked: asked})}
      :error -> {[], run}
    end
  end

  defp told({:completed, %{turn: turn} = summary}, run) do
    run = %{run | ended?: true}

    case turn["status"] do
      "interrupted" -> fail(run, interrupted())
      "failed" -> failed(turn["error"] || get_in(summary, [:error, "error"]), run)
      _status -> {[ended(turn, run)], run}
    end
  end

  defp told({:lost, reason, _summary}, run),
    do: fail(%{run | ended?: true}, Loss.error(reason))

  # The first report of a turn also tells what the thread had used before: its total less the last
  # response.
  defp used(%{usage: total, delta: delta}, %{before: nil} = run) do
    before = if is_map(delta), do: total |> Turn.share(delta) |> elem(0), else: :unknown
    %{run | total: total, before: before}
  end

  defp used(%{usage: total}, run), do: %{run | total: total}

  defp ended(turn, run) do
    {usage, scope} = Turn.share(run.total, run.before)

    %Events.TurnCompleted{
      status: turn["status"],
      started_at: turn["startedAt"],
      completed_at: turn["completedAt"],
      duration_ms: turn["durationMs"],
      usage: usage,
      usage_scope: scope,
      response_id: run.response_id,
      thread_id: run.thread_id,
      turn_id: run.turn_id
    }
  end

  defp failed(error, run) do
    error = if is_map(error), do: error, else: %{"message" => "turn failed"}
    event = %Events.TurnFailed{error: error, thread_id: run.thread_id, turn_id: run.turn_id}
    {[Redact.redact(event, run.job.secrets)], run}
  end

  # What providers say of a failure may have our own key in it.
  defp failing(event, run) do
    event = Redact.redact(event, run.job.secrets)
    {[event], %{run | event: event}}
  end

  defp saw(run, events), do: %{run | clocks: Clocks.saw(run.clocks, events, now())}

  # Until the reader asks for more.
  defp pause(run), do: %{run | clocks: Clocks.pause(run.clocks, now())}

  # The clocks that stood still begin anew.
  defp answered(%{asked: asked} = run) when asked == %{},
    do: %{run | clocks: Clocks.restart(run.clocks, now())}

  defp answered(run), do: run

  # --- The end ----------------------------------------------------------------------------------------------------------

  defp check_cancelled(run) do
    if cancelled?(run), do: fail(run, cancelled()), else: run
  end

  defp cancelled?(run),
    do:
      Cancellation.cancelled?(run.own) or (run.call != nil and Cancellation.cancelled?(run.call))

  defp cancelled,
    do: %TransportError{reason_code: :interrupted, message: "the run was cancelled"}

  defp interrupted,
    do: %TransportError{reason_code: :interrupted, message: "the turn was interrupted"}

  defp expired(run, name, limit), do: Limits.error(run.clocks, name, limit, run.silence_option)

  @spec fail(t(), TransportError.t()) :: no_return()
  defp fail(run, error) do
    raise %{error | event: run.event} |> Redact.redact(run.job.secrets) |> Error.normalize()
  end

  @doc """
  Interrupts the turn if it still goes on, and waits for its end for a moment. What takes longer,
  the
  connection goes on with. Nothing of the turn is left in the mailbox.
  """
  @spec stop(t() | :failed) :: t() | :failed
  def stop(:failed), do: :failed

  def stop(run) do
    _ = if run.turn_id != nil and not run.ended?, do: abandon(run)
    _ = if run.turn_id != nil, do: leave(run)
    RequestHandlers.stop(run.asked)
    _ = if run.monitor, do: Process.demonitor(run.monitor, [:flush])
    Cancellation.finish(run.own)
    run
  end

  # Not where it has ended: its end may be what made us stop.
  defp abandon(%{thread_id: thread, turn_id: turn} = run) do
    clean = if run.job.settings.clean_background == true, do: {@cleaning, clean_params(thread)}
    deadline = now() + @grace

    with {:ok, :ok} <- Connection.call(run.conn, {:abandon, thread, turn, clean}),
         do: await_end(run, deadline)
  end

  defp await_end(%{thread_id: thread, turn_id: turn, monitor: monitor} = run, deadline) do
    receive do
      {:codex_turn, _, ^thread, ^turn, {:completed, _}} -> :ok
      {:codex_turn, _, ^thread, ^turn, {:lost, _, _}} -> :ok
      {:codex_turn, _, ^thread, ^turn, _} -> await_end(run, deadline)
      {:DOWN, ^monitor, :process, _, _} -> :ok
    after
      max(deadline - now(), 0) -> :ok
    end
  end

  @doc "The experimental method that `clean/3` calls."
  @spec cleaning() :: String.t()
  def cleaning, do: @cleaning

  @doc "Ends commands of a thread that outlive an interrupted turn (0.169). Experimental."
  @spec clean(GenServer.server(), String.t(), pos_integer()) ::
          :ok | {:error, Codex.AppServer.reason()}
  def clean(conn, thread_id, timeout_ms) do
    opts = [timeout_ms: timeout_ms, experimental: [@cleaning]]
    with {:ok, _} <- Connection.request(conn, @cleaning, clean_params(thread_id), opts), do: :ok
  end

  defp clean_params(thread_id), do: %{"threadId" => thread_id}

  defp leave(%{thread_id: thread, turn_id: turn} = run) do
    _ = Connection.call(run.conn, {:unfollow, thread, turn})
    flush(thread, turn)
  end

  defp flush(thread, turn) do
    receive do
      {:codex_turn, _, ^thread, ^turn, _} -> flush(thread, turn)
    after
      0 -> :ok
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
