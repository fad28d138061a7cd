defmodule Codex.MCP.OAuth.Metadata do
  @moduledoc false
  # The documents that describe a protected resource (RFC 9728) and an authorization server
  # (RFC 8414, OpenID Connect): the URLs to try, and the checks of their content. Without IO.

  @enforce_keys [:resource, :issuer, :authorize, :token]
  defstruct [
    :resource,
    :issuer,
    :authorize,
    :token,
    :register,
    auth_methods: nil,
    scopes: [],
    server_scopes: [],
    client_documents?: false,
    iss?: false
  ]

  @typedoc """
  The facts that a login needs. `resource` is sent exactly as published. `scopes` are those of the
  resource, `server_scopes` those of the authorization server. `auth_methods` is nil if the server
  does not list them. `iss?`: every answer to a redirect has the issuer.
  """
  @type t :: %__MODULE__{
          resource: String.t(),
          issuer: String.t(),
          authorize: String.t() | nil,
          token: String.t(),
          register: String.t() | nil,
          auth_methods: [String.t()] | nil,
          scopes: [String.t()],
          server_scopes: [String.t()],
          client_documents?: boolean(),
          iss?: boolean()
        }

  @typedoc "A document of a protected resource, checked."
  @type resource :: %{
          resource: String.t(),
          issuers: [String.t()],
          scopes: [String.t()]
        }

  @type problem ::
          :resource_mismatch | :issuer_mismatch | :no_pkce | :insecure_url | :missing_endpoint

  @doc """
  Returns the addresses of a resource's document, the most specific first.

      iex> Codex.MCP.OAuth.Metadata.resource_urls("https://a.example/mcp")
      ["https://a.example/.well-known/oauth-protected-resource/mcp",
       "https://a.example/.well-known/oauth-protected-resource"]
  """
  @spec resource_urls(String.t()) :: [String.t()]
  def resource_urls(url) do
    base = origin(url) <> "/.well-known/oauth-protected-resource"
    Enum.uniq([base <> path(url), base])
  end

  @doc """
  Returns the addresses of an authorization server's document, in the order of the specification.

      iex> Codex.MCP.OAuth.Metadata.server_urls("https://a.example/tenant")
      ["https://a.example/.well-known/oauth-authorization-server/tenant",
       "https://a.example/.well-known/openid-configuration/tenant",
       "https://a.example/tenant/.well-known/openid-configuration"]
  """
  @spec server_urls(String.t()) :: [String.t()]
  def server_urls(issuer) do
    {origin, path} = {origin(issuer), path(issuer)}

    Enum.uniq([
      origin <> "/.well-known/oauth-authorization-server" <> path,
      origin <> "/.well-known/openid-configuration" <> path,
      origin <> path <> "/.well-known/openid-configuration"
    ])
  end

  @doc "Checks the document of a resource: it must cover the URL of the MCP server."
  @spec resource(map(), String.t()) :: {:ok, resource()} | {:problem, problem()}
  def resource(%{"resource" => resource} = document, url) when is_binary(resource) do
    if covers?(resource, url) do
      {:ok,
       %{
         resource: resource,
         issuers: texts(document["authorization_servers"]) || [],
         scopes: texts(document["scopes_supported"]) || []
       }}
    else
      {:problem, :resource_mismatch}
    end
  end

  def resource(_document, _url), do: {:problem, :resource_mismatch}

  @doc """
  Returns whether a published resource covers a URL: the same origin, and the same path or a folder
  of it.

      iex> alias Codex.MCP.OAuth.Metadata
      iex> {Metadata.covers?("https://a.example", "https://a.example/mcp"),
      ...>  Metadata.covers?("https://a.example/mc", "https://a.example/mcp")}
      {true, false}
  """
  @spec covers?(String.t(), String.t()) :: boolean()
  def covers?(resource, url) do
    {folder, path} = {path(resource), path(url)}
    query = parse(resource).query

    web?(resource) and origin(resource) == origin(url) and
      (query == nil or query == parse(url).query) and
      (path == folder or String.starts_with?(path, folder <> "/"))
  end

  @doc """
  Checks the document of an authorization server against the issuer that was asked. `given` are the
  facts of the resource.

  A server without a document of a resource has no published issuer: `:derived` accepts every path
  of the origin that was asked.
  """
  @spec server(map(), String.t(), :published | :derived, resource()) ::
          {:ok, t()} | {:problem, problem()}
  def server(document, asked, how, given) do
    issuer = document["issuer"]
    methods = texts(document["code_challenge_methods_supported"]) || []

    facts = %__MODULE__{
      resource: given.resource,
      issuer: issuer,
      scopes: given.scopes,
      authorize: text(document["authorization_endpoint"]),
      token: text(document["token_endpoint"]),
      register: text(document["registration_endpoint"]),
      auth_methods: texts(document["token_endpoint_auth_methods_supported"]),
      server_scopes: texts(document["scopes_supported"]) || [],
      client_documents?: document["client_id_metadata_document_supported"] == true,
      iss?: document["authorization_response_iss_parameter_supported"] == true
    }

    cond do
      not same_issuer?(issuer, asked, how) -> {:problem, :issuer_mismatch}
      facts.token == nil -> {:problem, :missing_endpoint}
      not Enum.all?(endpoints(facts), &secure?/1) -> {:problem, :insecure_url}
      facts.authorize != nil and "S256" not in methods -> {:problem, :no_pkce}
      true -> {:ok, facts}
    end
  end

  @doc "Returns the facts of a server of 2025-03-26 without any document: paths of its own origin."
  @spec undescribed(String.t()) :: {:ok, t()} | {:problem, problem()}
  def undescribed(url) do
    origin = origin(url)

    facts = %__MODULE__{
      resource: without_fragment(url),
      issuer: origin,
      authorize: origin <> "/authorize",
      token: origin <> "/token",
      register: origin <> "/register"
    }

    if secure?(origin), do: {:ok, facts}, else: {:problem, :insecure_url}
  end

  @doc "Returns the facts of a resource without a document: its own origin is the issuer."
  @spec own_issuer(String.t()) :: resource()
  def own_issuer(url), do: %{resource: without_fragment(url), issuers: [origin(url)], scopes: []}

  @doc """
  Returns whether tokens and codes may be sent to a URL: HTTPS, or HTTP on this machine.

      iex> Enum.map(["https://a.example", "http://127.0.0.1:80/x", "http://a.example", "file:///x"],
      ...>   &Codex.MCP.OAuth.Metadata.secure?/1)
      [true, true, false, false]
  """
  @spec secure?(String.t()) :: boolean()
  def secure?(url) do
    case parse(url) do
      %{scheme: "https", host: host} -> host not in [nil, ""]
      %{scheme: "http", host: host} -> loopback?(host)
      _other -> false
    end
  end

  @doc "Returns scheme, host and port of a URL."
  @spec origin(String.t()) :: String.t()
  def origin(url) do
    uri = parse(url)
    host = String.downcase(uri.host || "")
    host = if String.contains?(host, ":"), do: "[#{host}]", else: host
    port = if uri.port in [nil, URI.default_port(uri.scheme || "")], do: "", else: ":#{uri.port}"
    "#{uri.scheme}://#{host}#{port}"
  end

  @doc "Returns whether a text is the URL of a web page with a host."
  @spec web?(String.t()) :: boolean()
  def web?(url) do
    uri = parse(url)
    uri.scheme in ["http", "https"] and uri.host not in [nil, ""]
  end

  defp same_issuer?(issuer, asked, :published), do: is_binary(issuer) and issuer == asked

  defp same_issuer?(issuer, asked, :derived),
    do: is_binary(issuer) and web?(issuer) and origin(issuer) == origin(asked)

  defp endpoints(facts),
    do: Enum.reject([facts.authorize, facts.token, facts.register], &is_nil/1)

  defp loopback?("localhost"), do: true

  defp loopback?(host) when is_binary(host) do
    case :inet.parse_strict_address(String.to_charlist(host)) do
      {:ok, {127, _, _, _}} -> true
      {:ok, {0, 0, 0, 0, 0, 0, 0, 1}} -> true
      _other -> false
    end
  end

  defp loopback?(nil), do: false

  defp path(url), do: String.trim_trailing(parse(url).path || "", "/")
  defp without_fragment(url), do: url |> String.split("#", parts: 2) |> hd()

  defp parse(url) do
    case URI.new(url) do
      {:ok, uri} -> uri
      {:error, _part} -> %URI{}
    end
  end

  defp text(value), do: if(is_binary(value) and value != "", do: value)

  defp texts(list) do
    if is_list(list), do: Enum.filter(list, &(is_binary(&1) and &1 != ""))
  end
end
