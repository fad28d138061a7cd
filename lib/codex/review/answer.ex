defmodule Codex.Review.Answer do
  @moduledoc false
  # Finds the JSON in the answer of a reviewing model. The model may put it into a fence or add
  # prose.

  # A longer text, or a text with more objects, is not searched.
  @longest 1024 * 1024
  @most 64

  @doc """
  The decoded JSON of an answer, and whether the answer is nothing else; nil if there is none.

  Several objects with findings become one, with all of their findings.
  """
  @spec output(String.t()) :: {:whole | :part, map()} | nil
  def output(text) do
    case Codex.Turn.Answer.decode(text) do
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

  # A list that is empty counts if no other one stands beside it: a repeated name or an object
  # that was cut.
  defp sure(how, %{"findings" => []} = output, text) do
    if length(:binary.matches(text, ~s("findings"))) == 1, do: {how, output}
  end

  defp sure(how, output, _text), do: {how, output}

  defp merge(%{"findings" => new} = later, %{"findings" => old})
       when is_list(new) and is_list(old),
       do: %{later | "findings" => old ++ new}

  # Not a list: the whole is none.
  defp merge(later, earlier),
    do: %{later | "findings" => [later["findings"], earlier["findings"]]}

  # The objects with findings, the last first.
  defp search(_text, 0, found), do: found

  defp search(text, left, found) do
    with {at, 1} <- :binary.match(text, "{"),
         text = binary_part(text, at, byte_size(text) - at),
         {:ok, size} <- size(text),
         {:ok, %{"findings" => _} = output} <- Codex.JSON.decode(binary_part(text, 0, size)) do
      text |> binary_part(size, byte_size(text) - size) |> search(left - 1, [output | found])
    else
      :nomatch -> found
      _ -> text |> after_brace() |> search(left - 1, found)
    end
  end

  defp after_brace(text) do
    [_, rest] = :binary.split(text, "{")
    rest
  end

  # How long the object is that begins here.
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
