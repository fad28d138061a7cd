defmodule Codex.Config.UnknownTest do
  # The environment names the CLI.
  use ExUnit.Case, async: false

  alias Codex.Config

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    home = Path.join(dir, "home")
    File.mkdir_p!(home)
    File.write!(Path.join(home, "config.toml"), "model = \"m\"\n[tui]\nbrand_new = 1\n")
    before = {System.get_env("CODEX_PATH"), Application.get_env(:codex_sdk, :check_cli_version)}
    Application.put_env(:codex_sdk, :check_cli_version, true)

    on_exit(fn ->
      {path, check} = before
      if path, do: System.put_env("CODEX_PATH", path), else: System.delete_env("CODEX_PATH")

      if check == nil,
        do: Application.delete_env(:codex_sdk, :check_cli_version),
        else: Application.put_env(:codex_sdk, :check_cli_version, check)
    end)

    %{home: home}
  end

  # A CLI of a version, with an answer about its configuration.
  defp cli!(dir, version, answer) do
    path = Path.join(dir, "codex")

    File.write!(path, """
    #!/bin/sh
    if [ "$1" = --version ]; then echo codex-cli #{version}; exit; fi
    [ "$1 $2 $3" = "app-server --strict-config --print-startup-config" ] || exit 9
    [ "$CODEX_HOME" = "#{Path.join(dir, "home")}" ] || exit 8
    echo '#{answer}'
    """)

    File.chmod!(path, 0o755)
    System.put_env("CODEX_PATH", path)
  end

  defp load(home, opts \\ []),
    do: Config.load([codex_home: home, cwd: false, env: %{"HOME" => home}] ++ opts)

  @accepted ~S({"appServerVersion": "99.0.0"})
  @refused ~S({"error": {"data": {"detail": "unknown configuration field `tui.brand_new`"}}})

  test "a key that only a newer CLI may know is not known to codex_sdk", %{
    tmp_dir: dir,
    home: home
  } do
    cli!(dir, "99.0.0", @accepted)
    assert {:ok, config} = load(home)

    assert [%{reason: :unknown_key, path: ["tui", "brand_new"]} = warning] =
             Config.warnings(config)

    tested = Codex.CLI.Program.tested_version()
    assert warning.message == "`tui.brand_new` is not known to codex_sdk (schema of #{tested})"

    cli!(dir, tested, @accepted)
    assert {:ok, config} = load(home)
    assert [%{message: "unknown configuration field `tui.brand_new`"}] = Config.warnings(config)
  end

  test "strict loading asks a newer CLI", %{tmp_dir: dir, home: home} do
    cli!(dir, "99.0.0", @accepted)
    assert {:ok, config} = load(home, strict: true)
    assert [%{reason: :unknown_key}] = Config.warnings(config)

    for {version, answer} <- [
          {"99.0.1", @refused},
          {"99.0.2", "kaput"},
          {Codex.CLI.Program.tested_version(), @accepted}
        ] do
      cli!(dir, version, answer)

      assert {:error, %{reason: :unknown_key, path: ["tui", "brand_new"]}} =
               load(home, strict: true)
    end
  end
end
