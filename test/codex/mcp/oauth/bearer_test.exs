defmodule Codex.MCP.OAuth.BearerTest do
  # Stored tokens: their use, their renewal, and the refusals of a server.
  use ExUnit.Case, async: true

  import Codex.OAuthServer, only: [browser: 0, login: 2]
  alias Codex.Auth.MCP, as: Tokens
  alias Codex.MCP.OAuth
  alias Codex.MCP.OAuth.{Authorization, Bearer, Metadata}
  alias Codex.OAuthServer

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    home = Codex.Logins.home!(dir)
    %{home: home, auth: [codex_home: home, cwd: false, store: :file]}
  end

  describe "token/3" do
    test "renews once for many processes", context do
      server = OAuthServer.start!(expires: 5)
      assert {:ok, _tokens} = login(server, context.auth)
      OAuthServer.set(server, expires: 3600)

      tokens =
        1..20
        |> Task.async_stream(fn _ -> OAuth.token("web", server.url, context.auth) end,
          max_concurrency: 20,
          timeout: 60_000
        )
        |> Enum.uniq()

      assert [{:ok, {:ok, "at-2-" <> _}}] = tokens
      assert [_login, %{form: form}] = OAuthServer.requests(server, "/token")
      assert form["resource"] == server.url
    end

    test "keeps the login after an error of the server, and removes it after invalid_grant",
         context do
      server = OAuthServer.start!(expires: 5)
      assert {:ok, tokens} = login(server, context.auth)

      for {answer, expected} <- [
            {{503, [], ""}, {:oauth_refresh_failed, 503, ""}},
            {{400, [], %{error: "temporarily_unavailable"}},
             {:oauth_refresh_failed, 400, "temporarily_unavailable"}},
            {{200, [], %{access_token: "a\r\nb"}}, :invalid_oauth_response},
            {{200, [], %{}}, {:missing_oauth_field, "access_token"}}
          ] do
        OAuthServer.set(server, token: fn _form -> answer end)
        assert OAuth.token("web", server.url, context.auth) == {:error, expected}
        assert {:ok, %{refresh_token: kept}} = Tokens.read("web", server.url, context.auth)
        assert kept == tokens.refresh_token
      end

      OAuthServer.set(server, token: fn _form -> {400, [], %{error: "invalid_grant"}} end)

      assert OAuth.token("web", server.url, context.auth) ==
               {:error, {:oauth_login_expired, "web"}}

      assert OAuth.token("web", server.url, context.auth) == {:ok, nil}
    end

    test "sends no token to another issuer", context do
      server = OAuthServer.start!(expires: 5)
      other = OAuthServer.start!()
      assert {:ok, _tokens} = login(server, context.auth)
      OAuthServer.set(server, resource: %{authorization_servers: [other.base]})

      assert OAuth.token("web", server.url, context.auth) ==
               {:error, {:oauth_issuer_changed, server.base, other.base}}

      assert OAuthServer.requests(other, "/token") == []
    end
  end

  describe "a refused request" do
    # A transport in small.
    defp call(server, bearer) do
      {:ok, token} = Bearer.token(bearer)
      headers = if token, do: [{"authorization", "Bearer " <> token}], else: []
      body = Codex.JSON.encode!(%{id: 1, method: "ping"})
      headers = [{"content-type", "application/json"} | headers]
      {:ok, answer} = Codex.HTTP.request("POST", server.url, headers, body, timeout_ms: 10_000)

      if answer.status in [401, 403] do
        params = Codex.HTTP.bearer_challenge(answer.headers)

        with {:retry, bearer} <- Bearer.challenge(bearer, answer.status, params, token),
             do: call(server, bearer)
      else
        {answer.status, bearer}
      end
    end

    test "leads to one login for all, if logins are allowed", context do
      server = OAuthServer.start!()
      asks = OAuth.bearer("web", server.url, context.auth)
      assert call(server, asks) == {:error, {:oauth_login_required, "web"}}
      may = OAuth.bearer("web", server.url, [login: true, open: browser()] ++ context.auth)

      assert [200] =
               1..8
               |> Task.async_stream(fn _ -> server |> call(may) |> elem(0) end, timeout: 60_000)
               |> Enum.map(&elem(&1, 1))
               |> Enum.uniq()

      assert [_one] = OAuthServer.requests(server, "/authorize")
      assert {200, _bearer} = call(server, asks)
    end

    test "leads to a renewal, and then to a login", context do
      server = OAuthServer.start!()
      may = OAuth.bearer("web", server.url, [login: true, open: browser()] ++ context.auth)
      assert {200, _} = call(server, may)
      OAuthServer.set(server, tokens: %{})
      assert {200, _} = call(server, may)
      assert [_] = OAuthServer.requests(server, "/authorize")
      OAuthServer.set(server, tokens: %{}, refresh: %{})
      assert {200, _} = call(server, may)
      assert [_, _] = OAuthServer.requests(server, "/authorize")
    end

    test "asks for more scopes, with the old ones, a bounded number of times", context do
      server = OAuthServer.start!()
      opts = [login: true, open: browser()] ++ context.auth
      may = OAuth.bearer("web", server.url, opts)
      assert {200, _} = call(server, may)
      OAuthServer.set(server, needs: "tools:write")
      assert {200, _} = call(server, may)
      assert %{query: query} = List.last(OAuthServer.requests(server, "/authorize"))
      assert URI.decode_query(query)["scope"] == "tools:read tools:write"

      asks = OAuth.bearer("web", server.url, context.auth)
      OAuthServer.set(server, needs: "admin")
      assert call(server, asks) == {:error, {:oauth_insufficient_scope, "admin"}}

      OAuthServer.set(server,
        tokens: %{},
        token: fn _ -> {200, [], %{access_token: "no#{System.unique_integer()}"}} end
      )

      assert call(server, may) == {:error, {:oauth_refused, 401, 3}}
    end

    test "registers again with a new issuer", context do
      server = OAuthServer.start!()
      other = OAuthServer.start!()
      may = OAuth.bearer("web", server.url, [login: true, open: browser()] ++ context.auth)
      assert {200, _} = call(server, may)
      OAuthServer.set(server, resource: %{authorization_servers: [other.base]}, tokens: %{})
      # The other server's token is not known to this one.
      assert {:error, {:oauth_refused, 401, 3}} = call(server, may)
      assert [%{form: form} | _] = OAuthServer.requests(other, "/token")
      assert form["grant_type"] == "authorization_code"
      assert {:ok, %{issuer: issuer}} = Tokens.read("web", server.url, context.auth)
      assert issuer == other.base
    end
  end

  describe "tokens as maps" do
    test "are loaded, saved, renewed and removed", context do
      server = OAuthServer.start!(expires: 5)
      assert {:ok, _} = login(server, context.auth)

      # The functions without options use the environment; options are those of refresh_if_needed/3.
      assert {:ok, stored} = Tokens.read("web", server.url, context.auth)

      tokens = %{
        server_name: "web",
        url: server.url,
        client_id: stored.client_id,
        access_token: stored.access_token,
        refresh_token: stored.refresh_token,
        expires_at: DateTime.to_unix(stored.expires_at, :millisecond),
        scopes: stored.scopes
      }

      OAuthServer.set(server, expires: 3600)
      assert {:ok, renewed} = OAuth.refresh_if_needed(tokens, server.url, context.auth)
      assert renewed.access_token != tokens.access_token
      assert {:ok, ^renewed} = OAuth.refresh_if_needed(renewed, server.url, context.auth)
      # The old ones are replaced by the stored ones: their refresh token is used up.
      assert {:ok, ^renewed} = OAuth.refresh_if_needed(tokens, server.url, context.auth)

      assert OAuth.refresh_if_needed(%{tokens | access_token: nil}, server.url, context.auth) ==
               {:error, {:missing_oauth_field, "access_token"}}
    end
  end

  describe "secrets" do
    test "are in no inspect and in no error", context do
      server = OAuthServer.start!()
      secrets = [client_secret: "hush-1", private_key: "hush-2"]
      bearer = OAuth.bearer("web", server.url, secrets ++ context.auth)
      refute inspect(bearer, limit: :infinity, structs: true) =~ "hush"
      request = Authorization.new(metadata(), "c", "http://127.0.0.1/x", [])
      shown = inspect(request)
      refute shown =~ request.state
      refute shown =~ request.verifier
      assert {:ok, _} = login(server, context.auth)

      OAuthServer.set(server,
        token: fn form ->
          {400, [], %{error: "bad", error_description: form["refresh_token"] || ""}}
        end
      )

      {:ok, stored} = Tokens.read("web", server.url, context.auth)
      :ok = Tokens.write(%{stored | expires_at: ~U[2020-01-01 00:00:00.000Z]}, context.auth)
      assert {:error, reason} = OAuth.token("web", server.url, context.auth)
      refute inspect(reason) =~ stored.refresh_token
      refute Codex.Error.normalize(reason).message =~ stored.refresh_token
    end

    defp metadata,
      do: %Metadata{resource: "r", issuer: "i", authorize: "https://a.example/?x=1", token: "t"}

    test "the query of an authorization address stays" do
      url = Authorization.url(Authorization.new(metadata(), "c", "http://127.0.0.1/x", ["s"]))

      assert %{"x" => "1", "client_id" => "c", "scope" => "s"} =
               URI.decode_query(URI.parse(url).query)
    end
  end
end
