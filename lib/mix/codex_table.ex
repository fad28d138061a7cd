defmodule Mix.CodexTable do
  @moduledoc false
  # Prints a table, or writes it between two markers of a guide, for several tasks.

  @doc """
  Prints `table`. With `--write FILE`, writes it between the two lines of FILE that equal `marker`.
  """
  @spec run([String.t()], String.t(), String.t()) :: :ok
  def run([], _marker, table), do: Mix.shell().info(table)

  def run(["--write", path], marker, table) do
    case path |> File.read!() |> String.split(marker) do
      [before, _table, rest] ->
        File.write!(path, [before, marker, "\n", table, "\n", marker, rest])

      _ ->
        Mix.raise("#{path} must have two lines with #{marker}")
    end
  end

  def run(args, _marker, _table),
    do: Mix.raise("expected no argument or `--write FILE`, got: #{inspect(args)}")
end
