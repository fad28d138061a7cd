defmodule Codex.WebSocketServer do
  @moduledoc "A server on loopback that says what a test wants it to, byte by byte, and reads what a client sends."

  @guid "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
  @timeout 10_000

  defstruct [:module, :socket, :request]

  @doc """
  Listens, linked to the caller; runs `fun` for every connection after its handshake. Returns the port.

  Options: `:tls` (options of `:ssl.listen/2`), `:handshake` (a function that gets the connection and the client's key, instead of the right
  answer).
  """
  def start!(fun, opts \\ []) do
    {module, listen} =
      case opts[:tls] do
        nil -> {:gen_tcp, []}
        tls -> {:ssl, tls}
      end

    test = self()

    spawn_link(fn ->
      {:ok, listener} =
        module.listen(0, [:binary, active: false, ip: {127, 0, 0, 1}, reuseaddr: true] ++ listen)

      {:ok, {_, port}} =
        if module == :ssl, do: :ssl.sockname(listener), else: :inet.sockname(listener)

      send(test, {__MODULE__, self(), port})
      accept(module, listener, fun, opts[:handshake] || (&agree/2))
    end)

    receive do
      {__MODULE__, _pid, port} -> port
    after
      @timeout -> raise "the server does not listen"
    end
  end

  defp accept(:gen_tcp, listener, fun, handshake) do
    {:ok, socket} = :gen_tcp.accept(listener)
    pid = spawn_link(fn -> serve(:gen_tcp, fun, handshake) end)
    :ok = :gen_tcp.controlling_process(socket, pid)
    send(pid, {:socket, socket})
    accept(:gen_tcp, listener, fun, handshake)
  end

  defp accept(:ssl, listener, fun, handshake) do
    {:ok, socket} = :ssl.transport_accept(listener)

    # A client that does not trust the server is not an error of the test.
    with {:ok, socket} <- :ssl.handshake(socket) do
      pid = spawn_link(fn -> serve(:ssl, fun, handshake) end)
      :ok = :ssl.controlling_process(socket, pid)
      send(pid, {:socket, socket})
    end

    accept(:ssl, listener, fun, handshake)
  end

  defp serve(module, fun, handshake) do
    receive do
      {:socket, socket} ->
        conn = %__MODULE__{module: module, socket: socket}
        request = head(conn, "")
        [_, key] = Regex.run(~r/sec-websocket-key: (\S+)/i, request)
        if handshake.(%{conn | request: request}, key), do: fun.(%{conn | request: request})
        module.close(socket)
    end
  end

  defp head(conn, bytes) do
    if String.ends_with?(bytes, "\r\n\r\n"),
      do: bytes,
      else: head(conn, bytes <> raw(conn, 1))
  end

  @doc "The right answer to a handshake, with `more` headers, and `frames` behind it."
  def agree(conn, key, more \\ "", frames \\ "") do
    accept = Base.encode64(:crypto.hash(:sha, key <> @guid))

    put(conn, [
      "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
      ["sec-websocket-accept: ", accept, "\r\n", more, "\r\n", frames]
    ])
  end

  @doc "Sends bytes as they are."
  def put(conn, bytes), do: conn.module.send(conn.socket, bytes)

  @doc "Sends a text."
  def text(conn, text), do: put(conn, frame(0x81, text))

  @doc "A frame of a server. `first` is 0x80 for the last fragment, and the opcode."
  def frame(first, payload) when byte_size(payload) < 126,
    do: <<first, byte_size(payload), payload::binary>>

  def frame(first, payload) when byte_size(payload) < 65_536,
    do: <<first, 126, byte_size(payload)::16, payload::binary>>

  def frame(first, payload), do: <<first, 127, byte_size(payload)::64, payload::binary>>

  @doc "The next frame of the client, unmasked: `{first, payload}`, or `:closed`."
  def next(conn) do
    with <<first, 1::1, length::7>> <- raw(conn, 2) do
      length =
        case length do
          126 -> conn |> raw(2) |> :binary.decode_unsigned()
          127 -> conn |> raw(8) |> :binary.decode_unsigned()
          _ -> length
        end

      mask = raw(conn, 4)
      {first, if(length == 0, do: "", else: conn |> raw(length) |> unmask(mask))}
    end
  end

  @doc "The next text of the client, as a map. Pings before it are answered."
  def message(conn) do
    case next(conn) do
      {0x81, text} ->
        {:ok, map} = Codex.JSON.decode(text)
        map

      {0x89, payload} ->
        put(conn, frame(0x8A, payload))
        message(conn)
    end
  end

  @doc "Says hello to a client, as an app-server does."
  def hello(conn) do
    %{"method" => "initialize", "id" => id} = message(conn)
    text(conn, ~s({"id":#{id},"result":{"userAgent":"stub"}}))
    %{"method" => "initialized"} = message(conn)
    conn
  end

  @doc "Waits until the client has gone."
  def wait(conn) do
    if next(conn) != :closed, do: wait(conn)
  end

  defp raw(conn, length) do
    case conn.module.recv(conn.socket, length, 60_000) do
      {:ok, bytes} -> bytes
      {:error, _} -> :closed
    end
  end

  defp unmask(payload, mask) do
    mask = :binary.copy(mask, div(byte_size(payload), 4) + 1)
    :crypto.exor(payload, binary_part(mask, 0, byte_size(payload)))
  end
end
