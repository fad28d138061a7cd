defmodule Codex.ConsumerTest do
  # An application that depends on the unpacked package, on a machine without Rust: it compiles with
  # an archive that `bin/dist` packed and a server on loopback hands out, and its release runs.
  # Without the Codex CLI, a script stands in for it.
  use ExUnit.Case, async: true

  alias Codex.{Git, Http, Stub, WithoutRust}

  @root Path.expand("..", __DIR__)
  @lines_of_a_turn ~s(cat >/dev/null; echo "$turn")

  setup_all do
    # The space is part of the test. The folder can be entered by any user.
    dir = Path.join(System.tmp_dir!(), "codex sdk #{System.pid()}")
    File.mkdir!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)

    context = %{dir: dir, app: Path.join(dir, "consumer"), path: WithoutRust.path(dir)}
    unpack!(Path.join(dir, "package"))
    write_consumer!(context.app)

    {folder, archive} = pack!(dir)
    url = Http.start!(fn path, _body -> {200, File.read!(folder <> path)} end)
    env = [{"CODEX_SDK_PREBUILT", url}]
    assert {_, 0} = mix(context, ["deps.get"], env)
    assert {output, 0} = mix(context, ["compile"], env)
    Map.merge(context, %{archive: archive, output: output})
  end

  test "compiles without Rust and without warnings", context do
    assert context.output =~ "Using the prebuilt native parts of codex_sdk: #{context.archive}"
    assert context.output =~ "Generated consumer app"
    refute context.output =~ "warning"
    refute File.exists?(Path.join(context.dir, "package/target"))
  end

  @tag :codex_cli
  test "runs the first example of the README", context do
    # The CLI wants the current directory to be a Git repository.
    Git.run!(context.app, ~w(init --quiet))
    model = Codex.Test.start!(["It says hello.", "The second one."])
    {:ok, codex} = Codex.Test.codex_path()
    env = [{"CODEX_PATH", codex}, {"CODEX_HOME", model.home} | Enum.to_list(model.env)]

    assert {output, 0} = mix(context, ["run", "-e", "Consumer.run()"], env)
    lines = String.split(output, "\n", trim: true)
    assert Enum.take(lines, -2) == ["It says hello.", "The second one."]

    questions =
      for %{body: %{"input" => input}} <- Codex.Test.requests(model),
          do: List.last(input)["content"]

    assert [[%{"text" => "What does this project do?"}], [%{"text" => "Which part" <> _}]] =
             questions
  end

  test "mix codex_sdk.install prints the steps, and marks those that are done", context do
    assert {output, 0} = mix(context, ["codex_sdk.install"], [])

    assert output =~
             ~s([x] In the dependencies of mix.exs:\n\n    {:codex_sdk, [path: "../package"]})

    assert output =~ "[ ] In test/test_helper.exs"
    assert output =~ "    {Codex.AppServer, name: Consumer.Codex, reconnect: true}\n"

    write(context.app, "test/test_helper.exs", "Codex.Test.guard!()\nExUnit.start()\n")
    assert {output, 0} = mix(context, ["codex_sdk.install"], [])
    assert output =~ "[x] In test/test_helper.exs"
    assert {output, 1} = mix(context, ["codex_sdk.install", "--conection"], [])
    assert output =~ "--conection : Unknown option"
  end

  describe "a release" do
    setup context do
      release = Path.join(context.dir, "installed/my app")
      home = Path.join(context.dir, "home")
      args = ["release", "--overwrite", "--quiet", "--path", release]

      unless File.exists?(release) do
        assert {_, 0} = mix(context, args, [])
        File.mkdir_p!(home)
        Stub.write!(home, @lines_of_a_turn) |> File.rename!(Path.join(home, "codex"))
        {_, 0} = System.cmd("chmod", ["-R", "a+rX,a-w", release])
        {_, 0} = System.cmd("chmod", ["-R", "a+rwX", home])
      end

      # The build and the package do not exist on the machine that runs the release.
      env = [
        {"PATH", context.path},
        {"HOME", home},
        {"CODEX_HOME", home},
        {"CODEX_PATH", Path.join(home, "codex")},
        {"RELEASE_TMP", home}
      ]

      %{release: release, env: env}
    end

    test "runs a turn in eval, which has to start the application", context do
      assert {output, status} = release(context, ["eval", "Consumer.run()"])
      assert status != 0
      assert output =~ "the application :codex_sdk is not started"
      assert output =~ "call Application.ensure_all_started(:codex_sdk) first"

      start = "{:ok, _} = Application.ensure_all_started(:codex_sdk); "
      # OTP 29 may add a line of its own when the VM halts.
      assert {"Hello\n" <> _, 0} = release(context, ["eval", start <> "Consumer.run()"])
    end

    test "runs a turn in rpc", context do
      {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, port} = :inet.port(socket)
      :ok = :gen_tcp.close(socket)

      # Without a port mapper, which would remain.
      alone = "-start_epmd false -erl_epmd_port #{port}"

      node = [
        {"RELEASE_DISTRIBUTION", "name"},
        {"RELEASE_NODE", "consumer@127.0.0.1"},
        {"RELEASE_COOKIE", "consumer"}
      ]

      listens = {"ERL_FLAGS", alone <> " -kernel inet_dist_use_interface {127,0,0,1}"}
      calls = {"ERL_FLAGS", alone <> " -dist_listen false"}
      server = start(context, [listens | node])
      assert_receive {^server, {:data, {:eol, "Consumer is started."}}}, 60_000

      context = %{context | env: [calls | node] ++ context.env}
      assert {"Hello\n" <> _, 0} = release(context, ["rpc", "Consumer.run()"])
      assert {_, 0} = release(context, ["stop"])
      assert_receive {^server, {:exit_status, 0}}, 60_000
    end
  end

  # --- The package, as Hex packs it --------------------------------------------------------------

  defp unpack!(package) do
    for pattern <- Mix.Project.config()[:package][:files],
        from <- Path.wildcard(Path.join(@root, pattern)) do
      to = Path.join(package, Path.relative_to(from, @root))
      File.mkdir_p!(Path.dirname(to))
      File.cp_r!(from, to)
    end

    refute File.exists?(Path.join(package, "priv/native"))
  end

  # Packs the library and the launcher that these tests run with. A release builds them with
  # `bin/dist`, too, for several machines.
  defp pack!(dir) do
    folder = Path.join(dir, "archives")
    target = CodexSdk.Prebuilt.target()
    args = ["--from", Path.join(@root, "priv/native"), "--out", folder, target]
    {_, 0} = System.cmd(Path.join(@root, "bin/dist"), args)
    sums = Path.join(dir, "package/native/prebuilt.sums")
    File.rename!(Path.join(folder, "prebuilt.sums"), sums)
    {folder, CodexSdk.Prebuilt.name(Mix.Project.config()[:version], target)}
  end

  # --- The application ---------------------------------------------------------------------------

  defp write_consumer!(dir) do
    write(dir, "mix.exs", """
    defmodule Consumer.MixProject do
      use Mix.Project

      def project,
        do: [app: :consumer, version: "0.1.0", deps: [{:codex_sdk, path: "../package"}]]

      def application, do: [mod: {Consumer, []}]
    end
    """)

    write(dir, "lib/consumer.ex", """
    defmodule Consumer do
      use Application

      def start(_type, _args) do
        IO.puts("Consumer is started.")
        Supervisor.start_link([], strategy: :one_for_one)
      end

      def run do
    #{first_example()}
      end
    end
    """)
  end

  defp first_example do
    [_, code] = Regex.run(~r/```elixir\n(.*?)```/s, File.read!(Path.join(@root, "README.md")))

    assert [
             "{:ok, thread} = Codex.start_thread(" <> _,
             "{:ok, result} = Codex.Thread.run(thread, " <> _,
             "IO.puts(result.final_response.text)",
             "",
             "case Codex.Thread.run(result.thread, " <> _ | _
           ] = String.split(code, "\n")

    code
  end

  defp write(dir, name, text) do
    path = Path.join(dir, name)
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, text)
  end

  # Without the variables of `mix test`.
  defp mix(context, args, env) do
    cleared =
      for name <-
            ~w(MIX_BUILD_PATH MIX_BUILD_ROOT MIX_DEPS_PATH MIX_EXS CODEX_SDK_NATIVE_DIR) ++
              ~w(CODEX_SDK_BUILD CODEX_SDK_KEYRING HTTP_PROXY http_proxy),
          do: {name, nil}

    own = [
      {"MIX_ENV", "prod"},
      {"PATH", context.path},
      {"XDG_CACHE_HOME", Path.join(context.dir, "cache")}
    ]

    options = [cd: context.app, env: cleared ++ own ++ env, stderr_to_stdout: true]
    System.cmd("mix", args, options)
  end

  # --- The release, run by a user without rights -------------------------------------------------

  defp release(context, args) do
    [program | args] = as_nobody(context) ++ args
    System.cmd(program, args, env: context.env, cd: "/", stderr_to_stdout: true)
  end

  defp start(context, env) do
    [program | args] = as_nobody(context) ++ ["start"]
    env = for {name, value} <- env ++ context.env, do: {~c"#{name}", ~c"#{value}"}
    options = [:binary, :exit_status, :stderr_to_stdout, {:line, 4096}, args: args, env: env]
    Port.open({:spawn_executable, System.find_executable(program)}, [{:cd, "/"} | options])
  end

  defp as_nobody(%{release: release}) do
    program = [Path.join(release, "bin/consumer")]

    case System.cmd("id", ["-u"]) do
      {"0\n", 0} -> ~w(setpriv --reuid 65534 --regid 65534 --clear-groups --) ++ program
      _ -> program
    end
  end
end
