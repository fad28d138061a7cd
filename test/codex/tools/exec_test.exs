defmodule Codex.Tools.ExecTest do
  # Host tools of `codex exec`: the real CLI and a scripted model.
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  import ExUnit.CaptureLog
  alias Codex.{AgentRunner, Events, Hooked, Items, Test, Thread, ToolGuardrail}

  @moduletag :codex_cli
  @moduletag capture_log: true

  defmodule Add do
    use Codex.FunctionTool, name: "add", parameters: [a: :integer, b: :integer]

    def handle(%{"a" => a, "b" => b}, context) do
      if test = context.context[:test], do: send(test, {:added, a, b, context})
      {:ok, %{sum: a + b}}
    end
  end

  defmodule Boom do
    use Codex.FunctionTool, name: "boom"
    def handle(_args), do: raise("on purpose, with a secret")
  end

  defmodule Hold do
    use Codex.FunctionTool, name: "hold", parameters: [n: :integer]

    def handle(%{"n" => n}, context) do
      send(context.context.test, {:held, n, self()})
      receive do: (:go -> {:ok, "held #{n}"})
    end
  end

  defmodule Long do
    use Codex.FunctionTool, name: "long"
    def handle(_args), do: {:ok, String.duplicate("0123456789", 100_000)}
  end

  defp start({steps, opts}, options), do: steps |> Test.start!(opts) |> thread(options)
  defp start(steps, options), do: steps |> Test.start!() |> thread(options)

  defp thread(model, options) do
    options = [metadata: %{tool_context: %{test: self()}}] ++ options
    {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model) ++ options)
    {model, thread}
  end

  defp host(name, args, opts \\ []),
    do: tool_call(name, args, [namespace: "mcp__host"] ++ opts)

  defp outputs(model) do
    %{body: %{"input" => input}} = model |> Test.requests() |> List.last()

    for %{"type" => "function_call_output", "call_id" => id, "output" => output} <- input,
        into: %{},
        do: {id, text(output)}
  end

  defp text(text) when is_binary(text), do: text
  defp text(items), do: Enum.map_join(items, & &1["text"])

  defp shown(model) do
    model |> Test.requests() |> inspect(limit: :infinity, printable_limit: :infinity)
  end

  defp ended!(pid) do
    ref = Process.monitor(pid)
    assert_receive {:DOWN, ^ref, :process, _, _}, 5_000
  end

  defp dirs, do: MapSet.new(Path.wildcard(Path.join(System.tmp_dir!(), "codex_sdk_*/s")))

  defp bridges do
    for path <- Path.wildcard("/proc/[0-9]*/cmdline"),
        {:ok, line} <- [File.read(path)],
        [program, "bridge" | _] <- [String.split(line, <<0>>)],
        Path.basename(program) == "codex_launcher",
        do: {path |> Path.split() |> Enum.at(2), line}
  end

  test "four calls of one turn: two answers, a crash, a timeout; invalid arguments are told" do
    calls = [
      host("add", %{a: 1, b: 2}, call_id: "c1"),
      host("boom", %{}, call_id: "c2"),
      host("hold", %{n: 1}, call_id: "c3"),
      host("shop_add", %{a: 3, b: "four"}, call_id: "c4")
    ]

    tools = [
      Add,
      Boom,
      {Hold, timeout_ms: 300},
      {Add, namespace: {"shop", "The shop"}, defer: true}
    ]

    {model, thread} =
      start([respond(calls), "Done.", host("add", %{a: 5, b: 6}), "More."], tools: tools)

    assert {:ok, result} = Thread.run(thread, "go")
    assert result.final_response.text == "Done."
    outputs = outputs(model)
    assert outputs["c1"] =~ ~s({"sum":3})
    assert outputs["c2"] =~ "the tool boom failed: RuntimeError"
    assert outputs["c3"] =~ "the tool hold took too long"
    assert outputs["c4"] =~ "invalid arguments for add"
    assert outputs["c4"] =~ "b"
    refute shown(model) =~ "with a secret"

    assert_received {:held, 1, pid}
    refute Process.alive?(pid)
    assert_received {:added, 1, 2, context}
    assert %{call_id: "c1", tool: "add", namespace: nil} = context.event
    assert context.event.thread_id == result.thread.thread_id
    assert is_binary(context.event.turn_id)
    assert context.thread.metadata == thread.metadata

    statuses =
      for %Events.ItemCompleted{item: %Items.McpToolCall{} = item} <- result.events,
          do: {item.server, item.tool, item.status}

    assert {"host", "add", :completed} in statuses
    assert {"host", "boom", :failed} in statuses

    # A thread that goes on gets them anew.
    assert {:ok, result} = Thread.run(result.thread, "more")
    assert result.final_response.text == "More."
    assert_received {:added, 5, 6, _context}
  end

  test "calls of one response run at the same time, and the slowest may answer first" do
    calls = for n <- 1..3, do: host("hold", %{n: n}, call_id: "c#{n}")
    {model, thread} = start([respond(calls), "Done."], tools: [Hold])
    task = Task.async(fn -> Thread.run(thread, "go") end)

    pids =
      for n <- 1..3, into: %{} do
        assert_receive {:held, ^n, pid}, 20_000
        {n, pid}
      end

    for n <- [3, 2, 1] do
      send(pids[n], :go)
      ended!(pids[n])
    end

    assert {:ok, %{final_response: %{text: "Done."}}} = Task.await(task, 30_000)
    for n <- 1..3, do: assert(outputs(model)["c#{n}"] =~ "held #{n}")
  end

  test "a large result reaches the model in part" do
    {model, thread} = start([host("long", %{}, call_id: "c1"), "Done."], tools: [Long])
    assert {:ok, %{final_response: %{text: "Done."}}} = Thread.run(thread, "go")
    assert outputs(model)["c1"] =~ "0123456789"
  end

  test "no argument, file of the home or log has the token, and the end leaves nothing" do
    {model, thread} = start([host("hold", %{n: 1}), "Done."], tools: [Hold])
    before = dirs()

    log =
      capture_log(fn ->
        task = Task.async(fn -> Thread.run(thread, "go") end)
        assert_receive {:held, 1, pid}, 20_000
        sockets = MapSet.difference(dirs(), before)
        assert MapSet.size(sockets) >= 1

        tokens =
          for {os_pid, _line} <- bridges(),
              {:ok, env} <- [File.read("/proc/#{os_pid}/environ")],
              "CODEX_SDK_BRIDGE_TOKEN=" <> token <- String.split(env, <<0>>),
              do: token

        assert tokens != []

        for path <- Path.wildcard("/proc/[0-9]*/cmdline"), {:ok, line} <- [File.read(path)] do
          for token <- tokens, do: refute(line =~ token)
        end

        send(pid, :go)
        assert {:ok, result} = Task.await(task, 30_000)

        for token <- tokens do
          refute inspect(result, limit: :infinity, printable_limit: :infinity) =~ token
          refute shown(model) =~ token

          for path <- Path.wildcard(Path.join(model.home, "**"), match_dot: true),
              {:ok, text} <- [File.read(path)],
              do: refute(text =~ token)
        end

        send(self(), {:tokens, tokens})
      end)

    assert_received {:tokens, tokens}
    for token <- tokens, do: refute(log =~ token)
  end

  test "a CLI that is killed in mid-call leaves no process and no socket" do
    {model, thread} = start([host("hold", %{n: 1}), "Done."], tools: [Hold])
    task = Task.async(fn -> Thread.run(thread, "go") end)
    assert_receive {:held, 1, pid}, 20_000
    [{_bridge, cli, socket}] = Hooked.bridges(model)
    {_out, 0} = System.cmd("kill", ["-KILL", cli])
    assert {:error, {:exec_failed, %Codex.Error{}}} = Task.await(task, 30_000)
    ended!(pid)
    refute File.exists?(Path.dirname(socket))
    assert Hooked.bridges(model) == []
  end

  test "a cancelled run ends its tools; so does a reader that is killed" do
    {_model, thread} = start([host("hold", %{n: 1}), "Done."], tools: [Hold])
    token = "t-#{System.unique_integer([:positive])}"
    task = Task.async(fn -> Thread.run(thread, "go", cancellation_token: token) end)
    assert_receive {:held, 1, pid}, 20_000
    :ok = Codex.Exec.cancel(token)
    assert {:error, {:exec_failed, %{kind: :interrupted}}} = Task.await(task, 30_000)
    ended!(pid)

    {model, thread} = start([host("hold", %{n: 2}), "Done."], tools: [Hold])
    reader = spawn(fn -> Thread.run(thread, "go") end)
    assert_receive {:held, 2, pid}, 20_000
    [{_bridge, _cli, socket}] = Hooked.bridges(model)
    Process.exit(reader, :kill)
    ended!(pid)

    assert Enum.any?(1..100, fn _n -> not File.exists?(socket) or (Process.sleep(20) && false) end)
  end

  test "the approvals of other servers stay, and a taken name is left to its server" do
    server = %{command: "/bin/cat", enabled: false}
    call = tool_call("add", %{a: 1, b: 2}, namespace: "mcp__host_2")
    {_model, thread} = start([call, "Done."], tools: [Add], mcp_servers: %{"host" => server})
    assert {:ok, %{final_response: %{text: "Done."}}} = Thread.run(thread, "go")
    assert_received {:added, 1, 2, _context}
  end

  @tag :cli_pin
  test "a sub-agent, which would connect a second time, is told that it cannot" do
    {steps, rules} = Hooked.with_agent([host("add", %{a: 1, b: 2}), "Found it."])

    {model, thread} = start({steps, rules: rules}, tools: [Add])
    assert {:ok, %{final_response: %{text: "Done."}} = result} = Thread.run(thread, "go")
    assert [%{status: "completed", message: "Found it."}] = result.children
    assert shown(model) =~ "the application cannot be reached"
    refute_received {:added, 1, 2, _context}
  end

  test "tools that meet in one name are refused before anything starts" do
    tools = [{Add, name: "a_b"}, {Add, namespace: "a", name: "b"}]
    model = Test.start!([])

    assert {:error, {:invalid_tool, Add, {:duplicate_name, "a_b"}}} = refused(model, tools)

    assert Test.requests(model) == []
  end

  defp refused(model, tools) do
    options = Test.thread_options(model) ++ [tools: tools]

    with {:ok, thread} <- Codex.start_thread(Test.options(model), options),
         {:error, %Codex.Error{details: %{reason: reason}}} <- Thread.run(thread, "go"),
         do: {:error, reason}
  end

  test "an agent runs with its tools and their guardrails" do
    reject = fn _event, %{"a" => a} -> if a == 1, do: {:reject, "not one"}, else: :ok end

    guardrail =
      ToolGuardrail.new(
        name: "no_one",
        stage: :tool_input,
        behavior: :reject_content,
        handler: reject
      )

    calls = [host("add", %{a: 1, b: 2}, call_id: "c1"), host("add", %{a: 2, b: 2}, call_id: "c2")]
    {model, thread} = start([respond(calls), "Done."], [])
    agent = [name: "adder", tools: [Add], tool_input_guardrails: [guardrail]]
    assert {:ok, result} = AgentRunner.run(thread, "go", agent: agent)
    assert result.final_response.text == "Done."
    assert outputs(model)["c1"] =~ "not one"
    assert outputs(model)["c2"] =~ ~s({"sum":4})
    assert_received {:added, 2, 2, %{event: %{call_id: "c2"}}}
    refute_received {:added, 1, 2, _context}
  end

  test "the output of a tool may answer for an agent" do
    {_model, thread} = start([host("add", %{a: 1, b: 2}), silence(:infinity)], [])
    agent = [name: "adder", tools: [Add], tool_use_behavior: :stop_on_first_tool]
    assert {:ok, result} = AgentRunner.run(thread, "go", agent: agent)
    assert %{text: ~s({"sum":3}), parsed: %{sum: 3}} = result.final_response
  end
end
