defmodule Codex.AppServer.Delivery do
  @moduledoc false
  # Messages of a connection to its readers, made of what the server tells and asks. The caller has to
  # be the connection's process.

  alias Codex.AppServer.{Message, Pending, Subscribers, Told, Turns}

  @doc "What the server tells, in the form that a subscriber wants."
  @spec told(Subscribers.form(), tuple()) :: tuple()
  def told(:wire, message), do: message

  def told(:structs, {:codex_notification, method, params}),
    do: {:codex_event, self(), Told.event(method, params)}

  @doc "What it asks."
  @spec asked(Pending.t(), Subscribers.form(), tuple()) :: tuple()
  def asked(pending, form, {:codex_request, id, method, params}) do
    request = Pending.request(pending, id)

    if form == :structs,
      do: {:codex_request, self(), request},
      else: {:codex_request, request.id, method, params}
  end

  @doc "What it says of a turn, for who follows it."
  @spec turn(Pending.t(), {String.t(), String.t()}, Turns.what()) :: tuple()
  def turn(pending, {thread_id, turn_id}, what) do
    what =
      case what do
        {:request, id, _, _, others?} -> {:request, Pending.request(pending, id), others?}
        {:answered, id} -> {:answered, Pending.request(pending, id).token}
        what -> what
      end

    {:codex_turn, self(), thread_id, turn_id, what}
  end

  @doc "A question is closed: whoever would get it as a struct hears of that, also those that came later."
  @spec closed(Pending.t(), Message.id(), atom(), Subscribers.t()) ::
          {[{pid(), tuple()}], Pending.t()}
  def closed(pending, id, why, subscribers) do
    {request, pending} = Pending.close(pending, id)
    message = {:codex_request_closed, self(), request.token, why}

    messages =
      for pid <- Subscribers.about(subscribers, request.params),
          Subscribers.form(subscribers, pid) == :structs,
          do: {pid, message}

    {messages, pending}
  end
end
