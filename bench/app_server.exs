# Measures turns over a warm app-server, and the cost of a connection. See README.md.

Code.require_file("support.exs", __DIR__)

defmodule Bench.AppServer do
  alias Codex.{AppServer, Test, Thread}
  alias Codex.Test.Steps

  @flood Path.expand("children/notifications.sh", __DIR__)

  def run do
    turns = Bench.setting("TURNS", 20)
    threads = Bench.setting("THREADS", 200)
    megabytes = Bench.setting("MEGABYTES", 100)
    {:ok, cli} = Test.codex_path()
    Bench.machine(cli: Bench.first_line(cli, ["--version"]))

    turns(turns)
    idle(threads)
    flood(megabytes)
    asleep(megabytes)
  end

  # Runs one thread after the other, each with one turn; the model answers immediately.
  defp turns(n) do
    model = Test.start!([], default: Steps.message("done"))
    {:ok, conn} = AppServer.connect(Test.options(model), cwd: model.workspace)
    {:ok, exec} = Codex.start_thread(Test.options(model), Test.thread_options(model))

    measured =
      Bench.interleave(
        [
          {"codex exec", fn -> per_second(n, fn -> {:ok, _} = Thread.run(exec, "go") end) end},
          {"app-server, a new thread each",
           fn -> per_second(n, fn -> turn(conn, thread(conn)) end) end},
          {"app-server, one thread",
           fn ->
             id = thread(conn)
             per_second(n, fn -> turn(conn, id) end)
           end}
        ],
        Bench.setting("REPETITIONS", 5)
      )

    AppServer.disconnect(conn)
    IO.puts("## Turns one after the other, #{n} each: per second\n")
    IO.puts("| | turns/s | times codex exec |\n|---|---|---|")

    for {name, list} <- Enum.sort(measured) do
      ratios = Enum.zip_with(list, measured["codex exec"], &(&1 / &2))
      IO.puts("| #{name} | #{round1(Bench.median(list))} | #{round1(Bench.median(ratios))} |")
    end
  end

  defp thread(conn) do
    {:ok, %{"thread" => %{"id" => id}}} = AppServer.thread_start(conn)
    :ok = AppServer.subscribe(conn, thread_id: id, methods: ["turn/completed"])
    id
  end

  defp turn(conn, id) do
    {:ok, _} = AppServer.turn_start(conn, id, "go")

    receive do
      {:codex_notification, "turn/completed", %{"threadId" => ^id}} -> :ok
    after
      30_000 -> raise "the turn did not end"
    end
  end

  defp per_second(n, fun) do
    {us, _} = :timer.tc(fn -> for _ <- 1..n, do: fun.() end)
    n / (us / 1.0e6)
  end

  # Memory of loaded threads without a turn.
  defp idle(n) do
    model = Test.start!([])
    {:ok, conn} = AppServer.connect(Test.options(model), cwd: model.workspace)
    os_pid = GenServer.call(conn, :os_pid)
    _ = AppServer.thread_start(conn)
    :erlang.garbage_collect(conn)
    {vm, server} = {memory(conn), resident(os_pid)}
    for _ <- 1..n, do: {:ok, _} = AppServer.thread_start(conn)
    :erlang.garbage_collect(conn)

    IO.puts("""

    ## #{n} idle threads on one connection

    | | bytes a thread |
    |---|---|
    | the connection's process | #{div(memory(conn) - vm, n)} |
    | the server (resident) | #{div(resident(os_pid) - server, n)} |
    """)

    AppServer.disconnect(conn)
  end

  # Notifications of 233 bytes, as fast as they arrive.
  defp flood(megabytes) do
    {seconds, n} = Bench.fresh(fn -> read(connect(megabytes)) end, min_heap_size: 65_536)

    IO.puts("""
    ## #{megabytes} MB of notifications to one subscriber

    #{round(n / seconds)} notifications/s, #{round1(megabytes / seconds)} MB/s: from the pipe
    through the subscriber's mailbox
    """)
  end

  defp asleep(megabytes) do
    test = self()

    reader =
      spawn_link(fn ->
        conn = connect(megabytes)
        send(test, {:connected, conn})
        receive(do: (:go -> send(test, {:read, read(conn)})))
      end)

    conn = receive(do: ({:connected, conn} -> conn))
    before = :erlang.memory(:total)
    Process.sleep(3_000)
    grown = (:erlang.memory(:total) - before) / 1.0e6
    {_, queue} = Process.info(reader, :message_queue_len)
    send(reader, :go)
    n = receive(do: ({:read, n} -> n))

    IO.puts("""
    ## A subscriber that sleeps for 3 s, #{megabytes} MB offered

    The VM grew by #{round1(grown)} MB, #{queue} messages waited; then all #{n} came.
    The connection's process: #{div(memory(conn), 1024)} KB.
    """)
  end

  defp connect(megabytes) do
    home = Path.join(System.tmp_dir!(), "codex_sdk-bench-#{System.unique_integer([:positive])}")
    File.mkdir_p!(home)
    client = [codex_path: @flood, codex_home: home, env: %{"MEGABYTES" => "#{megabytes}"}]
    {:ok, conn} = AppServer.connect(client, cwd: home)
    :ok = AppServer.subscribe(conn)
    # The flood begins with the first request.
    {:ok, _} = AppServer.request(conn, "go")
    File.rm_rf!(home)
    conn
  end

  defp read(conn, n \\ 0) do
    receive do
      {:codex_notification, "last", _} -> n
      {:codex_notification, _, _} -> read(conn, n + 1)
    after
      30_000 -> raise "only #{n} came"
    end
  end

  defp memory(pid), do: elem(Process.info(pid, :memory), 1)

  defp resident(os_pid) do
    {kb, 0} = System.cmd("ps", ["-o", "rss=", "-p", Integer.to_string(os_pid)])
    kb |> String.trim() |> String.to_integer() |> Kernel.*(1024)
  end

  defp round1(n), do: :erlang.float_to_binary(n / 1, decimals: 1)
end

Bench.AppServer.run()
