defmodule Mix.CodexList do
  @moduledoc false
  # Prints a Markdown list, or writes it between two markers of a guide, for several tasks.

  @width 100

  @doc """
  Prints the list of `items`. With `--write FILE`, writes it between the two lines of FILE that
  equal `marker`.
  """
  @spec run([String.t()], String.t(), [String.t()]) :: :ok
  def run([], _marker, items), do: Mix.shell().info(render(items))

  def run(["--write", path], marker, items) do
    case path |> File.read!() |> String.split(marker) do
      [before, _list, rest] ->
        File.write!(path, [before, marker, "\n", render(items), "\n", marker, rest])

      _ ->
        Mix.raise("#{path} must have two lines with #{marker}")
    end
  end

  def run(args, _marker, _items),
    do: Mix.raise("expected no argument or `--write FILE`, got: #{inspect(args)}")

  @doc "Formats texts as a Markdown list with short lines."
  @spec render([String.t()]) :: String.t()
  def render(items), do: Enum.map_join(items, "\n", &wrap/1)

  defp wrap(item) do
    {lines, line} =
      item
      |> String.split()
      |> Enum.reduce({[], "*"}, fn word, {lines, line} ->
        if String.length(line) + 1 + String.length(word) > @width,
          do: {[line | lines], "  " <> word},
          else: {lines, line <> " " <> word}
      end)

    Enum.join(Enum.reverse([line | lines]), "\n")
  end
end
