defmodule Codex.Doctor.Context do
  @moduledoc false
  # The options of `Codex.Doctor.run/1`, and the results of earlier checks that later checks need.

  alias Codex.Auth
  alias Codex.Options.Schema

  @schema Schema.new(
            [
              {:codex_path, :os_path, "the CLI",
               shown: "`CODEX_PATH`, `CODEX_BINARY`, else `codex` on the PATH"},
              {:codex_home, :os_path, "the home", shown: "see `Codex.Home.resolve/1`"},
              {:cwd, :os_path, "the working directory of a run", shown: "the current directory"},
              {:env, :environment, "the environment of a run",
               secret: true, shown: "the environment of the VM"},
              {:system_dir, :os_path, "the directory of the system's configuration",
               default: "/etc/codex"},
              {:timeout, :milliseconds,
               "the limit for each access to the keyring, and for the sandbox", default: 5_000},
              {:skip_git_repo_check, :boolean, "whether runs set the option of this name",
               default: false}
            ],
            duplicates: :first
          )

  defstruct Map.keys(@schema.defaults) ++
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
  def new(opts), do: struct!(__MODULE__, Schema.validate!(@schema, opts))

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

  @doc "Returns the environment of a run."
  @spec env(t()) :: %{String.t() => String.t()}
  def env(context), do: context.env || System.get_env()
end
