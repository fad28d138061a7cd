defmodule Codex.CLITest do
  # The runner, with programs that stand in for the CLI.
  use ExUnit.Case, async: true

  import Codex.Stub, only: [write!: 2, alive?: 1, eventually: 1]
  import ExUnit.CaptureIO
  alias Codex.{CLI, Error, OptionError}
  alias Codex.CLI.Result

  @moduletag :tmp_dir

  defp run(dir, body, opts \\ [], args \\ ["x"]),
    do: CLI.run(args, [codex_path: write!(dir, body)] ++ opts)

  describe "run/2" do
    test "returns outputs, status and time", %{tmp_dir: dir} do
      assert {:ok, %Result{} = result} =
               run(dir, ~S(echo "$2"; echo err >&2; exit 7), [], ["a", "b c"])

      assert {result.stdout, result.stderr} == {"b c\n", "err\n"}
      assert {result.exit_status, result.signal} == {7, nil}
      assert result.duration_ms >= 0
      assert inspect(result) =~ ~r/^#Codex.CLI.Result<exit: 7, stdout: 4 bytes, stderr: 4 bytes/

      assert {:ok, %{exit_status: nil, signal: :kill} = killed} = run(dir, "kill -9 $$")
      assert inspect(killed) =~ "signal: kill"
    end

    test "passes environment, home, directory, log, colour and stdin", %{tmp_dir: dir} do
      home = Path.join(dir, "home")
      File.mkdir!(home)
      :ok = Codex.Home.mark(home)
      body = ~S'echo "$CODEX_HOME|$A|$RUST_LOG|$NO_COLOR|$FORCE_COLOR|$PWD|$(cat)"'
      common = [codex_home: home, env: %{"A" => "1"}, cwd: dir, stdin: ["i", "n"]]

      assert {:ok, %{stdout: out}} = run(dir, body, common ++ [log: "debug"])
      assert out == "#{home}|1|debug|1||#{dir}|in\n"
      assert {:ok, %{stdout: out}} = run(dir, body, common ++ [color: true])
      assert out == "#{home}|1|||1|#{dir}|in\n"

      env = %{"PATH" => System.get_env("PATH"), "CODEX_HOME" => home}
      assert {:ok, %{stdout: out}} = run(dir, "env", env: env, clear_env?: true)
      refute out =~ "LC_ALL" or out =~ ~r/^HOME=/m
    end

    test "puts overrides and features in front of the command", %{tmp_dir: dir} do
      opts = [overrides: ["a=1"], enable: ["b"], disable: ["c"]]
      assert {:ok, %{stdout: out}} = run(dir, ~S(echo "$@"), opts, ["features", "list"])
      assert out == "-c a=1 --enable=b --disable=c features list\n"
    end

    test "has a time limit, or none", %{tmp_dir: dir} do
      pid_file = Path.join(dir, "pid")
      body = "echo $$ > #{pid_file}; exec sleep 60"
      assert {:error, %Error{kind: :timeout} = error} = run(dir, body, timeout: 2_000)
      assert error.details == %{timeout_ms: 2_000, clock: :total, option: :timeout}
      pid = pid_file |> File.read!() |> String.trim()
      assert eventually(fn -> not alive?(pid) end)

      for none <- [0, :infinity],
          do: assert({:ok, %{exit_status: 0}} = run(dir, "sleep 0.1", timeout: none))
    end

    test "bounds outputs", %{tmp_dir: dir} do
      assert {:error, %Error{kind: :overflow} = error} = run(dir, "exec yes", stdout_limit: 5_000)
      assert error.message =~ "over 5000 bytes"

      body = "i=0; while [ $i -lt 500 ]; do echo line $i >&2; i=$((i+1)); done"
      assert {:ok, %{stderr: stderr}} = run(dir, body, stderr_limit: 100)
      assert byte_size(stderr) == 100 and stderr =~ "line 499\n"
    end

    test "prints nothing, or mirrors whole lines without escape sequences", %{tmp_dir: dir} do
      body = ~S(printf 'one\033[31m red\033[0m\nt'; sleep 0.1; printf 'wo'; echo err >&2)
      out = fn opts -> capture_io(fn -> assert {:ok, _} = run(dir, body, opts) end) end
      assert out.([]) == ""
      err = fn -> assert out.(mirror: true) == "one red\ntwo" end
      assert capture_io(:stderr, err) == "err\n"
    end

    test "calls a function with each piece of output", %{tmp_dir: dir} do
      test = self()
      assert {:ok, result} = run(dir, "echo out; echo err >&2", tee: &send(test, &1))
      assert_received {:stdout, "out\n"}
      assert_received {:stderr, "err\n"}
      assert {result.stdout, result.stderr} == {"out\n", "err\n"}
    end

    test "ends the command if that function fails", %{tmp_dir: dir} do
      test = self()

      tee = fn {:stdout, pid} ->
        send(test, {:pid, String.trim(pid)})
        raise "full"
      end

      assert_raise RuntimeError, "full", fn -> run(dir, "echo $$; exec sleep 60", tee: tee) end
      assert_received {:pid, pid}
      assert eventually(fn -> not alive?(pid) end)
    end

    test "is cancelled from another process", %{tmp_dir: dir} do
      test = self()
      token = "token #{System.unique_integer()}"

      task =
        Task.async(fn ->
          own = [tee: &send(test, &1), cancellation_token: token, timeout: 0]
          run(dir, "echo $$; exec sleep 60", own)
        end)

      assert_receive {:stdout, pid}, 30_000
      assert CLI.cancel(token) == :ok
      assert {:error, %Error{kind: :interrupted}} = Task.await(task, 30_000)
      assert eventually(fn -> not alive?(String.trim(pid)) end)
      assert CLI.cancel(token) == {:error, :not_found}
    end

    test "ends with its process", %{tmp_dir: dir} do
      test = self()
      body = "echo $$; exec sleep 60"
      {:ok, caller} = Task.start(fn -> run(dir, body, tee: &send(test, &1), timeout: 0) end)
      assert_receive {:stdout, pid}, 30_000
      Process.exit(caller, :kill)
      assert eventually(fn -> not alive?(String.trim(pid)) end)
    end

    test "reports what keeps it from starting", %{tmp_dir: dir} do
      missing = Path.join(dir, "missing")
      assert {:error, %Error{kind: :cli_not_found}} = CLI.run(["x"], codex_path: missing)
      assert {:error, %Error{kind: :cli_not_found}} = CLI.version(codex_path: missing)
      assert {:error, %Error{kind: :config}} = run(dir, "exit 0", cwd: missing)
    end

    test "checks arguments and options, without their values", %{tmp_dir: dir} do
      for args <- [[], nil, "features", [1], [""], ["a\0"], ["a" | "b"]],
          do: assert_raise(OptionError, ~r/^argument :args must be/, fn -> CLI.run(args) end)

      for {opts, words} <- [
            {[timeout: -1], ":timeout must be 0, a positive integer"},
            {[tee: 1], ":tee must be a function"},
            {[env: {"sk-1"}], ":env must be"},
            {[stdin: [:secret]], "option :stdin must be a string or iodata, got: [redacted]"},
            {[timout: 1], "did you mean :timeout?"}
          ] do
        error = assert_raise OptionError, fn -> run(dir, "exit 0", opts) end
        assert Exception.message(error) =~ words
        refute Exception.message(error) =~ "secret"
      end
    end
  end

  describe "functions of commands" do
    defp call(name, args, dir, body, opts \\ []),
      do: apply(CLI, name, args ++ [[codex_path: write!(dir, body)] ++ opts])

    test "send values that cannot be taken for flags", %{tmp_dir: dir} do
      echo = ~S(for a in "$@"; do printf '%s\n' "$a"; done)

      for {name, args, opts, words} <- [
            {:archive, ["--force"], [remote: "unix://", strict_config: true],
             ~w(archive --remote=unix:// --strict-config -- --force)},
            {:queue, ["t", "-m"], [], ~w(queue --thread=t --message=-m)},
            {:cloud_diff, ["-t"], [attempt: 2], ~w(cloud diff --attempt=2 -- -t)},
            {:plugin_add, ["p"], [marketplace: "-m"],
             ~w(plugin add --json --marketplace=-m -- p)},
            {:mcp_add, ["-n"], [command: ["-c", "d"]], ~w(mcp add -- -n -c d)},
            {:mcp_login, ["n"], [client_registration: :dcr, no_browser: false],
             ~w(mcp login --oauth-client-registration=dcr -- n)},
            {:execpolicy_check, [["a", "b"], ["c"]], [],
             ~w(execpolicy check --rules=a --rules=b -- c)},
            {:exec_server, [], [ws_auth: :capability_token, concurrent_requests: 3],
             ~w(exec-server --concurrent-requests=3 --ws-auth=capability-token)},
            {:sandbox, [["-x"]], [state: %{"a" => 1}, readable_roots: ["/r"], log_denials: true],
             ~w(sandbox --sandbox-state-json={"a":1} --sandbox-state-readable-root=/r) ++
               ~w(--log-denials -- -x)}
          ] do
        test = self()
        _ = call(name, args, dir, echo, opts ++ [tee: &send(test, &1)])
        assert Enum.sort(String.split(sent(""), "\n", trim: true)) == Enum.sort(words)
      end
    end

    defp sent(text) do
      receive do
        {:stdout, more} -> sent(text <> more)
      after
        0 -> text
      end
    end

    test "read tasks, and other statuses with an output", %{tmp_dir: dir} do
      list = ~S(echo '{"tasks":[{"id":"t"}],"cursor":null}')
      assert {:ok, %{"tasks" => [%{"id" => "t"}]}} = call(:cloud_list, [], dir, list)

      assert call(:cloud_status, ["t"], dir, "echo '[PENDING] A title'; echo more; exit 1") ==
               {:ok, %{status: "pending", title: "A title", text: "[PENDING] A title\nmore"}}

      assert {:ok, %{"a" => 1}} = call(:doctor, [], dir, ~S(echo '{"a":1}'; exit 1))
      assert {:error, %{kind: :crashed}} = call(:cloud_status, ["t"], dir, "exit 1")
      assert {:ok, " diff\n"} = call(:cloud_diff, ["t"], dir, "echo ' diff'")
    end

    test "return errors with the words of the CLI", %{tmp_dir: dir} do
      body = ~S"""
      printf 'WARNING: proceeding\n\033[2m2026 ERROR log\033[0m\nError: no good\n\n' >&2
      printf 'Caused by:\n    a cause\n\nStack backtrace:\n   0: <unknown>\n' >&2
      exit 1
      """

      assert {:error, error} = call(:update, [], dir, body)
      assert error.message == "codex update exited with status 1: no good: a cause"
      assert {error.kind, error.exit_status} == {:invalid_request, 1}
      assert error.stderr =~ "ERROR log" and not (error.stderr =~ "WARNING")

      for {words, kind} <- [
            {"error: unexpected argument '--x' found", :cli_unsupported},
            {"Error: stdin is not a terminal", :unsupported},
            {"Error: failed to connect to /a.sock", :connection_refused},
            {"something else", :crashed}
          ],
          do:
            assert(
              {:error, %{kind: ^kind}} =
                call(:update, [], dir, "echo #{inspect(words)} >&2; exit 2")
            )

      assert {:error, %{kind: :killed, signal: :term}} = call(:update, [], dir, "kill $$")
      assert {:error, %{kind: :protocol} = error} = call(:mcp_list, [], dir, "echo sk-1")
      refute error.message =~ "sk-1"

      for {name, body} <- [features_list: "echo nothing", cloud_list: "true"],
          do: assert({:error, %{kind: :protocol}} = call(name, [], dir, body))
    end

    test "redact secrets of the environment and of stdin", %{tmp_dir: dir} do
      body = ~S(read line; echo "Error: $MY_TOKEN and $line" >&2; exit 1)
      opts = [env: %{"MY_TOKEN" => "tok-123456"}, stdin: "http://localhost/?code=abc\n"]
      assert {:error, error} = call(:mcp_login, ["s"], dir, body, opts)
      assert error.message =~ "[redacted] and [redacted]"
      refute error.stderr =~ "tok-123456" or error.stderr =~ "code=abc"
    end

    test "check arguments", %{tmp_dir: dir} do
      for {fun, words} <- [
            {fn -> CLI.archive(nil) end, "argument :session must be the id or the name"},
            {fn -> CLI.completion(:tcsh) end, "argument :shell must be one of :bash"},
            {fn -> CLI.sandbox([]) end, "argument :command must be a non-empty list"},
            {fn -> CLI.execpolicy_check(["a" | "b"], ["c"]) end, "argument :rules must be"},
            {fn -> CLI.cancel(nil) end, "argument :token must be"},
            {fn -> CLI.cloud_list(limit: 21) end,
             "option :limit must be an integer from 1 to 20"},
            {fn -> CLI.sandbox(["a"], state: fn -> 1 end) end, "option :state must be a map or"}
          ] do
        error = assert_raise OptionError, fun
        assert Exception.message(error) =~ words
      end

      # Nothing is started.
      refute File.exists?(Path.join(dir, "started"))
    end
  end
end

defmodule Codex.CLITelemetryTest do
  # The whole VM has `:telemetry`, or has not.
  use ExUnit.Case, async: false

  import Codex.TelemetryStandIn
  import ExUnit.CaptureLog
  alias Codex.{CLI, Stub, Telemetry}
  alias Codex.Telemetry.Table

  @moduletag :tmp_dir

  test "each command is two events without values", %{tmp_dir: dir} do
    load!()
    listen!()
    codex = Stub.write!(dir, "exit 3")
    assert {:ok, _} = CLI.run(["private"], codex_path: codex)
    assert {:error, _} = CLI.archive("private", codex_path: codex)
    slow = Stub.write!(dir, "exec sleep 60")
    assert {:error, _} = CLI.archive("private", codex_path: slow, timeout: 1)

    told = told()
    refute inspect(told) =~ "private"

    for {name, measurements, metadata} <- told do
      {wanted, known, []} = Table.keys(name)
      assert {name, Enum.sort(Map.keys(measurements))} == {name, Enum.sort(wanted)}
      assert {name, Enum.sort(Map.keys(metadata))} == {name, Enum.sort(known)}
    end

    assert [nil, nil, "archive", "archive", "archive", "archive"] =
             for({_, _, metadata} <- told, do: metadata.command)

    assert [{:ok, 3, nil}, {:ok, 3, nil}, {:error, nil, %{kind: :timeout}}] =
             for(
               {[:cli, :stop], _, about} <- told,
               do: {about.result, about.exit_status, about.error}
             )
  end

  test "the switch for debugging shows commands without secrets", %{tmp_dir: dir} do
    :ok = Telemetry.debug(true)
    on_exit(fn -> Telemetry.debug(false) end)
    codex = Stub.write!(dir, "exit 0")
    opts = [codex_path: codex, env: %{"MY_TOKEN" => "tok-123456"}]
    log = capture_log(fn -> assert {:ok, _} = CLI.run(["a", "tok-123456"], opts) end)
    assert log =~ ~s(codex cli started: [) and log =~ ~s("a", "[redacted]") and log =~ "MY_TOKEN"
    assert log =~ "codex cli ended with status 0"
    refute log =~ "tok-123456"
  end
end
