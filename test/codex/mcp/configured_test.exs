defmodule Codex.MCP.ConfiguredTest do
  # The option `server:` of a client, with the keys of the CLI's configuration.
  use ExUnit.Case, async: true

  alias Codex.{HTTPServer, JSON, OAuthServer}
  alias Codex.MCP.{Client, Configured, OAuth}

  @moduletag :tmp_dir
  @moduletag capture_log: true

  @json {"content-type", "application/json"}

  setup %{tmp_dir: dir} do
    %{home: Codex.Logins.home!(dir, "")}
  end

  defp config!(home, text) do
    store = ~s(mcp_oauth_credentials_store = "file"\n)
    File.write!(Path.join(home, "config.toml"), store <> text)
  end

  defp start(home, opts \\ []),
    do:
      Client.start_link([server: "web", codex_home: home, protocol_version: "2025-06-18"] ++ opts)

  # An MCP server that tells the test the headers of `initialize`.
  defp serve do
    test = self()

    HTTPServer.start!(fn conn, request ->
      message = if request.body == "", do: %{}, else: request.body |> JSON.decode() |> elem(1)
      if message["method"] == "initialize", do: send(test, {:headers, request.headers})

      result = %{"protocolVersion" => "2025-06-18", "capabilities" => %{}}
      answer = JSON.encode!(%{"jsonrpc" => "2.0", "id" => message["id"], "result" => result})

      if message["id"],
        do: HTTPServer.reply(conn, 200, [@json], answer),
        else: HTTPServer.reply(conn, 202, [], "")
    end) <> "/mcp"
  end

  describe "http_headers_helper" do
    defp helper!(context, script) do
      config!(context.home, """
      [mcp_servers.web]
      url = "#{serve()}"
      http_headers.x-fixed = "f"
      http_headers_helper = #{JSON.encode!(script)}
      """)

      start(context.home)
    end

    test "adds headers: a shell runs it in the home, with few variables", context do
      System.put_env("MCP_HELPER_SECRET", "1")

      script =
        ~S[echo "{\"X-Dir\": \"$(basename "$PWD")\", \"X-Env\": \"<$MCP_HELPER_SECRET>\"}" 2>/dev/null]

      assert {:ok, client} = helper!(context, script)
      assert_receive {:headers, headers}, 5_000
      assert headers["x-dir"] == Path.basename(context.home)
      assert headers["x-env"] == "<>"
      assert headers["x-fixed"] == "f"
      :ok = Client.stop(client)
    end

    for {name, script, problem} <- [
          {"a failure", "echo '{}'; exit 3", "the status 3"},
          {"noise", "echo hello", "a JSON object"},
          {"another value", ~S(echo '{"X-A": 1}'), "a JSON object"},
          {"an invalid name", ~S(echo '{"X A": "1"}'), "a JSON object"},
          {"a line in a value", ~S(echo '{"X-A": "1\n2"}'), "a JSON object"},
          {"a header twice", ~S(echo '{"x-a": "1", "X-A": "2"}'), "twice"},
          {"a header of the protocol", ~S(echo '{"Mcp-Session-Id": "s"}'), "mcp-session-id"}
        ] do
      test "refuses #{name}", context do
        Process.flag(:trap_exit, true)
        assert {:error, {:headers_helper, problem} = reason} = helper!(context, unquote(script))
        assert problem =~ unquote(problem)
        assert Exception.message(Codex.Error.normalize(reason)) =~ "http_headers_helper"
        refute_received {:headers, _}
      end
    end

    test "takes the place of a login with a header authorization", context do
      assert {:ok, client} = helper!(context, ~S(echo '{"Authorization": "Bearer of-helper"}'))
      assert_receive {:headers, %{"authorization" => "Bearer of-helper"}}, 5_000
      refute inspect(:sys.get_status(client), limit: :infinity) =~ "of-helper"
      :ok = Client.stop(client)
    end
  end

  describe "logins" do
    # Opens the address as a browser would, and tells the test its parameters.
    defp browser do
      test = self()

      fn url ->
        send(test, {:address, url |> URI.parse() |> Map.get(:query) |> URI.decode_query()})
        {_status, _page} = OAuthServer.browse(url)
        :ok
      end
    end

    test "take scopes, client and port of the configuration", context do
      server = OAuthServer.start!(secret: "s3cret")

      config!(context.home, """
      [mcp_servers.web]
      url = "#{server.url}"
      scopes = ["tools:read", "extra"]
      oauth.client_id = "mine"
      oauth.client_secret = "s3cret"
      oauth.callback_port = #{Codex.MCPServers.free_port()}
      """)

      _result = start(context.home, oauth: [login: true, open: browser()])
      assert_receive {:address, address}, 10_000
      assert address["client_id"] == "mine"
      assert address["scope"] =~ "tools:read extra"
      {:ok, config} = Codex.Config.load(codex_home: context.home)
      port = Codex.Config.get(config, "mcp_servers.web.oauth.callback_port")
      assert URI.parse(address["redirect_uri"]).port == port
    end

    test "are those of the home of the configuration", context do
      server = OAuthServer.start!()
      config!(context.home, "mcp_servers.web.url = \"#{server.url}\"\n")
      login = [codex_home: context.home, cwd: false, open: browser()]
      {:ok, %{access_token: token}} = OAuth.login("web", server.url, login)
      _result = start(context.home, timeout_ms: 10_000)

      assert Enum.any?(
               OAuthServer.requests(server, "/mcp"),
               &(&1.headers["authorization"] == "Bearer " <> token)
             )
    end

    test "return to the callback URL", context do
      server = OAuthServer.start!()
      own = OAuth.callback_path(server.url) |> Path.basename()
      test = self()

      # The browser was sent to a proxy of the person.
      open = fn url ->
        query = url |> URI.parse() |> Map.get(:query) |> URI.decode_query()
        send(test, {:address, query})
        {:redirect, query["redirect_uri"] <> "&code=x&state=" <> query["state"]}
      end

      for {url, back} <- [
            {"https://shop.example/oauth/?a=1", "https://shop.example/oauth/#{own}?a=1"},
            {"http://127.0.0.1/oauth?a=1", ~r"^http://127\.0\.0\.1:\d{2,5}/oauth/#{own}\?a=1$"}
          ] do
        config!(context.home, """
        mcp_oauth_callback_url = "#{url}"
        mcp_servers.web.url = "#{server.url}"
        """)

        {:ok, config} = Codex.Config.load(codex_home: context.home)
        opts = Configured.login(config, "web") ++ [codex_home: context.home, open: open]
        # The server knows no code "x": the answer of the browser was taken.
        assert {:error, {:oauth_token_failed, 400, _}} = OAuth.login("web", server.url, opts)
        assert_receive {:address, %{"redirect_uri" => uri}}
        assert if(is_binary(back), do: uri == back, else: uri =~ back)
      end

      assert_raise Codex.OptionError, ~r/callback_url/, fn ->
        OAuth.login("web", server.url, callback_url: "no url")
      end

      config!(context.home, """
      mcp_oauth_callback_url = "no url"
      mcp_servers.web.url = "#{server.url}"
      """)

      assert {:error, %Codex.OptionError{key: :callback_url}} = start(context.home)
    end
  end

  describe "keys" do
    for {key, value} <- [{"auth", ~s("chatgpt")}, {"environment_id", ~s("remote-1")}] do
      test "#{key} that needs the CLI is refused", context do
        config!(context.home, """
        [mcp_servers.web]
        url = "http://127.0.0.1:9/mcp"
        #{unquote(key)} = #{unquote(value)}
        """)

        path = "mcp_servers.web.#{unquote(key)}"
        assert {:error, {:unsupported_option, :server, ^path} = reason} = start(context.home)
        assert Exception.message(Codex.Error.normalize(reason)) =~ path
      end
    end

    test "env_vars of this machine, and the start in milliseconds", context do
      System.put_env("MCP_CONFIGURED_A", "a")

      config!(context.home, """
      [mcp_servers.web]
      command = "sh"
      args = ["-c", "echo $MCP_CONFIGURED_A >&2; sleep 100"]
      env_vars = ["MCP_CONFIGURED_B", { name = "MCP_CONFIGURED_A", source = "local" }]
      startup_timeout_ms = 300
      """)

      Process.flag(:trap_exit, true)
      assert {:error, :timeout} = start(context.home)

      config!(context.home, """
      [mcp_servers.web]
      command = "sh"
      env_vars = [{ name = "MCP_CONFIGURED_A", source = "remote" }]
      """)

      assert {:error, {:unsupported_option, :server, "mcp_servers.web.env_vars"}} =
               start(context.home)
    end
  end
end
