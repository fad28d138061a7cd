defmodule Codex.Stream do
  @moduledoc """
  What is read out of the events of a turn.
  """

  alias Codex.{Events, Items, StreamEvent}

  @doc """
  The agent's text as it grows: a lazy stream of pieces, from the events of `Codex.Thread.run_turn_streamed/3` or of
  `Codex.RunResultStreaming.events/1`.

      {:ok, events} = Codex.Thread.run_turn_streamed(thread, "Tell me a story")
      events |> Codex.Stream.text() |> Enum.each(&IO.write/1)

  Over an app-server these are the pieces that the model sends. `codex exec` (0.169) sends none: there each message is one piece. All
  pieces of a message together are its text; a turn may have several messages. What the events raise is raised.

      iex> alias Codex.{Events, Items}
      iex> delta = %Events.ItemAgentMessageDelta{item: %{"id" => "m", "text" => "Hel"}}
      iex> whole = %Events.ItemCompleted{item: %Items.AgentMessage{id: "m", text: "Hello"}}
      iex> other = %Events.ItemCompleted{item: %Items.AgentMessage{id: "n", text: "You"}}
      iex> Enum.to_list(Codex.Stream.text([delta, whole, other]))
      ["Hel", "lo", "You"]
  """
  @spec text(Enumerable.t()) :: Enumerable.t()
  def text(events), do: Stream.transform(events, %{}, &piece/2)

  # Of a message that grows, as many bytes as were given.
  defp piece(%StreamEvent.RunItem{event: event}, given), do: piece(event, given)

  defp piece(%Events.ItemAgentMessageDelta{item: %{"id" => id, "text" => text}}, given)
       when is_binary(text) and text != "",
       do: {[text], Map.update(given, id, byte_size(text), &(&1 + byte_size(text)))}

  defp piece(%Events.ItemCompleted{item: %Items.AgentMessage{id: id, text: text}}, given)
       when is_binary(text) do
    {known, given} = Map.pop(given, id, 0)

    case text do
      <<_::binary-size(known), rest::binary>> when rest != "" -> {[rest], given}
      _all_of_it -> {[], given}
    end
  end

  defp piece(_event, given), do: {[], given}
end
