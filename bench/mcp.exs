# Measures calls of an MCP server, compared to the official TypeScript client. See README.md.

for file <- ~w(support node), do: Code.require_file("#{file}.exs", __DIR__)
Code.require_file("../test/support/mcp_servers.ex", __DIR__)

defmodule Bench.MCP do
  alias Codex.MCP.Client
  alias Codex.MCPServers

  @package "@modelcontextprotocol/sdk"
  @light Path.expand("children/mcp_server.mjs", __DIR__)

  def run do
    settings = %{
      calls: Bench.setting("CALLS", 960),
      callers: Bench.setting("CALLERS", 32),
      megabytes: Bench.setting("MEGABYTES", 200),
      sleep: Bench.setting("SLEEP", 3),
      repetitions: Bench.setting("REPETITIONS", 5)
    }

    typescript = Bench.Node.start("mcp.mjs", @package)
    Bench.machine(Bench.Node.versions(typescript, @package))
    servers = [{"bench/children/mcp_server.mjs", :light}]
    servers = servers ++ if(MCPServers.npm?(), do: [{"server-everything", :everything}], else: [])

    for way <- [:stdio, :http], only?(way), {name, server} <- servers do
      IO.puts("## #{name}, #{way}: #{settings.calls} calls a repetition\n")
      calls(server, way, typescript, settings)
    end

    if only?(:memory), do: memory(typescript, settings)
  end

  defp only?(name) do
    only = System.get_env("ONLY")
    only == nil or Atom.to_string(name) in String.split(only, ",")
  end

  ## Servers

  defp server(:light, :stdio), do: [argv: [program(), @light]]
  defp server(:everything, :stdio), do: [argv: MCPServers.npm("everything") ++ ["stdio"]]

  defp server(:everything, :http) do
    {url, _sub} = MCPServers.serve!(:everything)
    [url: url]
  end

  defp server(:light, :http) do
    {url, _sub} = MCPServers.serve!([], fn port -> {[program(), @light, "#{port}"], %{}} end)
    [url: url]
  end

  defp program, do: System.find_executable("node") || raise("Node is missing")

  defp client(server) do
    server =
      case server do
        [argv: argv] -> [command: argv]
        [url: url] -> [url: url, server_name: "bench", oauth: false]
      end

    {:ok, client} =
      Client.start_link(server ++ [protocol_version: "2025-11-25", timeout_ms: 60_000])

    client
  end

  ## Calls

  defp calls(server, way, typescript, settings) do
    server = server(server, way)
    client = client(server)

    if typescript,
      do: Bench.Node.call(typescript, Map.new([do: "connect", name: "calls"] ++ server))

    counts = [{"one caller", 1}, {"#{settings.callers} callers", settings.callers}]

    variants =
      for {label, callers} <- counts,
          {who, fun} <- [
            {"SDK", fn -> ours(client, settings.calls, callers) end},
            {"TypeScript", typescript && fn -> theirs(typescript, settings.calls, callers) end}
          ],
          fun,
          do: {{label, who}, fun}

    measured = Bench.interleave(variants, settings.repetitions)
    if typescript, do: Bench.Node.call(typescript, %{do: "close", name: "calls"})
    :ok = Client.stop(client)

    Bench.table(
      ["", "calls/s", "p50 us", "p99 us", "calls/s, x TypeScript", "p50, x TypeScript"] ++
        ["p99, x TypeScript"],
      for({label, _callers} <- counts, do: [label | row(measured, label, typescript)])
    )
  end

  defp row(measured, label, typescript) do
    figures = for name <- [:rate, :p50, :p99], do: metric(measured, label, name)
    medians = for figure <- figures, do: Bench.number(Bench.median(figure["SDK"]))
    share = if typescript, do: &Bench.share(&1, "SDK", "TypeScript"), else: fn _ -> "-" end
    medians ++ Enum.map(figures, share)
  end

  defp metric(measured, label, name) do
    for {{^label, who}, list} <- measured, into: %{}, do: {who, Enum.map(list, & &1[name])}
  end

  defp ours(client, n, callers) do
    {seconds, times} =
      Bench.fresh(fn ->
        tasks = for _ <- 1..callers, do: Task.async(fn -> calls(client, div(n, callers)) end)
        tasks |> Task.await_many(:infinity) |> Enum.concat()
      end)

    %{rate: n / seconds, p50: Bench.quantile(times, 0.5), p99: Bench.quantile(times, 0.99)}
  end

  # Both servers have `echo`: the names of the argument differ.
  @args %{"text" => "hello", "message" => "hello"}

  defp calls(client, n), do: for(_ <- 1..n, do: call(client))

  defp call(client) do
    began = System.monotonic_time(:nanosecond)
    {:ok, %{"content" => [_]}} = Client.call_tool(client, "echo", @args)
    (System.monotonic_time(:nanosecond) - began) / 1_000
  end

  defp theirs(typescript, n, callers) do
    command = %{do: "calls", name: "calls", n: n, callers: callers, tool: "echo", args: @args}
    answer = Bench.Node.call(typescript, command)
    %{rate: answer["rate"], p50: answer["p50"], p99: answer["p99"]}
  end

  ## Memory

  defp memory(typescript, settings) do
    mb = settings.megabytes
    server = [argv: [program(), @light]]
    IO.puts("## memory with #{mb} MB of a server over stdio: the greatest growth, MB\n")

    results = %{n: mb, size: 1_000_000, pause: 10}

    theirs =
      if typescript do
        Bench.Node.call(typescript, Map.new([do: "connect", name: "memory"] ++ server))
        command = Map.merge(results, %{do: "results", name: "memory"})
        answer = Bench.Node.call(typescript, command)
        Bench.Node.call(typescript, %{do: "close", name: "memory"})
        answer["rss"] / 1.0e6
      end

    rows = [
      {"results of 1 MB, a caller that keeps none", fn -> results(server, results) end, theirs},
      {"progress of 100 KB, a caller that sleeps", fn -> asleep(server, settings) end, nil},
      {"notifications of 100 KB, a subscriber that sleeps",
       fn -> subscribed(server, settings) end, nil}
    ]

    rows =
      for {label, fun, theirs} <- rows do
        {vm, resident} = Enum.min(for _ <- 1..3, do: growth(fun))
        share = if theirs, do: Bench.number(resident / theirs), else: "-"
        [label, Bench.number(vm), Bench.number(resident), Bench.number(vm / mb), share]
      end

    Bench.table(["", "VM", "resident", "VM, share of the bytes", "resident, x TypeScript"], rows)
  end

  defp results(server, %{n: n, size: size, pause: pause}) do
    client = client(server)

    for _ <- 1..n do
      {:ok, _} = Client.call_tool(client, "big", %{"size" => size})
      Process.sleep(pause)
    end

    :ok = Client.stop(client)
  end

  # The caller sleeps in its function for progress.
  defp asleep(server, settings) do
    client = client(server)
    args = %{"n" => settings.megabytes * 10, "size" => 100_000}
    sleep = fn params -> if params["progress"] == 1, do: Process.sleep(settings.sleep * 1000) end
    opts = [progress: sleep, timeout_ms: 120_000]
    {:ok, %{"content" => [%{"text" => "done"}]}} = Client.call_tool(client, "flood", args, opts)
    :ok = Client.stop(client)
  end

  # The subscriber reads everything after its sleep.
  defp subscribed(server, settings) do
    client = client(server)
    :ok = Client.subscribe(client)
    n = settings.megabytes * 10
    args = %{"n" => n, "size" => 100_000, "logs" => true}
    {:ok, _} = Client.call_tool(client, "flood", args)
    Process.sleep(settings.sleep * 1000)
    ^n = read(client, 0)
    :ok = Client.stop(client)
  end

  defp read(client, n) do
    receive do
      {:codex_mcp, ^client, {:notification, "notifications/last", _}} -> n
      {:codex_mcp, ^client, {:notification, _, _}} -> read(client, n + 1)
      {:codex_mcp, ^client, {:overflow, _}} -> raise "the subscriber was cut off after #{n}"
    after
      30_000 -> raise "only #{n} came"
    end
  end

  # Megabytes by which the VM and its resident memory grow at most while `fun` runs in a process of
  # its own.
  defp growth(fun) do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    {vm, resident} = held()
    {most_vm, most_resident} = fun |> Task.async() |> most({vm, resident})
    {(most_vm - vm) / 1.0e6, (most_resident - resident) / 1.0e6}
  end

  defp most(task, {vm, resident}) do
    {now_vm, now_resident} = held()
    most = {max(vm, now_vm), max(resident, now_resident)}

    case Task.yield(task, 5) do
      {:ok, _} -> most
      nil -> most(task, most)
    end
  end

  defp held do
    {:ok, status} = File.read("/proc/self/status")
    [_, kb] = Regex.run(~r/VmRSS:\s+(\d+)/, status)
    {:erlang.memory(:total), String.to_integer(kb) * 1024}
  end
end

Bench.MCP.run()
