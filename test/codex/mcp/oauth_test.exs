defmodule Codex.MCP.OAuthTest do
  use ExUnit.Case, async: true

  alias Codex.Auth.MCP, as: Tokens
  alias Codex.MCP.OAuth
  alias Codex.MCP.OAuth.{Authorization, Bearer, Callback, Metadata}
  alias Codex.OAuthServer

  @moduletag :tmp_dir

  doctest Codex.MCP.OAuth
  doctest Codex.MCP.OAuth.Metadata
  doctest Codex.MCP.OAuth.Authorization
  doctest Codex.MCP.OAuth.Grant

  setup %{tmp_dir: dir} do
    home = Codex.Logins.home!(dir)
    %{home: home, auth: [codex_home: home, cwd: false, store: :file]}
  end

  # Follows the redirect as a browser does, apart from the process of `:open`, and sends the page to
  # the test.
  defp browser(to \\ self()) do
    fn url ->
      send(to, {:opened, url})
      spawn(fn -> send(to, {:page, OAuthServer.browse(url)}) end)
      :ok
    end
  end

  defp login(server, auth, more \\ []) do
    opts = Keyword.merge([open: browser(), login_timeout: 20_000], more) ++ auth
    OAuth.login("web", server.url, opts)
  end

  defp opened do
    receive do
      {:opened, url} -> url |> URI.parse() |> Map.fetch!(:query) |> URI.decode_query()
    after
      0 -> nil
    end
  end

  describe "login/3" do
    test "registers, sends the browser, exchanges the code and stores the tokens", context do
      server = OAuthServer.start!()
      assert {:ok, tokens} = login(server, context.auth)
      assert {tokens.issuer, tokens.client_id} == {server.base, "client-0"}
      assert tokens.scopes == ["tools:read"]
      assert {:ok, stored} = Tokens.read("web", server.url, context.auth)
      assert stored.access_token == tokens.access_token
      assert_receive {:page, {200, "You are logged in to web." <> _}}, 10_000

      assert {:ok, %{state: :logged_in, renewable?: true}} =
               OAuth.status("web", server.url, context.auth)

      asked = opened()
      assert asked["resource"] == server.url
      assert asked["code_challenge_method"] == "S256"

      assert asked["redirect_uri"] =~
               ~r"^http://127\.0\.0\.1:\d+#{OAuth.callback_path(server.url)}$"

      assert [%{form: form}] = OAuthServer.requests(server, "/token")
      assert {form["resource"], form["client_id"]} == {server.url, "client-0"}
      assert form["redirect_uri"] == asked["redirect_uri"]

      assert {:ok, true} = OAuth.logout("web", server.url, context.auth)
      assert {:ok, false} = OAuth.logout("web", server.url, context.auth)
      assert {:ok, %{state: :not_logged_in}} = OAuth.status("web", server.url, context.auth)
    end

    test "rejects documents that do not belong to the server", context do
      for {opts, problem} <- [
            {[resource: %{resource: "https://evil.example/mcp"}], :resource_mismatch},
            {[metadata: %{issuer: "https://evil.example"}], :issuer_mismatch},
            {[metadata: %{code_challenge_methods_supported: ["plain"]}], :no_pkce},
            {[metadata: %{code_challenge_methods_supported: nil}], :no_pkce},
            {[metadata: %{token_endpoint: "http://a.example/token"}], :insecure_url},
            {[metadata: %{token_endpoint: nil}], :missing_endpoint},
            {[resource: %{authorization_servers: ["http://a.example"]}], :insecure_url}
          ] do
        server = OAuthServer.start!(opts)
        assert {:error, {:oauth_metadata, _url, ^problem}} = login(server, context.auth)
        assert opened() == nil
      end
    end

    test "rejects answers with another state or issuer, also if they are errors", context do
      promised = %{authorization_response_iss_parameter_supported: true}

      for {return, metadata, expected} <- [
            {%{state: "other"}, %{}, {:oauth_callback, :state_mismatch}},
            {%{iss: "https://evil.example"}, %{}, {:oauth_callback, :issuer_mismatch}},
            {%{}, promised, {:oauth_callback, :missing_issuer}},
            {%{iss: "BASE/"}, promised, {:oauth_callback, :issuer_mismatch}},
            {%{iss: "https://evil.example", error: "access_denied"}, %{},
             {:oauth_callback, :issuer_mismatch}},
            {%{error: "access_denied", error_description: "<b>no"}, %{},
             {:oauth_denied, "access_denied", "<b>no"}},
            {%{code: ""}, %{}, {:oauth_callback, :missing_code}}
          ] do
        server = OAuthServer.start!(metadata: metadata)

        return =
          Map.new(return, fn {key, value} -> {key, String.replace(value, "BASE", server.base)} end)

        OAuthServer.set(server, return: return)
        assert login(server, context.auth) == {:error, expected}
        assert_receive {:page, {400, "The login to web failed: " <> _}}, 10_000
        assert OAuthServer.requests(server, "/token") == []
      end

      server = OAuthServer.start!(metadata: promised)
      OAuthServer.set(server, return: %{iss: server.base})
      assert {:ok, _tokens} = login(server, context.auth)
    end

    test "uses the paths of the origin for a server without documents", context do
      server = OAuthServer.start!(resource: nil, metadata: nil)
      assert {:ok, %{issuer: issuer}} = login(server, context.auth)
      assert issuer == server.base
      assert [_challenge | _] = OAuthServer.requests(server, "/mcp")
      assert opened()["scope"] == nil
    end

    test "does not guess if a published issuer has no document", context do
      server = OAuthServer.start!(metadata: nil)
      assert login(server, context.auth) == {:error, :oauth_discovery_failed}
    end

    test "asks for scopes of the caller, and for offline access where it exists", context do
      server = OAuthServer.start!(metadata: %{scopes_supported: ["offline_access"]})
      assert {:ok, _tokens} = login(server, context.auth, scopes: ["a", "b"])
      assert opened()["scope"] == "a b offline_access"
      assert {:ok, _tokens} = login(server, context.auth, resource: "urn:mine")
      assert opened()["resource"] == "urn:mine"
    end

    test "takes a registered client, its secret, or a metadata document", context do
      server =
        OAuthServer.start!(
          metadata: %{
            registration_endpoint: nil,
            client_id_metadata_document_supported: true,
            token_endpoint_auth_methods_supported: ["client_secret_basic", "none"]
          }
        )

      document = "https://app.example/client.json"
      assert {:error, :oauth_client_required} = login(server, context.auth)

      assert {:ok, %{client_id: ^document}} =
               login(server, context.auth, client_metadata_url: document)

      client = [client_id: "mine", client_secret: "s:ecret", client_issuer: server.base]
      assert {:ok, %{client_id: "mine"}} = login(server, context.auth, client)
      basic = "Basic " <> Base.encode64("mine:s%3Aecret")

      assert %{headers: %{"authorization" => ^basic}} =
               List.last(OAuthServer.requests(server, "/token"))

      assert {:error, {:oauth_issuer_changed, "https://a.example", _}} =
               login(
                 server,
                 context.auth,
                 Keyword.put(client, :client_issuer, "https://a.example")
               )
    end

    test "keeps the secret of a registration for renewals, and only for its client", context do
      server =
        OAuthServer.start!(
          secret: "the-secret",
          expires: 5,
          metadata: %{token_endpoint_auth_methods_supported: ["client_secret_post"]}
        )

      assert {:ok, tokens} = login(server, context.auth)
      refute inspect(tokens, limit: :infinity) =~ "the-secret"
      assert {:ok, token} = OAuth.token("web", server.url, context.auth)
      assert token != tokens.access_token
      assert [first, second] = OAuthServer.requests(server, "/token")
      assert first.form["client_secret"] == "the-secret"
      assert second.form["client_secret"] == "the-secret"
      assert second.form["grant_type"] == "refresh_token"
    end

    test "logs a client in without a browser", context do
      server = OAuthServer.start!(metadata: %{authorization_endpoint: nil})
      client = [grant: :client_credentials, client_id: "robot", client_secret: "s"]
      assert {:ok, %{client_id: "robot"}} = login(server, context.auth, client)

      assert [%{form: %{"grant_type" => "client_credentials"}}] =
               OAuthServer.requests(server, "/token")

      assert opened() == nil
    end

    test "proves a client with a signature", context do
      server = OAuthServer.start!()
      key = :public_key.generate_key({:namedCurve, :secp256r1})
      pem = :public_key.pem_encode([:public_key.pem_entry_encode(:ECPrivateKey, key)])
      client = [grant: :client_credentials, client_id: "robot", private_key: pem]
      assert {:ok, _tokens} = login(server, context.auth, client)
      assert [%{form: form}] = OAuthServer.requests(server, "/token")
      [head, claims, signature] = String.split(form["client_assertion"], ".")
      <<r::unsigned-256, s::unsigned-256>> = Base.url_decode64!(signature, padding: false)
      der = :public_key.der_encode(:"ECDSA-Sig-Value", {:"ECDSA-Sig-Value", r, s})
      public = {{:ECPoint, elem(key, 4)}, {:namedCurve, :secp256r1}}
      assert :public_key.verify(head <> "." <> claims, :sha256, der, public)

      assert {:ok, %{"aud" => aud, "iss" => "robot"}} =
               claims |> Base.url_decode64!(padding: false) |> Codex.JSON.decode()

      assert aud == server.base

      assert {:error, {:oauth_client_key, words}} =
               login(server, context.auth, Keyword.put(client, :private_key, "not-a-key"))

      refute words =~ "not-a-key"
    end

    test "ends with its time, with a failing opener, and takes an address by hand", context do
      server = OAuthServer.start!()
      silent = fn url -> send(context[:to] || self(), url) && :ok end

      assert login(server, context.auth, open: silent, login_timeout: 50) ==
               {:error, {:timeout, 50}}

      assert login(server, context.auth, open: fn _url -> {:error, :no_screen} end) ==
               {:error, {:oauth_browser, :no_screen}}

      by_hand = fn url ->
        {:ok, %{headers: headers}} = Codex.HTTP.request("GET", url, [], "", timeout_ms: 10_000)
        {:redirect, headers |> List.keyfind("location", 0) |> elem(1)}
      end

      assert {:ok, _tokens} = login(server, context.auth, open: by_hand)
      foreign = fn _url -> {:redirect, "http://127.0.0.1:1/callback/x?code=1&state=2"} end

      assert login(server, context.auth, open: foreign) ==
               {:error, {:oauth_callback, :missing_code}}
    end

    test "leaves neither port nor process if its caller ends", context do
      server = OAuthServer.start!()
      test = self()

      open = fn url ->
        send(test, {:opened, self(), url})
        Process.sleep(:infinity)
      end

      {caller, monitor} = spawn_monitor(fn -> login(server, context.auth, open: open) end)
      assert_receive {:opened, opener, url}, 10_000
      opener = Process.monitor(opener)
      uri = URI.parse(URI.decode_query(URI.parse(url).query)["redirect_uri"])
      assert {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, uri.port, [])
      :ok = :gen_tcp.close(socket)
      Process.exit(caller, :kill)
      assert_receive {:DOWN, ^monitor, _, _, _}
      assert_receive {:DOWN, ^opener, _, _, _}
      assert {:error, :econnrefused} = :gen_tcp.connect({127, 0, 0, 1}, uri.port, [])
    end
  end

  describe "the port" do
    test "answers its own path only, and survives rubbish and silent connections" do
      {:ok, callback} = Callback.open(0, "/callback/abc")
      uri = Callback.uri(callback)
      port = URI.parse(uri).port

      silent =
        for _ <- 1..8 do
          {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
          socket
        end

      {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
      :ok = :gen_tcp.send(socket, [:binary.copy("x", 100_000), "\r\n\r\n"])
      _ = :gen_tcp.recv(socket, 0, 10_000)

      for wrong <- ["/callback/abd?code=1", "/callback/abc", "/"] do
        url = "http://127.0.0.1:#{port}#{wrong}"
        assert {:ok, %{status: 400}} = Codex.HTTP.request("GET", url, [], "", timeout_ms: 10_000)
      end

      task =
        Task.async(fn -> Codex.HTTP.request("GET", uri <> "?a=1", [], "", timeout_ms: 10_000) end)

      ref = Callback.ref(callback)
      assert_receive {^ref, browser, "a=1"}, 10_000
      :ok = Callback.answer(browser, 200, "done")
      assert {:ok, %{status: 200, body: "done"}} = Task.await(task)
      :ok = Callback.close(callback)
      Enum.each(silent, &:gen_tcp.close/1)
      assert {:error, :econnrefused} = :gen_tcp.connect({127, 0, 0, 1}, port, [])
    end
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
