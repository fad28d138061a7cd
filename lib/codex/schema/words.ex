defmodule Codex.Schema.Words do
  @moduledoc false
  # Sentences about invalid schemas, and about the faults of answers.

  alias Codex.Schema.ProviderLimits

  @doc """
  Returns a sentence about a schema without a strict form.

      iex> Codex.Schema.Words.invalid(["properties", "a"], "not")
      "the schema at properties.a has no strict form: \\"not\\" is not supported there, or its " <>
        "value is invalid"
  """
  @spec invalid([String.t() | non_neg_integer()], String.t()) :: String.t()
  def invalid(path, keyword) do
    at = if path == [], do: "", else: " at #{join(path)}"
    "the schema#{at} has no strict form: #{why(keyword)}"
  end

  defp why("root"), do: "expected a plain object at the root, no union, reference or other type"
  defp why("any"), do: "it allows every value; say which with a type"
  defp why("type"), do: "it has no type, or an unknown one"
  defp why("items"), do: "a list needs the schema of its items"
  defp why("properties"), do: "an object needs its properties"
  defp why("required"), do: "a name of \"required\" is not in \"properties\""
  defp why("additionalProperties"), do: "objects are closed; leave out additionalProperties"
  defp why("not JSON"), do: "the term there has no form in JSON"

  defp why("$ref"),
    do: "a \"$ref\" must name the root or a definition of the root, without keywords beside it"

  defp why(keyword) do
    ProviderLimits.words(keyword) ||
      "#{inspect(keyword)} is not supported there, or its value is invalid"
  end

  @doc """
  Returns the faults of an answer as text, each with its path.

      iex> Codex.Schema.Words.faults([%{path: ["a", 0], message: "is wrong"}], "; ")
      "a.0 is wrong"
  """
  @spec faults([Codex.Schema.fault()], String.t()) :: String.t()
  def faults(faults, separator) do
    Enum.map_join(faults, separator, fn
      %{path: [], message: message} -> "the answer: #{message}"
      %{path: path, message: message} -> "#{join(path)} #{message}"
    end)
  end

  defp join(path), do: Enum.join(path, ".")
end
