defmodule Codex.Sessions.Events do
  @moduledoc false
  # Makes events of lines: the structs of both transports, through the dialect of rollouts.

  alias Codex.{Events, Items, Native}
  alias Codex.Sessions.{Images, Legacy, Tokens}

  alias Codex.Events.{
    ItemCompleted,
    RawResponseItemCompleted,
    ThreadStarted,
    ThreadTokenUsageUpdated,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
    Unknown
  }

  # The dialect's index in the table of the NIF.
  @dialect 1

  @enforce_keys [:thread]
  defstruct [:thread, :turn, :turn_id, images: :skip, pending: [], begun: false, calls: %{}]

  @type t :: %__MODULE__{}

  @doc "Returns the state before the first line of a thread. The option is `:images`, as read."
  @spec new(String.t(), keyword()) :: t()
  def new(thread, opts \\ []),
    do: %__MODULE__{thread: thread, images: opts[:images] || :skip}

  @doc "Returns the events of a line, each with the index of its turn."
  @spec events(Codex.Sessions.Reader.line(), t()) ::
          {[{non_neg_integer() | :none, Events.t()}], t()}
  def events({turn, _offset, _time, _ordinal, tokens, body}, state) do
    {events, state} = body(body, enter(state, turn))
    events = Enum.map(events, &of_thread(&1, state, tokens))
    {started, state} = started(turn, events, state)
    {for(event <- started ++ events, do: {turn, event}), state}
  end

  defp enter(%{turn: turn} = state, turn), do: state
  defp enter(state, turn), do: %{state | turn: turn, turn_id: nil}

  # Turns without a line that begins them begin with their first event.
  defp started(turn, events, state) do
    cond do
      turn == :none or events == [] or state.begun == turn ->
        {[], state}

      match?([%TurnStarted{} | _], events) ->
        {[], %{state | begun: turn}}

      true ->
        {[%TurnStarted{thread_id: state.thread, turn_id: turn_id(events)}],
         %{state | begun: turn}}
    end
  end

  defp turn_id([%{turn_id: id} | _]), do: id
  defp turn_id(_events), do: nil

  # --- Lines --------------------------------------------------------------------------------------

  defp body({:event, event}, state) do
    case Events.from_native_event(event) do
      %TurnStarted{turn_id: id} = event ->
        {[event], %{state | turn_id: id}}

      %ThreadTokenUsageUpdated{usage: usage, delta: nil} when usage == %{} ->
        {[], state}

      %ItemCompleted{item: %Items.UserMessage{} = item} = event ->
        {item, state} = with_images(item, state)
        {[%{event | item: item}], state}

      event ->
        {[event], state}
    end
  end

  # The first line of the oldest generation has no type.
  defp body({:line, type, _kind, %{"id" => id}}, %{thread: id} = state)
       when type in ["session_meta", ""],
       do: {[%ThreadStarted{thread_id: id}], state}

  defp body({:line, type, _kind, _another}, state) when type in ["session_meta", ""],
    do: {[], state}

  defp body({:line, "compacted", _kind, _payload}, state), do: {[], state}

  # The message of the model's interface has the bytes of the images of the prompt that follows.
  defp body({:line, "response_item", "message", payload}, state) do
    case Images.urls(payload) do
      [] -> {[], state}
      urls -> {[], %{state | pending: urls}}
    end
  end

  defp body({:line, type, kind, payload}, state) do
    kind = if kind == "", do: type, else: kind

    case Legacy.items(kind, payload, state.calls) do
      {items, calls} -> Enum.flat_map_reduce(items, %{state | calls: calls}, &item/2)
      :unknown -> {[unknown(kind, payload)], state}
    end
  end

  defp unknown("ghost_snapshot", payload), do: raw(Map.put_new(payload, "type", "ghost_snapshot"))
  defp unknown(kind, payload), do: %Unknown{type: kind, raw: payload}

  defp item(%{"type" => "raw", "raw" => raw}, state), do: {[raw(raw)], state}
  defp item(%{"type" => "raw"} = raw, state), do: {[raw(raw)], state}

  defp item(item, state) do
    case read(%{"item" => item}) do
      :unknown -> {[%Unknown{type: item["type"], raw: item}], state}
      event -> body({:event, event}, state)
    end
  end

  defp read(payload) do
    with :long <- Native.event_read(@dialect, "item_completed", payload),
         do: Native.event_read_long(@dialect, "item_completed", payload)
  end

  defp raw(payload) do
    case Items.parse_raw_response_item(payload) do
      {:ok, item} -> %RawResponseItemCompleted{item: item}
      {:error, _reason} -> %Unknown{raw: payload}
    end
  end

  defp with_images(item, state) do
    {content, pending} = Images.fill(item.content, state.pending, state.images)
    {%{item | content: content}, %{state | pending: pending}}
  end

  # --- Events -------------------------------------------------------------------------------------

  defp of_thread(%TurnCompleted{error: %{} = error} = event, state, _tokens) do
    ids = %{thread_id: state.thread, turn_id: event.turn_id}
    struct(TurnFailed, Map.merge(ids, %{error: error, extra: event.extra}))
  end

  defp of_thread(%TurnCompleted{} = event, state, tokens) do
    # Only a turn that was stopped has a reason.
    status = if is_map_key(event.extra, "reason"), do: "interrupted", else: "completed"
    usage = tokens && Tokens.to_map(tokens)
    %{event | thread_id: state.thread, status: status, usage: usage, usage_scope: :turn}
  end

  defp of_thread(%{thread_id: _, turn_id: nil} = event, state, _tokens),
    do: %{event | thread_id: state.thread, turn_id: state.turn_id}

  defp of_thread(%{thread_id: nil} = event, state, _tokens),
    do: %{event | thread_id: state.thread}

  defp of_thread(event, _state, _tokens), do: event
end
