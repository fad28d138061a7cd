defmodule Codex.Agent.Setup do
  @moduledoc false
  # Prepares the turn of an agent: its instructions, tools and handoffs as options of the thread,
  # its model and settings as options of the turn.
  #
  # An app-server takes instructions and tools at the start of a thread only. So a thread that began
  # with others is left, and a new one begins with its conversation.

  alias Codex.Agent.{Calls, History, Run}
  alias Codex.{Handoff, ModelSettings, OptionError}
  alias Codex.Pool.Turn, as: PoolTurn
  alias Codex.Thread.Runner
  alias Codex.Tools.{Definition, Toolset}

  @typedoc """
    * `base` - the thread with the options of the caller
    * `task` - the input of the turn, or `:continue`
    * `history` - items that a new thread begins with
    * `last?` - see `Codex.Turn.Job`
  """
  @type plan :: %{
          optional(:last?) => (... -> boolean()),
          required(:agent) => struct(),
          required(:config) => struct(),
          required(:base) => struct(),
          required(:task) => Codex.Input.t() | :continue,
          required(:history) => [map()],
          required(:turn_opts) => map(),
          required(:mode) => Codex.Turn.Driver.mode(),
          required(:token) => String.t() | nil
        }

  @typedoc "Why a turn of an agent cannot begin."
  @type reason ::
          Codex.Turn.Transport.reason()
          | OptionError.t()
          | Codex.Error.t()
          | {:unsupported, atom(), String.t()}
          | {:invalid_tool, term(), Toolset.reason()}

  @doc """
  Returns the job and the turn before its first event, whose thread has the options of the caller.
  Without a run the plan is only checked.
  """
  @spec prepare(plan(), Run.t() | nil) ::
          {:ok, Codex.Turn.Job.t(), turn :: struct()} | {:error, reason()}
  def prepare(plan, run) do
    with :ok <- handoffs_possible(plan),
         {:ok, instructions} <- instructions(plan),
         {:ok, tools} <- tools(plan, run),
         key = key(instructions, tools),
         {:ok, thread, history} <- thread(plan, key, run),
         opts = thread_opts(plan, instructions, tools),
         more = [run_token: tokens(plan, run), history: history ++ plan.history],
         {:ok, job, turn} <-
           Runner.prepare(
             %{thread | thread_opts: opts},
             {:run, plan.task},
             turn_opts(plan),
             plan.mode,
             more
           ) do
      thread = %{turn.thread | thread_opts: plan.base.thread_opts, agent: key}
      {:ok, job, %{turn | thread: thread, last_agent: plan.agent}}
    end
  end

  @doc "Returns the enabled handoffs of an agent."
  @spec handoffs(struct(), map()) :: [Handoff.t()]
  def handoffs(agent, context) do
    for handoff <- agent.handoffs,
        handoff = Handoff.wrap(handoff),
        Handoff.enabled?(handoff, context, agent),
        do: handoff
  end

  @doc "Returns the context of hooks, guardrails and functions of an agent."
  @spec context(plan()) :: map()
  def context(%{agent: agent, base: thread}),
    do: %{agent: agent, thread: thread, context: tool_context(thread)}

  @doc "Returns the value of `:tool_context` in the metadata of a thread."
  @spec tool_context(struct()) :: term()
  def tool_context(thread), do: thread.metadata[:tool_context] || %{}

  defp handoffs_possible(%{base: %{transport: :exec}, agent: %{handoffs: [_ | _]}}) do
    why = "codex exec cannot begin a thread with a conversation; use an app-server"
    {:error, {:unsupported, :handoffs, why}}
  end

  defp handoffs_possible(_plan), do: :ok

  defp instructions(%{agent: %{instructions: text}} = plan) when text in [nil, ""],
    do: {:ok, plan.base.thread_opts.developer_instructions}

  defp instructions(%{agent: %{instructions: text}}) when is_binary(text), do: {:ok, text}

  defp instructions(%{agent: %{instructions: fun} = agent} = plan) do
    text = if is_function(fun, 2), do: fun.(context(plan), agent), else: fun.(context(plan))

    if is_binary(text) and String.valid?(text),
      do: {:ok, text},
      else: {:error, OptionError.invalid(:instructions, text, "a function that returns text")}
  rescue
    error ->
      words = "a function that returns text, and does not raise #{inspect(error.__struct__)}"
      {:error, OptionError.invalid(:instructions, fun, words)}
  end

  defp tools(%{agent: agent} = plan, run) do
    own = List.wrap(plan.base.thread_opts.tools)

    with {:ok, handoffs} <- handoff_tools(handoffs(agent, context(plan)), run),
         {:ok, tools} <- Toolset.new(own ++ agent.tools ++ handoffs) do
      {:ok, if(run, do: Enum.map(tools, &Calls.tool(&1, run, agent, plan.config)), else: tools)}
    end
  end

  defp handoff_tools(handoffs, run) do
    Enum.reduce_while(handoffs, {:ok, []}, fn handoff, {:ok, tools} ->
      case Calls.handoff(handoff, run) do
        {:ok, tool} -> {:cont, {:ok, tools ++ [tool]}}
        {:error, reason} -> {:halt, {:error, {:invalid_tool, Codex.Handoff, reason}}}
      end
    end)
  end

  defp key(instructions, tools) do
    tools = for tool <- tools, do: {Definition.full_name(tool), tool.description, tool.schema}
    :erlang.md5(:erlang.term_to_binary({instructions, tools}))
  end

  # A thread that began without an agent, and whose agent adds nothing, stays.
  defp thread(%{base: %{transport: :exec} = thread}, _key, _run), do: {:ok, thread, []}
  defp thread(%{base: %{thread_id: nil} = thread}, _key, _run), do: {:ok, thread, []}
  defp thread(%{base: %{agent: key} = thread}, key, _run), do: {:ok, thread, []}

  defp thread(%{base: %{agent: nil} = thread, agent: agent}, _key, _run)
       when agent.instructions in [nil, ""] and agent.tools == [] and agent.handoffs == [],
       do: {:ok, thread, []}

  defp thread(%{base: thread}, _key, nil), do: {:ok, thread, []}

  defp thread(%{base: thread}, _key, _run) do
    with {:ok, conn} <- PoolTurn.connection(thread),
         {:ok, turns} <- History.turns(conn, thread.thread_id),
         do: {:ok, Codex.Turn.reset(thread), History.items(turns)}
  end

  defp thread_opts(plan, instructions, tools) do
    opts = plan.base.thread_opts
    settings = settings(plan)
    search = plan.config.file_search

    %{
      opts
      | developer_instructions: instructions,
        tools: if(tools == [], do: opts.tools, else: tools),
        experimental_raw_events: opts.experimental_raw_events || raw_events(plan, tools),
        model_verbosity: (settings && settings.verbosity) || opts.model_verbosity,
        file_search: if(search, do: merged(opts.file_search, search), else: opts.file_search)
    }
  end

  # They tell the tokens of a response that a call of a tool ends.
  defp raw_events(%{base: %{transport: {_app_server, _}}}, [_ | _]), do: true
  defp raw_events(_plan, _tools), do: nil

  defp merged(own, search), do: Map.merge(Map.new(own || %{}), search)

  defp settings(plan),
    do: ModelSettings.merge(plan.agent.model_settings, plan.config.model_settings)

  # Options of the call win.
  defp turn_opts(plan) do
    settings = settings(plan) || %ModelSettings{}

    own = %{
      model: plan.config.model || plan.agent.model,
      reasoning_effort: settings.effort,
      model_reasoning_summary: settings.summary
    }

    own |> Map.reject(fn {_, value} -> value == nil end) |> Map.merge(plan.turn_opts)
  end

  defp tokens(plan, run), do: List.wrap(plan.token) ++ if(run, do: [run.token], else: [])
end
