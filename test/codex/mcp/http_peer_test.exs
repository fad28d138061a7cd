defmodule Codex.MCP.HTTPPeerTest do
  # The reference server of npm, which bin/test installs.
  use ExUnit.Case, async: true

  alias Codex.{MCP, MCPServers, Subprocess}

  @moduletag :mcp_servers

  defp server(port) do
    {_url, sub} = MCPServers.serve!(:everything, port: port)
    sub
  end

  defp request(t, id, method, params \\ %{}) do
    message = %{"jsonrpc" => "2.0", "id" => id, "method" => method, "params" => params}
    MCP.HTTP.send(t, message)
  end

  # Outputs until the wanted one; notifications and requests of the server are left alone.
  defp until(t, wanted) do
    receive do
      {ref, pid, _event} = message when is_reference(ref) and is_pid(pid) ->
        case MCP.HTTP.stream(t, message) do
          {:ok, t, outputs} ->
            outputs |> Enum.find_value(wanted) |> found(granted(t, outputs), wanted)

          :unknown ->
            until(t, wanted)
        end
    after
      20_000 -> flunk("no such output")
    end
  end

  defp found(nil, t, wanted), do: until(t, wanted)
  defp found(value, t, _wanted), do: {value, t}

  defp granted(t, outputs) do
    for {:messages, _messages, bytes} <- outputs, bytes > 0, reduce: t do
      t -> MCP.HTTP.grant(t, bytes)
    end
  end

  defp answer(id) do
    fn
      {:messages, messages, _bytes} ->
        Enum.find_value(messages, fn
          {:result, ^id, result} -> result
          _other -> nil
        end)

      {:lost, ^id, reason} ->
        {:lost, reason}

      _other ->
        nil
    end
  end

  defp initialized(t, id) do
    info = %{"name" => "test", "version" => "1"}
    params = %{"protocolVersion" => "2025-11-25", "capabilities" => %{}, "clientInfo" => info}
    {result, t} = t |> request(id, "initialize", params) |> until(answer(id))
    t = MCP.HTTP.protocol(t, result["protocolVersion"], :legacy)
    MCP.HTTP.send(t, %{"jsonrpc" => "2.0", "method" => "notifications/initialized"})
  end

  defp echo(t, id, text) do
    call = %{"name" => "echo", "arguments" => %{"message" => text}}
    t |> request(id, "tools/call", call) |> until(answer(id))
  end

  test "calls work, and a restarted server leads to one new session, in which they go on" do
    port = MCPServers.free_port()
    sub = server(port)
    {:ok, t} = MCP.HTTP.open(%{url: "http://127.0.0.1:#{port}/mcp"})
    t = initialized(t, 0)
    {%{"tools" => [_ | _]}, t} = t |> request(1, "tools/list") |> until(answer(1))
    assert {%{"content" => [%{"text" => "Echo: hello"}]}, t} = echo(t, 2, "hello")

    long = %{
      "name" => "trigger-long-running-operation",
      "arguments" => %{"duration" => 60, "steps" => 3}
    }

    t = request(t, 3, "tools/call", long)
    _ = Subprocess.stop(sub)
    sub = server(port)
    again = %{"name" => "echo", "arguments" => %{"message" => "again"}}
    t = request(t, 4, "tools/call", again)
    {:lost, t} = until(t, fn output -> if match?({:session_lost, []}, output), do: :lost end)
    {result, t} = t |> initialized(5) |> until(answer(4))
    assert %{"content" => [%{"text" => "Echo: again"}]} = result
    _ = MCP.HTTP.stop(t)
    _ = Subprocess.stop(sub)
  end

  test "1,000 calls, a hundred at a time" do
    port = MCPServers.free_port()
    sub = server(port)
    {:ok, t} = MCP.HTTP.open(%{url: "http://127.0.0.1:#{port}/mcp", listen: false})
    t = initialized(t, 0)

    t =
      Enum.reduce(Enum.chunk_every(1..1_000, 100), t, fn ids, t ->
        t =
          Enum.reduce(ids, t, fn id, t ->
            request(t, id, "tools/call", %{
              "name" => "echo",
              "arguments" => %{"message" => "#{id}"}
            })
          end)

        collect(t, MapSet.new(ids))
      end)

    _ = MCP.HTTP.stop(t)
    _ = Subprocess.stop(sub)
  end

  defp collect(t, left) do
    if MapSet.size(left) == 0 do
      t
    else
      {ids, t} =
        until(t, fn
          {:messages, messages, _} ->
            echoed(messages)

          {:lost, id, reason} ->
            flunk("#{id}: #{inspect(reason)}")

          _other ->
            nil
        end)

      collect(t, Enum.reduce(ids, left, &MapSet.delete(&2, &1)))
    end
  end

  defp echoed(messages) do
    for {:result, id, %{"content" => [%{"text" => text}]}} <- messages do
      assert text == "Echo: #{id}"
      id
    end
  end
end
