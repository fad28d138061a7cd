defmodule Codex.Sessions.Tail do
  @moduledoc false
  # The events of a thread while it is written. A reader of a growing file answers `wait` at its end
  # and `moved` if the file was archived, compressed or written back; it goes on at the new place. A
  # revert makes another file: the one before is read to its end, then the new one is followed.

  alias Codex.Sessions.{Events, Reader, Segments, Store, Transcript}

  @enforce_keys [:store, :file, :events, :segments, :opts]
  defstruct [
    :store,
    :file,
    :events,
    :segments,
    :opts,
    # The file after this one.
    :next,
    # Open while there is a file.
    :reader,
    # Old lines only change the state of the events.
    drop?: false,
    pause?: false,
    # The polls in a row at which the file was missing.
    missing: 0
  ]

  # Between the looks at two places, a file may move from the second to the first one.
  @missing_polls 2

  @doc """
  Streams the events of a thread of a store. Options: `:from`, `:poll_ms`, `:images`, as
  `Codex.Sessions.tail/2` takes them.
  """
  @spec stream(Store.t(), String.t(), map()) :: Enumerable.t()
  def stream(store, id, opts) do
    {parts, []} = Reader.parts(store, id, [])
    {before, [{file, 0, false}]} = Enum.split(parts, -1)

    tail = %__MODULE__{
      store: store,
      file: file,
      events: events(file, opts),
      segments: Segments.new(store, id),
      opts: opts,
      drop?: opts.from == :end
    }

    followed = Stream.resource(fn -> tail end, &next/1, &close/1)

    if opts.from == :start,
      do: Stream.concat(Transcript.stream_parts(store, before, images: opts.images), followed),
      else: followed
  end

  defp events(file, opts), do: Events.new(file.thread, images: opts.images)

  defp next(:ended), do: {:halt, :ended}

  defp next(%{pause?: true} = tail) do
    Process.sleep(tail.opts.poll_ms)
    next(%{tail | pause?: false})
  end

  defp next(%{reader: nil} = tail) do
    opts = [images: tail.opts.images == :bytes, grows: true]

    case Reader.open(tail.store, {tail.file, 0, false}, opts) do
      {:ok, reader, file} -> {[], %{tail | reader: reader, file: file, missing: 0}}
      {:error, :enoent} -> {[], missing(tail)}
      {:error, reason} -> unreadable(tail.file, reason)
    end
  end

  defp next(tail) do
    case Reader.next(tail.reader) do
      {:more, lines} -> decode(lines, tail)
      {:wait, lines} -> lines |> decode(tail) |> after_lines(&at_end/1)
      {:moved, lines} -> lines |> decode(tail) |> after_lines(&moved/1)
      {:done, lines, _summary} -> lines |> decode(tail) |> after_lines(&ended/1)
      {:error, reason} -> unreadable(tail.file, reason)
    end
  end

  defp decode(lines, tail) do
    {events, state} = Enum.flat_map_reduce(lines, tail.events, &Events.events/2)
    events = if tail.drop?, do: [], else: Enum.map(events, &elem(&1, 1))
    {events, %{tail | events: state}}
  end

  # All lines that were there at the beginning have been read.
  defp after_lines({events, tail}, fun), do: {events, fun.(%{tail | drop?: false})}

  defp at_end(tail) do
    tail = look_for_next(%{tail | missing: 0})

    cond do
      tail.next -> tail
      tail.file.compressed -> written_back(tail)
      true -> %{tail | pause?: true}
    end
  end

  # The plain form counts as soon as it has all lines that were read.
  defp written_back(tail) do
    with [%{compressed: false} = file | _] <- Store.moved(tail.store, tail.file),
         :ok <- Reader.reopen(tail.reader, path(tail, file)) do
      %{tail | file: file}
    else
      _not_yet -> %{tail | pause?: true}
    end
  end

  defp moved(tail), do: go_on(Store.moved(tail.store, tail.file), tail)

  # A form that is being written has less lines than were read; the whole one is beside it. A place
  # that is gone since the look at it has moved again.
  defp go_on([], tail), do: missing(tail)

  defp go_on([file | others], tail) do
    case Reader.reopen(tail.reader, path(tail, file)) do
      :ok -> %{tail | file: file, missing: 0}
      {:error, :enoent} -> missing(tail)
      {:error, _half} when others != [] -> go_on(others, tail)
      {:error, reason} -> unreadable(file, reason)
    end
  end

  defp missing(tail) do
    tail = look_for_next(%{tail | missing: tail.missing + 1})

    cond do
      tail.next -> tail
      tail.missing < @missing_polls -> %{tail | pause?: true}
      tail.reader -> finish(tail)
      true -> :ended
    end
  end

  defp look_for_next(tail) do
    {next, segments} = Segments.next(tail.segments)
    tail = %{tail | next: next, segments: segments}
    if next, do: finish(tail), else: tail
  end

  # What is left of the file is read first.
  defp finish(%{reader: nil} = tail), do: ended(tail)

  defp finish(tail) do
    :ok = Reader.finish(tail.reader)
    tail
  end

  defp ended(%{next: nil}), do: :ended

  defp ended(%{next: file} = tail) do
    %{tail | file: file, events: events(file, tail.opts), next: nil, reader: nil, missing: 0}
  end

  defp close(%{reader: reader}) when reader != nil, do: Reader.close(reader)
  defp close(_closed), do: :ok

  defp path(tail, file), do: Path.join(tail.store.home, file.path)

  @spec unreadable(Store.file(), term()) :: no_return()
  defp unreadable(file, reason),
    do: raise(Codex.Error.normalize({:unreadable_session, file.path, reason}))
end
