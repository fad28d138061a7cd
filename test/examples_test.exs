defmodule Codex.ExamplesTest do
  # The programs of `examples/` run in a VM of their own, with the real CLI: its home, a scripted
  # model's, comes from the environment, as a user's does.
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  alias Codex.{Example, Git, OtherVM, Test}

  @moduletag :codex_cli
  @moduletag :tmp_dir

  defp run(model, name, args \\ [], env \\ %{}),
    do: OtherVM.run(Example.program(model, name, args, env))

  defp lines(output), do: String.split(output, "\n", trim: true)

  describe "ci_review.exs" do
    defp repository(script) do
      model = Test.start!(script, git: true)
      Git.commit!(model.workspace)
      Git.run!(model.workspace, ~w(branch -f base))
      File.write!(Path.join(model.workspace, "a.ex"), "new\n")
      model
    end

    defp answer(model, findings, verdict \\ "patch is correct") do
      findings =
        for {title, priority} <- findings do
          place = %{
            absolute_file_path: Path.join(model.workspace, "lib/a,b.ex"),
            line_range: %{start: 3, end: 4}
          }

          %{title: title, body: "50% of it\nis lost.", priority: priority, code_location: place}
        end

      json(%{findings: findings, overall_correctness: verdict, overall_explanation: "E."})
    end

    test "passes a change without urgent findings, after an attempt that failed" do
      model = repository([http_error(503, "busy")])
      Test.push(model, answer(model, [{"Slow", 3}]))

      assert {out, 0} = run(model, "ci_review.exs")
      assert [failed, finding, sum] = lines(out)
      assert failed =~ "attempt 1 failed: "
      assert finding =~ ~r/^- .*a,b.ex:3 Slow$/
      assert sum == "1 findings, 0 urgent; verdict: correct"
    end

    test "fails for an urgent finding, and annotates it on GitHub" do
      model = repository([])
      Test.push(model, answer(model, [{"[P1] Off by one", 1}, {"Odd: this", 2}]))
      args = ["--base", "base"]

      assert {out, 1} = run(model, "ci_review.exs", args, %{"GITHUB_ACTIONS" => "true"})

      assert [_, error, _, warning, sum] = lines(out)
      place = "file=lib/a%2Cb.ex,line=3,endLine=4"
      body = "50%25 of it%0Ais lost."
      assert error == "::error #{place},title=[P1] Off by one::#{body}"
      assert warning == "::warning #{place},title=Odd%3A this::#{body}"
      assert sum =~ "2 findings, 1 urgent"
    end

    test "fails for a finding without a priority, and for another verdict" do
      for {findings, verdict} <- [
            {[{"Off by one", nil}], "patch is correct"},
            {[], "patch is incorrect"}
          ] do
        model = repository([])
        Test.push(model, answer(model, findings, verdict))
        assert {_out, 1} = run(model, "ci_review.exs")
      end
    end

    test "reports a missing review" do
      for {script, args, message} <- [
            {["Looks good."], [], "unreadable"},
            {[silence(:infinity)], ["--seconds", "2"], "total_timeout_ms"},
            {[http_error(400, "bad")], [], "bad"},
            {[], ["--base", "nope"], "no such branch"},
            {[], ["--bsae", "main"], "usage: "}
          ] do
        assert {out, 2} = run(repository(script), "ci_review.exs", args)
        assert out =~ message
      end
    end
  end

  describe "chat_backend.exs" do
    defp chat(script) do
      model = Test.start!(script, git: true)
      {model, OtherVM.start(Example.program(model, "chat_backend.exs"))}
    end

    defp type(port, line), do: Port.command(port, line <> "\n")

    # Waits for a line of the chat that has this text.
    defp await(port, text) do
      receive do
        {^port, {:data, {_end, line}}} -> if line =~ text, do: line, else: await(port, text)
      after
        60_000 -> flunk("the chat did not say #{inspect(text)}")
      end
    end

    defp asking(cmd), do: shell(cmd, sandbox_permissions: "require_escalated", justification: "?")
    defp texts(input), do: for(%{"content" => [%{"text" => text}]} <- input, do: text)

    test "asks the user, who may say no, and goes on with the conversation" do
      {model, port} =
        chat([
          asking("touch made"),
          message("Not made.", deltas: ["Not ", "made."]),
          asking("touch made"),
          "Made.",
          "You asked twice."
        ])

      type(port, "Make it")
      assert await(port, "[may I?") =~ "touch made"
      type(port, "n")
      await(port, "Not made.")
      refute File.exists?(Path.join(model.workspace, "made"))

      type(port, "Make it now")
      await(port, "[may I?")
      type(port, "y")
      await(port, "Made.")
      assert File.exists?(Path.join(model.workspace, "made"))

      type(port, "How often did I ask?")
      await(port, "You asked twice.")
      %{body: %{"input" => input}} = List.last(Test.requests(model))

      assert ["Make it", "Not made.", "Make it now", "Made.", "How often" <> _] =
               Enum.take(texts(input), -5)

      Port.close(port)
    end

    test "stops a turn, shows one that failed, and goes on after both" do
      {model, port} =
        chat([
          silence(:infinity, after: ["Let me think.\n"]),
          http_error(400, "no such thing"),
          "Here."
        ])

      type(port, "/stop")
      await(port, "[nothing to stop]")
      type(port, "Think")
      await(port, "Let me think.")
      type(port, "/stop")
      await(port, "[stopped]")

      type(port, "Again")
      assert await(port, "[failed: ") =~ "no such thing"
      type(port, "Still there?")
      await(port, "Here.")
      %{body: %{"input" => input}} = List.last(Test.requests(model))
      assert "Think" in texts(input) and "Again" in texts(input)
      Port.close(port)
    end
  end

  describe "batch.exs" do
    # A prompt that no answer comes to takes all of its time: on one transport only.
    for {flags, silent} <- [{["--seconds", "20"], ["prompt 9."]}, {["--app-server"], []}] do
      test "runs 40 prompts, and reports those that failed #{inspect(flags)}" do
        hang = for text <- unquote(silent), do: [contains: text, step: silence(:infinity)]
        bad = [contains: "prompt 7.", step: http_error(400, "no such thing")]
        once = [contains: "prompt 3.", step: http_error(503, "busy")]
        model = Test.start!([], rules: [once, bad | hang], default: "Done.")
        prompts = Enum.map_join(1..40, "\n", &"This is prompt #{&1}.")
        File.write!(Path.join(model.workspace, "prompts.txt"), prompts <> "\n\n")
        assert {out, 1} = run(model, "batch.exs", ["prompts.txt" | unquote(flags)])
        {json, rest} = out |> lines() |> Enum.split_with(&String.starts_with?(&1, "{"))

        results =
          for line <- json do
            {:ok, result} = Codex.JSON.decode(line)
            result
          end

        assert Enum.map(results, & &1["line"]) == Enum.to_list(1..40)
        {done, failed} = Enum.split_with(results, & &1["ok"])
        assert Enum.all?(done, &(&1["answer"] == "Done." and &1["usage"]["input_tokens"] == 100))
        assert Enum.find(done, &(&1["line"] == 3))["attempts"] == 2
        assert [%{"line" => 7, "message" => message} | timeouts] = failed
        assert message =~ "no such thing"
        assert length(timeouts) == length(unquote(silent))
        for timeout <- timeouts, do: assert(%{"line" => 9, "kind" => "timeout"} = timeout)

        n = length(done)
        sum = "#{n} done, #{40 - n} failed; tokens: #{n * 100} in, #{n * 20} out"
        assert rest == [sum]
      end
    end

    test "runs a prompt once if there is a journal, also after another failed" do
      bad = [contains: "prompt 2.", step: http_error(400, "no such thing")]
      model = Test.start!([], rules: [bad], default: "Done.")
      text = "This is prompt 1.\nThis is prompt 2.\n"
      File.write!(Path.join(model.workspace, "prompts.txt"), text)
      args = ["prompts.txt", "--journal", "night.journal"]
      assert {first, 1} = run(model, "batch.exs", args)
      asked = length(Test.requests(model))

      File.write!(Path.join(model.workspace, "prompts.txt"), text <> "This is prompt 3.\n")
      assert {second, 1} = run(model, "batch.exs", args)
      assert length(Test.requests(model)) == asked + 1
      assert Enum.slice(lines(second), 0, 2) == Enum.slice(lines(first), 0, 2)
      assert second =~ "2 done, 1 failed"

      File.write!(Path.join(model.workspace, "night.journal"), "no journal")
      assert {"batch: " <> _, 2} = run(model, "batch.exs", args)
    end

    test "names an unreadable file" do
      model = Test.start!([])
      assert {out, 2} = run(model, "batch.exs", ["nope.txt"])
      assert out =~ "nope.txt"
      assert {"usage: " <> _, 2} = run(model, "batch.exs")
    end
  end

  describe "tool_and_schema.exs" do
    @reply %{order: "17", status: "sent", reply: "It comes by bike."}

    test "calls the tool, and decodes the answer" do
      model = Test.start!([tool_call("order_status", %{number: "17"}), json(@reply)], git: true)
      assert {out, 0} = run(model, "tool_and_schema.exs", ["Where is order 17?"])
      assert lines(out) == ["17: sent", "It comes by bike."]

      %{body: %{"input" => input}} = List.last(Test.requests(model))
      assert List.last(input)["output"] =~ "by bike"
    end

    test "the model hears of wrong arguments, and can call again" do
      calls = for args <- [%{nr: 17}, %{number: "99"}], do: tool_call("order_status", args)
      reply = json(%{@reply | status: "unknown", reply: "No such order."})
      model = Test.start!(calls ++ [reply], git: true)
      assert {out, 0} = run(model, "tool_and_schema.exs", ["Where is order 99?"])
      assert "17: unknown" in lines(out)

      outputs =
        for %{body: %{"input" => input}} <- Test.requests(model),
            output = List.last(input)["output"],
            do: inspect(output)

      assert [wrong, unknown] = outputs
      assert wrong =~ "number"
      assert unknown =~ "there is no order 99"
    end

    test "an answer that does not fit is a failure" do
      for {step, message} <- [
            {"It is on its way.", "not one JSON document"},
            {json(%{@reply | status: "lost"}), "lost"},
            {http_error(400, "no such thing"), "no such thing"}
          ] do
        assert {out, 1} = run(Test.start!([step], git: true), "tool_and_schema.exs", ["Where?"])
        assert out =~ "no answer: "
        assert out =~ message
      end

      assert {"usage: " <> _, 2} = run(Test.start!([]), "tool_and_schema.exs")
    end
  end

  describe "sessions.exs" do
    test "lists threads of every source, shows one, and goes on with it" do
      model = Test.start!(["It is a parser.", "Nobody calls it."], git: true)
      client = Test.options(model)
      {:ok, thread} = Codex.start_thread(client, Test.thread_options(model))
      {:ok, result} = Codex.Thread.run(thread, "What is this?")
      id = result.thread.thread_id

      assert {listed, 0} = run(model, "sessions.exs")
      assert [line] = lines(listed)
      assert line =~ id
      assert line =~ "exec"
      assert line =~ "What is this?"
      assert {^listed, 0} = run(model, "sessions.exs", ["--here"])

      assert {"Nobody calls it.\n", 0} = run(model, "sessions.exs", [id, "Who calls it?"])
      assert {out, 0} = run(model, "sessions.exs", [id])

      assert lines(out) ==
               ["> What is this?", "It is a parser.", "> Who calls it?", "Nobody calls it."]
    end

    test "reports an empty list, and an unknown thread" do
      model = Test.start!([], git: true)
      assert {"no threads\n", 0} = run(model, "sessions.exs")
      id = "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"

      for args <- [[id], [id, "And then?"], ["no id", "And then?"]] do
        assert {"sessions: " <> message, 1} = run(model, "sessions.exs", args)
        assert message =~ id or message =~ "invalid"
      end

      assert {"usage: " <> _, 2} = run(model, "sessions.exs", ["--all"])
    end
  end
end
