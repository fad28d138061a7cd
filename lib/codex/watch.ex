defmodule Codex.Watch do
  @moduledoc false
  # Processes that work for another one, and are not to outlive it however it ends.

  @doc """
  Kills the calling process when `owner` ends. The link alone would not: a normal exit of the owner passes it by, and who traps exits
  goes on. What watches ends with either of them.
  """
  @spec end_with(pid()) :: pid()
  def end_with(owner) do
    worker = self()

    spawn_link(fn ->
      owner = Process.monitor(owner)
      monitor = Process.monitor(worker)

      receive do
        {:DOWN, ^owner, :process, _, _} -> Process.exit(worker, :kill)
        {:DOWN, ^monitor, :process, _, _} -> :ok
      end
    end)
  end
end
