defmodule Codex.SubprocessTest do
  # Not async: counts descriptors, atoms and memory of the whole VM, and changes its environment.
  use ExUnit.Case, async: false

  alias Codex.Subprocess
  alias Codex.Subprocess.{Error, Exit, Launchers}

  @children Path.expand("../children", __DIR__)
  @mb 1024 * 1024

  describe "bytes" do
    test "stdin comes back, and stdout goes on after the end of stdin" do
      {:ok, sub} = open(["sh", "-c", "cat; echo after; echo more"])
      {:ok, sub} = Subprocess.write(sub, ["hel", [?l | "o\n"]])
      {:ok, sub} = Subprocess.close_stdin(sub)
      assert %{stdout: "hello\nafter\nmore\n", stderr: "", exit: exit} = collect(sub)
      assert exit == %Exit{status: 0, signal: nil, stderr_dropped: 0}
    end

    test "stderr is separate" do
      assert %{stdout: "out\n", stderr: "err\n"} = run(["sh", "-c", "echo out; echo err >&2"])
    end

    test "both ends are reported, exit comes last and leaves an empty mailbox" do
      {:ok, sub} = open(child("half_line.sh"))
      result = collect(sub)
      assert result.stdout == "one line\nhalf a li"
      assert Enum.sort(result.eofs) == [:stderr, :stdout]
      assert result.exit.status == 3
      assert Process.info(self(), :messages) == {:messages, []}
      assert Subprocess.stream(result.sub, {:other, :message}) == :unknown
    end

    test "owners that trap exits get no message more" do
      Process.flag(:trap_exit, true)
      assert %{exit: %Exit{status: 0}} = run(["true"])
      {:ok, sub} = open(child("never_ends.sh"))
      assert {:ok, %Exit{signal: :term}} = Subprocess.stop(sub)
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "more stdin than there is credit for waits in the value" do
      bytes = :crypto.strong_rand_bytes(5 * @mb)
      {:ok, sub} = open(["cat"])
      {:ok, sub} = Subprocess.write(sub, bytes)
      assert Subprocess.pending(sub) > 4 * @mb
      {:ok, sub} = Subprocess.close_stdin(sub)
      assert {:error, sub, %Error{reason: :stdin_closed}} = Subprocess.write(sub, "late")
      result = collect(sub)
      assert result.stdout == bytes
      assert Subprocess.pending(result.sub) == 0
    end

    test "a child that closes its stdin discards input" do
      {:ok, sub} = open(child("deaf.sh"))
      {sub, "closed\n"} = read_line(sub)
      {:ok, sub} = Subprocess.write(sub, :binary.copy("x", 3 * @mb))
      sub = until(sub, &(Subprocess.pending(&1) == 0))
      {:ok, sub} = Subprocess.close_stdin(sub)
      assert {:ok, %Exit{signal: :term}} = Subprocess.stop(sub)
    end

    test "input is there when the child begins, and stdin ends after it" do
      assert %{stdout: "one\ntwo", exit: %Exit{status: 0}} = run(["cat"], input: ["one\n", "two"])
      assert %{stdout: "", exit: %Exit{status: 0}} = run(["cat"], input: "")

      {:ok, sub} = open(["cat"], input: "x")
      assert {:error, sub, %Error{reason: :stdin_closed}} = Subprocess.write(sub, "late")
      assert {:ok, sub} = Subprocess.close_stdin(sub)
      assert %{stdout: "x"} = collect(sub)
    end

    test "input over the launcher's buffer waits in the value" do
      for size <- [256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 3 * @mb] do
        {:ok, sub} = open(["cat"], input: :binary.copy("x", size))
        assert Subprocess.pending(sub) == max(size - 256 * 1024, 0)
        assert %{stdout: stdout, exit: %Exit{status: 0}} = collect(sub)
        assert byte_size(stdout) == size
      end

      {:ok, sub} = open(child("dies_at_once.sh"), input: :binary.copy("x", 3 * @mb))
      assert %{exit: %Exit{status: 4}} = collect(sub)
      assert_raise Codex.OptionError, ~r/:input/, fn -> open(["cat"], input: 1) end
    end

    test "a child that dies before it has read its stdin just exits" do
      {:ok, sub} = open(child("dies_at_once.sh"))
      {:ok, sub} = Subprocess.write(sub, :binary.copy("x", 3 * @mb))
      assert %{exit: %Exit{status: 4}, sub: sub} = collect(sub)
      assert {:error, _, %Error{reason: :exited}} = Subprocess.write(sub, "late")
      assert {:ok, sub} = Subprocess.grant(sub, 1)
      assert {:ok, sub} = Subprocess.close_stdin(sub)
      assert {:ok, sub} = Subprocess.signal(sub, :term)
      assert {:ok, %Exit{status: 4}} = Subprocess.stop(sub)
    end

    test "a child that closes stdout lives on" do
      {:ok, sub} = open(child("closes_stdout.sh"))
      {sub, [{:eof, :stdout}]} = next(sub)
      assert alive?(Subprocess.os_pid(sub))
      {:ok, sub} = Subprocess.close_stdin(sub)
      assert %{stdout: "", exit: %Exit{status: 7}} = collect(sub)
    end

    test "a closed stdout is seen without credit" do
      {:ok, sub} = open(child("closes_stdout.sh"), window: 0)
      assert {sub, [{:eof, :stdout}]} = next(sub)
      assert {:ok, %Exit{status: 7}} = Subprocess.stop(sub)
    end
  end

  describe "credit" do
    test "a sleeping reader blocks the child and costs no memory; then every byte arrives" do
      total = 1000 * @mb
      before = memory()
      {:ok, sub} = open(child("floods_stdout.sh", [total]))
      os_pid = Subprocess.os_pid(sub)

      # A window is on its way, the child's pipe is full, the rest is not written yet.
      written = fn -> proc_io(os_pid, "wchar") end
      eventually(fn -> written.() >= @mb and state(os_pid) == "S" end)
      assert written.() <= @mb + 256 * 1024
      assert memory() - before < 8 * @mb
      assert queue_length() <= 300

      {sub, %{bytes: bytes, exit: exit}} = count(sub)
      assert bytes == total
      assert exit == %Exit{status: 0}
      assert Subprocess.stderr(sub) == ""
      assert memory() - before < 8 * @mb
    end

    test "no credit, no byte: the exit waits for the output" do
      {:ok, sub} = open(["sh", "-c", "echo kept"], window: 0)
      assert_gone([Subprocess.os_pid(sub)])
      assert {sub, [{:eof, :stderr}]} = next(sub)
      {:ok, sub} = Subprocess.grant(sub, 3)
      assert {sub, [{:stdout, "kep"}]} = next(sub)
      {:ok, sub} = Subprocess.grant(sub, 100)
      assert {sub, [{:stdout, "t\n"}]} = next(sub)
      assert %{exit: %Exit{status: 0}} = collect(sub)
    end

    test "a silent child needs no credit to exit" do
      assert %{exit: %Exit{status: 0}} = run(["true"], window: 0)
    end

    test "stop discards output without credit" do
      {:ok, sub} = open(child("floods_stdout.sh", [10 * @mb]), window: 0)
      assert {:ok, %Exit{}} = Subprocess.stop(sub)
      {:ok, sub} = open(["echo", "hello"], window: 0)
      assert_gone([Subprocess.os_pid(sub)])
      assert {:ok, %Exit{status: 0}} = Subprocess.stop(sub)
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "stderr never blocks the child; the newest bytes stay, the rest is counted" do
      total = 50 * @mb
      before = memory()
      {:ok, sub} = open(child("floods_stderr.sh", [total]))
      # The child ends without a reader.
      assert_gone([Subprocess.os_pid(sub)])
      assert memory() - before < 8 * @mb
      assert queue_length() <= 300

      result = collect(sub)
      assert result.exit.status == 0

      assert byte_size(result.stderr) + result.exit.stderr_dropped ==
               total + byte_size("the end\n")

      # The window, the tail, and output of the child while the window was read.
      assert byte_size(result.stderr) <= 3 * 65_536
      assert byte_size(Subprocess.stderr(result.sub)) == 65_536
      assert String.ends_with?(Subprocess.stderr(result.sub), "the end\n")
    end

    test "single bytes do not fill the mailbox of a sleeping reader" do
      total = 100_000
      before = memory()
      {:ok, sub} = open(child("dribbles.sh", [total]))
      os_pid = Subprocess.os_pid(sub)
      # The child is stuck, unless its bytes came in large pieces on a slow machine.
      eventually(fn -> state(os_pid) in [nil, "S"] and proc_io(os_pid, "wchar") > 2 * 65_536 end)
      assert queue_length() <= 300
      assert memory() - before < 8 * @mb

      result = collect(sub)
      assert result.stdout == String.duplicate("o", total)
      assert byte_size(result.stderr) + result.exit.stderr_dropped == total
    end

    test "a reader that keeps up loses nothing of stderr" do
      total = 2 * @mb

      # In step with the reader: the child waits for a byte before each piece.
      script = "while read -r _; do head -c 32768 /dev/zero >&2; done"
      {:ok, sub} = open(["sh", "-c", script], stderr_limit: 100)

      sub =
        Enum.reduce(1..div(total, 32_768), sub, fn _, sub ->
          {:ok, sub} = Subprocess.write(sub, "\n")
          read_stderr(sub, 32_768)
        end)

      {:ok, sub} = Subprocess.close_stdin(sub)
      assert %{exit: %Exit{stderr_dropped: 0}, sub: sub} = collect(sub)
      assert byte_size(Subprocess.stderr(sub)) == 100
    end
  end

  describe "exit" do
    test "a status is not a signal" do
      assert %{exit: %Exit{status: 42, signal: nil}} = run(["sh", "-c", "exit 42"])
      assert %{exit: %Exit{status: nil, signal: :kill}} = run(["sh", "-c", "kill -KILL $$"])
      assert %{exit: %Exit{status: 137, signal: nil}} = run(["sh", "-c", "exit 137"])
    end

    test "a signal without a name is a number" do
      assert %{exit: %Exit{signal: 40}} = run(["perl", "-e", "kill 40, $$; sleep 9 while 1"])
    end

    test "signals reach the child's process group" do
      {:ok, sub} = open(child("counts_ints.sh"))
      {sub, "ready\n"} = read_line(sub)
      {:ok, sub} = Subprocess.signal(sub, :int)
      assert %{exit: %Exit{status: 5}} = collect(sub)
    end

    test "commands after the child's end neither fail nor kill the owner, before the exit is read" do
      # Loses when the launcher leaves before its owner has seen EXIT: the owner dies of :epipe, or
      # gets :launcher_died.
      for _ <- 1..20 do
        {:ok, sub} = open(["true"])
        assert_gone([Subprocess.os_pid(sub)])

        sub =
          Enum.reduce(1..20, sub, fn _, sub ->
            {:ok, sub} = Subprocess.grant(sub, 1)
            {:ok, sub} = Subprocess.write(sub, "x")
            {:ok, sub} = Subprocess.signal(sub, :term)
            sub
          end)

        assert %{exit: %Exit{status: 0}} = collect(sub)
      end
    end
  end

  describe "stop" do
    test "the default ladder ends at the first step that works" do
      {:ok, sub} = open(["cat"])
      assert {:ok, %Exit{status: 0}} = Subprocess.stop(sub)
      {:ok, sub} = open(child("never_ends.sh"))
      assert {:ok, %Exit{signal: :term}} = Subprocess.stop(sub)
    end

    test "a child that ignores all signals is killed" do
      {:ok, sub} =
        open(child("ignores_term.sh"), ladder: [{:signal, :int, 10}, {:signal, :term, 10}])

      {sub, pid} = read_line(sub)
      assert {:ok, %Exit{signal: :kill}} = Subprocess.stop(sub)
      assert_gone([pid])
    end

    test "a long grace is not waited for when the child ends" do
      # Loses, by the test's own timeout, when a step does not proceed at the child's exit.
      {:ok, sub} = open(["cat"], ladder: [{:close_stdin, 1_000_000}, {:signal, :term, 1_000_000}])
      assert {:ok, %Exit{status: 0}} = Subprocess.stop(sub)
      {:ok, sub} = open(child("counts_ints.sh"), ladder: [{:signal, :int, 1_000_000}])
      {sub, "ready\n"} = read_line(sub)
      assert {:ok, %Exit{status: 5}} = Subprocess.stop(sub)
    end

    test "an empty ladder is SIGKILL" do
      {:ok, sub} = open(["cat"], ladder: [])
      assert {:ok, %Exit{signal: :kill}} = Subprocess.stop(sub)
    end

    test "a timeout gives the child up, and the launcher still ends it" do
      {:ok, sub} = open(child("never_ends.sh"), ladder: [{:close_stdin, 200}])
      {sub, pid} = read_line(sub)
      assert {:error, %Error{reason: :stop_timeout}} = Subprocess.stop(sub, timeout: 0)
      assert_gone([pid])
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "descendants in other sessions go with the child" do
      {sub, pids} = open_tree()
      assert Enum.all?(pids, &alive?/1)
      assert {:ok, %Exit{signal: :term}} = Subprocess.stop(sub)
      # Immediately: stop returns after the last process has ended.
      refute Enum.any?(pids, &alive?/1)
    end
  end

  describe "nothing is left behind" do
    test "a grandchild that holds stdout open cannot hang the reader" do
      assert %{stdout: line, exit: %Exit{status: 0}} = run(child("holds_stdout.sh"))
      refute alive?(pid(line))
    end

    test "unless the option leaves it alone" do
      result = run(child("holds_stdout.sh"), descendants: :leave)
      os_pid = pid(result.stdout)
      assert result.exit.status == 0
      assert alive?(os_pid)
      kill(os_pid)
      assert_gone([os_pid])
    end

    test "a left grandchild that floods stdout cannot hold the exit" do
      script = "sh -c 'echo $$ >&2; exec cat /dev/zero' & read _"
      {:ok, sub} = open(["sh", "-c", script], descendants: :leave)
      {sub, os_pid} = read_line(sub, :stderr)
      {:ok, sub} = Subprocess.write(sub, "\n")
      assert {_, %{exit: %Exit{status: 0}}} = count(sub)
      # Its pipe has no reader any more.
      assert_gone([os_pid])
    end

    test "a child that was killed from outside takes its tree along" do
      {sub, pids} = open_tree()
      kill(Subprocess.os_pid(sub))
      assert %{exit: %Exit{signal: :kill}} = collect(sub)
      refute Enum.any?(pids, &alive?/1)
    end

    test "the owner is killed" do
      {owner, monitor, pids} = owned(fn -> open_tree() end)
      Process.exit(owner, :kill)
      assert_receive {:DOWN, ^monitor, _, _, :killed}
      assert_gone(pids)
    end

    test "the owner is killed while the child writes without a reader" do
      {owner, monitor, pids} =
        owned(fn ->
          {:ok, sub} = open(child("floods_stdout.sh", [100 * @mb]))
          {sub, [Subprocess.os_pid(sub)]}
        end)

      launchers = Enum.map(pids, &parent/1)
      Process.exit(owner, :kill)
      assert_receive {:DOWN, ^monitor, _, _, :killed}
      assert_gone(pids ++ launchers)
    end

    test "the port is closed" do
      {sub, pids} = open_tree()
      launcher = parent(Subprocess.os_pid(sub))
      Port.close(port(sub))
      assert_gone([launcher | pids])
      assert {:error, sub, %Error{reason: :launcher_died}} = Subprocess.grant(sub, 1)
      assert {:error, sub, %Error{reason: :launcher_died}} = Subprocess.write(sub, "x")
      assert {:error, sub, %Error{reason: :launcher_died}} = Subprocess.close_stdin(sub)
      assert {:error, %Error{reason: :launcher_died}} = Subprocess.stop(sub)
    end

    test "the whole VM is killed" do
      # Its own VM, so that there is one to kill.
      script = """
      alias Codex.Subprocess
      {:ok, sub} = Subprocess.open(["#{@children}/tree.sh"])
      {:ok, deaf} = Subprocess.open(["#{@children}/ignores_term.sh"])
      for line <- [System.pid(), Subprocess.os_pid(deaf)], do: IO.puts(line)
      loop = fn loop, sub ->
        receive do
          message ->
            case Subprocess.stream(sub, message) do
              {:ok, sub, outputs} ->
                for {:stdout, bytes} <- outputs, do: IO.write(bytes)
                loop.(loop, sub)
              :unknown -> loop.(loop, sub)
            end
        end
      end
      loop.(loop, sub)
      """

      ebin = Path.join(:code.lib_dir(:codex_sdk), "ebin")
      {:ok, vm} = open(["elixir", "-pa", ebin, "-e", script])
      {vm, lines} = read_until(vm, "ready")
      [vm_pid | pids] = for line <- lines, line != "ready", do: String.to_integer(line)
      assert length(pids) == 5
      launchers = [parent(hd(pids)), parent(Enum.at(pids, 1))]
      assert Enum.all?(launchers ++ pids, &alive?/1)

      kill(vm_pid)
      assert %{exit: %Exit{signal: :kill}} = drain_all(vm)
      assert_gone(launchers ++ pids)
    end

    test "the launcher is killed" do
      {sub, pids} = open_tree()
      kill(parent(Subprocess.os_pid(sub)))
      assert {:error, sub, %Error{reason: :launcher_died}} = until_error(sub)
      assert_gone(pids)

      assert {:error, sub, %Error{reason: :launcher_died}} = Subprocess.write(sub, "x")
      assert {:error, sub, %Error{reason: :launcher_died}} = Subprocess.grant(sub, 1)
      assert {:error, %Error{reason: :launcher_died}} = Subprocess.stop(sub)
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "the launcher's guard is killed" do
      {sub, pids} = open_tree()
      kill(parent(parent(Subprocess.os_pid(sub))))
      assert {:error, sub, %Error{reason: :terminated}} = until_error(sub)
      assert_gone(pids)
      assert {:error, %Error{reason: :terminated}} = Subprocess.stop(sub)
    end

    test "the launcher is killed while the owner sends" do
      # Loses without the guard that keeps the pipe open: the VM sends :epipe, and this process does
      # not trap exits.
      for _ <- 1..20 do
        {:ok, sub} = open(child("never_ends.sh"))
        os_pid = Subprocess.os_pid(sub)
        launcher = parent(os_pid)
        spawn_link(fn -> kill(launcher) end)
        assert {:error, _, %Error{reason: :launcher_died}} = send_until_error(sub)
        assert_gone([os_pid])
      end
    end

    test "the launcher gets a signal to end" do
      {sub, pids} = open_tree()
      System.cmd("kill", ["-TERM", "#{parent(Subprocess.os_pid(sub))}"])
      assert {:error, sub, %Error{reason: :terminated}} = until_error(sub)
      assert_gone(pids)
      assert {:error, %Error{reason: :terminated}} = Subprocess.stop(sub)
    end
  end

  describe "launchers that were started ahead" do
    setup do
      run(["true"])
      eventually(fn -> length(Launchers.idle()) == 2 end)
      %{idle: Launchers.idle()}
    end

    test "run the next child, and others take their places", %{idle: [first | _]} do
      {:ok, sub} = open(child("never_ends.sh"))
      assert parent(parent(Subprocess.os_pid(sub))) == first
      {:ok, _} = Subprocess.stop(sub)
      eventually(fn -> length(Launchers.idle()) == 2 end)
      refute first in Launchers.idle()
    end

    test "know the environment and the directory of the moment of the start" do
      put_env("CODEX_SDK_TEST_LATE", "late")
      dir = File.cwd!()
      on_exit(fn -> File.cd!(dir) end)
      File.cd!(System.tmp_dir!())
      result = run(["sh", "-c", "echo $CODEX_SDK_TEST_LATE; pwd"])
      File.cd!(dir)
      assert String.split(result.stdout) == ["late", System.tmp_dir!()]
    end

    test "are replaced when they are killed", %{idle: idle} do
      for pid <- idle, launcher <- children(pid), do: kill(launcher)
      assert run(["echo", "x"]).stdout == "x\n"
      eventually(fn -> length(Launchers.idle() -- idle) == 2 end)

      # A guard that is killed ends its launcher, also an idle one.
      guards = Launchers.idle()
      launchers = Enum.flat_map(guards, &children/1)
      Enum.each(guards, &kill/1)
      assert_gone(launchers)
      eventually(fn -> guards -- Launchers.idle() == guards end)
      assert run(["echo", "x"]).stdout == "x\n"
      eventually(fn -> length(Launchers.idle() -- guards) == 2 end)
    end

    test "do not outlive the VM" do
      script = """
      alias Codex.Subprocess.Launchers
      {:ok, _} = Codex.Subprocess.open(["sleep", "600"])
      full = fn full -> if length(Launchers.idle()) < 2, do: full.(full) end
      full.(full)
      for pid <- Launchers.idle(), do: IO.puts(pid)
      Process.sleep(:infinity)
      """

      vm = Codex.OtherVM.start(script)
      [vm_pid | guards] = for _ <- 1..3, do: other_vm_pid(vm)
      # A guard that has just started has no launcher yet.
      eventually(fn -> length(Enum.flat_map(guards, &children/1)) == 2 end)
      idle = Enum.flat_map(guards, &children/1)
      kill(vm_pid)
      assert_gone(guards ++ idle)
    end

    defp other_vm_pid(vm) do
      assert_receive {^vm, {:data, {:eol, line}}}, 30_000
      line |> String.replace("pid ", "") |> String.to_integer()
    end
  end

  describe "many" do
    # On a busy machine, each run takes some tenths of a second.
    @tag timeout: 1_200_000
    test "3000 in sequence leave no process, no descriptor and no atom" do
      run(["true"])
      eventually(fn -> length(Launchers.idle()) == 2 end)
      before = {fds(), :erlang.system_info(:atom_count), length(Port.list()), Process.list()}

      # The launcher of `Codex.TemporaryDirectories`, if directories were made before, and those of
      # earlier tests that have not ended yet.
      others = launchers() -- Launchers.idle()
      pids = for _ <- 1..3000, do: Subprocess.os_pid(run(["true"]).sub)
      refute Enum.any?(pids, &alive?/1)

      eventually(fn ->
        {fds(), :erlang.system_info(:atom_count), length(Port.list()), Process.list()} == before
      end)

      eventually(fn -> launchers() -- (others ++ Launchers.idle()) == [] end)
    end

    test "200 at once, each with its own bytes" do
      subs =
        for n <- 1..200, into: %{} do
          {:ok, sub} = open(["cat"])
          {:ok, sub} = Subprocess.write(sub, "number #{n}")
          {:ok, sub} = Subprocess.close_stdin(sub)
          {n, sub}
        end

      for {n, sub} <- subs do
        assert %{stdout: out, exit: %Exit{status: 0}} = collect(sub)
        assert out == "number #{n}"
      end
    end

    test "200 are stopped at once when their owner dies" do
      {owner, _monitor, pids} =
        owned(fn ->
          subs =
            for _ <- 1..200 do
              {:ok, sub} = open(child("never_ends.sh"))
              sub
            end

          {subs, Enum.map(subs, &Subprocess.os_pid/1)}
        end)

      Process.exit(owner, :kill)
      assert_gone(pids, 10_000)
    end
  end

  describe "open" do
    test "names the reason for a missing child" do
      dir = tmp_dir()
      file = Path.join(dir, "file")
      File.write!(file, "echo hello\n")
      assert reason(["no-such-program-anywhere"]) == :enoent
      assert reason(["/no/such/program"]) == :enoent
      assert reason([""]) == :enoent
      assert reason([dir]) == :eisdir
      assert reason([file]) == :eacces
      File.chmod!(file, 0o755)
      assert reason([file]) == :enoexec
      File.write!(file, "#!/no/such/interpreter\n")
      assert reason([file]) == :enoent
      assert reason(["true"], cwd: Path.join(dir, "none")) == :bad_cwd
      assert reason(["true"], cwd: file) == :bad_cwd
      assert reason(["true", String.duplicate("x", 3 * @mb)]) == :e2big
      assert reason(["true", String.duplicate("x", 17 * @mb)]) == :e2big
      assert reason(["true", "a\0b"]) == :einval
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "every error has words" do
      {:error, error} = Subprocess.open(["/no/such/program"])
      assert Exception.message(error) =~ "no such program"
    end

    test "runs in its directory, a relative program too" do
      dir = tmp_dir()
      assert run(["pwd"], cwd: dir).stdout == dir <> "\n"
      script = Path.join(dir, "here")
      File.write!(script, "#!/bin/sh\necho here\n")
      File.chmod!(script, 0o755)
      assert run(["./here"], cwd: dir).stdout == "here\n"
      assert run(["here"], env: %{"PATH" => dir}).stdout == "here\n"
      assert run(["here"], cwd: dir, env: %{"PATH" => "/none::/nowhere"}).stdout == "here\n"
    end

    test "the environment is the VM's without the variables of a release" do
      put_env("RELEASE_NAME", "x")
      put_env("ERL_LIBS", "x")
      put_env("CODEX_TEST_KEPT", "kept")
      put_env("CODEX_TEST_GONE", "gone")
      env = [{"CODEX_TEST_NEW", "new=1"}, {"CODEX_TEST_GONE", nil}]
      out = run(["env"], env: env).stdout
      refute out =~ "RELEASE_"
      refute out =~ "ERL_"
      refute out =~ "BINDIR"
      refute out =~ "GONE"
      assert out =~ "CODEX_TEST_KEPT=kept\n"
      assert out =~ "CODEX_TEST_NEW=new=1\n"

      assert run(["/usr/bin/env"], clear_env: true, env: %{"A" => "b", "RELEASE_X" => "c"}).stdout ==
               "A=b\nRELEASE_X=c\n"
    end

    test "the child has a session of its own, three descriptors, no blocked or ignored signal" do
      script = "ls /proc/self/fd; cat /proc/self/status; cat /proc/$$/stat"

      if File.dir?("/proc") do
        result = run(["sh", "-c", script])
        os_pid = Subprocess.os_pid(result.sub)
        # The fourth is the listing's own.
        assert String.starts_with?(result.stdout, "0\n1\n2\n3\n") and
                 not String.contains?(result.stdout, "\n4\n")

        assert result.stdout =~ ~r/SigBlk:\s0+\n/
        assert result.stdout =~ ~r/SigIgn:\s0+\n/
        # Process, parent, group and session.
        assert result.stdout =~ ~r/\n#{os_pid} \(\w+\) \w \d+ #{os_pid} #{os_pid} /
      end
    end

    test "misuse is reported by name, without the value" do
      message = "unknown option :envs; did you mean :env?"
      assert_raise Codex.OptionError, message, fn -> Subprocess.open(["true"], envs: %{}) end
      message = "unknown option \"stderr\"; did you mean :stderr_limit?"

      assert_raise Codex.OptionError, message, fn ->
        Subprocess.open(["true"], %{"stderr" => 1})
      end

      for opts <- [[window: -1], [env: [{"A=", "secret"}]], [cwd: 1], [descendants: :kill]] do
        error = assert_raise Codex.OptionError, fn -> Subprocess.open(["true"], opts) end
        assert [error.key] == Keyword.keys(opts)
        refute Exception.message(error) =~ "secret"
      end

      assert_raise ArgumentError, ~r/signal/, fn ->
        Subprocess.open(["true"], ladder: [{:signal, :nope, 1}])
      end

      assert_raise ArgumentError, fn -> Subprocess.open([]) end
      assert_raise ArgumentError, fn -> Subprocess.open("true") end
    end

    test "inspect shows neither arguments nor environment" do
      {:ok, sub} = open(["sh", "-c", "cat # secret"], env: %{"KEY" => "secret"})
      assert inspect(sub) == "#Codex.Subprocess<sh os_pid: #{Subprocess.os_pid(sub)} running>"
      Subprocess.stop(sub)
    end

    test "neither does ps: argv and env of the launcher are its own" do
      {:ok, sub} = open(["sh", "-c", "cat # secret"], env: %{"KEY" => "secret"})

      if File.dir?("/proc") do
        launcher = parent(Subprocess.os_pid(sub))

        for file <- ["cmdline", "environ"],
            do: refute(File.read!("/proc/#{launcher}/#{file}") =~ "secret")
      end

      Subprocess.stop(sub)
    end
  end

  # --- Owners and their messages ------------------------------------------------------------------

  defp child(name, args \\ []), do: [Path.join(@children, name) | Enum.map(args, &to_string/1)]

  defp open(argv, opts \\ []), do: Subprocess.open(argv, opts)
  defp run(argv, opts \\ []), do: argv |> open(opts) |> elem(1) |> collect()

  defp reason(argv, opts \\ []) do
    {:error, %Error{reason: reason}} = open(argv, opts)
    reason
  end

  # The next outputs that are any.
  defp next(sub) do
    {:ok, sub, outputs} = Subprocess.stream(sub, next_message(sub))
    if outputs == [], do: next(sub), else: {sub, outputs}
  end

  defp next_message(sub) do
    port = port(sub)

    receive do
      {^port, _} = message -> message
      {:EXIT, ^port, _} = message -> message
    after
      20_000 -> flunk("no message in 20 s from #{inspect(sub)}")
    end
  end

  defp port(sub), do: Map.fetch!(sub, :port)

  defp until(sub, done?) do
    if done?.(sub) do
      sub
    else
      {:ok, sub, _} = Subprocess.stream(sub, next_message(sub))
      until(sub, done?)
    end
  end

  defp until_error(sub) do
    case Subprocess.stream(sub, next_message(sub)) do
      {:ok, sub, _} -> until_error(sub)
      error -> error
    end
  end

  defp send_until_error(sub) do
    {:ok, sub} = Subprocess.grant(sub, 1)
    port = port(sub)

    receive do
      {^port, _} = message ->
        with {:ok, sub, _} <- Subprocess.stream(sub, message), do: send_until_error(sub)
    after
      0 -> send_until_error(sub)
    end
  end

  # Reads to the end and grants what it reads.
  defp collect(sub, acc \\ %{stdout: [], stderr: [], eofs: []}) do
    case next(sub) do
      {sub, [{:exit, exit}]} ->
        %{acc | stdout: to_binary(acc.stdout), stderr: to_binary(acc.stderr)}
        |> Map.merge(%{exit: exit, sub: sub})

      {sub, [{:eof, stream}]} ->
        collect(sub, %{acc | eofs: [stream | acc.eofs]})

      {sub, [{stream, bytes}]} ->
        refute stream in acc.eofs

        {:ok, sub} =
          if stream == :stdout, do: Subprocess.grant(sub, byte_size(bytes)), else: {:ok, sub}

        collect(sub, Map.update!(acc, stream, &[&1 | bytes]))
    end
  end

  defp to_binary(iodata), do: IO.iodata_to_binary(iodata)

  # The same without keeping the bytes.
  defp count(sub, bytes \\ 0) do
    case next(sub) do
      {sub, [{:exit, exit}]} ->
        {sub, %{bytes: bytes, exit: exit}}

      {sub, [{:stdout, chunk}]} ->
        {:ok, sub} = Subprocess.grant(sub, byte_size(chunk))
        count(sub, bytes + byte_size(chunk))

      {sub, _} ->
        count(sub, bytes)
    end
  end

  # Reads a single line, after which the child waits. Skips the other stream.
  defp read_line(sub, stream \\ :stdout, line \\ "") do
    {sub, outputs} = next(sub)
    line = for {^stream, bytes} <- outputs, into: line, do: bytes

    cond do
      not String.ends_with?(line, "\n") -> read_line(sub, stream, line)
      line =~ ~r/^\d+\n$/ -> {sub, pid(line)}
      true -> {sub, line}
    end
  end

  defp read_until(sub, last, text \\ "") do
    {sub, outputs} = next(sub)
    text = for {:stdout, bytes} <- outputs, into: text, do: bytes
    lines = String.split(text, "\n", trim: true)
    if last in lines, do: {sub, lines}, else: read_until(sub, last, text)
  end

  defp drain_all(sub), do: collect(sub)

  defp read_stderr(sub, 0), do: sub

  defp read_stderr(sub, left) do
    {sub, [{:stderr, bytes}]} = next(sub)
    read_stderr(sub, left - byte_size(bytes))
  end

  defp open_tree do
    {:ok, sub} = open(child("tree.sh"))
    {sub, lines} = read_until(sub, "ready")
    pids = for line <- lines, line != "ready", do: String.to_integer(line)
    assert length(pids) == 4
    {sub, pids}
  end

  # Starts a process that owns the children of `fun` and never reads. Returns its pids.
  defp owned(fun) do
    test = self()

    {owner, monitor} =
      spawn_monitor(fn ->
        {subs, pids} = fun.()
        send(test, {:pids, self(), pids})
        receive do: (:never -> subs)
      end)

    receive do
      {:pids, ^owner, pids} -> {owner, monitor, pids}
      {:DOWN, ^monitor, _, _, reason} -> flunk("the owner died: #{inspect(reason)}")
    end
  end

  defp tmp_dir do
    name = "codex_sdk-#{System.pid()}-#{System.unique_integer([:positive])}"
    dir = Path.join(System.tmp_dir!(), name)
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    dir
  end

  defp kill(os_pid), do: {_, 0} = System.cmd("kill", ["-KILL", "#{os_pid}"])

  defp put_env(name, value) do
    System.put_env(name, value)
    on_exit(fn -> System.delete_env(name) end)
  end

  defp memory do
    :erlang.garbage_collect()
    :erlang.memory(:total)
  end

  defp queue_length, do: self() |> Process.info(:message_queue_len) |> elem(1)

  # --- Facts of the operating system ---

  defp pid(line), do: line |> String.trim() |> String.to_integer()

  # A zombie is gone: only its parent's wait is missing.
  defp alive?(os_pid), do: state(os_pid) not in [nil, "Z", "X"]

  defp state(os_pid) do
    if File.dir?("/proc") do
      os_pid |> stat() |> List.first()
    else
      {out, _} = System.cmd("ps", ["-o", "stat=", "-p", "#{os_pid}"])
      String.first(String.trim(out))
    end
  end

  defp parent(os_pid), do: os_pid |> stat() |> Enum.at(1) |> String.to_integer()

  # The fields after the name.
  defp stat(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, line} -> line |> String.split(") ") |> List.last() |> String.split()
      {:error, _} -> []
    end
  end

  defp proc_io(os_pid, field) do
    case File.read("/proc/#{os_pid}/io") do
      {:ok, text} ->
        ~r/^#{field}: (\d+)$/m |> Regex.run(text) |> Enum.at(1) |> String.to_integer()

      # More than any number: it has written all it had to write.
      {:error, _} ->
        :gone
    end
  end

  defp fds, do: length(File.ls!("/proc/self/fd"))

  # Launchers that belong to this VM, zombies included.
  defp children(os_pid) do
    for entry <- File.ls!("/proc"),
        entry =~ ~r/^\d+$/,
        parent = Enum.at(stat(entry), 1),
        parent == "#{os_pid}",
        do: String.to_integer(entry)
  end

  defp launchers do
    for entry <- File.ls!("/proc"),
        entry =~ ~r/^\d+$/,
        {:ok, stat} <- [File.read("/proc/#{entry}/stat")],
        stat =~ "(codex_launcher)",
        grandparent(entry) == System.pid(),
        do: String.to_integer(entry)
  end

  # Ports are started by a helper process of the VM.
  defp grandparent(os_pid) do
    with [_, helper | _] <- stat(os_pid), [_, vm | _] <- stat(helper), do: vm, else: (_ -> nil)
  end

  defp assert_gone(os_pids, within \\ 30_000) do
    eventually(fn -> not Enum.any?(os_pids, &alive?/1) end, within)
  end

  # Polls: processes of others send no message.
  defp eventually(fun, within \\ 30_000) do
    deadline = System.monotonic_time(:millisecond) + within
    poll(fun, deadline)
  end

  defp poll(fun, deadline) do
    cond do
      fun.() ->
        true

      System.monotonic_time(:millisecond) > deadline ->
        flunk("did not become true in time: #{inspect(fun)}")

      true ->
        Process.sleep(5)
        poll(fun, deadline)
    end
  end
end
