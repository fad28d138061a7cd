defmodule Codex.Events do
  @moduledoc """
  The events of a run.

  `codex exec` sends, in this order: `ThreadStarted`, then warnings as `ItemCompleted` with a
  `Codex.Items.Error`, `TurnStarted`, items, and in the end `TurnCompleted`, or `Error` and
  `TurnFailed`. An `Error` alone ends nothing: the CLI announces its retries that way. Messages
  arrive whole.

  Over an app-server the beginning and the end are the same. Between them are also the user's own
  message, a started item for each completed one, pieces of text and output, and
  `ThreadTokenUsageUpdated` after each response. A review enters its mode before `TurnStarted`.
  Events of sub-agents are in `Child`, if the turn has the option `children: true`.

  Each struct has `extra`, the fields that this version of the SDK does not know, and `lossy`. That
  is true if invalid UTF-8 or lone surrogates in the line were replaced by U+FFFD. An event of an
  unknown type, or without a required field, is a `Codex.Events.Unknown`.
  """

  alias Codex.Events.{Dialects, Schema}
  alias Codex.Items
  require Dialects

  defmodule Unknown do
    @moduledoc """
    An event that this version of the SDK does not know, or a line that is not JSON.

    `raw` is the map, another JSON value, or the bytes of the line. In the last case `error` is
    `{reason, offset}` with the byte at which the line stops being JSON. Reasons: `:eof`, `:syntax`,
    `:trailing`, `:control`, `:escape`, `:number`, `:number_range` (beyond a 64-bit float or 1024
    digits), `:depth` (over 256 levels), `:utf8`.
    """
    defstruct [:type, :raw, :error, lossy: false]

    @typedoc "An event of unknown type, or a line that is not JSON."
    @type t :: %__MODULE__{
            type: String.t() | nil,
            raw: term(),
            error: {atom(), non_neg_integer()} | nil,
            lossy: boolean()
          }
  end

  defmodule AppServerNotification do
    @moduledoc "A notification of the app-server that this version of the SDK does not know."
    @enforce_keys [:method]
    defstruct [:method, params: %{}, lossy: false]
    @typedoc "A notification."
    @type t :: %__MODULE__{method: String.t(), params: map(), lossy: boolean()}
  end

  defmodule Child do
    @moduledoc """
    An event of a sub-agent, with the option `children: true` over an app-server. `thread_id` is the
    thread of the sub-agent, `event` the event of that thread. Sub-agents of a sub-agent are not
    nested: their events are in an event with their own thread.
    """
    @enforce_keys [:thread_id, :event]
    defstruct [:thread_id, :event]
    @typedoc "An event of a sub-agent."
    @type t :: %__MODULE__{thread_id: String.t(), event: Codex.Events.t()}
  end

  specs = Schema.specs(:events)
  common = [{:extra, "map()", default: %{}}, {:lossy, "boolean()", default: false}]

  for spec <- specs do
    Module.create(spec.module, Schema.module_body(spec, common), Macro.Env.location(__ENV__))
  end

  for module <- [Child | Enum.map(specs, & &1.module)] do
    defimpl Inspect, for: module do
      def inspect(event, opts), do: Codex.ShortInspect.data(event, opts)
    end
  end

  @typedoc "Any event."
  @type t ::
          unquote(
            Enum.reduce(
              specs,
              quote(do: Unknown.t() | AppServerNotification.t() | Child.t()),
              fn spec, union ->
                quote(do: unquote(spec.module).t() | unquote(union))
              end
            )
          )

  @doc """
  Makes the event of a string-keyed map.

      iex> Codex.Events.parse!(%{"type" => "thread.started", "thread_id" => "t1"}).thread_id
      "t1"
      iex> Codex.Events.parse!(%{"type" => "weather.changed"})
      %Codex.Events.Unknown{type: "weather.changed", raw: %{"type" => "weather.changed"}}

  Raises `ArgumentError` for anything but a map with a `"type"`, and `KeyError` if a known type
  lacks a required field.
  """
  @spec parse!(map()) :: t()
  def parse!(%{"type" => type} = map) when is_binary(type), do: parse(type, map)

  def parse!(other),
    do: raise(ArgumentError, "expected an event as a map with a \"type\", got: #{inspect(other)}")

  for spec <- specs, {type, consts} <- spec.names do
    defp parse(unquote(type), map), do: read(unquote(Macro.escape(spec)), unquote(consts), map)
  end

  defp parse("child", %{"thread_id" => id, "event" => %{} = event}),
    do: %Child{thread_id: id, event: parse!(event)}

  # Compaction names its stage in the type; an unknown stage stays text.
  compaction = Enum.find(specs, &(&1.module == Codex.Events.TurnCompaction))

  defp parse("turn/compaction" <> stage, map), do: read_compaction(stage, map)
  defp parse("turn.compaction" <> stage, map), do: read_compaction(stage, map)
  defp parse(type, map), do: %Unknown{type: type, raw: map}

  defp read_compaction(stage, map) do
    stage = if stage == "", do: "compaction", else: String.slice(stage, 1..-1//1)
    read(unquote(Macro.escape(compaction)), [stage: stage], map)
  end

  defp read(spec, consts, map), do: Schema.read!(spec, consts, map, &read_kind/2)

  defp read_kind(:item, item), do: Items.parse!(item)
  defp read_kind(:raw_item, item), do: raw_item(item)
  defp read_kind(kind, value), do: Schema.read_kind(kind, value)

  @doc """
  Returns the string-keyed map of an event, as the CLI writes it: the inverse of `parse!/1`. Fields
  that are nil are left out.

      iex> Codex.Events.to_map(%Codex.Events.ThreadStarted{thread_id: "t1"})
      %{"type" => "thread.started", "thread_id" => "t1"}

  Raises `ArgumentError` for an `Unknown` that was no JSON object.
  """
  @spec to_map(t()) :: map()
  def to_map(%Unknown{raw: %{} = raw}), do: raw
  def to_map(%Unknown{} = event), do: raise(ArgumentError, "not a JSON object: #{inspect(event)}")

  def to_map(%AppServerNotification{method: method, params: params}),
    do: %{"method" => method, "params" => params}

  def to_map(%Child{thread_id: id, event: event}),
    do: %{"type" => "child", "thread_id" => id, "event" => to_map(event)}

  def to_map(%Codex.Events.TurnCompaction{stage: stage} = event),
    do: write(unquote(Macro.escape(compaction)), "turn/compaction/#{stage}", event)

  for spec <- specs, spec.module != Codex.Events.TurnCompaction do
    {type, _} = hd(spec.names)

    def to_map(%unquote(spec.module){} = event),
      do: write(unquote(Macro.escape(spec)), unquote(type), event)
  end

  defp write(spec, type, event), do: Schema.write(spec, type, event, &write_kind/2)

  defp write_kind(kind, %_{} = item) when kind in [:item, :raw_item], do: Items.to_map(item)
  defp write_kind(:any, %Items.AgentMessage{text: text}), do: %{"type" => "text", "text" => text}
  defp write_kind(kind, value), do: Schema.write_kind(kind, value)

  ## From the NIF

  @doc false
  @spec from_native([tuple()]) :: [t()]
  def from_native([line | lines]), do: [struct_of(elem(line, 0), line) | from_native(lines)]
  def from_native([]), do: []

  @doc false
  @spec from_native_event(tuple()) :: t()
  def from_native_event(event), do: struct_of(elem(event, 0), event)

  Dialects.structs(:events)

  defp struct_of(:unknown, {_, %{"type" => "turn/compaction" <> _ = type} = map}),
    do: parse(type, map)

  defp struct_of(:unknown, {_, %{"type" => "turn.compaction" <> _ = type} = map}),
    do: parse(type, map)

  defp struct_of(:unknown, {_, %{"type" => type} = map}) when is_binary(type),
    do: %Unknown{type: type, raw: map}

  defp struct_of(:unknown, {_, value}), do: %Unknown{raw: value}
  defp struct_of(:lossy, {_, line}), do: %{struct_of(elem(line, 0), line) | lossy: true}
  defp struct_of(:rejected, {_, bytes, reason, at}), do: %Unknown{raw: bytes, error: {reason, at}}

  defp struct_of(:oversized, {_, size}) do
    message =
      "a line of #{size} bytes is over the byte budget of one line (max_line_bytes) " <>
        "and was dropped"

    dropped(message, %{"line_bytes" => size})
  end

  defp struct_of(:overfull, {_, limit, size}) do
    dropped(
      "a line of #{size} bytes has over #{limit} values and keys (max_line_nodes) and was dropped",
      %{"line_bytes" => size, "max_line_nodes" => limit}
    )
  end

  defp dropped(message, details) do
    %{
      __struct__: Codex.Events.Error,
      message: message,
      additional_details: details,
      codex_error_info: nil,
      will_retry: nil,
      thread_id: nil,
      turn_id: nil,
      extra: %{},
      lossy: false
    }
  end

  defp stand_in(event, stand_ins) do
    Enum.reduce(stand_ins, event, fn {name, other, default}, event ->
      case event do
        %{^name => ^default, extra: %{^other => value} = extra} ->
          %{event | name => value, extra: Map.delete(extra, other)}

        _ ->
          event
      end
    end)
  end

  defp raw_item(%{} = map) do
    case Items.parse_raw_response_item(map) do
      {:ok, item} -> item
      {:error, :invalid_raw_response_item} -> map
    end
  end

  defp raw_item(other), do: other
end
