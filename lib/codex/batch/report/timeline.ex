defmodule Codex.Batch.Report.Timeline do
  @moduledoc false
  # How many jobs ran at each time, in a limited number of columns: the columns get wider while the
  # time grows. Columns begin at multiples of their width, so that two of them make one exactly.

  @most 240

  defstruct step: 100, first: nil, last: nil, columns: %{}

  @typedoc "`columns` have the busy ms by number and class."
  @type t :: %__MODULE__{}
  @type class :: :ok | :bad | :wait

  @doc """
  Adds the time of a job, in ms since 1970.

      iex> alias Codex.Batch.Report.Timeline
      iex> parts = [{:ok, 0, 250}, {:bad, 100, 150}]
      iex> timeline = Enum.reduce(parts, %Timeline{}, &Timeline.add(&2, &1))
      iex> Timeline.columns(timeline)
      [%{ok: 1.0}, %{ok: 1.0, bad: 0.5}, %{ok: 0.5}]
  """
  @spec add(t(), {class(), integer(), integer()}) :: t()
  def add(timeline, {_class, from, to}) when to <= from, do: timeline

  def add(timeline, {class, from, to}) do
    first = min(timeline.first || from, from)
    last = max(timeline.last || to, to)
    timeline = widen(%{timeline | first: first, last: last})
    step = timeline.step

    columns =
      for n <- div_down(from, step)..div_down(to - 1, step)//1, reduce: timeline.columns do
        columns ->
          ms = min(to, (n + 1) * step) - max(from, n * step)
          Map.update(columns, {n, class}, ms, &(&1 + ms))
      end

    %{timeline | columns: columns}
  end

  defp widen(%{first: first, last: last, step: step} = timeline)
       when last - first <= step * @most,
       do: timeline

  defp widen(timeline) do
    columns =
      for {{n, class}, ms} <- timeline.columns, reduce: %{} do
        columns -> Map.update(columns, {div_down(n, 2), class}, ms, &(&1 + ms))
      end

    widen(%{timeline | step: timeline.step * 2, columns: columns})
  end

  defp div_down(a, b), do: Integer.floor_div(a, b)

  @doc "Returns the mean number of jobs of each column by class, in the order of time."
  @spec columns(t()) :: [%{class() => float()}]
  def columns(%{first: nil}), do: []

  def columns(%{step: step} = timeline) do
    for n <- div_down(timeline.first, step)..div_down(timeline.last - 1, step)//1 do
      for class <- [:ok, :bad, :wait],
          ms = timeline.columns[{n, class}],
          into: %{},
          do: {class, ms / step}
    end
  end

  @doc "Returns the time at which the first column begins, and the time after the last one."
  @spec range(t()) :: {integer(), integer()}
  def range(%{step: step} = timeline),
    do: {
      div_down(timeline.first, step) * step,
      (div_down(timeline.last - 1, step) + 1) * step
    }
end
