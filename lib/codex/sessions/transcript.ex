defmodule Codex.Sessions.Transcript do
  @moduledoc """
  A session that was read whole.

    * `session` - the `Codex.Sessions.Session`
    * `turns` - its turns with their events, the oldest first
    * `events` - the events before the first turn
    * `problems` - a `Codex.Sessions.Problem` for each file or line that was not read
  """

  alias Codex.Sessions.{Chain, Events, Problem, Reader, Record, Session, Store, Turn}

  @enforce_keys [:session]
  defstruct [:session, turns: [], events: [], problems: []]

  @typedoc "A session that was read. Fields: see above."
  @type t :: %__MODULE__{
          session: Session.t(),
          turns: [Turn.t()],
          events: [Codex.Events.t()],
          problems: [Problem.t()]
        }

  @doc "Returns all events, in order."
  @spec events(t()) :: [Codex.Events.t()]
  def events(%__MODULE__{} = transcript),
    do: transcript.events ++ Enum.flat_map(transcript.turns, & &1.events)

  @doc false
  # Reads a thread of a store.
  @spec read(Store.t(), String.t(), keyword()) :: t()
  def read(store, id, opts) do
    [record] = store |> Record.stream([id]) |> Enum.to_list()
    {parts, missing} = Reader.parts(store, id, opts)
    read = Enum.map(parts, &{&1, part(store, &1, opts)})
    reverted = Chain.reverted(for {{file, _, false}, {:ok, sum, _}} <- read, do: {file, sum})

    turns =
      for {{file, _end, other}, {:ok, summary, events}} <- read,
          {turn, at} <- Enum.with_index(summary.turns) do
        gone = turn.reverted or (not other and reverted.(file, turn))

        turn = %{
          Record.turn(turn, summary, Reader.recorded?(summary), gone)
          | inherited: other or turn.inherited
        }

        %{turn | events: events |> Map.get(at, []) |> Enum.reverse()}
      end

    %__MODULE__{
      session: record.session,
      turns: turns,
      events:
        for(
          {_part, {:ok, _, events}} <- read,
          event <- Enum.reverse(Map.get(events, :none, [])),
          do: event
        ),
      problems: record.problems ++ missing(record, missing)
    }
  end

  defp missing(record, ids) do
    known =
      for {_file, summary} <- Record.summaries(record),
          base = summary.meta.history_base,
          do: elem(base, 0)

    [{file, _} | _] = record.results

    for id <- ids,
        id not in known,
        do: %Problem{kind: :missing_base, path: file.path, session: record.id, detail: id}
  end

  # The summary of a file, and its events by turn, the last one first.
  defp part(store, {file, _, _} = part, opts) do
    store
    |> Reader.stream(part, reader_opts(opts))
    |> Enum.reduce({%{}, Events.new(file.thread, opts)}, fn
      {:summary, summary}, {events, _state} ->
        {:ok, summary, events}

      {:error, _reason} = error, _state ->
        error

      line, {events, state} ->
        {new, state} = Events.events(line, state)

        {Enum.reduce(new, events, fn {turn, event}, all ->
           Map.update(all, turn, [event], &[event | &1])
         end), state}
    end)
  end

  @doc false
  # Streams the events of a thread.
  @spec stream(Store.t(), String.t(), keyword()) :: Enumerable.t()
  def stream(store, id, opts) do
    {parts, _missing} = Reader.parts(store, id, opts)
    stream_parts(store, parts, opts)
  end

  @doc false
  # Streams the events of parts of a history.
  @spec stream_parts(Store.t(), [Reader.part()], keyword()) :: Enumerable.t()
  def stream_parts(store, parts, opts) do
    Stream.flat_map(parts, fn {file, _, _} = part ->
      store
      |> Reader.stream(part, reader_opts(opts))
      |> Stream.transform(Events.new(file.thread, opts), fn
        {:summary, _summary}, state ->
          {[], state}

        {:error, reason}, _state ->
          raise Codex.Error.normalize({:unreadable_session, file.path, reason})

        line, state ->
          {events, state} = Events.events(line, state)
          {Enum.map(events, &elem(&1, 1)), state}
      end)
    end)
  end

  defp reader_opts(opts),
    do: [images: opts[:images] == :bytes, inherited: opts[:inherited] == true]
end
