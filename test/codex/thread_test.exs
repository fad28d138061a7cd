defmodule Codex.ThreadTest do
  # The real CLI against the scripted model.
  use ExUnit.Case, async: true

  import Codex.Scripted
  import Codex.Test.Steps
  import Codex.Stub, only: [eventually: 1, eventually: 2, running: 1]
  alias Codex.{Error, Events, Exec, Items, OtherVM, RunResultStreaming, StreamEvent, Thread}
  alias Codex.Turn.Result

  @moduletag :codex_cli

  defp resume(model, id),
    do: Codex.resume_thread(id, Codex.Test.options(model), Codex.Test.thread_options(model))

  # A command line that no other test has.
  defp unique_sleep,
    do: "#{100_000 + System.unique_integer([:positive])}.#{:rand.uniform(999_999)}"

  describe "turns" do
    test "go on in one thread, and their usage adds up to its total" do
      {model, thread} =
        start([
          respond([message("One.")], usage: %{input_tokens: 100, output_tokens: 20}),
          respond([message("Two.")], usage: %{input_tokens: 150, output_tokens: 7}),
          respond([message("Three.")], usage: %{input_tokens: 9, output_tokens: 1})
        ])

      {:ok, first} = Thread.run(thread, "first")
      assert %{text: "One."} = first.final_response
      assert %{"input_tokens" => 100, "output_tokens" => 20} = first.usage
      assert first.usage_scope == :turn

      {:ok, second} = Thread.run(first.thread, "second")
      assert second.thread.thread_id == first.thread.thread_id
      assert %{"input_tokens" => 150, "output_tokens" => 7} = second.usage
      assert %{"input_tokens" => 250, "output_tokens" => 27} = second.thread.usage

      {:ok, again} = resume(model, first.thread.thread_id)
      {:ok, third} = Thread.run(again, "third")
      assert third.usage_scope == :thread
      assert %{"input_tokens" => 259, "output_tokens" => 28} = third.usage

      assert [_, _, %{body: %{"input" => input}}] = Codex.Test.requests(model)

      assert inspect(input) =~ "first" and inspect(input) =~ "second" and
               inspect(input) =~ "third"
    end

    test "bring commands, files, plans, searches and reasoning as typed items" do
      patch = "*** Begin Patch\n*** Add File: made.txt\n+hello\n*** End Patch\n"

      {model, thread} =
        start(
          [
            respond([reasoning("Thinking."), shell("echo out; exit 3")]),
            apply_patch(patch),
            update_plan([{"step", :completed}]),
            respond([web_search("elixir"), message("Done.")])
          ],
          [],
          sandbox: :danger_full_access
        )

      {:ok, result} = Thread.run(thread, "do it")
      items = for %Events.ItemCompleted{item: item} <- result.events, do: item

      assert [%{text: "Thinking."}] = for(%Items.Reasoning{} = item <- items, do: item)

      assert [%{exit_code: 3, status: :failed, aggregated_output: "out\n"}] =
               for(%Items.CommandExecution{} = item <- items, do: item)

      made = Path.join(model.workspace, "made.txt")

      assert [%{status: :completed, changes: [%{path: ^made, kind: :add}]}] =
               for(%Items.FileChange{} = item <- items, do: item)

      assert [%{items: [%{text: "step", completed: true}]}] =
               for(%Items.TodoList{} = item <- items, do: item)

      assert [%{query: "elixir", action: %{"type" => "search"}}] =
               for(%Items.WebSearch{} = item <- items, do: item)

      assert result.final_response.text == "Done."
      assert File.read!(made) == "hello\n"
      refute Enum.any?(result.events, &match?(%Events.Unknown{}, &1))
    end

    test "take prompts up to the CLI's limit" do
      {model, thread} = start(["Read."])
      prompt = String.duplicate("é", 1_048_576)
      assert {:ok, _} = Thread.run(thread, prompt)
      assert [%{body: %{"input" => input}}] = Codex.Test.requests(model)

      assert [prompt] ==
               for(
                 %{"role" => "user", "content" => content} <- input,
                 %{"text" => "é" <> _ = text} <- content,
                 do: text
               )
    end

    test "take images" do
      {model, thread} = start(["A dot."])

      png =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

      path = Path.join(model.workspace, "dot.png")
      File.write!(path, Base.decode64!(png))

      {:ok, _} =
        Thread.run(thread, [
          %{type: :text, text: "--what is this?"},
          %{type: :local_image, path: path}
        ])

      assert [%{body: %{"input" => input}}] = Codex.Test.requests(model)

      assert inspect(input, limit: :infinity, printable_limit: :infinity) =~
               "data:image/png;base64,"

      assert inspect(input) =~ "--what is this?"
    end

    test "answer by a schema" do
      {model, thread} = start([json(%{answer: 42})])

      schema = %{
        type: "object",
        properties: %{answer: %{type: "integer"}},
        required: ["answer"],
        additionalProperties: false
      }

      {:ok, result} = Thread.run(thread, "?", output_schema: schema)
      assert Result.json(result) == {:ok, %{"answer" => 42}}
      assert result.final_response.parsed == %{"answer" => 42}

      assert [%{body: %{"text" => %{"format" => %{"type" => "json_schema", "schema" => sent}}}}] =
               Codex.Test.requests(model)

      assert sent["properties"] == %{"answer" => %{"type" => "integer"}}
    end

    test "answer by a schema, also in a fence" do
      text = "```json\n{\"answer\":42}\n```"
      {_model, thread} = start([message(text)])
      {:ok, result} = Thread.run(thread, "?", output_schema: %{type: "object"})
      assert Result.json(result) == {:ok, %{"answer" => 42}}
      assert %{text: ^text, parsed: %{"answer" => 42}} = result.final_response
    end

    @tag :cli_pin
    test "return the CLI's warnings" do
      {_model, thread} = start(["fine"], [], config: %{"modle" => "x"})
      assert {:ok, %{warnings: [warning]}} = Thread.run(thread, "hi")
      assert warning =~ "modle"
    end

    test "fail with the CLI's message" do
      for {step, message} <- [
            {http_error(401, %{error: %{message: "bad key"}}), ~r/401 Unauthorized: bad key/},
            {failed("context_length_exceeded", "too long"), ~r/ran out of room/},
            {incomplete("max_output_tokens"), ~r/max_output_tokens/},
            {cut([message("half")], after: 1), ~r/stream disconnected/}
          ] do
        {_model, thread} = start([step])
        assert {:error, {:turn_failed, %Error{message: text}}} = Thread.run(thread, "hi")
        assert text =~ message
      end
    end

    test "survive a retry that the CLI announces" do
      {_model, thread} = start([cut([message("half")], after: 1), "Whole."], retries: 1)
      assert {:ok, result} = Thread.run(thread, "hi")
      assert Enum.any?(result.events, &match?(%Events.Error{message: "Reconnecting" <> _}, &1))
      assert result.final_response.text == "Whole."
    end

    test "time out if the model is silent" do
      {_model, thread} = start([silence(:infinity)])

      assert {:error, {:exec_failed, %Error{kind: :timeout}}} =
               Thread.run(thread, "hi", timeout_ms: 1_500)
    end
  end

  describe "threads that were left at the end of a turn" do
    test "are complete: the next turn has the earlier messages" do
      {model, thread} = start(["One.", "Two."])

      {:ok, stream} = Thread.run_turn_streamed(thread, "first")
      events = Enum.take_while(stream, &(not match?(%Events.TurnCompleted{}, &1)))
      %Events.ThreadStarted{thread_id: id} = hd(events)

      {:ok, again} = resume(model, id)
      assert {:ok, %{usage: %{"input_tokens" => 200}}} = Thread.run(again, "second")
      assert [_, %{body: %{"input" => input}}] = Codex.Test.requests(model)
      assert inspect(input) =~ "first" and inspect(input) =~ "One."
      refute inspect(input) =~ "aborted"
    end
  end

  describe "threads" do
    test "that do not exist are errors" do
      {model, thread} = start(["One."], default: "Another.")
      {:ok, _} = Thread.run(thread, "hi")

      {:ok, unknown} = resume(model, "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af")

      assert {:error, {:exec_failed, %Error{kind: :thread_not_found} = error}} =
               Thread.run(unknown, "hi")

      assert error.message =~ "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"

      {:ok, unnamed} = resume(model, "no such name")
      assert {:error, {:exec_failed, %Error{kind: :thread_not_found}}} = Thread.run(unnamed, "hi")
      {:ok, stream} = Thread.run_turn_streamed(unnamed, "hi")
      assert_raise Codex.Error, ~r/no such name/, fn -> Enum.to_list(stream) end
    end

    test ":last continues the newest one, or begins a new one" do
      {model, thread} = start(["One.", "Two."])
      {:ok, last} = resume(model, :last)
      {:ok, first} = Thread.run(last, "first")
      {:ok, last} = resume(model, :last)
      {:ok, second} = Thread.run(last, "second")
      assert second.thread.thread_id == first.thread.thread_id
      assert second.thread.resume == nil
      assert thread.thread_id == nil
    end

    test "are forked, and stay as they are" do
      {model, thread} = start(["One.", "Forked.", "Two."])
      {:ok, first} = Thread.run(thread, "first")
      id = first.thread.thread_id

      {:ok, fork} =
        Codex.fork_thread(id, Codex.Test.options(model), Codex.Test.thread_options(model))

      {:ok, forked} = Thread.run(fork, "elsewhere")
      assert forked.thread.thread_id != id
      assert forked.thread.fork_of == nil
      assert {forked.usage_scope, forked.usage["input_tokens"]} == {:thread, 200}

      {:ok, second} = Thread.run(first.thread, "second")
      assert second.thread.thread_id == id
      [_, %{body: fork_body}, %{body: body}] = Codex.Test.requests(model)
      assert inspect(fork_body["input"]) =~ "first" and inspect(fork_body["input"]) =~ "elsewhere"
      refute inspect(body["input"]) =~ "elsewhere"

      {:ok, none} =
        Codex.fork_thread(
          "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af",
          Codex.Test.options(model),
          Codex.Test.thread_options(model)
        )

      assert {:error, {:exec_failed, %Error{kind: :thread_not_found}}} = Thread.run(none, "hi")
    end

    test "are reviewed" do
      {model, thread} = start(["Looks fine.", "Fine too."], git: true)
      File.write!(Path.join(model.workspace, "new.txt"), "x\n")
      opts = [codex_opts: thread.codex_opts, thread: thread]
      assert {:error, {:review_unreadable, error}} = Exec.review(:uncommitted_changes, opts)
      assert error.details.raw == "Looks fine."
      assert %Events.TurnCompleted{usage: nil} = List.last(error.result.events)
      {:ok, stream} = Exec.review_stream({:custom, "--look at new.txt"}, opts)

      assert Enum.any?(
               stream,
               &match?(%Events.ItemCompleted{item: %Items.AgentMessage{text: "Fine too."}}, &1)
             )

      assert inspect(List.last(Codex.Test.requests(model)).body["input"]) =~ "--look at new.txt"
    end
  end

  describe "streamed runs" do
    test "yield stream events, usage and the thread to go on with" do
      {model, thread} = start([message("Hel" <> "lo", deltas: ["Hel", "lo"]), "Again."])
      {:ok, run} = Thread.run_streamed(thread, "hi")
      assert RunResultStreaming.usage(run) == %{}

      assert [
               %StreamEvent.AgentUpdated{},
               %StreamEvent.RunItem{type: :thread_started},
               %StreamEvent.RunItem{type: :turn_started},
               %StreamEvent.RunItem{type: :item_completed, event: %{item: %{text: "Hello"}}},
               %StreamEvent.RunItem{type: :turn_completed},
               %StreamEvent.RawResponses{thread: next, usage: %{"input_tokens" => 100}}
             ] = Enum.to_list(RunResultStreaming.events(run))

      assert %{"input_tokens" => 100} = RunResultStreaming.usage(run)
      assert {:ok, %{usage: %{"input_tokens" => 100}}} = Thread.run(next, "more")
      assert [_, %{body: body}] = Codex.Test.requests(model)
      assert inspect(body["input"]) =~ "Hello"
    end
  end

  describe "the result of a streamed run" do
    test "is there after its events, and on its own; its thread goes on" do
      script = [message("Hello", deltas: ["Hel", "lo"]), "Two.", "Three."]
      {_model, exec} = start(script)
      model = Codex.Test.start!(script)
      app_server = Codex.Connected.thread!(model, Codex.Connected.connect!(model))

      for thread <- [exec, app_server] do
        {:ok, run} = Thread.run_streamed(thread, "one")
        assert run |> Codex.Stream.text() |> Enum.join() == "Hello"

        assert {:ok, %{final_response: %{text: "Hello"}, events: events}} =
                 RunResultStreaming.result(run)

        assert {:ok, %{thread: %{thread_id: id} = next}} = RunResultStreaming.result(run)
        assert %Events.TurnCompleted{} = List.last(events)

        {:ok, second} = Thread.run_streamed(next, "two")
        assert {:ok, %{thread: %{thread_id: ^id}} = result} = RunResultStreaming.result(second)
        assert "#{result}" == "Two."
        assert RunResultStreaming.usage(second) == result.usage

        assert {:error, {:exec_failed, %Error{kind: :unsupported}}} =
                 RunResultStreaming.result(run)

        {:ok, third} = Thread.run_streamed(result.thread, "three")
        assert Enum.count(RunResultStreaming.raw_events(third)) > 2

        assert {:ok, %{events: [], final_response: %{text: "Three."}}} =
                 RunResultStreaming.result(third)

        other = Task.async(fn -> RunResultStreaming.result(third) end)
        assert {:error, {:exec_failed, %Error{kind: :unsupported}}} = Task.await(other)
      end

      assert length(Codex.Test.requests(model)) == 3
    end

    test "is an error if the turn failed, was halted or cancelled, or could not begin" do
      for read <- [&Enum.to_list/1, fn _run -> :ok end] do
        {_model, thread} = start([http_error(400, "bad request")])
        {:ok, run} = Thread.run_streamed(thread, "hi")
        _ = try(do: read.(run), rescue: (Error -> :ok))
        assert {:error, {:turn_failed, error}} = RunResultStreaming.result(run)
        assert error.message =~ "bad request"
        assert %{thread: %{thread_id: "" <> _}} = error.result
      end

      {_model, thread} = start(["fine"])
      {:ok, run} = Thread.run_streamed(thread, "hi")
      assert [_agent, %{event: %Events.ThreadStarted{}}] = Enum.take(run, 2)
      assert {:error, {:exec_failed, error}} = RunResultStreaming.result(run)
      assert %Error{kind: :interrupted, result: %{thread: %{thread_id: "" <> _}}} = error

      {:ok, run} = Thread.run_streamed(thread, "hi")
      :ok = RunResultStreaming.cancel(run)
      assert {:error, {:exec_failed, %Error{kind: :interrupted}}} = RunResultStreaming.result(run)

      {:ok, run} = Thread.run_streamed(thread, "hi", start_timeout_ms: 1)
      assert {:error, {:exec_failed, %Error{kind: :timeout}}} = RunResultStreaming.result(run)
    end
  end

  describe "the text of a stream" do
    test "raises if the turn fails, however it is read" do
      for read <- [&Thread.run_turn_streamed/2, &exec_stream/2, &streamed/2] do
        {_model, thread} = start([http_error(400, "bad request")])
        {:ok, events} = read.(thread, "hi")
        error = assert_raise Error, fn -> events |> Codex.Stream.text() |> Enum.to_list() end
        assert error.message =~ "bad request"
      end
    end

    defp exec_stream(thread, input),
      do: Exec.run_stream(input, codex_opts: thread.codex_opts, thread: thread)

    defp streamed(thread, input) do
      with {:ok, run} <- Thread.run_streamed(thread, input),
           do: {:ok, RunResultStreaming.events(run)}
    end
  end

  describe "nothing is left behind" do
    # Commands run in sessions of their own, and their children would outlive SIGTERM.
    defp sleeper(n),
      do: shell("sh -c 'sleep #{n} & sleep #{n}; echo never'", yield_time_ms: 30_000)

    defp thread_with_sleeper(n), do: start([sleeper(n)], [], sandbox: :danger_full_access)

    defp command_started(stream) do
      Enum.find(stream, &match?(%Events.ItemStarted{item: %Items.CommandExecution{}}, &1))
    end

    test "when a stream is halted" do
      n = unique_sleep()
      {_model, thread} = thread_with_sleeper(n)
      {:ok, stream} = Thread.run_turn_streamed(thread, "sleep")
      assert command_started(stream)
      assert running("sleep #{n}") == []
    end

    test "when the reader is killed" do
      n = unique_sleep()
      {model, thread} = thread_with_sleeper(n)
      reader = spawn(fn -> Thread.run(thread, "sleep") end)
      assert eventually(fn -> running("sleep #{n}") != [] end)
      Process.exit(reader, :kill)
      assert eventually(fn -> running("sleep #{n}") == [] end)
      assert eventually(fn -> running(model.workspace) == [] end)
    end

    test "when a run times out" do
      n = unique_sleep()
      {_model, thread} = thread_with_sleeper(n)

      assert {:error, {:exec_failed, %Error{kind: :timeout}}} =
               Thread.run(thread, "sleep", timeout_ms: 2_000)

      assert running("sleep #{n}") == []
    end

    test "when the whole VM is killed" do
      n = unique_sleep()
      {model, thread} = thread_with_sleeper(n)

      options = Codex.Test.thread_options(model) ++ [sandbox: thread.thread_opts.sandbox]

      script = """
      {:ok, thread} = Codex.start_thread(#{OtherVM.client(model)}, #{inspect(options)})
      Codex.Thread.run(thread, "sleep")
      """

      port = OtherVM.start(script)
      assert_receive {^port, {:data, {:eol, "pid " <> vm}}}, 20_000
      assert eventually(fn -> running("sleep #{n}") != [] end)

      {_, 0} = System.cmd("kill", ["-KILL", vm])
      gone? = fn -> running("sleep #{n}") == [] and running(model.workspace) == [] end
      assert eventually(gone?, 3_000)
    end

    test "not even a word in ps while it runs" do
      n = unique_sleep()
      model = Codex.Test.start!([sleeper(n)])

      {:ok, thread} =
        Codex.start_thread(
          [api_key: "sk-canary-key"] ++ Codex.Test.options(model),
          Codex.Test.thread_options(model) ++ [sandbox: :danger_full_access]
        )

      {:ok, stream} = Thread.run_turn_streamed(thread, "canary prompt")

      assert Enum.find(stream, fn
               %Events.ItemStarted{item: %Items.CommandExecution{}} ->
                 assert running("sleep #{n}") != []
                 assert running("canary prompt") == []
                 assert running("sk-canary-key") == []
                 true

               _ ->
                 false
             end)
    end
  end
end
