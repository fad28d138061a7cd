defmodule Codex.RunningTest do
  # Turns that run, listed and stopped by those who noted nothing.
  # Not async: `Codex.stop/1` by a thread id ends the stubs of other tests, which share that id.
  use ExUnit.Case, async: false

  import Codex.Connected
  import Codex.Stub, only: [eventually: 1, eventually: 2, running: 1]
  import Codex.Test.Steps
  alias Codex.{Error, Events, RunResultStreaming, Stub, Thread}
  alias Codex.Turn.Running

  @moduletag :tmp_dir

  defp of(pid), do: Enum.find(Codex.running(), &(&1.pid == pid))

  # Before the CLI has said anything.
  defp mute(dir), do: Stub.thread(dir, "echo $$ > #{dir}/pid; exec sleep 3600")

  defp interrupted(task) do
    assert {:error, {:exec_failed, %Error{kind: :interrupted} = error}} = Task.await(task, 30_000)
    assert %Codex.Turn.Result{} = error.result
    assert of(task.pid) == nil
    error
  end

  test "a turn of codex exec is stopped from the first moment, by whatever names it", %{
    tmp_dir: dir
  } do
    names = [
      & &1,
      & &1.pid,
      & &1.ref,
      fn %{thread_ref: ref} -> %{mute(dir) | ref: ref} end
    ]

    for name <- names do
      thread = mute(dir)
      task = Task.async(fn -> Thread.run(thread, "hi") end)
      assert eventually(fn -> of(task.pid) != nil end)
      entry = of(task.pid)

      assert %Running{kind: :turn, transport: :exec, thread_id: nil, cwd: nil, pid: pid} = entry
      assert pid == task.pid and entry.thread_ref == thread.ref
      assert DateTime.diff(DateTime.utc_now(), entry.started_at) < 60
      assert Codex.stop(name.(entry)) == :ok
      interrupted(task)
      assert Codex.stop(entry) == {:error, :not_found}
    end
  end

  test "a thread names its own turn, and no other that looks the same", %{tmp_dir: dir} do
    path = Stub.write!(dir, ~s(echo "$started"; exec sleep 3600))
    threads = for _ <- 1..2, {:ok, thread} = Codex.start_thread(codex_path: path), do: thread
    [mine, other] = for thread <- threads, do: Task.async(fn -> Thread.run(thread, "hi") end)
    id = "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"

    for task <- [mine, other],
        do: assert(eventually(fn -> match?(%{thread_id: ^id}, of(task.pid)) end))

    assert Codex.stop(hd(threads)) == :ok
    assert interrupted(mine).result.thread.thread_id == id
    assert of(other.pid)
    assert Codex.stop(id) == :ok
    interrupted(other)
    assert Codex.stop(id) == {:error, :not_found}
    assert Codex.stop(hd(threads)) == {:error, :not_found}
  end

  test "streams are in the list while they are read, also those that are popped", %{tmp_dir: dir} do
    thread = Stub.thread(dir, ~s(echo "$started"; exec sleep 3600))
    {:ok, events} = Thread.run_turn_streamed(thread, "hi")
    refute of(self())

    assert [id] = Stream.map(events, fn _started -> of(self()).thread_id end) |> Enum.take(1)
    assert id == "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"
    refute of(self())

    {:ok, run} = Thread.run_streamed(thread, "hi")
    assert {:ok, _agent} = RunResultStreaming.pop(run, 20_000)
    assert {:ok, %{event: %Events.ThreadStarted{}}} = RunResultStreaming.pop(run, 20_000)
    assert Codex.stop(thread) == :ok
    assert {:error, error} = RunResultStreaming.pop(run, 20_000)
    assert Error.normalize(error).kind == :interrupted
  end

  test "a run that waits for its next attempt is stopped", %{tmp_dir: dir} do
    thread = Stub.thread(dir, "exit 75")
    opts = [retry: true, retry_opts: [base_delay_ms: 3_600_000, max_delay_ms: 3_600_000]]
    task = Task.async(fn -> Thread.run(thread, "hi", opts) end)
    assert eventually(fn -> of(task.pid) != nil end)
    assert Codex.stop(task.pid) == :ok
    interrupted(task)
  end

  test "an entry goes with its reader, and with a run that cannot start", %{tmp_dir: dir} do
    thread = mute(dir)
    task = Task.async(fn -> Thread.run(thread, "hi") end)
    assert eventually(fn -> of(task.pid) != nil end)
    Process.unlink(task.pid)
    Process.exit(task.pid, :kill)
    assert eventually(fn -> of(task.pid) == nil end)

    broken = Stub.thread(dir, "exit 0")
    File.write!(broken.codex_opts.codex_path_override, "no program")
    assert {:error, _} = Thread.run(broken, "hi")
    refute of(self())
  end

  test "other values are refused in words" do
    for odd <- [nil, {:ok, 1}, %{}, :thread] do
      assert_raise ArgumentError, ~r/expected a Codex.Turn.Running/, fn -> Codex.stop(odd) end
    end
  end

  describe "over an app-server" do
    @describetag :codex_cli

    test "turns are stopped by the thread, before and after it has an id" do
      model = Codex.Test.start!([silence(:infinity), silence(:infinity), "fine"])
      conn = connect!(model)
      thread = thread!(model, conn)

      task = Task.async(fn -> Thread.run(thread, "hi") end)
      assert eventually(fn -> Codex.stop(thread) == :ok end)
      error = interrupted(task)

      task = Task.async(fn -> Thread.run(error.result.thread, "hi") end)
      assert eventually(fn -> match?(%{thread_id: "" <> _}, of(task.pid)) end, 20_000)
      assert %{transport: {:app_server, ^conn}} = of(task.pid)
      assert {:ok, _} = Codex.Test.await_request(model, 10_000)
      assert Codex.stop(of(task.pid).thread_id) == :ok
      assert %{result: %{thread: next}} = interrupted(task)
      assert :sys.get_state(conn).state.turns.running == %{}
      assert is_binary(next.thread_id)
    end

    test "a turn is stopped while the server does not answer, and nothing stays in the mailbox" do
      model = Codex.Test.start!(["fine"])
      conn = connect!(model)
      thread = thread!(model, conn)
      os_pid = Integer.to_string(os_pid(conn))
      {_, 0} = System.cmd("kill", ["-STOP", os_pid])
      test = self()

      task =
        Task.async(fn ->
          result = Thread.run(thread, "hi")
          receive(do: (:go_on -> send(test, {:mailbox, Process.info(self(), :messages)})))
          result
        end)

      assert eventually(fn -> Codex.stop(thread) == :ok end)
      assert eventually(fn -> of(task.pid) == nil end)
      {_, 0} = System.cmd("kill", ["-CONT", os_pid])
      assert {:ok, %{final_response: %{text: "fine"}}} = Thread.run(thread, "again")
      send(task.pid, :go_on)
      assert_receive {:mailbox, {:messages, []}}, 10_000
      interrupted(task)
    end

    test "a turn is stopped while the server does not answer turn/start, and then has no owner" do
      model = Codex.Test.start!(["one", silence(:infinity)])
      conn = connect!(model)
      {:ok, %{thread: thread}} = Thread.run(thread!(model, conn), "hi")
      os_pid = Integer.to_string(os_pid(conn))
      methods = ["turn/started", "turn/completed"]
      :ok = Codex.AppServer.subscribe(conn, methods: methods)
      {_, 0} = System.cmd("kill", ["-STOP", os_pid])
      task = Task.async(fn -> Thread.run(thread, "again") end)

      assert eventually(fn ->
               starting = :sys.get_state(conn).state.turns.starting
               match?([%{late?: false}], Map.values(starting))
             end)

      assert Codex.stop(thread) == :ok
      # Without an answer of the server.
      interrupted(task)
      {_, 0} = System.cmd("kill", ["-CONT", os_pid])

      assert_receive {:codex_notification, "turn/completed",
                      %{"turn" => %{"status" => "interrupted"}}},
                     20_000

      assert :sys.get_state(conn).state.turns.running == %{}
    end

    test "a value from before the first turn interrupts and steers it" do
      model = Codex.Test.start!([respond([shell("sleep 2")]), "done", silence(:infinity)])
      conn = connect!(model)
      thread = thread!(model, conn)
      assert Thread.interrupt(thread) == {:error, :missing_thread_id}

      task = Task.async(fn -> Thread.run(thread, "hi") end)
      assert {:ok, _} = Codex.Test.await_request(model, 20_000)
      assert Thread.steer(thread, "more") == :ok
      assert {:ok, %{final_response: %{text: "done"}}} = Task.await(task, 20_000)
      assert Thread.interrupt(thread) == {:error, :missing_thread_id}

      task = Task.async(fn -> Thread.run(thread, "again") end)
      assert eventually(fn -> Thread.interrupt(thread) == :ok end)
      interrupted(task)
    end
  end

  test "leaves no command behind", %{tmp_dir: dir} do
    seconds = "36#{System.unique_integer([:positive])}.25"
    thread = Stub.thread(dir, ~s(echo "$started"; sleep #{seconds} & wait))
    task = Task.async(fn -> Thread.run(thread, "hi") end)
    assert eventually(fn -> running("sleep #{seconds}") != [] end)
    assert Codex.stop(task.pid) == :ok
    interrupted(task)
    assert eventually(fn -> running("sleep #{seconds}") == [] end)
  end
end
