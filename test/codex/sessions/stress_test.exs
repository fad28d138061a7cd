defmodule Codex.Sessions.StressTest do
  # One home, and at the same time: CLIs that write threads, an archiver that moves and compresses
  # them, readers that list and read them, and readers that follow them. Each answer of a reader is
  # compared with the turns that had ended before it and had begun after it.
  #
  # CODEX_SDK_STRESS_SECONDS is the time for which all of them work; with it, figures are printed.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Tailing
  import Codex.Test.Steps
  alias Codex.{AppServer, Events, JSON, Sessions, Test, Thread, Threads}
  alias Codex.Sessions.Ledger

  @seconds String.to_integer(System.get_env("CODEX_SDK_STRESS_SECONDS", "5"))

  @moduletag :codex_cli
  @moduletag :zstd
  @moduletag timeout: (@seconds + 120) * 1000

  @tokens 100

  setup do
    usage = %{input_tokens: @tokens, cached_input_tokens: 0, output_tokens: 1}
    answer = fn request -> respond([message("re: " <> prompt(request))], usage: usage) end
    model = Test.start!([], rules: [[step: answer, times: :infinity]])
    {:ok, ledger} = Ledger.start_link()
    opts = [codex_home: Test.options(model)[:codex_home]]
    until = System.monotonic_time(:millisecond) + @seconds * 1000
    %{model: model, ledger: ledger, opts: opts, until: until}
  end

  defp prompt(%{body: %{"input" => input}}) do
    %{"content" => parts} = input |> Enum.filter(&(&1["role"] == "user")) |> List.last()
    List.last(parts)["text"]
  end

  test "no answer is wrong, and no file is torn", c do
    conn = connect!(c.model, experimental_api: true)
    served = for _ <- 1..2, do: c.model |> thread!(conn) |> begin!(c)
    {:ok, tails} = Agent.start_link(fn -> [] end)
    for thread <- served, do: keep_tail(tails, thread.thread_id, c)

    jobs = [
      served: &repeat(c, served, fn threads, number -> serve(c, conn, threads, number) end, &1),
      exec: &repeat(c, [], fn threads, number -> exec(c, tails, threads, number) end, &1),
      archived: &repeat(c, nil, fn _none, _number -> archive(c) end, &1),
      listed: &repeat(c, nil, fn _none, number -> list(c, number) end, &1),
      read: &repeat(c, nil, fn _none, _number -> read(c) end, &1)
    ]

    calls = for {name, job} <- jobs, do: {name, Task.async(fn -> job.(1) end)}
    calls = for {name, task} <- calls, do: {name, Task.await(task, :infinity)}
    AppServer.disconnect(conn)
    followed = Agent.get(tails, & &1)
    for {id, tail} <- followed, do: check_tail(id, tail, c)
    check_files(c)
    check_sums(c)
    report(c, calls, length(followed))
  end

  # Calls a function with its last result and the number of the call until the time is over. Returns
  # the number of calls. The pause leaves the CLI some time of the machine.
  defp repeat(c, state, fun, number) do
    if System.monotonic_time(:millisecond) < c.until do
      state = fun.(state, number)
      Process.sleep(5)
      repeat(c, state, fun, number + 1)
    else
      number - 1
    end
  end

  # --- Writers ------------------------------------------------------------------------------------

  # A server has the threads open. Some turns are reverted, some threads are forked.
  defp serve(c, conn, [thread | others], number) do
    {:ok, result} = turn(thread, c)
    thread = result.thread

    cond do
      rem(number, 4) == 0 ->
        others ++ [reverted(thread, turn_id(result), c, conn)]

      rem(number, 10) == 5 ->
        {:ok, fork} = Ledger.pending(c.ledger, fn -> forked(thread, c) end)
        others ++ [fork]

      rem(number, 10) == 9 ->
        others ++ [c.model |> thread!(conn) |> begin!(c)]

      true ->
        others ++ [thread]
    end
  end

  # The server lets the thread go for a moment, in which the archiver may take it.
  defp reverted(thread, turn, c, conn) do
    case Threads.revert(thread, turn) do
      {:ok, _thread} ->
        Ledger.count(c.ledger, :revert)
        thread

      {:error, %{"message" => _words}} ->
        Ledger.count(c.ledger, :lost_revert)
        c.model |> thread!(conn) |> begin!(c)
    end
  end

  defp turn_id(result),
    do: Enum.find_value(result.events, &if(is_struct(&1, Events.TurnStarted), do: &1.turn_id))

  defp forked(thread, c) do
    {:ok, fork} = Threads.fork(thread)
    Ledger.add(c.ledger, fork.thread_id, [])
    {:ok, fork}
  end

  # New threads, and resumed ones, which may be in the archive. After some turns, a thread rests.
  defp exec(c, tails, ids, number) do
    if ids == [] or rem(number, 2) == 1 do
      {:ok, thread} = Codex.start_thread(Test.options(c.model), Test.thread_options(c.model))
      thread = begin!(thread, c)
      if number <= 5, do: keep_tail(tails, thread.thread_id, c)
      [thread.thread_id | ids]
    else
      id = Enum.random(ids)
      {:ok, thread} = Codex.resume_thread(id, Test.options(c.model), Test.thread_options(c.model))

      case turn(thread, c) do
        {:ok, _result} ->
          Ledger.count(c.ledger, :resumed)

        {:error, {:exec_failed, _error}} ->
          Ledger.count(c.ledger, :not_resumed)
      end

      if Ledger.turns(c.ledger, id) >= 3, do: rest(c, ids, id), else: ids
    end
  end

  defp rest(c, ids, id) do
    Ledger.rest(c.ledger, id)
    List.delete(ids, id)
  end

  defp begin!(thread, c) do
    prompt = "begin #{System.unique_integer([:positive])}"

    Ledger.pending(c.ledger, fn ->
      {:ok, result} = Thread.run(thread, prompt)
      assert to_string(result) == "re: " <> prompt
      Ledger.add(c.ledger, result.thread.thread_id, [prompt])
      result.thread
    end)
  end

  defp turn(thread, c) do
    prompt = "turn #{System.unique_integer([:positive])}"

    Ledger.turn(c.ledger, thread.thread_id, prompt, fn ->
      with {:ok, result} <- Thread.run(thread, prompt) do
        assert to_string(result) == "re: " <> prompt
        {:ok, result}
      end
    end)
  end

  # --- The archiver -------------------------------------------------------------------------------

  defp archive(c) do
    {id, resting?} = Ledger.random(c.ledger)
    jobs = if resting?, do: [:archive, :unarchive, :compress], else: [:archive, :unarchive]

    case Enum.random(jobs) do
      :compress -> compress(c, id)
      job -> move(c, job, id)
    end
  end

  defp move(c, job, id) do
    case apply(Sessions, job, [id, c.opts ++ [referrers: false]]) do
      {:ok, %{id: ^id}} -> Ledger.count(c.ledger, job)
      {:error, {:session_in_use, ^id}} -> Ledger.count(c.ledger, :in_use)
      {:error, {:already_archived, ^id}} when job == :archive -> :ok
      {:error, {:not_archived, ^id}} when job == :unarchive -> :ok
    end
  end

  # As the CLI does: the plain file goes when the compressed one is whole.
  defp compress(c, id) do
    {:ok, %{files: files}} = Sessions.find(id, c.opts)

    for file <- files, Path.extname(file) == ".jsonl" do
      path = Path.join(c.opts[:codex_home], file)
      new = Path.join(c.opts[:codex_home], "new.zst")
      {_out, 0} = System.cmd("zstd", ["-q", path, "-o", new])
      File.rename!(new, path <> ".zst")
      File.rm!(path)
      Ledger.count(c.ledger, :compress)
    end
  end

  # --- Readers ------------------------------------------------------------------------------------

  defp list(c, number) do
    {before, listed, later} = Ledger.around(c.ledger, fn -> pages(c, nil) end)
    {sessions, problems} = listed
    ids = Enum.map(sessions, & &1.id)
    assert ids -- Enum.uniq(ids) == []
    assert Ledger.written(before) -- ids == []
    for session <- sessions, do: check_usage(session.usage, bounds(before, later, session.id))
    check_problems(c, problems, later)

    if rem(number, 3) == 0 do
      {before, {:ok, usage}, later} = Ledger.around(c.ledger, fn -> Sessions.usage(c.opts) end)

      assert usage.calls in Ledger.least(before)..Ledger.most(later)
      assert usage.usage["input_tokens"] == usage.calls * @tokens
    end
  end

  defp pages(c, after_id) do
    more = if after_id, do: [after: after_id], else: []
    {:ok, page} = Sessions.list(c.opts ++ [limit: 7] ++ more)

    if page.next do
      {sessions, problems} = pages(c, page.next)
      {page.sessions ++ sessions, page.problems ++ problems}
    else
      {page.sessions, page.problems}
    end
  end

  defp read(c) do
    {id, _resting?} = Ledger.random(c.ledger)

    {before, {:ok, transcript}, later} =
      Ledger.around(c.ledger, fn -> Sessions.read(id, c.opts) end)

    {least, _most} = bounds = bounds(before, later, id)
    check_usage(transcript.session.usage, bounds)
    prompts = for turn <- transcript.turns, turn.prompt != nil, do: turn.prompt
    assert List.starts_with?(Ledger.prompts(later, id), prompts)
    assert length(prompts) >= least

    for turn <- Enum.take(transcript.turns, least) do
      assert {turn.status, turn.final} == {:completed, "re: " <> turn.prompt}
      assert turn.usage["input_tokens"] == @tokens
    end

    check_problems(c, transcript.problems, later)
    prompt = before |> Ledger.prompts(id) |> Enum.take(least) |> List.last()
    if prompt, do: assert([_ | _] = found("re: " <> prompt, id, c))
  end

  defp found(text, id, c), do: text |> Sessions.search(c.opts ++ [session: id]) |> Enum.to_list()

  # Turns that had ended before, and that had begun after.
  defp bounds(before, later, id), do: {Ledger.least(before, id), Ledger.most(later, id)}

  defp check_usage(nil, {least, _most}), do: assert(least == 0)

  defp check_usage(%{"input_tokens" => input}, {least, most}),
    do: assert(rem(input, @tokens) == 0 and div(input, @tokens) in least..most)

  # A file that is being written may end with half a line, also after its turn has ended, and one
  # that moves may be in two places.
  defp check_problems(c, problems, later) do
    for problem <- problems do
      Ledger.count(c.ledger, problem.kind)

      case problem.kind do
        kind when kind in [:duplicate, :shadowed] -> :ok
        kind when kind in [:bad_lines, :empty] -> assert half_a_line?(problem, later)
        _other -> flunk("#{problem}")
      end
    end
  end

  defp half_a_line?(problem, later),
    do: problem.count == 1 and not Ledger.resting?(later, problem.session)

  # --- Tails --------------------------------------------------------------------------------------

  defp keep_tail(tails, id, c) do
    {:ok, events} = Agent.start(fn -> [] end)

    spawn_link(fn ->
      id
      |> Sessions.tail(c.opts ++ [from: :start, poll_ms: 50])
      |> Enum.each(fn event -> Agent.update(events, &[event | &1]) end)
    end)

    Agent.update(tails, &[{id, events} | &1])
  end

  defp check_tail(id, tail, c) do
    stored = id |> Sessions.stream(c.opts) |> Enum.to_list()
    assert eventually(fn -> Agent.get(tail, &length/1) >= length(stored) end)
    assert Enum.reverse(Agent.get(tail, & &1)) == stored
    Agent.stop(tail)
  end

  # --- The end ------------------------------------------------------------------------------------

  defp check_files(c) do
    for path <- Path.wildcard(c.opts[:codex_home] <> "/{sessions,archived_sessions}/**/*.jsonl*") do
      text = plain(path)
      assert String.ends_with?(text, "\n"), path

      for line <- String.split(text, "\n", trim: true),
          do: assert({:ok, %{"timestamp" => _}} = JSON.decode(line), path)
    end
  end

  defp plain(path) do
    if Path.extname(path) == ".zst" do
      {text, 0} = System.cmd("zstd", ["-dcq", path])
      text
    else
      File.read!(path)
    end
  end

  defp check_sums(c) do
    calls = Enum.count(Test.requests(c.model), &String.ends_with?(&1.path, "/responses"))
    ledger = Ledger.get(c.ledger)
    assert Ledger.least(ledger) == calls
    {:ok, usage} = Sessions.usage(c.opts)
    assert {usage.calls, usage.usage["input_tokens"]} == {calls, calls * @tokens}
    {sessions, problems} = pages(c, nil)
    assert problems == []
    assert Enum.sort(Enum.map(sessions, & &1.id)) == Enum.sort(Ledger.ids(ledger))

    conn = connect!(c.model)

    for archived <- [false, true] do
      listed = for thread <- Threads.list(conn, archived: archived), do: thread["id"]
      ours = for session <- sessions, session.archived == archived, do: session.id
      assert Enum.sort(ours) == Enum.sort(listed)
    end
  end

  defp report(c, calls, followed) do
    if System.get_env("CODEX_SDK_STRESS_SECONDS") do
      ledger = Ledger.get(c.ledger)
      sums = [threads: length(Ledger.ids(ledger)), turns: Ledger.least(ledger), tails: followed]
      IO.puts("#{@seconds} s: #{inspect(calls ++ sums)}, #{inspect(ledger.counts)}")
    end
  end
end
