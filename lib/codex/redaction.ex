defmodule Codex.Redaction do
  @moduledoc false
  # The option `redact`: masks values and patterns of the host in texts. Deltas of a text are held
  # back to the end of their line, because a value may be cut by them.

  alias Codex.Events.ItemCompleted

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

  @doc "Masks the elements of a turn."
  @spec elements([element], t() | nil) :: {[element], t() | nil} when element: term()
  def elements(elements, nil), do: {elements, nil}
  def elements(elements, redaction), do: Enum.flat_map_reduce(elements, redaction, &element/2)

  # A check of the option `until` has a process in it, and a turn of an agent a function.
  defp element({:check, _from, _text} = check, redaction), do: {[check], redaction}

  defp element(%{delta: delta, item_id: id} = event, redaction)
       when is_binary(delta) and id != nil do
    key = {event.__struct__, id, Map.get(event, :summary_index), Map.get(event, :content_index)}
    {held, open} = Map.pop(redaction.open, key)
    text = if held, do: held.delta <> delta, else: delta
    {ready, rest} = split(text)
    open = if rest == "", do: open, else: Map.put(open, key, %{event | delta: rest})
    redaction = %{redaction | open: open}
    if ready == "", do: {[], redaction}, else: one(%{event | delta: ready}, redaction)
  end

  defp element(%ItemCompleted{item: %{id: id}} = event, %{open: open} = redaction)
       when open != %{} do
    {own, open} = Enum.split_with(open, fn {key, _event} -> elem(key, 1) == id end)
    redaction = %{redaction | open: Map.new(open)}
    Enum.flat_map_reduce(Enum.map(own, &elem(&1, 1)) ++ [event], redaction, &one/2)
  end

  defp element(element, redaction), do: one(element, redaction)

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
