defmodule Codex.Test.Config do
  @moduledoc false
  # The options of `Codex.Test.start/2`, with defaults, documentation and checks.

  alias Codex.Options.{Schema, Type}

  @schema Schema.new([
            {:default, :any, "the step for requests after the end of the script",
             shown: "none: they fail"},
            {:rules, {:list, :any}, "a list of rules, see above",
             default: [], expected: "a list"},
            {:models, :models,
             "the models that the CLI knows; the first is its default. A thread with another " <>
               "model gets an `error` item about unknown metadata",
             default: ["codex-test"], expected: "a list of one or more strings"},
            {:retries, :count, "the number of retries of a failed request or a broken stream",
             default: 0},
            {:config, :text,
             "TOML to append to the home's `config.toml`: keys first (such as " <>
               "`model_providers.mock.stream_idle_timeout_ms = 500`), then tables",
             default: "", secret: true, shown: "none"},
            {:env, :environment, "additional environment variables for the CLI",
             default: %{}, secret: true},
            {:git, :boolean, "makes the workspace a Git repository", default: false},
            {:workspace, :os_path,
             "an existing directory to use as workspace, which is not removed",
             shown: "a new directory in the system's temporary directory"},
            {:dir, :os_path, "the parent directory of the home",
             shown:
               "`codex_test` in the build directory if Mix runs, else the system's temporary " <>
                 "directory, which the CLI warns about"},
            {:codex_path, :os_path, "the CLI to use", shown: "see `codex_path/0`"}
          ])

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @doc "Returns the options as a map with defaults. Raises `Codex.OptionError`."
  @spec new!(keyword()) :: map()
  def new!(opts), do: Schema.validate!(@schema, opts, &cast/2)

  defp cast(:models, [_ | _] = models), do: Type.cast({:list, :text}, models)
  defp cast(:models, _other), do: :error
end
