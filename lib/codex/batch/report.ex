defmodule Codex.Batch.Report do
  @moduledoc """
  What a batch did: jobs over time, tokens and money, limits, failures.

      {:ok, report} = Codex.Batch.report(results)
      report.counts
      #=> %{ok: 97, failed: 3}

      :ok = Codex.Batch.Report.write(report, "night.html")

  `Codex.Batch.report/1` makes a report of results or of a journal. To make it while a batch is
  read, begin with `new/0` and add each result:

      report = Enum.reduce(batch, Codex.Batch.Report.new(), &Codex.Batch.Report.add(&2, &1))

    * `jobs` - the number of results; `counts` - how many have each status
    * `unfinished` - of a journal: jobs without a result, as a map with `:queued` and `:begun`
    * `started_at`, `ended_at` - the first start and the last end, as `DateTime`, or nil
    * `busy_ms` - the time of all jobs together; `waited_ms` - the part of it in which they waited
      for a rate limit
    * `attempts` - the number of attempts
    * `usage` - the sum of the tokens, by the names of the CLI; `usd` - the sum of the estimated
      costs, and `unpriced` the number of jobs that used tokens and whose cost is not known
    * `models`, `nodes` - the same by the name of the model and of the node; nil is the name if it
      is not known. Of many names, the first 50 are kept, and the key `:other` has the rest
    * `failures` - by `{status, kind}`, such as `{:failed, :timeout}`: the number of jobs (`count`),
      the keys of the first five as text (`keys`), and the `message` of the first

  Other fields are private. A report takes little memory, however many jobs there are: it keeps
  300 jobs, those that did not succeed first, then those that took the longest. Prompts and answers
  are not part of it, but keys and messages of errors are.
  """

  alias Codex.Batch.{Journal, Recovery, Result}
  alias Codex.Batch.Report.{HTML, Row, Timeline}
  alias Codex.OptionError

  @shown 300
  @groups 50
  @named 5
  @tokens ~w(input_tokens cached_input_tokens output_tokens reasoning_output_tokens)

  defstruct [
    :started_at,
    :ended_at,
    jobs: 0,
    counts: %{},
    unfinished: %{},
    attempts: 0,
    busy_ms: 0,
    waited_ms: 0,
    usage: %{},
    usd: 0.0,
    unpriced: 0,
    models: %{},
    nodes: %{},
    failures: %{},
    rows: nil,
    timeline: nil
  ]

  @typedoc "The sum of some jobs; `bad` counts those that did not succeed."
  @type group :: %{
          jobs: pos_integer(),
          bad: non_neg_integer(),
          busy_ms: non_neg_integer(),
          waited_ms: non_neg_integer(),
          usage: %{String.t() => non_neg_integer()},
          usd: float()
        }

  @typedoc "A report. Fields: see above."
  @type t :: %__MODULE__{
          jobs: non_neg_integer(),
          counts: %{Result.status() => pos_integer()},
          unfinished: %{optional(:queued) => pos_integer(), optional(:begun) => pos_integer()},
          started_at: DateTime.t() | nil,
          ended_at: DateTime.t() | nil,
          busy_ms: non_neg_integer(),
          waited_ms: non_neg_integer(),
          attempts: non_neg_integer(),
          usage: %{String.t() => non_neg_integer()},
          usd: float(),
          unpriced: non_neg_integer(),
          models: %{(String.t() | nil | :other) => group()},
          nodes: %{(String.t() | nil | :other) => group()},
          failures: %{
            {Result.status(), Codex.Error.kind() | nil} => %{
              count: pos_integer(),
              keys: [String.t()],
              message: String.t()
            }
          },
          rows: term(),
          timeline: term()
        }

  @doc "Returns the report of no job."
  @spec new() :: t()
  def new, do: %__MODULE__{rows: :gb_sets.new(), timeline: %Timeline{}}

  @doc "Adds a result."
  @spec add(t(), Result.t()) :: t()
  def add(%__MODULE__{} = report, %Result{} = result) do
    row = Row.new(result)

    %{
      report
      | jobs: report.jobs + 1,
        counts: Map.update(report.counts, row.status, 1, &(&1 + 1)),
        attempts: report.attempts + result.attempts,
        busy_ms: report.busy_ms + row.ms,
        waited_ms: report.waited_ms + Row.waited(row),
        usage: sum(report.usage, row.usage),
        usd: report.usd + (row.usd || 0.0),
        unpriced: report.unpriced + if(row.usage != %{} and row.usd == nil, do: 1, else: 0),
        models: group(report.models, row.model, row),
        nodes: group(report.nodes, row.node, row),
        failures: failure(report.failures, row),
        rows: keep(report.rows, row)
    }
    |> in_time(row)
  end

  def add(%__MODULE__{}, other), do: OptionError.wrong!(:result, other, "a Codex.Batch.Result")
  def add(other, _result), do: OptionError.wrong!(:report, other, "a Codex.Batch.Report")

  defp sum(sums, usage) do
    for name <- @tokens, n = usage[name], is_integer(n), reduce: sums do
      sums -> Map.update(sums, name, n, &(&1 + n))
    end
  end

  defp group(groups, name, row) do
    known? = is_map_key(groups, name) or map_size(groups) < @groups
    name = if known?, do: name, else: :other
    empty = %{jobs: 0, bad: 0, busy_ms: 0, waited_ms: 0, usage: %{}, usd: 0.0}
    group = Map.get(groups, name, empty)

    Map.put(groups, name, %{
      jobs: group.jobs + 1,
      bad: group.bad + if(row.status == :ok, do: 0, else: 1),
      busy_ms: group.busy_ms + row.ms,
      waited_ms: group.waited_ms + Row.waited(row),
      usage: sum(group.usage, row.usage),
      usd: group.usd + (row.usd || 0.0)
    })
  end

  defp failure(failures, %{status: :ok}), do: failures

  defp failure(failures, row) do
    first = %{count: 0, keys: [], message: row.message || ""}

    Map.update(failures, {row.status, row.kind}, count(first, row), &count(&1, row))
  end

  defp count(failure, row) do
    keys = if length(failure.keys) < @named, do: failure.keys ++ [row.key], else: failure.keys
    %{failure | count: failure.count + 1, keys: keys}
  end

  defp keep(rows, row) do
    rows = :gb_sets.add_element({row.status != :ok, row.ms, -row.index, row}, rows)
    if :gb_sets.size(rows) > @shown, do: elem(:gb_sets.take_smallest(rows), 1), else: rows
  end

  defp in_time(report, %{from: nil}), do: report

  defp in_time(report, row) do
    %{
      report
      | started_at: earlier(report.started_at, time(row.from)),
        ended_at: later(report.ended_at, time(row.from + row.ms)),
        timeline: Enum.reduce(Row.parts(row), report.timeline, &Timeline.add(&2, &1))
    }
  end

  defp time(ms), do: DateTime.from_unix!(ms, :millisecond)
  defp earlier(nil, time), do: time
  defp earlier(known, time), do: if(DateTime.compare(time, known) == :lt, do: time, else: known)
  defp later(nil, time), do: time
  defp later(known, time), do: if(DateTime.compare(time, known) == :gt, do: time, else: known)

  @doc false
  # The report of a journal. A job that was queued again has not begun.
  @spec of_journal(Path.t()) :: {:ok, t()} | {:error, Codex.Error.t()}
  def of_journal(path) do
    with {:ok, {report, open}} <- Journal.fold(path, {new(), %{}}, &entry/2) do
      {:ok, %{report | unfinished: open |> Map.values() |> Enum.frequencies()}}
    end
  end

  defp entry({:done, key, record}, {report, open}) do
    result = Recovery.of_record(key, report.jobs, record)
    {add(report, result), Map.delete(open, key)}
  end

  defp entry({:queued, key, _digest}, {report, open}), do: {report, Map.put(open, key, :queued)}

  # The journal names the thread and the node of a job that began, too.
  defp entry(entry, {report, open}) when elem(entry, 0) in [:begun, :thread],
    do: {report, Map.put(open, elem(entry, 1), :begun)}

  defp entry(_unknown, acc), do: acc

  @doc false
  # The jobs that are kept, in the order of their start; those without one are first.
  @spec rows(t()) :: [Row.t()]
  def rows(%__MODULE__{} = report) do
    rows = for {_bad, _ms, _index, row} <- :gb_sets.to_list(report.rows), do: row
    Enum.sort_by(rows, &{&1.from || 0, &1.index})
  end

  @doc """
  Returns a report as one page of HTML that needs no network: jobs over time, sums, failures, and a
  list of jobs with a search. Every text is escaped. Open the page with a browser.
  """
  @spec html(t()) :: iodata()
  def html(%__MODULE__{} = report), do: HTML.page(report, rows(report))
  def html(other), do: OptionError.wrong!(:report, other, "a Codex.Batch.Report")

  @doc """
  Writes the page of `html/1` to a file, which only its owner may read. The file is replaced.

  Returns `:ok`, or `{:error, {:write_failed, path, posix}}`.
  """
  @spec write(t(), Path.t()) :: :ok | {:error, {:write_failed, Path.t(), atom()}}
  def write(%__MODULE__{} = report, path) when is_binary(path) and path != "" do
    with {:ok, file} <- :file.open(path, [:write, :raw]),
         :ok <- :file.change_mode(path, 0o600),
         :ok <- :file.write(file, html(report)),
         :ok <- :file.close(file) do
      :ok
    else
      {:error, reason} -> {:error, {:write_failed, path, reason}}
    end
  end

  def write(%__MODULE__{}, other), do: OptionError.wrong!(:path, other, "a path")
  def write(other, _path), do: OptionError.wrong!(:report, other, "a Codex.Batch.Report")

  defimpl Inspect do
    def inspect(report, opts) do
      shown = [jobs: report.jobs, counts: report.counts, usd: report.usd]
      Codex.ShortInspect.fields(Codex.Batch.Report, shown, opts)
    end
  end
end
