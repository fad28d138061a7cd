defmodule Codex.ReviewTest do
  # Findings of reviews on both transports, with the real CLI.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Test.Steps
  alias Codex.{AppServer, Error, Events, Exec, Git, Items, Review, Test, Thread}
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

  @unreadable [
    "Looks fine.",
    ~S({"findings": [{"title": "[P0] Drops all", "body": "x"),
    ~S({"findings": [], "overall_correctness": "patch is correct", "overall_expl),
    ~S({"findings": [{"title": "[P0] x"}], "findings": [], "overall_correctness": "correct"}),
    ~S({"findings": []}),
    ~S({"findings": null, "overall_correctness": "patch is correct"}),
    "{}",
    "null",
    ""
  ]

  # Answers that the CLI itself takes, or passes on as text, and the findings in them.
  defp odd_answers do
    one = hd(@output.findings)
    place = one.code_location
    plain = {"[P1] Off by one — twice", 1, "/srv/a.ex", 1, 2}

    whole = fn changes ->
      Codex.JSON.encode!(%{@output | findings: [Map.merge(one, changes)]})
    end

    without = fn key -> Codex.JSON.encode!(%{@output | findings: [Map.delete(one, key)]}) end
    path = &Map.put(place, :absolute_file_path, &1)
    range = &Map.put(place, :line_range, &1)
    null = whole.(%{priority: nil})

    [
      {whole.(%{title: "[P1] Off\nby one"}), [{"[P1] Off\nby one", 1, "/srv/a.ex", 1, 2}]},
      {whole.(%{title: ""}), [{nil, 1, "/srv/a.ex", 1, 2}]},
      {whole.(%{code_location: path.("/srv/a — b\nc.ex")}),
       [{"[P1] Off by one — twice", 1, "/srv/a — b\nc.ex", 1, 2}]},
      {null, [plain]},
      {without.(:priority), [plain]},
      {whole.(%{title: "Slow", priority: nil}), [{"Slow", nil, "/srv/a.ex", 1, 2}]},
      {whole.(%{title: "Slow", priority: 7}), [{"Slow", nil, "/srv/a.ex", 1, 2}]},
      {without.(:confidence_score), [plain]},
      {without.(:title), [{nil, 1, "/srv/a.ex", 1, 2}]},
      {without.(:code_location), [{"[P1] Off by one — twice", 1, nil, nil, nil}]},
      {whole.(%{code_location: Map.delete(place, :absolute_file_path)}),
       [{"[P1] Off by one — twice", 1, nil, 1, 2}]},
      {whole.(%{code_location: Map.delete(place, :line_range)}),
       [{"[P1] Off by one — twice", 1, "/srv/a.ex", nil, nil}]},
      {whole.(%{code_location: range.(%{start: 1.0, end: 2.0})}), [plain]},
      {Codex.JSON.encode!(%{@output | findings: ["[P0] Gone", one]}),
       [{"[P0] Gone", 0, nil, nil, nil}, plain]},
      {"```json\n#{null}\n```", [plain]},
      {"\uFEFF```\r\n#{null}\r\n```\r\n", [plain]},
      {"I saw {braces} and {\"a\": 1}.\n\n#{null}\n\nThat {is} all.", [plain]},
      {Codex.JSON.encode!(%{review: Codex.JSON.decode(null) |> elem(1)}), [plain]},
      {"\uFEFF" <> null, [plain]},
      {whole.(%{body: "Review comment:\n\n- no\n```json\n{}\n```"}), [plain]},
      {Codex.JSON.encode!(%{
         @output
         | findings: [one],
           overall_explanation: "It is said:\n\nReview comment:\n\n- none\n\nfine"
       }), [plain]}
    ]
  end

  defp seen(review) do
    for finding <- review.findings do
      place = finding.location || %{path: nil, start_line: nil, end_line: nil}
      {finding.title, finding.priority, place.path, place.start_line, place.end_line}
    end
  end

  defp start(script, lane, options \\ [], start \\ [git: true]) do
    model = Test.start!(script, start)

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

  describe "a review" do
    @describetag :codex_cli

    for lane <- [:exec, :app_server] do
      test "on #{lane} has all that the reviewer said" do
        {_model, thread} = start([json(@output)], unquote(lane))
        assert {:ok, result} = Thread.review(thread, :uncommitted_changes)

        assert result.review == %Review{
                 source: :json,
                 verdict: "patch is incorrect",
                 correctness: :incorrect,
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

      test "on #{lane} that is kept nowhere is not taken for one without findings" do
        none = %{@output | findings: [], overall_correctness: "patch is correct"}
        {_model, thread} = start([json(none)], unquote(lane), ephemeral: true)
        assert {:error, {:review_unreadable, error}} = Thread.review(thread, "Look")
        assert error.message =~ "may be a review without findings, or prose"
      end

      test "on #{lane} without findings has a verdict" do
        none = %{@output | findings: [], overall_correctness: "patch is correct"}
        {_model, thread} = start([json(none)], unquote(lane))
        assert {:ok, %{review: review} = result} = Thread.review(thread, :uncommitted_changes)
        assert %{findings: [], verdict: "patch is correct", source: :json} = review
        assert review.correctness == :correct
        assert result.usage == nil
      end

      test "on #{lane} keeps every finding of odd JSON" do
        for {answer, findings} <- odd_answers() do
          {_model, thread} = start([message(answer)], unquote(lane))
          assert {:ok, %{review: review}} = Thread.review(thread, "Look")
          assert {answer, seen(review)} == {answer, findings}
          assert %{verdict: "patch is incorrect", source: :json, correctness: :incorrect} = review
        end
      end

      test "on #{lane} that cannot be read is an error" do
        for answer <- @unreadable do
          {_model, thread} = start([message(answer)], unquote(lane))
          assert {:error, {:review_unreadable, error} = reason} = Thread.review(thread, "Look")
          assert %Error{kind: :protocol, retryable?: false, result: result} = error
          assert Error.normalize(reason) == error
          assert error.message =~ "unreadable"
          # Of no answer, the CLI says words of its own.
          if answer != "", do: assert({answer, error.details.raw} == {answer, answer})
          if answer != "", do: assert(result.final_response.text == answer)
          home = thread.codex_opts.codex_home
          id = result.thread.thread_id
          assert {:error, {:review_unreadable, _}} = Review.find(id, codex_home: home)
        end
      end

      test "on #{lane} is read from its stream, or raises" do
        {_model, thread} = start([json(@output), "Looks fine."], unquote(lane))
        {:ok, stream} = Thread.review_streamed(thread, "Look")
        events = Enum.to_list(stream)
        assert %Events.TurnCompleted{usage: nil} = List.last(events)
        id = Enum.find_value(events, &(is_struct(&1, Events.ThreadStarted) && &1.thread_id))
        home = thread.codex_opts.codex_home
        assert {:ok, %{findings: [_, _]}} = Review.find(id, codex_home: home)

        {:ok, stream} = Thread.review_streamed(thread, "Look")
        test = self()

        error =
          assert_raise Error, ~r/unreadable/, fn -> Enum.each(stream, &send(test, {:e, &1})) end

        assert error.details.raw == "Looks fine."
        assert_received {:e, %Events.TurnCompleted{}}
      end

      test "on #{lane} has a target that exists" do
        {model, thread} = start([], unquote(lane))
        Git.commit!(model.workspace)
        sha = Git.run!(model.workspace, ["rev-parse", "HEAD"])
        blob = String.duplicate("1", 40)

        for {target, why} <- [
              {{:base_branch, "nope"}, :no_branch},
              {{:base_branch, "HEAD..HEAD"}, :no_branch},
              {{:commit, "deadbeef"}, :no_commit},
              {{:commit, blob, "A title"}, :no_commit}
            ] do
          assert {:error, {:invalid_review_target, missing} = reason} =
                   Thread.review(thread, target)

          assert %{target: ^target, reason: ^why} = missing
          assert missing.directory == model.workspace
          assert %Error{kind: :invalid_request, message: message} = Error.normalize(reason)
          assert message =~ inspect(target) and message =~ "there is no such"

          assert {:error, {:invalid_review_target, _}} = Thread.review_streamed(thread, target)
        end

        for target <- [
              {:base_branch, ""},
              {:base_branch, "--upload-pack=x"},
              {:base_branch, "a\0b"},
              {:base_branch, :main},
              {:commit, " "},
              {:commit, sha, 1},
              {:custom, " \n"},
              "",
              "\xFF",
              nil
            ] do
          assert {target, Thread.review(thread, target)} ==
                   {target, {:error, {:invalid_review_target, target}}}
        end

        assert Test.requests(model) |> Enum.filter(&(&1.path =~ "responses")) == []
      end

      test "on #{lane} of changes needs a repository" do
        {model, thread} = start([json(@output)], unquote(lane), [], git: false)

        for target <- [:uncommitted_changes, {:base_branch, "main"}, {:commit, "HEAD"}] do
          assert {:error, {:invalid_review_target, %{reason: :no_repository} = missing} = reason} =
                   Thread.review(thread, target)

          assert missing.details =~ "not a git repository"
          assert Error.normalize(reason).message =~ "no Git repository"
        end

        assert {:ok, _} = Thread.review(thread, "Look at #{model.workspace}")
      end

      test "on #{lane} is repeated when it failed, whatever came" do
        for retry <- [true, :resume] do
          steps = [shell("true"), http_error(500, "boom"), json(@output)]
          options = [retry: retry, retry_opts: [max_attempts: 3, base_delay_ms: 1]]
          {_model, thread} = start(steps, unquote(lane), options)
          assert {:ok, result} = Thread.review(thread, :uncommitted_changes)
          assert %{attempts: 2, review: %{source: :json, findings: [_, _]}} = result
          assert result.usage == nil
          home = thread.codex_opts.codex_home
          assert {:ok, _} = Review.find(result.thread.thread_id, codex_home: home)
        end
      end

      test "on #{lane} waits for a limit" do
        limited = failed("rate_limit_exceeded", "Please try again in 0.01s.")
        account = "review-#{System.unique_integer([:positive])}"
        options = [rate_limit: true, rate_limit_opts: [default_delay_ms: 1, account: account]]
        {_model, thread} = start([shell("true"), limited, json(@output)], unquote(lane), options)
        assert {:ok, %{attempts: 2, review: review}} = Thread.review(thread, :uncommitted_changes)
        assert [_, _] = review.findings
      end

      test "on #{lane} looks at each target" do
        script = for _ <- @targets, do: json(@output)
        {model, thread} = start(script, unquote(lane))
        Git.commit!(model.workspace)
        Git.run!(model.workspace, ~w(branch -f main))
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

    test "over an app-server that is kept nowhere is in its raw events" do
      none = %{@output | findings: [], overall_correctness: "patch is correct"}
      model = Test.start!([json(none), "Fine."], git: true)
      conn = connect!(model, experimental_api: true)
      options = [ephemeral: true, experimental_raw_events: true, transport: {:app_server, conn}]

      {:ok, thread} =
        Codex.start_thread(Test.options(model), Test.thread_options(model) ++ options)

      assert {:ok, %{review: review}} = Thread.review(thread, "Look")
      assert %{source: :json, findings: [], correctness: :correct, text: "It breaks."} = review
      assert {:error, {:review_unreadable, _}} = Thread.review(thread, "Look")
    end

    test "over an app-server looks at the repository of its thread" do
      model = Test.start!([], git: true)
      elsewhere = Test.start!([])
      conn = connect!(model, cwd: model.workspace)
      client = Test.options(model)
      own = [transport: {:app_server, conn}]
      {:ok, of_server} = Codex.start_thread(client, own)
      {:ok, %{"thread" => %{"id" => id}}} = AppServer.thread_start(conn, cwd: elsewhere.workspace)
      {:ok, of_thread} = Codex.resume_thread(id, client, own)
      dir = [working_directory: elsewhere.workspace]
      {:ok, of_options} = Codex.start_thread(client, own ++ dir)

      for {thread, reason} <- [
            {of_server, :no_branch},
            {of_thread, :no_repository},
            {of_options, :no_repository}
          ] do
        assert {:error, {:invalid_review_target, %{reason: ^reason}}} =
                 Thread.review(thread, {:base_branch, "nope"})
      end
    end

    test "runs nothing of the repository that it asks for its target" do
      {model, thread} = start([json(@output)], :exec)
      Git.commit!(model.workspace)
      mark = Path.join(model.workspace, "ran")
      missing = String.duplicate("1", 40)

      for {key, value} <- [
            {"core.fsmonitor", "touch #{mark}; true"},
            {"core.sshCommand", "touch #{mark}; true"},
            {"core.repositoryFormatVersion", "1"},
            {"extensions.partialClone", "origin"},
            {"remote.origin.url", "ext::touch #{mark}"},
            {"remote.origin.promisor", "true"},
            {"protocol.ext.allow", "always"}
          ],
          do: Git.run!(model.workspace, ["config", key, value])

      assert {:error, {:invalid_review_target, %{reason: :no_commit}}} =
               Thread.review(thread, {:commit, missing})

      refute File.exists?(mark)
    end

    @tag :cli_pin
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
      assert %Codex.Error{kind: :interrupted} = Task.await(task, 20_000)
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

        {model, thread} =
          start([shell("touch made.txt"), json(@output)], :app_server, own ++ options)

        assert {:ok, _} = Thread.review(thread, "Look")

        assert {options, File.exists?(Path.join(model.workspace, "made.txt"))} ==
                 {options, written?}

        assert [%{"effort" => "high", "summary" => "detailed"}] =
                 for(%{body: body} <- Test.requests(model), uniq: true, do: body["reasoning"])
      end

      {_model, thread} = start([], :app_server, collaboration_mode: :plan)

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

  describe "a text" do
    test "without a review is an error" do
      none = ["", "Review comment:\n\n", "Review comment:\n\nnone", "- [P1] a — /b:1-2", "[1]"]

      for text <- none ++ @unreadable do
        assert {:error, {:review_unreadable, error}} = Review.parse(text)
        assert {error.kind, error.details.raw} == {:protocol, text}
      end

      none = %{"findings" => [], "overall_correctness" => " "}

      for output <- [%{}, %{"findings" => %{}}, none] do
        assert {:error, {:review_unreadable, _}} = Review.new(output)
      end
    end

    test "has every comment as a finding" do
      for {comments, findings} <- [
            {"- no place", [{"no place", nil, nil, nil, nil}]},
            {"- a — b:1-2\n  x\n\n- no place\n  y",
             [{"a", nil, "b", 1, 2}, {"no place\n  y", nil, nil, nil, nil}]},
            {"- [P0] a\nb — /b:1-2\n  x", [{"[P0] a\nb", 0, "/b", 1, 2}]},
            {"- a — b — /c — d.ex:1-2", [{"a — b", nil, "/c — d.ex", 1, 2}]},
            {"- a — C:\\b.ex:1-2", [{"a", nil, "C:\\b.ex", 1, 2}]},
            {"-  — /b:1-2\n  x", [{nil, nil, "/b", 1, 2}]},
            {"- a — /b\nc:1-2\n  x\n  \n  - y", [{"a", nil, "/b\nc", 1, 2}]}
          ],
          breaks <- ["\n", "\r\n"] do
        text = "Review comment:\n\nis a head.\n\nFull review comments:\n\n" <> comments
        assert {:ok, review} = text |> String.replace("\n", breaks) |> Review.parse()
        assert {comments, seen(review)} == {comments, findings}
        assert %{source: :rendered, explanation: "Review comment:\n\nis a head."} = review
        assert {review.verdict, review.correctness} == {nil, nil}
      end
    end

    test "has the findings of quoted comments and quoted JSON, too" do
      comment = "Review comment:\n\n- [P0] a — /a:1-1\n  x"
      clean = ~S({"findings": [], "overall_correctness": "patch is correct"})
      assert {:ok, review} = Review.parse("Quoted:\n\n#{comment}\n\n#{comment}")
      assert [%{priority: 0}, _] = review.findings
      assert {:ok, review} = Review.parse("Quoted: #{clean}.\n\n#{comment}")
      assert [%{priority: 0}] = review.findings
      found = ~S({"findings": [{"title": "[P0] a"}], "overall_correctness": "patch is incorrect"})
      assert {:ok, %{findings: [_]}} = Review.parse("Not #{clean}, but #{found}")
      assert {:error, {:review_unreadable, _}} = Review.parse("#{clean} or {\"findings\": [")
      assert {:ok, %{findings: []}} = Review.parse("```json\n#{clean}\n```")

      # Only JSON that shares no line with prose proves an empty list.
      for fenced <- [clean, "```json\n#{clean}\n```", "```\n  #{clean}  ```"] do
        text = "Here it is: {\"a\": 1}\n\n#{fenced}\n\nThat is all."
        assert {:ok, %{findings: []}} = Review.parse(text)
      end

      for prose <- ["I was to answer #{clean}, but could not.", "Not {#{clean}", "#{clean} no"],
          do: assert({:error, {:review_unreadable, _}} = Review.parse(prose))
    end

    test "need not be UTF-8" do
      comment = "Review comment:\n\n- [P0] caf\xE9 — /a:1-1\n  \xFF"
      assert {:ok, %{findings: [finding]}} = Review.parse(comment)
      assert {finding.title, finding.body} == {"[P0] caf\uFFFD", "\uFFFD"}
      assert {:error, {:review_unreadable, _}} = Review.parse("caf\xE9")
    end

    test "of any length is searched in little time" do
      assert {:error, _} = Review.parse(String.duplicate("{", 900_000))
      assert {:error, _} = Review.parse(String.duplicate("{\"", 900_000))
      lines = &String.duplicate(&1, 50_000)
      assert {:ok, _} = Review.parse("Review comment:\n\n- a" <> lines.("\nx — /a"))
      assert {:ok, _} = Review.parse("Review comment:\n\n- a" <> lines.(" — ") <> "/a:1-2")
      assert {:ok, _} = Review.parse(lines.("Review comment:\n\n- a\n"))
    end
  end

  test "a finding names its problem" do
    odd = %{
      "title" => 2,
      "priority" => 9,
      "confidence_score" => "high",
      "code_location" => %{"line_range" => %{"start" => -1, "end" => "7"}}
    }

    {:ok, %{findings: [odd, one]}} = Review.new(%{"findings" => [odd, 1]})

    assert odd == %Finding{
             location: %{path: nil, start_line: nil, end_line: 7},
             problem:
               "the title is missing; priority is invalid: 9; confidence_score is invalid: " <>
                 ~s("high"; the path is missing; the first line is invalid: -1)
           }

    assert one == %Finding{problem: "expected an object, got: 1"}
    assert {to_string(odd), to_string(one)} == {"(no title)", "(no title)"}

    place = %{path: "/srv/a\e[31m.ex", start_line: 3, end_line: 4}
    finding = %Finding{title: "[P1] Off\nby one", location: place}
    assert to_string(finding) == "/srv/a.ex:3 [P1] Off by one"
    assert to_string(%{finding | location: %{place | start_line: nil}}) =~ "/srv/a.ex [P1]"
  end

  test "a verdict is correct only if it says so" do
    for {words, correctness} <- [
          {"patch is correct", :correct},
          {"The patch is correct.", :correct},
          {"Correct", :correct},
          {"patch is incorrect", :incorrect},
          {"patch is not correct", :incorrect},
          {"partially correct", nil},
          {"patch is correct but slow", nil},
          {"fine", nil}
        ] do
      output = %{"findings" => [], "overall_correctness" => words}
      assert {:ok, %{verdict: ^words, correctness: ^correctness}} = Review.new(output)
    end
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
