defmodule Codex.Doctor.Place do
  @moduledoc false
  # Where the doctor looks: the options, and what earlier checks found for those that come after them.

  alias Codex.Auth.{Context, Preflight}
  alias Codex.Options.Keywords

  defstruct [
    :codex_path,
    :codex_home,
    :cwd,
    :env,
    :system_dir,
    :timeout,
    native?: false,
    program: nil,
    home: nil,
    context: nil,
    preflight: nil
  ]

  @typedoc """
  `env` is nil for that of the VM. `program`, `home`, `context` (with the configuration) and `preflight` (of `codex exec`) are nil until
  they are found.
  """
  @type t :: %__MODULE__{
          codex_path: Path.t() | nil,
          codex_home: Path.t() | nil,
          cwd: Path.t() | nil,
          env: %{String.t() => String.t()} | nil,
          system_dir: Path.t(),
          timeout: pos_integer(),
          native?: boolean(),
          program: Path.t() | nil,
          home: Path.t() | nil,
          context: Context.t() | nil,
          preflight: Preflight.t() | nil
        }

  @options [
    codex_path: nil,
    codex_home: nil,
    cwd: nil,
    env: nil,
    system_dir: "/etc/codex",
    timeout: 5_000
  ]

  @spec new(keyword()) :: t()
  def new(opts) do
    opts = Keywords.validate!(opts, @options)

    for key <- [:codex_path, :codex_home, :cwd],
        do: Keywords.check!(opts, key, &path?/1, "a path")

    Keywords.check!(opts, :system_dir, &is_binary/1, "a path")
    Keywords.check!(opts, :env, &(is_nil(&1) or strings?(&1)), "a map of strings")
    Keywords.check!(opts, :timeout, &(is_integer(&1) and &1 > 0), "milliseconds, above 0")
    struct!(__MODULE__, opts)
  end

  defp path?(path), do: is_nil(path) or is_binary(path)

  defp strings?(%{} = env),
    do: Enum.all?(env, fn {name, value} -> is_binary(name) and is_binary(value) end)

  defp strings?(_other), do: false

  @doc "The environment of a run."
  @spec env(t()) :: %{String.t() => String.t()}
  def env(place), do: place.env || System.get_env()
end
