defmodule Codex.Batch.Report.Gantt do
  @moduledoc false
  # Charts of jobs over time: a chart for each node, in which a row has jobs that ran one after the
  # other.

  import Codex.Sessions.Export.Page, only: [duration: 1, escape: 1, number: 1]

  alias Codex.Batch.Report.{Row, Words}

  @width 900
  @row 14
  # Later nodes share the last chart.
  @charts 12

  @doc "Returns the charts of these jobs, which may be a part of all jobs."
  @spec figures([Row.t()], non_neg_integer()) :: iodata()
  def figures(rows, jobs) do
    case Enum.reject(rows, &(&1.from == nil)) do
      [] ->
        ""

      timed ->
        from = timed |> Enum.map(& &1.from) |> Enum.min()
        to = timed |> Enum.map(&(&1.from + &1.ms)) |> Enum.max()
        cut = if jobs > length(rows), do: Words.cut(rows, jobs) <> ". "
        scale = {from, max(to - from, 1)}
        charts = charts(timed)
        last = length(charts) - 1
        for {chart, n} <- Enum.with_index(charts), do: figure(chart, scale, {n == last, cut})
    end
  end

  defp charts(rows) do
    nodes = rows |> Enum.group_by(& &1.node) |> Enum.sort_by(fn {node, _rows} -> node || "" end)
    {first, later} = Enum.split(nodes, @charts - 1)

    case later do
      [] -> first
      [one] -> first ++ [one]
      more -> first ++ [{"#{length(more)} other nodes", Enum.flat_map(more, &elem(&1, 1))}]
    end
  end

  # Bars keep their height on a narrow screen.
  defp figure({node, rows}, {_from, span} = scale, about) do
    {bars, lanes} = rows |> Enum.sort_by(&{&1.from, &1.index}) |> lanes()
    height = lanes * @row
    tick = tick(span)

    [
      ~s(<figure><svg class="gantt" viewBox="0 0 #{@width} #{height}" height="#{height}" ),
      ~s(preserveAspectRatio="none" role="img" ),
      ~s(aria-label="Jobs over time">\n),
      for at <- Stream.take_while(Stream.iterate(tick, &(&1 + tick)), &(&1 < span)) do
        x = number(at / span * @width)
        ~s(<line x1="#{x}" x2="#{x}" y1="0" y2="#{height}"/>)
      end,
      Enum.map(bars, fn {row, lane} -> bar(row, lane, scale) end),
      "</svg><figcaption>",
      if(node, do: escape(node), else: ""),
      caption(about, node, scale, tick),
      "</figcaption></figure>\n"
    ]
  end

  # What all charts have in common stands below the last one.
  defp caption({false, _cut}, _node, _scale, _tick), do: ""

  defp caption({true, cut}, node, {from, span}, tick) do
    [
      if(node, do: ". ", else: ""),
      cut || "",
      "#{Words.clock(from)} to #{Words.clock(from + span)}, a line each #{duration(tick)}. ",
      "A job is a bar; select one for its facts."
    ]
  end

  # A job is in the first row that is free at its start.
  defp lanes(rows) do
    Enum.map_reduce(rows, [], fn row, ends ->
      lane = Enum.find_index(ends, &(&1 <= row.from)) || length(ends)
      stop = row.from + max(row.ms, 1)

      ends = if lane < length(ends), do: List.replace_at(ends, lane, stop), else: ends ++ [stop]

      {{row, lane}, ends}
    end)
    |> then(fn {bars, ends} -> {bars, length(ends)} end)
  end

  # About eight lines, at times for people.
  @ticks [1, 2, 5, 10, 20, 50, 100, 200, 500] ++
           Enum.map([1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600], &(&1 * 1_000)) ++
           Enum.map([2, 3, 6, 12, 24, 48, 168], &(&1 * 3_600_000))

  defp tick(span), do: Enum.find(@ticks, &(span / &1 <= 9)) || div(span, 8)

  defp bar(row, lane, scale) do
    title = "#{row.key}: #{row.status}, #{Words.about(row)}"

    [
      ~s(<a href="#job-#{row.index}"><title>),
      escape(title),
      "</title>",
      rect(class(row.status), {row.from, row.from + row.ms}, lane, scale),
      for(wait <- row.waits, do: rect("wait", wait, lane, scale)),
      "</a>\n"
    ]
  end

  defp class(status) when status in [:ok, :failed, :uncertain], do: Atom.to_string(status)
  defp class(_status), do: "cancelled"

  defp rect(class, {first, last}, lane, {from, span}) do
    x = (first - from) / span * @width
    width = max((last - first) / span * @width, 1.5)

    ~s(<rect class="bar #{class}" x="#{number(min(x, @width - width))}" ) <>
      ~s(width="#{number(width)}" y="#{lane * @row + 1}" height="#{@row - 2}"/>)
  end
end
