defmodule Codex.Terminal.Pieces do
  @moduledoc false
  # Texts that come in pieces, cut anywhere: also in a character or in an escape sequence, which is
  # held back until it is complete, so that no sequence can be put together on the terminal. Pure.

  alias Codex.Text

  # Texts that have not ended. Older ones are forgotten: their end is printed as a whole.
  @most 100

  # `open` is the key of the text whose line is not complete, `texts` has for each key the bytes
  # that came, and those that are held back.
  defstruct open: nil, texts: %{}

  @type t :: %__MODULE__{
          open: {term()} | nil,
          texts: %{term() => {non_neg_integer(), binary()}}
        }

  @doc "Returns whether a line is open."
  @spec open?(t()) :: boolean()
  def open?(pieces), do: pieces.open != nil

  @doc """
  Adds a piece and returns the text to write.

      iex> alias Codex.Terminal.Pieces
      iex> {"a", pieces} = Pieces.add(%Pieces{}, "m", "a\\e[3", "")
      iex> {text, _pieces} = Pieces.add(pieces, "m", "1mred", "")
      iex> text
      "red"
  """
  @spec add(t(), term(), binary(), String.t()) :: {String.t(), t()}
  def add(pieces, key, bytes, prefix) do
    {came, held} = Map.get(pieces.texts, key, {0, ""})
    {ready, rest} = Text.split(held <> bytes)
    text = {came + byte_size(bytes), rest}
    texts = if map_size(pieces.texts) < @most, do: pieces.texts, else: %{}
    print(%{pieces | texts: Map.put(texts, key, text)}, key, ready, prefix)
  end

  @doc """
  Ends a text, which is known now: returns what is missing of it, and the end of its line.
  `:unknown` if no piece of it came.
  """
  @spec complete(t(), term(), binary(), String.t()) :: {String.t(), t()} | :unknown
  def complete(pieces, key, text, prefix) do
    case Map.pop(pieces.texts, key) do
      {nil, _texts} ->
        :unknown

      {{came, held}, texts} ->
        missing = binary_part(text, min(came, byte_size(text)), max(byte_size(text) - came, 0))
        {last, pieces} = print(%{pieces | texts: texts}, key, held <> missing, prefix)
        {break, pieces} = break(pieces)
        {last <> break, pieces}
    end
  end

  @doc "Ends the open line."
  @spec break(t()) :: {String.t(), t()}
  def break(%{open: nil} = pieces), do: {"", pieces}
  def break(pieces), do: {"\n", %{pieces | open: nil}}

  @doc "Ends all texts."
  @spec finish(t()) :: {String.t(), t()}
  def finish(pieces) do
    {break, pieces} = break(pieces)
    {break, %{pieces | texts: %{}}}
  end

  defp print(pieces, _key, "", _prefix), do: {"", pieces}

  defp print(pieces, key, bytes, prefix) do
    case Text.printable(bytes) do
      "" ->
        {"", pieces}

      text ->
        {break, pieces} = if pieces.open == {key}, do: {"", pieces}, else: break(pieces)
        begin = if pieces.open, do: "", else: prefix
        ended? = String.ends_with?(text, "\n")
        body = if ended?, do: binary_part(text, 0, byte_size(text) - 1), else: text
        lines = String.replace(body, "\n", "\n" <> prefix)
        line = if ended?, do: "\n", else: ""
        {break <> begin <> lines <> line, %{pieces | open: if(ended?, do: nil, else: {key})}}
    end
  end
end
