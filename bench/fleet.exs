# Measures many turns at once: see README.md.

Code.require_file("support.exs", __DIR__)

defmodule Bench.Fleet do
  alias Codex.{Batch, Pool, Test, Thread}

  @child Path.expand("children/message.sh", __DIR__)

  def run do
    jobs = Bench.setting("JOBS", 60)
    concurrency = Bench.setting("CONCURRENCY", 4)
    Bench.machine(cli: cli())
    model = Test.start!([], default: "Hello world")
    jobs(model, jobs, concurrency)
    queued(Bench.setting("QUEUED", 1_000_000))
    threads(model, Bench.setting("THREADS", 200))
    servers(model, Bench.setting("THREADS", 200))
    Test.stop(model)
  end

  defp cli do
    case Test.codex_path() do
      {:ok, path} -> Bench.first_line(path, ["--version"])
      {:error, _} -> raise "no CLI found: CODEX_PATH names one"
    end
  end

  ## Jobs per second

  defp jobs(model, jobs, concurrency) do
    client = Test.options(model)
    pool = pool(model, 2, concurrency)
    thread = Test.thread_options(model)
    prompts = for n <- 1..jobs, do: "job #{n}"

    batch = fn options ->
      options = [thread: thread, max_concurrency: concurrency, ordered: false] ++ options
      seconds(fn -> Enum.each(Codex.map(prompts, & &1, options), &(%{status: :ok} = &1)) end)
    end

    journal = fn ->
      path = Path.join(System.tmp_dir!(), "codex_bench_#{System.unique_integer([:positive])}")
      time = batch.(pool: pool, journal: path)
      for end_of <- ["", ".lock"], do: File.rm(path <> end_of)
      time
    end

    variants = [
      {"Task.async_stream, codex exec", fn -> tasks(prompts, client, thread, concurrency) end},
      {"batch, codex exec", fn -> batch.(client: client) end},
      {"batch, pool", fn -> batch.(pool: pool) end},
      {"batch, pool, journal", journal}
    ]

    measured = Bench.interleave(variants, 3)
    IO.puts("## #{jobs} jobs, #{concurrency} at once, real CLI, model on loopback\n")

    rows =
      for {name, _} <- variants do
        rate = jobs / Bench.median(measured[name])
        [name, Bench.number(rate), Bench.share(measured, "Task.async_stream, codex exec", name)]
      end

    Bench.table(["", "jobs per second", "times as fast as async_stream"], rows)
    {:ok, _} = Pool.drain(pool)
  end

  defp pool(model, servers, concurrency) do
    name = :"bench_#{System.unique_integer([:positive])}"
    places = max(div(concurrency, servers), 1)
    client = [name: name, client: Test.options(model), server: [cwd: model.workspace]]
    {:ok, _} = Pool.start_link(client ++ [min: servers, max: servers, threads_per_server: places])
    {:ok, _conn} = Pool.connection(name)
    name
  end

  defp tasks(prompts, client, thread, concurrency) do
    run = fn prompt ->
      {:ok, thread} = Codex.start_thread(client, thread)
      {:ok, _result} = Thread.run(thread, prompt)
    end

    options = [max_concurrency: concurrency, timeout: :infinity, ordered: false]
    seconds(fn -> prompts |> Task.async_stream(run, options) |> Stream.run() end)
  end

  defp seconds(fun) do
    {seconds, _} = Bench.fresh(fun)
    seconds
  end

  ## Memory of queued jobs

  defp queued(count) do
    client = [codex_path: @child]
    options = [client: client, thread: [skip_git_repo_check: true], max_concurrency: 4]

    grown = fn options ->
      {_, bytes} =
        Bench.fresh(fn ->
          before = total()

          {:ok, batch} = Batch.new(Stream.map(1..count, &"job #{&1}"), options)
          most = batch |> Stream.take(100) |> Enum.reduce(0, fn _, most -> max(total(), most) end)
          max(most - before, 0)
        end)

      bytes
    end

    IO.puts("## #{count} queued jobs: growth of the VM while the first 100 run, bytes\n")

    rows =
      for {name, ordered} <- [{"ordered", true}, {"as they finish", false}],
          do: [name, grown.([ordered: ordered] ++ options)]

    Bench.table(["", "bytes"], rows)
  end

  defp total do
    :erlang.garbage_collect()
    :erlang.memory(:total)
  end

  ## Memory of idle threads

  defp threads(model, count) do
    pool = pool(model, 1, 1)

    run = fn n ->
      {:ok, thread} =
        Codex.start_thread([], Test.thread_options(model) ++ [transport: {:pool, pool}])

      {:ok, result} = Thread.run(thread, "job #{n}")
      result.thread
    end

    _ = run.(0)
    before = memory(pool)
    threads = Enum.map(1..count, run)
    values = threads |> Enum.map(&(:erts_debug.flat_size(&1) * 8)) |> Enum.sum()
    bytes = (memory(pool) - before + values) / count

    IO.puts("## #{count} idle threads of a pool\n")
    rows = [["process of the pool, connection, value", Bench.number(bytes)]]
    Bench.table(["", "bytes of the VM per thread"], rows)
    {:ok, _} = Pool.drain(pool)
  end

  ## Memory of idle thread servers

  defp servers(model, count) do
    pool = pool(model, 1, 1)
    options = [thread: Test.thread_options(model) ++ [transport: {:pool, pool}]]

    [began, after_turn] =
      Enum.zip_with(
        for _ <- 1..count do
          {:ok, server} = Thread.Server.start_link(options)
          began = size(server)
          {:ok, _result} = Thread.Server.run(server, "job")
          sizes = [began, size(server)]
          :ok = Thread.Server.stop(server)
          sizes
        end,
        &Bench.median/1
      )

    IO.puts("## An idle thread server, median of #{count}\n")
    rows = [["started", began], ["after a turn, with its entries", after_turn]]
    Bench.table(["", "bytes of the VM"], rows)
    {:ok, _} = Pool.drain(pool)
  end

  # The server hibernates a moment after it has replied.
  defp size(server) do
    case Process.info(server, [:current_function, :memory]) do
      [current_function: {:erlang, :hibernate, 3}, memory: bytes] -> bytes
      _running -> Process.sleep(1) && size(server)
    end
  end

  defp memory(pool) do
    {:ok, %{servers: servers}} = Pool.stats(pool)
    pids = [Process.whereis(pool) | Enum.map(servers, & &1.conn)]
    for pid <- pids, do: :erlang.garbage_collect(pid)
    pids |> Enum.map(&elem(Process.info(&1, :memory), 1)) |> Enum.sum()
  end
end

if System.get_env("ONLY") != "nodes", do: Bench.Fleet.run()
Code.require_file("fleet_nodes.exs", __DIR__)
