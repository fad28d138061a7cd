defmodule Codex.BridgeTest do
  # The socket of a bridge, without a CLI: a plain client speaks MCP.
  use ExUnit.Case, async: true

  import Bitwise
  import ExUnit.CaptureLog
  alias Codex.Bridge
  alias Codex.Bridge.Tools
  alias Codex.Tools.Toolset

  doctest Codex.Bridge
  doctest Codex.Bridge.Service

  defmodule Echo do
    use Codex.FunctionTool, name: "echo", parameters: [text: :string]
    def handle(%{"text" => text}), do: {:ok, text}
  end

  defmodule Hold do
    use Codex.FunctionTool, name: "hold", timeout_ms: 100_000

    def handle(_args, context) do
      send(context.context.test, {:held, self(), context})
      receive do: (:go -> {:ok, "went"})
    end
  end

  defmodule Killed do
    use Codex.FunctionTool, name: "killed"
    def handle(_args, _context), do: Process.exit(self(), :kill)
  end

  defmodule Picture do
    use Codex.FunctionTool, name: "picture", read_only: true
    def handle(_args), do: {:ok, [Codex.ToolOutput.image(bytes: "GIF89a"), "a picture"]}
  end

  defp thread, do: %{metadata: %{tool_context: %{test: self()}}}

  defp service(tools) do
    {:ok, tools} = Toolset.new(tools)
    {:ok, service} = Tools.new(tools, thread())
    service
  end

  defp open(tools) do
    {:ok, bridge} = Bridge.open([service(tools)])
    on_exit(fn -> Bridge.close(bridge) end)
    bridge
  end

  defp path(bridge), do: bridge.env["CODEX_SDK_BRIDGE_SOCKET"]
  defp token(bridge), do: bridge.env["CODEX_SDK_BRIDGE_TOKEN"]

  defp connect(bridge, token) do
    options = [:binary, packet: :line, active: false, buffer: 8_000_000]

    with {:ok, socket} <- :gen_tcp.connect({:local, path(bridge)}, 0, options) do
      :ok = :gen_tcp.send(socket, token <> "\n")
      {:ok, socket}
    end
  end

  defp connected(tools) do
    bridge = open(tools)
    {:ok, socket} = connect(bridge, token(bridge))
    {bridge, socket}
  end

  defp tell(socket, message) do
    message = Map.put(message, :jsonrpc, "2.0")
    :ok = :gen_tcp.send(socket, [Codex.JSON.encode!(message), ?\n])
  end

  defp hear(socket) do
    {:ok, line} = :gen_tcp.recv(socket, 0, 10_000)
    {:ok, %{"jsonrpc" => "2.0"} = message} = Codex.JSON.decode(line)
    message
  end

  defp ask(socket, method, params \\ %{}) do
    tell(socket, %{id: 1, method: method, params: params})
    %{"id" => 1} = answer = hear(socket)
    answer["result"] || {:error, answer["error"]["code"]}
  end

  defp call(socket, id, name, args \\ %{}) do
    params = %{name: name, arguments: args, _meta: %{"callId" => "c#{id}"}}
    tell(socket, %{id: id, method: "tools/call", params: params})
  end

  defp text(%{"result" => %{"content" => [%{"text" => text}], "isError" => error?}}),
    do: {error?, text}

  defp ended!(pid) do
    ref = Process.monitor(pid)
    assert_receive {:DOWN, ^ref, :process, _, _}, 5_000
  end

  test "it speaks MCP" do
    {_bridge, socket} = connected([Picture, {Echo, namespace: "shop"}])

    assert %{"protocolVersion" => "2025-03-26", "capabilities" => %{"tools" => %{}}} =
             ask(socket, "initialize", %{protocolVersion: "2025-03-26"})

    assert %{"protocolVersion" => "2025-06-18"} =
             ask(socket, "initialize", %{protocolVersion: "3000-01-01"})

    tell(socket, %{method: "notifications/initialized"})
    assert ask(socket, "ping") == %{}
    assert %{"tools" => [picture, echo]} = ask(socket, "tools/list")
    assert %{"name" => "picture", "annotations" => %{"readOnlyHint" => true}} = picture
    assert %{"name" => "shop_echo", "annotations" => %{"readOnlyHint" => false}} = echo
    assert echo["inputSchema"]["properties"]["text"]["type"] == "string"

    assert ask(socket, "tools/call", %{name: "picture"}) == %{
             "isError" => false,
             "content" => [
               %{"type" => "image", "data" => "R0lGODlh", "mimeType" => "image/gif"},
               %{"type" => "text", "text" => "a picture"}
             ]
           }

    assert ask(socket, "tools/call", %{name: "echo"}) == {:error, -32_602}
    assert ask(socket, "tools/call", %{nam: 1}) == {:error, -32_602}
    assert ask(socket, "resources/list") == {:error, -32_601}
  end

  test "1,000 calls are answered, each with its own result" do
    {_bridge, socket} = connected([Echo])

    for chunk <- Enum.chunk_every(1..1_000, 100) do
      for n <- chunk, do: call(socket, n, "echo", %{text: "#{n}"})

      answers =
        for _n <- chunk, into: %{} do
          answer = hear(socket)
          {answer["id"], text(answer)}
        end

      assert answers == Map.new(chunk, &{&1, {false, "#{&1}"}})
    end
  end

  test "too many calls at the same time are refused, and the others go on" do
    {_bridge, socket} = connected([Hold])
    for n <- 1..257, do: call(socket, n, "hold")
    assert %{"id" => 257, "error" => %{"code" => -32_000}} = hear(socket)

    for _n <- 1..256 do
      assert_receive {:held, pid, _context}, 5_000
      send(pid, :go)
    end

    for _n <- 1..256, do: assert(text(hear(socket)) == {false, "went"})
  end

  test "a call has the context of other transports, and ends when it is cancelled" do
    {bridge, socket} = connected([Hold])
    turn = %{"thread_id" => "t1", "turn_id" => "u1", "session_id" => "s1"}
    meta = %{"callId" => "c1", "x-codex-turn-metadata" => turn}
    params = %{name: "hold", arguments: %{}, _meta: meta}
    tell(socket, %{id: "a", method: "tools/call", params: params})
    assert_receive {:held, pid, context}, 5_000
    assert %{tool: %{name: "hold"}, metadata: %{timeout_ms: 100_000}, thread: %{}} = context
    assert context.context == %{test: self()}
    assert context.owner == bridge.pid
    assert %{call_id: "c1", thread_id: "t1", turn_id: "u1", session_id: "s1"} = context.event

    tell(socket, %{method: "notifications/cancelled", params: %{requestId: "a", reason: "x"}})
    ended!(pid)
    # Nothing was answered.
    assert ask(socket, "ping") == %{}
  end

  test "a call that takes too long, fails or is killed is told to the model" do
    {_bridge, socket} = connected([{Hold, timeout_ms: 1_000}, Killed, Echo])
    call(socket, 1, "hold")
    assert text(hear(socket)) == {true, "the tool hold took too long"}
    assert_received {:held, pid, _context}
    ended!(pid)
    call(socket, 2, "killed")
    assert text(hear(socket)) == {true, "the tool killed failed"}
    call(socket, 3, "echo", %{text: 1})
    assert {true, "invalid arguments for echo: " <> _} = text(hear(socket))
    assert ask(socket, "ping") == %{}
  end

  test "a large result arrives" do
    {_bridge, socket} = connected([Echo])
    long = String.duplicate("0123456789", 200_000)
    call(socket, 1, "echo", %{text: long})
    assert text(hear(socket)) == {false, long}
  end

  test "all calls end with the connection, and with the owner" do
    {_bridge, socket} = connected([Hold])
    call(socket, 1, "hold")
    assert_receive {:held, pid, _context}, 5_000
    :gen_tcp.close(socket)
    ended!(pid)

    test = self()
    service = service([Hold])

    owner =
      spawn(fn ->
        {:ok, bridge} = Bridge.open([service])
        send(test, bridge)
        Process.sleep(:infinity)
      end)

    assert_receive %Bridge{} = bridge, 5_000
    {:ok, socket} = connect(bridge, token(bridge))
    call(socket, 1, "hold")
    assert_receive {:held, pid, _context}, 5_000
    Process.exit(owner, :kill)
    for pid <- [pid, bridge.pid], do: ended!(pid)
    assert {:error, :closed} = :gen_tcp.recv(socket, 0, 5_000)
    assert gone?(bridge.dir)
  end

  # Another process removes the directory.
  defp gone?(dir, tries \\ 100) do
    cond do
      not File.exists?(dir) -> true
      tries == 0 -> false
      true -> Process.sleep(20) && gone?(dir, tries - 1)
    end
  end

  test "only the first connection with the token is served" do
    bridge = open([Echo])
    {:ok, wrong} = connect(bridge, String.duplicate("0", 64))
    assert {:error, :closed} = :gen_tcp.recv(wrong, 0, 5_000)
    {:ok, short} = connect(bridge, "0")
    :gen_tcp.close(short)

    {:ok, socket} = connect(bridge, token(bridge))
    assert ask(socket, "ping") == %{}

    # Either the connection or its first message is refused.
    case connect(bridge, token(bridge)) do
      {:ok, second} -> assert {:error, _closed} = :gen_tcp.recv(second, 0, 5_000)
      {:error, reason} -> assert reason == :econnrefused
    end

    assert ask(socket, "ping") == %{}
  end

  test "nobody else reaches the socket, and nothing shows the token" do
    bridge = open([Echo])
    assert (File.stat!(bridge.dir).mode &&& 0o777) == 0o700
    assert (File.stat!(path(bridge)).mode &&& 0o777) == 0o600
    assert byte_size(path(bridge)) <= 103
    refute inspect(bridge) =~ token(bridge)
    refute inspect(service([Echo])) =~ "metadata"
    Bridge.close(bridge)
    refute File.exists?(bridge.dir)
    ended!(bridge.pid)
  end

  test "noise ends the connection or is skipped, and ends nobody else" do
    {bridge, socket} = connected([Echo])

    log =
      capture_log(fn ->
        :ok = :gen_tcp.send(socket, "no json\n[]\n{}\n7\n")
        assert ask(socket, "ping") == %{}
        tell(socket, %{id: 9, result: 1})
        tell(socket, %{method: "notifications/cancelled", params: %{requestId: 77}})
        assert ask(socket, "ping") == %{}
      end)

    assert log == ""
    assert Process.alive?(bridge.pid)
  end

  test "names that meet in MCP are refused" do
    {:ok, tools} = Toolset.new([{Echo, name: "a_b"}, {Echo, namespace: "a", name: "b"}])
    assert Tools.new(tools, nil) == {:error, {:invalid_tool, Echo, {:duplicate_name, "a_b"}}}
  end
end
