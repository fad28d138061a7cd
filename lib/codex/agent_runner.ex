defmodule Codex.AgentRunner do
  @moduledoc """
  Runs an agent: turns of a thread with guardrails, host tools, handoffs and hooks, until there is
  an answer.

      {:ok, agent} =
        Codex.Agent.new(
          name: "librarian",
          instructions: "Answer in one sentence.",
          tools: [MyApp.FindBook],
          output_guardrails: [no_links]
        )

      {:ok, result} = Codex.AgentRunner.run(thread, "Who wrote Momo?", agent: agent)
      result.final_response.text
      {:ok, result} = Codex.AgentRunner.run(result.thread, "And when?", agent: agent)

  `guides/agents.md` shows agents, handoffs and guardrails.

  ## A run

    1. The blocking input guardrails run.
    2. The turn of the agent runs, and the parallel input guardrails beside it. Calls of host tools
       pass the guardrails and hooks of the agent.
    3. If the model hands over, the other agent continues, in a thread of its own.
    4. The output guardrails check the answer.

  Handoffs need an app-server with `experimental_api: true`.

  ## The thread

  On an app-server, a thread keeps the instructions and tools with which it began. If `thread` began
  with others than those of the agent, the run begins a new thread with its conversation. Use the
  thread of the result for the next run.

  If a guardrail stops the run, its turn is interrupted and taken out of the thread, so that the
  prompt does not go to the model with the next turn: `error.details.prompt_removed?` is true then.
  With `experimental_api: true`, the commands that the turn left running end, too. On `codex exec`,
  the prompt stays in the thread, and `prompt_removed?` is false.
  """

  alias Codex.Agent.{Loop, Setup}
  alias Codex.Approvals.Crash

  alias Codex.{
    Agent,
    Error,
    OptionError,
    RunConfig,
    RunResultStreaming,
    Session,
    StreamEvent,
    Turn
  }

  alias Codex.Options.{Schema, Table}
  alias Codex.Thread.Runner

  @own [:agent, :run_config, :max_turns, :backoff, :turn_opts]

  @typedoc """
  Why a run failed, besides the reasons of `Codex.Thread.run/3`:

    * `Codex.Error` of the kind `:guardrail` - a guardrail stopped the run; `details.raw` is the
      `Codex.GuardrailError`
    * `{:max_turns_exceeded, n, %{continuation: nil}}` - the run needs more than `max_turns` turns
    * `{:unsupported, key, why}` - an attribute that the CLI or the transport cannot serve
    * `{:invalid_tool, module, reason}` - see `t:Codex.Tools.refusal/0`
    * `{:invalid_tool_use_behavior_result, value}`, `{:invalid_handoff_input, reason}` - a function
      of the agent or of a handoff failed, or returned another value
  """
  @type reason ::
          Codex.Exec.reason()
          | Codex.AppServer.reason()
          | {:turn_failed | :exec_failed, Error.t()}
          | OptionError.t()
          | Error.t()
          | {:max_turns_exceeded, pos_integer(), %{continuation: nil}}
          | {:unsupported, atom(), String.t()}
          | {:invalid_tool, module(), Codex.Tools.refusal()}
          | {:invalid_tool_use_behavior_result, term()}
          | {:invalid_handoff_input, :no_input_data | :failed}

  @typedoc "Options of a run, an agent, or its configuration."
  @type opts :: keyword() | map() | Agent.t() | RunConfig.t()

  @doc """
  Runs an agent and waits for the answer.

  Options: `agent` (a `Codex.Agent`, or its attributes; default: an agent without instructions),
  `run_config` (a `Codex.RunConfig`, or its keys), `max_turns` (wins over that of the
  configuration), and the options of a turn of `Codex.Thread.run/3`, inline or as `turn_opts`. An
  agent or a configuration alone may stand in place of the options.

  Returns `{:ok, result}`: a `Codex.Turn.Result` with the agent that answered as `last_agent`, the
  events and the tokens of all turns.
  """
  @spec run(struct(), Codex.Input.t(), opts()) ::
          {:ok, Turn.Result.t()} | {:error, reason()}
  def run(thread, input, opts \\ %{}) do
    with {:ok, plan, input} <- plan(thread, input, opts, :blocking),
         {:ok, _job, turn} <- Setup.prepare(plan, nil) do
      plan |> Loop.stream(input) |> Enum.reduce_while(turn, &Turn.step/2) |> result()
    end
  end

  # A failure of the run itself, and not of a turn.
  defp result(%{failure: nil, lost: %Error{details: %{run: reason}} = error} = turn) do
    case reason do
      %Codex.GuardrailError{} -> {:error, %{error | result: Turn.so_far(turn)}}
      reason -> {:error, reason}
    end
  end

  defp result(turn), do: Turn.result(turn)

  @doc """
  Runs an agent as `run/3` does, and returns a `Codex.RunResultStreaming` to read while it runs.
  Each agent begins with a `Codex.StreamEvent.AgentUpdated`. A guardrail that stops the run raises
  `Codex.Error` of the kind `:guardrail` in the reader.

  Errors of the agent and of options are returned at once. Takes the options of `run/3` except
  `on_event`.
  """
  @spec run_streamed(struct(), Codex.Input.t(), opts()) ::
          {:ok, RunResultStreaming.t()} | {:error, reason()}
  def run_streamed(thread, input, opts \\ %{}) do
    with {:ok, plan, input} <- plan(thread, input, opts, :elements),
         token = Runner.token(),
         plan = %{plan | token: token},
         {:ok, _job, turn} <- Setup.prepare(plan, nil) do
      first = %StreamEvent.AgentUpdated{agent: plan.agent, run_config: plan.config}
      stream = &Loop.stream(Map.put(plan, :last?, &1), input)
      {:ok, RunResultStreaming.new(stream, turn, token, first)}
    end
  end

  @doc """
  Returns the enabled handoffs of an agent, each as a `Codex.Handoff`. The context is passed to
  their `is_enabled`.

      iex> {:ok, refunds} = Codex.Agent.new(name: "refunds")
      iex> {:ok, agent} = Codex.Agent.new(name: "desk", handoffs: [refunds])
      iex> {:ok, [handoff]} = Codex.AgentRunner.get_handoffs(agent)
      iex> handoff.tool_name
      "transfer_to_refunds"
  """
  @spec get_handoffs(Agent.t(), map()) :: {:ok, [Codex.Handoff.t()]}
  def get_handoffs(%Agent{} = agent, context \\ %{}) when is_map(context),
    do: {:ok, Setup.handoffs(agent, context)}

  # --- Options ----------------------------------------------------------------------------------

  defp plan(%{codex_opts: _, thread_opts: _} = thread, input, opts, mode) do
    with {:ok, opts} <- opts(opts),
         {own, turn_opts} = Enum.split_with(opts, &own?/1),
         own = Map.new(own, fn {key, value} -> {own_key(key), value} end),
         {:ok, turn_opts} <- Table.check(:turn, own[:turn_opts] || turn_opts),
         {:ok, agent} <- Agent.new(own[:agent] || []),
         {:ok, config} <- config(own) do
      plan = %{
        agent: agent,
        config: config,
        base: thread,
        task: input,
        history: [],
        turn_opts: turn_opts,
        mode: mode,
        token: nil
      }

      with_session(plan, input)
    end
  end

  defp plan(other, _input, _opts, _mode), do: Runner.no_thread(other)

  defp opts(nil), do: {:ok, []}
  defp opts(%Agent{} = agent), do: {:ok, [agent: agent]}
  defp opts(%RunConfig{} = config), do: {:ok, [run_config: config]}
  defp opts(opts), do: Schema.pairs(opts)

  defp own?({key, _value}), do: own_key(key) != nil

  defp own_key(key) when is_atom(key) or is_binary(key),
    do: Enum.find(@own, &(Atom.to_string(&1) == to_string(key)))

  defp own_key(_key), do: nil

  defp config(own) do
    with {:ok, config} <- RunConfig.new(own[:run_config] || []) do
      case own[:max_turns] do
        nil -> {:ok, config}
        most -> config |> Map.from_struct() |> Map.put(:max_turns, most) |> RunConfig.new()
      end
    end
  end

  # --- Sessions ---------------------------------------------------------------------------------

  defp with_session(%{config: config} = plan, input) do
    entries = entries(config.session)

    with {:ok, input} <- input(config.session_input_callback, input, entries, plan) do
      id = config.conversation_id || conversation(entries)
      new? = plan.base.thread_id == nil and plan.base.resume == nil and plan.base.fork_of == nil
      base = if new? and is_binary(id), do: %{plan.base | thread_id: id}, else: plan.base
      {:ok, %{plan | base: base, task: input}, input}
    end
  end

  defp conversation([]), do: nil
  defp conversation(entries), do: Map.get(List.last(entries), :conversation_id)

  defp entries(nil), do: []

  defp entries(session) do
    case Session.load(session) do
      {:ok, entries} when is_list(entries) ->
        Enum.filter(entries, &is_map/1)

      other ->
        Crash.invalid("the session was not loaded", other)
        []
    end
  catch
    kind, reason ->
      Crash.log("the session", kind, reason, __STACKTRACE__)
      []
  end

  defp input(nil, input, _entries, _plan), do: {:ok, input}

  defp input(fun, input, entries, plan) do
    arity = Enum.find(3..1//-1, &is_function(fun, &1))

    case apply(fun, Enum.take([input, entries, Setup.context(plan)], arity)) do
      {:ok, input} -> {:ok, input}
      {:ok, input, _context} -> {:ok, input}
      {:error, reason} -> {:error, reason}
      input -> {:ok, input}
    end
  end

  @doc false
  # The decision of `tool_use_behavior` about outputs of tools.
  def check_tool_use_behavior(%Agent{} = agent, context, results) do
    case Codex.Agent.Calls.decision(agent.tool_use_behavior, context, results) do
      {true, output} -> {:ok, %{is_final_output: true, final_output: output}}
      false -> {:ok, %{is_final_output: false, final_output: nil}}
      {:error, reason} -> {:error, reason}
    end
  end
end
