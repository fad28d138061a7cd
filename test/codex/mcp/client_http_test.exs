defmodule Codex.MCP.ClientHTTPTest do
  # The client over HTTP, with servers that lose sessions and streams.
  use ExUnit.Case, async: true

  alias Codex.{HTTPServer, JSON}
  alias Codex.MCP.Client

  @moduletag capture_log: true

  @json {"content-type", "application/json"}
  @lost_400 ~s({"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}})

  # A server whose answers are functions by method: of the message, or of HTTP.
  defp serve(answers) do
    test = self()

    HTTPServer.start!(fn conn, request ->
      message = decode(request.body)
      key = if request.method == "POST", do: message["method"], else: request.method
      send(test, {:seen, key, message, request.headers})

      answer = answers[key] || (&default/3)
      answer.(conn, message, request)
    end) <> "/mcp"
  end

  defp decode(""), do: %{}
  defp decode(body), do: body |> JSON.decode() |> elem(1)

  defp default(conn, %{"id" => id}, _request), do: result(conn, id, %{})
  defp default(conn, %{"method" => _}, _request), do: HTTPServer.reply(conn, 202, [], "")
  defp default(conn, _none, _request), do: HTTPServer.reply(conn, 405, [], "")

  defp connect!(url, opts \\ []) do
    server = [url: url, server_name: "s", oauth: false, timeout_ms: 20_000]
    {:ok, client} = Client.start_link(server ++ opts)
    client
  end

  defp result(conn, id, result, headers \\ []),
    do: HTTPServer.reply(conn, 200, [@json | headers], rpc(%{"id" => id, "result" => result}))

  defp rpc(message), do: JSON.encode!(Map.put(message, "jsonrpc", "2.0"))
  defp event(message, more \\ ""), do: "#{more}data: #{rpc(message)}\n\n"
  defp text(text), do: %{"content" => [%{"type" => "text", "text" => text}]}

  # Sessions of the legacy era, counted.
  defp legacy(answers, version \\ "2025-11-25") do
    {:ok, count} = Agent.start_link(fn -> 0 end)

    initialize = fn conn, %{"id" => id}, _request ->
      n = Agent.get_and_update(count, &{&1 + 1, &1 + 1})
      about = %{"protocolVersion" => version, "capabilities" => %{"tools" => %{}}}
      result(conn, id, about, [{"mcp-session-id", "s#{n}"}])
    end

    {serve(Map.merge(%{"initialize" => initialize}, answers)), count}
  end

  defp calls(method) do
    receive do
      {:seen, ^method, message, _headers} -> [message | calls(method)]
    after
      0 -> []
    end
  end

  describe "a session lost in mid-call" do
    # The stream of the first call ends, and the server does not know the session any more.
    defp losing(status, body, hints) do
      forgets = fn conn -> HTTPServer.reply(conn, status, [@json], body) end
      {:ok, called} = Agent.start_link(fn -> 0 end)
      tool = %{"name" => "t", "inputSchema" => %{}, "annotations" => hints}

      legacy(%{
        "tools/list" => fn conn, %{"id" => id}, _ -> result(conn, id, %{"tools" => [tool]}) end,
        "tools/call" => fn conn, %{"id" => id}, %{headers: %{"mcp-session-id" => session}} ->
          case {Agent.get_and_update(called, &{&1, &1 + 1}), session} do
            {0, "s1"} -> HTTPServer.stream(conn, "id: 1\nretry: 10\ndata: \n\n")
            {_again, "s1"} -> forgets.(conn)
            {_again, session} -> result(conn, id, text(session))
          end
        end,
        "GET" => fn conn, _message, %{headers: headers} ->
          if headers["last-event-id"],
            do: forgets.(conn),
            else: HTTPServer.reply(conn, 405, [], "")
        end
      })
    end

    for {status, body} <- [{404, "gone"}, {400, @lost_400}] do
      test "is the error of a call that may have been executed (#{status})" do
        {url, sessions} = losing(unquote(status), unquote(body), %{})
        client = connect!(url)
        {:ok, [_], _} = Client.list_tools(client)
        assert Client.call_tool(client, "t") == {:error, :session_lost}
        assert [_once] = calls("tools/call")
        assert Client.call_tool(client, "t") == {:ok, text("s2")}
        assert Agent.get(sessions, & &1) == 2
      end

      test "is repeated in a new session if that is safe (#{status})" do
        {url, sessions} = losing(unquote(status), unquote(body), %{"readOnlyHint" => true})
        client = connect!(url)
        {:ok, [_], _} = Client.list_tools(client)
        assert Client.call_tool(client, "t") == {:ok, text("s2")}
        assert Agent.get(sessions, & &1) == 2
      end

      test "leaves subscriptions to resources (#{status})" do
        {url, _sessions} = losing(unquote(status), unquote(body), %{})
        client = connect!(url)
        :ok = Client.subscribe_resource(client, "memo://a")
        assert Client.call_tool(client, "t") == {:error, :session_lost}
        assert Client.call_tool(client, "t") == {:ok, text("s2")}

        for session <- ["s1", "s2"] do
          assert_receive {:seen, "resources/subscribe", %{"params" => %{"uri" => "memo://a"}},
                          %{"mcp-session-id" => ^session}},
                         5_000
        end
      end
    end
  end

  test "a session that follows gets the level of the log again" do
    {:ok, lost} = Agent.start_link(fn -> false end)

    {url, _sessions} =
      legacy(%{
        "ping" => fn conn, %{"id" => id}, _request ->
          if Agent.get_and_update(lost, &{&1, true}),
            do: result(conn, id, %{}),
            else: HTTPServer.reply(conn, 404, [@json], "gone")
        end
      })

    client = connect!(url)
    {:ok, %{}} = Client.set_log_level(client, "warning")
    _ = Client.ping(client)
    {:ok, %{}} = Client.ping(client)

    for session <- ["s1", "s2"] do
      assert_receive {:seen, "logging/setLevel", %{"params" => %{"level" => "warning"}},
                      %{"mcp-session-id" => ^session}},
                     20_000
    end

    refute_received {:seen, "logging/setLevel", _message, _headers}
  end

  describe "a subscription to a resource" do
    defp refusing(refused?) do
      error = %{"code" => -32_601, "message" => "no subscriptions"}

      {url, _sessions} =
        legacy(%{
          "resources/subscribe" => fn conn, %{"id" => id, "params" => params}, _request ->
            if refused?.(params["uri"]),
              do: HTTPServer.reply(conn, 200, [@json], rpc(%{"id" => id, "error" => error})),
              else: result(conn, id, %{})
          end
        })

      connect!(url)
    end

    test "that a server of the legacy era refuses is an error, and is not asked for again" do
      client = refusing(&(&1 == "memo://b"))
      assert :ok = Client.subscribe_resource(client, "memo://a")

      for _again <- 1..2 do
        assert {:error, %{"code" => -32_601, "message" => "no subscriptions"}} =
                 Client.subscribe_resource(client, "memo://b")
      end

      # A second subscriber of an accepted one is not asked for.
      assert :ok = Task.await(Task.async(Client, :subscribe_resource, [client, "memo://a"]))
      assert :ok = Client.unsubscribe(client)
      uris = for %{"params" => %{"uri" => uri}} <- calls("resources/subscribe"), do: uri
      assert uris == ["memo://a", "memo://b", "memo://b"]
      uris = for %{"params" => %{"uri" => uri}} <- calls("resources/unsubscribe"), do: uri
      assert uris -- ["memo://a"] == []
    end

    test "ends with the server that does not answer" do
      test = self()

      {url, _sessions} =
        legacy(%{
          "resources/subscribe" => fn conn, _message, _request ->
            send(test, :asked)
            HTTPServer.wait(conn)
          end
        })

      client = connect!(url)
      task = Task.async(Client, :subscribe_resource, [client, "memo://a"])
      assert_receive :asked, 20_000
      :ok = Client.stop(client)
      assert {:error, {:server_down, _info}} = Task.await(task, 20_000)
    end
  end

  describe "the stream for requests of the server" do
    test "is open before the first call, which may cause a request" do
      test = self()

      {url, _sessions} =
        legacy(%{
          "GET" => fn conn, _message, _request ->
            send(test, {:opening, self()})
            receive do: (:open -> :ok)
            request = %{"id" => 1, "method" => "roots/list", "params" => %{}}
            HTTPServer.stream(conn, event(request))
            HTTPServer.wait(conn)
          end,
          "tools/call" => fn conn, %{"id" => id}, _request ->
            send(test, :called)
            result(conn, id, text("ok"))
          end
        })

      client = connect!(url, roots: [%{"uri" => "file:///srv"}])
      call = Task.async(fn -> Client.call_tool(client, "t") end)
      assert_receive {:opening, stream}, 5_000
      refute_received :called
      send(stream, :open)
      assert Task.await(call) == {:ok, text("ok")}
      assert_receive {:seen, nil, %{"id" => 1, "result" => %{"roots" => [_]}}, _headers}, 5_000
    end

    test "does not hold calls if it never opens" do
      {url, _sessions} =
        legacy(%{
          "GET" => fn conn, _message, _request -> HTTPServer.wait(conn) end,
          "tools/call" => fn conn, %{"id" => id}, _request -> result(conn, id, text("ok")) end
        })

      client = connect!(url)
      assert Client.call_tool(client, "t", %{}, timeout_ms: 20_000) == {:ok, text("ok")}
    end
  end

  describe "subscriptions/listen" do
    defp modern(listen) do
      about = %{"supportedVersions" => ["2026-07-28"], "capabilities" => %{"tools" => %{}}}

      serve(%{
        "server/discover" => fn conn, %{"id" => id}, _ -> result(conn, id, about) end,
        "subscriptions/listen" => listen
      })
    end

    defp acknowledged(id) do
      meta = %{"_meta" => %{"io.modelcontextprotocol/subscriptionId" => id}}
      event(%{"method" => "notifications/subscriptions/acknowledged", "params" => meta})
    end

    defp updated(uri),
      do: event(%{"method" => "notifications/resources/updated", "params" => %{"uri" => uri}})

    test "is one stream, which another one replaces" do
      test = self()

      url =
        modern(fn conn, %{"id" => id, "params" => params}, _request ->
          HTTPServer.stream(conn, acknowledged(id))
          send(test, {:open, self(), params["notifications"]["resourceSubscriptions"]})
          send(test, {:over, self(), HTTPServer.wait(conn)})
        end)

      client = connect!(url)
      :ok = Client.subscribe(client)
      assert_receive {:open, first, []}, 5_000
      :ok = Client.subscribe_resource(client, "memo://a")
      assert_receive {:open, second, ["memo://a"]}, 5_000
      assert_receive {:over, ^first, {:error, :closed}}, 5_000
      :ok = Client.unsubscribe(client)
      assert_receive {:over, ^second, {:error, :closed}}, 5_000
    end

    test "is opened again after its stream broke" do
      {:ok, opened} = Agent.start_link(fn -> 0 end)

      url =
        modern(fn conn, %{"id" => id}, _request ->
          HTTPServer.stream(conn, acknowledged(id))

          if Agent.get_and_update(opened, &{&1, &1 + 1}) > 0 do
            HTTPServer.send_bytes(conn, updated("memo://a"))
            HTTPServer.wait(conn)
          end
        end)

      client = connect!(url)
      :ok = Client.subscribe_resource(client, "memo://a")

      assert_receive {:codex_mcp, ^client,
                      {:notification, "notifications/resources/updated", %{"uri" => "memo://a"}}},
                     10_000
    end

    test "is left alone after a refusal" do
      url =
        modern(fn conn, %{"id" => id}, _request ->
          error = %{"code" => -32_601, "message" => "method not found"}
          HTTPServer.reply(conn, 200, [@json], rpc(%{"id" => id, "error" => error}))
        end)

      client = connect!(url)
      :ok = Client.subscribe(client)
      assert_receive {:seen, "subscriptions/listen", _message, _headers}, 5_000
      assert {:ok, %{}} = Client.request(client, "tools/call", %{"name" => "t"})
      assert :sys.get_state(client).state.listening.at == :infinity
    end
  end

  describe "x-mcp-header" do
    test "parameters stand in headers, also of a tool that was not listed before" do
      about = %{"supportedVersions" => ["2026-07-28"], "capabilities" => %{"tools" => %{}}}
      region = %{"type" => "string", "x-mcp-header" => "Region"}
      tool = %{"name" => "t", "inputSchema" => %{"properties" => %{"region" => region}}}

      url =
        serve(%{
          "server/discover" => fn conn, %{"id" => id}, _ -> result(conn, id, about) end,
          "tools/list" => fn conn, %{"id" => id}, _ -> result(conn, id, %{"tools" => [tool]}) end,
          "tools/call" => fn conn, %{"id" => id}, %{headers: headers} ->
            result(conn, id, text(headers["mcp-param-region"]))
          end
        })

      client = connect!(url)
      assert Client.call_tool(client, "t", %{region: "eu"}) == {:ok, text("eu")}
      assert Client.call_tool(client, "t", %{region: "us"}) == {:ok, text("us")}
      assert [_once] = calls("tools/list")

      # Without `ttlMs`, a list is not kept.
      {:ok, [^tool], _} = Client.list_tools(client)
      {:ok, [^tool], _} = Client.list_tools(client)
      assert [_first, _second] = calls("tools/list")
    end
  end

  describe "batches" do
    # An answer in an array, behind a notification.
    defp batching(version) do
      legacy(
        %{
          "tools/call" => fn conn, %{"id" => id}, _request ->
            note = %{"jsonrpc" => "2.0", "method" => "notifications/message", "params" => %{}}
            answer = %{"jsonrpc" => "2.0", "id" => id, "result" => text("in a batch")}
            HTTPServer.reply(conn, 200, [@json], JSON.encode!([note, answer]))
          end
        },
        version
      )
    end

    test "are accepted from a server of 2025-03-26" do
      {url, _sessions} = batching("2025-03-26")
      client = connect!(url)
      :ok = Client.subscribe(client)
      assert Client.call_tool(client, "t") == {:ok, text("in a batch")}
      assert_receive {:codex_mcp, ^client, {:notification, "notifications/message", %{}}}, 5_000
    end

    test "are no answers from a server of another version" do
      {url, _sessions} = batching("2025-06-18")
      client = connect!(url)
      :ok = Client.subscribe(client)
      assert {:error, _no_answer} = Client.call_tool(client, "t", %{}, timeout_ms: 1_000)
      refute_received {:codex_mcp, _, _}
    end
  end
end
