defmodule Codex.Sessions.LiveTest do
  # What the real CLI delivers while it runs, against what the store says afterwards.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Test.Steps
  alias Codex.{AppServer, Events, Items, Sessions, Test, Thread, Threads}

  @moduletag :codex_cli

  @patch "*** Begin Patch\n*** Add File: new.txt\n+hello\n*** End Patch"

  defp steps do
    [
      respond([reasoning("think"), shell("echo one; echo two")], usage: tokens(100)),
      respond([apply_patch(@patch)], usage: tokens(200)),
      respond([message("all done")], usage: tokens(300)),
      respond([message("more")], usage: tokens(400))
    ]
  end

  defp tokens(input), do: %{input_tokens: input, cached_input_tokens: 10, output_tokens: 5}

  @usage ~w(input_tokens cached_input_tokens output_tokens reasoning_output_tokens)

  defp items(events), do: for(%Events.ItemCompleted{item: item} <- events, do: item)

  # Without fields that one transport alone has: exec numbers items, and shows fewer fields.
  defp shown(%Items.UserMessage{}), do: nil
  defp shown(%Items.AgentMessage{text: text}), do: {:message, text}
  defp shown(%Items.Reasoning{text: text}), do: {:reasoning, text}

  defp shown(%Items.CommandExecution{} = item),
    do: {:command, item.command, item.aggregated_output, item.exit_code, item.status}

  defp shown(%Items.FileChange{} = item),
    do: {:change, Enum.map(item.changes, &{&1.path, &1.kind}), item.status}

  defp shown(other), do: other

  defp all(items), do: items |> Enum.map(&shown/1) |> Enum.reject(&is_nil/1)

  defp store(model), do: [codex_home: Test.options(model)[:codex_home]]

  test "a thread of codex exec is recorded with the same items and usage" do
    model = Test.start!(steps())
    options = Test.thread_options(model) ++ [sandbox: :danger_full_access]
    {:ok, thread} = Codex.start_thread(Test.options(model), options)
    {:ok, first} = Thread.run(thread, "Please.")
    {:ok, second} = Thread.run(first.thread, "And?")

    {:ok, %{sessions: [session], problems: []}} = Sessions.list(store(model))
    {:ok, transcript} = Sessions.read(session, store(model))
    assert session.id == second.thread.thread_id
    assert session.title == "Please."
    assert Enum.map(transcript.turns, & &1.status) == [:completed, :completed]

    for {turn, result} <- Enum.zip(transcript.turns, [first, second]) do
      assert turn.final == to_string(result)
      assert all(Sessions.Turn.items(turn)) == all(items(result.events))
      assert Map.take(turn.usage, @usage) == Map.take(result.usage, @usage)
    end

    # The thread's running total is the usage of the session.
    assert Map.take(session.usage, @usage) == Map.take(second.thread.usage, @usage)
  end

  test "a thread of an app-server is recorded with equal items" do
    model = Test.start!(steps())
    conn = connect!(model)
    thread = thread!(model, conn, sandbox: :danger_full_access)
    {:ok, result} = Thread.run(thread, "Please.")

    {:ok, transcript} = Sessions.read(result.thread.thread_id, store(model))
    [turn] = transcript.turns
    equal = fn items -> for item <- items, do: item |> unrecorded() |> untimed() end
    assert equal.(Sessions.Turn.items(turn)) == equal.(items(result.events))
    assert Map.take(turn.usage, @usage) == Map.take(result.usage, @usage)

    completed = &Enum.find(&1, fn event -> is_struct(event, Events.TurnCompleted) end)
    {live, stored} = {completed.(result.events), completed.(turn.events)}
    members = [:thread_id, :turn_id, :status, :usage_scope, :started_at, :completed_at]
    assert Map.take(stored, members) == Map.take(live, members)
  end

  # The server adds times to items and writes the source of a command in camel case.
  defp unrecorded(item) do
    none = Map.new([:started_at_ms, :completed_at_ms, :source], &{&1, nil})
    Map.merge(%{item | extra: %{}}, Map.take(none, Map.keys(item)))
  end

  # The server counts the time of a command anew, and tells more about its parts.
  defp untimed(%Items.CommandExecution{} = item),
    do: %{item | duration_ms: nil, command_actions: []}

  defp untimed(%Items.UserMessage{} = item),
    do: %{item | content: Enum.map(item.content, & &1["text"])}

  defp untimed(item), do: item

  @tag :zstd
  test "the app-server lists the same threads and turns" do
    model =
      Test.start!(for n <- 1..8, do: respond([message("answer #{n}")], usage: tokens(n * 100)))

    conn = connect!(model, experimental_api: true)

    one = model |> thread!(conn) |> run!("one") |> run!("two") |> run!("three")
    two = model |> thread!(conn) |> run!("archived")
    three = model |> thread!(conn) |> run!("compressed")
    {:ok, fork} = Threads.fork(one)
    fork = run!(fork, "fork")
    [_, %{"id" => second}, _] = turns(conn, one.thread_id)
    :ok = Threads.archive(two)
    {:ok, _thread} = Threads.revert(one, second)
    run!(one, "four")
    compress!(three.thread_id, store(model))
    conn = connect!(model, experimental_api: true)

    agree!(model, conn)
    {:ok, session} = Sessions.find(one.thread_id, store(model))
    {:ok, turns} = Sessions.turns(session, store(model))
    assert Enum.any?(turns, & &1.reverted)
    {:ok, usage} = Sessions.usage(store(model))
    requests = Enum.count(Test.requests(model), &String.ends_with?(&1.path, "/responses"))
    assert usage.calls == requests
    assert fork.thread_id != one.thread_id
  end

  @tag :zstd
  test "the app-server reads the same history of forks and reverts from compressed files" do
    steps = for n <- 1..9, do: respond([message("answer #{n}")], usage: tokens(n * 100))
    model = Test.start!(steps)
    conn = connect!(model, experimental_api: true)
    parent = model |> thread!(conn) |> run!("one") |> run!("two") |> run!("three")
    [_, %{"id" => second}, %{"id" => third}] = turns(conn, parent.thread_id)

    # A fork and a fork of it, both with the history of the first file.
    {:ok, fork} = Threads.fork(parent)
    fork = run!(fork, "fork")
    {:ok, inner} = Threads.fork(fork)
    inner = run!(inner, "fork of a fork")

    # A fork of a segment, and a segment after it.
    {:ok, _thread} = Threads.revert(parent, third)
    parent = run!(parent, "four")
    {:ok, late} = Threads.fork(parent)
    late = run!(late, "fork of a segment")
    {:ok, _thread} = Threads.revert(parent, second)
    parent = run!(parent, "five")
    AppServer.disconnect(conn)

    for %{thread_id: id} <- [parent, fork], do: compress!(id, store(model))
    agree!(model, connect!(model, experimental_api: true))

    for {thread, prompts} <- [
          {fork, ~w(one two three fork)},
          {inner, ["one", "two", "three", "fork", "fork of a fork"]},
          {late, ["one", "two", "four", "fork of a segment"]}
        ] do
      assert prompts == kept_prompts(thread.thread_id, model)
    end

    # A resumed fork of a compressed parent.
    conn = connect!(model, experimental_api: true)
    {:ok, resumed} = Codex.resume_thread(late.thread_id, [], transport: {:app_server, conn})
    run!(resumed, "more")
    agree!(model, conn)
    for %{thread_id: id} <- [inner, late], do: compress!(id, store(model))
    agree!(model, connect!(model, experimental_api: true))

    {:ok, usage} = Sessions.usage(store(model))
    assert {usage.calls, usage.usage["input_tokens"]} == {9, 4_500}
  end

  defp kept_prompts(id, model) do
    {:ok, transcript} = Sessions.read(id, store(model) ++ [inherited: true])
    for turn <- transcript.turns, not turn.reverted, do: turn.prompt
  end

  defp run!(thread, text) do
    {:ok, result} = Thread.run(thread, text)
    result.thread
  end

  # `thread/list`, `thread/read` and `thread/turns/list` against the files.
  defp agree!(model, conn) do
    for archived <- [false, true] do
      listed = for thread <- Threads.list(conn, archived: archived), do: thread["id"]
      {:ok, page} = Sessions.list(store(model) ++ [archived: archived])
      assert Enum.sort(Enum.map(page.sessions, & &1.id)) == Enum.sort(listed)

      for session <- page.sessions do
        {:ok, transcript} = Sessions.read(session, store(model) ++ [inherited: true])
        kept = Enum.reject(transcript.turns, & &1.reverted)
        server = conn |> turns(session.id)
        assert Enum.map(kept, & &1.id) == Enum.map(server, & &1["id"])
        assert Enum.map(kept, &Atom.to_string(&1.status)) == Enum.map(server, & &1["status"])
        {:ok, read} = Threads.read({conn, session.id})
        assert read["preview"] == hd(kept).prompt
        assert read["cwd"] == session.cwd
        assert read["forkedFromId"] == if(session.parent_kind == :fork, do: session.parent)
      end
    end
  end

  # As the CLI compresses the files of a thread that nobody has used for some days.
  defp compress!(id, store) do
    {:ok, %{files: files}} = Sessions.find(id, store)
    files = for file <- files, Path.extname(file) != ".zst", do: file
    paths = Enum.map(files, &Path.join(store[:codex_home], &1))
    {_out, 0} = System.cmd("zstd", ["--rm", "-q" | paths])
    {:ok, %{files: packed}} = Sessions.find(id, store)
    assert Enum.all?(packed, &String.ends_with?(&1, ".jsonl.zst"))
  end

  # The oldest turn first.
  defp turns(conn, id), do: {conn, id} |> Threads.turns(sort_direction: :asc) |> Enum.to_list()

  test "an export masks what it is told to" do
    model = Test.start!([shell("echo pass$((40 + 2))"), "It is pass42."])
    options = Test.thread_options(model) ++ [sandbox: :danger_full_access]
    {:ok, thread} = Codex.start_thread(Test.options(model), options)
    {:ok, %{thread: %{thread_id: id}}} = Thread.run(thread, "Please.")

    for format <- [:markdown, :html, :json] do
      opts = store(model) ++ [format: format]
      {:ok, text} = Sessions.export(id, opts)
      assert IO.iodata_to_binary(text) =~ "pass42"
      {:ok, text} = Sessions.export(id, opts ++ [redact: ["pass42"]])
      assert IO.iodata_to_binary(text) =~ "It is [redacted]."
      refute IO.iodata_to_binary(text) =~ "pass42"
    end

    assert {:error, error} = Sessions.export(id, store(model) ++ [redact: [" "]])
    assert Exception.message(error) =~ "redact"
  end
end
