defmodule Codex.HTTPTest do
  use ExUnit.Case, async: true

  alias Codex.{HTTP, HTTPServer}
  alias Codex.HTTP.{Body, Connection, Proxy, Socket, Target}

  doctest Codex.HTTP
  doctest Codex.HTTP.Proxy
  doctest Codex.HTTP.Target

  # The answer of a server that sends these bytes to each request, and then closes.
  defp answer(bytes) do
    HTTPServer.start!(fn conn, _request -> HTTPServer.send_bytes(conn, bytes) end)
    |> then(&HTTP.request(:get, &1 <> "/", []))
  end

  defp body(bytes) do
    assert {:ok, %{status: 200, body: body}} = answer("HTTP/1.1 200 OK\r\n" <> bytes)
    body
  end

  describe "an answer" do
    test "ends with its length, its last chunk or the connection" do
      assert body("content-length: 2\r\n\r\nabc") == "ab"
      assert body("Content-Length: 0\r\n\r\n") == ""
      assert body("\r\nabc") == "abc"

      assert body("transfer-encoding: Chunked\r\n\r\n2;x=y\r\nab\r\n01\r\nc\r\n0\r\nt: x\r\n\r\n") ==
               "abc"
    end

    test "comes behind interim answers, with its headers" do
      assert {:ok, answer} =
               answer(
                 "HTTP/1.1 103 Early\r\nx: 1\r\n\r\nHTTP/1.1 404 No\r\nX-Y: z\r\ncontent-length: 0\r\n\r\n"
               )

      assert {answer.status, answer.headers} == {404, [{"x-y", "z"}, {"content-length", "0"}]}
    end

    test "that is cut or malformed is an error" do
      assert answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc") == {:error, :closed}
      assert answer("HTTP/1.1 200 OK\r\ncontent-le") == {:error, :closed}
      head = "HTTP/1.1 200 OK\r\n"

      assert {:error, {:invalid_response, _}} =
               answer(head <> "transfer-encoding: chunked\r\n\r\nz\r\n")

      assert {:error, {:invalid_response, _}} = answer(head <> "transfer-encoding: gzip\r\n\r\n")
      assert {:error, {:invalid_response, _}} = answer(head <> "content-length: -1\r\n\r\n")
      assert {:error, {:invalid_response, _}} = answer("SSH-2.0-x\r\n")

      assert {:error, {:invalid_response, _}} =
               answer(head <> "x: " <> String.duplicate("a", 200_000))
    end

    test "of any status is bounded" do
      for status <- [200, 500] do
        url =
          HTTPServer.start!(fn conn, _request ->
            HTTPServer.send_bytes(conn, "HTTP/1.1 #{status} X\r\n\r\n")
            flood(conn)
          end)

        assert HTTP.request(:get, url, [], nil, max_body_bytes: 100_000) ==
                 {:error, {:response_too_large, 100_000}}
      end
    end

    defp flood(conn) do
      with :ok <- HTTPServer.send_bytes(conn, String.duplicate("a", 65_536)), do: flood(conn)
    end

    test "is waited for until the timeout" do
      url = HTTPServer.start!(fn conn, _request -> HTTPServer.wait(conn) end)
      assert HTTP.request(:get, url, [], nil, timeout_ms: 50) == {:error, :timeout}
    end
  end

  test "a chunked body is the same wherever it is cut" do
    wire = "3\r\nabc\r\n1;x\r\nd\r\nA\r\n0123456789\r\n0\r\na: b\r\n\r\nrest"

    for first <- 0..byte_size(wire), second <- first..byte_size(wire) do
      parts = [
        binary_part(wire, 0, first),
        binary_part(wire, first, second - first),
        binary_part(wire, second, byte_size(wire) - second)
      ]

      assert drain(:size, "", parts, "") == {"abcd0123456789", "rest"}
    end
  end

  defp drain(state, buffer, parts, data) do
    case Body.next(state, buffer) do
      {:data, more, state, rest} -> drain(state, rest, parts, data <> more)
      {:more, state, rest} -> drain(state, rest <> hd(parts), tl(parts), data)
      {:done, rest} -> {data, rest <> Enum.join(parts)}
    end
  end

  test "a server waits while nobody reads its answer" do
    test = self()

    url =
      HTTPServer.start!(fn conn, _request ->
        HTTPServer.send_bytes(conn, "HTTP/1.1 200 OK\r\n\r\n")
        count(conn, :counters.new(1, []), test)
      end)

    {:ok, target} = Target.new(url)
    {:ok, conn} = Connection.open(target, Socket.deadline(5_000))
    {:ok, 200, _headers, conn} = Connection.request(conn, "GET", target, [], nil, :infinity)
    assert_receive {:counter, counter}
    before = stalled(counter, -1)
    assert {:data, _bytes, conn} = Connection.read(conn, Socket.deadline(5_000))
    assert before < 32 * 1024 * 1024
    :ok = Connection.close(conn)
    assert_receive {:ended, {:error, _closed}}, 5_000
  end

  defp count(conn, counter, test) do
    send(test, {:counter, counter})
    bytes = String.duplicate("a", 65_536)

    ended =
      Enum.find_value(Stream.cycle([1]), fn _ ->
        case HTTPServer.send_bytes(conn, bytes) do
          :ok -> :counters.add(counter, 1, byte_size(bytes))
          error -> error
        end
        |> then(&if &1 != :ok, do: &1)
      end)

    send(test, {:ended, ended})
  end

  # The sum once it does not grow any more.
  defp stalled(counter, before) do
    Process.sleep(100)

    case :counters.get(counter, 1) do
      ^before -> before
      more -> stalled(counter, more)
    end
  end

  test "a connection carries several requests, and knows when the server has closed" do
    test = self()

    url =
      HTTPServer.start!(fn conn, request ->
        send(test, {:request, self(), request.path})
        HTTPServer.reply(conn, 200, [], request.path)
        if request.path == "/2", do: :close, else: :keep
      end)

    {:ok, target} = Target.new(url)
    {:ok, conn} = Connection.open(target, Socket.deadline(5_000))

    conn =
      for path <- ["/1", "/2"], reduce: conn do
        conn ->
          assert Connection.open?(conn)

          {:ok, 200, _, conn} =
            Connection.request(conn, "GET", %{target | path: path}, [], nil, :infinity)

          {:ok, ^path, conn} = Connection.read_all(conn, 100, :infinity)
          conn
      end

    assert_receive {:request, server, "/1"}
    assert_receive {:request, ^server, "/2"}
    ref = Process.monitor(server)
    assert_receive {:DOWN, ^ref, :process, _, _}
    refute Connection.open?(conn)
  end

  test "headers and URLs cannot break the lines of a request" do
    assert {:error, %Codex.OptionError{key: :headers, value: "x"}} =
             HTTP.request(:get, answering(), [{"x", "a\r\nb: c"}])

    assert {:error, %Codex.OptionError{key: :headers}} =
             HTTP.request(:get, answering(), [{"x y", "a"}])

    for url <- ["http://a b/", "ftp://a", "http://u:p@a/", "http://a/#x", "http://a/\n", nil] do
      assert {:error, %Codex.OptionError{key: :url} = error} = HTTP.request(:get, url, [])
      refute Exception.message(error) =~ "u:p"
    end
  end

  defp answering, do: HTTPServer.start!(&HTTPServer.reply(&1, 200, [], &2.path))

  describe "TLS" do
    @describetag :tmp_dir

    setup %{tmp_dir: tmp} do
      %{server_config: server, client_config: client} =
        :public_key.pkix_test_data(%{
          server_chain: %{
            root: [key: {:rsa, 2048, 65_537}],
            intermediates: [],
            peer: [key: {:rsa, 2048, 65_537}, extensions: [name("mcp.test")]]
          },
          client_chain: %{
            root: [key: {:rsa, 2048, 65_537}],
            intermediates: [],
            peer: [key: {:rsa, 2048, 65_537}]
          }
        })

      pem =
        :public_key.pem_encode(
          for der <- client[:cacerts], do: {:Certificate, der, :not_encrypted}
        )

      file = Path.join(tmp, "ca.pem")
      File.write!(file, pem)
      tls = Keyword.take(server, [:cert, :key]) ++ [log_level: :none]
      url = HTTPServer.start!(&HTTPServer.reply(&1, 200, [], "secret of " <> &2.path), tls: tls)
      %{url: url, tls: [cacertfile: file]}
    end

    # A SubjectAltName, as `pkix_test_data` takes it.
    defp name(host) do
      {:Extension, {2, 5, 29, 17}, false, [dNSName: String.to_charlist(host)]}
    end

    test "refuses a server that no authority vouches for, and one of another name", context do
      assert {:error, {:not_connected, {:tls, _alert, _text}}} =
               HTTP.request(:get, context.url, [])

      assert {:error, {:not_connected, {:tls, _alert, _text}}} =
               HTTP.request(:get, context.url, [], nil, tls: context.tls)
    end

    test "goes through a tunnel of the proxy, which sees neither path nor headers", context do
      %URI{port: port} = URI.parse(context.url)
      test = self()

      proxy =
        HTTPServer.start!(fn {:gen_tcp, client} = conn, request ->
          send(test, {:proxy, request})
          {:ok, server} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
          HTTPServer.send_bytes(conn, "HTTP/1.1 200 Connected\r\n\r\n")
          pump = spawn_link(fn -> pump(server, client) end)
          pump(client, server)
          Process.unlink(pump)
        end)

      {:ok, target} = Target.new("https://mcp.test/path")
      env = %{"HTTPS_PROXY" => String.replace(proxy, "//", "//user:p%40ss@")}
      {:ok, found} = Proxy.find(target, &env[&1])
      refute inspect(found) =~ Base.encode64("user:p@ss")

      assert {:ok, conn} =
               Connection.open(target, Socket.deadline(5_000), tls: context.tls, proxy: found)

      {:ok, 200, _, conn} = Connection.request(conn, "GET", target, [{"x", "y"}], nil, :infinity)
      assert {:ok, "secret of /path", _conn} = Connection.read_all(conn, 100, :infinity)
      assert_receive {:proxy, request}
      assert {request.method, request.path} == {"CONNECT", "mcp.test:443"}
      assert request.headers["proxy-authorization"] == "Basic " <> Base.encode64("user:p@ss")
      refute request.headers["x"]
    end

    defp pump(from, to) do
      with {:ok, bytes} <- :gen_tcp.recv(from, 0),
           :ok <- :gen_tcp.send(to, bytes),
           do: pump(from, to)
    end
  end

  describe "a proxy" do
    test "gets whole URLs of plain HTTP, and may refuse a tunnel" do
      url =
        HTTPServer.start!(fn conn, request ->
          status = if request.method == "CONNECT", do: 403, else: 200
          HTTPServer.reply(conn, status, [], "#{request.path} #{request.headers["host"]}")
        end)

      {:ok, proxy} = Target.new(url)
      proxy = %Proxy{host: proxy.host, port: proxy.port}

      assert {:ok, %{body: "http://mcp.test/a?b mcp.test"}} =
               HTTP.request(:get, "http://mcp.test/a?b", [], nil, proxy: proxy)

      assert HTTP.request(:get, "https://mcp.test/", [], nil, proxy: proxy) ==
               {:error, {:proxy_refused, 403}}
    end

    defp proxy(url, env) do
      {:ok, target} = Target.new(url)

      case Proxy.find(target, &env[&1]) do
        {:ok, nil} -> nil
        {:ok, proxy} -> proxy.host
        error -> error
      end
    end

    test "is chosen by scheme, and excluded by name, port and network" do
      env = %{
        "http_proxy" => "http://lower",
        "HTTP_PROXY" => "http://upper",
        "ALL_PROXY" => "all:1",
        "NO_PROXY" => "corp.example, 10.0.0.0/8,other.example:81"
      }

      assert proxy("http://a.example", env) == "lower"
      assert proxy("https://a.example", env) == "all"

      for url <-
            ~w(http://corp.example http://x.corp.example http://10.1.2.3 http://other.example:81),
          do: assert(proxy(url, env) == nil)

      for url <- ~w(http://acorp.example http://11.1.2.3 http://other.example),
          do: assert(proxy(url, env) == "lower")

      for url <- ~w(http://127.0.0.1:1 http://localhost http://[::1]),
          do: assert(proxy(url, env) == nil)

      assert proxy("http://a", %{"HTTP_PROXY" => "x:1", "REQUEST_METHOD" => "GET"}) == nil
      assert proxy("http://a", %{"HTTP_PROXY" => "x:1", "NO_PROXY" => "*"}) == nil

      assert proxy("http://a", %{"HTTP_PROXY" => "socks5://x"}) ==
               {:error, {:invalid_proxy, "HTTP_PROXY"}}
    end
  end
end
