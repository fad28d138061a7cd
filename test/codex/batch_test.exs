defmodule Codex.BatchTest do
  # Batches of stand-in children.
  use ExUnit.Case, async: true

  alias Codex.{Batch, Stub}
  alias Codex.Batch.Result

  doctest Codex.Batch
  doctest Codex.Batch.Budget
  doctest Codex.Batch.Job
  doctest Codex.Batch.Progress

  @moduletag :tmp_dir

  # Notes its prompt, and answers with it.
  @echo """
  prompt=$(cat)
  mark="$(dirname "$0")/$prompt"
  fail() {
    echo "$started"
    echo '{"type":"turn.failed","error":{"message":"'"$1"'"}}'
    exit 1
  }
  echo "$prompt" >> "$(dirname "$0")/prompts"
  case "$prompt" in
    slow*) sleep 0.3 ;;
    hang*) echo "$started"; echo $$ >> "$(dirname "$0")/hanging"; exec sleep 600 ;;
    die*) echo "$started"; kill -9 $$ ;;
    early*) kill -9 $$ ;;
    quota*) fail "Quota exceeded." ;;
    fail*) fail no ;;
    once*) if ! [ -e "$mark" ]; then touch "$mark"; exit 75; fi ;;
  esac
  echo "$started"
  item='"id":"item_0","type":"agent_message","text":"'"$prompt"'"'
  echo '{"type":"item.completed","item":{'"$item"'}}'
  echo "$completed"
  """

  defp options(dir, more \\ []) do
    {client, more} = Keyword.pop(more, :client, [])
    client = [codex_path: Stub.write!(dir, @echo), codex_home: dir] ++ client
    {thread, more} = Keyword.pop(more, :thread, [])
    [client: client, thread: [skip_git_repo_check: true] ++ thread] ++ more
  end

  defp run(jobs, options) do
    {:ok, batch} = Batch.new(jobs, options)
    Enum.to_list(batch)
  end

  defp prompts(dir) do
    case File.read(Path.join(dir, "prompts")) do
      {:ok, text} -> String.split(text, "\n", trim: true)
      {:error, :enoent} -> []
    end
  end

  defp await_hanging(dir, count) do
    hanging = fn ->
      case File.read(Path.join(dir, "hanging")) do
        {:ok, text} -> text |> String.split("\n", trim: true) |> length()
        {:error, :enoent} -> 0
      end
    end

    assert Stub.eventually(fn -> hanging.() == count end, 60_000)
  end

  defp assert_nothing_left(dir),
    do: assert(Stub.eventually(fn -> Stub.running(dir) == [] end, 60_000))

  test "every job has one result, in order, and runs once", %{tmp_dir: dir} do
    jobs = for n <- 1..60, do: if(rem(n, 7) == 0, do: "slow #{n}", else: "job #{n}")
    results = run(jobs, options(dir, max_concurrency: 6))

    assert Enum.map(results, &to_string(&1.result)) == jobs
    assert Enum.map(results, & &1.key) == Enum.to_list(0..59)
    assert Enum.sort(prompts(dir)) == Enum.sort(jobs)

    for result <- results do
      assert %Result{status: :ok, attempts: 1, error: nil, usage: %{"input_tokens" => 100}} =
               result

      assert result.thread_id == "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"
      assert result.node == node()
      assert %DateTime{} = result.started_at
      assert is_integer(result.duration_ms)
    end
  end

  test "results may come as the jobs finish", %{tmp_dir: dir} do
    jobs = ["slow 1", "job 2", "job 3", "job 4"]
    results = run(jobs, options(dir, max_concurrency: 2, ordered: false))
    assert Enum.sort(Enum.map(results, & &1.index)) == [0, 1, 2, 3]
    assert Enum.sort(Enum.map(results, &to_string(&1.result))) == Enum.sort(jobs)
  end

  test "the source is read when a job can begin, and closed", %{tmp_dir: dir} do
    test = self()

    source =
      Stream.resource(
        fn -> 0 end,
        fn n ->
          send(test, {:took, n})
          {["job #{n}"], n + 1}
        end,
        fn _n -> send(test, :closed) end
      )

    {:ok, batch} = Batch.new(source, options(dir, max_concurrency: 3, ordered: false))
    assert [_, _] = Enum.take(batch, 2)
    assert_received :closed
    # Two were returned, and three may run.
    refute_received {:took, 5}
    assert_nothing_left(dir)
  end

  test "an ordered batch keeps a limited number of finished results", %{tmp_dir: dir} do
    test = self()

    jobs =
      Stream.map(0..200, fn n ->
        send(test, {:took, n})
        if n == 0, do: "hang", else: "#{n}"
      end)

    options = options(dir, max_concurrency: 2, timeout_ms: 8_000)
    {:ok, batch} = Batch.new(jobs, options)
    assert [%{index: 0, status: :failed, error: %{kind: :timeout}}] = Enum.take(batch, 1)
    refute_received {:took, 24}
  end

  test "a job is a prompt, a map or a keyword list; an invalid job fails alone", %{tmp_dir: dir} do
    jobs = [
      %{"prompt" => "one", "key" => "a", "options" => %{"sandbox" => "read-only"}},
      [prompt: "two", key: :b, cwd: dir],
      %{prompt: "three", cwd: "/no/such/folder"},
      %{key: "d"},
      :nonsense,
      %{prompt: "six", key: 6, options: [sandbx: 1]},
      %{prompt: "seven", options: [output_schema: %{}, reasoning_summary: :auto]}
    ]

    assert [a, b, c, d, e, f, _g] = run(jobs, options(dir))
    assert {a.key, a.status, to_string(a.result)} == {"a", :ok, "one"}
    assert {b.key, b.status} == {:b, :ok}
    assert {c.key, c.status, c.error.kind} == {2, :failed, :config}

    assert {d.key, d.status, d.error.message} ==
             {"d", :failed, "option :prompt is missing; expected a string or a list of blocks"}

    assert {e.key, e.status, e.error.kind} == {4, :failed, :invalid_request}
    assert {f.key, f.status} == {6, :failed}
    assert f.error.message =~ "unknown option [:options, :sandbx]; did you mean :sandbox"
    assert Enum.all?([c, d, e, f], &(&1.attempts == 0 and &1.result == nil))
  end

  test "Codex.map/3 makes jobs of elements", %{tmp_dir: dir} do
    batch = Codex.map(1..3, &"job #{&1}", options(dir))
    assert Enum.map(batch, &to_string(&1.result)) == ["job 1", "job 2", "job 3"]

    assert_raise Codex.OptionError, ~r/:max_concurrency must be/, fn ->
      Codex.map([], & &1, max_concurrency: 0)
    end

    assert_raise Codex.OptionError, ~r/argument :fun/, fn -> Codex.map([], :x) end
  end

  test "options are checked before anything runs" do
    for {options, words} <- [
          {[client: [modle: 1]], "unknown option [:client, :modle]; did you mean :model?"},
          {[thread: [sandbox: :none]], "option [:thread, :sandbox] must be one of"},
          {[budget: 0], "option :budget must be a positive number of tokens"},
          {[budget: [usd: -1]], "option [:budget, :usd] must be a number above 0"},
          {[prices: %{"m" => 1}], "option [:prices, \"m\"] must be {input"},
          {[timeout_ms: -1], "option :timeout_ms must be"}
        ] do
      assert {:error, error} = Batch.new([], options)
      assert Exception.message(error) =~ words
    end

    assert {:error, error} = Batch.new(:jobs, [])
    assert Exception.message(error) =~ "argument :jobs must be an enumerable of jobs"
  end

  test "the status says how a job ended", %{tmp_dir: dir} do
    jobs = [
      "ok",
      "fail",
      "die",
      "early",
      %{prompt: "hang", timeout_ms: 3_000},
      %{prompt: "once", options: [retry_opts: [base_delay_ms: 1]]}
    ]

    assert [ok, failed, lost, early, expired, again] = run(jobs, options(dir))
    assert ok.status == :ok
    assert {failed.status, failed.error.kind} == {:failed, :invalid_request}
    assert failed.error.result == nil
    assert %Codex.Turn.Result{} = failed.result
    assert {lost.status, lost.error.kind} == {:uncertain, :killed}
    assert lost.thread_id == "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"
    assert {early.status, early.error.kind} == {:uncertain, :killed}
    assert {expired.status, expired.error.kind} == {:failed, :timeout}
    assert {again.status, again.attempts} == {:ok, 2}
    assert_nothing_left(dir)

    assert %{"key" => 1, "status" => "failed", "error" => %{"kind" => "invalid_request"}} =
             Result.to_map(failed)

    assert {:ok, _json} = Codex.JSON.encode(Result.to_map(%{ok | key: {:a, 1}}))
  end

  test "retry is an option of all jobs", %{tmp_dir: dir} do
    jobs = ["once a", "once b"]
    results = run(jobs, options(dir, retry: true, retry_opts: [base_delay_ms: 1]))
    assert Enum.map(results, &{&1.status, &1.attempts}) == [ok: 2, ok: 2]
  end

  describe "a budget" do
    test "in tokens stops the batch; the next job is skipped", %{tmp_dir: dir} do
      # Each uses 120 tokens.
      jobs = Stream.map(1..1_000_000, &"job #{&1}")
      results = run(jobs, options(dir, max_concurrency: 1, budget: 300))
      assert Enum.map(results, & &1.status) == [:ok, :ok, :ok, :skipped]

      assert %{kind: :usage_limit, details: %{option: :budget}, message: message} =
               List.last(results).error

      assert message == "the budget of 300 tokens is used up: the jobs used 360"
      assert length(prompts(dir)) == 3
    end

    test "in money needs prices", %{tmp_dir: dir} do
      options = [max_concurrency: 1, thread: [model: "m"], prices: %{"m" => {1_000_000, 0, 0}}]
      results = run(~w(a b c d), options(dir, [budget: [usd: 150.0]] ++ options))
      assert Enum.map(results, &{&1.status, &1.usd}) == [ok: 100.0, ok: 100.0, skipped: nil]

      results = run(~w(a b c d), options(dir, max_concurrency: 1, budget: [usd: 150.0]))
      assert [%{status: :ok, usd: nil}, %{status: :skipped, error: error}] = results
      assert error.message =~ "the cost of the job 0 is not known"
    end

    test "without one, a used up quota stops the batch", %{tmp_dir: dir} do
      results = run(["a", "quota", "c", "d"], options(dir, max_concurrency: 1))
      assert Enum.map(results, & &1.status) == [:ok, :failed, :skipped]
      assert %{kind: :quota} = List.last(results).error
    end

    test "of time", %{tmp_dir: dir} do
      options = options(dir, max_concurrency: 2, total_timeout_ms: 3_000)
      results = run(["hang", "hang", "c", "d"], options)
      assert Enum.map(results, & &1.status) == [:failed, :failed, :skipped]
      assert Enum.all?(results, &(&1.error.kind == :timeout))
      assert_nothing_left(dir)
    end
  end

  describe "cancelling" do
    test "a batch interrupts its turns, and nothing is left", %{tmp_dir: dir} do
      jobs = Stream.cycle(["hang"])
      {:ok, batch} = Batch.new(jobs, options(dir, max_concurrency: 3))
      reader = Task.async(fn -> Enum.to_list(batch) end)
      await_hanging(dir, 3)
      assert Batch.cancel(batch) == :ok
      results = Task.await(reader, 60_000)
      assert Enum.map(results, & &1.status) == [:cancelled, :cancelled, :cancelled]
      assert Enum.all?(results, &(&1.error.kind == :interrupted))
      assert_nothing_left(dir)
      assert Batch.cancel(batch) == :ok
      assert Enum.to_list(batch) == []
    end

    test "a job leaves the others", %{tmp_dir: dir} do
      jobs = [%{key: :a, prompt: "hang"}, %{key: :b, prompt: "b"}]
      {:ok, batch} = Batch.new(jobs, options(dir))
      reader = Task.async(fn -> Enum.to_list(batch) end)
      await_hanging(dir, 1)
      assert Batch.cancel(batch, :a) == :ok
      assert Enum.map(Task.await(reader, 60_000), & &1.status) == [:cancelled, :ok]
      assert Batch.cancel(batch, :a) == {:error, :not_found}
    end

    test "jobs end with a reader that is killed", %{tmp_dir: dir} do
      {:ok, batch} = Batch.new(List.duplicate("hang", 3), options(dir, max_concurrency: 3))
      {reader, monitor} = spawn_monitor(fn -> Enum.to_list(batch) end)
      await_hanging(dir, 3)
      Process.exit(reader, :kill)
      assert_receive {:DOWN, ^monitor, :process, _, :killed}, 20_000
      assert_nothing_left(dir)
      assert Stub.eventually(fn -> Batch.Worker.running(batch.ref) == [] end)
    end

    test "jobs end with a reader or a source that raises", %{tmp_dir: dir} do
      {:ok, batch} = Batch.new(["a", "hang"], options(dir, max_concurrency: 2))
      assert_raise RuntimeError, "reader", fn -> Enum.each(batch, fn _ -> raise "reader" end) end
      assert Batch.Worker.running(batch.ref) == []

      jobs = Stream.map(1..2, fn n -> if n == 2, do: raise("source"), else: "hang" end)
      {:ok, batch} = Batch.new(jobs, options(dir, max_concurrency: 2))
      assert_raise RuntimeError, "source", fn -> Enum.to_list(batch) end
      assert Batch.Worker.running(batch.ref) == []
      assert_nothing_left(dir)
      refute_received _message
    end

    test "a worker that is killed leaves its job uncertain", %{tmp_dir: dir} do
      {:ok, batch} = Batch.new(["hang", "b"], options(dir))
      reader = Task.async(fn -> Enum.to_list(batch) end)
      await_hanging(dir, 1)
      [{pid, 0}] = for {pid, 0} <- Batch.Worker.running(batch.ref), do: {pid, 0}
      Process.exit(pid, :kill)
      assert [%{status: :uncertain, error: error}, %{status: :ok}] = Task.await(reader, 60_000)
      assert error.message =~ "the process of the job ended before its turn did: :killed"
      assert_nothing_left(dir)
    end
  end

  test "a million queued jobs cost no memory", %{tmp_dir: dir} do
    {:ok, batch} = Batch.new(Stream.map(1..1_000_000, &"job #{&1}"), options(dir))

    Enum.reduce_while(batch, 0, fn _result, n ->
      :erlang.garbage_collect()
      {:memory, bytes} = Process.info(self(), :memory)
      assert bytes < 2_000_000
      if n == 20, do: {:halt, n}, else: {:cont, n + 1}
    end)
  end

  test "nothing of options and prompts is in inspect/1", %{tmp_dir: dir} do
    {:ok, batch} = Batch.new(["private"], options(dir, client: [api_key: "sk-private"]))
    refute inspect(batch) =~ "private"
  end
end
