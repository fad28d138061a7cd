defmodule Codex.SessionStore.FaultsTest do
  # Stores that hang, fail, crash and recover beside turns of the real CLI.
  use ExUnit.Case, async: true

  import Codex.Mirrored
  import Codex.Tailing, only: [eventually: 1]

  alias Codex.{SessionStore, Test, Thread}
  alias Codex.SessionStore.Mirror

  @moduletag :codex_cli
  @moduletag timeout: 120_000

  defp run!(store, model) do
    options = Test.thread_options(model) ++ [session_store: store]
    {:ok, thread} = Codex.start_thread(Test.options(model), options)
    {:ok, result} = Thread.run(thread, "hello")
    assert result.final_response.text == "answer"
    result
  end

  defp warned?(result, text), do: Enum.any?(result.warnings, &(&1 =~ text))

  defp secret, do: "postgres://user:sk-secret@host"

  test "a store that hangs never holds the turn; the mirror goes on when it answers" do
    gate = start_supervised!({Agent, fn -> :closed end})

    before = fn
      :append -> if eventually(fn -> Agent.get(gate, &(&1 == :open)) end), do: :ok
      _other -> :ok
    end

    memory = memory!()
    store = wrong(memory, before, flush_ms: 50, call_ms: 60_000)
    model = Test.start!(["answer"])
    result = run!(store, model)
    assert %{state: :behind, error: nil, sent: 0} = result.mirror
    assert warned?(result, "it did not take them in time (flush_ms)")
    id = result.thread.thread_id

    assert {:ok, %{state: :behind, behind: behind}} =
             SessionStore.status(memory, id, codex_home: model.home)

    assert behind == in_home(model.home, id) |> Map.values() |> hd() |> byte_size()
    Agent.update(gate, fn _ -> :open end)
    assert eventually(fn -> in_store(memory, id) == in_home(model.home, id) end)
  end

  test "flush_ms: 0 does not wait at all" do
    memory = memory!()

    store =
      wrong(memory, fn _name -> Process.sleep(:infinity) end,
        flush_ms: 0,
        give_up_ms: 1,
        call_ms: 100
      )

    result = run!(store, Test.start!(["answer"]))
    assert %{state: :behind} = result.mirror
  end

  for {name, why, text} <- [
        {:error, {:error, :nospc}, "it returned the error nospc"},
        {:tuple, {:error, {:http, 500}}, "it returned the error http"},
        {:raise, :raise, "it raised RuntimeError"},
        {:exit, :exit, "its process ended"},
        {:kill, :kill, "its process ended"},
        {:throw, :throw, "its process ended"},
        {:link, :link, "its process ended"},
        {:invalid, :done, "it returned a value that the callback may not return"},
        {:timeout, :hang, "it did not answer in time (call_ms)"}
      ] do
    test "a store that fails (#{name}) says so, and the turn is not hurt" do
      why = unquote(Macro.escape(why))
      secret = secret()

      before = fn
        :append -> fail(why, secret)
        _other -> :ok
      end

      store = wrong(memory!(), before, flush_ms: 400, call_ms: 100, give_up_ms: 200)
      result = run!(store, Test.start!(["answer"]))
      assert %{state: :failed, error: %{kind: :session_store}} = result.mirror
      assert result.mirror.error.message =~ unquote(text)
      assert warned?(result, unquote(text))
      refute inspect(result, limit: :infinity, printable_limit: :infinity) =~ secret
    end
  end

  defp fail(:raise, secret), do: raise(secret)
  defp fail(:exit, secret), do: exit({:shutdown, secret})
  defp fail(:kill, _secret), do: Process.exit(self(), :kill)
  defp fail(:throw, secret), do: throw(secret)
  defp fail(:hang, _secret), do: Process.sleep(:infinity)

  defp fail(:link, _secret) do
    spawn_link(fn -> exit(:shutdown) end)
    Process.sleep(:infinity)
  end

  defp fail(result, _secret), do: result

  test "a store that recovers, and one whose answers are lost, have all lines once" do
    count = :counters.new(1, [])

    flaky = fn
      :append ->
        :counters.add(count, 1, 1)
        if :counters.get(count, 1) < 4, do: {:error, :down}, else: :ok

      _other ->
        :ok
    end

    lost = fn
      :append -> {:after, {:error, :timeout}}
      _other -> :ok
    end

    for before <- [flaky, lost] do
      memory = memory!()
      model = Test.start!(["answer"])
      result = run!(wrong(memory, before, flush_ms: 60_000, batch_bytes: 3_000), model)
      assert %{state: :current, error: nil} = result.mirror
      id = result.thread.thread_id
      assert in_store(memory, id) == in_home(model.home, id)
    end
  end

  test "a resumed thread of the home runs without a store that fails, a missing one does not" do
    memory = memory!(flush_ms: 60_000)
    model = Test.start!(["answer", "again"])
    %{thread: %{thread_id: id}} = run!(memory, model)
    down = wrong(memory, fn _name -> {:error, :down} end, flush_ms: 50, give_up_ms: 1)
    options = Test.thread_options(model) ++ [session_store: down]
    {:ok, thread} = Codex.resume_thread(id, Test.options(model), options)
    assert {:ok, result} = Thread.run(thread, "again")
    assert warned?(result, "the session store was not asked for the thread")
    assert result.mirror.state == :failed

    other = Test.start!(["never"])
    slow = wrong(memory, fn _name -> Process.sleep(:infinity) end, restore_ms: 50)

    for {store, text} <- [{down, "it returned the error down"}, {slow, "did not answer in time"}] do
      options = Test.thread_options(other) ++ [session_store: store]
      {:ok, thread} = Codex.resume_thread(id, Test.options(other), options)
      assert {:error, {:exec_failed, error}} = Thread.run(thread, "hello")
      assert error.kind == :session_store
      assert error.message =~ text
    end

    assert Test.requests(other) == []
  end

  test "a run that is cancelled while it waits for the store ends" do
    test = self()
    model = Test.start!([])

    before = fn _name ->
      send(test, :asked)
      Process.sleep(:infinity)
    end

    options = Test.thread_options(model) ++ [session_store: wrong(memory!(), before)]
    id = "01a21974-8f0c-7940-b1d5-036bc64902f4"
    {:ok, thread} = Codex.resume_thread(id, Test.options(model), options)
    run = Task.async(fn -> Thread.run(thread, "hello") end)
    assert_receive :asked, 60_000
    assert eventually(fn -> Codex.stop(thread) == :ok end)
    assert {:error, {:exec_failed, %{kind: :interrupted}}} = Task.await(run)
  end

  test "a mirror ends with its reader, however that one ends, and takes its adapter along" do
    test = self()
    home = Test.start!([]).home

    before = fn
      :files ->
        send(test, {:adapter, self()})
        Process.sleep(:infinity)

      _other ->
        :ok
    end

    {:ok, store} = SessionStore.new(wrong(memory!(), before, give_up_ms: 50, call_ms: 100))
    id = Codex.SessionLines.id()
    Codex.SessionLines.write!(home, [Codex.SessionLines.meta()])

    {reader, monitor} =
      spawn_monitor(fn ->
        send(
          test,
          {:mirror, Mirror.start(store, id, home: fn -> home end, final?: true, prefix: [:codex])}
        )

        Process.sleep(:infinity)
      end)

    assert_receive {:mirror, %{pid: mirror}}, 30_000
    assert_receive {:adapter, adapter}, 30_000
    ended = Process.monitor(mirror)
    gone = Process.monitor(adapter)
    Process.exit(reader, :kill)
    assert_receive {:DOWN, ^monitor, _, _, :killed}, 30_000
    assert_receive {:DOWN, ^gone, _, _, _}, 30_000
    assert_receive {:DOWN, ^ended, _, _, :normal}, 30_000

    # Killed in the middle of a call.
    %{pid: mirror} = Mirror.start(store, id, home: fn -> home end, final?: true, prefix: [:codex])
    assert_receive {:adapter, adapter}, 30_000
    gone = Process.monitor(adapter)
    Process.exit(mirror, :kill)
    assert_receive {:DOWN, ^gone, _, _, _}, 30_000
  end
end
