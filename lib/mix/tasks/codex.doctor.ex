defmodule Mix.Tasks.Codex.Doctor do
  @shortdoc "Checks whether a run of the Codex CLI would work here"

  @moduledoc """
  Checks whether a run of the Codex CLI would work here, and prints the reasons if it would not.

      mix codex.doctor
      mix codex.doctor --json
      mix codex.doctor --cwd apps/web --home /srv/codex --codex /opt/codex/bin/codex

  It checks the native library, the CLI, its home, the working directory, the configuration, the
  credentials, the keyring, the sandbox and the environment. `Codex.Doctor` explains each check.
  The exit status is 1 if a run would fail, 2 for wrong arguments, else 0, also with warnings. The
  task logs in nowhere, changes nothing and prints no secret.

  Options:

    * `--json` - prints one object on one line, for programs: see `Codex.Doctor.json/1`. The
      compilers of the project then print on stderr. Compilers of dependencies still print on
      stdout because Mix runs them before the task, so run `mix deps.compile` first
    * `--color`, `--no-color` - whether to print in colour (default: as Elixir's `ansi_enabled`)
    * `--cwd DIR` - the working directory of a run (default: the current one)
    * `--skip-git-repo-check` - runs set the option `skip_git_repo_check`: a directory in no Git
      repository is not an error
    * `--home DIR` - the home (default: `CODEX_HOME`, else `~/.codex`)
    * `--codex PATH` - the CLI (default: `CODEX_PATH`, `CODEX_BINARY`, else `codex` on the PATH)
    * `--timeout MS` - the limit for each access to the keyring, and for the sandbox (milliseconds,
      default 5000)
  """
  use Mix.Task

  alias Codex.Doctor
  alias Mix.CodexRun

  @switches [
    json: :boolean,
    color: :boolean,
    cwd: :string,
    home: :string,
    codex: :string,
    timeout: :integer,
    skip_git_repo_check: :boolean
  ]
  @usage "usage: mix codex.doctor [--json] [--[no-]color] [--cwd DIR] [--skip-git-repo-check] " <>
           "[--home DIR] [--codex PATH] [--timeout MS]"

  # The names of options of `Codex.Doctor.run/1` that differ from those of the task.
  @options %{home: :codex_home, codex: :codex_path}

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
    case CodexRun.parse(argv, @switches, @usage) do
      {opts, []} -> positive(opts)
      {_, [word | _]} -> CodexRun.wrong("it takes no #{inspect(word)}\n#{@usage}")
    end
  end

  defp positive(opts) do
    case opts[:timeout] do
      ms when is_nil(ms) or ms > 0 -> opts
      ms -> CodexRun.wrong("expected --timeout in milliseconds, above 0, got: #{ms}")
    end
  end

  defp checks(opts) do
    Mix.CodexCompile.run("app.config")

    # Reading credentials needs this application, but not that of the project.
    case Application.ensure_all_started(:codex_sdk) do
      {:ok, _started} -> :ok
      {:error, {application, why}} -> Mix.raise("#{application} does not start: #{inspect(why)}")
    end

    opts = Keyword.drop(opts, [:json, :color])
    Doctor.run(for {name, value} <- opts, do: {Map.get(@options, name, name), value})
  end

  # The log goes to stdout, too. The checks contain its warnings. Nothing here logs an emergency.
  defp without_log(fun) do
    level = Logger.level()
    Logger.configure(level: :emergency)

    try do
      fun.()
    after
      Logger.configure(level: level)
    end
  end
end
