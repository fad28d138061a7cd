defmodule Codex.TurnTest do
  # Results of events, without a CLI.
  use ExUnit.Case, async: true

  alias Codex.AppServer.EventDecoder
  alias Codex.{Error, Events, Items, Turn}
  alias Codex.JSON.Answer
  alias Codex.Turn.Result

  doctest Turn
  doctest Answer

  defp turn(events, structured? \\ false) do
    {:ok, client} = Codex.Options.new([])
    {:ok, options} = Codex.Thread.Options.new([])

    client
    |> Codex.Thread.build(options)
    |> Turn.new(structured?)
    |> then(&Enum.reduce(events, &1, fn event, turn -> turn |> Turn.add(event) |> elem(1) end))
    |> Turn.result()
  end

  defp message(text, phase \\ nil),
    do: %Events.ItemCompleted{item: %Items.AgentMessage{text: text, phase: phase}}

  defp notice(method, params),
    do: EventDecoder.decode(method, params)

  describe "the answer" do
    test "is the last message of the phase final_answer, else the last message" do
      for {messages, answer} <- [
            {[message("A", "final_answer"), message("c", "commentary")], "A"},
            {[message("A", "final_answer"), message("B", "final_answer")], "B"},
            {[message("c", "commentary"), message("A", "final_answer"), message("n")], "A"},
            {[message("c", "commentary"), message("d", "commentary")], "d"},
            {[message("n"), message("m")], "m"},
            {[message("A"), message("x", "another_phase")], "x"}
          ] do
        {:ok, result} = turn(messages ++ [%Events.TurnCompleted{usage: %{}}])
        assert result.final_response.text == answer
        assert to_string(result) == answer

        assert {_thread, %{text: ^answer}, _usage} =
                 Codex.Thread.reduce_events(result.thread, messages)
      end

      assert {:ok, %Result{final_response: nil} = result} = turn([%Events.TurnCompleted{}])
      assert "#{result}" == ""
    end

    test "is decoded from the final answer, whatever follows it" do
      messages = [message(~s({"a":1}), "final_answer"), message("By the way.", "commentary")]
      {:ok, result} = turn(messages, true)
      assert Result.json(result) == {:ok, %{"a" => 1}}
      assert result.final_response.parsed == %{"a" => 1}
    end

    test "with a schema may stand in one fence, with a byte order mark and blanks around it" do
      bom = "\uFEFF"

      for text <- [
            ~s({"a":1}),
            ~s(  \r\n{"a":1}\r\n),
            bom <> ~s({"a":1}),
            bom <> "\n" <> ~s({"a":1}) <> bom <> "\n",
            ~s(```json\n{"a":1}\n```),
            ~s(```\r\n{"a":1}\r\n```\r\n),
            ~s(\n````JSON \n{\n  "a": 1\n}\n````\n\n),
            ~s(~~~json\n{"a":1}\n~~~),
            bom <> ~s(```json\n) <> bom <> ~s({"a":1}\n```)
          ] do
        {:ok, result} = turn([message(text)], true)
        assert {text, Result.json(result)} == {text, {:ok, %{"a" => 1}}}
        assert result.final_response.parsed == %{"a" => 1}
        assert result.final_response.text == text
      end
    end

    test "with prose, two fences or two documents is an error" do
      for text <- [
            ~s(Here:\n```json\n{"a":1}\n```),
            ~s(```json\n{"a":1}\n```\nDone.),
            ~s(```json\n{"a":1}\n```\n```json\n{"a":2}\n```),
            ~s(```json\n{"a":1}\n{"a":2}\n```),
            ~s({"a":1}{"a":2}),
            ~s(````\n```json\n{"a":1}\n```\n````),
            ~s(```json\n{"a":1}),
            "```json\n```",
            ""
          ] do
        {:ok, result} = turn([message(text)], true)
        assert {^text, {:error, {:invalid_json, {reason, at}}}} = {text, Result.json(result)}
        assert is_atom(reason) and is_integer(at)
        assert result.final_response.parsed == nil
      end
    end
  end

  describe "a turn that did not succeed" do
    @failures [
      {%Events.TurnFailed{error: %{"message" => "no"}}, :invalid_request},
      {%Events.TurnFailed{error: %{}}, :unknown},
      {%Events.TurnFailed{error: nil}, :unknown},
      {%Events.TurnCompleted{status: "failed"}, :unknown},
      {%Events.TurnCompleted{status: "error", error: %{"message" => "no"}}, :invalid_request},
      {%Events.TurnCompleted{status: "interrupted"}, :interrupted}
    ]

    test "is an error with the result so far" do
      for {event, kind} <- @failures do
        assert {:error, {:turn_failed, %Error{kind: ^kind} = error}} =
                 turn([message("half"), event])

        assert error.event == event
        assert error.result.final_response.text == "half"
      end
    end

    test "ends its text with an exception, after the text" do
      for {event, kind} <- @failures, wrap <- [& &1, &Codex.StreamEvent.run_item/1] do
        pieces = :counters.new(1, [])

        error =
          assert_raise Error, fn ->
            [message("half"), event]
            |> Enum.map(wrap)
            |> Codex.Stream.text()
            |> Enum.each(fn "half" -> :counters.add(pieces, 1, 1) end)
          end

        assert error.kind == kind and error.event == event
        assert :counters.get(pieces, 1) == 1
      end
    end

    test "is over: no text of a later turn follows" do
      events = [%Events.TurnFailed{error: %{"message" => "no"}}, message("next")]
      assert_raise Error, "no", fn -> Enum.to_list(Codex.Stream.text(events)) end
    end
  end

  describe "inspect" do
    defp lines(term),
      do: term |> inspect(pretty: true, width: 80) |> String.split("\n") |> length()

    test "of results, threads, events and errors fits a screen" do
      item = %Items.CommandExecution{
        id: "i",
        command: String.duplicate("echo ", 500),
        aggregated_output: String.duplicate("line\n", 100_000),
        status: :completed
      }

      todo = %Items.TodoList{items: for(n <- 1..500, do: %{text: "#{n}", completed: false})}
      items = for item <- [item, todo], do: %Events.ItemCompleted{item: item}

      events =
        List.duplicate(hd(items), 200) ++ items ++ [message(String.duplicate("word ", 9_000))]

      usage = %{"input_tokens" => 1_000, "output_tokens" => 20, "cached_input_tokens" => 1}

      {:ok, result} = turn(events ++ [%Events.TurnCompleted{usage: usage}])
      assert inspect(result) =~ "word word" and inspect(result) =~ ~s("input_tokens" => 1000)
      assert inspect(result) =~ "events: 204"

      assert {:error, {_, error}} =
               turn(events ++ [%Events.TurnFailed{error: %{"message" => "no"}}])

      for term <-
            [result, {:ok, result}, result.thread, {:error, {:turn_failed, error}}] ++ items,
          do: assert(lines(term) <= 24)

      assert length(Map.from_struct(result).events) == 204

      assert inspect(hd(items), printable_limit: :infinity) =~
               String.duplicate("line\\n", 100_000)

      assert inspect(todo, limit: :infinity) =~ ~s("500")
      assert inspect(%Events.TurnStarted{}) == "%Codex.Events.TurnStarted{}"

      assert inspect(%Items.AgentMessage{id: "m", text: "Hi"}) ==
               ~s(%Codex.Items.AgentMessage{id: "m", text: "Hi"})
    end

    test "shows no secret and nothing that the host keeps in a thread" do
      {:ok, client} = Codex.Options.new(api_key: "sk-secret-1")
      {:ok, options} = Codex.Thread.Options.new(metadata: %{"token" => "sk-secret-2"})
      thread = Codex.Thread.build(client, options)

      thread = %{
        thread
        | thread_id: "t1",
          labels: %{"l" => "sk-secret-3"},
          metadata: %{"token" => "sk-secret-2"}
      }

      shown = inspect(thread, limit: :infinity, printable_limit: :infinity)
      assert shown =~ ~s(thread_id: "t1")
      for secret <- ["sk-secret-1", "sk-secret-3"], do: refute(shown =~ secret)
    end
  end

  describe "warnings" do
    test "are the texts of warnings that do not fail the turn, each once" do
      events = [
        %Events.ItemCompleted{item: %Items.Error{message: "unknown key `modle`"}},
        %Events.ItemCompleted{item: %Items.Error{message: "unknown key `modle`"}},
        %Events.DeprecationNotice{summary: "`x` is deprecated", details: "Use `y`."},
        notice("configWarning", %{"summary" => "Bad file", "details" => nil, "path" => "/c.toml"}),
        notice("warning", %{"message" => "slow"}),
        notice("mcpServer/startupStatus/updated", %{
          "name" => "db",
          "status" => "failed",
          "error" => "No such file"
        }),
        notice("mcpServer/startupStatus/updated", %{"name" => "ok", "status" => "ready"}),
        notice("configWarning", %{"summary" => 1}),
        notice("thread/status/changed", %{"message" => "not a warning"}),
        %Events.Error{message: "Reconnecting 1/5"},
        %Events.Error{message: "too long", additional_details: %{"line_bytes" => 9}}
      ]

      assert {:ok, %{warnings: warnings}} = turn(events ++ [%Events.TurnCompleted{}])

      assert warnings == [
               "unknown key `modle`",
               "`x` is deprecated: Use `y`.",
               "Bad file: /c.toml",
               "slow",
               "MCP server db did not start: No such file",
               "too long"
             ]

      assert {:error, {_, %{result: %{warnings: ^warnings}}}} =
               turn(events ++ [%Events.TurnFailed{error: %{}}])
    end

    test "are bounded" do
      events =
        for n <- 1..100,
            do: notice("warning", %{"message" => "#{n} #{String.duplicate("x", 9_999)}"})

      assert {:ok, %{warnings: warnings}} = turn(events)
      assert length(warnings) == 65 and List.last(warnings) == "36 more warnings"
      assert Enum.all?(warnings, &(String.length(&1) <= 4_096))
    end
  end
end
