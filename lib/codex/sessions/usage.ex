defmodule Codex.Sessions.Usage do
  @moduledoc """
  Tokens of recorded threads, and what was counted for them.

    * `scope`, `by` - as they were asked for
    * `usage` - the sum by the names of the CLI, or nil if no call was recorded
    * `calls` - the number of model calls
    * `rows` - the sum of each part, see below
    * `cost` - an estimate of the sum in money, see below
    * `audit` - the reports of usage that were counted and those that were not, see below
    * `unrecorded` - ids of threads without a recorded call: the oldest generation of files records
      none, and a killed CLI may have recorded none. Their usage is unknown, not zero
    * `problems` - a `Codex.Sessions.Problem` for each file or line that was not read

  A row is a map:

    * `:id` - the id of the thread, of the root of the tree, or of the turn (nil if it has none);
      nil for the scope `:store`
    * `:thread` - the id of the thread of a turn, otherwise nil
    * `:key` - the day (`"2026-11-26"`, UTC), model or working directory that the row is split by;
      nil if none was recorded or the rows are not split
    * `:usage`, `:calls`, `:cost` - as above

  A cost is a map:

    * `:usd` - dollars by list prices (`Codex.Sessions.Prices`) or the prices that were given
    * `:estimate` - true: accounts may have other prices, and subscriptions charge none
    * `:lower_bound` - true if tokens of models without a price are missing in the sum
    * `:unpriced` - these models; nil is one that was not recorded
    * `:prices` - the day of the list prices

  The audit is a map of reports, each with `:calls` and `:usage`:

    * `:counted` - calls of the threads
    * `:repeated` - reports of a call that was counted before: some versions write a report again
      when the next request starts
    * `:inherited` - reports in lines that were copied from another thread, which counts them
    * `:other_threads` - records of another thread than that of the file
    * `:reverted` - the part of `:counted` that belongs to reverted turns; nil unless the scope is
      `:turn`

  and of numbers: `:covered`, reports beside the record of the same call, and `:resets`, the times
  that a running total began again.
  """

  alias Codex.Sessions.{Prices, Problem, Record, Session, Store, Tokens}

  @enforce_keys [:scope]
  defstruct [
    :scope,
    :by,
    :usage,
    :cost,
    calls: 0,
    rows: [],
    audit: %{},
    unrecorded: [],
    problems: []
  ]

  @typedoc "The parts that rows sum up."
  @type scope :: :turn | :thread | :tree | :store
  @typedoc "The split of a row."
  @type by :: :day | :model | :cwd
  @typedoc "An estimate in dollars. See above."
  @type cost :: %{
          usd: float(),
          estimate: true,
          lower_bound: boolean(),
          unpriced: [String.t() | nil],
          prices: Date.t()
        }
  @typedoc "The sum of a part. See above."
  @type row :: %{
          id: String.t() | nil,
          thread: String.t() | nil,
          key: String.t() | nil,
          usage: Session.usage(),
          calls: pos_integer(),
          cost: cost()
        }
  @typedoc "Reports of usage of one kind."
  @type report :: %{calls: non_neg_integer(), usage: Session.usage()}
  @typedoc "Tokens of threads. Fields: see above."
  @type t :: %__MODULE__{
          scope: scope(),
          by: by() | nil,
          usage: Session.usage() | nil,
          calls: non_neg_integer(),
          rows: [row()],
          cost: cost(),
          audit: %{atom() => report() | non_neg_integer() | nil},
          unrecorded: [String.t()],
          problems: [Problem.t()]
        }

  @doc false
  # Sums up the threads of these ids, or all. `opts` has `:scope`, `:by`, `:prices`.
  @spec of(Store.t(), [String.t()] | :all, map()) :: t()
  def of(store, ids, opts) do
    records = records(store, ids, opts)
    roots = if opts.scope == :tree, do: roots(records), else: %{}
    records = asked_for(records, ids, opts.scope, roots)
    prices = Map.merge(Prices.all(), opts.prices || %{})
    cells = for record <- records, cell <- cells(record, opts, roots), do: cell
    spent = Enum.map(cells, &elem(&1, 1))
    general = if ids == :all, do: Enum.filter(store.problems, &(&1.session == nil)), else: []

    %__MODULE__{
      scope: opts.scope,
      by: opts.by,
      usage: if(spent != [], do: spent |> Tokens.sum() |> Tokens.to_map()),
      calls: spent |> Enum.map(&elem(&1, 3)) |> Enum.sum(),
      rows: rows(cells, prices),
      cost: cost(spent, prices),
      audit: audit(records),
      unrecorded: for(%{recorded: false, id: id} <- records, do: id),
      problems: general ++ Enum.flat_map(records, & &1.problems)
    }
  end

  # What is kept of a thread: the rest of a large store would not fit.
  defp records(store, ids, opts) do
    left_out = Enum.group_by(store.problems, & &1.session)
    # The agents of a thread are among all threads.
    wanted = if ids == :all or opts.scope == :tree, do: store.order, else: ids

    store
    |> Record.stream(wanted, turns: opts.scope == :turn)
    |> Enum.map(fn record ->
      session = Record.session(record, store)
      summaries = Enum.map(Record.summaries(record), &elem(&1, 1))

      %{
        id: record.id,
        parent: if(session.parent_kind in [:subagent, :review], do: session.parent),
        recorded: session.usage != nil,
        cells: if(opts.scope == :turn, do: Record.spent_by_turn(record), else: spent(summaries)),
        audits: Enum.map(summaries, & &1.audit),
        reverted: if(opts.scope == :turn, do: Record.spent_in_reverted(record)),
        problems: Map.get(left_out, record.id, []) ++ Record.problems(record, store)
      }
    end)
  end

  defp spent(summaries),
    do: for(summary <- summaries, cell <- summary.spent, do: {nil, Record.named(cell, summary)})

  # --- Trees --------------------------------------------------------------------------------------

  # Agents and reviews belong to the tree of the thread that started them; forks have their own.
  defp roots(records) do
    parents = Map.new(records, &{&1.id, &1.parent})
    Map.new(records, fn %{id: id} -> {id, climb(id, parents, [])} end)
  end

  defp climb(id, parents, seen) do
    case parents[id] do
      parent when parent != nil and is_map_key(parents, parent) ->
        if parent in seen, do: id, else: climb(parent, parents, [id | seen])

      _none ->
        id
    end
  end

  defp root(roots, id), do: Map.get(roots, id, id)

  # The records of a tree are among those of all threads.
  defp asked_for(records, [id | _], :tree, roots) do
    tree = root(roots, id)
    Enum.filter(records, &(root(roots, &1.id) == tree))
  end

  defp asked_for(records, _ids, _scope, _roots), do: records

  # --- Rows ---------------------------------------------------------------------------------------

  # A cell is `{day, model, cwd, calls, tokens}`.
  defp cells(record, opts, roots) do
    for {turn, cell} <- record.cells do
      {id, thread} =
        case opts.scope do
          :store -> {nil, nil}
          :thread -> {record.id, nil}
          :tree -> {root(roots, record.id), nil}
          :turn -> {turn, record.id}
        end

      {{id, thread, key(opts.by, cell)}, cell}
    end
  end

  defp key(nil, _cell), do: nil
  defp key(:day, cell), do: elem(cell, 0)
  defp key(:model, cell), do: elem(cell, 1)
  defp key(:cwd, cell), do: elem(cell, 2)

  # In the order of the threads; the parts of one by their key.
  defp rows(cells, prices) do
    groups = Enum.group_by(cells, &elem(&1, 0), &elem(&1, 1))
    order = cells |> Enum.map(fn {{id, thread, _key}, _cell} -> {id, thread} end) |> Enum.uniq()
    place = order |> Enum.with_index() |> Map.new()

    groups
    |> Enum.sort_by(fn {{id, thread, key}, _cells} -> {place[{id, thread}], key || ""} end)
    |> Enum.map(fn {{id, thread, key}, cells} ->
      %{
        id: id,
        thread: thread,
        key: key,
        usage: cells |> Tokens.sum() |> Tokens.to_map(),
        calls: cells |> Enum.map(&elem(&1, 3)) |> Enum.sum(),
        cost: cost(cells, prices)
      }
    end)
  end

  defp cost(cells, prices) do
    {usd, unpriced} =
      cells
      |> Enum.group_by(&elem(&1, 1))
      |> Enum.reduce({0.0, []}, fn {model, cells}, {usd, unpriced} ->
        case Prices.of(model, prices) do
          nil -> {usd, [model | unpriced]}
          price -> {usd + Prices.cost(Tokens.sum(cells), price), unpriced}
        end
      end)

    %{
      usd: usd,
      estimate: true,
      lower_bound: unpriced != [],
      unpriced: Enum.sort(unpriced),
      prices: Prices.date()
    }
  end

  # --- Audit --------------------------------------------------------------------------------------

  @reports [counted: 0, repeated: 1, inherited: 2, other_threads: 3]

  defp audit(records) do
    audits = Enum.flat_map(records, & &1.audits)
    reports = for {name, at} <- @reports, do: {name, report(Enum.map(audits, &elem(&1, at)))}
    sum = fn at -> audits |> Enum.map(&elem(&1, at)) |> Enum.sum() end

    reverted =
      for %{reverted: cells} when cells != nil <- records, {_turn, cell} <- cells, do: cell

    Map.new(reports)
    |> Map.merge(%{covered: sum.(4), resets: sum.(5), reverted: reverted(records, reverted)})
  end

  defp report(tallies) do
    {calls, tokens} =
      Enum.reduce(tallies, {0, Tokens.zero()}, fn {calls, tokens}, {sum, total} ->
        {sum + calls, Tokens.add(total, tokens)}
      end)

    %{calls: calls, usage: Tokens.to_map(tokens)}
  end

  defp reverted([%{reverted: nil} | _], _cells), do: nil

  defp reverted(_records, cells) do
    calls = cells |> Enum.map(&elem(&1, 3)) |> Enum.sum()
    %{calls: calls, usage: cells |> Tokens.sum() |> Tokens.to_map()}
  end

  defimpl Inspect do
    def inspect(usage, opts) do
      fields = [
        scope: usage.scope,
        by: usage.by,
        usage: usage.usage,
        calls: usage.calls,
        usd: usage.cost[:usd],
        rows: length(usage.rows),
        unrecorded: length(usage.unrecorded),
        problems: length(usage.problems)
      ]

      Codex.ShortInspect.fields(Codex.Sessions.Usage, fields, opts)
    end
  end
end
