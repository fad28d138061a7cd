defmodule Codex.Surface.Overlay do
  @moduledoc false
  # Facts of the CLI that it does not tell, in `dev/cli/overlay.json`, by part.

  @path Path.expand("../../cli/overlay.json", __DIR__)
  @external_resource @path
  @json File.read!(@path)

  @doc "Returns the facts for a part."
  @spec of(String.t()) :: map()
  def of(part) do
    {:ok, facts} = Codex.JSON.decode(@json)
    Map.get(facts, part, %{})
  end
end
