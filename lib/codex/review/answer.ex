defmodule Codex.Review.Answer do
  @moduledoc false
  # Finds the JSON in the answer of a reviewing model. The model may put it into a fence or add
  # prose.

  # A longer text, or a text with more objects, is not searched.
  @longest 1024 * 1024
  @most 64

  @doc """
  Returns the decoded JSON of an answer, and whether the answer has nothing else; nil if it has no
  JSON.

  Several objects with findings are merged. An empty list of findings counts only in an object that
  shares no line with prose, because prose may quote such an object.
  """
  @spec output(String.t()) :: {:whole | :part, map()} | nil
  def output(text) do
    case Codex.JSON.Answer.decode(text) do
      {:ok, %{"findings" => _} = output} -> sure(:whole, output, text)
      _ -> if byte_size(text) <= @longest, do: part(text)
    end
  end

  defp part(text) do
    case search(text, @most, []) do
      [] -> nil
      outputs -> sure(:part, outputs |> Enum.reverse() |> Enum.reduce(&merge/2), text)
    end
  end

  # An empty list counts only if the text has no other list: neither a repeated key nor a truncated
  # object.
  defp sure(how, %{"findings" => []} = output, text) do
    if length(:binary.matches(text, ~s("findings"))) == 1, do: {how, output}
  end

  defp sure(how, output, _text), do: {how, output}

  defp merge(%{"findings" => new} = later, %{"findings" => old})
       when is_list(new) and is_list(old),
       do: %{later | "findings" => old ++ new}

  # The findings are not a list, so the merged findings are invalid, too.
  defp merge(later, earlier),
    do: %{later | "findings" => [later["findings"], earlier["findings"]]}

  # The objects with findings, the last first.
  defp search(text, left, found, before \\ "")
  defp search(_text, 0, found, _before), do: found

  defp search(text, left, found, before) do
    with {at, 1} <- :binary.match(text, "{"),
         {skipped, text} = :erlang.split_binary(text, at),
         {:ok, size} <- size(text),
         {object, rest} = :erlang.split_binary(text, size),
         {:ok, %{"findings" => findings} = output} <- Codex.JSON.decode(object) do
      alone? = findings != [] or alone?(before <> skipped, rest)
      search(rest, left - 1, if(alone?, do: [output | found], else: found), "}")
    else
      :nomatch -> found
      _ -> text |> after_brace() |> search(left - 1, found, "{")
    end
  end

  defp alone?(before, rest) do
    blank?(before |> String.split("\n") |> List.last()) and
      blank?(rest |> :binary.split("\n") |> hd())
  end

  # A fence may follow.
  defp blank?(line), do: line =~ ~r/\A[\s`~]*\z/

  defp after_brace(text) do
    [_, rest] = :binary.split(text, "{")
    rest
  end

  # Returns the length of the object that begins here.
  defp size(text), do: size(text, 0, 0)

  defp size(<<?{, rest::binary>>, depth, n), do: size(rest, depth + 1, n + 1)
  defp size(<<?}, _::binary>>, 1, n), do: {:ok, n + 1}
  defp size(<<?}, rest::binary>>, depth, n), do: size(rest, depth - 1, n + 1)
  defp size(<<?", rest::binary>>, depth, n), do: string(rest, depth, n + 1)
  defp size(<<_, rest::binary>>, depth, n), do: size(rest, depth, n + 1)
  defp size("", _depth, _n), do: :cut

  defp string(<<?\\, _, rest::binary>>, depth, n), do: string(rest, depth, n + 2)
  defp string(<<?", rest::binary>>, depth, n), do: size(rest, depth, n + 1)
  defp string(<<_, rest::binary>>, depth, n), do: string(rest, depth, n + 1)
  defp string("", _depth, _n), do: :cut
end
