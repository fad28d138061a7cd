defmodule Codex.Models.CacheTest do
  # Each test has a process of its own, but for the tasks.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  alias Codex.Models.Cache

  setup do
    {:ok, cache} = GenServer.start_link(Cache, [])
    %{cache: cache}
  end

  defp answer(value, hold \\ 60_000), do: fn -> {{:ok, value}, hold} end

  test "an answer is kept, and asked for anew with refresh", %{cache: cache} do
    assert Cache.get(:key, answer(1), false, cache) == {:ok, 1}
    assert Cache.get(:key, answer(2), false, cache) == {:ok, 1}
    assert Cache.get(:key, answer(3), true, cache) == {:ok, 3}
    assert Cache.get(:key, answer(4), false, cache) == {:ok, 3}
  end

  test "one that holds for no time is not kept", %{cache: cache} do
    assert Cache.get(:key, answer(1, 0), false, cache) == {:ok, 1}
    assert Cache.get(:key, answer(2), false, cache) == {:ok, 2}
  end

  test "200 callers share one run, also those that refresh", %{cache: cache} do
    test = self()

    run = fn ->
      send(test, {:running, self()})

      receive do
        :go -> {{:ok, :shared}, 0}
      end
    end

    callers =
      for n <- 1..200, do: Task.async(fn -> Cache.get(:key, run, rem(n, 2) == 0, cache) end)

    assert_receive {:running, runner}

    # All of them have asked once the process has nothing left to take, and none of them has an answer.
    assert Codex.Stub.eventually(fn -> waiting(cache) == 200 end)
    send(runner, :go)
    assert Enum.uniq(Task.await_many(callers)) == [{:ok, :shared}]
    refute_received {:running, _}
  end

  defp waiting(cache) do
    state = :sys.get_state(cache)
    {:key, callers} = state.runs[state.running[:key]]
    length(callers)
  end

  test "the death of the caller that began a run does not end it for the others", %{cache: cache} do
    test = self()

    run = fn ->
      send(test, {:running, self()})

      receive do
        :go -> {{:ok, :survived}, 0}
      end
    end

    first = spawn(fn -> Cache.get(:key, run, false, cache) end)
    assert_receive {:running, runner}
    second = Task.async(fn -> Cache.get(:key, run, false, cache) end)
    assert Codex.Stub.eventually(fn -> waiting(cache) == 2 end)
    Process.exit(first, :kill)
    send(runner, :go)
    assert Task.await(second) == {:ok, :survived}
  end

  test "a run that crashes is an error for who waits, and is not kept", %{cache: cache} do
    capture_log(fn ->
      assert {:error, {:exited, _}} = Cache.get(:key, fn -> exit(:broken) end, false, cache)
    end)

    assert Cache.get(:key, answer(1), false, cache) == {:ok, 1}
  end

  test "no more than a few are kept, and the oldest goes", %{cache: cache} do
    for n <- 1..100, do: {:ok, ^n} = Cache.get(n, answer(n), false, cache)
    # One that holds for a shorter time is kept like the others.
    {:ok, :short} = Cache.get(:short, answer(:short, 30_000), false, cache)

    state = :sys.get_state(cache)
    assert Enum.sort(Map.keys(state.kept)) == Enum.to_list(38..100) ++ [:short]
    assert state.runs == %{} and state.running == %{}
  end

  test "a name is new once, and after many none is", %{cache: cache} do
    assert Enum.map([1, 1, 2], &Cache.first?(&1, cache)) == [true, false, true]
    assert Enum.count(1..1_000, &Cache.first?(&1, cache)) == 254
    assert MapSet.size(:sys.get_state(cache).names) == 256
  end
end
