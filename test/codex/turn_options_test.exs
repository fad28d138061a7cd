defmodule Codex.TurnOptionsTest do
  # Options that show a turn besides its result: `on_event` and `keep`, on both transports.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Stub, only: [eventually: 1, running: 1]
  import Codex.Test.Steps
  alias Codex.{Error, Events, Exec, Items, RunResultStreaming, Stub, Thread}

  @moduletag :tmp_dir

  # The same script on both transports.
  defp threads(script, opts \\ []) do
    {_model, exec} = Codex.Scripted.start(script, [], opts)
    model = Codex.Test.start!(script)
    [exec, thread!(model, connect!(model), opts)]
  end

  describe "on_event" do
    @describetag :codex_cli

    test "gets the events of the result, in order, in the process that waits" do
      for thread <- threads([respond([shell("true")]), "done"]) do
        test = self()

        {:ok, result} =
          Thread.run(thread, "hi", on_event: fn event -> send(test, {self(), event}) end)

        assert result.final_response.text == "done"
        for event <- result.events, do: assert_received({^test, ^event})
        refute_received {_, _}
      end
    end

    test "gets decoded messages, and works for reviews and run_auto" do
      for thread <- threads([json(%{a: 1})]) do
        test = self()
        tell = &send(test, {:event, &1})
        schema = %{"type" => "object"}

        assert {:ok, _} =
                 Thread.run_auto(thread, "hi", turn_opts: [on_event: tell, output_schema: schema])

        assert_received {:event, %Events.ItemCompleted{item: %{parsed: %{"a" => 1}}}}
      end

      for thread <- threads([json(%{findings: [], overall_correctness: "patch is correct"})]) do
        test = self()

        assert {:error, {:exec_failed, %Error{kind: :interrupted}}} =
                 Thread.review(thread, "look",
                   on_event: fn event -> send(test, event) && :halt end
                 )

        assert_received %Events.ThreadStarted{}
        refute_received %Events.TurnStarted{}
      end
    end

    test "stops the turn, with the result so far; the thread goes on" do
      for thread <- threads(["one", silence(:infinity), "two"]) do
        {:ok, %{thread: thread}} = Thread.run(thread, "first")

        for {answer, reason, words} <- [
              {:halt, nil, "on_event stopped the turn"},
              {{:halt, :budget}, :budget, "on_event stopped the turn: budget"},
              {{:halt, "too dear\e[2J"}, "too dear\e[2J", "on_event stopped the turn: too dear"},
              {{:halt, {1, 2}}, {1, 2}, "on_event stopped the turn"}
            ] do
          stop = fn event -> if match?(%Events.TurnStarted{}, event), do: answer end
          assert {:error, {:exec_failed, error}} = Thread.run(thread, "hi", on_event: stop)
          assert %Error{kind: :interrupted, message: ^words, retryable?: false} = error
          assert error.details.reason == reason
          assert [%Events.ThreadStarted{} | _] = error.result.events
          assert error.result.thread.thread_id == thread.thread_id
        end

        refute Enum.any?(Codex.running(), &(&1.pid == self()))
      end
    end

    test "that fails is an error of the run, and nothing runs on" do
      seconds = "35#{System.unique_integer([:positive])}.5"
      script = for _ <- 1..3, do: respond([shell("sleep #{seconds}", yield_time_ms: 30_000)])
      options = [sandbox: :danger_full_access]

      for thread <- threads(script, options),
          {fail, words} <- [
            {fn -> raise "boom" end, "on_event failed: ** (RuntimeError) boom"},
            {fn -> throw(:ball) end, "on_event failed: ** (throw) :ball"},
            {fn -> exit(:away) end, "on_event failed: ** (exit) :away"}
          ],
          thread.transport == :exec or words =~ "boom" do
        crash = fn
          %Events.ItemStarted{item: %Items.CommandExecution{}} -> fail.()
          _event -> :ok
        end

        assert {:error, {:exec_failed, %Error{} = error}} =
                 Thread.run(thread, "hi", on_event: crash)

        assert error.kind == :tool_failure and error.message =~ words
        assert [_ | _] = error.details.stacktrace
        assert error.details.raw in [%RuntimeError{message: "boom"}, :ball, :away]
        assert Enum.any?(error.result.events, &match?(%Events.ItemStarted{}, &1))

        if thread.transport == :exec,
          do: assert(eventually(fn -> running("sleep #{seconds}") == [] end))
      end
    end

    test "hears of a failed turn, which is the error whatever it returns" do
      for thread <- threads([http_error(400, "bad request")]) do
        stop = fn event -> if match?(%Events.TurnFailed{}, event), do: :halt end
        assert {:error, {:turn_failed, error}} = Thread.run(thread, "hi", on_event: stop)
        assert error.message =~ "bad request"
      end
    end
  end

  test "on_event is an option of Codex.Exec, too", %{tmp_dir: dir} do
    thread = Stub.thread(dir, ~s(echo "$turn"; sleep 3600))
    test = self()
    opts = fn on_event -> [codex_opts: thread.codex_opts, turn_opts: [on_event: on_event]] end

    stop = fn event ->
      send(test, event) && if(match?(%Events.ItemCompleted{}, event), do: :halt)
    end

    assert {:error, %Codex.TransportError{reason_code: :interrupted, result: result}} =
             Exec.run("hi", opts.(stop))

    assert [%Events.ThreadStarted{}, %Events.ItemCompleted{}] = result.events
    assert_received %Events.ItemCompleted{}

    assert {:error, %Codex.TransportError{reason_code: :tool_failure}} =
             Exec.run("hi", opts.(fn _ -> raise "boom" end))
  end

  test "options that a call has no use for are refused by name", %{tmp_dir: dir} do
    exec = Stub.thread(dir, "exit 1")
    app_server = %{exec | transport: {:app_server, self()}}
    listen = [on_event: fn _ -> :ok end]

    for thread <- [exec, app_server],
        stream <- [&Thread.run_streamed/3, &Thread.run_turn_streamed/3, &Thread.review_streamed/3] do
      assert stream.(thread, "hi", listen) == {:error, {:unsupported_option, :on_event}}
    end

    for thread <- [exec, app_server],
        stream <- [&Thread.run_turn_streamed/3, &Thread.review_streamed/3] do
      assert stream.(thread, "hi", keep: [:raw]) == {:error, {:unsupported_option, :keep}}
    end

    opts = [codex_opts: exec.codex_opts, thread: exec, turn_opts: listen]
    assert Exec.run_stream("hi", opts) == {:error, {:unsupported_option, :on_event}}

    for odd <- [:no, fn -> :ok end, {IO, :inspect}],
        do:
          assert(
            {:error, %Codex.OptionError{key: :on_event, value: ^odd}} =
              Thread.run(exec, "hi", on_event: odd)
          )

    for odd <- [:raw, [:all], true],
        do:
          assert(
            {:error, %Codex.OptionError{key: :keep, value: ^odd}} =
              Thread.run(exec, "hi", keep: odd)
          )
  end

  describe "keep" do
    test "gives the lines and the stderr of a good run of codex exec", %{tmp_dir: dir} do
      thread = Stub.thread(dir, ~S(echo "warming up" >&2; printf '%s\r\n' "$turn"))
      {:ok, result} = Thread.run(thread, "hi", keep: [:raw, :stderr])
      assert result.raw.stderr =~ "warming up"
      refute result.raw.json_truncated?

      types =
        for line <- result.raw.json, {:ok, %{"type" => type}} = Codex.JSON.decode(line), do: type

      assert types == ["thread.started", "item.completed", "turn.completed"]
      assert length(result.raw.events) == 3

      {:ok, result} = Thread.run(thread, "hi", keep: [:stderr])
      refute Map.has_key?(result.raw, :json)
      {:ok, result} = Thread.run(thread, "hi")

      assert Map.keys(result.raw) --
               [:events, :pruned?, :structured_output?, :tool_failures, :tool_outputs] == []

      opts = [codex_opts: thread.codex_opts, turn_opts: [keep: [:raw]]]
      assert {:ok, %{json: [_, _, _], events: [_, _, _]}} = Exec.run("hi", opts)
    end

    test "is bounded, and whole lines are left", %{tmp_dir: dir} do
      line =
        ~s({"type":"item.completed","item":{"id":"i","type":"reasoning","text":"#{String.duplicate("x", 1000)}"}})

      File.write!(Path.join(dir, "lines"), List.duplicate([line, "\n"], 9_000))

      thread =
        Stub.thread(
          dir,
          ~s(echo "$started"; cat #{dir}/lines; echo "$message"; echo "$completed")
        )

      {:ok, result} = Thread.run(thread, "hi", keep: [:raw])
      assert result.raw.json_truncated?
      assert result.raw.json |> tl() |> Enum.uniq() == [line]
      assert IO.iodata_length(result.raw.json) in 8_000_000..8_388_608
    end

    test "survives retries, failures and keys in stderr", %{tmp_dir: dir} do
      body =
        ~s(echo "key sk-secret-12345" >&2; if mkdir #{dir}/once; then exit 75; fi; echo "$turn")

      {:ok, client} =
        Codex.Options.new(codex_path: Stub.write!(dir, body), api_key: "sk-secret-12345")

      {:ok, options} = Codex.Thread.Options.new([])
      thread = Thread.build(client, options)
      opts = [keep: [:raw, :stderr], retry: true, retry_opts: [base_delay_ms: 1]]
      assert {:ok, %{attempts: 2, raw: raw}} = Thread.run(thread, "hi", opts)
      assert [_, _, _] = raw.json
      assert raw.stderr =~ "key [redacted]"

      thread = Stub.thread(dir, ~s(echo "$started"; echo "odd" >&2; exit 1))

      assert {:error, {:exec_failed, %{result: result}}} =
               Thread.run(thread, "hi", keep: [:raw, :stderr])

      assert [_started] = result.raw.json
      assert result.raw.stderr =~ "odd"
    end

    @tag :codex_cli
    test "is there for streamed runs, and over an app-server" do
      for thread <- threads(["fine", "again"]) do
        {:ok, run} = Thread.run_streamed(thread, "hi", keep: [:raw])
        assert Enum.any?(RunResultStreaming.raw_events(run))
        {:ok, %{raw: raw}} = Thread.run(thread, "hi", keep: [:raw, :stderr])
        assert is_binary(raw.stderr)
        decoded = for line <- raw.json, {:ok, map} = Codex.JSON.decode(line), do: map
        last = List.last(decoded)
        assert last["type"] == "turn.completed" or last["method"] == "turn/completed"
      end
    end
  end
end
