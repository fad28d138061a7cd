defmodule Codex.MCP.OAuth.Refresh do
  @moduledoc false
  # Renews stored tokens, once for all processes and all programs: under the CLI's lock of the
  # login, after reading the store again. A refresh token may work only once.

  alias Codex.Auth.MCP
  alias Codex.MCP.OAuth.{Discovery, Endpoint, Grant, Metadata, Options}

  # As the CLI.
  @skew_ms 30_000

  @doc "Returns whether tokens end within half a minute."
  @spec due?(MCP.t()) :: boolean()
  def due?(%{expires_at: nil}), do: false
  def due?(%{expires_at: at}), do: DateTime.diff(at, DateTime.utc_now(), :millisecond) < @skew_ms

  @doc "Returns whether tokens can be renewed."
  @spec possible?(MCP.t()) :: boolean()
  def possible?(tokens), do: tokens.refresh_token not in [nil, ""]

  @doc """
  Renews tokens, and returns the stored ones.

  `refused` is a token that the server did not accept, or nil to renew those that end soon. If the
  store has other tokens meanwhile, those are returned. `given` are used if the store has none.
  """
  @spec run(String.t(), String.t(), String.t() | nil, MCP.t() | nil, Options.t()) ::
          {:ok, MCP.t()} | {:error, Codex.MCP.OAuth.reason()}
  def run(server, url, refused, given, opts) do
    # The process goes on if the caller ends: the server may have replaced the refresh token
    # already.
    task =
      Task.Supervisor.async_nolink(Codex.TaskSupervisor, fn ->
        MCP.locked(server, url, opts.auth, fn -> locked(server, url, refused, given, opts) end)
      end)

    case Task.yield(task, :infinity) do
      {:ok, result} -> result
      {:exit, _reason} -> {:error, :crashed}
    end
  end

  defp locked(server, url, refused, given, opts) do
    with {:ok, stored} <- MCP.read(server, url, opts.auth) do
      tokens = stored || given

      cond do
        tokens == nil -> {:error, {:oauth_login_required, server}}
        tokens.access_token != refused and not due?(tokens) -> {:ok, tokens}
        not possible?(tokens) -> {:error, {:oauth_login_required, server}}
        true -> renew(tokens, opts)
      end
    end
  end

  defp renew(tokens, opts) do
    challenge = Endpoint.challenge(tokens.url, opts)

    with {:ok, metadata} <- Discovery.find(tokens.url, challenge, tokens.issuer, opts),
         :ok <- same_issuer(tokens, metadata),
         client = Grant.stored_client(tokens, metadata, opts),
         {:ok, answer} <- Grant.refresh(metadata, client, tokens, opts),
         renewed = Grant.tokens(answer, client, tokens),
         :ok <- MCP.write(renewed, opts.auth) do
      {:ok, renewed}
    else
      {:error, {:oauth_token_failed, _status, "invalid_grant"}} ->
        remove(tokens, opts)

      {:error, {:oauth_token_failed, status, code}} ->
        {:error, {:oauth_refresh_failed, status, code}}

      {:error, reason} ->
        {:error, reason}
    end
  end

  # Without an issuer, a refresh token goes to the MCP server's own origin only.
  defp same_issuer(%{issuer: nil} = tokens, metadata) do
    if Metadata.origin(metadata.token) == Metadata.origin(tokens.url),
      do: :ok,
      else: {:error, {:oauth_login_required, tokens.server}}
  end

  defp same_issuer(%{issuer: issuer}, %{issuer: issuer}), do: :ok

  defp same_issuer(tokens, metadata),
    do: {:error, {:oauth_issuer_changed, tokens.issuer, metadata.issuer}}

  # Only here: the server says that the login is over.
  defp remove(tokens, opts) do
    with {:ok, _removed?} <- MCP.delete(tokens.server, tokens.url, opts.auth),
         do: {:error, {:oauth_login_expired, tokens.server}}
  end
end
