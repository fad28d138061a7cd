defmodule Codex.AppServer.EventDecoder do
  @moduledoc false
  # Decodes notifications of the app-server to events, by the column of this dialect in the table of
  # events. Kinds that `codex exec` sends, too, are the same structs there. Pure.

  alias Codex.{Events, Native}
  alias Codex.Events.{AppServerNotification, ItemAgentMessageDelta, Schema, ThreadStarted}

  # The dialect's index in the table of the NIF.
  @dialect 0

  @methods Map.new(for spec <- Schema.specs(:events), {method, _} <- spec.app, do: {method, true})

  @doc """
  Returns the event of a notification.

      iex> params = %{"threadId" => "t", "turnId" => "u", "itemId" => "m", "delta" => "Hel"}
      iex> Codex.AppServer.EventDecoder.decode("item/agentMessage/delta", params).item
      %{"id" => "m", "type" => "agent_message", "text" => "Hel"}
      iex> Codex.AppServer.EventDecoder.decode("turn/weather", %{"turnId" => "u"})
      %Codex.Events.AppServerNotification{method: "turn/weather", params: %{"turnId" => "u"}}
  """
  @spec decode(String.t(), map()) :: Events.t()
  # The most frequent notification. Its item is built here: no field is sent under another name.
  def decode("item/agentMessage/delta", %{"itemId" => id, "delta" => text} = params) do
    %ItemAgentMessageDelta{
      item: %{"id" => id, "type" => "agent_message", "text" => text},
      thread_id: params["threadId"],
      turn_id: params["turnId"],
      extra: extra(params)
    }
  end

  # The object is both a field and the place of another one.
  def decode("thread/started", %{"thread" => %{"id" => id} = thread} = params),
    do: %ThreadStarted{thread_id: id, metadata: thread, extra: Map.delete(params, "thread")}

  def decode(method, params) when is_map_key(@methods, method) do
    case read(method, params) do
      :unknown -> %AppServerNotification{method: method, params: params}
      event -> Events.from_native_event(event)
    end
  end

  def decode(method, params), do: %AppServerNotification{method: method, params: params}

  defp read(method, params) do
    with :long <- Native.event_read(@dialect, method, params),
         do: Native.event_read_long(@dialect, method, params)
  end

  defp extra(%{"threadId" => _, "turnId" => _} = params) when map_size(params) == 4, do: %{}
  defp extra(params), do: Map.drop(params, ~w(itemId delta threadId turnId))
end
