defmodule Codex.Test.CLITest do
  # Each word of a script, as the real CLI understands it.
  use ExUnit.Case, async: true
  @moduletag :codex_cli

  import Codex.Test.Steps
  alias Codex.Test

  # Runs `codex exec --json` to its end: {events, exit status}.
  defp exec(model, args \\ [], env \\ []) do
    options = Test.options(model)
    args = ~w(exec --json --skip-git-repo-check) ++ args ++ ["Go"]
    env = [{"CODEX_HOME", options[:codex_home]} | Enum.to_list(options[:env])] ++ env

    {out, status} =
      System.cmd(
        "sh",
        ["-c", ~S(exec "$0" "$@" </dev/null 2>stderr), options[:codex_path] | args],
        cd: model.workspace,
        env: env
      )

    {for(line <- String.split(out, "\n", trim: true), do: decode!(line)), status}
  end

  # Runs `script`, in which $0 is the CLI, on a port.
  defp open(model, script, opts) do
    options = Test.options(model)
    env = Map.put(options[:env], "CODEX_HOME", model.home)

    Port.open(
      {:spawn_executable, "/bin/sh"},
      [:binary, :exit_status, args: ["-c", script, options[:codex_path]], cd: model.workspace] ++
        [env: for({k, v} <- env, do: {to_charlist(k), to_charlist(v)})] ++ opts
    )
  end

  # The first line on a port that is meant.
  defp await(port, meant?) do
    assert_receive {^port, {:data, {:eol, line}}}, 30_000
    message = decode!(line)
    if meant?.(message), do: message, else: await(port, meant?)
  end

  defp decode!(json) do
    {:ok, term} = Codex.JSON.decode(json)
    term
  end

  defp items(events, type) do
    for %{"type" => "item.completed", "item" => %{"type" => ^type} = item} <- events, do: item
  end

  defp types(events), do: Enum.map(events, & &1["type"])
  defp failure(events), do: List.last(events)["error"]["message"]

  test "message/2, with and without deltas, and nothing else in the stream" do
    for item <- ["Hello", message("Hello", deltas: ["Hel", "lo"], phase: "final_answer")] do
      model = Test.start!([item])
      {events, 0} = exec(model)
      assert types(events) == ~w(thread.started turn.started item.completed turn.completed)
      assert [%{"text" => "Hello"}] = items(events, "agent_message")

      assert [%{method: "POST", path: "/v1/responses", headers: headers, body: body}] =
               Test.requests(model)

      assert headers["originator"] == "codex_exec"
      assert body["model"] == "codex-test"
      assert Test.remaining(model) == 0
    end
  end

  test "the model has plain tools" do
    model = Test.start!(["ok"])
    {_events, 0} = exec(model)
    [%{body: %{"tools" => tools}}] = Test.requests(model)
    names = for tool <- tools, do: {tool["type"], tool["name"]}

    for tool <- [
          {"function", "exec_command"},
          {"function", "update_plan"},
          {"custom", "apply_patch"},
          {"web_search", nil}
        ],
        do: assert(tool in names)
  end

  test "other models by name, without a warning" do
    model = Test.start!(["ok"], models: ["small", "large"])
    {events, 0} = exec(model, ["--model", "large"])
    assert items(events, "error") == []
    assert [%{body: %{"model" => "large"}}] = Test.requests(model)
  end

  test "reasoning/2, and several items in one response" do
    model = Test.start!([respond([reasoning("**Hm**", content: "raw"), "One", "Two"])])
    {events, 0} = exec(model)
    assert [%{"text" => "**Hm**"}] = items(events, "reasoning")
    assert ["One", "Two"] = for(item <- items(events, "agent_message"), do: item["text"])
  end

  test "usage is reported as given, and added up" do
    usage = %{
      input_tokens: 1000,
      cached_input_tokens: 300,
      cache_write_input_tokens: 50,
      output_tokens: 70,
      reasoning_output_tokens: 8
    }

    model = Test.start!([respond([shell("true")], usage: usage), "ok"])
    {events, 0} = exec(model)

    assert List.last(events)["usage"] == %{
             "input_tokens" => 1100,
             "cached_input_tokens" => 340,
             "cache_write_input_tokens" => 50,
             "output_tokens" => 90,
             "reasoning_output_tokens" => 13
           }
  end

  test "shell/2 runs the command, and its output comes back" do
    model = Test.start!([shell("echo out; exit 3", call_id: "c1"), "done"])
    # The sandbox of the CLI does not work in every container.
    {events, 0} = exec(model, ~w(--sandbox danger-full-access))

    assert [%{"exit_code" => 3, "aggregated_output" => "out\n", "status" => "failed"}] =
             items(events, "command_execution")

    [_, %{body: %{"input" => input}}] = Test.requests(model)
    assert %{"output" => output} = Enum.find(input, &(&1["type"] == "function_call_output"))
    assert output =~ "out"
    assert Enum.any?(input, &(&1["call_id"] == "c1"))
  end

  test "apply_patch/2 writes a file" do
    patch = "*** Begin Patch\n*** Add File: new.txt\n+Hello\n*** End Patch\n"
    model = Test.start!([apply_patch(patch), "done"])
    {events, 0} = exec(model, ~w(--sandbox danger-full-access))
    assert File.read!(Path.join(model.workspace, "new.txt")) == "Hello\n"

    assert [%{"changes" => [%{"kind" => "add"}], "status" => "completed"}] =
             items(events, "file_change")
  end

  test "update_plan/2 is a todo_list" do
    plan = [{"look", :completed}, {"fix", :in_progress}, "test"]
    model = Test.start!([update_plan(plan, explanation: "because"), "done"])
    {events, 0} = exec(model)

    assert [%{"items" => [%{"text" => "look", "completed" => true}, %{"completed" => false}, _]}] =
             items(events, "todo_list")
  end

  test "web_search/2" do
    model = Test.start!([respond([web_search("elixir ports"), "found"])])
    {events, 0} = exec(model)

    assert [%{"query" => "elixir ports", "action" => %{"type" => "search"}}] =
             items(events, "web_search")

    assert [%{"text" => "found"}] = items(events, "agent_message")
  end

  test "tool_call/3: the CLI reports a missing tool and invalid arguments to the model" do
    model = Test.start!([tool_call("nope", %{a: 1}), tool_call("exec_command", "{"), "done"])
    {events, 0} = exec(model)
    assert [%{"text" => "done"}] = items(events, "agent_message")

    [_, second, third] = Test.requests(model)
    outputs = fn r -> for %{"output" => o} <- r.body["input"], do: o end
    assert [unsupported] = outputs.(second)
    assert unsupported =~ "unsupported call: nope"
    assert [_, unparsed] = outputs.(third)
    assert unparsed =~ "failed to parse function arguments"
  end

  test "item/1 passes any item on" do
    model =
      Test.start!([
        respond([item(%{"type" => "message", "role" => "assistant", "content" => []}), "x"])
      ])

    assert {_events, 0} = exec(model)
  end

  test "json/2 answers an output schema" do
    model = Test.start!([json(%{answer: 42})])
    File.write!(Path.join(model.workspace, "schema.json"), ~S({"type":"object"}))
    {events, 0} = exec(model, ~w(--output-schema schema.json))
    assert [%{"text" => ~S({"answer":42})}] = items(events, "agent_message")

    assert [%{body: %{"text" => %{"format" => %{"type" => "json_schema"}}}}] =
             Test.requests(model)
  end

  test "http_error/3 fails the turn with the words of the CLI" do
    for {step, text} <- [
          {http_error(401, %{error: %{message: "bad key"}}), "401 Unauthorized: bad key"},
          {http_error(403, %{error: %{message: "not you"}}), "403 Forbidden: not you"},
          {http_error(400, "the body"), "the body"},
          {http_error(429, "", %{"retry-after" => 1}), "429 Too Many Requests"},
          {http_error(429, %{error: %{type: "usage_limit_reached", plan_type: "plus"}}),
           "hit your usage limit"},
          {http_error(500, "boom"), "high demand"},
          {http_error(503, %{error: %{code: "server_is_overloaded"}}), "at capacity"}
        ] do
      model = Test.start!([step])
      {events, 1} = exec(model)
      assert List.last(types(events)) == "turn.failed"
      assert failure(events) =~ text
      assert length(Test.requests(model)) == 1
    end
  end

  test "failed/3, incomplete/2 and cut/2" do
    for {step, text} <- [
          {failed("context_length_exceeded", "too long"), "ran out of room"},
          {failed("rate_limit_exceeded", "slow down"), "rate limit exceeded: slow down"},
          {failed("server_error", "boom", items: ["so far"]),
           "stream disconnected before completion: boom"},
          {incomplete("max_output_tokens"), "max_output_tokens"},
          {cut(["never finished"]), "stream closed before response.completed"},
          {cut(["never finished"], after: 2), "stream disconnected before completion"},
          {cut([], after: 0), "stream disconnected before completion"}
        ] do
      model = Test.start!([step])
      {events, 1} = exec(model)
      assert failure(events) =~ text
    end
  end

  test "retries: the CLI comes back after a broken stream" do
    model = Test.start!([cut([]), http_error(500, ""), "third time"], retries: 2)
    {events, 0} = exec(model)
    assert [%{"text" => "third time"}] = items(events, "agent_message")
    assert "error" in types(events)
  end

  test "raw/2: unknown events are passed over" do
    model =
      Test.start!([
        raw([
          ": a comment\n\n",
          %{"type" => "response.created", "response" => %{"id" => "r"}},
          %{"type" => "response.unheard_of"},
          %{"type" => "response.completed", "response" => %{"id" => "r"}}
        ])
      ])

    {events, 0} = exec(model)
    assert List.last(types(events)) == "turn.completed"
  end

  test "silence/2 in the stream: the CLI gives up when its idle time is over" do
    model =
      Test.start!([silence(:infinity, after: ["Wait"])],
        config: "model_providers.mock.stream_idle_timeout_ms = 200"
      )

    {events, 1} = exec(model)
    assert [%{"text" => "Wait"}] = items(events, "agent_message")
    assert failure(events) =~ "idle timeout"
  end

  test "silence/2: the CLI waits until it is killed" do
    for step <- [silence(:infinity), silence(:infinity, headers: true)] do
      model = Test.start!([step])
      script = ~S(exec "$0" exec --json --skip-git-repo-check Go </dev/null 2>/dev/null)
      port = open(model, script, [])
      {:os_pid, os_pid} = Port.info(port, :os_pid)
      assert {:ok, %{method: "POST"}} = Test.await_request(model, 30_000)
      refute_received {^port, {:exit_status, _}}
      {"", 0} = System.cmd("kill", ["-KILL", "#{os_pid}"])
      assert_receive {^port, {:exit_status, 137}}, 30_000
      :ok = Test.stop(model)
      refute File.exists?(model.home)
    end
  end

  test "rules answer before the steps, functions see the request" do
    model =
      Test.start!(
        [fn %{body: body} -> "model is " <> body["model"] end],
        rules: [[contains: ~r/function_call_output/, step: "from the rule"]]
      )

    {events, 0} = exec(model)
    assert [%{"text" => "model is codex-test"}] = items(events, "agent_message")

    Test.push(model, shell("true"))
    {events, 0} = exec(model)
    assert [%{"text" => "from the rule"}] = items(events, "agent_message")
  end

  test "sub-agents are distinguished by a rule on their header" do
    spawn_agent = tool_call("spawn_agent", %{message: "Look"}, namespace: "multi_agent_v1")

    wait_agent = fn %{body: %{"input" => input}} ->
      %{"output" => output} = List.last(input)
      {:ok, %{"agent_id" => id}} = Codex.JSON.decode(output)
      tool_call("wait_agent", %{targets: [id]}, namespace: "multi_agent_v1")
    end

    model =
      Test.start!([spawn_agent, wait_agent, "done"],
        rules: [[header: {"x-openai-subagent", "collab_spawn"}, step: "child"]]
      )

    {events, 0} = exec(model)
    assert [%{"tool" => "spawn_agent"}, wait] = items(events, "collab_tool_call")
    assert [%{"status" => "completed", "message" => "child"}] = Map.values(wait["agents_states"])
    assert [%{"text" => "done"}] = items(events, "agent_message")
  end

  test "the app-server streams the deltas" do
    model =
      Test.start!([
        respond([
          reasoning("Hm, so", deltas: ["Hm", ", so"]),
          message("Hello", deltas: ["Hel", "lo"])
        ])
      ])

    script = ~S(exec "$0" app-server 2>/dev/null)
    port = open(model, script, [{:line, 1_000_000}])

    call = fn id, method, params ->
      Port.command(port, [Codex.JSON.encode!(%{id: id, method: method, params: params}), "\n"])
    end

    call.(1, "initialize", %{clientInfo: %{name: "test", version: "1"}})
    call.(2, "thread/start", %{cwd: model.workspace})
    %{"result" => %{"thread" => %{"id" => thread}}} = await(port, &(&1["id"] == 2))
    call.(3, "turn/start", %{threadId: thread, input: [%{type: "text", text: "Go"}]})

    delta = fn method -> await(port, &(&1["method"] == method))["params"]["delta"] end
    assert delta.("item/reasoning/summaryTextDelta") == "Hm"
    assert delta.("item/reasoning/summaryTextDelta") == ", so"
    assert delta.("item/agentMessage/delta") == "Hel"
    assert delta.("item/agentMessage/delta") == "lo"
    await(port, &(&1["method"] == "turn/completed"))
    Port.close(port)
  end

  test "a script that is used up, or fails, fails the turn and says why" do
    model = Test.start!([shell("true"), fn _ -> raise "oops" end])
    {events, 1} = exec(model)
    assert failure(events) =~ "a step function failed: ** (RuntimeError) oops"

    {events, 1} = exec(model)
    assert failure(events) =~ "Codex.Test: no step is left for request 3"
  end

  test "a CLI whose server is gone ends" do
    model = Test.start!([])
    {events, 1} = exec(model, ["-c", ~S(model_providers.mock.base_url="http://127.0.0.1:1/v1")])
    assert failure(events) =~ "Connection failed"
  end

  test "a proxy in the environment does not matter" do
    model = Test.start!(["direct"])
    proxy = "http://127.0.0.1:1"

    {events, 0} =
      exec(model, [], [{"HTTP_PROXY", proxy}, {"http_proxy", proxy}, {"ALL_PROXY", proxy}])

    assert [%{"text" => "direct"}] = items(events, "agent_message")
  end

  test "the built-in provider is sent back from its WebSocket to plain HTTP" do
    model = Test.start!(["over HTTP"])
    args = ["-c", "model_provider=openai", "-c", "openai_base_url=#{model.url}"]
    {events, 0} = exec(model, args, [{"CODEX_API_KEY", "test-key"}])
    assert [%{"text" => "over HTTP"}] = items(events, "agent_message")
    requests = Test.requests(model)
    assert Enum.any?(requests, &(&1.headers["upgrade"] == "websocket"))
    assert List.last(requests).headers["authorization"] == "Bearer test-key"
  end

  test "the workspace may be a Git repository" do
    model = Test.start!(["ok"], git: true)
    assert File.dir?(Path.join(model.workspace, ".git"))
    assert {_events, 0} = exec(model)
  end
end
