defmodule Codex.Stream do
  @moduledoc """
  Reads text from the events of a turn.
  """

  alias Codex.{Error, Events, Items, StreamEvent, Turn}

  @doc """
  Streams the agent's text as it grows, in pieces, from the events of
  `Codex.Thread.run_turn_streamed/3` or of `Codex.RunResultStreaming.events/1`.

      {:ok, events} = Codex.Thread.run_turn_streamed(thread, "Write a story")
      events |> Codex.Stream.text() |> Enum.each(&IO.write/1)

  Over an app-server the pieces are those that the model sends. `codex exec` sends whole messages,
  so each message is one piece. The pieces of a message together are its text; a turn may have
  several messages.

  Raises `Codex.Error` after the text so far if the turn fails or is interrupted. Other errors of
  the events are raised, too, so a stream that ends normally is the text of a successful turn.

      iex> alias Codex.{Events, Items}
      iex> delta = %Events.ItemAgentMessageDelta{item: %{"id" => "m", "text" => "Hel"}}
      iex> whole = %Events.ItemCompleted{item: %Items.AgentMessage{id: "m", text: "Hello"}}
      iex> other = %Events.ItemCompleted{item: %Items.AgentMessage{id: "n", text: "You"}}
      iex> Enum.to_list(Codex.Stream.text([delta, whole, other]))
      ["Hel", "lo", "You"]
      iex> failed = %Events.TurnFailed{error: %{"message" => "no such model"}}
      iex> Enum.to_list(Codex.Stream.text([delta, failed]))
      ** (Codex.Error) no such model
  """
  @spec text(Enumerable.t()) :: Enumerable.t()
  def text(events) do
    if Enumerable.impl_for(events) == nil,
      do: raise(ArgumentError, "expected a stream or list of events, got: #{inspect(events)}")

    Stream.transform(events, fn -> {%{}, nil} end, &piece/2, &finish/1, fn _text -> :ok end)
  end

  # The failure is raised when the next event or the end is read: a stream that raises by itself at
  # the end of a failed turn has a more specific error.
  defp piece(%StreamEvent.RunItem{event: event}, text), do: piece(event, text)
  defp piece(_event, {_given, %Error{} = error}), do: raise(error)

  defp piece(event, {given, nil}) do
    {pieces, given} = given(event, given)
    {pieces, {given, Turn.failure(event)}}
  end

  defp finish({_given, %Error{} = error}), do: raise(error)
  defp finish(text), do: {[], text}

  # Keeps the number of bytes that were given of each message.
  defp given(%Events.ItemAgentMessageDelta{item: %{"id" => id, "text" => text}}, given)
       when is_binary(text) and text != "",
       do: {[text], Map.update(given, id, byte_size(text), &(&1 + byte_size(text)))}

  defp given(%Events.ItemCompleted{item: %Items.AgentMessage{id: id, text: text}}, given)
       when is_binary(text) do
    {known, given} = Map.pop(given, id, 0)

    if byte_size(text) > known,
      do: {[text |> :erlang.split_binary(known) |> elem(1)], given},
      else: {[], given}
  end

  defp given(_event, given), do: {[], given}
end
