defmodule Codex.AppServer.KillsTest do
  # Whatever is killed while a command runs in a turn: nothing is left, nobody waits for ever.
  use ExUnit.Case, async: true

  import Codex.Stub, only: [eventually: 1, eventually: 2, running: 1]
  import Codex.Connected
  import Codex.Test.Steps
  alias Codex.{AppServer, OtherVM, Test, Thread}

  @moduletag :codex_cli

  # A command that is found again by its number.
  defp start do
    n = "7#{System.unique_integer([:positive])}.25"
    model = Test.start!([shell("sleep #{n}", yield_time_ms: 60_000), "Done."])
    {n, model}
  end

  @options [sandbox: :danger_full_access, ask_for_approval: :never]

  defp connect(model) do
    conn = connect!(model)
    {conn, thread!(model, conn, @options)}
  end

  defp run(thread, n) do
    task = Task.async(fn -> Thread.run(thread, "sleep") end)
    assert eventually(fn -> running("sleep #{n}") != [] end)
    task
  end

  defp gone?(n, os_pid) do
    eventually(fn -> running("sleep #{n}") == [] and not Codex.Stub.alive?(os_pid) end, 10_000)
  end

  test "the server" do
    {n, model} = start()
    {conn, thread} = connect(model)
    task = run(thread, n)
    monitor = Process.monitor(conn)
    os_pid = os_pid(conn)
    {_, 0} = System.cmd("kill", ["-KILL", to_string(os_pid)])
    assert {:error, {:exec_failed, %{kind: :killed, result: result}}} = Task.await(task, 5_000)
    assert Enum.any?(result.events, &match?(%Codex.Events.ItemStarted{}, &1))
    assert_receive {:DOWN, ^monitor, :process, _, {:shutdown, {:app_server_down, _}}}, 5_000
    assert gone?(n, os_pid)
  end

  test "the connection" do
    {n, model} = start()
    {conn, thread} = connect(model)
    os_pid = os_pid(conn)
    task = run(thread, n)
    Process.exit(conn, :kill)
    assert {:error, {:exec_failed, %{kind: :crashed}}} = Task.await(task, 5_000)
    assert {:error, {:app_server_down, _}} = AppServer.model_list(conn)
    assert gone?(n, os_pid)
  end

  test "a subscriber, which is nothing to the turn" do
    {n, model} = start()
    {conn, thread} = connect(model)
    test = self()

    subscriber =
      spawn(fn ->
        :ok = AppServer.subscribe(conn)
        send(test, :subscribed)
        Process.sleep(:infinity)
      end)

    assert_receive :subscribed, 5_000
    task = run(thread, n)
    Process.exit(subscriber, :kill)
    # The command is the only thing that the turn waits for.
    {pids, 0} = System.cmd("pgrep", ["-f", "sleep #{n}"])
    _ = System.cmd("kill", String.split(pids))
    assert {:ok, %{final_response: %{text: "Done."}}} = Task.await(task, 10_000)
    assert :sys.get_state(conn).state.subscribers == %{}
  end

  test "the whole VM" do
    {n, model} = start()
    options = Test.thread_options(model) ++ @options

    script = """
    {:ok, conn} = Codex.AppServer.connect(#{OtherVM.client(model)}, cwd: #{inspect(model.workspace)})
    IO.puts("server \#{GenServer.call(conn, :os_pid)}")
    options = #{inspect(options)} ++ [transport: {:app_server, conn}]
    {:ok, thread} = Codex.start_thread(#{OtherVM.client(model)}, options)
    Codex.Thread.run(thread, "sleep")
    """

    port = OtherVM.start(script)
    assert_receive {^port, {:data, {:eol, "pid " <> vm}}}, 20_000
    assert_receive {^port, {:data, {:eol, "server " <> os_pid}}}, 20_000
    assert eventually(fn -> running("sleep #{n}") != [] end, 20_000)
    {_, 0} = System.cmd("kill", ["-KILL", vm])
    assert gone?(n, os_pid)
  end
end
