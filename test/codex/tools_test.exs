defmodule Codex.ToolsTest do
  # Not async: the tables of registered tools and calls belong to the VM.
  use ExUnit.Case, async: false

  # Loaded by a test.
  @compile {:no_warn_undefined, :telemetry}

  alias Codex.Tools
  alias Codex.Tools.{Call, Definition, Handle, Registry, Reserved, Tables, Toolset}

  doctest Codex.Tools.Registry
  doctest Codex.Tools.Reserved
  doctest Codex.Error.ToolWords

  defmodule Greeter do
    use Codex.Tool,
      description: "Greets",
      parameters: %{
        type: "object",
        properties: %{who: %{type: "string"}, times: %{type: "integer"}},
        required: ["who"]
      }

    @impl true
    def invoke(%{"who" => "nobody"}, _context), do: {:error, :nobody}
    def invoke(%{"who" => "crash"}, _context), do: raise("boom")
    def invoke(%{"who" => "throw"}, _context), do: throw(:ball)
    def invoke(%{"who" => "odd"}, _context), do: :odd
    def invoke(%{"who" => who}, context), do: {:ok, {who, context}}
    def invoke(%{who: who}, _context), do: {:ok, who}
  end

  defmodule Plain do
    @behaviour Codex.Tool
    @impl true
    def invoke(args, _context), do: {:ok, args}
  end

  setup do
    Registry.reset!()
    on_exit(&Registry.reset!/0)
  end

  test "a registered tool is found and called by its name" do
    assert {:ok, %Handle{name: "greeter", module: Greeter} = handle} = Tools.register(Greeter)
    assert Tools.register(Greeter) == {:error, {:already_registered, "greeter"}}

    assert {:ok, %{name: "greeter", module: Greeter, metadata: %{description: "Greets"}}} =
             Tools.lookup("greeter")

    assert {:ok, {"Ann", context}} = Tools.invoke("greeter", %{"who" => "Ann"}, %{user: 1})
    assert %{user: 1, tool: %{name: "greeter"}, metadata: %{description: "Greets"}} = context
    assert Tools.deregister(handle) == :ok
    assert Tools.deregister(handle) == :ok
    assert Tools.lookup("greeter") == {:error, :not_found}
    assert Tools.invoke("greeter", %{}, %{}) == {:error, :not_found}
  end

  test "options reach the tool, and a handle of before does not remove the tool of now" do
    {:ok, old} = Tools.register(Greeter, name: "hello", unit: 1)
    assert {:ok, {_, %{metadata: %{unit: 1}}}} = Tools.invoke("hello", ~s({"who":"A"}), %{})
    :ok = Tools.deregister(old)
    {:ok, _new} = Tools.register(Plain, name: "hello")
    :ok = Tools.deregister(old)
    assert {:ok, %{module: Plain}} = Tools.lookup("hello")
  end

  test "arguments are a map, a keyword list, a string or nil" do
    {:ok, _} = Tools.register(Plain, name: "plain")
    call = &Tools.invoke("plain", &1, %{})
    assert call.(%{"a" => 1}) == {:ok, %{"a" => 1}}
    assert call.(a: 1) == {:ok, %{a: 1}}
    assert call.(~s({"a": 1})) == {:ok, %{"a" => 1}}
    assert call.("go") == {:ok, %{"input" => "go"}}
    assert call.(~s([1])) == {:ok, %{"input" => "[1]"}}
    assert call.(nil) == {:ok, %{}}
  end

  test "arguments are checked before the tool is called" do
    {:ok, _} = Tools.register(Greeter)
    assert Tools.invoke("greeter", [who: "Ann"], %{}) == {:ok, "Ann"}

    assert Tools.invoke("greeter", %{"who" => "A", "times" => "2"}, %{}) ==
             {:error, {:invalid_arguments, "times must be an integer, got a string"}}

    assert Tools.invoke("greeter", nil, %{}) == {:error, {:invalid_arguments, "who is required"}}
  end

  test "crashes are errors" do
    {:ok, _} = Tools.register(Greeter)
    call = &Tools.invoke("greeter", %{"who" => &1}, %{})
    assert call.("nobody") == {:error, :nobody}
    assert {:error, {:tool_exception, Greeter, %RuntimeError{message: "boom"}}} = call.("crash")
    assert call.("throw") == {:error, {:tool_failure, Greeter, {:throw, :ball}}}
    assert call.("odd") == {:error, {:invalid_tool_result, :odd}}
  end

  test "tools are switched off, and failures are replaced" do
    for {name, enabled?} <- [
          {"a", false},
          {"b", fn -> false end},
          {"c", fn context -> context.on? end},
          {"d", fn context, metadata -> context.on? and metadata.name == "d" end}
        ] do
      {:ok, _} = Tools.register(Plain, name: name, enabled?: enabled?)
      assert Tools.invoke(name, %{}, %{on?: false}) == {:error, {:tool_disabled, name}}
    end

    assert {:ok, %{}} = Tools.invoke("d", %{}, %{on?: true})

    for {name, on_error, result} <- [
          {"one", fn reason -> {:ok, reason} end, {:ok, :nobody}},
          {"two", fn _reason, context -> {:error, context.user} end, {:error, 7}},
          {"three", fn reason, c, c -> {:ok, {reason, c.user}} end, {:ok, {:nobody, 7}}}
        ] do
      {:ok, _} = Tools.register(Greeter, name: name, on_error: on_error)
      assert Tools.invoke(name, %{"who" => "nobody"}, %{user: 7}) == result
    end

    {:ok, _} = Tools.register(Greeter, name: "worse", on_error: fn _ -> raise "again" end)

    assert {:error, {:error_handler_failed, %RuntimeError{}}} =
             Tools.invoke("worse", %{"who" => "nobody"}, %{})
  end

  test "calls are counted" do
    {:ok, _} = Tools.register(Greeter)
    for who <- ["Ann", "Bob", "nobody"], do: Tools.invoke("greeter", %{"who" => who}, %{})

    assert %{"greeter" => %{success: 2, failure: 1, last_error: :nobody} = calls} =
             Tools.metrics()

    assert calls.total_latency_ms >= calls.last_latency_ms
    assert Tools.reset_metrics() == :ok
    assert Tools.metrics() == %{}
    assert {:ok, _} = Tools.lookup("greeter")
  end

  test "an output longer than a model sees is reported" do
    Codex.TelemetryStandIn.load!()
    test = self()

    report = fn _event, measurements, metadata, _ ->
      send(test, {:cut, measurements, metadata})
    end

    :telemetry.attach("cut", [:cut, :tool, :output_cut], report, nil)

    {:ok, [tool]} = Toolset.new([{Plain, name: "plain", schema: %{}}])
    event = %{call_id: "c", thread_id: "t", turn_id: "u"}
    context = %{event: event, thread: %{codex_opts: %{telemetry_prefix: [:cut]}}}
    # As JSON, with eight more bytes.
    {:ok, _} = Call.answer(tool, %{"a" => String.duplicate("ä", 23_996)}, context)
    refute_received {:cut, _, _}
    {:ok, _} = Call.answer(tool, %{"a" => String.duplicate("ä", 23_997)}, context)
    assert_received {:cut, %{bytes: 48_002, limit: 48_000}, metadata}
    assert %{tool: "plain", call_id: "c", thread_id: "t", turn_id: "u"} = metadata
  end

  test "former names of the shell find their successors" do
    assert Tools.lookup("local_shell") == {:error, :not_found}
    {:ok, _} = Tools.register(Plain, name: "shell_command")
    assert {:ok, %{name: "shell_command"}} = Tools.lookup("container.exec")
    {:ok, _} = Tools.register(Greeter, name: "shell")
    assert {:ok, %{name: "shell"}} = Tools.lookup("local_shell")
    assert {:ok, %{name: "shell_command"}} = Tools.lookup("shell_command")
    {:ok, _} = Tools.register(Greeter, name: "container.exec")
    assert {:ok, %{name: "container.exec"}} = Tools.lookup("container.exec")
  end

  test "a registration outlives the process that made it" do
    {:ok, handle} = Task.await(Task.async(fn -> Tools.register(Plain, name: "kept") end))
    assert {:ok, %{name: "kept"}} = Tools.lookup("kept")
    assert [{Tables, pid, :worker, _}] = child()
    assert :ets.info(Codex.Tools.Registered, :owner) == pid
    Tools.deregister(handle)
  end

  defp child,
    do: for({Tables, _, _, _} = child <- Supervisor.which_children(Codex.Supervisor), do: child)

  test "a module that is no tool is not registered" do
    assert Tools.register(String) == {:error, {:invalid_tool, String, :no_invoke}}
    assert Tools.register(:no_module) == {:error, {:invalid_tool, :no_module, :not_loaded}}

    assert Tools.register(Plain, schema: 1) ==
             {:error, {:invalid_tool, Plain, {:invalid_metadata, :schema, 1}}}
  end

  describe "the option tools" do
    test "takes modules, options, registered names and handles" do
      {:ok, handle} = Tools.register(Greeter, name: "by_handle", timeout_ms: 5)
      {:ok, _} = Tools.register(Greeter, name: "by_name")

      assert {:ok, tools} =
               Toolset.new([
                 Greeter,
                 {Plain, name: "p", namespace: {"shop", "A shop"}, defer: true},
                 {Plain, name: "q", namespace: :shop},
                 handle,
                 "by_name"
               ])

      assert Enum.map(tools, &Definition.full_name/1) ==
               ["greeter", "shop.p", "shop.q", "by_handle", "by_name"]

      assert [%{timeout_ms: 60_000, schema: %{"required" => ["who"]}}, %{defer: true}, _, two, _] =
               tools

      assert two.timeout_ms == 5

      assert [
               %{"type" => "function", "name" => "greeter"},
               %{"name" => "by_handle"},
               %{"name" => "by_name"},
               %{"type" => "namespace", "name" => "shop", "description" => "A shop"} = shop
             ] = Toolset.wire(tools)

      assert [%{"name" => "p", "deferLoading" => true}, %{"name" => "q"} = q] = shop["tools"]
      refute is_map_key(q, "deferLoading")
      assert %{name: "p"} = Toolset.find(tools, "shop", "p")
      assert Toolset.find(tools, nil, "p") == nil
      assert Toolset.new(tools) == {:ok, tools}

      Tools.deregister(handle)
      assert Toolset.new([handle]) == {:error, {:invalid_tool, Greeter, :not_registered}}
    end

    test "has a former name of the shell" do
      {:ok, tools} = Toolset.new([{Plain, name: "shell"}])
      assert %{name: "shell"} = Toolset.find(tools, nil, "local_shell")
      assert Toolset.find(tools, nil, nil) == nil
    end

    test "refuses what the CLI would accept and never call" do
      assert length(Reserved.names()) > 25

      for name <- Reserved.names() ++ ["mcp__files__read"] do
        assert Toolset.new([{Plain, name: name}]) ==
                 {:error, {:invalid_tool, Plain, {:reserved_name, name}}}
      end

      for namespace <- ["functions", "collaboration", "mcp__files"] do
        assert Toolset.new([{Plain, namespace: namespace}]) ==
                 {:error, {:invalid_tool, Plain, {:reserved_namespace, namespace}}}
      end

      long = String.duplicate("a", 65)

      for {opts, reason} <- [
            {[name: long], {:invalid_name, long}},
            {[name: ""], {:invalid_name, ""}},
            {[name: "a.b"], {:invalid_name, "a.b"}},
            {[namespace: ""], {:invalid_namespace, ""}},
            {[namespace: 1], {:invalid_namespace, 1}},
            {[defer: true], :defer_without_namespace},
            {[defer: 1], {:invalid_metadata, :defer, 1}},
            {[timeout_ms: 0], {:invalid_metadata, :timeout_ms, 0}},
            {[description: <<255>>], {:invalid_metadata, :description, <<255>>}},
            {[parameters: "x"], {:invalid_metadata, :parameters, "x"}}
          ] do
        assert {:error, {:invalid_tool, Plain, ^reason} = error} = Toolset.new([{Plain, opts}])
        %{kind: :invalid_request, message: message} = Codex.Error.normalize(error)
        assert message =~ "option :tools: Codex.ToolsTest.Plain"
      end

      for entry <- [1, nil, {1, []}, {Plain, [1]}],
          do: assert({:error, {:invalid_tool, _, :not_a_tool}} = Toolset.new([entry]))

      # The same name in another namespace is another tool.
      assert {:ok, [_, _]} = Toolset.new([Plain, {Plain, namespace: "two"}])

      assert Toolset.new([Plain, {Greeter, name: "plain"}]) ==
               {:error, {:invalid_tool, Greeter, {:duplicate_name, "plain"}}}

      assert {:ok, [_]} = Toolset.new([{Plain, name: String.duplicate("a", 64)}])
    end

    test "shows no options of tools" do
      {:ok, thread} = Codex.Thread.Options.new(tools: [{Plain, api_key: "hunter2"}, Greeter])
      assert inspect(thread) =~ ~s(api_key: "[redacted]")
      refute inspect(thread) =~ "hunter2"
      {:ok, tools} = Toolset.new(thread.tools)
      refute inspect(tools) =~ "hunter2"
    end

    test "is refused before anything starts" do
      error = {:error, {:invalid_tool, Plain, {:reserved_name, "view_image"}}}
      tools = [{Plain, name: "view_image"}]
      assert Codex.start_thread([], tools: tools) == error
      assert Codex.start_thread([], tools: tools, transport: {:app_server, self()}) == error
      assert Codex.resume_thread("x", [], tools: tools, transport: {:app_server, self()}) == error
    end
  end
end
