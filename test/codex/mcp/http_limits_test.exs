defmodule Codex.MCP.HTTPLimitsTest do
  # Refusals, redirects, headers, and the limits of streams and answers.
  use ExUnit.Case, async: true

  import Codex.MCPHTTP

  alias Codex.{HTTPServer, JSON, MCP}

  doctest Codex.MCP.HTTP.Parameters

  @json {"content-type", "application/json"}

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

    case List.keyfind(outputs, :lost, 0) do
      {:lost, 1, reason} -> reason
      nil -> lost(t)
    end
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
end
