defmodule Codex.Hooks.Table do
  @moduledoc false
  # The hook events of the CLI, as data: name, name in the configuration, struct, time of the call,
  # fields beside the common ones, and the answers with an effect. Every call of an event has all of
  # its fields: the CLI drops a hook, and goes on, if a field of its input is missing.

  @common [
    session_id: {"String.t()", "the thread of the first agent, also in sub-agents"},
    cwd: {"Path.t()", "the folder of the thread"},
    transcript_path: {"Path.t() | nil", "the session file; nil for an ephemeral thread"}
  ]

  @model [model: {"String.t()", "the model"}]
  @turn [turn_id: {"String.t()", "the turn"}] ++ @model
  @mode [
    permission_mode:
      {"String.t()",
       "`\"bypassPermissions\"` with full access and no approvals, else `\"default\"`"}
  ]
  @of_turn @turn ++ @mode

  @tool [
    tool_name:
      {"String.t()", "`\"Bash\"`, `\"apply_patch\"`, `\"mcp__server__tool\"`, or another name"},
    tool_input: {"map()", "the arguments; of `Bash` and `apply_patch` the key `\"command\"`"}
  ]

  @call @tool ++ [tool_use_id: {"String.t()", "the id of the call"}]

  @agent [
    agent_id: {"String.t()", "the thread of the sub-agent"},
    agent_type: {"String.t()", "its role"}
  ]

  @last [
    stop_hook_active: {"boolean()", "whether a hook has continued this turn before"},
    last_assistant_message: {"String.t() | nil", "the newest message"}
  ]

  @trigger [trigger: {"String.t()", "`\"manual\"` or `\"auto\"`"}]

  @rows [
    {:session_start, "SessionStart",
     "Before the first prompt of a thread, and again after a compaction. Not in a review.",
     @model ++
       @mode ++
       [source: {"String.t()", "`\"startup\"`, `\"resume\"`, `\"fork\"` or `\"compact\"`"}],
     [:allow, :deny, :context]},
    {:user_prompt_submit, "UserPromptSubmit",
     "Before each prompt, also that of a sub-agent and of a review.",
     @of_turn ++ [prompt: {"String.t()", "the prompt"}], [:allow, :deny, :context]},
    {:pre_model_request, "PreModelRequest",
     "Before each request to the model, which waits for the answer.", @turn, [:allow]},
    {:post_model_request, "PostModelRequest",
     "After each answer of the model, also one that failed.",
     @turn ++
       [
         status: {"String.t()", "`\"completed\"` or `\"failed\"`"},
         error: {"String.t() | nil", "the words of a failure"},
         token_usage: {"map() | nil", "the tokens of this request, by their names on the wire"}
       ], [:allow]},
    {:pre_tool_use, "PreToolUse",
     "Before each call of a tool. Not for `write_stdin`, `update_plan` and the search in the web.",
     @of_turn ++ @call, [:allow, :deny, :rewrite, :context]},
    {:permission_request, "PermissionRequest",
     "Before the CLI asks for an approval; `codex exec` never asks.", @of_turn ++ @tool,
     [:allow, :deny, :ask]},
    {:post_tool_use, "PostToolUse",
     "After a tool has finished, also if it failed. Not for a command that goes on running.",
     @of_turn ++
       @call ++
       [tool_response: {"term()", "the output: text, or the result of an MCP tool as a map"}],
     [:allow, :replace_output, :context]},
    {:pre_compact, "PreCompact", "Before a compaction of the thread.", @turn ++ @trigger,
     [:allow]},
    {:post_compact, "PostCompact", "After a compaction of the thread.", @turn ++ @trigger,
     [:allow]},
    {:subagent_start, "SubagentStart",
     "When a sub-agent starts. To keep it from starting, deny `spawn_agent` in `pre_tool_use`.",
     @of_turn ++ @agent, [:allow, :context]},
    {:subagent_stop, "SubagentStop", "When a sub-agent wants to end.",
     @of_turn ++
       @agent ++ [agent_transcript_path: {"Path.t() | nil", "its session file"}] ++ @last,
     [:allow, :continue]},
    {:stop, "Stop", "Before a turn ends. Not in a review, and not after an interrupt.",
     @of_turn ++ @last, [:allow, :continue]},
    {:interrupt, "Interrupt", "After an interrupt of the turn.", @of_turn, [:allow]}
  ]

  @type name :: atom()
  @type answer :: :allow | :deny | :ask | :rewrite | :context | :replace_output | :continue

  @rows_by_name (for {name, wire, doc, fields, answers} <- @rows, into: %{} do
                   {name,
                    %{
                      wire: wire,
                      doc: doc,
                      fields: @common ++ fields,
                      answers: answers,
                      module: Module.concat(["Codex", "Hooks", wire])
                    }}
                 end)

  @doc "Lists the names of all events."
  @spec names() :: [name(), ...]
  def names, do: unquote(Enum.map(@rows, &elem(&1, 0)))

  @doc "Returns the facts of an event, or nil."
  @spec row(term()) :: map() | nil
  def row(name), do: @rows_by_name[name]

  # Versions that an older CLI of the tested range is below; it would ignore the event.
  @since %{pre_model_request: "0.164.0", post_model_request: "0.164.0"}

  @doc "Returns the first version with an event, or nil if all versions of the range have it."
  @spec since(name()) :: String.t() | nil
  def since(name), do: @since[name]

  @doc "Returns the event of this name on the wire, or nil."
  @spec named(term()) :: name() | nil
  for {name, _wire, _doc, _fields, _answers} <- @rows do
    def named(unquote(Atom.to_string(name))), do: unquote(name)
  end

  def named(_other), do: nil
end
