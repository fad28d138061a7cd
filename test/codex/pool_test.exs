defmodule Codex.PoolTest do
  # Pools of real app-servers on a scripted model.
  use ExUnit.Case, async: true

  import Codex.Test.Steps, only: [message: 1, silence: 1]

  alias Codex.{AppServer, Batch, Connected, Pool, Stub, Test, Thread, Threads}

  @moduletag :codex_cli

  # Answers with the last prompt; a prompt that begins with "slow" takes a while.
  defp echo(%{body: %{"input" => input}}) do
    case prompt(input) do
      "hang" <> _ ->
        silence(:infinity)

      "slow" <> _ = text ->
        {:item, elem(message("You said: " <> text), 1), deltas: [text], delta_delay_ms: 400}

      text ->
        message("You said: " <> text)
    end
  end

  defp prompt(input) do
    %{"content" => [%{"text" => text} | _]} = List.last(input)
    text
  end

  defp sent(model) do
    for %{path: "/v1/responses" <> _, body: %{"input" => input}} <- Test.requests(model),
        do: prompt(input)
  end

  defp start(options \\ []) do
    model = Test.start!([], default: &echo/1)
    name = :"codex_pool_#{System.unique_integer([:positive])}"
    own = [name: name, client: Test.options(model), server: [cwd: model.workspace]]
    start_supervised!({Pool, Keyword.merge(own, options)}, id: name)
    {model, name}
  end

  defp thread!(model, pool, options \\ []) do
    options = Test.thread_options(model) ++ [transport: {:pool, pool}] ++ options
    {:ok, thread} = Codex.start_thread([], options)
    thread
  end

  defp stats(pool) do
    {:ok, stats} = Pool.stats(pool)
    stats
  end

  # A server that was killed may still be listed.
  defp os_pids(pool),
    do: for(%{conn: conn} <- stats(pool).servers, pid = alive(conn), pid != nil, do: pid)

  defp alive(conn) do
    Connected.os_pid(conn)
  catch
    :exit, _gone -> nil
  end

  defp eventually(fun), do: assert(Stub.eventually(fun, 60_000))

  defp await_servers(pool, count),
    do: eventually(fn -> length(stats(pool).servers) == count and not stats(pool).starting end)

  defp assert_gone(os_pids), do: eventually(fn -> not Enum.any?(os_pids, &Stub.alive?/1) end)

  # Runs a turn in a process of its own; its result comes with `Task.await/2`.
  defp turn(thread, prompt, opts \\ []),
    do: Task.async(fn -> Thread.run(thread, prompt, opts) end)

  defp await_sent(model, prompt), do: eventually(fn -> prompt in sent(model) end)

  test "a thread runs its turns on the server that has it loaded" do
    {model, pool} = start(min: 2, max: 2)
    await_servers(pool, 2)
    thread = thread!(model, pool)
    assert {:ok, result} = Thread.run(thread, "one")
    assert to_string(result) == "You said: one"
    assert {:ok, result} = Thread.run(result.thread, "two")
    assert result.usage_scope == :turn

    assert {:ok, %{events: [%Codex.Events.ThreadStarted{} | _]}} =
             Thread.run(result.thread, "three")

    # The history is in the requests, and one server had all turns.
    assert %{body: %{"input" => input}} =
             List.last(for %{path: "/v1/responses" <> _} = r <- Test.requests(model), do: r)

    assert length(for %{"role" => "user"} <- input, do: 1) >= 3

    eventually(fn ->
      Enum.sort(Enum.map(stats(pool).servers, &{&1.total_turns, &1.threads, &1.turns})) == [
        {0, 0, 0},
        {3, 1, 0}
      ]
    end)
  end

  test "it grows one server at a time while turns wait, and shrinks when idle" do
    {model, pool} = start(min: 1, max: 3, threads_per_server: 2, idle_ms: 1_000)
    turns = for n <- 1..7, do: turn(thread!(model, pool), "hang #{n}")
    await_servers(pool, 3)
    eventually(fn -> match?(%{running: 6, waiting: 1, started: 3}, stats(pool)) end)
    assert Enum.all?(stats(pool).servers, &(&1.turns == 2))
    eventually(fn -> length(sent(model)) == 6 end)
    for run <- Codex.running(), run.transport == {:pool, pool}, do: Codex.stop(run)

    for task <- turns,
        do: assert({:error, {:exec_failed, %{kind: :interrupted}}} = Task.await(task, 60_000))

    await_servers(pool, 1)
    assert %{ended: %{idle: 2}, running: 0, waiting: 0} = stats(pool)
  end

  test "a server is recycled, and another one resumes its threads" do
    {model, pool} = start(min: 1, max: 1, max_turns: 1)
    assert {:ok, one} = Thread.run(thread!(model, pool), "one")
    assert {:ok, two} = Thread.run(one.thread, "two")
    assert to_string(two) == "You said: two"
    assert two.thread.thread_id == one.thread.thread_id

    assert %{body: %{"input" => input}} =
             List.last(for %{path: "/v1/responses" <> _} = r <- Test.requests(model), do: r)

    assert inspect(input, limit: :infinity) =~ "You said: one"
    eventually(fn -> stats(pool).ended == %{turns: 2} end)
  end

  test "age, memory and a server that does not answer recycle it" do
    {_model, pool} = start(max_age_ms: 1)
    eventually(fn -> (stats(pool).ended[:age] || 0) > 0 end)
    assert {:ok, %{}} = Pool.drain(pool)

    {_model, pool} = start(max_memory_bytes: 1, health_ms: 1)
    eventually(fn -> (stats(pool).ended[:memory] || 0) > 0 end)
    assert {:ok, %{}} = Pool.drain(pool)

    {model, pool} = start(health_ms: 1_000, health_timeout_ms: 1_000)
    await_servers(pool, 1)
    assert {:ok, _} = Thread.run(thread!(model, pool), "one")
    [os_pid] = os_pids(pool)
    {_, 0} = System.cmd("kill", ["-STOP", to_string(os_pid)])
    eventually(fn -> (stats(pool).ended[:unhealthy] || 0) > 0 end)
    assert_gone([os_pid])
    assert {:ok, _} = Thread.run(thread!(model, pool), "two")
  end

  test "a lost server fails its turn, and the thread goes on with another" do
    {model, pool} = start()
    assert {:ok, one} = Thread.run(thread!(model, pool), "one")
    task = turn(one.thread, "hang")
    await_sent(model, "hang")
    [os_pid] = os_pids(pool)
    {_, 0} = System.cmd("kill", ["-KILL", to_string(os_pid)])
    assert {:error, {:exec_failed, error}} = Task.await(task, 60_000)
    assert error.kind in [:killed, :crashed]
    assert {:ok, result} = Thread.run(error.result.thread, "two")
    assert result.thread.thread_id == one.thread.thread_id
    assert %{ended: %{lost: 1}, running: 0} = stats(pool)
  end

  test "waits end with their turn" do
    {model, pool} = start(max: 1, threads_per_server: 1)
    hanging = turn(thread!(model, pool), "hang")
    await_sent(model, "hang")

    # By a limit of the turn.
    assert {:error, {:exec_failed, error}} =
             Thread.run(thread!(model, pool), "late", total_timeout_ms: 500)

    assert {error.kind, error.details.clock} == {:timeout, :total}

    # By a cancellation.
    thread = thread!(model, pool)
    waiting = turn(thread, "cancelled")
    eventually(fn -> stats(pool).waiting == 1 end)
    assert :ok = Codex.stop(thread)
    assert {:error, {:exec_failed, %{kind: :interrupted}}} = Task.await(waiting, 60_000)

    # By the death of the reader; that of the turn that runs makes room.
    {waiting, _} = spawn_monitor(fn -> Thread.run(thread!(model, pool), "killed") end)
    eventually(fn -> stats(pool).waiting == 1 end)
    Process.exit(waiting, :kill)
    eventually(fn -> stats(pool).waiting == 0 end)
    last = turn(thread!(model, pool), "last")
    eventually(fn -> stats(pool).waiting == 1 end)
    Process.unlink(hanging.pid)
    Process.exit(hanging.pid, :kill)
    assert {:ok, _} = Task.await(last, 60_000)
    assert Enum.sort(sent(model)) == ["hang", "last"]
  end

  describe "draining" do
    test "lets running turns end, and takes no other" do
      {model, pool} = start(max: 1, threads_per_server: 1)
      running = turn(thread!(model, pool), "slow")
      await_sent(model, "slow")
      waiting = turn(thread!(model, pool), "waits")
      eventually(fn -> stats(pool).waiting == 1 end)
      os_pids = os_pids(pool)

      assert Pool.drain(pool, 60_000) == {:ok, %{finished: 1, interrupted: 0}}
      assert {:ok, _} = Task.await(running, 60_000)
      assert {:error, {:exec_failed, error}} = Task.await(waiting, 60_000)
      assert error.message =~ "is drained, and takes no turns any more"
      assert {:error, {:exec_failed, _}} = Thread.run(thread!(model, pool), "late")
      assert %{servers: [], draining: true, ended: %{drained: 1}} = stats(pool)
      assert_gone(os_pids)
      assert sent(model) == ["slow"]
      assert Pool.drain(pool) == {:ok, %{finished: 1, interrupted: 0}}
    end

    test "interrupts turns after the limit" do
      {model, pool} = start()
      running = turn(thread!(model, pool), "hang")
      await_sent(model, "hang")
      os_pids = os_pids(pool)
      assert Pool.drain(pool, 100) == {:ok, %{finished: 0, interrupted: 1}}
      assert {:error, {:exec_failed, _}} = Task.await(running, 60_000)
      assert_gone(os_pids)
    end
  end

  test "nothing is left of a pool that is killed or stopped" do
    {model, pool} = start(min: 2, max: 2)
    await_servers(pool, 2)
    os_pids = os_pids(pool)
    Process.exit(Process.whereis(pool), :kill)
    assert_gone(os_pids)

    # Its supervisor starts it again.
    eventually(fn -> match?({:ok, %{servers: [_, _]}}, Pool.stats(pool)) end)
    assert {:ok, _} = Thread.run(thread!(model, pool), "again")
    os_pids = os_pids(pool)
    :ok = stop_supervised!(pool)
    assert_gone(os_pids)
    assert {:error, {:exec_failed, error}} = Thread.run(thread!(model, pool), "late")
    assert error.kind == :connection_refused
    assert error.message =~ "there is no pool"
    assert {:error, {:no_pool, ^pool}} = Pool.stats(pool)
    assert {:error, {:no_pool, ^pool}} = Pool.connection(pool)
  end

  @tag :tmp_dir
  test "without a server, turns fail", %{tmp_dir: dir} do
    {model, pool} = start(client: [codex_path: Stub.write!(dir, "exit 3"), codex_home: dir])
    assert {:error, {:exec_failed, error}} = Thread.run(thread!(model, pool), "one")
    assert error.message =~ "no server of the pool can be started"
    refute error.kind in [:crashed, :killed]
    assert %{failed: failed} = stats(pool)
    assert failed > 0
    batch = Codex.map(["a"], & &1, pool: pool, thread: Test.thread_options(model))
    assert [%{status: :failed}] = Enum.to_list(batch)
    assert %{servers: []} = stats(pool)
  end

  test "turns are steered and interrupted, threads read and forked" do
    {model, pool} = start(min: 2, max: 2)
    await_servers(pool, 2)
    thread = thread!(model, pool)
    task = turn(thread, "hang")
    await_sent(model, "hang")
    eventually(fn -> Thread.steer(thread, "more") == :ok end)
    assert :ok = Thread.interrupt(thread)

    assert {:error, {_, %{kind: :interrupted, result: %{thread: thread}}}} =
             Task.await(task, 60_000)

    assert {:error, {:no_turn, _}} = Thread.interrupt(thread)

    id = thread.thread_id
    assert {:ok, %{"id" => ^id}} = Threads.read(thread)
    assert {:ok, fork} = Threads.fork(thread)
    assert {:ok, result} = Thread.run(fork, "forked")
    assert result.thread.thread_id == fork.thread_id
    assert {:ok, conn} = Pool.connection(pool, fork.thread_id)
    assert {:ok, %{"data" => ids}} = AppServer.thread_loaded_list(conn)
    assert fork.thread_id in ids
    assert %Codex.RateLimit.Snapshot{} = Thread.rate_limits(thread)
    assert {:ok, %Codex.Auth.Preflight{}} = Thread.preflight(thread)
    assert {:error, :missing_thread_id} = Threads.read(thread!(model, pool))
  end

  test "agents run over a pool" do
    {model, pool} = start()
    {:ok, agent} = Codex.Agent.new(%{name: "a", instructions: "Be short."})
    assert {:ok, result} = Codex.AgentRunner.run(thread!(model, pool), "one", %{agent: agent})
    assert to_string(result) == "You said: one"
  end

  test "an idle thread costs the VM less than 20 kB" do
    {model, pool} = start(max: 1)
    await_servers(pool, 1)
    assert {:ok, _} = Thread.run(thread!(model, pool), "warm")
    [%{conn: conn}] = stats(pool).servers

    memory = fn ->
      for pid <- [Process.whereis(pool), conn], do: :erlang.garbage_collect(pid)

      for(pid <- [Process.whereis(pool), conn], do: elem(Process.info(pid, :memory), 1))
      |> Enum.sum()
    end

    before = memory.()
    count = 40

    threads =
      for n <- 1..count do
        {:ok, result} = Thread.run(thread!(model, pool), "job #{n}")
        result.thread
      end

    values = Enum.sum(Enum.map(threads, &(:erts_debug.flat_size(&1) * 8)))
    assert (memory.() - before + values) / count < 20_000
    assert %{servers: [%{threads: 41}]} = stats(pool)
  end

  test "servers are killed at random under a batch: no job runs twice" do
    :rand.seed(:exsss, {20, 4, 4})
    {model, pool} = start(min: 1, max: 3, threads_per_server: 2, max_turns: 15)
    jobs = for n <- 1..60, do: if(rem(n, 3) == 0, do: "slow #{n}", else: "job #{n}")
    options = [pool: pool, thread: Test.thread_options(model), max_concurrency: 6]
    {:ok, batch} = Batch.new(jobs, options)
    reader = Task.async(fn -> Enum.to_list(batch) end)

    for n <- [6, 14, 22, 30] do
      eventually(fn -> length(sent(model)) >= n end)

      with [_ | _] = servers <- stats(pool).servers,
           os_pid when os_pid != nil <- os_pid(Enum.random(servers).conn),
           do: System.cmd("kill", ["-KILL", to_string(os_pid)], stderr_to_stdout: true)
    end

    results = Task.await(reader, 240_000)
    prompts = sent(model)
    assert prompts -- Enum.uniq(prompts) == []
    assert Enum.map(results, & &1.index) == Enum.to_list(0..59)

    for {result, job} <- Enum.zip(results, jobs) do
      case result.status do
        :ok -> assert to_string(result.result) == "You said: " <> job
        :uncertain -> assert result.error.kind in [:killed, :crashed]
      end
    end

    assert Enum.count(results, &(&1.status == :uncertain)) <= 4 * 2
    os_pids = os_pids(pool)
    assert {:ok, %{interrupted: 0}} = Pool.drain(pool)
    assert_gone(os_pids)
  end

  defp os_pid(conn) do
    Connected.os_pid(conn)
  catch
    :exit, _ -> nil
  end

  test "options are checked" do
    for {options, words} <- [
          {[mim: 1], "unknown option :mim; did you mean :min?"},
          {[min: 5, max: 4], "option :min must be at most :max, which is 4"},
          {[client: [modle: 1]], "unknown option [:client, :modle]; did you mean :model?"},
          {[server: [cwdd: 1]], "unknown option [:server, :cwdd]; did you mean :cwd?"},
          {[server: [owner: self()]], "unknown option [:server, :owner]"},
          {[server: [isolation: :hermetic]], "option [:server, :isolation] must be left out"},
          {[name: self()], "option :name must be a name of a process"}
        ] do
      assert {:error, error} = Pool.start_link(options)
      assert Exception.message(error) =~ words
    end

    assert {:error, error} = Pool.stats("x")
    assert Exception.message(error) =~ "argument :pool must be a pool"
    assert {:error, %Codex.OptionError{}} = Codex.start_thread([], transport: {:pool, "x"})
  end
end
