defmodule Mix.Tasks.Codex.Cli do
  @shortdoc "Compares an installed Codex CLI with the data of this library"

  @moduledoc """
  Compares an installed CLI with the data that this library has of one version of the CLI, or writes
  that data.

      mix codex.cli --check
      mix codex.cli --check --codex /opt/codex/bin/codex
      mix codex.cli --write

  This task is a development tool of this library; applications that depend on it do not have it.

  The data:

    * `priv/cli/version` - the version
    * `priv/protocol/app_server.exs` - methods and types of the app-server, stable and experimental.
      `Codex.AppServer` is generated from it
    * `priv/cli/since.exs` - the names that the CLI has gained since the lowest tested version.
      `--write` adds those that are new
    * `priv/config/schema.json` - the configuration keys, with types, words and ranges, and the
      features with stage and default
    * `dev/cli/flags.json` - the commands and their flags. A command without a function of
      `Codex.CLI`, a flag without an option, and the reverse, are notes
    * `dev/cli/shapes.json` - the messages of scripted runs: for each event and item of `exec`, and
      each notification, item and request of the app-server, the paths of the keys and their types

  `dev/cli/overlay.json` has the facts that no CLI tells.

  `--check` prints what the CLI adds (`+`), removes (`-`) and changes (`~`), and notes (`?`), and
  exits with status 1 if there is a difference:

      ~ cli 0.169.0 is now 0.170.0
      + request thread/clone ThreadCloneParams -> ThreadCloneResponse
      ~ type ThreadItem[mcpToolCall].server string (required) is now string

  `--write` prints the same, and writes the data. Both run the CLI with temporary homes and a
  scripted model on loopback, and change nothing else.

  Options:

    * `--check` - compare, and write nothing
    * `--write` - write the data
    * `--codex PATH` - the CLI (default: `CODEX_PATH`, `CODEX_BINARY`, else the one in
      `.codex-cli`, else `codex` on the PATH)
    * `--json` - print one JSON object: `from` and `to`, the versions, and `changes`, a list of
      objects with `change` (`added`, `removed`, `changed`, `note`), `path`, `from` and `to`
    * `--data DIR` - the root of other data to compare with and to write

  If the CLI does not run, the task ends with an error.
  """
  use Mix.Task

  alias Codex.{Surface, Text}
  alias Codex.Surface.Diff

  @switches [check: :boolean, write: :boolean, codex: :string, json: :boolean, data: :string]
  @usage "usage: mix codex.cli --check | --write [--codex PATH] [--json] [--data DIR]"

  @impl true
  def run(argv) do
    opts = parse(argv)

    # Scripted runs need the application.
    Mix.CodexCompile.run("app.start")
    root = opts[:data] || File.cwd!()
    stored = stored(root)
    {new, changes} = read(opts[:codex], stored)

    if opts[:json], do: json(stored, new, changes), else: lines(stored, new, changes)
    _ = if opts[:write], do: write(root, stored, new)
    if opts[:check] && changes != [], do: exit({:shutdown, 1})
  end

  defp write(root, stored, new) do
    Surface.Since.write!(root, stored, new)
    Surface.write!(root, new)
  end

  defp parse(argv) do
    case OptionParser.parse(argv, strict: @switches) do
      {opts, [], []} ->
        if (opts[:check] || false) == (opts[:write] || false),
          do: fail("expected --check or --write\n#{@usage}"),
          else: opts

      {_, _, [{switch, _} | _]} ->
        fail("unknown or incomplete option #{switch}\n#{@usage}")

      {_, [word | _], []} ->
        fail("unexpected argument #{inspect(word)}\n#{@usage}")
    end
  end

  defp stored(root) do
    Surface.stored!(root)
  rescue
    error in [File.Error, ArgumentError] -> fail(Exception.message(error))
  end

  defp read(codex, stored) do
    with {:ok, codex} <- if(codex, do: {:ok, Path.expand(codex)}, else: Codex.Test.codex_path()),
         {:ok, new, changes} <- Surface.read(codex, stored) do
      {new, changes}
    else
      {:error, text} -> fail(text)
    end
  end

  defp json(stored, new, changes) do
    %{from: stored.cli, to: new.cli, changes: changes} |> Codex.JSON.encode!() |> info()
  end

  defp lines(stored, new, []), do: info("codex #{new.cli} is as the data of #{stored.cli}.")

  defp lines(_stored, _new, changes),
    do: changes |> Enum.map_join("\n", &(&1 |> Diff.line() |> Text.line())) |> info()

  defp info(text), do: text |> Text.printable() |> Mix.shell().info()

  @spec fail(String.t()) :: no_return()
  defp fail(message), do: message |> Text.printable() |> Mix.raise()
end
