defmodule Codex.NotificationTwin do
  @moduledoc """
  Decodes notifications of the app-server by renaming keys and words in Elixir: slow and plain, to
  compare the native dialect with.
  """

  alias Codex.Events

  alias Codex.Events.{
    AppServerNotification,
    ItemAgentMessageDelta,
    Schema,
    ThreadTokenUsageUpdated
  }

  # Method: wire type of the event, and names of its fields as the app-server spells them.
  @events (for %{app: [{method, []} | _], names: [{type, _} | _]} = spec <- Schema.specs(:events),
               into: %{} do
             {method, {type, spec.fields |> Enum.flat_map(& &1.wire) |> Enum.uniq()}}
           end)

  @items (for %{app: [{type, _} | _], names: [{own, _} | _]} = spec <- Schema.specs(:items),
              into: %{} do
            {type, {own, Enum.flat_map(spec.fields, & &1.wire)}}
          end)

  @words ~w(status tool)

  @longest 64

  @spec decode(String.t(), map()) :: Events.t()
  def decode(method, params) do
    read(method, params)
  rescue
    _malformed -> %AppServerNotification{method: method, params: params}
  end

  defp read("item/agentMessage/delta", %{"itemId" => id, "delta" => text} = params) do
    item = %{"id" => id, "type" => "agent_message", "text" => text}
    ids(%ItemAgentMessageDelta{item: item}, params)
  end

  defp read("thread/tokenUsage/updated", %{"tokenUsage" => %{"total" => total} = usage} = params) do
    event = %ThreadTokenUsageUpdated{
      usage: usage(total),
      delta: usage["last"] && usage(usage["last"]),
      model_context_window: usage["modelContextWindow"],
      extra: Map.drop(usage, ["total", "last", "modelContextWindow"])
    }

    ids(event, params)
  end

  defp read("error", %{"error" => %{} = error} = params) do
    event = %Events.Error{
      message: text(error["message"]),
      additional_details: error["additionalDetails"],
      codex_error_info: error["codexErrorInfo"],
      will_retry: params["willRetry"],
      extra: Map.drop(error, ["message", "additionalDetails", "codexErrorInfo"])
    }

    ids(event, params)
  end

  defp read(method, %{"item" => %{} = item} = params)
       when method in ["item/started", "item/completed"] do
    params = %{params | "item" => item(item)}
    parse(method, params)
  end

  defp read("thread/started", %{"thread" => %{"id" => id} = thread}),
    do: %Events.ThreadStarted{thread_id: id, metadata: thread}

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

  defp ids(event, params) do
    turn_id = params["turnId"] || get_in(params, ["turn", "id"])
    %{event | thread_id: params["threadId"], turn_id: turn_id}
  end

  @steps %{"pending" => :pending, "inProgress" => :in_progress, "completed" => :completed}

  defp step(%{"step" => text, "status" => status} = step) do
    step
    |> Map.drop(["step", "status"])
    |> Map.merge(%{step: text, status: @steps[status] || word(status)})
  end

  defp text(text) when is_binary(text), do: text
  defp text(_none), do: ""

  defp usage(%{} = tokens) do
    for {name, n} <- tokens, is_integer(n), into: %{}, do: {Macro.underscore(name), n}
  end

  defp item(%{"type" => mode} = item) when mode in ["enteredReviewMode", "exitedReviewMode"],
    do: Map.merge(item, %{"type" => "review_mode", "entered" => mode == "enteredReviewMode"})

  defp item(%{"type" => type} = item) do
    case @items do
      %{^type => {own, fields}} -> item |> snake(fields) |> Map.put("type", own) |> inner(own)
      _ -> item
    end
  end

  defp item(item), do: item

  defp inner(item, own) do
    # Names of tools are the server's or the host's.
    words = if own in ["mcp_tool_call", "dynamic_tool_call"], do: @words -- ["tool"], else: @words

    words
    |> Enum.reduce(item, fn field, item ->
      with %{^field => word} <- item, do: %{item | field => word(word)}
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

  defp snake(map, fields) do
    Map.new(map, fn {key, value} ->
      name = word(key)
      {if(name in fields, do: name, else: key), value}
    end)
  end

  defp word(word) when is_binary(word) and byte_size(word) <= @longest, do: Macro.underscore(word)
  defp word(other), do: other
end
