defmodule Codex.Events.Rows do
  @moduledoc false
  # The table of events: one row a struct, one column a dialect. `Codex.Events.Schema` reads it.
  #
  # A row: module, wire types by dialect, documentation, fields. Dialects:
  #
  #   * `exec:` - lines of `codex exec --json`. `Codex.Events.to_map/1` writes the first type.
  #   * `app:`  - notifications of the app-server. A row for these alone has `name:`, the type in
  #     maps of `parse!/1` and `to_map/1`.
  #   * `rollout:` - payloads of events in rollout files, as the last generation of the CLI writes
  #     them.
  #
  # `Codex.Events.Schema` adds rows and fields for the rest of the app-server's protocol.
  #
  # A type is a text, or `{text, opts}`: values of fields that the type fixes, and
  #
  #   * `when: {path, text}` - the type selects this row only if the path holds that text
  #   * `whole: name`        - an object that paths lead into also stays in `extra`
  #   * `drop: name`         - such an object leaves nothing in `extra`; by default the members that
  #     no path names do
  #   * `known: names`       - members that `Codex.AppServer.EventDecoder` reads itself
  #
  # A field: name, Elixir type, then
  #
  #   * `required: true` - without it the line or notification is not this event
  #   * `enforce: true`  - must be given when the struct is built by hand; `default` fills in when
  #     it is read
  #   * `default:`       - instead of nil; `omit: true` leaves it out of `to_map/1` at that value
  #   * `also:`          - other spellings on the wire; `wire: false` for a field that is not sent
  #   * `or:`            - another field of the wire that stands in if this one is missing
  #   * `kind:`          - `:item`, `{:enum, name}` or `{:records, name}`; JSON as it stands without
  #     one. `:plan` is JSON as it stands, too, and written as records are
  #   * `app:`           - the paths in a notification, best first, instead of the name in camel
  #     case; a dot leads into an object
  #   * `exec: false`    - the exec dialect does not have the field
  #   * `doc:`           - the meaning, if the name does not tell it
  #   * `app_kind:`      - the kind there: one of those, `:word` (a word in camel case), `:counts`
  #     (an object of integers) or `{:object, name}` (members of these names are converted)
  #   * `rollout:`       - the paths in a rollout, instead of the name
  #   * `rollout_kind:`  - the kind there: one of those, `:text` (a list of objects with a text),
  #     `:command` (a list of words), `:place` (the URL of a file), `:millis` (an object of seconds
  #     and nanoseconds), `{:changes, name}` (an object of changes by path) or `:states` (an object
  #     of states of agents)

  @ids [
    {:thread_id, "String.t() | nil", also: ["threadId"]},
    {:turn_id, "String.t() | nil", also: ["turnId"]}
  ]
  @ids_of_turn [
    {:thread_id, "String.t() | nil", also: ["threadId"]},
    {:turn_id, "String.t() | nil", also: ["turnId"], app: ["turnId", "turn_id", "turn.id"]}
  ]
  @item {:item, "Codex.Items.t()", required: true, kind: :item}
  @raw_item {:item, "map()", enforce: true, default: %{}}
  @item_id {:item_id, "String.t()", required: true}
  @delta {:delta, "String.t()", enforce: true, default: ""}

  @rows [
    {ThreadStarted, [exec: "thread.started", app: {"thread/started", known: "thread"}],
     """
     The thread exists; its id is the argument of `Codex.resume_thread/3`. The first event of a
     run.
     """,
     [
       {:thread_id, "String.t()", required: true, also: ["threadId"]},
       {:metadata, "map()", default: %{}, omit: true}
     ]},
    {TurnStarted,
     [exec: "turn.started", app: {"turn/started", drop: "turn"}, rollout: "task_started"],
     "The model was asked.", @ids_of_turn},
    {TurnContinuation, [exec: "turn.continuation"],
     "The turn goes on in another run. Not sent by today's CLI.",
     [
       {:thread_id, "String.t()", required: true, also: ["threadId"]},
       {:turn_id, "String.t()", required: true, also: ["turnId"]},
       {:continuation_token, "String.t()", required: true},
       {:retryable, "boolean()", default: false},
       {:reason, "String.t() | nil", []}
     ]},
    {TurnCompleted,
     [
       exec: "turn.completed",
       app: {"turn/completed", whole: "turn"},
       rollout: ["task_complete", "turn_aborted"]
     ],
     """
     The turn ended. `usage_scope` is the scope of `usage`: `:turn` over an app-server, `:thread` on
     `codex exec`, whose usage is the thread's running total. `Codex.Turn.Result` has both. The
     times are in Unix seconds; `codex exec` sends none.
     """,
     @ids_of_turn ++
       [
         {:response_id, "String.t() | nil", []},
         {:final_response, "map() | Codex.Items.AgentMessage.t() | nil", []},
         {:usage, "map() | nil", []},
         {:usage_scope, ":thread | :turn", default: :thread, wire: false},
         {:status, "String.t() | nil", app: "turn.status"},
         {:error, "map() | nil", []},
         {:started_at, "integer() | nil", also: ["startedAt"], app: "turn.startedAt"},
         {:completed_at, "integer() | nil", also: ["completedAt"], app: "turn.completedAt"},
         {:duration_ms, "non_neg_integer() | nil", also: ["durationMs"], app: "turn.durationMs"}
       ]},
    {TurnFailed,
     [
       exec: "turn.failed",
       app: {"turn/completed", when: {"turn.status", "failed"}, whole: "turn"}
     ], "The turn ended with an error; its text is `error[\"message\"]`.",
     [
       {:error, "map()", enforce: true, default: %{"message" => "turn failed"}, app: "turn.error"}
       | @ids_of_turn
     ]},
    {ThreadTokenUsageUpdated,
     [
       exec: ["thread/tokenUsage/updated", "thread.tokenUsage.updated"],
       app: "thread/tokenUsage/updated",
       rollout: "token_count"
     ],
     """
     Tokens of the thread so far, and of the last response. `model_context_window` is the most that
     the model takes.
     """,
     [
       {:model_context_window, "non_neg_integer() | nil",
        app: "tokenUsage.modelContextWindow", exec: false},
       {:usage, "map()",
        enforce: true,
        default: %{},
        or: "token_usage",
        app: "tokenUsage.total",
        app_kind: :counts,
        rollout: "info.total_token_usage"},
       {:delta, "map() | nil",
        or: "usage_delta",
        app: "tokenUsage.last",
        app_kind: :counts,
        rollout: "info.last_token_usage"}
       | @ids
     ]},
    {TurnDiffUpdated,
     [exec: ["turn/diff/updated", "turn.diff.updated"], app: "turn/diff/updated"],
     "The diff of the turn so far, whole each time.",
     [{:diff, "String.t() | map()", enforce: true, default: "", or: "delta"} | @ids]},
    {TurnPlanUpdated,
     [exec: ["turn/plan/updated", "turn.plan.updated"], app: "turn/plan/updated"],
     """
     The plan, whole each time: over an app-server, steps as
     `%{step: text, status: :pending | :in_progress | :completed}`. Not sent by `codex exec`.
     """,
     [
       {:plan, "[map()]", enforce: true, default: [], kind: :plan, app_kind: {:records, :step}},
       {:explanation, "String.t() | nil", []} | @ids
     ]},
    {TurnCompaction,
     [
       exec: [
         {"turn/compaction/completed", stage: :completed},
         {"turn/compaction/started", stage: :started},
         {"turn/compaction/failed", stage: :failed},
         {"turn.compaction.completed", stage: :completed},
         {"turn.compaction.started", stage: :started},
         {"turn.compaction.failed", stage: :failed}
       ],
       app: {"thread/compacted", stage: :completed},
       rollout: {"context_compacted", stage: :completed}
     ],
     """
     The history was made shorter. A stage other than the three atoms is the text that was sent.
     """,
     [
       {:compaction, "map()", enforce: true, default: %{}},
       {:stage, ":started | :completed | :failed | String.t()", enforce: true, wire: false}
       | @ids
     ]},
    {ItemStarted, [exec: "item.started", app: "item/started"],
     "An item began: a command runs, a tool was called.", [@item | @ids]},
    {ItemUpdated, [exec: "item.updated"],
     "An item changed before it ended. Today's CLI sends it for the plan.", [@item | @ids]},
    {ItemCompleted, [exec: "item.completed", app: "item/completed", rollout: "item_completed"],
     "An item ended. Messages and reasoning arrive whole in this event only.", [@item | @ids]},
    {ItemAgentMessageDelta,
     [
       exec: "item.agent_message.delta",
       app: {"item/agentMessage/delta", known: ["itemId", "delta"]}
     ],
     """
     A piece of a message: `item` has `"id"`, `"type"` and, of the piece, `"text"`. Not sent by
     `codex exec`.
     """, [@raw_item | @ids]},
    {ItemInputTextDelta, [exec: "item.input_text.delta"],
     "A piece of an input text. Not sent by today's CLI.", [@raw_item | @ids]},
    {CommandOutputDelta,
     [exec: "item/commandExecution/outputDelta", app: "item/commandExecution/outputDelta"],
     "A piece of a command's output.", [@item_id, @delta | @ids]},
    {FileChangeOutputDelta,
     [exec: "item/fileChange/outputDelta", app: "item/fileChange/outputDelta"],
     "A piece of the output of applying a patch.", [@item_id, @delta | @ids]},
    {TerminalInteraction,
     [
       exec: "item/commandExecution/terminalInteraction",
       app: "item/commandExecution/terminalInteraction"
     ], "Input was typed into a running command.",
     [@item_id, {:process_id, "String.t() | nil", []}, {:stdin, "String.t()", default: ""} | @ids]},
    {ReasoningDelta, [exec: "item/reasoning/textDelta", app: "item/reasoning/textDelta"],
     "A piece of raw reasoning.",
     [@item_id, @delta, {:content_index, "integer() | nil", []} | @ids]},
    {ReasoningSummaryDelta,
     [exec: "item/reasoning/summaryTextDelta", app: "item/reasoning/summaryTextDelta"],
     "A piece of a reasoning summary.",
     [@item_id, @delta, {:summary_index, "integer() | nil", []} | @ids]},
    {ReasoningSummaryPartAdded,
     [exec: "item/reasoning/summaryPartAdded", app: "item/reasoning/summaryPartAdded"],
     "A new part of a reasoning summary begins.",
     [@item_id, {:summary_index, "integer()", required: true} | @ids]},
    {McpToolCallProgress, [exec: "item/mcpToolCall/progress", app: "item/mcpToolCall/progress"],
     "Progress of a call of an MCP tool.",
     [@item_id, {:message, "String.t()", enforce: true, default: ""} | @ids]},
    {McpServerOauthLoginCompleted,
     [exec: "mcpServer/oauthLogin/completed", app: "mcpServer/oauthLogin/completed"],
     "A login to an MCP server ended.",
     [
       {:name, "String.t()", required: true},
       {:success, "boolean()", enforce: true, default: false},
       {:error, "String.t() | nil", []}
     ]},
    {AccountUpdated, [exec: "account/updated", app: "account/updated"],
     "The way of authentication changed.",
     [
       {:auth_mode, "String.t() | nil", also: ["authMode"]},
       {:plan_type, "String.t() | nil", also: ["planType"]}
     ]},
    {AccountLoginCompleted, [exec: "account/login/completed", app: "account/login/completed"],
     "A login ended.",
     [
       {:success, "boolean()", enforce: true, default: false},
       {:login_id, "String.t() | nil", also: ["loginId"]},
       {:error, "String.t() | nil", []}
     ]},
    {AccountRateLimitsUpdated,
     [exec: "account/rateLimits/updated", app: "account/rateLimits/updated"],
     "The used share of the account's limits.",
     [{:rate_limits, "map()", enforce: true, default: %{}, also: ["rateLimits"]} | @ids]},
    {WindowsWorldWritableWarning,
     [exec: "windows/worldWritableWarning", app: "windows/worldWritableWarning"],
     "Folders that every user may write to.",
     [
       {:sample_paths, "[String.t()]", enforce: true, default: []},
       {:extra_count, "non_neg_integer()", enforce: true, default: 0},
       {:failed_scan, "boolean()", enforce: true, default: false}
     ]},
    {DeprecationNotice, [exec: "deprecationNotice", app: "deprecationNotice"],
     "A feature or setting in use will be removed.",
     [{:summary, "String.t()", enforce: true, default: ""}, {:details, "String.t() | nil", []}]},
    {RawResponseItemCompleted,
     [
       exec: ["rawResponseItem/completed", "rawResponseItem.completed"],
       app: "rawResponseItem/completed"
     ], "An item as the model sent it; see `Codex.Items.parse_raw_response_item/1`.",
     [{:item, "Codex.Items.t() | map()", enforce: true, default: %{}, kind: :raw_item} | @ids]},
    {RawResponseCompleted, [name: "rawResponse/completed", app: "rawResponse/completed"],
     """
     The provider ended a response, with its id and tokens. Sent to threads with
     `experimental_raw_events: true`.
     """,
     [
       {:response_id, "String.t()", enforce: true, also: ["responseId"], exec: false},
       {:usage, "map() | nil", app_kind: :counts, exec: false},
       {:usage_metadata, "map() | nil", also: ["usageMetadata"], exec: false}
       | @ids
     ]},
    {Error, [exec: "error", app: "error"],
     """
     An error. It does not end the turn: the CLI also announces retries this way, and a failed turn
     sends its message here and again in `TurnFailed`.
     """,
     [
       {:message, "String.t()", enforce: true, default: "", app: ["error.message", "message"]},
       {:additional_details, "term()",
        also: ["additionalDetails"], app: ["error.additionalDetails", "additionalDetails"]},
       {:codex_error_info, "term()",
        also: ["codexErrorInfo"], app: ["error.codexErrorInfo", "codexErrorInfo"]},
       {:will_retry, "boolean() | nil", also: ["willRetry"]} | @ids
     ]},
    {ToolCallRequested, [exec: "tool.call.required"],
     "A tool of the host is to run. Not sent by today's CLI.",
     [
       {:thread_id, "String.t()", required: true, also: ["threadId"]},
       {:turn_id, "String.t()", required: true, also: ["turnId"]},
       {:call_id, "String.t()", required: true},
       {:tool_name, "String.t()", required: true},
       {:arguments, "term()", enforce: true, default: %{}},
       {:requires_approval, "boolean()", default: false},
       {:approved, "boolean() | nil", []},
       {:approved_by_policy, "boolean() | nil", []},
       {:sandbox_warnings, "[String.t()] | nil", or: "warnings"},
       {:capabilities, "term()", []}
     ]},
    {ToolCallCompleted, [exec: "tool.call.completed"],
     "A tool of the host ran. Not sent by today's CLI.",
     [
       {:thread_id, "String.t()", required: true, also: ["threadId"]},
       {:turn_id, "String.t()", required: true, also: ["turnId"]},
       {:call_id, "String.t()", required: true},
       {:tool_name, "String.t()", required: true},
       {:output, "term()", enforce: true, default: %{}}
     ]}
  ]

  @spec rows() :: [{module(), keyword(), String.t(), [tuple()]}]
  def rows, do: @rows
end
