defmodule Codex.RunConfig do
  @moduledoc """
  Settings of a run of `Codex.AgentRunner`, beside those of its agent.

      {:ok, config} = Codex.RunConfig.new(max_turns: 3, input_guardrails: [guardrail])
      Codex.AgentRunner.run(thread, "Tidy up", agent: agent, run_config: config)
  """

  alias Codex.Agent.Rows
  alias Codex.{Guardrail, ModelSettings, OptionError}
  alias Codex.Options.Schema

  @schema Rows.run_config()
  defstruct Enum.map(@schema.rows, &{&1.name, &1.default})

  @typedoc "Settings of a run. Fields are the options of `new/1`."
  @type t :: %__MODULE__{
          model: String.t() | nil,
          model_settings: ModelSettings.t() | nil,
          max_turns: pos_integer(),
          nest_handoff_history: boolean(),
          session: Codex.Session.t() | nil,
          session_input_callback: function() | nil,
          conversation_id: String.t() | nil,
          input_guardrails: [Guardrail.t()],
          output_guardrails: [Guardrail.t()],
          hooks: module() | keyword(),
          file_search: map() | nil
        }

  @typedoc "An invalid key, or one that the CLI cannot serve."
  @type reason :: OptionError.t() | {:unsupported, atom(), String.t()}

  @doc """
  Makes settings from a keyword list or map, or checks them.

  #{Schema.docs(@schema)}

  Errors: `Codex.OptionError`; and `{:unsupported, key, why}` for `call_model_input_filter`,
  `previous_response_id`, `auto_previous_response_id`, `workflow`, `group`, `trace_id`,
  `trace_include_sensitive_data` and `tracing_disabled`, and for settings that
  `Codex.ModelSettings` refuses.

      iex> {:ok, config} = Codex.RunConfig.new(max_turns: 3)
      iex> config.max_turns
      3
      iex> {:error, error} = Codex.RunConfig.new(max_turns: 0)
      iex> error.key
      :max_turns
  """
  @spec new(t() | keyword() | map()) :: {:ok, t()} | {:error, reason()}
  def new(attrs \\ [])
  def new(%__MODULE__{} = config), do: new(Map.from_struct(config))
  def new(attrs), do: Rows.new(__MODULE__, @schema, attrs)
end
