defmodule Codex.Test.Config do
  @moduledoc false
  # The options of `Codex.Test.start/2`, with defaults, documentation and checks.

  alias Codex.Options.Keywords
  alias Codex.Test.Check

  # {name, default, doc, check}
  @table [
    {:default, nil, "the step for requests after the end of the script (default: they fail)",
     :any},
    {:rules, [], "a list of rules, see above (default: none)", :list},
    {:models, ["codex-test"],
     "the models that the CLI knows; the first is its default (default `[\"codex-test\"]`). A " <>
       "thread with another model gets an `error` item about unknown metadata", :strings},
    {:retries, 0, "the number of retries of a failed request or a broken stream (default 0)",
     :count},
    {:config, "",
     "TOML to append to the home's `config.toml`: keys first (such as " <>
       "`model_providers.mock.stream_idle_timeout_ms = 500`), then tables (default: none)",
     :string},
    {:env, %{}, "additional environment variables for the CLI, map of strings (default: none)",
     :env},
    {:git, false, "makes the workspace a Git repository (default `false`)", :boolean},
    {:workspace, nil,
     "an existing directory to use as workspace, which is not removed (default: a new directory " <>
       "in the system's temporary directory)", :path},
    {:dir, nil,
     "the parent directory of the home (default: `codex_test` in the build directory if Mix " <>
       "runs, else the system's temporary directory, which the CLI warns about)", :path},
    {:codex_path, nil, "the CLI to use (default: see `codex_path/0`)", :path}
  ]

  @doc "Returns name, default and documentation of every option."
  @spec options() :: [{atom(), term(), String.t()}]
  def options, do: for({name, default, doc, _check} <- @table, do: {name, default, doc})

  @doc "Returns the options as a map with defaults. Raises `ArgumentError` for an invalid option."
  @spec new!(keyword()) :: map()
  def new!(opts) do
    Check.members!(opts, for({name, _, _, _} <- @table, do: name), "Codex.Test")

    for {name, default, _doc, check} <- @table, into: %{} do
      value = Access.get(opts, name, default)

      unless value == default or valid?(check, value),
        do:
          raise(
            ArgumentError,
            "Codex.Test: #{expected(name, check)}, got: #{Keywords.shown(value)}"
          )

      {name, value}
    end
  end

  defp valid?(:any, _value), do: true
  defp valid?(:list, value), do: is_list(value)

  defp valid?(:strings, value),
    do: is_list(value) and value != [] and Enum.all?(value, &is_binary/1)

  defp valid?(:count, value), do: is_integer(value) and value >= 0
  defp valid?(:boolean, value), do: is_boolean(value)
  defp valid?(:env, %{} = env), do: Enum.all?(env, fn {k, v} -> is_binary(k) and is_binary(v) end)
  defp valid?(:env, _value), do: false
  defp valid?(_string_or_path, value), do: is_binary(value)

  defp expected(name, check) do
    expected = %{
      list: "a list",
      strings: "a list of one or more strings",
      count: "0 or more",
      boolean: "true or false",
      env: "a map of strings to strings",
      string: "a string",
      path: "a path (a string)"
    }

    ":#{name} is #{expected[check]}"
  end
end
