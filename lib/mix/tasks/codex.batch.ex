defmodule Mix.Tasks.Codex.Batch do
  @shortdoc "Runs the jobs of a file, and writes their results to another"

  @moduledoc """
  Runs a turn for each line of a file, a few at a time, and writes a line for each result.

      mix codex.batch jobs.jsonl --out results.jsonl --max 8 --budget 2M
      mix codex.batch jobs.jsonl --out results.jsonl --max 8 --budget 4M --resume

  A line of the file is a JSON string, the prompt, or an object with the members of a job of
  `Codex.Batch`:

      {"key": "a", "prompt": "Explain lib/a.ex", "options": {"sandbox": "read-only"}}

  Blank lines are left out. Results are written as the jobs finish, as `Codex.Batch.Result.to_map/1`
  has them, one object on each line. A journal, `results.jsonl.journal`, keeps the states of the
  jobs. `--resume` continues with it after a crash or an interrupt: the file of results is written
  anew, with the results of jobs that were done before.

  Options:

    * `--out FILE` - the file of results (required)
    * `--max N` - the most jobs that run at once (default 4)
    * `--budget N` - the most tokens, such as `500K` or `2M`, or dollars, such as `$5`
    * `--resume` - continues an earlier run; without it, the file of results must not exist
    * `--on-interrupted report|resume` - see `Codex.Batch` (default `report`)
    * `--timeout SECONDS` - the time limit of a job
    * `--model MODEL`, `--sandbox MODE`, `--cwd DIR`, `--skip-git-repo-check` - options of all jobs
    * `--codex-home DIR`, `--codex PATH` - the home of the CLI, and the CLI
    * `--report FILE` - writes a page of HTML about the batch (`Codex.Batch.Report`) at its end
    * `--quiet` - prints no line about the progress

  The sum is printed to standard error. The exit status is 0 if every job succeeded, 2 for
  wrong arguments, else 1.
  """
  use Mix.Task

  alias Codex.{Batch, Format, JSON, Text}
  alias Codex.Batch.{Budget, Report, Result}
  alias Mix.CodexRun

  @switches [
    out: :string,
    max: :integer,
    budget: :string,
    resume: :boolean,
    on_interrupted: :string,
    timeout: :integer,
    model: :string,
    sandbox: :string,
    cwd: :string,
    skip_git_repo_check: :boolean,
    codex_home: :string,
    codex: :string,
    report: :string,
    quiet: :boolean
  ]
  @usage "usage: mix codex.batch FILE --out FILE [--max N] [--budget N] [--resume] " <>
           "[--on-interrupted report|resume] [--timeout SECONDS] [--model MODEL] " <>
           "[--sandbox MODE] [--cwd DIR] [--skip-git-repo-check] [--codex-home DIR] " <>
           "[--codex PATH] [--report FILE] [--quiet]"

  @impl true
  def run(argv) do
    {file, out, opts} = parse(argv)
    CodexRun.start()
    batch = batch(file, out, opts)
    :ok = check_files(file, out, opts[:resume] == true)
    report = write(batch, out)
    Mix.shell().error(sum(report))
    :ok = write_report(report, opts[:report])
    if Map.keys(report.counts) -- [:ok] != [], do: exit({:shutdown, 1})
  end

  defp parse(argv) do
    {opts, arguments} = CodexRun.parse(argv, @switches, @usage)
    if length(arguments) != 1, do: CodexRun.wrong(@usage)
    if opts[:out] == nil, do: CodexRun.wrong("--out is missing\n#{@usage}")
    {hd(arguments), opts[:out], opts}
  end

  defp batch(file, out, opts) do
    given = fn names -> for {option, name} <- names, value = opts[option], do: {name, value} end

    options =
      [
        client: given.(codex_home: :codex_home, codex: :codex_path, model: :model),
        thread:
          given.(sandbox: :sandbox, cwd: :working_directory) ++
            given.(skip_git_repo_check: :skip_git_repo_check),
        budget: opts[:budget] && budget(opts[:budget]),
        timeout_ms: opts[:timeout] && opts[:timeout] * 1_000,
        journal: out <> ".journal",
        progress: opts[:quiet] != true,
        ordered: false
      ] ++ given.(max: :max_concurrency, on_interrupted: :on_interrupted)

    file |> jobs() |> Batch.new(options) |> CodexRun.ok()
  end

  # A file is not overwritten by mistake, and a mistyped name begins nothing anew.
  defp check_files(file, out, resume?) do
    cond do
      not File.regular?(file) ->
        CodexRun.wrong("there is no file #{file}")

      resume? and not File.exists?(out <> ".journal") ->
        CodexRun.wrong("there is no journal #{out}.journal; leave out --resume to begin")

      not resume? and (File.exists?(out) or File.exists?(out <> ".journal")) ->
        CodexRun.wrong("#{out} exists, or its journal; use --resume to continue, or another name")

      true ->
        :ok
    end
  end

  @units %{"" => 1, "k" => 1_000, "m" => 1_000_000, "b" => 1_000_000_000}

  defp budget("$" <> amount) do
    case Float.parse(amount) do
      {usd, ""} -> [usd: usd]
      _other -> wrong_budget("$" <> amount)
    end
  end

  defp budget(text) do
    with [_, number, unit] <- Regex.run(~r/\A([\d_]+(?:\.\d+)?)([kKmMbB]?)\z/, text),
         {number, ""} <- number |> String.replace("_", "") |> Float.parse() do
      round(number * @units[String.downcase(unit)])
    else
      _other -> wrong_budget(text)
    end
  end

  @spec wrong_budget(String.t()) :: no_return()
  defp wrong_budget(text),
    do:
      CodexRun.wrong(
        "expected --budget with tokens, such as 2M, or dollars, such as $5, got: #{text}"
      )

  ## Jobs

  defp jobs(file) do
    # Opened when the batch is read.
    Stream.resource(
      fn -> {File.open!(file, [:read, :binary, :read_ahead]), 1} end,
      fn {device, number} ->
        case IO.binread(device, :line) do
          :eof -> {:halt, {device, number}}
          {:error, reason} -> Mix.raise("cannot read #{file}: #{:file.format_error(reason)}")
          line -> {job(String.trim(line), number), {device, number + 1}}
        end
      end,
      fn {device, _number} -> File.close(device) end
    )
  end

  defp job("", _number), do: []

  defp job(line, number) do
    case JSON.decode(line) do
      {:ok, job} when is_binary(job) or is_map(job) ->
        [job]

      {:ok, _other} ->
        [{:error, invalid("line #{number} is neither a JSON string nor an object")}]

      {:error, reason} ->
        why = Codex.Error.normalize(reason).message
        [{:error, invalid("line #{number} is no job: #{why}")}]
    end
  end

  defp invalid(message), do: Codex.Error.new(:invalid_request, message)

  ## Results

  defp write(batch, out) do
    File.open!(out, [:write, :binary, :raw], fn device ->
      Enum.reduce(batch, Report.new(), fn result, report ->
        line = [result |> Result.to_map() |> JSON.encode!() |> Text.json(), ?\n]
        :ok = :file.write(device, line)
        Report.add(report, result)
      end)
    end)
  rescue
    error in [Codex.Error, File.Error] -> Mix.raise(Exception.message(error))
  end

  defp write_report(_report, nil), do: :ok

  defp write_report(report, path) do
    with {:error, reason} <- Report.write(report, path),
         do: Mix.raise(Codex.Error.normalize(reason).message)
  end

  defp sum(report) do
    order = [:ok, :failed, :uncertain, :cancelled, :skipped]
    states = for status <- order, n = report.counts[status], do: "#{n} #{status}"
    money = if report.usd > 0, do: [Format.cost(report.usd)], else: []
    tokens = Format.tokens(Budget.tokens(report.usage))

    Enum.join(states ++ ["#{tokens} tokens"] ++ money, ", ")
  end
end
