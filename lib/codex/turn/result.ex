defmodule Codex.Turn.Result do
  @moduledoc """
  The result of a turn. `to_string/1` returns the text of the answer, `inspect/1` shows the answer,
  usage and counts; `Map.from_struct/1` has everything.

    * `thread` - the thread after the turn: run the next turn with it
    * `events` - the events of the turn, in order
    * `events_dropped` - how many events are not among them, because the turn had more than the
      options `max_events` and `max_event_bytes` keep. All other fields count every event
    * `final_response` - the answer, a `Codex.Items.AgentMessage`, or nil: the last message of the
      phase `"final_answer"`. If no message has that phase, the last message; `codex exec`
      reports no phases. With an output schema its `parsed` is decoded
    * `warnings` - texts of the CLI that do not fail the turn, each once: unknown settings,
      deprecations, MCP servers that did not start, output that was dropped. In the
      events, a warning is a `Codex.Events.ItemCompleted` with a `Codex.Items.Error`
    * `children` - the sub-agents of the turn, as `Codex.Turn.Child`: model, effort, status, answer;
      with the option `children: true` over an app-server also tokens
    * `usage` - tokens, by the names of the CLI (`"input_tokens"`, `"output_tokens"`, …; over an
      app-server also `"total_tokens"`), or nil if none were reported
    * `usage_scope` - `:turn` if `usage` is this turn's. `:thread` if it is the running total of the
      thread, because the earlier usage is not known (on `codex exec`, the first turn of a resumed
      thread). `codex exec` reports totals only; `thread.usage` keeps the last one. A failed turn
      reports nothing, so its tokens count with the next turn.
    * `raw` - a map with `:events`, `:structured_output?`, `:pruned?`, `:tool_outputs`,
      `:tool_failures`. With the option `keep: [:raw]` also `:json`, the lines of JSON of the turn,
      and `:json_truncated?`, true if the turn had more than 8 MiB of them. Over an app-server these
      are the notifications of the turn. With `keep: [:stderr]` also `:stderr`, the newest bytes
      that the process wrote there; over an app-server they are of all its threads
    * `attempts` - the number of runs
    * `repairs` - the number of these that asked for a corrected answer (option `repair`)
    * `blocked` - how many actions hooks refused: each is a `Codex.Items.HookBlocked` in the events
    * `redacted` - with the option `redact` the number of masked places, in `:outputs` of tools that
      the model read, and in `:events` of the turn; otherwise nil
    * `mirror` - with the option `session_store` the `Codex.SessionStore.Status` at the end of the
      turn, otherwise nil. If the store lacks lines, a warning says so
    * `schema` - the option `output` of the turn, in the form that `output/1` reads, or nil
    * `last_agent` - the `Codex.Agent` that answered, of `Codex.AgentRunner`; otherwise nil
    * `review` - the `Codex.Review` of `Codex.Thread.review/3`
    * `last_response_id` - the provider's id of the last response: over an app-server with
      `experimental_raw_events: true`, otherwise nil. The CLI itself keeps the conversation, so no
      request needs this id
  """

  alias Codex.JSON.Answer
  alias Codex.Schema.Decoder

  @enforce_keys [:thread, :events]
  defstruct [
    :thread,
    :events,
    :final_response,
    :usage,
    :last_response_id,
    :review,
    :schema,
    :last_agent,
    usage_scope: :turn,
    events_dropped: 0,
    warnings: [],
    children: [],
    raw: %{},
    attempts: 1,
    repairs: 0,
    blocked: 0,
    redacted: nil,
    mirror: nil
  ]

  @typedoc "The result of a turn. Fields: see above."
  @type t :: %__MODULE__{
          thread: struct(),
          events: [Codex.Events.t()],
          events_dropped: non_neg_integer(),
          final_response: Codex.Items.AgentMessage.t() | nil,
          usage: map() | nil,
          usage_scope: :turn | :thread,
          warnings: [String.t()],
          children: [Codex.Turn.Child.t()],
          raw: map(),
          attempts: pos_integer(),
          repairs: non_neg_integer(),
          blocked: non_neg_integer(),
          redacted: %{outputs: non_neg_integer(), events: non_neg_integer()} | nil,
          mirror: Codex.SessionStore.Status.t() | nil,
          schema: map() | nil,
          review: Codex.Review.t() | nil,
          last_agent: struct() | nil,
          last_response_id: String.t() | nil
        }

  @doc """
  Decodes the answer of a turn that had an output schema.

  A Markdown fence that encloses the whole answer, a byte order mark and blanks around the document
  are taken off first; the text in `final_response` keeps them.

  Errors: `{:invalid_json, {reason, offset}}` if the answer is not one JSON document,
  `:not_structured` if the turn had no schema or no answer.
  """
  @spec json(t()) ::
          {:ok, term()} | {:error, {:invalid_json, {atom(), non_neg_integer()}} | :not_structured}
  def json(%__MODULE__{raw: %{structured_output?: true}, final_response: %{text: text}})
      when is_binary(text) do
    with {:error, reason} <- Answer.decode(text), do: {:error, {:invalid_json, reason}}
  end

  def json(%__MODULE__{}), do: {:error, :not_structured}

  @doc """
  Decodes the answer of a turn with the option `output`, as `Codex.Schema.decode/2` does.

      {:ok, result} = Codex.Thread.run(thread, "Which city?", output: [city: :string])
      {:ok, %{city: city}} = Codex.Turn.Result.output(result)

  Errors: `{:invalid_output, faults}` with the path and a message of each fault if the answer does
  not fit the schema or is missing, `:not_structured` if the turn had no option `output`.
  """
  @spec output(t()) ::
          {:ok, term()}
          | {:error, {:invalid_output, [Codex.Schema.fault(), ...]} | :not_structured}
  def output(%__MODULE__{schema: nil}), do: {:error, :not_structured}

  def output(%__MODULE__{schema: schema, final_response: %{text: text}}) when is_binary(text),
    do: Decoder.decode(schema, text)

  def output(%__MODULE__{}), do: {:error, {:invalid_output, [%{path: [], message: "is missing"}]}}

  defimpl Inspect do
    def inspect(result, opts) do
      fields = [
        final_response: result.final_response,
        review: result.review,
        thread_id: Map.get(result.thread, :thread_id),
        usage: result.usage,
        usage_scope: if(result.usage_scope != :turn, do: result.usage_scope),
        warnings: result.warnings,
        children: result.children,
        events: length(result.events),
        events_dropped: if(result.events_dropped > 0, do: result.events_dropped),
        attempts: result.attempts,
        repairs: if(result.repairs > 0, do: result.repairs),
        blocked: if(result.blocked > 0, do: result.blocked),
        redacted: result.redacted,
        mirror: result.mirror && result.mirror.state,
        last_agent: result.last_agent && result.last_agent.name,
        last_response_id: result.last_response_id
      ]

      Codex.ShortInspect.fields(Codex.Turn.Result, fields, opts)
    end
  end

  defimpl String.Chars do
    def to_string(%{final_response: %Codex.Items.AgentMessage{} = message}), do: "#{message}"
    def to_string(_result), do: ""
  end
end
