defmodule Codex.AgentRunnerTest do
  # Runs of agents with the real CLI and a scripted model.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Test.Steps
  import ExUnit.CaptureLog

  alias Codex.{Agent, AgentRunner, Error, Guardrail, GuardrailError, Handoff, RunConfig}
  alias Codex.{Session, StreamEvent, Stub, Test, Thread, ToolGuardrail}

  doctest Codex.Agent
  doctest Codex.Agent.History
  doctest Codex.AgentRunner
  doctest Codex.Guardrail
  doctest Codex.Handoff
  doctest Codex.ModelSettings
  doctest Codex.RunConfig
  doctest Codex.Session
  doctest Codex.ToolGuardrail
  doctest Codex.Turn.Usage

  defmodule Add do
    use Codex.Tool,
      name: "add",
      description: "Adds two numbers",
      parameters: %{
        type: "object",
        properties: %{a: %{type: "integer"}, b: %{type: "integer"}},
        required: ["a", "b"]
      }

    @impl true
    def invoke(%{"a" => a, "b" => b}, context) do
      if pid = context.context[:pid], do: send(pid, {:added, a, b, context})
      {:ok, %{sum: a + b}}
    end
  end

  defmodule Wait do
    use Codex.Tool, name: "hold", description: "Waits"

    @impl true
    def invoke(_args, context) do
      send(context.context.pid, {:waiting, self()})
      Process.sleep(:infinity)
    end
  end

  defp start(script, opts \\ []) do
    model = Test.start!(script)
    conn = connect!(model, experimental_api: true)
    thread = thread!(model, conn, opts)
    {model, %{thread | metadata: %{tool_context: %{pid: self()}}}}
  end

  defp exec(script) do
    model = Test.start!(script)
    {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model))
    {model, thread}
  end

  defp sent(model), do: for(%{body: body} <- Test.requests(model), do: body)
  defp shown(body), do: inspect(body, limit: :infinity, printable_limit: :infinity)
  defp tools(body), do: for(%{"name" => name} <- body["tools"], do: name)

  defp agent!(attrs) do
    {:ok, agent} = Agent.new(attrs)
    agent
  end

  defp trips(stage \\ :input, opts \\ []) do
    handler = opts[:handler] || fn _payload, _context -> {:tripwire, "no"} end
    Guardrail.new([name: "no", stage: stage, handler: handler] ++ Keyword.delete(opts, :handler))
  end

  describe "an agent" do
    @describetag :codex_cli

    test "gives the thread its instructions and tools, the turn its model and settings" do
      {model, thread} = start([tool_call("add", %{a: 1, b: 2}, call_id: "c1"), "three", "again"])

      agent =
        agent!(
          name: "adder",
          instructions: fn %{context: context}, %{name: name} ->
            "I am #{name} #{map_size(context)}"
          end,
          tools: [Add],
          model: "gpt-other",
          model_settings: [reasoning: :high]
        )

      assert {:ok, result} = AgentRunner.run(thread, "1 + 2?", agent: agent)
      assert result.final_response.text == "three"
      assert result.last_agent == agent
      assert_received {:added, 1, 2, %{context: %{pid: _}, agent: ^agent}}
      assert result.usage["output_tokens"] > 0

      [first, second] = sent(model)
      assert shown(first) =~ "I am adder 1"
      assert "add" in tools(first)
      assert first["model"] == "gpt-other"
      assert first["reasoning"]["effort"] == "high"
      assert shown(second) =~ ~s({\\"sum\\":3})

      # The same agent goes on in the same thread.
      id = result.thread.thread_id
      assert {:ok, result} = AgentRunner.run(result.thread, "again", agent: agent)
      assert result.thread.thread_id == id
      assert shown(List.last(sent(model))) =~ "1 + 2?"
    end

    test "that differs from that of the thread goes on in a new thread with the conversation" do
      {model, thread} = start(["first", "second"])
      {:ok, result} = Thread.run(thread, "hello there")
      agent = agent!(name: "b", instructions: "Speak as B.")
      assert {:ok, next} = AgentRunner.run(result.thread, "and now?", agent: agent)
      assert next.final_response.text == "second"
      assert next.thread.thread_id != result.thread.thread_id
      body = shown(List.last(sent(model)))
      for text <- ["Speak as B.", "hello there", "first", "and now?"], do: assert(body =~ text)
    end

    test "runs on codex exec" do
      {model, thread} = exec(["fine"])
      agent = agent!(instructions: "Be brief.")
      assert {:ok, result} = AgentRunner.run(thread, "how are you?", agent)
      assert result.final_response.text == "fine"
      assert shown(hd(sent(model))) =~ "Be brief."

      other = agent!(name: "other")
      desk = agent!(handoffs: [other])
      assert {:error, {:unsupported, :handoffs, why}} = AgentRunner.run(thread, "x", desk)
      assert why =~ "app-server"
    end

    test "calls its hooks" do
      {_model, thread} = start([tool_call("add", %{a: 1, b: 2}), "three"])
      test = self()
      tell = fn name -> fn _context, about -> send(test, {name, about}) end end

      hooks = [
        on_agent_start: fn context -> send(test, {:start, context.agent.name}) end,
        on_agent_end: tell.(:end),
        on_tool_start: tell.(:tool_start),
        on_tool_end: fn _context, name, result -> send(test, {:tool_end, name, result}) end
      ]

      broken = [on_agent_start: fn _ -> raise "on purpose" end]
      agent = agent!(name: "adder", tools: [Add], hooks: hooks)
      config = [hooks: broken]

      assert capture_log(fn ->
               assert {:ok, _} = AgentRunner.run(thread, "?", agent: agent, run_config: config)
             end) =~ "the hook on_agent_start failed"

      assert_received {:start, "adder"}
      assert_received {:tool_start, "add"}
      assert_received {:tool_end, "add", {:ok, %{sum: 3}}}
      assert_received {:end, "three"}
    end

    test "may answer with the output of a tool" do
      for behavior <- [
            :stop_on_first_tool,
            %{stop_at_tool_names: ["add"]},
            fn _context, [%{output: output}] -> %{is_final_output: true, final_output: output} end
          ] do
        {model, thread} = start([tool_call("add", %{a: 1, b: 2}), silence(:infinity)])
        agent = agent!(tools: [Add], tool_use_behavior: behavior)
        assert {:ok, result} = AgentRunner.run(thread, "?", agent)
        assert result.usage["output_tokens"] == 20
        refute Enum.any?(result.events, &is_struct(&1, Codex.Events.RawResponseCompleted))
        assert %{text: ~s({"sum":3}), parsed: %{sum: 3}} = result.final_response
        assert length(sent(model)) <= 2
      end

      {_model, thread} = start([tool_call("add", %{a: 1, b: 2}), silence(:infinity)])
      agent = agent!(tools: [Add], tool_use_behavior: fn -> :odd end)

      assert AgentRunner.run(thread, "?", agent) ==
               {:error, {:invalid_tool_use_behavior_result, :odd}}
    end
  end

  describe "a guardrail" do
    @describetag :codex_cli

    test "of the input stops the run before anything is sent" do
      {model, thread} = start([])
      agent = agent!(input_guardrails: [trips()])

      assert {:error, %Error{kind: :guardrail, details: details} = error} =
               AgentRunner.run(thread, "secret", agent)

      assert %GuardrailError{stage: :input, type: :tripwire, message: "no"} = details.raw
      assert error.message == "no"
      assert sent(model) == []
    end

    test "beside the turn interrupts it, and the prompt goes out no more" do
      {model, thread} = start(["before", silence(:infinity), "after"])
      {:ok, %{thread: thread}} = Thread.run(thread, "hello")
      test = self()

      handler = fn input, _context ->
        assert Stub.eventually(fn -> length(Test.requests(model)) == 2 end)
        send(test, {:checked, input})
        {:reject, "late no"}
      end

      agent = agent!(input_guardrails: [trips(:input, handler: handler, run_in_parallel: true)])

      assert {:error, %Error{kind: :guardrail} = error} =
               AgentRunner.run(thread, "bad words", agent)

      assert_received {:checked, "bad words"}
      assert error.details.raw.type == :reject
      assert error.details.prompt_removed?
      assert error.result.thread.thread_id == thread.thread_id

      assert {:ok, result} = Thread.run(error.result.thread, "good words")
      assert result.final_response.text == "after"
      body = shown(List.last(sent(model)))
      assert body =~ "good words" and body =~ "hello"
      refute body =~ "bad words"
    end

    test "beside the turn ends the commands of the turn" do
      seconds = 5_000 + System.unique_integer([:positive])
      {_model, thread} = start([shell("sleep #{seconds}")], sandbox: :danger_full_access)
      started? = fn -> Stub.running("sleep #{seconds}") != [] end
      handler = fn _input -> Stub.eventually(started?) && false end
      agent = agent!(input_guardrails: [trips(:input, handler: handler, run_in_parallel: true)])
      assert {:error, %Error{kind: :guardrail} = error} = AgentRunner.run(thread, "x", agent)
      assert error.details.prompt_removed?
      assert Stub.eventually(fn -> Stub.running("sleep #{seconds}") == [] end)
    end

    test "beside the turn cancels a run of codex exec" do
      {model, thread} = exec([silence(:infinity)])

      handler = fn _input ->
        assert Stub.eventually(fn -> length(Test.requests(model)) == 1 end)
        false
      end

      agent = agent!(input_guardrails: [trips(:input, handler: handler, run_in_parallel: true)])
      assert {:error, %Error{kind: :guardrail} = error} = AgentRunner.run(thread, "x", agent)
      refute error.details.prompt_removed?
    end

    test "of the output takes the turn out of the thread" do
      {model, thread} = start(["a bad answer", "a good answer"])
      handler = fn text, %{agent: _} -> if text =~ "bad", do: {:tripwire, "bad"}, else: :ok end
      config = [output_guardrails: [trips(:output, handler: handler)]]

      assert {:error, %Error{kind: :guardrail} = error} =
               AgentRunner.run(thread, "first prompt", run_config: config)

      assert error.details.raw.stage == :output
      assert error.details.prompt_removed?

      assert {:ok, _} = AgentRunner.run(error.result.thread, "second", run_config: config)
      refute shown(List.last(sent(model))) =~ "first prompt"
    end

    test "of a tool stops the call, replaces it, or stops the run" do
      guard = fn stage, behavior, handler ->
        ToolGuardrail.new(name: "tool", stage: stage, behavior: behavior, handler: handler)
      end

      reject = fn _event, _payload -> {:reject, "not this"} end
      {model, thread} = start([tool_call("add", %{a: 1, b: 2}), "done"])

      agent =
        agent!(
          tools: [Add],
          tool_input_guardrails: [guard.(:tool_input, :reject_content, reject)]
        )

      assert {:ok, _} = AgentRunner.run(thread, "?", agent)
      refute_received {:added, _, _, _}
      assert shown(List.last(sent(model))) =~ "not this"

      {model, thread} = start([tool_call("add", %{a: 1, b: 2}), "done"])
      hide = fn %{tool: "add"}, %{sum: 3}, %{context: _} -> {:reject, "hidden"} end

      agent =
        agent!(
          tools: [Add],
          tool_output_guardrails: [guard.(:tool_output, :reject_content, hide)]
        )

      assert {:ok, _} = AgentRunner.run(thread, "?", agent)
      assert_received {:added, 1, 2, _}
      assert shown(List.last(sent(model))) =~ "hidden"
      refute shown(List.last(sent(model))) =~ ~s({\\"sum)

      for {behavior, type} <- [allow: :reject, raise_exception: :tripwire] do
        {_model, thread} = start([tool_call("add", %{a: 1, b: 2}), silence(:infinity)])

        agent =
          agent!(tools: [Add], tool_input_guardrails: [guard.(:tool_input, behavior, reject)])

        assert {:error, %Error{kind: :guardrail} = error} = AgentRunner.run(thread, "?", agent)
        assert %{stage: :tool_input, type: ^type} = error.details.raw
        assert error.details.prompt_removed?
      end
    end

    test "that fails, waits or has no handler stops the run, and ends nobody" do
      guards = [
        Guardrail.new(handler: fn _ -> raise "on purpose" end),
        Guardrail.new(handler: fn _ -> exit(:away) end),
        Guardrail.new(handler: fn _ -> Process.exit(self(), :kill) end),
        Guardrail.new(handler: fn _ -> Process.sleep(:infinity) end, timeout_ms: 50),
        Guardrail.new(handler: fn _ -> :odd end),
        Guardrail.new()
      ]

      for guard <- guards, parallel <- [false, true] do
        {_model, thread} = exec([silence(:infinity)])
        agent = agent!(input_guardrails: [%{guard | run_in_parallel: parallel}])

        capture_log(fn ->
          assert {:error, %Error{kind: :guardrail, details: %{raw: error}}} =
                   AgentRunner.run(thread, "x", agent)

          assert error.type == :tripwire
        end)
      end
    end

    test "whose process is ended from outside stops the run" do
      {_model, thread} = exec(["fine"])

      kill = fn _ ->
        [parent | _] = Process.get(:"$callers")
        Process.exit(parent, :kill)
        Process.sleep(:infinity)
      end

      agent = agent!(input_guardrails: [trips(:input, handler: kill, run_in_parallel: true)])
      assert {:error, %Error{kind: :guardrail} = error} = AgentRunner.run(thread, "x", agent)
      assert error.message =~ "ended before they had a result"
    end

    test "does not outlive the run" do
      {_model, thread} = exec(["fine"])
      test = self()

      slow = fn _ ->
        send(test, {:guard, self()})
        Process.sleep(:infinity)
      end

      agent = agent!(input_guardrails: [trips(:input, handler: slow, run_in_parallel: true)])
      {pid, ref} = spawn_monitor(fn -> AgentRunner.run(thread, "x", agent) end)
      assert_receive {:guard, guard}, 30_000
      monitor = Process.monitor(guard)
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^ref, :process, _, :killed}
      assert_receive {:DOWN, ^monitor, :process, _, _}, 5_000
    end
  end

  describe "a handoff" do
    @describetag :codex_cli

    defp desk(opts \\ []) do
      refunds = agent!(name: "refunds", instructions: "You are refunds.", tools: [Add])
      handoff = Handoff.wrap(refunds, opts)
      {agent!(name: "desk", instructions: "You are the desk.", handoffs: [handoff]), refunds}
    end

    test "goes on with another agent that knows the conversation" do
      script = [
        "Hello!",
        respond([
          message("I ask a colleague."),
          tool_call("transfer_to_refunds", %{}, call_id: "h1")
        ]),
        "You get it back."
      ]

      for nest <- [true, false] do
        {model, thread} = start(script)
        {desk, refunds} = desk()
        config = [nest_handoff_history: nest]
        {:ok, result} = AgentRunner.run(thread, "Hi", agent: desk, run_config: config)

        assert {:ok, result} =
                 AgentRunner.run(result.thread, "My money!", agent: desk, run_config: config)

        assert result.final_response.text == "You get it back."
        assert result.last_agent == refunds

        body = List.last(sent(model))
        assert "add" in tools(body)
        refute "transfer_to_refunds" in tools(body)
        text = shown(body)

        for words <- ["Hi", "Hello!", "My money!", "I ask a colleague.", "You are refunds."],
            do: assert(text =~ words)

        refute text =~ "You are the desk."
        # The tokens of both agents.
        assert result.usage["output_tokens"] == 2 * List.first(usages(result))
      end
    end

    defp usages(result) do
      for %Codex.Events.ThreadTokenUsageUpdated{usage: %{"output_tokens" => n}} <- result.events,
          do: n
    end

    test "is filtered, told to hooks, and seen in a stream" do
      {model, thread} = start([tool_call("to_refunds", %{why: "broken"}, call_id: "h1"), "done"])

      test = self()

      {desk, refunds} =
        desk(
          tool_name: "to_refunds",
          input_schema: %{"properties" => %{"why" => %{"type" => "string"}}},
          on_invoke: fn _context, args -> send(test, {:invoked, args}) end,
          input_filter: fn data ->
            send(test, {:filtered, data})
            %{data | pre_handoff_items: [], input_history: [], new_items: data.new_items}
          end
        )

      desk = %{
        desk
        | hooks: [on_handoff: fn _context, agent -> send(test, {:to, agent.name}) end]
      }

      assert {:ok, run} = AgentRunner.run_streamed(thread, "secret words", agent: desk)
      events = Enum.to_list(run)

      agents = for %StreamEvent.AgentUpdated{agent: agent} <- events, do: agent.name
      assert agents == ["desk", "refunds"]
      assert {:ok, %{last_agent: ^refunds}} = Codex.RunResultStreaming.result(run)

      assert_received {:invoked, %{"why" => "broken"}}
      assert_received {:to, "refunds"}
      assert_received {:filtered, %Handoff.InputData{} = data}
      assert shown(data.pre_handoff_items) =~ "secret words"
      body = shown(List.last(sent(model)))
      refute body =~ "secret words"
      assert body =~ "broken"
    end

    test "that is disabled is no tool; more than max_turns are an error" do
      {model, thread} = start(["fine"])
      {desk, _} = desk(is_enabled: fn %{context: _} -> false end)
      assert {:ok, []} = AgentRunner.get_handoffs(desk, %{context: %{}})
      assert {:ok, _} = AgentRunner.run(thread, "x", desk)
      refute shown(hd(sent(model))) =~ "transfer_to_refunds"

      {_model, thread} = start([tool_call("transfer_to_refunds", %{}), silence(:infinity)])
      {desk, _} = desk()

      assert AgentRunner.run(thread, "x", agent: desk, max_turns: 1) ==
               {:error, {:max_turns_exceeded, 1, %{continuation: nil}}}
    end
  end

  describe "a run" do
    @describetag :codex_cli

    test "that is stopped leaves no tool running" do
      {_model, thread} = start([tool_call("hold", %{}), "late"])
      agent = agent!(tools: [Wait])
      assert {:ok, run} = AgentRunner.run_streamed(thread, "x", agent)
      task = Task.async(fn -> catch_error(Enum.to_list(run)) end)
      assert_receive {:waiting, tool}, 30_000
      monitor = Process.monitor(tool)
      Codex.RunResultStreaming.cancel(run)
      assert %Error{kind: :interrupted} = Task.await(task, 30_000)
      assert_receive {:DOWN, ^monitor, :process, _, _}, 5_000
    end

    test "goes on with the conversation of its session" do
      {model, thread} = exec(["Hello Ada", "Ada"])
      {:ok, memory} = Session.Memory.start_link()
      config = [session: {Session.Memory, memory}]
      assert {:ok, first} = AgentRunner.run(thread, "I am Ada", run_config: config)
      assert {:ok, second} = AgentRunner.run(thread, "Who am I?", run_config: config)
      assert second.thread.thread_id == first.thread.thread_id
      assert shown(List.last(sent(model))) =~ "I am Ada"

      assert {:ok, [%{input: "I am Ada", response: "Hello Ada"}, %{response: "Ada"}]} =
               Session.load({Session.Memory, memory})
    end

    test "lets a callback change the input, and survives a session that fails" do
      defmodule Broken do
        @behaviour Codex.Session
        @impl true
        def load(_state), do: raise("on purpose")
        @impl true
        def save(_state, _entry), do: {:error, :full}
        @impl true
        def clear(_state), do: :ok
      end

      {model, thread} = exec(["fine"])

      config = [
        session: {Broken, nil},
        session_input_callback: fn input, [], _context -> {:ok, input <> "!"} end
      ]

      log =
        capture_log(fn ->
          assert {:ok, _} = AgentRunner.run(thread, "hello", run_config: config)
        end)

      assert log =~ "the session failed"
      assert log =~ "the session was not saved"
      assert shown(hd(sent(model))) =~ "hello!"
    end

    test "is one of Codex.Thread, too, with an agent or its attributes" do
      {model, thread} = exec(["short", "long"])
      opts = [agent: %{instructions: "Keep responses short"}, run_config: %{max_turns: 3}]
      assert {:ok, result} = Thread.run(thread, "Plan a checklist", opts)
      assert result.final_response.text == "short"
      assert %Agent{name: "agent"} = result.last_agent
      assert shown(hd(sent(model))) =~ "Keep responses short"

      assert {:ok, run} = Thread.run_streamed(thread, "Plan", Map.new(opts))
      assert [%StreamEvent.AgentUpdated{agent: %Agent{}} | _] = Enum.to_list(run)

      assert Thread.handle_tool_requests(result, 1) == {:ok, result}

      call = %Codex.Events.ToolCallRequested{
        thread_id: "t",
        turn_id: "u",
        call_id: "c",
        tool_name: "x",
        arguments: %{}
      }

      assert {:error, {:unsupported, :handle_tool_requests, _}} =
               Thread.handle_tool_requests(%{result | events: [call]}, 1, %{})
    end

    test "fails as a turn does" do
      {_model, thread} = start([http_error(400, "no such thing")])
      assert {:error, {:turn_failed, %Error{}}} = AgentRunner.run(thread, "x", agent!(name: "a"))
    end
  end

  test "wrong attributes are errors where they are set" do
    assert {:error, %Codex.OptionError{key: :tools}} = Agent.new(tools: :add)
    assert {:error, %Codex.OptionError{key: :name}} = Agent.new(name: 1)
    assert {:error, %Codex.OptionError{nearest: :tools}} = Agent.new(tols: [])
    assert {:error, %Codex.OptionError{}} = Agent.new(input_guardrails: [trips(:output)])
    assert {:error, {:unsupported, :temperature, _}} = Agent.new(model_settings: [temperature: 1])
    assert {:error, {:unsupported, :prompt, _}} = Agent.new(%{"prompt" => "x"})
    assert {:error, {:unsupported, :workflow, why}} = RunConfig.new(workflow: "w")
    assert Error.normalize({:unsupported, :workflow, why}).kind == :unsupported
    assert {:ok, _} = RunConfig.new(tracing_disabled: false, workflow: nil)
    assert {:error, %Codex.OptionError{key: :session}} = RunConfig.new(session: {String, 1})
    assert_raise Codex.OptionError, fn -> Guardrail.new(handler: :none) end
    assert_raise Codex.OptionError, fn -> Handoff.wrap(:agent) end

    {:ok, thread} = Codex.start_thread()
    assert {:error, %Codex.OptionError{}} = AgentRunner.run(thread, "x", agent: :none)
    assert {:error, %Codex.OptionError{}} = AgentRunner.run(thread, "x", max_turns: 0)
    assert {:error, %Codex.OptionError{key: :modle}} = AgentRunner.run(thread, "x", modle: "m")
    assert {:error, %Codex.OptionError{}} = AgentRunner.run(:none, "x")

    assert {:error, {:invalid_tool, String, :no_invoke}} =
             AgentRunner.run(thread, "x", agent: [tools: [String]])
  end
end
