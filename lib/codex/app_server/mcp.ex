defmodule Codex.AppServer.Mcp do
  @moduledoc """
  The MCP servers of an app-server's configuration.

  Options, results and errors are those of `Codex.AppServer`; the last argument are the options of the request.
  """

  alias Codex.AppServer

  @doc """
  The servers and what they offer: `{:ok, %{"data" => servers, "nextCursor" => cursor}}`.

  Options: `:cursor`, `:limit` and what else `Codex.AppServer.mcp_server_status_list/3` takes. A server of an older CLI is asked as
  that one knows it.
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

  @doc "The same as `list_servers/3`."
  @spec list_server_statuses(AppServer.conn(), AppServer.options(), [AppServer.request_option()]) ::
          {:ok, map()} | {:error, AppServer.reason()}
  def list_server_statuses(conn, options \\ [], request_options \\ []),
    do: list_servers(conn, options, request_options)

  # -32601, or words about the method under the code that the CLI has for nearly everything.
  defp unknown_method?(%{"code" => -32601}), do: true

  defp unknown_method?(%{"code" => -32600, "message" => message}) when is_binary(message),
    do: message =~ "unknown variant" and message =~ "mcpServerStatus/list"

  defp unknown_method?(_other), do: false

  @doc """
  Begins a login to a server: `{:ok, %{"authorizationUrl" => url}}`. The end comes as the notification
  `mcpServer/oauthLogin/completed`.

  Options: `:name` (required), `:scopes` (list of text), `:timeout_secs` (seconds) and what else
  `Codex.AppServer.mcp_server_oauth_login/3` takes.
  """
  @spec oauth_login(AppServer.conn(), AppServer.options(), [AppServer.request_option()]) ::
          {:ok, map()} | {:error, AppServer.reason()}
  def oauth_login(conn, options, request_options \\ []),
    do: AppServer.mcp_server_oauth_login(conn, options, request_options)
end
