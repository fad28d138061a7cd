defmodule Codex.Items.Rows do
  @moduledoc false
  # The table of items, in the form of `Codex.Events.Rows`. `type` of a struct is an atom made from
  # the first type of the exec dialect.

  @status {:status, ":in_progress | :completed | :failed | :declined | String.t()",
           default: :in_progress, kind: {:enum, :status}}

  @duration {:duration_ms, "non_neg_integer() | nil", rollout: "duration", rollout_kind: :millis}

  @rows [
    {AgentMessage, [exec: "agent_message", app: "agentMessage", rollout: "AgentMessage"],
     """
     A message of the agent. A turn may have several. `phase` is `"final_answer"` or
     `"commentary"`, or nil if the server names none, as `codex exec` does. If the turn has an
     output schema, `parsed` is the decoded text. `to_string/1` returns the text.
     """,
     [
       {:text, "String.t()",
        enforce: true, default: "", rollout: ["content", "text"], rollout_kind: :text},
       {:phase, "String.t() | nil", []},
       {:parsed, "term()", wire: false}
     ]},
    {Reasoning, [exec: "reasoning", app: "reasoning", rollout: "Reasoning"],
     "A summary of the model's reasoning. The raw reasoning is never sent.",
     [
       {:text, "String.t()", enforce: true},
       {:summary, "[String.t()]", default: [], omit: true, rollout: "summary_text"},
       {:content, "[String.t()]", default: [], omit: true, rollout: "raw_content"}
     ]},
    {CommandExecution,
     [exec: "command_execution", app: "commandExecution", rollout: "CommandExecution"],
     """
     A command that ran: stdout and stderr merged, at most 1 MiB of it. `exit_code` is nil while it
     runs; another exit code than 0 makes the status `:failed`. A command that the sandbox denied
     has no item.
     """,
     [
       {:command, "String.t()", required: true, rollout_kind: :command},
       {:cwd, "String.t() | nil", rollout_kind: :place},
       {:process_id, "String.t() | nil", []},
       {:command_actions, "[map()]", default: [], omit: true, rollout: "parsed_cmd"},
       {:aggregated_output, "String.t()", default: ""},
       {:exit_code, "integer() | nil", []},
       @status,
       @duration
     ]},
    {FileChange, [exec: "file_change", app: "fileChange", rollout: "FileChange"],
     """
     Files that were written, as
     `%{path: absolute, kind: :add | :update | :delete, diff: nil, move_path: nil}`. A move shows as
     an update of the old path; `codex exec` sends no diff.
     """,
     [
       {:changes, "[map()]",
        enforce: true, default: [], kind: {:records, :change}, rollout_kind: {:changes, :change}},
       {:status, ":in_progress | :completed | :failed | :declined | String.t()",
        enforce: true, default: :completed, kind: {:enum, :status}}
     ]},
    {McpToolCall, [exec: "mcp_tool_call", app: "mcpToolCall", rollout: "McpToolCall"],
     """
     A call of an MCP tool. A tool that reports an error has status `:failed` with `result` set; a
     call that did not work has `error`. `mcp_app_resource_uri` names the user interface that the
     tool brings (MCP Apps), app-server only.
     """,
     [
       {:server, "String.t()", required: true},
       {:tool, "String.t()", required: true},
       {:arguments, "term()", []},
       {:result, "map() | nil", app_kind: {:object, :mcp_result}},
       {:error, "map() | nil", []},
       @status,
       @duration,
       {:mcp_app_resource_uri, "String.t() | nil", []}
     ]},
    {DynamicToolCall,
     [exec: "dynamic_tool_call", app: "dynamicToolCall", rollout: "DynamicToolCall"],
     """
     A call of a tool of the host (`Codex.Tool`). `content_items` and `success` are its answer, nil
     while it runs. App-server only.
     """,
     [
       {:tool, "String.t()", required: true},
       {:namespace, "String.t() | nil", []},
       {:arguments, "term()", []},
       {:content_items, "[map()] | nil", []},
       {:success, "boolean() | nil", []},
       @status,
       @duration
     ]},
    {CollabToolCall,
     [exec: "collab_tool_call", app: "collabAgentToolCall", rollout: "CollabAgentToolCall"],
     """
     A call that starts or steers another agent (`spawn_agent`, `wait`, `send_input`,
     `close_agent`); `agents_states` has the state of each by thread id. The events of the other
     agent are in the stream with the option `children: true` only, and its tokens are not in the
     usage: see `Codex.Turn.Child`.
     """,
     [
       {:tool, "String.t()", required: true, app_kind: :word},
       {:sender_thread_id, "String.t() | nil", []},
       {:receiver_thread_ids, "[String.t()]", default: []},
       {:prompt, "String.t() | nil", []},
       {:agents_states, "map()", default: %{}, rollout_kind: :states},
       @status
     ]},
    {UserMessage, [exec: "user_message", app: "userMessage", rollout: "UserMessage"],
     "A message of the user.", [{:content, "[map()]", enforce: true, default: []}]},
    {ImageView, [exec: "image_view", app: "imageView", rollout: "ImageView"],
     "The agent looked at an image.", [{:path, "String.t()", required: true}]},
    {Plan, [exec: "plan", app: "plan", rollout: "Plan"],
     """
     The proposal of the agent in plan mode; its message comes without it. App-server only.
     """, [{:text, "String.t()", enforce: true, default: ""}]},
    {ContextCompaction,
     [exec: "context_compaction", app: "contextCompaction", rollout: "ContextCompaction"],
     "The server sums up the conversation to make room. App-server only.", []},
    {ReviewMode,
     [
       exec: "review_mode",
       app: [{"enteredReviewMode", entered: true}, {"exitedReviewMode", entered: false}],
       rollout: [{"EnteredReviewMode", entered: true}, {"ExitedReviewMode", entered: false}]
     ], "A review began or ended.",
     [
       {:entered, "boolean()", default: true},
       {:review, "String.t()",
        enforce: true,
        default: "",
        rollout: ["review", "user_facing_hint", "review_output.overall_explanation"]}
     ]},
    {WebSearch, [exec: "web_search", app: "webSearch", rollout: "WebSearch"],
     """
     A web search. `action` is
     `%{"type" => "search" | "open_page" | "find_in_page" | "other", …}`. `codex exec` sends the key
     `id` twice; the last value, the model's, is kept.
     """,
     [
       {:query, "String.t()", enforce: true, default: ""},
       {:action, "map() | nil", app_kind: {:object, :search_action}}
     ]},
    {TodoList, [exec: "todo_list"],
     "The agent's plan: `%{text: text, completed: boolean}` for each step.",
     [{:items, "[map()]", enforce: true, default: [], kind: {:records, :todo}}]},
    {Error, [exec: "error"],
     "A warning: unknown settings, deprecations, fallbacks. It does not fail the turn.",
     [{:message, "String.t()", enforce: true, default: ""}]},
    {GhostSnapshot, [exec: "ghost_snapshot"],
     "A snapshot of the work tree; only as a raw response item.",
     [{:ghost_commit, "map()", enforce: true, default: %{}, also: ["ghostCommit"]}]},
    {Compaction, [exec: ["compaction", "compaction_summary"]],
     "A compacted history; only as a raw response item.",
     [{:encrypted_content, "String.t()", enforce: true, default: "", also: ["encryptedContent"]}]}
  ]

  # Texts that become atoms.
  @enums [
    status: ~w(in_progress completed failed declined)a,
    change_kind: ~w(add update delete)a,
    step_status: ~w(pending in_progress completed)a,
    # Words of the app-server in camel case; they stay texts.
    word: []
  ]

  # Maps inside events and items. Keys that are atoms are always there; an object with text keys
  # keeps its other members as they are. A field: key, then `kind:`, and the paths by dialect.
  @records [
    change: [
      {:path, []},
      {:kind, kind: {:enum, :change_kind}, app: ["kind.type", "kind"]},
      {:diff, []},
      {:move_path, app: ["kind.move_path", "kind.movePath", "move_path", "movePath"]}
    ],
    todo: [{:text, []}, {:completed, []}],
    step: [{:step, []}, {:status, kind: {:enum, :step_status}}],
    mcp_result: [{"structured_content", []}],
    search_action: [{"type", kind: :word}]
  ]

  def rows, do: @rows
  def enums, do: @enums
  def records, do: @records
end
