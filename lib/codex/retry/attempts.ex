defmodule Codex.Retry.Attempts do
  @moduledoc false
  # A run of several attempts, as one stream of events. It knows no lane: a source starts a run, gives its next events and stops
  # it, like the three functions of `Stream.resource/3`.
  #
  # What comes of an attempt before anything of the turn (the thread, the beginning of the turn, announcements of retries,
  # warnings) is held back, so that an attempt that is repeated leaves no trace in the stream. From the first item on, all passes
  # as it comes, and the prompt is not repeated: what the turn did by then would be done twice. With `:resume`, the
  # thread is continued instead. A review does nothing that could be lost: it is repeated, whatever
  # came. The events of a failure wait until it is clear that it is the last.

  alias Codex.{Error, Events, Items, RateLimit, Turn}
  alias Codex.RateLimit.Accounts
  alias Codex.Retry
  alias Codex.Retry.{Call, Options}

  # More events than these do not wait: they pass, and the attempt counts as one that did something.
  @max_held 100

  @typedoc """
  How to run. `start` gets how the attempt goes on, and the call: since when it goes on, and what cancels it.

  The last event of a run that was lost is `{:failed, exception}`.
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
  What is done about failures. `retry` and `limits` are checked options, or nil where that is off; `resume?` tells whether a thread can be
  continued, `redo?` whether a run that did something may be repeated; `total` is the limit of the
  whole call, in ms.
  """
  @type policy :: %{
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
    :policy,
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
  The stream. With `:element`, a run that is lost ends with `{:failed, exception}`, and `{:attempts, n}` tells of more than
  one; with `:raise`, the exception is raised.
  """
  @spec stream(source(), policy(), :element | :raise) :: Enumerable.t()
  def stream(source, policy, lost) do
    start = fn ->
      %__MODULE__{
        source: source,
        policy: policy,
        lost: lost,
        call: Call.begin(policy.tokens, source.about),
        since: now()
      }
    end

    Stream.resource(start, &next/1, &stop/1)
  end

  defp stop(state) do
    state = stop_run(state)
    Call.finish(state.call)
  end

  defp stop_run(%{run: nil} = state), do: state

  defp stop_run(state) do
    _ = state.source.stop.(state.run)
    %{state | run: nil}
  end

  defp next(%{phase: :begin} = state), do: pass_gate(state)

  defp next(%{phase: :running} = state) do
    case state.source.next.(state.run) do
      {:halt, run} -> ended(stop_run(%{state | run: run}))
      {events, run} -> events |> wanted(state) |> take(%{state | run: run})
    end
  end

  defp next(%{phase: {:raise, error}}), do: raise(error)
  defp next(%{phase: :over} = state), do: {:halt, state}

  ## Beginning

  defp pass_gate(%{policy: %{limits: %{gate: true} = limits}} = state) do
    patience = min(limits.max_wait_ms, left(state))

    case Accounts.wait(state.policy.account, limits.max_waiting, patience, state.call.cancel) do
      :ok -> begin(state)
      :cancelled -> cancelled(state)
      {:refused, why, ms} -> refused(state, why, ms)
    end
  end

  defp pass_gate(state), do: begin(state)

  # Only now what there was of the attempt before is forgotten.
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

  # The attempt that failed before knows the server's own words.
  defp refused(%{tail: [_ | _]} = state, _why, _ms), do: over(not_run(state))

  defp refused(state, why, ms) do
    words = %{
      full: "as many runs as may (max_waiting) wait for the account's limit to end",
      too_long: "the account's limit ends later than this run may wait"
    }

    error = Error.rate_limit("#{words[why]}: in #{ms} ms", retry_after_ms: max(ms, 1))

    over(%{state | tail: [{:failed, error}]})
  end

  defp not_run(state), do: %{state | attempt: state.attempt - 1}

  defp cancelled(state) do
    state = if state.phase == :begin and state.attempt > 1, do: not_run(state), else: state
    error = Error.new(:interrupted, "the run was cancelled")
    over(%{state | tail: [{:failed, error}]})
  end

  ## Events

  # What a run ends with for its result is nothing for a reader of events alone.
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

  # After a failure the process ends; what it still says belongs to the failure.
  defp take(events, state), do: {[], %{state | tail: state.tail ++ events}}

  # The thread that the reader knows. A review that is repeated may run in another.
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

  # Nothing of the turn has been done when these come.
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
      Call.cancelled?(state.call) -> over(state, reason)
      go_on(state) == nil -> limit(state, reason) |> elem(0) |> over(reason)
      true -> decide(state, reason)
    end
  end

  defp decide(state, reason) do
    case limit(state, reason) do
      {state, {:wait, delay}} ->
        report(state, {:retry, reason, delay, mode(state)})
        wait(%{state | limited: state.limited + 1}, limit_wait(state, delay))

      {state, :no_limit} ->
        retry(state, reason)

      {state, :too_much} ->
        over(state, reason)
    end
  end

  # With the gate, the wait is that of all: at the gate.
  defp limit_wait(%{policy: %{limits: %{gate: true}}}, _delay), do: 0
  defp limit_wait(_state, delay), do: delay

  # A limit closes the gate also where this run does not go on.
  defp limit(%{policy: %{limits: nil}} = state, _reason), do: {state, :no_limit}

  defp limit(%{policy: %{limits: limits} = policy} = state, reason) do
    case RateLimit.detect({:error, reason}) do
      {:rate_limited, info} ->
        n = state.limited + 1
        delay = RateLimit.delay(info, n, limits)
        RateLimit.announce(info, n, delay, limits)
        if limits.gate, do: Accounts.close(policy.account, delay)

        if n < limits.max_attempts and delay <= limits.max_wait_ms and delay < left(state),
          do: {state, {:wait, delay}},
          else: {state, :too_much}

      :ok ->
        {state, :no_limit}
    end
  end

  defp retry(%{policy: %{retry: nil}} = state, reason), do: over(state, reason)

  defp retry(%{policy: %{retry: opts}} = state, reason) do
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
    case Call.sleep(state.call, delay) do
      :ok -> {[], again(state)}
      :cancelled -> cancelled(state)
    end
  end

  defp again(state),
    do: %{state | phase: :begin, how: go_on(state), attempt: state.attempt + 1}

  defp go_on(%{policy: %{resume?: true}, begun?: true, thread_id: id}) when is_binary(id),
    do: {:resume, id}

  defp go_on(%{passing?: passing?, policy: policy, thread_id: id})
       when not passing? or policy.redo?,
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

  defp report(%{policy: policy} = state, outcome) do
    Retry.report(policy.retry || policy.limits, state.attempt, state.started, outcome)
  end

  defp left(%{policy: %{total: :infinity}}), do: :infinity
  defp left(state), do: max(state.policy.total - (now() - state.since), 0)
  defp now, do: System.monotonic_time(:millisecond)
end
