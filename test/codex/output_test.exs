defmodule Codex.OutputTest do
  # The options `output` and `repair`, with the real CLI and a scripted model.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Test.Steps

  alias Codex.{Events, Exec, RunResultStreaming, Thread}
  alias Codex.Turn.Result

  @moduletag :codex_cli

  @fields [city: :string, kind: {:enum, [:town, :village]}, note: {:optional, :string}]
  @good %{city: "Oslo", kind: "town", note: nil}
  @bad %{city: 1, kind: "town", note: nil}

  defmodule City do
    use Codex.Schema, city: :string
    @impl true
    def validate(%{city: "Atlantis"}), do: {:error, [%{path: ["city"], message: "must exist"}]}
    def validate(_city), do: :ok
  end

  # Each response of the model counts 10 tokens of input and 3 of output.
  defp answer(term), do: respond([json(term)], usage: %{input_tokens: 10, output_tokens: 3})

  defp answer_late(term), do: respond([json(term)], delay_ms: 60_000)

  defp start(transport, script, thread_opts \\ [])
  defp start(:exec, script, opts), do: Codex.Scripted.start(script, [], opts)

  defp start(:app_server, script, opts) do
    model = Codex.Test.start!(script)
    {model, thread!(model, connect!(model), opts)}
  end

  defp format(%{body: %{"text" => %{"format" => format}}}), do: format

  # The newest text of the user in a request.
  defp prompt(%{body: %{"input" => input}}) do
    input
    |> Enum.filter(&(&1["role"] == "user"))
    |> List.last()
    |> Map.fetch!("content")
    |> Enum.map_join(& &1["text"])
  end

  defp ends(events), do: for(%Events.TurnCompleted{} = event <- events, do: event)

  for transport <- [:exec, :app_server] do
    describe "over #{transport}" do
      @describetag transport: transport

      test "an answer is decoded by fields, a module and a schema", %{transport: transport} do
        schema = %{type: "object", properties: %{city: %{type: "string", maxLength: 3}}}

        {model, thread} =
          start(
            transport,
            List.duplicate(answer(@good), 1) ++
              [answer(%{city: "Bergen"}), answer(%{city: "Bergen"})]
          )

        {:ok, result} = Thread.run(thread, "Which city?", output: @fields)
        assert Result.output(result) == {:ok, %{city: "Oslo", kind: :town}}
        assert Result.json(result) == {:ok, %{"city" => "Oslo", "kind" => "town", "note" => nil}}
        assert %{repairs: 0, attempts: 1} = result

        {:ok, result} = Thread.run(result.thread, "Another?", output: City)
        assert Result.output(result) == {:ok, %City{city: "Bergen"}}

        {:ok, result} = Thread.run(result.thread, "Once more?", output: schema)
        fault = %{path: ["city"], message: "must have at most 3 characters"}
        assert Result.output(result) == {:error, {:invalid_output, [fault]}}

        assert [one, _two, three] = Codex.Test.requests(model)
        {:ok, strict} = Codex.Schema.strict(@fields)
        assert %{"type" => "json_schema", "strict" => true, "schema" => ^strict} = format(one)

        assert format(three)["schema"]["properties"] == %{
                 "city" => %{"type" => ["string", "null"]}
               }
      end

      test "the model gets the fields in their order", %{transport: transport} do
        fields = [zeta: :string, alpha: {:list, [y: :string, x: {:optional, :string}]}]
        order = ~r/"properties":\{"zeta":.*"alpha":.*"properties":\{"y":.*"x":/s
        rules = [[step: json(%{zeta: "z", alpha: []}), contains: order]]
        model = Codex.Test.start!([], rules: rules)
        transport = if transport == :exec, do: :exec, else: {:app_server, connect!(model)}
        opts = [transport: transport] ++ Codex.Test.thread_options(model)
        {:ok, thread} = Codex.start_thread(Codex.Test.options(model), opts)
        {:ok, result} = Thread.run(thread, "?", output: fields)
        assert Result.output(result) == {:ok, %{zeta: "z", alpha: []}}
      end

      test "an answer that does not fit is asked for again", %{transport: transport} do
        script = [answer(%{}), answer(@bad), answer(@good), answer(%{city: "x"})]
        {model, thread} = start(transport, script)
        test = self()

        {:ok, result} =
          Thread.run(thread, "Which city?",
            output: @fields,
            repair: 3,
            on_event: &send(test, {:event, &1})
          )

        assert Result.output(result) == {:ok, %{city: "Oslo", kind: :town}}
        assert %{repairs: 2, attempts: 3, usage_scope: :turn} = result
        assert %{"input_tokens" => 30, "output_tokens" => 9} = result.usage
        assert length(ends(result.events)) == 3
        assert Enum.count(result.events, &is_struct(&1, Events.ThreadStarted)) == 1
        assert_received {:event, %Events.TurnCompleted{}}

        assert [one, two, three] = Codex.Test.requests(model)
        assert prompt(one) == "Which city?"
        assert prompt(two) =~ "- the answer: city is required\n- the answer: kind is required"

        assert prompt(three) =~
                 "JSON schema:\n- city must be a string, got a number\nAnswer again"

        assert format(three) == format(one)
        # The thread goes on.
        assert {:ok, %{usage: %{"input_tokens" => 10}}} = Thread.run(result.thread, "And now?")
      end

      test "the last answer is returned if no repair is left", %{transport: transport} do
        {model, thread} =
          start(transport, [answer(%{city: "Atlantis"}), answer(%{city: "Atlantis"})])

        {:ok, result} = Thread.run(thread, "Which city?", output: City, repair: 1)

        assert Result.output(result) ==
                 {:error, {:invalid_output, [%{path: ["city"], message: "must exist"}]}}

        assert %{repairs: 1, attempts: 2, usage: %{"input_tokens" => 20}} = result
        assert [_, two] = Codex.Test.requests(model)
        assert prompt(two) =~ "- city must exist\n"
      end

      test "the answer of a further turn that has none is missing", %{transport: transport} do
        {_model, thread} = start(transport, [answer(@bad), respond([])])
        {:ok, result} = Thread.run(thread, "Which city?", output: @fields, repair: 2)
        assert result.final_response == nil

        assert Result.output(result) ==
                 {:error, {:invalid_output, [%{path: [], message: "is missing"}]}}

        assert result.repairs == 1
      end

      test "a stream has the events of all turns", %{transport: transport} do
        {_model, thread} = start(transport, [answer(@bad), answer(@good)])
        {:ok, run} = Thread.run_streamed(thread, "Which city?", output: @fields, repair: 1)
        events = run |> RunResultStreaming.raw_events() |> Enum.to_list()
        assert length(ends(events)) == 2
        assert Enum.count(events, &is_struct(&1, Events.ThreadStarted)) == 1
        {:ok, result} = RunResultStreaming.result(run)
        assert Result.output(result) == {:ok, %{city: "Oslo", kind: :town}}
        assert %{repairs: 1, usage: %{"input_tokens" => 20, "output_tokens" => 6}} = result
      end

      test "a run that is cancelled after its turn is not repaired", %{transport: transport} do
        {model, thread} = start(transport, [answer(@bad), answer(@good)])
        {:ok, run} = Thread.run_streamed(thread, "Which city?", output: @fields, repair: 1)

        for %Events.TurnStarted{} <- RunResultStreaming.raw_events(run),
            do: :ok = RunResultStreaming.cancel(run, :after_turn)

        {:ok, result} = RunResultStreaming.result(run)
        assert {:error, {:invalid_output, _}} = Result.output(result)
        assert result.repairs == 0
        assert length(Codex.Test.requests(model)) == 1
      end

      test "the answer of an agent is repaired, too", %{transport: transport} do
        {:ok, agent} = Codex.Agent.new(name: "clerk", instructions: "Be brief.")
        {model, thread} = start(transport, [answer(@bad), answer(@good)])
        opts = %{agent: agent, turn_opts: [output: @fields, repair: 1]}
        {:ok, result} = Codex.AgentRunner.run(thread, "Which city?", opts)
        assert Result.output(result) == {:ok, %{city: "Oslo", kind: :town}}
        assert %{repairs: 1, usage: %{"input_tokens" => 20}} = result
        assert length(Codex.Test.requests(model)) == 2
      end

      test "events alone are streamed, too", %{transport: transport} do
        {_model, thread} = start(transport, [answer(@bad), answer(@good)])

        {:ok, events} =
          Thread.run_turn_streamed(thread, "Which city?", output: @fields, repair: 1)

        events = Enum.to_list(events)
        assert length(ends(events)) == 2
        assert Enum.all?(events, &is_struct/1)
      end

      test "a reader that stops ends the further turn", %{transport: transport} do
        {model, thread} = start(transport, [answer(@bad), silence()])

        {:ok, events} =
          Thread.run_turn_streamed(thread, "Which city?", output: @fields, repair: 1)

        assert [_, _] =
                 events
                 |> Stream.filter(&is_struct(&1, Events.TurnStarted))
                 |> Enum.take(2)

        assert Codex.running() |> Enum.filter(&(&1.pid == self())) == []
        assert length(Codex.Test.requests(model)) <= 2
      end

      test "a failed turn is not repaired", %{transport: transport} do
        for step <- [failed("invalid_prompt", "no"), incomplete("max_output_tokens")] do
          {model, thread} = start(transport, [step, answer(@good)])

          assert {:error, {:turn_failed, error}} =
                   Thread.run(thread, "?", output: @fields, repair: 2)

          assert error.result.repairs == 0
          assert length(Codex.Test.requests(model)) == 1
        end
      end

      test "a turn without a message is not repaired: the model refused", %{transport: transport} do
        refusal =
          item(%{
            "type" => "message",
            "role" => "assistant",
            "content" => [%{"type" => "refusal", "refusal" => "I cannot."}]
          })

        {model, thread} = start(transport, [respond([refusal]), answer(@good)])
        {:ok, result} = Thread.run(thread, "?", output: @fields, repair: 2)
        assert {:error, {:invalid_output, [%{path: []}]}} = Result.output(result)
        assert result.repairs == 0
        assert length(Codex.Test.requests(model)) == 1
      end

      test "a further turn that fails is the error of the call", %{transport: transport} do
        {_model, thread} = start(transport, [answer(@bad), failed("invalid_prompt", "no")])

        assert {:error, {:turn_failed, error}} =
                 Thread.run(thread, "?", output: @fields, repair: 2)

        assert %{repairs: 1, attempts: 2} = error.result
        assert length(ends(error.result.events)) == 1
      end

      test "a further turn is tried again as the options say", %{transport: transport} do
        again = [retry: true, retry_opts: [base_delay_ms: 1, max_delay_ms: 1]]
        overloaded = failed("server_is_overloaded", "busy")
        {model, thread} = start(transport, [answer(@bad), overloaded, answer(@good)])
        {:ok, result} = Thread.run(thread, "?", [output: @fields, repair: 1] ++ again)
        assert Result.output(result) == {:ok, %{city: "Oslo", kind: :town}}
        assert %{repairs: 1, attempts: 3} = result
        assert [_, two, three] = Codex.Test.requests(model)
        assert prompt(two) =~ "does not fit"
        assert prompt(three) =~ "does not fit"
      end

      test "the extras of all turns are kept", %{transport: transport} do
        {_model, thread} = start(transport, [answer(@bad), answer(@good)])
        {:ok, result} = Thread.run(thread, "?", output: @fields, repair: 1, keep: [:raw])
        ended = ~r/"turn[.\/]completed"/
        assert Enum.count(result.raw.json, &(&1 =~ ended)) == 2
        refute result.raw.json_truncated?
      end

      test "a stopped turn is not repaired", %{transport: transport} do
        {model, thread} = start(transport, [answer_late(@bad), answer(@good)])
        reader = self()

        stop = fn
          %Events.TurnStarted{} -> spawn(fn -> Codex.stop(reader) end)
          _event -> :ok
        end

        assert {:error, {:exec_failed, %{kind: :interrupted} = error}} =
                 Thread.run(thread, "?", output: @fields, repair: 2, on_event: stop)

        assert error.result.repairs == 0
        assert length(Codex.Test.requests(model)) <= 1
      end

      test "the limit of the call holds for all turns", %{transport: transport} do
        {_model, thread} = start(transport, [answer(@bad), silence()])
        opts = [output: @fields, repair: 2, total_timeout_ms: 4_000]
        assert {:error, {:exec_failed, %{kind: :timeout} = error}} = Thread.run(thread, "?", opts)
        assert error.result.repairs == 1
      end

      test "an interrupted turn is not repaired", %{transport: transport} do
        {model, thread} = start(transport, [answer(@bad), silence()])
        test = self()

        halt = fn
          %Events.TurnCompleted{} -> {:halt, :enough}
          event -> send(test, event)
        end

        assert {:error, {:exec_failed, %{kind: :interrupted} = error}} =
                 Thread.run(thread, "?", output: @fields, repair: 2, on_event: halt)

        assert error.result.repairs == 0
        assert length(Codex.Test.requests(model)) == 1
      end

      test "a remembered thread is repaired", %{transport: transport} do
        {model, thread} = start(transport, [answer(%{}), answer(@bad), answer(@good)])
        {:ok, %{thread: thread}} = Thread.run(thread, "Hi")
        opts = [transport: thread.transport] ++ Codex.Test.thread_options(model)
        {:ok, again} = Codex.resume_thread(thread.thread_id, Codex.Test.options(model), opts)
        {:ok, result} = Thread.run(again, "Which city?", output: @fields, repair: 1)
        assert Result.output(result) == {:ok, %{city: "Oslo", kind: :town}}
        assert result.repairs == 1
        assert result.thread.thread_id == thread.thread_id
        # `codex exec` reports totals of the thread only.
        expected = if transport == :exec, do: {:thread, 30}, else: {:turn, 20}
        assert {result.usage_scope, result.usage["input_tokens"]} == expected
      end

      test "options that have no effect are errors before anything runs", %{transport: transport} do
        {model, thread} = start(transport, [])
        schema = %{type: "object", properties: %{}, additionalProperties: false}

        for {opts, reason} <- [
              {[output: %{type: "array"}], {:invalid_schema, [], "root"}},
              {[output: [a: :strin]], {:invalid_schema, ["properties", "a"], "type"}},
              {[output: schema, output_schema: schema],
               {:unsupported_option, :output_schema, :output}},
              {[repair: 1], {:unsupported_option, :repair, :no_output}},
              {[repair: 1, output_schema: schema], {:unsupported_option, :repair, :no_output}}
            ] do
          assert Thread.run(thread, "?", opts) == {:error, reason}
          assert Thread.run_streamed(thread, "?", opts) == {:error, reason}
          assert Codex.Error.normalize(reason).kind in [:invalid_request, :unsupported]
        end

        for output <- [String, 1, [], [1], "x"],
            do:
              assert(
                {:error, %Codex.OptionError{key: :output}} =
                  Thread.run(thread, "?", output: output)
              )

        assert {:error, {:unsupported_option, :output}} =
                 Thread.review(thread, "Look", output: schema)

        assert Codex.Test.requests(model) == []
      end
    end
  end

  test "an ephemeral thread is repaired over an app-server only" do
    for option <- [:ephemeral, :worktree] do
      {model, thread} = start(:exec, [answer(@bad)], [{option, true}])
      reason = {:unsupported_option, :repair, option}
      assert Thread.run(thread, "?", output: @fields, repair: 1) == {:error, reason}
      assert Codex.Error.normalize(reason).message =~ "with #{option}: true"
      assert Codex.Test.requests(model) == []
    end

    {_model, thread} = start(:app_server, [answer(@bad), answer(@good)], ephemeral: true)
    {:ok, result} = Thread.run(thread, "?", output: @fields, repair: 1)
    assert {:ok, %{city: "Oslo"}} = Result.output(result)
  end

  test "images go with the first turn only" do
    {model, thread} = start(:exec, [answer(@bad), answer(@good)])
    path = Path.join(model.workspace, "dot.png")

    File.write!(
      path,
      Base.decode64!(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ" <>
          "RU5ErkJggg=="
      )
    )

    {:ok, result} = Thread.run(thread, "?", output: @fields, repair: 1, images: [path])
    assert {:ok, _} = Result.output(result)

    assert [one, two] =
             for(
               %{body: body} <- Codex.Test.requests(model),
               do: inspect(body["input"], limit: :infinity, printable_limit: :infinity)
             )

    assert length(String.split(one, "data:image/png")) ==
             length(String.split(two, "data:image/png"))
  end

  test "Codex.Exec repairs, and returns the events" do
    {model, thread} = start(:exec, [answer(@bad), answer(@good)])

    opts = %{
      codex_opts: thread.codex_opts,
      thread: thread,
      turn_opts: %{output: @fields, repair: 1}
    }

    {:ok, %{events: events}} = Exec.run("Which city?", opts)
    assert length(ends(events)) == 2
    assert length(Codex.Test.requests(model)) == 2

    path = Path.join(model.workspace, "schema.json")

    assert Exec.run("?", Map.put(opts, :output_schema_path, path)) ==
             {:error, {:unsupported_option, :output_schema_path, :output}}
  end

  test "a result without the option has no output" do
    {_model, thread} = start(:exec, ["{}"])
    {:ok, result} = Thread.run(thread, "?", output_schema: %{type: "object"})
    assert Result.output(result) == {:error, :not_structured}
    assert Result.json(result) == {:ok, %{}}
  end
end
