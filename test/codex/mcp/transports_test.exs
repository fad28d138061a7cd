defmodule Codex.MCP.TransportsTest do
  # Transports that an application holds, and transports of its own.
  use ExUnit.Case, async: true

  alias Codex.MCP.{Client, Connection, Options, Transport}

  @moduletag capture_log: true
  @server Path.expand("../../children/mcp_server.py", __DIR__)

  @tag :python
  test "Stdio holds a command; send and recv work alone" do
    {:ok, stdio} = Transport.Stdio.start_link(command: ["python3", @server])
    {:ok, client} = Client.initialize({Transport.Stdio, stdio}, server_name: "odd")
    assert %Client{server_name: "odd", capabilities: %{"tools" => %{}}} = client
    assert {:ok, tools, %Client{tool_cache: tools}} = Client.list_tools(client)
    :ok = Transport.Stdio.send(stdio, %{"jsonrpc" => "2.0", "id" => 1, "method" => "ping"})
    assert {:ok, %{"id" => 1, "result" => %{}}} = Transport.Stdio.recv(stdio, 5_000)
  end

  defmodule Loop do
    def send(pid, message) do
      Kernel.send(pid, {:sent, message})
      :ok
    end

    def recv(pid, ms) do
      Kernel.send(pid, {:want, self()})
      receive do: ({:message, message} -> {:ok, message}), after: (ms -> {:error, :timeout})
    end
  end

  defp answer(wanting) do
    receive do
      {:want, pid} ->
        answer(pid)

      {:sent, %{"id" => id} = request} ->
        result =
          if request["method"] == "initialize",
            do: %{"protocolVersion" => "2025-06-18", "capabilities" => %{}},
            else: %{"content" => []}

        Kernel.send(wanting, {:message, %{"id" => id, "result" => result}})
        answer(wanting)

      {:sent, _notification} ->
        answer(wanting)
    end
  end

  test "a connection tells its starter, however late that looks" do
    loop = spawn_link(fn -> receive do: ({:want, pid} -> answer(pid)) end)
    {:ok, options} = Options.new(protocol_version: "2025-06-18")
    opener = Options.of_transport({Loop, loop})
    {test, ref} = {self(), make_ref()}

    args = fn ->
      %{opener: fn -> opener end, options: options, owner: test, parent: nil}
      |> Map.put(:starter, {test, ref})
    end

    {:ok, pid} = Connection.start_link({args, nil})
    ready!(pid)
    assert_received {^ref, {:ok, %{version: "2025-06-18"}}}
  end

  defp ready!(pid) do
    if :sys.get_state(pid).state.phase != :ready, do: ready!(pid)
  end

  test "a transport of the application" do
    loop = spawn_link(fn -> receive do: ({:want, pid} -> answer(pid)) end)
    {:ok, client} = Client.handshake({Loop, loop}, protocol_version: "2025-06-18")
    assert {:ok, %{"content" => []}} = Client.call_tool(client, "x", %{})
  end
end
