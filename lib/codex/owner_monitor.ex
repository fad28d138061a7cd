defmodule Codex.OwnerMonitor do
  @moduledoc false
  # Ends processes that work for another process, however that one ends.

  @doc """
  Kills the calling process when `owner` ends.

  A link alone would not: a normal exit of the owner passes it by, and a process that traps exits
  goes on. The monitor ends with either of them.
  """
  @spec start(pid()) :: pid()
  def start(owner) do
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
