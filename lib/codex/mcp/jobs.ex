defmodule Codex.MCP.Jobs do
  @moduledoc false
  # The handlers that run for requests of the server: a process with a time limit for each, which
  # sends `{:handled, job, answer}` to the connection, or `{:handler_late, job}` comes.

  alias Codex.MCP.{Handlers, State}
  alias Codex.OwnerMonitor

  @type t :: %{State.job() => map()}

  @doc "Starts the handler of a request, for this process."
  @spec start(t(), State.job(), String.t(), map(), map()) :: t()
  def start(jobs, job, method, params, options) do
    owner = self()
    context = %{server_name: options.server_name, client: owner}

    {:ok, pid} =
      Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
        OwnerMonitor.start(owner)
        send(owner, {:handled, job, Handlers.run(options.handlers, method, params, context)})
      end)

    timer = Process.send_after(owner, {:handler_late, job}, options.handler_timeout_ms)
    entry = %{pid: pid, monitor: Process.monitor(pid), timer: timer, method: method}
    Map.put(jobs, job, entry)
  end

  @doc "Ends a job. Returns the method of its request, or nil for a job that is over."
  @spec stop(t(), State.job()) :: {String.t() | nil, t()}
  def stop(jobs, job) do
    case Map.pop(jobs, job) do
      {nil, jobs} ->
        {nil, jobs}

      {entry, jobs} ->
        _ = Process.cancel_timer(entry.timer)
        Process.demonitor(entry.monitor, [:flush])
        Process.exit(entry.pid, :kill)
        {entry.method, jobs}
    end
  end

  @doc "Returns the job whose process has this monitor, or nil."
  @spec find(t(), reference()) :: State.job() | nil
  def find(jobs, monitor),
    do: Enum.find_value(jobs, fn {job, entry} -> if entry.monitor == monitor, do: job end)
end
