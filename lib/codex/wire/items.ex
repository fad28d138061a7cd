defmodule Codex.Wire.Items do
  @moduledoc false
  # The items, once. Rows and fields as in `Codex.Wire.Events`; here the fourth column is the wire type of the
  # app-server lane, and `type` is an atom made from the JSONL type.

  @status {:status, ":in_progress | :completed | :failed | :declined | String.t()",
           default: :in_progress, kind: {:enum, :status}}

  @rows [
    {AgentMessage, ["agent_message"], "agentMessage",
     "A message of the agent. A turn may have several. `phase` is `\"final_answer\"` or `\"commentary\"`, or nil if the server names none, as on `codex exec` (0.169). If the turn has an output schema, `parsed` is the decoded text. `to_string/1` returns the text.",
     [
       {:text, "String.t()", enforce: true, default: ""},
       {:phase, "String.t() | nil", []},
       {:parsed, "term()", wire: false}
     ]},
    {Reasoning, ["reasoning"], "reasoning",
     "A summary of what the model thought. The raw reasoning is never sent.",
     [
       {:text, "String.t()", enforce: true},
       {:summary, "[String.t()]", default: [], omit: true},
       {:content, "[String.t()]", default: [], omit: true}
     ]},
    {CommandExecution, ["command_execution"], "commandExecution",
     "A command that ran: stdout and stderr merged, at most 1 MiB of it. `exit_code` is nil while it runs; another exit code than 0 makes the status `:failed`. A command that the sandbox denied has no item.",
     [
       {:command, "String.t()", required: true},
       {:cwd, "String.t() | nil", []},
       {:process_id, "String.t() | nil", []},
       {:command_actions, "[map()]", default: [], omit: true},
       {:aggregated_output, "String.t()", default: ""},
       {:exit_code, "integer() | nil", []},
       @status,
       {:duration_ms, "non_neg_integer() | nil", []}
     ]},
    {FileChange, ["file_change"], "fileChange",
     "Files that were written: `%{path: absolute, kind: :add | :update | :delete, diff: nil, move_path: nil}` each. A move shows as an update of the old path; `codex exec` sends no diff.",
     [
       {:changes, "[map()]", enforce: true, default: [], kind: {:records, :change}},
       {:status, ":in_progress | :completed | :failed | :declined | String.t()",
        enforce: true, default: :completed, kind: {:enum, :status}}
     ]},
    {McpToolCall, ["mcp_tool_call"], "mcpToolCall",
     "A call of an MCP tool. A tool that reports an error has status `:failed` with `result` set; a call that did not work has `error`. `mcp_app_resource_uri` names the user interface that the tool brings (MCP Apps), app-server only.",
     [
       {:server, "String.t()", required: true},
       {:tool, "String.t()", required: true},
       {:arguments, "term()", []},
       {:result, "map() | nil", []},
       {:error, "map() | nil", []},
       @status,
       {:duration_ms, "non_neg_integer() | nil", []},
       {:mcp_app_resource_uri, "String.t() | nil", []}
     ]},
    {DynamicToolCall, ["dynamic_tool_call"], "dynamicToolCall",
     "A call of a tool of the host (`Codex.Tool`). `content_items` and `success` are what it answered, nil while it runs. App-server only.",
     [
       {:tool, "String.t()", required: true},
       {:namespace, "String.t() | nil", []},
       {:arguments, "term()", []},
       {:content_items, "[map()] | nil", []},
       {:success, "boolean() | nil", []},
       @status,
       {:duration_ms, "non_neg_integer() | nil", []}
     ]},
    {CollabToolCall, ["collab_tool_call"], "collabAgentToolCall",
     "A call that starts or steers another agent (`spawn_agent`, `wait`, `send_input`, `close_agent`); `agents_states` has the state of each by thread id. What the other agent does is not in the stream, nor are its tokens in the usage.",
     [
       {:tool, "String.t()", required: true},
       {:sender_thread_id, "String.t() | nil", []},
       {:receiver_thread_ids, "[String.t()]", default: []},
       {:prompt, "String.t() | nil", []},
       {:agents_states, "map()", default: %{}},
       @status
     ]},
    {UserMessage, ["user_message"], "userMessage", "What the user said.",
     [{:content, "[map()]", enforce: true, default: []}]},
    {ImageView, ["image_view"], "imageView", "The agent looked at an image.",
     [{:path, "String.t()", required: true}]},
    {Plan, ["plan"], "plan",
     "What the agent proposes in plan mode; its message comes without it. App-server only.",
     [{:text, "String.t()", enforce: true, default: ""}]},
    {ContextCompaction, ["context_compaction"], "contextCompaction",
     "The server sums up the conversation to make room. App-server only.", []},
    {ReviewMode, ["review_mode"], nil, "A review began or ended.",
     [{:entered, "boolean()", default: true}, {:review, "String.t()", enforce: true, default: ""}]},
    {WebSearch, ["web_search"], "webSearch",
     "A web search. `action` tells what was done: `%{\"type\" => \"search\" | \"open_page\" | \"find_in_page\" | \"other\", …}`. CLI 0.169 sends the key `id` twice; the last one, the model's, is kept.",
     [{:query, "String.t()", enforce: true, default: ""}, {:action, "map() | nil", []}]},
    {TodoList, ["todo_list"], nil, "The agent's plan: `%{text: text, completed: boolean}` each.",
     [{:items, "[map()]", enforce: true, default: [], kind: {:records, :todo}}]},
    {Error, ["error"], nil,
     "A warning: unknown settings, deprecations, fallbacks. It does not fail the turn.",
     [{:message, "String.t()", enforce: true, default: ""}]},
    {GhostSnapshot, ["ghost_snapshot"], nil,
     "A snapshot of the work tree; only as a raw response item.",
     [{:ghost_commit, "map()", enforce: true, default: %{}, also: ["ghostCommit"]}]},
    {Compaction, ["compaction", "compaction_summary"], nil,
     "A compacted history; only as a raw response item.",
     [{:encrypted_content, "String.t()", enforce: true, default: "", also: ["encryptedContent"]}]}
  ]

  @enums [
    status: ~w(in_progress completed failed declined)a,
    change_kind: ~w(add update delete)a
  ]

  # Maps with atom keys inside items; all keys are always there.
  @records [
    change: [path: nil, kind: :change_kind, diff: nil, move_path: nil],
    todo: [text: nil, completed: nil]
  ]

  def rows, do: @rows
  def enums, do: @enums
  def records, do: @records
end
