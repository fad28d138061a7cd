defmodule Mix.Tasks.Codex.DoctorTest do
  # Mix.shell/1 and the level of the log belong to the VM.
  use ExUnit.Case, async: false

  alias Codex.{Logins, Stub}
  alias Mix.Tasks.Codex.Doctor

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)
    home = Logins.home!(dir)
    Logins.put!(home, ~s({"OPENAI_API_KEY":"sk-test-marked-in-auth-json"}))
    %{home: home, argv: ["--home", home, "--codex", Stub.write!(dir, "exit 0")]}
  end

  defp run(argv) do
    Doctor.run(argv)
    output()
  end

  defp output do
    assert_received {:mix_shell, :info, [text]}
    text
  end

  test "prints the checks for people, in colour or not", %{argv: argv, home: home} do
    text = run(argv ++ ["--no-color"])
    assert text =~ ~r/^ok       cli          codex-cli /m
    assert text =~ " #{home}\n"
    assert text =~ ~r/\n\nA run would work(, with \d warnings?)?\.\z/
    refute text =~ "\e"
    assert String.replace(run(argv ++ ["--color"]), ~r/\e\[\d+m/, "") == text
    refute text =~ "marked"
  end

  test "--json is one object on one line; options reach the checks", %{argv: argv, tmp_dir: dir} do
    json = run(argv ++ ["--json", "--cwd", dir, "--timeout", "2000"])
    refute json =~ "\n"
    assert {:ok, %{"healthy" => true, "checks" => checks}} = Codex.JSON.decode(json)
    assert %{"summary" => ^dir} = Enum.find(checks, &(&1["name"] == "directory"))
    refute json =~ "marked"
  end

  test "exits with 1 when a run would fail, after it has said why", %{argv: argv, home: home} do
    Logins.put!(home, nil)
    level = Logger.level()
    assert catch_exit(run(argv ++ ["--no-color"])) == {:shutdown, 1}
    text = output()
    assert text =~ "error    auth         there is no login"
    assert text =~ "A run would fail: 1 error."
    assert Logger.level() == level

    assert catch_exit(run(argv ++ ["--json"])) == {:shutdown, 1}
    assert {:ok, %{"healthy" => false}} = Codex.JSON.decode(output())
  end

  test "a directory in no Git repository fails, unless runs skip the check", %{argv: argv} do
    outside = Path.join(System.tmp_dir!(), "codex_doctor-#{System.unique_integer([:positive])}")
    File.mkdir_p!(outside)
    on_exit(fn -> File.rm_rf!(outside) end)
    argv = argv ++ ["--no-color", "--cwd", outside]

    assert catch_exit(run(argv)) == {:shutdown, 1}
    assert output() =~ "error    directory    #{outside}\n"
    assert run(argv ++ ["--skip-git-repo-check"]) =~ "ok       directory    #{outside}\n"
  end

  # A shell sees the status, and a program the object alone on stdout, whatever compilers and the
  # log have to say.
  test "mix itself, in an application that depends on this one", context do
    %{argv: argv, home: home, tmp_dir: dir} = context

    File.write!(Path.join(dir, "mix.exs"), """
    defmodule Asker.MixProject do
      use Mix.Project

      def project,
        do: [app: :asker, version: "0.1.0", deps: [{:codex_sdk, path: #{inspect(File.cwd!())}}]]

      def application, do: []
    end
    """)

    File.mkdir_p!(Path.join(dir, "lib"))
    File.write!(Path.join(dir, "lib/asker.ex"), "defmodule Asker do\nend\n")
    path = Path.join(home, "config.toml")
    File.write!(path, "cli_auth_credentials_store = \"auto\"\n" <> File.read!(path))

    # Without the variables of `mix test`. HOME stays, because cargo needs it.
    env =
      for(
        name <- ~w(MIX_ENV MIX_BUILD_PATH MIX_BUILD_ROOT MIX_DEPS_PATH MIX_EXS),
        do: {name, nil}
      ) ++
        Map.to_list(Map.delete(Logins.env(home), "HOME"))

    mix = &System.cmd("mix", &1, cd: dir, env: env)

    assert {_, 0} = mix.(["deps.get"])
    assert {_, 0} = mix.(["deps.compile"])
    assert {json, 0} = mix.(["codex.doctor", "--json" | argv])
    assert File.exists?(Path.join(dir, "_build/dev/lib/asker/ebin/asker.app"))
    assert {:ok, %{"healthy" => true, "checks" => checks}} = Codex.JSON.decode(String.trim(json))
    assert %{"status" => "warning"} = Enum.find(checks, &(&1["name"] == "keyring"))

    Logins.put!(home, nil)
    assert {json, 1} = mix.(["codex.doctor", "--json" | argv])
    assert {:ok, %{"healthy" => false}} = Codex.JSON.decode(String.trim(json))

    # Compiling after a change writes nothing to stdout either.
    File.write!(Path.join(dir, "lib/asker.ex"), "defmodule Asker do\n  def ask, do: 1\nend\n")
    assert {json, 0} = mix.(["codex.config", "get", "model", "--json", "--codex-home", home])
    assert {:ok, %{"key" => "model"}} = Codex.JSON.decode(String.trim(json))
  end

  test "an error ends the task" do
    assert_raise Mix.Error, ~r/--jsn.*\nusage: mix codex.doctor/, fn -> run(["--jsn"]) end
    assert_raise Mix.Error, ~r/--timeout/, fn -> run(["--timeout", "soon"]) end
    assert_raise Mix.Error, ~r/above 0, got: -5/, fn -> run(["--timeout", "-5"]) end
    assert_raise Mix.Error, ~r/it takes no "now"/, fn -> run(["now"]) end
  end
end
