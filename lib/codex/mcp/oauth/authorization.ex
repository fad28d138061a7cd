defmodule Codex.MCP.OAuth.Authorization do
  @moduledoc false
  # The browser's part of a login, without IO: PKCE, the address to open, the address to return to,
  # and the checks of the answer.

  alias Codex.MCP.OAuth.Metadata
  alias Codex.Text

  @derive {Inspect, except: [:state, :verifier]}
  @enforce_keys [:metadata, :client_id, :redirect_uri, :scopes, :state, :verifier]
  defstruct @enforce_keys

  @typedoc "A request for a code. `state` and `verifier` are random."
  @type t :: %__MODULE__{
          metadata: Metadata.t(),
          client_id: String.t(),
          redirect_uri: String.t(),
          scopes: [String.t()],
          state: String.t(),
          verifier: String.t()
        }

  @type problem :: :state_mismatch | :issuer_mismatch | :missing_issuer | :missing_code
  @type denied :: {:oauth_denied, error :: String.t(), description :: String.t()}

  @doc "Makes a request with a new state and a new verifier."
  @spec new(Metadata.t(), String.t(), String.t(), [String.t()]) :: t()
  def new(metadata, client_id, redirect_uri, scopes) do
    %__MODULE__{
      metadata: metadata,
      client_id: client_id,
      redirect_uri: redirect_uri,
      scopes: scopes,
      state: random(16),
      verifier: random(32)
    }
  end

  @doc "Returns the address that the browser opens."
  @spec url(t()) :: String.t()
  def url(request) do
    uri = URI.parse(request.metadata.authorize)

    query = [
      response_type: "code",
      client_id: request.client_id,
      state: request.state,
      code_challenge: challenge(request.verifier),
      code_challenge_method: "S256",
      redirect_uri: request.redirect_uri
    ]

    scope = if request.scopes != [], do: [scope: Enum.join(request.scopes, " ")], else: []
    query = URI.encode_query(query ++ scope ++ [resource: request.metadata.resource])
    own = if uri.query in [nil, ""], do: "", else: uri.query <> "&"
    URI.to_string(%{uri | query: own <> query, fragment: nil})
  end

  @doc """
  Returns the S256 challenge of a verifier.

      iex> Codex.MCP.OAuth.Authorization.challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
      "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
  """
  @spec challenge(String.t()) :: String.t()
  def challenge(verifier), do: encode(:crypto.hash(:sha256, verifier))

  @doc """
  Returns the path to return to, the CLI's: it belongs to one MCP server, so that an authorization
  server cannot answer a login at another.

      iex> Codex.MCP.OAuth.Authorization.callback_path("http://127.0.0.1:33725/mcp")
      "/callback/SpbrHytTKz_D"
  """
  @spec callback_path(String.t()) :: String.t()
  def callback_path(url) do
    uri = URI.parse(url)
    host = String.downcase(uri.host || "")
    url = URI.to_string(%{uri | fragment: nil, path: uri.path || "/", host: host})
    "/callback/" <> encode(binary_part(:crypto.hash(:sha256, url), 0, 9))
  end

  @doc """
  Returns the path of the address to return to. `base` is the option `:callback_url`.

      iex> alias Codex.MCP.OAuth.Authorization
      iex> Authorization.return_path("http://127.0.0.1:33725/mcp", "https://shop.example/oauth/")
      "/oauth/SpbrHytTKz_D"
  """
  @spec return_path(String.t(), String.t() | nil) :: String.t()
  def return_path(url, nil), do: callback_path(url)

  def return_path(url, base) do
    path = String.trim_trailing(URI.parse(base).path || "", "/")
    "/callback" <> own = callback_path(url)
    path <> own
  end

  @doc """
  Returns the address to return to. `local` is that of the port on 127.0.0.1.

      iex> alias Codex.MCP.OAuth.Authorization
      iex> Authorization.redirect_uri("https://shop.example/oauth", "http://127.0.0.1:81/oauth/a")
      "https://shop.example/oauth/a"
      iex> Authorization.redirect_uri("http://127.0.0.1/oauth", "http://127.0.0.1:81/oauth/a")
      "http://127.0.0.1:81/oauth/a"
  """
  @spec redirect_uri(String.t() | nil, String.t()) :: String.t()
  def redirect_uri(nil, local), do: local

  def redirect_uri(base, local) do
    {uri, local} = {URI.parse(base), URI.parse(local)}
    port = if return_port(base) == 0, do: local.port, else: uri.port
    URI.to_string(%{uri | path: local.path, port: port})
  end

  @doc "Returns the port on this machine that an address names: 0 without one, nil for a proxy's."
  @spec return_port(String.t() | nil) :: :inet.port_number() | nil
  def return_port(nil), do: 0

  def return_port(base) do
    uri = URI.parse(base)

    cond do
      uri.host not in ["127.0.0.1", "localhost"] -> nil
      base =~ ~r"\A\w+://[^/?#]*:\d" -> uri.port
      true -> 0
    end
  end

  @doc """
  Checks the answer that came back with the browser, and returns its code.

  The state is compared first, then the issuer (RFC 9207), also of an answer that is an error.
  """
  @spec code(t(), String.t()) ::
          {:ok, String.t()} | {:error, {:oauth_callback, problem()} | denied()}
  def code(request, query) do
    answer = answer(query)

    cond do
      not same?(answer["state"], request.state) -> {:error, {:oauth_callback, :state_mismatch}}
      problem = issuer(request.metadata, answer["iss"]) -> {:error, {:oauth_callback, problem}}
      is_map_key(answer, "error") -> {:error, denied(answer)}
      answer["code"] in [nil, ""] -> {:error, {:oauth_callback, :missing_code}}
      true -> {:ok, answer["code"]}
    end
  end

  defp issuer(%{iss?: true}, nil), do: :missing_issuer
  defp issuer(_metadata, nil), do: nil
  # Plain strings: a final slash or another case is another issuer.
  defp issuer(%{issuer: issuer}, issuer), do: nil
  defp issuer(_metadata, _other), do: :issuer_mismatch

  defp denied(answer) do
    {:oauth_denied, short(answer["error"]), short(answer["error_description"] || "")}
  end

  @doc "Cuts a text of a server to a line that may be shown."
  @spec short(term()) :: String.t()
  def short(text) when is_binary(text) do
    if String.valid?(text), do: text |> String.slice(0, 200) |> Text.line(), else: ""
  end

  def short(_other), do: ""

  # A repeated parameter is invalid, and counts as missing.
  defp answer(query) do
    pairs = query |> URI.query_decoder() |> Enum.take(64)
    once = Enum.frequencies_by(pairs, &elem(&1, 0))
    for {key, value} <- pairs, once[key] == 1, String.valid?(value), into: %{}, do: {key, value}
  rescue
    # An invalid percent sign.
    ArgumentError -> %{}
  end

  defp same?(given, state) when is_binary(given) and byte_size(given) == byte_size(state),
    do: :crypto.hash_equals(given, state)

  defp same?(_given, _state), do: false

  defp random(bytes), do: encode(:crypto.strong_rand_bytes(bytes))
  defp encode(bytes), do: Base.url_encode64(bytes, padding: false)

  @doc """
  Returns the scopes to ask for: `wanted` of the caller, those of the challenge, or those of the
  resource; with `offline_access` if the authorization server lists it, for a refresh token.

      iex> alias Codex.MCP.OAuth.{Authorization, Metadata}
      iex> metadata = %Metadata{resource: "r", issuer: "i", authorize: "a", token: "t",
      ...>   scopes: ["read"], server_scopes: ["read", "offline_access"]}
      iex> Authorization.scopes(metadata, nil, nil)
      ["read", "offline_access"]
      iex> Authorization.scopes(metadata, nil, "write read")
      ["write", "read", "offline_access"]
  """
  @spec scopes(Metadata.t(), [String.t()] | nil, String.t() | nil) :: [String.t()]
  def scopes(metadata, wanted, challenged) do
    scopes = wanted || (challenged && String.split(challenged)) || metadata.scopes
    # Alone it would replace the scopes that a server grants without any.
    offline =
      if scopes == [],
        do: [],
        else: Enum.filter(["offline_access"], &(&1 in metadata.server_scopes))

    Enum.uniq(scopes ++ offline)
  end
end
