defmodule Codex.AppServer.WebSocketTest do
  # Servers that say odd things, byte by byte.
  use ExUnit.Case, async: true

  import Codex.Stub, only: [eventually: 1]
  import Codex.WebSocketServer
  alias Codex.AppServer
  alias Codex.JSONRPC.Socket.{Address, Handshake, Writer}

  doctest Address

  defp connect(fun, options \\ [], server \\ []) do
    {path, options} = Keyword.pop(options, :path, "")
    port = start!(fun, server)
    AppServer.connect_remote("ws://127.0.0.1:#{port}#{path}", options)
  end

  # A server that says hello, and then `fun`; how the connection ends. `fun` goes when this has
  # subscribed.
  defp ended(fun, options) do
    test = self()

    {:ok, conn} =
      connect(
        fn conn ->
          hello(conn)
          send(test, {:server, self()})
          receive(do: (:go -> fun.(conn)))
        end,
        options
      )

    ref = Process.monitor(conn)
    :ok = AppServer.subscribe(conn)
    assert_receive {:server, server}, 5_000
    send(server, :go)
    assert_receive {:DOWN, ^ref, :process, _, {:shutdown, reason}}, 10_000
    reason
  end

  defp down(fun, options \\ []) do
    {:app_server_down, %{reason: reason}} = ended(fun, options)
    reason
  end

  defp told(text), do: ~s({"method":"x/y","params":{"text":"#{text}"}})

  describe "messages" do
    test "in fragments, with a ping between them, and bytes one by one" do
      test = self()

      reason =
        down(fn conn ->
          <<one::binary-size(20), two::binary>> = told("é")
          put(conn, [frame(0x01, one), frame(0x89, "still there?"), frame(0x80, two)])
          send(test, {:pong, next(conn)})
          for <<byte <- frame(0x81, told("slow"))>>, do: put(conn, <<byte>>)
          text(conn, told(String.duplicate("a", 300_000)))
          # Neither of these is a message.
          put(conn, [frame(0x82, told("binary")), frame(0x81, "nonsense"), frame(0x81, "[1]")])
          put(conn, frame(0x88, <<1001::16, "\e[31mlater\e[0m">>))
          send(test, {:close, next(conn)})
        end)

      assert reason == {:closed, 1001, "later"}
      assert_received {:pong, {0x8A, "still there?"}}
      assert_receive {:close, {0x88, <<1001::16, _::binary>>}}, 5_000
      assert_received {:codex_notification, "x/y", %{"text" => "é"}}
      assert_received {:codex_notification, "x/y", %{"text" => "slow"}}
      assert_received {:codex_notification, "x/y", %{"text" => "aaa" <> _}}
      refute_received {:codex_notification, _, _}
    end

    test "that come in one piece with the end of the handshake are not lost" do
      hello = frame(0x81, ~s({"id":0,"result":{"userAgent":"early"}}))
      handshake = fn conn, key -> agree(conn, key, "", hello) == :ok end
      assert {:ok, conn} = connect(&wait/1, [], handshake: handshake)
      assert AppServer.disconnect(conn) == :ok
    end

    test "over the limit are an overflow, with a close code for the server" do
      test = self()

      reason =
        ended(
          fn conn ->
            text(conn, told("short"))

            put(conn, [
              frame(0x01, String.duplicate("a", 600)),
              frame(0x80, String.duplicate("a", 600))
            ])

            send(test, {:close, next(conn)})
          end,
          max_message_bytes: 1_000
        )

      assert {:overflow, :line, 1200, 1000} = reason
      assert_received {:codex_notification, "x/y", %{"text" => "short"}}
      assert_receive {:close, {0x88, <<1009::16>>}}, 5_000
    end

    test "of too many values end the connection" do
      many = ~s({"method":"x/y","params":{"list":[#{String.duplicate("[],", 500)}1]}})
      reason = ended(&text(&1, many), max_message_nodes: 500)
      assert reason == {:overflow, :nodes, 500}
    end

    test "that no server may send end the connection, after those before them" do
      for {bytes, code, rule} <- [
            {<<0x81, 0x81, 1, 2, 3, 4, 5>>, 1002, "masked"},
            {frame(0x81, <<0xFF>>), 1007, "UTF-8"},
            {frame(0xC1, "{}"), 1002, "Reserved bits"},
            {frame(0x80, "{}"), 1002, "nothing to continue"}
          ] do
        test = self()

        reason =
          down(fn conn ->
            put(conn, [frame(0x81, told("before")), bytes, frame(0x81, told("after"))])
            send(test, {:close, next(conn)})
          end)

        assert {:protocol, text} = reason
        assert text =~ rule
        assert_receive {:close, {0x88, <<^code::16>>}}, 5_000
        assert_received {:codex_notification, "x/y", %{"text" => "before"}}
        refute_received {:codex_notification, _, _}
      end
    end
  end

  describe "the end" do
    test "with a code, without one, and without a close frame" do
      assert down(&put(&1, frame(0x88, <<4001::16, "mine">>))) == {:closed, 4001, "mine"}
      assert down(&put(&1, frame(0x88, ""))) == {:closed, nil, ""}
      assert down(fn _conn -> :ok end) == :closed
    end

    test "waiting callers get the error immediately" do
      {:ok, conn} =
        connect(fn conn ->
          hello(conn)
          %{"method" => "a"} = message(conn)
          %{"method" => "b"} = message(conn)
          put(conn, frame(0x88, <<1011::16>>))
        end)

      calls = for method <- ["a", "b"], do: Task.async(fn -> AppServer.request(conn, method) end)

      for call <- calls do
        assert Task.await(call) == {:error, {:app_server_down, %{reason: {:closed, 1011, ""}}}}
      end
    end

    test "of a server that is silent, and of one that only answers pings" do
      # It reads, and says nothing any more.
      assert down(&wait/1, ping_interval_ms: 1_000) == {:timeout, :ping, 1_000}

      pongs = fn conn ->
        for _ <- 1..3 do
          {0x89, payload} = next(conn)
          put(conn, frame(0x8A, payload))
        end

        put(conn, frame(0x88, <<1000::16>>))
      end

      assert down(pongs, ping_interval_ms: 400) == {:closed, 1000, ""}
    end

    test "of a server that does not read" do
      body = %{"text" => String.duplicate("a", 20_000_000)}

      stuck = fn options ->
        test = self()

        {:ok, conn} =
          connect(
            fn conn ->
              hello(conn)
              send(test, {:server, self()})
              receive(do: (:end -> :ok))
            end,
            options
          )

        assert_receive {:server, server}, 5_000
        {conn, server}
      end

      {conn, server} = stuck.(send_timeout_ms: 300)
      calls = for _ <- 1..3, do: Task.async(fn -> AppServer.request(conn, "a", body) end)

      for answer <- Task.await_many(calls, 20_000) do
        assert answer == {:error, {:app_server_down, %{reason: :timeout}}}
      end

      send(server, :end)

      # What the kernel has no room for holds up nobody who wants to leave.
      {conn, server} = stuck.([])
      call = Task.async(fn -> AppServer.request(conn, "a", body) end)
      pending = fn -> :inet.getstat(:sys.get_state(conn).transport.socket, [:send_pend]) end
      assert eventually(fn -> match?({:ok, [send_pend: n]} when n > 0, pending.()) end)
      assert AppServer.disconnect(conn) == :ok
      assert Task.await(call) == {:error, {:app_server_down, %{reason: :disconnected}}}
      send(server, :end)
    end

    test "of a server that does not read holds up no clock" do
      test = self()

      {:ok, conn} =
        connect(
          fn conn ->
            hello(conn)
            send(test, {:server, self()})
            receive(do: (:end -> :ok))
          end,
          send_timeout_ms: 600_000
        )

      assert_receive {:server, server}, 5_000
      body = %{"text" => String.duplicate("a", 20_000_000)}

      for _ <- 1..3 do
        assert AppServer.request(conn, "a", body, timeout_ms: 200) ==
                 {:error, {:timeout, "a", 200}}
      end

      assert AppServer.pending(conn) == {:ok, []}
      {:ok, thread} = Codex.start_thread([], transport: {:app_server, conn})

      assert {:error, {:exec_failed, %{kind: :timeout, details: %{clock: :total}}}} =
               Codex.Thread.run(thread, "hi", total_timeout_ms: 200)

      assert AppServer.disconnect(conn) == :ok
      send(server, :end)
    end

    test "a server that asks and does not read is not asked on: nothing piles up" do
      test = self()
      ask = &~s({"id":#{&1},"method":"x/y","params":{"text":"#{String.duplicate("a", 100)}"}})

      {:ok, conn} =
        connect(
          fn conn ->
            hello(conn)
            # Their answers are more than the buffers of the kernel hold.
            asks = for id <- 1..800_000, into: "", do: frame(0x81, ask.(id))
            _ = spawn_link(fn -> put(conn, asks) && send(test, :taken) end)
            receive(do: (:end -> :ok))
          end,
          send_timeout_ms: 600_000
        )

      refute_receive :taken, 1_000
      transport = :sys.get_state(conn).transport
      assert Writer.waiting(transport.writer) < 16 * 1024 * 1024
      assert AppServer.disconnect(conn) == :ok
    end

    test "disconnect says goodbye" do
      test = self()

      {:ok, conn} =
        connect(fn conn ->
          hello(conn)
          send(test, {:close, next(conn)})
        end)

      assert AppServer.disconnect(conn) == :ok
      assert_receive {:close, {0x88, <<1000::16>>}}, 5_000
    end

    test "comes with that of its owner" do
      test = self()
      owner = spawn(fn -> receive(do: (:end -> :ok)) end)

      {:ok, conn} =
        connect(
          fn conn ->
            hello(conn)
            send(test, {:close, next(conn)})
          end,
          owner: owner
        )

      ref = Process.monitor(conn)
      # The answer comes after the monitor has reached the process.
      assert Process.alive?(conn)
      send(owner, :end)
      assert_receive {:DOWN, ^ref, :process, _, :normal}, 5_000
      assert_receive {:close, {0x88, _}}, 5_000
    end
  end

  describe "a slow subscriber" do
    test "makes the server wait at its socket, and nothing is lost" do
      test = self()
      pad = String.duplicate("0123456789", 200)
      count = 20_000
      counter = :counters.new(1, [])

      {:ok, conn} =
        connect(
          fn conn ->
            hello(conn)
            send(test, {:server, self()})
            receive(do: (:go -> :ok))

            for n <- 0..(count - 1) do
              :ok = text(conn, ~s({"method":"x/y","params":{"n":#{n},"pad":"#{pad}"}}))
              :counters.add(counter, 1, 1)
            end

            wait(conn)
          end,
          max_queue: 500,
          # Meanwhile nobody is taken for dead.
          ping_interval_ms: 400
        )

      reader =
        spawn_link(fn ->
          :ok = AppServer.subscribe(conn)
          send(test, :subscribed)
          receive(do: (:go -> :ok))
          send(test, {:read, read(0, count)})
        end)

      assert_receive :subscribed, 5_000
      assert_receive {:server, server}, 5_000
      send(server, :go)
      assert eventually(fn -> elem(Process.info(reader, :message_queue_len), 1) > 500 end)
      assert eventually(fn -> not :sys.get_state(conn).transport.reading? end)
      # What the kernel has room for is sent, and no more.
      assert eventually(fn -> still?(counter) end)
      assert :counters.get(counter, 1) < count
      {_, waiting} = Process.info(reader, :message_queue_len)
      assert waiting < 2_000
      assert Process.info(reader, :message_queue_len) == {:message_queue_len, waiting}
      send(reader, :go)

      assert_receive {:read, ^count}, 30_000
      AppServer.disconnect(conn)
    end

    defp still?(counter) do
      before = :counters.get(counter, 1)
      Process.sleep(1_000)
      before > 0 and :counters.get(counter, 1) == before
    end

    defp read(count, count), do: count

    defp read(n, count) do
      receive do
        {:codex_notification, "x/y", %{"n" => ^n}} -> read(n + 1, count)
      after
        5_000 -> n
      end
    end
  end

  describe "a handshake" do
    test "sends the required headers, and the given ones" do
      test = self()

      {:ok, conn} =
        connect(
          fn conn ->
            send(test, {:request, conn.request})
            conn |> hello() |> wait()
          end,
          token: "tok-canary",
          headers: %{"X-App" => "one two"}
        )

      assert_receive {:request, request}, 5_000
      assert request =~ ~r{\AGET / HTTP/1.1\r\nHost: 127.0.0.1:\d+\r\n}
      assert request =~ "\r\nAuthorization: Bearer tok-canary\r\n"
      assert request =~ "\r\nX-App: one two\r\n"
      assert request =~ "\r\nSec-WebSocket-Version: 13\r\n"
      refute request =~ ~r/origin/i
      refute inspect(:sys.get_state(conn), limit: :infinity) =~ "tok-canary"
      AppServer.disconnect(conn)
    end

    test "that is refused, answered wrongly, or never" do
      refuse = fn answer ->
        connect(fn _ -> :ok end, [token: "tok-canary", init_timeout_ms: 1_000],
          handshake: fn conn, key ->
            if answer == :accept_ours,
              do: agree(conn, key, "sec-websocket-extensions: permessage-deflate\r\n"),
              else: put(conn, answer)

            if answer == "", do: wait_raw(conn)
            false
          end
        )
      end

      # A secret that the server shows again is taken out.
      assert refuse.("HTTP/1.1 401 Unauthorized\r\ncontent-length: 14\r\n\r\nnot tok-canaryX") ==
               {:error, {:handshake_refused, 401, "not [redacted]"}}

      # So is one that stood in the URL, as it stood there and decoded.
      for token <- ["url%2Dcanary", "url-canary", "?token=url%2Dcanary&v=1"] do
        answer = "HTTP/1.1 403 No\r\n\r\nno \e[31m#{token}"

        assert {:error, {:handshake_refused, 403, text}} =
                 connect(fn _ -> :ok end, [path: "/?token=url%2Dcanary&v=1"],
                   handshake: fn conn, _key -> put(conn, answer) && false end
                 )

        assert text =~ ~r/\Ano .*\[redacted\]/
        refute text =~ "canary" or text =~ "\e"
      end

      reason =
        down(&put(&1, frame(0x88, <<1008::16, "bad url-canary or tok-canary">>)),
          path: "/?token=url-canary",
          token: "tok-canary"
        )

      assert reason == {:closed, 1008, "bad [redacted] or [redacted]"}

      assert refuse.("HTTP/1.1 503 Busy\r\n\r\nlater") ==
               {:error, {:handshake_refused, 503, "later"}}

      assert refuse.("HTTP/1.1 302 Found\r\nlocation: http://x\r\n\r\n") ==
               {:error, {:handshake_refused, 302, ""}}

      assert {:error, {:not_a_websocket, text}} = refuse.(:accept_ours)
      assert text =~ "extension"

      wrong =
        "HTTP/1.1 101 OK\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n"

      assert {:error, {:not_a_websocket, text}} = refuse.(wrong)
      assert text =~ "Accept"
      assert {:error, {:not_a_websocket, _}} = refuse.("SSH-2.0-x\r\n")
      assert {:error, {:not_a_websocket, _}} = refuse.("HTTP/1.1 101 OK\r\nconn")
      long = "HTTP/1.1 101 OK\r\n" <> String.duplicate("a: b\r\n", 4_000)
      assert {:error, {:not_a_websocket, _}} = refuse.(long)
      assert refuse.("") == {:error, {:init_timeout, 1_000}}
    end

    defp wait_raw(conn), do: conn.module.recv(conn.socket, 0, 10_000)

    test "is the same however its answer is cut" do
      key = Handshake.key()
      accept = Base.encode64(:crypto.hash(:sha, key <> "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))

      answer =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n" <>
          "Sec-WebSocket-Accept: #{accept}\r\n\r\n"

      for cut <- 0..(byte_size(answer) - 1) do
        part = binary_part(answer, 0, cut)
        assert Handshake.answer(part, key) == :more
        assert {:error, {:not_a_websocket, _}} = Handshake.answer(part, key, :closed)
      end

      assert Handshake.answer(answer <> "rest", key) == {:ok, "rest"}
    end

    test "has no hello after it" do
      assert connect(&wait/1, init_timeout_ms: 300) == {:error, {:init_timeout, 300}}

      assert connect(fn _ -> :ok end) == {:error, {:app_server_down, %{reason: :closed}}}

      assert {:error, {:initialize_refused, %{"message" => "no"}}} =
               connect(fn conn ->
                 %{"id" => id} = message(conn)
                 text(conn, ~s({"id":#{id},"error":{"code":-32600,"message":"no"}}))
                 wait(conn)
               end)
    end
  end

  describe "errors before anything is sent" do
    test "invalid URLs" do
      for url <- [
            "http://127.0.0.1:1",
            "127.0.0.1:1",
            "ws://",
            "ws://a b",
            "ws://a/\r\nx: y",
            "ws://127.0.0.1:99999",
            "ws://localhost:0",
            "unix:///" <> String.duplicate("x", 200),
            nil
          ] do
        assert {:error, %Codex.OptionError{path: [:url], value: value, expected: expected}} =
                 AppServer.connect_remote(url)

        assert value == url or String.starts_with?(url, String.trim_trailing(value, "…"))
        assert is_binary(expected)
      end

      for url <- ["ws://user:sk-canary@127.0.0.1:1", "ws://h/#sk-canary", "sk-canary"] do
        assert {:error, %Codex.OptionError{path: [:url], value: "[redacted]"}} =
                 AppServer.connect_remote(url)
      end
    end

    test "a secret over plain ws:// to another machine" do
      for options <- [[token: "tok-canary"], [headers: [{"X-Api-Key", "tok-canary"}]]],
          url <- ["ws://example.invalid:80", "ws://192.0.2.1", "ws://[2001:db8::1]:1"] do
        assert {:error,
                %Codex.OptionError{path: [:token], value: "[redacted]", expected: expected}} =
                 AppServer.connect_remote(url, options)

        assert expected =~ "wss://"
      end
    end

    test "invalid options, without showing a secret" do
      connect = &AppServer.connect_remote("ws://127.0.0.1:1", &1)

      assert {:error, %Codex.OptionError{reason: :unknown, path: [:tokn], nearest: :token}} =
               connect.(tokn: "x")

      assert {:error, %Codex.OptionError{reason: :misplaced, path: [:cwd]}} = connect.(cwd: "/")
      # A variable that is not set.
      assert {:error, %Codex.OptionError{path: [:token], value: nil}} = connect.(token: nil)

      assert {:error, %Codex.OptionError{path: [:token], value: ""}} = connect.(token: "")

      for {name, value} <- [
            token: "sk-canary\r\nx: y",
            token: "",
            token: 7,
            headers: [{"a", "sk-canary\r\n"}],
            headers: [{"a b", "x"}],
            headers: [{"Host", "x"}],
            headers: [{"Sec-WebSocket-Key", "x"}],
            headers: [a: 1],
            tls: [verify: :verify_none]
          ] do
        assert {:error, %Codex.OptionError{path: [^name], value: shown}} =
                 connect.([{name, value}])

        assert shown in ["", "[redacted]"]
      end

      assert {:error, %Codex.OptionError{path: [:ping_interval_ms], value: 0}} =
               connect.(ping_interval_ms: 0)

      for bytes <- [0, 1.5, 1_073_741_825] do
        assert {:error, %Codex.OptionError{path: [:max_message_bytes], value: ^bytes}} =
                 connect.(max_message_bytes: bytes)
      end

      assert {:error, %Codex.OptionError{path: [:telemetry_prefix], value: []}} =
               connect.(telemetry_prefix: [])
    end

    test "no server listens" do
      {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, port} = :inet.port(listener)
      :ok = :gen_tcp.close(listener)

      assert AppServer.connect_remote("ws://127.0.0.1:#{port}") ==
               {:error, {:not_connected, :econnrefused}}

      assert AppServer.connect_remote("unix:///no/such/socket") ==
               {:error, {:not_connected, :enoent}}
    end

    test "options of a signed token" do
      assert [_, claims, _] = String.split(AppServer.signed_token("secret", audience: "a"), ".")
      {:ok, claims} = claims |> Base.url_decode64!(padding: false) |> Codex.JSON.decode()
      assert %{"aud" => "a", "exp" => exp, "iat" => iat} = claims
      assert exp == iat + 300 and not is_map_key(claims, "iss")

      for {secret, options} <- [
            {"sk-canary", [expires_in: 0]},
            {"sk-canary", [isuer: "x"]},
            {"sk-canary", [issuer: 1]},
            {~c"sk-canary", []},
            {"", []}
          ] do
        error =
          assert_raise if(options == [], do: ArgumentError, else: Codex.OptionError), fn ->
            AppServer.signed_token(secret, options)
          end

        refute Exception.message(error) =~ "canary"
      end
    end
  end

  test "as Codex.Error" do
    for {reason, kind, retryable?} <- [
          {{:not_connected, :econnrefused}, :connection_refused, true},
          {{:not_connected, {:tls, :unknown_ca, "no"}}, :config, false},
          {{:ca_certificate, "/a.pem", :enoent}, :config, false},
          {{:handshake_refused, 401, "missing token"}, :unauthorized, false},
          {{:handshake_refused, 403, ""}, :forbidden, false},
          {{:handshake_refused, 502, "no"}, :server_error, true},
          {{:handshake_refused, 404, "no"}, :protocol, false},
          {{:not_a_websocket, "it answers otherwise"}, :protocol, false}
        ] do
      assert %{kind: ^kind, retryable?: ^retryable?} = Codex.Error.normalize(reason)
    end
  end

  test "no report shows a token" do
    log =
      ExUnit.CaptureLog.capture_log(fn ->
        {:ok, conn} =
          connect(fn conn -> conn |> hello() |> wait() end,
            token: "tok-canary",
            headers: [{"X-Secret", "hdr-canary"}]
          )

        ref = Process.monitor(conn)
        catch_exit(GenServer.call(conn, :no_such_call))
        assert_receive {:DOWN, ^ref, _, _, _}, 5_000
      end)

    assert log =~ "Codex.AppServer.Server"
    refute log =~ "canary"
  end
end
