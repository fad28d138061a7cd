defmodule Mix.Tasks.Codex.Features do
  @shortdoc "Lists the features of the Codex CLI, and enables or disables them"

  @moduledoc """
  Lists the features of the Codex CLI, and enables or disables them in its home.

      mix codex.features
      mix codex.features enable memories
      mix codex.features disable memories

  The list has the name, the stage and the state of each feature. `enable` and `disable` write
  `config.toml` of the home.

  Options:

    * `--json` - prints one object on each line
    * `--codex-home DIR`, `--codex PATH` - the home of the CLI, and the CLI

  The exit status is 0, 1 if the CLI reports an error, such as an unknown feature, and 2 for wrong
  arguments.
  """
  use Mix.Task

  alias Codex.CLI.{Command, Program}
  alias Codex.{JSON, Text}
  alias Mix.{CodexRun, CodexTable}

  @switches [json: :boolean, codex_home: :string, codex: :string]
  @usage "usage: mix codex.features [list | enable NAME | disable NAME] [--json] " <>
           "[--codex-home DIR] [--codex PATH]"

  @impl true
  def run(argv) do
    {opts, arguments} = CodexRun.parse(argv, @switches, [], @usage)

    case arguments do
      none when none in [[], ["list"]] ->
        CodexRun.start()
        ["list"] |> features(opts) |> rows() |> print(opts[:json])

      [command, name] when command in ["enable", "disable"] ->
        CodexRun.start()
        [command, name] |> features(opts) |> Command.text() |> Mix.shell().info()

      _other ->
        CodexRun.wrong(@usage)
    end
  end

  defp features(arguments, opts) do
    home = if opts[:codex_home], do: Path.expand(opts[:codex_home])
    env = if home, do: %{"CODEX_HOME" => home}, else: %{}

    with {:ok, program} <- Program.find(opts[:codex]),
         :ok <- Codex.Home.guard(Map.merge(System.get_env(), env)),
         {:ok, ended} <- Command.run([program, "features" | arguments], env: env) do
      case ended.exit do
        %{status: 0} -> ended.stdout
        _failed -> Mix.raise(words(ended.stderr))
      end
    else
      {:error, reason} -> CodexRun.ok({:error, reason})
    end
  end

  # Without warnings and backtrace.
  defp words(stderr) do
    text = Command.text(stderr)

    case Regex.run(~r/^Error: (.*)$/m, text) do
      [_, words] -> words
      nil -> text
    end
  end

  # A stage may have several words.
  defp rows(text) do
    for line <- String.split(text, "\n", trim: true),
        [_, name, stage, state] <- [Regex.run(~r/^(\S+)\s+(.*\S)\s+(true|false)$/, line)],
        do: [name, stage, state]
  end

  defp print(rows, true) do
    for [name, stage, state] <- rows do
      %{name: name, stage: stage, enabled: state == "true"}
      |> JSON.encode!()
      |> Text.json()
      |> Mix.shell().info()
    end
  end

  defp print(rows, _table),
    do: ["feature", "stage", "enabled"] |> CodexTable.format(rows) |> Mix.shell().info()
end
