defmodule Codex.MCP.OAuthTest do
  use ExUnit.Case, async: true

  import Codex.Stub, only: [eventually: 1]
  import Codex.OAuthServer, only: [login: 2, login: 3]
  alias Codex.Auth.MCP, as: Tokens
  alias Codex.MCP.OAuth
  alias Codex.MCP.OAuth.Callback
  alias Codex.OAuthServer
  alias Codex.Test.Chromium

  @moduletag :tmp_dir

  doctest Codex.MCP.OAuth
  doctest Codex.MCP.OAuth.Metadata
  doctest Codex.MCP.OAuth.Authorization
  doctest Codex.MCP.OAuth.Grant

  setup %{tmp_dir: dir} do
    home = Codex.Logins.home!(dir)
    %{home: home, auth: [codex_home: home, cwd: false, store: :file]}
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

    test "exchanges the login of an identity provider", context do
      server = OAuthServer.start!(metadata: %{authorization_endpoint: nil})
      test = self()

      provider =
        Codex.Http.start!(fn %{path: "/token"} = request ->
          form = URI.decode_query(request.body)
          send(test, {:exchange, form})

          if form["subject_token"] == "id-1",
            do:
              {200, [], %{access_token: "jag", issued_token_type: form["requested_token_type"]}},
            else: {400, [], %{error: "invalid_grant"}}
        end)

      identity = [
        grant: :identity,
        client_id: "robot",
        client_secret: "s",
        identity_url: provider <> "/token",
        identity_client_id: "at-provider",
        identity_token: fn -> {:ok, "id-1"} end
      ]

      assert {:ok, %{client_id: "robot"}} = login(server, context.auth, identity)
      assert_received {:exchange, form}
      assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
      assert form["audience"] == server.base
      assert form["resource"] == server.url
      assert form["client_id"] == "at-provider"
      assert [%{form: form} = request] = OAuthServer.requests(server, "/token")
      assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
      assert form["assertion"] == "jag"
      assert "Basic " <> _ = request.headers["authorization"]
      assert opened() == nil

      with_token = &login(server, context.auth, Keyword.put(identity, :identity_token, &1))
      assert {:error, {:oauth_token_failed, 400, "invalid_grant"}} = with_token.("id-2")
      assert {:error, {:oauth_identity, :expired}} = with_token.(fn -> {:error, :expired} end)
      assert {:error, {:oauth_identity, :crashed}} = with_token.(fn -> raise "id-3" end)

      for {name, value} <-
            [identity_token: 1, identity_url: "http://shop.example/token"] ++
              [identity_url: nil, client_id: nil] do
        wrong = Keyword.put(identity, name, value)
        assert_raise Codex.OptionError, fn -> login(server, context.auth, wrong) end
      end
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

      by_hand = fn url -> {:redirect, OAuthServer.location(url)} end
      assert {:ok, _tokens} = login(server, context.auth, open: by_hand)
      foreign = fn _url -> {:redirect, "http://127.0.0.1:1/callback/x?code=1&state=2"} end

      assert login(server, context.auth, open: foreign) ==
               {:error, {:oauth_callback, :missing_code}}
    end

    @tag :chromium
    test "shows its page in a real browser", context do
      server = OAuthServer.start!()
      test = self()
      open = fn url -> spawn(fn -> send(test, {:page, Chromium.dom!(url)}) end) end
      assert {:ok, _tokens} = login(server, context.auth, open: open, login_timeout: 60_000)
      assert_receive {:page, page}, 60_000
      assert page =~ "You are logged in to web."
    end

    test "prints the address, and opens it with the program of the desktop", context do
      server = OAuthServer.start!()
      programs = Path.join(context.tmp_dir, "bin")
      File.mkdir_p!(programs)
      seen = Path.join(context.tmp_dir, "seen")
      stub = Path.join(programs, if(:os.type() == {:unix, :darwin}, do: "open", else: "xdg-open"))
      # It outlives the call that started it, as a browser does.
      File.write!(
        stub,
        ~s(#!/bin/sh\nsleep 0.3\nprintf %s "$1" > "#{seen}.new"\nmv "#{seen}.new" "#{seen}"\n)
      )

      File.chmod!(stub, 0o755)

      script = """
      System.put_env("PATH", #{inspect(programs)} <> ":" <> System.get_env("PATH"))
      opts = #{inspect([login_timeout: 5_000] ++ context.auth)}
      IO.inspect(Codex.MCP.OAuth.login("web", #{inspect(server.url)}, opts))
      """

      {output, 0} = Codex.OtherVM.run(script)
      assert output =~ "{:error, {:timeout, 5000}}"
      assert [url] = Regex.run(~r"^http://\S+/authorize\S+$"m, output)
      assert File.read!(seen) == url
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
      # The VM closes the ports of a process just after its end.
      assert eventually(fn ->
               :gen_tcp.connect({127, 0, 0, 1}, uri.port, []) == {:error, :econnrefused}
             end)
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
end
