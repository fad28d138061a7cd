defmodule Codex.Agent.Rows do
  @moduledoc false
  # The attributes of agents, of run configurations and of handoffs: options, and names that older
  # versions accepted although the CLI cannot serve them.

  alias Codex.{Guardrail, ModelSettings, Session, ToolGuardrail}
  alias Codex.Options.{Schema, Type}

  # These modules need this one.
  @agent_name :"Elixir.Codex.Agent"
  @handoff_name :"Elixir.Codex.Handoff"

  @settings {:model_settings, :settings,
             "effort, summary and verbosity: see `Codex.ModelSettings`",
             expected: "settings of `Codex.ModelSettings`"}
  @hooks {:hooks, :hooks, "called while a run goes on: see `Codex.Agent`",
          default: [], shown: "none", expected: "a module, or a keyword list of functions"}

  @guardrails "guardrails of the stage"

  @agent [
    {:name, :text, "the name", default: "agent"},
    {:instructions, :instructions,
     "developer instructions: text, or a function of the context, or of context and agent, that " <>
       "returns text", expected: "text, or a function of one or two arguments"},
    {:handoff_description, :text, "tells other agents what this agent is for"},
    {:handoffs, :handoffs, "agents that may take the conversation over",
     default: [], shown: "none", expected: "a list of agents and handoffs"},
    {:tools, :list, "host tools, as the option `tools` of a thread has them",
     default: [], shown: "none", expected: "a list of tools"},
    {:tool_use_behavior, :behavior,
     "what follows a call of a host tool: `:run_llm_again` - the model goes on; " <>
       "`:stop_on_first_tool` - its output is the answer; `%{stop_at_tool_names: names}` - " <>
       "likewise for these tools; a function of context and results that returns " <>
       "`%{is_final_output: boolean, final_output: term}`",
     default: :run_llm_again,
     expected:
       "`:run_llm_again`, `:stop_on_first_tool`, `%{stop_at_tool_names: names}` or a function"},
    {:reset_tool_choice, {:one_of, [true]}, "without effect: the CLI makes no choice of tools",
     default: true, expected: "true"},
    {:input_guardrails, {:all, Guardrail, :input}, @guardrails <> " `:input`",
     default: [], shown: "none", expected: "a list of `Codex.Guardrail` of the stage `:input`"},
    {:output_guardrails, {:all, Guardrail, :output}, @guardrails <> " `:output`",
     default: [], shown: "none", expected: "a list of `Codex.Guardrail` of the stage `:output`"},
    {:tool_input_guardrails, {:all, ToolGuardrail, :tool_input}, @guardrails <> " `:tool_input`",
     default: [],
     shown: "none",
     expected: "a list of `Codex.ToolGuardrail` of the stage `:tool_input`"},
    {:tool_output_guardrails, {:all, ToolGuardrail, :tool_output},
     @guardrails <> " `:tool_output`",
     default: [],
     shown: "none",
     expected: "a list of `Codex.ToolGuardrail` of the stage `:tool_output`"},
    @hooks,
    {:model, :string, "the model"},
    @settings
  ]

  @run_config [
    {:model, :string, "the model of all agents of the run"},
    @settings,
    {:max_turns, :positive, "the most turns of the run: the first, and one for each handoff",
     default: 10},
    {:nest_handoff_history, :boolean,
     "whether an agent gets the conversation before a handoff as one message; otherwise it gets " <>
       "the messages and calls of tools one by one", default: true},
    {:session, :session, "remembers conversations: see `Codex.Session`",
     expected: "`{module, state}` with a module of the behaviour `Codex.Session`"},
    {:session_input_callback, :callback,
     "a function of the input; of input and entries; or of input, entries and context, that " <>
       "returns the input, `{:ok, input}` or `{:error, reason}`",
     expected: "a function of one to three arguments"},
    {:conversation_id, :string, "the id of the thread that a new thread resumes"},
    {:input_guardrails, {:all, Guardrail, :input}, "run after those of the agent",
     default: [], shown: "none", expected: "a list of `Codex.Guardrail` of the stage `:input`"},
    {:output_guardrails, {:all, Guardrail, :output}, "run after those of the agent",
     default: [], shown: "none", expected: "a list of `Codex.Guardrail` of the stage `:output`"},
    @hooks,
    {:file_search, :map, "merged over the option `file_search` of the thread, for host tools"}
  ]

  @handoff [
    {:agent, :agent, "the agent that takes over", required: true, expected: "a `Codex.Agent`"},
    {:tool_name, :text, "the name of the tool for the model"},
    {:tool_description, :text, "its description"},
    {:on_invoke, :callback2, "called when the model hands over, with context and arguments",
     expected: "a function of one or two arguments"},
    {:input_schema, :map, "the JSON schema of the arguments of the tool", default: %{}},
    {:input_filter, {:fun, 1},
     "a function that returns a changed `Codex.Handoff.InputData`, or `{:ok, data}`"},
    {:nest_handoff_history, :boolean, "wins over that of `Codex.RunConfig`"},
    {:strict_json_schema, :boolean, "close the schema of the arguments", default: true},
    {:is_enabled, :enabled,
     "whether the model may hand over: a function of context, or of " <>
       "context and agent, or a boolean",
     default: true, expected: "a boolean, or a function of one or two arguments"}
  ]

  @agent_schema Schema.new(@agent)
  @run_config_schema Schema.new(@run_config)
  @handoff_schema Schema.new(@handoff)

  # Keys with the values that change nothing, and the reason against others.
  @unsupported %{
    prompt: {[nil], "the CLI sends no prompt objects; use instructions"},
    call_model_input_filter: {[nil], "the CLI makes the requests; use input_guardrails"},
    previous_response_id: {[nil], "the CLI keeps conversations by thread; use conversation_id"},
    auto_previous_response_id: {[nil, false], "the CLI keeps conversations by thread"},
    workflow: {[nil], "telemetry has no such attribute; attach it to a span of the application"},
    group: {[nil], "telemetry has no such attribute; attach it to a span of the application"},
    trace_id: {[nil], "use the option trace of the turn"},
    trace_include_sensitive_data: {[nil, false], "use the client's option telemetry_content"},
    tracing_disabled: {[nil, false], "detach the handlers of telemetry instead"}
  }

  def agent, do: @agent_schema
  def run_config, do: @run_config_schema
  def handoff, do: @handoff_schema

  @doc "Makes a struct of attributes."
  def new(module, schema, attrs) do
    with {:ok, pairs} <- Schema.pairs(attrs),
         {:ok, pairs} <- supported(pairs),
         {:ok, settings} <- settings(pairs),
         {:ok, set} <- Schema.validate(schema, pairs, &cast/2) do
      {:ok, struct(module, if(settings, do: %{set | model_settings: settings}, else: set))}
    end
  end

  defp supported(pairs) do
    pairs
    |> Enum.find_value({:ok, Enum.reject(pairs, &entry/1)}, fn {_key, value} = pair ->
      with {key, {harmless, why}} <- entry(pair),
           false <- value in harmless,
           do: {:error, {:unsupported, key, why}},
           else: (_fine -> nil)
    end)
  end

  defp entry({key, _value}) when is_atom(key) or is_binary(key),
    do: Enum.find(@unsupported, fn {name, _} -> Atom.to_string(name) == to_string(key) end)

  defp entry(_pair), do: nil

  # Their errors name what the CLI cannot send.
  defp settings(pairs) do
    case Enum.find(pairs, fn {key, _} -> key in [:model_settings, "model_settings"] end) do
      {_key, value} -> ModelSettings.new(value)
      nil -> {:ok, nil}
    end
  end

  def cast(:settings, value), do: with({:error, _reason} <- ModelSettings.new(value), do: :error)

  def cast(:instructions, text) when is_binary(text), do: Type.cast(:text, text)
  def cast(:instructions, fun), do: function(fun, 1..2)
  def cast(:callback, fun), do: function(fun, 1..3)
  def cast(:callback2, fun), do: function(fun, 1..2)
  def cast(:enabled, value) when is_boolean(value), do: {:ok, value}
  def cast(:enabled, fun), do: function(fun, 1..2)

  def cast(:list, list) when is_list(list),
    do: if(List.improper?(list), do: :error, else: {:ok, list})

  def cast(:behavior, behavior) when behavior in [:run_llm_again, :auto],
    do: {:ok, :run_llm_again}

  def cast(:behavior, :stop_on_first_tool), do: {:ok, :stop_on_first_tool}

  def cast(:behavior, %{stop_at_tool_names: names} = behavior) when is_list(names),
    do: if(Enum.all?(names, &is_binary/1), do: {:ok, behavior}, else: :error)

  def cast(:behavior, fun), do: function(fun, 0..2)

  def cast(:hooks, module) when is_atom(module) and module not in [true, false],
    do: if(match?({:module, _}, Code.ensure_loaded(module)), do: {:ok, module}, else: :error)

  def cast(:hooks, hooks) when is_map(hooks) and not is_struct(hooks),
    do: cast(:hooks, Map.to_list(hooks))

  def cast(:hooks, hooks) do
    valid? = Keyword.keyword?(hooks) and Enum.all?(hooks, fn {_, fun} -> is_function(fun) end)
    if valid?, do: {:ok, hooks}, else: :error
  end

  def cast(:session, session), do: if(Session.valid?(session), do: {:ok, session}, else: :error)

  def cast(:handoffs, list),
    do: all(list, &(named?(&1, @agent_name) or named?(&1, @handoff_name)))

  def cast(:agent, value), do: if(named?(value, @agent_name), do: {:ok, value}, else: :error)

  def cast({:all, module, stage}, list),
    do: all(list, &(is_struct(&1, module) and &1.stage == stage))

  def cast(type, _value) when type in [:list, :behavior, :hooks, :session], do: :error
  def cast(type, value), do: Type.cast(type, value)

  defp all(list, valid?) do
    if is_list(list) and not List.improper?(list) and Enum.all?(list, valid?),
      do: {:ok, list},
      else: :error
  end

  defp named?(value, name), do: match?(%{__struct__: ^name}, value)

  defp function(fun, arities),
    do: if(Enum.any?(arities, &is_function(fun, &1)), do: {:ok, fun}, else: :error)
end
