defmodule Mix.Tasks.Codex.Doctor do
  @shortdoc "Says whether a run of the Codex CLI would work here, and if not, why"

  @moduledoc """
  Says whether a run of the Codex CLI would work here, and if not, why.

      mix codex.doctor
      mix codex.doctor --json
      mix codex.doctor --cwd apps/web --home /srv/codex --codex /opt/codex/bin/codex

  It looks at the native library, the CLI, its home, the working directory, the configuration, the credentials, the keyring, the sandbox and the
  environment; `Codex.Doctor` says what each means. The exit status is 1 when a run would fail, else 0, also with warnings. It logs in
  nowhere, changes nothing, and prints no secret.

  Options:

    * `--json` - one object on one line, for programs: see `Codex.Doctor.json/1`. The compilers of the project print on stderr then; those
      of dependencies, which Mix runs before, do not, so run `mix deps.compile` first
    * `--color`, `--no-color` - whether to print in colour (default: as Elixir's `ansi_enabled`)
    * `--cwd DIR` - the directory that a run would work in (default: the current one)
    * `--home DIR` - the home (default: `CODEX_HOME`, else `~/.codex`)
    * `--codex PATH` - the CLI (default: `CODEX_PATH`, `CODEX_BINARY`, else `codex` on the PATH)
    * `--timeout MS` - how long the keyring, and the sandbox, may take at each look (milliseconds, default 5000)
  """
  use Mix.Task

  alias Codex.{Doctor, Text}

  @switches [
    json: :boolean,
    color: :boolean,
    cwd: :string,
    home: :string,
    codex: :string,
    timeout: :integer
  ]
  @usage "usage: mix codex.doctor [--json] [--[no-]color] [--cwd DIR] [--home DIR] [--codex PATH] [--timeout MS]"

  @impl true
  def run(argv) do
    opts = parse(argv)
    checks = without_log(fn -> checks(opts) end)

    Mix.shell().info(
      if opts[:json],
        do: Doctor.json(checks),
        else: Doctor.text(checks, Keyword.take(opts, [:color]))
    )

    unless Doctor.healthy?(checks), do: exit({:shutdown, 1})
  end

  defp parse(argv) do
    case OptionParser.parse(argv, strict: @switches) do
      {opts, [], []} ->
        positive(opts)

      {_, _, [{switch, _} | _]} ->
        Mix.raise("unknown or incomplete option #{Text.line(switch)}\n#{@usage}")

      {_, [word | _], []} ->
        Mix.raise("it takes no #{inspect(word)}\n#{@usage}")
    end
  end

  defp positive(opts) do
    case opts[:timeout] do
      ms when is_nil(ms) or ms > 0 -> opts
      ms -> Mix.raise("expected --timeout in milliseconds, above 0, got: #{ms}")
    end
  end

  defp checks(opts) do
    compile(opts[:json] == true)

    # For credentials the application runs; that of the project need not.
    with {:error, {application, why}} <- Application.ensure_all_started(:codex_sdk),
         do: Mix.raise("#{application} does not start: #{inspect(why)}")

    Doctor.run(
      for {option, key} <- [cwd: :cwd, home: :codex_home, codex: :codex_path, timeout: :timeout],
          value = opts[option],
          do: {key, value}
    )
  end

  defp compile(false), do: Mix.Task.run("app.config")

  # What compilers say goes to stderr: a program that reads stdout gets the object alone.
  defp compile(true) do
    leader = Process.group_leader()
    Process.group_leader(self(), Process.whereis(:standard_error))

    try do
      Mix.Task.run("app.config")
    after
      Process.group_leader(self(), leader)
    end
  end

  # The log comes on stdout, too. What it would warn of is among the checks.
  defp without_log(fun) do
    level = Logger.level()
    Logger.configure(level: :none)

    try do
      fun.()
    after
      Logger.configure(level: level)
    end
  end
end
