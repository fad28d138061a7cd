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

  alias Codex.{CLI, JSON, Text}
  alias Mix.{CodexRun, CodexTable}
  alias Mix.Tasks.Codex.Login

  @switches [json: :boolean, codex_home: :string, codex: :string]
  @usage "usage: mix codex.features [list | enable NAME | disable NAME] [--json] " <>
           "[--codex-home DIR] [--codex PATH]"

  @impl true
  def run(argv) do
    {opts, arguments} = CodexRun.parse(argv, @switches, [], @usage)
    own = Login.own(opts)

    case arguments do
      none when none in [[], ["list"]] ->
        CodexRun.start()
        own |> CLI.features_list() |> CodexRun.ok() |> print(opts[:json])

      ["enable", name] ->
        CodexRun.start()
        name |> CLI.features_enable(own) |> CodexRun.ok() |> Mix.shell().info()

      ["disable", name] ->
        CodexRun.start()
        name |> CLI.features_disable(own) |> CodexRun.ok() |> Mix.shell().info()

      _other ->
        CodexRun.wrong(@usage)
    end
  end

  defp print(features, true) do
    for feature <- features,
        do: feature |> JSON.encode!() |> Text.json() |> Mix.shell().info()
  end

  defp print(features, _table) do
    rows = for feature <- features, do: [feature.name, words(feature.stage), "#{feature.enabled}"]
    ["feature", "stage", "enabled"] |> CodexTable.format(rows) |> Mix.shell().info()
  end

  defp words(stage), do: stage |> to_string() |> String.replace("_", " ")
end
