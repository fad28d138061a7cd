defmodule Codex.Surface.Json do
  @moduledoc false
  # Reads and writes JSON files whose lines can be compared: keys are sorted, and a value that does
  # not fit on a line has its members on lines of their own.

  @columns 100

  @doc "Reads the text. Raises `ArgumentError` if it is not a JSON object."
  @spec read!(String.t()) :: map()
  def read!(text) do
    case Codex.JSON.decode(text) do
      {:ok, %{} = map} -> map
      _other -> raise ArgumentError, "expected a JSON object, got: #{String.slice(text, 0, 200)}"
    end
  end

  @doc ~S"""
  Writes the text; inverse of `read!/1`.

      iex> Codex.Surface.Json.write(%{"b" => [1], "a" => %{}})
      "{\"a\": {}, \"b\": [1]}\n"
  """
  @spec write(term()) :: String.t()
  def write(term), do: IO.iodata_to_binary([write(term, 0), "\n"])

  defp write(term, indent) do
    line = line(term)

    if container?(term) and indent + String.length(line) > @columns,
      do: lines(term, indent + 2),
      else: line
  end

  defp container?(term),
    do: (is_map(term) and map_size(term) > 0) or (is_list(term) and term != [])

  defp lines(%{} = map, indent) do
    members = for {key, value} <- sort(map), do: [line(key), ": ", write(value, indent)]
    block(members, "{", "}", indent)
  end

  defp lines(list, indent), do: list |> Enum.map(&write(&1, indent)) |> block("[", "]", indent)

  defp block(members, first, last, indent) do
    space = String.duplicate(" ", indent)
    members = Enum.map_intersperse(members, ",\n", &[space, &1])
    [first, "\n", members, "\n", String.duplicate(" ", indent - 2), last]
  end

  defp line(%{} = map),
    do: "{" <> Enum.map_join(sort(map), ", ", fn {k, v} -> line(k) <> ": " <> line(v) end) <> "}"

  defp line(list) when is_list(list), do: "[" <> Enum.map_join(list, ", ", &line/1) <> "]"
  defp line(plain), do: Codex.JSON.encode!(plain)

  defp sort(map), do: Enum.sort_by(map, &elem(&1, 0))
end
