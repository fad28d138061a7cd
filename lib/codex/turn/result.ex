defmodule Codex.Turn.Result do
  @moduledoc """
  What a turn came to.

    * `thread` - the thread as it is now: run the next turn with it
    * `events` - the events of the turn, in order
    * `events_dropped` - how many events are not among them, because the turn had more than the options `max_events` and
      `max_event_bytes` keep. It is 0 where `events` has all of them; all other fields count every event
    * `final_response` - the last `Codex.Items.AgentMessage`, or nil; with an output schema its `parsed` is decoded
    * `usage` - tokens, by the names of the CLI (`"input_tokens"`, `"output_tokens"`, …), or nil where none were reported
    * `usage_scope` - `:turn`: `usage` is this turn's. `:thread`: it is the running total of the thread, because what was
      used before this run is not known (on `codex exec`, the first turn of a resumed thread). That lane reports totals only; `thread.usage`
      keeps the last one. A turn that failed in between reported nothing: its tokens count with the next one.
    * `raw` - a map with `:events`, `:structured_output?`, `:pruned?`, `:tool_outputs`, `:tool_failures`
    * `attempts` - how many runs it took
    * `review` - of `Codex.Thread.review/3` what it found, a `Codex.Review`
    * `last_response_id` - the provider's id of the last response: over an app-server with `experimental_raw_events: true`, else nil (0.169). There is
      nothing to chain by it: the CLI keeps the conversation and sends all of it
  """

  @enforce_keys [:thread, :events]
  defstruct [
    :thread,
    :events,
    :final_response,
    :usage,
    :last_response_id,
    :review,
    usage_scope: :turn,
    events_dropped: 0,
    raw: %{},
    attempts: 1
  ]

  @type t :: %__MODULE__{
          thread: struct(),
          events: [Codex.Events.t()],
          events_dropped: non_neg_integer(),
          final_response: Codex.Items.AgentMessage.t() | nil,
          usage: map() | nil,
          usage_scope: :turn | :thread,
          raw: map(),
          attempts: pos_integer(),
          review: Codex.Review.t() | nil,
          last_response_id: String.t() | nil
        }

  @doc """
  The answer of a turn that had an output schema, decoded.

  Errors: `{:invalid_json, {reason, offset}}` where the answer is not JSON, `:not_structured` where no schema was given or
  nothing was answered.
  """
  @spec json(t()) ::
          {:ok, term()} | {:error, {:invalid_json, {atom(), non_neg_integer()}} | :not_structured}
  def json(%__MODULE__{raw: %{structured_output?: true}, final_response: %{text: text}})
      when is_binary(text) do
    with {:error, reason} <- Codex.JSON.decode(text), do: {:error, {:invalid_json, reason}}
  end

  def json(%__MODULE__{}), do: {:error, :not_structured}
end
