defmodule Codex.AppServer.Told do
  @moduledoc false
  # Notifications of the app-server as events: the same structs as on the other lane, with the same words in them. Pure.

  alias Codex.{Events, Wire}
  alias Codex.Events.{AppServerNotification, ItemAgentMessageDelta, ThreadTokenUsageUpdated}

  # Method: wire type of the event, and names of its fields as the app-server spells them.
  @events (for %{app: method, types: [{type, _} | _]} = spec when method != nil <-
                 Wire.specs(:events),
               into: %{} do
             {method, {type, spec.fields |> Enum.flat_map(& &1.wire) |> Enum.uniq()}}
           end)

  @items (for %{app: type, types: [{own, _} | _]} = spec when type != nil <- Wire.specs(:items),
              into: %{} do
            {type, {own, Enum.flat_map(spec.fields, & &1.wire)}}
          end)

  # Words that the lanes spell differently stand in these fields.
  @words ~w(status tool)

  # Longer ones are no word of the protocol.
  @longest 64

  @doc """
  The event of a notification.

      iex> params = %{"threadId" => "t", "turnId" => "u", "itemId" => "m", "delta" => "Hel"}
      iex> Codex.AppServer.Told.event("item/agentMessage/delta", params).item
      %{"id" => "m", "type" => "agent_message", "text" => "Hel"}
      iex> Codex.AppServer.Told.event("turn/weather", %{"turnId" => "u"})
      %Codex.Events.AppServerNotification{method: "turn/weather", params: %{"turnId" => "u"}}
  """
  @spec event(String.t(), map()) :: Events.t()
  def event(method, params) do
    read(method, params)
  rescue
    # Not as it should be, in whatever way: as it came. This may run in the process of a connection.
    _error -> %AppServerNotification{method: method, params: params}
  end

  defp read("item/agentMessage/delta", %{"itemId" => id, "delta" => text} = params) do
    item = %{"id" => id, "type" => "agent_message", "text" => text}
    ids(%ItemAgentMessageDelta{item: item}, params)
  end

  defp read("thread/tokenUsage/updated", %{"tokenUsage" => %{"total" => total} = usage} = params) do
    event = %ThreadTokenUsageUpdated{
      usage: usage(total),
      delta: usage["last"] && usage(usage["last"]),
      extra: Map.drop(usage, ["total", "last"])
    }

    ids(event, params)
  end

  defp read("error", %{"error" => %{} = error} = params) do
    event = %Events.Error{
      message: text(error["message"]),
      additional_details: error["additionalDetails"],
      codex_error_info: error["codexErrorInfo"],
      will_retry: params["willRetry"]
    }

    ids(event, params)
  end

  defp read(method, %{"item" => %{} = item} = params)
       when method in ["item/started", "item/completed"] do
    params = %{params | "item" => item(item)}
    parse(method, params)
  end

  defp read("turn/started", params), do: ids(%Events.TurnStarted{}, params)

  defp read("turn/completed", %{"turn" => %{"status" => "failed"} = turn} = params) do
    error = turn["error"] || %{"message" => "turn failed"}
    ids(%Events.TurnFailed{error: error, extra: %{"turn" => turn}}, params)
  end

  defp read("turn/completed", %{"turn" => %{"status" => status} = turn} = params) do
    event = %Events.TurnCompleted{
      status: status,
      started_at: turn["startedAt"],
      completed_at: turn["completedAt"],
      duration_ms: turn["durationMs"],
      extra: %{"turn" => turn}
    }

    ids(event, params)
  end

  defp read("turn/plan/updated" = method, %{"plan" => plan} = params) when is_list(plan),
    do: parse(method, %{params | "plan" => Enum.map(plan, &step/1)})

  defp read(method, params), do: parse(method, params)

  defp parse(method, params) do
    case @events do
      %{^method => {type, fields}} -> params |> snake(fields) |> type(type) |> Events.parse!()
      _ -> %AppServerNotification{method: method, params: params}
    end
  end

  defp type(map, type), do: Map.put(map, "type", type)

  # Of a turn's beginning and end, the turn has its id itself.
  defp ids(event, params) do
    turn_id = params["turnId"] || get_in(params, ["turn", "id"])
    %{event | thread_id: params["threadId"], turn_id: turn_id}
  end

  @steps %{"pending" => :pending, "inProgress" => :in_progress, "completed" => :completed}

  # A word that is new stays text.
  defp step(%{"step" => text, "status" => status} = step) do
    step
    |> Map.drop(["step", "status"])
    |> Map.merge(%{step: text, status: @steps[status] || word(status)})
  end

  defp text(text) when is_binary(text), do: text
  defp text(_none), do: ""

  @doc """
  Returns tokens by the names of `codex exec`, which sends no `total_tokens`.

      iex> Codex.AppServer.Told.usage(%{"totalTokens" => 120, "inputTokens" => 100, "outputTokens" => 20})
      %{"input_tokens" => 100, "output_tokens" => 20, "total_tokens" => 120}
  """
  @spec usage(map()) :: map()
  def usage(%{} = tokens) do
    for {name, n} <- tokens, is_integer(n), into: %{}, do: {Macro.underscore(name), n}
  end

  @doc """
  An item, with types, fields and words as `codex exec` has them. What it has no name for stays as it is.

      iex> Codex.AppServer.Told.item(%{"type" => "commandExecution", "exitCode" => 0, "status" => "inProgress", "startedAtMs" => 1})
      %{"type" => "command_execution", "exit_code" => 0, "status" => "in_progress", "startedAtMs" => 1}
  """
  @spec item(map()) :: map()
  def item(%{"type" => mode} = item) when mode in ["enteredReviewMode", "exitedReviewMode"],
    do: Map.merge(item, %{"type" => "review_mode", "entered" => mode == "enteredReviewMode"})

  def item(%{"type" => type} = item) do
    case @items do
      %{^type => {own, fields}} -> item |> snake(fields) |> Map.put("type", own) |> inner(own)
      _ -> item
    end
  end

  def item(item), do: item

  defp inner(item, own) do
    Enum.reduce(@words, item, fn field, item ->
      # Names of MCP tools are the server's.
      if own == "mcp_tool_call" and field == "tool",
        do: item,
        else: with(%{^field => word} <- item, do: %{item | field => word(word)})
    end)
    |> more(own)
  end

  defp more(%{"changes" => changes} = item, "file_change") when is_list(changes),
    do: %{item | "changes" => Enum.map(changes, &change/1)}

  defp more(%{"action" => %{"type" => type} = action} = item, "web_search"),
    do: %{item | "action" => %{action | "type" => word(type)}}

  defp more(%{"result" => %{} = result} = item, "mcp_tool_call"),
    do: %{item | "result" => snake(result, ["structured_content"])}

  defp more(item, _own), do: item

  defp change(%{"kind" => %{"type" => kind} = more} = change),
    do: Map.merge(change, %{"kind" => kind, "move_path" => more["move_path"]})

  defp change(change), do: change

  # `exitCode` is the field `exit_code`, if there is one.
  defp snake(map, fields) do
    Map.new(map, fn {key, value} ->
      name = word(key)
      {if(name in fields, do: name, else: key), value}
    end)
  end

  defp word(word) when is_binary(word) and byte_size(word) <= @longest, do: Macro.underscore(word)
  defp word(other), do: other
end
