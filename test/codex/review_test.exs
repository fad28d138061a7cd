defmodule Codex.ReviewTest do
  # What reviews find, on both lanes, with the real CLI.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Test.Steps
  alias Codex.{Events, Exec, Items, Review, Test, Thread}
  alias Codex.Review.Finding

  doctest Codex.Review

  @output %{
    findings: [
      %{
        title: "[P1] Off by one — twice",
        body: "The last\n\nis lost.",
        confidence_score: 0.9,
        priority: 1,
        code_location: %{absolute_file_path: "/srv/a.ex", line_range: %{start: 1, end: 2}}
      },
      %{
        title: "Slow",
        body: "- a list\n- of two",
        confidence_score: 0.4,
        priority: 3,
        code_location: %{absolute_file_path: "/srv/b c.ex", line_range: %{start: 5, end: 5}}
      }
    ],
    overall_correctness: "patch is incorrect",
    overall_explanation: "It breaks.",
    overall_confidence_score: 0.8
  }
  @text "It breaks.\n\nFull review comments:\n\n- [P1] Off by one — twice — /srv/a.ex:1-2\n  The last\n  \n  is lost.\n\n- Slow — /srv/b c.ex:5-5\n  - a list\n  - of two"
  @targets [
    :uncommitted_changes,
    {:base_branch, "main"},
    {:commit, "HEAD"},
    {:commit, "HEAD", "A title"},
    {:custom, "Look at a.txt"},
    "Look at b.txt"
  ]

  defp start(script, lane, options \\ []) do
    model = Test.start!(script, git: true)

    transport =
      if lane == :app_server do
        {:app_server, connect!(model)}
      else
        :exec
      end

    options = Test.thread_options(model) ++ [transport: transport] ++ options
    {:ok, thread} = Codex.start_thread(Test.options(model), options)
    {model, thread}
  end

  defp git!(model, args) do
    {_, 0} = System.cmd("git", ["-C", model.workspace] ++ args, stderr_to_stdout: true)
  end

  describe "a review" do
    @describetag :codex_cli

    for lane <- [:exec, :app_server] do
      test "on #{lane} has all that the reviewer said" do
        {_model, thread} = start([json(@output)], unquote(lane))
        assert {:ok, result} = Thread.review(thread, :uncommitted_changes)

        assert result.review == %Review{
                 source: :json,
                 verdict: "patch is incorrect",
                 explanation: "It breaks.",
                 confidence: 0.8,
                 text: @text,
                 findings: [
                   %Finding{
                     title: "[P1] Off by one — twice",
                     body: "The last\n\nis lost.",
                     priority: 1,
                     confidence: 0.9,
                     location: %{path: "/srv/a.ex", start_line: 1, end_line: 2}
                   },
                   %Finding{
                     title: "Slow",
                     body: "- a list\n- of two",
                     priority: 3,
                     confidence: 0.4,
                     location: %{path: "/srv/b c.ex", start_line: 5, end_line: 5}
                   }
                 ]
               }

        assert result.final_response.text == @text
        id = result.thread.thread_id
        home = thread.codex_opts.codex_home
        assert {:ok, %Review{verdict: "patch is incorrect"}} = Review.find(id, codex_home: home)
      end

      test "on #{lane} that is kept nowhere has what its text says" do
        {_model, thread} = start([json(@output)], unquote(lane), ephemeral: true)
        assert {:ok, %{review: review}} = Thread.review(thread, :uncommitted_changes)
        assert %{source: :rendered, explanation: "It breaks.", verdict: nil} = review
        assert [%{confidence: nil, priority: 1} = first, second] = review.findings
        assert first.title == "[P1] Off by one — twice"
        assert first.body == "The last\n\nis lost."
        assert second.location == %{path: "/srv/b c.ex", start_line: 5, end_line: 5}
        assert second.body == "- a list\n- of two"
      end

      test "on #{lane} without findings has a verdict, and one without JSON its text" do
        none = %{@output | findings: [], overall_correctness: "patch is correct"}
        {_model, thread} = start([json(none)], unquote(lane))
        assert {:ok, %{review: review}} = Thread.review(thread, :uncommitted_changes)
        assert %{findings: [], verdict: "patch is correct", source: :json} = review

        {_model, thread} = start(["Looks fine."], unquote(lane))
        assert {:ok, %{review: review}} = Thread.review(thread, :uncommitted_changes)
        assert review == %Review{source: :text, text: "Looks fine."}
      end

      test "on #{lane} looks at each target" do
        script = for _ <- @targets, do: message("Fine.")
        {model, thread} = start(script, unquote(lane))
        git!(model, ~w(commit -q --allow-empty -m first))
        git!(model, ~w(branch -f main))
        for target <- @targets, do: assert({:ok, _} = Thread.review(thread, target))

        asked =
          for %{body: %{"input" => input}} <- Test.requests(model),
              do: inspect(input, limit: :infinity, printable_limit: :infinity)

        assert length(asked) == length(@targets)

        for {words, text} <-
              Enum.zip(
                ["current code changes", "main", "HEAD", "A title", "a.txt", "b.txt"],
                asked
              ),
            do: assert(text =~ words)

        assert Thread.review(thread, :everything) ==
                 {:error, {:invalid_review_target, :everything}}

        assert Thread.review(thread, :uncommitted_changes, images: ["a.png"]) ==
                 {:error, {:unsupported_option, :images}}
      end
    end

    test "over an app-server is entered, exited, and not steered" do
      {_model, thread} = start([silence(2_000), "Fine."], :app_server)
      test = self()

      task =
        Task.async(fn ->
          {:ok, stream} = Thread.review_streamed(thread, :uncommitted_changes)
          catch_error(Enum.each(stream, &send(test, &1)))
        end)

      assert_receive %Events.ThreadStarted{thread_id: id}, 10_000

      assert_receive %Events.ItemStarted{
                       item: %Items.ReviewMode{entered: true, review: "current changes"}
                     },
                     10_000

      assert_receive %Events.ItemCompleted{item: %Items.UserMessage{}}, 10_000

      thread = %{thread | thread_id: id}
      assert {:error, %{"message" => "cannot steer a review turn"}} = Thread.steer(thread, "Go")
      assert Thread.interrupt(thread) == :ok
      assert %Codex.TransportError{reason_code: :interrupted} = Task.await(task, 20_000)
    end

    test "over an app-server runs as its thread says" do
      {_model, thread} = start([json(@output), "Fixed."], :app_server)

      assert Thread.review(thread, "Look", model: "other") ==
               {:error, {:unsupported_option, :model}}

      {:ok, result} = Thread.review(thread, "Look", timeout_ms: 60_000)

      assert [true, false] =
               for(
                 %Events.ItemCompleted{item: %Items.ReviewMode{entered: entered}} <-
                   result.events,
                 do: entered
               )

      # The thread has the review, and goes on.
      {:ok, next} = Thread.run(result.thread, "Fix it.")
      assert next.final_response.text == "Fixed."
      assert next.thread.thread_id == result.thread.thread_id
    end

    test "over an app-server may do what its thread may, and thinks as hard" do
      for {options, written?} <- [
            {[sandbox: :workspace_write], true},
            {[sandbox: :workspace_write, sandbox_policy: :read_only], false},
            {[sandbox_policy: [type: :workspace_write]], true}
          ] do
        own = [ask_for_approval: :never, reasoning_effort: :high]
        own = own ++ [model_reasoning_summary: :detailed]
        {model, thread} = start([shell("touch made.txt"), "Fine."], :app_server, own ++ options)
        assert {:ok, _} = Thread.review(thread, "Look")

        assert {options, File.exists?(Path.join(model.workspace, "made.txt"))} ==
                 {options, written?}

        assert [%{"effort" => "high", "summary" => "detailed"}] =
                 for(%{body: body} <- Test.requests(model), uniq: true, do: body["reasoning"])
      end

      {_model, thread} = start([], :app_server, collaboration_mode: %{mode: :plan, settings: %{}})

      assert Thread.review(thread, "Look") ==
               {:error, {:unsupported_option, :collaboration_mode}}
    end

    test "on codex exec is a thread of its own" do
      {_model, thread} = start(["Hi."], :exec)
      {:ok, result} = Thread.run(thread, "Hi")
      assert Thread.review(result.thread, "Look") == {:error, {:unsupported, :exec}}
    end

    test "comes from Codex.Exec, too" do
      {_model, thread} = start([json(@output)], :exec)
      opts = [codex_opts: thread.codex_opts, thread: thread]
      assert {:ok, %{review: %Review{source: :json} = review}} = Exec.review("Look", opts)
      assert length(review.findings) == 2
    end
  end

  test "a text is parsed whatever it is" do
    for text <- [
          "",
          "Review comment:\n\n",
          "Review comment:\n\n- no place",
          "Review comment:\n\n- a — b:1-2\n  x\n\n- no place\n  y",
          "{}",
          "[1]",
          "{\"findings\":"
        ] do
      assert Review.parse(text) == %Review{source: :text, text: text}
    end

    odd = %{"findings" => [1, %{"title" => 2, "priority" => 9, "code_location" => []}]}
    assert %{findings: [%Finding{} = finding]} = Review.new(odd)
    assert finding == %Finding{}
    assert %{findings: []} = Review.new(%{"findings" => %{}})
  end

  test "a thread without a file has none" do
    home = System.tmp_dir!()
    id = "01a1f86c-2c17-7a83-a545-9e9c58ec7109"
    assert Review.find(id, codex_home: home) == {:error, :not_found}
    assert Review.find("../../x", codex_home: home) == {:error, :not_found}

    assert {:error, %Codex.Config.Error{reason: :missing_home}} =
             Review.find(id, codex_home: "/no/such/home")
  end
end
