defmodule Codex.HTTP.Proxy do
  @moduledoc false
  # Proxies of the environment: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, each also
  # in lower case. The lower case wins. Loopback is always reached directly.

  import Bitwise

  alias Codex.HTTP.Target

  @enforce_keys [:host, :port]
  @derive {Inspect, only: [:host, :port]}
  defstruct [:host, :port, :authorization]

  @type t :: %__MODULE__{
          host: String.t() | :inet.ip_address(),
          port: :inet.port_number(),
          authorization: String.t() | nil
        }

  @doc """
  Returns the proxy for a target, or nil. Takes the environment as a function from a name to its
  value or nil.

      iex> env = %{"https_proxy" => "http://proxy.example:3128", "NO_PROXY" => ".corp.example"}
      iex> {:ok, target} = Codex.HTTP.Target.new("https://a.example")
      iex> {:ok, proxy} = Codex.HTTP.Proxy.find(target, &env[&1])
      iex> {proxy.host, proxy.port}
      {"proxy.example", 3128}
      iex> {:ok, target} = Codex.HTTP.Target.new("https://git.corp.example")
      iex> Codex.HTTP.Proxy.find(target, &env[&1])
      {:ok, nil}
  """
  @spec find(Target.t(), (String.t() -> String.t() | nil)) ::
          {:ok, t() | nil} | {:error, {:invalid_proxy, String.t()}}
  def find(target, env \\ &System.get_env/1) do
    case variable(target.scheme, env) do
      nil -> {:ok, nil}
      {name, url} -> if direct?(target, env), do: {:ok, nil}, else: parse(name, url)
    end
  end

  defp variable(:https, env), do: first(~w(https_proxy HTTPS_PROXY all_proxy ALL_PROXY), env)

  # A CGI program gets the header `Proxy` of a request as HTTP_PROXY.
  defp variable(:http, env) do
    names = if env.("REQUEST_METHOD"), do: ~w(http_proxy), else: ~w(http_proxy HTTP_PROXY)
    first(names ++ ~w(all_proxy ALL_PROXY), env)
  end

  defp first(names, env) do
    Enum.find_value(names, fn name ->
      value = env.(name)
      if value not in [nil, ""], do: {name, value}
    end)
  end

  defp parse(name, url) do
    url = if url =~ "://", do: url, else: "http://" <> url

    case URI.new(url) do
      {:ok, %URI{scheme: "http", host: host} = uri} when host not in [nil, ""] ->
        {:ok, %__MODULE__{host: host(host), port: uri.port, authorization: basic(uri.userinfo)}}

      _ ->
        {:error, {:invalid_proxy, name}}
    end
  end

  defp basic(nil), do: nil
  defp basic(user), do: "Basic " <> Base.encode64(URI.decode(user))

  defp host(host) do
    case address(host) do
      {:ok, address} -> address
      {:error, _} -> host
    end
  end

  defp direct?(%Target{host: host, port: port}, env) do
    list =
      case first(~w(no_proxy NO_PROXY), env) do
        {_name, list} -> String.split(list, [",", " "], trim: true)
        nil -> []
      end

    loopback?(host) or Enum.any?(list, &excluded?(String.downcase(&1), host, port))
  end

  defp loopback?(host) when is_binary(host), do: host == "localhost"
  defp loopback?({127, _, _, _}), do: true
  defp loopback?(address), do: address == {0, 0, 0, 0, 0, 0, 0, 1}

  defp excluded?("*", _host, _port), do: true

  defp excluded?(entry, host, port) when is_binary(host) do
    {name, wanted} = split(entry)
    name = name |> String.trim_leading("*") |> String.trim_leading(".")
    wanted in [nil, port] and (host == name or String.ends_with?(host, "." <> name))
  end

  defp excluded?(entry, address, port) do
    case String.split(entry, "/") do
      [network, bits] ->
        within?(address, address(network), Integer.parse(bits))

      [_] ->
        {name, wanted} = split(entry)
        {:ok, address} in [address(entry), address(name)] and wanted in [nil, port]
    end
  end

  defp split(entry) do
    with [name, port] <- String.split(entry, ":"),
         {port, ""} <- Integer.parse(port) do
      {name, port}
    else
      _ -> {entry, nil}
    end
  end

  defp within?(address, {:ok, network}, {bits, ""})
       when tuple_size(address) == tuple_size(network) and bits >= 0 do
    width = if tuple_size(address) == 4, do: 8, else: 16
    other = width * tuple_size(address) - bits
    other >= 0 and number(address, width) >>> other == number(network, width) >>> other
  end

  defp within?(_address, _network, _bits), do: false

  defp number(address, width),
    do: address |> Tuple.to_list() |> Enum.reduce(0, &((&2 <<< width) + &1))

  defp address(text), do: text |> String.to_charlist() |> :inet.parse_strict_address()
end
