defmodule Codex.Agent.HandoffTool do
  @moduledoc false
  # The host tool of a handoff. A run of `Codex.AgentRunner` handles its calls; this function
  # answers a model that still knows the tool in another run.

  @behaviour Codex.Tool

  @impl true
  def invoke(_args, _context), do: {:error, "no agent takes over in this run"}
end
