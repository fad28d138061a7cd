defmodule Codex.Items do
  @moduledoc """
  The parts of a turn: messages, reasoning, commands, file changes, tool calls.

  Items arrive inside `Codex.Events.ItemStarted`, `ItemUpdated` and `ItemCompleted`. Each struct has
  `id` (`item_N`, counted within one run of the CLI from 0), `type` (an atom) and `extra`: the
  fields that this version of the SDK does not know, whole. An item of another type is a
  `Codex.Items.Unknown`. A field that was sent as null is nil.
  """

  alias Codex.Events.{Dialects, Schema}
  require Dialects

  defmodule Unknown do
    @moduledoc "An item of a type that this version of the SDK does not know; `raw` is its map."
    defstruct [:id, :type, raw: %{}]
    @typedoc "An item of unknown type."
    @type t :: %__MODULE__{id: String.t() | nil, type: String.t() | nil, raw: term()}
  end

  defmodule RawResponseItem do
    @moduledoc "A raw item of the model's answer: its `type` as text and the rest of its map."
    @enforce_keys [:type, :payload]
    defstruct [:type, :payload]
    @typedoc "A raw item."
    @type t :: %__MODULE__{type: String.t(), payload: map()}
  end

  defmodule HookBlocked do
    @moduledoc """
    An action that a hook refused, so that it did not happen: an item of this package, not of the
    CLI.

      * `id` - the id of the call, if it is known
      * `event` - the event of `Codex.Hooks`
      * `tool`, `input` - the refused call; nil if the CLI does not name it, and for prompts
      * `reason` - the words for the model
      * `thread_id` - the thread, that of a sub-agent if it is one
      * `source` - `:host` for the option `hooks` and options built on it, `:user` for hooks in
        files
    """
    defstruct [
      :id,
      :event,
      :tool,
      :input,
      :reason,
      :thread_id,
      :source,
      type: :hook_blocked,
      extra: %{}
    ]

    @typedoc "A refused action."
    @type t :: %__MODULE__{
            id: String.t() | nil,
            type: :hook_blocked,
            event: Codex.Hooks.name(),
            tool: String.t() | nil,
            input: map() | nil,
            reason: String.t() | nil,
            thread_id: String.t() | nil,
            source: :host | :user,
            extra: map()
          }

    defimpl Inspect do
      def inspect(item, opts), do: Codex.ShortInspect.data(item, opts)
    end
  end

  specs = Schema.specs(:items)

  for spec <- specs do
    atom = Schema.type_atom(spec)
    common = [{:type, inspect(atom), default: atom}, {:extra, "map()", default: %{}}]
    Module.create(spec.module, Schema.module_body(spec, common), Macro.Env.location(__ENV__))
  end

  for spec <- specs do
    defimpl Inspect, for: spec.module do
      def inspect(item, opts), do: Codex.ShortInspect.data(item, opts)
    end
  end

  defimpl String.Chars, for: Codex.Items.AgentMessage do
    def to_string(%{text: text}) when is_binary(text), do: text
    def to_string(_message), do: ""
  end

  @typedoc "Any item."
  @type t ::
          unquote(
            Enum.reduce(
              specs,
              quote(do: Unknown.t() | RawResponseItem.t() | HookBlocked.t()),
              fn spec, union ->
                quote(do: unquote(spec.module).t() | unquote(union))
              end
            )
          )

  @doc """
  Makes the item of a map with string or atom keys.

      iex> Codex.Items.parse!(%{"type" => "agent_message", "id" => "item_0", "text" => "Hi"}).text
      "Hi"
      iex> Codex.Items.parse!(%{"type" => "hologram", "size" => 2})
      %Codex.Items.Unknown{type: "hologram", raw: %{"type" => "hologram", "size" => 2}}

  Raises `ArgumentError` for anything but a map with a `type`, and `KeyError` if a known type lacks
  a required field.
  """
  @spec parse!(map()) :: t()
  def parse!(%{} = map) when not is_struct(map) do
    case Map.new(map, fn {key, value} -> {to_string(key), value} end) do
      %{"type" => type} = map when is_binary(type) ->
        parse(type, map)

      %{"type" => type} = map when is_atom(type) and type != nil ->
        parse(Atom.to_string(type), map)

      other ->
        raise ArgumentError, "expected an item with a \"type\", got: #{inspect(other)}"
    end
  end

  def parse!(other), do: raise(ArgumentError, "expected an item as a map, got: #{inspect(other)}")

  for spec <- specs, {type, []} <- spec.names do
    defp parse(unquote(type), map),
      do: unquote(Macro.escape(spec)) |> Schema.read!([], map, &Schema.read_kind/2) |> finish()
  end

  defp parse(type, map), do: %Unknown{id: map["id"], type: type, raw: map}

  @doc """
  Returns the string-keyed map of an item, as the CLI writes it: the inverse of `parse!/1`. Fields
  that are nil are left out.

      iex> item = Codex.Items.parse!(%{"type" => "error", "id" => "item_0", "message" => "Careful"})
      iex> Codex.Items.to_map(item)
      %{"type" => "error", "id" => "item_0", "message" => "Careful"}
  """
  @spec to_map(t()) :: map()
  def to_map(%Unknown{raw: raw}), do: raw
  def to_map(%RawResponseItem{type: type, payload: payload}), do: Map.put(payload, "type", type)

  def to_map(%HookBlocked{} = item) do
    for {key, value} when value != nil and key != :extra <- Map.from_struct(item),
        into: item.extra,
        do: {Atom.to_string(key), if(is_atom(value), do: Atom.to_string(value), else: value)}
  end

  for spec <- specs do
    {type, _} = hd(spec.names)

    def to_map(%unquote(spec.module){} = item),
      do: Schema.write(unquote(Macro.escape(spec)), unquote(type), item, &Schema.write_kind/2)
  end

  @doc """
  Makes the struct of a raw response item, the form in which the model itself sends items.

      iex> Codex.Items.parse_raw_response_item(%{"type" => "message", "role" => "assistant"})
      {:ok, %Codex.Items.RawResponseItem{type: "message", payload: %{"role" => "assistant"}}}
      iex> Codex.Items.parse_raw_response_item(%{"role" => "assistant"})
      {:error, :invalid_raw_response_item}
  """
  @spec parse_raw_response_item(map()) :: {:ok, t()} | {:error, :invalid_raw_response_item}
  def parse_raw_response_item(%{"type" => type} = map)
      when type in ~w(ghost_snapshot compaction compaction_summary),
      do: {:ok, parse(type, map)}

  def parse_raw_response_item(%{"type" => type} = map) when is_binary(type),
    do: {:ok, %RawResponseItem{type: type, payload: Map.delete(map, "type")}}

  def parse_raw_response_item(_other), do: {:error, :invalid_raw_response_item}

  ## From the NIF

  @doc false
  def from_native(tuple) when is_tuple(tuple), do: struct_of(elem(tuple, 0), tuple)
  def from_native(%{} = map), do: %Unknown{id: map["id"], type: map["type"], raw: map}
  def from_native(other), do: %Unknown{raw: other}

  Dialects.structs(:items)

  # Reasoning without a text of its own has its parts as text, one a line.
  defp finish(%{type: :reasoning, text: nil} = item) do
    parts = Enum.filter(List.wrap(item.summary) ++ List.wrap(item.content), &is_binary/1)
    %{item | text: Enum.join(parts, "\n")}
  end

  defp finish(item), do: item
end
