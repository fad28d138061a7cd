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

  alias Codex.{Native, NativePool}
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
  # Sums up the thread of an id, or all. `opts` has `:scope`, `:by`, `:prices`.
  @spec of(Store.t(), String.t() | :all, map()) ::
          {:ok, t()} | {:error, {:native, String.t()} | atom()}
  def of(store, id, opts) do
    with {:ok, sum} <- sum(store, id, opts.scope) do
      prices = Map.merge(Prices.all(), opts.prices || %{})

      cells =
        for {id, thread, cells} <- sum.parts,
            cell <- cells,
            do: {{id, thread, key(opts.by, cell)}, cell}

      spent = Enum.map(cells, &elem(&1, 1))
      general = if id == :all, do: Enum.filter(store.problems, &(&1.session == nil)), else: []

      {:ok,
       %__MODULE__{
         scope: opts.scope,
         by: opts.by,
         usage: if(spent != [], do: spent |> Tokens.sum() |> Tokens.to_map()),
         calls: spent |> Enum.map(&elem(&1, 3)) |> Enum.sum(),
         rows: rows(cells, prices),
         cost: cost(spent, prices),
         audit: audit(sum.audits, sum.reverted),
         unrecorded: sum.unrecorded,
         problems: general ++ sum.problems
       }}
    end
  end

  # Turns are read thread by thread. A cell is `{day, model, cwd, calls, tokens}`.
  defp sum(store, id, :turn) do
    ids = if id == :all, do: store.order, else: [id]
    parts = store |> Record.stream(ids, turns: true) |> Enum.map(&turns/1)

    {:ok,
     %{
       parts: for(part <- parts, {turn, cell} <- part.cells, do: {turn, part.id, [cell]}),
       audits: Enum.flat_map(parts, & &1.audits),
       reverted: for(part <- parts, {_turn, cell} <- part.reverted, do: cell),
       unrecorded: for(%{recorded: false, id: id} <- parts, do: id),
       problems: Enum.flat_map(parts, & &1.problems)
     }}
  end

  # The native part sums up, in little memory.
  defp sum(store, id, scope) do
    id = if id != :all, do: id

    with {:ok, parts, audit, unrecorded, problems} <-
           NativePool.call(&Native.rollout_spent(&1, &2, store.native, scope, id, store.index)) do
      {:ok,
       %{
         parts: for({id, cells} <- parts, do: {id, nil, cells}),
         audits: [audit],
         reverted: nil,
         unrecorded: unrecorded,
         problems: problems
       }}
    end
  end

  # What is kept of a thread: the rest of a large store would not fit.
  defp turns(record) do
    %{
      id: record.id,
      recorded: record.session.usage != nil,
      cells: Record.spent_by_turn(record),
      audits: for({_file, summary} <- Record.summaries(record), do: summary.audit),
      reverted: Record.spent_in_reverted(record),
      problems: record.problems
    }
  end

  # --- Rows ---------------------------------------------------------------------------------------

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

  defp audit(audits, reverted) do
    reports = for {name, at} <- @reports, do: {name, report(Enum.map(audits, &elem(&1, at)))}
    sum = fn at -> audits |> Enum.map(&elem(&1, at)) |> Enum.sum() end

    Map.new(reports)
    |> Map.merge(%{covered: sum.(4), resets: sum.(5), reverted: reverted(reverted)})
  end

  defp report(tallies) do
    {calls, tokens} =
      Enum.reduce(tallies, {0, Tokens.zero()}, fn {calls, tokens}, {sum, total} ->
        {sum + calls, Tokens.add(total, tokens)}
      end)

    %{calls: calls, usage: Tokens.to_map(tokens)}
  end

  defp reverted(nil), do: nil

  defp reverted(cells) do
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
