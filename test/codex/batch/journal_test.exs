defmodule Codex.Batch.JournalTest do
  # Journals of batches whose readers, workers, files and VMs fail. The children are stand-ins.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias Codex.Batch
  alias Codex.Batch.{Job, Journal, Recovery, Worker}
  alias Codex.{OtherVM, Stub}

  @moduletag :tmp_dir
  @moduletag timeout: 600_000

  # Notes its prompt when it has begun, and answers with it.
  @echo """
  prompt=$(cat)
  echo "$prompt" >> "$(dirname "$0")/prompts"
  case "$prompt" in
    fail*) echo "$started"; echo '{"type":"turn.failed","error":{"message":"no"}}'; exit 1 ;;
    hang*) exec sleep 600 ;;
  esac
  sleep 0.0$(($$ % 10))
  echo "$started"
  sleep 0.0$(($$ % 7))
  echo '{"type":"item.completed","item":{"id":"0","type":"agent_message","text":"'"$prompt"'"}}'
  echo "$completed"
  """

  defp options(dir, more \\ []) do
    stub = Path.join(dir, "codex-stub")
    unless File.exists?(stub), do: File.rename!(Stub.write!(dir, @echo), stub)
    client = [codex_path: stub, codex_home: dir, api_key: "sk-private"]

    [client: client, thread: [skip_git_repo_check: true], journal: Path.join(dir, "journal")] ++
      more
  end

  defp run(jobs, options), do: jobs |> Codex.map(& &1, options) |> Enum.to_list()

  defp prompts(dir) do
    case File.read(Path.join(dir, "prompts")) do
      {:ok, text} -> String.split(text, "\n", trim: true)
      {:error, :enoent} -> []
    end
  end

  # Each job has one result and ran at most once; jobs without a known end are named.
  defp assert_once(results, jobs, dir) do
    assert Enum.map(results, & &1.index) == Enum.to_list(0..(length(jobs) - 1))
    ran = prompts(dir)
    assert ran -- Enum.uniq(ran) == []

    for {result, job} <- Enum.zip(results, jobs) do
      case result.status do
        :ok ->
          assert to_string(result.result) == job and job in ran

        :uncertain ->
          assert result.error.message =~ "the batch ended while the job ran, and it" or
                   result.error.message =~
                     "the batch ended while the job ran, and no recorded thread"
      end
    end

    assert Stub.eventually(fn -> Stub.running(Path.join(dir, "codex-stub")) == [] end, 60_000)
    Enum.count(results, &(&1.status == :uncertain))
  end

  test "done stays done, and queued runs", %{tmp_dir: dir} do
    jobs = for n <- 1..6, do: "job #{n}"
    options = options(dir, max_concurrency: 2, ordered: false)
    assert [_, _] = jobs |> Codex.map(& &1, options) |> Enum.take(2)

    before = prompts(dir)
    results = run(jobs ++ ["job 7"], options(dir))
    uncertain = assert_once(results, jobs ++ ["job 7"], dir)
    assert uncertain <= 2
    assert length(prompts(dir)) >= length(before)

    # All of them are done now, but for the uncertain ones.
    ran = prompts(dir)
    again = run(jobs ++ ["job 7"], options(dir))
    assert prompts(dir) == ran
    assert Enum.map(again, & &1.status) == Enum.map(results, & &1.status)

    for {%{status: :ok} = one, two} <- Enum.zip(results, again) do
      assert {one.usage, one.thread_id, one.attempts} == {two.usage, two.thread_id, two.attempts}
      assert two.result.thread.thread_id == one.thread_id
      assert two.started_at == one.started_at
    end
  end

  test "a turn that failed is done; a job that could not begin runs later", %{tmp_dir: dir} do
    job = %{key: "cwd", prompt: "in a folder", cwd: Path.join(dir, "later")}
    assert [a, b] = run(["fail", job], options(dir))
    assert {a.status, b.status} == {:failed, :failed}
    File.mkdir!(job.cwd)
    assert [again, b] = run(["fail", job], options(dir))

    assert {again.status, again.error.kind, again.error.message} ==
             {:failed, a.error.kind, a.error.message}

    assert b.status == :ok
    assert prompts(dir) == ["fail", "in a folder"]
  end

  test "a replayed answer is decoded with the schema of its job", %{tmp_dir: dir} do
    job = %{key: "s", prompt: "x", options: [output: [city: :string]]}
    {:ok, journal} = Journal.open(Path.join(dir, "journal"), [:codex])
    {:ok, full} = Job.new(job, 0, %{thread: [], turn: []})
    {:ok, :queued, journal} = Journal.enter(journal, full)
    {:ok, thread} = Codex.start_thread([])
    answer = %Codex.Items.AgentMessage{text: ~S({"city":"Rome"})}

    result = %Codex.Turn.Result{
      thread: %{thread | thread_id: "t"},
      events: [],
      final_response: answer
    }

    :ok =
      Journal.done(
        journal,
        "s",
        Recovery.record(Batch.Result.of(full, {:ok, result}))
      )

    :ok = Journal.close(journal)

    assert [%{status: :ok, thread_id: "t"} = replayed] = run([job], options(dir))
    assert Codex.Turn.Result.output(replayed.result) == {:ok, %{city: "Rome"}}
    assert prompts(dir) == []
  end

  test "keys name the jobs: they are unique, and stay", %{tmp_dir: dir} do
    jobs = [%{key: "a", prompt: "one"}, %{key: "a", prompt: "two"}]
    assert [%{status: :ok}, %{status: :failed, error: error}] = run(jobs, options(dir))
    assert error.message =~ ~s(the job "a" cannot run: an earlier job has this key, too)
    assert [%{status: :failed, error: error}] = run([%{key: "a", prompt: "new"}], options(dir))
    assert error.message =~ "the journal has another prompt or folder for this key"
    assert prompts(dir) == ["one"]
  end

  test "done jobs count for the budget", %{tmp_dir: dir} do
    # Each uses 120 tokens.
    options = options(dir, max_concurrency: 1, budget: 200)
    assert [:ok, :ok, :skipped] = Enum.map(run(~w(a b c d), options), & &1.status)
    assert [:ok, :ok, :skipped] = Enum.map(run(~w(a b c d), options), & &1.status)
    options = options(dir, max_concurrency: 1, budget: 300)
    assert [:ok, :ok, :ok, :skipped] = Enum.map(run(~w(a b c d), options), & &1.status)
    assert prompts(dir) == ~w(a b c)
  end

  test "a cancelled job is uncertain from then on", %{tmp_dir: dir} do
    {:ok, batch} = Batch.new(["hang"], options(dir))
    reader = Task.async(fn -> Enum.to_list(batch) end)
    assert Stub.eventually(fn -> prompts(dir) == ["hang"] end, 60_000)
    :ok = Batch.cancel(batch)
    assert [%{status: :cancelled}] = Task.await(reader, 60_000)
    assert [%{status: :uncertain}] = run(["hang"], options(dir))
    assert prompts(dir) == ["hang"]
  end

  test "one batch at a time; a killed reader frees the journal", %{tmp_dir: dir} do
    {:ok, batch} = Batch.new(["hang"], options(dir))
    {reader, monitor} = spawn_monitor(fn -> Enum.to_list(batch) end)
    assert Stub.eventually(fn -> prompts(dir) == ["hang"] end, 60_000)
    error = assert_raise Codex.Error, fn -> run(["b"], options(dir)) end
    assert error.message =~ "another batch uses it"
    Process.exit(reader, :kill)
    assert_receive {:DOWN, ^monitor, _, _, :killed}, 20_000

    open = fn ->
      with {:ok, journal} <- Journal.open(Path.join(dir, "journal"), [:codex]),
           do: Journal.close(journal)
    end

    assert Stub.eventually(fn -> open.() == :ok end)
  end

  test "a file that is no journal is not touched", %{tmp_dir: dir} do
    path = Path.join(dir, "journal")

    for text <- ["some text of the user", String.duplicate("a", 100)] do
      File.write!(path, text)
      error = assert_raise Codex.Error, fn -> run(["a"], options(dir)) end
      assert error.kind == :config
      assert error.message =~ "it is no journal of a batch"
      assert File.read!(path) == text
    end

    File.rm!(path)
    name = {:other_log, make_ref()}
    {:ok, ^name} = :disk_log.open(name: name, file: to_charlist(path))
    :ok = :disk_log.log(name, {:event, 1})
    :ok = :disk_log.close(name)
    error = assert_raise Codex.Error, fn -> run(["a"], options(dir)) end
    assert error.message =~ "it is no journal of a batch"
    File.rm!(path)
    File.mkdir!(path)
    assert_raise Codex.Error, fn -> run(["a"], options(dir)) end
    assert prompts(dir) == []
  end

  test "neither keys nor prompts are in the file, which is private", %{tmp_dir: dir} do
    assert [%{status: :ok}, %{status: :failed}] = run(["secret words", "fail"], options(dir))
    text = File.read!(Path.join(dir, "journal"))
    refute text =~ "sk-private"
    # The stand-in answers with its prompt: that is the answer.
    assert length(:binary.matches(text, "secret words")) == 1
    assert Bitwise.band(File.stat!(Path.join(dir, "journal")).mode, 0o777) == 0o600
  end

  describe "a damaged journal" do
    # Three jobs are done, and one has begun.
    defp written(dir) do
      path = Path.join(dir, "journal")
      {:ok, journal} = Journal.open(path, [:codex])

      journal =
        for n <- 0..3, reduce: journal do
          journal ->
            {:ok, job} = Job.new("job #{n}", n, %{thread: [], turn: []})
            {:ok, :queued, journal} = Journal.enter(journal, job)
            :ok = Journal.begun(journal, n)
            if n < 3, do: :ok = Journal.done(journal, n, %{n: n})
            journal
        end

      open = File.read!(path)
      :ok = Journal.close(journal)
      {path, open, File.read!(path)}
    end

    defp reopened(path, bytes) do
      File.write!(path, bytes)

      with_log(fn ->
        with {:ok, journal} <- Journal.open(path, [:codex]) do
          :ok = Journal.close(journal)
          journal
        end
      end)
    end

    test "that was cut at any byte is repaired, and says so", %{tmp_dir: dir} do
      {path, open, closed} = written(dir)

      for bytes <- [open, closed], cut <- 0..(byte_size(bytes) - 1) do
        {opened, log} = reopened(path, binary_part(bytes, 0, cut))

        if cut <= 128,
          do: assert(match?(%Journal{}, opened) or elem(opened, 1).message =~ "damaged"),
          else: assert(%Journal{} = opened)

        journal = if is_struct(opened), do: opened, else: %{entries: %{}, lost?: true}
        # What is left is true.
        for {n, {_digest, {:done, record}}} <- journal.entries, do: assert(record == %{n: n})
        assert journal.entries |> Map.keys() |> Enum.all?(&(&1 in 0..3))
        if is_struct(opened) and opened.lost?, do: assert(log =~ "was damaged and repaired")
        # All entries before the cut are there.
        if cut > byte_size(bytes) - 20, do: assert(map_size(journal.entries) == 4)
        # A repaired journal is whole.

        if is_struct(opened) do
          # Other tests log, too.
          assert {%Journal{lost?: false, entries: entries}, log} =
                   reopened(path, File.read!(path))

          refute log =~ "journal"
          assert entries == journal.entries
        end

        _ = File.rm(path <> ".damaged")
      end
    end

    test "with a wrong byte is repaired, and says so", %{tmp_dir: dir} do
      {path, open, closed} = written(dir)
      :rand.seed(:exsss, {1, 2, 3})

      for bytes <- [open, closed], _ <- 1..150 do
        at = Enum.random(8..(byte_size(bytes) - 1))
        <<byte, rest::binary>> = binary_part(bytes, at, byte_size(bytes) - at)
        before = binary_part(bytes, 0, at)
        {opened, log} = reopened(path, <<before::binary, Bitwise.bxor(byte, 0x55), rest::binary>>)

        case opened do
          %Journal{} = journal ->
            for {n, {_, {:done, record}}} <- journal.entries, do: assert(record == %{n: n})

            whole? =
              map_size(journal.entries) == 4 and
                Enum.all?(0..2, &match?({_, {:done, _}}, journal.entries[&1]))

            assert whole? or journal.lost?
            if journal.lost?, do: assert(log =~ "was damaged and repaired")

          # The header is damaged: nothing is overwritten.
          {:error, error} ->
            assert error.message =~ "cannot be used"
        end

        _ = File.rm(path <> ".damaged")
      end
    end

    test "runs no job that may have begun", %{tmp_dir: dir} do
      options = options(dir, max_concurrency: 1)
      assert [%{status: :ok}] = run(["a"], options)
      {:ok, journal} = Journal.open(options[:journal], [:codex])
      {:ok, job} = Job.new("b", 1, %{thread: [], turn: []})
      {:ok, :queued, journal} = Journal.enter(journal, job)
      :ok = Journal.close(journal)
      File.write!(options[:journal], File.read!(options[:journal]) <> "torn")

      {results, log} = with_log(fn -> run(~w(a b c), options) end)
      assert log =~ "4 bytes and"
      assert Enum.map(results, & &1.status) == [:ok, :uncertain, :ok]
      assert prompts(dir) == ~w(a c)
    end
  end

  test "readers and workers are killed at random: no job runs twice", %{tmp_dir: dir} do
    :rand.seed(:exsss, {20, 1, 1})
    jobs = for n <- 1..120, do: "job #{n}"

    for _round <- 1..8 do
      {:ok, batch} = Batch.new(jobs, options(dir, max_concurrency: 6))
      {reader, monitor} = spawn_monitor(fn -> Enum.to_list(batch) end)

      for _kill <- 1..3 do
        Process.sleep(:rand.uniform(120))
        workers = for {pid, _key} <- Worker.running(batch.ref), do: pid
        if workers != [], do: Process.exit(Enum.random(workers), :kill)
      end

      Process.exit(reader, :kill)
      assert_receive {:DOWN, ^monitor, _, _, _reason}, 20_000
      assert Stub.eventually(fn -> Worker.running(batch.ref) == [] end)
    end

    {results, _log} = with_log(fn -> run(jobs, options(dir, max_concurrency: 6)) end)
    uncertain = assert_once(results, jobs, dir)
    # Six at each of eight deaths, and three workers before.
    assert uncertain <= 8 * 9
  end

  test "VMs are killed at random: no job runs twice", %{tmp_dir: dir} do
    :rand.seed(:exsss, {20, 2, 2})
    jobs = for n <- 1..80, do: "job #{n}"
    options = options(dir, max_concurrency: 4)

    script = """
    jobs = for n <- 1..80, do: "job \#{n}"
    options = #{inspect(options)}
    IO.puts("begins")
    jobs |> Codex.map(& &1, options) |> Enum.each(fn _ -> :ok end)
    IO.puts("ends")
    Process.sleep(:infinity)
    """

    for _round <- 1..4 do
      port = OtherVM.start(script)
      assert_receive {^port, {:data, {:eol, "pid " <> pid}}}, 60_000
      assert_receive {^port, {:data, {:eol, "begins"}}}, 60_000
      Process.sleep(:rand.uniform(400))
      {_, 0} = System.cmd("kill", ["-KILL", pid])
      assert Stub.eventually(fn -> not Stub.alive?(pid) end)
      if Port.info(port), do: Port.close(port)
    end

    {results, _log} = with_log(fn -> run(jobs, options) end)
    uncertain = assert_once(results, jobs, dir)
    assert uncertain <= 4 * 4
  end
end
