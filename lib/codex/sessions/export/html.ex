defmodule Codex.Sessions.Export.HTML do
  @moduledoc false
  # A session as a page: its turns, their messages, commands and changes, and a chart of tokens.

  import Codex.Sessions.Export.Page, only: [duration: 1, escape: 1, number: 1]

  alias Codex.Format
  alias Codex.Sessions.Export.{Entry, Markdown, Page}

  @doc "Returns the facts, the chart of tokens, and the field for searches."
  @spec head(map(), [map()]) :: iodata()
  def head(session, turns) do
    [Page.open(Markdown.title(session), Markdown.facts(session)), chart(turns), Page.search()]
  end

  @doc "Returns the end of a page."
  @spec close() :: iodata()
  def close, do: Page.close()

  @doc "Returns a turn of the page."
  @spec turn(map(), pos_integer(), [Entry.t()]) :: iodata()
  def turn(turn, number, entries) do
    facts = [Markdown.time(turn.started), turn.model, turn.usage && Markdown.usage(turn.usage)]

    [
      [~s(<section class="turn), if(turn.reverted, do: " reverted", else: ""), ~s(" id="turn-)],
      [Integer.to_string(number), ~s(">\n<header><h2>Turn #{number}</h2>)],
      badge(turn.status != :unknown && turn.status),
      if(turn.reverted, do: ~s(<span class="badge">reverted</span>), else: ""),
      for(fact <- facts, fact, do: [~s(<span class="muted">), escape(fact), "</span>"]),
      "</header>\n",
      Enum.map(entries, &entry/1),
      "</section>\n"
    ]
  end

  defp badge(status) when status in [nil, false], do: ""

  defp badge(status),
    do: [~s(<span class="badge #{status}">), Markdown.status(status), "</span>"]

  defp entry(entry) do
    {shown, folded} = Enum.split_with(entry.parts, &(elem(&1, 0) in [:prose, :image]))
    title = [~s(<span class="title">), escape(entry.title), "</span> ", badge(entry.status)]
    ms = if entry.ms, do: [~s( <span class="muted">), duration(entry.ms), "</span>"], else: ""

    [
      ~s(<div class="entry #{entry.kind}">),
      if(folded == [],
        do: [title, ms],
        else: [
          "<details><summary>",
          title,
          ms,
          "</summary>",
          Enum.map(folded, &part/1),
          "</details>"
        ]
      ),
      Enum.map(shown, &part/1),
      "</div>\n"
    ]
  end

  defp part({:prose, text}), do: [~s(<p class="prose">), escape(text), "</p>"]
  defp part({:image, name, nil}), do: [~s(<p class="muted">Image ), escape(name || ""), "</p>"]

  defp part({:image, name, data}),
    do: [
      ~s(<img loading="lazy" alt="),
      escape(name || "image"),
      ~s(" src="),
      escape(data),
      ~s(">)
    ]

  defp part({:text, name, text}) do
    label = if name, do: [~s( aria-label="), escape(name), ~s(")], else: ""
    ["<pre", label, ">", escape(text), "</pre>"]
  end

  defp part({:diff, name, text}) do
    lines = for line <- String.split(text, "\n"), do: diff_line(line)
    [~s(<div class="muted">), escape(name), "</div><pre>", lines, "</pre>"]
  end

  defp diff_line("+" <> _ = line), do: diff_line("add", line)
  defp diff_line("-" <> _ = line), do: diff_line("delete", line)
  defp diff_line("@@" <> _ = line), do: diff_line("hunk", line)
  defp diff_line(line), do: [escape(line), "\n"]
  defp diff_line(class, line), do: [~s(<span class="#{class}">), escape(line), "\n</span>"]

  # --- Tokens by turn ---------------------------------------------------------------------------

  @width 900
  @height 160

  defp chart(turns) do
    bars = for {%{usage: %{} = usage}, n} <- Enum.with_index(turns, 1), do: {n, parts(usage)}
    most = bars |> Enum.map(fn {_, parts} -> total(parts) end) |> Enum.max(fn -> 0 end)

    if most > 0 do
      step = @width / length(turns)

      [
        ~s(<figure><svg viewBox="0 0 #{@width} #{@height}" role="img" ),
        ~s(aria-label="Tokens of each turn">\n),
        for({n, parts} <- bars, do: bar(n, parts, step, most)),
        "</svg><figcaption>Tokens by turn, at most #{Format.exact(most)}:",
        Page.keys(for class <- ~w(input cached output), do: {class, class}),
        "</figcaption></figure>\n"
      ]
    else
      ""
    end
  end

  defp parts(usage) do
    cached = usage["cached_input_tokens"] || 0

    [
      {"cached", cached},
      {"input", max((usage["input_tokens"] || 0) - cached, 0)},
      {"output", usage["output_tokens"] || 0}
    ]
  end

  defp total(parts), do: parts |> Enum.map(&elem(&1, 1)) |> Enum.sum()

  defp bar(number, parts, step, most) do
    left = number(step * (number - 1) + step * 0.1)
    width = number(min(step * 0.8, 60))

    {rects, _top} =
      Enum.map_reduce(parts, @height, fn {class, count}, bottom ->
        height = count / most * (@height - 4)
        top = bottom - height

        rect =
          ~s(<rect class="#{class}" x="#{left}" width="#{width}" y="#{number(top)}" ) <>
            ~s(height="#{number(height)}"/>)

        {rect, top}
      end)

    title = Enum.map_join(parts, ", ", fn {class, count} -> "#{Format.exact(count)} #{class}" end)
    [~s(<a href="#turn-#{number}"><title>Turn #{number}: ), title, "</title>", rects, "</a>\n"]
  end
end
