defmodule Mix.CodexTable do
  @moduledoc false
  # What the tasks share that print a table, or put it between two markers of a guide.

  @doc "Prints `table`, or with `--write FILE` writes it between the two lines of that file that are `marker`."
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
