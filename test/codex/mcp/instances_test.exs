defmodule Codex.MCP.InstancesTest do
  # Clients by name and under supervisors, servers that do not start, and telemetry.
  use ExUnit.Case, async: false

  alias Codex.MCP.Client
  alias Codex.TelemetryStandIn, as: Telemetry

  @moduletag :python
  @moduletag capture_log: true
  @server Path.expand("../../children/mcp_server.py", __DIR__)

  defp server(ways \\ []), do: [command: ["python3", @server | ways], timeout_ms: 60_000]
  defp text({:ok, %{"content" => [%{"text" => text}]}}), do: text
  defp echo(client, text), do: text(Client.call_tool(client, "echo", %{text: text}))

  describe "several clients" do
    test "have names, and their own servers" do
      {:ok, registry} = Registry.start_link(keys: :unique, name: __MODULE__.Registry)
      via = {:via, Registry, {__MODULE__.Registry, "docs"}}
      {:ok, one} = Client.start_link(server() ++ [name: __MODULE__.One])
      {:ok, two} = Client.start_link(server() ++ [name: via])

      assert {:error, {:already_started, ^one}} =
               Client.start_link(server() ++ [name: __MODULE__.One])

      assert echo(__MODULE__.One, "a") == "a"
      assert echo(via, "b") == "b"
      {:ok, first} = Client.os_pid(__MODULE__.One)
      {:ok, second} = Client.os_pid(via)
      assert first != second
      :ok = Client.stop(one)
      assert {:error, {:server_down, %{reason: :noproc}}} = Client.ping(__MODULE__.One)
      assert echo(two, "c") == "c"
      :ok = Client.stop(two)
      :ok = Supervisor.stop(registry)
    end

    test "of a supervisor have ids of their own, and start again" do
      children =
        for name <- [__MODULE__.One, __MODULE__.Two], do: {Client, server() ++ [name: name]}

      {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)
      assert %{active: 2} = Supervisor.count_children(supervisor)
      before = Process.whereis(__MODULE__.One)
      two = Process.whereis(__MODULE__.Two)
      monitor = Process.monitor(before)
      assert {:error, {:server_down, _}} = Client.call_tool(__MODULE__.One, "exit")
      assert_receive {:DOWN, ^monitor, :process, _, _}, 10_000
      assert restarted(supervisor, before, 200) == "again"
      assert Process.whereis(__MODULE__.Two) == two
      :ok = Supervisor.stop(supervisor)
    end

    defp restarted(supervisor, before, left) do
      if Process.whereis(__MODULE__.One) in [nil, before] and left > 0 do
        Process.sleep(50)
        restarted(supervisor, before, left - 1)
      else
        echo(__MODULE__.One, "again")
      end
    end
  end

  describe "a server that does not start" do
    test "is left out by a supervisor if it is not required" do
      children = [
        {Client, [command: "no-such-program", required: false, name: __MODULE__.None]},
        {Client, [command: ["sh", "-c", "exit 3"], required: false, name: __MODULE__.Ends]},
        {Client, server() ++ [name: __MODULE__.One, required: false]}
      ]

      {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)
      assert %{active: 1, specs: 3} = Supervisor.count_children(supervisor)
      assert echo(__MODULE__.One, "a") == "a"
      assert {:error, {:server_down, %{reason: :noproc}}} = Client.ping(__MODULE__.Ends)
      :ok = Supervisor.stop(supervisor)
    end

    test "is an error if it is required" do
      Process.flag(:trap_exit, true)
      assert {:error, {:command_not_found, _}} = Client.start_link(command: "no-such-program")

      assert {:error, {:server_down, %{exit_status: 3}}} =
               Client.start_link(command: ["sh", "-c", "exit 3"], timeout_ms: 60_000)

      assert :ignore =
               Client.start_link(
                 command: ["sh", "-c", "sleep 100"],
                 timeout_ms: 100,
                 required: false
               )
    end

    @tag :tmp_dir
    test "is required as its configuration says", %{tmp_dir: home} do
      File.write!(Path.join(home, "config.toml"), """
      [mcp_servers.optional]
      command = "sh"
      args = ["-c", "exit 3"]
      required = false

      [mcp_servers.needed]
      command = "sh"
      args = ["-c", "exit 3"]
      required = true
      """)

      Process.flag(:trap_exit, true)
      assert :ignore = Client.start_link(server: "optional", codex_home: home)

      assert {:error, {:server_down, %{exit_status: 3}}} =
               Client.start_link(server: "needed", codex_home: home)

      assert {:error, {:unknown_mcp_server, "missing"}} =
               Client.start_link(server: "missing", codex_home: home)
    end
  end

  describe "telemetry" do
    test "tells the start and the end of a call, without its arguments" do
      :ok = Telemetry.load!()
      :ok = Telemetry.listen!()
      {:ok, client} = Client.start_link(server() ++ [server_name: "odd"])
      assert echo(client, "secret") == "secret"
      opts = [retries: 1, safe: true, backoff: fn _ -> 1 end]
      assert {:error, %{"code" => -32_001}} = Client.call_tool(client, "write", %{}, opts)
      :ok = Client.stop(client)

      assert [
               {[:mcp, :tool_call, :start], %{system_time: _}, echo},
               {[:mcp, :tool_call, :success], %{duration: duration, duration_ms: _}, echoed},
               {[:mcp, :tool_call, :start], _, %{tool: "write"}},
               {[:mcp, :tool_call, :failure], %{duration: _}, failed}
             ] = for({[:mcp | _], _, _} = told <- Telemetry.told(), do: told)

      assert echo == %{tool: "echo", server_name: "odd", originator: :sdk}
      assert echoed == Map.put(echo, :attempt, 1)
      assert is_integer(duration) and duration > 0
      assert %{tool: "write", attempt: 2, reason: _} = failed
      refute inspect([echo, echoed, failed]) =~ "secret"
    end

    test "has another prefix, and arguments, if the client says so" do
      :ok = Telemetry.load!()
      :ok = Telemetry.listen!([:my, :app])
      opts = [telemetry_prefix: [:my, :app], telemetry_content: true]
      {:ok, client} = Client.start_link(server() ++ opts)
      assert echo(client, "hello") == "hello"
      :ok = Client.stop(client)

      assert [{[:mcp, :tool_call, :start], _, start}, {[:mcp, :tool_call, :success], _, _}] =
               for({[:mcp | _], _, _} = told <- Telemetry.told(), do: told)

      assert start.arguments == %{text: "hello"}
    end
  end
end
