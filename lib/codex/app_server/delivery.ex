defmodule Codex.AppServer.Delivery do
  @moduledoc false
  # What the readers of a connection get of what the server tells and asks, sent from the connection's process.

  alias Codex.AppServer.{Message, Pending, Subscribers, Told, Turns}

  @doc "To a subscriber, in the form that it wants: what the server tells."
  @spec told(pid(), Subscribers.form(), tuple()) :: :ok
  def told(pid, :wire, message) do
    send(pid, message)
    :ok
  end

  def told(pid, :structs, {:codex_notification, method, params}) do
    send(pid, {:codex_event, self(), Told.event(method, params)})
    :ok
  end

  @doc "What it asks."
  @spec asked(Pending.t(), pid(), Subscribers.form(), tuple()) :: Pending.t()
  def asked(pending, pid, :structs, {:codex_request, id, _method, _params}) do
    {request, pending} = Pending.tell(pending, id, pid)
    send(pid, {:codex_request, self(), request})
    pending
  end

  def asked(pending, pid, :wire, {:codex_request, id, method, params}) do
    send(pid, {:codex_request, Pending.name(pending, id), method, params})
    pending
  end

  @doc "To who follows a turn."
  @spec turn(Pending.t(), pid(), {String.t(), String.t()}, Turns.what()) :: :ok
  def turn(pending, pid, {thread_id, turn_id}, what) do
    what =
      case what do
        {:request, id, _, _, others?} -> {:request, Pending.request(pending, id), others?}
        {:answered, id} -> {:answered, Pending.request(pending, id).token}
        what -> what
      end

    send(pid, {:codex_turn, self(), thread_id, turn_id, what})
    :ok
  end

  @doc "A question is closed: who got it as a struct hears of that."
  @spec closed(Pending.t(), Message.id(), atom()) :: Pending.t()
  def closed(pending, id, why) do
    {request, told, pending} = Pending.close(pending, id)
    for pid <- told, do: send(pid, {:codex_request_closed, self(), request.token, why})
    pending
  end
end
