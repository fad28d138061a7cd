defmodule Codex.Options do
  alias Codex.CLI.{Program, Range}
  alias Codex.OptionError
  alias Codex.Options.Table

  @moduledoc """
  Options of a client: account, program and model.

  Only options that are set are sent: the CLI's own defaults and configuration hold.

  #{Codex.Options.Table.docs(:global)}

  The first run of a program also runs `codex --version` once in the life of the VM, to warn if the
  version is older or newer than the tested versions (#{Range.lowest()} to
  #{Range.newest()}). `config :codex_sdk, check_cli_version: false` switches that off.

  `inspect/1` shows neither the key nor the values of the environment.
  """

  defstruct Table.defaults(:global)

  @typedoc "Options of a client."
  @type t :: %__MODULE__{
          api_key: String.t() | nil,
          base_url: String.t(),
          codex_path_override: Path.t() | nil,
          codex_home: Path.t() | nil,
          telemetry_prefix: [atom()],
          telemetry_content: boolean() | nil,
          model: String.t() | nil,
          reasoning_effort: atom() | String.t() | nil,
          model_reasoning_summary: atom() | nil,
          model_verbosity: atom() | nil,
          model_context_window: pos_integer() | nil,
          tool_output_token_limit: non_neg_integer() | nil,
          agent_max_threads: pos_integer() | nil,
          config: list() | nil,
          config_overrides: list() | nil,
          env: %{String.t() => String.t() | nil} | nil
        }

  @doc """
  Checks options, given as map (atom or string keys), keyword list or changed struct.

      iex> {:ok, options} = Codex.Options.new(model: "gpt-6", reasoning: :high)
      iex> {options.model, options.reasoning_effort}
      {"gpt-6", :high}
      iex> {:error, error} = Codex.Options.new(modle: "gpt-6")
      iex> error.nearest
      :model

  The error is a `Codex.OptionError`: its message names the valid values, or the list that an option
  belongs to. An `api_key` of nil, or of spaces only, is an error: its variable is not set.
  """
  @spec new(t() | map() | keyword()) :: {:ok, t()} | {:error, OptionError.t()}
  def new(attrs \\ %{})
  def new(%__MODULE__{} = options), do: Table.check_struct(:global, options)

  def new(attrs),
    do: with({:ok, set} <- Table.check(:global, attrs), do: {:ok, struct(__MODULE__, set)})

  @doc """
  Returns the program that runs: `codex_path_override`, else `CODEX_PATH`, else `CODEX_BINARY`, else
  `codex` on the PATH. Where npm installed its Node.js wrapper, the native program behind it.

  Errors: `:codex_binary_not_found`, `{:codex_binary_missing, path}`,
  `{:codex_binary_not_regular, path}`, `{:codex_binary_not_executable, path}`.
  """
  @spec codex_path(t()) :: {:ok, Path.t()} | {:error, Codex.Reason.program()}
  def codex_path(%__MODULE__{codex_path_override: path}), do: Program.find(path)

  defimpl Inspect do
    def inspect(options, opts), do: Table.inspect(options, :global, opts)
  end
end
