defmodule Codex.Schema.Pointer do
  @moduledoc false
  # References of a JSON schema to its own parts: `#`, or `#/` and the names of a path.

  @doc """
  Returns the part of a schema that a `$ref` names, or nil for a part that is missing or elsewhere.

      iex> root = %{"$defs" => %{"a/b" => %{"type" => "string"}}}
      iex> Codex.Schema.Pointer.resolve(root, "#/$defs/a~1b")
      %{"type" => "string"}
      iex> Codex.Schema.Pointer.resolve(root, "https://example.org/schema")
      nil
  """
  @spec resolve(term(), term()) :: term() | nil
  def resolve(root, "#"), do: root

  def resolve(root, "#/" <> path) do
    path
    |> String.split("/", trim: true)
    |> Enum.reduce_while(root, fn name, at ->
      case step(at, unescape(name)) do
        nil -> {:halt, nil}
        next -> {:cont, next}
      end
    end)
  end

  def resolve(_root, _ref), do: nil

  @doc "Returns the name behind `prefix` in a reference, or nil if there are further names."
  @spec name(String.t(), String.t()) :: String.t() | nil
  def name(ref, prefix) do
    with true <- String.starts_with?(ref, prefix),
         name = binary_part(ref, byte_size(prefix), byte_size(ref) - byte_size(prefix)),
         false <- name == "" or String.contains?(name, "/") do
      unescape(name)
    else
      _ -> nil
    end
  end

  @doc "Returns a name as it stands in a reference."
  @spec escape(String.t()) :: String.t()
  def escape(name), do: name |> String.replace("~", "~0") |> String.replace("/", "~1")

  defp unescape(name), do: name |> String.replace("~1", "/") |> String.replace("~0", "~")

  defp step(%{} = at, name), do: Map.get(at, name)

  defp step(list, index) when is_list(list) do
    case Integer.parse(index) do
      {n, ""} when n >= 0 -> Enum.at(list, n)
      _ -> nil
    end
  end

  defp step(_other, _name), do: nil
end
