defmodule Codex.Tools.ExecEdgesTest do
  # Host tools of `codex exec` where a run is unusual: names, several readers, a model that searches
  # for tools, bytes that are no text, and a VM that is killed.
  use ExUnit.Case, async: true

  import Codex.Test.Steps

  alias Codex.{Bridge, Items, OtherVM, Stub, Test, Thread}
  alias Codex.Tools.Toolset

  defmodule Echo do
    use Codex.Tool, name: "echo", description: "Echoes", timeout_ms: 20_000

    @impl true
    def invoke(args, context) do
      if pid = context.context[:pid], do: send(pid, {:called, self(), context.tool.name})
      if args["wait"], do: receive(do: (:go -> :ok))

      case args do
        %{"bytes" => true} -> {:error, "not text: " <> <<255>>}
        _other -> {:ok, "echo"}
      end
    end
  end

  defp start(script, tools, opts \\ []) do
    model = Test.start!(script)
    opts = Test.thread_options(model) ++ [tools: tools] ++ opts
    {:ok, thread} = Codex.start_thread(Test.options(model), opts)
    {model, %{thread | metadata: %{tool_context: %{pid: self()}}}}
  end

  defp echo(name, args \\ %{}, opts \\ []),
    do: tool_call(name, args, [namespace: "mcp__host"] ++ opts)

  describe "a run" do
    @describetag :codex_cli

    test "calls tools with dashes, which the model sees as underscores, and long names" do
      long = String.duplicate("n", 64)
      tools = [{Echo, name: "look-up"}, {Echo, name: long}]
      calls = [echo("look_up"), echo(long, %{}, call_id: "b")]
      {model, thread} = start([respond(calls), "done"], tools)
      assert {:ok, result} = Thread.run(thread, "go")
      tools = hd(Test.requests(model)).body["tools"]
      assert %{"tools" => tools} = Enum.find(tools, &(&1["name"] == "mcp__host"))
      assert tools |> Enum.map(& &1["name"]) |> Enum.sort() == ["look_up", long]

      items =
        for %Codex.Events.ItemCompleted{item: %Items.McpToolCall{} = item} <- result.events,
            do: {item.tool, item.status}

      assert Enum.sort(items) == [{"look-up", :completed}, {long, :completed}]
    end

    test "of the same stream in two processes have sockets of their own" do
      step = fn request ->
        done? = Enum.any?(request.body["input"], &(&1["type"] == "function_call_output"))
        if done?, do: message("done"), else: echo("echo", %{wait: true})
      end

      {_model, thread} = start([step, step, step, step], [Echo])
      options = %{codex_opts: thread.codex_opts, thread: thread}
      {:ok, stream} = Codex.Exec.run_stream("go", options)
      tasks = for _ <- 1..2, do: Task.async(fn -> Enum.to_list(stream) end)

      pids =
        for _ <- tasks do
          assert_receive {:called, pid, _}, 30_000
          pid
        end

      # The first run ends while the second goes on.
      [first, second] = pids
      send(first, :go)
      {done, events} = first_of(tasks)
      assert %Codex.Events.TurnCompleted{} = List.last(events)
      send(second, :go)

      assert %Codex.Events.TurnCompleted{} =
               (tasks -- [done]) |> hd() |> Task.await(30_000) |> List.last()
    end

    defp first_of([one, other]) do
      receive do
        {ref, events} when ref == one.ref -> {one, events}
        {ref, events} when ref == other.ref -> {other, events}
      after
        30_000 -> flunk("no run ended")
      end
    end

    test "shows no tools to a model that searches for tools, which can call them" do
      {model, thread} = start([echo("echo"), "done"], [Echo])
      catalog = Path.join(model.home, "models.json")
      {:ok, %{"models" => models}} = catalog |> File.read!() |> Codex.JSON.decode()
      models = for model <- models, do: Map.put(model, "supports_search_tool", true)
      File.write!(catalog, Codex.JSON.encode!(%{models: models}))
      assert {:ok, _} = Thread.run(thread, "go")
      assert_received {:called, _, "echo"}
      names = for tool <- hd(Test.requests(model)).body["tools"], do: tool["name"] || tool["type"]
      assert "tool_search" in names
      refute "mcp__host" in names
    end

    test "leaves no process and no socket when the VM is killed in a call" do
      model = Test.start!([echo("echo", %{wait: true}), "late"])
      mark = Path.join(model.workspace, "called")

      script = """
      System.put_env("TMPDIR", #{inspect(model.workspace)})
      defmodule Waits do
        use Codex.Tool, name: "echo", description: "waits"
        def invoke(_args, _context) do
          File.write!(#{inspect(mark)}, "")
          Process.sleep(:infinity)
        end
      end
      options = #{inspect(Test.thread_options(model), limit: :infinity)} ++ [tools: [Waits]]
      {:ok, thread} = Codex.start_thread(#{OtherVM.client(model)}, options)
      Codex.Thread.run(thread, "go")
      """

      port = OtherVM.start(script)
      assert_receive {^port, {:data, {:eol, "pid " <> pid}}}, 30_000
      assert Stub.eventually(fn -> File.exists?(mark) end)
      assert processes(model) != []
      assert [_socket] = sockets(model)
      {_, 0} = System.cmd("kill", ["-9", pid])
      assert Stub.eventually(fn -> processes(model) == [] end)
      assert Stub.eventually(fn -> sockets(model) == [] end)
    end

    defp sockets(model), do: Path.wildcard(Path.join(model.workspace, "codex_sdk_*/s"))

    # Processes whose environment names the home of this model.
    defp processes(model) do
      for file <- Path.wildcard("/proc/[0-9]*/environ"),
          {:ok, env} <- [File.read(file)],
          env =~ model.home,
          do: file
    end

    test "goes on after a failure whose text is not UTF-8" do
      {model, thread} = start([echo("echo", %{bytes: true}), echo("echo"), "done"], [Echo])
      assert {:ok, _} = Thread.run(thread, "go")
      input = List.last(Test.requests(model)).body["input"]

      outputs =
        for %{"type" => "function_call_output", "output" => output} <- input, do: inspect(output)

      assert [failure, echo] = outputs
      assert failure =~ "not text: \uFFFD"
      assert echo =~ "echo"
    end
  end

  test "names that are equal for the model, or too long for a provider, are refused" do
    new = fn tools ->
      {:ok, tools} = Toolset.new(tools)
      Bridge.Tools.new(tools, nil)
    end

    assert new.([{Echo, name: "look-up"}, {Echo, name: "look_up"}]) ==
             {:error, {:invalid_tool, Echo, {:duplicate_name, "look_up"}}}

    long = String.duplicate("n", 60)
    assert {:ok, _service} = new.([{Echo, name: long, namespace: "abc"}])

    assert {:error, {:invalid_tool, Echo, {:invalid_name, name}} = reason} =
             new.([{Echo, name: long, namespace: "shop"}])

    assert name == "shop_" <> long
    assert Codex.Error.normalize(reason).message =~ "64"
  end
end
