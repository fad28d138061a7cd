defmodule Codex.Batch.NodesChaosTest do
  # Batches over three nodes while nodes, readers and other processes are killed at random. The
  # seed is printed; CODEX_SDK_SEED repeats a run.
  use ExUnit.Case, async: false

  alias Codex.{Peers, Stub, Test}

  @moduletag :tmp_dir
  @moduletag timeout: 600_000

  # Notes its prompt, and answers with it. Without another process.
  @echo """
  IFS= read -r prompt
  echo "$prompt" >> "${0%/*}/prompts"
  echo "$started"
  echo '{"type":"item.completed","item":{"id":"0","type":"agent_message","text":"'"$prompt"'"}}'
  echo "$completed"
  """

  setup do
    seed = String.to_integer(System.get_env("CODEX_SDK_SEED") || "#{:rand.uniform(100_000)}")
    IO.puts("seed of #{inspect(__MODULE__)}: #{seed}")
    :rand.seed(:exsss, {seed, 20, 6})
    peers = Peers.start(3)
    for peer <- peers, do: :ok = Peers.join(peer, group: :fleet, labels: [])
    %{peers: peers}
  end

  # The state of a test: nodes by number, the first of which reads the batch, and its reader.
  defp fleet(peers, start), do: %{peers: peers, start: start, reader: nil} |> read()

  # The reader of a batch, which sends its results to nobody.
  defp read(%{peers: [a | _], start: start} = fleet) do
    code = """
    spawn(fn ->
      Enum.each(Codex.map(jobs, & &1, options), fn _result -> :ok end)
      Process.sleep(:infinity)
    end)
    """

    %{fleet | reader: Peers.eval(a, code, start)}
  end

  defp kill_process(peer, pid), do: Peers.call(peer, Process, :exit, [pid, :kill])

  defp perform(:reader, %{peers: [a | _]} = fleet) do
    kill_process(a, fleet.reader)
    read(fleet)
  end

  defp perform(:node, %{peers: [a, b, c]} = fleet) do
    index = :rand.uniform(2)
    peer = restart(Enum.at([a, b, c], index), fleet)
    %{fleet | peers: List.replace_at(fleet.peers, index, peer)}
  end

  defp perform(:reading_node, %{peers: [a, b, c]} = fleet) do
    a = restart(a, fleet)
    read(%{fleet | peers: [a, b, c]})
  end

  defp perform(:gate, fleet) do
    peer = Enum.random(fleet.peers)
    gate = Peers.call(peer, Process, :whereis, [Codex.RateLimit.Gate])
    if gate, do: kill_process(peer, gate)
    fleet
  end

  # The process of a job on its node, or another task there.
  defp perform(:guest, fleet) do
    peer = Enum.random(fleet.peers)

    case Peers.call(peer, Task.Supervisor, :children, [Codex.TaskSupervisor]) do
      [] -> :ok
      pids -> kill_process(peer, Enum.random(pids))
    end

    fleet
  end

  # The process of a job on the node that reads the batch.
  defp perform(:worker, %{peers: [a | _]} = fleet) do
    case Peers.call(a, Codex, :running, []) do
      [] -> :ok
      running -> kill_process(a, Enum.random(running).pid)
    end

    fleet
  end

  defp perform(:split, %{peers: [a | others]} = fleet) do
    _ = Peers.call(a, Node, :disconnect, [Enum.random(others).node])
    fleet
  end

  defp perform(:pool, fleet) do
    peer = Enum.random(fleet.peers)
    pool = Peers.call(peer, Process, :whereis, [Codex.Fleet.Pool])
    if pool, do: kill_process(peer, pool)
    fleet
  end

  defp perform({:child, text}, fleet) do
    {list, 0} = System.cmd("ps", ["-eww", "-o", "pid=,args="])

    children =
      for line <- String.split(list, "\n"), line =~ text, not (line =~ "codex_launcher"), do: line

    if children != [] do
      [pid | _] = children |> Enum.random() |> String.split()
      System.cmd("kill", ["-KILL", pid], stderr_to_stdout: true)
    end

    fleet
  end

  defp restart(peer, fleet) do
    Peers.kill(peer)
    peer = Peers.boot(%{peer | pid: nil})

    for other <- fleet.peers,
        other.node != peer.node,
        do: Peers.call(peer, Node, :connect, [other.node])

    for {module, options} <- Keyword.get(fleet.start, :children, []),
        do: child(peer, {module, options})

    :ok = Peers.join(peer, group: :fleet, labels: [])
    peer
  end

  defp child(peer, spec) do
    {:ok, _} = Peers.call(peer, Supervisor, :start_child, [Codex.Supervisor, spec])
  end

  # Each event comes when so many jobs more have begun. Then a last reader reads the results.
  defp run(fleet, events, count, begun) do
    events = events |> Enum.shuffle() |> Enum.with_index(1)
    step = div(count, length(events) + 2)

    fleet =
      Enum.reduce(events, fleet, fn {event, n}, fleet ->
        assert Stub.eventually(fn -> begun.() >= n * step end, 120_000)
        perform(event, fleet)
      end)

    [a | _] = fleet.peers
    kill_process(a, fleet.reader)
    code = "Enum.to_list(Codex.map(jobs, & &1, options))"
    {Peers.eval(a, code, fleet.start, 300_000), fleet}
  end

  defp assert_nothing_left(peers) do
    for peer <- peers do
      assert Stub.eventually(fn -> Peers.call(peer, Codex, :running, []) == [] end, 60_000)

      assert Stub.eventually(
               fn ->
                 Peers.call(peer, Task.Supervisor, :children, [Codex.TaskSupervisor]) == []
               end,
               60_000
             )
    end
  end

  # What is known of a job without a known end is in its error.
  defp assert_named(%{status: :uncertain} = result) do
    assert result.error.message =~ "the batch ended while the job ran" or
             result.error.message =~ "the job was running on #{result.node}" or
             result.error.message =~ "the process of the job ended before its turn did"
  end

  test "2,000 jobs have one result each, and none runs twice", %{peers: peers, tmp_dir: dir} do
    count = 2_000
    stub = Path.join(dir, "codex-stub")
    File.rename!(Stub.write!(dir, @echo), stub)
    jobs = for n <- 1..count, do: "job #{n + 10_000}"

    options = [
      client: [codex_path: stub, codex_home: dir],
      thread: [skip_git_repo_check: true],
      nodes: {:group, :fleet},
      journal: Path.join(dir, "journal"),
      max_concurrency: 12,
      node_wait_ms: 10_000
    ]

    begun = fn ->
      case File.stat(Path.join(dir, "prompts")) do
        {:ok, %{size: size}} -> div(size, byte_size("job 10001\n"))
        {:error, :enoent} -> 0
      end
    end

    events =
      List.duplicate(:node, 3) ++
        List.duplicate(:reader, 2) ++
        [:reading_node, :gate, :gate, :guest, :guest, :guest, :worker, :worker, :split, :split] ++
        List.duplicate({:child, stub}, 3)

    fleet = fleet(peers, jobs: jobs, options: options)
    {results, fleet} = run(fleet, events, count, begun)

    assert Enum.map(results, & &1.index) == Enum.to_list(0..(count - 1))
    ran = dir |> Path.join("prompts") |> File.read!() |> String.split("\n", trim: true)
    assert ran -- Enum.uniq(ran) == []
    known = MapSet.new(ran)

    for {result, job} <- Enum.zip(results, jobs) do
      case result.status do
        :ok -> assert to_string(result.result) == job and job in known
        :uncertain -> assert_named(result)
      end
    end

    # Twelve at each death of a reader, and fewer at the others.
    assert Enum.count(results, &(&1.status == :uncertain)) <= 12 * (length(events) + 1)
    assert results |> Enum.map(& &1.node) |> Enum.uniq() |> length() >= 3
    assert_nothing_left(fleet.peers)
    assert Stub.eventually(fn -> Stub.running(stub) == [] end, 60_000)
  end

  @tag :codex_cli
  test "60 jobs of the real CLI run once, on codex exec and in pools",
       %{peers: peers} = context do
    count = 60
    model = Test.start!([], default: &echo/1)
    {env, client} = Keyword.pop!(Test.options(model), :env)
    client = [env: env] ++ client
    pool = [name: Codex.Fleet.Pool, client: client, server: [cwd: model.workspace]]
    children = [{Codex.Pool, pool ++ [min: 1, max: 1, threads_per_server: 3]}]
    for peer <- peers, spec <- children, do: child(peer, spec)

    jobs =
      for n <- 1..count do
        transport = if rem(n, 2) == 0, do: :exec, else: {:pool, Codex.Fleet.Pool}
        %{prompt: "job #{n + 100}", options: [transport: transport]}
      end

    options = [
      client: client,
      thread: Test.thread_options(model),
      nodes: {:group, :fleet},
      send_secrets: [:env],
      journal: Path.join(context.tmp_dir, "journal"),
      max_concurrency: 6,
      node_wait_ms: 30_000
    ]

    events =
      [:node, :node, :reader, :reading_node, :gate, :guest, :worker, :pool, :split] ++
        List.duplicate({:child, client[:codex_path]}, 2)

    fleet = fleet(peers, jobs: jobs, options: options, children: children)
    {results, fleet} = run(fleet, events, count, fn -> length(prompts(model)) end)

    assert Enum.map(results, & &1.index) == Enum.to_list(0..(count - 1))
    sent = prompts(model)
    assert sent -- Enum.uniq(sent) == []

    for {result, job} <- Enum.zip(results, jobs) do
      case result.status do
        :ok -> assert to_string(result.result) == "You said: " <> job.prompt
        :uncertain -> assert_named(result)
      end
    end

    for result <- results, result.status == :ok do
      assert jobs |> Enum.at(result.index) |> Map.fetch!(:prompt) |> Kernel.in(sent)
    end

    assert_nothing_left(fleet.peers)
    for peer <- fleet.peers, do: :peer.stop(peer.pid)
    assert Stub.eventually(fn -> Stub.running(client[:codex_home]) == [] end, 60_000)
  end

  # Answers with the last prompt, slowly.
  defp echo(%{body: %{"input" => input}}) do
    %{"content" => [%{"text" => text} | _]} = List.last(input)
    {:item, wire, streaming} = Test.Steps.message("You said: " <> text)
    {:item, wire, [delta_delay_ms: 20] ++ streaming}
  end

  # The last text of each request: the prompt of its turn.
  defp prompts(model) do
    for %{path: "/v1/responses" <> _, body: %{"input" => input}} <- Test.requests(model) do
      %{"content" => [%{"text" => text} | _]} = List.last(input)
      text
    end
  end

  test "a limit at job 10 of 200 stops all nodes once", %{peers: [a | _], tmp_dir: dir} do
    client = [codex_path: Stub.limited!(dir, 3), codex_home: dir]
    jobs = for n <- 1..200, do: "job #{n}"

    options = [
      client: client,
      thread: [skip_git_repo_check: true],
      nodes: {:group, :fleet},
      max_concurrency: 12
    ]

    code = "Enum.to_list(Codex.map(jobs, & &1, options))"
    results = Peers.eval(a, code, [jobs: jobs, options: options], 300_000)
    assert Enum.map(results, &{&1.status, to_string(&1.result)}) == Enum.map(jobs, &{:ok, &1})
    assert results |> Enum.map(& &1.node) |> Enum.uniq() |> length() == 3

    until = dir |> Path.join("until") |> File.read!() |> String.trim() |> String.to_integer()
    {before, rest} = Enum.split_with(Stub.sent(dir), fn {ms, _prompt} -> ms < until end)
    refused = Enum.count(results, &(&1.attempts == 2))
    assert refused in 1..12
    assert length(before) <= 9 + 12
    assert length(before) + length(rest) == 200 + refused
  end
end
