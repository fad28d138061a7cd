defmodule Mix.Tasks.Codex.Usage do
  @shortdoc "Sums up the tokens of recorded threads"

  @moduledoc """
  Sums up the tokens of the threads that the CLI has recorded in its home. No CLI runs.

      mix codex.usage --by day
      mix codex.usage SESSION --scope tree

  A SESSION is an id, the beginning of an id, or a name; without one, all threads count.

  Options:

    * `--by day|model|cwd` - splits the sum
    * `--scope turn|thread|tree|store` - the parts that the rows sum up (default: `store`, or
      `thread` for a session)
    * `--codex-home DIR` - the home (default: `CODEX_HOME`, else `~/.codex`)
    * `--json` - prints one object on each line: a row each, and the sum last, with `"total": true`

  The last column is an estimate by list prices (`Codex.Sessions.Prices`); `>` means that tokens of
  models without a price are missing in it. Problems of files and lines are printed to standard
  error. The exit status is 1 after an error, and 2 for wrong arguments.
  """
  use Mix.Task

  alias Codex.{Format, JSON, Sessions, Text}
  alias Mix.{CodexRun, CodexTable}

  @switches [by: :string, scope: :string, codex_home: :string, json: :boolean]
  @usage "usage: mix codex.usage [SESSION] [--by day|model|cwd] " <>
           "[--scope turn|thread|tree|store] [--codex-home DIR] [--json]"
  @words %{by: ~w(day model cwd), scope: ~w(turn thread tree store)}

  @impl true
  def run(argv) do
    Mix.CodexCompile.run("compile")

    {opts, arguments} = CodexRun.parse(argv, @switches, @usage)
    if length(arguments) > 1, do: CodexRun.wrong(@usage)
    print(usage(arguments, opts), opts)
  end

  defp usage(arguments, opts) do
    words = for key <- [:by, :scope], opts[key], do: {key, word(key, opts[key])}
    own = Keyword.take(opts, [:codex_home]) ++ words

    case arguments do
      [] -> Sessions.usage(own)
      [session] -> Sessions.usage(session, own)
    end
    |> CodexRun.ok()
  end

  defp word(key, text) do
    if text in @words[key],
      do: String.to_existing_atom(text),
      else:
        CodexRun.wrong("expected --#{key} #{Enum.join(@words[key], "|")}, got: #{inspect(text)}")
  end

  defp print(usage, opts) do
    for problem <- usage.problems, do: Mix.shell().error("#{problem}")

    if opts[:json] do
      for row <- usage.rows, do: json(row)
      json(%{total: true, usage: usage.usage, calls: usage.calls, cost: usage.cost})
    else
      Mix.shell().info(table(usage))
    end
  end

  defp json(value), do: value |> plain() |> JSON.encode!() |> Text.json() |> Mix.shell().info()

  defp plain(%{cost: %{prices: day} = cost} = value),
    do: %{value | cost: %{cost | prices: Date.to_iso8601(day)}}

  defp plain(value), do: value

  defp table(usage) do
    total = ["total", "" | numbers(usage)]
    rows = for row <- usage.rows, do: [row.id || row.key || "", second(row) | numbers(row)]
    head = ["", "", "calls", "in", "cached", "out", "estimate"]
    CodexTable.format(head, rows ++ [total], [2, 3, 4, 5, 6])
  end

  defp second(%{id: nil}), do: ""
  defp second(%{key: key}), do: key || ""

  defp numbers(%{usage: usage, calls: calls, cost: cost}) do
    counts = for name <- ~w(input_tokens cached_input_tokens output_tokens), do: usage[name]
    sign = if cost && cost.lower_bound, do: ">", else: ""

    [Format.exact(calls)] ++
      Enum.map(counts, &Format.exact/1) ++ [sign <> Format.cost(cost && cost.usd)]
  end
end
