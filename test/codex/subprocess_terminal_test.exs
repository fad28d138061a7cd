defmodule Codex.SubprocessTerminalTest do
  use ExUnit.Case, async: true

  alias Codex.Subprocess
  alias Codex.Subprocess.{Error, Exit}

  @size {31, 97}
  @wait 30_000

  describe "a child with a terminal" do
    test "finds it at all three streams, as its controlling terminal, in its size" do
      script = "test -t 0 && test -t 1 && test -t 2 && stty size </dev/tty && echo err >&2"
      assert {"31 97\r\nerr\r\n", %Exit{status: 0}} = run(["sh", "-c", script])
    end

    test "reads typed lines, and Ctrl-D ends them" do
      {:ok, sub} = open(["cat"])
      {:ok, sub} = Subprocess.write(sub, "typed\n")
      {sub, _echo} = until(sub, "typed\r\ntyped\r\n")
      {:ok, sub} = Subprocess.close_stdin(sub)
      assert {_, %Exit{status: 0}} = collect(sub)

      # It closes its end of the terminal before it exits.
      for _ <- 1..20 do
        assert {"x\r\nx\r\n", %Exit{status: 0}} = run(["cat"], input: "x\n")
      end
    end

    test "gets SIGINT for Ctrl-C" do
      {:ok, sub} = open(["sh", "-c", "echo ready; exec sleep 600"])
      {sub, _} = until(sub, "ready")
      {:ok, sub} = Subprocess.write(sub, <<3>>)
      assert {_, %Exit{signal: :int}} = collect(sub)
    end

    test "is notified of another size" do
      script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
      {:ok, sub} = open(["bash", "-c", script])
      {sub, _} = until(sub, "ready")
      {:ok, sub} = Subprocess.resize(sub, {40, 120})
      {sub, _} = until(sub, "40 120")
      assert {:ok, %Exit{}} = Subprocess.stop(sub)
    end

    test "gets and gives bytes unchanged when it has turned the terminal raw" do
      bytes = :crypto.strong_rand_bytes(3 * 1024 * 1024)
      script = "stty raw -echo; echo ready; exec head -c #{byte_size(bytes)}"
      {:ok, sub} = open(["sh", "-c", script], window: 4_096)
      {sub, "ready\n" <> early} = until(sub, "ready\n")
      {:ok, sub} = Subprocess.write(sub, bytes)
      assert Subprocess.pending(sub) > 2 * 1024 * 1024
      assert {late, %Exit{status: 0}} = collect(sub)
      assert early <> late == bytes
    end

    test "waits without credit, and its last bytes come after its exit" do
      {:ok, sub} = open(["seq", "1", "40000"], window: 0)
      {:ok, sub} = Subprocess.grant(sub, 10)
      {sub, "1\r\n2\r\n3\r\n4"} = until(sub, "4")
      sub = silent(sub)
      {:ok, sub} = Subprocess.grant(sub, 1_000)
      assert {rest, %Exit{status: 0}} = collect(sub)
      assert "1\r\n2\r\n3\r\n4" <> rest == Enum.map_join(1..40_000, &"#{&1}\r\n")
    end

    test "cannot have an invalid size, and a child without a terminal has none" do
      for size <- [{0, 80}, {24, 65_536}, 24, {24, 80, 1}] do
        assert_raise Codex.OptionError, ~r/:terminal must be {rows, cols}/, fn ->
          Subprocess.open(["true"], terminal: size)
        end
      end

      {:ok, sub} = open(["cat"])
      assert_raise ArgumentError, ~r/from 1 to 65535/, fn -> Subprocess.resize(sub, {0, 1}) end
      {:ok, _} = Subprocess.stop(sub)

      {:ok, sub} = Subprocess.open(["cat"])
      assert_raise ArgumentError, ~r/:terminal/, fn -> Subprocess.resize(sub, {24, 80}) end
      {:ok, _} = Subprocess.stop(sub)
    end

    test "that has exited can be resized without effect" do
      {:ok, sub} = open(["true"])
      {sub, %Exit{status: 0}} = exited(sub)
      assert {:ok, sub} = Subprocess.resize(sub, {24, 80})
      assert {:error, _, %Error{reason: :exited}} = Subprocess.write(sub, "x")
    end
  end

  describe "the end" do
    test "closes the terminal first" do
      script = "trap 'exit 7' HUP; echo ready; while :; do sleep 0.05; done"
      {:ok, sub} = open(["sh", "-c", script], ladder: [{:close_stdin, 20_000}])
      {sub, _} = until(sub, "ready")
      assert {:ok, %Exit{status: 7}} = Subprocess.stop(sub)
    end

    # Interactive, so that jobs have process groups of their own.
    @jobs """
    set -m
    sh -c 'trap "" HUP TERM; echo "pid $$"; sleep 600 & wait' &
    setsid sh -c 'echo "pid $$"; exec sleep 600' &
    echo "pid $$"
    wait
    """

    test "leaves no job, background group or session" do
      {:ok, sub} = open(["bash", "-c", @jobs])
      {sub, pids} = pids(sub, 3)
      assert {:ok, %Exit{}} = Subprocess.stop(sub)
      assert_gone([Subprocess.os_pid(sub) | pids])
    end

    test "leaves none either if the whole VM is killed" do
      script = """
      {:ok, sub} = Codex.Subprocess.open(["bash", "-c", #{inspect(@jobs)}], terminal: {24, 80})
      stream = fn stream, sub ->
        {:ok, sub, outputs} = Codex.Subprocess.next(sub, :infinity)
        for {:stdout, bytes} <- outputs, do: IO.write(String.replace(bytes, "\\r", ""))
        stream.(stream, sub)
      end
      stream.(stream, sub)
      """

      vm = Codex.OtherVM.start(script)
      [vm_pid | pids] = for _ <- 1..4, do: line(vm)
      kill(vm_pid)
      assert_gone([vm_pid | pids])
    end
  end

  # --- Helpers ------------------------------------------------------------------------------------

  defp open(argv, opts \\ []), do: Subprocess.open(argv, [terminal: @size] ++ opts)
  defp run(argv, opts \\ []), do: argv |> open(opts) |> elem(1) |> collect()

  # Reads and grants until the output ends with, or contains, a text.
  defp until(sub, text, seen \\ "") do
    if seen =~ text do
      {sub, seen}
    else
      {:ok, sub, outputs} = Subprocess.next(sub, @wait)
      bytes = for {:stdout, bytes} <- outputs, into: "", do: bytes
      until(sub, text, seen <> bytes)
    end
  end

  # No byte comes; the end of stderr may.
  defp silent(sub) do
    case Subprocess.next(sub, 50) do
      :timeout -> sub
      {:ok, sub, [eof: :stderr]} -> silent(sub)
    end
  end

  defp collect(sub, seen \\ []) do
    {:ok, sub, outputs} = Subprocess.next(sub, @wait)
    bytes = for {:stdout, bytes} <- outputs, into: "", do: bytes
    {:ok, sub} = Subprocess.grant(sub, byte_size(bytes))

    case List.keyfind(outputs, :exit, 0) do
      {:exit, exit} -> {IO.iodata_to_binary([seen, bytes]), exit}
      nil -> collect(sub, [seen, bytes])
    end
  end

  defp exited(sub) do
    {:ok, sub, outputs} = Subprocess.next(sub, @wait)
    if exit = outputs[:exit], do: {sub, exit}, else: exited(sub)
  end

  defp pids(sub, count, seen \\ "") do
    case for [_, pid] <- Regex.scan(~r/pid (\d+)\r\n/, seen), do: String.to_integer(pid) do
      pids when length(pids) == count ->
        {sub, pids}

      _some ->
        {:ok, sub, outputs} = Subprocess.next(sub, @wait)
        pids(sub, count, seen <> for({:stdout, bytes} <- outputs, into: "", do: bytes))
    end
  end

  defp line(vm) do
    receive do
      {^vm, {:data, {:eol, "pid " <> pid}}} -> String.to_integer(pid)
      {^vm, {:data, {:eol, _other}}} -> line(vm)
    after
      60_000 -> flunk("the other VM printed nothing in 60 s")
    end
  end

  defp kill(os_pid), do: {_, 0} = System.cmd("kill", ["-KILL", "#{os_pid}"])

  # Polls: processes of others send no message.
  defp assert_gone(os_pids) do
    if Enum.any?(os_pids, &alive?/1) do
      Process.sleep(10)
      assert_gone(os_pids)
    end
  end

  defp alive?(os_pid) do
    {out, _} = System.cmd("ps", ["-o", "stat=", "-p", "#{os_pid}"])
    String.first(String.trim(out)) not in [nil, "Z", "X"]
  end
end
