defmodule Codex.AppServer.ReplayTest do
  # Recorded sessions through the state machine.
  use ExUnit.Case, async: true

  alias Codex.Replay

  @names Replay.names()

  defp whole(bytes), do: [bytes]
  defp bytewise(bytes), do: for(<<byte <- bytes>>, do: <<byte>>)

  defp random(""), do: []

  defp random(bytes) do
    size = min(:rand.uniform(700), byte_size(bytes))
    {chunk, rest} = :erlang.split_binary(bytes, size)
    [chunk | random(rest)]
  end

  defp replies(replay),
    do: for({:reply, from, result} <- replay.actions, into: %{}, do: {from, result})

  test "there are sessions of every kind" do
    assert length(@names) >= 30
    assert "basic_turn" in @names
  end

  for name <- @names do
    test "#{name}: the same actions and the same state, however the bytes are cut" do
      lines = Replay.lines(unquote(name))
      replay = Replay.play(lines, &whole/1)

      for seed <- 1..4 do
        :rand.seed(:exsss, {seed, 5, 9})
        assert Replay.play(lines, &random/1) == replay
      end

      if unquote(name) in ~w(basic_turn approval_command_accept protocol_errors),
        do: assert(Replay.play(lines, &bytewise/1) == replay)
    end

    test "#{name}: every request has the recorded answer, once" do
      lines = Replay.lines(unquote(name))
      replay = Replay.play(lines, &whole/1)

      # The hello is answered to the connection itself.
      answers =
        for {:in, %{"id" => id} = message} <- lines,
            not is_map_key(message, "method"),
            into: %{},
            do:
              {id,
               if(message["error"],
                 do: {:error, message["error"]},
                 else: {:ok, message["result"]}
               )}

      calls = for {:reply, {:call, id}, result} <- replay.actions, do: {id, result}
      assert length(calls) == length(Enum.uniq_by(calls, &elem(&1, 0)))

      for {id, result} <- calls, result != {:error, :not_ready}, do: assert(answers[id] == result)

      answered = for {id, _} <- calls, do: id

      assert for({id, _} <- replay.ids, id not in answered, is_map_key(answers, id), do: id)
             |> length() <= 1

      assert replay.state.peer.received == %{}
    end

    test "#{name}: every notification reaches the subscriber, in order" do
      lines = Replay.lines(unquote(name))
      replay = Replay.play(lines, &whole/1)

      told =
        for {:notify, :all, {:codex_notification, method, params}} <- replay.actions,
            do: {method, params}

      sent =
        for {:in, %{"method" => method} = message} <- lines,
            not is_map_key(message, "id"),
            do: {method, message["params"] || %{}}

      assert told == sent
    end

    test "#{name}: who follows a turn gets all of it, and its end once" do
      lines = Replay.lines(unquote(name))
      replay = Replay.play(lines, &whole/1)

      for {:turn, who, thread, turn, {:completed, summary}} <- replay.actions do
        assert summary.turn["id"] == turn

        got =
          for {:turn, ^who, ^thread, ^turn, {:notification, method, params}} <- replay.actions,
              do: {method, params}

        assert {"turn/completed", %{"turn" => ended}} = List.last(got)
        assert ended == summary.turn
      end

      ends =
        for {:turn, who, thread, turn, {:completed, _}} <- replay.actions, do: {who, thread, turn}

      assert ends == Enum.uniq(ends)

      # Every turn that was started is followed to its end.
      assert replay.state.turns.running == %{}
      assert replay.state.turns.starting == %{}
    end
  end

  test "a turn of the real CLI, with its tokens and its items" do
    replay = "basic_turn" |> Replay.lines() |> Replay.play(&whole/1)
    assert {:ok, %{"turn" => %{"id" => turn}}} = replies(replay)[{:call, 2}]

    methods =
      for {:turn, {:turn, 2}, _, ^turn, {:notification, method, _}} <- replay.actions, do: method

    assert hd(methods) == "turn/started"
    assert List.last(methods) == "turn/completed"
    assert "item/agentMessage/delta" in methods
    assert "thread/tokenUsage/updated" in methods

    assert [summary] =
             for({:turn, _, _, ^turn, {:completed, summary}} <- replay.actions, do: summary)

    assert %{turn: %{"status" => "completed"}, error: nil} = summary
  end

  test "approvals are asked for with the server's own ids, beside ours, and answered once" do
    replay = "approval_command_accept" |> Replay.lines() |> Replay.play(&whole/1)

    asked =
      for {:notify, who, {:codex_request, id, method, _}} <- replay.actions, do: {who, id, method}

    followed =
      for {:turn, who, _, _, {:request, request, true}} <- replay.actions,
          do: {who, request.id, request.method}

    method = "item/commandExecution/requestApproval"
    assert asked == for(id <- [0, 1], do: {:all, id, method})
    assert followed == for(id <- [0, 1], do: {{:turn, 2}, id, method})
    sent = for {:send, %{"result" => _} = answer} <- replay.actions, do: answer
    assert sent == for(id <- [0, 1], do: %{"id" => id, "result" => %{"decision" => "accept"}})
    assert %{{:answer, 0} => :ok, {:answer, 1} => :ok} = replies(replay)
  end

  test "an invalid answer is an error before it is sent" do
    replay = "approval_command_bad_decision" |> Replay.lines() |> Replay.play(&whole/1)

    assert {:error, %Codex.OptionError{path: ["decision"], value: "maybe", expected: expected}} =
             replies(replay)[{:answer, 0}]

    assert expected =~ ~S("accept", "acceptForSession", "decline")
    assert for({:send, %{"result" => _}} = sent <- replay.actions, do: sent) == []
  end

  test "the wire of an amendment is the recorded one" do
    replay = "approval_command_amendment" |> Replay.lines() |> Replay.play(&whole/1)

    assert [%{"result" => %{"decision" => %{"acceptWithExecpolicyAmendment" => amendment}}}] =
             for({:send, %{"result" => _} = answer} <- replay.actions, do: answer)

    assert amendment == %{"execpolicy_amendment" => ["echo"]}
  end

  test "errors that will be retried are events, and do not end the turn" do
    replay = "error_retry_then_ok" |> Replay.lines() |> Replay.play(&whole/1)

    assert [%{error: %{"willRetry" => true}, turn: %{"status" => "completed"}} | _] =
             for({:turn, _, _, _, {:completed, summary}} <- replay.actions, do: summary)
  end

  test "an interrupted turn ends as such" do
    replay = "interrupt" |> Replay.lines() |> Replay.play(&whole/1)

    assert [%{turn: %{"status" => "interrupted"}}] =
             for({:turn, _, _, _, {:completed, summary}} <- replay.actions, do: summary)
  end

  test "a review is the turn of its answer, whatever turn/started names" do
    replay = "review" |> Replay.lines() |> Replay.play(&whole/1)

    for {{:call, id}, {:ok, %{"turn" => %{"id" => turn}}}} <- replies(replay) do
      assert [%{turn: %{"id" => ^turn}}] =
               for(
                 {:turn, {:turn, ^id}, _, _, {:completed, summary}} <- replay.actions,
                 do: summary
               )
    end
  end

  test "requests before the hello are refused here, as the server would" do
    lines = Replay.lines("protocol_errors")
    replay = Replay.play(lines, &whole/1)
    assert {:out, %{"id" => 0, "method" => "thread/list"}} = hd(lines)
    assert {:in, %{"error" => %{"message" => "Not initialized"}}} = Enum.at(lines, 1)
    assert replies(replay)[{:call, 0}] == {:error, :not_ready}
  end

  test "a hello that the server refused" do
    [{_, refusal} | _] =
      for {:in, %{"error" => %{"message" => text}}} = line <- Replay.lines("protocol_errors"),
          text =~ "clientInfo",
          do: line

    lines = [
      {:out,
       %{"id" => refusal["id"], "method" => "initialize", "params" => %{"clientInfo" => %{}}}},
      {:in, refusal}
    ]

    replay = Replay.play(lines, &whole/1)
    reason = {:initialize_refused, refusal["error"]}
    assert List.last(replay.actions) == {:stop, reason}
    assert replay.state.phase == {:down, reason}
  end
end
