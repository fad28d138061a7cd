defmodule Codex.MCP.OAuth.Client do
  @moduledoc false
  # The client of a login: a registered one, a metadata document, or a new registration. It belongs
  # to one issuer, and is never used with another.

  alias Codex.MCP.OAuth.{Authorization, Endpoint, Metadata}

  @derive {Inspect, except: [:secret, :key]}
  @enforce_keys [:issuer, :id]
  defstruct [:issuer, :id, :secret, :key, auth: :none]

  @typedoc """
  A client. `auth` is its way to prove itself at the token endpoint. `key` is a private key in PEM,
  for `:jwt`.
  """
  @type t :: %__MODULE__{
          issuer: String.t(),
          id: String.t(),
          secret: String.t() | nil,
          key: String.t() | nil,
          auth: auth()
        }

  @type auth :: :none | :post | :basic | :jwt

  @type reason ::
          Endpoint.failure()
          | :oauth_client_required
          | {:oauth_issuer_changed, expected :: String.t(), found :: String.t()}
          | {:oauth_registration_failed, status :: integer(), words :: String.t()}
          | {:missing_oauth_field, String.t()}

  @methods %{
    "none" => :none,
    "client_secret_post" => :post,
    "client_secret_basic" => :basic,
    "private_key_jwt" => :jwt
  }
  @names Map.new(@methods, fn {name, auth} -> {auth, name} end)

  @doc "Returns the client for a server. `redirect_uri` and `scopes` are those of a registration."
  @spec find(Metadata.t(), String.t() | nil, [String.t()], map()) ::
          {:ok, t()} | {:error, reason()}
  def find(metadata, redirect_uri, scopes, opts) do
    document = opts.client_metadata_url

    cond do
      opts.client_id ->
        given(metadata, opts)

      document && metadata.client_documents? ->
        {:ok, %__MODULE__{issuer: metadata.issuer, id: document}}

      metadata.register && redirect_uri ->
        register(metadata, redirect_uri, scopes, opts)

      true ->
        {:error, :oauth_client_required}
    end
  end

  defp given(metadata, %{client_issuer: issuer}) when issuer not in [nil, metadata.issuer],
    do: {:error, {:oauth_issuer_changed, issuer, metadata.issuer}}

  defp given(metadata, opts) do
    client = %__MODULE__{
      issuer: metadata.issuer,
      id: opts.client_id,
      secret: opts.client_secret,
      key: opts.private_key
    }

    {:ok, %{client | auth: auth(metadata, client)}}
  end

  @doc """
  Returns the way in which a client proves itself at a server. Without a list, servers take
  `client_secret_basic` (RFC 8414).
  """
  @spec auth(Metadata.t(), t()) :: auth()
  def auth(_metadata, %{key: key}) when key != nil, do: :jwt
  def auth(_metadata, %{secret: nil}), do: :none
  def auth(%{auth_methods: nil}, _client), do: :basic

  def auth(%{auth_methods: methods}, _client) do
    Enum.find([:basic, :post, :none], :basic, &(@names[&1] in methods))
  end

  @doc "Returns an authentication method by its name."
  @spec method(term()) :: auth() | nil
  def method(name), do: @methods[name]

  @doc "Returns the name of an authentication method."
  @spec name(auth()) :: String.t()
  def name(auth), do: @names[auth]

  # --- Registration -------------------------------------------------------------------------------

  defp register(metadata, redirect_uri, scopes, opts) do
    request = request(metadata, redirect_uri, scopes, opts)

    with {:ok, status, answer} <- Endpoint.json(metadata.register, request, opts),
         do: registered(status, answer, request, metadata)
  end

  @doc "Returns the metadata of a new registration (RFC 7591)."
  @spec request(Metadata.t(), String.t(), [String.t()], map()) :: map()
  def request(metadata, redirect_uri, scopes, opts) do
    request = %{
      client_name: opts.client_name,
      redirect_uris: [redirect_uri],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: name(wanted(metadata.auth_methods)),
      application_type: "native"
    }

    if scopes == [], do: request, else: Map.put(request, :scope, Enum.join(scopes, " "))
  end

  # A program on a user's machine cannot keep a secret, so it asks for none if it may.
  defp wanted(nil), do: :none
  defp wanted(methods), do: Enum.find([:none, :basic, :post], :none, &(@names[&1] in methods))

  defp registered(status, %{"client_id" => id} = answer, request, metadata)
       when status in 200..299 and is_binary(id) and id != "" do
    secret = if is_binary(answer["client_secret"]), do: answer["client_secret"]
    client = %__MODULE__{issuer: metadata.issuer, id: id, secret: secret}
    named = method(answer["token_endpoint_auth_method"] || request.token_endpoint_auth_method)
    fits? = named in [:none, :post, :basic] and (secret != nil or named == :none)
    {:ok, %{client | auth: if(fits?, do: named, else: auth(metadata, client))}}
  end

  defp registered(status, _answer, _request, _metadata) when status in 200..299,
    do: {:error, {:missing_oauth_field, "client_id"}}

  defp registered(status, answer, _request, _metadata) do
    description = Authorization.short(answer["error_description"])
    words = [Endpoint.code(answer), description] |> Enum.reject(&(&1 == "")) |> Enum.join(": ")
    {:error, {:oauth_registration_failed, status, words}}
  end
end
