defmodule Codex.JSONRPC.Socket do
  @moduledoc false
  # A server that listens for WebSocket connections: one message a text. The process of the
  # connection owns the socket and reads it; `Codex.JSONRPC.Socket.Writer` writes. Frames are parsed
  # by the NIF.
  #
  # Each grant reads the socket once. Without a grant, the buffers of the kernel fill and the server
  # waits. Pongs are not seen then, so a missing pong counts only while the socket is read.
  @behaviour Codex.JSONRPC.Transport

  alias Codex.{JSON, Native}
  alias Codex.JSONRPC.Message
  alias Codex.JSONRPC.Socket.{Connect, Writer}

  @enforce_keys [:module, :socket, :writer, :frames, :ping_ms, :redact, :max_nodes]
  defstruct @enforce_keys ++ [reading?: false, granted?: false, alive?: true, timed_out?: false]

  @typedoc """
    * `redact` - takes secrets of the handshake out of texts of the server
    * `reading?` - whether the socket is active
    * `granted?` - whether it is read as soon as the writer has room
    * `alive?` - whether something came since the last ping
  """
  @type t :: %__MODULE__{
          module: :gen_tcp | :ssl,
          socket: :gen_tcp.socket() | :ssl.sslsocket(),
          writer: Writer.t(),
          frames: reference(),
          ping_ms: pos_integer() | :infinity,
          redact: (binary() -> String.t()),
          max_nodes: pos_integer(),
          reading?: boolean(),
          granted?: boolean(),
          alive?: boolean()
        }

  # How long a socket that cannot be written may be read before it counts as closed.
  @last_read 100
  # How long a server may take to read the last messages when the connection is closed.
  @goodbye 300
  # Longer frames would hold a normal scheduler for too long.
  @long 64 * 1024

  @doc """
  Connects and shakes hands. Takes a map with `:address` (`Codex.JSONRPC.Socket.Address`),
  `:secrets`, and the options of `Codex.AppServer.connect_remote/2`. The struct holds no secrets.
  """
  @impl true
  def open(options) do
    with {:ok, module, socket, rest} <- Connect.open(options) do
      transport = %__MODULE__{
        module: module,
        socket: socket,
        writer: Writer.start(module, socket),
        frames: Native.websocket_new(options.max_message_bytes),
        ping_ms: options.ping_interval_ms,
        redact: Connect.redactor(options),
        max_nodes: options.max_message_nodes
      }

      {:ok, transport |> schedule_ping() |> begin(rest)}
    end
  end

  defp begin(transport, ""), do: grant(transport, 1)

  # Bytes after the handshake take the way of all others.
  defp begin(transport, rest) do
    Kernel.send(self(), {data(transport.module), transport.socket, rest})
    %{transport | reading?: true}
  end

  defp data(:ssl), do: :ssl
  defp data(:gen_tcp), do: :tcp

  # --- Reading ----------------------------------------------------------------------------------

  @impl true
  def stream(%{socket: socket} = transport, {tag, socket, bytes}) when tag in [:tcp, :ssl] do
    transport = %{transport | reading?: false, alive?: true}
    {events, transport} = feed(transport, bytes, 0, [])

    {messages, rest} =
      Enum.split_while(events, &match?({kind, _} when kind in [:text, :binary, :too_long], &1))

    messages = Enum.map(messages, &message(&1, transport.max_nodes))
    {:ok, transport, [{:messages, messages, byte_size(bytes)} | down(rest, transport)]}
  end

  def stream(%{socket: socket} = transport, {tag, socket}) when tag in [:tcp_closed, :ssl_closed],
    do: {:ok, transport, [{:down, %{reason: closed(transport)}}]}

  def stream(%{socket: socket} = transport, {tag, socket, reason})
      when tag in [:tcp_error, :ssl_error],
      do: {:ok, transport, [{:down, %{reason: Connect.reason(reason)}}]}

  def stream(%{socket: socket} = transport, {:ping, socket}) do
    cond do
      not transport.reading? ->
        {:ok, schedule_ping(transport), []}

      transport.alive? ->
        transport = write(transport, Native.websocket_ping(transport.frames))
        {:ok, schedule_ping(%{transport | alive?: false}), []}

      true ->
        {:ok, transport, [{:down, %{reason: {:timeout, :ping, transport.ping_ms}}}]}
    end
  end

  def stream(%{socket: socket} = transport, {:sent, socket}),
    do: {:ok, if(transport.granted?, do: grant(transport, 0), else: transport), []}

  def stream(%{socket: socket} = transport, {:send_failed, socket, reason}),
    do: {:ok, failed(transport, reason), []}

  def stream(_transport, _message), do: :unknown

  # OTP 29 also sends the message of a close if a send took too long.
  defp closed(%{timed_out?: true}), do: :timeout

  defp closed(%{socket: socket} = transport) do
    if Writer.waiting(transport.writer) > 0 do
      receive do
        {:send_failed, ^socket, :timeout} -> :timeout
      after
        @last_read -> :closed
      end
    else
      :closed
    end
  end

  defp feed(transport, bytes, at, events) do
    transport.frames |> Native.websocket_feed(bytes, at) |> collect(transport, bytes, events)
  end

  defp collect({more, output, next}, transport, bytes, events) do
    transport = write(transport, output)
    events = events ++ more

    case next do
      :done ->
        {events, transport}

      {:more, at} ->
        feed(transport, bytes, at, events)

      {:long, at} ->
        transport.frames
        |> Native.websocket_feed_long(bytes, at)
        |> collect(transport, bytes, events)
    end
  end

  defp message({:text, text}, max_nodes) do
    case JSON.decode(text, max_nodes) do
      {:ok, term} -> Message.from_term(term)
      {:error, {:nodes, _at}} -> {:malformed, {:overfull, max_nodes}}
      {:error, _} -> {:malformed, :not_json}
    end
  end

  defp message({:binary, _size}, _max), do: {:malformed, :not_json}
  defp message({:too_long, size}, _max), do: {:malformed, {:oversized, size}}

  defp down([], _transport), do: []
  defp down([event], transport), do: [{:down, %{reason: ended(event, transport)}}]

  defp ended({:closed, {code, text}}, transport), do: {:closed, code, transport.redact.(text)}
  defp ended({:not_utf8, _}, _transport), do: {:protocol, "a text that is not UTF-8"}
  defp ended({:protocol, rule}, _transport), do: {:protocol, rule}

  @impl true
  def grant(%{reading?: true} = transport, _bytes), do: transport

  # A server that does not read its requests gets no chance to send more answers.
  def grant(transport, _bytes) do
    if Writer.busy?(transport.writer),
      do: %{transport | granted?: true},
      else: read(%{transport | granted?: false})
  end

  defp read(transport) do
    case set(transport, active: :once) do
      :ok -> %{transport | reading?: true, alive?: true}
      {:error, reason} -> failed(transport, reason)
    end
  end

  defp set(%{module: :ssl, socket: socket}, options), do: :ssl.setopts(socket, options)
  defp set(%{socket: socket}, options), do: :inet.setopts(socket, options)

  # --- Sending ----------------------------------------------------------------------------------

  @impl true
  def send(transport, json) when byte_size(json) > @long,
    do: write(transport, Native.websocket_text_long(transport.frames, json))

  def send(transport, json), do: write(transport, Native.websocket_text(transport.frames, json))

  defp write(transport, ""), do: transport

  defp write(transport, bytes) do
    :ok = Writer.write(transport.writer, bytes)
    transport
  end

  # A socket that is closed for writing may have a close frame to read. A socket that is closed in
  # both directions sends no message, so this does.
  defp failed(transport, reason) do
    _ = Process.send_after(self(), {:tcp_error, transport.socket, reason}, @last_read)
    %{transport | timed_out?: reason == :timeout}
  end

  defp schedule_ping(%{ping_ms: :infinity} = transport), do: transport

  defp schedule_ping(transport) do
    _ = Process.send_after(self(), {:ping, transport.socket}, transport.ping_ms)
    transport
  end

  # --- The end ----------------------------------------------------------------------------------

  # Sends a close frame if the server reads: the VM would wait three minutes for one that does not.
  @impl true
  def stop(transport) do
    %{module: module, socket: socket} = transport

    :ok = Writer.stop(transport.writer, @goodbye)
    goodbye = Native.websocket_close(transport.frames)
    _ = if pending(transport) == 0, do: module.send(socket, goodbye)
    _ = if pending(transport) > 0, do: set(transport, linger: {true, 0})
    close(transport)
  end

  # Unsent TLS data blocks the process of the TLS connection, and with it a process that closes.
  defp close(%{module: :ssl} = transport) do
    if pending(transport) == 0 do
      _ = :ssl.close(transport.socket)
      :ok
    else
      close = fn -> :ssl.close(transport.socket) end
      {:ok, pid} = Task.Supervisor.start_child(Codex.TaskSupervisor, close)
      {:behind, pid}
    end
  end

  defp close(transport) do
    _ = :gen_tcp.close(transport.socket)
    :ok
  end

  # Bytes that wait to be sent: in the writer, or in the VM's port.
  defp pending(transport), do: Writer.waiting(transport.writer) + in_port(transport)

  defp in_port(%{module: module, socket: socket}) do
    stat = if module == :ssl, do: &:ssl.getstat/2, else: &:inet.getstat/2

    case stat.(socket, [:send_pend]) do
      {:ok, [send_pend: bytes]} -> bytes
      {:error, _closed} -> 0
    end
  end

  @impl true
  def os_pid(_transport), do: nil

  @impl true
  def stderr(_transport), do: ""

  # The struct holds none.
  @impl true
  def secrets(_transport), do: []
end
