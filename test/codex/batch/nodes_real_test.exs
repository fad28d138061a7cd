defmodule Codex.Batch.NodesRealTest do
  # Batches over nodes with the real CLI and a scripted model.
  use ExUnit.Case, async: false

  import Codex.Test.Steps

  alias Codex.{Peers, Stub, Test}

  @moduletag :codex_cli
  @moduletag :tmp_dir
  @moduletag timeout: 300_000

  setup_all do
    [a, b] = Peers.start(2)
    %{a: a, b: b}
  end

  defp options(model, node) do
    [
      client: Test.options(model),
      thread: Test.thread_options(model),
      nodes: [node],
      send_secrets: [:env]
    ]
  end

  # Reads a batch on a node. `more` are options of the thread as code.
  defp run(peer, jobs, options, more) do
    code = """
    options = Keyword.update!(options, :thread, &(&1 ++ (#{more})))
    Enum.to_list(Codex.map(jobs, & &1, options))
    """

    Peers.eval(peer, code, [jobs: jobs, options: options], 120_000)
  end

  defp sent(model), do: Enum.count(Test.requests(model), &(&1.path =~ "/v1/responses"))

  defp outputs(model) do
    for %{body: %{"input" => input}} <- Test.requests(model), %{"output" => out} <- input, do: out
  end

  test "host tools run on the node that asked, which alone has them", %{a: a, b: b} do
    Peers.eval(a, """
    defmodule Fleet.Where do
      use Codex.Tool, name: "where", description: "Names the node", key: "sk-private"

      def invoke(args, context) do
        {:ok, %{node: node(), args: args, key: context.metadata.key, told: context.context}}
      end
    end
    """)

    model = Test.start!([tool_call("where", %{}, namespace: "mcp__host"), "done"])
    tools = "[tools: [Fleet.Where], metadata: %{tool_context: %{for: :tools}}]"
    assert [%{status: :ok} = result] = run(a, ["where?"], options(model, b.node), tools)
    assert {result.node, to_string(result.result)} == {b.node, "done"}
    out = inspect(outputs(model))
    assert out =~ "#{a.node}"
    refute out =~ "#{b.node}"
    assert out =~ "sk-private" and out =~ "tools"
    assert result.result.thread.metadata == %{tool_context: %{for: :tools}}
  end

  test "approvals and hooks run on the node that asked", %{a: a, b: b, tmp_dir: dir} do
    path = Path.join(dir, "asked")

    Peers.eval(a, """
    defmodule Fleet.Policy do
      @behaviour Codex.Approvals.Hook
      def review_tool(event, _context, _opts) do
        File.write!(#{inspect(path)}, "policy \#{node()} \#{event.type}\\n", [:append])
        if inspect(event) =~ "forbidden", do: {:deny, "not by this node"}, else: :allow
      end
    end

    defmodule Fleet.Hooks do
      def session_start(_event) do
        File.write!(#{inspect(path)}, "hook \#{node()}\\n", [:append])
        :allow
      end
    end
    """)

    model = Test.start!([shell("echo allowed"), shell("echo forbidden"), "done"])
    more = "[approval_policy: Fleet.Policy, hooks: Fleet.Hooks]"
    assert [%{status: :ok} = result] = run(a, ["run it"], options(model, b.node), more)
    assert result.node == b.node
    assert result.result.blocked == 1
    assert inspect(outputs(model)) =~ "not by this node"
    lines = path |> File.read!() |> String.split("\n", trim: true)
    assert "hook #{a.node}" in lines
    assert Enum.count(lines, &(&1 =~ "policy #{a.node}")) == 2
    refute Enum.any?(lines, &(&1 =~ "#{b.node}"))
  end

  test "an approval that fails on the node that asked refuses", %{a: a, b: b} do
    model = Test.start!([shell("echo hi"), "done"])
    more = ~s|[approval_policy: fn _event, _context -> raise "no" end]|
    assert [%{status: :ok, result: result}] = run(a, ["run it"], options(model, b.node), more)
    assert result.blocked == 1
  end

  for {on_interrupted, status} <- [report: :uncertain, resume: :ok] do
    @on_interrupted on_interrupted
    @status status

    test "a job of a node that returns is looked up there: #{on_interrupted}", %{a: a, b: b} do
      lost = Peers.add([a, b])
      model = Test.start!([silence(:infinity)], default: "Hello")
      more = [on_interrupted: @on_interrupted, node_wait_ms: 60_000]
      reader = Task.async(fn -> run(a, ["one"], options(model, lost.node) ++ more, "[]") end)
      {:ok, _request} = Test.await_request(model, 60_000)
      named? = &match?([%{thread_id: "0" <> _}], &1)
      assert Stub.eventually(fn -> named?.(Peers.call(a, Codex, :running, [])) end, 60_000)
      Peers.kill(lost)
      home = Test.options(model)[:codex_home]
      assert Stub.eventually(fn -> Stub.running(home) == [] end, 60_000)
      _back = Peers.boot(%{lost | pid: nil})

      assert [%{status: @status} = result] = Task.await(reader, 90_000)
      assert result.node == lost.node
      assert is_binary(result.thread_id)

      if @status == :uncertain do
        assert result.error.message =~ "its turn did not end"
        assert sent(model) == 1
      else
        # "Continue." is another prompt.
        assert to_string(result.result) == "Hello"
        assert sent(model) == 2
      end
    end
  end
end
