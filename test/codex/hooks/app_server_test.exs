defmodule Codex.Hooks.AppServerTest do
  # Hooks of threads over an app-server: the real CLI and a scripted model.
  use ExUnit.Case, async: true

  import Codex.Connected, only: [connect!: 1, connect!: 2]
  import Codex.Hooked
  import Codex.Test.Steps
  alias Codex.{AppServer, Error, Hooks, Test, Thread}

  @moduletag :codex_cli
  @moduletag capture_log: true

  defp connect(steps, opts \\ []) do
    model = Test.start!(steps, opts)

    {model, connect!(model, experimental_api: true)}
  end

  defp start(steps, options), do: steps |> connect() |> thread(options)

  defp thread({model, conn}, options) do
    options = [transport: {:app_server, conn}, sandbox: :danger_full_access] ++ options
    {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model) ++ options)
    {model, thread}
  end

  test "deny, rewrite, context, replaced output and going on" do
    hooks = [
      session_start: always({:context, "The build is green."}),
      pre_tool_use: fn
        %{tool_input: %{"command" => "echo hi > a"}} -> {:deny, "no!"}
        %{tool_input: %{"command" => "echo hi > b"}} -> {:rewrite, "echo hi > c"}
        _event -> :allow
      end,
      post_tool_use: fn
        %{tool_response: "quiet\n"} -> {:replace_output, "LOUD"}
        _event -> :allow
      end,
      stop: fn event -> if event.stop_hook_active, do: :allow, else: {:continue, "Go on."} end
    ]

    steps = [
      touch("a"),
      touch("b"),
      shell("echo quiet"),
      "Done.",
      "Again.",
      touch("a"),
      "More.",
      "All."
    ]

    {model, thread} = start(steps, hooks: hooks)
    assert {:ok, result} = Thread.run(thread, "go")
    assert result.final_response.text == "Again."
    assert for(name <- ~w(a b c), made?(model, name), do: name) == ["c"]
    assert result.blocked == 1
    assert [%{tool: "Bash", event: :pre_tool_use, source: :host} = item] = blocked(result.events)
    assert %{reason: "no!", input: %{"command" => "echo hi > a"}} = item

    for words <- ["The build is green.", "no!", "LOUD", "Go on."],
        do: assert(shown(model) =~ words)

    # The next turn of the thread has them, too.
    assert {:ok, %{blocked: 1} = result} = Thread.run(result.thread, "again", until: always(:ok))
    assert result.final_response.text == "All."
  end

  test "a prompt or a start that was denied is an error, and the connection goes on" do
    for event <- [:user_prompt_submit, :session_start] do
      hook = fn _event -> if Process.whereis(:open), do: :allow, else: {:deny, "closed today"} end
      {model, thread} = start(["Done."], hooks: [{event, hook}])
      assert {:error, {:exec_failed, %Error{kind: :blocked} = error}} = Thread.run(thread, "go")
      assert error.message =~ "closed today"
      assert [%{event: ^event}] = blocked(error.result.events)
      assert Test.requests(model) == []
    end
  end

  test "permission requests: allowed, denied, and left to the approvals of the thread" do
    test = self()

    hook = fn
      %Hooks.PermissionRequest{tool_input: %{"command" => "echo hi > a"}} -> :allow
      %Hooks.PermissionRequest{tool_input: %{"command" => "echo hi > b"}} -> {:deny, "not b"}
      _event -> :ask
    end

    ask =
      &shell("echo hi > #{&1}", justification: "please", sandbox_permissions: :require_escalated)

    policy = fn event ->
      send(test, {:asked, event.command})
      :allow
    end

    {model, thread} =
      start([ask.("a"), ask.("b"), ask.("c"), "Done."],
        hooks: [permission_request: hook],
        sandbox: :read_only,
        ask_for_approval: :on_request,
        approval_policy: policy
      )

    assert {:ok, %{blocked: 1}} = Thread.run(thread, "go")
    assert for(name <- ~w(a b c), made?(model, name), do: name) == ["a", "c"]
    assert_received {:asked, command}
    assert command =~ "> c"
    refute_received {:asked, _}
  end

  test "until, budget and redact" do
    check = fn result ->
      if result.final_response.text == "Two.", do: :ok, else: {:again, "Count on."}
    end

    {model, thread} = start(["One.", "Two."], [])
    assert {:ok, result} = Thread.run(thread, "go", until: check)
    assert result.final_response.text == "Two."
    assert shown(model) =~ "Count on."

    {_model, thread} = start(["One.", "Two.", "Three."], [])
    never = {fn _ -> {:again, "More."} end, max: 1}

    assert {:error, {:exec_failed, %{kind: :until} = error}} =
             Thread.run(thread, "go", until: never)

    assert error.result.final_response.text == "Two."

    steps = [touch("a"), touch("b"), touch("c"), "Done."]
    {model, thread} = start(steps, budget: 240)
    assert {:error, {:exec_failed, %Error{kind: :budget}}} = Thread.run(thread, "go")
    assert length(Test.requests(model)) == 2

    {model, thread} = start([shell("echo pass$((40 + 2))"), "It is pass42."], redact: ["pass42"])

    test = self()

    on_event = fn event ->
      send(test, {:event, event})
      :ok
    end

    {:ok, result} = Thread.run(thread, "go", on_event: on_event)
    assert shown(model) =~ "[redacted]"
    refute shown(model) =~ "pass42"
    assert result.final_response.text == "It is [redacted]."
    refute_received_secret()
    assert %{outputs: 1} = result.redacted
  end

  defp refute_received_secret do
    receive do
      {:event, event} ->
        refute inspect(event, limit: :infinity, printable_limit: :infinity) =~ "pass42"
        refute_received_secret()
    after
      0 -> :ok
    end
  end

  test "hooks of a turn are those of that turn, for events that the thread began with" do
    {model, thread} =
      start([touch("a"), "One.", touch("b"), "Two."], hooks: [pre_tool_use: always(:allow)])

    deny = [pre_tool_use: always({:deny, "no"})]
    assert {:ok, %{blocked: 1, thread: thread}} = Thread.run(thread, "go", hooks: deny)
    refute made?(model, "a")

    assert {:error, {:unsupported_option, :until, :loaded}} =
             Thread.run(thread, "go", until: fn _ -> :ok end)

    assert {:ok, %{blocked: 0}} = Thread.run(thread, "go")
    assert made?(model, "b")
  end

  test "a thread that the server has loaded without hooks is refused, not run without them" do
    {model, thread} = start(["One.", touch("a"), "Two."], [])
    {:ok, %{thread: thread}} = Thread.run(thread, "go")
    deny = [pre_tool_use: always({:deny, "no"})]
    assert {:error, {:exec_failed, %{kind: :blocked}}} = Thread.run(thread, "go", hooks: deny)
    refute made?(model, "a")
  end

  test "a resumed thread and a fork have hooks" do
    {model, conn} = connect(["One.", touch("a"), "Two.", touch("b"), "Three."])
    deny = [pre_tool_use: always({:deny, "no"})]
    {_, thread} = thread({model, conn}, hooks: deny)
    {:ok, %{thread: %{thread_id: id}}} = Thread.run(thread, "go")
    AppServer.disconnect(conn)

    conn = connect!(model)
    options = Test.thread_options(model) ++ [transport: {:app_server, conn}, hooks: deny]
    {:ok, thread} = Codex.resume_thread(id, Test.options(model), options)
    assert {:ok, %{blocked: 1} = result} = Thread.run(thread, "go")
    {:ok, fork} = Codex.fork_thread(result.thread.thread_id, Test.options(model), options)
    assert {:ok, %{blocked: 1}} = Thread.run(fork, "go")
    refute made?(model, "a") or made?(model, "b")
  end

  test "hooks that the server does not run are an error before the turn" do
    {model, thread} =
      start([touch("a")], hooks: [pre_tool_use: always(:allow)], features: %{hooks: false})

    assert {:error, {:exec_failed, error}} = Thread.run(thread, "go")
    assert %{kind: :blocked} = error
    assert Test.requests(model) == []
  end

  test "what hooks in the user's files refuse is seen, too" do
    model = Test.start!([touch("a"), "Done."])
    answer = ~s({"decision":"block","reason":"the user says no"})

    File.write!(
      Path.join(model.home, "hooks.json"),
      Codex.JSON.encode!(%{
        hooks: %{PreToolUse: [%{hooks: [%{type: "command", command: "echo '#{answer}'"}]}]}
      })
    )

    conn = connect!(model)

    {model, thread} = thread({model, conn}, config_overrides: %{"bypass_hook_trust" => true})

    assert {:ok, %{blocked: 1} = result} = Thread.run(thread, "go")
    refute made?(model, "a")
    assert [%{source: :user, event: :pre_tool_use} = item] = blocked(result.events)
    assert item.reason =~ "the user says no"
    assert item.id == "call_resp_1_0"
  end

  test "a bridge that is killed stops the turn, and the thread runs no more" do
    test = self()

    hook = fn _ ->
      send(test, {:held, self()})
      receive(do: (:go -> :allow))
    end

    {model, thread} = start([touch("a"), "Done."], hooks: [pre_tool_use: hook])
    task = Task.async(fn -> Thread.run(thread, "go") end)
    assert_receive {:held, _pid}, 20_000
    [{os_pid, _cli, _socket}] = bridges(model)
    {_, 0} = System.cmd("kill", ["-KILL", os_pid])
    assert {:error, {:exec_failed, %{kind: :blocked} = error}} = Task.await(task, 30_000)
    assert error.message =~ "connection of the hooks was lost"
    assert {:error, {:exec_failed, again}} = Thread.run(error.result.thread, "go")
    assert again.kind == :blocked
  end

  test "while a hook decides, the server is not to blame for silence; its process ends with the reader" do
    test = self()

    hook = fn _ ->
      send(test, {:held, self()})
      receive(do: (:go -> :allow))
    end

    {model, thread} = start([touch("a"), "Done."], hooks: [pre_tool_use: hook])
    task = Task.async(fn -> Thread.run(thread, "go", idle_timeout_ms: 5_000) end)
    assert_receive {:held, pid}, 20_000
    refute_receive {_ref, _result}, 6_500
    send(pid, :go)
    assert {:ok, _} = Task.await(task, 30_000)
    assert made?(model, "a")

    {model, thread} = start([touch("a"), "Done."], hooks: [pre_tool_use: hook])
    reader = spawn(fn -> Thread.run(thread, "go") end)
    assert_receive {:held, pid}, 20_000
    ref = Process.monitor(pid)
    Process.exit(reader, :kill)
    assert_receive {:DOWN, ^ref, :process, _, _}, 20_000
    refute made?(model, "a")
  end

  test "a connection that ends leaves neither process nor folder" do
    {model, conn} = connect(["Done."])
    {_, thread} = thread({model, conn}, hooks: [pre_tool_use: always(:allow)])
    {:ok, %{thread: %{thread_id: id}}} = Thread.run(thread, "go")
    gate = AppServer.Hooks.whereis(conn, id)
    dir = AppServer.Hooks.bridge(gate).dir
    assert File.dir?(dir)
    ref = Process.monitor(gate)
    AppServer.disconnect(conn)
    assert_receive {:DOWN, ^ref, :process, _, _}, 20_000
    refute File.exists?(dir)
  end

  @tag :cli_pin
  test "sub-agents are asked about, too" do
    {steps, rules} = with_agent([touch("a"), "Found."])

    hook = fn
      %{tool_name: "Bash", thread_id: id, session_id: root} when id != root -> {:deny, "not you"}
      _event -> :allow
    end

    {model, thread} = steps |> connect(rules: rules) |> thread(hooks: [pre_tool_use: hook])
    assert {:ok, %{blocked: 1} = result} = Thread.run(thread, "go")
    refute made?(model, "a")
    assert [%{tool: "Bash", thread_id: id}] = blocked(result.events)
    assert id != result.thread.thread_id
  end

  test "a review has hooks, and `until` is refused there" do
    {model, conn} =
      connect([
        touch("a"),
        ~s({"findings":[],"overall_correctness":"patch is correct","overall_explanation":"x","overall_confidence_score":1})
      ])

    {_, thread} = thread({model, conn}, hooks: [pre_tool_use: always({:deny, "no"})])
    target = {:custom, "look around"}
    assert {:ok, %{blocked: 1}} = Thread.review(thread, target)
    refute made?(model, "a")
    until = [until: fn _ -> :ok end]
    assert {:error, {:unsupported_option, :until}} = Thread.review(thread, target, until)
  end
end
