defmodule Codex.MCP.Protocol do
  @moduledoc false
  # The versions of the protocol, and the messages that open a connection. Versions of the legacy
  # era begin with `initialize`; in the modern era each request has the version in its `_meta`.

  @legacy ~w(2025-11-25 2025-06-18 2025-03-26 2024-11-05)
  @modern "2026-07-28"
  @prefix "io.modelcontextprotocol/"

  @type era :: :legacy | :modern

  @doc "Returns the known versions, the newest first."
  @spec versions() :: [String.t()]
  def versions, do: [@modern | @legacy]

  @doc "Returns the version of the modern era."
  @spec modern() :: String.t()
  def modern, do: @modern

  @doc "Returns the newest version of the legacy era."
  @spec newest_legacy() :: String.t()
  def newest_legacy, do: hd(@legacy)

  @doc "Returns the era of a version, or nil for an unknown version."
  @spec era(term()) :: era() | nil
  def era(@modern), do: :modern
  def era(version) when version in @legacy, do: :legacy
  def era(_version), do: nil

  @doc "Returns the newest version of the legacy era in a list of the server, or nil."
  @spec common(term()) :: String.t() | nil
  def common(list), do: if(is_list(list), do: Enum.find(@legacy, &(&1 in list)))

  @doc "Returns the request that opens a connection: its caller, method and parameters."
  @spec opening(:discover | {:initialize, String.t()}, map()) :: {atom(), String.t(), map()}
  def opening(:discover, options), do: {:discover, "server/discover", with_meta(%{}, options)}

  def opening({:initialize, version}, options) do
    params = %{
      "protocolVersion" => version,
      "capabilities" => options.capabilities,
      "clientInfo" => options.client_info
    }

    {:initialize, "initialize", params}
  end

  @doc "Adds to parameters what each request of the modern era has."
  @spec with_meta(map() | nil, map()) :: map()
  def with_meta(params, options) do
    meta = %{
      (@prefix <> "protocolVersion") => @modern,
      (@prefix <> "clientCapabilities") => options.capabilities,
      (@prefix <> "clientInfo") => options.client_info
    }

    level = options[:log_level]
    meta = if level, do: Map.put(meta, @prefix <> "logLevel", level), else: meta
    Map.update(params || %{}, "_meta", meta, &Map.merge(&1, meta))
  end

  @doc "Returns the description of a server from its answer to `initialize` or `server/discover`."
  @spec server(map()) :: {:ok, map()} | {:error, :invalid_capabilities}
  def server(%{"capabilities" => %{} = capabilities} = result) do
    info = result["serverInfo"] || get_in(result, ["_meta", @prefix <> "serverInfo"])
    info = if is_map(info), do: info, else: %{}
    {:ok, %{capabilities: capabilities, info: info, instructions: result["instructions"]}}
  end

  def server(_result), do: {:error, :invalid_capabilities}

  @doc """
  Returns the next step after a failed `server/discover`: the same again, for a server that supports
  the version that it refused, `initialize` with a version, or the end.
  """
  @spec after_discover(term()) :: :again | {:initialize, String.t()} | :fail
  def after_discover(%{"code" => -32_022} = error) do
    supported = with %{"data" => %{"supported" => list}} when is_list(list) <- error, do: list
    version = common(supported)

    cond do
      is_list(supported) and @modern in supported -> :again
      version != nil -> {:initialize, version}
      true -> :fail
    end
  end

  def after_discover(%{"code" => code}) when code in [-32_020, -32_021], do: :fail
  def after_discover(%{}), do: {:initialize, newest_legacy()}
  def after_discover(:timeout), do: {:initialize, newest_legacy()}

  def after_discover({:http_error, status, _})
      when status in 400..499 and status not in [401, 403],
      do: {:initialize, newest_legacy()}

  def after_discover(_reason), do: :fail
end
