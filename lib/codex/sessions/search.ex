defmodule Codex.Sessions.Search do
  @moduledoc false
  # Finds text in prompts, answers, commands and patches. Files that cannot hold the text are left
  # out by a look at their bytes; the others are read turn by turn.

  alias Codex.{Items, Native, NativePool}
  alias Codex.Sessions.{Events, Match, Reader, Store}

  # Files that one call looks at.
  @batch 16

  @doc "Streams the matches in the threads of these ids, lazily."
  @spec stream(Store.t(), [String.t()], String.t() | Regex.t(), map()) :: Enumerable.t()
  def stream(store, ids, pattern, opts) do
    files = Stream.flat_map(ids, &Map.fetch!(store.threads, &1))

    files
    |> candidates(store, bytes(pattern))
    |> Stream.flat_map(&matches(store, &1, pattern, opts))
  end

  # Commands are written as lists of words, and texts with escapes: only a piece that looks the same
  # everywhere can be looked for in the bytes. Its absence says that there is no match.
  defp bytes(%Regex{}), do: ""

  defp bytes(text) do
    text
    |> String.split(~r/[\s"'\\[:cntrl:]]+/u, trim: true)
    |> Enum.max_by(&byte_size/1, fn -> "" end)
  end

  defp candidates(files, _store, ""), do: files

  defp candidates(files, store, bytes) do
    files
    |> Stream.chunk_every(@batch)
    |> Stream.flat_map(&holders(&1, store, bytes))
  end

  defp holders(files, store, bytes) do
    paths = for file <- files, do: Path.join(store.home, file.path)

    case NativePool.call(&Native.rollout_contains(&1, &2, paths, bytes)) do
      results when is_list(results) -> for {file, true} <- Enum.zip(files, results), do: file
      {:error, _reason} -> files
    end
  end

  # A file that cannot be read to its end has the matches of the lines before.
  defp matches(store, file, pattern, opts) do
    store
    |> Reader.stream({file, 0, false}, [])
    |> Stream.transform(Events.new(file.thread), fn
      {:summary, _summary}, state ->
        {[], state}

      {:error, _reason}, state ->
        {[], state}

      line, state ->
        {events, state} = Events.events(line, state)
        {Enum.flat_map(events, &of_event(&1, file.thread, pattern, opts)), state}
    end)
  end

  defp of_event(
         {turn, %Codex.Events.ItemCompleted{item: item, turn_id: id}},
         thread,
         pattern,
         opts
       ) do
    for {part, text} <- texts(item),
        part in opts.parts,
        {before, found, rest} <- found(text, pattern, opts.context) do
      %Match{
        session: thread,
        turn: id,
        number: if(is_integer(turn), do: turn + 1),
        part: part,
        before: before,
        text: found,
        after: rest,
        item: item
      }
    end
  end

  defp of_event(_other, _thread, _pattern, _opts), do: []

  defp texts(%Items.UserMessage{content: content}) when is_list(content),
    do: for(%{"text" => text} when is_binary(text) <- content, do: {:prompt, text})

  defp texts(%Items.AgentMessage{text: text}) when is_binary(text), do: [{:answer, text}]

  defp texts(%Items.CommandExecution{command: text}) when is_binary(text), do: [{:command, text}]

  defp texts(%Items.FileChange{changes: changes}) when is_list(changes) do
    for %{path: path, diff: diff} <- changes,
        text <- [path, diff],
        is_binary(text),
        do: {:patch, text}
  end

  defp texts(_other), do: []

  defp found(text, pattern, context) do
    pattern
    |> places(text)
    |> Enum.map(fn {at, length} ->
      {before, found_and_rest} = :erlang.split_binary(text, at)
      {found, rest} = :erlang.split_binary(found_and_rest, length)
      {last(before, context), found, String.slice(rest, 0, context)}
    end)
  end

  defp places(%Regex{} = regex, text) do
    for [{at, length}] <- Regex.scan(regex, text, return: :index, capture: :first),
        length > 0,
        do: {at, length}
  end

  defp places(pattern, text), do: :binary.matches(text, pattern)

  defp last(text, count) do
    # Some bytes more than the characters can have, so that a long text is not walked through.
    size = byte_size(text)
    near = binary_part(text, max(size - 4 * count, 0), min(4 * count, size))
    near |> Codex.Text.utf8() |> String.slice(-count, count)
  end
end
