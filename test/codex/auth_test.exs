defmodule Codex.AuthTest do
  # Variables of the VM and a flag for the whole VM are at stake.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  alias Codex.{Auth, Login, Logins, OddFiles}
  alias Codex.Auth.Credentials

  @moduletag :tmp_dir

  doctest Codex.Auth
  doctest Codex.Auth.Credentials
  doctest Codex.Auth.MCP

  setup %{tmp_dir: dir} do
    %{home: Logins.home!(dir)}
  end

  defp opts(home, more \\ []),
    do: [env: Logins.env(home), cwd: false, system_dir: Path.dirname(home)] ++ more

  describe "a login in a file" do
    test "accepts exactly the logins that the CLI accepts", %{home: home} do
      for {document, exit, method} <- Logins.states() do
        Logins.put!(home, document)

        case {Auth.read(opts(home)), method} do
          {{:ok, nil}, nil} ->
            assert exit == 1

          {{:ok, %Credentials{} = login}, method} when method not in [nil, :error] ->
            assert exit == 0
            assert login.source == {:file, Path.join(home, "auth.json")}
            assert login.method == if(method == :bedrock, do: :bedrock_api_key, else: method)

          {{:error, {:invalid_credentials, {:file, _}, words}}, :error} ->
            assert exit == 1
            assert words =~ ~r/^(it is not|OPENAI_API_KEY|auth_mode|last_refresh|tokens|bedrock)/

          {got, _} ->
            flunk("#{inspect(document)}: #{inspect(got)}")
        end
      end
    end

    @tag :codex_cli
    test "is seen as `codex login status` sees it", %{home: home} do
      for {document, exit, method} <- Logins.states() do
        Logins.put!(home, document)
        {:ok, status} = Login.status(codex_path: codex(), env: Logins.env(home))
        assert {document, status.exit_status} == {document, exit}
        assert status.method == if(method == :error, do: nil, else: method)
        assert status.error != nil == (method == :error)

        if method == :api_key do
          {:ok, login} = Auth.read(opts(home))
          assert status.key_hint == Credentials.mask(login.api_key)
        end
      end
    end

    @tag :codex_cli
    test "is written as the CLI writes it, byte for byte", %{home: home} do
      path = Path.join(home, "auth.json")

      {:ok, %{method: :api_key}} =
        Login.api_key("sk-test-0123456789", codex_path: codex(), env: Logins.env(home))

      theirs = {File.read!(path), mode(path)}
      File.rm!(path)
      assert Auth.write(Credentials.api_key("sk-test-0123456789"), opts(home)) == :ok
      assert {File.read!(path), mode(path)} == theirs
      assert mode(path) == 0o600
      assert {:ok, %{logged_in?: true}} = Login.status(codex_path: codex(), env: Logins.env(home))
      assert {:ok, true} = Auth.delete(opts(home))
      assert {:ok, false} = Auth.delete(opts(home))

      assert {:ok, %{logged_in?: false}} =
               Login.status(codex_path: codex(), env: Logins.env(home))
    end

    test "keeps unknown members and unverified claims", %{home: home} do
      Logins.put!(home, Logins.chatgpt() |> String.replace_prefix("{", ~s({"later":[1],)))
      {:ok, login} = Auth.read(opts(home))
      assert {login.plan, login.workspace_id, login.email} == {"pro", "acc-1", "ann@example.com"}
      assert login.renewable?
      assert DateTime.compare(login.expires_at, DateTime.utc_now()) == :gt
      assert %DateTime{} = login.last_refresh
      assert Auth.write(login, opts(home)) == :ok

      assert {:ok, %{"later" => [1]}} =
               Codex.JSON.decode(File.read!(Path.join(home, "auth.json")))
    end

    test "is replaced at once: a reader sees the old one or the new one", %{home: home} do
      keys = for n <- 1..20, do: "sk-" <> String.duplicate(Integer.to_string(n), 200)
      :ok = Auth.write(Credentials.api_key(hd(keys)), opts(home))

      writers =
        for key <- keys,
            do: Task.async(fn -> Auth.write(Credentials.api_key(key), opts(home)) end)

      readers =
        for _ <- 1..50 do
          Task.async(fn ->
            {:ok, login} = Auth.read(opts(home))
            login.api_key
          end)
        end

      assert Enum.all?(Task.await_many(readers, 20_000), &(&1 in keys))
      assert Enum.uniq(Task.await_many(writers, 20_000)) == [:ok]
      assert Enum.filter(File.ls!(home), &String.starts_with?(&1, ".auth-")) == []
    end

    test "waits for the CLI's own lock, and not longer than it may", %{home: home} do
      {:ok, lock} = Codex.FileSystem.lock(Path.join(home, "auth.json.lock"))
      login = Credentials.api_key("sk-1")

      assert Auth.write(login, opts(home, timeout: 100)) ==
               {:error, {:lock_held, Path.join(home, "auth.json.lock")}}

      task = Task.async(fn -> Auth.write(login, opts(home)) end)
      refute Task.yield(task, 50)
      Codex.FileSystem.unlock(lock)
      assert Task.await(task) == :ok
    end

    test "behind links is written and locked in its place, and the links stay", %{home: home} do
      [link, target] = for name <- ["auth.json", "real/login.json"], do: Path.join(home, name)
      # A chain that leads to nothing yet, not even to a directory.
      File.ln_s!("chain", link)
      File.ln_s!("real/login.json", Path.join(home, "chain"))

      for key <- ["sk-1", "sk-2"] do
        assert Auth.write(Credentials.api_key(key), opts(home)) == :ok
        assert File.lstat!(link).type == :symlink
        assert File.read!(target) =~ key
        assert Bitwise.band(File.stat!(target).mode, 0o777) == 0o600
        assert {:ok, %{api_key: ^key}} = Auth.read(opts(home))
      end

      # The CLI locks beside the target, too.
      {:ok, lock} = Codex.FileSystem.lock(target <> ".lock")
      login = Credentials.api_key("sk-3")

      assert {:error, {:lock_held, held}} = Auth.write(login, opts(home, timeout: 50))
      assert Path.expand(held) == target <> ".lock"
      Codex.FileSystem.unlock(lock)

      # As `codex logout`: other homes may use the target.
      assert Auth.delete(opts(home)) == {:ok, true}
      assert File.lstat(link) == {:error, :enoent}
      assert File.read!(target) =~ "sk-2"
    end

    test "that no request can carry is refused by name", %{home: home} do
      assert_raise ArgumentError, "expected the key to be UTF-8 without a null byte", fn ->
        Credentials.api_key("sk-\0")
      end

      assert Login.api_key("sk-\0", env: Logins.env(home)) ==
               {:error, {:invalid_api_key, :null_byte}}

      assert Login.access_token("at-\0", env: Logins.env(home)) ==
               {:error, {:invalid_access_token, :null_byte}}
    end

    test "that cannot be read or written is an error that says so", %{home: home, tmp_dir: dir} do
      File.mkdir_p!(Path.join(home, "auth.json"))
      assert {:error, {:unreadable, path, words}} = Auth.read(opts(home))
      assert path == Path.join(home, "auth.json")
      assert words == "it is not a regular file but a directory"
      assert {:error, {:unreadable, _, _}} = Auth.write(Credentials.api_key("k"), opts(home))
      File.rmdir!(path)
      File.write!(path, <<0xFF, 0xFE>>)
      assert {:error, {:invalid_credentials, _, "it is not UTF-8"}} = Auth.read(opts(home))

      assert {:error, %Codex.Config.Error{reason: :missing_home}} =
               Auth.read(codex_home: Path.join(dir, "none"))

      File.write!(Path.join(home, "config.toml"), "cli_auth_credentials_store = \"bogus\"")
      assert {:error, %Codex.Config.Error{}} = Auth.read(opts(home))
      assert_raise Codex.OptionError, ~r/:store/, fn -> Auth.read(store: :safe) end
      assert_raise Codex.OptionError, ~r/:timeout/, fn -> Auth.read(timeout: 0) end
    end

    test "does not replace a file that is not regular", %{home: home} do
      path = Path.join(home, "auth.json")

      # Not a device: the test would destroy it if it failed.
      for kind <- [:pipe, :link_to_pipe, :socket] do
        OddFiles.all()[kind].(path)
        before = File.stat!(path)

        assert {:error, {:unreadable, ^path, "it is not a regular file" <> _}} =
                 Auth.write(Credentials.api_key("sk-new"), opts(home))

        assert File.stat!(path) == before
        OddFiles.remove!(path)
      end
    end

    test "of a home with a name that is not UTF-8", %{tmp_dir: dir} do
      home = Path.join(dir, <<"h", 0xE9>>)

      # Not every file system has such names.
      case File.mkdir(home) do
        :ok ->
          assert Auth.write(Credentials.api_key("sk-1"), codex_home: home, cwd: false) == :ok
          assert {:ok, %{api_key: "sk-1"}} = Auth.read(codex_home: home, cwd: false)

        {:error, :eilseq} ->
          :ok
      end
    end
  end

  test "a login in memory is this VM's alone, and each home has its own", %{
    home: home,
    tmp_dir: dir
  } do
    other = Logins.home!(Path.join(dir, "b"))
    login = Credentials.api_key("sk-memory")
    assert Auth.write(login, opts(home, store: :ephemeral)) == :ok

    assert {:ok, %{api_key: "sk-memory", source: :memory}} =
             Auth.read(opts(home, store: :ephemeral))

    assert {:ok, nil} = Auth.read(opts(other, store: :ephemeral))
    assert {:ok, nil} = Auth.read(opts(home))
    refute inspect(:sys.get_status(Codex.Auth.Runtime)) =~ "sk-memory"
    assert Auth.delete(opts(home, store: :ephemeral)) == {:ok, true}
    assert {:ok, nil} = Auth.read(opts(home, store: :ephemeral))
  end

  describe "without a keyring" do
    setup do
      :persistent_term.erase({Codex.Auth, :keyring_warning_emitted})
      :ok
    end

    test "mode keyring has no login, mode auto has the file; the log says it once", %{home: home} do
      Logins.put!(home, ~s({"OPENAI_API_KEY":"sk-file"}))

      log =
        capture_log(fn ->
          assert Auth.read(opts(home, store: :keyring)) == {:error, :keyring_unavailable}

          assert {:ok, %{api_key: "sk-file", source: {:file, _}}} =
                   Auth.read(opts(home, store: :auto))

          assert {:ok, %{api_key: "sk-file"}} = Auth.read(opts(home, store: :auto))
        end)

      assert [_, said] = String.split(log, "keyring auth")
      assert said =~ "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set"
      assert said =~ "auth.json"
    end

    test "mode auto writes the file and removes it", %{home: home} do
      capture_log(fn ->
        assert Auth.write(Credentials.api_key("sk-1"), opts(home, store: :auto)) == :ok
        assert File.read!(Path.join(home, "auth.json")) =~ "sk-1"
        assert Auth.delete(opts(home, store: :auto)) == {:ok, true}
        refute File.exists?(Path.join(home, "auth.json"))
      end)

      assert Auth.write(Credentials.api_key("sk-1"), opts(home, store: :keyring)) ==
               {:error, :keyring_unavailable}

      assert Auth.delete(opts(home, store: :keyring)) == {:error, :keyring_unavailable}
    end

    test "a bus that never answers times out, and delays no other call", %{home: home} do
      # A socket's path has room for some hundred bytes.
      socket = Path.join(System.tmp_dir!(), "codex_sdk-bus-#{System.unique_integer([:positive])}")
      on_exit(fn -> File.rm(socket) end)
      {:ok, listen} = :gen_tcp.listen(0, [:binary, active: false, ifaddr: {:local, socket}])
      env = Logins.env(home, %{"DBUS_SESSION_BUS_ADDRESS" => "unix:path=" <> socket})
      opts = Keyword.put(opts(home, store: :keyring, timeout: 200), :env, env)

      answers =
        Task.await_many(for(_ <- 1..50, do: Task.async(fn -> Auth.read(opts) end)), 10_000)

      assert [{:error, {:keyring, :timeout, _}}] = Enum.uniq(answers)
      assert {:ok, nil} = Auth.read(opts(home))
      :gen_tcp.close(listen)
    end
  end

  describe "tokens of an MCP server" do
    @entry %{
      server_name: "s",
      server_url: "http://127.0.0.1/",
      issuer: "http://127.0.0.1:1",
      client_id: "c",
      access_token: "old",
      expires_at: 1,
      refresh_token: "r",
      scopes: ["x"]
    }

    defp put_tokens!(home) do
      path = Path.join(home, ".credentials.json")
      entry = Codex.JSON.encode!(@entry)
      # As a newer CLI may write it: more members, and a number that no float holds.
      text = ~s({"k":#{String.trim_trailing(entry, "}")},"zz":{"a":1},"n":1e400}})
      File.write!(path, text)
      path
    end

    defp members!(path) do
      [_, entry] = Regex.run(~r/^{"[^"]*":({.*})}$/, File.read!(path))
      {:ok, members} = entry |> String.replace("1e400", ~s("1e400")) |> Codex.JSON.decode()
      members
    end

    test "keep issuer and unknown members when they are read and written", %{home: home} do
      path = put_tokens!(home)
      opts = opts(home, store: :file)
      {:ok, tokens} = Auth.MCP.read("s", "http://127.0.0.1/", opts)
      assert tokens.issuer == "http://127.0.0.1:1"
      refute inspect(tokens) =~ "old"

      # Also if the entry is gone by then.
      for gone? <- [false, true] do
        if gone?, do: File.rm!(path)
        assert Auth.MCP.write(%{tokens | access_token: "new"}, opts) == :ok

        assert %{"issuer" => "http://127.0.0.1:1", "zz" => %{"a" => 1}, "n" => "1e400"} =
                 members = members!(path)

        assert {members["access_token"], members["refresh_token"]} == {"new", "r"}
      end
    end

    test "keep them when they are made anew, and behind a link", %{home: home} do
      path = put_tokens!(home)
      target = Path.join(home, "elsewhere.json")
      File.rename!(path, target)
      File.ln_s!(target, path)

      tokens = %Auth.MCP{
        server: "s",
        url: "http://127.0.0.1/",
        client_id: "d",
        access_token: "new"
      }

      assert Auth.MCP.write(tokens, opts(home, store: :file)) == :ok
      assert File.lstat!(path).type == :symlink

      assert %{"issuer" => "http://127.0.0.1:1", "n" => "1e400", "client_id" => "d"} =
               members!(target)
    end

    test "that are not UTF-8 are refused by name", %{home: home} do
      tokens = %Auth.MCP{server: "s", url: "u", client_id: "c", access_token: <<"sk-mark", 255>>}
      error = assert_raise ArgumentError, fn -> Auth.MCP.write(tokens, opts(home)) end
      assert error.message == "expected :access_token of the tokens to be UTF-8"
    end
  end

  test "a pipe, and locks that are held, keep no thread from others", %{home: home, tmp_dir: dir} do
    {_, 0} = System.cmd("mkfifo", [Path.join(home, "auth.json")])
    other = Logins.home!(Path.join(dir, "b"))
    Logins.put!(other, ~s({"OPENAI_API_KEY":"sk-other"}))
    {:ok, lock} = Codex.FileSystem.lock(Path.join(home, "auth.lock"))
    key = Credentials.api_key("sk-1")

    tasks =
      for n <- 1..40 do
        Task.async(fn ->
          if rem(n, 2) == 0,
            do: Auth.read(opts(home)),
            else: Auth.write(key, opts(home, timeout: 1_500))
        end)
      end

    for _ <- 1..20,
        do: assert({:ok, %{api_key: "sk-other"}} = Auth.read(opts(other, timeout: 500)))

    answers = tasks |> Task.await_many(20_000) |> Enum.map(&elem(elem(&1, 1), 0)) |> Enum.uniq()
    assert Enum.sort(answers) == [:lock_held, :unreadable]
    Codex.FileSystem.unlock(lock)
  end

  test "on a machine without a home of the CLI, the home is created", %{tmp_dir: dir} do
    user = Path.join(dir, "user")
    File.mkdir_p!(user)
    opts = [env: %{"HOME" => user}, cwd: false, system_dir: dir]
    assert Auth.read(opts) == {:ok, nil}
    assert Auth.delete(opts) == {:ok, false}
    assert {:ok, %{error: :no_credentials}} = Auth.preflight(opts)
    refute File.exists?(Path.join(user, ".codex"))
    File.write!(Path.join(dir, "config.toml"), ~s(forced_login_method = "chatgpt"\n))
    forbidden = {:error, {:forced_login_method, :chatgpt, :api_key}}
    assert Auth.write(Credentials.api_key("sk-1"), opts) == forbidden
    File.rm!(Path.join(dir, "config.toml"))
    assert Auth.write(Credentials.api_key("sk-1"), opts) == :ok
    assert {:ok, %{api_key: "sk-1"}} = Auth.read(opts)
    # A named one is not.
    assert {:error, %{reason: :missing_home}} = Auth.read(codex_home: Path.join(dir, "none"))
  end

  test "invalid UTF-8 and invalid documents fail without showing their content" do
    assert Credentials.parse(<<0xFF>>) == {:error, "it is not UTF-8"}
    error = assert_raise ArgumentError, fn -> Credentials.api_key(<<"sk-secret", 0xFF>>) end
    refute Exception.message(error) =~ "sk-secret"
    assert_raise Codex.OptionError, fn -> Auth.write(%Credentials{}) end
    assert_raise Codex.OptionError, ~r/:timeout/, fn -> Auth.read(timeout: Integer.pow(2, 65)) end
    assert Credentials.mask("ключ-ключ") == "***"
  end

  test "no answer stays behind in the mailbox", %{home: home} do
    {:ok, nil} = Auth.read(opts(home))
    assert Process.info(self(), :messages) == {:messages, []}
  end

  describe "the functions of before" do
    setup %{home: home} do
      names = ~w(CODEX_HOME CODEX_API_KEY OPENAI_API_KEY HOME)
      before = Map.new(names, &{&1, System.get_env(&1)})
      System.put_env(%{"CODEX_HOME" => home, "HOME" => Path.dirname(home)})
      System.delete_env("CODEX_API_KEY")

      on_exit(fn ->
        Enum.each(before, fn
          {name, nil} -> System.delete_env(name)
          {name, value} -> System.put_env(name, value)
        end)
      end)
    end

    test "find a key, in the CLI's order", %{home: home} do
      assert {Auth.codex_home(), Auth.api_key(), Auth.infer_auth_mode()} == {home, nil, :chatgpt}
      Logins.put!(home, Logins.chatgpt())
      assert Auth.chatgpt_access_token() =~ "."
      assert {Auth.api_key(), Auth.infer_auth_mode()} == {nil, :chatgpt}
      Logins.put!(home, ~s({"OPENAI_API_KEY":"sk-file"}))
      assert {Auth.api_key(), Auth.chatgpt_access_token()} == {"sk-file", nil}
      System.put_env("CODEX_API_KEY", "  ")
      assert Auth.api_key() == "sk-file"
      System.put_env("CODEX_API_KEY", " sk-env ")
      assert {Auth.api_key(), Auth.infer_auth_mode()} == {"sk-env", :api}
    end

    test "never fail: an unreadable file counts as missing", %{home: home} do
      Logins.put!(home, "{nope")
      assert Auth.api_key() == nil
      File.write!(Path.join(home, "config.toml"), "not toml at all")
      Logins.put!(home, ~s({"OPENAI_API_KEY":"sk-file"}))
      assert Auth.api_key() == "sk-file"
      System.put_env("CODEX_HOME", home <> "-none")
      assert Auth.api_key() == nil
    end

    test "know the place of older programs, unless a home is named", %{home: home, tmp_dir: dir} do
      assert Auth.auth_paths() == [
               Path.join(home, "auth.json"),
               Path.join(home, ".credentials.json")
             ]

      System.delete_env("CODEX_HOME")
      System.put_env("HOME", dir)
      assert Path.join(dir, ".config/openai/codex.json") in Auth.auth_paths()
      File.mkdir_p!(Path.join(dir, ".config/openai"))
      File.write!(Path.join(dir, ".config/openai/codex.json"), ~s({"openai_api_key":"sk-older"}))
      assert Auth.api_key() == "sk-older"
    end
  end

  defp codex do
    {:ok, path} = Codex.Test.codex_path()
    path
  end

  defp mode(path), do: Bitwise.band(File.stat!(path).mode, 0o777)
end
