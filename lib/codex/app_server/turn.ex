defmodule Codex.AppServer.Turn do
  @moduledoc false
  # A turn over a connection to an app-server. The connection sends the events of the turn
  # as `:codex_turn` messages (see `Codex.AppServer.Turns`); nothing else is taken from the mailbox.
  #
  # The turn belongs to the process that reads it: however the reader ends, the turn is interrupted,
  # by the connection if the reader is killed.

  @behaviour Codex.Turn.Transport

  alias Codex.AppServer.{Backend, Connection, EventDecoder, Hooks, RequestHandlers, TurnStart}
  alias Codex.Tools.Terminals
  alias Codex.Error.Redact
  alias Codex.Events
  alias Codex.Hooks.{Budget, Set}
  alias Codex.Turn.{Cancellation, Extras, Usage, Warnings}

  # How long a reader waits for the end of a turn that it does not want any more.
  @grace 700
  @request_timeout 30_000
  # How often a turn that waits for a server checks whether it is still wanted.
  @slice 200
  @longest 0xFFFFFFFF

  @enforce_keys [:job, :conn, :monitor, :context, :extras]
  defstruct [
    :job,
    :conn,
    :monitor,
    :context,
    :extras,
    :thread_id,
    :turn_id,
    :total,
    :before,
    :response_id,
    :hooks,
    :gate,
    :verdict,
    ended?: false,
    warned?: false,
    asked: %{}
  ]

  @type t :: %__MODULE__{}

  @impl true
  def unsupported, do: []

  @impl true
  defdelegate prepare(job), to: Backend
  @impl true
  defdelegate account(job), to: Backend
  @impl true
  defdelegate secrets(job), to: Backend
  @impl true
  defdelegate home(job), to: Backend
  @impl true
  defdelegate steer(thread, input), to: Backend
  @impl true
  defdelegate interrupt(thread, clean?), to: Backend

  ## Opening

  @impl true
  def open(job, how, context) do
    case Connection.whereis(job.plan.conn) do
      nil ->
        {:failed, {:no_connection, job.plan.conn}, nil}

      conn ->
        run = %__MODULE__{
          job: job,
          conn: conn,
          monitor: Process.monitor(conn),
          context: context,
          extras: Extras.new(job.settings.keep, context.tee, fn -> server_secrets(conn) end)
        }

        hooks(run, Backend.start(job, how), job.plan.hooks)
    end
  end

  defp hooks(run, start, nil), do: start(run, start)

  defp hooks(run, start, set) do
    set = Set.begin(set, run.context.call.cancel, run.context.spent)
    home = fn -> Backend.home(run.job) end
    known = match?({how, _id} when how in [:loaded, :resume], start.thread)
    id = if known, do: elem(start.thread, 1)

    with :ok <- Budget.begin(set, run.job.settings.budget, run.job.thread, home),
         {:ok, gate, start} <- gate(id && Hooks.whereis(run.conn, id), run.conn, set, start),
         run = %{run | hooks: set, gate: gate},
         :ok <- Hooks.enter(gate, set) do
      start(run, start)
    else
      {:error, reason} -> {:failed, reason, run}
    end
  end

  # The server has the hooks of a thread that it has loaded. It gets them with a new configuration
  # otherwise, and says whether it runs them.
  defp gate(nil, conn, set, start) do
    with {:ok, gate} <- Hooks.start(conn, set) do
      bridge = Hooks.bridge(gate)
      configure = &Hooks.overrides(bridge, Set.events(set), &1)
      sent = %{start.sent | hooks: &elem(configure.(&1), 0)}
      thread = with {:loaded, id} <- start.thread, do: {:resume, id}
      {:ok, gate, verified(%{start | thread: thread, params: nil, sent: sent}, configure)}
    end
  end

  defp gate(gate, _conn, _set, start), do: {:ok, gate, start}

  defp verified(start, configure) do
    settings = start.sent.settings

    {_overrides, keys} =
      configure.(settings.below ++ settings.config ++ settings.config_overrides)

    %{start | verify: &Hooks.verify(keys, &1, &2)}
  end

  defp start(run, start) do
    with {:ok, ms} <- left(run),
         :ok <- await_server(run, now() + ms),
         {:ok, {thread_id, turn_id}} <- TurnStart.open(start, &request(run, &1, &2, &3)) do
      _ = if start.verify, do: Hooks.named(run.gate, thread_id)
      event = %Events.ThreadStarted{thread_id: thread_id}
      {:ok, [event], %{run | thread_id: thread_id, turn_id: turn_id}}
    else
      {:error, reason} ->
        _ = if run.gate && start.verify, do: Hooks.stop(run.gate)
        {:failed, cause(reason, run), run}
    end
  end

  # Before anything is sent: a request that is lost later may have had its effect.
  defp await_server(run, deadline) do
    ms = min(@slice, deadline - now())

    cond do
      Cancellation.cancelled?(run.context.call) -> {:error, {:cause, :cancelled}}
      ms <= 0 -> :ok
      Connection.call(run.conn, {:await_server, ms}) != {:ok, :not_yet} -> :ok
      true -> await_server(run, deadline)
    end
  end

  defp request(run, method, params, opts) do
    cancelled? = fn -> Cancellation.cancelled?(run.context.call) end

    with false <- cancelled?.(),
         {:ok, ms} <- left(run) do
      settings = run.job.settings
      children? = settings.children == true
      opts = [timeout_ms: ms, trace: settings.trace, children: children?] ++ opts
      request_while_wanted(run, method, params, opts, cancelled?)
    else
      true -> {:error, {:cause, :cancelled}}
      {:error, reason} -> {:error, reason}
    end
  end

  defp request_while_wanted(%{conn: conn}, method, params, opts, cancelled?) do
    # Only with its id can a turn be interrupted at once: its answer is worth a moment.
    grace = if opts[:follow], do: @grace, else: 0

    with :unwanted <-
           Connection.request_while_wanted(conn, method, params, opts, cancelled?, grace) do
      _ = if opts[:follow], do: Connection.call(conn, {:abandon_start, params["threadId"]})
      {:error, {:cause, :cancelled}}
    end
  end

  # No longer than the timeouts of the turn allow.
  defp left(run) do
    limit = run.job.settings.request_timeout_ms || @request_timeout

    case run.context.left.() do
      {:wait, ms} -> {:ok, limit |> min(ms) |> max(1) |> min(@longest)}
      {:expired, name, ms} -> {:error, {:cause, {:timeout, name, ms}}}
    end
  end

  defp cause({:cause, cause}, _run), do: cause

  # A limit of the turn, or that of the request.
  defp cause({:timeout, _method, ms}, run) do
    case run.context.left.() do
      {:expired, name, limit} -> {:timeout, name, limit}
      {:wait, _ms} -> {:timeout, :request, ms}
    end
  end

  defp cause(reason, _run), do: reason

  ## Waiting

  @impl true
  def next(%{ended?: true} = run, _ms), do: {:done, run}

  def next(run, ms) do
    %{thread_id: thread, turn_id: turn, monitor: monitor, asked: asked} = run
    cancel = run.context.call.cancel

    receive do
      {:codex_turn, _conn, ^thread, ^turn, message} ->
        receive_message(message, raw(message, run))

      {^cancel, :cancelled} ->
        {:cancelled, run}

      {^cancel, {:hook, ref, message}} ->
        hook(message, ref, run)

      {:DOWN, ^monitor, :process, _, reason} ->
        {:failed, {:down, reason}, run}

      {:DOWN, ref, :process, _, reason} when is_map_key(asked, ref) ->
        received([], %{run | asked: RequestHandlers.ended(asked, ref, reason, run.conn)})
    after
      min(ms, patience(asked)) -> expire(run)
    end
  end

  # What hooks of this attempt decided.
  defp hook(message, ref, %{hooks: %{ref: ref}} = run) do
    case message do
      {:blocked, item} -> received([Hooks.event(item)], run)
      {:check, _from, _text} = check -> received([check], run)
      {:masked, count} -> received([{:masked, %{outputs: count}}], run)
      {:verdict, cause} -> {:none, %{run | verdict: run.verdict || cause}}
      {:stop, cause} -> {:failed, cause, run}
      :lost -> {:failed, {:blocked, :lost}, run}
    end
  end

  defp hook(_message, _of_an_earlier_attempt, run), do: {:none, run}

  # While the server waits for an answer of the host, it is not to blame for silence.
  defp received(events, %{asked: asked} = run) when asked == %{}, do: {:ok, events, run}
  defp received(events, run), do: {:waiting, events, run}

  defp patience(asked) when asked == %{}, do: :infinity
  defp patience(asked), do: RequestHandlers.timeout(asked, now())

  defp expire(%{asked: asked} = run) when asked == %{}, do: {:timeout, run}

  defp expire(run),
    do: received([], %{run | asked: RequestHandlers.expire(run.asked, run.conn, now())})

  defp raw({:notification, method, params}, %{extras: extras} = run) when extras != nil,
    do: %{run | extras: Extras.notification(extras, method, params)}

  defp raw(_message, run), do: run

  defp server_secrets(conn) do
    case Connection.call(conn, :secrets) do
      {:ok, secrets} -> secrets
      {:error, _down} -> []
    end
  end

  defp receive_message({:notification, method, params}, run) do
    {events, run} = notified(method, params, run)
    received(events, run)
  end

  defp receive_message({:child, thread_id, method, params}, run) do
    event = %Events.Child{thread_id: thread_id, event: EventDecoder.decode(method, params)}
    received([event], run)
  end

  defp receive_message({:request, request, others?}, run) do
    handler = run.job.plan.handler

    received([], %{
      run
      | asked: RequestHandlers.start(run.asked, run.conn, handler, request, others?, now())
    })
  end

  defp receive_message({:answered, token}, run) do
    case RequestHandlers.close(run.asked, token) do
      {:ok, asked} -> received([], %{run | asked: asked})
      :error -> received([], run)
    end
  end

  defp receive_message({:completed, %{turn: turn} = summary}, run) do
    run = %{run | ended?: true}

    case turn["status"] do
      "interrupted" -> {:failed, :interrupted, run}
      _status when run.verdict != nil -> {:failed, run.verdict, run}
      "failed" -> ended(failed(turn["error"] || get_in(summary, [:error, "error"]), run), run)
      _status -> ended(completed(turn, run), run)
    end
  end

  defp receive_message({:lost, reason, _summary}, run),
    do: {:failed, lost(reason), %{run | ended?: true}}

  defp lost(method) when is_binary(method), do: {:thread_closed, method}
  defp lost(reason), do: reason

  defp ended(event, run), do: {:ok, warnings(run) ++ [event], %{run | warned?: true}}

  defp notified("turn/completed", _params, run), do: {[], run}

  defp notified("hook/completed" = method, params, run) do
    event = EventDecoder.decode(method, params)

    case Hooks.refused(params) do
      nil -> {[event], run}
      {item, false} -> {[event, Hooks.event(item)], run}
      {item, true} -> {[event, Hooks.event(item)], refused(item, run)}
    end
  end

  # The only place of the provider's id of a response; with `experimental_raw_events`.
  defp notified("rawResponse/completed" = method, %{"responseId" => id} = params, run),
    do: {[EventDecoder.decode(method, params)], %{run | response_id: id}}

  defp notified(method, params, run) do
    case EventDecoder.decode(method, params) do
      %Events.ThreadTokenUsageUpdated{} = event -> {[event], used(event, run)}
      # The turn of a review has another id.
      %Events.TurnStarted{} = event -> {[%{event | turn_id: run.turn_id}], run}
      event -> {[event], run}
    end
  end

  # The server ends the turn as if it were completed.
  defp refused(%{thread_id: id} = item, %{thread_id: id} = run),
    do: %{run | verdict: run.verdict || {:blocked, item.event, item.reason}}

  defp refused(_of_a_sub_agent, run), do: run

  # The first report of a turn shows the tokens that the thread had used before: its total less the
  # last response.
  defp used(%{usage: total, delta: delta}, %{before: nil} = run) do
    before = if is_map(delta), do: total |> Usage.share(delta) |> elem(0), else: :unknown
    %{run | total: total, before: before}
  end

  defp used(%{usage: total}, run), do: %{run | total: total}

  defp completed(turn, run) do
    {usage, scope} = Usage.share(run.total, run.before)

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
    %Events.TurnFailed{error: error, thread_id: run.thread_id, turn_id: run.turn_id}
  end

  # Warnings of the server that concern no turn. MCP servers start while the turn runs, so these are
  # known at its end.
  defp warnings(run) do
    case Connection.call(run.conn, {:notices, run.thread_id}) do
      {:ok, [_ | _] = notices} ->
        texts =
          for {method, params} <- notices, do: Warnings.text(EventDecoder.decode(method, params))

        [{:warnings, texts |> Enum.reject(&is_nil/1) |> Redact.redact(secrets(run.job))}]

      _none ->
        []
    end
  end

  ## The end

  @impl true
  def ending(%{warned?: false, thread_id: id} = run) when id != nil, do: {%{}, warnings(run)}
  def ending(_run), do: {%{}, []}

  @impl true
  def stderr(run) do
    case Connection.call(run.conn, :stderr) do
      {:ok, text} -> text
      {:error, _down} -> ""
    end
  end

  @impl true
  def close(run) do
    _ = if run.turn_id != nil and not run.ended?, do: abandon(run)
    :ok = Extras.server_stderr(run.extras, fn -> stderr(run) end)
    _ = if run.turn_id != nil, do: unfollow(run)
    :ok = Hooks.leave(run.gate)
    RequestHandlers.stop(run.asked, run.conn)
    Terminals.stop(run.turn_id)
    Process.demonitor(run.monitor, [:flush])
    run
  end

  # If this takes longer, the connection continues it.
  defp abandon(%{thread_id: thread, turn_id: turn} = run) do
    clean = if run.job.settings.clean_background == true, do: Backend.cleaning(thread)
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

  # Nothing of the turn is left in the mailbox.
  defp unfollow(%{thread_id: thread, turn_id: turn} = run) do
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
