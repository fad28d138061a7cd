defmodule Codex.Handoff do
  @moduledoc """
  The way from one agent to another in a run of `Codex.AgentRunner`.

  The model of an agent sees a host tool for each of its `handoffs`. When it calls the tool, its
  turn ends, and the other agent goes on in a thread of its own, with its own instructions and tools
  and the conversation so far (`thread/inject_items`). Needs an app-server with `experimental_api:
  true`.

      handoff =
        Codex.Handoff.wrap(refunds,
          input_schema: %{"type" => "object", "properties" => %{"reason" => %{"type" => "string"}}},
          on_invoke: fn _context, arguments -> Logger.info("refund: \#{arguments["reason"]}") end
        )

      {:ok, agent} = Codex.Agent.new(name: "front desk", handoffs: [handoff])
  """

  alias Codex.Agent.Rows
  alias Codex.Options.Schema

  defmodule InputData do
    @moduledoc """
    The conversation at a handoff, as response items of the provider: maps with `"type"` (such as
    `"message"`, `"function_call"`), for the `input_filter` of a handoff.

      * `input_history` - before the run
      * `pre_handoff_items` - the turn of the agent, without the handoff
      * `new_items` - the call of the handoff tool and its output
      * `run_context` - the value of `:tool_context` in the metadata of the thread
    """
    defstruct input_history: [], pre_handoff_items: [], new_items: [], run_context: %{}

    @typedoc "The conversation at a handoff. Fields: see above."
    @type t :: %__MODULE__{
            input_history: [map()],
            pre_handoff_items: [map()],
            new_items: [map()],
            run_context: term()
          }
  end

  @schema Rows.handoff()
  defstruct Enum.map(@schema.rows, &{&1.name, &1.default})

  @typedoc "A handoff. Fields are the options of `wrap/2`, and the agent."
  @type t :: %__MODULE__{
          agent: struct() | nil,
          tool_name: String.t() | nil,
          tool_description: String.t() | nil,
          on_invoke: function() | nil,
          input_schema: map(),
          input_filter: (InputData.t() -> InputData.t() | {:ok, InputData.t()}) | nil,
          nest_handoff_history: boolean() | nil,
          strict_json_schema: boolean(),
          is_enabled: boolean() | function()
        }

  @doc """
  Makes a handoff to an agent. Raises `Codex.OptionError`.

  #{Schema.docs(@schema)}

  The default of `tool_name` is `default_tool_name/1`, that of `tool_description` is
  `default_tool_description/1`.
  """
  @spec wrap(Codex.Agent.t() | t(), keyword() | map()) :: t()
  def wrap(agent, opts \\ [])
  def wrap(%__MODULE__{} = handoff, opts) when opts in [[], %{}], do: handoff

  def wrap(agent, opts) do
    pairs = Schema.pairs!(opts)
    set = Schema.validate!(@schema, [{:agent, agent} | pairs], &Rows.cast/2)

    struct(__MODULE__, %{
      set
      | tool_name: set.tool_name || default_tool_name(set.agent),
        tool_description: set.tool_description || default_tool_description(set.agent)
    })
  end

  @doc """
  Returns the name of the tool: `transfer_to_` and the name of the agent, in letters of the
  provider.

      iex> {:ok, agent} = Codex.Agent.new(name: "Front Desk!")
      iex> Codex.Handoff.default_tool_name(agent)
      "transfer_to_front_desk"
  """
  @spec default_tool_name(Codex.Agent.t()) :: String.t()
  def default_tool_name(%{name: name}) when is_binary(name) do
    word = name |> String.downcase() |> String.replace(~r/[^a-z0-9_-]+/, "_") |> String.trim("_")
    String.slice("transfer_to_" <> word, 0, 64)
  end

  @doc """
  Returns the description of the tool.

      iex> {:ok, agent} = Codex.Agent.new(name: "refunds", handoff_description: "decides refunds")
      iex> Codex.Handoff.default_tool_description(agent)
      "Hands the conversation over to the agent refunds: decides refunds"
  """
  @spec default_tool_description(Codex.Agent.t()) :: String.t()
  def default_tool_description(%{name: name} = agent) do
    about = if text = agent.handoff_description, do: ": " <> text, else: ""
    "Hands the conversation over to the agent #{name}#{about}"
  end

  @doc "Returns whether a handoff is enabled. A function that fails is logged, and disables it."
  @spec enabled?(t(), map(), Codex.Agent.t() | nil) :: boolean()
  def enabled?(%__MODULE__{is_enabled: enabled}, context \\ %{}, agent \\ nil)
      when is_map(context) do
    case enabled do
      fun when is_function(fun, 1) -> fun.(context) == true
      fun when is_function(fun, 2) -> fun.(context, agent) == true
      value -> value == true
    end
  catch
    kind, reason ->
      Codex.Approvals.Crash.log("is_enabled of a handoff", kind, reason, __STACKTRACE__)
      false
  end
end
