defmodule Codex.Prompts.Words do
  @moduledoc false
  # Splits a text as a shell does: single quotes keep everything, double quotes know backslashes
  # before `"` and `\`, and a backslash outside of quotes keeps the next character.

  @doc """
  Returns the words, or `:error` for an open quote.

      iex> Codex.Prompts.Words.split(~S(a 'b c' "d \\"e\\"" f\\ g h'i'j ""))
      {:ok, ["a", "b c", ~S(d "e"), "f g", "hij", ""]}
      iex> Codex.Prompts.Words.split(~S(a "b))
      :error
  """
  @spec split(String.t()) :: {:ok, [String.t()]} | :error
  def split(text), do: plain(text, nil, [])

  # `word` is nil between words.
  defp plain("", nil, words), do: {:ok, Enum.reverse(words)}
  defp plain("", word, words), do: {:ok, Enum.reverse([word | words])}

  defp plain(<<char, rest::binary>>, word, words) when char in [?\s, ?\t, ?\r, ?\n],
    do: plain(rest, nil, if(word, do: [word | words], else: words))

  defp plain("'" <> rest, word, words) do
    case String.split(rest, "'", parts: 2) do
      [inside, rest] -> plain(rest, (word || "") <> inside, words)
      [_open] -> :error
    end
  end

  defp plain("\"" <> rest, word, words), do: quoted(rest, word || "", words)

  defp plain(<<"\\", char::utf8, rest::binary>>, word, words),
    do: plain(rest, (word || "") <> <<char::utf8>>, words)

  defp plain(<<byte, rest::binary>>, word, words),
    do: plain(rest, (word || "") <> <<byte>>, words)

  defp quoted("", _word, _words), do: :error
  defp quoted("\"" <> rest, word, words), do: plain(rest, word, words)

  defp quoted(<<"\\", char, rest::binary>>, word, words) when char in [?", ?\\],
    do: quoted(rest, word <> <<char>>, words)

  defp quoted(<<byte, rest::binary>>, word, words), do: quoted(rest, word <> <<byte>>, words)
end
