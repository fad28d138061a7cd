defmodule Codex.MCP.Config do
  @moduledoc """
  Lists, adds, changes and removes the MCP servers of the configuration (`[mcp_servers.<name>]`).

      {:ok, _} = Codex.MCP.Config.add_server(:home, "docs", url: "https://mcp.example.com/mcp")
      {:ok, %{"docs" => %{"url" => _}}} = Codex.MCP.Config.list_servers(:home)
      {:ok, _} = Codex.MCP.Config.disable_server(:home, "docs")

  The first argument is a connection to an app-server, or `:home` for the user's `config.toml` on
  this machine. With `:home`, no CLI runs, and comments and the keys of other servers stay; the
  CLI's own `codex mcp add` and `codex mcp remove` write all servers anew.

  A server is checked before it is written, because one invalid server makes every `codex mcp`
  command and every run fail.
  """

  alias Codex.{AppServer, Config}
  alias Codex.Config.{Error, Key}
  alias Codex.MCP.Config.{Attributes, Shown}
  alias Codex.Options.Schema

  @typedoc "A connection, or `:home` for the user's configuration on this machine."
  @type target :: AppServer.conn() | :home

  @typedoc "A server with the keys of the configuration, as a map, or as a keyword list to write."
  @type server :: %{String.t() => term()}

  @typedoc """
  The reason of a failure:

    * `:missing_server_config` - the server is neither a map nor a keyword list, or empty
    * `:missing_transport` - it has neither `command` nor `url`
    * `:server_not_found` - there is no such server
    * `{:invalid_server_name, name}` - a name has at least one character, and only letters, digits
      and `- _ : @ / .`
    * a `Codex.Config.Error`, or a reason of a request
  """
  @type reason ::
          :missing_server_config
          | :missing_transport
          | :server_not_found
          | {:invalid_server_name, term()}
          | Error.t()
          | AppServer.reason()

  @write [:codex_home, :env, :profile, :expected_version, :timeout]

  @doc """
  Lists the servers by name: `{:ok, %{name => server}}`. Values may be secrets: see `show/2`.

  With `:home`, takes the options of `Codex.Config.load/1`, and lists the servers of all layers.
  With a connection, takes the options of `Codex.AppServer.config_read/3`; `:app_server` is a module
  in place of `Codex.AppServer`.
  """
  @spec list_servers(target(), keyword()) :: {:ok, %{String.t() => server()}} | {:error, reason()}
  def list_servers(target, opts \\ [])

  def list_servers(:home, opts) do
    with {:ok, config} <- Config.load(opts), do: {:ok, Config.get(config, "mcp_servers", %{})}
  end

  def list_servers(conn, opts) do
    {module, opts} = module(opts)

    with {:ok, %{"config" => config}} <- module.config_read(conn, opts) do
      servers = with %{} = config <- config, do: config["mcp_servers"]
      {:ok, if(is_map(servers), do: servers, else: %{})}
    end
  end

  @doc "Returns one server: `{:ok, server}`. Options: those of `list_servers/2`."
  @spec get_server(target(), String.t(), keyword()) :: {:ok, server()} | {:error, reason()}
  def get_server(target, name, opts \\ []) do
    with {:ok, servers} <- list_servers(target, opts) do
      case servers do
        %{^name => server} -> {:ok, server}
        _none -> {:error, :server_not_found}
      end
    end
  end

  @doc """
  Adds a server, or replaces the server of that name.

  `attrs` has the keys of the configuration, as atoms or strings, snake_case or camelCase: `command`
  with `args`, `env`, `env_vars` and `cwd`, or `url` with `bearer_token_env_var`, `http_headers` and
  `env_http_headers`; also `enabled`, `required`, `enabled_tools`, `disabled_tools`,
  `startup_timeout_sec` and `tool_timeout_sec` (seconds). Keys with nil are left out.

  With `:home`, takes `:codex_home`, `:env`, `:profile`, `:expected_version` and `:timeout` of
  `Codex.Config.batch/2` and returns its results. With a connection, takes `:app_server` and the
  options of `Codex.AppServer.config_write/4`, and returns the answer of the server.
  """
  @spec add_server(target(), String.t(), map() | keyword(), keyword()) ::
          {:ok, map()} | {:error, reason()}
  def add_server(target, name, attrs, opts \\ []) do
    with :ok <- named(name),
         {:ok, server} <- Attributes.read(attrs),
         :ok <- Attributes.check(name, server),
         do: write(target, ["mcp_servers", name], server, opts)
  end

  @doc """
  Removes a server. A missing server is no error. Options and results: those of `add_server/4`.
  """
  @spec remove_server(target(), String.t(), keyword()) :: {:ok, map()} | {:error, reason()}
  def remove_server(target, name, opts \\ []) do
    if is_binary(name) and name != "",
      do: write(target, ["mcp_servers", name], nil, opts),
      else: {:error, {:invalid_server_name, name}}
  end

  @doc "Enables a server of the user's configuration. See `disable_server/3`."
  @spec enable_server(target(), String.t(), keyword()) :: {:ok, map()} | {:error, reason()}
  def enable_server(target, name, opts \\ []), do: switch(target, name, true, opts)

  @doc """
  Sets `enabled = false` of a server of the user's configuration. Options and results: those of
  `add_server/4`; a missing server is `:server_not_found`, because `enabled` alone is no server.
  """
  @spec disable_server(target(), String.t(), keyword()) :: {:ok, map()} | {:error, reason()}
  def disable_server(target, name, opts \\ []), do: switch(target, name, false, opts)

  @doc """
  Returns a server in the form of `codex mcp get --json`, as a map with string keys. Values of `env`
  and of `http_headers` are `"*****"`; `secrets: true` shows them.
  """
  @spec show(String.t(), server(), keyword()) :: map()
  def show(name, server, opts \\ [])
      when is_binary(name) and is_map(server) and not is_struct(server),
      do: Shown.of(name, server, opts)

  defp switch(target, name, enabled, opts) do
    reading =
      if target == :home,
        do: [cwd: false] ++ Keyword.take(Schema.pairs!(opts), [:codex_home, :env, :profile]),
        else: Keyword.take(Schema.pairs!(opts), [:app_server])

    with {:ok, _server} <- get_server(target, name, reading),
         do: write(target, ["mcp_servers", name, "enabled"], enabled, opts)
  end

  defp write(:home, path, value, opts) do
    edit = if value == nil, do: {:delete, path}, else: {:put, path, value, :replace}
    Config.batch([edit], Keyword.take(Schema.pairs!(opts), @write))
  end

  defp write(conn, path, value, opts) do
    {module, opts} = module(opts)
    module.config_write(conn, Key.format(path), value, opts)
  end

  defp module(opts) do
    {module, rest} = Enum.split_with(Schema.pairs!(opts), &(elem(&1, 0) == :app_server))
    {Keyword.get(module, :app_server, AppServer), rest}
  end

  defp named(name) do
    if is_binary(name) and name =~ ~r|\A[A-Za-z0-9_:@/.-]+\z|,
      do: :ok,
      else: {:error, {:invalid_server_name, name}}
  end
end
