defmodule Codex.MCP.Configured do
  @moduledoc false
  # A server of the CLI's configuration as options of a client and of a login. Keys that concern
  # only the model of the CLI, such as `startup_readiness` or `default_tools_approval_mode`, are
  # left out.

  alias Codex.Config

  @keys %{
    "command" => :command,
    "args" => :args,
    "env" => :env,
    "cwd" => :cwd,
    "url" => :url,
    "bearer_token_env_var" => :bearer_token_env_var,
    "http_headers" => :http_headers,
    "env_http_headers" => :env_http_headers,
    "http_headers_helper" => :http_headers_helper,
    "enabled_tools" => :enabled_tools,
    "disabled_tools" => :disabled_tools,
    "required" => :required
  }

  # Members whose other values need the CLI itself.
  @supported %{"auth" => ["oauth"], "environment_id" => ["local"]}

  @doc "Returns the options of a client for a server. `opts` are those of `Codex.Config.load/1`."
  @spec options(String.t(), keyword()) :: {:ok, keyword()} | {:error, term()}
  def options(name, opts) do
    with {:ok, config} <- Config.load(opts),
         %{} = server <- Config.get(config, ["mcp_servers", name]),
         :ok <- supported(name, server),
         {:ok, env_vars} <- env_vars(name, server["env_vars"] || []) do
      {:ok, [server_name: name] ++ values(server) ++ env_vars ++ http(config, name, server)}
    else
      nil -> {:error, {:unknown_mcp_server, name}}
      {:error, reason} -> {:error, reason}
    end
  end

  defp supported(name, server) do
    case for {key, values} <- @supported, server[key] not in [nil | values], do: key do
      [] -> :ok
      [key | _] -> unsupported(name, key)
    end
  end

  defp unsupported(name, key),
    do: {:error, {:unsupported_option, :server, Config.Key.format(["mcp_servers", name, key])}}

  defp values(server) do
    known = for {key, value} <- server, name = @keys[key], value != nil, do: {name, value}
    start = ms(server["startup_timeout_sec"], 1000) || ms(server["startup_timeout_ms"], 1)
    tool = ms(server["tool_timeout_sec"], 1000)
    known ++ for {name, ms} <- [timeout_ms: start, tool_timeout_ms: tool], ms, do: {name, ms}
  end

  defp ms(time, unit) when is_number(time) and time > 0, do: max(round(time * unit), 1)
  defp ms(_none, _unit), do: nil

  # Variables of another machine cannot be had.
  defp env_vars(_name, []), do: {:ok, []}

  defp env_vars(name, list) do
    if Enum.any?(list, &match?(%{"source" => "remote"}, &1)),
      do: unsupported(name, "env_vars"),
      else: {:ok, [env_vars: Enum.map(list, &if(is_map(&1), do: &1["name"], else: &1))]}
  end

  # The CLI runs the helper of headers in its home.
  defp http(config, name, %{"url" => _} = server) do
    helper = if server["http_headers_helper"], do: [cwd: config.home], else: []
    login? = server["bearer_token_env_var"] == nil
    helper ++ if login?, do: [oauth: [codex_home: config.home] ++ login(config, name)], else: []
  end

  defp http(_config, _name, _server), do: []

  @doc "Returns the options of `Codex.MCP.OAuth.login/3` that a configuration has for a server."
  @spec login(Config.t(), String.t()) :: keyword()
  def login(config, name) do
    server = Config.get(config, ["mcp_servers", name], %{})
    oauth = server["oauth"] || %{}
    # As the CLI: a registered client returns to the address that it was registered with.
    own = if oauth["client_id"] == nil, do: oauth["callback_url"]

    found = [
      scopes: server["scopes"],
      resource: server["oauth_resource"],
      client_id: oauth["client_id"],
      client_secret: oauth["client_secret"],
      port: oauth["callback_port"] || Config.get(config, "mcp_oauth_callback_port"),
      callback_url: own || Config.get(config, "mcp_oauth_callback_url")
    ]

    for {option, value} <- found, value != nil, do: {option, value}
  end
end
