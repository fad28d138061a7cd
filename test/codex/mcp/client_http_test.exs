defmodule Codex.MCP.ClientHTTPTest do
  # The client with the reference server of npm, over stdio and over HTTP.
  use ExUnit.Case, async: true

  alias Codex.MCP.Client

  @moduletag :mcp_servers
  @moduletag timeout: 120_000

  defp start!(way) do
    {node, script} = Codex.MCPServers.everything()
    start!(way, node, script)
  end

  defp start!(:stdio, node, script) do
    {:ok, client} =
      Client.start_link(
        command: [node, script, "stdio"],
        timeout_ms: 60_000,
        probe_ms: 10_000,
        roots: [%{"uri" => "file:///tmp", "name" => "tmp"}],
        elicitation: fn _request -> {:accept, %{}} end,
        sampling: fn _request ->
          {:ok,
           %{
             "role" => "assistant",
             "model" => "m",
             "content" => %{"type" => "text", "text" => "sampled"}
           }}
        end
      )

    client
  end

  defp start!(:http, node, script) do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)

    {:ok, sub} =
      Codex.Subprocess.open([node, script, "streamableHttp"], env: %{"PORT" => "#{port}"})

    assert Codex.Subprocess.os_pid(sub) > 0
    wait(port, 300)

    {:ok, client} =
      Client.start_link(
        url: "http://127.0.0.1:#{port}/mcp",
        server_name: "everything",
        timeout_ms: 60_000
      )

    client
  end

  defp wait(port, left) do
    case :gen_tcp.connect({127, 0, 0, 1}, port, []) do
      {:ok, socket} ->
        :gen_tcp.close(socket)

      {:error, _} when left > 0 ->
        Process.sleep(100)
        wait(port, left - 1)
    end
  end

  for way <- [:stdio, :http] do
    test "tools, resources, prompts, completion and progress (#{way})" do
      client = start!(unquote(way))
      {:ok, info} = Client.info(client)
      assert info.protocol_version == "2025-11-25"
      {:ok, tools, _} = Client.list_tools(client)
      assert "echo" in Enum.map(tools, & &1["name"])

      assert {:ok, %{"content" => [%{"text" => "Echo: hello"}]}} =
               Client.call_tool(client, "echo", %{message: "hello"})

      {:ok, %{"resources" => [%{"uri" => uri} | _]}} = Client.list_resources(client)
      assert {:ok, %{"contents" => [_ | _]}} = Client.read_resource(client, uri)
      assert {:ok, %{"resourceTemplates" => [_ | _]}} = Client.list_resource_templates(client)
      {:ok, %{"prompts" => [_ | _] = prompts}} = Client.list_prompts(client)
      assert "simple-prompt" in Enum.map(prompts, & &1["name"])
      assert {:ok, %{"messages" => [_ | _]}} = Client.get_prompt(client, "simple-prompt")
      assert {:ok, %{}} = Client.ping(client)
      me = self()

      assert {:ok, _} =
               Client.call_tool(
                 client,
                 "trigger-long-running-operation",
                 %{duration: 1, steps: 4},
                 progress: &send(me, {:progress, &1["progress"]})
               )

      assert_received {:progress, _}
    end

    test "1,000 calls from 100 processes (#{way})" do
      client = start!(unquote(way))

      1..100
      |> Task.async_stream(
        fn n ->
          for i <- 1..10 do
            {:ok, %{"content" => [%{"text" => text}]}} =
              Client.call_tool(client, "echo", %{message: "#{n}.#{i}"}, timeout_ms: 110_000)

            assert text == "Echo: #{n}.#{i}"
          end
        end,
        max_concurrency: 100,
        timeout: 110_000
      )
      |> Enum.each(fn {:ok, results} -> assert length(results) == 10 end)
    end
  end
end
