defmodule Codex.AppServer.Outgoing do
  @moduledoc false
  # Requests of ours, as a part of `Codex.AppServer.State`: what is sent, which answer belongs to what, and what is sent again. Functions
  # take the state of a connection, and return `{actions, state}` as that module does.

  alias Codex.AppServer.{Message, Requests, State, Timers, Turns}

  @overloaded -32_001
  @longest_pause 5_000

  @doc "See `Codex.AppServer.State.request/6`."
  @spec request(State.t(), term(), String.t(), map() | nil, keyword(), integer()) :: State.step()
  def request(state, from, method, params, opts, now) do
    experimental = opts[:experimental] || []

    case state.phase do
      {:down, reason} ->
        {[{:reply, from, {:error, reason}}], state}

      {:ready, _} when experimental != [] and not state.config.experimental_api ->
        {[{:reply, from, {:error, {:experimental, experimental}}}], state}

      {:ready, _} ->
        case opts[:own] && Turns.owned_in(state.turns, Message.thread_id(params)) do
          turn when turn in [nil, false] -> send_followed(state, from, method, params, opts, now)
          turn -> {[{:reply, from, {:error, running(params, turn)}}], state}
        end

      _not_yet ->
        {[{:reply, from, {:error, :not_ready}}], state}
    end
  end

  defp running(params, turn), do: {:turn_running, Message.thread_id(params), turn}

  defp send_followed(state, from, method, params, opts, now) do
    id = state.requests.next
    {actions, state} = send_request(state, from, method, params, opts[:timeout_ms] || 30_000, now)
    sent? = state.requests.next > id
    {actions, if(sent?, do: follow_start(state, id, opts, params), else: state)}
  end

  defp follow_start(state, id, opts, %{"threadId" => thread_id}) do
    case opts[:follow] do
      nil -> state
      who -> %{state | turns: Turns.starting(state.turns, id, who, thread_id, !!opts[:own])}
    end
  end

  defp follow_start(state, _id, _opts, _params), do: state

  # What nobody waits for. The server answers at once, or ends.
  defp send_for_nobody(state, nobody \\ :nobody, method, params),
    do: send_request(state, nobody, method, params, :infinity, 0)

  @doc """
  Interrupts a turn for nobody, and sends `then` when that is answered, a method with its
  parameters.
  """
  @spec interrupt(State.t(), String.t(), String.t(), {String.t(), map()} | nil) :: State.step()
  def interrupt(state, thread_id, turn_id, then \\ nil) do
    nobody = if then, do: {:nobody, then}, else: :nobody
    ids = %{"threadId" => thread_id, "turnId" => turn_id}
    send_for_nobody(state, nobody, "turn/interrupt", ids)
  end

  @doc "The reply to whoever asked."
  @spec reply(term(), term()) :: [State.action()]
  def reply(:nobody, _result), do: []
  def reply({:nobody, _then}, _result), do: []
  def reply(from, result), do: [{:reply, from, result}]

  @doc "Sends one, whatever the phase."
  @spec send_request(State.t(), term(), String.t(), map() | nil, timeout(), integer()) ::
          State.step()
  def send_request(state, from, method, params, timeout, now) do
    send_entry(state, %{
      from: from,
      method: method,
      params: params,
      timeout: timeout,
      deadline: if(timeout == :infinity, do: :infinity, else: now + timeout),
      attempt: 0,
      retry_at: nil
    })
  end

  defp send_entry(state, entry) do
    case Requests.add(state.requests, entry) do
      {:ok, id, requests} ->
        timers = Timers.put(state.timers, entry.deadline, {:timeout, id})
        message = %{"id" => id, "method" => entry.method}
        message = if entry.params, do: Map.put(message, "params", entry.params), else: message
        {[{:send, message}], %{state | requests: requests, timers: timers}}

      {:error, overflow} ->
        {reply(entry.from, {:error, overflow}), state}
    end
  end

  @doc "The request that has this id waits no more."
  @spec take(State.t(), Message.id()) :: {:ok, map(), State.t()} | :late | :never_sent
  def take(state, id) do
    with {:ok, entry, requests} <- Requests.take(state.requests, id) do
      timers =
        state.timers
        |> Timers.delete(entry.deadline, {:timeout, id})
        |> Timers.delete(entry.retry_at || :infinity, {:retry, id})

      {:ok, entry, %{state | requests: requests, timers: timers}}
    end
  end

  @doc "A request has its answer."
  @spec answered(State.t(), Message.id(), map(), {:ok | :error, term()}) :: State.step()
  def answered(state, _id, %{from: {:nobody, {method, params}}}, _result),
    do: send_for_nobody(state, method, params)

  def answered(state, id, entry, result) do
    {turns, state} = turns(state, Turns.started(state.turns, id, turn_of(result)))
    {reply(entry.from, result) ++ turns, state}
  end

  @doc """
  An answer that nobody waits for. A turn that was to be somebody's own is nobody's: it is not to go
  on.
  """
  @spec unexpected(State.t(), Message.id(), :late | :never_sent, term()) :: State.step()
  def unexpected(state, id, unexpected, result) do
    {turns, state} = turns(state, Turns.started(state.turns, id, turn_of({:ok, result})))
    {[{:note, {:unexpected_answer, unexpected, id}} | turns], state}
  end

  defp turn_of({:ok, %{} = result}), do: Message.turn_id(result)
  defp turn_of(_none), do: nil

  @doc "The server refused it. Nothing was done yet where it says that it is overloaded: it is asked again while there is time for that."
  @spec refused(State.t(), Message.id(), map(), map(), integer()) :: State.step()
  def refused(state, id, entry, %{"code" => @overloaded} = error, now) do
    attempt = entry.attempt + 1
    at = now + pause(state.config.retry_ms, attempt, id)

    if attempt > state.config.retries or at >= entry.deadline do
      answered(state, id, entry, {:error, error})
    else
      entry = %{entry | attempt: attempt, retry_at: at}
      requests = %{state.requests | waiting: Map.put(state.requests.waiting, id, entry)}

      timers =
        state.timers
        |> Timers.put(entry.deadline, {:timeout, id})
        |> Timers.put(at, {:retry, id})

      {[{:note, {:overloaded, entry.method, attempt}}],
       %{state | requests: requests, timers: timers}}
    end
  end

  def refused(state, id, entry, error, _now), do: answered(state, id, entry, {:error, error})

  # Twice as long each time; ids spread those that were refused together.
  defp pause(ms, attempt, id),
    do: min(ms * Integer.pow(2, attempt - 1), @longest_pause) + rem(id * 37, max(ms, 1))

  @doc "What followers of turns are told, and turns that nobody wants."
  @spec turns(State.t(), {[Turns.message()], Turns.t()}) :: State.step()
  def turns(state, {messages, turns}) do
    Enum.flat_map_reduce(messages, %{state | turns: turns}, fn
      {nil, thread, turn, :abandoned}, state -> interrupt(state, thread, turn)
      {who, thread, turn, what}, state -> {[{:turn, who, thread, turn, what}], state}
    end)
  end

  @doc "It could not be sent."
  @spec refuse(
          State.t(),
          Message.id(),
          tuple(),
          (State.t(), State.reason() -> State.step())
        ) :: State.step()
  def refuse(state, id, reason, fail) do
    case take(state, id) do
      {:ok, %{from: :hello}, state} -> fail.(state, {:app_server_down, %{reason: reason}})
      {:ok, entry, state} -> answered(state, id, entry, {:error, reason})
      _closed -> {[], state}
    end
  end

  @doc "A refused request is due again."
  @spec again(State.t(), Message.id()) :: State.step()
  def again(state, id) do
    case take(state, id) do
      {:ok, entry, state} ->
        new = state.requests.next
        {actions, state} = send_entry(state, %{entry | retry_at: nil})
        {actions, %{state | turns: Turns.renamed(state.turns, id, new)}}

      _closed ->
        {[], state}
    end
  end

  @doc "No answer came in time."
  @spec expire(State.t(), Message.id(), (State.t(), State.reason() -> State.step())) ::
          State.step()
  def expire(state, id, hello) do
    case take(state, id) do
      {:ok, %{from: :hello, timeout: ms}, state} ->
        hello.(state, {:init_timeout, ms})

      {:ok, entry, state} ->
        late = {:error, {:timeout, entry.method, entry.timeout}}
        {reply(entry.from, late), %{state | turns: Turns.late(state.turns, id)}}

      # Whatever was due before it at the same time has closed it.
      _closed ->
        {[], state}
    end
  end
end
