defmodule Codex.HTTP.Target do
  @moduledoc false
  # URLs of HTTP servers, parsed once.

  alias Codex.OptionError

  @enforce_keys [:scheme, :host, :port, :path, :authority]
  defstruct @enforce_keys

  @typedoc "`path` has the query, too. `authority` leaves out the default port of the scheme."
  @type t :: %__MODULE__{
          scheme: :http | :https,
          host: String.t() | :inet.ip_address(),
          port: :inet.port_number(),
          path: String.t(),
          authority: String.t()
        }

  @expected "an http:// or https:// URL without user and fragment"

  @doc """
  Parses a URL.

      iex> {:ok, target} = Codex.HTTP.Target.new("https://a.example:8443/mcp?x=1")
      iex> {target.scheme, target.host, target.port, target.path}
      {:https, "a.example", 8443, "/mcp?x=1"}
  """
  @spec new(term()) :: {:ok, t()} | {:error, OptionError.t()}
  def new(url) when is_binary(url) do
    # A control character would end the line of the request.
    with true <- String.printable?(url) and not (url =~ ~r/[^\x21-\x7e]/),
         {:ok, %URI{scheme: scheme, userinfo: nil, fragment: nil, host: host} = uri}
         when scheme in ["http", "https"] and host not in [nil, ""] <- URI.new(url),
         true <- uri.port in 1..65_535 do
      {:ok,
       %__MODULE__{
         scheme: if(scheme == "http", do: :http, else: :https),
         host: host(host),
         port: uri.port,
         path: path(uri),
         authority: authority(uri)
       }}
    else
      _ -> {:error, OptionError.argument(:url, shown(url), @expected)}
    end
  end

  def new(url), do: {:error, OptionError.argument(:url, url, @expected)}

  @doc """
  Resolves a reference such as a `Location` header against a target.

      iex> {:ok, target} = Codex.HTTP.Target.new("http://a.example/mcp")
      iex> {:ok, other} = Codex.HTTP.Target.merge(target, "/message?id=1")
      iex> Codex.HTTP.Target.url(other)
      "http://a.example/message?id=1"
  """
  @spec merge(t(), String.t()) :: {:ok, t()} | {:error, OptionError.t()}
  def merge(target, reference) do
    target |> url() |> URI.merge(reference) |> URI.to_string() |> new()
  rescue
    # A reference that is no URI.
    _ -> {:error, OptionError.argument(:url, "[redacted]", @expected)}
  end

  @doc "Returns the URL of a target."
  @spec url(t()) :: String.t()
  def url(target), do: origin(target) <> target.path

  @doc "Returns scheme, host and port, as a URL without path."
  @spec origin(t()) :: String.t()
  def origin(target), do: "#{target.scheme}://#{target.authority}"

  @doc "Returns whether two targets have the same scheme, host and port."
  @spec same_origin?(t(), t()) :: boolean()
  def same_origin?(one, other),
    do: {one.scheme, one.host, one.port} == {other.scheme, other.host, other.port}

  # Secrets may stand before an @, and behind a question mark or a number sign.
  defp shown(url), do: if(url =~ ~r"\A[a-z]+://[^@?#]*\z", do: url, else: "[redacted]")

  defp host(host) do
    case :inet.parse_strict_address(String.to_charlist(host)) do
      {:ok, address} -> address
      {:error, _} -> String.downcase(host)
    end
  end

  defp authority(%URI{scheme: scheme, host: host, port: port}) do
    host = if host =~ ":", do: "[#{host}]", else: String.downcase(host)
    if port == URI.default_port(scheme), do: host, else: "#{host}:#{port}"
  end

  defp path(%URI{path: path, query: query}) do
    path = if path in [nil, ""], do: "/", else: path
    if query, do: path <> "?" <> query, else: path
  end
end
