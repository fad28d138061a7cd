defmodule Codex.JSONRPC.Socket do
  @moduledoc false
  # A server that somebody else has started, by WebSocket: a text is a message. The process of the
  # connection owns the socket and reads it; `Writer` writes. What is in the frames, the NIF knows.
  #
  # A socket is read once for every grant. While nothing is granted the kernel's buffers fill, and the server waits; pongs are not seen
  # then, so that nobody is taken for dead.
  @behaviour Codex.JSONRPC.Transport

  alias Codex.JSONRPC.Message
  alias Codex.JSONRPC.Socket.{Address, Handshake, TLS, Writer}
  alias Codex.Error.Redact
  alias Codex.{JSON, Native, OptionError}

  @enforce_keys [:module, :socket, :writer, :frames, :ping_ms, :words, :max_nodes]
  defstruct @enforce_keys ++ [reading?: false, granted?: false, heard?: true]

  @type t :: %__MODULE__{
          module: :gen_tcp | :ssl,
          socket: :gen_tcp.socket() | :ssl.sslsocket(),
          writer: Writer.t(),
          frames: reference(),
          ping_ms: pos_integer() | :infinity,
          words: (binary() -> String.t()),
          max_nodes: pos_integer(),
          reading?: boolean(),
          granted?: boolean(),
          heard?: boolean()
        }

  @typedoc "Why there is none."
  @type reason ::
          {:not_connected, :inet.posix() | :closed | {:tls, atom(), String.t()}}
          | {:ca_certificate, Path.t(), Codex.FileSystem.reason() | :no_certificate}
          | OptionError.t()
          | {:init_timeout, pos_integer()}
          | Handshake.reason()

  # What the kernel has no room for waits here; with more, a send waits.
  @watermark 1024 * 1024
  # How long what it had to say may take then.
  @last_words 100
  # How long a server may take to read the last messages when the connection is closed.
  @goodbye 300
  @chunk 64 * 1024
  # A frame of more than this takes longer than a normal scheduler should be held.
  @long 64 * 1024

  @doc """
  Connects and shakes hands. Takes the `Address` as `:address` and options of `Codex.AppServer.connect_remote/2`.

  What is secret in them is not kept.
  """
  @impl true
  def open(%{address: address} = options) do
    deadline = now() + options.init_timeout_ms

    with {:ok, module, socket} <- connect(address, options, deadline) do
      with :ok <- private(address, module, socket, options),
           {:ok, rest} <- shake(address, module, socket, options, deadline) do
        {:ok, start(module, socket, rest, options)}
      else
        {:error, reason} ->
          _ = module.close(socket)
          {:error, told(reason, options)}
      end
    else
      {:error, reason} -> {:error, told(reason, options)}
    end
  end

  defp start(module, socket, rest, options) do
    transport = %__MODULE__{
      module: module,
      socket: socket,
      writer: Writer.start(module, socket),
      frames: Native.websocket_new(options.max_message_bytes),
      ping_ms: options.ping_interval_ms,
      words: words(options),
      max_nodes: options.max_message_nodes
    }

    transport |> ping() |> begin(rest)
  end

  defp begin(transport, ""), do: grant(transport, 1)

  # What came with the end of the handshake goes the way of all that comes.
  defp begin(transport, rest) do
    Kernel.send(self(), {data(transport.module), transport.socket, rest})
    %{transport | reading?: true}
  end

  # --- Connecting -------------------------------------------------------------------------------------------------------

  defp connect(%Address{scheme: :unix, host: path}, options, deadline),
    do: tcp({:local, path}, 0, socket_options(options), deadline)

  defp connect(%Address{scheme: :ws, host: host, port: port}, options, deadline),
    do: each_family(host, &tcp(name(host), port, [&1 | socket_options(options)], deadline))

  defp connect(%Address{scheme: :wss, host: host, port: port} = address, options, deadline) do
    with {:ok, tls} <- TLS.options(address, options.tls) do
      each_family(host, fn family ->
        result =
          :ssl.connect(
            name(host),
            port,
            [family | socket_options(options)] ++ tls,
            left(deadline)
          )

        with {:ok, socket} <- result, do: {:ok, :ssl, socket}
      end)
    end
  end

  defp tcp(host, port, options, deadline) do
    with {:ok, socket} <- :gen_tcp.connect(host, port, options, left(deadline)),
         do: {:ok, :gen_tcp, socket}
  end

  defp socket_options(options) do
    [
      :binary,
      active: false,
      buffer: @chunk,
      high_watermark: @watermark,
      low_watermark: div(@watermark, 2),
      send_timeout: options.send_timeout_ms,
      send_timeout_close: true
    ]
  end

  defp name(host) when is_binary(host), do: String.to_charlist(host)
  defp name(address), do: address

  defp each_family(address, connect) when tuple_size(address) == 8, do: connect.(:inet6)
  defp each_family(address, connect) when is_tuple(address), do: connect.(:inet)

  defp each_family(_name, connect) do
    with {:error, reason} when reason in [:nxdomain, :econnrefused, :ehostunreach, :enetunreach] <-
           connect.(:inet),
         {:error, _} <- connect.(:inet6) do
      {:error, reason}
    end
  end

  # `localhost` may lead elsewhere.
  defp private(%Address{scheme: :ws}, :gen_tcp, socket, %{secrets: [_ | _]}) do
    case :inet.peername(socket) do
      {:ok, {address, _port}} ->
        if Address.loopback?(address),
          do: :ok,
          else: {:error, insecure(address |> :inet.ntoa() |> to_string())}

      {:error, reason} ->
        {:error, reason}
    end
  end

  defp private(_address, _module, _socket, _options), do: :ok

  @doc "The error of a secret that would go over the network as it is."
  @spec insecure(String.t()) :: OptionError.t()
  def insecure(host) do
    expected = "left out over plain ws:// to #{host}, which is not loopback: use wss://"
    OptionError.invalid(:token, "[redacted]", expected)
  end

  defp shake(address, module, socket, options, deadline) do
    key = Handshake.key()

    with :ok <- module.send(socket, Handshake.request(address, key, headers(options))),
         do: answer(module, socket, key, "", deadline)
  end

  defp headers(%{token: nil, headers: headers}), do: headers

  defp headers(%{token: token, headers: headers}),
    do: headers ++ [{"Authorization", "Bearer " <> token}]

  defp answer(module, socket, key, bytes, deadline) do
    with :more <- Handshake.answer(bytes, key) do
      case module.recv(socket, 0, left(deadline)) do
        {:ok, more} -> answer(module, socket, key, bytes <> more, deadline)
        {:error, reason} -> last_answer(Handshake.answer(bytes, key, :closed), reason)
      end
    end
  end

  defp last_answer({:error, {:handshake_refused, _, _}} = refused, _reason), do: refused
  defp last_answer({:error, _} = error, :closed), do: error
  defp last_answer(_none, reason), do: {:error, reason}

  defp left(deadline), do: max(deadline - now(), 1)

  defp told(:timeout, options), do: {:init_timeout, options.init_timeout_ms}

  defp told({:tls_alert, _} = alert, _options), do: {:not_connected, why(alert)}

  defp told({:options, reason}, _options),
    do: OptionError.invalid(:tls, reason, "options that :ssl takes")

  defp told(reason, _options) when is_atom(reason), do: {:not_connected, reason}

  defp told({:handshake_refused, status, text}, options),
    do: {:handshake_refused, status, words(options).(text)}

  defp told(reason, _options), do: reason

  # A server may show in its words what it was sent. A function, so that nobody sees the secrets.
  defp words(%{address: address, secrets: secrets}) do
    secrets = secrets ++ Address.secrets(address)
    fn text -> text |> Codex.Text.line() |> Redact.redact(secrets) end
  end

  defp why({:tls_alert, {alert, text}}),
    do: {:tls, alert, text |> to_string() |> Codex.CLI.Command.text()}

  defp why(reason), do: reason

  # --- Reading ----------------------------------------------------------------------------------------------------------

  @impl true
  def stream(%{socket: socket} = transport, {tag, socket, bytes}) when tag in [:tcp, :ssl] do
    transport = %{transport | reading?: false, heard?: true}
    {events, transport} = feed(transport, bytes, 0, [])

    {messages, rest} =
      Enum.split_while(events, &match?({kind, _} when kind in [:text, :binary, :too_long], &1))

    {:ok, transport,
     [
       {:messages, Enum.map(messages, &message(&1, transport.max_nodes)), byte_size(bytes)}
       | down(rest, transport)
     ]}
  end

  def stream(%{socket: socket} = transport, {tag, socket}) when tag in [:tcp_closed, :ssl_closed],
    do: {:ok, transport, [{:down, %{reason: :closed}}]}

  def stream(%{socket: socket} = transport, {tag, socket, reason})
      when tag in [:tcp_error, :ssl_error],
      do: {:ok, transport, [{:down, %{reason: why(reason)}}]}

  def stream(%{socket: socket} = transport, {:ping, socket}) do
    cond do
      not transport.reading? ->
        {:ok, ping(transport), []}

      transport.heard? ->
        transport = write(transport, Native.websocket_ping(transport.frames))
        {:ok, ping(%{transport | heard?: false}), []}

      true ->
        {:ok, transport, [{:down, %{reason: {:timeout, :ping, transport.ping_ms}}}]}
    end
  end

  def stream(%{socket: socket} = transport, {:sent, socket}),
    do: {:ok, if(transport.granted?, do: grant(transport, 0), else: transport), []}

  def stream(%{socket: socket} = transport, {:send_failed, socket, reason}),
    do: {:ok, failed(transport, reason), []}

  def stream(_transport, _message), do: :unknown

  defp feed(transport, bytes, at, events) do
    transport.frames |> Native.websocket_feed(bytes, at) |> fed(transport, bytes, events)
  end

  defp fed({came, output, next}, transport, bytes, events) do
    transport = write(transport, output)
    events = events ++ came

    case next do
      :done ->
        {events, transport}

      {:more, at} ->
        feed(transport, bytes, at, events)

      {:long, at} ->
        transport.frames
        |> Native.websocket_feed_long(bytes, at)
        |> fed(transport, bytes, events)
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

  defp ended({:closed, {code, text}}, transport), do: {:closed, code, transport.words.(text)}
  defp ended({:not_utf8, _}, _transport), do: {:protocol, "a text that is not UTF-8"}
  defp ended({:protocol, rule}, _transport), do: {:protocol, rule}

  @impl true
  def grant(%{reading?: true} = transport, _bytes), do: transport

  # A server that does not take what it asked for is not asked for more.
  def grant(transport, _bytes) do
    if Writer.busy?(transport.writer),
      do: %{transport | granted?: true},
      else: read(%{transport | granted?: false})
  end

  defp read(transport) do
    case set(transport, active: :once) do
      :ok -> %{transport | reading?: true, heard?: true}
      {:error, reason} -> failed(transport, reason)
    end
  end

  defp set(%{module: :ssl, socket: socket}, options), do: :ssl.setopts(socket, options)
  defp set(%{socket: socket}, options), do: :inet.setopts(socket, options)

  defp data(:ssl), do: :ssl
  defp data(:gen_tcp), do: :tcp

  # --- Sending ----------------------------------------------------------------------------------------------------------

  @impl true
  def send(transport, json) when byte_size(json) > @long,
    do: write(transport, Native.websocket_text_long(transport.frames, json))

  def send(transport, json), do: write(transport, Native.websocket_text(transport.frames, json))

  defp write(transport, ""), do: transport

  defp write(transport, bytes) do
    :ok = Writer.write(transport.writer, bytes)
    transport
  end

  # A socket that is closed for writing may have something to read: a close frame says why. One that is closed altogether tells
  # nobody, so this does.
  defp failed(transport, reason) do
    _ = Process.send_after(self(), {:tcp_error, transport.socket, reason}, @last_words)
    transport
  end

  defp ping(%{ping_ms: :infinity} = transport), do: transport

  defp ping(transport) do
    _ = Process.send_after(self(), {:ping, transport.socket}, transport.ping_ms)
    transport
  end

  # Says goodbye, where the server reads; the VM would wait three minutes for one that does not. It
  # goes on, for others.
  @impl true
  def stop(transport) do
    %{module: module, socket: socket} = transport

    :ok = Writer.stop(transport.writer, @goodbye)
    goodbye = Native.websocket_close(transport.frames)
    _ = if pending(transport) == 0, do: module.send(socket, goodbye)
    _ = if pending(transport) > 0, do: set(transport, linger: {true, 0})
    close(transport)
  end

  # What TLS still has to send holds up its own process, and with it who closes the socket.
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

  # Bytes that wait to be sent: here, or in the VM's port.
  defp pending(transport), do: Writer.waiting(transport.writer) + in_port(transport)

  defp in_port(%{module: module, socket: socket}) do
    stat = if module == :ssl, do: &:ssl.getstat/2, else: &:inet.getstat/2

    case stat.(socket, [:send_pend]) do
      {:ok, [send_pend: bytes]} -> bytes
      # It is closed.
      {:error, _} -> 0
    end
  end

  @impl true
  def os_pid(_transport), do: nil

  @impl true
  def stderr(_transport), do: ""

  defp now, do: System.monotonic_time(:millisecond)
end
