defmodule Codex.Guardrail.Check do
  @moduledoc false
  # Runs several guardrails: the blocking ones in order, then the parallel ones at once. Each runs
  # in a process of its own, which ends with the caller and with its time. The first failure in the
  # order of the list counts.

  alias Codex.{Guardrail, GuardrailError, OwnerMonitor, ToolGuardrail}

  @type guardrail :: Guardrail.t() | ToolGuardrail.t()

  @doc "Runs guardrails; `arguments` are those of `run` behind the guardrail itself."
  @spec all([guardrail()], [term()]) :: :ok | {:error, guardrail(), GuardrailError.t()}
  def all(guardrails, arguments) do
    {parallel, blocking} = Enum.split_with(guardrails, & &1.run_in_parallel)
    with :ok <- in_order(blocking, arguments), do: at_once(parallel, arguments)
  end

  @doc "Returns the error of guardrails whose process was ended."
  @spec failed(atom()) :: GuardrailError.t()
  def failed(stage) do
    message = "the guardrails were ended before they had a result"
    GuardrailError.exception(stage: stage, guardrail: "guardrails", message: message)
  end

  defp in_order([], _arguments), do: :ok

  defp in_order([guardrail | rest], arguments) do
    with :ok <- at_once([guardrail], arguments), do: in_order(rest, arguments)
  end

  defp at_once(guardrails, arguments) do
    now = System.monotonic_time(:millisecond)
    tasks = for guardrail <- guardrails, do: {guardrail, start(guardrail, arguments)}

    try do
      Enum.find_value(tasks, :ok, fn {guardrail, task} ->
        left = max(now + guardrail.timeout_ms - System.monotonic_time(:millisecond), 0)

        with result when result != :ok <- await(task, left, guardrail),
             do: {:error, guardrail, error(guardrail, result)},
             else: (:ok -> nil)
      end)
    after
      Enum.each(tasks, fn {_guardrail, task} -> Task.shutdown(task, :brutal_kill) end)
    end
  end

  defp start(%module{} = guardrail, arguments) do
    caller = self()

    Task.Supervisor.async_nolink(Codex.TaskSupervisor, fn ->
      OwnerMonitor.start(caller)
      apply(module, :run, [guardrail | arguments])
    end)
  end

  defp await(task, left, %{name: name, timeout_ms: ms}) do
    case Task.yield(task, left) do
      {:ok, result} -> result
      {:exit, _reason} -> {:tripwire, "guardrail #{inspect(name)} failed"}
      nil -> {:tripwire, "guardrail #{inspect(name)} took more than #{ms} ms"}
    end
  end

  defp error(guardrail, {type, message}) do
    type = if Map.get(guardrail, :behavior) == :raise_exception, do: :tripwire, else: type

    GuardrailError.exception(
      stage: guardrail.stage,
      guardrail: guardrail.name,
      type: type,
      message: message
    )
  end
end
