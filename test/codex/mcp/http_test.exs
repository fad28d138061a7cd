defmodule Codex.MCP.HTTPTest do
  # Messages, sessions and streams.
  use ExUnit.Case, async: true

  import Codex.MCPHTTP

  alias Codex.{HTTPServer, JSON, MCP}
  alias Codex.MCP.Transport.StreamableHTTP

  @json {"content-type", "application/json"}

  test "answers come as JSON and as event streams, with messages before them" do
    url =
      server(%{
        "tools/call" => fn conn, message, _request ->
          progress = JSON.encode!(notification("notifications/progress"))
          HTTPServer.stream(conn, [event(progress), event(rpc(message["id"], 1))])
        end
      })

    t = url |> open() |> initialized() |> call(1)
    {[{:messages, messages, _bytes}], t} = next(t)
    {more, _t} = if length(messages) == 1, do: next(t), else: {[], t}

    assert [{:notification, "notifications/progress", _}, {:result, 1, 1}] =
             messages ++ Enum.flat_map(more, &elem(&1, 1))
  end

  test "session and version are sent after initialize, and the session is deleted" do
    url =
      server(%{
        "initialize" => fn conn, %{"id" => id}, _ ->
          result(conn, id, %{}, [{"Mcp-Session-Id", "s1"}])
        end
      })

    t = url |> open() |> initialized() |> call(1)
    {[{:messages, [{:result, 1, _}], _}], t} = next(t)
    assert MCP.HTTP.stop(t) == :ok
    assert_received {:seen, "POST", "initialize", first}
    refute first["mcp-session-id"] || first["mcp-protocol-version"]
    assert first["accept"] == "application/json, text/event-stream"

    for seen <- [{"POST", "notifications/initialized"}, {"POST", "tools/call"}, {"DELETE", nil}] do
      {method, name} = seen
      assert_received {:seen, ^method, ^name, headers}
      assert {headers["mcp-session-id"], headers["mcp-protocol-version"]} == {"s1", "2025-11-25"}
    end
  end

  test "a call waits until the server has accepted notifications/initialized" do
    test = self()

    url =
      server(%{
        "notifications/initialized" => fn conn, _message, _request ->
          send(test, {:holding, self()})
          receive(do: (:go -> HTTPServer.reply(conn, 202, [], "")))
        end
      })

    t = url |> open() |> initialized() |> call(1)
    assert_receive {:holding, pid}, 5_000
    refute_received {:seen, "POST", "tools/call", _}
    send(pid, :go)
    assert {[{:messages, [{:result, 1, _}], _}], _t} = next(t)
  end

  for {status, body} <- [
        {404, "gone"},
        {400,
         ~s({"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}})}
      ] do
    test "a session lost with #{status} leads to one new session; refused calls are sent again" do
      {:ok, sessions} = Agent.start_link(fn -> 0 end)

      url =
        server(%{
          "initialize" => fn conn, %{"id" => id}, _ ->
            n = Agent.get_and_update(sessions, &{&1 + 1, &1 + 1})
            result(conn, id, %{}, [{"mcp-session-id", "s#{n}"}])
          end,
          "tools/call" => fn conn, %{"id" => id}, request ->
            if request.headers["mcp-session-id"] == "s1",
              do: HTTPServer.reply(conn, unquote(status), [@json], unquote(body)),
              else: result(conn, id, request.headers["mcp-session-id"])
          end
        })

      t = url |> open() |> initialized() |> call(1) |> call(2) |> call(3)
      assert {[{:session_lost, []}], t} = next(t)
      t = initialized(t)

      {_t, answers} =
        Enum.reduce(1..3, {t, []}, fn _, {t, answers} ->
          {[{:messages, [{:result, id, session}], _}], t} = next(t)
          {t, [{id, session} | answers]}
        end)

      assert Enum.sort(answers) == [{1, "s2"}, {2, "s2"}, {3, "s2"}]
      assert Agent.get(sessions, & &1) == 2
    end
  end

  test "a call that every session refuses is lost" do
    url =
      server(%{
        "initialize" => fn conn, %{"id" => id}, _ ->
          result(conn, id, %{}, [{"mcp-session-id", "s"}])
        end,
        "tools/call" => fn conn, _message, _request -> HTTPServer.reply(conn, 404, [], "") end
      })

    t = url |> open() |> initialized() |> call(1)
    {[{:session_lost, []}], t} = next(t)
    assert {[{:lost, 1, {:http_error, 404, _}}], _t} = t |> initialized() |> next()
  end

  describe "a stream that ends before the answer" do
    test "is opened again behind its last event, after the pause that the server asks for" do
      test = self()

      url =
        server(%{
          "tools/call" => fn conn, %{"id" => id}, _ ->
            send(test, {:id, id})
            HTTPServer.stream(conn, "retry: 20\nid: e1\ndata:\n\n")
          end,
          "GET" => fn conn, _message, request ->
            case request.headers["last-event-id"] do
              "e1" -> HTTPServer.stream(conn, event(JSON.encode!(notification("n")), "id: e2\n"))
              "e2" -> HTTPServer.stream(conn, event(rpc(1, "late")))
            end
          end
        })

      t = url |> open() |> initialized() |> call(1)
      assert {[{:messages, [{:notification, "n", _}], _}], t} = next(t)
      assert {[{:messages, [{:result, 1, "late"}], _}], _t} = next(t)
    end

    test "without an event id is lost, and so is every stream of a modern server" do
      cut = fn conn, _message, _request -> HTTPServer.stream(conn, event("{}")) end
      t = %{"tools/call" => cut} |> server() |> open() |> initialized() |> call(1)
      assert {[{:messages, [{:malformed, _}], _}], t} = next(t)
      assert {[{:lost, 1, :closed}], _t} = next(t)

      cut = fn conn, _message, _request -> HTTPServer.stream(conn, "id: e1\ndata:\n\n") end

      t =
        %{"tools/call" => cut}
        |> server()
        |> open()
        |> MCP.HTTP.protocol("2026-07-28", :modern)
        |> call(1)

      assert {[{:lost, 1, :closed}], _t} = next(t)
    end

    test "is not opened again and again" do
      url =
        server(%{
          "tools/call" => fn conn, _, _ ->
            HTTPServer.stream(conn, "retry: 1\nid: e1\ndata:\n\n")
          end,
          "GET" => fn conn, _, _ -> HTTPServer.stream(conn) end
        })

      t = url |> open() |> initialized() |> call(1)
      assert {[{:lost, 1, :closed}], _t} = next(t)
    end
  end

  test "the stream for messages without a request is opened, and a lost one makes a new session" do
    url =
      server(%{
        "initialize" => fn conn, %{"id" => id}, _ ->
          result(conn, id, %{}, [{"mcp-session-id", "s"}])
        end,
        "GET" => fn conn, _message, request ->
          if request.headers["last-event-id"] do
            HTTPServer.reply(conn, 404, [], "")
          else
            HTTPServer.stream(conn, event(JSON.encode!(notification("n")), "retry: 1\nid: 1\n"))
          end
        end
      })

    t = url |> open(%{listen: true}) |> initialized()
    assert {[{:messages, [{:notification, "n", _}], _}], t} = next(t)
    assert {[{:session_lost, []}], _t} = next(t)
  end

  test "an old server names the URL for messages on its stream" do
    {:ok, stream} = Agent.start_link(fn -> nil end)

    url =
      HTTPServer.start!(fn conn, request ->
        case {request.method, request.path} do
          {"POST", "/sse"} ->
            HTTPServer.reply(conn, 405, [], "")

          {"GET", "/sse"} ->
            Agent.update(stream, fn _ -> conn end)
            HTTPServer.stream(conn, "event: endpoint\ndata: /message?session=1\n\n")
            HTTPServer.wait(conn)

          {"POST", "/message?session=1"} ->
            message = decoded(request.body)
            HTTPServer.reply(conn, 202, [], "")

            if id = message["id"],
              do: HTTPServer.send_bytes(Agent.get(stream, & &1), event(rpc(id, %{})))

            :keep
        end
      end)

    t = (url <> "/sse") |> open() |> initialized() |> call(1)
    assert {[{:messages, [{:result, 1, _}], _}], t} = next(t)
    t = call(t, 2)
    assert {[{:messages, [{:result, 2, _}], _}], t} = next(t)
    {:gen_tcp, socket} = Agent.get(stream, & &1)
    :ok = :gen_tcp.shutdown(socket, :read_write)
    assert {[{:down, %{reason: :closed}}], _t} = next(t)
  end

  test "an old server cannot name another origin" do
    url =
      HTTPServer.start!(fn conn, request ->
        if request.method == "POST",
          do: HTTPServer.reply(conn, 404, [], "none"),
          else: HTTPServer.stream(conn, "event: endpoint\ndata: http://127.0.0.1:1/x\n\n")
      end)

    t = url |> open() |> MCP.HTTP.send(request(0, "initialize"))
    assert {[{:lost, 0, {:http_error, 404, "none"}}], _t} = next(t)
  end

  describe "Codex.MCP.Transport.StreamableHTTP" do
    test "sends and receives maps, and keeps its token to itself" do
      url =
        server(%{
          "tools/call" => fn conn, _, request ->
            HTTPServer.reply(conn, 500, [], request.headers["authorization"])
          end
        })

      {:ok, transport} =
        StreamableHTTP.start_link(
          url: url,
          server_name: "s",
          bearer_token: "canary-1",
          http_headers: %{"x-a" => "b"}
        )

      :ok = StreamableHTTP.send(transport, request(1, "ping"))

      assert {:ok, %{"jsonrpc" => "2.0", "id" => 1, "result" => %{}}} =
               StreamableHTTP.recv(transport, 5_000)

      assert_received {:seen, "POST", "ping",
                       %{"authorization" => "Bearer canary-1", "x-a" => "b"}}

      :ok = StreamableHTTP.send(transport, request(2, "tools/call"))
      assert {:error, {:http_error, 500, text}} = StreamableHTTP.recv(transport, 5_000)
      assert text =~ "[redacted]" and not (text =~ "canary")
      assert StreamableHTTP.recv(transport, 10) == {:error, :timeout}
    end

    test "checks its options" do
      assert {:error, %Codex.OptionError{key: :url}} = StreamableHTTP.start_link(server_name: "s")

      assert {:error, %Codex.OptionError{key: :server_name}} =
               StreamableHTTP.start_link(url: "http://a")

      assert {:error, %Codex.OptionError{key: :usl}} = StreamableHTTP.start_link(usl: "http://a")

      assert StreamableHTTP.start_link(
               url: "http://a",
               server_name: "s",
               bearer_token_env_var: "CODEX_NO_SUCH"
             ) ==
               {:error, {:missing_env, "CODEX_NO_SUCH"}}
    end
  end
end
