defmodule Codex.Batch.HostTool do
  @moduledoc false
  # A tool whose calls run on the node that gave the job, see `Codex.Batch.Travel`.
  @behaviour Codex.Tool

  @impl true
  def invoke(args, context) do
    remote = context.metadata.remote
    remote.(args, Map.drop(context, [:metadata, :tool]))
  end
end
