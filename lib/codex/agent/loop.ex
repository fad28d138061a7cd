defmodule Codex.Agent.Loop do
  @moduledoc false
  # The turns of a run of `Codex.AgentRunner`, as one lazy series of the elements that
  # `Codex.Turn.add/2` takes: those of the turns, `{:spent, usage}` for tokens that the CLI reports
  # only raw, because a call of a tool ended the turn, `{:next, thread}` and
  # `{:agent, agent, config}` at
  # a handoff, `{:answer, message}` for the output of a tool, and `{:failed, error}`.
  #
  # The failure of a turn that the run itself has stopped is held back.

  alias Codex.Agent.{History, Hooks, Run, Setup}
  alias Codex.AppServer.{Backend, Connection}
  alias Codex.{AppServer, Error, Items, JSON, OwnerMonitor, Session, Turn}
  alias Codex.Approvals.Crash
  alias Codex.Events.{RawResponseCompleted, RawResponseItemCompleted}
  alias Codex.Events.{ThreadTokenUsageUpdated, TurnStarted}
  alias Codex.Guardrail.Check
  alias Codex.Handoff.InputData
  alias Codex.Pool.Turn, as: PoolTurn
  alias Codex.Turn.{Driver, Usage}

  @enforce_keys [:plan, :input]
  defstruct [
    :plan,
    :input,
    :run,
    :turn,
    :turn_id,
    :next,
    :guards,
    :spent,
    :held,
    n: 1,
    phase: :input
  ]

  @doc "Returns the elements of a run. The plan is that of the first turn."
  @spec stream(Setup.plan(), Codex.Input.t()) :: Enumerable.t()
  def stream(plan, input),
    do: Stream.resource(fn -> %__MODULE__{plan: plan, input: input} end, &next/1, &stop/1)

  defp next(%{phase: :over} = state), do: {:halt, state}
  defp next(%{phase: :input} = state), do: check_input(state)
  defp next(%{phase: :begin} = state), do: begin(state)

  defp next(%{phase: :turn} = state) do
    case state.next.({:cont, nil}) do
      {:suspended, element, next} -> element(element, %{state | next: next})
      {_done, _acc} -> ended(%{state | next: nil})
    end
  end

  # However the reader ends, the turn and its guardrails do, too.
  defp stop(state) do
    _ = if state.next, do: state.next.({:halt, nil})
    _ = if state.guards, do: Task.shutdown(state.guards, :brutal_kill)
    :ok
  end

  ## Beginning

  defp check_input(%{plan: plan} = state) do
    {_parallel, blocking} = input_guardrails(plan)

    case Check.all(blocking, [text(state.input), guard_context(plan, :input)]) do
      :ok -> {[], %{state | phase: :begin}}
      {:error, _guardrail, error} -> fail(state, error)
    end
  end

  defp input_guardrails(%{agent: agent, config: config}),
    do: Enum.split_with(agent.input_guardrails ++ config.input_guardrails, & &1.run_in_parallel)

  defp guard_context(plan, stage), do: Map.put(Setup.context(plan), :stage, stage)

  defp text(text) when is_binary(text), do: text

  defp text(blocks) do
    texts =
      for block <- List.wrap(blocks),
          text = if(is_binary(block), do: block, else: block[:text] || block["text"]),
          is_binary(text),
          do: text

    Enum.join(texts, "\n")
  end

  defp begin(%{plan: plan} = state) do
    run = Run.new(Codex.Thread.Runner.token())
    :ok = Run.counted(run, plan.base.transport == :exec)

    case Setup.prepare(plan, run) do
      {:ok, job, turn} ->
        Hooks.call(plan.agent, plan.config, :on_agent_start, [Setup.context(plan)])
        reducer = fn element, _acc -> {:suspend, element} end
        job = %{job | last?: plan[:last?]}
        next = &Enumerable.reduce(Driver.stream(job), &1, reducer)

        state = %{
          state
          | phase: :turn,
            run: run,
            turn: %{turn | keep?: false},
            turn_id: nil,
            held: nil,
            next: next,
            guards: if(state.n == 1, do: start_guards(state, run))
        }

        {if(state.n > 1, do: [{:next, turn.thread}], else: []), state}

      {:error, reason} ->
        fail(state, reason)
    end
  end

  # The input guardrails that run beside the turn.
  defp start_guards(%{plan: plan} = state, run) do
    case input_guardrails(plan) do
      {[], _blocking} ->
        nil

      {parallel, _blocking} ->
        reader = self()
        arguments = [text(state.input), guard_context(plan, :input)]

        Task.Supervisor.async_nolink(Codex.TaskSupervisor, fn ->
          OwnerMonitor.start(reader)

          with {:error, _guardrail, error} <- Check.all(parallel, arguments),
               do: Run.stop(run, {:guardrail, error})
        end)
    end
  end

  ## A turn

  defp element(element, state) do
    known = state.turn.total || state.turn.thread.usage
    {_event, turn} = Turn.add(state.turn, element)
    state = note(element, known, %{state | turn: turn})

    cond do
      failure?(element) and Run.stopped?(state.run) -> {[], %{state | held: element}}
      hidden?(element, state) -> {[], state}
      true -> {[element], state}
    end
  end

  defp hidden?(%type{}, state) when type in [RawResponseCompleted, RawResponseItemCompleted],
    do: state.plan.base.thread_opts.experimental_raw_events != true

  defp hidden?(_element, _state), do: false

  # Turns that repair the answer follow the first.
  defp note(%TurnStarted{turn_id: id}, _known, %{turn_id: nil} = state),
    do: %{state | turn_id: id}

  # The CLI counts the tokens of a response after its calls of tools.
  defp note(%RawResponseCompleted{usage: usage}, _known, state) when is_map(usage) do
    :ok = Run.counted(state.run, true)
    %{state | spent: Usage.sum(state.spent, usage)}
  end

  # At the end of a turn that was interrupted, the server repeats the total before the response.
  defp note(%ThreadTokenUsageUpdated{usage: known}, known, state), do: state

  defp note(%ThreadTokenUsageUpdated{}, _known, state) do
    :ok = Run.counted(state.run, false)
    %{state | spent: nil}
  end

  defp note(_element, _known, state), do: state

  defp failure?({:failed, _error}), do: true
  defp failure?(event), do: Turn.failure(event) != nil

  defp ended(state) do
    failed? = match?({:error, _}, Turn.result(state.turn))

    _ = if state.guards, do: end_guards(state, failed?)
    {spent, state} = {state.spent, %{state | guards: nil, spent: nil}}
    {elements, state} = decide(Run.take(state.run), failed?, state)
    {if(spent, do: [{:spent, spent} | elements], else: elements), state}
  end

  defp end_guards(state, true), do: Task.shutdown(state.guards, :brutal_kill)

  # The guardrails beside a turn that succeeded have to pass.
  defp end_guards(%{guards: guards, run: run}, false) do
    with {:exit, _reason} <- Task.yield(guards, :infinity),
         do: Run.note(run, {:guardrail, Check.failed(:input)})
  end

  defp decide(reason, failed?, state) do
    case reason do
      nil when failed? -> {List.wrap(state.held), %{state | phase: :over}}
      nil -> succeeded(state, Turn.response(state.turn))
      {:guardrail, error} -> tripped(state, error)
      {:handoff, handoff, args, call_id} -> hand_over(state, handoff, args, call_id)
      {:answer, output} -> answered(state, output)
      {:error, reason} -> fail(state, reason)
    end
  end

  defp answered(state, output) do
    {text, parsed} =
      case JSON.encode(output) do
        _json when is_binary(output) -> {output, nil}
        {:ok, json} -> {IO.iodata_to_binary(json), output}
        {:error, _reason} -> {inspect(output), output}
      end

    message = %Items.AgentMessage{text: text, parsed: parsed}
    {elements, state} = succeeded(state, message)
    {[{:answer, message} | elements], state}
  end

  defp succeeded(%{plan: plan} = state, answer) do
    text = if answer, do: answer.text
    guardrails = plan.agent.output_guardrails ++ plan.config.output_guardrails

    case Check.all(guardrails, [text, guard_context(plan, :output)]) do
      :ok ->
        save(state, text)
        Hooks.call(plan.agent, plan.config, :on_agent_end, [Setup.context(plan), text])
        {[], %{state | phase: :over}}

      {:error, _guardrail, error} ->
        tripped(state, error)
    end
  end

  defp save(%{plan: %{config: %{session: nil}}}, _text), do: :ok

  defp save(%{plan: %{config: %{session: session}}} = state, text) do
    entry = %{
      input: state.input,
      response: text,
      conversation_id: state.turn.thread.thread_id,
      previous_response_id: nil
    }

    case Session.save(session, entry) do
      {:error, reason} -> Crash.invalid("the session was not saved", reason)
      _saved -> :ok
    end
  catch
    kind, reason -> Crash.log("the session", kind, reason, __STACKTRACE__)
  end

  ## Failures

  defp fail(state, reason),
    do: {[{:failed, error(reason)}], %{state | phase: :over}}

  # The reason is returned as it is by `Codex.AgentRunner.run/3`.
  defp error(reason) do
    error = Error.normalize(reason)
    %{error | details: Map.put(error.details, :run, reason)}
  end

  # Otherwise the prompt would go to the model with the next turn.
  defp tripped(state, error) do
    {elements, state} = fail(state, error)
    clean(state.turn.thread)
    removed? = revert(state.turn.thread, state.turn_id)

    elements =
      for {:failed, error} <- elements,
          do: {:failed, put_in(error.details[:prompt_removed?], removed?)}

    {elements, state}
  end

  # An interrupt leaves commands of the turn running. A connection without `experimental_api: true`
  # cannot end them.
  defp clean(%{transport: {_app_server, _}, thread_id: id} = thread) when is_binary(id) do
    {method, params} = Backend.cleaning(id)

    _ =
      with {:ok, conn} <- PoolTurn.connection(thread),
           do: Connection.request(conn, method, params, experimental: [method])

    :ok
  end

  defp clean(_thread), do: :ok

  defp revert(%{transport: {_app_server, _}, thread_id: id} = thread, turn_id)
       when is_binary(id) and is_binary(turn_id) do
    params = %{thread_id: id, before_turn_id: turn_id}

    with {:ok, conn} <- PoolTurn.connection(thread),
         do: match?({:ok, _}, AppServer.thread_revert(conn, params)),
         else: (_ -> false)
  end

  defp revert(_thread, _turn_id), do: false

  ## Handoffs

  defp hand_over(%{plan: %{config: %{max_turns: most}}, n: most} = state, _handoff, _args, _id),
    do: fail(state, {:max_turns_exceeded, most, %{continuation: nil}})

  defp hand_over(%{plan: plan} = state, handoff, args, call_id) do
    if plan[:last?] && plan.last?.(),
      do: fail(state, Error.new(:interrupted, "the run was cancelled before a handoff")),
      else: go_on(state, handoff, args, call_id)
  end

  defp go_on(%{plan: plan} = state, handoff, args, call_id) do
    thread = state.turn.thread
    call = %{id: call_id, arguments: args}

    with {:ok, conn} <- PoolTurn.connection(thread),
         {:ok, turns} <- History.turns(conn, thread.thread_id),
         run_context = Setup.tool_context(thread),
         data = History.at_handoff(turns, state.turn_id, handoff, call, run_context),
         {:ok, data} <- filtered(handoff.input_filter, data) do
      Hooks.call(plan.agent, plan.config, :on_handoff, [Setup.context(plan), handoff.agent])
      items = data.input_history ++ data.pre_handoff_items ++ data.new_items

      nest? =
        if handoff.nest_handoff_history == nil,
          do: plan.config.nest_handoff_history,
          else: handoff.nest_handoff_history

      plan = %{
        plan
        | agent: handoff.agent,
          base: Turn.reset(%{thread | agent: nil}),
          task: :continue,
          history: if(nest?, do: History.nested(items), else: items)
      }

      {[{:agent, handoff.agent, plan.config}],
       %{state | plan: plan, phase: :begin, n: state.n + 1}}
    else
      {:error, reason} -> fail(state, reason)
    end
  end

  defp filtered(nil, data), do: {:ok, data}

  defp filtered(filter, data) do
    case filter.(data) do
      %InputData{} = data -> {:ok, data}
      {:ok, %InputData{} = data} -> {:ok, data}
      _other -> {:error, {:invalid_handoff_input, :no_input_data}}
    end
  catch
    kind, reason ->
      Crash.log("input_filter of a handoff", kind, reason, __STACKTRACE__)
      {:error, {:invalid_handoff_input, :failed}}
  end
end
