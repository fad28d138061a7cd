defmodule Codex.CLI.ProgramTest do
  use ExUnit.Case, async: false
  doctest Codex.CLI.Program
  doctest Codex.CLI.Range

  import ExUnit.CaptureLog
  alias Codex.CLI.{Npm, Program, Range}

  @moduletag :tmp_dir

  defp script(dir, name, body) do
    path = Path.join(dir, name)
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, "#!/bin/sh\n" <> body)
    File.chmod!(path, 0o755)
    path
  end

  test "the version is that of --version", %{tmp_dir: dir} do
    assert Program.version(script(dir, "a", "echo codex-cli 1.2.3")) == {:ok, "1.2.3"}

    assert Program.version(script(dir, "b", "echo codex-cli 1.2.3-alpha.4")) ==
             {:ok, "1.2.3-alpha.4"}

    assert Program.version(script(dir, "c", "echo hello")) == {:error, :no_version}
    assert Program.version(script(dir, "d", "exec yes")) == {:error, :no_version}
    assert {:error, {:not_started, _}} = Program.version(Path.join(dir, "missing"))
  end

  test "asking for the version touches no home", %{tmp_dir: dir} do
    assert Program.version(script(dir, "a", "[ ! -d \"$CODEX_HOME\" ] && echo codex-cli 1.2.3")) ==
             {:ok, "1.2.3"}
  end

  describe "a version outside the range" do
    test "is warned about once, with the range and advice", %{tmp_dir: dir} do
      newest = Range.newest()
      range = "#{Range.lowest()} to #{newest}"

      for {version, words} <- [
            {"0.12.0", "older than the tested versions #{range}: update it"},
            {"88.0.0", "newer than the tested versions #{range}: update codex_sdk"}
          ] do
        one = script(dir, "one/" <> version, "echo codex-cli #{version}")
        other = script(dir, "other/" <> version, "echo codex-cli #{version}")
        asked = fn -> Enum.each([one, one, other], &Program.warn_once/1) end
        assert [line] = warnings("codex-cli #{version}", asked)
        assert line =~ "is codex-cli #{version}, #{words}"
        known = fn -> Program.warn_version(version, "the app-server") end
        assert warnings("codex-cli #{version}", known) == []
      end
    end

    test "is warned about by a server that names it" do
      known = fn -> Program.warn_version("77.0.0", "the app-server") end
      assert [line] = warnings("77.0.0", known)
      assert line =~ "the app-server is codex-cli 77.0.0, newer than"
    end
  end

  test "versions inside the range, and programs without a version", %{tmp_dir: dir} do
    for version <- Range.tested() do
      path = script(dir, version, "echo codex-cli #{version}")
      assert warnings(path, fn -> Program.warn_once(path) end) == []
      assert Program.supported?(version)
    end

    silent = script(dir, "silent", "exit 0")
    assert [line] = warnings(silent, fn -> for _ <- 1..2, do: Program.warn_once(silent) end)
    assert line =~ "#{silent} does not print its version"
  end

  # Others log at the same time: only the lines about `text`.
  defp warnings(text, fun) do
    log =
      capture_log(fn ->
        fun.()
        wait_for_tasks()
      end)

    for line <- String.split(log, "\n"), line =~ text, do: line
  end

  # A program that writes down each time it is started.
  defp counted(dir), do: script(dir, "counted", "echo x >> #{dir}/started; echo codex-cli 0.1.0")
  defp started(dir), do: dir |> Path.join("started") |> File.read!() |> String.split() |> length()

  test "a program is asked once, however many want to know", %{tmp_dir: dir} do
    path = counted(dir)

    capture_log(fn ->
      1..30
      |> Task.async_stream(fn n ->
        if rem(n, 2) == 0,
          do: Program.warn_once(path),
          else: {:ok, "0.1.0"} = Program.known_version(path)
      end)
      |> Stream.run()

      wait_for_tasks()
      assert Program.known_version(path) == {:ok, "0.1.0"}
    end)

    assert started(dir) == 1
    # Another program in the same place.
    File.rm!(path)
    script(dir, "counted", "echo codex-cli 0.22.0")
    assert Program.known_version(path) == {:ok, "0.22.0"}
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
    {os, arch, triple} = platform()
    own = "codex-#{os}-#{arch}/vendor/#{triple}"
    package = "node_modules/@openai/codex"

    for {layout, native, tools} <- [
          {"flat", "node_modules/@openai/#{own}/bin/codex", "codex-path"},
          {"nested", "#{package}/node_modules/@openai/#{own}/bin/codex", "codex-path"},
          {"older", "node_modules/@openai/#{own}/codex/codex", "path"},
          {"all systems", "#{package}/vendor/#{triple}/codex/codex", "path"},
          {"first", "#{package}/bin/codex-#{triple}", nil}
        ] do
      root = Path.join(dir, layout)
      js = script(root, "#{package}/bin/codex.js", "exit 1")
      expected = script(root, native, "exit 0")
      # Programs of other systems are beside it.
      _other = script(root, String.replace(native, triple, "riscv64-unknown-linux-gnu"), "exit 1")
      File.mkdir_p!(Path.join(root, "bin"))
      link = Path.join(root, "bin/codex")
      File.ln_s!("../#{package}/bin/codex.js", link)

      assert Program.find(link) == {:ok, expected}
      assert Program.find(js) == {:ok, expected}
      assert Npm.program(root) == expected
      env = %{"PATH" => "/bin"}
      assert Program.put_path(env, expected) == env

      if tools do
        bundled = expected |> Path.dirname() |> Path.dirname() |> Path.join(tools)
        File.mkdir_p!(bundled)
        assert Program.put_path(env, expected) == %{"PATH" => bundled <> ":/bin"}
      end
    end

    alone = script(dir, "alone/bin/codex.js", "exit 1")
    assert Program.find(alone) == {:ok, alone}
  end

  defp platform do
    arm? = to_string(:erlang.system_info(:system_architecture)) =~ ~r/^(aarch64|arm)/

    case {:os.type(), arm?} do
      {{:unix, :darwin}, true} -> {"darwin", "arm64", "aarch64-apple-darwin"}
      {{:unix, :darwin}, false} -> {"darwin", "x64", "x86_64-apple-darwin"}
      {_linux, true} -> {"linux", "arm64", "aarch64-unknown-linux-musl"}
      {_linux, false} -> {"linux", "x64", "x86_64-unknown-linux-musl"}
    end
  end

  @tag :codex_cli
  @tag :cli_pin
  test "the installed CLI is the tested one" do
    {:ok, path} = Codex.Test.codex_path()
    {:ok, path} = Program.find(path)
    assert Program.version(path) == {:ok, Program.tested_version()}
  end
