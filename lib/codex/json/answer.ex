defmodule Codex.JSON.Answer do
  @moduledoc false
  # Decodes the answer of a turn with an output schema. Providers that do not enforce schemas pass
  # on the model's answer unchanged, in a Markdown fence or with a byte order mark. The CLI does not
  # check it.

  @byte_order_mark "\uFEFF"

  @doc """
  Decodes a JSON document. Removes one Markdown fence around the whole text, and byte order marks
  and blanks around the document. Other text around it is an error, whose offset counts in `text`.

      iex> Codex.JSON.Answer.decode("```json\\n{\\"a\\":1}\\n```\\n")
      {:ok, %{"a" => 1}}
      iex> Codex.JSON.Answer.decode("Here it is: 1")
      {:error, {:syntax, 0}}
  """
  @spec decode(String.t()) :: {:ok, term()} | {:error, {atom(), non_neg_integer()}}
  def decode(text) do
    with {:error, reason} <- Codex.JSON.decode(text),
         {:error, _} <- text |> trim() |> unfenced() |> trim() |> Codex.JSON.decode(),
         do: {:error, reason}
  end

  defp trim(text) do
    case String.trim(text) do
      @byte_order_mark <> rest -> trim(rest)
      text -> String.trim_trailing(text, @byte_order_mark)
    end
  end

  # The opening line may name a language; the closing fence is the end of the text.
  defp unfenced(text) do
    case Regex.run(~r/\A(`{3,}|~{3,})[^`\n]*\n(.*)\1\z/s, text) do
      [_, _fence, inside] -> inside
      nil -> text
    end
  end
end
