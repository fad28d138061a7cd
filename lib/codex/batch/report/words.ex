defmodule Codex.Batch.Report.Words do
  @moduledoc false
  # The facts of a report in words.

  alias Codex.Batch.Report.Row
  alias Codex.Format
  alias Codex.Sessions.Export.{Markdown, Page}

  @doc "Returns a number with its noun."
  @spec count(non_neg_integer(), String.t()) :: String.t()
  def count(1, noun), do: "1 #{noun}"
  def count(n, noun), do: "#{Format.exact(n)} #{noun}s"

  @doc "Returns the sums of tokens."
  @spec tokens(map()) :: String.t()
  def tokens(usage), do: usage |> complete() |> Markdown.usage()

  @doc "Returns usage with all names that are shown."
  @spec complete(map()) :: map()
  def complete(usage) do
    names = ~w(input_tokens cached_input_tokens output_tokens)
    Map.merge(Map.new(names, &{&1, 0}), Map.take(usage, names))
  end

  @doc "Formats the time of day of a time in ms since 1970."
  @spec clock(integer()) :: String.t()
  def clock(ms) do
    ms |> DateTime.from_unix!(:millisecond) |> Calendar.strftime("%H:%M:%S UTC")
  end

  @doc "Says which jobs are shown, if not all are."
  @spec cut([Row.t()], non_neg_integer()) :: String.t()
  def cut(rows, jobs) do
    "#{Format.exact(length(rows))} of #{count(jobs, "job")}: those that were not ok, then those " <>
      "that took the longest"
  end

  @doc "Returns the facts of a job in one line."
  @spec about(Row.t()) :: String.t()
  def about(row) do
    waited = Row.waited(row)

    facts = [
      row.from && "#{clock(row.from)}, #{Page.duration(row.ms)}",
      waited > 0 && "#{Page.duration(waited)} of it for limits",
      row.attempts > 1 && count(row.attempts, "attempt"),
      row.model,
      row.node,
      row.usage != %{} && tokens(row.usage),
      row.usd && Format.cost(row.usd),
      row.thread_id && "thread #{row.thread_id}"
    ]

    facts |> Enum.filter(& &1) |> Enum.join(", ")
  end
end
