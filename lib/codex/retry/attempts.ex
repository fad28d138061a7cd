defmodule Codex.Retry.Attempts do
  @moduledoc false
  # Runs a turn in several attempts, as one stream of events. It works for every transport: a
  # source starts a run, returns its next events and stops it, like the three functions of
  # `Stream.resource/3`.
  #
  # Events before the first item (the thread, the start of the turn, announced retries, warnings)
  # are held back, so that a repeated attempt leaves no trace in the stream. From the first item
  # on, events pass as they come, and the prompt is not repeated: the turn would do its work
  # twice. With `:resume`, the next attempt continues the thread instead. A review changes
  # nothing, so it is always repeated. The events of a failure wait until no attempt follows.

  alias Codex.{Error, Events, Items, RateLimit, Turn}
  alias Codex.Retry
  alias Codex.Retry.Options
  alias Codex.Turn.Cancellation

  # If more events are held back, they pass, and the attempt counts as one that did some work.
  @max_held 100

  @typedoc """
  Functions of a transport. `start` gets how to begin the attempt, and the call: when it began
  and how it is cancelled.

  The last event of a failed run is `{:failed, exception}`.
  """
  @type source :: %{
          start: (how(), call() -> {:ok, run()} | {:error, Error.t()}),
          next: (run() -> {[event()], run()} | {:halt, run()}),
          stop: (run() -> term()),
          about: Codex.Turn.Running.about()
        }
  @type how :: :first | {:repeat, String.t() | nil} | {:resume, String.t()}
  @type call :: %{
          since: integer(),
          cancelled: :atomics.atomics_ref(),
          cancel: reference(),
          ref: reference()
        }
  @type run :: term()
  @type event :: Events.t() | {:failed, Exception.t()} | {:attempts, pos_integer()}

  @typedoc """
  Decides on failures. `retry` and `limits` are checked options, or nil if switched off;
  `resume?`: the thread can be continued; `redo?`: a run that did some work may be repeated;
  `total`: the time limit of the whole call in ms.
  """
  @type plan :: %{
          retry: map() | nil,
          limits: map() | nil,
          resume?: boolean(),
          redo?: boolean(),
          account: String.t(),
          total: timeout(),
          tokens: [String.t()]
        }

  defstruct [
    :source,
    :plan,
    :lost,
    :call,
    :since,
    :run,
    :started,
    :thread_id,
    :failure,
    how: :first,
    phase: :begin,
    attempt: 1,
    tries: 1,
    limited: 0,
    held: [],
    count: 0,
    tail: [],
    passing?: false,
    begun?: false,
    known?: false
  ]

  @doc """
  Returns the plan of a run or a review, or nil if the settings switch nothing on. `account` is
  called for the account of the limits, unless an option names it.
  """
  @spec plan(map(), [String.t()], :run | :review, (() -> String.t())) :: plan() | nil
  def plan(settings, tokens, kind, account) do
    retry =
      if on?(settings.retry, settings.retry_opts),
        do: prefixed(Options.check!(settings.retry_opts || []), settings)

    limits =
      if on?(settings.rate_limit, settings.rate_limit_opts),
        do: prefixed(RateLimit.Options.complete!(settings.rate_limit_opts || []), settings)

    if retry || limits do
      %{
        retry: retry,
        limits: limits,
        # An ephemeral thread is not stored, and half a review cannot be continued.
        resume?: settings.retry == :resume and kind == :run and settings.ephemeral != true,
        redo?: kind == :review,
        account: (limits && limits.account) || account.(),
        total: settings.total_timeout_ms || :infinity,
        tokens: tokens
      }
    end
  end

  # Options alone switch it on, unless the switch is false.
  defp on?(nil, opts), do: opts not in [nil, [], %{}]
  defp on?(switch, _opts), do: switch != false

  defp prefixed(opts, settings), do: %{opts | telemetry_prefix: settings.telemetry_prefix}

  @doc """
  Returns the stream of events. With `:element`, a failed run ends with `{:failed, exception}`,
  and `{:attempts, n}` is added if there were several; with `:raise`, the exception is raised.
  """
  @spec stream(source(), plan(), :element | :raise) :: Enumerable.t()
  def stream(source, plan, lost) do
    start = fn ->
      %__MODULE__{
        source: source,
        plan: plan,
        lost: lost,
        call: Cancellation.begin(plan.tokens, source.about),
        since: now()
      }
    end

    Stream.resource(start, &next/1, &stop/1)
  end

  defp stop(state) do
    state = stop_run(state)
    Cancellation.finish(state.call)
  end

  defp stop_run(%{run: nil} = state), do: state

  defp stop_run(state) do
    _ = state.source.stop.(state.run)
    %{state | run: nil}
  end

  defp next(%{phase: :begin, attempt: 1} = state), do: await_limit(state)
  defp next(%{phase: :begin} = state), do: begin(state)

  defp next(%{phase: :running} = state) do
    case state.source.next.(state.run) do
      {:halt, run} -> ended(stop_run(%{state | run: run}))
      {events, run} -> events |> wanted(state) |> take(%{state | run: run})
    end
  end

  defp next(%{phase: {:raise, error}}), do: raise(error)
  defp next(%{phase: :over} = state), do: {:halt, state}

  ## Beginning

  # If the account's snapshot shows a reached limit, the first attempt starts when that resets.
  defp await_limit(%{plan: %{limits: nil}} = state), do: begin(state)

  defp await_limit(%{plan: %{limits: limits, account: account}} = state) do
    case RateLimit.reached(account) do
      nil ->
        begin(state)

      info ->
        delay = RateLimit.delay(info, 1, limits)
        RateLimit.announce(info, 0, delay, limits)

        cond do
          not fits?(state, delay) -> refused(state, info, delay)
          Cancellation.sleep(state.call, delay) == :ok -> begin(state)
          true -> cancelled(state)
        end
    end
  end

  defp fits?(state, delay), do: delay <= state.plan.limits.max_wait_ms and delay < left(state)

  # The events of the attempt before are dropped only now.
  defp begin(state) do
    state = %{
      state
      | started: System.monotonic_time(),
        begun?: state.begun? and match?({:resume, _}, state.how),
        known?: state.passing?,
        failure: nil,
        tail: [],
        held: [],
        count: 0
    }

    call = state.call |> Map.take([:cancelled, :cancel, :ref]) |> Map.put(:since, state.since)

    case state.source.start.(state.how, call) do
      {:ok, run} -> {[], %{state | run: run, phase: :running}}
      {:error, error} -> ended(%{state | failure: {:failed, error}, tail: [{:failed, error}]})
    end
  end

  defp refused(state, info, delay) do
    message =
      "the rate limit of the account is reached until #{info.resets_at}: waiting #{delay} ms " <>
        "is longer than max_wait_ms or total_timeout_ms allow"

    error = Error.rate_limit(message, retry_after_ms: max(delay, 1))
    error = %{error | resets_at: info.resets_at}
    over(%{state | tail: [{:failed, error}]})
  end

  defp cancelled(state) do
    error = Error.new(:interrupted, "the run was cancelled")
    over(%{state | tail: [{:failed, error}]})
  end

  ## Events

  # Elements for the result of a run are not shown to a reader of events alone.
  defp wanted(events, %{lost: :element}), do: events

  defp wanted(events, _state),
    do: Enum.reject(events, &(is_tuple(&1) and elem(&1, 0) in [:warnings, :extras]))

  defp take(events, %{failure: nil} = state) do
    events = if state.known?, do: Enum.reject(events, &thread?(&1, state)), else: events

    if Enum.any?(events, &failure?/1) do
      {events, [failure | _] = tail} = Enum.split_while(events, &(not failure?(&1)))
      pass(events, %{state | failure: failure, tail: tail})
    else
      pass(events, state)
    end
  end

  # After a failure the process ends; its last events belong to the failure.
  defp take(events, state), do: {[], %{state | tail: state.tail ++ events}}

  # The reader knows this thread already. A repeated review may run in another.
  defp thread?(%Events.ThreadStarted{thread_id: id}, state), do: id == state.thread_id
  defp thread?(_event, _state), do: false

  defp failure?({:failed, _error}), do: true
  defp failure?(event), do: Turn.failure(event) != nil

  defp pass(events, %{passing?: true} = state), do: {events, state}

  defp pass(events, state) do
    {early, rest} = Enum.split_while(events, &early?/1)
    state = Enum.reduce(early, state, &note/2)
    held = state.held ++ early
    count = state.count + length(early)

    if rest == [] and count <= @max_held,
      do: {[], %{state | held: held, count: count}},
      else: {held ++ rest, %{state | held: [], count: 0, passing?: true}}
  end

  # The turn has done no work yet when these come.
  defp early?(%type{})
       when type in [
              Events.ThreadStarted,
              Events.TurnStarted,
              Events.Error,
              Events.AccountUpdated,
              Events.AccountRateLimitsUpdated,
              Events.DeprecationNotice
            ],
       do: true

  defp early?(%type{item: %item{}}) when type in [Events.ItemStarted, Events.ItemCompleted],
    do: item in [Items.Error, Items.UserMessage]

  defp early?(_event), do: false

  defp note(%Events.ThreadStarted{thread_id: id}, state), do: %{state | thread_id: id}
  defp note(%Events.TurnStarted{}, state), do: %{state | begun?: true}
  defp note(_event, state), do: state

  ## The end of an attempt

  defp ended(%{failure: nil} = state) do
    report(state, :ok)
    over(state, :ok)
  end

  defp ended(state) do
    reason = reason(state.failure)

    cond do
      Cancellation.cancelled?(state.call) -> over(state, reason)
      go_on(state) == nil -> limit(state, reason) |> elem(0) |> over(reason)
      true -> decide(state, reason)
    end
  end

  defp decide(state, reason) do
    case limit(state, reason) do
      {state, {:wait, delay}} ->
        report(state, {:retry, reason, delay, mode(state)})
        wait(%{state | limited: state.limited + 1}, delay)

      {state, :no_limit} ->
        retry(state, reason)

      {state, :too_much} ->
        over(state, reason)
    end
  end

  # The account's snapshot learns of the limit, even if no attempt follows.
  defp limit(%{plan: %{limits: nil}} = state, _reason), do: {state, :no_limit}

  defp limit(%{plan: %{limits: limits} = plan} = state, {_tag, error} = reason) do
    case RateLimit.detect({:error, reason}) do
      {:rate_limited, info} ->
        n = state.limited + 1
        delay = RateLimit.delay(info, n, limits)
        RateLimit.announce(info, n, delay, limits)
        RateLimit.observe(plan.account, error)

        if n < limits.max_attempts and fits?(state, delay),
          do: {state, {:wait, delay}},
          else: {state, :too_much}

      :ok ->
        {state, :no_limit}
    end
  end

  defp retry(%{plan: %{retry: nil}} = state, reason), do: over(state, reason)

  defp retry(%{plan: %{retry: opts}} = state, reason) do
    with {:retry, delay} <- Options.next(opts, state.tries, reason, now() - state.since),
         true <- delay < left(state) do
      report(state, {:retry, reason, delay, mode(state)})
      _ = opts.on_retry.(state.tries, reason)
      wait(%{state | tries: state.tries + 1}, delay)
    else
      _ -> over(state, reason)
    end
  end

  defp wait(state, delay) do
    case Cancellation.sleep(state.call, delay) do
      :ok -> {[], again(state)}
      :cancelled -> cancelled(state)
    end
  end

  defp again(state),
    do: %{state | phase: :begin, how: go_on(state), attempt: state.attempt + 1}

  defp go_on(%{plan: %{resume?: true}, begun?: true, thread_id: id}) when is_binary(id),
    do: {:resume, id}

  defp go_on(%{passing?: passing?, plan: plan, thread_id: id})
       when not passing? or plan.redo?,
       do: {:repeat, id}

  defp go_on(_state), do: nil

  defp mode(state) do
    {mode, _id} = go_on(state)
    mode
  end

  defp reason({:failed, error}), do: {:exec_failed, Error.normalize(error)}

  defp reason(event), do: {:turn_failed, Turn.failure(event)}

  ## The end

  defp over(state, :ok), do: over(state)

  defp over(state, reason) do
    report(state, {:error, reason})
    over(state)
  end

  defp over(state) do
    events = counted(state) ++ state.held ++ state.tail

    case {state.lost, List.last(events)} do
      {:raise, {:failed, error}} -> {Enum.drop(events, -1), %{state | phase: {:raise, error}}}
      _ -> {events, %{state | phase: :over}}
    end
  end

  defp counted(%{lost: :element, attempt: n}) when n > 1, do: [{:attempts, n}]
  defp counted(_state), do: []

  defp report(%{plan: plan} = state, outcome) do
    Retry.report(plan.retry || plan.limits, state.attempt, state.started, outcome)
  end

  defp left(%{plan: %{total: :infinity}}), do: :infinity
  defp left(state), do: max(state.plan.total - (now() - state.since), 0)
  defp now, do: System.monotonic_time(:millisecond)
end
