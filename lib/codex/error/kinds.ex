defmodule Codex.Error.Kinds do
  @moduledoc false
  # The kinds of a `Codex.Error`. Their documentation, their type, the list in `guides/errors.md`
  # and the default of `retryable?` are generated from these rows.
  #
  # A row: name, whether the same call may succeed later, meaning, advice. A single error may differ
  # from its row in `retryable?` if more is known about it.

  @rows [
    {:rate_limit, true, "too many requests", "wait `retry_after_ms`, try again"},
    {:usage_limit, false, "the limit of the plan, the workspace or the session is reached",
     "wait until `resets_at` if it is known, otherwise change the plan"},
    {:quota, false, "the paid quota is used up", "check plan and billing"},
    {:unauthorized, false, "the key or the login was refused",
     "log in again, or use another key"},
    {:forbidden, false, "the login has no permission for this, or not from this place",
     "ask the administrator of the account or the network"},
    {:model_not_found, false, "there is no such model for this login", "use another model"},
    {:overloaded, true, "the model or the server is overloaded",
     "try again, or use another model"},
    {:server_error, true, "the server failed", "try again"},
    {:context_window, false, "the conversation is longer than the context of the model",
     "begin a new thread, or compact this one"},
    {:invalid_request, false, "the request cannot succeed as it is", "read the message"},
    {:input_too_large, false, "the input is longer than the CLI or the server allows",
     "send less: the limit of the CLI is 1_048_576 characters"},
    {:incomplete, false, "the answer was cut off, for example at the maximum length",
     "ask for less at a time"},
    {:content_policy, false, "a content policy forbids the request or the answer",
     "ask something else"},
    {:stream_disconnected, true, "the stream of the answer broke off", "try again"},
    {:connection_refused, true, "the server cannot be reached",
     "check the network and the base URL"},
    {:timeout, true, "a timeout expired; `details.clock` names it",
     "try again, or raise the timeout"},
    {:sandbox, false, "the sandbox could not be set up, or refused an operation",
     "check the sandbox options"},
    {:sandbox_assessment_failed, false, "a command could not be assessed",
     "check the sandbox options"},
    {:approval_denied, false, "an approval was denied, or not given in time",
     "approve it, or change the policy"},
    {:approval_hook_failed, false, "the host's function that decides on approvals failed",
     "fix the function"},
    {:interrupted, false, "SIGINT ended the CLI, or the host stopped the turn",
     "resume the thread"},
    {:killed, false,
     "another signal ended the CLI: `signal` names it. " <>
       "Retryable for KILL, PIPE and TERM, which come from outside",
     "find the cause, such as a lack of memory; resume the thread"},
    {:crashed, false,
     "the CLI exited for an unknown reason. Retryable for the statuses 69, 75, 137, 141 and 143",
     "read `stderr`"},
    {:thread_not_found, false, "there is no such thread, or it is archived",
     "begin a new thread, or call `Codex.Threads.unarchive/1` or `codex unarchive`"},
    {:thread_busy, true, "another turn of the thread is running", "wait for that turn"},
    {:config, false,
     "the configuration does not allow the run, or a file that it needs cannot be used",
     "read the message: it names the key or the file"},
    {:auth_missing, false, "there is neither a key nor a login", "set a key, or log in"},
    {:login_forbidden, false, "the configuration forbids this login method",
     "log in with the method of `forced_login_method`"},
    {:cli_not_found, false, "the CLI is missing, or cannot be run",
     "install it, or give its path"},
    {:cli_unsupported, false,
     "the CLI does not know a method, an option or an argument, because it has another version",
     "install the version that the message names, or a tested version"},
    {:not_a_git_repo, false, "the directory is not a Git repository and not trusted",
     "use another directory, or set `skip_git_repo_check`"},
    {:mcp, false, "an MCP server failed", "check the server"},
    {:tool, false, "a tool failed", "check the tool"},
    {:tool_failure, false, "a tool or a callback (`on_event`) of the host failed",
     "fix the function: `details` has the exception"},
    {:guardrail, false, "a guardrail of the host stopped the run",
     "change the input, or the guardrail"},
    {:blocked, false,
     "a hook refused the prompt or the start of the thread, or the hooks of the application " <>
       "would not run", "change the prompt, or the hook; `details.reason` has its words"},
    {:budget, false, "the option `budget` stopped the run",
     "raise the limit; `details` has `:unit`, `:limit` and `:spent`"},
    {:until, false, "the check of the option `until` did not pass",
     "continue with the thread of `result`, or raise `max`"},
    {:session_store, false, "a session store failed, or its content and that of the home differ",
     "check the store; of two different files, keep one"},
    {:protocol, false, "the CLI ended without ending the turn, or sent invalid data",
     "report it, with `stderr`"},
    {:overflow, false, "the reader was too slow, and a limit is reached",
     "read faster, or raise the limit"},
    {:unsupported, false, "this transport or this version of the CLI does not support it",
     "leave it out"},
    {:unsupported_feature, false, "this version of the package has no such function",
     "leave it out"},
    {:unknown, false, "an unknown failure", "read the message"}
  ]

  @names Enum.map(@rows, &elem(&1, 0))

  @type kind :: unquote(Enum.reduce(@names, &{:|, [], [&1, &2]}))

  @spec all() :: [kind(), ...]
  def all, do: @names

  @doc "Returns whether an error of this kind is retryable by default."
  @spec retryable?(kind()) :: boolean()
  for {name, retryable?, _, _} <- @rows do
    def retryable?(unquote(name)), do: unquote(retryable?)
  end

  @doc "Formats the kinds as a Markdown list."
  def docs do
    Enum.map_join(@rows, "\n", fn {name, retryable?, meaning, _} ->
      "  * `#{inspect(name)}` - #{meaning}#{if retryable?, do: " (retryable)"}"
    end)
  end

  @doc "Returns a text for every kind: its meaning, advice, and whether it is retryable."
  @spec guide() :: [String.t()]
  def guide do
    for {name, retryable?, meaning, advice} <- @rows do
      retryable = if retryable?, do: ", retryable", else: ""
      "`#{inspect(name)}`#{retryable} - #{meaning}. Advice: #{advice}."
    end
  end
end
