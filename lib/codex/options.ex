defmodule Codex.Options do
  @moduledoc """
  Options of a client: who pays, which CLI, which model.

  Nothing is sent that was not set: the CLI's own defaults and configuration hold.

  #{Codex.Options.Table.docs(:global)}

  The first run of a program also runs `codex --version` once in the life of the VM, to warn about a
  version that this package was not tested with. `config :codex_sdk, check_cli_version: false`
  switches that off.

  `inspect/1` shows neither the key nor the values of the environment.
  """

  alias Codex.{CLI, Options.Table}

  defstruct Table.defaults(:global)

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
  Checks options, given as map (atom or string keys) or keyword list.

      iex> {:ok, options} = Codex.Options.new(model: "gpt-6", reasoning: :high)
      iex> {options.model, options.reasoning_effort}
      {"gpt-6", :high}
      iex> Codex.Options.new(modle: "gpt-6")
      {:error, {:unknown_option, :modle, :model}}
      iex> Codex.Options.new(model_context_window: 0)
      {:error, {:invalid_model_context_window, 0}}

  Errors: `{:unknown_option, key, nearest}` (nearest known key or nil),
  `{:misplaced_option, key, places}` (an option of a thread, of a turn, …), `{:invalid_<option>, value}`,
  `{:invalid_api_key, :empty}` (nil or empty: a variable that is not set), `:invalid_codex_path`,
  `:invalid_base_url`, `{:invalid_options, value}`. `Codex.Error.normalize/1` says in words which
  values an option has, and which list an option belongs to.
  """
  @spec new(map() | keyword()) :: {:ok, t()} | {:error, Table.reason()}
  def new(attrs \\ %{})
  def new(%__MODULE__{api_key: ""}), do: {:error, {:invalid_api_key, :empty}}
  def new(%__MODULE__{} = options), do: {:ok, options}

  def new(attrs),
    do: with({:ok, set} <- Table.check(:global, attrs), do: {:ok, struct(__MODULE__, set)})

  @doc """
  Returns the program that runs: `codex_path_override`, else `CODEX_PATH`, else `CODEX_BINARY`, else
  `codex` on the PATH. Where npm installed its Node.js wrapper, the native program behind it.

  Errors: `:codex_binary_not_found`, `{:codex_binary_missing, path}`, `{:codex_binary_not_regular, path}`,
  `{:codex_binary_not_executable, path}`.
  """
  @spec codex_path(t()) :: {:ok, Path.t()} | {:error, CLI.path_error()}
  def codex_path(%__MODULE__{codex_path_override: path}), do: CLI.find(path)

  defimpl Inspect do
    def inspect(options, opts), do: Codex.Options.Table.inspect(options, :global, opts)
  end
end
