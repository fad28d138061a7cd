defmodule Codex.Application do
  @moduledoc false
  # Three children that wait to be needed: who reads which run, and the tasks behind it. None keeps state that matters,
  # so one that crashes is started anew by itself.
  use Application

  @impl true
  def start(_type, _args) do
    children = [
      {Registry, keys: :duplicate, name: Codex.Exec.Registry},
      {Registry, keys: :unique, name: Codex.RunResultStreaming.Registry},
      {Task.Supervisor, name: Codex.TaskSupervisor}
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: Codex.Supervisor)
  end
end
