defmodule Codex.Agent do
  @moduledoc """
  A role for runs of `Codex.AgentRunner`: instructions, model, tools, guardrails, and the agents to
  which it may hand the conversation over.

      {:ok, refunds} =
        Codex.Agent.new(
          name: "refunds",
          handoff_description: "answers questions about refunds",
          instructions: "You decide about refunds.",
          tools: [MyApp.Refund]
        )

      {:ok, agent} =
        Codex.Agent.new(name: "front desk", instructions: "Be brief.", handoffs: [refunds])

      {:ok, result} = Codex.AgentRunner.run(thread, "I want my money back", agent: agent)
      result.last_agent.name

  Instructions become the developer instructions of the thread, tools and handoffs its host tools,
  model and settings options of the turn.

  ## Hooks

  `hooks` is a module or a keyword list of functions by name: `on_agent_start(context)`,
  `on_agent_end(context, answer)`, `on_handoff(context, agent)`, `on_tool_start(context, name)` and
  `on_tool_end(context, name, result)`. The context has `:agent`, `:thread` and `:context` (the
  value of `:tool_context` in the metadata of the thread). Their results are ignored, and a hook
  that fails is logged. Hooks of tools run in the process of the call, the others in that of the
  run.
  """

  alias Codex.Agent.Rows
  alias Codex.{Guardrail, ModelSettings, OptionError, ToolGuardrail}
  alias Codex.Options.Schema

  @schema Rows.agent()
  defstruct Enum.map(@schema.rows, &{&1.name, &1.default})

  @typedoc "An agent. Fields are the options of `new/1`."
  @type t :: %__MODULE__{
          name: String.t(),
          instructions: String.t() | (map() -> String.t()) | (map(), t() -> String.t()) | nil,
          handoff_description: String.t() | nil,
          handoffs: [t() | struct()],
          tools: [term()],
          tool_use_behavior: term(),
          reset_tool_choice: true,
          input_guardrails: [Guardrail.t()],
          output_guardrails: [Guardrail.t()],
          tool_input_guardrails: [ToolGuardrail.t()],
          tool_output_guardrails: [ToolGuardrail.t()],
          hooks: module() | keyword(),
          model: String.t() | nil,
          model_settings: ModelSettings.t() | nil
        }

  @typedoc "An invalid attribute, or one that the CLI cannot serve."
  @type reason :: OptionError.t() | {:unsupported, atom(), String.t()}

  @doc """
  Makes an agent from a keyword list or map, or checks one.

  #{Schema.docs(@schema)}

  Errors: `Codex.OptionError`; and `{:unsupported, key, why}` for `prompt` (prompt objects of the
  provider), for `reset_tool_choice: false`, and for settings that `Codex.ModelSettings` refuses.

      iex> {:ok, agent} = Codex.Agent.new(name: "helper", instructions: "Be brief.")
      iex> agent.tool_use_behavior
      :run_llm_again
      iex> {:error, {:unsupported, :prompt, _why}} = Codex.Agent.new(prompt: %{id: "pmpt_1"})
  """
  @spec new(t() | keyword() | map()) :: {:ok, t()} | {:error, reason()}
  def new(attrs \\ [])
  def new(%__MODULE__{} = agent), do: new(Map.from_struct(agent))
  def new(attrs), do: Rows.new(__MODULE__, @schema, attrs)
end
