defmodule Codex.RedactionTest do
  # Masks texts that come in pieces.
  use ExUnit.Case, async: true

  alias Codex.{Events, Items, Redaction}

  doctest Redaction

  defp message(text),
    do: %Events.ItemAgentMessageDelta{
      item: %{"id" => "m", "type" => "agent_message", "text" => text}
    }

  defp output(text), do: %Events.CommandOutputDelta{item_id: "c", delta: text}

  defp masked(events) do
    {events, redaction} = Redaction.elements(events, Redaction.new(["hunter2"]))
    texts = for event <- events, do: text(event)
    {texts, redaction}
  end

  defp text(%{item: %{"text" => text}}), do: {:m, text}
  defp text(%{delta: text}), do: {:c, text}
  defp text(%{item: %{text: text}}), do: {:end, text}

  test "pieces of messages and outputs are held back to the end of their line" do
    events = [
      message("a hun"),
      output("hunt"),
      message("ter2\nb "),
      output("er2\n"),
      message("c")
    ]

    assert {[m: "a [redacted]\n", c: "[redacted]\n"], redaction} = masked(events)
    assert redaction.masked == 2
    assert {[held], empty} = Redaction.release(redaction)
    assert text(held) == {:m, "b c"}
    assert {[], ^empty} = Redaction.release(empty)
  end

  test "the end of an item ends its texts alone" do
    done = %Events.ItemCompleted{item: %Items.AgentMessage{id: "m", text: "the hunter2"}}

    assert {[m: "the [redacted]", end: "the [redacted]"], redaction} =
             masked([message("the hun"), output("x"), message("ter2"), done])

    assert {[held], _} = Redaction.release(redaction)
    assert text(held) == {:c, "x"}
  end

  test "a long line is not held back for ever, and other elements pass" do
    long = String.duplicate("x", 70_000)
    assert {[m: ^long], _} = masked([message(long)])
    check = {:check, self(), "hunter2"}
    assert {[^check], _} = Redaction.elements([check], Redaction.new(["hunter2"]))
    refute inspect(Redaction.new(["hunter2"])) =~ "hunter2"
  end
end
