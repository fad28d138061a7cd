defmodule Codex.Turn.Kept do
  @moduledoc false
  # The events that a result keeps, within limits, and the number of the others. Pure.
  #
  # Pieces of a text that grows and all other events are counted apart: the pieces come by the
  # thousand, and the item that ends with them has all of their text. The end of the turn is
  # always kept.

  alias Codex.Events
  alias Codex.Events.Schema

  @max_events 100_000
  @max_event_bytes 128 * 1024 * 1024

  # Notifications of this name, and plans of `codex exec`, which come whole each time.
  deltas =
    for %{app: [{method, _} | _]} = spec <- Schema.specs(:events), method =~ ~r/delta$/i, do: spec

  @pieces Map.from_keys([Events.ItemUpdated | Enum.map(deltas, & &1.module)], true)
  @ends [Events.TurnCompleted, Events.TurnFailed]

  defstruct events: [],
            pieces: 0,
            others: 0,
            bytes: 0,
            dropped: 0,
            max_events: @max_events,
            max_bytes: @max_event_bytes

  @type t :: %__MODULE__{
          events: [Events.t()],
          pieces: non_neg_integer(),
          others: non_neg_integer(),
          bytes: non_neg_integer(),
          dropped: non_neg_integer(),
          max_events: pos_integer(),
          max_bytes: pos_integer()
        }

  @doc """
  Returns an empty collection. The limits are the options `max_events` and `max_event_bytes`; nil is
  the default.
  """
  @spec new(pos_integer() | nil, pos_integer() | nil) :: t()
  def new(max_events \\ nil, max_bytes \\ nil) do
    %__MODULE__{
      max_events: max_events || @max_events,
      max_bytes: max_bytes || @max_event_bytes
    }
  end

  @doc "Returns an empty collection with the limits of a turn, else those of the thread."
  @spec of(struct() | map(), map()) :: t()
  def of(thread_opts, turn_opts) do
    limit = &(turn_opts[&1] || Map.get(thread_opts, &1))
    new(limit.(:max_events), limit.(:max_event_bytes))
  end

  @doc """
  Keeps an event, or counts it as dropped.

      iex> alias Codex.{Events, Turn.Kept}
      iex> delta = %Events.ItemAgentMessageDelta{item: %{"id" => "m", "text" => "Hel"}}
      iex> events = [%Events.TurnStarted{}, delta, delta, delta, %Events.TurnCompleted{}]
      iex> kept = Enum.reduce(events, Kept.new(2), &Kept.add(&2, &1))
      iex> {length(Kept.events(kept)), kept.dropped}
      {4, 1}
  """
  @spec add(t(), Events.t()) :: t()
  def add(kept, %type{} = event) when type in @ends,
    do: %{kept | events: [event | kept.events]}

  def add(kept, event) do
    class = if piece?(event), do: :pieces, else: :others
    count = Map.fetch!(kept, class)

    # An event beyond the number is not measured.
    with true <- count < kept.max_events,
         bytes = kept.bytes + size(event),
         true <- bytes <= kept.max_bytes do
      %{kept | class => count + 1, bytes: bytes, events: [event | kept.events]}
    else
      false -> %{kept | dropped: kept.dropped + 1}
    end
  end

  defp piece?(%Events.Child{event: event}), do: piece?(event)
  defp piece?(%type{}) when is_map_key(@pieces, type), do: true

  defp piece?(%Events.AppServerNotification{method: method}) when is_binary(method),
    do: String.ends_with?(method, ["delta", "Delta"])

  defp piece?(_event), do: false

  @doc "Estimates the memory of a term, rather too high: its words, and the bytes of its binaries."
  @spec size(term()) :: non_neg_integer()
  def size(term),
    do: :erts_debug.flat_size(term) * :erlang.system_info(:wordsize) + :erlang.external_size(term)

  @doc "Returns the kept events, in order."
  @spec events(t()) :: [Events.t()]
  def events(kept), do: Enum.reverse(kept.events)
end
