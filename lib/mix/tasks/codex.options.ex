defmodule Mix.Tasks.Codex.Options do
  @shortdoc "Prints every option of a run and how it reaches the CLI"
  @moduledoc """
  Prints a Markdown list of the options of a run: the lists that take an option, its type, and the
  form in which the CLI gets it.

      mix codex.options
      mix codex.options --write guides/options.md

  With `--write`, the list replaces the list between the markers `<!-- OPTIONS -->` of that file.
  """
  use Mix.Task

  alias Codex.Options.Table

  @impl true
  def run(args), do: Mix.CodexList.run(args, "<!-- OPTIONS -->", Table.reach())
end
