defmodule Mix.Tasks.Codex.Events do
  @shortdoc "Prints every event and item with its fields"
  @moduledoc """
  Prints two Markdown lists: the structs of `Codex.Events`, and those of `Codex.Items`, each with
  its meaning, its types on the wire and its fields.

      mix codex.events
      mix codex.events --write guides/events.md

  With `--write`, the lists replace those between the markers `<!-- EVENTS -->` and `<!-- ITEMS -->`
  of that file.
  """
  use Mix.Task

  alias Codex.Events.Schema

  @impl true
  def run(args) do
    Mix.CodexList.run(args, "<!-- EVENTS -->", Schema.guide(:events))
    Mix.CodexList.run(args, "<!-- ITEMS -->", Schema.guide(:items))
  end
end
