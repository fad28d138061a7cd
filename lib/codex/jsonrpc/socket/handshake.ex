defmodule Codex.JSONRPC.Socket.Handshake do
  @moduledoc false
  # The handshake from HTTP to WebSocket (RFC 6455, 4.1), without a socket.

  alias Codex.HTTP.Head
  alias Codex.JSONRPC.Socket.Address

  @guid "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
  # The most bytes of an answer's head, and of the text of a refusal.
  @most 16 * 1024

  @type reason ::
          {:handshake_refused, status :: 100..599, text :: String.t()}
          | {:not_a_websocket, String.t()}

  @doc "Returns a nonce for one handshake."
  @spec key() :: String.t()
  def key, do: 16 |> :crypto.strong_rand_bytes() |> Base.encode64()

  @doc "Returns the request, without `Origin`, which the server refuses."
  @spec request(Address.t(), String.t(), [{String.t(), String.t()}]) :: iodata()
  def request(%Address{} = address, key, headers) do
    own = [
      {"Host", address.authority},
      {"Upgrade", "websocket"},
      {"Connection", "Upgrade"},
      {"Sec-WebSocket-Key", key},
      {"Sec-WebSocket-Version", "13"}
    ]

    lines = for {name, value} <- own ++ headers, do: [name, ": ", value, "\r\n"]
    ["GET ", address.target, " HTTP/1.1\r\n", lines, "\r\n"]
  end

  @doc """
  Parses the bytes read so far. Returns the bytes after the handshake, `:more`, or the reason of a
  failed handshake. With `:closed` nothing more will come.
  """
  @spec answer(binary(), String.t(), :open | :closed) ::
          {:ok, binary()} | :more | {:error, reason()}
  def answer(bytes, key, state \\ :open) do
    case Head.parse(bytes) do
      {:ok, 101, headers, rest} -> upgraded(headers, key, rest)
      {:ok, status, headers, body} -> refused(status, headers, body, state)
      :more when byte_size(bytes) > @most -> none("its head has over #{@most} bytes")
      :more when state == :closed -> none("it closed the connection before it had answered")
      :more -> :more
      :error -> none("it does not answer in HTTP")
    end
  end

  defp upgraded(headers, key, rest) do
    accept = Base.encode64(:crypto.hash(:sha, key <> @guid))

    cond do
      "websocket" not in Head.words(headers, "upgrade") ->
        none("it answers without Upgrade: websocket")

      "upgrade" not in Head.words(headers, "connection") ->
        none("it answers without Connection: Upgrade")

      Head.value(headers, "sec-websocket-accept") != accept ->
        none("its Sec-WebSocket-Accept is not ours")

      # The request asked for neither of these two.
      Head.value(headers, "sec-websocket-extensions") ->
        none("it names an extension")

      Head.value(headers, "sec-websocket-protocol") ->
        none("it names a subprotocol")

      true ->
        {:ok, rest}
    end
  end

  # The text of a refusal ends with its length or with the connection.
  defp refused(status, headers, body, state) do
    length =
      case Integer.parse(Head.value(headers, "content-length") || "") do
        {length, ""} when length >= 0 -> min(length, @most)
        _ -> @most
      end

    if byte_size(body) >= length or state == :closed do
      body = binary_part(body, 0, min(byte_size(body), length))
      {:error, {:handshake_refused, status, body |> Codex.Text.printable() |> String.trim()}}
    else
      :more
    end
  end

  defp none(text), do: {:error, {:not_a_websocket, text}}
end
