defmodule Codex.AppServer.ChildrenTest do
  # Sub-agents of a turn over an app-server.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Test.Steps
  alias Codex.{AppServer, Events, Items, Test, Thread, Turn}
  alias Codex.AppServer.Turns

  @moduletag :codex_cli

  defp call(name, arguments), do: tool_call(name, arguments, namespace: "multi_agent_v1")

  # Calls a tool with the id of the agent that the last call has started.
  defp for_agent(name) do
    fn %{body: %{"input" => input}} ->
      {:ok, %{"agent_id" => id}} = Codex.JSON.decode(List.last(input)["output"])
      call(name, %{targets: [id], timeout_ms: 20_000})
    end
  end

  defp children(steps),
    do: [
      rules: for(step <- steps, do: [header: {"x-openai-subagent", "collab_spawn"}, step: step])
    ]

  defp run(steps, of_children, options \\ []) do
    model = Test.start!(steps, children(of_children))
    {Thread.run(thread!(model, connect!(model), options), "go"), model}
  end

  test "events of a sub-agent are in the stream of its parent, and its data in the result" do
    spawn_agent = call("spawn_agent", %{message: "Look", reasoning_effort: "high"})
    steps = [spawn_agent, for_agent("wait_agent"), "Done."]
    {{:ok, result}, _} = run(steps, [shell("echo child"), "Found it."], children: true)

    assert [child] = result.children
    assert %Turn.Child{status: "completed", prompt: "Look", message: "Found it."} = child
    assert {child.model, child.reasoning_effort} == {"codex-test", "high"}
    assert child.parent_thread_id == result.thread.thread_id
    assert %{"total_tokens" => 240, "input_tokens" => 200} = child.usage
    assert %{"total_tokens" => 360} = result.usage
    assert result.final_response.text == "Done."

    events = for %Events.Child{} = event <- result.events, do: event
    assert Enum.uniq(Enum.map(events, & &1.thread_id)) == [child.thread_id]
    assert %Events.TurnStarted{} = hd(events).event
    assert %Events.TurnCompleted{status: "completed"} = List.last(events).event

    assert [%{aggregated_output: "child\n", exit_code: 0}] =
             for(
               %{event: %Events.ItemCompleted{item: %Items.CommandExecution{} = i}} <- events,
               do: i
             )

    own = for event <- result.events, not is_struct(event, Events.Child), do: event
    refute Enum.any?(own, &match?(%{item: %Items.CommandExecution{}}, &1))
    assert %{children: [_], final_response: _} = Map.from_struct(result)
    assert inspect(result) =~ "Codex.Turn.Child"
  end

  test "without the option, the result has what the parent knows" do
    steps = [call("spawn_agent", %{message: "Look"}), for_agent("wait_agent"), "Done."]
    {{:ok, result}, _} = run(steps, ["Found it."])
    refute Enum.any?(result.events, &is_struct(&1, Events.Child))

    assert [%{status: "completed", message: "Found it.", model: "codex-test", usage: nil}] =
             result.children
  end

  test "codex exec reports status and answer, and refuses the option" do
    steps = [call("spawn_agent", %{message: "Look"}), for_agent("wait_agent"), "Done."]
    model = Test.start!(steps, children(["Found it."]))
    {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model))
    assert {:ok, result} = Thread.run(thread, "go")

    assert [%{status: "completed", message: "Found it.", prompt: "Look", model: nil}] =
             result.children

    assert {:error, {:unsupported_option, :children}} =
             Thread.run(thread, "go", %{children: true})
  end

  test "a sub-agent that fails shows its error" do
    steps = [call("spawn_agent", %{message: "Look"}), for_agent("wait_agent"), "Done."]
    {{:ok, result}, _} = run(steps, [http_error(400, "no such thing")], children: true)
    assert [%{status: "errored", message: message}] = result.children
    assert message =~ "no such thing"
    assert Enum.any?(result.events, &match?(%Events.Child{event: %Events.TurnFailed{}}, &1))
  end

  test "a sub-agent of a sub-agent is a child of the same turn" do
    steps = [call("spawn_agent", %{message: "outer"}), for_agent("wait_agent"), "Done."]

    # The outer agent starts the inner agent and waits for it.
    child = fn %{body: %{"input" => input}} = request ->
      outputs = Enum.count(input, &(&1["type"] == "function_call_output"))

      case {inspect(input, limit: :infinity) =~ ~s(text" => "inner"), outputs} do
        {true, 0} -> message("deep")
        {false, 0} -> call("spawn_agent", %{message: "inner"})
        {false, 1} -> for_agent("wait_agent").(request)
        {false, 2} -> message("middle")
      end
    end

    rule = [header: {"x-openai-subagent", "collab_spawn"}, times: :infinity, step: child]
    model = Test.start!(steps, rules: [rule])
    options = [children: true, config: %{"agents" => %{"max_depth" => 3}}]
    {:ok, result} = Thread.run(thread!(model, connect!(model), options), "go")
    assert [outer, inner] = result.children
    assert {outer.message, inner.message} == {"middle", "deep"}
    assert outer.parent_thread_id == result.thread.thread_id
    assert inner.parent_thread_id == outer.thread_id
    assert {outer.usage["total_tokens"], inner.usage["total_tokens"]} == {360, 120}
  end

  test "the parent's policy decides about approvals of a sub-agent" do
    test = self()

    ask =
      shell("touch child.txt", sandbox_permissions: :require_escalated, justification: "Why not")

    steps = [call("spawn_agent", %{message: "Look"}), for_agent("wait_agent"), "Done."]

    policy = fn event, _context ->
      send(test, {:asked, event.type, event.thread_id})
      {:deny, "no"}
    end

    options = [
      children: true,
      ask_for_approval: :on_request,
      sandbox: :read_only,
      approval_policy: policy
    ]

    {{:ok, result}, _} = run(steps, [ask, "Could not."], options)
    assert [%{thread_id: id, message: "Could not."}] = result.children
    assert_received {:asked, :command_execution_approval, ^id}
  end

  for transport <- [:exec, :app_server] do
    test "roles are options, #{transport}" do
      steps = [
        call("spawn_agent", %{message: "Look", agent_type: "reviewer"}),
        for_agent("wait_agent"),
        "Done."
      ]

      model = Test.start!(steps, children(["Found it."]))
      result = run_with(unquote(transport), model, agents: role(model))
      assert [%{status: "completed", message: "Found it."}] = result.children
      assert_role(model)
    end
  end

  defp run_with(:app_server, model, options) do
    {:ok, result} = Thread.run(thread!(model, connect!(model), options), "go")
    assert [%{reasoning_effort: "high"}] = result.children
    result
  end

  defp run_with(:exec, model, options) do
    {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model) ++ options)

    {:ok, result} = Thread.run(thread, "go")
    result
  end

  defp role(model) do
    file = Path.join(model.workspace, "reviewer.toml")

    File.write!(
      file,
      ~s(model_reasoning_effort = "high"\ndeveloper_instructions = "Be strict."\n)
    )

    %{reviewer: %{description: "Reads changes.", config_file: file}}
  end

  defp assert_role(model) do
    sub_agent? = &({"x-openai-subagent", "collab_spawn"} in &1.headers)
    {[child], [first | _]} = Enum.split_with(Test.requests(model), sub_agent?)

    assert inspect(first.body["tools"], limit: :infinity, printable_limit: :infinity) =~
             "Reads changes."

    assert child.body["reasoning"]["effort"] == "high"
    assert inspect(child.body["input"], limit: :infinity) =~ "Be strict."
  end

  describe "the turns of a connection" do
    defp begun(children?) do
      turns = Turns.start(Turns.new(4), 1, :reader, "p", children?)
      {[], turns} = Turns.started(turns, 1, "t")
      turns
    end

    defp started(root), do: %{"threadId" => "c", "turn" => %{"id" => "ct", "rootTurnId" => root}}

    test "pass on a sub-agent by the root of its turn, until the parent's turn ends" do
      delta = %{"threadId" => "c", "turnId" => "ct", "itemId" => "i", "delta" => "x"}
      turns = begun(true)
      assert {[], ^turns} = Turns.observe(turns, "turn/started", started("another"))

      assert {[{:reader, "p", "t", {:child, "c", "turn/started", _}}], turns} =
               Turns.observe(turns, "turn/started", started("t"))

      assert Turns.parent(turns, "c") == {"p", "t"}

      for params <- [delta, %{"threadId" => "c", "status" => %{}}] do
        assert {[{:reader, "p", "t", {:child, "c", "some/method", ^params}}], ^turns} =
                 Turns.observe(turns, "some/method", params)
      end

      ended = %{"threadId" => "p", "turn" => %{"id" => "t", "status" => "completed"}}

      assert {[_, {:reader, "p", "t", {:completed, _}}], turns} =
               Turns.observe(turns, "turn/completed", ended)

      assert turns == Turns.new(4)
    end

    test "forget a sub-agent whose thread is closed, and those of a reader that is gone" do
      {_, turns} = Turns.observe(begun(true), "turn/started", started("t"))

      assert {[{:reader, "p", "t", {:child, "c", "thread/closed", _}}], closed} =
               Turns.observe(turns, "thread/closed", %{"threadId" => "c"})

      assert closed.children == %{}
      assert Turns.unfollow(turns, :reader, "p", "t").children == %{}
      assert {_, %{children: none}} = Turns.remove(turns, :reader)
      assert none == %{}
    end

    test "pass nothing on that the reader has not asked for" do
      assert {[], turns} = Turns.observe(begun(false), "turn/started", started("t"))
      assert turns.children == %{}
    end
  end

  test "an event of a child survives a round trip" do
    event = %Events.Child{thread_id: "c", event: %Events.ThreadArchived{thread_id: "c"}}
    assert event |> Events.to_map() |> Events.parse!() == event
  end

  test "subscribers get the notifications of sub-agents themselves" do
    model =
      Test.start!(
        [call("spawn_agent", %{message: "Look"}), for_agent("wait_agent"), "Done."],
        children(["Hi."])
      )

    conn = connect!(model)
    :ok = AppServer.subscribe(conn, as: :structs, methods: ["turn/completed"])
    assert {:ok, result} = Thread.run(thread!(model, conn), "go")
    assert [%{thread_id: id}] = result.children
    assert_received {:codex_event, ^conn, %Events.TurnCompleted{thread_id: ^id}}
  end
end
