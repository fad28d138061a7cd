defmodule Mix.Tasks.Codex.Protocol do
  @shortdoc "Compares an installed Codex CLI with the app-server protocol that this library knows"

  @moduledoc """
  The protocol of the app-server as data: `priv/protocol/app_server.txt` has the methods of one version of the CLI, with the names, types,
  required fields and words of their parameters and results. `Codex.AppServer` is made from it.

      mix codex.protocol --check
      mix codex.protocol --check --codex /opt/codex/bin/codex
      mix codex.protocol

  `--check` prints what an installed CLI has more (`+`), less (`-`) and otherwise (`~`), and ends with status 1 where there is anything:

      ~ cli 0.169.0 is now 0.170.0
      + request thread/clone ThreadCloneParams -> ThreadCloneResponse
      ~ ThreadStartParams.cwd string? is now string (required)

  Without `--check` it writes the file anew; that is for this library itself. Both run `codex app-server generate-json-schema`, with a
  home of its own, and change nothing else.

  Options:

    * `--check` - compare, and write nothing
    * `--codex PATH` - the CLI (default: `CODEX_PATH`, `CODEX_BINARY`, else the one in `.codex-cli`, else `codex` on the PATH)
    * `--data FILE` - the file to write or to compare with (default: the library's own)

  A CLI that cannot be run, or that says something this library has no word for, ends the task with an error.
  """
  use Mix.Task

  alias Codex.Protocol.{Diff, Generator}
  alias Codex.Text

  @switches [check: :boolean, codex: :string, data: :string]
  @usage "usage: mix codex.protocol [--check] [--codex PATH] [--data FILE]"

  @impl true
  def run(argv) do
    opts = parse(argv)

    # The native library is built and on the path; the application itself need not run.
    Mix.Task.run("compile")
    path = opts[:data] || Codex.Protocol.path()

    if opts[:check],
      do: check(known(path), generate(opts[:codex])),
      else: write(path, generate(opts[:codex]))
  end

  defp parse(argv) do
    case OptionParser.parse(argv, strict: @switches) do
      {opts, [], []} -> opts
      {_, _, [{switch, _} | _]} -> fail("unknown or incomplete option #{switch}\n#{@usage}")
      {_, [word | _], []} -> Mix.raise("it takes no #{inspect(word)}\n#{@usage}")
    end
  end

  defp generate(codex) do
    with {:ok, codex} <- if(codex, do: {:ok, Path.expand(codex)}, else: Codex.Test.codex_path()),
         {:ok, data} <- Generator.run(codex) do
      data
    else
      {:error, text} -> fail(text)
    end
  end

  defp write(path, data) do
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, Codex.Protocol.File.write(data))
    info("#{path}: the protocol of codex #{data.cli}")
  end

  defp check(known, data) do
    case Diff.lines(known, data) do
      [] ->
        info("The protocol of codex #{data.cli} is the one of #{known.cli}.")

      lines ->
        version =
          if known.cli != data.cli, do: ["~ cli #{known.cli} is now #{data.cli}"], else: []

        info(Enum.join(version ++ lines, "\n"))
        exit({:shutdown, 1})
    end
  end

  defp known(path) do
    path |> File.read!() |> Codex.Protocol.File.parse!()
  rescue
    error in [File.Error, ArgumentError] -> fail(Exception.message(error))
  end

  defp info(text), do: text |> Text.printable() |> Mix.shell().info()

  @spec fail(String.t()) :: no_return()
  defp fail(message), do: message |> Text.printable() |> Mix.raise()
end
