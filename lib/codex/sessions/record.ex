defmodule Codex.Sessions.Record do
  @moduledoc false
  # One thread as it was read: the session, its problems, and the sums of its files.
  #
  # Threads are read on native threads, lazily: a few batches are under way while the results of the
  # first one are used. Halting the stream gives them up, and the death of the process that runs it
  # ends them, too.

  alias Codex.{Native, NativePool}
  alias Codex.Sessions.{Chain, Problem, Session, Store, Tokens, Turn}

  # A batch is so large that messages cost little, and so small that halting soon takes effect.
  @batch_bytes 4 * 1024 * 1024
  @batch_threads 32

  @enforce_keys [:id, :session]
  defstruct [:id, :session, problems: [], results: []]

  @typedoc """
  The sum of a file: a map as `summary_term` of `codex_nif` makes it. Turns and cells of tokens name
  models and directories by their index.
  """
  @type summary :: map()
  @type reason :: :damaged | :stopped | Codex.Reason.file() | {:native, String.t()}
  @type result :: {Store.file(), {:ok, summary()} | {:error, reason()}}

  @typedoc "The results of the files, the oldest file first."
  @type t :: %__MODULE__{
          id: String.t(),
          session: Session.t(),
          problems: [Problem.t()],
          results: [result()]
        }

  @doc """
  Streams the threads of these ids in their order. With `turns: true`, summaries have turns with
  texts. A file that moved meanwhile is read at its new place.
  """
  @spec stream(Store.t(), Enumerable.t(), keyword()) :: Enumerable.t()
  def stream(store, ids, opts \\ []) do
    turns = opts[:turns] == true
    batches = batches(ids, store)

    Stream.resource(
      fn -> {batches, :queue.new()} end,
      fn {batches, queue} ->
        {batches, queue} = fill(batches, queue, store, turns)

        case :queue.out(queue) do
          {{:value, {ids, call}}, queue} ->
            {records(store, ids, NativePool.await(call)), {batches, queue}}

          {:empty, _queue} ->
            {:halt, {batches, queue}}
        end
      end,
      fn {_batches, queue} ->
        Enum.each(:queue.to_list(queue), fn {_ids, call} -> NativePool.give_up(call) end)
      end
    )
  end

  defp batches(ids, store) do
    Enum.chunk_while(
      ids,
      {[], 0},
      fn id, {batch, bytes} ->
        files = Map.fetch!(store.threads, id)
        bytes = bytes + (files |> Enum.map(& &1.size) |> Enum.sum())

        if bytes >= @batch_bytes or length(batch) + 1 >= @batch_threads,
          do: {:cont, Enum.reverse([id | batch]), {[], 0}},
          else: {:cont, {[id | batch], bytes}}
      end,
      fn
        {[], 0} -> {:cont, {[], 0}}
        {batch, _bytes} -> {:cont, Enum.reverse(batch), {[], 0}}
      end
    )
  end

  defp fill([batch | batches] = all, queue, store, turns) do
    if :queue.len(queue) < System.schedulers_online() do
      {:ok, call} = NativePool.start(&Native.rollout_records(&1, &2, store.native, batch, turns))

      fill(batches, :queue.in({batch, call}, queue), store, turns)
    else
      {all, queue}
    end
  end

  defp fill([], queue, _store, _turns), do: {[], queue}

  defp records(store, ids, records) when is_list(records) do
    for {id, {session, problems, sums}} <- Enum.zip(ids, records) do
      results = Enum.zip(store.threads[id], sums)
      %__MODULE__{id: id, session: session, problems: problems, results: results}
    end
  end

  defp records(store, ids, {:error, reason}) do
    for id <- ids do
      [first | _] = files = store.threads[id]
      session = %Session{id: id, files: Enum.map(files, & &1.path)}
      problem = %Problem{kind: :unreadable, path: first.path, session: id, detail: reason}
      results = Enum.map(files, &{&1, {:error, reason}})
      %__MODULE__{id: id, session: session, problems: [problem], results: results}
    end
  end

  @doc "Returns the summaries of the files that were read, with their files."
  @spec summaries(t()) :: [{Store.file(), summary()}]
  def summaries(record), do: for({file, {:ok, summary}} <- record.results, do: {file, summary})

  @doc "Returns how many calls a summary counts."
  @spec calls(summary()) :: non_neg_integer()
  def calls(%{audit: audit}), do: audit |> elem(0) |> elem(0)

  @doc "Returns the turns of all files, the oldest first. The record was read with `turns: true`."
  @spec turns(t()) :: [Turn.t()]
  def turns(record) do
    summaries = summaries(record)
    recorded = Enum.any?(summaries, fn {_file, summary} -> calls(summary) > 0 end)
    reverted = Chain.reverted(summaries)

    for {file, summary} <- summaries, turn <- summary.turns do
      turn(turn, summary, recorded, turn.reverted or reverted.(file, turn))
    end
  end

  @doc "Returns a turn of a summary; `recorded` tells whether its thread recorded calls."
  @spec turn(map(), summary(), boolean(), boolean()) :: Turn.t()
  def turn(turn, summary, recorded, reverted) do
    %Turn{
      id: turn.id,
      status: turn.status,
      prompt: turn.prompt,
      final: turn.answer,
      model: turn.model && Enum.at(summary.models, turn.model),
      usage: if(recorded, do: turn.spent |> Tokens.sum() |> Tokens.to_map()),
      reverted: reverted,
      started: if(turn.started != "", do: turn.started),
      ended: turn.ended
    }
  end

  @doc "Returns a cell of tokens with the names of its model and directory."
  @spec named(tuple(), summary()) :: tuple()
  def named({day, model, cwd, calls, tokens}, summary) do
    model = model && Enum.at(summary.models, model)
    {day, model, (cwd && Enum.at(summary.cwds, cwd)) || summary.meta.cwd, calls, tokens}
  end

  @doc """
  Returns the cells of each turn with its id. Calls before the first turn have the id nil. The
  record was read with `turns: true`.
  """
  @spec spent_by_turn(t()) :: [{String.t() | nil, tuple()}]
  def spent_by_turn(record) do
    for {_file, summary} <- summaries(record),
        {id, cells} <- [{nil, summary.before} | Enum.map(summary.turns, &{&1.id, &1.spent})],
        cell <- cells,
        do: {id, named(cell, summary)}
  end

  @doc "Returns the cells of reverted turns with their ids."
  @spec spent_in_reverted(t()) :: [{String.t() | nil, tuple()}]
  def spent_in_reverted(record) do
    summaries = summaries(record)
    reverted = Chain.reverted(summaries)

    for {file, summary} <- summaries,
        turn <- summary.turns,
        turn.reverted or reverted.(file, turn),
        cell <- turn.spent,
        do: {turn.id, named(cell, summary)}
  end
end
