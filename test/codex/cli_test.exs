defmodule Codex.CLITest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  alias Codex.{CLI, Stub}

  @moduletag :tmp_dir

  defp script(dir, name, body) do
    path = Path.join(dir, name)
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, "#!/bin/sh\n" <> body)
    File.chmod!(path, 0o755)
    path
  end

  test "the version is that of --version", %{tmp_dir: dir} do
    assert CLI.version(script(dir, "a", "echo codex-cli 1.2.3")) == {:ok, "1.2.3"}
    assert CLI.version(script(dir, "b", "echo codex-cli 1.2.3-alpha.4")) == {:ok, "1.2.3-alpha.4"}
    assert CLI.version(script(dir, "c", "echo hello")) == {:error, :no_version}
    assert CLI.version(script(dir, "d", "exec yes")) == {:error, :no_version}
    assert {:error, {:not_started, _}} = CLI.version(Path.join(dir, "missing"))
  end

  test "asking for the version touches no home", %{tmp_dir: dir} do
    assert CLI.version(script(dir, "a", "[ ! -d \"$CODEX_HOME\" ] && echo codex-cli 1.2.3")) ==
             {:ok, "1.2.3"}
  end

  test "another version is warned about once for each program", %{tmp_dir: dir} do
    path = script(dir, "codex", "echo codex-cli 0.12.0")

    log =
      capture_log(fn ->
        for _ <- 1..3, do: CLI.warn_once(path)
        wait_for_tasks()
      end)

    assert [_, _] = String.split(log, "#{path} is 0.12.0")
    assert log =~ "tested with codex-cli #{CLI.tested_version()}"

    tested = Stub.write!(dir, "exit 1")

    refute capture_log(fn ->
             CLI.warn_once(tested)
             wait_for_tasks()
           end) =~ tested
  end

  # A program that writes down each time it is started.
  defp counted(dir), do: script(dir, "counted", "echo x >> #{dir}/started; echo codex-cli 0.1.0")
  defp started(dir), do: dir |> Path.join("started") |> File.read!() |> String.split() |> length()

  test "a program is asked once, however many want to know", %{tmp_dir: dir} do
    path = counted(dir)

    capture_log(fn ->
      1..30
      |> Task.async_stream(fn n ->
        if rem(n, 2) == 0, do: CLI.warn_once(path), else: {:ok, "0.1.0"} = CLI.known_version(path)
      end)
      |> Stream.run()

      wait_for_tasks()
      assert CLI.known_version(path) == {:ok, "0.1.0"}
    end)

    assert started(dir) == 1
    # Another program in the same place.
    File.rm!(path)
    script(dir, "counted", "echo codex-cli 0.22.0")
    assert CLI.known_version(path) == {:ok, "0.22.0"}
  end

  defp wait_for_tasks do
    for pid <- Task.Supervisor.children(Codex.TaskSupervisor) do
      ref = Process.monitor(pid)
      assert_receive {:DOWN, ^ref, :process, _, _}, 10_000
    end
  end

  test "behind the wrapper of npm the native program is found, wherever npm put it", %{
    tmp_dir: dir
  } do
    os = if :os.type() == {:unix, :darwin}, do: "darwin", else: "linux"

    arch =
      if to_string(:erlang.system_info(:system_architecture)) =~ ~r/^(aarch64|arm)/,
        do: "arm64",
        else: "x64"

    native = "codex-#{os}-#{arch}/vendor/some-triple/bin/codex"

    for {layout, at} <- [
          {"flat", "node_modules/@openai"},
          {"nested", "node_modules/@openai/codex/node_modules/@openai"}
        ] do
      root = Path.join(dir, layout)
      js = script(root, "node_modules/@openai/codex/bin/codex.js", "exit 1")
      expected = script(root, Path.join(at, native), "exit 0")
      File.mkdir_p!(Path.join(root, "bin"))
      link = Path.join(root, "bin/codex")
      File.ln_s!("../node_modules/@openai/codex/bin/codex.js", link)

      assert CLI.find(link) == {:ok, expected}
      assert CLI.find(js) == {:ok, expected}
      env = %{"PATH" => "/bin"}
      assert CLI.put_path(env, expected) == env
      bundled = Path.join(Path.dirname(Path.dirname(expected)), "codex-path")
      File.mkdir_p!(bundled)
      assert CLI.put_path(env, expected) == %{"PATH" => bundled <> ":/bin"}
    end

    alone = script(dir, "alone/bin/codex.js", "exit 1")
    assert CLI.find(alone) == {:ok, alone}
  end

  @tag :codex_cli
  test "the installed CLI is the tested one" do
    {:ok, path} = Codex.Test.codex_path()
    {:ok, path} = CLI.find(path)
    assert CLI.version(path) == {:ok, CLI.tested_version()}
  end
end

defmodule Codex.CLI.EnvironmentTest do
  # Variables and the application environment are those of the whole VM.
  use ExUnit.Case, async: false

  alias Codex.{CLI, Stub}

  @moduletag :tmp_dir

  setup do
    names = ~w(CODEX_PATH CODEX_BINARY)
    before = Map.new(names, &{&1, System.get_env(&1)})
    Enum.each(names, &System.delete_env/1)

    on_exit(fn ->
      Application.delete_env(:codex_sdk, :check_cli_version)
      System.put_env(before)
    end)
  end

  test "CODEX_BINARY names the program if CODEX_PATH is not set", %{tmp_dir: dir} do
    one = Stub.write!(dir, "exit 0")
    other = Stub.write!(dir, "exit 0")
    System.put_env("CODEX_BINARY", one)
    assert CLI.find(nil) == {:ok, one}
    assert {:ok, options} = Codex.Options.new([])
    assert Codex.Options.codex_path(options) == {:ok, one}
    assert CLI.find(other) == {:ok, other}
    System.put_env("CODEX_PATH", "")
    assert CLI.find(nil) == {:ok, one}
    assert Codex.Test.Executable.find() == {:ok, one}
    System.put_env("CODEX_PATH", other)
    assert CLI.find(nil) == {:ok, other}
    System.put_env(%{"CODEX_PATH" => "", "CODEX_BINARY" => Path.join(dir, "none")})
    assert CLI.find(nil) == {:error, {:codex_binary_missing, Path.join(dir, "none")}}
  end

  test "no program is asked for its version if the check is off", %{tmp_dir: dir} do
    Application.put_env(:codex_sdk, :check_cli_version, false)
    path = Stub.write!(dir, "echo x >> #{dir}/started; echo codex-cli 0.1.0")
    assert CLI.warn_once(path) == :ok
    assert CLI.known_version(path) == :not_asked
    refute File.exists?(Path.join(dir, "started"))
  end
end
