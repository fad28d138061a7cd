defmodule Codex.MCP.State do
  @moduledoc false
  # A connection to an MCP server as a value: the handshake of both eras, the calls that wait,
  # rounds of input, and requests of the server. `run/3` takes one operation and returns the actions
  # to perform. It has no process and no clock; times are ms of a clock that does not go back.

  alias Codex.JSONRPC.{Message, Peer}
  alias Codex.MCP.{Call, Handlers, Handshake, Listening, Oversized, Protocol}

  @enforce_keys [:peer, :options]
  defstruct [
    :peer,
    :options,
    :era,
    :version,
    :server,
    :probe,
    :oversized,
    listening: %Listening{},
    phase: :starting,
    calls: %{},
    paused: %{}
  ]

  @typedoc "A request that a handler answers: of the server, or an input of a call."
  @type job :: {:server, Message.id()} | {:input, term(), String.t()}

  @type operation ::
          :start
          | :tick
          | {:call, Call.t()}
          | {:cancel, term(), String.t()}
          | {:notify, String.t(), map() | nil}
          | {:receive, Message.t()}
          | {:lost, Message.id(), term()}
          | :session_lost
          | {:handled, job(), {:ok, map()} | {:error, map()}}
          | {:listen, boolean(), MapSet.t()}
          | {:down, map()}

  @typedoc """
    * `:send`, `:cancel`, `:protocol` - for the transport
    * `:reply` - a call is over
    * `:progress` - of a call
    * `:resource` - whether a legacy server sends the changes of a resource
    * `:handle` - run a handler; `:drop` - its answer is not needed
    * `:ready`, `:failed`, `:reopen`, `:down` - of the handshake and the server
  """
  @type action ::
          {:send, map(), map()}
          | {:cancel, Message.id()}
          | {:protocol, String.t(), Protocol.era()}
          | {:reply, term(), {:ok, term()} | {:error, term()}}
          | {:progress, term(), map()}
          | {:handle, job(), String.t(), map()}
          | {:drop, job()}
          | {:notification, String.t(), map()}
          | {:resource, String.t(), :ok | {:error, term()}}
          | :ready
          | {:failed, term()}
          | :reopen
          | {:down, term()}

  @type t :: %__MODULE__{}

  defimpl Inspect do
    def inspect(state, _opts),
      do: "#Codex.MCP.State<#{Kernel.inspect({state.phase, state.version, state.peer})}>"
  end

  @doc "Makes the state of a connection whose transport is open."
  @spec new(map()) :: t()
  def new(options) do
    peer =
      Peer.new(
        version: "2.0",
        cancel_method: "notifications/cancelled",
        overload_code: :none,
        max_sent: options.max_requests,
        max_received: 64,
        max_message_bytes: options.max_message_bytes
      )

    %__MODULE__{peer: peer, options: options}
  end

  @doc "Returns when `:tick` is due."
  @spec deadline(t()) :: integer() | :infinity
  def deadline(state) do
    paused = for {_ref, call} <- state.paused, do: call.deadline
    own = [Peer.deadline(state.peer), Handshake.deadline(state.probe), state.listening.at]
    # `:infinity` is above every number.
    Enum.min(own ++ paused)
  end

  @doc "Runs one operation at the time `now`."
  @spec run(t(), operation(), integer()) :: {[action()], t()}
  def run(state, :start, now) do
    probe = Handshake.new(state.options, state.era, now)
    continue(%{state | phase: :starting, probe: probe}, now)
  end

  def run(%{phase: :ready} = state, {:call, call}, now), do: issue(state, call, now)
  def run(%{phase: :starting} = state, {:call, call}, _now), do: {[], pause(state, call)}

  def run(%{phase: {_over, reason}} = state, {:call, call}, _now),
    do: {[{:reply, call.ref, {:error, reason}}], state}

  def run(state, {:cancel, ref, reason}, now) do
    case state.paused do
      %{^ref => call} -> over(state, call, {:error, :cancelled})
      _sent -> peer(state, {:cancel, ref, reason}, now)
    end
  end

  def run(state, {:notify, method, params}, now) do
    params = if state.era == :modern, do: Protocol.with_meta(params, state.options), else: params
    peer(state, {:notify, method, params}, now)
  end

  def run(state, {:receive, message}, now) do
    state |> peer({:receive, message}, now) |> then_run(&oversized(&1, now))
  end

  def run(state, {:lost, id, reason}, now), do: peer(state, {:refuse, id, reason}, now)

  # The transport repeats the refused requests by itself.
  def run(%{phase: :ready} = state, :session_lost, now), do: run(state, :start, now)
  def run(state, :session_lost, _now), do: {[], state}

  def run(state, {:handled, {:server, id}, answer}, now),
    do: peer(state, {:respond, id, answer}, now)

  def run(state, {:handled, {:input, ref, key}, answer}, now) do
    case {state.paused, answer} do
      {%{^ref => call}, {:ok, result}} ->
        {complete?, call} = Call.put_input(call, key, result)
        if complete?, do: repeat(state, call, now), else: {[], pause(state, call)}

      {%{^ref => call}, {:error, error}} ->
        over(state, call, {:error, {:input_declined, error["message"]}})

      _gone ->
        {[], state}
    end
  end

  def run(state, {:listen, wanted?, uris}, now),
    do: listen(%{state | listening: Listening.want(state.listening, wanted?, uris)}, now)

  def run(state, :tick, now) do
    late = for {_ref, call} <- state.paused, call.deadline <= now, do: call

    state
    |> over_all(late, :timeout)
    |> then_run(&peer(&1, :tick, now))
    |> then_run(&if(&1.probe, do: continue(&1, now), else: {[], &1}))
    |> then_run(&if(&1.listening.at <= now, do: listen(&1, now), else: {[], &1}))
  end

  # A server that ends because of `server/discover` is started again for `initialize`.
  def run(%{phase: :starting, era: nil, probe: %{}} = state, {:down, _info}, now)
      when state.options.protocol_version == nil do
    {actions, state} = peer(%{state | probe: nil}, {:down, :reopened}, now)
    {actions ++ [:reopen], %{state | era: :legacy}}
  end

  def run(state, {:down, info}, now) do
    reason = {:server_down, info}
    probing? = state.probe != nil

    ended = if probing?, do: {:failed, reason}, else: {:down, reason}

    %{state | probe: nil, listening: Listening.forget(state.listening), oversized: nil}
    |> peer({:down, reason}, now)
    |> then_run(&over_all(&1, Map.values(&1.paused), reason))
    |> then_run(&{[ended], %{&1 | phase: {:down, reason}}})
  end

  # --- The handshake ----------------------------------------------------------------------------

  defp continue(state, now) do
    case Handshake.next(state.probe, now) do
      {:wait, probe} ->
        {[], %{state | probe: probe}}

      {{:modern, result}, _probe} ->
        ready(state, :modern, Protocol.modern(), result, now)

      {{:legacy, version, result}, _probe} ->
        ready(state, :legacy, version, result, now)

      {{:fail, reason}, _probe} ->
        failed(state, reason)

      {opening, probe} ->
        {caller, method, params} = Protocol.opening(opening, state.options)
        opts = [timeout_ms: max(probe.deadline - now, 1), cancel?: false]

        %{state | probe: probe}
        |> peer({:request, caller, method, params, opts}, now)
        |> then_run(&continue(&1, now))
    end
  end

  defp ready(state, era, version, result, now) do
    case Protocol.server(result) do
      {:ok, server} ->
        peer = if version == "2025-03-26", do: Peer.accept_batches(state.peer), else: state.peer
        state = %{state | peer: peer, era: era, version: version, server: server, probe: nil}
        state = %{state | phase: :ready, listening: Listening.forget(state.listening)}

        {[{:protocol, version, era}], state}
        |> then_run(&hello(&1, now))
        |> then_run(&{[:ready], &1})
        |> then_run(&listen(&1, now))
        |> then_run(&resume(&1, now))

      {:error, reason} ->
        failed(state, reason)
    end
  end

  defp hello(%{era: :modern} = state, _now), do: {[], state}
  defp hello(state, now), do: peer(state, {:notify, "notifications/initialized", nil}, now)

  defp resume(state, now) do
    {waiting, inputs} = Enum.split_with(state.paused, fn {_ref, call} -> call.inputs == %{} end)

    state = %{state | paused: Map.new(inputs)}
    Enum.flat_map_reduce(waiting, state, &issue(&2, elem(&1, 1), now))
  end

  defp failed(state, reason) do
    %{state | phase: {:failed, reason}, probe: nil}
    |> over_all(Map.values(state.paused), reason)
    |> then_run(&{[{:failed, reason}], &1})
  end

  # --- Calls ------------------------------------------------------------------------------------

  defp pause(state, call), do: put_in(state.paused[call.ref], call)

  # The token of a request is its id, which no other live request has.
  defp issue(state, call, now) do
    left = Call.left(call, now)

    if left != :infinity and left <= 0 do
      {[{:reply, call.ref, {:error, :timeout}}], state}
    else
      params = Call.params(call, state.era, state.options, state.peer.next)
      opts = [timeout_ms: min(call.timeout_ms, left), limit_ms: left]
      state = put_in(state.calls[call.ref], call)
      peer(state, {:request, call.ref, call.method, params, opts}, now)
    end
  end

  defp over_all(state, calls, reason),
    do: Enum.flat_map_reduce(calls, state, &over(&2, &1, {:error, reason}))

  # Ends a call that the peer does not know.
  defp over(state, call, result) do
    drops = for key <- Call.missing(call), do: {:drop, {:input, call.ref, key}}
    {drops ++ [{:reply, call.ref, result}], %{state | paused: Map.delete(state.paused, call.ref)}}
  end

  defp answered(state, call, {:ok, %{"resultType" => "input_required"} = result}, now) do
    case Call.ask(call, result) do
      {:ok, requests, call} when requests == %{} ->
        repeat(state, call, now)

      {:ok, requests, call} ->
        Enum.flat_map_reduce(requests, pause(state, call), &input(&2, call, &1, now))

      {:error, reason} ->
        {[{:reply, call.ref, {:error, reason}}], state}
    end
  end

  defp answered(state, call, {:error, {:timeout, _method, _ms}}, _now) do
    reason = if state.oversized, do: state.oversized.reason, else: :timeout
    {[{:reply, call.ref, {:error, reason}}], state}
  end

  defp answered(state, %{method: "logging/setLevel"} = call, {:ok, _} = result, _now) do
    listening = Listening.leveled(state.listening, call.params["level"])
    {[{:reply, call.ref, result}], %{state | listening: listening}}
  end

  defp answered(state, call, result, _now), do: {[{:reply, call.ref, result}], state}

  defp input(state, call, {key, %{"method" => method} = request}, now) do
    params = if is_map(request["params"]), do: request["params"], else: %{}
    asked(state, {:input, call.ref, key}, method, params, now)
  end

  defp input(state, call, {_key, _invalid}, _now),
    do: over(state, call, {:error, :invalid_input_request})

  defp repeat(state, call, now),
    do: run(%{state | paused: Map.delete(state.paused, call.ref)}, {:call, Call.again(call)}, now)

  # --- Subscriptions ----------------------------------------------------------------------------

  defp listen(%{phase: phase} = state, _now) when phase != :ready,
    do: {[], put_in(state.listening.at, :infinity)}

  defp listen(state, now) do
    {operations, listening} = Listening.update(state.listening, state.era, state.options)
    Enum.flat_map_reduce(operations, %{state | listening: listening}, &peer(&2, &1, now))
  end

  # --- Actions of the peer ----------------------------------------------------------------------

  defp peer(state, operation, now) do
    {actions, peer} = Peer.run(state.peer, operation, now)
    Enum.flat_map_reduce(actions, %{state | peer: peer}, &act(&2, &1, now))
  end

  defp oversized(state, now) do
    {ids, left} = Oversized.found(state.oversized, state.peer.sent)
    refuse = &peer(&2, {:refuse, &1, state.oversized.reason}, now)
    Enum.flat_map_reduce(ids, %{state | oversized: left}, refuse)
  end

  defp then_run({actions, state}, fun) do
    {more, state} = fun.(state)
    {actions ++ more, state}
  end

  defp act(state, {:send, %{"id" => id, "method" => _} = message}, _now) do
    caller = state.peer.sent[id][:caller]
    tool = with %{tool: tool} <- state.calls[caller], do: tool
    {[{:send, message, %{tool: tool}}], state}
  end

  defp act(state, {:send, message}, _now), do: {[{:send, message, %{tool: nil}}], state}

  defp act(state, {:answer, _id, caller, result}, now) when caller in [:discover, :initialize] do
    result = with {:error, {:timeout, _, _}} <- result, do: {:error, :timeout}

    if state.probe,
      do: continue(%{state | probe: Map.put(state.probe, caller, result)}, now),
      else: {[], state}
  end

  defp act(state, {:answer, id, {:listen, _} = stream, result}, now) do
    listening = Listening.ended(state.listening, stream, result, now)
    {given_up(id, result), %{state | listening: listening}}
  end

  # The next session, or the end of the server, is the answer.
  defp act(state, {:answer, _id, {:listen, _method, _about}, {:error, lost}}, _now)
       when lost == :session_lost or elem(lost, 0) == :server_down,
       do: {[], state}

  defp act(state, {:answer, _id, {:listen, "resources/subscribe", uri}, result}, _now) do
    listening = Listening.answered(state.listening, uri, result)

    answer =
      case result do
        {:ok, _result} -> :ok
        {:error, {:timeout, _method, _ms}} -> {:error, :timeout}
        {:error, reason} -> {:error, reason}
      end

    {[{:resource, uri, answer}], %{state | listening: listening}}
  end

  defp act(state, {:answer, _id, {:listen, _method, _about}, _result}, _now), do: {[], state}

  defp act(state, {:answer, id, ref, result}, now) do
    {call, calls} = Map.pop!(state.calls, ref)
    {actions, state} = answered(%{state | calls: calls}, call, result, now)
    {given_up(id, result) ++ actions, state}
  end

  # Clients of the modern era send no answers.
  defp act(%{era: :modern} = state, {:request, id, _method, _params}, now),
    do: peer(state, {:withdraw, id}, now)

  defp act(state, {:request, id, "ping", _params}, now),
    do: peer(state, {:respond, id, {:ok, %{}}}, now)

  defp act(state, {:request, id, method, params}, now),
    do: asked(state, {:server, id}, method, params, now)

  defp act(state, {:closed, id, _received, _why}, _now), do: {[{:drop, {:server, id}}], state}

  defp act(state, {:notification, method, params}, now), do: notified(state, method, params, now)

  defp act(state, {:fail, reason}, _now),
    do: {[], %{state | oversized: Oversized.add(state.oversized, reason, state.peer.sent)}}

  defp act(state, _note, _now), do: {[], state}

  defp asked(state, job, method, params, now) do
    if Handlers.handles?(state.options.handlers, method),
      do: {[{:handle, job, method, params}], state},
      else: run(state, {:handled, job, Handlers.decline(state.options.handlers, method)}, now)
  end

  # The transport does not wait for the server any more.
  defp given_up(nil, _result), do: []
  defp given_up(id, {:error, {:timeout, _method, _ms}}), do: [{:cancel, id}]
  defp given_up(id, {:error, :cancelled}), do: [{:cancel, id}]
  defp given_up(_id, _result), do: []

  defp notified(state, "notifications/cancelled", %{"requestId" => id}, now),
    do: peer(state, {:withdraw, id}, now)

  defp notified(state, "notifications/progress", %{"progressToken" => id} = params, now) do
    with %{^id => %{caller: ref}} <- state.peer.sent,
         %{^ref => %{progress?: true}} <- state.calls do
      then_run(peer(state, {:extend, id}, now), &{[{:progress, ref, params}], &1})
    else
      _late -> {[], state}
    end
  end

  defp notified(state, method, params, _now) do
    listening = Listening.notified(state.listening, method)
    {[{:notification, method, params}], %{state | listening: listening}}
  end
end
