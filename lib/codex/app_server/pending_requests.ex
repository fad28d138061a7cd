defmodule Codex.AppServer.PendingRequests do
  @moduledoc false
  # Requests of the server that wait for an answer: who got them, the one answer, and the decline if
  # there is none. The peer of the connection keeps them; each has as its data
  #
  #   * `request`     - the struct that readers get, with token, `id` and `expires_at`
  #   * `subscribers`, `reader` - the processes that may answer: subscribers, and the reader of the
  #     turn, or nil. After the last one is gone, the request is declined
  #   * `turn`        - thread id and turn id
  #   * `order`, `opened_at`
  #
  # A request with answer, or without need for one, gives `{:closed, request, why, ms}`.

  alias Codex.AppServer.{Ids, Request, RequestId, ServerRequest, State, Subscribers, Turns}
  alias Codex.JSONRPC.Peer

  @doc """
  Sends a request of the server to subscribers and to the reader of its turn. Without any of them it
  is declined at once.
  """
  @spec open(State.t(), term(), String.t(), map(), integer()) :: State.step()
  def open(state, id, method, params, now) do
    subscribers =
      for {who, filter} <- state.subscribers,
          Subscribers.pass?(filter, method, params),
          do: {who, filter.as}

    turn = turn(state, params)
    reader = Turns.reader(state.turns, turn)

    if subscribers == [] and reader == nil do
      peer(state, {:decline, id, :nobody}, now)
    else
      request = request(state, id, method, params)

      data = %{
        request: request,
        subscribers: Enum.map(subscribers, &elem(&1, 0)),
        reader: reader,
        turn: turn,
        order: state.opened,
        opened_at: now
      }

      state = %{state | peer: Peer.put_data(state.peer, id, data), opened: state.opened + 1}
      sent = for {who, form} <- subscribers, do: {:notify, who, message(state, form, request)}
      followed = to_reader(reader, turn, {:request, request, subscribers != []})
      {[{:opened, request} | sent] ++ followed, state}
    end
  end

  defp to_reader(nil, _turn, _what), do: []

  defp to_reader(reader, {thread_id, turn_id}, what),
    do: [{:turn, reader, thread_id, turn_id, what}]

  # Parameters with a thread alone are about the turn that runs in it. A review has two turn ids.
  # Sub-agents ask for the turn that follows them.
  defp turn(state, params) do
    thread = Ids.thread_id(params)
    Turns.parent(state.turns, thread) || turn(state, thread, params)
  end

  defp turn(state, thread, params) do
    case {Ids.turn_id(params), Turns.running_in(state.turns, thread)} do
      {named, {turn, active}} when named in [nil, active] -> {thread, turn}
      {named, _} -> {thread, named}
    end
  end

  defp request(%{config: config} = state, id, method, params) do
    deadline = state.peer.received[id].deadline

    expires_at =
      if deadline != :infinity,
        do: DateTime.from_unix!(deadline + config.clock_offset_ms, :millisecond)

    %{
      Request.new(method, params)
      | token: RequestId.new(config.request_ids, {config.servers, state.opened}),
        expires_at: expires_at,
        id: public_id(state, id)
    }
  end

  # Every server counts its ids from 0. Ids of the second one on begin with its number, so that no
  # late answer reaches another request.
  defp public_id(%{config: %{servers: 1}}, id), do: id
  defp public_id(%{config: %{servers: n}}, id), do: "#{n}:#{id}"

  defp message(state, :structs, request), do: {:codex_request, state.config.conn, request}
  defp message(_, :wire, r), do: {:codex_request, r.id, r.method, r.params}

  @doc "Returns the open requests, the oldest first."
  @spec list(State.t()) :: [Request.t()]
  def list(state) do
    entries = for {_id, %{data: data}} <- state.peer.received, do: data
    entries |> Enum.sort_by(& &1.order) |> Enum.map(& &1.request)
  end

  @doc """
  Answers a request by its token, or by the id that subscribers got. The reply is `:ok`, once, or
  `{:error, reason}`: `{:request_closed, key}`, or the reason why the answer is invalid; the request
  waits for another one then.
  """
  @spec respond(State.t(), term(), {:token | :id, term()}, ServerRequest.answer(), integer()) ::
          State.step()
  def respond(state, from, {field, key}, answer, now) do
    with {id, %{method: method, params: params}} <- find(state, field, key),
         {:ok, wire} <- ServerRequest.encode(method, params, answer) do
      {[sent | closed], state} = peer(state, {:respond, id, wire}, now)
      {[sent, {:reply, from, :ok} | closed], state}
    else
      nil -> {[{:reply, from, {:error, {:request_closed, key}}}], state}
      {:error, reason} -> {[{:reply, from, {:error, reason}}], state}
    end
  end

  defp find(state, field, key),
    do: Enum.find(state.peer.received, fn {_, %{data: d}} -> Map.get(d.request, field) == key end)

  @doc """
  Closes the request that the server withdraws, for example because its turn was interrupted. The
  server confirms answers with the same notification.
  """
  @spec resolve(State.t(), map(), integer()) :: {State.step(), params :: map()}
  def resolve(state, %{"requestId" => id} = params, now) when is_integer(id) or is_binary(id) do
    params = %{params | "requestId" => public_id(state, id)}

    case state.peer.received do
      %{^id => %{method: method}} ->
        {actions, state} = peer(state, {:withdraw, id}, now)
        {{[{:note, {:resolved, id, method}} | actions], state}, params}

      _closed ->
        {{[], state}, params}
    end
  end

  def resolve(state, params, _now), do: {{[], state}, params}

  @doc "Handles a reader that will not answer a request. It may still answer as a subscriber."
  @spec skip(State.t(), String.t(), term(), integer()) :: State.step()
  def skip(state, token, who, now) do
    case find(state, :token, token) do
      {id, %{data: %{reader: ^who} = data}} -> keep(state, id, %{data | reader: nil}, now)
      _none -> {[], state}
    end
  end

  @doc "Removes a process from those that may answer."
  @spec remove(State.t(), term(), integer()) :: State.step()
  def remove(state, who, now) do
    Enum.flat_map_reduce(Enum.sort(state.peer.received), state, fn {id, %{data: data}}, state ->
      reader = if data.reader != who, do: data.reader
      keep(state, id, %{data | reader: reader, subscribers: data.subscribers -- [who]}, now)
    end)
  end

  defp keep(state, id, %{reader: nil, subscribers: []}, now),
    do: peer(state, {:decline, id, :nobody}, now)

  defp keep(state, id, data, _now),
    do: {[], %{state | peer: Peer.put_data(state.peer, id, data)}}

  defp peer(state, operation, now) do
    {actions, peer} = Peer.run(state.peer, operation, now)

    Enum.flat_map_reduce(actions, %{state | peer: peer}, fn
      {:closed, _id, entry, why}, state -> closed(state, entry, why, now)
      action, state -> {[action], state}
    end)
  end

  @doc "Tells the reader of the turn and subscribers that a request is closed."
  @spec closed(State.t(), Peer.received(), term(), integer()) :: State.step()
  def closed(state, %{data: nil}, _why, _now), do: {[], state}

  def closed(state, %{data: %{request: request, turn: turn} = data}, why, now) do
    followed = to_reader(Turns.reader(state.turns, turn), turn, {:answered, request.token})
    message = {:codex_request_closed, state.config.conn, request.token, word(why)}

    sent =
      for {who, %{as: :structs} = filter} <- state.subscribers,
          Subscribers.about?(filter, request.params),
          do: {:notify, who, message}

    {followed ++ sent ++ [{:closed, request, why, now - data.opened_at}], state}
  end

  defp word({:answered, _answer}), do: :answered
  defp word(:withdrawn), do: :resolved
  defp word(why), do: why
end
