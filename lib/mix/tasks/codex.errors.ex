defmodule Mix.Tasks.Codex.Errors do
  @shortdoc "Prints the kinds of Codex.Error with meaning and advice"
  @moduledoc """
  Prints a Markdown list of the kinds of `Codex.Error`: whether a kind is retryable, its meaning,
  and advice.

      mix codex.errors
      mix codex.errors --write guides/errors.md

  With `--write`, the list replaces the list between the markers `<!-- KINDS -->` of that file.
  """
  use Mix.Task

  alias Codex.Error.Kinds

  @impl true
  def run(args), do: Mix.CodexList.run(args, "<!-- KINDS -->", Kinds.guide())
end
