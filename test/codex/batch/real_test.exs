defmodule Codex.Batch.RealTest do
  # Batches of the real CLI with a scripted model; `:telemetry` is stood in for.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Codex.{Batch, OtherVM, Stub, TelemetryStandIn, Test}
  alias Codex.Batch.Journal
  alias Codex.Telemetry.Table
  alias Codex.Turn.Result

  @moduletag :codex_cli

  # Answers with the last prompt.
  defp echo(%{body: %{"input" => input}}) do
    %{"content" => [%{"text" => text} | _]} = List.last(input)
    Test.Steps.message("You said: " <> text)
  end

  defp start(options \\ []) do
    model = Test.start!([], default: &echo/1)
    {model, [client: Test.options(model), thread: Test.thread_options(model)] ++ options}
  end

  defp sent(model),
    do: length(for %{path: "/v1/responses" <> _} = r <- Test.requests(model), do: r)

  test "each job runs once in a thread of its own" do
    {model, options} = start(max_concurrency: 3)
    batch = Codex.map(1..8, &%{key: "k#{&1}", prompt: "job #{&1}"}, options)
    results = Enum.to_list(batch)
    assert Enum.map(results, &to_string(&1.result)) == for(n <- 1..8, do: "You said: job #{n}")
    assert results |> Enum.map(& &1.thread_id) |> Enum.uniq() |> length() == 8
    assert sent(model) == 8
  end

  test "the cost comes from the recorded thread if no option names the model" do
    {_model, options} = start(max_concurrency: 1)
    slug = "codex-test"
    {:ok, batch} = Batch.new(["a"], options ++ [budget: [usd: 1.0]])
    [%{thread_id: id}] = Enum.to_list(batch)

    {:ok, %{rows: [_ | _]} = usage} =
      Codex.Sessions.usage(id, codex_home: options[:client][:codex_home], by: :model)

    slug = hd(usage.rows).key || slug

    {:ok, batch} =
      Batch.new(~w(a b c), options ++ [budget: [usd: 1.0], prices: %{slug => {1.0e6, 0, 0}}])

    assert [%{status: :ok, usd: usd}, %{status: :skipped, error: %{details: %{option: :budget}}}] =
             Enum.to_list(batch)

    assert usd > 1.0
  end

  test "the tokens of turns that failed or ran out of time count for the budget" do
    {model, options} = start(max_concurrency: 1, budget: 200)
    spending = Test.Steps.respond([Test.Steps.shell("true")], usage: %{input_tokens: 90})
    refusal = Test.Steps.http_error(400, %{error: %{message: "no"}})
    Test.push(model, [spending, refusal, spending, Test.Steps.silence(:infinity)])
    jobs = [%{prompt: "a"}, %{prompt: "b", timeout_ms: 15_000}, %{prompt: "c"}]

    assert [%{status: :failed} = failed, %{status: :failed} = late, %{status: :skipped}] =
             Enum.to_list(Codex.map(jobs, & &1, options))

    assert late.error.kind == :timeout
    assert %{"input_tokens" => 90, "output_tokens" => output} = failed.usage
    assert 2 * (90 + output) >= 200
    assert late.usage == failed.usage
  end

  # The last text of each request: the prompt of its turn.
  defp sent_prompts(model) do
    for %{path: "/v1/responses" <> _, body: %{"input" => input}} <- Test.requests(model) do
      %{"content" => [%{"text" => text} | _]} = List.last(input)
      text
    end
  end

  describe "after a crash" do
    @describetag :tmp_dir

    test "a completed turn is taken from the thread that the CLI recorded", %{tmp_dir: dir} do
      path = Path.join(dir, "journal")
      {model, options} = start(journal: path)
      job = [%{prompt: "one", options: [output: [city: :string]]}]
      Test.push(model, ~S({"city": "Rome"}))
      assert [first] = Enum.to_list(Codex.map(job, & &1, options))
      assert {:ok, %{city: "Rome"}} = Result.output(first.result)

      # As it is if the VM ends between the turn and its entry.
      {:ok, journal} = Journal.open(path, [:codex])
      :ok = Journal.begun(journal, 0)
      :ok = Journal.thread(journal, 0, first.thread_id)
      :ok = Journal.close(journal)

      assert [%{status: :ok} = again] = Enum.to_list(Codex.map(job, & &1, options))
      assert {:ok, %{city: "Rome"}} = Result.output(again.result)
      assert again.thread_id == first.thread_id
      assert again.usage["input_tokens"] == first.usage["input_tokens"]
      assert sent(model) == 1
    end

    test "an interrupted turn is reported, or its thread continues", %{tmp_dir: dir} do
      path = Path.join(dir, "journal")
      {model, options} = start(journal: path)
      Test.push(model, Test.Steps.silence(:infinity))
      {reader, monitor} = spawn_monitor(fn -> Enum.to_list(Codex.map(["one"], & &1, options)) end)
      {:ok, _request} = Test.await_request(model, 60_000)
      Process.exit(reader, :kill)
      assert_receive {:DOWN, ^monitor, _, _, :killed}, 20_000
      assert Stub.eventually(fn -> Stub.running(options[:client][:codex_home]) == [] end)

      again = fn more ->
        assert Stub.eventually(fn ->
                 case Journal.open(path, [:codex]) do
                   {:ok, journal} -> Journal.close(journal) == :ok
                   {:error, _held} -> false
                 end
               end)

        Enum.to_list(Codex.map(["one"], & &1, options ++ more))
      end

      assert [%{status: :uncertain, thread_id: id} = job] = again.([])
      assert is_binary(id)
      assert job.error.message =~ "its turn did not end"
      assert sent_prompts(model) == ["one"]

      assert [%{status: :ok, thread_id: ^id} = job] = again.(on_interrupted: :resume)
      assert to_string(job.result) == "You said: Continue."
      assert sent_prompts(model) == ["one", "Continue."]
      assert [%{status: :ok}] = again.([])
      assert sent(model) == 2
    end

    test "VMs that are killed at random run no job twice", %{tmp_dir: dir} do
      :rand.seed(:exsss, {20, 3, 3})
      path = Path.join(dir, "journal")

      slow = fn request ->
        {:item, wire, streaming} = echo(request)
        {:item, wire, [delta_delay_ms: 30] ++ streaming}
      end

      model = Test.start!([], default: slow)
      jobs = for n <- 1..24, do: "job #{n}"
      thread = Test.thread_options(model)

      script = """
      jobs = for n <- 1..24, do: "job \#{n}"
      options = [client: #{OtherVM.client(model)}, thread: #{inspect(thread)},
                 journal: #{inspect(path)}, max_concurrency: 3, ordered: false]
      IO.puts("begins")
      jobs |> Codex.map(& &1, options) |> Enum.each(fn _ -> :ok end)
      Process.sleep(:infinity)
      """

      for _round <- 1..3 do
        port = OtherVM.start(script)
        assert_receive {^port, {:data, {:eol, "pid " <> pid}}}, 60_000
        assert_receive {^port, {:data, {:eol, "begins"}}}, 60_000
        before = sent(model)
        assert Stub.eventually(fn -> sent(model) > before + :rand.uniform(4) end, 60_000)
        Process.sleep(:rand.uniform(200))
        {_, 0} = System.cmd("kill", ["-KILL", pid])
        assert Stub.eventually(fn -> not Stub.alive?(pid) end)
      end

      home = Test.options(model)[:codex_home]
      assert Stub.eventually(fn -> Stub.running(home) == [] end, 60_000)
      options = [client: Test.options(model), thread: thread, journal: path, max_concurrency: 3]
      {results, _log} = with_log(fn -> jobs |> Codex.map(& &1, options) |> Enum.to_list() end)

      prompts = sent_prompts(model)
      assert prompts -- Enum.uniq(prompts) == []
      assert Enum.map(results, & &1.index) == Enum.to_list(0..23)

      for {result, job} <- Enum.zip(results, jobs) do
        case result.status do
          :ok -> assert to_string(result.result) == "You said: " <> job
          :uncertain -> assert result.error.message =~ "the batch ended while the job ran"
        end
      end

      assert Enum.count(results, &(&1.status == :uncertain)) <= 9
    end
  end

  test "telemetry has a span for the batch and for each job" do
    TelemetryStandIn.load!()
    TelemetryStandIn.listen!()
    {_model, options} = start()
    {:ok, batch} = Batch.new(["a", %{}], options)
    assert [:ok, :failed] = Enum.map(batch, & &1.status)

    told =
      for {[:batch | _] = name, measurements, metadata} <- TelemetryStandIn.told(),
          do: {name, measurements, metadata}

    for {name, measurements, metadata} <- told do
      {wanted, known, _content} = Table.keys(name)
      assert {name, Enum.sort(Map.keys(measurements))} == {name, Enum.sort(wanted)}
      assert {name, Enum.sort(Map.keys(metadata))} == {name, Enum.sort(known)}
      assert metadata.batch == batch.ref
    end

    names = Enum.map(told, &elem(&1, 0))
    assert hd(names) == [:batch, :start]
    assert {[:batch, :stop], _, %{reason: :done, counts: %{ok: 1, failed: 1}}} = List.last(told)
    assert Enum.count(names, &(&1 == [:batch, :job, :start])) == 1
    assert Enum.count(names, &(&1 == [:batch, :job, :stop])) == 2
  end
end
