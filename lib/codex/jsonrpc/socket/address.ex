defmodule Codex.JSONRPC.Socket.Address do
  @moduledoc false
  # Addresses of servers: `unix:///path`, `ws://host:port`, `wss://host:port`, and whether a secret
  # may be sent there.

  @enforce_keys [:scheme, :host, :target]
  defstruct [:scheme, :host, :port, :target, :authority]

  @typedoc """
  `host` is a name, an IP address, or for `:unix` a path. `target` is the path of the handshake.
  """
  @type t :: %__MODULE__{
          scheme: :unix | :ws | :wss,
          host: String.t() | :inet.ip_address(),
          port: :inet.port_number() | nil,
          target: String.t(),
          authority: String.t() | nil
        }

  @expected "unix:///path, ws://host:port or wss://host:port, without user and fragment"
  # The longest path of a socket on Linux, without the byte that ends it. macOS has four bytes less.
  @longest_path 103

  @doc """
  Parses a URL.

      iex> {:ok, address} = Codex.JSONRPC.Socket.Address.new("ws://127.0.0.1:4500")
      iex> {address.scheme, address.host, address.port, address.target}
      {:ws, {127, 0, 0, 1}, 4500, "/"}
  """
  @spec new(term()) :: {:ok, t()} | {:error, Codex.OptionError.t()}
  def new("unix://" <> path) do
    absolute = Path.expand(path)

    cond do
      path == "" or path =~ "\0" or not String.valid?(path) ->
        invalid("unix://" <> path, @expected)

      byte_size(absolute) > @longest_path ->
        invalid("unix://" <> path, "a path of at most #{@longest_path} bytes")

      true ->
        {:ok, %__MODULE__{scheme: :unix, host: absolute, target: "/", authority: "localhost"}}
    end
  end

  def new(url) when is_binary(url) do
    # A control character would end the line of the handshake.
    with true <- String.printable?(url) and not (url =~ ~r/\s/),
         {:ok, %URI{scheme: scheme, userinfo: nil, fragment: nil, host: host} = uri}
         when scheme in ["ws", "wss"] and host not in [nil, ""] <- URI.new(url),
         true <- uri.port == nil or uri.port in 1..65_535 do
      {:ok,
       %__MODULE__{
         scheme: if(scheme == "ws", do: :ws, else: :wss),
         host: host(host),
         port: uri.port || if(scheme == "ws", do: 80, else: 443),
         target: target(uri),
         authority: authority(uri)
       }}
    else
      _ -> invalid(shown(url), @expected)
    end
  end

  def new(url), do: invalid(url, @expected)

  defp invalid(url, expected), do: {:error, Codex.OptionError.argument(:url, url, expected)}

  # A password may stand before an @, and a token behind a question mark or a number sign. Text
  # without a scheme may be a token in the place of the URL.
  defp shown(url) do
    if url == "" or url =~ ~r"\A([a-z]+://[^@?#]*|[\w.-]+:\d+)\z", do: url, else: "[redacted]"
  end

  # Redacting shorter values would remove ordinary words.
  @shortest 4

  @doc """
  Returns the values in the query of a URL, raw and decoded, the longest first. They may be tokens.

      iex> alias Codex.JSONRPC.Socket.Address
      iex> {:ok, address} = Address.new("wss://a.example/x?token=a%2Fcanary&v=1")
      iex> Address.secrets(address)
      ["a%2Fcanary", "a/canary"]
  """
  @spec secrets(t()) :: [String.t()]
  def secrets(%__MODULE__{target: target}) do
    pairs =
      case String.split(target, "?", parts: 2) do
        [_path, query] -> String.split(query, "&")
        [_path] -> []
      end

    for pair <- pairs,
        value = pair |> String.split("=", parts: 2) |> List.last(),
        secret <- [value, decoded(value)],
        byte_size(secret) >= @shortest,
        uniq: true do
      secret
    end
    |> Enum.sort_by(&(-byte_size(&1)))
  end

  defp decoded(value) do
    URI.decode_www_form(value)
  rescue
    # An invalid percent encoding.
    ArgumentError -> value
  end

  defp host(host) do
    case :inet.parse_strict_address(String.to_charlist(host)) do
      {:ok, address} -> address
      {:error, _} -> host
    end
  end

  # Without the default port of the scheme.
  defp authority(%URI{host: host, port: port}) do
    host = if host =~ ":", do: "[#{host}]", else: host
    if port, do: "#{host}:#{port}", else: host
  end

  defp target(%URI{path: path, query: query}) do
    path = if path in [nil, ""], do: "/", else: path
    if query, do: path <> "?" <> query, else: path
  end

  @doc """
  Returns whether a secret may be sent to an address: over TLS, or to this machine. A name other
  than `localhost` may be any host.

      iex> alias Codex.JSONRPC.Socket.Address
      iex> urls = ~w(ws://[::1]:1 ws://localhost wss://a.example ws://a.example ws://10.0.0.1)
      iex> for url <- urls,
      ...>   {:ok, address} = Address.new(url),
      ...>   do: Address.private?(address)
      [true, true, true, false, false]
  """
  @spec private?(t()) :: boolean()
  def private?(%__MODULE__{scheme: :ws, host: host}), do: host == "localhost" or loopback?(host)
  def private?(%__MODULE__{}), do: true

  @doc "Returns whether an IP address is one of loopback."
  @spec loopback?(term()) :: boolean()
  def loopback?({127, _, _, _}), do: true
  def loopback?({0, 0, 0, 0, 0, 0, 0, 1}), do: true
  def loopback?({0, 0, 0, 0, 0, 0xFFFF, high, _}), do: div(high, 256) == 127
  def loopback?(_other), do: false
end
