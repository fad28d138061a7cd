defmodule Codex.Error.Kinds do
  @moduledoc false
  # Every kind of a `Codex.Error`, once: its documentation, its type, the table in `guides/errors.md` and what is retryable
  # by itself come from here.
  #
  # A row: name, whether the same call may succeed later, what it means, what to do. An error may say otherwise than its
  # row where more is known of it.

  @rows [
    {:rate_limit, true, "too many requests", "wait `retry_after_ms`, try again"},
    {:usage_limit, false, "what the plan, the workspace or the session allows is used up",
     "wait until `resets_at`, where it is known; else change the plan"},
    {:quota, false, "what was paid for is used up", "look at plan and billing"},
    {:unauthorized, false, "the key or the login was refused",
     "log in again, or use another key"},
    {:forbidden, false, "the login may not do this, or not from here",
     "ask whoever runs the account or the network"},
    {:model_not_found, false, "there is no such model for this login", "name another model"},
    {:overloaded, true, "model or server have no room now", "try again, or name another model"},
    {:server_error, true, "the server failed", "try again"},
    {:context_window, false, "the conversation is longer than the model takes",
     "begin a new thread, or compact this one"},
    {:invalid_request, false, "the request cannot succeed as it is", "read the message"},
    {:input_too_large, false, "the input is longer than the CLI or the server takes",
     "send less: the CLI takes 1_048_576 characters"},
    {:incomplete, false, "the answer was cut, for example at its greatest length",
     "ask for less at a time"},
    {:content_policy, false, "a policy forbids request or answer", "ask something else"},
    {:stream_disconnected, true, "the answer broke off", "try again"},
    {:connection_refused, true, "the server cannot be reached", "look at network and base URL"},
    {:timeout, true, "a clock ran out; `details.clock` says which",
     "try again, or give it more time"},
    {:sandbox, false, "the sandbox could not be set up, or refused",
     "look at the sandbox options"},
    {:sandbox_assessment_failed, false, "a command could not be assessed",
     "look at the sandbox options"},
    {:approval_denied, false, "an approval was denied, or nobody was there to give it",
     "approve it, or change the policy"},
    {:approval_hook_failed, false, "the host's function that decides on approvals failed",
     "mend the function"},
    {:interrupted, false, "SIGINT, or a cancel by the host", "resume the thread"},
    {:killed, false,
     "another signal ended the CLI: `signal` names it. " <>
       "Retryable for KILL, PIPE and TERM, which come from outside",
     "look for what sent it, such as a lack of memory; resume the thread"},
    {:crashed, false,
     "the CLI exited for an unknown reason. Retryable for the statuses 69, 75, 137, 141 and 143",
     "read `stderr`"},
    {:thread_not_found, false, "there is no such thread, or it is archived",
     "begin a new one, or `Codex.Threads.unarchive/1`, `codex unarchive`"},
    {:thread_busy, true, "somebody else runs a turn of the thread", "wait for that turn"},
    {:config, false,
     "the configuration does not allow the run, or a file that it needs cannot be used",
     "read the message: it names key or file"},
    {:auth_missing, false, "there is no key and no login", "set a key, or log in"},
    {:login_forbidden, false, "the configuration forbids this way to log in",
     "log in as `forced_login_method` says"},
    {:cli_not_found, false, "the CLI is not there, or cannot be run",
     "install it, or give its path"},
    {:cli_unsupported, false, "the CLI does not know an argument: it is of another version",
     "install a version that this package knows"},
    {:not_a_git_repo, false, "the folder is no repository and not trusted",
     "choose another folder, or set `skip_git_repo_check`"},
    {:mcp, false, "an MCP server failed", "look at the server"},
    {:tool, false, "a tool failed", "look at the tool"},
    {:tool_failure, false, "a tool or a callback (`on_event`) of the host failed",
     "mend the function: `details` has what it raised"},
    {:guardrail, false, "a guardrail of the host stopped the run", "that is what it is for"},
    {:protocol, false, "the CLI ended without ending the turn, or cannot be understood",
     "report it, with `stderr`"},
    {:overflow, false, "the reader took less than came, and a limit is reached",
     "read faster, or raise the limit"},
    {:unsupported, false, "this transport or this version of the CLI cannot do that",
     "leave it out"},
    {:unsupported_feature, false, "this version of the package has no such function",
     "leave it out"},
    {:unknown, false, "a failure with words that are not told apart", "read the message"}
  ]

  @names Enum.map(@rows, &elem(&1, 0))

  @type kind :: unquote(Enum.reduce(@names, &{:|, [], [&1, &2]}))

  @spec all() :: [kind(), ...]
  def all, do: @names

  @doc "Whether an error of this kind is retryable where nothing else is known."
  @spec retryable?(kind()) :: boolean()
  for {name, retryable?, _, _} <- @rows do
    def retryable?(unquote(name)), do: unquote(retryable?)
  end

  @doc "The kinds as a Markdown list."
  def docs do
    Enum.map_join(@rows, "\n", fn {name, retryable?, meaning, _} ->
      "  * `#{inspect(name)}` - #{meaning}#{if retryable?, do: " (retryable)"}"
    end)
  end

  @doc "The kinds as a Markdown table."
  def table do
    rows =
      for {name, retryable?, meaning, advice} <- @rows,
          do: ["`#{inspect(name)}`", if(retryable?, do: "yes", else: "no"), meaning, advice]

    Enum.map_join(
      [["kind", "retryable", "what it means", "what to do"], List.duplicate("---", 4) | rows],
      "\n",
      &("| " <> Enum.join(&1, " | ") <> " |")
    )
  end
end
