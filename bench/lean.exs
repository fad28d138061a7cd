defmodule Bench.Lean do
  @moduledoc false
  # The least code that makes the structs of the SDK from the maps of a JSON decoder, for the types
  # in the corpora. It checks nothing and allocates as little as possible.

  alias Codex.{Events, Items}

  def event(%{"type" => "item.completed", "item" => item} = map),
    do: %Events.ItemCompleted{item: item(item), extra: extra(map, 2, ["type", "item"])}

  def event(%{"type" => "item.started", "item" => item} = map),
    do: %Events.ItemStarted{item: item(item), extra: extra(map, 2, ["type", "item"])}

  def event(%{"type" => "item.updated", "item" => item} = map),
    do: %Events.ItemUpdated{item: item(item), extra: extra(map, 2, ["type", "item"])}

  def event(%{"type" => "turn.completed", "usage" => usage} = map),
    do: %Events.TurnCompleted{usage: usage, extra: extra(map, 2, ["type", "usage"])}

  def event(%{"type" => type} = map), do: %Events.Unknown{type: type, raw: map}
  def event(map), do: %Events.Unknown{raw: map}

  defp item(%{"type" => "agent_message", "id" => id, "text" => text} = map),
    do: %Items.AgentMessage{id: id, text: text, extra: extra(map, 3, ["type", "id", "text"])}

  defp item(%{"type" => "reasoning", "id" => id, "text" => text} = map),
    do: %Items.Reasoning{id: id, text: text, extra: extra(map, 3, ["type", "id", "text"])}

  defp item(
         %{
           "type" => "command_execution",
           "id" => id,
           "command" => command,
           "aggregated_output" => output,
           "exit_code" => code,
           "status" => status
         } = map
       ) do
    %Items.CommandExecution{
      id: id,
      command: command,
      aggregated_output: output,
      exit_code: code,
      status: status(status),
      extra: extra(map, 6, ~w(type id command aggregated_output exit_code status))
    }
  end

  defp item(
         %{"type" => "file_change", "id" => id, "changes" => changes, "status" => status} = map
       ) do
    %Items.FileChange{
      id: id,
      changes: for(change <- changes, do: change(change)),
      status: status(status),
      extra: extra(map, 4, ~w(type id changes status))
    }
  end

  defp item(%{"type" => "todo_list", "id" => id, "items" => items} = map) do
    %Items.TodoList{
      id: id,
      items:
        for(%{"text" => text, "completed" => done} <- items, do: %{text: text, completed: done}),
      extra: extra(map, 3, ~w(type id items))
    }
  end

  defp item(
         %{
           "type" => "mcp_tool_call",
           "id" => id,
           "server" => server,
           "tool" => tool,
           "arguments" => arguments,
           "result" => result,
           "error" => error,
           "status" => status
         } = map
       ) do
    %Items.McpToolCall{
      id: id,
      server: server,
      tool: tool,
      arguments: arguments,
      result: result,
      error: error,
      status: status(status),
      extra: extra(map, 8, ~w(type id server tool arguments result error status))
    }
  end

  defp change(%{"path" => path, "kind" => kind}),
    do: %{path: path, kind: kind(kind), diff: nil, move_path: nil}

  defp kind("add"), do: :add
  defp kind("update"), do: :update
  defp kind("delete"), do: :delete
  defp kind(other), do: other

  defp status("completed"), do: :completed
  defp status("in_progress"), do: :in_progress
  defp status("failed"), do: :failed
  defp status("declined"), do: :declined
  defp status(other), do: other

  defp extra(map, size, _keys) when map_size(map) == size, do: %{}
  defp extra(map, _size, keys), do: Map.drop(map, keys)
end
