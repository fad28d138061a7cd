defmodule Codex.Turn do
  @moduledoc false
  # Puts a turn together from its events. Pure.

  alias Codex.{Error, Events, Items, Review}
  alias Codex.JSON.Answer
  alias Codex.RateLimit.Snapshot
  alias Codex.Turn.{Child, Kept, Listener, Result, Usage, Warnings}

  @enforce_keys [:thread, :structured?, :baseline]
  defstruct [
    :thread,
    :structured?,
    :baseline,
    :message,
    :answer,
    :declared,
    :total,
    :failure,
    :event,
    :lost,
    :response_id,
    :review,
    :on_event,
    :schema,
    :spent,
    :last_agent,
    attempts: 1,
    repairs: 0,
    blocked: 0,
    redacted: nil,
    extras: %{},
    mirror: nil,
    kept: %Kept{},
    children: %{},
    warnings: %Warnings{},
    keep?: true,
    pruned?: false
  ]

  @doc "Returns a turn of this thread before its first event."
  def new(thread, structured?, opts \\ %{}) do
    %__MODULE__{
      thread: thread,
      structured?: structured?,
      baseline: baseline(thread),
      on_event: opts[:on_event],
      schema: opts[:output],
      kept: Kept.of(thread.thread_opts || %{}, opts)
    }
  end

  # Tokens of the thread before this turn: none for a new one, unknown for one that was resumed.
  defp baseline(%{thread_id: nil, resume: nil, fork_of: nil}), do: %{}
  defp baseline(%{usage: usage}) when usage == %{}, do: :unknown
  defp baseline(%{usage: usage}), do: usage

  @doc "Ends a turn with an error that is no event."
  def failed(%__MODULE__{} = turn, error), do: %{turn | lost: error}

  @doc """
  Adds an element of `Codex.Turn.Driver`. With an output schema, the returned event has the message
  decoded.
  """
  def add(%__MODULE__{} = turn, {:failed, error} = event), do: {event, failed(turn, error)}
  def add(%__MODULE__{} = turn, {:attempts, n} = event), do: {event, %{turn | attempts: n}}

  # The answer so far does not fit, and counts no more.
  def add(%__MODULE__{} = turn, {:repair, n} = event),
    do: {event, %{turn | repairs: n, message: nil, answer: nil, declared: nil}}

  def add(%__MODULE__{} = turn, {:warnings, texts} = event),
    do: {event, %{turn | warnings: Enum.reduce(texts, turn.warnings, &Warnings.put(&2, &1))}}

  def add(%__MODULE__{} = turn, {:masked, counts} = event) do
    before = turn.redacted || %{outputs: 0, events: 0}
    {event, %{turn | redacted: Map.merge(before, counts, fn _key, n, m -> n + m end)}}
  end

  def add(%__MODULE__{} = turn, {:mirror, status} = event), do: {event, %{turn | mirror: status}}

  # A further turn adds to the lines of the turns before.
  def add(%__MODULE__{} = turn, {:extras, map} = event) do
    extras =
      Map.merge(turn.extras, map, fn
        :json, earlier, lines -> earlier ++ lines
        :json_truncated?, earlier, cut? -> earlier or cut?
        _stderr, _earlier, newest -> newest
      end)

    {event, %{turn | extras: extras}}
  end

  # Of a run with agents: the agent that goes on, its next turn, tokens that no running total has,
  # and an answer that no message has.
  def add(%__MODULE__{} = turn, {:agent, agent, _config} = event),
    do: {event, %{turn | last_agent: agent}}

  def add(%__MODULE__{} = turn, {:spent, usage} = event),
    do: {event, %{turn | spent: Usage.sum(turn.spent, usage)}}

  def add(%__MODULE__{} = turn, {:next, thread} = event), do: {event, next(turn, thread)}

  def add(%__MODULE__{} = turn, {:answer, answer} = event),
    do: {event, %{turn | declared: answer}}

  def add(%__MODULE__{} = turn, event) do
    event = parse(event, turn.structured?)
    kept = if turn.keep?, do: Kept.add(turn.kept, event), else: turn.kept
    warnings = Warnings.note(turn.warnings, event)
    review = turn.review && Review.keep(event, turn.review)
    turn = %{turn | kept: kept, warnings: warnings, review: review}
    {event, take(%{turn | children: Child.note(turn.children, event)}, event)}
  end

  # What was collected stays; the answer and the count of tokens begin anew.
  defp next(turn, thread) do
    {usage, _scope} = Usage.share(turn.total, turn.baseline)

    %{
      turn
      | thread: thread,
        baseline: baseline(thread),
        total: nil,
        spent: Usage.sum(turn.spent, usage),
        message: nil,
        answer: nil,
        declared: nil,
        response_id: nil
    }
  end

  @doc "Adds an element in `Enum.reduce_while/3`: `on_event` may end the turn."
  def step(event, turn) do
    {event, turn} = add(turn, event)

    case Listener.notify(turn.on_event, event) do
      :cont -> {:cont, turn}
      {:halt, error} -> {:halt, failed(turn, error)}
    end
  end

  defp parse(%{item: %Items.AgentMessage{} = item} = event, true),
    do: %{event | item: parse_message(item)}

  defp parse(event, _structured?), do: event

  defp parse_message(%{text: text} = message) when is_binary(text) do
    case Answer.decode(text) do
      {:ok, parsed} -> %{message | parsed: parsed}
      {:error, _} -> message
    end
  end

  defp parse_message(message), do: message

  defp take(turn, %Events.ThreadStarted{thread_id: id, metadata: metadata}) do
    thread = %{turn.thread | thread_id: id, resume: nil, fork_of: nil}
    metadata = if metadata == %{} or not is_map(metadata), do: thread.metadata, else: metadata

    %{
      turn
      | thread: %{thread | metadata: metadata, labels: Map.get(metadata, "labels", thread.labels)}
    }
  end

  defp take(turn, %Events.TurnContinuation{continuation_token: token}),
    do: put_in(turn.thread.continuation_token, token)

  defp take(turn, %Events.AccountRateLimitsUpdated{rate_limits: %{} = limits}) do
    snapshot = Snapshot.merge(turn.thread.rate_limits, Snapshot.new(limits))
    put_in(turn.thread.rate_limits, snapshot)
  end

  # The app-server reports the tokens of the last response, and so those from before this turn.
  defp take(
         %{baseline: :unknown} = turn,
         %Events.ThreadTokenUsageUpdated{usage: %{} = usage, delta: %{} = delta}
       ) do
    {before, _scope} = Usage.share(usage, delta)
    total(%{turn | baseline: before}, usage)
  end

  defp take(turn, %Events.ThreadTokenUsageUpdated{usage: %{} = usage}), do: total(turn, usage)

  defp take(turn, %Events.ItemCompleted{item: %Items.AgentMessage{phase: "final_answer"} = answer}),
       do: %{turn | message: answer, answer: answer}

  defp take(turn, %Events.ItemCompleted{item: %Items.AgentMessage{} = message}),
    do: %{turn | message: message}

  defp take(turn, %Events.ItemCompleted{item: %Items.HookBlocked{}}),
    do: %{turn | blocked: turn.blocked + 1}

  defp take(turn, %Events.TurnFailed{} = event),
    do: %{turn | failure: failure(event), event: event}

  defp take(turn, %Events.TurnCompleted{} = event) do
    total? = is_map(event.usage) and event.usage_scope == :thread
    turn = if total?, do: total(turn, event.usage), else: turn

    turn = %{
      turn
      | declared: declared(event.final_response, turn.structured?),
        response_id: event.response_id
    }

    failure = failure(event)

    cond do
      failure != nil ->
        %{turn | failure: turn.failure || failure, event: turn.event || event}

      event.status == "early_exit" ->
        prune(turn)

      event.final_response != nil ->
        put_in(turn.thread.continuation_token, nil)

      true ->
        turn
    end
  end

  defp take(turn, _event), do: turn

  defp total(turn, usage) do
    total = Map.merge(turn.total || turn.thread.usage, usage)
    put_in(%{turn | total: total}.thread.usage, total)
  end

  # The host is to begin anew.
  defp prune(turn), do: %{turn | pruned?: true, thread: reset(turn.thread)}

  @doc "Returns the thread without its conversation, as `/new` and an early exit do."
  def reset(thread) do
    %{
      thread
      | thread_id: nil,
        resume: nil,
        fork_of: nil,
        continuation_token: nil,
        metadata: %{},
        labels: %{},
        usage: %{},
        pending_tool_outputs: [],
        pending_tool_failures: []
    }
  end

  defp declared(%Items.AgentMessage{} = message, _structured?), do: message

  defp declared(%{"type" => "text", "text" => text}, structured?) when is_binary(text) do
    message = %Items.AgentMessage{text: text}
    if structured?, do: parse_message(message), else: message
  end

  defp declared(_other, _structured?), do: nil

  @doc """
  Returns the error of an event that ends a turn without success, nil for every other event.

      iex> Codex.Turn.failure(%Codex.Events.TurnCompleted{status: "interrupted"}).kind
      :interrupted
      iex> Codex.Turn.failure(%Codex.Events.TurnCompleted{})
      nil
  """
  @spec failure(term()) :: Error.t() | nil
  def failure(%Events.TurnFailed{error: error} = event), do: failure(error, event)

  def failure(%Events.TurnCompleted{status: status, error: error} = event)
      when status in ["failed", "error"],
      do: failure(error, event)

  def failure(%Events.TurnCompleted{status: "interrupted"} = event),
    do: %{Error.new(:interrupted, "the turn was interrupted") | event: event}

  def failure(_event), do: nil

  defp failure(error, event) do
    error =
      if is_map(error) and error != %{},
        do: Error.failed_turn(error),
        else: Error.new(:unknown, "turn failed")

    %{error | event: event}
  end

  @doc "Returns the answer: see `final_response` of `Codex.Turn.Result`."
  def response(turn), do: turn.declared || turn.answer || turn.message

  @doc "Returns the result of a turn. Its own failure counts more than the end of its process."
  @spec result(%__MODULE__{}) ::
          {:ok, Result.t()} | {:error, {:turn_failed | :exec_failed, Error.t()}}
  def result(%__MODULE__{failure: nil, lost: nil} = turn), do: {:ok, so_far(turn)}

  def result(%__MODULE__{failure: nil, lost: lost} = turn),
    do: {:error, {:exec_failed, %{Error.normalize(lost) | result: so_far(turn)}}}

  def result(%__MODULE__{failure: error} = turn),
    do: {:error, {:turn_failed, %{error | event: turn.event, result: so_far(turn)}}}

  @doc "Returns the result so far."
  @spec so_far(%__MODULE__{}) :: Result.t()
  def so_far(turn) do
    events = Kept.events(turn.kept)
    {usage, scope} = Usage.share(turn.total, turn.baseline)

    %Result{
      thread: turn.thread,
      events: events,
      events_dropped: turn.kept.dropped,
      final_response: response(turn),
      warnings: Warnings.list(turn.warnings),
      children: Child.list(turn.children),
      usage: Usage.sum(turn.spent, usage),
      usage_scope: scope,
      last_agent: turn.last_agent,
      last_response_id: turn.response_id,
      attempts: turn.attempts,
      schema: turn.schema,
      repairs: turn.repairs,
      blocked: turn.blocked,
      redacted: turn.redacted,
      mirror: turn.mirror,
      raw:
        Map.merge(turn.extras, %{
          events: events,
          structured_output?: turn.structured?,
          pruned?: turn.pruned?,
          tool_outputs: [],
          tool_failures: []
        })
    }
  end
end
