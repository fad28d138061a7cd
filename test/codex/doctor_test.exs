defmodule Codex.DoctorTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  alias Codex.{CLI, Doctor, Logins, Stub}
  alias Codex.Doctor.Machine

  @moduletag :tmp_dir

  doctest Codex.Doctor

  setup %{tmp_dir: dir} do
    work = Path.join(dir, "work")
    File.mkdir_p!(Path.join(work, ".git"))
    File.write!(Path.join(work, ".git/HEAD"), "ref: refs/heads/main\n")
    %{home: Logins.home!(dir), work: work}
  end

  # A program that tells its version and has a sandbox; tests of the real one say so. The home may
  # be in the system's temporary folder, so that is another one.
  defp opts(context, more \\ []) do
    {env, more} = Keyword.pop(more, :environment, %{})
    temporary = Path.join(context.tmp_dir, "temporary")

    Keyword.merge(
      [
        env: Logins.env(context.home, Map.put_new(env, "TMPDIR", temporary)),
        cwd: context.work,
        system_dir: Path.join(context.tmp_dir, "system"),
        codex_path: Stub.write!(context.tmp_dir, "exit 0")
      ],
      more
    )
  end

  defp run(context, more \\ []) do
    {checks, _log} = with_log(fn -> Doctor.run(opts(context, more)) end)
    Map.new(checks, &{&1.name, &1})
  end

  defp outcomes(checks), do: Map.new(checks, fn {name, check} -> {name, check.status} end)

  defp detail(check, key, value), do: Enum.find(check.details, &(&1[key] == value))

  test "all is well", context do
    Logins.put!(context.home, Logins.chatgpt())
    checks = Doctor.run(opts(context))

    assert Enum.map(checks, &{&1.name, &1.status}) == [
             native: :ok,
             cli: :ok,
             home: :ok,
             directory: :ok,
             config: :ok,
             auth: :ok,
             keyring: :ok,
             sandbox: :ok,
             environment: :ok
           ]

    assert Doctor.healthy?(checks)
    assert String.ends_with?(Doctor.text(checks, color: false), "\n\nA run would work.")
    # The environment of the test has no keyring, and needs none.
    assert %{summary: words} = Enum.find(checks, &(&1.name == :keyring))
    assert words =~ "no keyring can be reached"
    assert words =~ "no login is kept there"
  end

  test "the native library and the launcher have a place and a version", context do
    assert %{native: %{summary: summary, details: [library, launcher]}} = run(context)
    vsn = to_string(Application.spec(:codex_sdk, :vsn))
    assert summary == "version #{vsn}, with the keyring"
    assert %{loaded: true, version: ^vsn, keyring: true} = library
    assert File.regular?(library.file)
    assert File.regular?(launcher.file)
  end

  # In a VM of its own: a library cannot be unloaded from this one.
  test "without the native library, it reports that and runs the other checks", context do
    ebin = Path.join(context.tmp_dir, "codex_sdk/ebin")
    File.mkdir_p!(Path.dirname(ebin))
    File.cp_r!(Application.app_dir(:codex_sdk, "ebin"), ebin)

    code = """
    {:ok, _} = Application.ensure_all_started(:codex_sdk)
    checks = Codex.Doctor.run(codex_home: #{inspect(context.home)})
    IO.puts(["JSON: ", Codex.Doctor.json(checks)])
    """

    # A program, since no program runs without the launcher.
    env = [{"CODEX_PATH", System.find_executable("true")}]

    {said, 0} =
      System.cmd("elixir", ["-pa", ebin, "-e", code],
        stderr_to_stdout: true,
        cd: context.work,
        env: env
      )

    assert [_, json] = Regex.run(~r/^JSON: (.*)$/m, said)
    assert {:ok, %{"healthy" => false, "checks" => checks}} = Codex.JSON.decode(json)
    checks = Map.new(checks, &{&1["name"], &1})
    assert %{"status" => "error", "details" => [library, launcher]} = checks["native"]
    assert library["text"] =~ "libcodex_nif.so: there is no such file"
    assert launcher["text"] =~ "codex_launcher: no such file or directory"
    assert checks["home"]["status"] in ["ok", "warning"]
    assert checks["directory"]["status"] == "ok"
    skipped = for {name, %{"status" => "skipped"}} <- checks, do: name
    assert Enum.sort(skipped) == ~w(auth cli config keyring sandbox)
  end

  describe "the CLI" do
    test "that is missing, no program, or does not print its version", context do
      no = fn path, words ->
        assert %{cli: %{status: :error, summary: summary}, sandbox: sandbox} =
                 run(context, codex_path: path)

        assert summary =~ words
        assert sandbox.status == :skipped
      end

      no.(Path.join(context.tmp_dir, "none"), "does not exist")
      no.(context.tmp_dir, "is not a file")
      no.(Path.join(context.home, "config.toml"), "may not be executed")
      no.(System.find_executable("true"), "does not print its version")
      broken = Path.join(context.tmp_dir, "broken")
      File.write!(broken, "#!/no/such/interpreter\n")
      File.chmod!(broken, 0o755)
      no.(broken, "it does not start")
    end

    test "of another version is a warning", context do
      path = Path.join(context.tmp_dir, "other")
      File.write!(path, "#!/bin/sh\necho codex-cli 0.42.0\n")
      File.chmod!(path, 0o755)
      checks = run(context, codex_path: path)
      assert %{status: :warning, summary: "codex-cli 0.42.0, older than" <> _} = checks.cli
      assert checks.cli.summary =~ "the tested versions #{CLI.Range.lowest()} to"
      assert [%{version: "0.42.0", tested: false}] = checks.cli.details
    end

    test "is the one that CODEX_PATH of the environment names", context do
      path = Stub.write!(context.tmp_dir, "exit 0")
      checks = run(context, codex_path: nil, environment: %{"CODEX_PATH" => path})
      assert [%{path: ^path}] = checks.cli.details
      assert detail(checks.environment, :name, "CODEX_PATH")
    end
  end

  describe "the home" do
    test "that is not there, or among temporary files", context do
      checks = run(context, codex_home: Path.join(context.tmp_dir, "none"))
      assert %{status: :error, summary: words} = checks.home
      assert String.ends_with?(words, "but there is no such directory")
      assert %{config: :skipped, auth: :skipped, sandbox: :skipped} = outcomes(checks)

      checks = run(context, environment: %{"TMPDIR" => context.tmp_dir})
      assert %{status: :warning, details: [%{temporary: true}, %{text: text}]} = checks.home
      assert text =~ "no helper programs"

      checks = run(context, environment: %{"TMPDIR" => context.home <> "-of-another"})
      assert %{status: :ok, details: [%{temporary: false}]} = checks.home
    end

    # The user of the tests may be root.
    test "that cannot be written, or belongs to another user", context do
      stat = %{File.stat!(context.home) | access: :read_write, uid: 7, mode: 0o40755}
      judge = &Machine.judge_home("/srv/codex", &1, &2, "/tmp")

      assert {:ok, "/srv/codex", [%{owner: 7, mode: "755", writable: true}], home: "/srv/codex"} =
               judge.(stat, 7)

      assert {:ok, _, [_], _} = judge.(stat, nil)
      assert {:warning, _, [_, %{text: text}], _} = judge.(stat, 8)
      assert text == "it belongs to user 7, and this is user 8"

      for access <- [:read, :none] do
        assert {:error, _, [%{writable: false}, problem], _} = judge.(%{stat | access: access}, 7)

        assert problem.text =~ "cannot be written"
      end
    end

    test "is not changed", context do
      Logins.put!(context.home, Logins.chatgpt())
      files = fn -> for path <- tree(context.home), do: {path, File.read!(path)} end
      before = files.()
      run(context)
      assert files.() == before
    end
  end

  defp tree(dir), do: Enum.filter(Path.wildcard(dir <> "/**", match_dot: true), &File.regular?/1)

  test "a missing directory, and one outside of Git", context do
    checks = run(context, cwd: Path.join(context.tmp_dir, "none"))
    assert %{directory: :error, sandbox: :skipped, config: :ok} = outcomes(checks)

    outside = Path.join(System.tmp_dir!(), "codex_doctor-#{System.unique_integer([:positive])}")
    File.mkdir_p!(outside)
    on_exit(fn -> File.rm_rf!(outside) end)
    checks = Doctor.run(opts(context, cwd: outside))
    refute Doctor.healthy?(checks)
    directory = Enum.find(checks, &(&1.name == :directory))

    assert %{status: :error, summary: ^outside, details: [%{status: :error} = detail]} = directory
    assert %{path: ^outside, repository: nil} = detail
    assert detail.text =~ "skip_git_repo_check"

    checks = run(context, cwd: outside, skip_git_repo_check: true)
    assert %{status: :ok, details: [%{path: ^outside, repository: nil}]} = checks.directory
    assert checks.sandbox.status == :ok
  end

  describe "the configuration" do
    test "has its layers, those that do not count with the reason", context do
      project = Path.join(context.work, ".codex/config.toml")
      File.mkdir_p!(Path.dirname(project))
      File.write!(project, "model = \"other\"\n")
      checks = run(context)

      assert %{status: :warning, summary: "2 layers, and 1 that does not count"} = checks.config
      assert [first, user, system] = checks.config.details
      assert %{layer: :project, file: ^project, keys: 1, status: :warning} = first
      assert first.disabled_reason =~ "add #{context.work} as a trusted project"
      assert first.text =~ first.disabled_reason
      assert %{layer: :user, disabled_reason: nil} = user
      assert %{layer: :system, keys: 0} = system
    end

    test "has its warnings and replaced values, with places", context do
      system = Path.join(context.tmp_dir, "system")
      File.mkdir_p!(system)
      File.write!(Path.join(system, "requirements.toml"), "allowed_sandbox_modes = []\n")
      path = Path.join(context.home, "config.toml")
      File.write!(path, "modle = \"sk-marked-value\"\n" <> File.read!(path))
      checks = run(context)

      assert %{status: :warning, summary: "2 layers, 1 warning"} = checks.config

      assert %{requirements: ["allowed_sandbox_modes"]} =
               Enum.find(checks.config.details, & &1[:requirements])

      assert %{line: 1, key: "modle", file: ^path, text: text} =
               detail(checks.config, :reason, :unknown_key)

      assert text == "#{path}:1:1: unknown configuration field `modle`; did you mean `model`?"
    end

    test "that the CLI refuses is an error, without its values", context do
      path = Path.join(context.home, "config.toml")

      for {line, words} <- [
            {"model_providers.m.http_headers = \"sk-marked-value\"", "missing field `name`"},
            {"mcp_servers.m = \"sk-marked-value\"", "invalid type: string, expected a map"},
            {"sandbox_mode = \"sk-marked-value\"",
             "invalid value: string, expected one of `read-only`"},
            {"model = sk-marked-value", "string values must be quoted"},
            {"model = \"sk-marked-value", "invalid basic string"}
          ] do
        File.write!(path, line <> "\n")
        checks = run(context)

        assert %{status: :error, details: [%{status: :error, text: text} = detail]} =
                 checks.config

        assert text =~ ~r/^#{Regex.escape(path)}:1:\d+: .*#{Regex.escape(words)}/
        assert %{file: ^path, line: 1} = detail
        refute inspect(checks) =~ "sk-marked-value"
        assert %{auth: :skipped, keyring: :skipped, sandbox: :skipped} = outcomes(checks)
      end
    end
  end

  describe "credentials" do
    test "that are there, in every state of a home", context do
      for {document, _exit, method} <- Logins.states() do
        Logins.put!(context.home, document)
        checks = run(context)

        {:ok, preflight} =
          Codex.Auth.preflight(Keyword.take(opts(context), [:env, :cwd, :system_dir]))

        exec = detail(checks.auth, :lane, :exec)

        assert {document, exec.ready} == {document, preflight.ready?}
        assert {document, checks.auth.status == :error} == {document, not preflight.ready?}

        if method in [nil, :error],
          do: assert({document, checks.auth.status} == {document, :error})

        assert exec.key_hint == preflight.key_hint
      end
    end

    test "that the app-server alone has not are a warning", context do
      checks = run(context, environment: %{"CODEX_API_KEY" => "sk-marked-in-the-environment-1"})

      assert %{status: :warning, summary: "API key of CODEX_API_KEY (sk-marke***ent-1) for mock"} =
               checks.auth

      assert %{ready: false, error: :no_credentials} = detail(checks.auth, :lane, :app_server)
      assert detail(checks.auth, :code, :codex_api_key_ignored)
    end

    test "that rules forbid are an error", context do
      Logins.put!(context.home, Logins.chatgpt())
      path = Path.join(context.home, "config.toml")
      File.write!(path, "forced_login_method = \"api\"\n" <> File.read!(path))
      checks = run(context)
      assert %{status: :error, summary: words} = checks.auth
      assert words =~ "forced_login_method"
      assert %{error: :forced_login_method} = detail(checks.auth, :lane, :exec)
    end
  end

  describe "a missing keyring" do
    defp configured("encrypted"),
      do: "features.secret_auth_storage = true\n" <> configured("keyring")

    defp configured(store), do: "cli_auth_credentials_store = \"#{store}\"\n"

    test "is an error if it stores the login, and `codex exec` needs that", context do
      path = Path.join(context.home, "config.toml")
      config = File.read!(path)

      for {store, environment, auth, keyring} <- [
            {"keyring", %{}, :error, :error},
            {"keyring", %{"CODEX_API_KEY" => "sk-1"}, :warning, :warning},
            {"auto", %{}, :error, :warning},
            {"file", %{}, :error, :ok},
            {"ephemeral", %{}, :error, :ok},
            {"encrypted", %{}, :warning, :warning}
          ] do
        File.write!(path, configured(store) <> config)
        checks = run(context, environment: environment)
        assert {store, checks.auth.status} == {store, auth}
        assert {store, checks.keyring.status} == {store, keyring}
        assert [%{state: :unavailable, store: kept}] = checks.keyring.details
        assert Atom.to_string(kept) == store
      end
    end
  end

  describe "the sandbox" do
    test "that fails is a warning, and an error if the configuration asks for one", context do
      codex = Stub.write!(context.tmp_dir, "echo said in vain; echo no namespaces >&2; exit 3")
      path = Path.join(context.home, "config.toml")
      config = File.read!(path)

      for {line, status} <- [
            {"", :warning},
            {"sandbox_mode = \"read-only\"", :error},
            {"sandbox_mode = \"danger-full-access\"", :skipped}
          ] do
        File.write!(path, line <> "\n" <> config)
        sandbox = run(context, codex_path: codex).sandbox
        assert {line, sandbox.status} == {line, status}

        if status != :skipped do
          assert Enum.map(sandbox.details, & &1.text) == [
                   "`codex sandbox -- true` ended with status 3:",
                   "no namespaces",
                   "said in vain"
                 ]
        end
      end
    end

    test "that hangs, is killed or talks without end is given up on", context do
      said = fn body ->
        [detail] =
          run(context, codex_path: Stub.write!(context.tmp_dir, body), timeout: 300).sandbox.details

        detail.text
      end

      assert said.("exec sleep 600") == "`codex sandbox -- true` took longer than 300 ms"
      assert said.("kill -9 $$") == "`codex sandbox -- true` was ended by signal kill"
      assert said.("exec yes") =~ ~r/wrote over 65536 bytes|took longer/
    end

    test "is asked for with the home, the directory and the words that the CLI takes", context do
      log = Path.join(context.tmp_dir, "asked")
      codex = Stub.write!(context.tmp_dir, ~s(echo "$CODEX_HOME $PWD $*" >"#{log}"))
      assert run(context, codex_path: codex).sandbox.status == :ok
      assert File.read!(log) == "#{context.home} #{context.work} sandbox -- true\n"
    end
  end

  test "variables are listed by their names", context do
    names = %{
      "CODEX_SANDBOX" => "seatbelt",
      "https_proxy" => "http://user:sk-marked@127.0.0.1:9",
      "CODEX_OF_TOMORROW" => "sk-marked",
      "CODEX_SDK_NATIVE_DIR" => "/sk-marked",
      "RUST_LOG" => "",
      "OTHER" => "sk-marked"
    }

    environment = run(context, environment: names).environment
    assert environment.status == :warning
    texts = Map.new(environment.details, &{&1.name, &1.text})

    assert Enum.sort(Map.keys(texts)) ==
             Enum.sort(
               ~w(CODEX_HOME CODEX_OF_TOMORROW CODEX_REFRESH_TOKEN_URL_OVERRIDE) ++
                 ~w(CODEX_REVOKE_TOKEN_URL_OVERRIDE CODEX_SANDBOX CODEX_SDK_NATIVE_DIR) ++
                 ~w(NO_PROXY https_proxy)
             )

    assert texts["CODEX_SDK_NATIVE_DIR"] =~ "`mix compile` takes the Rust library"
    assert texts["CODEX_OF_TOMORROW"] =~ "neither this package nor CLI"

    refute inspect(environment) =~ "sk-marked"
  end

  test "text and JSON say the same, and nothing secret", context do
    mark = "sk-marked-#{System.unique_integer([:positive])}"
    Logins.put!(context.home, ~s({"OPENAI_API_KEY":"#{mark}-auth-json-0001"}))
    path = Path.join(context.home, "config.toml")

    File.write!(path, """
    #{File.read!(path)}
    modle = "#{mark}"
    model_providers.mock.http_headers = { Authorization = "Bearer #{mark}-header" }
    model_providers.mock.experimental_bearer_token = "#{mark}-bearer"
    mcp_servers.m.command = "m"
    mcp_servers.m.args = ["--key", "#{mark}-args"]
    mcp_servers.m.env.FOO = "#{mark}-env"
    """)

    # Output of a failing program.
    codex =
      Stub.write!(context.tmp_dir, """
      cat "$CODEX_HOME/config.toml" "$CODEX_HOME/auth.json" >&2
      printf ' 7 | token = "#{mark}"\\n' >&2
      printf '\\033]0;title\\007 %s %s\\n' "$MY_TOKEN" "#{mark}-header" >&2
      exit 1
      """)

    environment = %{
      "MY_TOKEN" => "#{mark}-my-token",
      "OPENAI_API_KEY" => "#{mark}-openai",
      "CODEX_ACCESS_TOKEN" => "#{mark}-access",
      "HTTPS_PROXY" => "http://#{mark}@127.0.0.1:9"
    }

    checks = Doctor.run(opts(context, codex_path: codex, environment: environment))
    json = Doctor.json(checks)
    text = Doctor.text(checks, color: true)
    plain = Doctor.text(checks, color: false)

    refute json =~ "\n"
    for output <- [json, text, plain, inspect(checks)], do: refute(output =~ mark)
    refute plain =~ "\e"
    refute json =~ "\\u001b"
    assert String.replace(text, ~r/\e\[\d+m/, "") == plain

    assert {:ok, %{"healthy" => healthy, "checks" => decoded}} = Codex.JSON.decode(json)
    assert healthy == Doctor.healthy?(checks)

    for {check, object} <- Enum.zip(checks, decoded) do
      assert object["name"] == Atom.to_string(check.name)
      assert object["status"] == Atom.to_string(check.status)
      assert plain =~ object["summary"]
      assert length(object["details"]) == length(check.details)
      for detail <- object["details"], do: assert(plain =~ detail["text"])
    end
  end

  test "paths that are not UTF-8, and escape sequences", context do
    home = Path.join(context.tmp_dir, <<"h", 0xFF, "\e[31m">>)
    File.cp_r!(context.home, home)
    checks = Doctor.run(opts(context, codex_home: home))
    assert {:ok, %{"checks" => _}} = Codex.JSON.decode(Doctor.json(checks))
    refute Doctor.text(checks, color: false) =~ "\e"
    assert String.valid?(Doctor.text(checks))
  end

  test "invalid options", context do
    assert_raise Codex.OptionError, ~r/unknown option :hom;/, fn -> Doctor.run(hom: 1) end

    assert_raise Codex.OptionError, ~r/:timeout must be .* milli/, fn ->
      Doctor.run(timeout: 0)
    end

    assert_raise Codex.OptionError, ~r/:cwd must be a path, got: 7/, fn -> Doctor.run(cwd: 7) end
    assert_raise Codex.OptionError, ~r/a boolean/, fn -> Doctor.run(skip_git_repo_check: "no") end
    error = assert_raise Codex.OptionError, fn -> Doctor.run(env: %{"A" => {:secret}}) end
    assert %{key: :env, value: "[redacted]"} = error
    assert_raise Codex.OptionError, fn -> Doctor.text([], colour: true) end
    assert context.home
  end
end
