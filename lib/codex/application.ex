defmodule Codex.Application do
  @moduledoc false
  # Children that idle until they are needed: readers of runs, background tasks, open requests, the
  # directories to remove with their owners, the staged files, the threads that read files and
  # credentials, the hooks of threads, the known limits of accounts and their gates, the groups of
  # nodes that run jobs, the registered tools, and the commands of tools. Each restarts alone after
  # a crash.
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
      # Before its users: servers end first, then their homes are removed.
      Codex.TemporaryDirectories,
      {Codex.Files.Registry, Codex.Files.Registry.private()},
      Codex.AppServer.RequestId,
      {Registry, keys: :unique, name: Codex.AppServer.HooksRegistry},
      {DynamicSupervisor, name: Codex.AppServer.Supervisor, strategy: :one_for_one},
      {DynamicSupervisor, name: Codex.MCP.Supervisor, strategy: :one_for_one},
      Codex.Auth.Runtime,
      Codex.RateLimit.Store,
      Codex.RateLimit.Gate,
      Codex.Batch.Node.scope(),
      Codex.Tools.Tables,
      {Registry, keys: :duplicate, name: Codex.Tools.Terminals},
      {DynamicSupervisor, name: Codex.Tools.Supervisor, strategy: :one_for_one}
    ]

    # The children need not each other, so their crashes add up; the default of three in five
    # seconds would end the application for a few that are killed together.
    limit = [max_restarts: 20, max_seconds: 5]
    Supervisor.start_link(children, [strategy: :one_for_one, name: Codex.Supervisor] ++ limit)
  end
end
