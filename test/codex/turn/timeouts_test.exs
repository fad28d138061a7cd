defmodule Codex.Turn.TimeoutsTest do
  use ExUnit.Case, async: true

  alias Codex.{Events, Items}
  alias Codex.Turn.Timeouts

  defp command(id), do: %Items.CommandExecution{id: id, command: "make #{id}"}
  defp started(item), do: %Events.ItemStarted{item: item}
  defp completed(item), do: %Events.ItemCompleted{item: item}
  defp thread, do: %Events.ThreadStarted{thread_id: "t"}
  defp trying, do: %Events.Error{message: "Reconnecting... waiting for network"}

  # Records output at a time, and its events.
  defp came(timeouts, events, now), do: Timeouts.observe(timeouts, events, now)

  test "without limits nothing is due, ever" do
    timeouts = Timeouts.new([silence: nil, total: :infinity], 0)
    assert Timeouts.check(timeouts, 1_000_000_000) == {:wait, :infinity}
  end

  test "start ends with the first event, whichever it is" do
    timeouts = Timeouts.new([start: 10], 100)
    assert Timeouts.check(timeouts, 105) == {:wait, 5}
    assert Timeouts.check(timeouts, 110) == {:expired, :start, 10}
    assert timeouts |> Timeouts.observe([], 109) |> Timeouts.check(110) == {:expired, :start, 10}
    assert timeouts |> came([thread()], 109) |> Timeouts.check(500) == {:wait, :infinity}
    assert timeouts |> came([trying()], 109) |> Timeouts.check(500) == {:wait, :infinity}
  end

  test "silence begins anew with whatever comes, also while something is open" do
    timeouts = Timeouts.new([silence: 10], 0) |> came([thread(), started(command("a"))], 5)
    assert Timeouts.check(timeouts, 14) == {:wait, 1}
    assert Timeouts.check(timeouts, 15) == {:expired, :silence, 10}
    assert timeouts |> Timeouts.observe([], 14) |> Timeouts.check(15) == {:wait, 9}
  end

  test "a stall is suspended while a command is open, and no announcement of a retry ends it" do
    timeouts = Timeouts.new([stall: 10], 0) |> came([thread()], 5)
    assert timeouts |> came([trying()], 14) |> Timeouts.check(15) == {:expired, :stall, 10}

    timeouts = came(timeouts, [started(command("a")), started(command("b"))], 8)
    assert Timeouts.check(timeouts, 5_000) == {:wait, :infinity}
    assert Enum.map(Timeouts.open(timeouts), & &1.id) == ["a", "b"]

    timeouts = came(timeouts, [completed(command("a"))], 20)
    assert Timeouts.check(timeouts, 5_000) == {:wait, :infinity}

    timeouts = came(timeouts, [completed(command("b"))], 30)
    assert Timeouts.open(timeouts) == []
    assert Timeouts.check(timeouts, 39) == {:wait, 1}
    assert Timeouts.check(timeouts, 40) == {:expired, :stall, 10}
  end

  test "an open plan and text of the model suspend nothing" do
    for item <- [
          %Items.TodoList{id: "p", items: []},
          %Items.AgentMessage{id: "m", text: ""},
          %Items.Reasoning{id: "r", text: ""},
          %Items.Error{id: "e", message: ""}
        ] do
      timeouts = Timeouts.new([stall: 10], 0) |> came([started(item)], 0)
      assert {item, Timeouts.check(timeouts, 10)} == {item, {:expired, :stall, 10}}
    end

    for item <- [
          %Items.McpToolCall{id: "t", server: "s", tool: "t"},
          %Items.FileChange{id: "f", changes: [], status: :in_progress},
          %Items.CollabToolCall{id: "c", tool: "wait"},
          %Items.WebSearch{id: "w", query: "q"},
          %Items.Unknown{id: "u", type: "hologram", raw: %{}}
        ] do
      timeouts = Timeouts.new([stall: 10], 0) |> came([started(item)], 0)
      assert {item, Timeouts.check(timeouts, 10)} == {item, {:wait, :infinity}}
    end
  end

  test "while the peer waits for the host, the total alone counts; idle times begin anew after" do
    timeouts = Timeouts.new([start: 5, silence: 10, stall: 10, total: 1_000], 0)
    timeouts = timeouts |> Timeouts.suspend() |> Timeouts.pause(1)
    assert Timeouts.check(timeouts, 100) == {:wait, 900}
    assert Timeouts.resume(timeouts, 100) == timeouts
    assert Timeouts.check(timeouts, 1_000) == {:expired, :total, 1_000}
    timeouts = timeouts |> came([thread()], 50) |> Timeouts.restart(100)
    assert Timeouts.check(timeouts, 105) == {:wait, 5}
    assert Timeouts.restart(timeouts, 109) == timeouts
  end

  test "messages that came in time are read before a limit expires, but for the total" do
    timeouts = Timeouts.new([silence: 10, total: 20], 0)
    for _ <- 1..2, do: send(self(), :message)
    assert Timeouts.check(timeouts, 9, nil) == {:wait, 1, nil}
    assert {:wait, 0, 2} = Timeouts.check(timeouts, 10, nil)
    assert {:wait, 0, 1} = Timeouts.check(timeouts, 10, 2)
    assert {:expired, :silence, 10} = Timeouts.check(timeouts, 10, 0)
    assert {:expired, :total, 20} = Timeouts.check(timeouts, 20, 2)
  end

  test "time of the reader does not count as silence; the total continues" do
    timeouts = Timeouts.new([silence: 10, stall: 10, total: 1_000], 0) |> came([thread()], 4)
    timeouts = timeouts |> Timeouts.pause(5) |> Timeouts.resume(500)
    assert Timeouts.check(timeouts, 500) == {:wait, 9}
    assert Timeouts.check(timeouts, 509) == {:expired, :silence, 10}
    assert Timeouts.check(timeouts, 1_000) == {:expired, :total, 1_000}
    assert Timeouts.resume(timeouts, 501) == timeouts
  end

  test "the total may count from before, and comes first" do
    timeouts = Timeouts.new([start: 10, silence: 10, total: 100], 95, 0)
    assert Timeouts.check(timeouts, 99) == {:wait, 1}
    assert Timeouts.check(timeouts, 200) == {:expired, :total, 100}
  end

  test "each limit names the option that sets it" do
    timeouts = Timeouts.new([], 0)

    assert for(name <- [:start, :request, :stall, :total], do: Timeouts.option(timeouts, name)) ==
             [:start_timeout_ms, :request_timeout_ms, :idle_timeout_ms, :total_timeout_ms]

    none = %{start_timeout_ms: nil, idle_timeout_ms: nil, total_timeout_ms: nil, timeout_ms: nil}

    for {settings, default, option, wait} <- [
          {%{timeout_ms: 5, stream_idle_timeout_ms: 7}, nil, :stream_idle_timeout_ms, 7},
          {%{timeout_ms: 5, stream_idle_timeout_ms: 7}, 9, :timeout_ms, 5},
          {%{stream_idle_timeout_ms: 7}, 9, :timeout_ms, 9},
          {%{stream_idle_timeout_ms: nil}, nil, :timeout_ms, :infinity}
        ] do
      timeouts = none |> Map.merge(settings) |> Timeouts.of(default, 0, 0)
      assert Timeouts.option(timeouts, :silence) == option
      assert Timeouts.check(timeouts, 0) == {:wait, wait}
    end
  end

  test "open items are limited" do
    timeouts = Timeouts.new([stall: 10], 0)
    events = for n <- 1..1_500, do: started(command("c#{n}"))
    assert timeouts |> came(events, 0) |> Timeouts.open() |> length() == 1_000
  end
end
