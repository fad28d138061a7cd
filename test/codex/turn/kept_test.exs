defmodule Codex.Turn.KeptTest do
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  alias Codex.{Connected, Events, Items, Stub, Test, Thread}
  alias Codex.Turn.Kept

  doctest Kept

  test "events over the byte limit are counted, but for the end of the turn" do
    big = %Events.ItemCompleted{item: %Items.AgentMessage{text: String.duplicate("x", 10_000)}}
    list = %Events.Unknown{raw: %{"list" => Enum.to_list(1..10_000)}}
    kept = Kept.new(nil, 50_000) |> Kept.add(big) |> Kept.add(list) |> Kept.add(big)
    assert {[^big, ^big], 1} = {Kept.events(kept), kept.dropped}
    failed = %Events.TurnFailed{error: %{"message" => String.duplicate("x", 100_000)}}
    assert [_, _, ^failed] = kept |> Kept.add(failed) |> Kept.events()
  end

  test "no term is measured as less than its memory" do
    for term <- [Enum.to_list(1..100), String.duplicate("é", 1_000), %{"a" => %{"b" => [nil]}}] do
      assert Kept.size(term) >= :erts_debug.flat_size(term) * 8
      if is_binary(term), do: assert(Kept.size(term) >= byte_size(term))
    end
  end

  describe "a turn with more events than a result keeps" do
    @tag :tmp_dir
    test "counts the others on codex exec, in threads and in Codex.Exec", %{tmp_dir: dir} do
      body = ~S"""
      echo "$started"
      i=0; while [ $i -lt 50 ]; do echo "$message"; i=$((i+1)); done
      echo '{"type":"item.completed","item":{"id":"l","type":"agent_message","text":"last"}}'
      echo "$completed"
      """

      thread = Stub.thread(dir, body)
      assert {:ok, result} = Thread.run(thread, "go", turn_opts: [max_events: 10])
      assert {length(result.events), result.events_dropped} == {11, 42}
      assert %Events.TurnCompleted{} = List.last(result.events)
      assert result.final_response.text == "last"
      assert result.usage["input_tokens"] == 100
      assert {:ok, %{events_dropped: 0, events: all}} = Thread.run(thread, "go")
      assert length(all) == 53

      exec = [codex_opts: thread.codex_opts, turn_opts: [max_events: 10]]
      assert {:ok, %{events: events, events_dropped: 42}} = Codex.Exec.run("go", exec)
      assert length(events) == 11
    end

    @tag :codex_cli
    test "counts them over an app-server, and keeps the items" do
      deltas = for n <- 1..300, do: "#{n} "
      model = Test.start!([respond([message("long", deltas: deltas)]), "fine"])
      thread = Connected.thread!(model, Connected.connect!(model), max_events: 50)
      assert {:ok, result} = Thread.run(thread, "go")
      assert result.events_dropped >= 250
      assert length(result.events) <= 101
      assert result.final_response.text == "long"
      assert Enum.any?(result.events, &match?(%{item: %Items.AgentMessage{}}, &1))
      assert %Events.TurnCompleted{} = List.last(result.events)
      # A stream gives all of them.
      {:ok, stream} = Thread.run_turn_streamed(result.thread, "on")
      assert %Events.TurnCompleted{} = stream |> Enum.to_list() |> List.last()
    end
  end
end
