defmodule Mix.Tasks.Codex.Sessions do
  @shortdoc "Lists, shows, searches and manages recorded threads"

  @moduledoc """
  Lists, shows, searches and manages the threads that the CLI has recorded in its home. No CLI runs.

      mix codex.sessions list --cwd . --since 2026-11-01
      mix codex.sessions show SESSION
      mix codex.sessions tail SESSION --from start
      mix codex.sessions search "release notes" --part prompt
      mix codex.sessions export SESSION --format html --to session.html
      mix codex.sessions archive|unarchive|delete SESSION
      mix codex.sessions undo SESSION --after TURN

  A SESSION is an id, the beginning of an id, or a name.

  Options of all commands:

    * `--codex-home DIR` - the home (default: `CODEX_HOME`, else `~/.codex`)
    * `--json` - prints one object on each line

  `list` takes `--cwd DIR`, `--since DAY`, `--until DAY`, `--model NAME`, `--source NAME`,
  `--title TEXT`, `--archived`, `--no-archived` and `--limit N` (default: all). `list --json` has
  the fields of `Codex.Sessions.Session`, and with `--turns` also `turns`, with the fields of
  `Codex.Sessions.Turn` without events.

  `tail` shows what a CLI records, until the thread is deleted. It takes `--from start|end`; by
  default, old turns are left out. `tail --json` has the events of `Codex.Sessions.tail/2`.

  `search` takes `--regex`, `--session SESSION`, `--part prompt|answer|command|patch` (repeatable)
  and `--limit N` (default: 100).

  `export` takes `--format markdown|html|json` (default: by the ending of `--to`, else `markdown`),
  `--to FILE` (default: standard output) and `--images`, which puts the images of prompts into
  pages.

  `delete` takes `--force`, for a thread whose files hold the history of others.

  `undo` takes `--turn ID` or `--after ID`, and `--cwd DIR` (default: the directory of the session).

  Problems of files and lines are printed to standard error. The exit status is 1 after an error,
  and 2 for wrong arguments.
  """
  use Mix.Task

  alias Codex.{Events, Format, JSON, Sessions, Terminal, Text}
  alias Codex.Sessions.{Export, Transcript}
  alias Mix.{CodexRun, CodexTable}

  # The length at which texts are cut.
  @most 4_096

  @home [codex_home: :string, json: :boolean]
  @switches %{
    "list" => [
      cwd: :string,
      since: :string,
      until: :string,
      model: :string,
      source: :string,
      title: :string,
      archived: :boolean,
      limit: :integer,
      turns: :boolean
    ],
    "show" => [],
    "tail" => [from: :string],
    "search" => [regex: :boolean, session: :string, part: [:string, :keep], limit: :integer],
    "export" => [format: :string, to: :string, images: :boolean],
    "archive" => [],
    "unarchive" => [],
    "delete" => [force: :boolean],
    "undo" => [turn: :string, after: :string, cwd: :string]
  }
  @commands Enum.join(~w(list show tail search export archive unarchive delete undo), "|")
  @usage "usage: mix codex.sessions #{@commands} (mix help codex.sessions shows the options)"

  @impl true
  def run(argv) do
    Mix.CodexCompile.run("compile")
    {command, arguments, opts} = CodexRun.parse_command(argv, @home, @switches, @usage)
    run(command, arguments, opts)
  end

  defp run("list", [], opts) do
    keys = [:cwd, :since, :until, :model, :source, :title, :archived]
    filter = opts |> Keyword.take(keys) |> Keyword.merge(home(opts)) |> expand_cwd()
    limit = opts[:limit]
    sessions = pages(filter, limit)

    if opts[:json],
      do: Enum.each(sessions, &print_json(session(&1, opts))),
      else: sessions |> Enum.to_list() |> print_list()
  end

  defp run("show", [name], opts) do
    read = CodexRun.ok(Sessions.read(name, home(opts)))
    problems(read.problems)

    if opts[:json] do
      Enum.each(Transcript.events(read), &print_json(Events.to_map(&1)))
    else
      info(Enum.to_list(Export.stream(:markdown, read.session, read.turns, @most)))
    end
  end

  defp run("tail", [name], opts) do
    events = Sessions.tail(name, home(opts) ++ Keyword.take(opts, [:from]))
    if opts[:json], do: Enum.each(events, &print_json(Events.to_map(&1))), else: show(events)
  rescue
    error in Codex.Error -> Mix.raise(Exception.message(error))
  end

  defp run("search", [text], opts) do
    pattern = if opts[:regex], do: regex(text), else: text
    parts = for {:part, part} <- opts, do: part(part)
    parts = if parts == [], do: [], else: [parts: parts]
    session = if opts[:session], do: [session: opts[:session]], else: []

    pattern
    |> Sessions.search(home(opts) ++ parts ++ session)
    |> Stream.take(opts[:limit] || 100)
    |> Enum.each(&print_match(&1, opts[:json]))
  rescue
    error in Codex.Error -> Mix.raise(Exception.message(error))
  end

  defp run("export", [name], opts) do
    own = [format: format(opts), images: if(opts[:images], do: :bytes, else: :skip)]
    to = if opts[:to], do: [to: opts[:to]], else: []

    case CodexRun.ok(Sessions.export(name, home(opts) ++ own ++ to)) do
      path when is_binary(path) and to != [] -> info("Wrote #{path}")
      text -> info(text)
    end
  end

  defp run(command, [name], opts) when command in ~w(archive unarchive delete) do
    own = if opts[:force], do: [force: true], else: []

    done =
      CodexRun.ok(apply(Sessions, String.to_existing_atom(command), [name, home(opts) ++ own]))

    if opts[:json] do
      print_json(done)
    else
      for %{from: from, to: to} <- done.files, do: info("#{from} -> #{to || "deleted"}")

      if done.referrers not in [nil, []],
        do: info("Threads that refer to it: #{Enum.join(done.referrers, ", ")}")
    end
  end

  defp run("undo", [name], opts) do
    session = CodexRun.ok(Sessions.find(name, home(opts)))

    done =
      CodexRun.ok(Sessions.undo(session, home(opts) ++ Keyword.take(opts, [:turn, :after, :cwd])))

    if opts[:json] do
      print_json(%{done | not_undone: Enum.map(done.not_undone, &Codex.Items.to_map/1)})
    else
      for path <- done.restored, do: info("restored #{Text.line(path)}")
      for path <- done.removed_paths, do: info("removed #{Text.line(path)}")

      for %{command: command} <- done.not_undone,
          do: info("not undone: #{Text.line(command)}")
    end
  end

  defp run(_command, _arguments, _opts), do: CodexRun.wrong(@usage)

  defp home(opts), do: Keyword.take(opts, [:codex_home])

  defp expand_cwd(opts) do
    if opts[:cwd], do: Keyword.update!(opts, :cwd, &Path.expand/1), else: opts
  end

  # All sessions, a page after the other.
  defp pages(filter, limit) do
    sessions =
      Stream.resource(
        fn -> nil end,
        fn
          :end ->
            {:halt, :end}

          last ->
            more = if last, do: [after: last], else: []
            page = CodexRun.ok(Sessions.list(filter ++ more))
            problems(page.problems)
            {page.sessions, page.next || :end}
        end,
        fn _last -> :ok end
      )

    if limit, do: Stream.take(sessions, limit), else: sessions
  end

  defp session(session, opts) do
    if opts[:turns] do
      turns = CodexRun.ok(Sessions.turns(session, home(opts)))
      session |> Export.fields() |> Map.put("turns", Enum.map(turns, &Export.fields/1))
    else
      Export.fields(session)
    end
  end

  defp print_list([]), do: info("There is no such session.")

  defp print_list(sessions) do
    rows =
      for session <- sessions do
        [
          session.id,
          started(session.started),
          Format.tokens(session.usage && session.usage["input_tokens"]),
          Format.tokens(session.usage && session.usage["output_tokens"]),
          if(session.archived, do: "archived", else: ""),
          session.name || session.title || ""
        ]
      end

    info(CodexTable.format(["id", "started", "in", "out", "", "title"], rows, [2, 3]))
  end

  defp started(nil), do: ""
  defp started(time), do: time |> String.slice(0, 16) |> String.replace("T", " ")

  # Nothing says whether a recorded turn still runs, so there is no status line.
  defp show(events) do
    terminal = Terminal.start(status: false)
    Enum.each(events, &show(&1, terminal))
    Terminal.stop(terminal)
  end

  defp show(%Events.TurnStarted{turn_id: id}, terminal),
    do: Terminal.line(terminal, "\nturn" <> if(id, do: " " <> Text.line(id), else: ""))

  defp show(%Events.ItemCompleted{item: item}, terminal), do: Terminal.item(terminal, item)

  defp show(%Events.TurnCompleted{} = event, terminal) do
    Terminal.line(terminal, Text.line("turn #{event.status}"))
    Terminal.usage(terminal, event.usage)
  end

  defp show(%Events.TurnFailed{error: error}, terminal) do
    reason = error["message"] || "no reason was recorded"
    Terminal.line(terminal, Text.line("turn failed: #{reason}"))
  end

  defp show(_other, _terminal), do: :ok

  defp print_match(match, true),
    do: match |> Map.from_struct() |> Map.delete(:item) |> print_json()

  defp print_match(match, _table) do
    place = "#{match.session} #{match.part}: "
    text = CodexTable.bold(Text.line(match.text))
    info(place <> Text.line(match.before) <> text <> Text.line(match.after))
  end

  defp regex(text) do
    case Regex.compile(text, "u") do
      {:ok, regex} -> regex
      {:error, {why, at}} -> CodexRun.wrong("the regular expression is invalid at #{at}: #{why}")
    end
  end

  defp part(word) when word in ~w(prompt answer command patch), do: String.to_existing_atom(word)

  defp part(word),
    do: CodexRun.wrong("expected --part prompt, answer, command or patch, got: #{inspect(word)}")

  @formats %{"markdown" => :markdown, "md" => :markdown, "html" => :html, "json" => :json}

  defp format(opts) do
    ending = (opts[:to] || "") |> Path.extname() |> String.trim_leading(".")

    case opts[:format] do
      nil ->
        Map.get(@formats, ending, :markdown)

      word when is_map_key(@formats, word) ->
        @formats[word]

      word ->
        CodexRun.wrong("expected --format markdown, html or json, got: #{inspect(word)}")
    end
  end

  defp print_json(value), do: value |> JSON.encode!() |> Text.json() |> info()

  defp info(text), do: Mix.shell().info(text)

  defp problems(problems), do: Enum.each(problems, &Mix.shell().error("#{&1}"))
end
