defmodule Codex.Tools.ThreadsTest do
  # Host tools of threads over the real server, with a scripted model.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Test.Steps
  alias Codex.{AppServer, Events, Items, Test, Thread}
  alias Codex.Tools.{FileSearchTool, Reserved, ShellTool, Toolset, ViewImageTool, WriteStdinTool}

  @moduletag :codex_cli
  @moduletag capture_log: true

  defmodule Steps do
    use Codex.FunctionTool, name: "step", parameters: %{n: :integer}

    def handle(%{"n" => n}, %{context: %{test: test}}) do
      send(test, {:called, n, self()})

      receive do
        :go -> {:ok, "step #{n}"}
      end
    end
  end

  defmodule Long do
    use Codex.FunctionTool, name: "long", parameters: %{n: :integer}
    def handle(%{"n" => n}), do: {:ok, String.duplicate("ä", n)}
  end

  defmodule Remote do
    use Codex.FunctionTool, name: "remote"

    def handle(_args),
      do: {:ok, %Codex.ToolOutput.Image{url: "https://example.com/secret.png"}}
  end

  defp start(script, options) do
    model = Test.start!(script)
    conn = connect!(model, experimental_api: true)
    context = %{tool_context: %{test: self()}}
    {model, conn, thread!(model, conn, [metadata: context] ++ options)}
  end

  defp run(thread) do
    test = self()
    Task.async(fn -> Thread.run(thread, "go", on_event: &send(test, {:event, &1})) end)
  end

  # The outputs of calls that the model got with its last request, in their order.
  defp outputs(model) do
    %{body: %{"input" => input}} = model |> Test.requests() |> List.last()
    for %{"type" => "function_call_output", "output" => output} <- input, do: text(output)
  end

  defp text(text) when is_binary(text), do: text
  defp text([%{"text" => text}]), do: text

  defp step(n), do: tool_call("step", %{n: n}, call_id: "c#{n}")

  test "three calls of one response run at the same time, and the slowest may answer first" do
    {model, _conn, thread} =
      start([respond([step(1), step(2), step(3)]), "Done."], tools: [Steps])

    task = run(thread)

    pids =
      for n <- 1..3, into: %{} do
        assert_receive {:called, ^n, pid}, 10_000
        {n, pid}
      end

    for n <- [3, 2, 1], id = "c#{n}" do
      send(pids[n], :go)

      assert_receive {:event,
                      %Events.ItemCompleted{item: %Items.DynamicToolCall{id: ^id, success: true}}},
                     5_000
    end

    assert {:ok, _result} = Task.await(task, 20_000)
    assert outputs(model) == ["step 1", "step 2", "step 3"]
  end

  test "an interrupt ends the processes of running tools, and a late answer is harmless" do
    script = [respond([step(1), step(2)]), "Next."]
    {model, conn, thread} = start(script, tools: [Steps])
    :ok = AppServer.subscribe(conn, as: :structs)
    task = run(thread)

    refs =
      for n <- 1..2 do
        assert_receive {:called, ^n, pid}, 10_000
        Process.monitor(pid)
      end

    assert_receive {:codex_request, _, %AppServer.Request.ToolCall{token: token, thread_id: id}},
                   10_000

    assert Thread.interrupt(%{thread | thread_id: id}) == :ok
    for ref <- refs, do: assert_receive({:DOWN, ^ref, :process, _pid, :killed}, 10_000)
    assert {:error, {:exec_failed, %{kind: :interrupted, result: result}}} = Task.await(task)
    assert AppServer.pending(conn) == {:ok, []}
    assert AppServer.answer(token, {:ok, "late"}) == {:error, {:request_closed, token}}

    assert {:ok, %{final_response: %{text: "Next."}}} = Thread.run(result.thread, "next")
    assert Enum.all?(outputs(model), &(&1 =~ "cancelled" or &1 =~ "aborted"))
  end

  test "a thread that is resumed without its tools is answered" do
    {model, conn, thread} = start(["One.", step(1), "Two."], tools: [Steps])
    {:ok, %{thread: thread}} = Thread.run(thread, "one")
    AppServer.disconnect(conn)

    conn = connect!(model, experimental_api: true)
    resumed = thread!(model, conn)
    assert {:ok, result} = Thread.run(%{resumed | thread_id: thread.thread_id}, "two")
    assert result.final_response.text == "Two."
    assert outputs(model) == ["the tool step is unknown to this host"]
  end

  test "tools in a namespace, and the same name in another" do
    tools = [
      {Long, name: "make", namespace: {"shop", "Things of the shop"}},
      {Long, name: "make"}
    ]

    calls = [tool_call("make", %{n: 2}, namespace: "shop"), tool_call("make", %{n: "x"})]
    {model, _conn, thread} = start(calls ++ ["Done."], tools: tools)
    assert {:ok, _result} = Thread.run(thread, "go")

    assert outputs(model) ==
             ["ää", "invalid arguments for make: n must be an integer, got a string"]

    [%{body: %{"tools" => offered}} | _] = Test.requests(model)
    shop = Enum.find(offered, &(&1["name"] == "shop"))
    assert %{"type" => "namespace", "description" => "Things of the shop"} = shop
    assert [%{"name" => "make"}] = shop["tools"]
  end

  test "a deferred tool is not offered at once" do
    tools = [{Long, namespace: "shop", defer: true}, {Long, name: "now"}]
    {model, _conn, thread} = start(["Done."], tools: tools)
    assert {:ok, _result} = Thread.run(thread, "go")
    [%{body: %{"tools" => offered}}] = Test.requests(model)
    assert Enum.any?(offered, &(&1["name"] == "now"))
    refute Enum.any?(offered, &(&1["name"] == "shop"))
  end

  test "the CLI cuts a long output" do
    calls = [tool_call("long", %{n: 23_000}), tool_call("long", %{n: 25_000})]
    {model, _conn, thread} = start(calls ++ ["Done."], tools: [Long])
    assert {:ok, _result} = Thread.run(thread, "go")
    assert [whole, cut] = outputs(model)
    assert whole == String.duplicate("ä", 23_000)
    assert cut =~ "truncated"
  end

  test "a remote image fails the call, with words for the model" do
    {model, _conn, thread} = start([tool_call("remote", %{}), "Done."], tools: [Remote])
    assert {:ok, result} = Thread.run(thread, "go")
    assert [words] = outputs(model)
    assert words =~ "data URLs" and not (words =~ "example.com")

    assert [%{success: false}] =
             for(
               %Events.ItemCompleted{item: %Items.DynamicToolCall{} = call} <- result.events,
               do: call
             )
  end

  describe "tools of this package" do
    defp pid_file(model), do: Path.join(model.workspace, "pid")

    defp written_pid(path, n \\ 500) do
      case File.read(path) do
        {:ok, text} when text != "" ->
          String.trim(text)

        _none when n > 0 ->
          Process.sleep(20)
          written_pid(path, n - 1)
      end
    end

    defp await_end(pid, n \\ 500) do
      if File.exists?("/proc/#{pid}") do
        assert n > 0, "the process #{pid} still runs"
        Process.sleep(20)
        await_end(pid, n - 1)
      end
    end

    test "an interrupt in the middle of a command leaves no process" do
      call = tool_call("shell", %{command: "echo $$ > pid; sleep 600 & wait"})
      tools = [{ShellTool, approval: fn _command, _context -> :allow end}]
      model = Test.start!([call, "Next."])
      conn = connect!(model, experimental_api: true)
      thread = thread!(model, conn, tools: tools, working_directory: model.workspace)
      task = Task.async(fn -> Thread.run(thread, "go") end)
      pid = written_pid(pid_file(model))
      assert File.exists?("/proc/#{pid}")
      assert Codex.stop(thread) == :ok
      assert {:error, {:exec_failed, %{kind: :interrupted}}} = Task.await(task, 10_000)
      await_end(pid)

      assert DynamicSupervisor.which_children(Codex.Tools.Supervisor)
             |> Enum.all?(&other?(&1, pid))
    end

    # Other tests have commands, too.
    defp other?({_, terminal, _, _}, pid) when is_pid(terminal) do
      case :sys.get_state(terminal) do
        %{sub: %{os_pid: other}} -> Integer.to_string(other) != pid
        _none -> true
      end
    catch
      :exit, _gone -> true
    end

    test "a command without approval is denied, and a session ends with its turn" do
      model =
        Test.start!([
          tool_call("denied", %{command: "echo $$ > pid"}),
          tool_call("shell", %{command: "echo $$ > pid; exec cat", yield_time_ms: 200}),
          fn request ->
            %{"session_id" => id} = request.body["input"] |> List.last() |> output()
            tool_call("input", %{session_id: id, chars: "hello\n", yield_time_ms: 200})
          end,
          "Done."
        ])

      conn = connect!(model, experimental_api: true)
      allow = {ShellTool, approval: fn _command, _context -> :allow end}
      tools = [{ShellTool, name: "denied"}, allow, {WriteStdinTool, name: "input"}]
      thread = thread!(model, conn, tools: tools, working_directory: model.workspace)
      assert {:ok, _result} = Thread.run(thread, "go")
      assert [denied, _started, echoed] = outputs(model)
      assert denied == "the call was denied; nothing was done"
      assert echoed =~ "hello"
      await_end(written_pid(pid_file(model)))
    end

    defp output(%{"output" => output}) do
      {:ok, result} = Codex.JSON.decode(text(output))
      result
    end

    test "the model sees an image and the result of a search" do
      model =
        Test.start!([
          tool_call("look", %{path: "dot.gif"}),
          tool_call("file_search", %{pattern: "*.gif"}),
          tool_call("look", %{path: "../outside.gif"}),
          "Done."
        ])

      File.write!(Path.join(model.workspace, "dot.gif"), gif())
      conn = connect!(model, experimental_api: true)
      tools = [{ViewImageTool, name: "look"}, FileSearchTool]
      thread = thread!(model, conn, tools: tools, working_directory: model.workspace)
      assert {:ok, _result} = Thread.run(thread, "go")
      %{body: %{"input" => input}} = model |> Test.requests() |> List.last()
      outputs = for %{"type" => "function_call_output", "output" => output} <- input, do: output

      assert [[%{"type" => "input_text"}, %{"type" => "input_image"} = image], found, out] =
               outputs

      assert image["image_url"] =~ ~r/\Adata:image\/(gif|png);base64,/
      assert {:ok, %{"count" => 1}} = Codex.JSON.decode(text(found))
      assert text(out) =~ "cannot be read"
    end

    defp gif, do: Base.decode64!("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
  end

  test "the names of the CLI's own tools are reserved" do
    model = Test.start!(["Done."])
    conn = connect!(model, experimental_api: true)
    assert {:ok, _result} = Thread.run(thread!(model, conn), "go")
    [%{body: %{"tools" => offered}}] = Test.requests(model)
    names = for %{"type" => type} = tool <- offered, type != "namespace", do: tool["name"] || type
    assert length(names) > 5

    for name <- names do
      assert {:error, {:invalid_tool, Long, {:reserved_name, ^name}}} =
               Toolset.new([{Long, name: name}])
    end

    assert "view_image" in Reserved.names()
  end
end
