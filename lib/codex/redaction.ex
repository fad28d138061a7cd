defmodule Codex.Redaction do
  @moduledoc false
  # The option `redact`: masks values and patterns of the host in texts. Deltas of a text are held
  # back to the end of their line, because a value may be cut by them.

  alias Codex.Events.{ItemAgentMessageDelta, ItemCompleted}

  @mask "[redacted]"

  # A line without an end is not held back further, in bytes.
  @longest 64 * 1024

  @enforce_keys [:patterns]
  defstruct [:patterns, masked: 0, open: %{}]

  @typedoc "`masked` counts places; `open` has the ends of texts that are held back, by item."
  @type t :: %__MODULE__{
          patterns: [String.t() | Regex.t()],
          masked: non_neg_integer(),
          open: %{term() => struct()}
        }

  # Patterns may be secrets.
  defimpl Inspect do
    def inspect(redaction, _opts),
      do: "#Codex.Redaction<#{length(redaction.patterns)} patterns, #{redaction.masked} masked>"
  end

  @doc "Returns the option: a list of texts and regular expressions."
  @spec cast(term()) :: {:ok, [String.t() | Regex.t()]} | :error
  def cast(pattern) when is_binary(pattern) or is_struct(pattern, Regex), do: cast([pattern])

  def cast(patterns) when is_list(patterns) do
    if not List.improper?(patterns) and Enum.all?(patterns, &pattern?/1),
      do: {:ok, patterns},
      else: :error
  end

  def cast(_other), do: :error

  defp pattern?(%Regex{} = regex), do: not Regex.match?(regex, "")
  defp pattern?(text), do: is_binary(text) and String.valid?(text) and String.trim(text) != ""

  @doc "Returns the masking of a turn, or nil."
  @spec new([String.t() | Regex.t()]) :: t() | nil
  def new([]), do: nil
  # A value that holds another is masked first.
  def new(patterns) do
    {texts, regexes} = Enum.split_with(patterns, &is_binary/1)
    %__MODULE__{patterns: Enum.sort_by(texts, &(-byte_size(&1))) ++ regexes}
  end

  @doc """
  Masks the texts of a term, but not its keys, and returns how many places were masked.

      iex> redaction = Codex.Redaction.new(["hunter2", ~r/sk-\\w+/])
      iex> Codex.Redaction.mask(%{"a" => ["hunter2 and sk-1", 1]}, redaction)
      {%{"a" => ["[redacted] and [redacted]", 1]}, 2}
  """
  @spec mask(term, t()) :: {term, non_neg_integer()} when term: term()
  def mask(text, redaction) when is_binary(text) do
    Enum.reduce(redaction.patterns, {text, 0}, fn pattern, {text, count} ->
      case places(text, pattern) do
        0 -> {text, count}
        n -> {replace(text, pattern), count + n}
      end
    end)
  end

  def mask(%Regex{} = regex, _redaction), do: {regex, 0}

  def mask(%module{} = struct, redaction) do
    {map, count} = struct |> Map.from_struct() |> mask(redaction)
    if count == 0, do: {struct, 0}, else: {struct!(module, map), count}
  end

  def mask(%{} = map, redaction) do
    {pairs, count} =
      Enum.map_reduce(map, 0, fn {key, value}, count ->
        {value, n} = mask(value, redaction)
        {{key, value}, count + n}
      end)

    {if(count == 0, do: map, else: Map.new(pairs)), count}
  end

  def mask([head | tail], redaction) do
    {head, n} = mask(head, redaction)
    {tail, m} = mask(tail, redaction)
    {[head | tail], n + m}
  end

  def mask(tuple, redaction) when is_tuple(tuple) do
    {list, n} = tuple |> Tuple.to_list() |> mask(redaction)
    {List.to_tuple(list), n}
  end

  def mask(other, _redaction), do: {other, 0}

  defp places(text, pattern) when is_binary(pattern), do: length(:binary.matches(text, pattern))

  defp places(text, regex),
    do: if(String.valid?(text), do: length(Regex.scan(regex, text, return: :index)), else: 0)

  defp replace(text, pattern) when is_binary(pattern),
    do: :binary.replace(text, pattern, @mask, [:global])

  defp replace(text, regex), do: Regex.replace(regex, text, @mask)

  @doc "Holds back the elements of a turn, and masks those that are complete."
  @spec elements([element], t() | nil) :: {[element], t() | nil} when element: term()
  def elements(elements, nil), do: {elements, nil}

  def elements(elements, redaction) do
    {elements, redaction} = hold(elements, redaction)
    Enum.flat_map_reduce(elements, redaction, &one/2)
  end

  @doc """
  Holds back the ends of texts that come in pieces, of events and of notifications, without masking
  anything. `release/1` returns the ends that are left.
  """
  @spec hold([element], t()) :: {[element], t()} when element: term()
  def hold(elements, redaction), do: Enum.flat_map_reduce(elements, redaction, &hold_one/2)

  @doc "Returns what is held back."
  @spec release(t()) :: {[term()], t()}
  def release(redaction), do: {Map.values(redaction.open), %{redaction | open: %{}}}

  defp hold_one(element, %{open: open} = redaction) do
    case piece(element) do
      {key, text} ->
        {held, open} = Map.pop(open, key)
        text = if held, do: elem(piece(held), 1) <> text, else: text
        {ready, rest} = split(text)
        open = if rest == "", do: open, else: Map.put(open, key, put_text(element, rest))
        ready = if ready == "", do: [], else: [put_text(element, ready)]
        {ready, %{redaction | open: open}}

      nil when open == %{} ->
        {[element], redaction}

      nil ->
        id = ended(element)
        {own, open} = Enum.split_with(open, fn {key, _event} -> elem(key, 1) == id end)
        {Enum.map(own, &elem(&1, 1)) ++ [element], %{redaction | open: Map.new(open)}}
    end
  end

  # The text of an element that is a piece of a text, with the key of this text.
  defp piece(%{delta: delta, item_id: id} = event) when is_binary(delta) and id != nil do
    key = {event.__struct__, id, Map.get(event, :summary_index), Map.get(event, :content_index)}
    {key, delta}
  end

  defp piece(%ItemAgentMessageDelta{item: %{"id" => id, "text" => text}}) when is_binary(text),
    do: {{ItemAgentMessageDelta, id, nil, nil}, text}

  defp piece({:notification, method, %{"delta" => delta, "itemId" => id} = params})
       when is_binary(delta),
       do: {{method, id, params["summaryIndex"], params["contentIndex"]}, delta}

  defp piece(_whole), do: nil

  defp put_text(%{delta: _} = event, text), do: %{event | delta: text}
  defp put_text(%{item: item} = event, text), do: %{event | item: %{item | "text" => text}}
  defp put_text({kind, method, params}, text), do: {kind, method, %{params | "delta" => text}}

  # The id of the item that an element ends. No key has the id nil.
  defp ended(%ItemCompleted{item: %{id: id}}), do: id
  defp ended({:notification, "item/completed", %{"item" => %{"id" => id}}}), do: id
  defp ended(_element), do: nil

  # A check of the option `until` has a process in it, and a turn of an agent a function.
  defp one({:check, _from, _text} = check, redaction), do: {[check], redaction}

  defp one(element, redaction) do
    {element, count} = mask(element, redaction)
    {[element], %{redaction | masked: redaction.masked + count}}
  end

  defp split(text) when byte_size(text) > @longest, do: {text, ""}

  defp split(text) do
    case :binary.matches(text, "\n") do
      [] ->
        {"", text}

      found ->
        {at, 1} = List.last(found)
        {binary_part(text, 0, at + 1), binary_part(text, at + 1, byte_size(text) - at - 1)}
    end
  end
end
