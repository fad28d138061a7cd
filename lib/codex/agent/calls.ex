defmodule Codex.Agent.Calls do
  @moduledoc false
  # Runs the calls of an agent's host tools: guardrails, hooks, and what follows an output. The
  # functions here run in the process of a call.

  alias Codex.Agent.{Hooks, Run}
  alias Codex.Approvals.Crash
  alias Codex.Guardrail.Check
  alias Codex.Handoff
  alias Codex.Tools.Definition

  @doc "Returns a tool whose calls belong to a run of an agent."
  @spec tool(Definition.t(), Run.t(), struct(), struct()) :: Definition.t()
  def tool(%{around: nil} = tool, run, agent, config) do
    around = fn args, context, call ->
      name = Definition.full_name(tool)
      event = %{tool: name, call_id: call_id(context)}
      context = Map.put(context, :agent, agent)

      with :ok <- guard(agent.tool_input_guardrails, event, args, context, run) do
        about = Map.take(context, [:agent, :thread, :context])
        Hooks.call(agent, config, :on_tool_start, [about, name])
        result = guarded(call.(args, context), agent.tool_output_guardrails, event, context, run)
        Hooks.call(agent, config, :on_tool_end, [about, name, result])
        after_call(result, agent.tool_use_behavior, event, args, context, run)
        result
      end
    end

    %{tool | around: around}
  end

  def tool(handoff, _run, _agent, _config), do: handoff

  defp call_id(%{event: %{call_id: id}}), do: id
  defp call_id(_context), do: nil

  # Returns `:ok`, or the result in place of the call.
  defp guard(guardrails, event, payload, context, run) do
    case Check.all(guardrails, [event, payload, context]) do
      :ok ->
        :ok

      {:error, %{behavior: :reject_content}, %{type: :reject} = error} ->
        {:ok, error.message}

      {:error, _guardrail, error} ->
        Run.stop(run, {:guardrail, error})
        {:error, "a guardrail stopped the run"}
    end
  end

  defp guarded({:ok, output}, guardrails, event, context, run),
    do: with(:ok <- guard(guardrails, event, output, context, run), do: {:ok, output})

  defp guarded(failure, _guardrails, _event, _context, _run), do: failure

  defp after_call({:ok, output}, behavior, event, args, context, run) do
    result = %{call_id: event.call_id, tool_name: event.tool, arguments: args, output: output}

    case decision(behavior, context, [result]) do
      {true, output} -> Run.stop(run, {:answer, output})
      {:error, _reason} = error -> Run.stop(run, error)
      false -> :ok
    end
  end

  defp after_call(_failure, _behavior, _event, _args, _context, _run), do: :ok

  @doc "Returns whether outputs of tools end a run, and its answer."
  @spec decision(term(), map(), [map()]) ::
          {true, term()} | false | {:error, {:invalid_tool_use_behavior_result, term()}}
  def decision(:run_llm_again, _context, _results), do: false
  def decision(:stop_on_first_tool, _context, [result | _]), do: {true, result.output}

  def decision(%{stop_at_tool_names: names}, _context, results) do
    case Enum.find(results, &(&1.tool_name in names)) do
      nil -> false
      result -> {true, result.output}
    end
  end

  def decision(fun, context, results) do
    arity = Enum.find(2..0//-1, &is_function(fun, &1))

    case apply(fun, Enum.take([context, results], arity)) do
      %{is_final_output: true} = decision -> {true, decision[:final_output]}
      %{is_final_output: false} -> false
      other -> {:error, {:invalid_tool_use_behavior_result, other}}
    end
  catch
    kind, reason ->
      Crash.log("tool_use_behavior", kind, reason, __STACKTRACE__)
      {:error, {:invalid_tool_use_behavior_result, kind}}
  end

  # --- Handoffs ---------------------------------------------------------------------------------

  @doc "Returns the tool of a handoff. Without a run, it is only checked."
  @spec handoff(Handoff.t(), Run.t() | nil) ::
          {:ok, Definition.t()} | {:error, Definition.reason()}
  def handoff(handoff, run) do
    schema = Map.merge(%{"type" => "object", "properties" => %{}}, handoff.input_schema || %{})

    schema =
      if handoff.strict_json_schema,
        do: Map.put_new(schema, "additionalProperties", false),
        else: schema

    opts = %{
      name: handoff.tool_name,
      description: handoff.tool_description,
      parameters: schema
    }

    with {:ok, tool} <- Definition.new(Codex.Agent.HandoffTool, opts) do
      around = fn args, context, _call ->
        invoked(handoff, args, context)
        Run.stop(run, {:handoff, handoff, args, call_id(context)})
        {:ok, "the agent #{handoff.agent.name} goes on"}
      end

      {:ok, %{tool | around: around}}
    end
  end

  defp invoked(%{on_invoke: nil}, _args, _context), do: :ok

  defp invoked(%{on_invoke: fun}, args, context) do
    if is_function(fun, 2), do: fun.(context, args), else: fun.(context)
    :ok
  catch
    kind, reason -> Crash.log("on_invoke of a handoff", kind, reason, __STACKTRACE__)
  end
end
