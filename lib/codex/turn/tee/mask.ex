defmodule Codex.Turn.Tee.Mask do
  @moduledoc false
  # Masks secrets in a line: known texts, texts that have the shape of a key, and the option
  # `redact`. A line without any of them is returned as it came.

  alias Codex.Error.Redact
  alias Codex.{JSON, Redaction, Text}

  # A string of JSON in a string of JSON, such as the arguments of a tool, is escaped twice.
  @levels 2
  # Shorter lines of a secret are ordinary words.
  @shortest 6

  @enforce_keys [:found, :redaction, :always?]
  defstruct [:found, :redaction, :always?]

  @type t :: %__MODULE__{
          found: :binary.cp(),
          redaction: Redaction.t(),
          always?: boolean()
        }

  @doc "Returns the masking of secrets and of the option `redact`."
  @spec new([String.t()], [String.t() | Regex.t()]) :: t()
  def new(secrets, patterns) do
    {texts, regexes} = Enum.split_with(patterns, &is_binary/1)
    texts = Enum.flat_map(secrets ++ texts, &[&1 | lines(&1)])
    texts = for text <- texts, form <- forms(text, @levels), uniq: true, do: form

    %__MODULE__{
      found: :binary.compile_pattern(texts ++ Redact.parts()),
      redaction: Redaction.new(texts ++ regexes ++ Redact.shapes()),
      always?: regexes != []
    }
  end

  # Lines are masked one by one, so those of a secret with several lines are secrets, too.
  defp lines(text) do
    case String.split(text, ["\r\n", "\n"]) do
      [_line] -> []
      lines -> Enum.filter(lines, &(byte_size(&1) >= @shortest))
    end
  end

  defp forms(text, 0), do: [text]

  defp forms(text, levels) do
    quoted = JSON.encode!(text)
    [text | forms(binary_part(quoted, 1, byte_size(quoted) - 2), levels - 1)]
  end

  @doc """
  Masks a line. A line of JSON stays JSON: its strings are masked, and it is encoded anew.

      iex> alias Codex.Turn.Tee.Mask
      iex> mask = Mask.new(["hunter2"], [])
      iex> Mask.line(~s({"b": "hunter2", "a": 1}), mask)
      ~s({"a":1,"b":"[redacted]"})
      iex> Mask.line("the password is hunter2", mask)
      "the password is [redacted]"
  """
  @spec line(binary(), t()) :: binary()
  def line(line, mask) do
    if mask.always? or :binary.match(line, mask.found) != :nomatch,
      do: masked(line, mask.redaction),
      else: line
  end

  defp masked(line, redaction) do
    with {:ok, term} when is_map(term) <- JSON.decode(line),
         {term, count} <- Redaction.mask(term, redaction) do
      if count == 0, do: line, else: JSON.encode!(term)
    else
      _text -> line |> Text.utf8() |> Redaction.mask(redaction) |> elem(0)
    end
  end
end
