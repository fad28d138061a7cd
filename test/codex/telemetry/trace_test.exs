defmodule Codex.Telemetry.TraceTest do
  # The whole VM has the API of OpenTelemetry, or has not.
  use ExUnit.Case, async: false

  alias Codex.{AppServer, Exec, OptionError, Stub, Test, Thread}
  alias Codex.Telemetry.Trace

  doctest Codex.Telemetry.Trace

  @moduletag :tmp_dir

  @trace "0af7651916cd43dd8448eb211c80319c"
  @parent "00-#{@trace}-b7ad6b7169203331-01"
  @other "00-1af7651916cd43dd8448eb211c80319d-c7ad6b7169203332-00"

  describe "a trace context" do
    test "is accepted as the carrier of OpenTelemetry" do
      carrier = [{"traceparent", @parent}, {"tracestate", "a@b=x y, c=1,"}, {"baggage", "u=1"}]
      kept = %{"traceparent" => @parent, "tracestate" => "a@b=x y, c=1,"}
      assert Trace.cast(carrier) == {:ok, kept}
      assert Trace.cast(kept) == {:ok, kept}

      assert Trace.cast(traceparent: @parent, tracestate: nil) ==
               {:ok, %{"traceparent" => @parent}}
    end

    test "is refused if it is invalid" do
      for invalid <- [
            "",
            "x",
            @parent <> "\n",
            String.upcase(@parent),
            String.replace(@parent, ~r/^00/, "ff"),
            String.replace(@parent, @trace, String.duplicate("0", 32)),
            %{},
            [],
            [tracestate: "a=1"],
            [traceparent: @parent, tracestate: "a"],
            [traceparent: @parent, tracestate: "a=" <> <<0>>],
            [traceparent: @parent, tracestate: String.duplicate("a=1,", 200)],
            [traceparent: @parent, tracestate: Enum.map_join(1..33, ",", &"a#{&1}=1")],
            [traceparent: @parent, span: "x"],
            [{:traceparent, @parent} | :x],
            [traceparent: 1],
            7
          ] do
        assert {:error, %OptionError{key: :trace}} = Codex.start_thread([], trace: invalid)
      end
    end
  end

  # The program prints its variables as the answer.
  defp variables(dir, client, options, turn \\ []) do
    body = """
    cat > /dev/null
    echo "$started"
    printf '{"type":"item.completed","item":{"id":"i","type":"agent_message","text":"%s %s"}}\\n' \
      "${TRACEPARENT-none}" "${TRACESTATE-none}"
    echo "$completed"
    """

    {:ok, thread} = Codex.start_thread([codex_path: Stub.write!(dir, body)] ++ client, options)
    {:ok, result} = Thread.run(thread, "go", turn)
    result.final_response.text
  end

  describe "on codex exec" do
    test "the option is in the environment; that of the turn wins", %{tmp_dir: dir} do
      assert variables(dir, [], []) == "none none"
      assert variables(dir, [], trace: @parent) == "#{@parent} none"
      with_state = [traceparent: @other, tracestate: "a=1"]
      assert variables(dir, [], [trace: @parent], trace: with_state) == "#{@other} a=1"
      assert variables(dir, [], [trace: @parent], trace: false) == "none none"
      env = %{"TRACEPARENT" => @other}
      assert variables(dir, [env: env], []) == "#{@other} none"
    end

    test "a state of the environment does not follow another parent", %{tmp_dir: dir} do
      System.put_env("TRACESTATE", "a=1")
      assert variables(dir, [], trace: @parent) == "#{@parent} none"
    after
      System.delete_env("TRACESTATE")
    end
  end

  # The propagator of the package, with the context of a process in its dictionary.
  defp with_api(fun) do
    name = :otel_propagator_text_map
    contents = quote(do: def(inject(carrier), do: carrier ++ Process.get(:otel_test, [])))
    {:module, ^name, _, _} = Module.create(name, contents, __ENV__)
    fun.()
  after
    :code.purge(:otel_propagator_text_map)
    :code.delete(:otel_propagator_text_map)
  end

  defp span(parent), do: Process.put(:otel_test, [{"traceparent", parent}, {"baggage", "a=1"}])

  test "without the option, the context of OpenTelemetry is sent", %{tmp_dir: dir} do
    with_api(fn ->
      assert variables(dir, [], []) == "none none"
      span(@parent)
      assert variables(dir, [], []) == "#{@parent} none"
      assert variables(dir, [], [], trace: @other) == "#{@other} none"
      assert variables(dir, [], trace: false) == "none none"
      assert variables(dir, [env: %{"TRACEPARENT" => @other}], []) == "#{@other} none"
      span("invalid")
      assert variables(dir, [], []) == "none none"
    end)

    assert variables(dir, [], []) == "none none"
  end

  describe "over an app-server" do
    # A server that answers each request with its trace.
    defp connect!(dir) do
      body = ~S"""
      read -r line
      echo '{"id":0,"result":{"userAgent":"stub"}}'
      read -r line
      n=1
      while read -r line; do
        trace=$(printf '%s' "$line" | sed -n 's/.*"trace":\({[^}]*}\).*/\1/p')
        printf '{"id":%s,"result":{"trace":%s}}\n' $n "${trace:-null}"
        n=$((n+1))
      done
      """

      home = Path.join(dir, "home")
      File.mkdir_p!(home)
      {:ok, conn} = AppServer.connect(codex_path: Stub.write!(dir, body), codex_home: home)
      conn
    end

    test "each request has the trace of its caller", %{tmp_dir: dir} do
      conn = connect!(dir)

      trace = fn options ->
        {:ok, %{"trace" => trace}} = AppServer.request(conn, "a/b", %{"a" => 1}, options)
        {:ok, %{"trace" => ^trace}} = AppServer.model_list(conn, [], options)
        trace
      end

      assert trace.([]) == nil
      assert trace.(trace: @parent) == %{"traceparent" => @parent}

      with_api(fn ->
        span(@other)
        assert trace.([]) == %{"traceparent" => @other}
        assert trace.(trace: false) == nil
        assert Task.await(Task.async(fn -> trace.([]) end)) == nil
      end)

      assert {:error, %OptionError{key: :trace}} = AppServer.request(conn, "a/b", nil, trace: "x")
    end

    @tag :codex_cli
    test "the requests of a turn have the trace of the process that asked for it", %{
      tmp_dir: dir
    } do
      model = Test.start!(["Hello", "Again"])
      {:ok, real} = Test.codex_path()
      File.write!(Path.join(dir, "codex"), "#!/bin/sh\ntee #{dir}/lines | exec #{real} \"$@\"\n")
      File.chmod!(Path.join(dir, "codex"), 0o755)
      client = Keyword.put(Test.options(model), :codex_path, Path.join(dir, "codex"))
      {:ok, conn} = AppServer.connect(client, cwd: model.workspace)
      options = Test.thread_options(model) ++ [transport: {:app_server, conn}]
      {:ok, thread} = Codex.start_thread([], options)

      result =
        with_api(fn ->
          span(@parent)
          {:ok, stream} = Thread.run_streamed(thread, "go")
          # Read by another process.
          read = Task.async(fn -> Codex.RunResultStreaming.result(stream) end)
          assert {:ok, %{final_response: %{text: "Hello"}} = result} = Task.await(read)
          result
        end)

      assert {:ok, %{final_response: %{text: "Again"}}} = Thread.run(result.thread, "again")
      AppServer.disconnect(conn)

      traces =
        for line <- dir |> Path.join("lines") |> File.stream!(),
            {:ok, %{"id" => _, "method" => method} = request} <- [Codex.JSON.decode(line)],
            do: {method, request["trace"]}

      parent = %{"traceparent" => @parent}

      assert traces == [
               {"initialize", nil},
               {"thread/start", parent},
               {"turn/start", parent},
               {"turn/start", nil}
             ]
    end
  end

  test "Codex.Exec takes the option, too", %{tmp_dir: dir} do
    body = """
    cat > /dev/null
    echo "$TRACEPARENT" > #{dir}/parent
    echo "$turn"
    """

    {:ok, client} = Codex.Options.new(codex_path: Stub.write!(dir, body))
    assert {:ok, _} = Exec.run("go", codex_opts: client, turn_opts: [trace: @parent])
    assert File.read!(Path.join(dir, "parent")) == @parent <> "\n"
  end
end
