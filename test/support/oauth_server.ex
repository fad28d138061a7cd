defmodule Codex.OAuthServer do
  @moduledoc """
  An MCP server over HTTP with its authorization server, on loopback. Refresh tokens work once. It
  notes every request.

  Options change one thing each:

    * `expires` - the lifetime of a token, in s
    * `resource`, `metadata` - members of the two documents, merged; nil removes the document
    * `token` - a function of the form that answers in place of the token endpoint
    * `return` - more parameters of the answer in the browser
    * `needs` - the scope that `/mcp` wants; without it 403
    * `secret` - a secret for every client that registers
  """

  alias Codex.{Http, JSON}
  alias Codex.MCP.OAuth

  @defaults %{
    expires: 3600,
    resource: %{},
    metadata: %{},
    token: nil,
    return: %{},
    needs: nil,
    secret: nil
  }

  @doc "Starts one, linked to the caller. Returns `%{agent, url, base}`."
  def start!(opts \\ []) do
    state = %{codes: %{}, tokens: %{}, refresh: %{}, requests: [], count: 0}
    state = Map.merge(Map.merge(state, @defaults), Map.new(opts))
    {:ok, agent} = Agent.start_link(fn -> state end)

    base =
      Http.start!(fn request ->
        request = Map.put(request, :form, URI.decode_query(request.body))

        case Agent.get(agent, & &1.token) do
          token when token != nil and request.path == "/token" -> token.(request.form)
          _none -> nil
        end || answer(agent, request)
      end)

    Agent.update(agent, &Map.put(&1, :base, base))
    %{agent: agent, base: base, url: base <> "/mcp"}
  end

  @doc "Changes options while it runs."
  def set(server, opts), do: Agent.update(server.agent, &Map.merge(&1, Map.new(opts)))

  @doc "Requests of a path, in order."
  def requests(server, path) do
    for %{path: ^path} = request <- server.agent |> Agent.get(& &1.requests) |> Enum.reverse(),
        do: request
  end

  @doc "Follows the redirect of `/authorize`. Returns status and text of the page."
  def browse(url) do
    {:ok, page} = Codex.HTTP.request("GET", location(url), [], "", timeout_ms: 30_000)
    {page.status, page.body}
  end

  @doc "Returns the address to which `/authorize` sends a browser."
  def location(url) do
    {:ok, %{status: 302, headers: headers}} =
      Codex.HTTP.request("GET", url, [], "", timeout_ms: 10_000)

    headers |> List.keyfind("location", 0) |> elem(1)
  end

  @doc """
  An `:open` function that follows the redirect as a browser does, apart from its process. The
  caller gets `{:opened, url}` and `{:page, {status, page}}`.
  """
  def browser do
    test = self()

    fn url ->
      send(test, {:opened, url})
      spawn(fn -> send(test, {:page, browse(url)}) end)
      :ok
    end
  end

  @doc "Logs in to the server, by the name `web`, with `browser/0`."
  def login(server, auth, more \\ []) do
    opts = Keyword.merge([open: browser(), login_timeout: 20_000], more) ++ auth
    OAuth.login("web", server.url, opts)
  end

  defp answer(agent, request) do
    Agent.get_and_update(agent, fn state ->
      respond(request, %{state | requests: [request | state.requests]})
    end)
  end

  defp respond(%{path: "/.well-known/oauth-protected-resource" <> _}, state) do
    document = %{
      resource: state.base <> "/mcp",
      authorization_servers: [state.base],
      scopes_supported: ["tools:read"]
    }

    {document(document, state.resource), state}
  end

  defp respond(%{path: "/.well-known/oauth-authorization-server"}, state) do
    document = %{
      issuer: state.base,
      authorization_endpoint: state.base <> "/authorize",
      token_endpoint: state.base <> "/token",
      registration_endpoint: state.base <> "/register",
      code_challenge_methods_supported: ["S256"]
    }

    {document(document, state.metadata), state}
  end

  defp respond(%{path: "/register"} = request, state) do
    {:ok, asked} = JSON.decode(request.body)
    secret = if state.secret, do: %{"client_secret" => state.secret}, else: %{}
    client = asked |> Map.put("client_id", "client-#{state.count}") |> Map.merge(secret)
    {{201, [], client}, %{state | count: state.count + 1}}
  end

  defp respond(%{path: "/authorize"} = request, state) do
    asked = URI.decode_query(request.query)
    code = "code-#{map_size(state.codes)}"
    back = Map.merge(%{code: code, state: asked["state"]}, state.return)
    location = asked["redirect_uri"] <> "?" <> URI.encode_query(back)
    {{302, [{"location", location}], ""}, put_in(state.codes[code], asked)}
  end

  defp respond(%{path: "/token", form: %{"grant_type" => "authorization_code"} = form}, state) do
    {asked, codes} = Map.pop(state.codes, form["code"])
    challenge = Base.url_encode64(:crypto.hash(:sha256, form["code_verifier"]), padding: false)

    if asked != nil and asked["code_challenge"] == challenge,
      do: issue(asked["scope"], %{state | codes: codes}),
      else: {{400, [], %{error: "invalid_grant"}}, state}
  end

  defp respond(%{path: "/token", form: %{"grant_type" => "refresh_token"} = form}, state) do
    case Map.pop(state.refresh, form["refresh_token"]) do
      {nil, _} -> {{400, [], %{error: "invalid_grant"}}, state}
      {scope, refresh} -> issue(scope, %{state | refresh: refresh})
    end
  end

  defp respond(%{path: "/token", form: form}, state), do: issue(form["scope"], state)

  defp respond(%{path: "/mcp"} = request, state) do
    scope = state.tokens[request.headers["authorization"]]
    {mcp(request, scope, state), state}
  end

  defp respond(_other, state), do: {{404, [], ""}, state}

  defp document(_document, nil), do: {404, [], ""}
  defp document(document, more), do: {200, [], Map.merge(document, more)}

  defp issue(scope, state) do
    n = map_size(state.tokens) + 1

    answer = %{
      access_token: "at-#{n}-#{System.unique_integer([:positive])}",
      refresh_token: "rt-#{n}-#{System.unique_integer([:positive])}",
      token_type: "Bearer",
      expires_in: state.expires,
      scope: scope || ""
    }

    state = put_in(state.tokens["Bearer " <> answer.access_token], scope || "")
    {{200, [], answer}, put_in(state.refresh[answer.refresh_token], scope || "")}
  end

  defp mcp(_request, nil, state) do
    metadata = "#{state.base}/.well-known/oauth-protected-resource/mcp"
    {401, [{"www-authenticate", ~s(Bearer resource_metadata="#{metadata}")}], ""}
  end

  defp mcp(request, scope, state) do
    cond do
      state.needs != nil and state.needs not in String.split(scope) ->
        words = ~s(Bearer error="insufficient_scope", scope="#{state.needs}")
        {403, [{"www-authenticate", words}], ""}

      request.method == "GET" ->
        {405, [], ""}

      true ->
        rpc(JSON.decode(request.body))
    end
  end

  defp rpc({:ok, %{"id" => id, "method" => method} = message}) do
    result =
      case method do
        "initialize" ->
          %{
            protocolVersion: message["params"]["protocolVersion"],
            capabilities: %{tools: %{}},
            serverInfo: %{name: "loop", version: "1"}
          }

        "tools/list" ->
          %{tools: [%{name: "echo", inputSchema: %{type: "object"}}]}

        _other ->
          %{}
      end

    {200, [], %{jsonrpc: "2.0", id: id, result: result}}
  end

  defp rpc(_notification), do: {202, [], ""}
end
