defmodule Codex.Tools.ShellToolsTest do
  use ExUnit.Case, async: true

  alias Codex.Tools

  alias Codex.Tools.{
    Call,
    Hosted,
    ShellCommandTool,
    ShellTool,
    Terminals,
    Toolset,
    WriteStdinTool
  }

  defp allow(_command, _context), do: :allow
  defp context(opts \\ []), do: %{metadata: Map.new([approval: &allow/2] ++ opts)}
  defp shell(args, opts \\ []), do: ShellTool.invoke(args, context(opts))

  # A login shell reads the profile of the person who runs the tests, which may take any time.
  defp command(args, opts \\ []) do
    home = [env: %{"HOME" => System.tmp_dir!()}]
    ShellCommandTool.invoke(args, context(Keyword.merge(home, opts)))
  end

  defp output(output, code \\ 0),
    do: {:ok, %{"output" => output, "exit_code" => code, "success" => code == 0}}

  setup do
    {:ok, path} = Codex.FileSystem.hand_over(System.tmp_dir!(), "a.txt", "content")
    on_exit(fn -> File.rm_rf!(Path.dirname(path)) end)
    %{dir: Path.dirname(path)}
  end

  defp gone?(pid), do: not File.exists?("/proc/#{String.trim(pid)}")

  defp until(fun, n \\ 300) do
    cond do
      fun.() -> :ok
      n == 0 -> flunk("it does not come")
      Process.sleep(20) == :ok -> until(fun, n - 1)
    end
  end

  test "commands are denied without an approval" do
    for tool <- [ShellTool, ShellCommandTool] do
      assert tool.invoke(%{"command" => "touch /tmp/never"}, %{metadata: %{}}) ==
               {:error, {:approval_denied, :no_approval}}

      assert tool.invoke(%{"command" => "true"}, %{}) ==
               {:error, {:approval_denied, :no_approval}}
    end
  end

  test "an approval sees the command, and decides" do
    test = self()

    approve = fn answer ->
      ask = fn command, context ->
        send(test, {:asked, command, context})
        answer
      end

      ShellTool.invoke(%{"command" => ["echo", "a b"]}, %{metadata: %{approval: ask}, id: 1})
    end

    for answer <- [:ok, :allow, {:allow, []}], do: assert(approve.(answer) == output("a b\n"))
    assert_received {:asked, "echo a b", %{id: 1}}
    assert approve.(:deny) == {:error, {:approval_denied, :denied}}
    assert approve.({:deny, "no"}) == {:error, {:approval_denied, "no"}}
    assert approve.(false) == {:error, {:approval_denied, :denied}}
    assert approve.(:perhaps) == {:error, {:invalid_approval_response, :perhaps}}
    three = fn "true", _context, metadata -> if metadata.ok, do: :allow end
    assert shell(%{"cmd" => "true"}, approval: three, ok: true) == output("")
  end

  defmodule Reviewer do
    def review_tool("true", _context), do: :allow
    def review_tool(_command, _context), do: {:deny, :other}
  end

  test "a module approves" do
    assert shell(%{"command" => "true"}, approval: Reviewer) == output("")

    assert shell(%{"command" => "false"}, approval: Reviewer) ==
             {:error, {:approval_denied, :other}}
  end

  test "the forms of arguments", %{dir: dir} do
    assert shell(%{"command" => ["printf", "%s", "a  b"]}) == output("a  b")
    assert shell(%{"cmd" => "echo $((1+1)); echo err >&2; exit 3"}) == output("2\nerr\n", 3)
    assert shell(%{"command" => "cat a.txt", "workdir" => dir}) == output("content")
    assert shell(%{"command" => "cat a.txt", "cwd" => dir}) == output("content")
    assert shell(%{"command" => "cat a.txt"}, cwd: dir) == output("content")
    base = Path.basename(dir)

    assert shell(%{"command" => "cat a.txt", "cwd" => base}, cwd: Path.dirname(dir)) ==
             output("content")

    assert command(%{"command" => ["echo", "a", "&&", "echo", "b"]}) == output("a\nb\n")
    assert command(%{"command" => "echo $0", "login" => false}) == output("/bin/sh\n")
    assert command(%{"command" => "cat"}) == output("")

    for args <- [%{}, %{"command" => 1}, %{"command" => []}, %{"command" => ["a", 1]}] do
      assert shell(args) == {:error, {:invalid_argument, :command}}
      assert command(args) == {:error, {:invalid_argument, :command}}
    end

    assert shell(%{"command" => "true", "timeout" => "1"}) ==
             {:error, {:invalid_argument, :timeout_ms}}

    assert shell(%{"command" => "true", "workdir" => 1}) ==
             {:error, {:invalid_argument, :workdir}}

    assert command(%{"command" => "true", "login" => 1}) == {:error, {:invalid_argument, :login}}

    assert {:error, {:exec_start_failed, %Codex.Subprocess.Error{reason: :enoent}}} =
             shell(%{"command" => ["/no/program"]})

    assert {:error, {:exec_start_failed, %{reason: :bad_cwd}}} =
             shell(%{"command" => "true", "workdir" => "/no/directory"})
  end

  test "a signal is an exit code" do
    assert shell(%{"command" => "kill -TERM $$"}) == output("", 143)
  end

  test "output is limited", %{dir: dir} do
    assert {:ok, %{"output" => output, "success" => true}} =
             shell(%{"command" => "head -c 3000000 /dev/zero | tr '\\0' x; echo done >&2"})

    assert output == String.duplicate("x", 10_000) <> "\n... (truncated)"

    assert shell(%{"command" => "printf äöü"}, max_output_bytes: 3) ==
             output("ä\n... (truncated)")

    assert shell(%{"command" => "printf äöü"}, max_output_bytes: 6) == output("äöü")
    assert shell(%{"command" => "printf '\\377'", "cwd" => dir}) == output("\uFFFD")
  end

  test "variables" do
    System.put_env("CODEX_TEST_SECRET_KEY", "hidden")
    System.put_env("CODEX_TEST_PLAIN", "seen")
    on_exit(fn -> for n <- ~w(SECRET_KEY PLAIN), do: System.delete_env("CODEX_TEST_" <> n) end)
    print = %{"command" => ~S(echo "[$CODEX_TEST_SECRET_KEY][$CODEX_TEST_PLAIN]")}
    assert shell(print) == output("[][seen]\n")
    env = %{"CODEX_TEST_SECRET_KEY" => "given", CODEX_TEST_PLAIN: nil}
    assert shell(print, env: env) == output("[given][]\n")
  end

  test "a command that takes too long ends with its children" do
    args = %{"command" => "echo $$ > pid; sleep 600 & echo $! >> pid; wait", "timeout_ms" => 300}
    dir = System.tmp_dir!() |> Path.join("codex_shell_#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    assert shell(args, cwd: dir) == {:error, :timeout}
    pids = dir |> Path.join("pid") |> File.read!() |> String.split()
    assert length(pids) == 2
    until(fn -> Enum.all?(pids, &gone?/1) end)
  end

  test "a command ends with its caller", %{dir: dir} do
    test = self()

    {pid, ref} =
      spawn_monitor(fn ->
        send(test, :go)
        shell(%{"command" => "echo $$ > pid; sleep 600"}, cwd: dir)
      end)

    assert_receive :go
    until(fn -> match?({:ok, "" <> <<_, _::binary>>}, File.read(Path.join(dir, "pid"))) end)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, :process, ^pid, :killed}
    until(fn -> gone?(File.read!(Path.join(dir, "pid"))) end)
  end

  test "an executor runs the command instead" do
    executor = fn args, _context, metadata ->
      {:ok, {args["command"], args["workdir"], metadata.x}}
    end

    opts = %{metadata: %{executor: executor, x: 1, cwd: "/"}}
    assert ShellTool.invoke(%{"cmd" => "ls"}, opts) == {:ok, {"ls", "/", 1}}
    denied = put_in(opts.metadata[:approval], fn _ -> :deny end)

    assert ShellTool.invoke(%{"cmd" => "ls"}, denied) == {:error, {:approval_denied, :denied}}
    plain = %{metadata: %{executor: fn -> :done end}}
    assert ShellTool.invoke(%{"command" => ["ls"]}, plain) == {:ok, :done}
  end

  describe "sessions" do
    defp write(args, context \\ %{}), do: WriteStdinTool.invoke(args, context)

    test "a command goes on, is written to, and ends" do
      assert {:ok, %{"output" => "ready\n", "session_id" => id} = started} =
               shell(%{
                 "command" => "echo ready; while read l; do echo \"<$l>\"; done; exit 4",
                 "yield_time_ms" => 500
               })

      refute is_map_key(started, "exit_code")

      assert {:ok, %{"output" => "<a>\n<b>\n", "session_id" => ^id}} =
               write(%{"session_id" => id, "chars" => "a\nb\n", "yield_time_ms" => 300})

      assert write(%{"session_id" => id + 0.0, "yield_time_ms" => 0}) ==
               {:ok, %{"output" => "", "session_id" => id}}

      # Nobody else knows the session.
      assert Task.await(Task.async(fn -> write(%{"session_id" => id}) end)) ==
               {:error, :not_found}
    end

    test "the exit is the last result of a session" do
      assert {:ok, %{"session_id" => id}} =
               command(%{"command" => "read l; echo $l; exit 4", "yield_time_ms" => 50})

      assert write(%{"session_id" => id, "chars" => "x\n", "yield_time_ms" => 5_000}) ==
               output("x\n", 4)

      assert write(%{"session_id" => id}) == {:error, :not_found}

      assert {:ok, %{"exit_code" => 0}} = shell(%{"command" => "true", "yield_time_ms" => 10_000})
    end

    test "sessions end with their owner, and are limited" do
      test = self()

      {pid, ref} =
        spawn_monitor(fn ->
          results =
            for _ <- 1..17, do: shell(%{"command" => "exec sleep 600", "yield_time_ms" => 1})

          pids = for {pid, _id} <- Registry.lookup(Terminals, self()), do: pid
          send(test, {:results, results, pids})
          Process.sleep(:infinity)
        end)

      assert_receive {:results, results, pids}, 30_000
      assert length(pids) == 16
      assert List.last(results) == {:error, :too_many_sessions}
      refs = Enum.map(pids, &Process.monitor/1)
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^ref, :process, ^pid, :killed}
      for ref <- refs, do: assert_receive({:DOWN, ^ref, :process, _, :shutdown}, 5_000)
    end

    test "a turn's sessions end with the turn" do
      context = Map.merge(context(), %{event: %{turn_id: "turn-x"}, owner: self()})
      args = %{"command" => "exec sleep 600", "yield_time_ms" => 1}

      {:ok, %{"session_id" => id}} =
        Task.await(Task.async(fn -> ShellTool.invoke(args, context) end))

      assert pid = Terminals.find({:turn, "turn-x"}, id)
      ref = Process.monitor(pid)

      assert {:ok, %{"session_id" => ^id}} =
               Task.await(Task.async(fn -> write(%{"session_id" => id}, context) end))

      assert Terminals.stop("turn-x") == :ok
      assert_receive {:DOWN, ^ref, :process, ^pid, :shutdown}, 5_000
    end

    test "wrong arguments, an approval and an executor" do
      assert write(%{}) == {:error, {:missing_argument, :session_id}}
      assert write(%{"session_id" => "1"}) == {:error, {:invalid_argument, :session_id}}
      assert write(%{"session_id" => 1, "chars" => 1}) == {:error, {:invalid_argument, :chars}}
      assert write(%{"session_id" => 1}) == {:error, :not_found}

      {:ok, %{"session_id" => id}} = shell(%{"command" => "cat", "yield_time_ms" => 1})
      huge = String.duplicate("x", 2_000_000)

      assert write(%{"session_id" => id, "chars" => huge}) ==
               {:error, {:invalid_argument, :chars}}

      denied = %{metadata: %{approval: fn "rm\n" -> :deny end}}

      assert write(%{"session_id" => id, "chars" => "rm\n"}, denied) ==
               {:error, {:approval_denied, :denied}}

      assert {:ok, %{"output" => "1234\n... (truncated)"}} =
               write(%{"session_id" => id, "chars" => "12345678\n", "max_output_tokens" => 1})

      executor = %{metadata: %{executor: fn args -> {:ok, args} end}}

      assert write(%{"session_id" => 7, "chars" => "x"}, executor) ==
               {:ok, %{"session_id" => 7, "chars" => "x"}}
    end
  end

  test "the model is told about failures" do
    {:ok, [tool]} = Toolset.new([ShellTool])

    assert Call.answer(tool, %{"command" => "ls"}, %{}) ==
             {:error, "the call was denied; nothing was done"}

    assert {:error, "the argument command of the tool is invalid"} = Call.answer(tool, %{}, %{})
    assert {:error, "invalid arguments for shell: " <> _} = Call.answer(tool, ["ls"], %{})
    assert Hosted.error_text({:missing_callback, :runner}) =~ "option :runner"
    assert WriteStdinTool.error_text(:not_found) =~ "session"
  end

  test "a registered tool has its former names" do
    {:ok, handle} = Tools.register(ShellTool, name: "shell_of_test", approval: &allow/2)
    assert Tools.invoke("shell_of_test", %{"command" => ["echo", "x"]}, %{}) == output("x\n")
    Tools.deregister(handle)
  end
end
