defmodule Codex.MCP.OAuthCliTest do
  # The real CLI: it uses a login made here, and a login made by it is used here.
  use ExUnit.Case, async: true

  alias Codex.Auth.MCP, as: Tokens
  alias Codex.CLI.Command
  alias Codex.{FileSystem, Keyring, OAuthServer, OtherVM, Subprocess}
  alias Codex.MCP.{Configured, OAuth}

  @moduletag :codex_cli
  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    server = OAuthServer.start!()

    home =
      Codex.Logins.home!(dir, """
      mcp_oauth_credentials_store = "file"
      mcp_servers.web.url = "#{server.url}"
      """)

    {:ok, cli} = Codex.Test.codex_path()
    env = %{"CODEX_HOME" => home, "HOME" => dir, "BROWSER" => "/bin/true", "DISPLAY" => nil}
    %{server: server, cli: cli, env: env, auth: [codex_home: home, cwd: false]}
  end

  defp status(context) do
    {:ok, %{exit: %{status: 0}, stdout: list}} =
      Command.run([context.cli, "mcp", "list", "--json"], env: context.env, timeout: 60_000)

    {:ok, [%{"auth_status" => status}]} = Codex.JSON.decode(list)
    status
  end

  # The CLI starts its MCP server, and lists its tools.
  defp tools(context) do
    argv = [context.cli, "app-server"]
    opts = [env: context.env]
    {:ok, sub} = Subprocess.open(argv, opts)

    calls = [
      %{id: 1, method: "initialize", params: %{clientInfo: %{name: "x", version: "1"}}},
      %{method: "initialized"},
      %{id: 2, method: "mcpServerStatus/list", params: %{}}
    ]

    {:ok, sub} = Subprocess.write(sub, Enum.map_join(calls, &(Codex.JSON.encode!(&1) <> "\n")))
    answer = answer(sub, "")
    _ = Subprocess.stop(sub)
    [%{"name" => "web", "tools" => tools}] = answer["data"]
    Map.keys(tools)
  end

  defp answer(sub, text) do
    found =
      for line <- text |> String.split("\n") |> Enum.drop(-1),
          {:ok, %{"id" => 2, "result" => result}} <- [Codex.JSON.decode(line)],
          do: result

    if found != [], do: hd(found), else: read(sub, text)
  end

  defp read(sub, text) do
    receive do
      message ->
        case Subprocess.stream(sub, message) do
          {:ok, sub, outputs} ->
            {:ok, sub} = Subprocess.grant(sub, 65_536)
            answer(sub, text <> for({:stdout, bytes} <- outputs, into: "", do: bytes))

          :unknown ->
            read(sub, text)
        end
    after
      60_000 -> flunk("no answer: #{text}")
    end
  end

  # `codex mcp login` prints the address.
  defp cli_login(context) do
    {:ok, sub} = Subprocess.open([context.cli, "mcp", "login", "web"], env: context.env)
    follow(sub, "", false)
  end

  defp follow(sub, text, opened?) do
    receive do
      message ->
        case Subprocess.stream(sub, message) do
          {:ok, sub, outputs} ->
            text =
              text <> for({kind, b} when kind in [:stdout, :stderr] <- outputs, into: "", do: b)

            url = Regex.run(~r"^http://\S+/authorize\S+(?=\s)"m, text)
            if url && not opened?, do: assert({200, _} = OAuthServer.browse(hd(url)))

            case List.keyfind(outputs, :exit, 0) do
              {:exit, exit} -> {exit.status, text}
              nil -> follow(sub, text, opened? or url != nil)
            end

          :unknown ->
            follow(sub, text, opened?)
        end
    after
      60_000 -> flunk("no end: #{text}")
    end
  end

  defp expire!(context) do
    {:ok, tokens} = Tokens.read("web", context.server.url, context.auth)
    :ok = Tokens.write(%{tokens | expires_at: ~U[2020-01-01 00:00:00.000Z]}, context.auth)
    tokens
  end

  test "a login made by the CLI works here, and renews here", context do
    assert {0, _text} = cli_login(context)

    assert {:ok, %{state: :logged_in} = status} =
             OAuth.status("web", context.server.url, context.auth)

    assert status.issuer == context.server.base
    assert {:ok, first} = OAuth.token("web", context.server.url, context.auth)
    expire!(context)
    assert {:ok, second} = OAuth.token("web", context.server.url, context.auth)
    assert second not in [nil, first]
    assert status(context) == "o_auth"
    assert tools(context) == ["echo"]

    # Both programs return to the same path.
    [%{query: query}] = OAuthServer.requests(context.server, "/authorize")
    back = URI.decode_query(query)["redirect_uri"]
    assert URI.parse(back).path == OAuth.callback_path(context.server.url)
  end

  test "a login made here works for the CLI, which renews it", context do
    assert status(context) == "not_logged_in"
    # A secret is a member that the CLI does not know.
    OAuthServer.set(context.server, secret: "kept")

    open = fn url -> spawn(fn -> OAuthServer.browse(url) end) end
    assert {:ok, _} = OAuth.login("web", context.server.url, [open: open] ++ context.auth)
    assert status(context) == "o_auth"
    assert tools(context) == ["echo"]
    before = expire!(context)
    assert tools(context) == ["echo"]
    assert {:ok, renewed} = Tokens.read("web", context.server.url, context.auth)
    assert renewed.refresh_token != before.refresh_token
    assert {:ok, token} = OAuth.token("web", context.server.url, context.auth)
    assert token == renewed.access_token
  end

  test "two VMs and the CLI renew a rotating token once", context do
    open = fn url -> spawn(fn -> OAuthServer.browse(url) end) end
    assert {:ok, _} = OAuth.login("web", context.server.url, [open: open] ++ context.auth)
    expire!(context)
    # While a renewal is under way, the others come for the same.
    OAuthServer.set(context.server, token: fn _form -> if(Process.sleep(500) == :ok, do: nil) end)

    script = """
    IO.gets("")
    opts = #{inspect(context.auth)}
    {:ok, token} = Codex.MCP.OAuth.token("web", #{inspect(context.server.url)}, opts)
    IO.puts("token " <> token)
    """

    vms = for _ <- 1..2, do: OtherVM.start(script)
    for vm <- vms, do: assert_receive({^vm, {:data, {:eol, "pid " <> _}}}, 60_000)
    for vm <- vms, do: Port.command(vm, "go\n")
    cli = Task.async(fn -> tools(context) end)

    tokens =
      for vm <- vms do
        assert_receive {^vm, {:data, {:eol, "token " <> token}}}, 60_000
        token
      end

    assert Task.await(cli, 120_000) == ["echo"]
    assert [token] = Enum.uniq(tokens)
    assert {:ok, ^token} = OAuth.token("web", context.server.url, context.auth)

    grants =
      for %{form: form} <- OAuthServer.requests(context.server, "/token"), do: form["grant_type"]

    assert grants == ["authorization_code", "refresh_token"]
  end

  test "the lock is the CLI's, and what changed meanwhile is taken over", context do
    assert {0, _text} = cli_login(context)
    url = context.server.url
    account = Tokens.account("web", url)
    digest = Base.encode16(:crypto.hash(:sha256, account), case: :lower)
    folder = Path.join(context.auth[:codex_home], "mcp-oauth-locks")
    assert Enum.sort(File.ls!(folder)) == Enum.sort(["file-store.lock", digest <> ".lock"])

    old = expire!(context)
    {:ok, lock} = FileSystem.lock(Path.join(folder, digest <> ".lock"))
    waiting = Task.async(fn -> OAuth.token("web", url, context.auth) end)
    # The CLI waits, too.
    cli = Task.async(fn -> tools(context) end)
    # Runs of the CLI that need no lock: time enough for a renewal that would not wait.
    for _ <- 1..3, do: assert(status(context) == "o_auth")
    new = %{old | access_token: "from-elsewhere", expires_at: ~U[2100-01-01 00:00:00.000Z]}
    OAuthServer.set(context.server, tokens: %{"Bearer from-elsewhere" => ""})
    :ok = Tokens.write(new, context.auth)
    :ok = FileSystem.unlock(lock)
    assert Task.await(waiting, 60_000) == {:ok, "from-elsewhere"}
    assert Task.await(cli, 60_000) == ["echo"]

    assert [%{form: %{"grant_type" => "authorization_code"}}] =
             OAuthServer.requests(context.server, "/token")
  end

  @tag :keyring
  test "a login in a keyring is shared with the CLI", context do
    short = Path.join(System.tmp_dir!(), "codex_sdk-#{System.unique_integer([:positive])}")
    File.mkdir_p!(short)
    File.chmod!(short, 0o700)
    on_exit(fn -> File.rm_rf!(short) end)
    keyring = Keyring.start!(short)
    config = Path.join(context.auth[:codex_home], "config.toml")
    File.write!(config, config |> File.read!() |> String.replace(~s("file"), ~s("keyring")))
    env = Map.merge(Keyring.env(keyring), context.env)

    context = %{
      context
      | env: env,
        auth: [env: Map.reject(env, &(elem(&1, 1) == nil))] ++ context.auth
    }

    open = fn url -> spawn(fn -> OAuthServer.browse(url) end) end
    assert {:ok, _} = OAuth.login("web", context.server.url, [open: open] ++ context.auth)
    refute File.exists?(Path.join(context.auth[:codex_home], ".credentials.json"))
    assert tools(context) == ["echo"]
    before = expire!(context)
    assert tools(context) == ["echo"]

    assert {:ok, %{source: {:keyring, _}} = tokens} =
             Tokens.read("web", context.server.url, context.auth)

    assert tokens.refresh_token != before.refresh_token
    expire!(context)
    assert {:ok, token} = OAuth.token("web", context.server.url, context.auth)
    assert token not in [nil, tokens.access_token]
    assert {:ok, true} = OAuth.logout("web", context.server.url, context.auth)
    assert status(context) == "not_logged_in"
    Keyring.stop!(keyring)
  end

  # The address that `codex mcp login` prints, as its parameters. Nobody opens it.
  defp cli_address(context) do
    {:ok, sub} = Subprocess.open([context.cli, "mcp", "login", "web"], env: context.env)
    query = printed(sub, "")
    _ = Subprocess.stop(sub)
    query
  end

  defp printed(sub, text) do
    case Regex.run(~r"^http://\S+/authorize\?(\S+)(?=\s)"m, text) do
      [_, query] ->
        URI.decode_query(query)

      nil ->
        receive do
          message -> printed(sub, text, Subprocess.stream(sub, message))
        after
          60_000 -> flunk("no address: #{text}")
        end
    end
  end

  defp printed(sub, text, :unknown), do: printed(sub, text)

  defp printed(_sub, text, {:ok, sub, outputs}) do
    more = for {kind, bytes} when kind in [:stdout, :stderr] <- outputs, into: "", do: bytes
    printed(sub, text <> more)
  end

  defp own_address(context) do
    test = self()

    open = fn url ->
      send(test, {:address, url |> URI.parse() |> Map.get(:query) |> URI.decode_query()})
      {:error, :seen}
    end

    {:ok, config} = Codex.Config.load(context.auth)
    opts = Configured.login(config, "web") ++ context.auth

    assert {:error, {:oauth_browser, :seen}} =
             OAuth.login("web", context.server.url, [open: open] ++ opts)

    assert_received {:address, query}
    query
  end

  test "the keys of the configuration make the same address", context do
    config = Path.join(context.auth[:codex_home], "config.toml")
    text = File.read!(config)
    port = Codex.MCPServers.free_port()

    for {global, own} <- [
          {"", ~s(scopes = ["one", "two"])},
          {~s(mcp_oauth_callback_url = "https://shop.example/oauth/"), ""},
          {~s(mcp_oauth_callback_url = "https://shop.example/x?y=1"),
           ~s(oauth.client_id = "mine"\noauth.callback_url = "https://other.example/y")},
          {"mcp_oauth_callback_port = #{port}", ~s(oauth.callback_url = "http://127.0.0.1/own")},
          {"", ~s(oauth.callback_url = "http://127.0.0.1:#{port}/own")}
        ] do
      table = "[mcp_servers.web]\nurl = \"#{context.server.url}\"\n" <> own
      [store | _server] = String.split(text, "mcp_servers")
      File.write!(config, Enum.join([store, global, table, ""], "\n"))
      [theirs, ours] = [cli_address(context), own_address(context)]
      assert address(theirs, port) == address(ours, port)
    end
  end

  # Both choose a free port, unless one is given.
  defp address(query, port) do
    back = URI.parse(query["redirect_uri"])
    port = if back.port in [port, 443], do: back.port, else: :free
    place = {back.scheme, back.host, port, back.path, back.query}
    {place, query["scope"], query["client_id"] == "mine"}
  end

  test "a logout here is one for the CLI", context do
    assert {0, _text} = cli_login(context)
    assert {:ok, true} = OAuth.logout("web", context.server.url, context.auth)
    assert status(context) == "not_logged_in"
  end
end
