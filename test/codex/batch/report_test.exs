defmodule Codex.Batch.ReportTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO

  alias Codex.{Batch, Error, OptionError, Stub}
  alias Codex.Batch.{Recovery, Report, Result}
  alias Codex.Batch.Report.Timeline
  alias Codex.Test.Chromium

  doctest Codex.Batch.Report.Timeline
  doctest Codex.Sessions.Export.Page

  @moduletag timeout: 300_000

  @hostile "<script>document.title='owned'</script><img src=x " <>
             "onerror=\"document.title='owned'\"></title></svg></style> ' \" & \e[31mred\e[0m \u202Eabc"

  @start ~U[2026-11-26 20:03:20.000Z]

  defp result(index, fields) do
    at = DateTime.add(@start, Keyword.get(fields, :at, 0), :millisecond)

    struct!(
      %Result{
        key: index,
        index: index,
        status: :ok,
        attempts: 1,
        node: :a@host,
        model: "gpt-5",
        started_at: at,
        duration_ms: 1_000,
        usage: %{"input_tokens" => 100, "cached_input_tokens" => 40, "output_tokens" => 7},
        usd: 0.25,
        thread_id: "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"
      },
      Keyword.delete(fields, :at)
    )
  end

  defp wait(ms, length), do: {DateTime.add(@start, ms, :millisecond), length}

  defp results do
    [
      result(0, key: "lib/a.ex"),
      result(1, at: 500, duration_ms: 4_000, waits: [wait(1_000, 2_500)], attempts: 2),
      result(2,
        at: 1_000,
        key: {:term, @hostile},
        status: :failed,
        model: @hostile,
        node: String.to_atom(@hostile),
        error: Error.new(:timeout, "It failed. " <> @hostile),
        usd: nil
      ),
      result(3, at: 1_200, key: @hostile, status: :uncertain, error: Error.new(:crashed, "gone")),
      result(4,
        status: :skipped,
        started_at: nil,
        duration_ms: nil,
        usage: nil,
        usd: nil,
        thread_id: nil,
        attempts: 0,
        node: nil,
        model: nil,
        error: Error.new(:usage_limit, "the budget is used up")
      )
    ]
  end

  defp html(results) do
    {:ok, report} = Batch.report(results)
    report |> Report.html() |> IO.iodata_to_binary()
  end

  test "sums jobs, times, tokens and money, by model and node, and failures by kind" do
    {:ok, report} = results() |> Stream.map(& &1) |> Batch.report()

    assert {report.jobs, report.counts} ==
             {5, %{ok: 2, failed: 1, uncertain: 1, skipped: 1}}

    assert {report.attempts, report.busy_ms, report.waited_ms} == {5, 7_000, 2_500}
    assert report.started_at == @start
    assert report.ended_at == DateTime.add(@start, 4_500, :millisecond)
    assert report.usage["input_tokens"] == 400 and report.usage["cached_input_tokens"] == 160
    assert {report.usd, report.unpriced} == {0.75, 1}

    assert %{jobs: 3, bad: 1, busy_ms: 6_000, waited_ms: 2_500, usd: 0.75} =
             report.models["gpt-5"]

    assert %{jobs: 1, bad: 1, usage: usage} = report.models[nil]
    assert usage == %{}
    assert %{jobs: 3} = report.nodes["a@host"]

    assert %{count: 1, keys: [key], message: "It failed. " <> _} =
             report.failures[{:failed, :timeout}]

    assert key =~ "{:term, "
    assert %{count: 1, keys: ["4"]} = report.failures[{:skipped, :usage_limit}]
    assert inspect(report) =~ "jobs: 5"
    refute inspect(report) =~ "script"
  end

  test "the page has all facts, escaped, and nothing that loads" do
    html = html(results())
    assert html =~ "<title>Batch of 5 jobs</title>"
    assert html =~ "<dd>2 ok, 1 failed, 1 uncertain, 1 skipped\n"
    assert html =~ "<dd>2026-11-26 20:03:20 UTC\n"
    assert html =~ "<dd>4.5 s, with 7.0 s of jobs\n"
    assert html =~ "jobs waited 2.5 s for limits"
    assert html =~ "400 in (160 cached), 28 out"
    assert html =~ "at least $0.75: the cost of 1 job is not known"
    cells = &Enum.map_join(&1, fn text -> ~s(<td class="label">#{text}</td>) end)
    assert html =~ "<tr>" <> cells.(["gpt-5", "3", "1", "6.0 s", "2.5 s"])
    assert html =~ "<tr>" <> cells.(["failed", "timeout", "1"])
    assert html =~ ~s(<rect class="bar wait")
    assert html =~ "<title>1: ok, 20:03:20 UTC, 4.0 s, 2.5 s of it for limits, 2 attempts"

    # The only script is that of the page.
    assert length(String.split(html, "<script")) == 2
    refute html =~ "<img"
    refute html =~ "\e"
    refute html =~ "\u202E"
    refute html =~ ~r/(src|href)="(?!#)/
    refute html =~ "at most 0"
    assert html([]) =~ "<title>Batch of 0 jobs</title>"
  end

  test "of many jobs, some are shown, with a marker; the page and the report stay small" do
    jobs =
      Stream.map(0..99_999, fn n ->
        failed = rem(n, 1_000) == 7
        status = if failed, do: :failed, else: :ok
        error = if failed, do: Error.new(:timeout, String.duplicate("x", 5_000))
        model = "model-#{rem(n, 500)}"
        key = String.duplicate("key #{n} ", 500)

        result(n, at: n * 37, duration_ms: rem(n, 997), status: status, error: error, key: key)
        |> Map.put(:model, model)
      end)

    {:ok, report} = Batch.report(jobs)
    assert report.jobs == 100_000 and report.counts == %{ok: 99_900, failed: 100}
    assert map_size(report.models) == 51 and report.models[:other].jobs == 90_000
    assert %{count: 100, keys: [_, _, _, _, _]} = report.failures[{:failed, :timeout}]
    assert :erts_debug.flat_size(report) * 8 < 1_000_000

    html = report |> Report.html() |> IO.iodata_to_binary()
    assert byte_size(html) < 1_000_000
    assert html =~ "300 of 100,000 jobs: those that were not ok, then those that took the longest"
    assert length(Regex.scan(~r/<div class="entry"/, html)) == 300
    assert length(Regex.scan(~r/<span class="badge failed">/, html)) == 100
  end

  test "columns of the chart get wider while the time grows, and lose no time" do
    parts = for n <- 1..500, do: {Enum.at([:ok, :bad, :wait], rem(n, 3)), n * 991, n * 1_009 + 7}
    timeline = parts |> Enum.shuffle() |> Enum.reduce(%Timeline{}, &Timeline.add(&2, &1))
    columns = Timeline.columns(timeline)
    assert length(columns) <= 242

    for class <- [:ok, :bad, :wait] do
      busy = for({^class, from, to} <- parts, do: to - from) |> Enum.sum()
      mean = columns |> Enum.map(&Map.get(&1, class, 0.0)) |> Enum.sum()
      assert_in_delta mean * timeline.step, busy, 1.0e-3
    end
  end

  test "other arguments are errors that name them" do
    for wrong <- [nil, 5, :a, [1 | 2], [%{status: :ok}], fn -> [] end] do
      assert {:error, %OptionError{path: [:results]}} = Batch.report(wrong)
    end

    assert {:error, %Error{kind: :config, message: message}} = Batch.report("/no/such/journal")
    assert message =~ "the journal /no/such/journal cannot be used"
    assert_raise OptionError, fn -> Report.add(Report.new(), :a) end
    assert_raise OptionError, fn -> Report.html(nil) end
    {:ok, report} = Batch.report([])
    assert {:error, {:write_failed, "/no/such/x", :enoent}} = Report.write(report, "/no/such/x")
  end

  test "a record of an older version is a result without the newer fields" do
    record =
      result(0, [])
      |> Recovery.record()
      |> Map.drop([:model, :waits])

    assert %Result{status: :ok, model: nil, waits: [], usd: 0.25} =
             Recovery.of_record("a", 0, record)
  end

  describe "of a batch" do
    @describetag :tmp_dir

    @echo """
    prompt=$(cat)
    mark="$(dirname "$0")/limited"
    echo "$started"
    case "$prompt" in
      fail*) echo '{"type":"turn.failed","error":{"message":"no"}}'; exit 1 ;;
      hang*) exec sleep 600 ;;
      limit*) if ! [ -e "$mark" ]; then
        touch "$mark"
        message="exceeded retry limit, last status: 429 Too Many Requests"
        echo '{"type":"turn.failed","error":{"message":"'"$message"'"}}'
        exit 1
      fi ;;
    esac
    echo '{"type":"item.completed","item":{"id":"0","type":"agent_message","text":"done"}}'
    echo "$completed"
    """

    defp options(dir, more) do
      client = [codex_path: Stub.write!(dir, @echo), codex_home: dir, model: "gpt-5"]
      [client: client, thread: [skip_git_repo_check: true]] ++ more
    end

    test "results have their model and their waits for limits", %{tmp_dir: dir} do
      limits = [shared: true, account: "report-#{System.unique_integer()}", default_delay_ms: 300]
      options = options(dir, journal: Path.join(dir, "journal"), max_concurrency: 1)
      jobs = [%{prompt: "limit", key: "l", options: [rate_limit_opts: limits]}, "fail", "b"]
      results = jobs |> Codex.map(& &1, options) |> Enum.to_list()

      assert [%{status: :ok, waits: [{%DateTime{}, ms} | _]}, %{status: :failed}, %{waits: []}] =
               results

      assert ms >= 300
      assert Enum.map(results, & &1.model) == ["gpt-5", "gpt-5", "gpt-5"]

      {:ok, live} = Batch.report(results)
      {:ok, journal} = Batch.report(Path.join(dir, "journal"))
      assert live.waited_ms >= 300
      public = &Map.drop(&1, [:rows, :timeline])
      assert public.(journal) == public.(live)
      assert Enum.map(Report.rows(journal), & &1.key) |> Enum.sort() == ["1", "2", "l"]

      # Results from the journal have them, too.
      assert jobs |> Codex.map(& &1, options) |> Enum.map(&{&1.model, &1.waits}) ==
               Enum.map(results, &{&1.model, &1.waits})
    end

    test "the code of the guide prints a report, and writes its page", %{tmp_dir: dir} do
      guide = File.read!(Path.expand("../../../guides/many.md", __DIR__))
      [code] = Regex.run(~r/## Report\n.*?```elixir\n(.*?)```/s, guide, capture: :all_but_first)
      journal = Path.join(dir, "night.journal")
      ["a", "fail"] |> Codex.map(& &1, options(dir, journal: journal)) |> Stream.run()
      code = String.replace(code, "\"night.", "\"#{dir}/night.")

      shown = capture_io(fn -> Code.eval_string(code) end)
      # The order of a map is that of the version of OTP.
      assert shown =~ ~r/^jobs: %{(failed: 1, ok: 1|ok: 1, failed: 1)}$/m
      assert shown =~ ~r/^1 failed \(\w+\): 1$/m
      assert File.read!(Path.join(dir, "night.html")) =~ "<title>Batch of 2 jobs</title>"
    end

    test "a journal is read while its batch runs", %{tmp_dir: dir} do
      journal = Path.join(dir, "journal")
      options = options(dir, journal: journal, max_concurrency: 2, ordered: false)
      {:ok, batch} = Batch.new(["a", "hang", "b"], options)
      test = self()

      spawn_link(fn ->
        Enum.each(batch, &send(test, {:result, &1.key}))
        send(test, :over)
      end)

      assert_receive {:result, _}, 60_000
      assert_receive {:result, _}, 60_000
      {:ok, report} = Batch.report(journal)
      assert {report.jobs, report.counts, report.unfinished} == {2, %{ok: 2}, %{begun: 1}}
      assert report |> Report.html() |> IO.iodata_to_binary() =~ "1 begun, without a result"
      assert :ok = Batch.cancel(batch)
      assert_receive :over, 60_000
    end

    test "a file that is no journal is refused", %{tmp_dir: dir} do
      other = Path.join(dir, "other")

      for text <- ["", "text", String.duplicate("text", 1_000)] do
        File.write!(other, text)
        assert {:error, %Error{kind: :config}} = Batch.report(other)
        assert File.read!(other) == text
      end
    end
  end

  describe "in a browser" do
    @describetag :chromium
    @describetag :tmp_dir

    defp page(dir) do
      file = Path.join(dir, "batch.html")
      {:ok, report} = Batch.report(results())
      :ok = Report.write(report, file)
      assert File.stat!(file).mode |> Bitwise.band(0o777) == 0o600
      file
    end

    test "texts run nothing, and the search finds jobs", %{tmp_dir: dir} do
      file = page(dir)
      dom = Chromium.dom!(file)
      assert dom =~ "<title>Batch of 5 jobs</title>"
      refute dom =~ "<title>owned"
      assert dom =~ ~s(<div class="search">)

      found = Chromium.dom!(file <> "#search=lib/a.ex")
      assert found =~ ~s(<output class="muted">1 of 5</output>)
      assert length(Regex.scan(~r/<div class="entry"[^>]* hidden=""/, found)) == 4
    end

    test "it fits a phone, in light and dark", %{tmp_dir: dir} do
      file = page(dir)
      light = Chromium.pixels!(file, dir, size: {390, 800})
      dark = Chromium.pixels!(file, dir, size: {390, 800}, dark: true)
      assert light.corner > 200 and dark.corner < 60
    end
  end
end
