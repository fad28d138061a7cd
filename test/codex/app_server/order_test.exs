defmodule Codex.AppServer.OrderTest do
  # The state machine, whatever happens in which order.
  use ExUnit.Case, async: true

  alias Codex.AppServer.State

  @approval "item/commandExecution/requestApproval"

  defp ready(opts \\ []) do
    {_, state} = opts |> State.new() |> State.run(:start, 0)
    {_, state} = State.run(state, {:receive, {:result, 0, %{}}}, 0)
    state
  end

  defp request(state, from, opts) do
    {[{:send, %{"id" => id}}], state} =
      State.run(state, {:request, from, "model/list", %{}, opts}, 0)

    {id, state}
  end

  # Anything may happen at any time. Every caller is answered once, ids are used once, the server
  # gets one answer to each question, and no list grows past its limit.
  describe "whatever happens" do
    @caps [max_requests: 6, max_asked: 4, max_subscribers: 2, max_turns: 3]

    for seed <- 1..60 do
      test "in any order (#{seed})" do
        :rand.seed(:exsss, {unquote(seed), 21, 34})
        opts = @caps ++ [answer_timeout_ms: 40, retries: 2, retry_ms: 5]
        world = %{state: ready(opts), now: 0, froms: [], sent: [0], asked: [], actions: []}
        world = Enum.reduce(1..300, world, fn _, world -> happen(world, :rand.uniform(14)) end)
        {actions, state} = State.run(world.state, {:down, %{}}, 0)
        check(Enum.reverse(world.actions) ++ actions, world, state)
      end
    end

    defp happen(world, n) when n <= 3 do
      from = {:from, length(world.froms)}
      follow = Enum.random([nil, :f, :g])
      opts = [timeout_ms: Enum.random([3, 20, :infinity]), follow: follow]
      world = %{world | froms: [from | world.froms]}

      world
      |> step(
        &State.run(&1, {:request, from, "turn/start", %{"threadId" => "t"}, opts}, world.now)
      )
    end

    defp happen(world, 4),
      do:
        step(
          world,
          &State.run(
            &1,
            {:receive, {:result, any_id(world), %{"turn" => %{"id" => any_turn()}}}},
            world.now
          )
        )

    defp happen(world, 5),
      do:
        step(
          world,
          &State.run(
            &1,
            {:receive, {:error, any_id(world), %{"code" => Enum.random([-32001, -32600])}}},
            world.now
          )
        )

    defp happen(world, 6) do
      id = Enum.random([length(world.asked), "#{length(world.asked)}", :rand.uniform(20)])
      about = %{"threadId" => "t", "turnId" => any_turn()}
      world = %{world | asked: [id | world.asked]}

      step(
        world,
        &State.run(
          &1,
          {:receive, {:request, id, Enum.random([@approval, "new/thing"]), about}},
          world.now
        )
      )
    end

    defp happen(world, 7) do
      answer =
        Enum.random([
          {:ok, %{"decision" => "accept"}},
          {:ok, %{}},
          {:error, %{"code" => 1, "message" => "m"}}
        ])

      step(
        world,
        &State.run(&1, {:respond, :answerer, {:id, Enum.random([0 | world.asked])}, answer}, 0)
      )
    end

    defp happen(world, 8) do
      now = world.now + :rand.uniform(15)
      step(%{world | now: now}, &State.run(&1, :tick, now))
    end

    defp happen(world, 9),
      do: step(world, &State.run(&1, {:subscribe, :subscriber, Enum.random([:s, :t, :u]), []}, 0))

    defp happen(world, 10),
      do: step(world, &State.run(&1, {:reader_down, Enum.random([:s, :t, :f])}, 0))

    defp happen(world, 11) do
      from = {:from, length(world.froms)}
      world = %{world | froms: [from | world.froms]}
      step(world, &State.run(&1, {:interrupt, from, "t", [timeout_ms: 20]}, world.now))
    end

    defp happen(world, 12),
      do: step(world, &State.run(&1, {:receive, {:malformed, :not_json}}, world.now))

    defp happen(world, 13),
      do:
        step(
          world,
          &State.run(
            &1,
            {:receive,
             {:notification, "serverRequest/resolved",
              %{"requestId" => Enum.random([0 | world.asked])}}},
            world.now
          )
        )

    defp happen(world, 14) do
      method =
        Enum.random(~w(turn/started item/started item/completed turn/completed thread/closed))

      params = %{"threadId" => "t", "turn" => %{"id" => any_turn()}, "item" => %{"id" => "i"}}
      step(world, &State.run(&1, {:receive, {:notification, method, params}}, world.now))
    end

    # Most of the ids that were sent, some that were not.
    defp any_id(world), do: Enum.random([10_000, -1, "x" | Enum.take(world.sent, 8)])
    defp any_turn, do: "u#{:rand.uniform(5)}"

    defp step(world, fun) do
      {actions, state} = fun.(world.state)
      sent = for {:send, %{"id" => id, "method" => _}} <- actions, do: id
      assert map_size(state.peer.sent) <= @caps[:max_requests]
      assert map_size(state.peer.received) <= @caps[:max_asked]
      assert map_size(state.subscribers) <= @caps[:max_subscribers]
      assert map_size(state.turns.running) <= @caps[:max_turns]
      # Besides those that wait for their answers, some whose answer is late.
      late = map_size(state.turns.starting) - map_size(state.peer.sent)
      assert late <= @caps[:max_turns]
      # A time for each that waits, and none besides.
      times = Enum.count(state.peer.sent, fn {_, e} -> e.deadline != :infinity end)
      times = times + Enum.count(state.peer.sent, fn {_, e} -> e.retry_at != nil end)
      assert :gb_sets.size(state.peer.deadlines) == times + map_size(state.peer.received)

      %{
        world
        | state: state,
          sent: Enum.reverse(sent) ++ world.sent,
          actions: Enum.reverse(actions) ++ world.actions
      }
    end

    defp check(actions, world, state) do
      replies = for {:reply, {:from, _} = from, _} <- actions, do: from
      assert replies == Enum.uniq(replies)

      # Who has none gave up.
      assert MapSet.subset?(MapSet.new(replies), MapSet.new(world.froms))

      ids = for {:send, %{"id" => id, "method" => _}} <- actions, do: id
      assert ids == Enum.sort(ids) and ids == Enum.uniq(ids)

      check_asked(actions, world)
      assert state.peer.sent == %{} and state.peer.received == %{} and state.turns.running == %{}
      assert State.deadline(state) == :infinity
    end

    # One answer for each time that a request arrived and was not taken back, except for those that
    # were open at the end.
    defp check_asked(actions, world) do
      answers =
        for {:send, %{"id" => id} = sent} <- actions, not is_map_key(sent, "method"), do: id

      notes = for {:note, {:duplicate_request, id, _}} <- actions, do: id
      taken_back = for {:note, {:resolved, id, _}} <- actions, do: id

      for id <- Enum.uniq(world.asked) do
        count = fn list -> Enum.count(list, &(&1 === id)) end
        left = count.(world.asked) - count.(answers) - count.(notes) - count.(taken_back)
        assert left == if(is_map_key(world.state.peer.received, id), do: 1, else: 0)
      end
    end
  end

  test "every caller that does not give up is answered" do
    for seed <- 1..30 do
      :rand.seed(:exsss, {seed, 55, 89})

      {ids, state} =
        Enum.map_reduce(1..50, ready(), fn n, state -> request(state, n, timeout_ms: 100) end)

      {actions, state} =
        ids
        |> Enum.shuffle()
        |> Enum.take(30)
        |> Enum.flat_map(&[&1, &1])
        |> Enum.shuffle()
        |> Enum.flat_map_reduce(state, &State.run(&2, {:receive, {:result, &1, &1}}, 0))

      {late, state} = State.run(state, :tick, 100)
      replies = for {:reply, from, result} <- actions ++ late, do: {from, result}
      assert Enum.sort(Enum.map(replies, &elem(&1, 0))) == Enum.to_list(1..50)
      # The answer is the one to the own request.
      for {from, {:ok, id}} <- replies, do: assert(id == Enum.at(ids, from - 1))
      assert Enum.count(replies, &match?({_, {:error, {:timeout, _, 100}}}, &1)) == 20
      assert State.deadline(state) == :infinity
    end
  end
end
