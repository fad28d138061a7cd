defmodule Codex.Hooks.ExecTest do
  # Hooks of `codex exec`: the real CLI and a scripted model.
  use ExUnit.Case, async: true

  import Codex.Hooked
  import Codex.Test.Steps
  import ExUnit.CaptureLog
  alias Codex.{Error, Events, Hooks, Items, Test, Thread}

  @moduletag :codex_cli
  @moduletag capture_log: true

  defp start({steps, opts}, options), do: steps |> Test.start!(opts) |> thread(options)
  defp start(steps, options), do: steps |> Test.start!() |> thread(options)

  defp thread(model, options) do
    options = Test.thread_options(model) ++ [sandbox: :danger_full_access] ++ options
    {:ok, thread} = Codex.start_thread(Test.options(model), options)
    {model, thread}
  end

  test "events come with their fields, in a process each, while the others wait for nothing" do
    test = self()

    names =
      [:session_start, :user_prompt_submit, :pre_model_request, :post_model_request] ++
        [:pre_tool_use, :post_tool_use, :stop]

    hooks =
      for name <- names do
        {name,
         fn event ->
           send(test, {name, self(), event})
           :allow
         end}
      end

    {model, thread} = start([touch("a"), "Done."], hooks: hooks)
    assert {:ok, %{blocked: 0} = result} = Thread.run(thread, "go")
    assert made?(model, "a")
    id = result.thread.thread_id

    assert_received {:session_start, _, %Hooks.SessionStart{source: "startup", thread_id: ^id}}
    assert_received {:user_prompt_submit, one, %Hooks.UserPromptSubmit{prompt: "go"}}
    assert_received {:pre_model_request, two, %Hooks.PreModelRequest{model: "codex-test"}}
    assert_received {:post_model_request, _, %Hooks.PostModelRequest{token_usage: usage}}
    assert %{"input_tokens" => 100, "total_tokens" => 120} = usage
    assert_received {:pre_tool_use, _, %Hooks.PreToolUse{tool_name: "Bash"} = event}
    assert %{tool_input: %{"command" => "echo hi > a"}, session_id: ^id} = event
    assert event.cwd == model.workspace
    assert_received {:post_tool_use, _, %Hooks.PostToolUse{tool_response: ""}}
    assert_received {:stop, _, %Hooks.Stop{last_assistant_message: "Done."}}
    assert one != two and not Process.alive?(one)
  end

  test "a denied command does not run, and is an item of the turn" do
    {model, thread} = start([touch("a"), "Done."], hooks: [pre_tool_use: always({:deny, "no!"})])
    {:ok, result} = Thread.run(thread, "go")
    refute made?(model, "a")
    assert shown(model) =~ "Command blocked by PreToolUse hook: no!"
    assert result.blocked == 1
    assert [%{tool: "Bash", event: :pre_tool_use, source: :host} = item] = blocked(result.events)
    assert %{reason: "no!", input: %{"command" => "echo hi > a"}} = item
    assert Items.to_map(item)["type"] == "hook_blocked"
  end

  test "of several functions each sees what the former made, and the first denial counts" do
    test = self()

    first = fn %{tool_input: %{"command" => command}} ->
      {:rewrite, String.replace(command, "> a", "> b")}
    end

    second = fn event ->
      send(test, {:second, event.tool_input})
      {:context, "Be careful."}
    end

    {model, thread} =
      start([touch("a"), "Done."], hooks: [pre_tool_use: first, pre_tool_use: second])

    {:ok, result} = Thread.run(thread, "go")
    assert made?(model, "b") and not made?(model, "a")
    assert_received {:second, %{"command" => "echo hi > b"}}
    assert shown(model) =~ "Be careful."

    assert [_command] =
             for(
               %Events.ItemCompleted{item: %Items.CommandExecution{}} = e <- result.events,
               do: e
             )

    more = [
      pre_tool_use: always({:deny, "one"}),
      pre_tool_use: fn _ ->
        send(test, :asked)
        :allow
      end
    ]

    {model, thread} = start([touch("a"), "Done."], [])
    {:ok, %{blocked: 1}} = Thread.run(thread, "go", hooks: more)
    refute made?(model, "a")
    refute_received :asked
  end

  test "output is replaced, context is added, and the turn goes on" do
    defmodule Going do
      use Codex.Hooks

      @impl true
      def post_tool_use(%{tool_response: text}), do: {:replace_output, String.upcase(text)}

      @impl true
      def session_start(_event), do: {:context, "The build is green."}

      @impl true
      def user_prompt_submit(_event), do: {:context, "Answer in one word."}

      @impl true
      def stop(%{stop_hook_active: false}), do: {:continue, "Run the tests, too."}
      def stop(_event), do: :allow
    end

    {model, thread} = start([shell("echo quiet"), "Done.", "Again."], hooks: Going)
    {:ok, result} = Thread.run(thread, "go")
    assert result.final_response.text == "Again."
    assert shown(model) =~ "QUIET"
    assert shown(model) =~ "The build is green."
    assert shown(model) =~ "Answer in one word."
    assert shown(model) =~ "Run the tests, too."
    assert 1 = Enum.count(result.events, &match?(%Events.TurnCompleted{}, &1))
  end

  test "a prompt or a start that was denied is an error, and no request leaves" do
    for event <- [:user_prompt_submit, :session_start] do
      {model, thread} = start(["Done."], hooks: [{event, always({:deny, "closed today"})}])
      assert {:error, {:exec_failed, %Error{kind: :blocked} = error}} = Thread.run(thread, "go")
      assert error.message =~ "closed today"
      assert %{reason: "closed today", hook: ^event} = error.details
      assert [%{event: ^event, reason: "closed today"}] = blocked(error.result.events)
      assert Test.requests(model) == []
    end
  end

  test "a hook that fails in any way denies, with a log and without its data" do
    hooks = [
      {fn _ -> raise "a secret" end, "RuntimeError"},
      {fn _ -> throw(:away) end, "away"},
      {fn _ -> exit(:gone) end, "gone"},
      {fn _ -> Process.exit(self(), :kill) end, "was ended before its answer"},
      {fn _ -> {:continue, "what"} end, "expected `:allow`, `{:deny, reason}`"},
      {fn _ -> {:deny, 1} end, "expected"},
      {fn _ -> nil end, "expected"},
      {fn _ -> {:rewrite, %{"cmd" => "echo"}} end, "expected"},
      {fn _ -> Process.sleep(:infinity) end, "gave no answer in time"}
    ]

    for {hook, words} <- hooks do
      {model, thread} =
        start([touch("a"), "Done."], hooks: [pre_tool_use: hook], hook_timeout_ms: 1_500)

      log = capture_log(fn -> assert {:ok, %{blocked: 1}} = Thread.run(thread, "go") end)
      refute made?(model, "a")
      assert shown(model) =~ "blocked by PreToolUse hook: the hook of the application"
      assert log =~ words
    end
  end

  test "a hook that fails after a tool withholds its output" do
    {model, thread} =
      start([shell("echo answer-$((6 * 7))"), "Done."],
        hooks: [post_tool_use: fn _ -> raise "x" end]
      )

    {:ok, _} = Thread.run(thread, "go")
    assert shown(model) =~ "the output is withheld"
    refute shown(model) =~ "answer-42"
  end

  test "the policy of approvals decides about commands, patches and MCP tools" do
    test = self()

    policy = fn event, context ->
      send(test, {:asked, event, context})

      case event do
        %{command: "echo hi > a"} -> :allow
        %{command: "echo hi > b"} -> {:deny, "not b"}
        %{command: "echo hi > c"} -> :later
        %{command: "echo hi > d"} -> {:rewrite, "echo hi > e"}
        %{command: "echo hi > f"} -> {:allow, nonsense: true}
        %{type: :file_change_approval} -> {:deny, "no patches"}
      end
    end

    patch = "*** Begin Patch\n*** Add File: p\n+x\n*** End Patch\n"
    calls = for name <- ~w(a b c d f), do: touch(name, call_id: name)
    steps = Enum.map(calls, & &1) ++ [apply_patch(patch), "Done."]
    {model, thread} = start(steps, approval_policy: policy, metadata: %{user: 7})
    {:ok, result} = Thread.run(thread, "go")
    assert for(name <- ~w(a b c d e f p), made?(model, name), do: name) == ["a", "e"]
    assert result.blocked == 4
    assert shown(model) =~ "not b"
    assert shown(model) =~ "codex exec waits for none"
    assert shown(model) =~ "no patches"
    assert_received {:asked, %{type: :command_execution_approval} = event, context}
    assert %{transport: :exec, metadata: %{user: 7}, thread: %Thread{}} = context
    assert event.cwd == model.workspace and event.item_id == "a"
  end

  describe "until" do
    test "the turn goes on inside itself until the check passes" do
      test = self()

      check = fn result ->
        send(test, {:checked, result.final_response.text, length(result.events)})
        if result.final_response.text == "Three.", do: :ok, else: {:again, "Count on."}
      end

      {model, thread} = start(["One.", touch("a"), "Two.", "Three."], [])
      assert {:ok, result} = Thread.run(thread, "go", until: check)
      assert result.final_response.text == "Three."
      assert_received {:checked, "One.", _}
      assert_received {:checked, "Two.", seen}
      assert seen > 3
      assert_received {:checked, "Three.", _}
      assert made?(model, "a")
      assert shown(model) =~ "Count on."
      assert 1 = Enum.count(result.events, &match?(%Events.TurnCompleted{}, &1))
    end

    test "the limit is an error with the result so far, and so is a check that fails" do
      never = fn _result -> {:again, "More."} end
      {model, thread} = start(["One.", "Two.", "Three."], [])
      assert {:error, {:exec_failed, error}} = Thread.run(thread, "go", until: {never, max: 2})
      assert %Error{kind: :until, details: %{max: 2, reason: "More."}} = error
      assert error.result.final_response.text == "Three."
      assert length(Test.requests(model)) == 3

      for {check, words} <- [
            {fn _ -> raise "no" end, "failed"},
            {fn _ -> :maybe end, "returned neither"},
            {{fn _ -> Process.sleep(:infinity) end, timeout_ms: 300}, "not over after 300 ms"}
          ] do
        {_model, thread} = start(["One."], [])
        assert {:error, {:exec_failed, error}} = Thread.run(thread, "go", until: check)
        assert error.kind == :until
        assert error.message =~ words
        assert error.result.final_response.text == "One."
      end
    end
  end

  describe "budget" do
    test "no request leaves beyond it, and the error has the result so far" do
      steps = [touch("a"), touch("b"), touch("c"), "Done."]
      {model, thread} = start(steps, budget: 240)
      assert {:error, {:exec_failed, %Error{kind: :budget} = error}} = Thread.run(thread, "go")
      assert %{unit: :tokens, limit: 240, spent: 240} = error.details
      assert length(Test.requests(model)) == 2
      assert made?(model, "a")
      assert [_ | _] = error.result.events

      {model, thread} = start(steps, [])
      assert {:ok, _} = Thread.run(thread, "go", budget: [tokens: 481])
      assert length(Test.requests(model)) == 4
    end

    test "money needs a price" do
      prices = %{"codex-test" => {1.0, 1.0, 1.0}}
      steps = [touch("a"), touch("b"), "Done."]
      {model, thread} = start(steps, [])
      budget = [usd: 0.00012, prices: prices]
      assert {:error, {:exec_failed, error}} = Thread.run(thread, "go", budget: budget)
      assert %{kind: :budget, details: %{unit: :usd}} = error
      assert length(Test.requests(model)) == 1

      {_model, thread} = start(steps, [])
      assert {:error, {:exec_failed, error}} = Thread.run(thread, "go", budget: [usd: 1])
      assert error.message =~ "has no price"
    end

    test "the turns before count for the thread" do
      {model, thread} = start(["One.", "Two.", "Three."], [])
      {:ok, %{thread: thread}} = Thread.run(thread, "go")
      budget = [tokens: 130, per: :thread]
      assert {:ok, %{thread: thread}} = Thread.run(thread, "go", budget: budget)
      assert {:error, {:exec_failed, error}} = Thread.run(thread, "go", budget: budget)
      assert %{kind: :budget, details: %{spent: 240}} = error
      assert length(Test.requests(model)) == 2
    end

    @tag :cli_pin
    test "agents of earlier turns count for the tree, and not for the thread" do
      {steps, rules} = with_agent(["Found."])
      {model, thread} = start({steps ++ ["More."], rules: rules}, [])
      {:ok, %{thread: thread}} = Thread.run(thread, "go")
      requests = length(Test.requests(model))
      tree = [tokens: 400, per: :tree]
      assert {:error, {:exec_failed, error}} = Thread.run(thread, "go", budget: tree)
      assert %{kind: :budget, details: %{spent: 480}} = error
      assert length(Test.requests(model)) == requests
      assert {:ok, _} = Thread.run(thread, "go", budget: [tokens: 400, per: :thread])

      options = Test.thread_options(model)
      {:ok, last} = Codex.resume_thread(:last, Test.options(model), options)
      assert {:error, {:exec_failed, error}} = Thread.run(last, "go", budget: tree)
      assert error.message =~ "not known"
    end

    test "attempts of a run count together" do
      failure = failed("server_is_overloaded", "busy")
      {model, thread} = start([touch("a"), failure, touch("b"), "Done."], [])
      opts = [budget: 240, retry: :resume, retry_opts: [base_delay_ms: 1, jitter: false]]
      assert {:error, {:exec_failed, error}} = Thread.run(thread, "go", opts)
      assert %{kind: :budget, details: %{spent: 240}} = error
      assert error.result.attempts == 2
      assert length(Test.requests(model)) == 3
    end

    @tag :cli_pin
    test "sub-agents are included" do
      {steps, rules} = with_agent([touch("a"), touch("b"), touch("c"), "Found."])

      test = self()

      seen = fn event ->
        send(test, {event.thread_id == event.session_id, event.tool_name})
        :allow
      end

      {model, thread} = start({steps, rules: rules}, hooks: [pre_tool_use: seen], budget: 480)
      assert {:error, {:exec_failed, %{kind: :budget}}} = Thread.run(thread, "go")
      assert length(Test.requests(model)) in 4..5
      assert_received {true, "spawn_agent"}
      assert_received {false, "Bash"}
    end
  end

  test "redact: values and patterns are masked for the model and in the events" do
    # The shell makes the value, so that it is in no prompt.
    {model, thread} =
      start([shell("echo pass$((40 + 2)) and sk-$((1 + 1))abc"), "It is pass42."],
        redact: ["pass42", ~r/sk-\w+/]
      )

    {:ok, result} = Thread.run(thread, "go", keep: [:raw, :stderr])
    assert shown(model) =~ "[redacted] and [redacted]"
    refute shown(model) =~ "pass42"
    assert result.final_response.text == "It is [redacted]."

    refute inspect(Map.from_struct(result), limit: :infinity, printable_limit: :infinity) =~
             "pass42"

    assert %{outputs: 2, events: events} = result.redacted
    assert events >= 3
  end

  test "hooks of the user stay beside ours, in files and in overrides" do
    {model, thread} =
      start([touch("a"), "Done."],
        hooks: [pre_tool_use: always(:allow)],
        dangerously_bypass_hook_trust: true,
        dangerous: true,
        config_overrides: %{
          "hooks.PreToolUse" => [
            %{hooks: [%{type: "command", command: "touch of-the-user"}]}
          ]
        }
      )

    assert {:ok, _} = Thread.run(thread, "go")
    assert made?(model, "a") and made?(model, "of-the-user")
  end

  test "a CLI that does not run hooks is stopped at its first item" do
    {model, thread} =
      start([touch("a"), "Done."],
        hooks: [pre_tool_use: always(:allow)],
        features: %{hooks: false}
      )

    assert {:error, {:exec_failed, error}} = Thread.run(thread, "go")
    assert error.kind == :blocked
    assert error.message =~ "does not run the hooks"
    # The first item shows it.
    assert error.result.final_response == nil
    assert length(Test.requests(model)) <= 2
  end

  test "a run whose bridge is killed is stopped" do
    test = self()

    hook = fn _ ->
      send(test, {:held, self()})
      receive(do: (:go -> :allow))
    end

    steps = [touch("a"), touch("b"), touch("c"), shell("sleep 1000"), "Done."]
    {model, thread} = start(steps, hooks: [pre_tool_use: hook])
    task = Task.async(fn -> Thread.run(thread, "go") end)
    assert_receive {:held, pid}, 20_000
    [{os_pid, _cli, _socket}] = bridges(model)
    {_, 0} = System.cmd("kill", ["-TERM", os_pid])
    {_, 0} = System.cmd("kill", ["-INT", os_pid])
    send(pid, :go)
    # The signals have no effect.
    assert_receive {:held, _pid}, 20_000
    {_, 0} = System.cmd("kill", ["-KILL", os_pid])
    assert {:error, {:exec_failed, %{kind: :blocked} = error}} = Task.await(task, 30_000)
    assert error.message =~ "connection of the hooks was lost"
    assert bridges(model) == []
  end

  test "1,000 calls of hooks start no process" do
    test = self()
    calls = for n <- 1..25, do: shell("true", call_id: "c#{n}")
    steps = List.duplicate(respond(calls), 20) ++ ["Done."]

    count = fn _event ->
      send(test, :called)
      :allow
    end

    hooks = [pre_tool_use: count, post_tool_use: count, pre_model_request: count]
    {model, thread} = start(steps, hooks: hooks)
    task = Task.async(fn -> Thread.run(thread, "go") end)
    assert_receive :called, 20_000
    most = most_bridges(model, task.ref, 0)
    assert most == 1
    assert called(1) >= 1_021
  end

  defp most_bridges(model, ref, most) do
    receive do
      {^ref, {:ok, _result}} -> Process.demonitor(ref, [:flush]) && most
    after
      50 -> most_bridges(model, ref, max(most, length(bridges(model))))
    end
  end

  defp called(n) do
    receive do
      :called -> called(n + 1)
    after
      0 -> n
    end
  end

  test "wrong options are refused by name" do
    model = Test.start!([])

    for {option, words} <- [
          {[hooks: [pre_tool: fn _ -> :allow end]], "unknown event :pre_tool. Did you mean"},
          {[hooks: [session_end: fn _ -> :ok end]], "no event :session_end"},
          {[hooks: [stop: fn -> :ok end]], "a function of one argument for :stop"},
          {[hooks: Enum], "a module with callbacks of Codex.Hooks"},
          {[budget: 0], "budget"},
          {[budget: [per: :thread]], "budget"},
          {[redact: [" "]], "redact"},
          {[redact: [~r/x*/]], "redact"}
        ] do
      assert {:error, error} = Codex.start_thread(Test.options(model), option)
      assert Exception.message(error) =~ words
      refute Exception.message(error) =~ "x*"
    end

    {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model))
    assert {:error, error} = Thread.run(thread, "go", until: fn -> :ok end)
    assert Exception.message(error) =~ "until"
  end

  test "what the user's own hooks refuse is seen in the log of the CLI" do
    model = Test.start!([touch("a"), "Done."])
    answer = ~s({"decision":"block","reason":"the user says no"})

    File.write!(
      Path.join(model.home, "hooks.json"),
      Codex.JSON.encode!(%{
        hooks: %{PreToolUse: [%{hooks: [%{type: "command", command: "echo '#{answer}'"}]}]}
      })
    )

    {model, thread} = thread(model, dangerously_bypass_hook_trust: true, dangerous: true)
    assert {:ok, %{blocked: 1} = result} = Thread.run(thread, "go")
    refute made?(model, "a")
    assert [%{source: :user, tool: "Bash", reason: "the user says no"}] = blocked(result.events)
  end

  test "ephemeral threads, threads without the user's configuration, and reviews have hooks" do
    deny = [pre_tool_use: always({:deny, "no"})]

    for options <- [[ephemeral: true], [isolation: :hermetic]] do
      {model, thread} = start([touch("a"), "Done."], [hooks: deny] ++ options)
      assert {:ok, %{blocked: 1}} = Thread.run(thread, "go")
      refute made?(model, "a")
    end

    {model, thread} =
      start(
        [
          touch("a"),
          ~s({"findings":[],"overall_correctness":"patch is correct","overall_explanation":"x","overall_confidence_score":1})
        ],
        hooks: deny
      )

    assert {:ok, %{blocked: 1}} = Thread.review(thread, {:custom, "look around"})
    refute made?(model, "a")
  end

  test "Codex.Exec has hooks, and an agent of Codex.AgentRunner" do
    deny = [pre_tool_use: always({:deny, "no"})]
    {_model, thread} = start([touch("a"), "Done."], [])
    opts = [codex_opts: thread.codex_opts, thread: thread, turn_opts: [hooks: deny]]
    assert {:ok, %{events: events}} = Codex.Exec.run("go", opts)
    assert [_] = blocked(events)

    {model, thread} = start([touch("a"), "Done."], hooks: deny)
    assert {:ok, %{blocked: 1}} = Codex.AgentRunner.run(thread, "go", agent: [name: "a"])
    refute made?(model, "a")
  end

  test "functions that can never be called are one warning when the thread is made" do
    model = Test.start!([])

    log = fn options ->
      capture_log(fn ->
        {:ok, _} = Codex.start_thread(Test.options(model), Test.thread_options(model) ++ options)
      end)
    end

    ask = [hooks: [permission_request: always(:ask)]]
    assert log.(ask) =~ "never called: the hook permission_request (codex exec asks for no"
    assert log.(approval_policy: always(:allow)) =~ "approval_policy decides about each command"
    app = [transport: {:app_server, self()}]
    assert log.(app ++ ask ++ [ask_for_approval: :never]) =~ "ask_for_approval: :never"
    never = [approval_policy: always(:allow), ask_for_approval: :never]
    assert log.(app ++ never) =~ "never called: approval_policy"
    assert log.(app ++ ask ++ [ask_for_approval: :on_request]) == ""
  end
end
