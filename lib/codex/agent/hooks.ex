defmodule Codex.Agent.Hooks do
  @moduledoc false
  # Calls the hooks of an agent and of a run.

  alias Codex.Approvals.Crash

  @doc "Calls a hook of an agent, then that of the run."
  @spec call(struct(), struct(), atom(), [term()]) :: :ok
  def call(agent, config, name, arguments) do
    for hooks <- [agent.hooks, config.hooks], do: one(hooks, name, arguments)
    :ok
  end

  defp one(hooks, name, arguments) do
    arity = length(arguments)

    cond do
      is_list(hooks) and is_function(hooks[name], arity) -> apply(hooks[name], arguments)
      is_list(hooks) or hooks == nil -> :ok
      function_exported?(hooks, name, arity) -> apply(hooks, name, arguments)
      true -> :ok
    end
  catch
    kind, reason -> Crash.log("the hook #{name}", kind, reason, __STACKTRACE__)
  end
end
