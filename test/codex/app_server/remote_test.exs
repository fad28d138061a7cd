defmodule Codex.AppServer.RemoteTest do
  # The real server on sockets, with its kinds of tokens.
  use ExUnit.Case, async: true

  import Codex.Stub, only: [eventually: 1]
  import Codex.Test.Steps
  alias Codex.{AppServer, Subprocess, Test}
  alias Codex.AppServer.{BearerToken, DefaultSocket}

  doctest Codex.AppServer.DefaultSocket

  @moduletag :codex_cli

  # One that listens does not look at its stdin.
  @ladder [{:signal, :term, 2_000}]

  # A server that listens at `url`. Where that is a port, the one that it has got.
  defp serve!(model, url, flags \\ []) do
    {:ok, codex} = Test.codex_path()
    env = Map.put(model.env, "CODEX_HOME", model.home)
    argv = [codex, "app-server", "--listen", url | flags]
    {:ok, sub} = Subprocess.open(argv, env: env, cwd: model.workspace, ladder: @ladder)
    {listening!(sub, url), Subprocess.os_pid(sub)}
  end

  defp listening!(sub, "unix://" <> path = url) do
    assert eventually(fn -> File.exists?(path) end), Subprocess.stderr(sub)
    url
  end

  defp listening!(sub, "ws://127.0.0.1:0" = url) do
    case Regex.run(~r{ws://127\.0\.0\.1:[1-9]\d*}, Subprocess.stderr(sub)) do
      [url] ->
        url

      nil ->
        case Subprocess.next(sub, 20_000) do
          {:ok, sub, outputs} ->
            refute List.keymember?(outputs, :exit, 0), Subprocess.stderr(sub)
            listening!(sub, url)

          other ->
            flunk("the server does not listen: #{inspect(other)}")
        end
    end
  end

  defp connect!(url, options \\ []) do
    {:ok, conn} = AppServer.connect_remote(url, options)
    on_exit(fn -> AppServer.disconnect(conn) end)
    conn
  end

  defp thread!(conn, model) do
    {:ok, %{"thread" => %{"id" => id}}} = AppServer.thread_start(conn, cwd: model.workspace)
    id
  end

  # What a turn says, and how it ends.
  defp turn(thread_id, text \\ nil) do
    receive do
      {:codex_notification, "turn/completed",
       %{"threadId" => ^thread_id, "turn" => %{"status" => status}}} ->
        {status, text}

      {:codex_notification, "item/completed",
       %{"threadId" => ^thread_id, "item" => %{"type" => "agentMessage", "text" => text}}} ->
        turn(thread_id, text)

      {:codex_notification, _, _} ->
        turn(thread_id, text)
    after
      20_000 -> flunk("the turn did not end")
    end
  end

  defp secret!(model, name, secret) do
    path = Path.join(model.home, name)
    File.write!(path, secret <> "\n")
    File.chmod!(path, 0o600)
    path
  end

  test "a Unix socket: threads, turns, notifications, and a server that goes on" do
    model = Test.start!(["Hello there.", "Again."])
    {url, os_pid} = serve!(model, "unix://" <> Path.join(model.workspace, "s"))

    for answer <- ["Hello there.", "Again."] do
      conn = connect!(url)
      id = thread!(conn, model)
      assert AppServer.subscribe(conn, thread_id: id) == :ok

      assert {:ok, %{"turn" => %{"status" => "inProgress"}}} =
               AppServer.turn_start(conn, id, "Hi")

      assert turn(id) == {"completed", answer}
      assert {:error, %{"code" => -32600}} = AppServer.request(conn, "no/such", %{})
      assert AppServer.disconnect(conn) == :ok
      refute AppServer.alive?(conn)
      assert {:error, {:app_server_down, _}} = AppServer.model_list(conn)
    end

    assert Codex.Stub.alive?(os_pid)
  end

  test "images and folders of its own machine are not looked up on this one" do
    model = Test.start!(["Seen.", "Again."])
    {url, _} = serve!(model, "unix://" <> Path.join(model.workspace, "s"))
    options = [transport: {:app_server, connect!(url)}, working_directory: model.workspace]
    {:ok, thread} = Codex.start_thread([], options)
    gone = Path.join(model.workspace, "not-here.png")
    input = ["look", Codex.Input.local_image(gone)]
    assert {:ok, %{final_response: %{text: "Seen."}}} = Codex.Thread.run(thread, input)
    assert {:ok, _} = Codex.Thread.run(thread, "look", images: [gone])
    # The server is told of both, and tells the model that they are missing.
    for %{body: body} <- Test.requests(model), do: assert(Codex.JSON.encode!(body) =~ gone)

    {:ok, thread} =
      Codex.start_thread([],
        transport: options[:transport],
        working_directory: Path.join(model.workspace, "not-here")
      )

    refute match?(
             {:error, {:invalid_working_directory, _}},
             Codex.Thread.run_streamed(thread, "go")
           )
  end

  test "a request of over a megabyte, and pings that are answered" do
    model = Test.start!(["Read."])
    {url, _} = serve!(model, "ws://127.0.0.1:0")
    conn = connect!(url, ping_interval_ms: 1_000)
    id = thread!(conn, model)
    :ok = AppServer.subscribe(conn, thread_id: id)
    text = String.duplicate("é", 400_000)
    {:ok, _} = AppServer.turn_start(conn, id, text)
    assert turn(id) == {"completed", "Read."}
    assert [%{body: body}] = Test.requests(model)
    assert Codex.JSON.encode!(body) =~ text

    # A ping is sent only where something came since the last one; nobody asks anything now.
    socket = :sys.get_state(conn).transport.socket
    count = fn what -> :inet.getstat(socket, [what]) |> elem(1) |> Keyword.fetch!(what) end
    {sent, received} = {count.(:send_cnt), count.(:recv_oct)}
    assert eventually(fn -> count.(:send_cnt) >= sent + 3 end)
    assert count.(:recv_oct) > received
    assert AppServer.alive?(conn)
  end

  @tag :cli_pin
  test "a Unix socket without a path is that of the home, whichever way it is named" do
    model = Test.start!([])
    link = model.workspace <> "-home"
    File.ln_s!(model.home, link)
    on_exit(fn -> File.rm!(link) end)
    path = DefaultSocket.path(link, DefaultSocket.uid())
    refute File.exists?(path)
    {:ok, codex} = Test.codex_path()
    env = Map.put(model.env, "CODEX_HOME", link)
    argv = [codex, "app-server", "--listen", "unix://"]
    {:ok, sub} = Subprocess.open(argv, env: env, cwd: model.workspace, ladder: @ladder)
    assert eventually(fn -> File.exists?(path) end), Subprocess.stderr(sub)

    for home <- [model.home, link] do
      conn = connect!("unix://", codex_home: home)
      assert {:ok, %{"codexHome" => served}} = AppServer.server_info(conn)
      assert served == model.home
    end

    {:ok, _} = Subprocess.stop(sub)
    for file <- [path, path <> ".lock"], do: File.rm(file)

    assert AppServer.connect_remote("unix://", codex_home: model.home) ==
             {:error, {:not_connected, :enoent}}

    assert {:error, %Codex.Config.Error{reason: :missing_home}} =
             AppServer.connect_remote("unix://", codex_home: "/no/such/home")
  end

  test "a subscriber that is slow: the server waits, others do not, and nothing is lost" do
    deltas = for n <- 1..5_000, do: String.pad_trailing("#{n} ", 400, "x")
    model = Test.start!([message(Enum.join(deltas), deltas: deltas)])
    {url, _} = serve!(model, "unix://" <> Path.join(model.workspace, "s"))
    conn = connect!(url, max_queue: 1)
    id = thread!(conn, model)
    test = self()

    reader =
      spawn_link(fn ->
        :ok = AppServer.subscribe(conn, thread_id: id, methods: ["item/agentMessage/delta"])
        {:ok, _} = AppServer.turn_start(conn, id, "Hi")
        send(test, :started)
        receive(do: (:go -> :ok))
        send(test, {:read, for(_ <- deltas, do: delta())})
      end)

    assert_receive :started, 10_000
    assert eventually(fn -> not :sys.get_state(conn).transport.reading? end)
    assert {:ok, _} = AppServer.model_list(connect!(url))
    assert {:message_queue_len, waiting} = Process.info(reader, :message_queue_len)
    assert waiting < 2_000
    send(reader, :go)
    assert_receive {:read, read}, 30_000
    assert read == deltas
  end

  defp delta do
    receive do
      {:codex_notification, "item/agentMessage/delta", %{"delta" => delta}} -> delta
    after
      10_000 -> nil
    end
  end

  test "capability tokens: of a file, of a digest, wrong and missing" do
    model = Test.start!([])
    file = secret!(model, "token", "tok-canary-1")
    flags = ["--ws-auth", "capability-token"]
    {url, _} = serve!(model, "ws://127.0.0.1:0", flags ++ ["--ws-token-file", file])
    assert {:ok, _} = AppServer.model_list(connect!(url, token: "tok-canary-1"))

    assert {:ok, _} =
             AppServer.model_list(
               connect!(url, headers: [{"authorization", "Bearer tok-canary-1"}])
             )

    assert {:error, {:handshake_refused, 401, text}} =
             AppServer.connect_remote(url, token: "tok-wrong")

    assert text =~ "bearer token"
    assert {:error, {:handshake_refused, 401, _}} = AppServer.connect_remote(url)

    digest = :sha256 |> :crypto.hash("tok-canary-2") |> Base.encode16(case: :lower)
    {url, _} = serve!(model, "ws://127.0.0.1:0", flags ++ ["--ws-token-sha256", digest])
    assert {:ok, _} = AppServer.model_list(connect!(url, token: "tok-canary-2"))

    assert {:error, {:handshake_refused, 401, _}} =
             AppServer.connect_remote(url, token: "tok-canary-1")
  end

  test "signed tokens: issuer, audience, age and secret count" do
    model = Test.start!([])
    secret = "a-secret-of-more-than-thirty-two-bytes"
    file = secret!(model, "secret", secret)

    {url, _} =
      serve!(model, "ws://127.0.0.1:0", [
        "--ws-auth",
        "signed-bearer-token",
        "--ws-shared-secret-file",
        file,
        "--ws-issuer",
        "tests",
        "--ws-audience",
        "app"
      ])

    good = [issuer: "tests", audience: "app", expires_in: 60]
    token = AppServer.signed_token(secret, good)
    assert {:ok, _} = AppServer.model_list(connect!(url, token: token))

    for token <- [
          AppServer.signed_token(secret, Keyword.put(good, :issuer, "others")),
          AppServer.signed_token(secret, Keyword.delete(good, :audience)),
          AppServer.signed_token(secret <> "x", good),
          BearerToken.sign(secret, -3_600, [{"iss", "tests"}, {"aud", "app"}])
        ] do
      assert {:error, {:handshake_refused, 401, _}} = AppServer.connect_remote(url, token: token)
    end
  end

  test "several connections share threads" do
    model = Test.start!(["One.", "Two."])
    {url, _} = serve!(model, "ws://127.0.0.1:0")
    one = connect!(url)
    id = thread!(one, model)
    :ok = AppServer.subscribe(one, thread_id: id)
    {:ok, _} = AppServer.turn_start(one, id, "Hi")
    assert turn(id) == {"completed", "One."}
    :ok = AppServer.unsubscribe(one)

    two = connect!(url)
    assert {:ok, %{"thread" => %{"id" => ^id}}} = AppServer.thread_resume(two, id)
    :ok = AppServer.subscribe(two, thread_id: id)
    {:ok, _} = AppServer.turn_start(one, id, "Again")
    assert turn(id) == {"completed", "Two."}
  end

  test "a server that is killed during a turn: all waiting processes get an error immediately" do
    model = Test.start!([silence(60_000)])
    {url, os_pid} = serve!(model, "unix://" <> Path.join(model.workspace, "s"))
    conn = connect!(url)
    ref = Process.monitor(conn)
    id = thread!(conn, model)
    {:ok, _} = AppServer.turn_start(conn, id, "Hi")

    waiting =
      Task.async(fn ->
        AppServer.request(conn, "command/exec", %{"command" => ["sleep", "60"]})
      end)

    assert eventually(fn -> :sys.get_state(conn).state.peer.sent != %{} end)
    {_, 0} = System.cmd("kill", ["-9", Integer.to_string(os_pid)])
    assert {:error, {:app_server_down, %{reason: reason}}} = Task.await(waiting)
    assert reason in [:closed, :econnreset]
    assert_receive {:DOWN, ^ref, :process, _, {:shutdown, {:app_server_down, _}}}, 5_000

    # Its descriptors are closed one by one.
    assert eventually(fn ->
             AppServer.connect_remote(url) == {:error, {:not_connected, :econnrefused}}
           end)
  end

  test "a server that is stopped closes the connection; a killed connection is noticed" do
    model = Test.start!([])
    {url, os_pid} = serve!(model, "ws://127.0.0.1:0")
    conn = connect!(url)
    Process.exit(conn, :kill)
    conn = connect!(url)
    ref = Process.monitor(conn)
    {_, 0} = System.cmd("kill", ["-TERM", Integer.to_string(os_pid)])

    assert_receive {:DOWN, ^ref, :process, _, {:shutdown, {:app_server_down, %{reason: reason}}}},
                   20_000

    assert reason == :closed or match?({:closed, _, _}, reason)
  end
end
