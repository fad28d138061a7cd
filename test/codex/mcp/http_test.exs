defmodule Codex.MCP.HTTPTest do
  use ExUnit.Case, async: true

  alias Codex.{HTTPServer, JSON, MCP}
  alias Codex.MCP.Transport.StreamableHTTP

  doctest Codex.MCP.HTTP.Parameters

  @json {"content-type", "application/json"}

  # --- A client: the test owns the transport ----------------------------------------------------

  defp open(url, options \\ %{}) do
    {:ok, t} = MCP.HTTP.open(Map.merge(%{url: url, listen: false, proxy: :none}, options))
    t
  end

  defp request(id, method, params \\ %{}),
    do: %{"jsonrpc" => "2.0", "id" => id, "method" => method, "params" => params}

  defp notification(method), do: %{"jsonrpc" => "2.0", "method" => method}

  # The next outputs; bytes of messages are granted at once unless `grant?` is false.
  defp next(t, grant? \\ true) do
    receive do
      message when is_tuple(message) and is_reference(elem(message, 0)) ->
        case MCP.HTTP.stream(t, message) do
          {:ok, t, []} -> next(t, grant?)
          {:ok, t, outputs} -> {outputs, if(grant?, do: granted(t, outputs), else: t)}
        end
    after
      5_000 -> flunk("no output: #{inspect(t)}, #{inspect(Process.info(self(), :messages))}")
    end
  end

  defp granted(t, outputs) do
    for {:messages, _messages, bytes} <- outputs, bytes > 0, reduce: t do
      t -> MCP.HTTP.grant(t, bytes)
    end
  end

  defp initialized(t) do
    t = MCP.HTTP.send(t, request(0, "initialize"))
    {[{:messages, [{:result, 0, _}], _}], t} = next(t)

    t
    |> MCP.HTTP.protocol("2025-11-25", :legacy)
    |> MCP.HTTP.send(notification("notifications/initialized"))
  end

  defp call(t, id), do: MCP.HTTP.send(t, request(id, "tools/call", %{"name" => "a"}))

  # --- Servers ----------------------------------------------------------------------------------

  # A server that forwards requests to the test, and answers by the functions of the options.
  defp server(answers, opts \\ []) do
    test = self()

    HTTPServer.start!(
      fn conn, request ->
        message = decoded(request.body)
        send(test, {:seen, request.method, message["method"], request.headers})
        key = if request.method == "POST", do: message["method"], else: request.method

        case answers[key] do
          nil -> default(conn, message)
          answer -> answer.(conn, message, request)
        end
      end,
      opts
    ) <> "/mcp"
  end

  defp decoded(""), do: %{}
  defp decoded(body), do: body |> JSON.decode() |> elem(1)

  defp default(conn, %{"id" => id}), do: result(conn, id, %{})
  defp default(conn, _notification), do: HTTPServer.reply(conn, 202, [], "")

  defp result(conn, id, result, headers \\ []),
    do: HTTPServer.reply(conn, 200, [@json | headers], rpc(id, result))

  defp rpc(id, result), do: JSON.encode!(%{"jsonrpc" => "2.0", "id" => id, "result" => result})

  defp event(json, more \\ ""), do: "#{more}data: #{json}\n\n"

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

  describe "a refusal" do
    defp refused(status, headers, body) do
      url =
        server(%{
          "tools/call" => fn conn, _, _ -> HTTPServer.reply(conn, status, headers, body) end
        })

      {outputs, _t} = url |> open() |> initialized() |> call(1) |> next()
      outputs
    end

    test "is lost with its status, and keeps the error of JSON-RPC" do
      for status <- [401, 403, 404, 429, 500],
          do: assert(refused(status, [], "no") == [{:lost, 1, {:http_error, status, "no"}}])

      error = ~s({"jsonrpc":"2.0","id":null,"error":{"code":-32020,"message":"m"}})
      assert [{:messages, [{:error, 1, %{"code" => -32_020}}], _}] = refused(400, [@json], error)
    end

    test "of another content type or without an answer is lost" do
      assert [{:lost, 1, {:invalid_response, words}}] =
               refused(200, [{"content-type", "text/html"}], "<p>")

      assert words =~ "text/html"

      url =
        server(%{
          "tools/call" => fn conn, _, _ -> HTTPServer.reply(conn, 200, [@json], rpc(9, 1)) end
        })

      t = url |> open() |> initialized() |> call(1)
      assert {[{:messages, [{:result, 9, 1}], _}], t} = next(t)
      assert {[{:lost, 1, {:invalid_response, _}}], _t} = next(t)
    end
  end

  describe "a redirect" do
    test "within the origin is followed, and to another one gets neither request nor token" do
      test = self()

      other =
        HTTPServer.start!(fn conn, request ->
          send(test, {:other, request})
          HTTPServer.reply(conn, 200, [], "")
        end)

      location = fn to ->
        fn conn, _, _ -> HTTPServer.reply(conn, 307, [{"location", to}], "") end
      end

      t =
        %{"tools/call" => location.(other <> "/x?q=secret")}
        |> server()
        |> open(secret())
        |> initialized()

      assert {[{:lost, 1, {:redirected, url}}], _t} = t |> call(1) |> next()
      assert url == other <> "/x"
      refute_received {:other, _}

      moved = fn conn, %{"id" => id}, request ->
        if request.path == "/mcp",
          do: HTTPServer.reply(conn, 308, [{"location", "/mcp/"}], ""),
          else: result(conn, id, request.headers["authorization"])
      end

      t = %{"tools/call" => moved} |> server() |> open(secret()) |> initialized()
      assert {[{:messages, [{:result, 1, "Bearer secret"}], _}], _t} = t |> call(1) |> next()
    end

    defp secret, do: %{headers: [{"authorization", "Bearer secret"}]}
  end

  defmodule Auth do
    def token(n), do: {:ok, if(n > 0, do: "t#{n}")}
    def challenge(2, status, _params, _token), do: {:error, {:oauth_refused, status}}

    def challenge(n, _status, params, token) do
      send(:auth_test, {:challenge, n, params, token})
      {:retry, n + 1}
    end
  end

  test "a challenge is answered by the provider of tokens, in another process" do
    Process.register(self(), :auth_test)
    challenge = {"www-authenticate", ~s(Bearer scope="a b", resource_metadata="https://x/y")}

    url =
      server(%{
        "tools/call" => fn conn, %{"id" => id}, request ->
          case {id, request.headers["authorization"]} do
            {1, "Bearer t1"} -> result(conn, id, "in")
            _ -> HTTPServer.reply(conn, 401, [challenge], "")
          end
        end
      })

    t = url |> open(%{auth: {Auth, 0}}) |> initialized() |> call(1)
    assert {[{:messages, [{:result, 1, "in"}], _}], t} = next(t)

    assert_received {:challenge, 0, %{"scope" => "a b", "resource_metadata" => "https://x/y"},
                     nil}

    assert {[{:lost, 2, {:oauth_refused, 401}}], _t} = t |> call(2) |> next()
  end

  test "modern requests repeat their method, name and parameters in headers" do
    tool = %{
      "inputSchema" => %{
        "properties" => %{
          "region" => %{"type" => "string", "x-mcp-header" => "Region"},
          "deep" => %{"properties" => %{"n" => %{"type" => "integer", "x-mcp-header" => "N"}}},
          "none" => %{"type" => "string", "x-mcp-header" => "None"}
        }
      }
    }

    arguments = %{"region" => "Zürich", "deep" => %{"n" => 7}, "none" => nil}
    t = %{} |> server() |> open() |> MCP.HTTP.protocol("2026-07-28", :modern)
    message = request(1, "tools/call", %{"name" => "a b", "arguments" => arguments})
    {_outputs, t} = t |> MCP.HTTP.send(message, %{tool: tool}) |> next()
    assert_received {:seen, "POST", "tools/call", headers}
    assert headers["mcp-protocol-version"] == "2026-07-28"
    assert {headers["mcp-method"], headers["mcp-name"]} == {"tools/call", "a b"}

    assert {headers["mcp-param-region"], headers["mcp-param-n"]} ==
             {"=?base64?WsO8cmljaA==?=", "7"}

    refute headers["mcp-param-none"]

    {_outputs, _t} =
      t |> MCP.HTTP.send(request(2, "resources/read", %{"uri" => "file:///ä"})) |> next()

    assert_received {:seen, "POST", "resources/read", %{"mcp-name" => "=?base64?" <> _}}
  end

  test "tools whose headers break a rule are found" do
    check = fn properties ->
      MCP.HTTP.Parameters.check(%{"inputSchema" => %{"properties" => properties}})
    end

    string = &%{"type" => "string", "x-mcp-header" => &1}
    assert check.(%{"a" => string.("A"), "x-mcp-header" => %{"type" => "string"}}) == :ok
    assert {:error, _} = check.(%{"a" => string.("A"), "b" => string.("a")})
    assert {:error, _} = check.(%{"a" => string.("A B")})
    assert {:error, _} = check.(%{"a" => string.("")})
    assert {:error, _} = check.(%{"a" => %{"items" => string.("A")}})
    assert {:error, _} = check.(%{"a" => %{"type" => "object", "x-mcp-header" => "A"}})
  end

  test "a cancelled request closes its stream, and the others go on" do
    test = self()

    url =
      server(%{
        "tools/call" => fn conn, %{"id" => id}, _ ->
          HTTPServer.stream(conn)
          send(test, {:open, id, self()})
          send(test, {:closed, id, HTTPServer.wait(conn)})
        end
      })

    t = url |> open() |> initialized() |> call(1)
    t = t |> pump_until({:open, 1})
    t = MCP.HTTP.cancel(t, 1)
    assert_receive {:closed, 1, {:error, :closed}}, 5_000
    t = MCP.HTTP.send(t, request(2, "ping"))
    assert {[{:messages, [{:result, 2, _}], _}], _t} = next(t)
  end

  defp pump_until(t, {kind, id} = wanted) do
    receive do
      {^kind, ^id, _} ->
        t

      {ref, _pid, _event} = message when is_reference(ref) ->
        {:ok, t, _} = MCP.HTTP.stream(t, message)
        pump_until(t, wanted)
    end
  end

  test "an endless stream waits for the client, and costs no memory" do
    counter = :counters.new(1, [])

    json =
      JSON.encode!(%{
        "jsonrpc" => "2.0",
        "method" => "n",
        "params" => %{"x" => String.duplicate("a", 60_000)}
      })

    url =
      server(%{
        "tools/call" => fn conn, _, _ ->
          HTTPServer.stream(conn)
          flood(conn, event(json), counter)
        end
      })

    t = url |> open() |> initialized() |> call(1)
    {[{:messages, [_ | _], bytes}], t} = next(t, false)
    stalled = stalled(counter, -1)
    assert stalled < 32 * 1024 * 1024
    # Half of the bytes is no grant.
    t = MCP.HTTP.grant(t, div(bytes, 2))
    refute_receive {_, _, {:messages, _, _}}, 100
    t = MCP.HTTP.grant(t, bytes - div(bytes, 2))
    assert {[{:messages, [_ | _], _}], t} = next(t, false)
    assert MCP.HTTP.stop(t) == :ok
  end

  defp flood(conn, bytes, counter) do
    with :ok <- HTTPServer.send_bytes(conn, bytes) do
      :counters.add(counter, 1, byte_size(bytes))
      flood(conn, bytes, counter)
    end
  end

  defp stalled(counter, before) do
    Process.sleep(100)
    with more when more != before <- :counters.get(counter, 1), do: stalled(counter, more)
  end

  test "an answer of 100 MB is a clear error, as JSON and as an event" do
    big = fn conn, head ->
      HTTPServer.send_bytes(conn, head)
      part = String.duplicate("a", 1_000_000)
      Enum.find(1..100, fn _ -> HTTPServer.send_bytes(conn, part) != :ok end)
    end

    json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n\""
    sse = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: \""

    for head <- [json, sse] do
      url =
        server(%{
          "tools/call" => fn conn, _, _ ->
            big.(conn, head) && HTTPServer.send_bytes(conn, "\n\n")
          end
        })

      t = url |> open(%{max_message_bytes: 1_000_000}) |> initialized() |> call(1)
      assert lost(t) == {:response_too_large, 1_000_000}
    end
  end

  defp lost(t) do
    {outputs, t} = next(t)

    Enum.find_value(outputs, fn output ->
      with {:lost, 1, reason} <- output, do: reason, else: (_ -> nil)
    end) || lost(t)
  end

  test "a server that is not there is a reason of the request" do
    t = "http://127.0.0.1:1/mcp" |> open() |> call(1)
    assert {[{:lost, 1, {:not_connected, :econnrefused}}], _t} = next(t)
    assert {:error, %Codex.OptionError{key: :url}} = MCP.HTTP.open(%{url: "ftp://x"})
  end

  test "1,000 requests from one process use few connections" do
    test = self()

    url =
      HTTPServer.start!(fn conn, request ->
        send(test, {:conn, self()})
        result(conn, decoded(request.body)["id"], 1)
      end)

    t = open(url)

    Enum.reduce(1..1_000, t, fn id, t ->
      {[{:messages, [{:result, ^id, 1}], _}], t} =
        t |> MCP.HTTP.send(request(id, "ping")) |> next()

      t
    end)

    assert connections(MapSet.new()) <= 5
  end

  defp connections(set) do
    receive do
      {:conn, pid} -> connections(MapSet.put(set, pid))
    after
      0 -> MapSet.size(set)
    end
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
