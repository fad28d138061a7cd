defmodule Mix.CodexCompile do
  @moduledoc false
  # Compiles the project, for tasks with output that programs read.

  @doc "Runs a task that may compile. Messages go to stderr, so that stdout has the result only."
  @spec run(String.t()) :: term()
  def run(task) do
    leader = Process.group_leader()
    Process.group_leader(self(), Process.whereis(:standard_error))

    try do
      Mix.Task.run(task)
    after
      Process.group_leader(self(), leader)
    end
  end
end
