defmodule Mix.Tasks.Codex.Errors do
  @shortdoc "Prints every kind of Codex.Error, what it means and what to do"
  @moduledoc """
  Prints every kind of `Codex.Error`: whether it is retryable, what it means and what to do, as a Markdown table.

      mix codex.errors
      mix codex.errors --write guides/errors.md

  With `--write`, the table takes the place of the one between the markers `<!-- KINDS -->` in that file.
  """
  use Mix.Task

  @impl true
  def run(args), do: Mix.CodexTable.run(args, "<!-- KINDS -->", Codex.Error.Kinds.table())
end
