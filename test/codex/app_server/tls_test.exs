defmodule Codex.AppServer.TLSTest do
  # A server with a certificate of its own authority. Not async: one of the tests sets a variable.
  use ExUnit.Case, async: false

  import Codex.WebSocketServer
  alias Codex.AppServer

  @moduletag :tmp_dir

  # The keys take a while.
  setup_all do
    names =
      {:Extension, {2, 5, 29, 17}, false, [dNSName: ~c"localhost", iPAddress: <<127, 0, 0, 1>>]}

    # The defaults are older than TLS 1.3 takes.
    own = [digest: :sha256, key: {:namedCurve, :secp256r1}]

    chain = fn extensions ->
      %{root: own, intermediates: [], peer: [extensions: extensions] ++ own}
    end

    other = {:Extension, {2, 5, 29, 17}, false, [dNSName: ~c"other.invalid"]}

    certificates = fn peer ->
      :public_key.pkix_test_data(%{server_chain: chain.([peer]), client_chain: chain.([])})
    end

    %{good: certificates.(names), other: certificates.(other)}
  end

  # The authorities that a client of this server would trust.
  defp authorities!(%{client_config: config}, dir) do
    path = Path.join(dir, "authorities.pem")
    pem = for der <- config[:cacerts], do: {:Certificate, der, :not_encrypted}
    File.write!(path, :public_key.pem_encode(pem))
    path
  end

  defp serve!(%{server_config: config}, more \\ []) do
    start!(fn conn -> conn |> hello() |> echo() end, tls: [log_level: :none] ++ more ++ config)
  end

  # The client's own certificate, with its key.
  defp identity!(%{client_config: config}, dir) do
    {type, key} = config[:key]
    certificate = {:Certificate, config[:cert], :not_encrypted}

    for {name, entry} <- [certfile: certificate, keyfile: {type, key, :not_encrypted}] do
      path = Path.join(dir, "#{name}.pem")
      File.write!(path, :public_key.pem_encode([entry]))
      {name, path}
    end
  end

  defp echo(conn) do
    %{"id" => id, "params" => params} = message(conn)
    text(conn, Codex.JSON.encode!(%{id: id, result: params}))
    wait(conn)
  end

  test "is trusted with its authority, by name and by address", %{good: good, tmp_dir: dir} do
    port = serve!(good)
    file = authorities!(good, dir)

    for host <- ["localhost", "127.0.0.1"] do
      {:ok, conn} =
        AppServer.connect_remote("wss://#{host}:#{port}", token: "tok", tls: [cacertfile: file])

      # Of several records, and of several chunks.
      params = %{"text" => String.duplicate("é", 200_000)}
      assert AppServer.request(conn, "echo", params) == {:ok, params}
      ref = Process.monitor(conn)
      assert AppServer.disconnect(conn) == :ok
      assert_receive {:DOWN, ^ref, :process, _, :normal}, 5_000
    end
  end

  test "that does not read delays no timeout, and no disconnect", context do
    test = self()

    fun = fn conn ->
      hello(conn)
      send(test, {:server, self()})
      receive(do: (:end -> :ok))
    end

    port = start!(fun, tls: [log_level: :none] ++ context.good.server_config)
    tls = [cacertfile: authorities!(context.good, context.tmp_dir)]
    url = "wss://localhost:#{port}"
    {:ok, conn} = AppServer.connect_remote(url, tls: tls, send_timeout_ms: 600_000)
    assert_receive {:server, server}, 5_000
    body = %{"text" => String.duplicate("a", 20_000_000)}

    for _ <- 1..3 do
      late = {:error, {:timeout, "a", 200}}
      assert AppServer.request(conn, "a", body, timeout_ms: 200) == late
    end

    assert AppServer.disconnect(conn) == :ok
    send(server, :end)
  end

  test "is trusted with the authorities of CODEX_CA_CERTIFICATE", %{good: good, tmp_dir: dir} do
    before = System.get_env("CODEX_CA_CERTIFICATE")
    on_exit(fn -> System.put_env([{"CODEX_CA_CERTIFICATE", before}]) end)
    System.put_env("CODEX_CA_CERTIFICATE", authorities!(good, dir))
    {:ok, conn} = AppServer.connect_remote("wss://localhost:#{serve!(good)}")
    assert AppServer.request(conn, "echo", %{"n" => 1}) == {:ok, %{"n" => 1}}
    AppServer.disconnect(conn)
  end

  test "is not trusted without it, or under another name", context do
    %{good: good, other: other, tmp_dir: dir} = context

    assert {:error, {:not_connected, {:tls, :unknown_ca, text}}} =
             AppServer.connect_remote("wss://localhost:#{serve!(good)}", token: "tok")

    assert is_binary(text)
    url = "wss://localhost:#{serve!(other)}"
    tls = [cacertfile: authorities!(other, dir)]

    # The alert depends on the version of OTP.
    assert {:error, {:not_connected, {:tls, alert, text}}} =
             AppServer.connect_remote(url, tls: tls)

    assert alert in [:handshake_failure, :bad_certificate]
    assert text =~ "hostname"
  end

  test "that wants to know who comes", %{good: good, tmp_dir: dir} do
    port = serve!(good, verify: :verify_peer, fail_if_no_peer_cert: true)
    tls = [cacertfile: authorities!(good, dir)]
    connect = &AppServer.connect_remote("wss://localhost:#{port}", tls: &1)
    {:ok, conn} = connect.(tls ++ identity!(good, dir))
    assert AppServer.request(conn, "echo", %{"n" => 1}) == {:ok, %{"n" => 1}}
    AppServer.disconnect(conn)

    # With TLS 1.3 a client is done before the server has looked, and may see a closed socket only.
    assert {:error, _} = connect.(tls)

    assert {:error, {:not_connected, {:tls, :handshake_failure, _}}} =
             connect.([versions: [:"tlsv1.2"]] ++ tls)
  end

  test "files without a certificate, and invalid options", %{tmp_dir: dir} do
    connect = &AppServer.connect_remote("wss://localhost:1", tls: [&1])
    none = Path.join(dir, "none.pem")
    assert connect.({:cacertfile, none}) == {:error, {:ca_certificate, none, :enoent}}

    for text <- ["text", "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n"] do
      File.write!(none, text)
      assert connect.({:cacertfile, none}) == {:error, {:ca_certificate, none, :no_certificate}}
    end

    assert {:error, %Codex.OptionError{path: [:tls]}} = connect.({:versions, [:nonsense]})
  end

  test "a server that speaks no TLS" do
    {:ok, listener} = :gen_tcp.listen(0, active: false, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(listener)

    spawn_link(fn ->
      {:ok, socket} = :gen_tcp.accept(listener)
      {:ok, _hello} = :gen_tcp.recv(socket, 0)
      :ok = :gen_tcp.send(socket, "HTTP/1.1 400 Bad Request\r\n\r\n")
      :gen_tcp.recv(socket, 0)
    end)

    assert {:error, {:not_connected, {:tls, alert, _}}} =
             AppServer.connect_remote("wss://127.0.0.1:#{port}")

    assert is_atom(alert)
  end
end
