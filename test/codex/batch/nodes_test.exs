defmodule Codex.Batch.NodesTest do
  # Batches over three nodes, with stand-in children.
  use ExUnit.Case, async: false

  alias Codex.{Batch, Peers, Stub}

  @moduletag :tmp_dir

  # Notes its prompt, and answers with it. Without another process.
  @echo """
  IFS= read -r prompt
  dir="${0%/*}"
  echo "$prompt" >> "$dir/prompts"
  case "$prompt" in
    early*) echo $$ >> "$dir/hanging"; exec sleep 600 ;;
    hang*) echo "$started"; echo $$ >> "$dir/hanging"; exec sleep 600 ;;
    slow*) sleep 0.2 ;;
  esac
  echo "$started"
  echo '{"type":"item.completed","item":{"id":"0","type":"agent_message","text":"'"$prompt"'"}}'
  echo "$completed"
  """

  setup_all do
    [a, b, c] = peers = Peers.start(3)
    :ok = Peers.join(a, group: :shop, labels: [])
    :ok = Peers.join(b, group: :shop, labels: [repo: "shop", repo: "billing"])
    :ok = Peers.join(c, group: :shop, labels: %{"repo" => "shop", "gpu" => true})
    %{peers: peers, a: a, b: b, c: c}
  end

  # A split of another test may have disconnected them.
  setup %{peers: peers, tmp_dir: dir} do
    for a <- peers, b <- peers, a != b, do: true = Peers.call(a, Node, :connect, [b.node])

    for peer <- peers do
      assert Stub.eventually(fn -> length(Peers.call(peer, Batch.Node, :list, [:shop])) >= 3 end)
    end

    stub = Path.join(dir, "codex-stub")
    File.rename!(Stub.write!(dir, @echo), stub)
    on_exit(fn -> assert Stub.eventually(fn -> Stub.running(stub) == [] end, 60_000) end)
    client = [codex_path: stub, codex_home: dir]
    %{stub: stub, options: [client: client, thread: [skip_git_repo_check: true]]}
  end

  # Reads a batch on a node. `more` are options as code.
  defp run(peer, jobs, options, more) do
    code = "{:ok, batch} = Codex.Batch.new(jobs, options ++ (#{more})); Enum.to_list(batch)"
    Peers.eval(peer, code, [jobs: jobs, options: options], 120_000)
  end

  defp prompts(dir), do: lines(dir, "prompts")

  defp lines(dir, name) do
    case File.read(Path.join(dir, name)) do
      {:ok, text} -> String.split(text, "\n", trim: true)
      {:error, :enoent} -> []
    end
  end

  defp await_hanging(dir, count),
    do: assert(Stub.eventually(fn -> length(lines(dir, "hanging")) == count end, 60_000))

  # The node that asked knows the threads of so many jobs, and no other job runs.
  defp await_thread(peer, count) do
    assert Stub.eventually(
             fn ->
               running = Peers.call(peer, Codex, :running, [])
               length(running) == count and Enum.all?(running, & &1.thread_id)
             end,
             60_000
           )
  end

  test "jobs run where their labels are", %{a: a, b: b, c: c, options: options, tmp_dir: dir} do
    jobs =
      for {on, n} <- Enum.with_index([[repo: "billing"], [repo: "shop"], %{gpu: true}, []]),
          _ <- 1..6,
          do: %{prompt: "job #{n}", on: on}

    results = run(a, jobs, options, "[nodes: {:group, :shop}, max_concurrency: 6]")

    assert Enum.map(results, &{&1.status, to_string(&1.result)}) ==
             for(j <- jobs, do: {:ok, j.prompt})

    [billing, shop, gpu, any] = results |> Enum.map(& &1.node) |> Enum.chunk_every(6)
    assert Enum.uniq(billing) == [b.node]

    assert Enum.all?(shop, &(&1 in [b.node, c.node]))
    assert Enum.uniq(gpu) == [c.node]
    assert any -- [a.node] != any
    assert length(prompts(dir)) == length(jobs)

    # The thread of a result has the options of this node.
    [%{result: %{thread: thread}} | _] = results
    assert thread.codex_opts.codex_home == dir
    assert thread.thread_opts.skip_git_repo_check
    assert is_binary(thread.thread_id)
  end

  test "nodes are a list, or a function of the job", %{a: a, b: b, c: c, options: options} do
    list = "[nodes: [#{inspect(a.node)}, {#{inspect(b.node)}, repo: \"x\"}]]"
    results = run(a, [%{prompt: "one", on: [repo: "x"]}, "two"], options, list)
    assert [{:ok, node}, {:ok, _any}] = Enum.map(results, &{&1.status, &1.node})
    assert node == b.node

    fun =
      "[nodes: fn %{key: key, cwd: nil} -> if key == 0, do: #{inspect(c.node)}, else: [node()] end]"

    assert [c.node, a.node] == a |> run(["one", "two"], options, fun) |> Enum.map(& &1.node)
  end

  test "a node runs at most max_per_node jobs", %{a: a, b: b, options: options, tmp_dir: dir} do
    code = """
    options = options ++ [nodes: [#{inspect(b.node)}], max_per_node: 2, max_concurrency: 8]
    {:ok, batch} = Codex.Batch.new(List.duplicate("hang", 5), options)
    :persistent_term.put(:batch, batch)
    Enum.to_list(batch)
    """

    reader = Task.async(fn -> Peers.eval(a, code, [options: options], 120_000) end)
    await_hanging(dir, 2)
    # Jobs that wait look for a node all the time.
    Process.sleep(300)
    assert length(lines(dir, "hanging")) == 2
    assert length(Peers.call(b, Codex, :running, [])) == 2
    assert [_, _] = Peers.call(a, Codex, :running, [])

    assert :ok = Peers.eval(a, "Codex.Batch.cancel(:persistent_term.get(:batch))")
    results = Task.await(reader, 60_000)
    assert Enum.map(results, & &1.status) == List.duplicate(:cancelled, 5)
    assert Enum.map(results, & &1.node) |> Enum.count(&(&1 == b.node)) == 2
    assert Peers.call(b, Codex, :running, []) == []
  end

  test "functions run on the node that asked", %{a: a, b: b, options: options, tmp_dir: dir} do
    more = """
    [nodes: [#{inspect(b.node)}],
     thread: [skip_git_repo_check: true, metadata: %{secret: "stays"},
              on_event: fn event ->
                File.write!(#{inspect(Path.join(dir, "events"))}, "\#{node()}\\n", [:append])
                if match?(%Codex.Events.TurnCompleted{}, event), do: raise("by the host")
              end]]
    """

    assert [%{status: :failed, node: node, error: error} = result] =
             run(a, ["one"], options, more)

    assert {node, error.kind} == {b.node, :tool_failure}
    assert error.message =~ "by the host"
    assert result.result.thread.metadata == %{secret: "stays"}
    assert Enum.uniq(lines(dir, "events")) == ["#{a.node}"]
  end

  test "secrets and processes stay", %{a: a, b: b, options: options} do
    nodes = [nodes: [b.node]]

    for {more, words} <- [
          {[client: [api_key: "sk-1"]], "option [:client, :api_key] must be left out"},
          {[client: [env: %{"A" => "sk-1"}]], "option [:client, :env] must be left out"},
          {[thread: [config: %{"a" => "sk-1"}]], "option [:thread, :config] must be left out"},
          {[thread: [shell_environment_policy: [set: %{"A" => "sk-1"}]]],
           "option [:thread, :shell_environment_policy] must be left out"},
          {[thread: [transport: {:app_server, self()}]],
           "option [:thread, :transport] must be named by an atom"},
          {[pool: self()], "option :pool must be an atom beside :nodes"},
          {[send_secrets: [:model]], "option :send_secrets must be a list of options that"}
        ] do
      assert {:error, error} = Batch.new([], nodes ++ more)
      assert Exception.message(error) =~ words
      refute inspect(error) =~ "sk-1"
      refute Exception.message(error) =~ "sk-1"
      if more[:client], do: assert(Exception.message(error) =~ "got: [redacted]")
    end

    assert {:ok, _} = Batch.new([], nodes ++ [thread: [metadata: %{a: "sk-1"}]])
    assert {:ok, _} = Batch.new([], nodes ++ [client: [env: %{}], send_secrets: [:env]])
    assert {:error, _} = Batch.new([], nodes: [])
    assert {:error, _} = Batch.new([], nodes: [:no_node])
    assert {:error, _} = Batch.new([], nodes: {:group, :x}, max_per_node: 0)

    # Options of a job.
    jobs = [%{prompt: "one", options: [config: %{"a" => "sk-1"}]}]
    more = "[nodes: [#{inspect(b.node)}]]"
    assert [%{status: :failed, error: error}] = run(a, jobs, options, more)
    assert error.message =~ "option [:options, :config] must be left out"

    assert [%{status: :failed, error: %{message: message}}] =
             run(a, [%{prompt: "x", on: [a: 1]}], options, "[]")

    assert message =~ "the batch has no :nodes"
  end

  test "a job waits for a node, and fails without one", %{a: a, options: options} = context do
    jobs = [%{prompt: "late", on: [repo: "late"]}, "any"]
    group = "[nodes: {:group, :shop}, node_wait_ms: %]"
    assert [late, any] = run(a, jobs, options, String.replace(group, "%", "300"))
    assert any.status == :ok
    assert {late.status, late.error.kind, late.node} == {:failed, :connection_refused, nil}
    assert late.error.message =~ ~s(no node with the labels repo: "late" could run the job)

    reader = Task.async(fn -> run(a, jobs, options, String.replace(group, "%", "60_000")) end)
    new = Peers.add(context.peers)
    :ok = Peers.join(new, group: :shop, labels: [repo: "late"])
    assert [%{status: :ok, node: node}, %{status: :ok}] = Task.await(reader, 90_000)
    assert node == new.node
  end

  test "jobs end with their reader, and with its node", %{b: b, options: options} = context do
    other = Peers.add(context.peers)
    dir = context.tmp_dir

    code = """
    spawn(fn ->
      nodes = [nodes: [#{inspect(b.node)}]]
      Enum.to_list(Codex.map(List.duplicate("hang", 2), & &1, options ++ nodes))
    end)
    """

    reader = Peers.eval(other, code, options: options)
    await_hanging(dir, 2)
    true = Peers.call(other, Process, :exit, [reader, :kill])
    assert_nothing_left(context)

    _reader = Peers.eval(other, code, options: options)
    await_hanging(dir, 4)
    Peers.kill(other)
    assert_nothing_left(context)
  end

  defp assert_nothing_left(%{stub: stub} = context) do
    assert Stub.eventually(fn -> Stub.running(stub) == [] end, 60_000)

    for peer <- [context.a, context.b, context.c] do
      assert Stub.eventually(fn -> Peers.call(peer, Codex, :running, []) == [] end, 60_000)

      assert Stub.eventually(fn ->
               Peers.call(peer, Task.Supervisor, :children, [Codex.TaskSupervisor]) == []
             end)
    end
  end

  test "a node that is lost: begun jobs are uncertain, others move",
       %{a: a, options: options} = context do
    lost = Peers.add(context.peers)
    dir = context.tmp_dir

    more = """
    [nodes: [{#{inspect(lost.node)}, lost: true}, #{inspect(context.c.node)}], ordered: false,
     node_wait_ms: 2_000, max_concurrency: 3, max_per_node: 1]
    """

    jobs = [%{prompt: "hang 1", on: [lost: true]}, "slow 2", "slow 3", "slow 4"]
    reader = Task.async(fn -> run(a, jobs, options, more) end)
    await_hanging(dir, 1)
    await_thread(a, 1)
    Peers.kill(lost)
    results = reader |> Task.await(60_000) |> Enum.sort_by(& &1.index)
    assert Enum.map(results, & &1.status) == [:uncertain, :ok, :ok, :ok]
    [uncertain | rest] = results
    assert Enum.uniq(Enum.map(rest, & &1.node)) == [context.c.node]
    assert {uncertain.node, uncertain.error.kind} == {lost.node, :crashed}
    assert uncertain.thread_id == "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"

    assert uncertain.error.message =~
             "was running on #{lost.node}, in the thread #{uncertain.thread_id}, and the node " <>
               "was lost and did not return within 2000 ms"

    assert Enum.sort(prompts(dir)) == ["hang 1", "slow 2", "slow 3", "slow 4"]
  end

  test "a lost job without a thread is uncertain at once", %{a: a, options: options} = context do
    lost = Peers.add(context.peers)
    more = "[nodes: [#{inspect(lost.node)}]]"
    reader = Task.async(fn -> run(a, ["early"], options, more) end)
    await_hanging(context.tmp_dir, 1)
    Peers.kill(lost)

    assert [%{status: :uncertain, node: node, thread_id: nil} = result] =
             Task.await(reader, 60_000)

    assert node == lost.node
    assert result.error.message =~ "its thread is not known"
  end

  # A connection that both sides refuse.
  defp split(a, b) do
    Peers.call(a, Node, :set_cookie, [b.node, :split])
    Peers.call(b, Node, :set_cookie, [a.node, :other])
    Peers.call(a, Node, :disconnect, [b.node])
    assert Stub.eventually(fn -> b.node not in Peers.call(a, Node, :list, []) end)
    assert Stub.eventually(fn -> a.node not in Peers.call(b, Node, :list, []) end)
  end

  defp heal(a, b) do
    Peers.call(a, Node, :set_cookie, [b.node, String.to_atom(a.cookie)])
    Peers.call(b, Node, :set_cookie, [a.node, String.to_atom(a.cookie)])
  end

  test "a split ends the jobs of the other side; none runs twice",
       %{a: a, options: options} = context do
    other = Peers.add(context.peers)
    dir = context.tmp_dir

    more = """
    [nodes: [{#{inspect(other.node)}, other: true}, #{inspect(context.c.node)}],
     max_concurrency: 4, max_per_node: 1, node_wait_ms: 60_000]
    """

    jobs = [%{prompt: "hang 1", on: [other: true]}, "slow 2", "slow 3"]
    reader = Task.async(fn -> run(a, jobs, options, more) end)
    await_hanging(dir, 1)
    # The VM also ends the connections of nodes that are between the sides of a split.
    assert Stub.eventually(fn -> length(prompts(dir)) == 3 end, 60_000)
    await_thread(a, 1)
    split(a, other)
    # The other side runs, and has ended its job.
    assert Stub.eventually(fn -> Peers.call(other, Codex, :running, []) == [] end, 60_000)
    assert Stub.eventually(fn -> Stub.running(context.stub) == [] end, 60_000)
    refute Task.yield(reader, 1_500)
    heal(a, other)

    assert [%{status: :uncertain} = one, two, three] = Task.await(reader, 90_000)
    assert {one.node, one.error.message =~ "no recorded thread"} == {other.node, true}
    assert {two.status, three.status} == {:ok, :ok}
    assert Enum.sort(prompts(dir)) == ["hang 1", "slow 2", "slow 3"]
  end

  test "a job that waits for a limit on a lost node moves", %{a: a, options: options} = context do
    other = Peers.add(context.peers)

    close = """
    {:ok, thread} = Codex.start_thread(options[:client], options[:thread])
    settings = Codex.Options.Merge.merge(thread.codex_opts, thread.thread_opts, %{})
    account = Codex.RateLimit.account(settings)
    :ok = Codex.RateLimit.Gate.close(account, 6_000)
    account
    """

    account = Peers.eval(a, close, options: options)

    for peer <- [other, context.c],
        do:
          assert(
            Stub.eventually(fn ->
              Peers.call(peer, Codex.RateLimit.Gate, :check, [account]) != :open
            end)
          )

    nodes = "[nodes: [#{inspect(other.node)}, #{inspect(context.c.node)}], max_per_node: 1]"
    reader = Task.async(fn -> run(a, ["one", "two"], options, nodes) end)
    assert Stub.eventually(fn -> length(Peers.call(other, Codex, :running, [])) == 1 end)
    split(a, other)
    results = Task.await(reader, 90_000)
    assert Enum.map(results, &{&1.status, &1.node}) == List.duplicate({:ok, context.c.node}, 2)
    assert Enum.sort(prompts(context.tmp_dir)) == ["one", "two"]
    assert Peers.call(other, Codex, :running, []) == []
  end

  describe "versions" do
    # As a release of another version says it.
    defp set_version(peer, version) do
      spec = Peers.eval(peer, "Application.spec(:codex_sdk)")
      :ok = Peers.call(peer, :application, :stop, [:codex_sdk])
      :ok = Peers.call(peer, :application, :unload, [:codex_sdk])
      spec = Keyword.put(spec, :vsn, String.to_charlist(version))
      spec = Keyword.put(spec, :mod, {Codex.Application, []})
      :ok = Peers.call(peer, :application, :load, [{:application, :codex_sdk, spec}])
      {:ok, _} = Peers.call(peer, :application, :ensure_all_started, [:codex_sdk])
    end

    test "with the same protocol run jobs of each other", %{a: a, options: options} = context do
      other = Peers.add(context.peers)
      set_version(other, "0.4.7")
      assert {"0.4.7", _protocol} = Peers.call(other, Batch.Guest, :version, [])
      more = "[nodes: [#{inspect(other.node)}]]"
      assert [%{status: :ok, node: node}] = run(a, ["one"], options, more)
      assert node == other.node
    end

    test "with another protocol are refused", %{a: a, options: options} = context do
      other = Peers.add(context.peers)
      set_version(other, "0.9.0")
      source = File.read!("lib/codex/batch/guest.ex")
      changed = String.replace(source, ~r/@protocol \d+\n/, "@protocol 900\n")
      assert changed != source
      Peers.eval(other, "Code.compiler_options(ignore_module_conflict: true)")
      Peers.call(other, Code, :compile_string, [changed])

      more = "[nodes: [#{inspect(other.node)}]]"
      assert [%{status: :failed, error: error}] = run(a, ["one"], options, more)
      {own, protocol} = Batch.Guest.version()
      assert error.kind == :config

      assert error.message ==
               "the node #{other.node} runs no jobs of this node: it has codex_sdk 0.9.0 " <>
                 "(protocol 900), and this node has codex_sdk #{own} (protocol #{protocol}); " <>
                 "use versions with the same protocol"

      # Another node takes the job.
      more = "[nodes: [#{inspect(other.node)}, #{inspect(context.c.node)}], max_per_node: 1]"
      results = run(a, ["one", "two"], options, more)
      assert Enum.map(results, &{&1.status, &1.node}) == List.duplicate({:ok, context.c.node}, 2)

      # As a version that runs no jobs of other nodes.
      empty = "defmodule Codex.Batch.Guest do end"
      Peers.call(other, Code, :compile_string, [empty])
      more = "[nodes: [#{inspect(other.node)}]]"
      assert [%{status: :failed, error: error}] = run(a, ["one"], options, more)
      assert error.message =~ "has no codex_sdk that runs jobs of other nodes, and this node has"
    end
  end

  describe "a journal" do
    test "names the node of a job that had begun", %{a: a, options: options} = context do
      lost = Peers.add(context.peers)
      path = Path.join(context.tmp_dir, "journal")
      more = "[nodes: [#{inspect(lost.node)}], node_wait_ms: 300, journal: #{inspect(path)}]"
      reader = Task.async(fn -> run(a, ["hang"], options, more) end)
      await_thread(a, 1)
      Peers.kill(lost)
      assert [%{status: :uncertain, node: node}] = Task.await(reader, 60_000)
      assert node == lost.node

      # Still gone.
      assert [%{status: :uncertain, node: ^node}] = run(a, ["hang"], options, more)

      # Back again, with its recorded threads; here, there are none.
      back = Peers.boot(%{lost | pid: nil})
      assert back.node == node
      assert [%{status: :uncertain, node: ^node} = result] = run(a, ["hang"], options, more)
      assert result.error.message =~ "no recorded thread"
      assert prompts(context.tmp_dir) == ["hang"]
    end
  end
end
