defmodule Codex.MCP.OAuth.Login do
  @moduledoc false
  # One login: discovery, client, browser, code, tokens, store. It runs in the process of its
  # caller, and leaves nothing if that ends: the port and the opener end with it.

  alias Codex.Auth.MCP
  alias Codex.Error.Words
  alias Codex.MCP.OAuth.{Authorization, Browser, Callback, Client, Discovery, Endpoint, Grant}
  alias Codex.MCP.OAuth.{Identity, Options}

  @doc """
  Logs in and stores the tokens. `challenge` are the parameters of `WWW-Authenticate`; nil asks the
  server for them. `scopes` are asked for in addition.
  """
  @spec run(String.t(), String.t(), map() | nil, [String.t()], Options.t()) ::
          {:ok, MCP.t()} | {:error, Codex.MCP.OAuth.reason()}
  def run(server, url, challenge, scopes, opts) do
    challenge = challenge || Endpoint.challenge(url, opts)

    with {:ok, metadata} <- Discovery.find(url, challenge, nil, opts) do
      wanted = Authorization.scopes(metadata, opts.scopes, challenge["scope"])
      wanted = Enum.uniq(scopes ++ wanted)
      empty = %MCP{server: server, url: url, client_id: "", access_token: "", scopes: wanted}

      with {:ok, answer, client} <- grant(opts.grant, metadata, empty, opts),
           tokens = Grant.tokens(answer, client, empty),
           :ok <- store(tokens, opts),
           do: {:ok, tokens}
    end
  end

  # Under the CLI's lock: a renewal that is under way must not replace the new tokens.
  defp store(tokens, opts) do
    MCP.locked(tokens.server, tokens.url, opts.auth, fn -> MCP.write(tokens, opts.auth) end)
  end

  defp grant(:client_credentials, metadata, tokens, opts) do
    with {:ok, client} <- Client.find(metadata, nil, tokens.scopes, opts),
         {:ok, answer} <- Grant.client(metadata, client, tokens.scopes, opts),
         do: {:ok, answer, client}
  end

  defp grant(:identity, metadata, tokens, opts) do
    with {:ok, client} <- Client.find(metadata, nil, tokens.scopes, opts),
         {:ok, assertion} <- Identity.assertion(metadata, tokens.scopes, opts),
         {:ok, answer} <- Grant.assertion(metadata, client, assertion, tokens.scopes, opts),
         do: {:ok, answer, client}
  end

  defp grant(:code, %{authorize: nil}, _tokens, _opts), do: {:error, :oauth_discovery_failed}

  defp grant(:code, metadata, tokens, opts) do
    path = Authorization.return_path(tokens.url, opts.callback_url)

    port =
      if opts.port == 0, do: Authorization.return_port(opts.callback_url) || 0, else: opts.port

    with {:ok, callback} <- Callback.open(port, path) do
      try do
        uri = Authorization.redirect_uri(opts.callback_url, Callback.uri(callback))

        with {:ok, client} <- Client.find(metadata, uri, tokens.scopes, opts) do
          request = Authorization.new(metadata, client.id, uri, tokens.scopes)
          {browser, query} = visit(request, callback, opts)
          result = exchange(query, request, client, opts)
          page(browser, result, tokens.server)
          result
        end
      after
        Callback.close(callback)
      end
    end
  end

  defp exchange({:error, reason}, _request, _client, _opts), do: {:error, reason}

  defp exchange({:ok, query}, request, client, opts) do
    with {:ok, code} <- Authorization.code(request, query),
         {:ok, answer} <- Grant.code(request, client, code, opts),
         do: {:ok, answer, client}
  end

  # --- The browser --------------------------------------------------------------------------------

  defp visit(request, callback, opts) do
    opener = Browser.start(opts.open, Authorization.url(request))
    deadline = System.monotonic_time(:millisecond) + opts.login_timeout

    try do
      returned(callback, request.redirect_uri, opener, deadline, opts.login_timeout)
    after
      Browser.stop(opener)
    end
  end

  defp returned(callback, uri, {opened, _pid} = opener, deadline, limit) do
    ref = Callback.ref(callback)

    receive do
      {^ref, browser, query} -> {browser, {:ok, query}}
      {^opened, {:redirect, url}} when is_binary(url) -> {nil, redirect(url, uri)}
      {^opened, {:error, reason}} -> {nil, {:error, {:oauth_browser, reason}}}
      {^opened, _ok} -> returned(callback, uri, opener, deadline, limit)
      {:DOWN, ^opened, _, _, :normal} -> returned(callback, uri, opener, deadline, limit)
      {:DOWN, ^opened, _, _, _crash} -> {nil, {:error, {:oauth_browser, :crashed}}}
    after
      max(deadline - System.monotonic_time(:millisecond), 0) -> {nil, {:error, {:timeout, limit}}}
    end
  end

  defp redirect(url, uri) do
    [place | _query] = String.split(uri, "?")

    case String.split(url, ["?", "#"], parts: 3) do
      [^place, query | _] -> {:ok, query}
      _other -> foreign()
    end
  end

  defp foreign, do: {:error, {:oauth_callback, :missing_code}}

  defp page(nil, _result, _server), do: :ok

  defp page(browser, {:ok, _answer, _client}, server) do
    Callback.answer(browser, 200, "You are logged in to #{server}. You may close this window.")
  end

  defp page(browser, {:error, reason}, server) do
    words = Words.reason(reason) || "it failed"
    Callback.answer(browser, 400, "The login to #{server} failed: #{words}.")
  end
end
