defmodule Codex.MCP.OAuth.Identity do
  @moduledoc false
  # The login of a person at an identity provider, in exchange for an assertion to the authorization
  # server of an MCP server: token exchange (RFC 8693) for an identity assertion JWT.

  alias Codex.MCP.OAuth.{Endpoint, Metadata}
  alias Codex.OptionError

  @exchange "urn:ietf:params:oauth:grant-type:token-exchange"
  @assertion "urn:ietf:params:oauth:token-type:id-jag"
  @id_token "urn:ietf:params:oauth:token-type:id_token"

  @type reason ::
          Endpoint.failure()
          | {:oauth_identity, term()}
          | {:oauth_token_failed, status :: integer(), code :: String.t()}
          | :invalid_oauth_response

  @doc "Checks the options of `grant: :identity`. Raises `Codex.OptionError`."
  @spec check!(map()) :: :ok
  def check!(%{grant: :identity} = opts) do
    for name <- [:identity_url, :identity_client_id, :identity_token, :client_id],
        Map.fetch!(opts, name) == nil,
        do: raise(OptionError.invalid(name, nil, "a value, because of `grant: :identity`"))

    if not Metadata.secure?(opts.identity_url) do
      expected = "an HTTPS URL, or an HTTP URL on this machine"
      raise OptionError.invalid(:identity_url, opts.identity_url, expected)
    end

    :ok
  end

  def check!(_opts), do: :ok

  @doc "Gets an assertion for an authorization server."
  @spec assertion(Metadata.t(), [String.t()], map()) :: {:ok, String.t()} | {:error, reason()}
  def assertion(metadata, scopes, opts) do
    with {:ok, token} <- token(opts.identity_token) do
      fields = [
        grant_type: @exchange,
        requested_token_type: @assertion,
        audience: metadata.issuer,
        resource: metadata.resource,
        subject_token: token,
        subject_token_type: @id_token,
        client_id: opts.identity_client_id
      ]

      scope = if scopes == [], do: [], else: [scope: Enum.join(scopes, " ")]

      with {:ok, status, answer} <- Endpoint.form(opts.identity_url, [], fields ++ scope, opts),
           do: answer(status, answer)
    end
  end

  # Such tokens last minutes, so that a function gets a new token for each login.
  defp token(token) when is_binary(token), do: {:ok, token}

  defp token(fun) do
    case fun.() do
      token when is_binary(token) -> {:ok, token}
      {:ok, token} when is_binary(token) -> {:ok, token}
      {:error, reason} -> {:error, {:oauth_identity, reason}}
      _other -> {:error, {:oauth_identity, :no_token}}
    end
  catch
    # The reason may hold the token.
    _class, _reason -> {:error, {:oauth_identity, :crashed}}
  end

  defp answer(status, answer) when status not in 200..299 or is_map_key(answer, "error"),
    do: {:error, {:oauth_token_failed, status, Endpoint.code(answer)}}

  defp answer(_status, %{"issued_token_type" => @assertion, "access_token" => token})
       when is_binary(token),
       do: {:ok, token}

  defp answer(_status, _other), do: {:error, :invalid_oauth_response}
end
