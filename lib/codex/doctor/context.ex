defmodule Codex.Doctor.Context do
  @moduledoc false
  # The options of `Codex.Doctor.run/1`, and the results of earlier checks that later checks need.

  alias Codex.Auth
  alias Codex.Options.Keywords

  @options [
    codex_path: nil,
    codex_home: nil,
    cwd: nil,
    env: nil,
    system_dir: "/etc/codex",
    timeout: 5_000,
    skip_git_repo_check: false
  ]

  defstruct Keyword.keys(@options) ++
              [native: false, program: nil, home: nil, directory: nil, auth: nil, preflight: nil]

  @typedoc """
  `env` is nil for the environment of the VM. `native` is true once the Rust library has been
  loaded. `program`, `home`, `directory`, `auth` (with the configuration) and `preflight` (of
  `codex exec`) are nil until a check has found them.
  """
  @type t :: %__MODULE__{
          codex_path: Path.t() | nil,
          codex_home: Path.t() | nil,
          cwd: Path.t() | nil,
          env: %{String.t() => String.t()} | nil,
          system_dir: Path.t(),
          timeout: pos_integer(),
          skip_git_repo_check: boolean(),
          native: boolean(),
          program: Path.t() | nil,
          home: Path.t() | nil,
          directory: Path.t() | nil,
          auth: Auth.Context.t() | nil,
          preflight: Auth.Preflight.t() | nil
        }

  @spec new(keyword()) :: t()
  def new(opts) do
    opts = Keywords.validate!(opts, @options)

    for key <- [:codex_path, :codex_home, :cwd],
        do: Keywords.check!(opts, key, &(is_nil(&1) or is_binary(&1)), "a path")

    Keywords.check!(opts, :system_dir, &is_binary/1, "a path")
    Keywords.check!(opts, :env, &(is_nil(&1) or strings?(&1)), "a map of strings")
    Keywords.check!(opts, :timeout, &(is_integer(&1) and &1 > 0), "milliseconds, above 0")
    Keywords.check!(opts, :skip_git_repo_check, &is_boolean/1, "a boolean")
    struct!(__MODULE__, opts)
  end

  defp strings?(%{} = env),
    do: Enum.all?(env, fn {name, value} -> is_binary(name) and is_binary(value) end)

  defp strings?(_other), do: false

  @doc "Returns the environment of a run."
  @spec env(t()) :: %{String.t() => String.t()}
  def env(context), do: context.env || System.get_env()
end
