defmodule Codex.AppServer.Questions do
  @moduledoc false
  # What the server asks, as a part of `Codex.AppServer.State`: who is told, the one answer, and the no where there is none. Functions
  # take the state of a connection, and return `{actions, state}` as that module does.

  alias Codex.AppServer.{Message, ServerRequest, State, Subscribers, Timers, Turns}

  @doc """
  The server asks. Subscribers and those who follow the turn are told; where there is nobody, it is a no at once.

  The first action is `{:opened, id, method, params, deadline}`. Once it has an answer, or needs none any more, there is
  `{:closed, id, why}`: `:answered`, `:resolved`, `:expired` or `:nobody`.
  """
  @spec ask(State.t(), Message.id(), String.t(), map(), integer()) :: State.step()
  def ask(state, id, method, params, now) do
    subscribers = Subscribers.of(state.subscribers, method, params)
    about = about(state, params)
    followers = Turns.followers(state.turns, about)
    most = state.config.max_asked

    cond do
      is_map_key(state.asked, id) ->
        {[{:note, {:duplicate_request, id, method}}], state}

      subscribers == [] and followers == [] ->
        {deny(id, method, :nobody), state}

      map_size(state.asked) >= most ->
        {deny(id, method, {:overflow, most}), state}

      true ->
        open(state, {id, method, params}, about, {subscribers, followers}, now)
    end
  end

  # What names a thread alone is about the turn that runs in it. That of a review has two names.
  defp about(state, params) do
    thread = Message.thread_id(params)

    case {Message.turn_id(params), Turns.running_in(state.turns, thread)} do
      {named, {turn, active}} when named in [nil, active] -> {thread, turn}
      {named, _} -> {thread, named}
    end
  end

  defp open(state, {id, method, params}, about, {subscribers, followers}, now) do
    wait = state.config.answer_timeout_ms
    deadline = if wait == :infinity, do: :infinity, else: now + wait

    entry = %{
      method: method,
      params: params,
      deadline: deadline,
      # Who may see to it, by what they are. When all of them are gone, nobody does.
      subscribers: subscribers,
      followers: followers,
      about: about
    }

    message = {:codex_request, id, method, params}
    told = for who <- subscribers, do: {:notify, who, message}
    {thread, turn} = about
    what = {:request, id, method, params, subscribers != []}
    followed = for who <- followers, do: {:turn, who, thread, turn, what}

    state = %{
      state
      | asked: Map.put(state.asked, id, entry),
        timers: Timers.put(state.timers, deadline, {:asked, id})
    }

    {[{:opened, id, method, params, deadline} | told] ++ followed, state}
  end

  @doc "An answer of ours: see `Codex.AppServer.State.respond/4`."
  @spec respond(State.t(), term(), Message.id(), ServerRequest.answer()) :: State.step()
  def respond(state, from, id, answer) do
    with %{^id => asked} <- state.asked,
         {:ok, answer} <- ServerRequest.encode(asked.method, asked.params, answer) do
      close([{:send, message(id, answer)}, {:reply, from, :ok}], state, id, :answered)
    else
      %{} -> {[{:reply, from, {:error, {:request_closed, id}}}], state}
      {:error, reason} -> {[{:reply, from, {:error, reason}}], state}
    end
  end

  defp message(id, {:ok, result}), do: %{"id" => id, "result" => result}
  defp message(id, {:error, error}), do: %{"id" => id, "error" => error}

  defp deny(id, method, why),
    do: [{:send, message(id, ServerRequest.decline(method))}, {:note, {:denied, why, id, method}}]

  @doc "The server needs no answer any more, for example because the turn was interrupted. It says so after each of ours, too."
  @spec resolved(State.t(), String.t(), map()) :: State.step()
  def resolved(state, "serverRequest/resolved", %{"requestId" => id})
      when is_map_key(state.asked, id),
      do: close([{:note, {:resolved, id, state.asked[id].method}}], state, id, :resolved)

  def resolved(state, _method, _params), do: {[], state}

  @doc "The time for an answer is over."
  @spec expire(State.t(), Message.id()) :: State.step()
  def expire(state, id) do
    case state.asked do
      %{^id => %{method: method}} -> close(deny(id, method, :expired), state, id, :expired)
      _closed -> {[], state}
    end
  end

  @doc "Somebody who follows the turn will not answer this one. As a subscriber they may."
  @spec leave(State.t(), Message.id() | nil, term()) :: State.step()
  def leave(state, id, who) do
    case state.asked do
      %{^id => asked} -> without(state, id, %{asked | followers: asked.followers -- [who]})
      _closed -> {[], state}
    end
  end

  @doc "Somebody is gone: what only they were asked gets its no."
  @spec gone(State.t(), term()) :: State.step()
  def gone(state, who) do
    Enum.flat_map_reduce(Enum.sort(state.asked), state, fn {id, asked}, state ->
      followers = asked.followers -- [who]
      without(state, id, %{asked | followers: followers, subscribers: asked.subscribers -- [who]})
    end)
  end

  defp without(state, id, %{followers: [], subscribers: []} = asked),
    do: close(deny(id, asked.method, :nobody), state, id, :nobody)

  defp without(state, id, asked), do: {[], put_in(state.asked[id], asked)}

  # Those who follow the turn wait no longer for it.
  defp close(actions, state, id, why) do
    {%{deadline: deadline, about: {thread, turn} = about}, asked} = Map.pop!(state.asked, id)
    followers = Turns.followers(state.turns, about)
    told = for who <- followers, do: {:turn, who, thread, turn, {:answered, id}}
    timers = Timers.delete(state.timers, deadline, {:asked, id})
    {actions ++ told ++ [{:closed, id, why}], %{state | asked: asked, timers: timers}}
  end
end
