defmodule Codex.Hooks.Unreachable do
  @moduledoc false
  # Functions of the host that can never be called with the options of a thread: one warning when
  # the thread is made, because silence looks like a function that has nothing to say.

  require Logger

  @on_exec "codex exec asks for no approvals: use pre_tool_use, or transport: {:app_server, conn}"
  @never "no approval is asked for with ask_for_approval: :never"
  @bypass "no approval is asked for with dangerously_bypass_approvals_and_sandbox"
  @full "ask_for_approval: :on_failure asks when the sandbox stops a command, and " <>
          "sandbox: :danger_full_access stops none"

  @doc "Logs what the functions of a thread cannot see. `settings` are its merged options."
  @spec warn(map()) :: :ok
  def warn(settings) do
    case reasons(settings) do
      [] -> :ok
      reasons -> Logger.warning(fn -> "functions that are never called: " <> text(reasons) end)
    end

    if settings.transport == :exec and policy(settings) != nil, do: tell(settings), else: :ok
  end

  defp text(reasons), do: Enum.map_join(reasons, "; ", fn {what, why} -> "#{what} (#{why})" end)

  defp tell(settings) do
    Logger.info(fn ->
      "#{policy(settings)} decides about each command, patch and MCP tool: codex exec asks for " <>
        "no approvals. See Codex.Approvals.transports/0"
    end)
  end

  defp policy(%{approval_hook: hook}) when hook != nil, do: :approval_hook
  defp policy(%{approval_policy: policy}) when policy != nil, do: :approval_policy
  defp policy(_settings), do: nil

  @doc "Returns the functions that are never called, as `{what, why}`."
  @spec reasons(map()) :: [{String.t(), String.t()}]
  def reasons(%{transport: :exec} = settings),
    do: for(what <- hooks(settings), do: {what, @on_exec})

  def reasons(settings) do
    case silent(settings) do
      nil -> []
      why -> for what <- hooks(settings) ++ List.wrap(policy(settings)), do: {"#{what}", why}
    end
  end

  defp hooks(settings) do
    if Keyword.has_key?(settings.hooks, :permission_request),
      do: ["the hook permission_request"],
      else: []
  end

  defp silent(%{dangerously_bypass_approvals_and_sandbox: true}), do: @bypass
  defp silent(%{ask_for_approval: :never}), do: @never

  defp silent(%{ask_for_approval: :on_failure, sandbox: :danger_full_access}), do: @full
  defp silent(_settings), do: nil
end
