defmodule Codex.MCP.State do
  @moduledoc false
  # A connection to an MCP server as a value: the handshake of both eras, the calls that wait, rounds
  # of input, and requests of the server. `run/3` takes one operation and returns the actions to
  # perform. It has no process and no clock; times are ms of a clock that does not go back.

  alias Codex.JSONRPC.{Message, Peer}
  alias Codex.MCP.{Handlers, Handshake, Protocol}

  @enforce_keys [:peer, :options]
  defstruct [
    :peer,
    :options,
    :era,
    :version,
    :server,
    :probe,
    :missing,
    :listening,
    phase: :starting,
    calls: %{},
    paused: %{},
    uris: MapSet.new(),
    listen?: false
  ]

  @typedoc """
  A call. `deadline` is that of the whole call; `patience_ms` begins anew with each progress, if
  `progress?`. `inputs` are those of a round; `round` counts them.
  """
  @type call :: %{
          ref: term(),
          method: String.t(),
          params: map() | nil,
          timeout_ms: timeout(),
          deadline: integer() | :infinity,
          progress?: boolean(),
          tool: map() | nil,
          round: non_neg_integer(),
          inputs: map(),
          extra: map()
        }

  @typedoc "A request that a handler answers: of the server, or an input of a call."
  @type job :: {:server, Message.id()} | {:input, term(), String.t()}

  @type operation ::
          :start
          | :tick
          | {:call, call()}
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
          | :ready
          | {:failed, term()}
          | :reopen
          | {:down, term()}

  @type t :: %__MODULE__{}

  @rounds 10

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
    # `:infinity` is above every number.
    Enum.min([Peer.deadline(state.peer), Handshake.deadline(state.probe) | paused])
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
    {actions, state} = peer(state, {:receive, message}, now)
    then_run({actions, state}, &missing(&1, now))
  end

  def run(state, {:lost, id, reason}, now), do: peer(state, {:refuse, id, reason}, now)

  # The transport repeats the refused requests by itself.
  def run(%{phase: :ready} = state, :session_lost, now) do
    probe = Handshake.new(state.options, state.era, now)
    continue(%{state | phase: :starting, probe: probe}, now)
  end

  def run(state, :session_lost, _now), do: {[], state}

  def run(state, {:handled, {:server, id}, answer}, now),
    do: peer(state, {:respond, id, answer}, now)

  def run(state, {:handled, {:input, ref, key}, answer}, now) do
    case {state.paused, answer} do
      {%{^ref => call}, {:ok, result}} ->
        call = put_in(call.inputs[key], result)

        if Enum.any?(call.inputs, &match?({_, nil}, &1)),
          do: {[], put_in(state.paused[ref], call)},
          else: repeat(state, call, now)

      {%{^ref => call}, {:error, error}} ->
        over(state, call, {:error, {:input_declined, error["message"]}})

      _gone ->
        {[], state}
    end
  end

  def run(state, {:listen, listen?, uris}, now),
    do: listen(%{state | listen?: listen?, uris: uris}, now)

  def run(state, :tick, now) do
    late = for {_ref, call} <- state.paused, call.deadline <= now, do: call

    {actions, state} = Enum.flat_map_reduce(late, state, &over(&2, &1, {:error, :timeout}))

    {more, state} = peer(state, :tick, now)

    then_run({actions ++ more, state}, fn state ->
      if state.probe, do: continue(state, now), else: {[], state}
    end)
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

    {actions, state} =
      peer(%{state | probe: nil, listening: nil, missing: nil}, {:down, reason}, now)

    {more, state} =
      Enum.flat_map_reduce(Map.values(state.paused), state, &over(&2, &1, {:error, reason}))

    ended = if probing?, do: {:failed, reason}, else: {:down, reason}
    {actions ++ more ++ [ended], %{state | phase: {:down, reason}}}
  end

  # --- The handshake ----------------------------------------------------------------------------

  defp continue(state, now) do
    case Handshake.next(state.probe, now) do
      {:discover, probe} ->
        send_first(
          %{state | probe: probe},
          :discover,
          "server/discover",
          Protocol.with_meta(%{}, state.options),
          now
        )

      {{:initialize, version}, probe} ->
        params = Protocol.initialize(state.options, version)
        send_first(%{state | probe: probe}, :initialize, "initialize", params, now)

      {:wait, probe} ->
        {[], %{state | probe: probe}}

      {{:modern, result}, _probe} ->
        ready(state, :modern, Protocol.modern(), result, now)

      {{:legacy, version, result}, _probe} ->
        ready(state, :legacy, version, result, now)

      {{:fail, reason}, _probe} ->
        failed(state, reason)
    end
  end

  defp send_first(state, caller, method, params, now) do
    timeout = max(state.probe.deadline - now, 1)

    {actions, state} =
      peer(state, {:request, caller, method, params, timeout_ms: timeout, cancel?: false}, now)

    then_run({actions, state}, &continue(&1, now))
  end

  defp ready(state, era, version, result, now) do
    case Protocol.server(result) do
      {:ok, server} ->
        peer = if version == "2025-03-26", do: Peer.accept_batches(state.peer), else: state.peer

        state = %{
          state
          | peer: peer,
            era: era,
            version: version,
            server: server,
            probe: nil,
            phase: :ready
        }

        {hello, state} =
          if era == :legacy,
            do: peer(state, {:notify, "notifications/initialized", nil}, now),
            else: {[], state}

        {[{:protocol, version, era}] ++ hello ++ [:ready], %{state | listening: nil}}
        |> then_run(&listen(&1, now))
        |> then_run(&resume(&1, now))

      {:error, reason} ->
        failed(state, reason)
    end
  end

  defp resume(state, now) do
    {waiting, inputs} = Enum.split_with(state.paused, fn {_ref, call} -> call.inputs == %{} end)

    Enum.flat_map_reduce(waiting, %{state | paused: Map.new(inputs)}, fn {_ref, call}, state ->
      issue(state, call, now)
    end)
  end

  defp failed(state, reason) do
    state = %{state | phase: {:failed, reason}, probe: nil}

    {actions, state} =
      Enum.flat_map_reduce(Map.values(state.paused), state, &over(&2, &1, {:error, reason}))

    {actions ++ [{:failed, reason}], state}
  end

  # --- Calls ------------------------------------------------------------------------------------

  defp pause(state, call), do: put_in(state.paused[call.ref], call)

  defp issue(state, call, now) do
    left = if call.deadline == :infinity, do: :infinity, else: call.deadline - now

    if left != :infinity and left <= 0 do
      {[{:reply, call.ref, {:error, :timeout}}], state}
    else
      params = params(state, call)
      opts = [timeout_ms: min(call.timeout_ms, left), limit_ms: left]
      state = put_in(state.calls[call.ref], call)
      peer(state, {:request, call.ref, call.method, params, opts}, now)
    end
  end

  # The token of a request is its id, which no other live request has.
  defp params(state, call) do
    params = Map.merge(call.params || %{}, call.extra)
    params = if state.era == :modern, do: Protocol.with_meta(params, state.options), else: params

    params =
      if call.progress? do
        token = %{"progressToken" => state.peer.next}
        Map.update(params, "_meta", token, &Map.merge(&1, token))
      else
        params
      end

    if params == %{} and call.params == nil, do: nil, else: params
  end

  # Ends a call that the peer does not know.
  defp over(state, call, result) do
    drops = for {key, nil} <- call.inputs, do: {:drop, {:input, call.ref, key}}
    {drops ++ [{:reply, call.ref, result}], %{state | paused: Map.delete(state.paused, call.ref)}}
  end

  defp answered(state, call, {:ok, %{"resultType" => "input_required"} = result}, now) do
    requests = if is_map(result["inputRequests"]), do: result["inputRequests"], else: %{}
    keys = Map.keys(requests)

    kept =
      if is_binary(result["requestState"]),
        do: %{"requestState" => result["requestState"]},
        else: %{}

    call = %{call | round: call.round + 1, inputs: Map.new(keys, &{&1, nil}), extra: kept}

    cond do
      call.round > @rounds ->
        {[{:reply, call.ref, {:error, {:overflow, :input_rounds, @rounds}}}], state}

      keys == [] and kept == %{} ->
        {[{:reply, call.ref, {:error, :invalid_input_request}}], state}

      keys == [] ->
        repeat(state, call, now)

      true ->
        Enum.flat_map_reduce(requests, pause(state, call), &input(&2, call, &1, now))
    end
  end

  defp answered(state, call, {:error, {:timeout, _method, _ms}}, _now) do
    reason = if state.missing, do: state.missing.reason, else: :timeout
    {[{:reply, call.ref, {:error, reason}}], state}
  end

  defp answered(state, call, result, _now), do: {[{:reply, call.ref, result}], state}

  defp input(state, call, {key, %{"method" => method} = request}, now) do
    params = if is_map(request["params"]), do: request["params"], else: %{}
    job = {:input, call.ref, key}

    if Handlers.handles?(state.options.handlers, method),
      do: {[{:handle, job, method, params}], state},
      else: run(state, {:handled, job, Handlers.decline(state.options.handlers, method)}, now)
  end

  defp input(state, call, {_key, _invalid}, _now),
    do: over(state, call, {:error, :invalid_input_request})

  defp repeat(state, call, now) do
    extra =
      if call.inputs == %{},
        do: call.extra,
        else: Map.put(call.extra, "inputResponses", call.inputs)

    state = %{state | paused: Map.delete(state.paused, call.ref)}
    run(state, {:call, %{call | inputs: %{}, extra: extra}}, now)
  end

  # --- Messages too long ------------------------------------------------------------------------

  # The answer of one call is missing, and nobody knows of which: the last that has no answer.
  defp missing(%{missing: nil} = state, _now), do: {[], state}

  defp missing(%{missing: %{count: count, reason: reason}} = state, now) do
    ids = Enum.filter(state.missing.ids, &is_map_key(state.peer.sent, &1))

    if length(ids) > count do
      {[], put_in(state.missing.ids, ids)}
    else
      Enum.flat_map_reduce(ids, %{state | missing: nil}, &peer(&2, {:refuse, &1, reason}, now))
    end
  end

  # --- Subscriptions ----------------------------------------------------------------------------

  defp listen(%{phase: phase} = state, _now) when phase != :ready, do: {[], state}

  defp listen(%{era: :legacy} = state, now) do
    before = state.listening || MapSet.new()
    added = for uri <- MapSet.difference(state.uris, before), do: {"resources/subscribe", uri}
    removed = for uri <- MapSet.difference(before, state.uris), do: {"resources/unsubscribe", uri}

    Enum.flat_map_reduce(added ++ removed, %{state | listening: state.uris}, fn {method, uri},
                                                                                state ->
      peer(state, {:request, {:listen, method, uri}, method, %{"uri" => uri}, []}, now)
    end)
  end

  # One stream has all notifications: another one takes its place.
  defp listen(state, now) do
    {actions, state} =
      if state.listening,
        do: peer(state, {:cancel, state.listening, "replaced"}, now),
        else: {[], state}

    if state.listen? or MapSet.size(state.uris) > 0 do
      caller = {:listen, make_ref()}

      wanted = %{
        "toolsListChanged" => true,
        "promptsListChanged" => true,
        "resourcesListChanged" => true,
        "resourceSubscriptions" => Enum.sort(state.uris)
      }

      params = Protocol.with_meta(%{"notifications" => wanted}, state.options)

      {more, state} =
        peer(
          %{state | listening: caller},
          {:request, caller, "subscriptions/listen", params, timeout_ms: :infinity},
          now
        )

      {actions ++ more, state}
    else
      {actions, %{state | listening: nil}}
    end
  end

  # --- Actions of the peer ----------------------------------------------------------------------

  defp peer(state, operation, now) do
    {actions, peer} = Peer.run(state.peer, operation, now)
    Enum.flat_map_reduce(actions, %{state | peer: peer}, &act(&2, &1, now))
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

  defp act(%{probe: nil} = state, {:answer, _id, caller, _result}, _now)
       when caller in [:discover, :initialize],
       do: {[], state}

  defp act(state, {:answer, _id, caller, result}, now) when caller in [:discover, :initialize] do
    result = with {:error, {:timeout, _, _}} <- result, do: {:error, :timeout}
    continue(%{state | probe: Map.put(state.probe, caller, result)}, now)
  end

  # The server ended the stream of notifications, or refused it.
  defp act(state, {:answer, _id, {:listen, _} = caller, _result}, _now),
    do: {[], if(state.listening == caller, do: %{state | listening: nil}, else: state)}

  defp act(state, {:answer, _id, {:listen, _method, _uri}, _result}, _now), do: {[], state}

  defp act(state, {:answer, id, ref, result}, now) do
    {call, calls} = Map.pop!(state.calls, ref)
    {actions, state} = answered(%{state | calls: calls}, call, result, now)
    # The server is not waited for any more.
    stopped? = match?({:error, {:timeout, _, _}}, result) or result == {:error, :cancelled}
    {if(stopped? and id != nil, do: [{:cancel, id}], else: []) ++ actions, state}
  end

  # Clients of the modern era send no answers.
  defp act(%{era: :modern} = state, {:request, id, _method, _params}, now),
    do: peer(state, {:withdraw, id}, now)

  defp act(state, {:request, id, "ping", _params}, now),
    do: peer(state, {:respond, id, {:ok, %{}}}, now)

  defp act(state, {:request, id, method, params}, now) do
    if Handlers.handles?(state.options.handlers, method),
      do: {[{:handle, {:server, id}, method, params}], state},
      else: peer(state, {:respond, id, Handlers.decline(state.options.handlers, method)}, now)
  end

  defp act(state, {:closed, id, _received, _why}, _now), do: {[{:drop, {:server, id}}], state}

  defp act(state, {:notification, "notifications/cancelled", %{"requestId" => id}}, now),
    do: peer(state, {:withdraw, id}, now)

  defp act(
         state,
         {:notification, "notifications/progress", %{"progressToken" => id} = params},
         now
       ) do
    with %{^id => %{caller: ref}} <- state.peer.sent,
         %{^ref => %{progress?: true}} <- state.calls do
      then_run(peer(state, {:extend, id}, now), &{[{:progress, ref, params}], &1})
    else
      _late -> {[], state}
    end
  end

  defp act(state, {:notification, method, params}, _now),
    do: {[{:notification, method, params}], state}

  defp act(state, {:fail, reason}, _now) do
    before = state.missing || %{count: 0, ids: Map.keys(state.peer.sent)}
    {[], %{state | missing: %{count: before.count + 1, ids: before.ids, reason: reason}}}
  end

  defp act(state, _note, _now), do: {[], state}
end
