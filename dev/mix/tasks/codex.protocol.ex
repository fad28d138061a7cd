defmodule Mix.Tasks.Codex.Protocol do
  @shortdoc "Compares an installed Codex CLI with the app-server protocol of this library"

  @moduledoc """
  Generates and compares `priv/protocol/app_server.exs`, the protocol of the app-server as data: the
  methods of one version of the CLI, with the names, types, required fields and words of their
  parameters and results. `Codex.AppServer` is generated from it.

      mix codex.protocol --check
      mix codex.protocol --check --codex /opt/codex/bin/codex
      mix codex.protocol

  This task is a development tool of this library; applications that depend on it do not have it.

  `--check` prints what an installed CLI adds (`+`), removes (`-`) and changes (`~`), and exits with
  status 1 if there is a difference:

      ~ cli 0.169.0 is now 0.170.0
      + request thread/clone ThreadCloneParams -> ThreadCloneResponse
      ~ ThreadStartParams.cwd string? is now string (required)

  Without `--check` it writes the file. Both run `codex app-server generate-json-schema` with a
  temporary home, and change nothing else.

  Options:

    * `--check` - compare, and write nothing
    * `--codex PATH` - the CLI (default: `CODEX_PATH`, `CODEX_BINARY`, else the one in
      `.codex-cli`, else `codex` on the PATH)
    * `--data FILE` - the file to write or to compare with (default: the library's own)

  If the CLI does not run, or has a schema of an unknown form, the task ends with an error.
  """
  use Mix.Task

  alias Codex.Protocol.{Data, Diff, Generator}
  alias Codex.Text

  @switches [check: :boolean, codex: :string, data: :string]
  @usage "usage: mix codex.protocol [--check] [--codex PATH] [--data FILE]"

  @impl true
  def run(argv) do
    opts = parse(argv)

    # Builds the native library. The application need not be started.
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
    File.write!(path, Data.write(data))
    info("#{path}: the protocol of codex #{data[:cli]}")
  end

  defp check(known, data) do
    case Diff.lines(known, data) do
      [] ->
        info("The protocol of codex #{data[:cli]} is the one of #{known[:cli]}.")

      lines ->
        version =
          if known[:cli] != data[:cli],
            do: ["~ cli #{known[:cli]} is now #{data[:cli]}"],
            else: []

        info(Enum.join(version ++ lines, "\n"))
        exit({:shutdown, 1})
    end
  end

  defp known(path) do
    path |> File.read!() |> Data.read!()
  rescue
    error in [File.Error, ArgumentError] -> fail(Exception.message(error))
  end

  defp info(text), do: text |> Text.printable() |> Mix.shell().info()

  @spec fail(String.t()) :: no_return()
  defp fail(message), do: message |> Text.printable() |> Mix.raise()
end
