defmodule Codex.LoginTest do
  # Runs one login in a browser at a time, because the CLI chooses its port.
  use ExUnit.Case, async: false

  import Codex.Stub, only: [write!: 2, alive?: 1, eventually: 1]
  alias Codex.{Auth, Issuer, Login, Logins}
  alias Codex.Login.{Session, Status}

  @moduletag :tmp_dir

  doctest Codex.Login.Status
  doctest Codex.Login.Session

  setup %{tmp_dir: dir} do
    %{home: Logins.home!(dir)}
  end

  describe "the real CLI" do
    @describetag :codex_cli

    test "logs in with a key, says so, and logs out", %{home: home} do
      opts = opts(home)
      assert {:ok, %Status{logged_in?: false, error: nil}} = Login.status(opts)
      assert {:ok, status} = Login.api_key(" sk-test-0123456789\n", opts)
      assert {status.method, status.key_hint} == {:api_key, "sk-test-***56789"}
      assert {:ok, %{api_key: "sk-test-0123456789"}} = Auth.read(codex_home: home, cwd: false)
      assert Login.logout(opts) == {:ok, true}
      assert Login.logout(opts) == {:ok, false}
      assert Login.api_key("  ", opts) == {:error, {:invalid_api_key, :empty}}
      assert Login.api_key(nil, opts) == {:error, {:invalid_api_key, :empty}}
      assert Login.access_token(nil, opts) == {:error, {:invalid_access_token, :empty}}
      assert Login.access_token("", opts) == {:error, {:invalid_access_token, :empty}}
    end

    test "rejects an invalid token without showing it", %{home: home} do
      assert {:error, {:login_failed, 1, words}} =
               Login.access_token("sk-nonsense-token", opts(home))

      assert words =~ "agent identity JWT"
      refute words =~ "sk-nonsense-token"
      refute File.exists?(Path.join(home, "auth.json"))
    end

    test "obeys rules before anything runs", %{home: home, tmp_dir: dir} do
      chatgpt = opts(home, overrides: ["forced_login_method=chatgpt"])
      # The CLI would say the same, but this one would make a file.
      touched = Path.join(dir, "touched")
      stub = write!(dir, "touch #{touched}; exit 3")
      expected = {:error, {:forced_login_method, :chatgpt, :api_key}}
      assert Login.api_key("sk-1", Keyword.put(chatgpt, :codex_path, stub)) == expected
      api = Keyword.put(opts(home, overrides: ["forced_login_method=api"]), :codex_path, stub)
      expected = {:error, {:forced_login_method, :api, :chatgpt}}
      assert Login.access_token("at-1", api) == expected
      assert Login.device(api) == expected
      assert Login.chatgpt(api) == expected
      refute File.exists?(touched)
      assert {:ok, _} = Login.api_key("sk-1", opts(home, overrides: ["forced_login_method=api"]))
    end

    test "logs in with a code that is typed elsewhere", %{home: home} do
      {issuer, url} = Issuer.start!(pending: 2)
      {:ok, login} = Login.device(opts(home, issuer: url))
      assert_receive {:codex_login, ^login, {:open, %{url: page, code: "ABCD-12345"}}}, 10_000
      assert page == url <> "/codex/device"
      assert_receive {:codex_login, ^login, {:done, %Status{method: :chatgpt}}}, 20_000

      assert {:ok, %{workspace_id: "acc-1", renewable?: true}} =
               Auth.read(codex_home: home, cwd: false)

      assert "/oauth/token" in Issuer.paths(issuer)
      refute_received {:codex_login, _, _}
    end

    test "gives the code up when asked to, when time is over, and when its owner ends", %{
      home: home
    } do
      {_issuer, url} = Issuer.start!(pending: 1_000)
      {:ok, login} = Login.device(opts(home, issuer: url))
      assert_receive {:codex_login, ^login, {:open, _}}, 10_000
      assert Login.cancel(login) == :ok
      assert Login.await(login, 10_000) == {:error, :cancelled}
      assert Login.cancel(login) == :ok

      {:ok, login} = Login.device(opts(home, issuer: url, timeout: 300))
      assert Login.await(login, 10_000) == {:error, {:timeout, 300}}

      test = self()

      owner =
        spawn(fn ->
          {:ok, login} = Login.device(opts(home, issuer: url))

          receive do
            {:codex_login, ^login, {:open, _}} -> send(test, {:open, children()})
          end

          Process.sleep(:infinity)
        end)

      assert_receive {:open, [_ | _] = running}, 10_000
      Process.exit(owner, :kill)
      assert eventually(fn -> not Enum.any?(running, &alive?/1) end)
      assert {:error, {:timeout, 10}} = Login.await(make_ref(), 10)
    end

    @tag :cli_pin
    test "waits for a browser on this machine", %{home: home} do
      # A port that is taken is the CLI's own error.
      {:ok, login} = Login.chatgpt(opts(home, env: %{"BROWSER" => "true"}))

      receive do
        {:codex_login, ^login, {:open, %{url: url, code: nil}}} ->
          assert %{"redirect_uri" => back} = URI.decode_query(URI.parse(url).query)
          assert back =~ "http://127.0.0.1:"
          assert Login.cancel(login) == :ok
          assert Login.await(login, 10_000) == {:error, :cancelled}

        {:codex_login, ^login, {:error, reason}} ->
          assert {:login_failed, 1, _} = reason
      after
        20_000 -> flunk("nothing came")
      end
    end
  end

  describe "a CLI that misbehaves" do
    test "fails in its own words, but for the key", %{home: home, tmp_dir: dir} do
      stub = write!(dir, "key=$(cat); echo \"no good: $key\" >&2; exit 7")
      opts = [codex_path: stub, env: Logins.env(home)]

      assert Login.api_key("sk-secret", opts) ==
               {:error, {:login_failed, 7, "no good: [redacted]"}}

      assert Login.logout(opts) == {:error, {:login_failed, 7, "no good:"}}

      assert {:ok, %Status{logged_in?: false, error: "no good:", exit_status: 7}} =
               Login.status(opts)
    end

    test "is killed, hangs, or is not there", %{home: home, tmp_dir: dir} do
      killed = write!(dir, "kill -9 $$")
      assert Login.status(codex_path: killed, env: Logins.env(home)) == {:error, {:killed, :kill}}

      hangs = write!(dir, "sleep 60")
      opts = [codex_path: hangs, env: Logins.env(home)]
      assert Login.status(opts ++ [timeout: 200]) == {:error, {:timeout, 200}}

      none = Path.join(dir, "none")
      assert Login.status(codex_path: none) == {:error, {:codex_binary_missing, none}}
      assert Login.device(codex_path: none) == {:error, {:codex_binary_missing, none}}
      assert_raise Codex.OptionError, ~r/:timeout/, fn -> Login.status(timeout: -1) end
      assert_raise Codex.OptionError, ~r/:overrides/, fn -> Login.status(overrides: "a=b") end
    end

    test "never names a URL, and floods", %{home: home, tmp_dir: dir} do
      flood = write!(dir, "head -c 5000000 /dev/zero | tr '\\0' 'x' >&2; exit 4")
      {:ok, login} = Login.device(codex_path: flood, env: Logins.env(home))
      assert {:error, {:login_failed, 4, words}} = Login.await(login, 20_000)
      assert byte_size(words) < 200_000

      endless = write!(dir, "while :; do echo no; done")
      {:ok, login} = Login.device(codex_path: endless, env: Logins.env(home), timeout: 300)
      assert Login.await(login, 20_000) == {:error, {:timeout, 300}}

      dies = write!(dir, "echo https://example.com/open; kill -9 $$")
      {:ok, login} = Login.chatgpt(codex_path: dies, env: Logins.env(home))
      assert_receive {:codex_login, ^login, {:open, %{url: "https://example.com/open"}}}, 5_000
      assert Login.await(login, 5_000) == {:error, {:killed, :kill}}
    end
  end

  test "invalid options are errors before anything starts; a killed session ends the login", %{
    home: home,
    tmp_dir: dir
  } do
    stub = write!(dir, "sleep 60")
    opts = [codex_path: stub, env: Logins.env(home)]

    for bad <- [
          [timeout: 5_000_000_000],
          [issuer: 5],
          [env: %{"X" => {:odd}}],
          [env: %{"A=B" => "x"}]
        ] do
      assert_raise Codex.OptionError, fn -> Login.device(Keyword.merge(opts, bad)) end
      assert_raise Codex.OptionError, fn -> Login.status(Keyword.merge(opts, bad)) end
    end

    {:ok, login} = Login.device(opts)
    [{pid, _}] = Registry.lookup(Codex.Exec.Registry, {Session, login})
    Process.exit(pid, :kill)
    assert Login.await(login, 5_000) == {:error, :crashed}
    assert Login.await(login, 100) in [{:error, {:timeout, 100}}, {:error, :crashed}]
    assert_raise ArgumentError, fn -> Login.await(login, 5_000_000_000) end
  end

  test "a secret of the wrong type is in no error" do
    alias Codex.Auth
    alias Codex.Auth.Credentials

    for {argument, fun} <- [
          {:key, &Login.api_key/1},
          {:token, &Login.access_token/1},
          {:key, &Credentials.api_key/1},
          {:key, &Credentials.mask/1},
          {:document, &Credentials.parse/1},
          {:credentials, &Credentials.secret/1},
          {:login, &Auth.write/1},
          {:tokens, &Auth.MCP.write/1}
        ],
        value <- [
          String.to_charlist("sk-secret"),
          {:ok, "sk-secret"},
          %{api_key: "sk-secret"},
          :"sk-secret"
        ] do
      error = assert_raise Codex.OptionError, fn -> fun.(value) end
      assert {error.reason, error.path} == {:argument, [argument]}
      refute inspect(Map.from_struct(error)) =~ "sk-secret"
    end
  end

  @tag :codex_cli
  test "the first login on a machine", %{tmp_dir: dir} do
    user = Path.join(dir, "user")
    File.mkdir_p!(user)
    {:ok, codex} = Codex.Test.codex_path()
    env = Logins.env(Path.join(user, ".codex"), %{"CODEX_HOME" => nil, "HOME" => user})

    assert {:ok, %{method: :api_key}} =
             Login.api_key("sk-test-0123456789", codex_path: codex, env: env)

    assert File.exists?(Path.join(user, ".codex/auth.json"))
  end

  test "the URL is sent once it is complete" do
    said =
      "Open this link\n   \e[94mhttps://a.example/codex/device\e[0m\n\nEnter this code\n   \e[94mAB12-CD345\e[0m\n"

    assert Session.invitation(said, true) == %{
             url: "https://a.example/codex/device",
             code: "AB12-CD345"
           }

    for length <- 0..(byte_size(said) - 6) do
      assert Session.invitation(binary_part(said, 0, length), true) in [
               nil,
               Session.invitation(said, true)
             ]
    end
  end

  defp opts(home, more \\ []) do
    {:ok, codex} = Codex.Test.codex_path()
    {env, more} = Keyword.pop(more, :env, %{})
    [codex_path: codex, env: Logins.env(home, env)] ++ more
  end

  # Commands of this VM that run the CLI's login.
  defp children do
    {out, 0} = System.cmd("ps", ["-eo", "pid=,args="])

    for line <- String.split(out, "\n", trim: true),
        line =~ "login --device-auth",
        [pid | _] = String.split(line),
        do: String.to_integer(pid)
  end
end
