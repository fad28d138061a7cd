defmodule Codex.Wire.Events do
  @moduledoc false
  # The events, once: `Codex.Events` makes the structs, `parse!/1` and `to_map/1` from it, and the NIF its decoder.
  #
  # A row: module, wire types of the JSONL lane (`to_map/1` writes the first; a type may fix fields), notification of the
  # app-server lane, documentation, fields. A field: name, Elixir type, then
  #
  #   * `required: true` - without it the line does not count as this event
  #   * `enforce: true`  - must be given when the struct is built by hand; `default` fills in when it is read
  #   * `default:`       - instead of nil; `omit: true` leaves it out of `to_map/1` while it has that value
  #   * `also:`          - other spellings on the wire
  #   * `or:`            - another field of the wire that stands in when this one is missing
  #   * `kind:`          - `:item`, `{:enum, name}` or `{:records, name}`; JSON as it stands without
  #     one. `:plan` is JSON as it stands, too, and written as records are

  @ids [
    {:thread_id, "String.t() | nil", also: ["threadId"]},
    {:turn_id, "String.t() | nil", also: ["turnId"]}
  ]
  @item {:item, "Codex.Items.t()", required: true, kind: :item}
  @raw_item {:item, "map()", enforce: true, default: %{}}
  @item_id {:item_id, "String.t()", required: true}
  @delta {:delta, "String.t()", enforce: true, default: ""}

  @rows [
    {ThreadStarted, ["thread.started"], "thread/started",
     "The thread exists; its id is what `Codex.resume_thread/3` takes. The first event of a run.",
     [
       {:thread_id, "String.t()", required: true, also: ["threadId"]},
       {:metadata, "map()", default: %{}, omit: true}
     ]},
    {TurnStarted, ["turn.started"], "turn/started", "The model was asked.", @ids},
    {TurnContinuation, ["turn.continuation"], nil,
     "The turn goes on in another run. Not sent by CLI 0.169.",
     [
       {:thread_id, "String.t()", required: true, also: ["threadId"]},
       {:turn_id, "String.t()", required: true, also: ["turnId"]},
       {:continuation_token, "String.t()", required: true},
       {:retryable, "boolean()", default: false},
       {:reason, "String.t() | nil", []}
     ]},
    {TurnCompleted, ["turn.completed"], "turn/completed",
     "The turn ended. `usage_scope` tells what `usage` counts: `:turn` over an app-server, `:thread` on `codex exec`, whose usage is the thread's running total. `Codex.Turn.Result` has both. The times are in Unix seconds; `codex exec` (0.169) sends none.",
     @ids ++
       [
         {:response_id, "String.t() | nil", []},
         {:final_response, "map() | Codex.Items.AgentMessage.t() | nil", []},
         {:usage, "map() | nil", []},
         {:usage_scope, ":thread | :turn", default: :thread, wire: false},
         {:status, "String.t() | nil", []},
         {:error, "map() | nil", []},
         {:started_at, "integer() | nil", also: ["startedAt"]},
         {:completed_at, "integer() | nil", also: ["completedAt"]},
         {:duration_ms, "non_neg_integer() | nil", also: ["durationMs"]}
       ]},
    {TurnFailed, ["turn.failed"], nil,
     "The turn ended with an error; its text is `error[\"message\"]`.",
     [{:error, "map()", enforce: true, default: %{}} | @ids]},
    {ThreadTokenUsageUpdated, ["thread/tokenUsage/updated", "thread.tokenUsage.updated"],
     "thread/tokenUsage/updated", "Tokens of the thread so far, and of the last response.",
     [
       {:usage, "map()", enforce: true, default: %{}, or: "token_usage"},
       {:delta, "map() | nil", or: "usage_delta"} | @ids
     ]},
    {TurnDiffUpdated, ["turn/diff/updated", "turn.diff.updated"], "turn/diff/updated",
     "The diff of the turn so far, whole each time.",
     [{:diff, "String.t() | map()", enforce: true, default: "", or: "delta"} | @ids]},
    {TurnPlanUpdated, ["turn/plan/updated", "turn.plan.updated"], "turn/plan/updated",
     "The plan, whole each time: over an app-server `%{step: text, status: :pending | :in_progress | :completed}` each. Not sent by `codex exec` 0.169.",
     [
       {:plan, "[map()]", enforce: true, default: [], kind: :plan},
       {:explanation, "String.t() | nil", []} | @ids
     ]},
    {TurnCompaction,
     [
       {"turn/compaction/completed", stage: :completed},
       {"turn/compaction/started", stage: :started},
       {"turn/compaction/failed", stage: :failed},
       {"turn.compaction.completed", stage: :completed},
       {"turn.compaction.started", stage: :started},
       {"turn.compaction.failed", stage: :failed}
     ], "thread/compacted",
     "The history was made shorter. A stage that is not one of the three atoms is kept as the text that was sent.",
     [
       {:compaction, "map()", enforce: true, default: %{}},
       {:stage, ":started | :completed | :failed | String.t()", enforce: true, wire: false} | @ids
     ]},
    {ItemStarted, ["item.started"], "item/started",
     "An item began: a command runs, a tool was called.", [@item | @ids]},
    {ItemUpdated, ["item.updated"], nil,
     "An item changed before it ended (the plan, on CLI 0.169).", [@item | @ids]},
    {ItemCompleted, ["item.completed"], "item/completed",
     "An item ended; messages and reasoning arrive whole, here only.", [@item | @ids]},
    {ItemAgentMessageDelta, ["item.agent_message.delta"], "item/agentMessage/delta",
     "A piece of a message: `item` has `\"id\"`, `\"type\"` and, of the piece, `\"text\"`. Not sent by `codex exec` 0.169.",
     [@raw_item | @ids]},
    {ItemInputTextDelta, ["item.input_text.delta"], nil,
     "A piece of an input text. Not sent by `codex exec` 0.169.", [@raw_item | @ids]},
    {CommandOutputDelta, ["item/commandExecution/outputDelta"],
     "item/commandExecution/outputDelta", "A piece of a command's output.",
     [@item_id, @delta | @ids]},
    {FileChangeOutputDelta, ["item/fileChange/outputDelta"], "item/fileChange/outputDelta",
     "A piece of what applying a patch prints.", [@item_id, @delta | @ids]},
    {TerminalInteraction, ["item/commandExecution/terminalInteraction"],
     "item/commandExecution/terminalInteraction", "Input was typed into a running command.",
     [@item_id, {:process_id, "String.t() | nil", []}, {:stdin, "String.t()", default: ""} | @ids]},
    {ReasoningDelta, ["item/reasoning/textDelta"], "item/reasoning/textDelta",
     "A piece of raw reasoning.",
     [@item_id, @delta, {:content_index, "integer() | nil", []} | @ids]},
    {ReasoningSummaryDelta, ["item/reasoning/summaryTextDelta"],
     "item/reasoning/summaryTextDelta", "A piece of a reasoning summary.",
     [@item_id, @delta, {:summary_index, "integer() | nil", []} | @ids]},
    {ReasoningSummaryPartAdded, ["item/reasoning/summaryPartAdded"],
     "item/reasoning/summaryPartAdded", "A new part of a reasoning summary begins.",
     [@item_id, {:summary_index, "integer()", required: true} | @ids]},
    {McpToolCallProgress, ["item/mcpToolCall/progress"], "item/mcpToolCall/progress",
     "An MCP tool tells how far it is.",
     [@item_id, {:message, "String.t()", enforce: true, default: ""} | @ids]},
    {McpServerOauthLoginCompleted, ["mcpServer/oauthLogin/completed"],
     "mcpServer/oauthLogin/completed", "A login to an MCP server ended.",
     [
       {:name, "String.t()", required: true},
       {:success, "boolean()", enforce: true, default: false},
       {:error, "String.t() | nil", []}
     ]},
    {AccountUpdated, ["account/updated"], "account/updated", "The way of authentication changed.",
     [
       {:auth_mode, "String.t() | nil", also: ["authMode"]},
       {:plan_type, "String.t() | nil", also: ["planType"]}
     ]},
    {AccountLoginCompleted, ["account/login/completed"], "account/login/completed",
     "A login ended.",
     [
       {:success, "boolean()", enforce: true, default: false},
       {:login_id, "String.t() | nil", also: ["loginId"]},
       {:error, "String.t() | nil", []}
     ]},
    {AccountRateLimitsUpdated, ["account/rateLimits/updated"], "account/rateLimits/updated",
     "How much of the account's limits is used.",
     [{:rate_limits, "map()", enforce: true, default: %{}, also: ["rateLimits"]} | @ids]},
    {WindowsWorldWritableWarning, ["windows/worldWritableWarning"],
     "windows/worldWritableWarning", "Folders that anybody may write to.",
     [
       {:sample_paths, "[String.t()]", enforce: true, default: []},
       {:extra_count, "non_neg_integer()", enforce: true, default: 0},
       {:failed_scan, "boolean()", enforce: true, default: false}
     ]},
    {DeprecationNotice, ["deprecationNotice"], "deprecationNotice",
     "Something that was used will go away.",
     [{:summary, "String.t()", enforce: true, default: ""}, {:details, "String.t() | nil", []}]},
    {RawResponseItemCompleted, ["rawResponseItem/completed", "rawResponseItem.completed"],
     "rawResponseItem/completed",
     "An item as the model sent it; see `Codex.Items.parse_raw_response_item/1`.",
     [{:item, "Codex.Items.t() | map()", enforce: true, default: %{}, kind: :raw_item} | @ids]},
    {Error, ["error"], "error",
     "Something went wrong. It does not end the turn: the CLI also announces retries this way, and a failed turn sends its message here and again in `TurnFailed`.",
     [
       {:message, "String.t()", enforce: true, default: ""},
       {:additional_details, "term()", also: ["additionalDetails"]},
       {:codex_error_info, "term()", also: ["codexErrorInfo"]},
       {:will_retry, "boolean() | nil", also: ["willRetry"]} | @ids
     ]},
    {ToolCallRequested, ["tool.call.required"], nil,
     "A tool of the host is to run. Not sent by CLI 0.169.",
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
    {ToolCallCompleted, ["tool.call.completed"], nil,
     "A tool of the host ran. Not sent by CLI 0.169.",
     [
       {:thread_id, "String.t()", required: true, also: ["threadId"]},
       {:turn_id, "String.t()", required: true, also: ["turnId"]},
       {:call_id, "String.t()", required: true},
       {:tool_name, "String.t()", required: true},
       {:output, "term()", enforce: true, default: %{}}
     ]}
  ]

  def rows, do: @rows
end
