defmodule Codex.AppServer.ThreadTest do
  # Threads over a connection, with the real server against the scripted model; and the same on both
  # lanes.
  use ExUnit.Case, async: true

  import Codex.Stub, only: [eventually: 1, running: 1]
  import Codex.Connected
  import Codex.Test.Steps
  alias Codex.{AppServer, Error, Events, Items, Test, Thread}
  alias Codex.Turn.Result

  doctest Codex.Stream

  @moduletag :codex_cli

  defp start(script, options \\ []) do
    model = Test.start!(script)
    conn = connect!(model)
    {model, conn, thread!(model, conn, options)}
  end

  # Requests of ours that the server got, by what it did: threads that it has loaded.
  defp loaded(conn) do
    {:ok, %{"data" => ids}} = AppServer.thread_loaded_list(conn)
    Enum.sort(ids)
  end

  defp mailbox, do: Process.info(self(), :messages) |> elem(1)
  defp followed(conn), do: :sys.get_state(conn).state.turns

  describe "turns" do
    test "return the provider's id of the last response with raw events" do
      model = Test.start!([shell("true"), "One.", "Two."])
      conn = connect!(model, experimental_api: true)
      {:ok, result} = Thread.run(thread!(model, conn, experimental_raw_events: true), "hi")
      assert result.last_response_id == "resp_2"
      {:ok, result} = Thread.run(thread!(model, conn), "hi")
      assert result.last_response_id == nil
    end

    test "report the plan with the words of items" do
      plan = [{"look", :completed}, {"mend", :in_progress}, {"test", :pending}]
      {_model, _conn, thread} = start([update_plan(plan), "Done."])
      {:ok, result} = Thread.run(thread, "go")
      assert [event] = for(%Events.TurnPlanUpdated{} = event <- result.events, do: event)
      assert event.plan == for({step, status} <- plan, do: %{step: step, status: status})

      assert %{"plan" => [%{"step" => "look", "status" => "completed"}, _, _]} =
               Events.to_map(event)
    end

    test "have the defaults of the connection's client, which must be valid" do
      model = Test.start!(["Done."])
      client = Test.options(model) ++ [model: "of-the-client", history_persistence: :none]
      client = client ++ [config: %{"tools" => %{"update_plan" => %{"enabled" => true}}}]
      {:ok, conn} = AppServer.connect(client, cwd: model.workspace)
      on_exit(fn -> AppServer.disconnect(conn) end)
      assert {:ok, _} = Thread.run(thread!(model, conn), "hi")
      [%{body: body}] = for %{method: "POST"} = request <- Test.requests(model), do: request
      assert body["model"] == "of-the-client"
      {:ok, %{"config" => config}} = AppServer.config_read(conn)
      assert config["history"]["persistence"] == "none"
      assert "update_plan" in Enum.map(body["tools"], & &1["name"])

      assert AppServer.connect(client ++ [model_supports_reasoning_summaries: true]) ==
               {:error, {:unsupported_option, :model_supports_reasoning_summaries}}
    end

    test "of a loaded thread cannot change its configuration, but its sandbox" do
      {model, _conn, thread} =
        start(["One.", shell("touch made.txt"), "Two."], sandbox: :read_only)

      assert {:ok, %{thread: thread}} = Thread.run(thread, "hi", config_overrides: %{"a" => 1})

      for {name, value} <- [config_overrides: %{"a" => 1}, enable: ["a"], disable: ["a"]] do
        assert Thread.run(thread, "hi", [{name, value}]) == {:error, {:unsupported_option, name}}
      end

      all = [dangerous: true, dangerously_bypass_approvals_and_sandbox: true]
      assert {:ok, _} = Thread.run(thread, "hi", all)
      assert File.exists?(Path.join(model.workspace, "made.txt"))
    end

    test "of a thread that is resumed are kept: it cannot be ephemeral, a fork of it can" do
      {model, conn, thread} = start(["One.", "Two."])
      {:ok, %{thread: %{thread_id: id}}} = Thread.run(thread, "hi")
      client = Test.options(model)
      options = Test.thread_options(model) ++ [transport: {:app_server, conn}, ephemeral: true]

      for which <- [id, :last] do
        {:ok, again} = Codex.resume_thread(which, client, options)
        assert Thread.run(again, "hi") == {:error, {:unsupported_option, :ephemeral, :resume}}
      end

      {:ok, fork} = Codex.fork_thread(id, client, options)
      files = fn -> Path.wildcard(Path.join(model.home, "sessions/**/*.jsonl")) end
      before = files.()
      assert {:ok, %{final_response: %{text: "Two."}}} = Thread.run(fork, "GRAPE")
      assert files.() == before
    end

    test "continue one thread that starts once, with the results of codex exec" do
      script = [
        respond([reasoning("**Hm**"), message("One.")],
          usage: %{input_tokens: 100, output_tokens: 20}
        ),
        respond([shell("echo hi")], usage: %{input_tokens: 150, output_tokens: 7}),
        respond([message("Two.")], usage: %{input_tokens: 9, output_tokens: 1})
      ]

      {model, conn, thread} =
        start(script, sandbox: :danger_full_access, ask_for_approval: :never)

      {:ok, first} = Thread.run(thread, "first")
      assert %Items.AgentMessage{text: "One."} = first.final_response
      id = first.thread.thread_id
      assert loaded(conn) == [id]
      {:ok, second} = Thread.run(first.thread, "second")
      assert second.thread.thread_id == id
      assert loaded(conn) == [id]
      assert second.final_response.text == "Two."

      other = Test.start!(script)

      {:ok, exec} =
        Codex.start_thread(
          Test.options(other),
          Test.thread_options(other) ++ [sandbox: :danger_full_access, ask_for_approval: :never]
        )

      {:ok, exec_first} = Thread.run(exec, "first")
      {:ok, exec_second} = Thread.run(exec_first.thread, "second")

      for {app, exec} <- [{first, exec_first}, {second, exec_second}] do
        assert {total, usage} = Map.pop(app.usage, "total_tokens")
        assert usage == exec.usage
        assert total == usage["input_tokens"] + usage["output_tokens"]
        assert app.usage_scope == :turn and exec.usage_scope == :turn
        assert Map.delete(app.thread.usage, "total_tokens") == exec.thread.usage
        assert kinds(app.events) == kinds(exec.events)
        # An event over an app-server counts its turn, one of `codex exec` the thread.
        assert %{usage_scope: :turn, usage: usage} = ended = List.last(app.events)
        assert usage == app.usage
        assert is_integer(ended.started_at) and ended.completed_at >= ended.started_at
        assert is_integer(ended.duration_ms)
        assert %{usage_scope: :thread, usage: usage} = List.last(exec.events)
        assert usage == exec.thread.usage
      end

      assert %{"input_tokens" => 159, "output_tokens" => 8} = second.usage

      assert [%{aggregated_output: "hi\n", exit_code: 0, status: :completed, command: command}] =
               for(
                 %Events.ItemCompleted{item: %Items.CommandExecution{} = i} <- second.events,
                 do: i
               )

      assert command =~ "echo hi"
      assert [_, _, %{body: %{"input" => input}}] = Test.requests(model)
      assert inspect(input, limit: :infinity) =~ "first"
      assert mailbox() == [] and followed(conn).running == %{}
    end

    # What the other lane has no word for, left out.
    defp kinds(events) do
      for event <- events,
          kind = kind(event),
          kind not in [Events.ThreadTokenUsageUpdated, Events.AppServerNotification, nil],
          do: kind
    end

    defp kind(%type{item: %Items.UserMessage{}}) when type != nil, do: nil
    # Messages and reasoning begin here, and there not.
    defp kind(%Events.ItemStarted{item: %item{}})
         when item in [Items.AgentMessage, Items.Reasoning],
         do: nil

    defp kind(%type{item: %item{}}), do: {type, item}

    defp kind(%type{})
         when type in [
                Events.ReasoningSummaryPartAdded,
                Events.ReasoningSummaryDelta,
                Events.ItemAgentMessageDelta,
                Events.CommandOutputDelta
              ],
         do: nil

    defp kind(%type{}), do: type

    test "return the final answer, also if a comment follows" do
      answer = message(~s({"a":1}), phase: "final_answer")
      {_model, _conn, thread} = start([respond([answer, message("Well.", phase: "commentary")])])
      {:ok, result} = Thread.run(thread, "Hi", output_schema: %{"type" => "object"})
      assert %{phase: "final_answer", parsed: %{"a" => 1}} = result.final_response
      assert Result.json(result) == {:ok, %{"a" => 1}}
    end

    test "return the server's warnings, and MCP servers that did not start" do
      model = Test.start!(["One.", "Two.", "Three.", "Four.", "Five."])
      conn = connect!(model)
      servers = %{"gone" => %{"command" => "/nope/mcp"}}
      thread = thread!(model, conn, mcp_servers: servers, features: %{"collab" => true})

      {:ok, first} = Thread.run(thread, "Hi")
      assert [mcp] = Enum.filter(first.warnings, &(&1 =~ "MCP server gone did not start"))
      assert mcp =~ "No such file"
      assert Enum.any?(first.warnings, &(&1 =~ "collab"))
      assert Enum.uniq(first.warnings) == first.warnings

      # Later turns of the thread, too; other threads only what is about all. A stream has events.
      {:ok, run} = Thread.run_streamed(first.thread, "again")
      assert {:ok, %{warnings: again}} = Codex.RunResultStreaming.result(run)

      # A reader of events alone gets them as `codex exec` has them, before the end.
      {:ok, events} = Thread.run_turn_streamed(first.thread, "again")
      events = Enum.to_list(events)
      assert %Events.TurnCompleted{} = List.last(events)
      texts = for %Events.ItemCompleted{item: %Items.Error{message: text}} <- events, do: text
      assert mcp in texts
      assert mcp in again
      {:ok, events} = Thread.run_turn_streamed(first.thread, "and again", retry: true)
      assert Enum.all?(events, &is_struct/1)

      {:ok, other} = Thread.run(thread!(model, conn), "Hi")
      refute Enum.any?(other.warnings, &(&1 =~ "gone"))
    end

    test "stream with deltas, and the text is theirs" do
      {_model, _conn, thread} = start([respond([message("Hello", deltas: ["Hel", "lo"])])])

      {:ok, stream} = Thread.run_turn_streamed(thread, "Hi")
      events = Enum.to_list(stream)
      assert [%Events.ThreadStarted{}, %Events.TurnStarted{} | _] = events
      assert %Events.TurnCompleted{status: "completed"} = List.last(events)

      pieces = for %Events.ItemAgentMessageDelta{item: %{"text" => text}} <- events, do: text

      assert pieces == ["Hel", "lo"]
      assert mailbox() == []
    end

    test "of several threads run at a time in one process, interleaved, beside its own subscription" do
      model =
        Test.start!([],
          rules: [
            [contains: "say-one", step: "1", times: 1],
            [contains: "say-two", step: "2", times: 1]
          ]
        )

      conn = connect!(model)
      :ok = AppServer.subscribe(conn, methods: ["turn/completed"])
      {:ok, one} = Thread.run_turn_streamed(thread!(model, conn), "say-one")
      {:ok, two} = Thread.run_turn_streamed(thread!(model, conn), "say-two")

      both = [one, two] |> Enum.zip() |> Enum.to_list()

      assert [{%Events.ThreadStarted{thread_id: a}, %Events.ThreadStarted{thread_id: b}} | _] =
               both

      assert a != b

      for n <- [0, 1] do
        texts =
          for pair <- both,
              %Events.ItemCompleted{item: %Items.AgentMessage{text: t}} <- [elem(pair, n)],
              do: t

        assert texts == ["#{n + 1}"]
      end

      # The caller's own.
      assert_receive {:codex_notification, "turn/completed", %{"threadId" => ^a}}
      assert_receive {:codex_notification, "turn/completed", %{"threadId" => ^b}}
      assert mailbox() == []
    end

    test "have output schemas, images and options, each for themselves" do
      model = Test.start!([~s({"n":1}), "plain"])
      conn = connect!(model)
      thread = thread!(model, conn, developer_instructions: "be brief", model_verbosity: :low)

      schema = %{
        type: "object",
        properties: %{n: %{type: "integer"}},
        required: ["n"],
        additionalProperties: false
      }

      image = Path.join(model.workspace, "a.png")

      File.write!(
        image,
        Base.decode64!(
          "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        )
      )

      {:ok, first} = Thread.run(thread, "Hi", output_schema: schema, images: [image])
      assert Result.json(first) == {:ok, %{"n" => 1}}
      assert first.final_response.parsed == %{"n" => 1}
      {:ok, second} = Thread.run(first.thread, "again")
      assert second.final_response.parsed == nil

      assert [%{body: one}, %{body: two}] = Test.requests(model)
      assert one["text"]["format"]["schema"]["required"] == ["n"]
      assert one["text"]["verbosity"] == "low"
      assert inspect(one["input"], limit: :infinity) =~ "be brief"
      assert inspect(one["input"], limit: :infinity, printable_limit: 100) =~ "input_image"
      refute two["text"]["format"]

      # They hold from this turn on.
      Test.push(model, ["three"])

      {:ok, _third} =
        Thread.run(second.thread, "more", effort: :high, approval_policy: :never, cwd: model.home)

      body = List.last(Test.requests(model)).body
      assert body["reasoning"]["effort"] == "high"
      assert inspect(body["input"], limit: :infinity) =~ model.home

      assert {:error, {:image_not_found, _}} = Thread.run(thread, "x", images: ["/no/such.png"])
      assert {:error, {:unsupported_option, :profile}} = Thread.run(thread, "x", profile: "p")
      assert {:error, {:unsupported_option, :env}} = Thread.run(thread, "x", env: %{A: "1"})
      assert {:error, {:invalid_input, ""}} = Thread.run(thread, "")
    end

    test "of threads that are resumed or forked, with the usage of the turn" do
      script =
        for n <- 1..4,
            do: respond([message("#{n}")], usage: %{input_tokens: n * 10, output_tokens: n})

      {model, conn, thread} = start(script)
      {:ok, first} = Thread.run(thread, "first")
      id = first.thread.thread_id
      AppServer.disconnect(conn)

      conn = connect!(model)
      options = Test.thread_options(model) ++ [transport: {:app_server, conn}]
      {:ok, again} = Codex.resume_thread(id, Test.options(model), options)
      {:ok, second} = Thread.run(again, "second")
      assert second.thread.thread_id == id
      assert %{"input_tokens" => 20, "output_tokens" => 2} = second.usage
      assert second.usage_scope == :turn
      assert %{"input_tokens" => 30} = second.thread.usage

      {:ok, fork} = Codex.fork_thread(id, Test.options(model), options)
      {:ok, forked} = Thread.run(fork, "third")
      assert forked.thread.thread_id != id
      assert %{"input_tokens" => 30} = forked.usage

      {:ok, last} = Codex.resume_thread(:last, Test.options(model), options)
      {:ok, fourth} = Thread.run(last, "fourth")
      assert fourth.thread.thread_id in [id, forked.thread.thread_id]
      assert inspect(List.last(Test.requests(model)).body["input"], limit: :infinity) =~ "first"

      {:ok, none} =
        Codex.resume_thread("00000000-0000-4000-8000-000000000000", Test.options(model), options)

      assert {:error, {:exec_failed, %Error{kind: :thread_not_found}}} = Thread.run(none, "x")
      assert mailbox() == []
    end

    test "of a thread that the connection does not have any more resume it" do
      {model, conn, thread} = start(["one", "two"])
      {:ok, first} = Thread.run(thread, "first")
      AppServer.disconnect(conn)
      conn = connect!(model)
      # As if it had been there before.
      thread = %{first.thread | transport: {:app_server, conn}, transport_ref: conn}
      assert {:ok, %{final_response: %{text: "two"}}} = Thread.run(thread, "second")
      assert loaded(conn) == [first.thread.thread_id]
    end
  end

  describe "failures" do
    test "of a turn are classified by the server's error" do
      {_model, conn, thread} = start([failed("rate_limit_exceeded", "slow down"), "fine"])
      assert {:error, {:turn_failed, error}} = Thread.run(thread, "Hi")

      assert %Error{kind: :rate_limit, codex_error_info: info, event: %Events.TurnFailed{}} =
               error

      assert info != nil
      assert %Result{thread: %{thread_id: id} = next} = error.result
      assert is_binary(id)
      assert {:ok, %{final_response: %{text: "fine"}}} = Thread.run(next, "again")
      assert mailbox() == [] and followed(conn).running == %{}
    end

    test "of a turn raise at the end of its text" do
      {_model, _conn, thread} = start([failed("rate_limit_exceeded", "slow down")])
      {:ok, events} = Thread.run_turn_streamed(thread, "Hi")
      error = assert_raise Error, fn -> events |> Codex.Stream.text() |> Enum.to_list() end
      assert %Error{kind: :rate_limit, event: %Events.TurnFailed{}} = error
    end

    test "a killed server fails the turn, with the result so far" do
      {_model, conn, thread} = start([silence(60_000)])
      {:ok, stream} = Thread.run_turn_streamed(thread, "Hi")
      test = self()

      reader =
        Task.async(fn ->
          try do
            Enum.each(stream, &send(test, {:event, &1}))
          rescue
            error -> error
          end
        end)

      assert_receive {:event, %Events.TurnStarted{}}, 10_000
      {_, 0} = System.cmd("kill", ["-9", Integer.to_string(os_pid(conn))])

      assert %Codex.Error{kind: :killed, signal: :kill} = Task.await(reader, 20_000)

      # How it ended is known for as long as its process is ending.
      assert {:error, {:exec_failed, %Error{kind: kind}}} = Thread.run(thread, "again")
      assert kind in [:crashed, :killed]

      {_model, conn, thread} = start([silence(60_000)])
      run = Task.async(fn -> Thread.run(thread, "Hi") end)
      assert eventually(fn -> map_size(followed(conn).running) == 1 end)
      {_, 0} = System.cmd("kill", ["-9", Integer.to_string(os_pid(conn))])

      assert {:error, {:exec_failed, %Error{kind: :killed, result: result}}} =
               Task.await(run, 20_000)

      assert is_binary(result.thread.thread_id)
    end

    test "a clock interrupts the turn; the thread goes on" do
      {_model, conn, thread} = start([silence(60_000), "fine"])
      assert {:error, {:exec_failed, error}} = Thread.run(thread, "Hi", total_timeout_ms: 4_000)
      assert %Error{kind: :timeout, details: %{clock: :total, option: :total_timeout_ms}} = error
      assert followed(conn).running == %{}
      assert {:ok, %{final_response: %{text: "fine"}}} = Thread.run(error.result.thread, "again")
      assert mailbox() == []
    end

    test "a cancelled run interrupts the turn" do
      {_model, conn, thread} = start([silence(60_000)])
      run = Task.async(fn -> Thread.run(thread, "Hi", cancellation_token: "app-token") end)
      assert eventually(fn -> map_size(followed(conn).running) == 1 end)
      assert Codex.Exec.cancel("app-token") == :ok
      assert {:error, {:exec_failed, %Error{kind: :interrupted}}} = Task.await(run, 20_000)
      assert followed(conn).running == %{}
      assert Codex.Exec.cancel("app-token") == {:error, :not_found}
    end

    test "a second turn of the thread is refused while one runs" do
      {_model, conn, thread} = start(["one", silence(60_000)])
      {:ok, %{thread: thread}} = Thread.run(thread, "first")
      run = Task.async(fn -> Thread.run(thread, "Hi", cancellation_token: "busy-token") end)
      assert eventually(fn -> map_size(followed(conn).running) == 1 end)
      assert {:error, {:exec_failed, %Error{kind: :thread_busy}}} = Thread.run(thread, "more")
      assert map_size(followed(conn).running) == 1
      :ok = Codex.Exec.cancel("busy-token")
      assert {:error, _} = Task.await(run, 20_000)
    end

    test "a failure before the first item is retried" do
      options = [retry: true, retry_opts: [base_delay_ms: 1]]
      {model, _conn, thread} = start([http_error(500), "fine"], options)
      assert {:ok, result} = Thread.run(thread, "Hi")
      assert {result.attempts, result.final_response.text} == {2, "fine"}
      assert length(Test.requests(model)) == 2
      assert [%{thread_id: id}] = Enum.filter(result.events, &is_struct(&1, Events.ThreadStarted))
      assert result.thread.thread_id == id
      assert mailbox() == []
    end

    test "a failure after the first item resumes the thread, without a second start" do
      script = [shell("echo done >> log"), http_error(500), "All done."]

      {model, _conn, thread} =
        start(script,
          sandbox: :danger_full_access,
          ask_for_approval: :never,
          retry: :resume,
          retry_opts: [base_delay_ms: 1]
        )

      assert {:ok, result} = Thread.run(thread, "do it")
      assert {result.attempts, result.final_response.text} == {2, "All done."}
      assert File.read!(Path.join(model.workspace, "log")) == "done\n"
      assert [_] = Enum.filter(result.events, &is_struct(&1, Events.ThreadStarted))
      input = inspect(List.last(Test.requests(model)).body["input"], limit: :infinity)
      assert input =~ "do it" and input =~ "echo done" and input =~ "Continue."
    end

    test "a limit is waited for" do
      account = "app-server-#{System.unique_integer([:positive])}"
      limits = [account: account, default_delay_ms: 1]

      {_model, _conn, thread} =
        start([failed("rate_limit_exceeded", "Please try again in 1s."), "fine"],
          rate_limit: true,
          rate_limit_opts: limits
        )

      assert {:ok, result} = Thread.run(thread, "Hi")
      assert {result.attempts, result.final_response.text} == {2, "fine"}
    end
  end

  describe "a turn that runs" do
    # A command line that no other test has.
    defp unique_sleep,
      do: "#{100_000 + System.unique_integer([:positive])}.#{:rand.uniform(999_999)}"

    test "is steered by any process, and only on this lane" do
      {model, conn, thread} = start([respond([shell("sleep 2")]), "done"])
      run = Task.async(fn -> Thread.run(thread, "Hi") end)
      assert eventually(fn -> map_size(followed(conn).running) == 1 end)
      {id, _turn} = followed(conn).running |> Map.keys() |> hd()
      assert {:ok, _} = Test.await_request(model, 10_000)
      thread = %{thread | thread_id: id}
      assert Thread.steer(thread, "look at the tests, too") == :ok
      assert {:ok, result} = Task.await(run, 20_000)
      assert result.final_response.text == "done"

      inputs =
        for request <- Test.requests(model), do: inspect(request.body["input"], limit: :infinity)

      assert List.last(inputs) =~ "look at the tests, too"

      assert Thread.steer(thread, "x") == {:error, {:no_turn, id}}
      assert Thread.interrupt(thread) == {:error, {:no_turn, id}}
      assert Thread.steer(thread, "") == {:error, {:invalid_input, ""}}
      assert Thread.steer(%{thread | thread_id: nil}, "x") == {:error, :missing_thread_id}

      assert {:error,
              %Codex.OptionError{reason: :unknown, path: [:clean], nearest: :clean_background}} =
               Thread.interrupt(thread, clean: true)

      exec = %{thread | transport: :exec}
      assert Thread.steer(exec, "x") == {:error, {:unsupported, :exec}}
      assert Thread.interrupt(exec) == {:error, {:unsupported, :exec}}
      AppServer.disconnect(conn)
      assert {:error, {:app_server_down, _}} = Thread.steer(thread, "x")
    end

    test "is interrupted by any process, with its running commands" do
      seconds = unique_sleep()
      model = Test.start!([shell("sleep #{seconds}"), shell("sleep #{seconds}1"), "fine"])
      conn = connect!(model, experimental_api: true)
      options = [sandbox: :danger_full_access, ask_for_approval: :never, clean_background: true]
      thread = thread!(model, conn, options)
      run = Task.async(fn -> Thread.run(thread, "Hi") end)
      assert eventually(fn -> running("sleep #{seconds}") != [] end)
      {id, _turn} = followed(conn).running |> Map.keys() |> hd()
      assert Thread.interrupt(%{thread | thread_id: id}) == :ok

      assert {:error, {:exec_failed, %Error{kind: :interrupted, result: result}}} =
               Task.await(run, 20_000)

      assert result.thread.thread_id == id
      assert eventually(fn -> running("sleep #{seconds}") == [] end)

      # Halting does the same.
      {:ok, stream} = Thread.run_turn_streamed(result.thread, "again")

      Enum.find(stream, fn event ->
        match?(%Events.ItemStarted{item: %Items.CommandExecution{}}, event) and
          eventually(fn -> running("sleep #{seconds}1") != [] end)
      end)

      assert eventually(fn -> running("sleep #{seconds}1") == [] end)
      assert {:ok, %{final_response: %{text: "fine"}}} = Thread.run(result.thread, "on")
    end

    test "gives its text as it grows; on the other lane, message by message" do
      script = [respond([message("Hello", deltas: ["Hel", "lo"]), message("You")])]
      {_model, _conn, thread} = start(script)
      {:ok, events} = Thread.run_turn_streamed(thread, "Hi")
      assert events |> Codex.Stream.text() |> Enum.take(2) == ["Hel", "lo"]

      other = Test.start!(script)
      {:ok, thread} = Codex.start_thread(Test.options(other), Test.thread_options(other))
      {:ok, run} = Thread.run_streamed(thread, "Hi")
      pieces = run |> Codex.RunResultStreaming.events() |> Codex.Stream.text() |> Enum.to_list()
      assert pieces == ["Hello", "You"]
    end
  end

  describe "readers" do
    test "that have read their turn delay no others with messages in their mailboxes" do
      model = Test.start!(["one", "two"])
      conn = connect!(model, max_queue: 10)
      {:ok, _} = Thread.run(thread!(model, conn), "Hi")
      :ok = AppServer.subscribe(conn)
      :ok = AppServer.unsubscribe(conn)
      for n <- 1..100, do: send(self(), {:mine, n})
      other = Task.async(fn -> Thread.run(thread!(model, conn), "Hi") end)
      assert {:ok, %{final_response: %{text: "two"}}} = Task.await(other, 20_000)
      assert {:messages, [{:mine, 1} | _]} = Process.info(self(), :messages)
    end

    test "that give up on a server that has stopped wait for nothing; the turn ends when it goes on" do
      {model, conn, thread} = start([silence(60_000), silence(60_000), "fine", silence(60_000)])
      :ok = AppServer.subscribe(conn, methods: ["turn/started", "turn/completed"])
      os_pid = os_pid(conn)
      signal = fn name -> {_, 0} = System.cmd("kill", ["-" <> name, "#{os_pid}"]) end
      on_exit(fn -> System.cmd("kill", ["-CONT", "#{os_pid}"], stderr_to_stdout: true) end)

      # In the middle of a turn: its time is over, or its reader halts.
      for {n, opts} <- [{1, [total_timeout_ms: 3_000]}, {2, []}] do
        {:ok, stream} = Thread.run_turn_streamed(thread, "Hi", opts)

        run = fn ->
          Enum.find(stream, fn event ->
            if is_struct(event, Events.TurnStarted) do
              assert eventually(fn -> length(Test.requests(model)) == n end)
              signal.("STOP")
            end

            opts == [] and is_struct(event, Events.TurnStarted)
          end)
        end

        if opts == [],
          do: assert(%Events.TurnStarted{} = run.()),
          else: assert_raise(Codex.Error, ~r/total timeout/, run)

        # Nobody waits for the answer to its interrupt, and it will be interrupted.
        assert [%{caller: {:nobody, nil}}] = waiting(conn, "turn/interrupt")
        assert mailbox() |> Enum.reject(&match?({:codex_notification, _, _}, &1)) == []
        signal.("CONT")

        assert_receive {:codex_notification, "turn/completed",
                        %{"turn" => %{"status" => "interrupted"}}},
                       20_000
      end

      # Before a turn has begun.
      assert {:ok, %{thread: thread}} = Thread.run(thread, "go")
      signal.("STOP")

      assert {:error, {:exec_failed, %Error{kind: :timeout}}} =
               Thread.run(thread, "late", total_timeout_ms: 500)

      assert {:error, {:no_turn, _}} = Thread.interrupt(thread)
      signal.("CONT")

      # The turn begins then, and is nobody's.
      assert_receive {:codex_notification, "turn/completed",
                      %{"turn" => %{"status" => "interrupted"}}},
                     20_000
    end

    test "interrupt a turn of a server that has stopped within the time for a request" do
      {model, conn, _thread} = start([silence(60_000)])
      thread = thread!(model, conn, request_timeout_ms: 300)
      :ok = AppServer.subscribe(conn, methods: ["turn/started", "turn/completed"])
      task = Task.async(fn -> Thread.run(thread, "Hi", request_timeout_ms: 30_000) end)
      assert_receive {:codex_notification, "turn/started", %{"threadId" => id}}, 20_000
      pid = os_pid(conn)
      {_, 0} = System.cmd("kill", ["-STOP", "#{pid}"])
      assert eventually(fn -> stopped?(pid) end)

      assert Thread.interrupt(%{thread | thread_id: id}) ==
               {:error, {:timeout, "turn/interrupt", 300}}

      {_, 0} = System.cmd("kill", ["-CONT", "#{os_pid(conn)}"])
      assert {:error, {:exec_failed, %Error{kind: :interrupted}}} = Task.await(task, 20_000)
    end

    # Every thread of a process stops by itself.
    defp stopped?(pid) do
      "/proc/#{pid}/task/*/stat"
      |> Path.wildcard()
      |> Enum.all?(&(File.read!(&1) =~ ~r/\) [tT] /))
    end

    defp waiting(conn, method) do
      for {_, %{method: ^method} = entry} <- :sys.get_state(conn).state.peer.sent,
          do: entry
    end

    # A reader that begins a turn of 20,000 pieces, and waits for `:go` before it reads on.
    defp paused(model, thread) do
      test = self()
      {:ok, stream} = Thread.run_turn_streamed(thread, "long")

      reader =
        spawn_link(fn ->
          read =
            try do
              Enum.flat_map(stream, fn
                %Events.TurnStarted{} = event ->
                  send(test, {:paused, self()})
                  receive(do: (:go -> [event]))

                event ->
                  [event]
              end)
            rescue
              error in Codex.Error -> error
            end

          send(test, {:read, read})
        end)

      assert_receive {:paused, ^reader}, 20_000
      assert eventually(fn -> Test.requests(model) != [] end)
      reader
    end

    @deltas for(i <- 1..20_000, do: "word #{i} ")

    test "that pause hold up no other turn, and then get all of theirs in order" do
      script = [respond([message("long", deltas: @deltas)]), "two", "three"]
      {model, conn, thread} = start(script)
      reader = paused(model, thread)
      other = thread!(model, conn)
      assert {:ok, %{final_response: %{text: "two"}}} = Thread.run(other, "y")
      assert {:ok, %{final_response: %{text: "three"}}} = Thread.run(other, "z")
      {:message_queue_len, waiting} = Process.info(reader, :message_queue_len)
      # A busy machine looks at the mailbox later, and still long before all of them have come.
      assert waiting < 12_000
      send(reader, :go)
      assert_receive {:read, read}, 60_000
      pieces = for %Events.ItemAgentMessageDelta{item: %{"text" => text}} <- read, do: text
      assert pieces == @deltas
      assert %Events.TurnCompleted{status: "completed"} = List.last(read)
    end

    test "for which too much would be kept lose their turn, and no other is lost" do
      script = [respond([message("long", deltas: @deltas)]), "two", "three"]
      model = Test.start!(script)
      conn = connect!(model, max_spool_bytes: 200_000)
      :ok = AppServer.subscribe(conn, methods: ["turn/completed"])
      reader = paused(model, thread!(model, conn))
      other = thread!(model, conn)
      for text <- ~w(two three), do: assert({:ok, _} = Thread.run(other, text))
      assert eventually(fn -> followed(conn).running == %{} end)
      send(reader, :go)
      assert_receive {:read, %Codex.Error{kind: :overflow} = error}, 20_000
      assert error.message =~ inspect(reader)
      assert error.message =~ "over 200000 bytes waited for it (max_spool_bytes"
      # Its turn is interrupted.
      assert_receive {:codex_notification, _, %{"turn" => %{"status" => "interrupted"}}}, 20_000
    end

    test "that die leave nothing that was kept for them" do
      script = [respond([message("long", deltas: @deltas)])]
      {model, conn, thread} = start(script)
      # Somebody who keeps up.
      :ok = AppServer.subscribe(conn, methods: [])
      reader = paused(model, thread)
      assert eventually(fn -> kept(conn) > 4_000_000 end)
      Process.unlink(reader)
      Process.exit(reader, :kill)
      assert eventually(fn -> kept(conn) < 2_500_000 end)
      assert followed(conn).running == %{}
    end

    # What a connection holds of the binaries that processes share.
    defp kept(conn) do
      {:binary, binaries} = Process.info(conn, :binary)
      binaries |> Enum.map(&elem(&1, 1)) |> Enum.sum()
    end

    @tag :cli_pin
    test "hear of a server that was ended in plain words" do
      for {signal, kind, words} <- [
            {"TERM", :crashed, "SIGTERM"},
            {"KILL", :killed, "signal kill"}
          ] do
        model = Test.start!([silence(60_000)])
        conn = connect!(model)
        :ok = AppServer.subscribe(conn, methods: ["turn/started"])
        task = Task.async(fn -> Thread.run(thread!(model, conn), "go") end)
        assert_receive {:codex_notification, "turn/started", _}, 20_000
        {_, 0} = System.cmd("kill", ["-" <> signal, "#{os_pid(conn)}"])

        assert {:error, {:exec_failed, %{kind: ^kind, retryable?: true, message: message}}} =
                 Task.await(task, 20_000)

        assert message =~ words
        refute message =~ "\e" or message =~ "ERROR"
      end
    end

    test "that halt interrupt the turn before they go on" do
      {_model, conn, thread} = start([silence(60_000), "fine"])
      {:ok, stream} = Thread.run_turn_streamed(thread, "Hi")
      assert [%Events.ThreadStarted{thread_id: id}, _] = Enum.take(stream, 2)
      assert followed(conn).running == %{} and mailbox() == []
      {:ok, %{"thread" => %{"status" => status}}} = AppServer.thread_read(conn, thread_id: id)
      assert status["type"] == "idle"
    end

    test "that are killed leave no turn" do
      {_model, conn, thread} = start([silence(60_000)])
      :ok = AppServer.subscribe(conn, methods: ["turn/completed"])
      {:ok, stream} = Thread.run_turn_streamed(thread, "Hi")
      {reader, monitor} = spawn_monitor(fn -> Stream.run(stream) end)
      assert eventually(fn -> map_size(followed(conn).running) == 1 end)
      Process.exit(reader, :kill)
      assert_receive {:DOWN, ^monitor, :process, _, :killed}

      assert_receive {:codex_notification, "turn/completed",
                      %{"turn" => %{"status" => "interrupted"}}},
                     10_000
    end

    test "pop and cancel a streamed run as on the other lane" do
      {_model, conn, thread} = start(["one", silence(60_000)])
      {:ok, run} = Thread.run_streamed(thread, "Hi")
      assert {:ok, %Codex.StreamEvent.AgentUpdated{}} = Codex.RunResultStreaming.pop(run, 10_000)

      done =
        Enum.find_value(Stream.repeatedly(fn -> Codex.RunResultStreaming.pop(run, 10_000) end), fn
          {:ok, %Codex.StreamEvent.RawResponses{} = done} -> done
          {:ok, _} -> nil
        end)

      assert done.thread.thread_id
      assert Codex.RunResultStreaming.pop(run, 10_000) == :done

      {:ok, run} = Thread.run_streamed(done.thread, "more")
      {:ok, _} = Codex.RunResultStreaming.pop(run, 10_000)
      {:ok, _} = Codex.RunResultStreaming.pop(run, 10_000)
      :ok = Codex.RunResultStreaming.cancel(run)
      assert {:error, %{}} = Codex.RunResultStreaming.pop(run, 10_000)
      assert eventually(fn -> followed(conn).running == %{} end)
    end
  end
end
