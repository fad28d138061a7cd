defmodule Codex.ClocksTest do
  use ExUnit.Case, async: true

  alias Codex.{Clocks, Events, Items}

  defp command(id), do: %Items.CommandExecution{id: id, command: "make #{id}"}
  defp started(item), do: %Events.ItemStarted{item: item}
  defp completed(item), do: %Events.ItemCompleted{item: item}
  defp thread, do: %Events.ThreadStarted{thread_id: "t"}
  defp trying, do: %Events.Error{message: "Reconnecting... waiting for network"}

  # What came at a time: it was heard, and seen.
  defp came(clocks, events, now), do: clocks |> Clocks.heard(now) |> Clocks.saw(events, now)

  test "without limits nothing is due, ever" do
    clocks = Clocks.new([silence: nil, total: :infinity], 0)
    assert Clocks.due(clocks, 1_000_000_000) == {:wait, :infinity}
  end

  test "start ends with the first event, whichever it is" do
    clocks = Clocks.new([start: 10], 100)
    assert Clocks.due(clocks, 105) == {:wait, 5}
    assert Clocks.due(clocks, 110) == {:expired, :start, 10}
    assert clocks |> Clocks.heard(109) |> Clocks.due(110) == {:expired, :start, 10}
    assert clocks |> came([thread()], 109) |> Clocks.due(500) == {:wait, :infinity}
    assert clocks |> came([trying()], 109) |> Clocks.due(500) == {:wait, :infinity}
  end

  test "silence begins anew with whatever comes, also while something is open" do
    clocks = Clocks.new([silence: 10], 0) |> came([thread(), started(command("a"))], 5)
    assert Clocks.due(clocks, 14) == {:wait, 1}
    assert Clocks.due(clocks, 15) == {:expired, :silence, 10}
    assert clocks |> Clocks.heard(14) |> Clocks.due(15) == {:wait, 9}
  end

  test "a stall is suspended while a command is open, and no announcement of a retry ends it" do
    clocks = Clocks.new([stall: 10], 0) |> came([thread()], 5)
    assert clocks |> came([trying()], 14) |> Clocks.due(15) == {:expired, :stall, 10}

    clocks = came(clocks, [started(command("a")), started(command("b"))], 8)
    assert Clocks.due(clocks, 5_000) == {:wait, :infinity}
    assert Enum.map(Clocks.open(clocks), & &1.id) == ["a", "b"]

    clocks = came(clocks, [completed(command("a"))], 20)
    assert Clocks.due(clocks, 5_000) == {:wait, :infinity}

    clocks = came(clocks, [completed(command("b"))], 30)
    assert Clocks.open(clocks) == []
    assert Clocks.due(clocks, 39) == {:wait, 1}
    assert Clocks.due(clocks, 40) == {:expired, :stall, 10}
  end

  test "a plan, which is open all the time, and what the model writes suspend nothing" do
    for item <- [
          %Items.TodoList{id: "p", items: []},
          %Items.AgentMessage{id: "m", text: ""},
          %Items.Reasoning{id: "r", text: ""},
          %Items.Error{id: "e", message: ""}
        ] do
      clocks = Clocks.new([stall: 10], 0) |> came([started(item)], 0)
      assert {item, Clocks.due(clocks, 10)} == {item, {:expired, :stall, 10}}
    end

    for item <- [
          %Items.McpToolCall{id: "t", server: "s", tool: "t"},
          %Items.FileChange{id: "f", changes: [], status: :in_progress},
          %Items.CollabToolCall{id: "c", tool: "wait"},
          %Items.WebSearch{id: "w", query: "q"},
          %Items.Unknown{id: "u", type: "hologram", raw: %{}}
        ] do
      clocks = Clocks.new([stall: 10], 0) |> came([started(item)], 0)
      assert {item, Clocks.due(clocks, 10)} == {item, {:wait, :infinity}}
    end
  end

  test "an approval that somebody is asked for is open like a command" do
    clocks = Clocks.new([stall: 10], 0) |> Clocks.open({:approval, 1}, :approval)
    assert Clocks.due(clocks, 100) == {:wait, :infinity}
    assert Clocks.open(clocks) == [:approval]
    assert clocks |> Clocks.close({:approval, 1}) |> Clocks.due(100) == {:expired, :stall, 10}
  end

  test "while the reader is away nobody listens; the total goes on" do
    clocks = Clocks.new([silence: 10, stall: 10, total: 1_000], 0) |> came([thread()], 4)
    clocks = clocks |> Clocks.pause(5) |> Clocks.resume(500)
    assert Clocks.due(clocks, 500) == {:wait, 9}
    assert Clocks.due(clocks, 509) == {:expired, :silence, 10}
    assert Clocks.due(clocks, 1_000) == {:expired, :total, 1_000}
    assert Clocks.resume(clocks, 501) == clocks
  end

  test "the total may count from before, and comes first" do
    clocks = Clocks.new([start: 10, silence: 10, total: 100], 95, 0)
    assert Clocks.due(clocks, 99) == {:wait, 1}
    assert Clocks.due(clocks, 200) == {:expired, :total, 100}
  end

  test "each request has its own time" do
    clocks = Clocks.new([request: 10], 0) |> Clocks.asked(1, "turn/start", 0)
    clocks = Clocks.asked(clocks, 2, "thread/read", 5)
    assert Clocks.due(clocks, 9) == {:wait, 1}
    assert Clocks.due(clocks, 10) == {:expired, :request, 10}
    clocks = Clocks.answered(clocks, 1)
    assert Clocks.due(clocks, 10) == {:wait, 5}
    assert clocks |> Clocks.answered(2) |> Clocks.due(1_000) == {:wait, :infinity}
  end

  test "users know both limits of silence as one clock" do
    assert for(name <- [:start, :request, :silence, :stall, :total], do: Clocks.clock(name)) ==
             [:start, :request, :idle, :idle, :total]
  end

  test "what is open is bounded" do
    clocks = Clocks.new([stall: 10], 0)
    events = for n <- 1..1_500, do: started(command("c#{n}"))
    assert clocks |> came(events, 0) |> Clocks.open() |> length() == 1_000
  end
end
