defmodule Codex.HTTP.Connection do
  @moduledoc false
  # A connection to an HTTP/1.1 server, as a value of the process that opened it. It carries one
  # request after the other.
  #
  # The process reads an answer piece by piece with `read/2`. Between two calls nothing is read:
  # the buffers of the kernel fill, and the server waits. The connection closes with its process.
  #
  # The client is not `:httpc`, which holds every answer in memory whose status is not 200 or 206:
  # an endless answer of status 500 took 1.3 GB in three seconds. With status 200 and one piece on
  # demand, both hold less than 1 MB of a flood.

  alias Codex.HTTP.{Body, Head, Proxy, Socket, Target, TLS}

  @enforce_keys [:module, :socket, :target]
  @derive {Inspect, only: [:module]}
  defstruct [
    :module,
    :socket,
    :target,
    :proxy,
    body: :done,
    buffer: "",
    keep?: true,
    used?: false
  ]

  @type t :: %__MODULE__{}

  @typedoc """
  Reasons for a connection that failed:

    * `{:not_connected, cause}` - no connection was made: a POSIX error, or `{:tls, alert, words}`
    * `{:proxy_refused, status}` - the proxy does not connect to the server
    * `{:invalid_proxy, name}` - this variable does not hold an http:// URL
    * `{:ca_certificate, path, cause}` - the file of certificates cannot be read
    * `{:invalid_response, words}` - the answer is not HTTP/1.1
    * `{:response_too_large, bytes}` - the answer exceeds this limit
    * `:timeout`, `:closed`, a POSIX error
    * `Codex.OptionError` - a URL or a header is invalid
  """
  @type reason ::
          {:not_connected, term()}
          | {:proxy_refused, 100..599}
          | {:invalid_proxy, String.t()}
          | {:ca_certificate, Path.t(), term()}
          | {:invalid_response, String.t()}
          | {:response_too_large, pos_integer()}
          | :timeout
          | :closed
          | :inet.posix()
          | Codex.OptionError.t()

  # The most bytes of a head.
  @longest_head 64 * 1024
  # How long a send may wait for a server that does not read.
  @send_timeout 30_000

  @doc """
  Connects until `deadline`. Options:

    * `:proxy` - `:environment` (the default), `:none`, or a `Codex.HTTP.Proxy`
    * `:tls` - options of `:ssl`, and `:cacertfile`
  """
  @spec open(Target.t(), integer() | :infinity, keyword()) :: {:ok, t()} | {:error, reason()}
  def open(target, deadline, opts \\ []) do
    with {:ok, proxy} <- proxy(target, Keyword.get(opts, :proxy, :environment)),
         {:ok, tls} <- tls(target, Keyword.get(opts, :tls, [])),
         {:ok, module, socket} <- connect(target, proxy, tls, deadline) do
      {:ok, %__MODULE__{module: module, socket: socket, target: target, proxy: proxy}}
    end
  end

  defp proxy(target, :environment), do: Proxy.find(target)
  defp proxy(_target, :none), do: {:ok, nil}
  defp proxy(_target, %Proxy{} = proxy), do: {:ok, proxy}

  defp tls(%Target{scheme: :http}, _given), do: {:ok, []}
  defp tls(%Target{scheme: :https, host: host}, given), do: TLS.options(host, given)

  defp connect(target, nil, tls, deadline) do
    module = if target.scheme == :https, do: :ssl, else: :gen_tcp
    to(module, target.host, target.port, Socket.options(@send_timeout) ++ tls, deadline)
  end

  defp connect(%Target{scheme: :http}, proxy, _tls, deadline),
    do: to(:gen_tcp, proxy.host, proxy.port, Socket.options(@send_timeout), deadline)

  defp connect(target, proxy, tls, deadline) do
    options = Socket.options(@send_timeout)

    with {:ok, :gen_tcp, socket} <- to(:gen_tcp, proxy.host, proxy.port, options, deadline),
         :ok <-
           tunnel(%__MODULE__{module: :gen_tcp, socket: socket, target: target}, proxy, deadline),
         {:ok, socket} <- :ssl.connect(socket, tls, Socket.left(deadline)) do
      {:ok, :ssl, socket}
    else
      {:error, {:tls_alert, _} = alert} -> {:error, {:not_connected, Socket.reason(alert)}}
      {:error, reason} -> {:error, reason}
    end
  end

  # The proxy answers the request for a tunnel with a head; all that follows comes from the server.
  defp tunnel(conn, proxy, deadline) do
    place = "#{authority(conn.target)}:#{conn.target.port}"
    headers = [{"host", place} | proxy_headers(proxy)]

    with {:ok, head} <- Head.request("CONNECT", place, headers),
         :ok <- :gen_tcp.send(conn.socket, head),
         {:ok, status, _headers, _conn} when status not in 200..299 <- head(conn, deadline) do
      {:error, {:proxy_refused, status}}
    else
      {:ok, _status, _headers, _conn} -> :ok
      {:error, reason} -> {:error, reason}
    end
  end

  defp authority(%Target{host: host}) when is_binary(host), do: host
  defp authority(%Target{host: host}) when tuple_size(host) == 8, do: "[#{:inet.ntoa(host)}]"
  defp authority(%Target{host: host}), do: to_string(:inet.ntoa(host))

  defp proxy_headers(%Proxy{authorization: nil}), do: []
  defp proxy_headers(%Proxy{authorization: value}), do: [{"proxy-authorization", value}]

  defp to(module, host, port, options, deadline) do
    with {:error, reason} <- Socket.connect(module, host, port, options, deadline) do
      case reason do
        :timeout -> {:error, :timeout}
        {:options, reason} -> {:error, Codex.OptionError.invalid(:tls, reason, "options of :ssl")}
        reason -> {:error, {:not_connected, Socket.reason(reason)}}
      end
    end
  end

  # --- Requests ---------------------------------------------------------------------------------

  @doc "Sends a request to a path of the target and waits for the head of its answer."
  @spec request(
          t(),
          String.t(),
          Target.t(),
          [Head.header()],
          iodata() | nil,
          integer() | :infinity
        ) ::
          {:ok, 200..599, [Head.header()], t()} | {:error, reason()}
  def request(conn, method, target, headers, body, deadline) do
    own = [{"host", target.authority} | size(method, body)]

    with {:ok, head} <- Head.request(method, form(conn, target), own ++ more(conn) ++ headers),
         :ok <- sent(conn.module.send(conn.socket, [head, body || ""])),
         {:ok, status, headers, conn} <- head(%{conn | used?: true}, deadline) do
      framed(conn, method, status, headers)
    end
  end

  defp sent(:ok), do: :ok
  defp sent({:error, reason}), do: {:error, Socket.reason(reason)}

  defp size(method, nil) when method in ["GET", "DELETE"], do: []
  defp size(_method, body), do: [{"content-length", "#{IO.iodata_length(body || "")}"}]

  # A proxy of plain HTTP gets whole URLs, and its password with each request.
  defp form(%{module: :gen_tcp, proxy: %Proxy{}}, target), do: Target.url(target)
  defp form(_conn, target), do: target.path

  defp more(%{module: :gen_tcp, proxy: %Proxy{} = proxy}), do: proxy_headers(proxy)
  defp more(_conn), do: []

  defp head(conn, deadline) do
    case Head.parse(conn.buffer) do
      # An interim answer.
      {:ok, status, _headers, rest} when status in 100..199 ->
        head(%{conn | buffer: rest}, deadline)

      {:ok, status, headers, rest} ->
        {:ok, status, headers, %{conn | buffer: rest}}

      :more when byte_size(conn.buffer) > @longest_head ->
        {:error, {:invalid_response, "a head of over #{@longest_head} bytes"}}

      :more ->
        with {:ok, bytes} <- receive_bytes(conn, deadline),
             do: head(%{conn | buffer: conn.buffer <> bytes}, deadline)

      :error ->
        {:error, {:invalid_response, "a head that is not HTTP/1.1"}}
    end
  end

  defp framed(conn, method, status, headers) do
    case Body.new(method, status, headers) do
      {:ok, body} ->
        keep? = body != :until_close and "close" not in Head.words(headers, "connection")
        {:ok, status, headers, %{conn | body: body, keep?: keep?}}

      :error ->
        {:error, {:invalid_response, "a body of unknown length"}}
    end
  end

  @doc "Reads the next piece of the answer's body, of at most 64 KiB, until `deadline`."
  @spec read(t(), integer() | :infinity) ::
          {:data, binary(), t()} | {:done, t()} | {:error, reason()}
  def read(conn, deadline) do
    case Body.next(conn.body, conn.buffer) do
      {:data, data, body, rest} ->
        {:data, data, %{conn | body: body, buffer: rest}}

      {:done, rest} ->
        {:done, %{conn | body: :done, buffer: rest, keep?: conn.keep? and rest == ""}}

      {:more, body, rest} ->
        case receive_bytes(conn, deadline) do
          {:ok, bytes} -> read(%{conn | body: body, buffer: rest <> bytes}, deadline)
          {:error, :closed} when body == :until_close -> {:done, %{conn | body: :done}}
          {:error, reason} -> {:error, reason}
        end

      :error ->
        {:error, {:invalid_response, "an invalid chunk"}}
    end
  end

  @doc "Reads the rest of the answer's body, of at most `most` bytes."
  @spec read_all(t(), pos_integer(), integer() | :infinity) ::
          {:ok, binary(), t()} | {:error, reason()}
  def read_all(conn, most, deadline), do: read_all(conn, most, deadline, [], 0)

  defp read_all(conn, most, deadline, parts, size) do
    case read(conn, deadline) do
      {:data, data, _conn} when size + byte_size(data) > most ->
        {:error, {:response_too_large, most}}

      {:data, data, conn} ->
        read_all(conn, most, deadline, [data | parts], size + byte_size(data))

      {:done, conn} ->
        {:ok, parts |> Enum.reverse() |> IO.iodata_to_binary(), conn}

      {:error, reason} ->
        {:error, reason}
    end
  end

  defp receive_bytes(%{module: module, socket: socket}, deadline) do
    case module.recv(socket, 0, Socket.left(deadline)) do
      {:ok, bytes} -> {:ok, bytes}
      {:error, reason} -> {:error, Socket.reason(reason)}
    end
  end

  @doc "Returns whether another request can be sent, as far as is known here."
  @spec open?(t()) :: boolean()
  def open?(%{keep?: true, body: :done, buffer: ""} = conn),
    do: match?({:error, :timeout}, conn.module.recv(conn.socket, 0, 0))

  def open?(_conn), do: false

  @doc "Returns whether the connection reaches the server of a target."
  @spec to?(t(), Target.t()) :: boolean()
  def to?(conn, target), do: Target.same_origin?(conn.target, target)

  @spec close(t()) :: :ok
  def close(conn) do
    _ = conn.module.close(conn.socket)
    :ok
  end
end
