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
  @spec asked(Pending.t(), pid(), Subscribers.form(), tuple()) :: :ok
  def asked(pending, pid, form, {:codex_request, id, method, params}) do
    request = Pending.request(pending, id)

    if form == :structs,
      do: send(pid, {:codex_request, self(), request}),
      else: send(pid, {:codex_request, request.id, method, params})

    :ok
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

  @doc "A question is closed: whoever would get it as a struct hears of that, also those that came later."
  @spec closed(Pending.t(), Message.id(), atom(), Subscribers.t()) :: Pending.t()
  def closed(pending, id, why, subscribers) do
    {request, pending} = Pending.close(pending, id)

    for pid <- Subscribers.about(subscribers, request.params),
        Subscribers.form(subscribers, pid) == :structs,
        do: send(pid, {:codex_request_closed, self(), request.token, why})

    pending
  end
end
