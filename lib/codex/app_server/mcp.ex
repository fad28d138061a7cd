defmodule Codex.AppServer.Mcp do
  @moduledoc """
  Lists the MCP servers of an app-server, and logs in to them.

  Options, results and errors are those of `Codex.AppServer`; the last argument is the list of
  request options.
  """

  alias Codex.AppServer
  alias Codex.Auth.MCP
  alias Codex.Options.Schema

  @doc """
  Lists the servers with their tools and resources:
  `{:ok, %{"data" => servers, "nextCursor" => cursor}}`.

  Options: `:cursor`, `:limit` and the others of `Codex.AppServer.mcp_server_status_list/3`. A
  server of an older CLI gets the older method.
  """
  @spec list_servers(AppServer.conn(), AppServer.options(), [AppServer.request_option()]) ::
          {:ok, map()} | {:error, AppServer.reason()}
  def list_servers(conn, options \\ [], request_options \\ []) do
    answer = AppServer.mcp_server_status_list(conn, options, request_options)

    with {:error, error} <- answer,
         true <- unknown_method?(error),
         {:ok, params} <- Codex.Protocol.check("ListMcpServerStatusParams", options) do
      AppServer.request(conn, "mcpServers/list", params, request_options)
    else
      _ -> answer
    end
  end

  @doc "Calls `list_servers/3`."
  @spec list_server_statuses(AppServer.conn(), AppServer.options(), [AppServer.request_option()]) ::
          {:ok, map()} | {:error, AppServer.reason()}
  def list_server_statuses(conn, options \\ [], request_options \\ []),
    do: list_servers(conn, options, request_options)

  # -32601, or words about the method with the general code of the CLI.
  defp unknown_method?(%{"code" => -32601}), do: true

  defp unknown_method?(%{"code" => -32600, "message" => message}) when is_binary(message),
    do: message =~ "unknown variant" and message =~ "mcpServerStatus/list"

  defp unknown_method?(_other), do: false

  @doc """
  Starts a login to a server: `{:ok, %{"authorizationUrl" => url}}`. The notification
  `mcpServer/oauthLogin/completed` reports its end.

  Options: `:name` (required), `:scopes` (list of strings), `:timeout_secs` (seconds) and the others
  of `Codex.AppServer.mcp_server_oauth_login/3`.
  """
  @spec oauth_login(AppServer.conn(), AppServer.options(), [AppServer.request_option()]) ::
          {:ok, map()} | {:error, AppServer.reason()}
  def oauth_login(conn, options, request_options \\ []),
    do: AppServer.mcp_server_oauth_login(conn, options, request_options)

  @doc """
  Returns the stored tokens of a server of the configuration: `{:ok, tokens}` (`Codex.Auth.MCP`), or
  `{:ok, nil}`. They are read from the store of the server's CLI, on this machine.

  Options: `:store_mode` (`:file`, `:keyring` or `:auto`, in place of the configured store). Errors:
  `:server_not_found`, `:missing_url` (the server does not use HTTP), those of
  `Codex.Auth.MCP.read/3`, and those of a request.
  """
  @spec oauth_tokens(AppServer.conn(), String.t(), keyword()) ::
          {:ok, MCP.t() | nil}
          | {:error, :server_not_found | :missing_url | Codex.Auth.reason() | AppServer.reason()}
  def oauth_tokens(conn, name, opts \\ []) do
    with {:ok, url, store} <- place(conn, name, opts), do: MCP.read(name, url, store)
  end

  @doc """
  Removes the stored tokens of a server. Returns `:ok`, also if there were no tokens, or the errors
  of `oauth_tokens/3`.
  """
  @spec oauth_logout(AppServer.conn(), String.t(), keyword()) ::
          :ok
          | {:error, :server_not_found | :missing_url | Codex.Auth.reason() | AppServer.reason()}
  def oauth_logout(conn, name, opts \\ []) do
    with {:ok, url, store} <- place(conn, name, opts),
         {:ok, _removed?} <- MCP.delete(name, url, store),
         do: :ok
  end

  @store_mode Schema.new([
                {:store_mode, {:one_of, [:file, :keyring, :auto]}, "the store of the tokens"}
              ])

  defp place(conn, name, opts) do
    opts = Schema.validate!(@store_mode, opts)

    with {:ok, %{"config" => config}} <- AppServer.config_read(conn),
         {:ok, %{} = server} <- server(config, name),
         {:ok, url} <- url(server),
         {:ok, %{"codexHome" => home}} <- AppServer.server_info(conn) do
      store = opts.store_mode || mode(config["mcp_oauth_credentials_store"])
      {:ok, url, [codex_home: home, cwd: false, store: store]}
    end
  end

  defp server(config, name) do
    case config["mcp_servers"] do
      %{^name => server} -> {:ok, server}
      _ -> {:error, :server_not_found}
    end
  end

  defp url(%{"url" => url}) when is_binary(url), do: {:ok, url}
  defp url(_server), do: {:error, :missing_url}

  defp mode("file"), do: :file
  defp mode("keyring"), do: :keyring
  defp mode(_auto), do: :auto
end
