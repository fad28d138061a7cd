# The part of bench/fleet with several nodes: see README.md.

_ = Code.require_file("../test/support/stub.ex", __DIR__)
modules = Code.require_file("../test/support/peers.ex", __DIR__)

defmodule Bench.FleetNodes do
  alias Codex.{Peers, Stub}

  # Answers at once, and a prompt "hang" never.
  @child """
  IFS= read -r prompt
  echo "$started"
  [ "$prompt" = hang ] && exec sleep 600
  echo "$message"
  echo "$completed"
  """

  def run(jobs, concurrency, modules) do
    dir = Path.join(System.tmp_dir!(), "codex_bench_#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)
    # The port mapper of the nodes is a module that their VMs load from a file.
    for {module, binary} <- modules, do: File.write!(Path.join(dir, "#{module}.beam"), binary)
    true = Code.prepend_path(dir)
    client = [codex_path: Stub.write!(dir, @child), codex_home: dir]
    options = [client: client, thread: [skip_git_repo_check: true], ordered: false]
    [a, b, c] = peers = Peers.start(3)

    rates(peers, options, jobs, concurrency)
    running(a, b, options)
    places(a)
    lost(a, b, c, dir, options)
    for peer <- [a, c], do: Peers.kill(peer)
    File.rm_rf!(dir)
  end

  ## Jobs per second

  defp rates(peers, options, jobs, concurrency) do
    [a | _] = peers
    options = [max_concurrency: concurrency] ++ options
    nodes = Enum.map(peers, & &1.node)

    code = """
    bytes = fn ->
      for {_node, port} <- :erlang.system_info(:dist_ctrl), is_port(port), reduce: 0 do
        sum ->
          {:ok, counts} = :inet.getstat(port, [:recv_oct, :send_oct])
          sum + counts[:recv_oct] + counts[:send_oct]
      end
    end

    before = bytes.()
    batch = Codex.map(1..jobs, &"job \#{&1}", options)
    {us, _} = :timer.tc(fn -> Enum.each(batch, &(%{status: :ok} = &1)) end)
    {us / 1_000_000, (bytes.() - before) / jobs}
    """

    measure = fn more ->
      Peers.eval(a, code, [jobs: jobs, options: more ++ options], 300_000)
    end

    variants = [
      {"this node", []},
      {"one other node", [nodes: [hd(tl(nodes))]]},
      {"three nodes", [nodes: nodes]}
    ]

    _warm = measure.(nodes: nodes)

    runs = for _ <- 1..3, {name, more} <- variants, do: {name, measure.(more)}

    IO.puts("## #{jobs} jobs of a stand-in child, #{concurrency} at once, nodes on one machine\n")

    rows =
      for {name, _} <- variants do
        of = for {^name, figures} <- runs, do: figures
        seconds = Bench.median(Enum.map(of, &elem(&1, 0)))
        bytes = Bench.median(Enum.map(of, &elem(&1, 1)))
        [name, Bench.number(jobs / seconds), Bench.number(bytes)]
      end

    Bench.table(["jobs run on", "jobs per second", "bytes between nodes per job"], rows)
  end

  ## Memory of running jobs

  defp running(a, b, options) do
    count = 100

    code = """
    total = fn ->
      for pid <- Process.list(), do: :erlang.garbage_collect(pid)
      :erlang.memory(:processes)
    end

    before = total.()
    reader = spawn(fn -> 1..count |> Codex.map(fn _ -> "hang" end, options) |> Enum.to_list() end)
    wait = fn wait ->
      running = Codex.running()
      if length(running) == count and Enum.all?(running, & &1.thread_id),
        do: :ok,
        else: Process.sleep(20) && wait.(wait)
    end
    wait.(wait)
    bytes = (total.() - before) / count
    Process.exit(reader, :kill)
    bytes
    """

    options = [nodes: [b.node], max_concurrency: count] ++ options
    bytes = Peers.eval(a, code, [count: count, options: options], 300_000)
    true = Stub.eventually(fn -> Peers.call(b, Codex, :running, []) == [] end)
    IO.puts("## #{count} jobs that run on another node\n")

    Bench.table(["", "bytes of the reader's VM per job"], [
      ["process, functions", Bench.number(bytes)]
    ])
  end

  ## A choice among many nodes

  defp places(a) do
    code = """
    for n <- 1..100 do
      start = {Codex.Batch.Node, :start_link, [[group: :bench, labels: [n: n]]]}
      {:ok, _} = Supervisor.start_child(Codex.Supervisor, %{id: {:member, n}, start: start})
    end

    {:ok, list} = Codex.Batch.Placement.nodes(for n <- 1..100, do: {:"n\#{n}@h", n: n})
    {:ok, job} = Codex.Batch.Job.new(%{prompt: "x"}, 0, %{thread: [], turn: []})

    for nodes <- [list, {:group, :bench}] do
      placement = Codex.Batch.Placement.new(%{nodes: nodes, max_per_node: nil, node_wait_ms: 1})
      place = fn _, p -> {:ok, _, p} = Codex.Batch.Placement.place(p, job); p end
      run = fn -> Enum.reduce(1..1_000, placement, place) end
      run.()
      {us, _} = :timer.tc(run)
      us / 1_000
    end
    """

    [list, group] = Peers.eval(a, code, [], 120_000)
    IO.puts("## The choice of a node for a job\n")

    rows = [
      ["list of 100 nodes", Bench.number(list)],
      ["group with 100 members", Bench.number(group)]
    ]

    Bench.table(["", "µs"], rows)
  end

  ## A lost node

  defp lost(a, b, c, dir, options) do
    {runs, _b} =
      Enum.map_reduce(1..3, b, fn n, b -> lost_once(a, b, c, "#{dir}/#{n}", options) end)

    IO.puts("## From a killed node until its jobs continue, ms\n")

    rows =
      for {name, n} <- [
            {"a job that had not begun runs on another node", 0},
            {"the VM of the node is up again, with its application", 1},
            {"from then: a job that had begun is looked up there", 2}
          ],
          do: [name, runs |> Enum.map(&elem(&1, n)) |> Bench.median() |> Bench.number()]

    Bench.table(["", "ms"], rows)
  end

  defp lost_once(a, b, c, home, options) do
    begun = reader(a, [nodes: [b.node]] ++ options)
    await(fn -> match?([%{thread_id: "0" <> _}], Peers.call(a, Codex, :running, [])) end)
    # A limit of another account keeps a job from its beginning, on the other node, too.
    File.mkdir_p!(home)
    options = Keyword.update!(options, :client, &Keyword.put(&1, :codex_home, home))
    account = Peers.eval(a, account(), options: options)
    :ok = Peers.call(a, Codex.RateLimit.Gate, :close, [account, 600_000])
    await(fn -> Peers.call(b, Codex.RateLimit.Gate, :check, [account]) != :open end)
    nodes = [nodes: [b.node, c.node], max_per_node: 1]
    waiting = reader(a, nodes ++ options)
    on_b = fn -> length(Peers.call(b, Codex, :running, [])) == 2 end
    on_c = fn -> Peers.call(c, Codex, :running, []) != [] end
    await(fn -> on_b.() or on_c.() end)

    {_, 0} = System.cmd("kill", ["-KILL", b.os_pid])
    {moved, _} = timed(fn -> await(on_c) end)
    :peer.stop(b.pid)
    {booted, b} = timed(fn -> Peers.boot(%{b | pid: nil}) end)
    ended = fn -> not Peers.call(a, Process, :alive?, [begun]) end
    {looked_up, _} = timed(fn -> await(ended) end)
    Peers.call(a, Process, :exit, [waiting, :kill])
    await(fn -> Peers.call(c, Codex, :running, []) == [] end)
    {{moved, booted, looked_up}, b}
  end

  defp account do
    """
    {:ok, thread} = Codex.start_thread(options[:client], options[:thread])
    settings = Codex.Options.Merge.merge(thread.codex_opts, thread.thread_opts, %{})
    Codex.RateLimit.account(settings)
    """
  end

  defp reader(a, options) do
    Peers.eval(a, "spawn(fn -> Enum.to_list(Codex.map([\"hang\"], & &1, options)) end)",
      options: options
    )
  end

  defp timed(fun) do
    {us, value} = :timer.tc(fun)
    {us / 1_000, value}
  end

  defp await(fun), do: fun.() || (Process.sleep(2) && await(fun))
end

Bench.FleetNodes.run(Bench.setting("NODE_JOBS", 300), Bench.setting("CONCURRENCY", 4), modules)
