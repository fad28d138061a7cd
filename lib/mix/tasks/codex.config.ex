defmodule Mix.Tasks.Codex.Config do
  @shortdoc "Shows a configuration key of the Codex CLI and its origin"

  @moduledoc """
  Shows the configuration of the Codex CLI, and the file that sets each value.

      mix codex.config explain model
      mix codex.config get history.persistence --cwd apps/web
      mix codex.config explain --json 'projects."/srv/app".trust_level'
      mix codex.config explain

  `explain KEY` prints the value, its origin and the layers below. `explain` alone lists the layers
  and their problems. `get KEY` prints the value as JSON, `null` if no layer sets it. A key is
  written as in TOML, with quotes around segments that contain dots.

  Options:

    * `--json` - prints one object on one line with `key`, `value`, `origin` and `layers`. `origin`
      has `layer`, `file` and `line`, and is `null` if no layer sets the key. `layers` are the
      layers that set it, highest first, each with `layer`, `file`, `line`, `value` and
      `disabledReason`
    * `--cwd DIR` - the working directory of a run (default: the current directory)
    * `--profile NAME` - the profile of a run
    * `--codex-home DIR` - the home (default: `CODEX_HOME`, else `~/.codex`)

  If the CLI would refuse the configuration, the task ends with the error and the exit status 1.
  After wrong arguments, the status is 2.
  """
  use Mix.Task

  alias Codex.{Config, Text}
  alias Codex.Config.Key
  alias Mix.CodexRun

  @switches [json: :boolean, cwd: :string, profile: :string, codex_home: :string]
  @usage "usage: mix codex.config explain [KEY] | get KEY [--json] [--cwd DIR] " <>
           "[--profile NAME] [--codex-home DIR]"

  @impl true
  def run(argv) do
    # Builds the native library. The application need not be started.
    Mix.CodexCompile.run("compile")

    {opts, arguments} = CodexRun.parse(argv, @switches, @usage)
    arguments |> answer(opts) |> Mix.shell().info()
  end

  defp answer(["explain"], opts) do
    if opts[:json], do: CodexRun.wrong("--json needs a key\n#{@usage}")
    opts |> load() |> Config.explain()
  end

  defp answer([command, key], opts) when command in ~w(explain get) do
    path = parse(key)
    config = load(opts)

    cond do
      opts[:json] -> json(config, path)
      command == "get" -> encode(Config.get(config, path))
      true -> Config.explain(config, path)
    end
  end

  defp answer(_arguments, _opts), do: CodexRun.wrong(@usage)

  defp parse(key) do
    Key.parse!(key)
  rescue
    error in [ArgumentError, Codex.OptionError] -> fail(Exception.message(error))
  end

  defp load(opts) do
    case Config.load(Keyword.take(opts, [:cwd, :profile, :codex_home])) do
      {:ok, config} -> config
      {:error, error} -> fail(Exception.message(error))
    end
  end

  # The order of the members is that of the documentation.
  defp json(config, path) do
    members = [
      {"key", encode(Key.format(path))},
      {"value", encode(Config.get(config, path))},
      {"origin", config |> Config.origin(path) |> origin()},
      {"layers", "[" <> Enum.map_join(Config.history(config, path), ", ", &layer/1) <> "]"}
    ]

    "{" <> Enum.map_join(members, ", ", fn {name, value} -> ~s("#{name}": ) <> value end) <> "}"
  end

  defp origin(nil), do: "null"
  defp origin(origin), do: encode(%{layer: origin.layer, file: origin.file, line: origin.line})

  defp layer(%{origin: origin} = entry) do
    encode(%{
      layer: origin.layer,
      file: origin.file,
      line: origin.line,
      value: entry.value,
      disabledReason: entry.disabled_reason
    })
  end

  defp encode(value), do: value |> Codex.JSON.encode!() |> Text.json()

  @spec fail(String.t()) :: no_return()
  defp fail(message), do: message |> Text.printable() |> Mix.raise()
end
