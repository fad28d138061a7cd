defmodule Codex.Sessions.Record do
  @moduledoc false
  # One thread as it was read: the sums of its files, and the values made of them.

  alias Codex.Sessions.{Chain, Index, Problem, Scan, Session, Store, Tokens, Turn}

  @enforce_keys [:id, :results]
  defstruct [:id, results: []]

  @typedoc "The results of the files, the oldest file first."
  @type t :: %__MODULE__{id: String.t(), results: [Scan.result()]}

  @doc "Streams the threads of these ids, lazily and in their order. Options as `Scan.stream/3`."
  @spec stream(Store.t(), [String.t()], keyword()) :: Enumerable.t()
  def stream(store, ids, opts \\ []) do
    files = Stream.flat_map(ids, &Map.fetch!(store.threads, &1))

    store
    |> scan(files, opts)
    |> Stream.chunk_by(fn {file, _result} -> file.thread end)
    |> Stream.map(fn [{file, _} | _] = results ->
      %__MODULE__{id: file.thread, results: results}
    end)
  end

  # The index keeps no turns.
  defp scan(%{index: path} = store, files, opts) do
    if path == nil or opts[:turns],
      do: Scan.stream(store, files, opts),
      else: Index.stream(path, store, files, opts)
  end

  @doc "Returns the summaries of the files that were read, with their files."
  @spec summaries(t()) :: [{Store.file(), Scan.summary()}]
  def summaries(record), do: for({file, {:ok, summary}} <- record.results, do: {file, summary})

  @doc "Returns the session."
  @spec session(t(), Store.t()) :: Session.t()
  def session(%__MODULE__{id: id, results: results} = record, store) do
    files = Enum.map(results, &elem(&1, 0))

    session = %Session{
      id: id,
      files: Enum.map(files, & &1.path),
      archived: Enum.all?(files, & &1.archived),
      name: store.names[id]
    }

    case summaries(record) do
      [] -> session
      summaries -> fill(session, Enum.map(summaries, &elem(&1, 1)), store)
    end
  end

  defp fill(session, [first | _] = summaries, store) do
    meta = first.meta
    {kind, parent} = parent(meta)

    %{
      session
      | title: Enum.find_value(summaries, & &1.title),
        cwd: meta.cwd,
        models: summaries |> Enum.flat_map(& &1.models) |> Enum.uniq(),
        model_provider: meta.model_provider,
        originator: meta.originator,
        source: meta.source,
        cli_version: meta.cli_version,
        git: git(meta.git),
        started: meta.started,
        ended: summaries |> Enum.reverse() |> Enum.find_value(& &1.ended),
        parent: parent,
        parent_kind: kind,
        parent_missing: parent != nil and not is_map_key(store.threads, parent),
        generation: generation(summaries),
        history_base: base(meta.history_base),
        images: sum(summaries, :images),
        compactions: sum(summaries, :compactions),
        lines: sum(summaries, :lines),
        bad_lines: sum(summaries, :bad_lines),
        salvaged_lines: sum(summaries, :salvaged_lines),
        rate_limits: summaries |> Enum.reverse() |> Enum.find_value(& &1.rate_limits),
        usage: usage(summaries)
    }
  end

  defp sum(summaries, key), do: summaries |> Enum.map(&Map.fetch!(&1, key)) |> Enum.sum()

  defp generation(summaries) do
    case summaries |> Enum.map(& &1.generation) |> Enum.max() do
      0 -> nil
      generation -> generation
    end
  end

  defp git(%{} = git),
    do: Map.merge(%{"branch" => nil, "commit_hash" => nil, "repository_url" => nil}, git)

  defp git(_none), do: nil

  defp base({id, ordinal, offset}) do
    %{"thread_id" => id, "end_ordinal_exclusive" => ordinal, "end_byte_offset" => offset}
  end

  defp base(nil), do: nil

  # The thread of an agent may be a fork, too: it is an agent's first.
  defp parent(%{source: %{"subagent" => "review"}} = meta), do: {:review, meta.parent}

  defp parent(%{source: %{"subagent" => agent}} = meta) do
    spawn = with %{"thread_spawn" => %{"parent_thread_id" => id}} <- agent, do: id
    parent = meta.parent || if(is_binary(spawn), do: spawn)
    {:subagent, parent || meta.forked_from}
  end

  defp parent(%{forked_from: id}) when id != nil, do: {:fork, id}
  defp parent(%{parent: id}) when id != nil, do: {:subagent, id}
  defp parent(_meta), do: {nil, nil}

  defp usage(summaries) do
    if Enum.any?(summaries, &(calls(&1) > 0)),
      do: summaries |> Enum.flat_map(& &1.spent) |> Tokens.sum() |> Tokens.to_map()
  end

  @doc "Returns how many calls a summary counts."
  @spec calls(Scan.summary()) :: non_neg_integer()
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
  @spec turn(map(), Scan.summary(), boolean(), boolean()) :: Turn.t()
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
  @spec named(tuple(), Scan.summary()) :: tuple()
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

  @doc "Returns the problems of a thread."
  @spec problems(t(), Store.t()) :: [Problem.t()]
  def problems(record, store) do
    session = session(record, store)
    of_files = Enum.flat_map(record.results, &of_file(&1, store))
    first = List.first(session.files)

    if session.parent_missing do
      problem = %Problem{kind: :missing_parent, path: first, session: record.id}
      of_files ++ [%{problem | detail: session.parent}]
    else
      of_files
    end
  end

  defp of_file({file, {:error, :enoent}}, _store), do: [problem(:gone, file)]
  defp of_file({file, {:error, why}}, _store), do: [%{problem(:unreadable, file) | detail: why}]
  defp of_file({file, {:ok, %{lines: 0}}}, _store), do: [problem(:empty, file)]

  defp of_file({file, {:ok, summary}}, store) do
    base = with {id, _, _} <- summary.meta.history_base, do: id
    counted = [:bad_lines, :salvaged_lines, :long_lines]

    for(
      kind <- counted,
      count = summary[kind],
      count > 0,
      do: counted(kind, count, file, summary)
    ) ++
      for(
        id <- [base],
        id != nil,
        not is_map_key(store.rollouts, id),
        do: %{problem(:missing_base, file) | detail: id}
      ) ++
      for(
        id <- [summary.meta.id],
        id not in [nil, file.thread],
        do: %{problem(:wrong_id, file) | detail: id}
      )
  end

  defp counted(kind, count, file, summary) do
    detail = if kind == :bad_lines, do: summary.first_bad
    %{problem(kind, file) | count: count, detail: detail}
  end

  defp problem(kind, file), do: %Problem{kind: kind, path: file.path, session: file.thread}
end
