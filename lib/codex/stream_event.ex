defmodule Codex.StreamEvent do
  @moduledoc """
  The elements of `Codex.RunResultStreaming.events/1`.

  Their order: one `AgentUpdated`, a `RunItem` for every event, a `RawResponses` at the end of the
  turn.
  """

  defmodule RunItem do
    @moduledoc """
    An event of the turn. `type` is its category: `:thread_started`, `:turn_started`,
    `:turn_continuation`, `:turn_completed`, `:item_started`, `:item_updated`, `:item_completed`,
    `:item_delta`, `:tool_call`, `:tool_call_completed`, `:turn_diff`, `:turn_compaction`, `:usage`,
    or `:event` for all others.
    """
    @enforce_keys [:type, :event]
    defstruct [:type, :event]
    @typedoc "An event with its category."
    @type t :: %__MODULE__{type: atom(), event: Codex.Events.t()}
  end

  defmodule AgentUpdated do
    @moduledoc "The agent that runs; both fields are nil if no agent was given."
    defstruct [:agent, :run_config]
    @typedoc "The agent and its configuration."
    @type t :: %__MODULE__{agent: term(), run_config: term()}
  end

  defmodule RawResponses do
    @moduledoc """
    The end of a turn: its events, the number of dropped events, its usage (see
    `Codex.Turn.Result`), and the thread for the next turn.
    """
    @enforce_keys [:events, :usage]
    defstruct [:events, :usage, :thread, usage_scope: :turn, events_dropped: 0]

    @typedoc "The end of a turn. Fields: see above."
    @type t :: %__MODULE__{
            events: [Codex.Events.t()],
            usage: map() | nil,
            usage_scope: :turn | :thread,
            thread: Codex.Thread.t() | nil,
            events_dropped: non_neg_integer()
          }

    defimpl Inspect do
      def inspect(event, opts) do
        fields = [
          events: length(event.events),
          usage: event.usage,
          thread_id: event.thread && event.thread.thread_id
        ]

        Codex.ShortInspect.fields(Codex.StreamEvent.RawResponses, fields, opts)
      end
    end
  end

  defmodule GuardrailResult do
    @moduledoc "The result of a guardrail."
    @enforce_keys [:stage, :guardrail, :result]
    defstruct [:stage, :guardrail, :result, :message]

    @typedoc "The result of a guardrail."
    @type t :: %__MODULE__{
            stage: atom(),
            guardrail: String.t(),
            result: atom(),
            message: String.t() | nil
          }
  end

  defmodule ToolApproval do
    @moduledoc "The decision about a host tool."
    @enforce_keys [:tool_name, :call_id, :decision]
    defstruct [:tool_name, :call_id, :decision, :reason]

    @typedoc "A decision about a tool."
    @type t :: %__MODULE__{
            tool_name: String.t(),
            call_id: String.t(),
            decision: atom(),
            reason: term()
          }
  end

  @typedoc "Any of the elements."
  @type t ::
          RunItem.t()
          | AgentUpdated.t()
          | RawResponses.t()
          | GuardrailResult.t()
          | ToolApproval.t()

  alias Codex.Events

  @types %{
    Events.ThreadStarted => :thread_started,
    Events.TurnStarted => :turn_started,
    Events.TurnContinuation => :turn_continuation,
    Events.TurnCompleted => :turn_completed,
    Events.ItemStarted => :item_started,
    Events.ItemUpdated => :item_updated,
    Events.ItemCompleted => :item_completed,
    Events.ItemAgentMessageDelta => :item_delta,
    Events.ItemInputTextDelta => :item_delta,
    Events.ToolCallRequested => :tool_call,
    Events.ToolCallCompleted => :tool_call_completed,
    Events.TurnDiffUpdated => :turn_diff,
    Events.TurnCompaction => :turn_compaction,
    Events.ThreadTokenUsageUpdated => :usage
  }

  @doc false
  def run_item(%module{} = event),
    do: %RunItem{type: Map.get(@types, module, :event), event: event}
end
