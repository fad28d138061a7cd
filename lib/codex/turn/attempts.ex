defmodule Codex.Turn.Attempts do
  @moduledoc false
  # Runs a turn in one attempt or, with the options `retry` and `rate_limit`, in several, as one
  # series of elements: events, `{:attempts, n}` if there were several, and at the end of an attempt
  # that failed `{:failed, error}`.
  #
  # Events before the first item (the thread, the start of the turn, announced retries, warnings)
  # are held back, so that a repeated attempt leaves no trace in the series. From the first item
  # on, events pass as they come, and the prompt is not repeated: the turn would do its work
  # twice. With `:resume`, the next attempt continues the thread instead. A review changes
  # nothing, so it is always repeated. The events of a failure wait until no attempt follows.

  alias Codex.{Error, Events, Items, Retry, Turn}
  alias Codex.Retry.Plan
  alias Codex.Turn.{Attempt, Cancellation, Job, Transport, Waits}

  # If more events are held back, they pass, and the attempt counts as one that did some work.
  @max_held 100

  @enforce_keys [:job, :plan, :opts]
  defstruct [
    :job,
    :plan,
    :opts,
    :attempt,
    :started,
    :thread_id,
    :failure,
    how: :first,
    phase: :begin,
    number: 1,
    first: :first,
    held: [],
    count: 0,
    tail: [],
    passing?: false,
    begun?: false,
    known?: false
  ]

  @type t :: %__MODULE__{}
  @type element :: Attempt.element() | {:attempts, pos_integer()}

  @doc """
  Returns attempts that have not begun. `opts` as for `Codex.Turn.Attempt.open/3`; `first` is how
  the first attempt begins, and each that repeats it.
  """
  @spec new(Job.t(), Plan.t() | nil, map(), Transport.how()) :: t()
  def new(job, plan, opts, first \\ :first),
    do: %__MODULE__{job: job, plan: plan, opts: opts, how: first, first: first}

  @doc "Returns the next elements, perhaps none; `:halt` after the last."
  @spec next(t()) :: {[element()], t()} | :halt
  def next(%{phase: :begin, number: 1} = state), do: await_limit(state)

  def next(%{phase: :begin} = state),
    do: if(Plan.gate?(state.plan), do: await_limit(state), else: begin(state))

  def next(%{phase: :over}), do: :halt

  def next(%{attempt: attempt} = state) do
    case Attempt.next(attempt) do
      :halt -> ended(state)
      {elements, attempt} -> take(elements, %{state | attempt: attempt})
    end
  end

  @doc "Stops the attempt that runs."
  @spec stop(t()) :: t()
  def stop(%{attempt: nil} = state), do: state
  def stop(state), do: %{state | attempt: Attempt.close(state.attempt)}

  ## Beginning

  # If the account's snapshot shows a reached limit, the first attempt starts when that resets. A
  # gate may be closed again after the wait.
  defp await_limit(state) do
    case Plan.before(state.plan, elapsed(state)) do
      {:go, plan} ->
        begin(%{state | plan: plan})

      {:wait, delay, plan} ->
        go_on = if Plan.gate?(plan), do: &await_limit/1, else: &begin/1
        wait_for_limit(%{state | plan: plan}, delay, go_on)

      {:refused, error} ->
        over(%{state | tail: [{:failed, error}]})
    end
  end

  # The events of the attempt before are dropped only now.
  defp begin(state) do
    state = %{
      state
      | started: System.monotonic_time(),
        begun?: state.begun? and match?({:resume, _, _}, state.how),
        known?: state.passing?,
        phase: :running,
        failure: nil,
        tail: [],
        held: [],
        count: 0
    }

    case announce(state.job) do
      :ok ->
        {elements, attempt} = Attempt.open(state.job, state.how, state.opts)
        take(elements, %{state | attempt: attempt})

      {:error, error} ->
        over(%{state | tail: [{:failed, error}]})
    end
  end

  # A pool announces the attempt when it has a server.
  defp announce(%{transport: {:pool, _pool}}), do: :ok
  defp announce(job), do: Job.notify(job, :begin)

  defp wait_for_limit(state, delay, go_on),
    do: go_on(state, go_on, Waits.wait(fn -> Cancellation.sleep(state.opts.call, delay) end))

  defp wait(state, delay, go_on),
    do: go_on(state, go_on, Cancellation.sleep(state.opts.call, delay))

  defp go_on(state, go_on, slept) do
    case slept do
      :ok -> go_on.(state)
      :cancelled -> cancelled(state)
    end
  end

  defp cancelled(state),
    do: over(%{state | tail: [{:failed, Error.new(:interrupted, "the run was cancelled")}]})

  ## Elements

  defp take(elements, %{plan: nil} = state), do: {elements, state}

  defp take(elements, %{failure: nil} = state) do
    elements = if state.known?, do: Enum.reject(elements, &thread?(&1, state)), else: elements

    case Enum.split_while(elements, &(not failure?(&1))) do
      {elements, []} -> pass(elements, state)
      {elements, [failure | _] = tail} -> pass(elements, %{state | failure: failure, tail: tail})
    end
  end

  # After a failure the process ends; its last events belong to the failure.
  defp take(elements, state), do: {[], %{state | tail: state.tail ++ elements}}

  # The reader knows this thread already. A repeated review may run in another.
  defp thread?(%Events.ThreadStarted{thread_id: id}, state), do: id == state.thread_id
  defp thread?(_event, _state), do: false

  defp failure?({:failed, _error}), do: true
  defp failure?(event), do: Turn.failure(event) != nil

  defp pass(elements, %{passing?: true} = state), do: {elements, state}

  defp pass(elements, state) do
    {early, rest} = Enum.split_while(elements, &early?/1)
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
              # An app-server repeats the total of the thread at the end of a turn.
              Events.ThreadTokenUsageUpdated,
              Events.DeprecationNotice
            ],
       do: true

  defp early?(%type{item: %item{}}) when type in [Events.ItemStarted, Events.ItemCompleted],
    do: item in [Items.Error, Items.UserMessage]

  defp early?({:warnings, _texts}), do: true
  defp early?(_element), do: false

  defp note(%Events.ThreadStarted{thread_id: id}, state), do: %{state | thread_id: id}
  defp note(%Events.TurnStarted{}, state), do: %{state | begun?: true}
  defp note(_event, state), do: state

  ## The end of an attempt

  defp ended(%{plan: nil} = state), do: over(state)

  defp ended(%{failure: nil} = state) do
    report(state, :ok)
    over(state)
  end

  defp ended(state) do
    reason = reason(state.failure)
    how = how(state)
    elapsed = elapsed(state)

    cancelled? = Cancellation.cancelled?(state.opts.call)

    decision =
      if cancelled? and match?({_tag, %{kind: :interrupted}}, reason),
        do: :stop,
        else: Plan.decide(state.plan, reason, how != nil, elapsed)

    case decision do
      :stop ->
        report(state, {:error, reason})
        over(state)

      # The attempt failed by itself at the moment of the cancellation.
      {:wait, _delay, _plan} when cancelled? ->
        report(state, {:error, reason})
        cancelled(state)

      {:wait, delay, plan} ->
        report(state, {:retry, reason, delay, elem(how, 0)})
        tries = state.plan.tries
        _ = if plan.tries > tries, do: plan.retry.on_retry.(tries, reason)
        again = &{[], %{&1 | phase: :begin, how: how, number: &1.number + 1}}
        limited? = plan.limited > state.plan.limited
        state = %{state | plan: plan}
        if limited?, do: wait_for_limit(state, delay, again), else: wait(state, delay, again)
    end
  end

  # How the next attempt may begin, if one may follow at all.
  defp how(%{plan: %{resume?: true} = plan, begun?: true, thread_id: id}) when is_binary(id),
    do: {:resume, id, plan.retry.resume_prompt}

  defp how(%{passing?: passing?, plan: plan} = state) when not passing? or plan.redo?,
    do: if(state.first == :first, do: {:repeat, state.thread_id}, else: state.first)

  defp how(_state), do: nil

  defp reason({:failed, error}), do: {:exec_failed, error}
  defp reason(event), do: {:turn_failed, Turn.failure(event)}

  defp over(state) do
    counted = if state.number > 1, do: [{:attempts, state.number}], else: []
    {counted ++ state.held ++ state.tail, %{state | phase: :over}}
  end

  defp report(%{plan: plan} = state, outcome),
    do: Retry.report(plan.retry || plan.limits, state.number, state.started, outcome)

  defp elapsed(state), do: System.monotonic_time(:millisecond) - state.opts.since
end