end

defmodule Codex.CLI.EnvironmentTest do
  # Variables and the application environment are those of the whole VM.
  use ExUnit.Case, async: false

  alias Codex.CLI.Program
  alias Codex.Stub
  alias Codex.Test.Executable

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
    assert Program.find(nil) == {:ok, one}
    assert {:ok, options} = Codex.Options.new([])
    assert Codex.Options.codex_path(options) == {:ok, one}
    assert Program.find(other) == {:ok, other}
    System.put_env("CODEX_PATH", "")
    assert Program.find(nil) == {:ok, one}
    assert Executable.find() == {:ok, one}
    System.put_env("CODEX_PATH", other)
    assert Program.find(nil) == {:ok, other}
    System.put_env(%{"CODEX_PATH" => "", "CODEX_BINARY" => Path.join(dir, "none")})
    assert Program.find(nil) == {:error, {:codex_binary_missing, Path.join(dir, "none")}}
  end

  test "no program is asked for its version if the check is off", %{tmp_dir: dir} do
    Application.put_env(:codex_sdk, :check_cli_version, false)
    path = Stub.write!(dir, "echo x >> #{dir}/started; echo codex-cli 0.1.0")
    assert Program.warn_once(path) == :ok
    assert Program.known_version(path) == :not_asked
    refute File.exists?(Path.join(dir, "started"))
  end
end
