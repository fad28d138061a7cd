defmodule Codex.Models.CacheTest do
  # The process that the application started, with keys of this test's own.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  alias Codex.Models.Cache

  defp key, do: {__MODULE__, make_ref()}

  defp answer(value, hold \\ 60_000), do: fn -> {{:ok, value}, hold} end

  test "an answer is kept, and asked for anew with refresh" do
    key = key()
    assert Cache.get(key, answer(1), false) == {:ok, 1}
    assert Cache.get(key, answer(2), false) == {:ok, 1}
    assert Cache.get(key, answer(3), true) == {:ok, 3}
    assert Cache.get(key, answer(4), false) == {:ok, 3}
  end

  test "one that holds for no time is not kept" do
    key = key()
    assert Cache.get(key, answer(1, 0), false) == {:ok, 1}
    assert Cache.get(key, answer(2), false) == {:ok, 2}
  end

  test "200 callers share one run, also those that refresh" do
    key = key()
    test = self()

    run = fn ->
      send(test, {:running, self()})

      receive do
        :go -> {{:ok, :shared}, 0}
      end
    end

    callers = for n <- 1..200, do: Task.async(fn -> Cache.get(key, run, rem(n, 2) == 0) end)
    assert_receive {:running, runner}

    # All of them have asked once the process has nothing left to take, and none of them has an answer.
    assert Codex.Stub.eventually(fn -> waiting(key) == 200 end)
    send(runner, :go)
    assert Enum.uniq(Task.await_many(callers)) == [{:ok, :shared}]
    refute_received {:running, _}
  end

  defp waiting(key) do
    state = :sys.get_state(Cache)
    {^key, callers} = state.runs[state.running[key]]
    length(callers)
  end

  test "the death of the caller that began a run does not end it for the others" do
    key = key()
    test = self()

    run = fn ->
      send(test, {:running, self()})

      receive do
        :go -> {{:ok, :survived}, 0}
      end
    end

    first = spawn(fn -> Cache.get(key, run, false) end)
    assert_receive {:running, runner}
    second = Task.async(fn -> Cache.get(key, run, false) end)
    assert Codex.Stub.eventually(fn -> waiting(key) == 2 end)
    Process.exit(first, :kill)
    send(runner, :go)
    assert Task.await(second) == {:ok, :survived}
  end

  test "a run that crashes is an error for who waits, and is not kept" do
    key = key()

    capture_log(fn ->
      assert {:error, {:exited, _}} = Cache.get(key, fn -> exit(:broken) end, false)
    end)

    assert Cache.get(key, answer(1), false) == {:ok, 1}
  end

  test "no more than a few are kept" do
    {:ok, pid} = GenServer.start_link(Cache, [])

    for n <- 1..100,
        do: {:ok, ^n} = GenServer.call(pid, {:get, n, answer(n, 60_000 + n * 1_000), false})

    state = :sys.get_state(pid)
    assert Enum.sort(Map.keys(state.kept)) == Enum.to_list(85..100)
    assert state.runs == %{} and state.running == %{}
  end

  test "a name is new once, and after many none is" do
    {:ok, pid} = GenServer.start_link(Cache, [])
    ask = &GenServer.call(pid, {:first?, &1})

    assert Enum.map([1, 1, 2], ask) == [true, false, true]
    assert Enum.count(1..1_000, ask) == 254
    assert MapSet.size(:sys.get_state(pid).names) == 256

    assert Cache.first?(name = make_ref())
    refute Cache.first?(name)
  end
end
