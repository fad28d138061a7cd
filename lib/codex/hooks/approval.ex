defmodule Codex.Hooks.Approval do
  @moduledoc false
  # A policy of approvals on `codex exec`, which asks nobody: the policy decides before each
  # command, patch and call of an MCP server's tool. See `Codex.Approvals.transports/0`.

  alias Codex.{Approvals, OwnerMonitor}
  alias Codex.Hooks.Set

  @later "the decision would come later, and codex exec waits for none"

  @spec hooks(map(), :exec | :app_server) :: [{atom(), function(), non_neg_integer()}]
  def hooks(_settings, :app_server), do: []

  def hooks(settings, :exec) do
    case settings.approval_hook || settings.approval_policy do
      nil -> []
      policy -> [{:pre_tool_use, &decide(&1, &2, policy, settings), settings.approval_timeout_ms}]
    end
  end

  defp decide(event, set, policy, settings) do
    case request(event) do
      nil -> :allow
      request -> policy |> ask(request, set, settings.approval_timeout_ms) |> answer(set)
    end
  end

  # The tools that an app-server asks about. Tools of the host have approvals of their own.
  defp request(%{tool_name: "Bash", tool_input: %{"command" => command}} = event),
    do:
      about(:command_execution_approval, event, %{
        command: command,
        proposed_execpolicy_amendment: nil
      })

  defp request(%{tool_name: "apply_patch", tool_input: %{"command" => patch}} = event),
    do: about(:file_change_approval, event, %{grant_root: nil, patch: patch})

  defp request(%{tool_name: "mcp__" <> name} = event) do
    case String.split(name, "__", parts: 2) do
      [server, tool] ->
        about(:mcp_tool_approval, event, %{
          server_name: server,
          tool_name: tool,
          arguments: event.tool_input
        })

      _other ->
        nil
    end
  end

  defp request(_event), do: nil

  defp about(type, event, more) do
    Map.merge(more, %{
      type: type,
      cwd: event.cwd,
      thread_id: event.thread_id,
      turn_id: event.turn_id,
      item_id: event.tool_use_id,
      reason: nil,
      token: nil,
      expires_at: nil
    })
  end

  defp ask(policy, request, set, ms) do
    context = Map.merge(set.context[:approvals] || %{}, %{transport: :exec})

    owner = self()

    task =
      Task.Supervisor.async_nolink(Codex.TaskSupervisor, fn ->
        OwnerMonitor.start(owner)
        Approvals.decide(policy, request, context, ms)
      end)

    case Task.yield(task, ms) || Task.shutdown(task, :brutal_kill) do
      {:ok, decision} -> decision
      _crashed_or_late -> {:deny, "the approval policy gave no decision within #{ms} ms"}
    end
  end

  defp answer(:allow, _set), do: :allow
  defp answer({:allow, _opts}, _set), do: :allow
  defp answer({:rewrite, input}, _set), do: {:rewrite, input}
  defp answer(:later, _set), do: {:deny, @later}

  defp answer({:deny, :cancel}, set) do
    :ok = Set.tell(set, {:stop, :interrupted})
    {:deny, "cancelled"}
  end

  defp answer({:deny, reason}, _set) when is_binary(reason), do: {:deny, reason}
  defp answer({:deny, reason}, _set) when is_atom(reason), do: {:deny, to_string(reason)}
  defp answer({:deny, _reason}, _set), do: {:deny, "denied"}
end
