defmodule Mix.Tasks.Codex.Options do
  @shortdoc "Prints every option of a run and how it reaches the CLI"
  @moduledoc """
  Prints every option of a run: where it may stand, its type, and how it reaches the CLI, as a Markdown table.

      mix codex.options
      mix codex.options --write guides/options.md

  With `--write`, the table takes the place of the one between the markers `<!-- OPTIONS -->` in that file.
  """
  use Mix.Task

  @impl true
  def run(args), do: Mix.CodexTable.run(args, "<!-- OPTIONS -->", Codex.Options.Table.reach())
end
