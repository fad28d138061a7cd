defmodule Codex.MCP.OAuth.Bearer do
  @moduledoc false
  # Gives the token of a server to a transport, and answers the server's refusals: with a token that
  # another process got, a renewed token, or a login. A value: each request starts with the one that
  # the transport was given, and goes on with the one that was returned last.

  alias Codex.Auth.MCP
  alias Codex.MCP.OAuth.{Login, Options, Refresh}

  # Refusals of one request that are answered, logins for more scopes included.
  @most 3

  @derive {Inspect, only: [:server, :url, :attempts, :scopes]}
  @enforce_keys [:server, :url, :opts]
  defstruct [:server, :url, :opts, attempts: 0, renewed?: false, scopes: []]

  @type t :: %__MODULE__{
          server: String.t(),
          url: String.t(),
          opts: Options.t(),
          attempts: non_neg_integer(),
          renewed?: boolean(),
          scopes: [String.t()]
        }

  @doc "Returns the token for the next request, renewed if it ends soon; nil if there is no login."
  @spec token(t()) :: {:ok, String.t() | nil} | {:error, Codex.MCP.OAuth.reason()}
  def token(bearer) do
    with {:ok, tokens} <- MCP.read(bearer.server, bearer.url, bearer.opts.auth),
         {:ok, tokens} <- fresh(tokens, bearer),
         do: {:ok, tokens && tokens.access_token}
  end

  defp fresh(nil, _bearer), do: {:ok, nil}

  defp fresh(tokens, bearer) do
    cond do
      not Refresh.due?(tokens) -> {:ok, tokens}
      Refresh.possible?(tokens) -> renewed(bearer)
      # The server decides, and its refusal leads to a login.
      true -> {:ok, tokens}
    end
  end

  defp renewed(bearer) do
    case Refresh.run(bearer.server, bearer.url, nil, nil, bearer.opts) do
      {:error, reason} ->
        if login?(bearer) and over?(reason), do: {:ok, nil}, else: {:error, reason}

      result ->
        result
    end
  end

  @doc """
  Answers a refusal of a request that carried `token`. Returns `{:retry, bearer}`: ask for the token
  again and repeat the request. `params` are those of the challenge `Bearer`.
  """
  @spec challenge(t(), integer(), map(), String.t() | nil) ::
          {:retry, t()} | {:error, Codex.MCP.OAuth.reason()}
  def challenge(%{attempts: @most}, status, _params, _token),
    do: {:error, {:oauth_refused, status, @most}}

  def challenge(bearer, status, params, token) do
    bearer = %{bearer | attempts: bearer.attempts + 1}

    with {:ok, tokens} <- MCP.read(bearer.server, bearer.url, bearer.opts.auth) do
      cond do
        tokens != nil and tokens.access_token != token -> {:retry, bearer}
        status == 403 -> login(bearer, params, token, granted(tokens))
        tokens != nil and not bearer.renewed? -> renew(bearer, tokens, params)
        true -> login(bearer, params, token, [])
      end
    end
  end

  defp granted(nil), do: []
  defp granted(tokens), do: tokens.scopes

  defp renew(bearer, tokens, params) do
    bearer = %{bearer | renewed?: true}
    token = tokens.access_token

    case Refresh.run(bearer.server, bearer.url, token, nil, bearer.opts) do
      {:ok, _tokens} ->
        {:retry, bearer}

      {:error, reason} ->
        if login?(bearer) and over?(reason),
          do: login(bearer, params, token, []),
          else: {:error, reason}
    end
  end

  # A login can help; of other errors, the stored login may still work.
  defp over?({tag, _server}) when tag in [:oauth_login_required, :oauth_login_expired], do: true
  defp over?({:oauth_issuer_changed, _stored, _found}), do: true
  defp over?(_reason), do: false

  defp login?(%{opts: opts}), do: opts.login or opts.grant != :code

  defp login(bearer, params, token, scopes) do
    if login?(bearer),
      do: login_once(bearer, params, token, scopes),
      else: {:error, required(bearer, params)}
  end

  defp required(_bearer, %{"error" => "insufficient_scope", "scope" => scope}),
    do: {:oauth_insufficient_scope, scope}

  defp required(bearer, _params), do: {:oauth_login_required, bearer.server}

  # One browser for all requests that were refused at once.
  defp login_once(bearer, params, token, scopes) do
    %{server: server, url: url, opts: opts} = bearer
    wait = opts.login_timeout + opts.request_timeout

    result =
      MCP.locked(server, url, opts.auth, {:login, wait}, fn ->
        case MCP.read(server, url, opts.auth) do
          {:ok, %{access_token: other} = tokens} when other != token -> {:ok, tokens}
          {:ok, _same} -> Login.run(server, url, params, Enum.uniq(bearer.scopes ++ scopes), opts)
          {:error, reason} -> {:error, reason}
        end
      end)

    with {:ok, tokens} <- result, do: {:retry, %{bearer | scopes: tokens.scopes}}
  end
end
