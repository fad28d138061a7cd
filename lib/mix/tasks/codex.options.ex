defmodule Mix.Tasks.Codex.Options do
  @shortdoc "Prints every option of a run and how it reaches the CLI"
  @moduledoc """
  Prints every option of a run: where it may stand, its type, and how it reaches the CLI, as a Markdown table.

      mix codex.options
      mix codex.options --write guides/options.md

  With `--write`, the table takes the place of the one between the markers `<!-- OPTIONS -->` in that file.
  """
  use Mix.Task

  alias Codex.Options.Table

  @marker "<!-- OPTIONS -->"

  @impl true
  def run(args) do
    case args do
      [] -> Mix.shell().info(Table.reach())
      ["--write", path] -> write(path)
      _ -> Mix.raise("expected no argument or `--write FILE`, got: #{Enum.join(args, " ")}")
    end
  end

  defp write(path) do
    case path |> File.read!() |> String.split(@marker) do
      [before, _table, rest] ->
        File.write!(path, [before, @marker, "\n", Table.reach(), "\n", @marker, rest])

      _ ->
        Mix.raise("#{path} must have two lines with #{@marker}")
    end
  end
end
