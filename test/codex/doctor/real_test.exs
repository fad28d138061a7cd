defmodule Codex.Doctor.RealTest do
  # The CLI itself, and a real keyring.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  alias Codex.{Auth, Doctor, Keyring, Logins}
  alias Codex.Auth.Credentials

  @moduletag :codex_cli
  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    work = Path.join(dir, "work")
    File.mkdir_p!(Path.join(work, ".git"))
    File.write!(Path.join(work, ".git/HEAD"), "ref: refs/heads/main\n")
    {:ok, codex} = Codex.Test.codex_path()
    %{home: Logins.home!(dir), work: work, codex: codex}
  end

  # The home of a test may be among temporary files; another test checks the warning about that.
  defp run(context, env, more \\ []) do
    opts = [
      env: Map.put(env, "TMPDIR", temporary(context)),
      cwd: context.work,
      system_dir: Path.join(context.tmp_dir, "system"),
      codex_path: context.codex
    ]

    {checks, _log} = with_log(fn -> Doctor.run(Keyword.merge(opts, more)) end)
    Map.new(checks, &{&1.name, &1})
  end

  defp temporary(context) do
    dir = Path.join(context.tmp_dir, "temporary")
    File.mkdir_p!(dir)
    dir
  end

  describe "the CLI" do
    test "has a tested version, and a sandbox if this machine has one", context do
      Logins.put!(context.home, ~s({"OPENAI_API_KEY":"sk-1"}))
      env = Logins.env(context.home)
      checks = run(context, env)
      version = Codex.FoundCLI.version!()
      assert %{status: :ok, details: [%{version: ^version, tested: true}]} = checks.cli

      {said, status} =
        System.cmd(context.codex, ["sandbox", "--", "true"],
          env: Map.to_list(env),
          stderr_to_stdout: true
        )

      assert {checks.sandbox.status, said} == {if(status == 0, do: :ok, else: :warning), said}
      assert Doctor.healthy?(Map.values(checks))
    end

    # In a user namespace that may have none in it, as in many containers.
    test "says why it has no sandbox", context do
      wrapper = Path.join(context.tmp_dir, "codex")

      File.write!(wrapper, """
      #!/bin/sh
      if unshare -Ur true 2>/dev/null; then
        exec unshare -Ur sh -c 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$0" "$@"' \\
          #{context.codex} "$@"
      else
        exec #{context.codex} "$@"
      fi
      """)

      File.chmod!(wrapper, 0o755)
      Logins.put!(context.home, ~s({"OPENAI_API_KEY":"sk-1"}))
      checks = run(context, Logins.env(context.home), codex_path: wrapper)
      assert %{status: :warning, details: [ended | said]} = checks.sandbox
      assert ended.text == "`codex sandbox -- true` ended with status 1:"
      assert Enum.any?(said, &(&1.text =~ "namespace"))
      refute Enum.any?(said, &(&1.text =~ "WARNING: proceeding"))
      assert Doctor.healthy?(Map.values(checks))

      path = Path.join(context.home, "config.toml")
      File.write!(path, "sandbox_mode = \"workspace-write\"\n" <> File.read!(path))
      checks = run(context, Logins.env(context.home), codex_path: wrapper)
      assert %{status: :error, summary: words} = checks.sandbox
      assert words =~ "which sandbox_mode asks for"
    end

    test "does not change the home, but for its own folder", context do
      Logins.put!(context.home, Logins.chatgpt())
      before = files(context.home)
      run(context, Logins.env(context.home))
      assert files(context.home) == before
    end
  end

  defp files(home) do
    for path <- Path.wildcard(home <> "/**", match_dot: true),
        File.regular?(path),
        not String.starts_with?(path, Path.join(home, "tmp/")),
        do: {path, File.read!(path)}
  end

  @tag :keyring
  test "a keyring that is open, locked, frozen or gone", context do
    # A socket's path has room for some hundred bytes.
    short = Path.join(System.tmp_dir!(), "codex_sdk-#{System.unique_integer([:positive])}")
    File.mkdir_p!(short)
    File.chmod!(short, 0o700)
    on_exit(fn -> File.rm_rf!(short) end)

    keyring = Keyring.start!(short)
    env = Logins.env(context.home, Map.delete(Keyring.env(keyring), "HOME"))
    path = Path.join(context.home, "config.toml")
    config = File.read!(path)
    store = &File.write!(path, "cli_auth_credentials_store = \"#{&1}\"\n" <> config)
    store.("keyring")
    opts = [env: env, cwd: false, system_dir: context.tmp_dir]
    assert Auth.write(Credentials.api_key("sk-marked-in-the-keyring-1"), opts) == :ok

    state = fn checks ->
      [%{state: state}] = checks.keyring.details
      {state, checks.keyring.status, checks.auth.status}
    end

    checks = run(context, env)
    assert state.(checks) == {:open, :ok, :ok}
    assert checks.auth.summary =~ ~r/^API key of the keyring \(cli\|\w+\) \(sk-marke\*\*\*ing-1\)/
    refute inspect(checks) =~ "sk-marked-in-the-keyring"

    # No password prompt opens, and the keyring stays locked.
    keyring = Keyring.relock!(keyring)
    assert state.(run(context, env)) == {:locked, :error, :error}
    keyed = run(context, Map.put(env, "CODEX_API_KEY", "sk-1"))
    assert state.(keyed) == {:locked, :warning, :warning}
    store.("file")
    assert state.(run(context, env)) == {:locked, :ok, :error}
    store.("keyring")

    Keyring.freeze!(keyring)
    frozen = run(context, env, timeout: 200)
    assert state.(frozen) == {:timeout, :error, :error}
    assert frozen.keyring.summary =~ "did not answer in time"
    Keyring.thaw!(keyring)

    Keyring.stop!(keyring)
    assert state.(run(context, env)) == {:unavailable, :error, :error}
  end
end
