defmodule Codex.Turn.TeeTest do
  # The option `tee`, on all transports.
  use ExUnit.Case, async: true

  import Bitwise, only: [&&&: 2]
  import Codex.Connected
  import Codex.Stub, only: [eventually: 1]
  import Codex.Test.Steps
  alias Codex.{Error, Events, Exec, Items, JSON, Stub, Thread}
  alias Codex.Turn.Tee
  alias Codex.Turn.Tee.{Log, Mask, Writer}

  doctest Mask

  @moduletag :tmp_dir

  @key "sk-secret-of-tee-12345"

  setup context do
    if dir = context[:tmp_dir], do: %{tee: Path.join(dir, "tee")}, else: :ok
  end

  defp runs(folder), do: folder |> File.ls!() |> Enum.sort() |> Enum.map(&Path.join(folder, &1))

  defp run_of(folder) do
    assert [run] = runs(folder)
    run
  end

  defp lines(run, name) do
    for line <- run |> Path.join(name) |> File.read!() |> String.split("\n", trim: true) do
      assert {:ok, map} = JSON.decode(line)
      map
    end
  end

  defp types(run), do: Enum.map(lines(run, "events.jsonl"), & &1["type"])
  defp mode(path), do: File.stat!(path).mode &&& 0o777

  defp all(run), do: run |> Path.join("*") |> Path.wildcard() |> Enum.map_join(&File.read!/1)

  defp stub(dir, body, client, thread) do
    {:ok, thread} = Codex.start_thread([codex_path: Stub.write!(dir, body)] ++ client, thread)
    thread
  end

  describe "a run of codex exec" do
    test "is written as it came, to files of this user alone", %{tmp_dir: dir, tee: tee} do
      thread = Stub.thread(dir, ~S(echo "warming up" >&2; printf '%s\r\n' "$turn"))
      {:ok, result} = Thread.run(thread, "hi", tee: tee, keep: [:raw])
      run = run_of(tee)
      assert %{path: ^run, dropped_bytes: 0, error: nil} = result.raw.tee
      assert result.warnings == []

      assert {mode(tee), mode(run)} == {0o700, 0o700}
      assert Enum.sort(File.ls!(run)) == ["events.jsonl", "raw.jsonl", "stderr.log"]
      for name <- File.ls!(run), do: assert(mode(Path.join(run, name)) == 0o600)

      raw = File.read!(Path.join(run, "raw.jsonl"))
      assert raw =~ "\r\n"
      assert String.split(raw, ["\r\n", "\n"], trim: true) == result.raw.json
      assert File.read!(Path.join(run, "stderr.log")) == "warming up\n"

      assert types(run) ==
               ["codex_sdk.run", "thread.started", "item.completed", "turn.completed"] ++
                 ["codex_sdk.end"]

      written = for name <- File.ls!(run), do: File.stat!(Path.join(run, name)).size
      assert result.raw.tee.bytes == Enum.sum(written)

      assert %{"reason" => "done", "dropped_bytes" => 0} =
               run |> lines("events.jsonl") |> List.last()
    end

    test "works in each mode, for Codex.Exec, and as an option of the thread", %{
      tmp_dir: dir,
      tee: tee
    } do
      thread = stub(dir, ~s(echo "$turn"), [], tee: tee)
      {:ok, run} = Thread.run_streamed(thread, "hi")
      assert [_ | _] = run |> Codex.RunResultStreaming.raw_events() |> Enum.to_list()
      {:ok, events} = Thread.run_turn_streamed(thread, "hi")
      assert %Events.TurnCompleted{} = events |> Enum.to_list() |> List.last()
      # A reader that stops.
      {:ok, events} = Thread.run_turn_streamed(thread, "hi")
      assert [%Events.ThreadStarted{}] = Enum.take(events, 1)
      opts = [codex_opts: thread.codex_opts, turn_opts: [tee: tee]]
      assert {:ok, %{tee: %{error: nil}}} = Exec.run("hi", opts)

      assert [_, _, _, _] = runs = runs(tee)
      for run <- runs, do: assert("codex_sdk.end" == List.last(types(run)))
    end

    test "holds attempts and failures, and two runs have two folders", %{
      tmp_dir: dir,
      tee: tee
    } do
      body = ~s(echo "odd" >&2; if mkdir #{dir}/once; then exit 75; fi; echo "$turn")
      opts = [tee: tee, retry: true, retry_opts: [base_delay_ms: 1]]

      tasks =
        for _ <- 1..2 do
          Task.async(fn -> Thread.run(Stub.thread(dir, body), "hi", opts) end)
        end

      results = for task <- tasks, do: Task.await(task, 30_000)
      assert Enum.sort(for {:ok, result} <- results, do: result.attempts) == [1, 2]

      assert [_, _] = runs(tee)
      {:ok, retried} = Enum.find(results, fn {:ok, result} -> result.attempts == 2 end)
      assert "codex_sdk.failed" in types(retried.raw.tee.path)
      assert File.read!(Path.join(retried.raw.tee.path, "stderr.log")) =~ "odd\nodd\n"

      broken = Stub.thread(dir, ~s(echo "$started"; echo "it broke" >&2; exit 1))
      assert {:error, {:exec_failed, error}} = Thread.run(broken, "hi", tee: tee)
      run = error.result.raw.tee.path
      assert File.read!(Path.join(run, "stderr.log")) == "it broke\n"
      assert %{"kind" => "crashed"} = Enum.find(lines(run, "events.jsonl"), & &1["kind"])
    end

    test "holds no secrets of options and variables, and no keys", %{tmp_dir: dir, tee: tee} do
      shaped = "sk-proj-abcdefghij"
      quoted = ~s(p"a\\ss\nthe-word)

      texts = "#{@key} value-of-a-token #{quoted} and\n#{shaped} Bearer abcdefghijk"

      twice = JSON.encode!(%{"a" => texts})
      item = %{"id" => "i", "type" => "agent_message", "text" => texts <> twice}

      File.write!(
        Path.join(dir, "line"),
        JSON.encode!(%{"type" => "item.completed", "item" => item})
      )

      File.write!(Path.join(dir, "stderr"), "said #{texts} in\n")

      # Cut anywhere: the bytes come one by one.
      body =
        ~s(echo "$started"; dd if=#{dir}/line bs=7 2>/dev/null; echo; cat #{dir}/stderr >&2; ) <>
          ~s(echo "$completed")

      client = [api_key: @key, env: %{"MY_TOKEN" => "value-of-a-token", "A_SECRET" => quoted}]
      thread = stub(dir, body, client, tee: tee)
      assert {:ok, _} = Thread.run(thread, "hi")
      run = run_of(tee)
      written = all(run)

      for secret <-
            [@key, "value-of-a-token", quoted, "the-word", shaped] ++
              ["abcdefghijk"],
          do: refute(written =~ secret)

      assert [_, %{"item" => %{"text" => "[redacted] [redacted]" <> _}}, _] =
               lines(run, "raw.jsonl")

      assert File.read!(Path.join(run, "stderr.log")) =~ "said [redacted] [redacted] "
    end

    test "is rotated by size, and the oldest files are removed", %{tmp_dir: dir, tee: tee} do
      body =
        ~s(echo "$started"; for i in $(seq 100\); do echo "$message"; done; echo "$completed")

      thread = Stub.thread(dir, body)
      limits = [folder: tee, max_bytes: 1_000, max_files: 3]
      assert {:ok, %{raw: %{tee: %{dropped_bytes: 0}}}} = Thread.run(thread, "hi", tee: limits)
      run = run_of(tee)

      for base <- ["raw.jsonl", "events.jsonl"], name <- [base, base <> ".1", base <> ".2"] do
        path = Path.join(run, name)
        assert mode(path) == 0o600
        assert File.stat!(path).size in 1..1_000
        assert [_ | _] = lines(run, name)
      end

      refute File.exists?(Path.join(run, "raw.jsonl.3"))
      assert %{"type" => "turn.completed"} = run |> lines("raw.jsonl") |> List.last()
      limits = %{"folder" => tee, "max_bytes" => 500, "max_files" => 1}
      assert {:ok, %{raw: %{tee: %{path: run}}}} = Thread.run(thread, "hi", tee: limits)
      assert Enum.sort(File.ls!(run)) == ["events.jsonl", "raw.jsonl"]
    end

    test "is complete up to a reader that is killed", %{tmp_dir: dir, tee: tee} do
      thread = Stub.thread(dir, ~s(echo "$started"; echo "$message"; exec sleep 60))
      test = self()

      {pid, ref} =
        spawn_monitor(fn ->
          tell = fn event -> match?(%Events.ItemCompleted{}, event) && send(test, :there) end
          Thread.run(thread, "hi", tee: tee, on_event: tell)
        end)

      assert_receive :there, 10_000
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^ref, _, _, :killed}
      run = run_of(tee)
      assert eventually(fn -> List.last(types(run)) == "codex_sdk.end" end)
      assert %{"reason" => "the reader has ended"} = run |> lines("events.jsonl") |> List.last()
      assert [_started, %{"type" => "item.completed"}] = lines(run, "raw.jsonl")
    end
  end

  describe "a folder" do
    test "that cannot be written is an error before the run", %{tmp_dir: dir, tee: tee} do
      File.write!(tee, "a file")
      thread = Stub.thread(dir, ~s(touch #{dir}/ran; echo "$turn"))

      for path <- [tee, Path.join(tee, "below")] do
        assert {:error, {:unwritable_tee, ^path, _words} = reason} =
                 Thread.run(thread, "hi", tee: path)

        assert %Error{kind: :config, message: message} = Error.normalize(reason)
        assert message =~ "option tee"
        assert message =~ path
      end

      refute File.exists?(Path.join(dir, "ran"))
      # A folder that is there keeps its mode.
      shared = Path.join(dir, "shared")
      File.mkdir!(shared)
      File.chmod!(shared, 0o755)
      assert {:ok, _} = Thread.run(thread, "hi", tee: shared)
      assert {mode(shared), mode(run_of(shared))} == {0o755, 0o700}
    end

    test "that is lost during the run is a warning of the result", %{tmp_dir: dir, tee: tee} do
      body =
        ~s(echo "$started"; while test -d #{tee}; do sleep 0.05; done; echo "$message"; echo "$completed")

      thread = Stub.thread(dir, body)
      # Each line is a file of its own.
      limits = [folder: tee, max_bytes: 1, max_files: 2]
      lose = fn event -> if match?(%Events.ThreadStarted{}, event), do: lose(tee) end
      assert {:ok, result} = Thread.run(thread, "hi", tee: limits, on_event: lose)
      assert result.final_response.text != nil
      assert %{dropped_bytes: lost, error: "no such file or directory"} = result.raw.tee
      assert lost > 0
      assert [warning] = result.warnings
      assert warning =~ "are incomplete: no such file or directory"

      # A stream has it as an item.
      {:ok, events} = Thread.run_turn_streamed(thread, "hi", tee: limits)
      items = for %Events.ItemCompleted{item: item} <- Stream.each(events, lose), do: item
      assert %Items.Error{message: message} = List.last(items)
      assert message =~ "are incomplete: no such file or directory"
    end

    defp lose(tee) do
      # The writer makes it when it can.
      assert eventually(fn -> match?([_], File.ls!(tee)) end)
      File.rename!(tee, "#{tee}-#{System.unique_integer([:positive])}")
      nil
    end

    test "is an option that must name one", %{tmp_dir: dir} do
      thread = Stub.thread(dir, "exit 1")

      for odd <- [[], [max_bytes: 1], :raw, 7, "", "a\0b"] do
        assert {:error, %Codex.OptionError{key: :tee}} = Thread.run(thread, "hi", tee: odd)
      end

      for {key, odd} <- [max_bytes: 0, max_files: 0, max_file: 1] do
        assert {:error, %Codex.OptionError{path: [:tee, ^key]}} =
                 Thread.run(thread, "hi", tee: [{key, odd}, {:folder, dir}])
      end
    end
  end

  describe "the writer" do
    defp writer(tee, opts \\ []) do
      counters = :atomics.new(4, signed: false)
      # The calling process counts as the one that reads.
      start = %{
        owner: self(),
        path: Path.join(tee, "run"),
        limits: %{max_bytes: 1_000_000_000, max_files: 2},
        patterns: opts[:patterns] || [],
        taken: &:atomics.sub(counters, 1, &1),
        dropped: fn stream -> :atomics.get(counters, %{raw: 2, stderr: 3, events: 4}[stream]) end,
        telemetry: nil,
        run: %{}
      }

      pid = spawn_link(fn -> Writer.run(start) end)
      %Tee{pid: pid, counters: counters, path: start.path}
    end

    test "never lets the turn wait: what it cannot take is dropped, counted and marked", %{
      tee: tee
    } do
      tee = writer(tee)
      :erlang.suspend_process(tee.pid)
      line = [String.duplicate("x", 1_023), "\n"] |> IO.iodata_to_binary()
      # Twice the limit.
      for _ <- 1..(16 * 1024), do: :ok = Tee.bytes(tee, :raw, line)
      :ok = Tee.bytes(tee, :raw, "the rest of a lost line\n")
      :ok = Tee.bytes(tee, :stderr, "lost, too\n")
      {:message_queue_len, waiting} = Process.info(tee.pid, :message_queue_len)
      assert waiting == 8 * 1024
      :erlang.resume_process(tee.pid)
      assert eventually(fn -> :atomics.get(tee.counters, 1) == 0 end)
      :ok = Tee.bytes(tee, :raw, "cut\nwhole\n")
      [{:extras, %{tee: summary}}, {:warnings, [warning]}] = Tee.finish(tee)
      assert warning =~ "lack #{summary.dropped_bytes} bytes"
      raw = tee.path |> Path.join("raw.jsonl") |> File.read!() |> String.split("\n", trim: true)
      assert length(raw) == 8 * 1024 + 2
      lost = 8 * 1024 * 1024 + 24
      assert ["whole", mark | _] = Enum.reverse(raw)
      assert JSON.decode(mark) == {:ok, %{"type" => "codex_sdk.dropped", "bytes" => lost}}

      assert File.read!(Path.join(tee.path, "stderr.log")) ==
               "[codex_sdk: 10 bytes were dropped]\n"

      # With the part of a line after the gap.
      assert summary.dropped_bytes == lost + 10 + 4
      refute Process.alive?(tee.pid)
    end

    test "keeps lines below a limit in memory, and drops a longer one", %{tee: tee} do
      tee = writer(tee)
      part = String.duplicate("y", 1024 * 1024)

      for _ <- 1..20 do
        :ok = Tee.bytes(tee, :raw, part)
        assert eventually(fn -> :atomics.get(tee.counters, 1) == 0 end)
      end

      :ok = Tee.bytes(tee, :raw, "end\nnext\nopen")
      [{:extras, %{tee: summary}}, {:warnings, _}] = Tee.finish(tee)

      assert [mark, "next", "open"] =
               File.read!(Path.join(tee.path, "raw.jsonl")) |> String.split("\n", trim: true)

      assert mark =~ "codex_sdk.dropped"
      assert summary.dropped_bytes == 20 * 1024 * 1024 + 4
    end

    test "masks the patterns of the option redact, and lines stay JSON", %{tee: tee} do
      tee = writer(tee, patterns: ["hunter2", ~r/card=.*/])
      :ok = Tee.bytes(tee, :raw, ~s({"b": "card=1", "a": {"c": "card=2 \\n 3"}}\n{"b":  1}\n))
      :ok = Tee.bytes(tee, :stderr, "a card=4\n\xFF hunter2")
      assert [{:extras, _}] = Tee.finish(tee)
      # A line without a match is as it came.
      assert File.read!(Path.join(tee.path, "raw.jsonl")) ==
               ~s({"a":{"c":"[redacted]\\n 3"},"b":"[redacted]"}\n{"b":  1}\n)

      assert File.read!(Path.join(tee.path, "stderr.log")) == "a [redacted]\n\uFFFD [redacted]\n"
    end

    test "masks secrets that pieces of a text cut", %{tee: tee} do
      tee = writer(tee, patterns: ["hunter2"])

      piece = fn text ->
        {:notification, "item/agentMessage/delta", %{"itemId" => "m", "delta" => text}}
      end

      event = fn text -> %Events.ItemAgentMessageDelta{item: %{"id" => "m", "text" => text}} end

      for text <- ["the ", "hun", "ter2 is\n", "hunt", "er", "2"] do
        :ok = Tee.terms(tee, :raw, [piece.(text)])
        :ok = Tee.terms(tee, :events, [event.(text)])
      end

      done = %{"item" => %{"id" => "m", "text" => "the hunter2"}}

      :ok =
        Tee.terms(tee, :raw, [{:notification, "item/completed", done}, piece.("left hunter2")])

      assert [{:extras, %{tee: %{dropped_bytes: 0}}}] = Tee.finish(tee)

      assert ["the [redacted] is\n", "[redacted]", nil, "left [redacted]"] =
               for(line <- lines(tee.path, "raw.jsonl"), do: line["params"]["delta"])

      texts = for %{"item" => %{"text" => text}} <- lines(tee.path, "events.jsonl"), do: text
      assert texts == ["the [redacted] is\n", "[redacted]"]
    end

    test "reports a crash, and a file system without an answer is no hang", %{tee: tee} do
      tee = writer(tee)
      Process.unlink(tee.pid)
      Process.exit(tee.pid, :kill)
      assert [{:extras, _}, {:warnings, [warning]}] = Tee.finish(tee)
      assert warning =~ "its writer has crashed"
    end
  end

  test "a file is rotated around data that is longer than its limit", %{tmp_dir: dir} do
    log = %Log{path: Path.join(dir, "log"), max_bytes: 4, max_files: 3}

    log =
      Enum.reduce(["ab", "cd", "too long", "e"], log, fn data, log ->
        elem({:ok, _} = Log.write(log, [data]), 1)
      end)

    :ok = Log.close(log)

    assert for(name <- ["log", "log.1", "log.2"], do: File.read!(Path.join(dir, name))) == [
             "e",
             "too long",
             "abcd"
           ]

    assert Log.write(%{log | path: Path.join(dir, "none/log"), device: nil}, ["x"]) ==
             {:error, :enoent}
  end

  describe "the real CLI" do
    @describetag :codex_cli

    test "over codex exec, an app-server and a pool", %{tmp_dir: dir} do
      script = [
        respond([shell("echo #{@key} hunter2")]),
        "the key is #{@key} and hunter2",
        respond([shell("echo #{@key} hunter2")]),
        "the key is #{@key} and hunter2"
      ]

      {_model, exec} = Codex.Scripted.start(script)
      app = Codex.Test.start!(script)
      server = [env: %{"SOME_TOKEN" => @key}]
      other = Codex.Test.start!(script)
      pool = [name: __MODULE__.Pool, max: 1, client: Codex.Test.options(other)]
      start_supervised!({Codex.Pool, pool ++ [server: [cwd: other.workspace] ++ server]})
      options = Codex.Test.thread_options(other) ++ [transport: {:pool, __MODULE__.Pool}]
      {:ok, pool} = Codex.start_thread([], options)

      for {name, thread, own} <- [
            {"exec", exec, server},
            {"app", thread!(app, connect!(app, server)), []},
            {"pool", pool, []}
          ] do
        tee = Path.join(dir, name)
        options = [tee: tee, redact: ["hunter2"]] ++ own
        assert {:ok, result} = Thread.run(thread, "hi", options)
        run = run_of(tee)
        assert %{path: ^run, dropped_bytes: 0, error: nil} = result.raw.tee
        refute all(run) =~ @key
        refute all(run) =~ "hunter2"
        raw = for line <- lines(run, "raw.jsonl"), do: line["type"] || line["method"]
        assert String.replace(List.last(raw), "/", ".") == "turn.completed"
        assert ["codex_sdk.run", "thread.started" | _] = types = types(run)
        assert ["codex_sdk.end", "turn.completed" | _] = Enum.reverse(types)
        # The model's text is there, whatever it is masked with.
        assert all(run) =~ "the key is [redacted] and [redacted]"
      end
    end
  end
end
