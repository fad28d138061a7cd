defmodule Codex.Application do
  @moduledoc false
  # Children that wait to be needed: who reads which run, the tasks behind it, what waits for an
  # answer, the directories to remove with their owners, the threads on which files and credentials
  # are read, and what is known of accounts' limits. One that crashes is started anew by itself.
  use Application

  @impl true
  def start(_type, _args) do
    children = [
      Codex.NativePool,
      Codex.Subprocess.Launchers,
      {Registry, keys: :duplicate, name: Codex.Exec.Registry},
      {Registry, keys: :unique, name: Codex.Turn.Registry},
      {Registry, keys: :unique, name: Codex.RunResultStreaming.Registry},
      {Task.Supervisor, name: Codex.TaskSupervisor},
      # Before those that use it: servers end first, and their homes after them.
      Codex.Leftovers,
      Codex.AppServer.Tokens,
      {DynamicSupervisor, name: Codex.AppServer.Supervisor, strategy: :one_for_one},
      Codex.Auth.Runtime,
      Codex.RateLimit.Store
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: Codex.Supervisor)
  end
end
