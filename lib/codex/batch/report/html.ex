defmodule Codex.Batch.Report.HTML do
  @moduledoc false
  # A report as a page, in the frame of exported sessions.

  import Codex.Batch.Report.Words
  import Codex.Sessions.Export.Page, only: [duration: 1, escape: 1, keys: 1, number: 1]

  alias Codex.Batch.Report.{Gantt, Row, Timeline}
  alias Codex.Format
  alias Codex.Sessions.Export.{Markdown, Page}
  alias Codex.Sessions.Prices

  @order [:ok, :failed, :uncertain, :cancelled, :skipped]

  @doc "Returns the page."
  @spec page(map(), [Row.t()]) :: iodata()
  def page(report, rows) do
    [
      Page.open("Batch of #{count(report.jobs, "job")}", facts(report)),
      timeline(report.timeline),
      Gantt.figures(rows, report.jobs),
      groups("Models", "Model", report.models),
      groups("Nodes", "Node", report.nodes),
      failures(report.failures),
      Page.search(),
      jobs(rows, report.jobs),
      Page.close()
    ]
  end

  defp facts(report) do
    facts = [
      {"Jobs", statuses(report.counts)},
      {"Unfinished", unfinished(report.unfinished)},
      {"Started", time(report.started_at)},
      {"Ended", time(report.ended_at)},
      {"Time", spent(report)},
      {"Limits", report.waited_ms > 0 && "jobs waited #{duration(report.waited_ms)} for limits"},
      {"Attempts", report.attempts > report.jobs && Format.exact(report.attempts)},
      {"Tokens", report.usage != %{} && tokens(report.usage)},
      {"Cost", cost(report)}
    ]

    for {name, value} <- facts, is_binary(value) and value != "", do: {name, value}
  end

  defp statuses(counts) do
    for(status <- @order, n = counts[status], do: "#{Format.exact(n)} #{status}")
    |> Enum.join(", ")
  end

  defp unfinished(unfinished) do
    for(
      {state, words} <- [queued: "not begun", begun: "begun, without a result"],
      n = unfinished[state],
      do: "#{Format.exact(n)} #{words}"
    )
    |> Enum.join(", ")
  end

  defp time(nil), do: nil
  defp time(time), do: time |> DateTime.to_iso8601() |> Markdown.time()

  defp spent(%{started_at: nil}), do: nil

  defp spent(report) do
    whole = DateTime.diff(report.ended_at, report.started_at, :millisecond)
    "#{duration(whole)}, with #{duration(report.busy_ms)} of jobs"
  end

  defp cost(%{usd: usd, unpriced: 0}) when usd == 0.0, do: nil

  defp cost(%{unpriced: 0} = report),
    do: "about #{Format.cost(report.usd)}, by prices of #{Prices.date()}"

  defp cost(report),
    do:
      "at least #{Format.cost(report.usd)}: " <>
        "the cost of #{count(report.unpriced, "job")} is not known"

  ## Jobs over time

  @width 900
  @height 160

  defp timeline(timeline) do
    case Timeline.columns(timeline) do
      [] -> ""
      columns -> timeline(columns, timeline)
    end
  end

  defp timeline(columns, timeline) do
    {from, to} = Timeline.range(timeline)
    most = columns |> Enum.map(&(&1 |> Map.values() |> Enum.sum())) |> Enum.max()
    step = @width / length(columns)

    [
      ~s(<figure><svg class="flat" viewBox="0 0 #{@width} #{@height}" preserveAspectRatio="none" ),
      ~s(role="img" aria-label="Running jobs over time">\n),
      for({column, n} <- Enum.with_index(columns), do: column(column, n * step, step, most)),
      "</svg><figcaption>Running jobs, at most ",
      most |> Float.ceil() |> trunc() |> Format.exact(),
      ", from #{clock(from)} to #{clock(to)}:",
      keys([
        {"bar ok", "ok"},
        {"bar failed", "not ok"},
        {"bar wait", "waits for a limit"}
      ]),
      "</figcaption></figure>\n"
    ]
  end

  defp column(column, x, width, most) do
    {rects, _top} =
      Enum.map_reduce([ok: "ok", bad: "failed", wait: "wait"], @height, fn {class, name},
                                                                           bottom ->
        height = Map.get(column, class, 0.0) / most * (@height - 4)
        {rect(name, x, bottom - height, width, height), bottom - height}
      end)

    rects
  end

  defp rect(_class, _x, _y, _width, height) when height == 0.0, do: ""

  defp rect(class, x, y, width, height) do
    ~s(<rect class="bar #{class}" x="#{number(x)}" y="#{number(y)}" ) <>
      ~s(width="#{number(width)}" height="#{number(height)}"/>)
  end

  ## Sums

  defp groups(_title, _name, groups) when groups == %{}, do: ""

  defp groups(title, name, groups) do
    rows = Enum.sort_by(groups, fn {name, group} -> {-group.jobs, name_of(name)} end)

    table(
      title,
      [name, "Jobs", "Not ok", "Time", "Limits", "Input", "Cached", "Output", "Cost"],
      for {name, group} <- rows do
        usage = complete(group.usage)
        waited = if group.waited_ms > 0, do: duration(group.waited_ms), else: ""
        cost = if group.usd > 0.0, do: Format.cost(group.usd), else: ""

        [name_of(name), Format.exact(group.jobs), Format.exact(group.bad)] ++
          [duration(group.busy_ms), waited] ++
          Enum.map(
            ~w(input_tokens cached_input_tokens output_tokens),
            &Format.exact(usage[&1])
          ) ++ [cost]
      end
    )
  end

  defp name_of(nil), do: "not known"
  defp name_of(:other), do: "others"
  defp name_of(name), do: name

  defp failures(failures) when failures == %{}, do: ""

  defp failures(failures) do
    rows = Enum.sort_by(failures, fn {what, failure} -> {-failure.count, what} end)

    table(
      "Not ok",
      ["Status", "Kind", "Jobs", "Of these", "First message"],
      for {{status, kind}, failure} <- rows do
        more = if failure.count > length(failure.keys), do: ["…"], else: []
        keys = Enum.join(failure.keys ++ more, ", ")
        ["#{status}", "#{kind}", Format.exact(failure.count), keys, failure.message]
      end
    )
  end

  defp table(title, names, rows) do
    [
      ~s(<figure class="table"><table><caption>#{escape(title)}</caption>\n<tr>),
      for(name <- names, do: ["<th>", escape(name), "</th>"]),
      "</tr>\n",
      for row <- rows do
        ["<tr>", Enum.map(row, &cell/1), "</tr>\n"]
      end,
      "</table></figure>\n"
    ]
  end

  # Numbers and times stay on one line.
  defp cell(text) when byte_size(text) > 16, do: ["<td>", escape(text), "</td>"]
  defp cell(text), do: [~s(<td class="label">), escape(text), "</td>"]

  ## The jobs

  defp jobs(rows, jobs) do
    [
      ~s(<section class="turn">\n<header><h2>Jobs</h2>),
      if(jobs > length(rows),
        do: [~s(<span class="muted">), cut(rows, jobs), "</span>"],
        else: ""
      ),
      "</header>\n",
      Enum.map(rows, &job/1),
      "</section>\n"
    ]
  end

  defp job(row) do
    [
      ~s(<div class="entry" id="job-#{row.index}"><span class="title">),
      escape(row.key),
      ~s(</span> <span class="badge #{badge(row.status)}">#{row.status}</span> ),
      ~s(<span class="muted">),
      row |> about() |> escape(),
      "</span>",
      if(row.message,
        do: [~s(<p class="prose">), escape("#{row.kind}: #{row.message}"), "</p>"],
        else: ""
      ),
      "</div>\n"
    ]
  end

  defp badge(:ok), do: "completed"
  defp badge(status) when status in [:failed, :uncertain], do: "failed"
  defp badge(_status), do: "muted"
end
