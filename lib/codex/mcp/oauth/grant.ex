defmodule Codex.MCP.OAuth.Grant do
  @moduledoc false
  # Requests to the token endpoint: a code, a refresh token, an assertion or the client itself in
  # exchange for tokens.

  alias Codex.Auth.MCP
  alias Codex.JSON
  alias Codex.MCP.OAuth.{Assertion, Authorization, Client, Endpoint, Metadata}

  @assertion "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
  # Members of a stored entry that the CLI has no place for, in one object.
  @own "codex_sdk_client"

  @type reason ::
          Endpoint.failure()
          | {:oauth_token_failed, status :: integer(), code :: String.t()}
          | {:oauth_client_key, String.t()}
          | {:missing_oauth_field, String.t()}
          | :invalid_oauth_response

  @doc "Exchanges a code."
  @spec code(Authorization.t(), Client.t(), String.t(), map()) ::
          {:ok, map()} | {:error, reason()}
  def code(request, client, code, opts) do
    fields = [
      grant_type: "authorization_code",
      code: code,
      code_verifier: request.verifier,
      redirect_uri: request.redirect_uri
    ]

    ask(request.metadata, client, fields, opts)
  end

  @doc "Exchanges a refresh token."
  @spec refresh(Metadata.t(), Client.t(), MCP.t(), map()) :: {:ok, map()} | {:error, reason()}
  def refresh(metadata, client, tokens, opts) do
    fields = [grant_type: "refresh_token", refresh_token: tokens.refresh_token]
    ask(metadata, client, fields ++ scope(tokens.scopes), opts)
  end

  @doc "Gets tokens for the client itself, without a person."
  @spec client(Metadata.t(), Client.t(), [String.t()], map()) :: {:ok, map()} | {:error, reason()}
  def client(metadata, client, scopes, opts),
    do: ask(metadata, client, [grant_type: "client_credentials"] ++ scope(scopes), opts)

  @doc "Exchanges an assertion of an identity provider (RFC 7523)."
  @spec assertion(Metadata.t(), Client.t(), String.t(), [String.t()], map()) ::
          {:ok, map()} | {:error, reason()}
  def assertion(metadata, client, assertion, scopes, opts) do
    fields = [grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", assertion: assertion]
    ask(metadata, client, fields ++ scope(scopes), opts)
  end

  @doc "Makes the stored form of an answer. `before` are the tokens that it replaces."
  @spec tokens(map(), Client.t(), MCP.t()) :: MCP.t()
  def tokens(answer, client, before) do
    %{
      before
      | client_id: client.id,
        issuer: client.issuer,
        access_token: answer["access_token"],
        refresh_token: text(answer["refresh_token"]) || before.refresh_token,
        expires_at: expires_at(answer["expires_in"]),
        scopes: scopes(answer["scope"]) || before.scopes,
        document: document(client, before.document)
    }
  end

  @doc "Returns the client of stored tokens."
  @spec stored_client(MCP.t(), Metadata.t(), map()) :: Client.t()
  def stored_client(tokens, metadata, opts) do
    client = %Client{issuer: metadata.issuer, id: tokens.client_id}

    case own(tokens.document) do
      %{"client_id" => id, "client_secret" => secret} = own
      when id == tokens.client_id and is_binary(secret) ->
        %{client | secret: secret, auth: Client.method(own["auth"]) || :basic}

      _other ->
        given = opts.client_id == client.id
        secret = if given, do: opts.client_secret
        key = if given, do: opts.private_key
        client = %{client | secret: secret, key: key}
        %{client | auth: Client.auth(metadata, client)}
    end
  end

  # --- Request ------------------------------------------------------------------------------------

  defp ask(metadata, client, fields, opts) do
    with {:ok, headers, proof} <- proof(client, metadata),
         fields = fields ++ proof ++ [resource: metadata.resource],
         {:ok, status, answer} <- Endpoint.form(metadata.token, headers, fields, opts),
         do: answer(status, answer)
  end

  defp proof(%{auth: :none} = client, _metadata), do: {:ok, [], [client_id: client.id]}

  defp proof(%{auth: :post} = client, _metadata),
    do: {:ok, [], [client_id: client.id, client_secret: client.secret]}

  defp proof(%{auth: :basic} = client, _metadata) do
    pair = URI.encode_www_form(client.id) <> ":" <> URI.encode_www_form(client.secret)
    {:ok, [{"authorization", "Basic " <> Base.encode64(pair)}], []}
  end

  defp proof(%{auth: :jwt} = client, metadata) do
    with {:ok, jwt} <- Assertion.new(client, metadata.issuer) do
      {:ok, [], [client_id: client.id, client_assertion_type: @assertion, client_assertion: jwt]}
    end
  end

  defp scope([]), do: []
  defp scope(scopes), do: [scope: Enum.join(scopes, " ")]

  # --- Answer -------------------------------------------------------------------------------------

  @doc """
  Checks an answer of a token endpoint.

      iex> alias Codex.MCP.OAuth.Grant
      iex> Grant.answer(400, %{"error" => "invalid_grant"})
      {:error, {:oauth_token_failed, 400, "invalid_grant"}}
      iex> Grant.answer(200, %{"token_type" => "Bearer"})
      {:error, {:missing_oauth_field, "access_token"}}
  """
  @spec answer(integer(), map()) :: {:ok, map()} | {:error, reason()}
  def answer(status, answer) when status not in 200..299 or is_map_key(answer, "error"),
    do: {:error, {:oauth_token_failed, status, Endpoint.code(answer)}}

  def answer(_status, answer) do
    cond do
      text(answer["access_token"]) == nil -> {:error, {:missing_oauth_field, "access_token"}}
      not header?(answer["access_token"]) -> {:error, :invalid_oauth_response}
      not bearer?(answer["token_type"]) -> {:error, :invalid_oauth_response}
      true -> {:ok, answer}
    end
  end

  defp bearer?(nil), do: true
  defp bearer?(type), do: is_binary(type) and String.downcase(type) == "bearer"

  # The token becomes a header: no line ends, no spaces.
  defp header?(token), do: token =~ ~r/\A[\x21-\x7e]+\z/

  defp expires_at(seconds) when is_integer(seconds) and seconds in 0..3_155_760_000,
    do: DateTime.add(now(), seconds, :second)

  defp expires_at(seconds) when is_float(seconds) and seconds > 0 and seconds < 3.0e9,
    do: expires_at(trunc(seconds))

  defp expires_at(seconds) when is_binary(seconds) and byte_size(seconds) < 12 do
    case Integer.parse(seconds) do
      {seconds, ""} -> expires_at(seconds)
      _other -> nil
    end
  end

  defp expires_at(_other), do: nil

  defp now, do: DateTime.truncate(DateTime.utc_now(), :millisecond)

  defp scopes(scope) when is_binary(scope) and scope != "", do: String.split(scope)
  defp scopes(_other), do: nil

  defp text(value), do: if(is_binary(value) and value != "" and String.valid?(value), do: value)

  # --- Stored client ------------------------------------------------------------------------------

  # Kept with its client id: the CLI may log in with another client, and keeps what it does not
  # know.
  defp document(client, document) do
    case decode(document) do
      own when client.secret == nil and own == %{} -> document
      members -> JSON.encode!(Map.put(members, @own, own_members(client)))
    end
  end

  defp own_members(%{secret: nil}), do: %{}

  defp own_members(client),
    do: %{client_id: client.id, client_secret: client.secret, auth: Client.name(client.auth)}

  defp own(document), do: decode(document)[@own]

  defp decode(nil), do: %{}

  defp decode(document) do
    case JSON.decode(document) do
      {:ok, %{} = members} -> members
      _other -> %{}
    end
  end
end
