defmodule Codex.AppServer.ApprovalsTest do
  # Who decides what the agent may do, with the real server.
  use ExUnit.Case, async: true

  import Codex.Stub, only: [eventually: 1]
  import Codex.Test.Steps
  import ExUnit.CaptureLog
  alias Codex.Approvals.StaticPolicy
  alias Codex.{AppServer, Events, Items, Test, Thread}
  alias Codex.AppServer.EventDecoder

  @moduletag capture_log: true

  doctest Codex.Approvals
  doctest Codex.Approvals.StaticPolicy

  defmodule Hook do
    @behaviour Codex.Approvals.Hook

    @impl true
    def prepare(_event, context), do: {:ok, Map.put(context, :prepared, true)}

    @impl true
    def review_tool(_event, _context, _opts), do: :allow

    @impl true
    def review_command(event, %{metadata: %{test: test}} = context, opts) do
      send(test, {:asked, event, context, opts})
      {:async, test}
    end

    @impl true
    def await(test, timeout) do
      send(test, {:awaiting, self()})

      receive do
        {:decide, decision} -> {:ok, decision}
      after
        timeout -> {:error, :timeout}
      end
    end
  end

  defmodule OnlyTools do
    @behaviour Codex.Approvals.Hook
    @impl true
    def review_tool(%{type: :mcp_tool_approval}, _context, _opts), do: :allow
    def review_tool(%{type: type}, _context, _opts), do: {:deny, "not #{type}"}
  end

  defmodule EverythingByTool do
    @behaviour Codex.Approvals.Hook
    @impl true
    def review_tool(%{type: type}, %{metadata: %{test: test}}, _opts) do
      send(test, {:reviewed, type})
      :allow
    end
  end

  defp ask(command),
    do: shell(command, sandbox_permissions: "require_escalated", justification: "May I?")

  defp start(script, options, connect \\ []) do
    model = Test.start!(script)
    {:ok, conn} = AppServer.connect(Test.options(model), [cwd: model.workspace] ++ connect)
    on_exit(fn -> AppServer.disconnect(conn) end)

    {:ok, thread} =
      Codex.start_thread(
        Test.options(model),
        Test.thread_options(model) ++
          [transport: {:app_server, conn}, ask_for_approval: :on_request, sandbox: :read_only] ++
          options
      )

    {model, conn, thread}
  end

  defp statuses(result) do
    for %Events.ItemCompleted{item: %type{status: status}} <- result.events,
        type in [Items.CommandExecution, Items.FileChange],
        do: status
  end

  defp file?(model, name), do: File.exists?(Path.join(model.workspace, name))

  describe "policies" do
    @describetag :codex_cli

    test "as functions allow and deny; without a decision, the request is declined" do
      test = self()

      policy = fn event, context ->
        send(test, {:asked, event, context})
        if event.command =~ "yes", do: :allow, else: {:deny, "not this"}
      end

      {model, _conn, thread} =
        start([ask("echo 1 > yes.txt"), ask("echo 2 > no.txt"), "done"], approval_policy: policy)

      {:ok, result} = Thread.run(thread, "go")
      assert statuses(result) == [:completed, :declined]
      assert file?(model, "yes.txt") and not file?(model, "no.txt")

      assert_received {:asked, event, context}
      assert %{type: :command_execution_approval, reason: "May I?", turn_id: turn_id} = event
      assert is_binary(turn_id) and event.thread_id == result.thread.thread_id
      assert %{transport: :app_server, thread: %Thread{}, metadata: %{}} = context

      {model, _conn, thread} = start([ask("echo 1 > yes.txt"), "done"], [])
      {:ok, result} = Thread.run(thread, "go")
      assert statuses(result) == [:declined]
      refute file?(model, "yes.txt")
    end

    test "decide about files, for the session, and may end the turn" do
      patch = "*** Begin Patch\n*** Add File: a.txt\n+hi\n*** End Patch\n"

      {model, _conn, thread} =
        start([apply_patch(patch), "done"], approval_policy: StaticPolicy.allow())

      {:ok, result} = Thread.run(thread, "go")
      assert statuses(result) == [:completed]
      assert file?(model, "a.txt")

      test = self()

      once = fn %{type: :command_execution_approval}, _context, opts ->
        send(test, {:opts, opts})
        {:allow, for_session: true}
      end

      {_model, _conn, thread} =
        start([ask("echo 1"), ask("echo 1"), "done"], approval_policy: once)

      {:ok, result} = Thread.run(thread, "go")
      assert statuses(result) == [:completed, :completed]
      assert_received {:opts, [timeout: 30_000]}
      refute_received {:opts, _}

      {_model, _conn, thread} =
        start([ask("echo 1"), "done"], approval_policy: fn _ -> {:deny, :cancel} end)

      assert {:error, {:exec_failed, %{kind: :interrupted}}} = Thread.run(thread, "go")
    end

    test "may allow a prefix for ever, and decline a patch" do
      amend = fn %{proposed_execpolicy_amendment: words} ->
        {:allow, execpolicy_amendment: words || ["echo", "1"]}
      end

      {model, _conn, thread} = start([ask("echo 1"), "done"], approval_policy: amend)
      {:ok, result} = Thread.run(thread, "go")
      assert statuses(result) == [:completed]
      assert [rules] = Path.wildcard(Path.join(model.home, "rules/*.rules"))
      assert File.read!(rules) =~ ~s(decision="allow")

      patch = "*** Begin Patch\n*** Add File: a.txt\n+hi\n*** End Patch\n"
      deny = StaticPolicy.deny()
      {model, _conn, thread} = start([apply_patch(patch), "done"], approval_policy: deny)
      {:ok, result} = Thread.run(thread, "go")
      assert statuses(result) == [:declined]
      refute file?(model, "a.txt")

      cancel = fn %{type: :file_change_approval} -> {:deny, :cancel} end
      {model, _conn, thread} = start([apply_patch(patch), "done"], approval_policy: cancel)
      assert {:error, {:exec_failed, %{kind: :interrupted}}} = Thread.run(thread, "go")
      refute file?(model, "a.txt")
    end

    test "grant the permissions that are asked for, or none" do
      test = self()
      wanted = %{network: %{enabled: true}, file_system: %{write: ["/srv/out"]}}
      call = tool_call("request_permissions", %{reason: "To write.", permissions: wanted})

      for {decision, granted, scope} <- [
            {:allow, %{"enabled" => true}, "turn"},
            {{:allow, for_session: true}, %{"enabled" => true}, "session"},
            {{:deny, "no"}, nil, "turn"}
          ] do
        policy = fn %{type: :permissions_approval} = event ->
          send(test, {:asked, event})
          decision
        end

        model = Test.start!([call, "Done."], config: "features.request_permissions_tool = true")
        conn = Codex.Connected.connect!(model)
        own = [ask_for_approval: :on_request, approval_policy: policy]
        {:ok, _} = Thread.run(Codex.Connected.thread!(model, conn, own), "go")
        assert_received {:asked, %{reason: "To write.", permissions: %{"network" => _}}}

        %{body: %{"input" => input}} = model |> Test.requests() |> List.last()
        {:ok, answer} = Codex.JSON.decode(List.last(input)["output"])
        assert answer["permissions"]["network"] == granted
        assert answer["scope"] == scope
      end
    end

    test "that crash, take too long, or say nothing of this are a no" do
      for {policy, options} <- [
            {fn _ -> raise "oops" end, []},
            {fn _ -> exit(:oops) end, []},
            {fn _ -> Process.exit(self(), :kill) end, []},
            {fn _ -> :maybe end, []},
            {fn _ -> {:allow, execpolicy_amendment: [1]} end, []},
            {fn _ -> Process.sleep(:infinity) end, approval_timeout_ms: 100},
            {OnlyTools, []}
          ] do
        {model, _conn, thread} =
          start([ask("echo 1 > x.txt"), "done"], [approval_policy: policy] ++ options)

        {:ok, result} = Thread.run(thread, "go")
        assert statuses(result) == [:declined]
        refute file?(model, "x.txt")
        assert result.final_response.text == "done"
      end

      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "that have review_tool/3 alone decide commands and files with it" do
      patch = apply_patch("*** Begin Patch\n*** Add File: y.txt\n+y\n*** End Patch")
      options = [approval_hook: EverythingByTool, metadata: %{test: self()}]
      {model, _conn, thread} = start([ask("echo 1 > x.txt"), patch, "done"], options)

      {:ok, result} = Thread.run(thread, "go")
      assert statuses(result) == [:completed, :completed]
      assert_received {:reviewed, :command_execution_approval}
      assert_received {:reviewed, :file_change_approval}
      assert file?(model, "x.txt") and file?(model, "y.txt")
    end

    test "that crash, or say nothing of this, leave a line in the log" do
      log = fn policy ->
        {_model, _conn, thread} = start([ask("echo 1"), "done"], approval_policy: policy)
        capture_log(fn -> {:ok, _} = Thread.run(thread, "go") end)
      end

      assert log.(fn _ -> raise "oops" end) =~
               "the approval policy failed: ** (RuntimeError) oops"

      assert log.(fn _ -> {:allow, for_sesion: true} end) =~ "returned no decision"
    end

    test "that are invalid are errors of the thread options" do
      for policy <- [fn -> :allow end, "x", :on_request, NoSuchModule, String, [1]] do
        for name <- [:approval_policy, :approval_hook] do
          assert {:error, %Codex.OptionError{key: ^name, value: ^policy}} =
                   Codex.start_thread([], [{name, policy}])
        end
      end
    end

    test "as hooks may decide later, while the clocks stand still" do
      {model, _conn, thread} =
        start([ask("echo 1 > x.txt"), "done"],
          approval_hook: Hook,
          approval_policy: StaticPolicy.deny(),
          metadata: %{test: self()}
        )

      run =
        Task.async(fn -> Thread.run(thread, "go", timeout_ms: 5_000, idle_timeout_ms: 5_000) end)

      assert_receive {:asked, %{command: command}, %{prepared: true}, [timeout: 30_000]}, 15_000
      assert command =~ "echo 1"
      assert_receive {:awaiting, decider}
      # Longer than the clocks of the turn.
      refute Task.yield(run, 6_000)
      send(decider, {:decide, :allow})
      assert {:ok, result} = Task.await(run, 15_000)
      assert statuses(result) == [:completed]
      assert file?(model, "x.txt")
    end

    test "end with the reader, and a dead one declines" do
      test = self()

      policy = fn _event ->
        send(test, {:deciding, self()})
        Process.sleep(:infinity)
      end

      {model, conn, thread} = start([ask("echo 1 > x.txt"), "done"], approval_policy: policy)
      reader = spawn(fn -> Thread.run(thread, "go") end)
      assert_receive {:deciding, decider}, 15_000
      monitor = Process.monitor(decider)
      Process.exit(reader, :kill)
      assert_receive {:DOWN, ^monitor, :process, _, _}, 5_000
      assert eventually(fn -> :sys.get_state(conn).state.peer.received == %{} end)
      refute file?(model, "x.txt")
    end

    test "leave requests to the subscriber if there is no policy" do
      {model, conn, thread} = start([ask("echo 1 > x.txt"), "done"], [])
      :ok = AppServer.subscribe(conn, methods: ["item/commandExecution/requestApproval"])
      run = Task.async(fn -> Thread.run(thread, "go", timeout_ms: 4_000) end)
      assert_receive {:codex_request, id, _, _}, 15_000
      # The clocks stand still here, too.
      refute Task.yield(run, 5_000)
      assert AppServer.respond(conn, id, decision: :accept) == :ok
      assert {:ok, result} = Task.await(run, 15_000)
      assert statuses(result) == [:completed]
      assert file?(model, "x.txt")
    end
  end

  test "notifications have the fields of events and items" do
    ids = %{"threadId" => "t", "turnId" => "u"}
    call = %{"type" => "mcpToolCall", "id" => "i", "server" => "s", "tool" => "x"}
    call = Map.put(call, "mcpAppResourceUri", "ui://x")
    event = EventDecoder.decode("item/completed", Map.put(ids, "item", call))
    assert %{item: %{mcp_app_resource_uri: "ui://x"}, turn_id: "u"} = event
    assert %{"item" => %{"mcp_app_resource_uri" => "ui://x"}} = Events.to_map(event)

    message = %{"type" => "agentMessage", "id" => "i", "text" => "", "phase" => "commentary"}

    assert EventDecoder.decode("item/completed", Map.put(ids, "item", message)).item.phase ==
             "commentary"

    account = %{"authMode" => "chatgpt", "planType" => "pro"}

    assert %{auth_mode: "chatgpt", plan_type: "pro"} =
             EventDecoder.decode("account/updated", account)

    turn = %{"id" => "u", "status" => "completed", "startedAt" => 5, "completedAt" => 7}
    ended = EventDecoder.decode("turn/completed", %{"threadId" => "t", "turn" => turn})
    assert %{started_at: 5, completed_at: 7, duration_ms: nil} = ended
    assert Events.parse!(Events.to_map(ended)).started_at == 5

    plan = [%{"step" => "a", "status" => "inProgress"}, %{"step" => "b", "status" => "notNow"}]
    event = EventDecoder.decode("turn/plan/updated", Map.put(ids, "plan", plan))
    assert [%{step: "a", status: :in_progress}, %{step: "b", status: "not_now"}] = event.plan
    raw = %{"type" => "turn/plan/updated", "plan" => plan}
    assert Events.parse!(raw).plan == plan
  end

  test "options of a decision" do
    for options <- [[for_session: true], %{}, [grant_root: "/x"], [execpolicy_amendment: ["mix"]]],
        do: assert(Codex.Approvals.options?(options))

    for options <- [[for_sesion: true], [execpolicy_amendment: "mix"], [1], [always: 1], %URI{}],
        do: refute(Codex.Approvals.options?(options))
  end

  test "tools of the host" do
    alias Codex.Approvals
    assert Approvals.review_tool(OnlyTools, %{type: :mcp_tool_approval}, %{}) == :allow
    assert {:deny, _} = Approvals.review_tool(NoSuchModule, %{}, %{})
    assert Approvals.review_tool(StaticPolicy.deny(), %{requires_approval: false}, %{}) == :allow
    assert Approvals.review_tool(StaticPolicy.deny(), %{approved: true}, %{}) == :allow

    assert Approvals.review_tool(StaticPolicy.deny(), %{approved: false}, %{}) ==
             {:deny, "denied"}

    assert Approvals.review_tool(fn _ -> {:async, 1} end, %{}, %{}) == {:async, 1}
  end
end
