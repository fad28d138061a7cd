defmodule Codex.JSONRPC.Socket.Connect do
  @moduledoc false
  # Opens the socket of a WebSocket connection: TCP, Unix socket or TLS, and then the handshake.

  alias Codex.Error.Redact
  alias Codex.HTTP.{Socket, TLS}
  alias Codex.JSONRPC.Socket.{Address, Handshake}
  alias Codex.OptionError

  @doc """
  Connects and shakes hands. Returns the module and the socket, with the bytes that followed the
  handshake. Takes the options of `Codex.JSONRPC.Socket.open/1`.
  """
  @spec open(map()) :: {:ok, :gen_tcp | :ssl, term(), binary()} | {:error, Codex.Reason.socket()}
  def open(%{address: address} = options) do
    deadline = now() + options.init_timeout_ms

    with {:ok, module, socket} <- connect(address, options, deadline),
         {:ok, rest} <- begin(address, module, socket, options, deadline) do
      {:ok, module, socket, rest}
    else
      {:error, reason} -> {:error, error(reason, options)}
    end
  end

  # A socket that cannot be used is closed.
  defp begin(address, module, socket, options, deadline) do
    result =
      with :ok <- private(address, module, socket, options),
           do: shake(address, module, socket, options, deadline)

    _ = if match?({:error, _}, result), do: module.close(socket)
    result
  end

  # --- Sockets ----------------------------------------------------------------------------------

  defp connect(%Address{scheme: :unix, host: path}, options, deadline) do
    socket_options = Socket.options(options.send_timeout_ms)

    with {:ok, socket} <- :gen_tcp.connect({:local, path}, 0, socket_options, left(deadline)),
         do: {:ok, :gen_tcp, socket}
  end

  defp connect(%Address{scheme: :ws, host: host, port: port}, options, deadline),
    do: Socket.connect(:gen_tcp, host, port, Socket.options(options.send_timeout_ms), deadline)

  defp connect(%Address{scheme: :wss, host: host, port: port}, options, deadline) do
    with {:ok, tls} <- TLS.options(host, options.tls) do
      tls = Socket.options(options.send_timeout_ms) ++ tls
      Socket.connect(:ssl, host, port, tls, deadline)
    end
  end

  # --- Secrets ----------------------------------------------------------------------------------

  # The name `localhost` may resolve to another host.
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

  @doc "Returns the error of a secret that would cross the network in plain text."
  @spec insecure(String.t()) :: OptionError.t()
  def insecure(host) do
    expected = "left out over plain ws:// to #{host}, which is not loopback: use wss://"
    OptionError.invalid(:token, "[redacted]", expected)
  end

  @doc """
  Returns a function that redacts texts of the server, which may repeat a secret of the handshake.
  As a function it does not show the secrets.
  """
  @spec redactor(map()) :: (binary() -> String.t())
  def redactor(%{address: address, secrets: secrets}) do
    secrets = secrets ++ Address.secrets(address)
    fn text -> text |> Codex.Text.line() |> Redact.redact(secrets) end
  end

  # --- Handshake --------------------------------------------------------------------------------

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

  # --- Errors -----------------------------------------------------------------------------------

  defp error(:timeout, options), do: {:init_timeout, options.init_timeout_ms}
  defp error({:tls_alert, _} = alert, _options), do: {:not_connected, reason(alert)}
  defp error(reason, _options) when is_atom(reason), do: {:not_connected, reason}

  defp error({:options, reason}, _options),
    do: OptionError.invalid(:tls, reason, "options that :ssl takes")

  defp error({:handshake_refused, status, text}, options),
    do: {:handshake_refused, status, redactor(options).(text)}

  defp error(reason, _options), do: reason

  @doc "Returns the reason of a closed socket, with a TLS alert as text."
  @spec reason(term()) :: term()
  defdelegate reason(reason), to: Socket

  defp left(deadline), do: Socket.left(deadline)
  defp now, do: System.monotonic_time(:millisecond)
end
