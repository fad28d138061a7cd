defmodule Codex.TelemetryTest do
  # The whole VM has `:telemetry`, or has not.
  use ExUnit.Case, async: false

  import Codex.Test.Steps
  import Codex.TelemetryStandIn
  import ExUnit.CaptureLog
  alias Codex.{Approvals, AppServer, Events, Exec, Items, Stub, Telemetry, Test, Thread}
  alias Codex.CLI.Session
  alias Codex.Telemetry.Table
  alias Codex.Turn.{Job, Span}

  # `Codex.TelemetryStandIn` defines it.
  @compile {:no_warn_undefined, :telemetry}

  doctest Codex.Telemetry

  @moduletag :tmp_dir

  @prompt "a prompt with private words"
  @command ~s(printf '%s\\n' '{"type":"item.started","item":{"id":"item_1","type":"command_execution","command":"make","aggregated_output":"","exit_code":null,"status":"in_progress"}}')
  @failed ~s(printf '%s\\n' '{"type":"item.completed","item":{"id":"item_1","type":"command_execution","command":"make","aggregated_output":"private output","exit_code":2,"status":"failed"}}')

  defp names(told), do: for({name, _, _} <- told, do: name)

  defp of(told, name), do: for({event, _, _} = one <- told, event == name, do: one)

  # Every event has exactly the keys of the table, and the same turn.
  defp check!(told, content? \\ false) do
    for {name, measurements, metadata} <- told do
      {wanted, known, content} = Table.keys(name)
      known = if content?, do: known ++ content, else: known
      assert {name, Enum.sort(Map.keys(measurements))} == {name, Enum.sort(wanted)}
      assert {name, Enum.sort(Map.keys(metadata))} == {name, Enum.sort(known)}
    end

    tokens = for {_, _, %{span_token: token}} <- told, uniq: true, do: token
    assert length(tokens) <= 1
    told
  end

  describe "without :telemetry" do
    test "nothing happens, and a run is unchanged", %{tmp_dir: dir} do
      refute Telemetry.listening?()
      assert Telemetry.execute([:codex, :x], %{}, %{}) == :ok
      assert Telemetry.emit([:codex, :x]) == :ok
      assert Telemetry.attach_default_logger() == {:error, :no_telemetry}
      assert {:ok, _} = Thread.run(Stub.thread(dir, ~s(cat >/dev/null; echo "$turn")), @prompt)
    end
  end

  describe "the switch for debugging" do
    setup do
      :ok = Telemetry.debug(true)
      on_exit(fn -> Telemetry.debug(false) end)
    end

    test "writes all of a run of codex exec, without keys and without :telemetry", %{tmp_dir: dir} do
      body =
        ~S(echo "the key is sk-secret-123456" >&2; printf 'odd \033[31mred\n' >&2; cat >/dev/null; echo "$turn")

      thread = Stub.thread(dir, body, api_key: "sk-secret-123456", model: "gpt-test")
      log = capture_log(fn -> assert {:ok, _} = Thread.run(thread, @prompt) end)

      assert log =~ ~r/codex exec \d+ started: \["[^"]+", "exec"/
      assert log =~ ~s("gpt-test") and log =~ ~s("CODEX_API_KEY") and log =~ "stdin_bytes: "
      assert log =~ ~r/event %Codex.Events.ThreadStarted{/
      assert log =~ ~s(text: "Hello")
      assert log =~ "stderr: the key is [redacted]"
      assert log =~ "stderr: odd red"
      assert log =~ ~r/ended with status 0 after \d+ ms, 3 events in \d+ bytes and \d+ frames/
      refute log =~ "sk-secret" or log =~ "\e[31m"

      :ok = Telemetry.debug(false)
      refute capture_log(fn -> Thread.run(thread, @prompt) end) =~ "codex exec"
    end

    @tag :codex_cli
    test "writes all of a connection, and a level can be chosen" do
      :ok = Telemetry.debug(:warning)
      model = Test.start!(["fine"])

      log =
        capture_log(fn ->
          {:ok, conn} = AppServer.connect(Test.options(model), cwd: model.workspace)
          {:ok, thread} = Codex.start_thread([], transport: {:app_server, conn})
          assert {:ok, _} = Thread.run(thread, @prompt)
          login = %{"type" => "apiKey", "apiKey" => "sk-over-the-wire"}
          _ = AppServer.request(conn, "account/login/start", login)
          :ok = AppServer.disconnect(conn)
        end)

      assert log =~ "[warning]" or log =~ "[warn]"
      assert log =~ ~r/codex app-server \d+ started: \["[^"]+", "app-server"/
      assert log =~ ~s("CODEX_HOME")
      assert log =~ ~r/codex connection #PID<[^>]+> -> %{.*"initialize"/
      assert log =~ ~s("method" => "turn/start") and log =~ @prompt
      assert log =~ ~r/<- {:notification, "turn\/completed"/
      assert log =~ ~r/app-server \d+ ended with /
      assert log =~ ~s("apiKey" => "[redacted]")
      refute log =~ "sk-over-the-wire"
    end

    test "takes a boolean or a level" do
      assert_raise ArgumentError, ~r/expected a boolean or one of \[:debug/, fn ->
        Telemetry.debug(:loud)
      end
    end
  end

  describe "with :telemetry" do
    setup do: load!()

    test "an interactive session has a start and an end", %{tmp_dir: dir} do
      :ok = listen!()
      {:ok, session} = Session.start(codex_path: Stub.write!(dir, "exit 3"))
      assert {session, %{status: 3} = exit} = ended(session)
      assert Session.stop(session) == {:ok, exit}

      assert [{[:tui, :start], _, %{command: "start"}}, {[:tui, :stop], _, stopped}] =
               check!(told())

      assert %{exit_status: 3, signal: nil, os_pid: os_pid} = stopped
      assert os_pid == Session.os_pid(session)
    end

    defp ended(session) do
      {:ok, session, outputs} = Session.next(session, 20_000)
      if exit = outputs[:exit], do: {session, exit}, else: ended(session)
    end

    @tag :codex_cli
    test "hooks of the host tell of their answers, without words of the user" do
      model = Test.start!([shell("echo hi > a"), "Done."])
      hook = fn _ -> {:deny, "private"} end
      options = Test.thread_options(model) ++ [hooks: [pre_tool_use: hook], redact: [@prompt]]

      {:ok, thread} =
        Codex.start_thread(Test.options(model) ++ [telemetry_content: true], options)

      listen!()
      assert {:ok, %{blocked: 1}} = Thread.run(thread, @prompt)
      told = told()
      check!(Enum.filter(told, &match?({[:hook, _], _, _}, &1)))
      assert [{_, _, meta}] = for({[:hook, :stop], _, %{event: :pre_tool_use}} = e <- told, do: e)
      assert %{answer: :deny, failure: nil, tool: "Bash"} = meta
      refute inspect(told, limit: :infinity, printable_limit: :infinity) =~ "private words"
    end

    test "a turn is a span, with its process, items and tools", %{tmp_dir: dir} do
      listen!()

      thread =
        Stub.thread(
          dir,
          ~s(cat >/dev/null; echo "$started"; #{@command}; #{@failed}; echo "$message"; echo "$completed")
        )

      assert {:ok, result} = Thread.run(thread, @prompt)
      told = check!(told())

      assert names(told) == [
               [:thread, :start],
               [:process, :start],
               [:item, :started],
               [:tool, :start],
               [:item, :completed],
               [:tool, :failure],
               [:item, :completed],
               [:thread, :token_usage, :updated],
               [:process, :stop],
               [:thread, :stop]
             ]

      refute inspect(told, limit: :infinity, printable_limit: :infinity) =~ "private"

      metadata = Map.new(told, fn {name, _, metadata} -> {name, metadata} end)
      id = result.thread.thread_id
      assert metadata[[:thread, :start]].thread_id == nil

      assert %{thread_id: ^id, result: :ok, early_exit?: false, error: nil, attempts: 1} =
               metadata[[:thread, :stop]]

      assert %{tool: "command", call_id: "item_1", exit_code: 2, error: :failed} =
               metadata[[:tool, :failure]]

      assert %{exit_status: 0, signal: nil} = metadata[[:process, :stop]]

      assert %{usage: %{"input_tokens" => 100}, delta: %{"input_tokens" => 100}} =
               metadata[[:thread, :token_usage, :updated]]

      for {name, %{duration: duration} = measurements, _} <- told do
        assert {name, is_integer(duration) and measurements.duration_ms >= 0} == {name, true}
      end

      # The next turn of the thread: its own share of the total.
      again = %{result.thread | codex_opts: thread.codex_opts}

      body =
        ~s(cat >/dev/null; echo "$started"; printf '%s\\n' '{"type":"turn.completed","usage":{"input_tokens":130,"output_tokens":20}}')

      {:ok, options} = Codex.Options.new(codex_path: Stub.write!(dir, body))
      assert {:ok, _} = Thread.run(%{again | codex_opts: options}, @prompt)
      told = check!(told())

      assert [%{delta: %{"input_tokens" => 30}, thread_id: ^id}] =
               for({[:thread, :token_usage, :updated], _, m} <- told, do: m)

      assert [%{thread_id: ^id}] = for({[:thread, :start], _, m} <- told, do: m)
    end

    test "a failure contains no open items, output or stderr", %{tmp_dir: dir} do
      listen!()
      body = ~s(cat >/dev/null; echo "$started"; #{@command}; echo private >&2; sleep 60)
      opts = [total_timeout_ms: 700, retry: true, retry_opts: [max_attempts: 1]]
      assert {:error, {:exec_failed, error}} = Thread.run(Stub.thread(dir, body), @prompt, opts)
      assert [%{command: "make"}] = error.details.open
      told = check!(told())

      assert [%{reason: %{kind: :timeout, details: %{clock: :total}}}] =
               for({[:thread, :exception], _, m} <- told, do: m)

      refute inspect(told, limit: :infinity, printable_limit: :infinity, structs: false) =~
               ~r/private|make/
    end

    test "tell of the files of the option tee", %{tmp_dir: dir} do
      listen!()
      thread = Stub.thread(dir, ~s(cat >/dev/null; echo "$turn"))
      {:ok, result} = Thread.run(thread, @prompt, tee: Path.join(dir, "tee"))
      assert [{_, measurements, metadata}] = check!(of(told(), [:tee, :stop]))

      assert Map.take(measurements, [:bytes, :dropped_bytes]) ==
               Map.take(result.raw.tee, [:bytes, :dropped_bytes])

      assert metadata == %{originator: :sdk, path: result.raw.tee.path, error: nil}
    end

    test "content is emitted if asked for, under another name", %{tmp_dir: dir} do
      listen!([:my, :agent])
      opts = [telemetry_content: true, telemetry_prefix: [:my, :agent]]
      body = ~s(cat >/dev/null; echo "$started"; #{@command}; #{@failed}; echo "$completed")
      assert {:ok, _} = Thread.run(Stub.thread(dir, body, opts), @prompt)
      told = check!(told(), true)
      assert [%{input: @prompt}] = for({[:thread, :start], _, m} <- told, do: m)

      assert [%{arguments: "make", output: "private output"}] =
               for({[:tool, :failure], _, m} <- told, do: m)

      assert [%{item: %{command: "make"}}] = for({[:item, :started], _, m} <- told, do: m)
    end

    test "every way to end emits it once", %{tmp_dir: dir} do
      listen!()
      start = ~s(cat >/dev/null; echo "$started")

      failure =
        ~s(printf '%s\\n' '{"type":"turn.failed","error":{"message":"Quota exceeded. Check your plan and billing details."}}')

      for {body, run, ending} <- [
            {"#{start}; #{failure}; exit 1", &Thread.run(&1, @prompt), {:stop, :error, :quota}},
            {"#{start}; exit 70", &Thread.run(&1, @prompt), {:exception, :error, :crashed}},
            {"#{start}; kill -9 $$", &Thread.run(&1, @prompt), {:exception, :error, :killed}},
            {"#{start}; exit 70", &stream(&1, fn stream -> Enum.to_list(stream) end),
             {:exception, :error, :crashed}},
            {"#{start}; echo \"$completed\"", &stream(&1, fn stream -> Enum.to_list(stream) end),
             {:stop, :ok, nil}},
            {"#{start}; #{failure}; exit 1", &stream(&1, fn stream -> Enum.to_list(stream) end),
             {:stop, :error, :quota}},
            {"#{start}; sleep 60", &stream(&1, fn stream -> Enum.take(stream, 1) end),
             {:stop, :early_exit, nil}},
            {"#{start}; sleep 60",
             &stream(&1, fn stream -> Enum.each(stream, fn _ -> raise "mine" end) end),
             {:stop, :early_exit, nil}},
            {"#{start}; sleep 60",
             &stream(&1, fn stream -> Enum.each(stream, fn _ -> throw(:mine) end) end),
             {:stop, :early_exit, nil}}
          ] do
        run.(Stub.thread(dir, body))
        told = check!(told())
        assert [[:thread, :start], [:process, :start] | _] = names(told)
        assert Enum.count(names(told), &(&1 == [:process, :stop])) == 1

        assert [{stage, meta}] =
                 for({[:thread, stage], _, meta} <- told, stage != :start, do: {stage, meta})

        kind = if stage == :exception, do: meta.reason.kind, else: meta.error[:kind]
        assert {body, {stage, meta.result, kind}} == {body, ending}
        assert meta.thread_id == "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"
      end
    end

    test "a failed start is emitted, an invalid call is not", %{tmp_dir: dir} do
      listen!()
      none = Path.join(dir, "broken")
      File.write!(none, "no program")
      File.chmod!(none, 0o755)
      {:ok, thread} = Codex.start_thread(codex_path: none)
      assert {:error, _} = Thread.run(thread, @prompt)
      assert names(check!(told())) == [[:thread, :start], [:thread, :exception]]
      assert {:error, {:invalid_input, ""}} = Thread.run(thread, "")
      assert told() == []
    end

    test "attempts of one call are one span", %{tmp_dir: dir} do
      listen!()
      count = Path.join(dir, "n")

      body =
        ~s'cat >/dev/null; echo >> #{count}; [ $(wc -l < #{count}) = 2 ] && { echo "$turn"; exit 0; }; echo "$started"; exit 75'

      retry = [retry: true, retry_opts: [base_delay_ms: 1, jitter: false]]
      assert {:ok, %{attempts: 2}} = Thread.run(Stub.thread(dir, body), @prompt, retry)
      told = check!(told())
      assert Enum.count(names(told), &(&1 == [:thread, :start])) == 1
      assert Enum.count(names(told), &(&1 == [:process, :start])) == 2
      assert Enum.count(names(told), &(&1 == [:process, :stop])) == 2

      assert [%{outcome: :retry}, %{outcome: :ok}] =
               for({[:retry, :attempt], _, m} <- told, do: m)

      assert [%{attempts: 2, result: :ok}] = for({[:thread, :stop], _, m} <- told, do: m)
    end

    test "a stream is unchanged: lazy, read again, zipped, halted", %{tmp_dir: dir} do
      listen!()
      thread = Stub.thread(dir, ~s(cat >/dev/null; echo "$turn"))
      {:ok, stream} = Exec.run_stream(@prompt, codex_opts: thread.codex_opts, thread: thread)
      assert told() == []
      types = Enum.map(stream, & &1.__struct__)
      assert Enum.map(stream, & &1.__struct__) == types

      assert stream
             |> Stream.zip(types)
             |> Enum.all?(fn {event, type} -> event.__struct__ == type end)

      assert Enum.count(names(told()), &(&1 == [:thread, :stop])) == 3
      assert Enum.take(stream, 0) == []
      assert told() == []
    end

    test "the default logger writes lines without content", %{tmp_dir: dir} do
      assert Telemetry.attach_default_logger(level: :info) == :ok
      assert Telemetry.attach_default_logger(level: :info) == {:error, :already_exists}
      body = ~s(cat >/dev/null; echo "$started"; #{@command}; #{@failed}; echo "$completed")

      log =
        capture_log(fn ->
          Thread.run(Stub.thread(dir, body, telemetry_content: true), @prompt)
        end)

      assert log =~ ~r/\[info\] +codex turn ok in \d+ ms, 100 tokens in, 20 out, thread 01a1f6cd/
      assert log =~ ~r/\[debug\] +codex tool command failure in/
      assert log =~ ~r/\[debug\] +codex process \d+ ended with status 0/
      refute log =~ "private"

      log =
        capture_log(fn ->
          Thread.run(Stub.thread(dir, ~s(cat >/dev/null; exit 75)), @prompt,
            retry: true,
            retry_opts: [max_attempts: 2, base_delay_ms: 1]
          )
        end)

      assert log =~ ~r/\[warning\] +codex attempt 1 of 2 failed \(crashed\), next in \d+ ms/
      assert log =~ ~r/\[warning\] +codex attempt 2 of 2 failed \(crashed\), no further attempt/
      assert log =~ ~r/\[warning\] +codex turn failed \(crashed\)/
    end

    @tag :codex_cli
    test "a real turn with tools, and its thread going on" do
      listen!()
      model = Test.start!([shell("echo hi"), "done", "again"])
      {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model))
      assert {:ok, result} = Thread.run(thread, @prompt)
      told = check!(told())
      assert [%{tool: "command", result: :ok}] = for({[:tool, :success], _, m} <- told, do: m)
      assert [%{result: :ok, usage: usage}] = for({[:thread, :stop], _, m} <- told, do: m)
      assert usage["input_tokens"] == result.thread.usage["input_tokens"]
      assert {:ok, second} = Thread.run(result.thread, "and again")

      assert [%{delta: delta}] =
               for({[:thread, :token_usage, :updated], _, m} <- check!(told()), do: m)

      assert delta == second.usage
    end

    @tag :codex_cli
    test "requests and approvals of an app-server" do
      listen!()
      escalated = &shell(&1, sandbox_permissions: "require_escalated", justification: "private")

      model =
        Test.start!([
          escalated.("true"),
          "done",
          escalated.("true"),
          "done",
          escalated.("true"),
          "done"
        ])

      {:ok, conn} =
        AppServer.connect(Test.options(model), cwd: model.workspace, answer_timeout_ms: 300)

      {:ok, %{"thread" => %{"id" => id}}} =
        AppServer.thread_start(conn, approval_policy: :on_request, sandbox: :read_only)

      :ok = AppServer.subscribe(conn, thread_id: id)

      for decision <- [:accept, :decline, nil] do
        {:ok, _} = AppServer.turn_start(conn, id, @prompt)

        assert_receive {:codex_request, request, "item/commandExecution/requestApproval", _},
                       10_000

        if decision, do: :ok = AppServer.respond(conn, request, decision: decision)
        assert_receive {:codex_notification, "turn/completed", _}, 10_000
      end

      assert {:error, _} = AppServer.turn_start(conn, "none", @prompt)
      AppServer.disconnect(conn)
      told = check!(told())
      refute inspect(told) =~ "private"

      requests = for {[:request, :stop], _, m} <- told, do: {m.method, m.thread_id, m.result}

      assert [
               {"thread/start", nil, :ok},
               {"turn/start", ^id, :ok},
               _,
               _,
               {"turn/start", "none", :error}
             ] = requests

      assert Enum.count(names(told), &(&1 == [:request, :start])) == 5

      approvals = for {[:approval, stage], _, m} <- told, do: {stage, m.tool, m[:reason]}

      assert approvals == [
               {:requested, "command", nil},
               {:approved, "command", nil},
               {:requested, "command", nil},
               {:denied, "command", "decline"},
               {:requested, "command", nil},
               {:timeout, "command", nil}
             ]
    end

    @tag :codex_cli
    test "a turn over a connection is a span as on the other lane, with its requests beside it" do
      listen!()
      model = Test.start!([shell("echo private"), "private words"])
      {:ok, conn} = AppServer.connect(Test.options(model), cwd: model.workspace)

      {:ok, thread} =
        Codex.start_thread(
          Test.options(model),
          Test.thread_options(model) ++
            [
              transport: {:app_server, conn},
              sandbox: :danger_full_access,
              ask_for_approval: :never
            ]
        )

      {:ok, result} = Thread.run(thread, @prompt)

      {:error, {:exec_failed, _}} =
        Thread.run(%{result.thread | thread_id: "none", transport_ref: nil}, @prompt)

      AppServer.disconnect(conn)
      told = told()
      {spans, requests} = Enum.split_with(told, fn {_, _, meta} -> meta[:span_token] != nil end)
      refute inspect(told, limit: :infinity, printable_limit: :infinity) =~ "private"
      id = result.thread.thread_id

      {turn, [{[:thread, :start], _, _}, {[:thread, :exception], _, lost}]} =
        Enum.split_while(spans, fn {_, _, meta} -> meta.thread_id != "none" end)

      check!(turn)
      assert lost.reason.kind in [:invalid_request, :thread_not_found, :unknown]

      assert [[:thread, :start], [:item, :started] | _] = names(turn)
      assert [:tool, :start] in names(turn) and [:tool, :success] in names(turn)
      assert [[:thread, :token_usage, :updated], [:thread, :stop]] = Enum.take(names(turn), -2)
      assert Enum.all?(turn, fn {_, _, meta} -> meta.lane == :app_server end)
      {_, _, stop} = List.last(turn)
      assert %{result: :ok, thread_id: ^id, early_exit?: false, attempts: 1} = stop
      assert stop.usage == result.usage
      %Events.TurnCompleted{turn_id: turn_id} = List.last(result.events)
      assert is_binary(turn_id)
      assert [nil, ^turn_id] = for({_, _, meta} <- turn, uniq: true, do: meta.turn_id)

      assert ["thread/start", "turn/start" | _] =
               for({[:request, :stop], _, meta} <- requests, do: meta.method)
    end

    test "diffs and compaction of an app-server" do
      listen!()

      events = [
        %Events.ThreadStarted{thread_id: "t"},
        %Events.TurnStarted{thread_id: "t", turn_id: "u"},
        %Events.TurnDiffUpdated{diff: "private", turn_id: "u"},
        %Events.TurnCompaction{
          stage: :completed,
          compaction: %{"tokenSavings" => 5, "x" => "private"}
        },
        %Events.TurnCompaction{stage: "later", compaction: %{}},
        %Events.ItemStarted{item: %Items.ContextCompaction{}},
        %Events.TurnCompleted{usage: %{}}
      ]

      {:ok, thread} = Codex.start_thread([], transport: {:app_server, self()})
      {:ok, job} = Job.new({:run, "x"}, thread.codex_opts, thread, %{})
      span = Span.start(job)

      :ok = events |> Enum.reduce(span, &Span.observe(&2, &1)) |> Span.finish()

      told = check!(told())
      refute inspect(told) =~ "private"

      assert [
               _,
               [:turn, :diff, :updated],
               [:turn, :compaction, :completed],
               [:turn, :compaction, :unknown],
               _,
               [:turn, :compaction, :started] | _
             ] = names(told)

      assert [%{token_savings: 5}] = for({[:turn, :compaction, :completed], m, _} <- told, do: m)
      assert [nil | turns] = for({_, _, meta} <- told, do: meta.turn_id)
      assert Enum.uniq(turns) == ["u"]
    end

    test "reviews of tools of the host" do
      listen!()
      event = %{"tool_name" => "look_up", "call_id" => "c", "turn_id" => "u"}
      context = %{thread: %{thread_id: "t"}}

      defmodule Slow do
        def review_tool(_event, _context, _opts), do: {:async, 1}
        def await(1, _timeout), do: {:error, :timeout}
      end

      assert Approvals.review_tool(fn _ -> :allow end, event, context) == :allow

      assert Approvals.review_tool(fn _ -> {:deny, "no"} end, %{tool_name: "x"}, %{}) ==
               {:deny, "no"}

      assert Approvals.review_tool(Slow, event, context, timeout: 5) ==
               {:deny, "approval timeout"}

      assert Approvals.review_tool(fn _ -> {:async, 1} end, event, context) == {:async, 1}

      assert_raise RuntimeError, fn ->
        Approvals.review_tool(fn _ -> raise "x" end, event, %{})
      end

      # No process is asked.
      for given <- [%{"requires_approval" => false}, %{"approved" => true}, %{approved: true}] do
        assert Approvals.review_tool(fn _ -> {:deny, "no"} end, given, context) == :allow
      end

      assert Approvals.review_tool(nil, event, context) == :allow
      told = check!(told())

      assert [
               {:requested, "look_up", "t", nil},
               {:approved, "look_up", "t", nil},
               {:requested, "x", nil, nil},
               {:denied, "x", nil, "no"},
               {:requested, "look_up", "t", nil},
               {:timeout, "look_up", "t", nil},
               {:requested, "look_up", "t", nil},
               {:requested, "look_up", nil, nil},
               {:denied, "look_up", nil, :failed}
             ] ==
               for(
                 {[:approval, stage], _, meta} <- told,
                 do: {stage, meta.tool, meta.thread_id, meta[:reason]}
               )

      assert {_, %{duration_ms: _}, %{call_id: "c", turn_id: "u"}} = Enum.at(told, 1)
    end

    test "a handler that fails ends no run", %{tmp_dir: dir} do
      fail = fn _, _, _, _ -> raise "mine" end
      :ok = :telemetry.attach_many("fails", Telemetry.events(), fail, nil)
      assert {:ok, _} = Thread.run(Stub.thread(dir, ~s(cat >/dev/null; echo "$turn")), @prompt)
    end

    test "events of an application are emitted like those of the SDK" do
      :ok =
        :telemetry.attach(
          "own",
          [:my, :step],
          fn _, m, d, test -> send(test, {:own, m, d}) end,
          self()
        )

      duration = System.convert_time_unit(1_500, :millisecond, :native)
      Telemetry.emit([:my, :step], %{duration: duration}, %{warnings: ["C:\\a", "C:/a", "b"]})
      assert_received {:own, %{duration_ms: 1_500}, %{originator: :sdk, warnings: ["C:/a", "b"]}}
    end
  end

  test "configure/1 changes nothing, and names the alternatives" do
    assert Telemetry.configure() == :ok
    assert Telemetry.configure(enabled?: false) == :ok

    assert {:error, %Codex.Error{kind: :unsupported, message: message}} =
             Telemetry.configure(exporter: :otlp)

    assert message =~ "[otel]"
  end

  defp stream(thread, read) do
    {:ok, stream} = Thread.run_turn_streamed(thread, @prompt)

    try do
      read.(stream)
    rescue
      error -> error
    catch
      thrown -> thrown
    end
  end
end
