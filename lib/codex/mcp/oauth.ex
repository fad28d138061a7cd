defmodule Codex.MCP.OAuth do
  @moduledoc """
  Logs in to MCP servers over HTTP with OAuth 2.1, and keeps their tokens where the CLI keeps them.

      {:ok, _tokens} = Codex.MCP.OAuth.login("web", "https://mcp.example.com/mcp")
      {:ok, %{state: :logged_in}} = Codex.MCP.OAuth.status("web", "https://mcp.example.com/mcp")

  A login of `codex mcp login` works here, and a login made here works for the CLI. A server is its
  name in the configuration together with its URL; `Codex.Auth.MCP` describes the store.

  `login/3` finds the authorization server by the documents that the MCP server publishes, makes or
  takes a client there, opens a browser, and waits on 127.0.0.1 for its return. It checks:

    * that the published resource covers the URL, and sends it exactly as published
    * that the issuer of the authorization server's document is the one that was asked
    * that the server supports PKCE with S256, and that its endpoints use HTTPS, or HTTP on this
      machine
    * the `state`, and the `iss` of the answer if it has one or the server promises one

  A client belongs to one issuer. If an MCP server changes its issuer, the next login registers
  again, and no token or secret of the old one is sent to the new one.

  Tokens are renewed half a minute before they end, once for all processes and all programs of this
  machine: under the CLI's lock, after reading the store again. Only the answer `invalid_grant`
  removes a login; after any other error it is still there.

  No log, no telemetry, no error and no `inspect/1` of these values shows a token, a code or a
  secret.

  ## Options

  Beside these, all functions take the options of `Codex.Auth`, such as `:codex_home` and `:store`.

  #{Codex.MCP.OAuth.Options.docs()}

  Invalid options raise `Codex.OptionError`.

  ## Without a browser on this machine

  `:open` may show the address to a person elsewhere. Their browser cannot return to this machine,
  but shows the address that it was sent to:

      open = fn url ->
        IO.puts(url)
        {:redirect, "Address after the login: " |> IO.gets() |> String.trim()}
      end

      Codex.MCP.OAuth.login("web", "https://mcp.example.com/mcp", open: open)

  """

  alias Codex.Auth.MCP
  alias Codex.MCP.OAuth.{Authorization, Bearer, Login, Metadata, Options, Refresh}
  alias Codex.OptionError

  @typedoc """
  Why a function failed:

    * `{:oauth_request_failed, url, reason}` - a request got no usable answer. `reason` is
      `{:status, status}`, `:invalid_json`, or the reason of the network
    * `:oauth_discovery_failed` - there is no document of an authorization server
    * `{:oauth_metadata, url, problem}` - a document must not be used: `:resource_mismatch`,
      `:issuer_mismatch`, `:no_pkce`, `:insecure_url` or `:missing_endpoint`
    * `:oauth_client_required` - the server registers no clients: give `:client_id`
    * `{:oauth_issuer_changed, expected, found}` - the client or the login belongs to another issuer
    * `{:oauth_registration_failed, status, words}` - the server refused a new client
    * `{:oauth_client_key, words}` - `:private_key` cannot be used
    * `{:oauth_port, port, reason}` - the port on 127.0.0.1 cannot be opened
    * `{:oauth_browser, reason}` - `:open` failed; `:crashed` if it raised
    * `{:oauth_denied, error, description}` - the authorization server or the person said no
    * `{:oauth_callback, problem}` - the answer in the browser is invalid: `:state_mismatch`,
      `:issuer_mismatch`, `:missing_issuer` or `:missing_code`
    * `{:timeout, ms}` - nobody logged in within `:login_timeout`
    * `{:oauth_token_failed, status, error}` - the server gave no token
    * `{:oauth_identity, reason}` - `:identity_token` returned an error, no token, or crashed
    * `{:oauth_refresh_failed, status, error}` - the server did not renew the token. The login stays
    * `{:missing_oauth_field, name}`, `:invalid_oauth_response` - an answer of the server is invalid
    * `{:oauth_login_required, server}` - there is no login, or it cannot be renewed
    * `{:oauth_login_expired, server}` - the server ended the login (`invalid_grant`), which is
      removed
    * `{:oauth_insufficient_scope, scope}` - the server wants a login with this scope
    * `{:oauth_refused, status, attempts}` - the server refused the token again after each answer
    * `:crashed` - the process that renews the token was killed
    * the reasons of `Codex.Auth`
  """
  @type reason ::
          {:oauth_request_failed, url :: String.t(), term()}
          | :oauth_discovery_failed
          | {:oauth_metadata, url :: String.t(), atom()}
          | :oauth_client_required
          | {:oauth_issuer_changed, expected :: String.t(), found :: String.t()}
          | {:oauth_registration_failed, status :: integer(), words :: String.t()}
          | {:oauth_client_key, words :: String.t()}
          | {:oauth_port, :inet.port_number(), atom()}
          | {:oauth_browser, term()}
          | {:oauth_denied, error :: String.t(), description :: String.t()}
          | {:oauth_callback, atom()}
          | {:timeout, pos_integer()}
          | {:oauth_token_failed, status :: integer(), error :: String.t()}
          | {:oauth_identity, term()}
          | {:oauth_refresh_failed, status :: integer(), error :: String.t()}
          | {:missing_oauth_field, String.t()}
          | :invalid_oauth_response
          | {:oauth_login_required, server :: String.t()}
          | {:oauth_login_expired, server :: String.t()}
          | {:oauth_insufficient_scope, scope :: String.t()}
          | {:oauth_refused, status :: integer(), attempts :: pos_integer()}
          | :crashed
          | Codex.Auth.reason()

  @typedoc """
  The tokens of a server as a map. `expires_at` is in milliseconds since 1970, or nil. `issuer` may
  be missing.
  """
  @type tokens :: %{
          required(:server_name) => String.t(),
          required(:url) => String.t(),
          required(:client_id) => String.t(),
          required(:access_token) => String.t(),
          optional(:refresh_token) => String.t() | nil,
          optional(:expires_at) => non_neg_integer() | nil,
          optional(:scopes) => [String.t()],
          optional(:issuer) => String.t() | nil
        }

  @typedoc "The store: an atom or a string; nil for that of the configuration."
  @type mode :: :file | :keyring | :auto | String.t() | nil

  @typedoc """
  A login without its tokens.

    * `state` - `:logged_in`; `:expired` if the token has ended and cannot be renewed;
      `:not_logged_in`
    * `expires_at` - the end of the token, or nil if it has none
    * `renewable?` - whether there is a refresh token
    * `issuer`, `client_id`, `scopes` - of the login
  """
  @type status :: %{
          state: :logged_in | :expired | :not_logged_in,
          expires_at: DateTime.t() | nil,
          renewable?: boolean(),
          issuer: String.t() | nil,
          client_id: String.t() | nil,
          scopes: [String.t()]
        }

  @typedoc "Gives the token of a server to a transport."
  @opaque bearer :: Bearer.t()

  @doc """
  Logs in to a server, and stores the tokens in place of older ones.

  Returns `{:ok, tokens}`, a `Codex.Auth.MCP`, or `{:error, reason}`. Blocks until the browser has
  returned, at most for `:login_timeout`. To cancel a login, end the process that called: its port
  and the process of `:open` end with it.
  """
  @spec login(String.t(), String.t(), keyword() | map()) :: {:ok, MCP.t()} | {:error, reason()}
  def login(server, url, opts \\ []) do
    :ok = Codex.Started.check!()
    :ok = check!(server, url)
    Login.run(server, url, nil, [], Options.new!(opts))
  end

  @doc """
  Removes the login of a server from all stores. Returns `{:ok, removed?}` or `{:error, reason}`.
  The tokens are not revoked at the authorization server.
  """
  @spec logout(String.t(), String.t(), keyword() | map()) :: {:ok, boolean()} | {:error, reason()}
  def logout(server, url, opts \\ []) do
    :ok = check!(server, url)
    opts = Options.new!(opts)
    MCP.locked(server, url, opts.auth, fn -> MCP.delete(server, url, opts.auth) end)
  end

  @doc "Returns the state of a login from the store, without a request."
  @spec status(String.t(), String.t(), keyword() | map()) :: {:ok, status()} | {:error, reason()}
  def status(server, url, opts \\ []) do
    :ok = check!(server, url)

    with {:ok, tokens} <- MCP.read(server, url, Options.new!(opts).auth),
         do: {:ok, describe(tokens)}
  end

  defp describe(nil) do
    %{
      state: :not_logged_in,
      expires_at: nil,
      renewable?: false,
      issuer: nil,
      client_id: nil,
      scopes: []
    }
  end

  defp describe(tokens) do
    renewable? = Refresh.possible?(tokens)

    %{
      state: if(Refresh.due?(tokens) and not renewable?, do: :expired, else: :logged_in),
      expires_at: tokens.expires_at,
      renewable?: renewable?,
      issuer: tokens.issuer,
      client_id: tokens.client_id,
      scopes: tokens.scopes
    }
  end

  @doc """
  Returns a valid token of a server, renewed if it ends within half a minute: `{:ok, token}`,
  `{:ok, nil}` without a login, or `{:error, reason}`.
  """
  @spec token(String.t(), String.t(), keyword() | map()) ::
          {:ok, String.t() | nil} | {:error, reason()}
  def token(server, url, opts \\ []), do: Bearer.token(bearer(server, url, opts))

  @doc """
  Returns a value that gives the tokens of a server to a transport, and answers its refusals: with a
  token that another process got, a renewed token, or, with `login: true`, a login. A server that
  wants more scopes gets a login with the old and the new ones, at most three for one request.
  """
  @spec bearer(String.t(), String.t(), keyword() | map()) :: bearer()
  def bearer(server, url, opts \\ []) do
    :ok = Codex.Started.check!()
    :ok = check!(server, url)
    %Bearer{server: server, url: url, opts: Options.new!(opts)}
  end

  # --- Tokens as maps -----------------------------------------------------------------------------

  @doc "Returns the stored tokens of a server as a map, or nil if there are none or no store."
  @spec load_tokens(String.t(), String.t(), mode()) :: tokens() | nil
  def load_tokens(server, url, mode \\ nil) do
    case MCP.read(server, url, store(mode)) do
      {:ok, %MCP{} = tokens} -> to_map(tokens)
      _none -> nil
    end
  end

  @doc "Stores tokens. Returns `:ok` or `{:error, reason}`."
  @spec save_tokens(tokens(), mode()) :: :ok | {:error, reason()}
  def save_tokens(tokens, mode \\ nil) do
    opts = store(mode)

    with {:ok, tokens} <- from_map(tokens),
         do: MCP.locked(tokens.server, tokens.url, opts, fn -> MCP.write(tokens, opts) end)
  end

  @doc "Removes the tokens of a server. Returns `:ok`, also if there were none."
  @spec delete_tokens(String.t(), String.t(), mode()) :: :ok | {:error, reason()}
  def delete_tokens(server, url, mode \\ nil) do
    with {:ok, _removed?} <- logout(server, url, store(mode)), do: :ok
  end

  @doc """
  Renews tokens that end within half a minute, if they have a refresh token, and stores them.

  Returns `{:ok, tokens}`, with the given tokens if they last longer or cannot be renewed. Tokens in
  the store are newer than the given ones, and replace them.
  """
  @spec refresh_if_needed(tokens(), String.t(), keyword() | map()) ::
          {:ok, tokens()} | {:error, reason()}
  def refresh_if_needed(tokens, url, opts \\ []) do
    opts = Options.new!(opts)

    with {:ok, given} <- from_map(tokens, %{url: url}),
         true <- Refresh.due?(given) and Refresh.possible?(given),
         {:ok, renewed} <- Refresh.run(given.server, url, nil, given, opts) do
      {:ok, to_map(renewed)}
    else
      false -> {:ok, tokens}
      {:error, reason} -> {:error, reason}
    end
  end

  defp store(nil), do: []
  defp store(mode), do: [store: mode]

  defp to_map(tokens) do
    %{
      server_name: tokens.server,
      url: tokens.url,
      client_id: tokens.client_id,
      access_token: tokens.access_token,
      refresh_token: tokens.refresh_token,
      expires_at: tokens.expires_at && DateTime.to_unix(tokens.expires_at, :millisecond),
      scopes: tokens.scopes,
      issuer: tokens.issuer
    }
  end

  defp from_map(tokens, more \\ %{})

  defp from_map(%{} = tokens, more) when not is_struct(tokens) do
    tokens = Map.merge(tokens, more)

    case Enum.find([:server_name, :url, :client_id, :access_token], &(not is_binary(tokens[&1]))) do
      nil ->
        {:ok,
         %MCP{
           server: tokens.server_name,
           url: tokens.url,
           client_id: tokens.client_id,
           access_token: tokens.access_token,
           refresh_token: tokens[:refresh_token],
           expires_at: time(tokens[:expires_at]),
           scopes: tokens[:scopes] || [],
           issuer: tokens[:issuer]
         }}

      name ->
        {:error, {:missing_oauth_field, Atom.to_string(name)}}
    end
  end

  defp from_map(_other, _more), do: raise(OptionError.argument(:tokens, "[redacted]", "a map"))

  defp time(ms) when is_integer(ms) do
    case DateTime.from_unix(ms, :millisecond) do
      {:ok, time} -> time
      {:error, _reason} -> nil
    end
  end

  defp time(_none), do: nil

  defp check!(server, url) do
    if not (is_binary(server) and server != ""),
      do: raise(OptionError.argument(:server, server, "the name of an MCP server"))

    if not (is_binary(url) and Metadata.web?(url)),
      do: raise(OptionError.argument(:url, url, "an HTTP URL"))

    :ok
  end

  @doc """
  Returns the path on 127.0.0.1 to which the browser returns after a login, the CLI's: clients that
  are registered with a fixed address need it, together with `:port`.

      iex> Codex.MCP.OAuth.callback_path("https://mcp.example.com/mcp")
      "/callback/epMNJ6P1xGQ9"
  """
  @spec callback_path(String.t()) :: String.t()
  def callback_path(url) when is_binary(url), do: Authorization.callback_path(url)
end
