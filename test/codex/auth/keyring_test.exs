defmodule Codex.Auth.KeyringTest do
  # The real thing: a D-Bus and a gnome-keyring-daemon of each test's own, and the CLI on the same
  # bus.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  alias Codex.{Auth, Keyring, Login, Logins, Native, NativePool, Test, Thread}
  alias Codex.Auth.{Credentials, MCP}

  @moduletag :tmp_dir
  @moduletag :codex_cli
  @moduletag :keyring
  @moduletag :capture_log

  # A socket's path has room for some hundred bytes; the directories of tests are longer.
  setup %{tmp_dir: dir} do
    short = Path.join(System.tmp_dir!(), "codex_sdk-#{System.unique_integer([:positive])}")
    File.mkdir_p!(short)
    File.chmod!(short, 0o700)
    on_exit(fn -> File.rm_rf!(short) end)
    %{short: short, home: Logins.home!(dir), codex: elem(Test.codex_path(), 1)}
  end

  defp opts(keyring, home, more \\ []) do
    env = Logins.env(home, Map.delete(Keyring.env(keyring), "HOME"))
    Keyword.merge([env: env, cwd: false, system_dir: Path.dirname(home), store: :keyring], more)
  end

  defp account(home) do
    {:ok, account} = NativePool.call(&Native.auth_account(&1, &2, home), 5_000)
    account
  end

  defp cli(keyring, home, codex, store \\ "keyring") do
    [
      codex_path: codex,
      env: Logins.env(home, Map.delete(Keyring.env(keyring), "HOME")),
      overrides: ["cli_auth_credentials_store=#{store}"]
    ]
  end

  test "the CLI and this package read, write and remove each other's login",
       %{
         short: short,
         home: home,
         codex: codex
       } do
    keyring = Keyring.start!(short)
    opts = opts(keyring, home)
    cli = cli(keyring, home, codex)
    account = account(home)

    assert {:ok, nil} = Auth.read(opts)
    assert {:ok, %{method: :api_key}} = Login.api_key("sk-test-of-the-cli-1234", cli)
    assert {:ok, login} = Auth.read(opts)
    assert {login.api_key, login.source} == {"sk-test-of-the-cli-1234", {:keyring, account}}
    theirs = item(keyring, account)

    # Over an entry of theirs, and as a new one: the same names, label and text.
    assert Auth.write(Credentials.api_key("sk-test-of-ours-98765"), opts) == :ok
    assert {:ok, %{key_hint: "sk-test-***98765"}} = Login.status(cli)
    assert {:ok, true} = Login.logout(cli)
    assert {:ok, nil} = Auth.read(opts)
    assert Auth.write(Credentials.api_key("sk-test-of-the-cli-1234"), opts) == :ok
    assert item(keyring, account) == theirs

    assert Keyring.lookup(keyring, "Codex Auth", account) ==
             ~s({"auth_mode":"apikey","OPENAI_API_KEY":"sk-test-of-the-cli-1234"})

    assert Auth.delete(opts) == {:ok, true}
    assert {:ok, %{logged_in?: false}} = Login.status(cli)
    assert Auth.delete(opts) == {:ok, false}
    Keyring.stop!(keyring)
  end

  test "a real turn uses the login that we wrote", %{short: short} do
    keyring = Keyring.start!(short)
    model = Test.start!(["paid"], config: "model_providers.mock.requires_openai_auth = true")
    env = Map.drop(Keyring.env(keyring, model.env), ["HOME"])
    config = "cli_auth_credentials_store = \"keyring\"\n"
    path = Path.join(model.home, "config.toml")
    File.write!(path, config <> File.read!(path))
    opts = [env: Map.put(env, "CODEX_HOME", model.home), cwd: false]

    assert Auth.write(Credentials.api_key("sk-test-for-a-turn-1"), opts) == :ok
    global = Keyword.put(Test.options(model), :env, Map.merge(env, model.env))
    {:ok, thread} = Codex.start_thread(global, Test.thread_options(model))

    assert {:ok, %{ready?: true, method: :api_key, source: {:keyring, _}}} =
             Thread.preflight(thread)

    assert {:ok, result} = Thread.run(thread, "pay")
    assert result.final_response.text == "paid"
    assert [%{headers: %{"authorization" => "Bearer sk-test-for-a-turn-1"}}] = posts(model)
    Keyring.stop!(keyring)
  end

  # Each state starts a program; a busy machine takes minutes.
  @tag timeout: 600_000
  test "every state in every mode agrees with `codex login status`", %{
    short: short,
    home: home,
    codex: codex
  } do
    keyring = Keyring.start!(short)
    account = account(home)
    file = ~s({"OPENAI_API_KEY":"sk-in-the-file-00001"})

    for {document, _exit, method} <- Logins.states(),
        store <- [:keyring, :auto, :file, :ephemeral] do
      Logins.put!(home, file)
      # The state follows the entry of the keyring.
      _ = Auth.delete(opts(keyring, home, store: :keyring))
      Logins.put!(home, file)
      if document, do: Keyring.store!(keyring, "Codex Auth", account, document)

      {:ok, status} = Login.status(cli(keyring, home, codex, Atom.to_string(store)))
      read = Auth.read(opts(keyring, home, store: store))
      {:ok, preflight} = Auth.preflight(opts(keyring, home, store: store))
      label = {store, document}

      case read do
        {:ok, nil} ->
          assert {label, status.exit_status, status.error} == {label, 1, nil}
          assert {label, preflight.error} == {label, :no_credentials}

        {:ok, login} ->
          assert {label, status.exit_status} == {label, 0}
          shown = if login.method == :bedrock_api_key, do: :bedrock, else: login.method
          assert {label, status.method} == {label, shown}

          assert {label, preflight.method, preflight.source} ==
                   {label, login.method, login.source}

          if login.api_key && login.method == :api_key,
            do: assert(status.key_hint == Credentials.mask(login.api_key))

        {:error, {:invalid_credentials, {:keyring, ^account}, _} = why} ->
          assert {label, method, store} == {label, :error, :keyring}
          assert {label, status.exit_status, is_binary(status.error)} == {label, 1, true}
          assert {label, preflight.error} == {label, why}
      end
    end

    Keyring.stop!(keyring)
  end

  test "mode auto moves a login from the file into the keyring, and back without one", %{
    short: short,
    home: home,
    codex: codex
  } do
    keyring = Keyring.start!(short)
    path = Path.join(home, "auth.json")
    auto = opts(keyring, home, store: :auto)
    Logins.put!(home, ~s({"OPENAI_API_KEY":"sk-old-in-the-file"}))

    assert {:ok, %{source: {:file, ^path}} = login} = Auth.read(auto)
    assert Auth.write(login, auto) == :ok
    refute File.exists?(path)
    assert {:ok, %{source: {:keyring, _}}} = Auth.read(auto)
    assert {:ok, %{method: :api_key}} = Login.status(cli(keyring, home, codex, "auto"))
    Keyring.stop!(keyring)

    capture_log(fn ->
      assert {:ok, nil} = Auth.read(auto)
      assert Auth.write(Credentials.api_key("sk-new-in-the-file"), auto) == :ok
      assert File.read!(path) =~ "sk-new-in-the-file"

      assert {:ok, %{warnings: [%{code: :keyring_unavailable, message: why}]}} =
               Auth.preflight(auto)

      assert why =~ "auth.json is used"
    end)
  end

  test "a locked keyring is an error at once, for us and the CLI", %{
    short: short,
    home: home,
    codex: codex
  } do
    keyring = Keyring.start!(short)
    opts = opts(keyring, home)
    assert Auth.write(Credentials.api_key("sk-locked-away-0001"), opts) == :ok
    keyring = Keyring.relock!(keyring)

    # There is no user to ask.
    assert {:error, {:keyring, :locked, _}} = Auth.read(opts)
    assert {:error, {:keyring, :locked, _}} = Auth.read(opts ++ [prompt: false])
    assert {:error, {:keyring, :locked, _}} = Auth.write(Credentials.api_key("sk-2"), opts)
    assert {:error, {:keyring, :locked, _}} = Auth.delete(opts)
    assert {:ok, %{ready?: false, error: {:keyring, :locked, _}}} = Auth.preflight(opts)
    assert {:ok, %{exit_status: 1, error: why}} = Login.status(cli(keyring, home, codex))
    assert why =~ "prompt dismissed"
    Keyring.stop!(keyring)
  end

  test "one that does not answer is given up on, and used again when it does", %{
    short: short,
    home: home
  } do
    keyring = Keyring.start!(short)
    opts = opts(keyring, home)
    assert Auth.write(Credentials.api_key("sk-1"), opts) == :ok
    Keyring.freeze!(keyring)
    assert {:error, {:keyring, :timeout, _}} = Auth.read(opts ++ [timeout: 200])

    assert {:error, {:keyring, :timeout, _}} =
             Auth.write(Credentials.api_key("sk-2"), opts ++ [timeout: 200])

    # In mode auto, too: the entry of the keyring is unknown, so no file is written beside it.
    assert {:error, {:keyring, :timeout, _}} =
             Auth.write(
               Credentials.api_key("sk-2"),
               opts(keyring, home, store: :auto, timeout: 200)
             )

    refute File.exists?(Path.join(home, "auth.json"))
    Keyring.thaw!(keyring)
    assert {:ok, %{api_key: key}} = Auth.read(opts)
    assert key in ["sk-1", "sk-2"]
    Keyring.stop!(keyring)
  end

  test "a bus without a service, and a service that comes later", %{
    short: short,
    home: home,
    codex: codex
  } do
    keyring = Keyring.start!(short, :none)
    opts = opts(keyring, home)
    assert Auth.read(opts) == {:error, :keyring_unavailable}

    assert {:ok, %{error: :keyring_unavailable, ready?: false, remote_models?: false}} =
             Auth.preflight(opts)

    # The list that the CLI has built in is there all the same.
    config = Path.join(home, "config.toml")
    File.write!(config, ~s(cli_auth_credentials_store = "keyring"\n) <> File.read!(config))

    assert {:ok, %{source: :cli, presets: [_ | _]}} =
             Codex.Models.fetch(codex_home: home, codex_path: codex, env: opts[:env])

    keyring = Keyring.start_daemon!(keyring)
    assert {:ok, nil} = Auth.read(opts)
    Keyring.stop!(keyring)
    assert Auth.read(opts) == {:error, :keyring_unavailable}
  end

  test "entries of other programs, and several of the same name", %{
    short: short,
    home: home,
    codex: codex
  } do
    keyring = Keyring.start!(short)
    opts = opts(keyring, home)
    account = account(home)
    Keyring.store!(keyring, "Codex Auth", account, "not JSON, sk-secret")
    assert {:error, {:invalid_credentials, {:keyring, ^account}, words}} = Auth.read(opts)
    refute words =~ "sk-secret"
    assert {:ok, %{exit_status: 1, error: _}} = Login.status(cli(keyring, home, codex))
    assert {:ok, nil} = Auth.read(opts(keyring, home, store: :auto))

    # Written over, it stays one entry.
    assert Auth.write(Credentials.api_key("sk-over-0123456789"), opts) == :ok
    assert {:ok, %{api_key: "sk-over-0123456789"}} = Auth.read(opts)
    assert {:ok, %{key_hint: "sk-over-***56789"}} = Login.status(cli(keyring, home, codex))
    assert Auth.delete(opts) == {:ok, true}
    assert Keyring.lookup(keyring, "Codex Auth", account) == ""
    Keyring.stop!(keyring)
  end

  test "two homes side by side, and a link to one of them", %{
    short: short,
    home: home,
    codex: codex,
    tmp_dir: dir
  } do
    keyring = Keyring.start!(short)
    other = Logins.home!(Path.join(dir, "other"))
    link = Path.join(dir, "link")
    File.ln_s!(home, link)

    assert Auth.write(Credentials.api_key("sk-of-the-first-home"), opts(keyring, home)) == :ok
    assert Auth.write(Credentials.api_key("sk-of-the-other-home"), opts(keyring, other)) == :ok
    assert {:ok, %{api_key: "sk-of-the-first-home"}} = Auth.read(opts(keyring, link))
    assert {:ok, %{api_key: "sk-of-the-other-home"}} = Auth.read(opts(keyring, other))
    assert {:ok, %{key_hint: "sk-of-th***-home"}} = Login.status(cli(keyring, link, codex))
    assert Auth.delete(opts(keyring, link)) == {:ok, true}
    assert {:ok, nil} = Auth.read(opts(keyring, home))
    assert {:ok, %{api_key: _}} = Auth.read(opts(keyring, other))
    Keyring.stop!(keyring)
  end

  test "tokens of MCP servers: the CLI sees ours and removes them", %{
    short: short,
    home: home,
    codex: codex
  } do
    keyring = Keyring.start!(short)
    url = "http://127.0.0.1:9/mcp"

    tokens = %MCP{
      server: "tiny",
      url: url,
      client_id: "client-1",
      access_token: "mcp-access-1",
      refresh_token: "mcp-refresh-1",
      expires_at: ~U[2100-01-01 00:00:00.000Z],
      scopes: ["a", "b"]
    }

    for store <- [:keyring, :file, :auto] do
      opts = opts(keyring, home, store: store)
      overrides = ["mcp_servers.tiny.url=\"#{url}\"", "mcp_oauth_credentials_store=\"#{store}\""]
      flags = Enum.flat_map(overrides, &["-c", &1])
      env = Map.to_list(opts[:env])

      # Warnings about the home are on stderr.
      mcp = fn args ->
        System.cmd(
          "sh",
          ["-c", ~s(exec "$@" 2>/dev/null), "sh", codex] ++ flags ++ ["mcp" | args],
          env: env
        )
      end

      assert {:ok, nil} = MCP.read("tiny", url, opts)
      assert MCP.write(tokens, opts) == :ok
      assert {:ok, found} = MCP.read("tiny", url, opts)
      assert %{found | source: nil, document: nil} == tokens
      refute inspect(found) =~ "mcp-access-1"
      assert {list, 0} = mcp.(["list", "--json"])
      assert {:ok, [%{"auth_status" => "o_auth"}]} = Codex.JSON.decode(list)
      assert {said, 0} = mcp.(["logout", "tiny"])
      assert said =~ "Removed OAuth credentials"
      assert {:ok, nil} = MCP.read("tiny", url, opts)
      assert MCP.write(tokens, opts) == :ok
      assert MCP.delete("tiny", url, opts) == {:ok, true}
      assert MCP.delete("tiny", url, opts) == {:ok, false}
      assert {list, 0} = mcp.(["list", "--json"])
      refute match?({:ok, [%{"auth_status" => "o_auth"}]}, Codex.JSON.decode(list))
    end

    # Moved, not copied.
    assert MCP.write(tokens, opts(keyring, home, store: :file)) == :ok
    assert MCP.in_file(opts(keyring, home)) == {:ok, [{"tiny", url}]}
    assert MCP.write(tokens, opts(keyring, home, store: :auto)) == :ok
    assert MCP.in_file(opts(keyring, home)) == {:ok, []}
    Keyring.stop!(keyring)
  end

  defp posts(model), do: for(%{method: "POST"} = request <- Test.requests(model), do: request)

  # Label, attributes and secret of an entry.
  defp item(keyring, account) do
    {said, 0} =
      System.cmd("secret-tool", ["search", "--all", "username", account],
        env: Map.to_list(Keyring.env(keyring)),
        stderr_to_stdout: true
      )

    said
    |> String.split("\n", trim: true)
    # Neither side writes a schema; the daemon adds one when it feels like it.
    |> Enum.reject(&(&1 =~ ~r/^(\[|created|modified|schema)/))
    |> Enum.sort()
  end
end
