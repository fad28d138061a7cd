defmodule Codex.Sessions.TailLiveTest do
  # Sessions of the real CLI, followed while it writes them.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Tailing
  import Codex.Test.Steps
  alias Codex.{AppServer, Events, Sessions, Test, Thread, Threads}

  @moduletag :codex_cli

  @compression ["local_thread_store_compression"]

  defp opts(model), do: [codex_home: Test.options(model)[:codex_home]]
  defp tail!(id, model), do: follow(id, opts(model) ++ [from: :start, poll_ms: 5])
  defp stored(id, model), do: id |> Sessions.stream(opts(model)) |> Enum.to_list()

  # The events of the tail to the end of the turn.
  defp run!(thread, prompt) do
    {:ok, result} = Thread.run(thread, prompt)
    {result.thread, await(&is_struct(&1, Events.TurnCompleted))}
  end

  test "a running turn has the events that the store has afterwards" do
    script = [
      respond([reasoning("think"), shell("echo one; sleep 1; echo two")]),
      message("all done", deltas: ["all ", "done"], delta_delay_ms: 200)
    ]

    model = Test.start!(script)
    thread = thread!(model, connect!(model), sandbox: :danger_full_access)
    run = Task.async(fn -> Thread.run(thread, "Please.") end)

    {:ok, %{id: id}} =
      eventually(fn ->
        {:ok, page} = Sessions.list(opts(model))
        with [session] <- page.sessions, do: {:ok, session}, else: (_ -> nil)
      end)

    tail!(id, model)
    events = await(&is_struct(&1, Events.TurnCompleted))
    assert {:ok, %{thread: %{thread_id: ^id}}} = Task.await(run, 60_000)
    assert events == stored(id, model)
    types = Enum.map(events, & &1.__struct__)
    assert [Events.ThreadStarted, Events.TurnStarted | _] = types
    assert Enum.count(types, &(&1 == Events.ItemCompleted)) >= 4
  end

  test "a thread is reverted, archived, compressed and resumed" do
    model = Test.start!(for n <- 1..7, do: "answer #{n}")
    conn = connect!(model, experimental_api: true)
    thread = thread!(model, conn)
    {:ok, %{thread: %{thread_id: id} = thread}} = Thread.run(thread, "one")
    tail!(id, model)
    one = await(&is_struct(&1, Events.TurnCompleted))
    {thread, two} = run!(thread, "two")

    # The second revert is one of the first segment.
    {:ok, _thread} = Threads.revert(thread, turn(two))
    {thread, three} = run!(thread, "three")
    {:ok, _thread} = Threads.revert(thread, turn(one))
    {thread, four} = run!(thread, "four")
    assert {:ok, %{files: [_, _, _]}} = Sessions.find(id, opts(model))

    :ok = Threads.archive(thread)
    assert {:ok, %{archived: true}} = Sessions.find(id, opts(model))
    :ok = Threads.unarchive(thread)
    {:ok, thread} = Codex.resume_thread(id, [], transport: {:app_server, conn})
    {_thread, five} = run!(thread, "five")
    AppServer.disconnect(conn)

    # A CLI that starts compresses files that nobody has changed for some days.
    {:ok, %{files: files}} = Sessions.find(id, opts(model))
    newest = Path.join(opts(model)[:codex_home], List.last(files))
    File.touch!(newest, System.os_time(:second) - 30 * 24 * 3600)
    exec = Test.thread_options(model)
    {:ok, other} = Codex.start_thread(Test.options(model), [{:enable, @compression} | exec])
    {:ok, _result} = Thread.run(other, "another thread")
    assert eventually(fn -> (newest <> ".zst") in open_files() end)
    refute File.exists?(newest)

    # A CLI that resumes the thread writes the plain file back.
    {:ok, thread} = Codex.resume_thread(id, Test.options(model), exec)
    {_thread, six} = run!(thread, "six")
    refute File.exists?(newest <> ".zst")

    events = Enum.concat([one, two, three, four, five, six])
    assert events == stored(id, model)
    assert Enum.count(events, &is_struct(&1, Events.ThreadStarted)) == 3
    refute_received {:tail, _event}
  end

  defp turn(events),
    do: Enum.find_value(events, &if(is_struct(&1, Events.TurnStarted), do: &1.turn_id))
end
