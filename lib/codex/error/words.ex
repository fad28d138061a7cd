defmodule Codex.Error.Words do
  @moduledoc false
  # A sentence for each reason that a function of this package returns: the problem, the value, the
  # expected value, and advice. A test compares the reasons of all source files with this module.
  #
  # Values may come from outside, so they are inspected and cut. Reasons hold no secrets.

  alias Codex.Error.{Classifier, HookWords, OAuthWords, ToolWords}
  alias Codex.OptionError
  alias Codex.Options.Type

  @longest 1_000
  @rows Map.new(Codex.Options.Rows.all(), fn {name, _type, _doc, facts} -> {name, facts} end)

  # Reasons for a missing target of a review.
  @targets %{
    no_branch: "there is no such branch",
    no_commit: "there is no such commit",
    no_repository: "there is no Git repository with a work tree",
    no_answer: "Git gave no answer about the repository"
  }

  # Reasons of a patch for one of its files.
  @refusals %{
    absolute_path_not_allowed: "absolute paths are not allowed",
    path_traversal: "the path leads out of the directory",
    invalid_path: "the path is empty or invalid",
    multiple_operations: "multiple operations target this file",
    move_onto_itself: "a file cannot be moved onto itself",
    is_a_directory: "it is a directory",
    not_a_file: "it is not a file",
    not_text: "it is not UTF-8 text",
    file_too_large: "it is larger than 16 MiB",
    changed: "the file changed in the meantime"
  }

  # The reasons of `Codex.JSON.decode/2`.
  @json %{
    eof: "it ends too early",
    syntax: "it has a byte that is out of place",
    trailing: "something follows the value",
    control: "a string has a raw control character",
    escape: "a string has an invalid escape",
    number: "a number is malformed",
    number_range: "a number is too large",
    depth: "it has more than 256 levels",
    utf8: "it is not UTF-8",
    nodes: "it has more values and keys than allowed"
  }

  @doc """
  Returns a sentence about a reason, or nil for an unknown term.

      iex> Codex.Error.Words.reason({:dangerous, :dangerously_bypass_hook_trust})
      "option :dangerously_bypass_hook_trust needs dangerous: true beside it"
      iex> Codex.Error.Words.reason({:weather, :rain})
      nil
  """
  @spec reason(term()) :: String.t() | nil

  # --- MCP servers ------------------------------------------------------------------------------

  def reason(:missing_command), do: "option :command is missing; expected a program to start"

  def reason({:command_not_found, program}),
    do: "there is no program #{show(program)} on the PATH of the MCP server; name its full path"

  def reason({:server_down, %{exit_status: status, signal: signal} = info}) do
    how = if signal, do: "by the signal #{show(signal)}", else: "with the status #{show(status)}"
    stderr = if info[:stderr] in [nil, ""], do: "no stderr", else: "stderr: #{text(info.stderr)}"
    "the MCP server ended #{how}; #{stderr}"
  end

  def reason({:server_down, info}) when is_map(info),
    do: "the MCP server cannot be reached any more: #{failure(info[:reason])}"

  def reason({:server_down, other}), do: "the MCP server has ended: #{show(other)}"

  def reason({:unsupported_protocol, ours, theirs}),
    do:
      "the MCP server answered #{show(ours)} with the protocol version #{show(theirs)}, " <>
        "which this client does not know"

  def reason(:invalid_capabilities),
    do: "the MCP server's answer to the handshake has no capabilities; expected a map"

  def reason(:invalid_tools_response),
    do: "the MCP server's answer to tools/list has no list of tools"

  def reason({:invalid_list, method}),
    do: "the MCP server's answer to #{text(method)} has no list"

  def reason(:invalid_input_request),
    do: "the MCP server asked for input without saying which"

  def reason({:input_declined, words}),
    do: "the MCP server needs input that this client has declined: #{text(words || "")}"

  def reason(:session_lost), do: "the MCP server has lost the session; repeat the call"
  def reason({:tool_disabled, name}), do: "the tool #{show(name)} is disabled"

  def reason({:unknown_mcp_server, name}),
    do: "the configuration has no MCP server #{show(name)}; see mix codex.mcp list"

  def reason({:headers_helper, problem}),
    do:
      "the command of http_headers_helper failed: #{text(problem)}; correct it, or remove the key"

  # --- Options and arguments --------------------------------------------------------------------

  def reason(:missing_options),
    do: "option :codex_opts is missing; expected a Codex.Options"

  def reason({:invalid_login_type, value}),
    do: "a login must be of a type that the app-server knows, got: #{show(value)}"

  def reason({:invalid_config, :not_a_table}),
    do: "the option config must be a map or a keyword list of configuration keys"

  def reason({:invalid_config, key}),
    do:
      "the configuration key #{show(key)} cannot be written: its name or value has no form in TOML"

  def reason(:not_an_override),
    do: "a configuration override must be {key, value} or the string \"key=value\""

  def reason({:dangerous, name}), do: "option #{show(name)} needs dangerous: true beside it"

  def reason({:unsupported, command, why}) when is_atom(command) and is_binary(why),
    do: "the command #{command} is not supported: #{why}"

  def reason({:blocked, _why} = reason), do: HookWords.reason(reason)
  def reason({:blocked, _event, _why} = reason), do: HookWords.reason(reason)
  def reason({:budget, _why} = reason), do: HookWords.reason(reason)
  def reason({:until, _words} = reason), do: HookWords.reason(reason)
  def reason({:until, _max, _why} = reason), do: HookWords.reason(reason)

  def reason({:unsupported_option, :mcp_servers, path}) when is_binary(path),
    do:
      "option :mcp_servers: #{path} would stand in the arguments of the CLI, where every user " <>
        "of the machine could read it; put it into config.toml, or use an app-server"

  def reason({:unsupported_option, :server, path}) when is_binary(path),
    do:
      "option :server: the value of #{path} works only in the CLI itself; give the server with " <>
        ":command or :url"

  def reason({:unsupported_option, :developer_instructions, :ignore_user_config}),
    do:
      "option :developer_instructions beyond 127 KiB needs a profile, which the CLI does not " <>
        "read without the user's configuration (ignore_user_config, isolation)"

  def reason({:unsupported_option, name, :resume}),
    do: "option #{show(name)} has no effect on a thread that is resumed#{hint(name)}"

  def reason({:unsupported_option, name, :output})
      when name in [:output_schema, :output_schema_path],
      do: "option #{show(name)} has no effect beside :output: leave one of them out"

  def reason({:unsupported_option, :repair, :no_output}),
    do: "option :repair has no effect without :output"

  def reason({:unsupported_option, :repair, option}) when option in [:ephemeral, :worktree],
    do:
      "option :repair continues the thread, which codex exec cannot with #{option}: true: leave " <>
        "one of them out"

  def reason({:unsupported_option, name, :loaded}),
    do:
      "option #{inspect(name)} needs hooks that the thread did not begin with: start, resume or " <>
        "fork it on this connection with `hooks` for these events"

  def reason({:unsupported_option, name, :remote}),
    do:
      "option #{show(name)} does not go with :remote, where the agent is the server's: " <>
        "configure it there"

  def reason({:unsupported_option, :remote, thread}) when thread in [:fork, :last, :review],
    do:
      "option :remote runs new threads, and threads that are resumed by their id, got: " <>
        inspect(thread)

  def reason({:unsupported_option, name, :interactive}),
    do: "option #{show(name)} has no effect in an interactive session of the CLI: leave it out"

  def reason({:unsupported_option, :local_provider, :not_oss}),
    do: "option :local_provider has no effect without oss: true"

  def reason({:unsupported_option, :resume_all, :not_last}),
    do: "option :resume_all has no effect without Codex.resume_thread(:last, …)"

  def reason({:unsupported_option, name, value}),
    do: "option #{show(name)} cannot be #{show(value)} on this transport"

  def reason({:unsupported_option, :on_event}),
    do: "option :on_event is for calls that wait for the turn: read the events of the stream"

  def reason({:unsupported_option, name}),
    do: "option #{show(name)} is not supported #{refusal(@rows[name])}#{hint(name)}"

  def reason({:no_terminal, reason}),
    do:
      "there is no terminal to attach the session to: #{show(reason)}; run it from a program on " <>
        "a terminal, without IEx"

  # Values of the right type that do not exist, or cannot be used.
  def reason({:unwritable_tee, path, words}),
    do:
      "the folder #{show(path)} of the option tee cannot be written: #{text(words)}; " <>
        "name a folder that this user can write to"

  def reason({:invalid_working_directory, path}),
    do: "there is no folder #{show(path)} to work in"

  def reason({:invalid_profile, name}),
    do: "the file of the profile #{show(name)} is missing, unreadable or not TOML"

  def reason({:invalid_output_schema, {:not_encodable, value, path}}),
    do: "option :output_schema: #{show(value)} at #{Enum.join(path, ".")} has no form in JSON"

  def reason({:invalid_output_schema, {:unreadable, path, words}}),
    do: "the file #{show(path)} of the output schema cannot be read: #{words}"

  def reason({:experimental, names}),
    do: "#{list(names)} needs a connection with experimental_api: true: connect with that option"

  def reason({:cli_unsupported, names, since, found}),
    do:
      "#{list(names)} needs codex-cli #{text(since)} or newer, and this is #{text(found)}: " <>
        "update the CLI"

  def reason({:unknown_method, method}),
    do:
      "the app-server protocol of this package has no method #{show(method)}: " <>
        "Codex.AppServer.request/4 sends any method"

  def reason({:not_encodable, value, path}),
    do: "the value #{show(value)} at #{show(path)} has no form in JSON"

  # --- Input and output of turns ----------------------------------------------------------------

  def reason({:invalid_input, :not_utf8}), do: "the input must be a string in UTF-8"

  def reason({:invalid_input, ""}), do: "the input must not be empty"

  def reason({:invalid_input, value}),
    do:
      "the input must be a string or a list of blocks such as %{type: :text, text: \"…\"}, " <>
        "got: #{show(value)}"

  def reason({:unsupported_input, transport}),
    do: "the input has a block that #{transport(transport)} does not take: use an app-server"

  def reason({:input_too_large, size, most}),
    do: "the input has #{show(size)} characters, more than the limit of #{show(most)}: send less"

  def reason({:image_not_found, path}), do: "the image #{show(path)} cannot be read: no such file"

  def reason({:image_too_large, path, most}),
    do:
      "the image #{show(path)} is larger than the limit of #{show(most)} bytes: send a smaller one"

  def reason({:invalid_schema, path, keyword}) when is_binary(keyword),
    do: Codex.Schema.Words.invalid(List.wrap(path), keyword)

  def reason({:invalid_output, [%{message: _} | _] = faults}),
    do: cut("the answer does not fit the schema: #{Codex.Schema.Words.faults(faults, "; ")}")

  def reason(:not_structured),
    do: "the turn had no output or output_schema: run it with one of these options"

  def reason({:invalid_json, {why, at}}) when is_map_key(@json, why),
    do: "the answer is not one JSON document: #{@json[why]}, at byte #{show(at)}"

  def reason({:invalid_json, why}), do: "the answer is not one JSON document: #{show(why)}"

  def reason({why, at}) when is_map_key(@json, why),
    do: "the text is not one JSON document: #{@json[why]}, at byte #{show(at)}"

  def reason(:invalid_raw_response_item),
    do: "a raw response item must be a map with a \"type\" that is known"

  def reason({:skill, message}) when is_binary(message), do: message

  def reason({:max_attempts_reached, attempts, _more}),
    do: "the CLI asked to continue after #{show(attempts)} runs, the limit: raise max_attempts"

  def reason({:invalid_review_target, %{target: target, reason: reason} = missing})
      when is_map_key(@targets, reason) do
    details = if missing[:details], do: " (git: #{Codex.Text.line(missing.details)})"

    "the review cannot look at #{show(target)}: #{@targets[reason]} in " <>
      "#{show(missing[:directory])}#{details}"
  end

  def reason({:invalid_review_target, target}) do
    "#{show(target)} is not a target of a review; expected :uncommitted_changes, " <>
      "{:base_branch, branch}, {:commit, sha}, {:commit, sha, title} or instructions as text"
  end

  def reason(:no_output), do: "the review has not ended, or it ended without an answer"

  # --- Threads, turns and connections -----------------------------------------------------------

  def reason(:missing_thread_id),
    do:
      "the thread has not begun and has no id yet: run a turn first, or resume a thread by its id"

  def reason({:unsupported, :exec}),
    do: "this needs a thread over an app-server: make it with transport: {:app_server, conn}"

  def reason({:unsupported, :remote}),
    do:
      "a server of connect_remote/2 keeps its login elsewhere: " <>
        "ask it with Codex.AppServer.account_read/2"

  def reason({:unsupported, text}) when is_binary(text), do: text

  def reason({:unsupported, key, why}) when is_binary(why),
    do: "#{text(key)} is not supported: #{why}"

  def reason({:max_turns_exceeded, most, _more}),
    do: "the run needs more than #{show(most)} turns: raise max_turns, or hand over less"

  def reason({:invalid_tool_use_behavior_result, value}),
    do:
      "tool_use_behavior returned #{show(value)}, expected a map with is_final_output (boolean) " <>
        "and final_output"

  def reason({:invalid_handoff_input, :failed}),
    do: "the input_filter of a handoff failed: see the log"

  def reason({:invalid_handoff_input, _value}),
    do: "the input_filter of a handoff returned no Codex.Handoff.InputData"

  def reason({:turn_running, nil, _turn}),
    do: "the first turn of the thread is running: wait for it"

  def reason({:turn_running, id, _turn}),
    do:
      "a turn is running in the thread #{text(id)}: Codex.Thread.steer/2 adds to it, " <>
        "Codex.Thread.interrupt/1 ends it"

  def reason({:no_turn, id}), do: "no turn is running in the thread #{text(id)}"

  def reason({:no_id, method, _answer}),
    do: "the answer to #{text(method)} names nothing that was started"

  def reason(:not_found), do: "there is nothing with this name, token or id"
  def reason(:cancelled), do: "the call was cancelled"
  def reason(:crashed), do: "the process of the call crashed: see the log"

  def reason(:not_ready),
    do: "the app-server has not answered the handshake yet: try again in a moment"

  def reason({:request_closed, token}),
    do:
      "no request waits for an answer under the token #{show(token)}: " <>
        "it was answered, has expired or is unknown"

  def reason({:unreachable, node}),
    do: "the node #{text(node)} of the connection cannot be reached: connect the nodes"

  def reason({:already_started, pid}),
    do: "the name is taken by the process #{show(pid)}: disconnect that one or use another name"

  def reason({:overflow, {:reader, pid}, most}),
    do:
      "the reader #{show(pid)} of the turn was cut off: over #{show(most)} bytes waited for it " <>
        "(max_spool_bytes of the connection) while others used the connection"

  def reason({:overflow, :line, bytes, most}) do
    size = if bytes, do: "#{show(bytes)} bytes", else: "more bytes"

    "a message of the app-server has #{size}, over the limit of #{show(most)} bytes " <>
      "(max_message_bytes of the connection)"
  end

  def reason({:overflow, :nodes, most}),
    do: "a message of the app-server has over #{show(most)} values and keys (max_message_nodes)"

  def reason({:overflow, what, size, most}),
    do: "#{text(what)} of #{show(size)} exceeds the limit of #{show(most)}"

  def reason({:overflow, what, most}),
    do: "the app-server's #{text(what)} are over the limit of #{show(most)}"

  def reason({:init_timeout, ms}),
    do: "the app-server did not answer the handshake within #{show(ms)} ms: raise init_timeout_ms"

  def reason({:initialize_refused, error}),
    do: "the app-server refused the connection: #{server_message(error)}"

  def reason({:login_refused, error}),
    do: "the app-server refuses the login with the option api_key: #{server_message(error)}"

  def reason({:app_server_down, info}), do: "the connection is lost: #{down(info)}"

  def reason({:not_connected, {:tls, _alert, text}}),
    do: "the server's certificate is not accepted: #{text(text)}"

  def reason({:not_connected, reason}), do: "the server cannot be reached: #{posix(reason)}"

  def reason({:not_a_websocket, text}),
    do: "the server does not speak WebSocket: #{text(text)}"

  def reason({:handshake_refused, status, text}),
    do: "the server refused the connection with HTTP status #{show(status)}: #{text(text)}"

  def reason({:ca_certificate, path, :no_certificate}),
    do: "the file #{show(path)} of certificates (CODEX_CA_CERTIFICATE) holds no certificate"

  def reason({:ca_certificate, path, reason}),
    do:
      "the file #{show(path)} of certificates (CODEX_CA_CERTIFICATE) cannot be read: " <>
        posix(reason)

  # --- HTTP servers -----------------------------------------------------------------------------

  def reason({:http_error, status, text}),
    do: "the server answered with the HTTP status #{show(status)}: #{Codex.Text.line(text)}"

  def reason({:invalid_proxy, name}),
    do: "the variable #{text(name)} must hold an http:// URL of a proxy, such as http://host:3128"

  def reason({:proxy_refused, status}),
    do:
      "the proxy does not connect to the server, it answered with the HTTP status " <>
        "#{show(status)}: check HTTPS_PROXY, or exclude the host with NO_PROXY"

  def reason({:invalid_response, words}), do: "the server did not answer as expected: #{words}"

  def reason({:response_too_large, most}),
    do: "the answer of the server exceeds the limit of #{show(most)} bytes: raise the limit"

  def reason({:redirected, url}),
    do: "the server redirects to #{show(url)}, which is not followed: use that URL"

  def reason(:missing_url), do: "the MCP server has no URL: logins are for servers with a URL"

  def reason(:server_not_found),
    do: "the configuration has no such MCP server: look at [mcp_servers] of config.toml"

  def reason(:missing_server_config),
    do: "expected an MCP server as a map or keyword list with `command` or `url`"

  def reason(:missing_transport), do: "the MCP server has neither `command` nor `url`: give one"

  def reason({:invalid_server_name, name}) do
    "#{show(name)} is no name of an MCP server: use letters, digits, `-`, `_`, `:`, `@`, `/`, `.`"
  end

  def reason(:missing_path), do: "expected a listed skill or the path of its SKILL.md"

  # --- Recorded threads -------------------------------------------------------------------------

  def reason({:session_not_found, name}),
    do: "no recorded thread has the id, the name or the beginning of an id #{show(name)}"

  def reason({:ambiguous_session, name, ids}),
    do: "#{show(name)} names several recorded threads; use an id: #{show(ids)}"

  def reason({:unreadable_session, path, :damaged}),
    do: "the session #{show(path)} cannot be read: its compressed content is cut or invalid"

  def reason({:unreadable_session, path, :replaced}),
    do:
      "the session #{show(path)} cannot be followed: the file is shorter than what was read of " <>
        "it, or has other content; read the session again"

  def reason({:unreadable_session, path, reason}),
    do: "the session #{show(path)} cannot be read: #{posix(reason)}"

  def reason({tag, _detail} = reason) when tag in [:not_regular, :too_large],
    do: "a file of the home cannot be read: #{posix(reason)}"

  def reason(:not_a_directory), do: "the folder of the sessions is not a directory"

  def reason({:session_in_use, id}),
    do: "the thread #{show(id)} is open in a CLI: end that one, or wait until it is idle"

  def reason({:session_store_failed, callback, failure}),
    do: "the session store failed in #{callback}: #{store_failure(failure)}"

  def reason({:session_store_conflict, file, stored, local}),
    do:
      "the session store and the home have different content of #{show(file)}: #{stored} bytes " <>
        "in the store, #{local} in the home; keep one of them and move the other away"

  def reason(:full), do: "the session store in memory is full (max_bytes)"

  def reason({:conflict, have}),
    do: "the stored file has #{show(have)} bytes, and takes an append at this offset only"

  def reason({:session_not_stored, id}),
    do: "the session store has no files of the thread or rollout #{show(id)}"

  def reason({:invalid_stored_session, file, :name}),
    do: "the session store returned #{show(file)}, which is no session file of this thread"

  def reason({:invalid_stored_session, file, :link}),
    do: "a link leads the folder of the stored file #{show(file)} out of the home"

  def reason({:invalid_stored_session, file, {:too_large, limit}}),
    do: "the stored file #{show(file)} is larger than #{limit} bytes (max_file_bytes)"

  def reason({:invalid_stored_session, file, _content}),
    do: "the stored file #{show(file)} is not a whole session file of a thread"

  def reason({:session_line_too_long, file, limit}),
    do: "a line of the session file #{show(file)} is longer than #{limit} bytes (max_line_bytes)"

  def reason({:session_referenced, id, ids}),
    do: "the files of #{show(id)} hold the history of other threads (force: true): #{show(ids)}"

  def reason({:wrong_session_file, path, id}),
    do: "the first line of #{show(path)} names another thread: #{show(id)}"

  def reason({:turn_not_found, id}), do: "the session has no turn #{show(id)}"
  def reason({:already_archived, id}), do: "the thread #{show(id)} is archived already"
  def reason({:not_archived, id}), do: "the thread #{show(id)} is not archived"
  def reason({:file_exists, path}), do: "a file with the name #{show(path)} is there already"

  # --- File changes that are applied or taken back ----------------------------------------------

  def reason(:git_not_found), do: "there is no git on the PATH: install it"
  def reason(:empty_patch), do: "the diff is empty: there is nothing to apply"

  def reason(why) when why in [:invalid_apply_input, :invalid_undo_input],
    do: "expected a diff, file changes, a turn or a result"

  def reason({:invalid_apply_input, change}),
    do: "expected a diff or a file change with path, kind and diff, got: #{show(change)}"

  def reason({:missing_diff, change}),
    do: "the change holds no diff, as codex exec reports changes: #{show(change)}"

  def reason({:invalid_change_path, change}),
    do: "the path is not below the directory of the option from: #{show(change)}"

  def reason({:outside_cwd, paths}),
    do: "the diff changes files outside of the working directory: #{list(paths)}"

  def reason({:apply_failed, result}) do
    stderr = if is_map(result), do: Map.get(result, :stderr)
    "the diff does not apply, nothing was written#{git_words(stderr)}"
  end

  def reason({:exec_start_failed, reason}), do: "git could not run: #{failure(reason)}"

  def reason({:undo_conflict, paths, stderr}) do
    "these files are not as the turn left them, nothing was changed: " <>
      "#{list(paths)}#{git_words(stderr)}"
  end

  def reason({:changed_meanwhile, path}),
    do: "#{show(path)} was written by another program meanwhile, nothing was changed"

  def reason(:missing_ghost_commit_id), do: "the snapshot names no commit"

  def reason(:invalid_ghost_snapshot),
    do: "expected a snapshot with a commit id and lists of paths"

  def reason({:ghost_commit_missing, id}),
    do: "the repository has no commit #{show(id)}: git has removed it, or it is of another one"

  def reason({:not_a_git_repo, _status, stderr}),
    do: "the working directory is in no repository#{git_words(stderr)}"

  def reason({:git_restore_failed, _status, stderr}),
    do: "git could not read the snapshot, nothing was changed#{git_words(stderr)}"

  # --- The program ------------------------------------------------------------------------------

  def reason(:codex_binary_not_found),
    do:
      "there is no codex on the PATH: install the CLI, or give its path as codex_path " <>
        "(mix codex.doctor checks the installation)"

  def reason({:codex_binary_missing, path}),
    do: "there is no file #{show(path)}: codex_path or CODEX_PATH must name the CLI"

  def reason({:codex_binary_not_regular, path}),
    do: "#{show(path)} is not a file: codex_path or CODEX_PATH must name the program itself"

  def reason({:codex_binary_not_executable, path}),
    do: "the file #{show(path)} cannot be executed: make it executable (chmod +x)"

  def reason({:not_started, error}), do: "the CLI could not be started: #{failure(error)}"
  def reason({:lost, error}), do: "the process of the CLI failed: #{failure(error)}"

  def reason({:killed, signal}), do: "signal #{text(signal)} ended the CLI"

  def reason({:exited, reason}), do: "the process of the call ended: #{show(reason)}"

  def reason({:too_long, bytes}), do: "the CLI printed more than #{show(bytes)} bytes"
  def reason(:no_version), do: "the program does not print its version: is it the Codex CLI?"

  def reason({:write_failed, path, reason}),
    do: "the file #{show(path)} cannot be written: #{posix(reason)}"

  # --- Logins -----------------------------------------------------------------------------------

  def reason(:no_credentials), do: "there is no login: run `codex login`, or set CODEX_API_KEY"
  def reason(:not_authenticated), do: "there is no login: run `codex login`, or set CODEX_API_KEY"

  def reason(:keyring_unavailable),
    do: "no keyring can be reached: check the keyring service, or keep the login in a file"

  def reason(:encrypted_store),
    do: "the login is encrypted (features.secret_auth_storage), so only the CLI can read it"

  def reason({:keyring, _kind, words}) when is_binary(words), do: words

  def reason({:invalid_credentials, {:file, path}, words}),
    do: "#{text(path)} holds no login that the CLI accepts: #{text(words)}"

  def reason({:invalid_credentials, _keyring, words}),
    do: "the keyring holds no login that the CLI accepts: #{text(words)}"

  def reason({:unreadable, path, words}) when is_binary(words),
    do: "#{text(path)}: #{text(words)}"

  def reason({:unreadable, path, why}), do: "#{text(path)}: #{posix(why)}"

  def reason({:pool_drained, pool}),
    do: "the pool #{show(pool)} is drained, and takes no turns any more"

  def reason({:no_pool, pool}),
    do: "there is no pool #{show(pool)}: start Codex.Pool with this name under a supervisor"

  def reason({:no_thread_server, server}),
    do: "there is no thread server #{show(server)}: start Codex.Thread.Server with this name"

  def reason({:lock_held, path}), do: "another process holds the lock #{text(path)}: try again"
  def reason({:native, words}), do: "credentials cannot be read: #{text(words)}"

  def reason({:invalid_access_token, :empty}),
    do: "the access token is empty: check the environment variable that it comes from"

  def reason({:invalid_access_token, words}) when is_binary(words), do: words

  def reason({:missing_env, variable}),
    do: "the provider takes its key from #{text(variable)}, which is not set"

  def reason({:unknown_provider, id}),
    do: "the configuration has no model provider #{show(id)}"

  def reason({:forced_login_method, :chatgpt, _found}),
    do:
      "the configuration allows ChatGPT logins only (forced_login_method), and this is an API key"

  def reason({:forced_login_method, _api, _found}),
    do:
      "the configuration allows API keys only (forced_login_method), and this is a ChatGPT login"

  def reason({:forced_chatgpt_workspace_id, allowed, found}) do
    whose = if found, do: "this login belongs to #{text(found)}", else: "this login has none"

    "the configuration allows workspaces #{list(allowed)} only " <>
      "(forced_chatgpt_workspace_id), and #{whose}"
  end

  def reason({:login_failed, status, words}),
    do: "the login failed with exit status #{show(status)}: #{text(words)}"

  # --- Timeouts, networks, hosts ----------------------------------------------------------------

  def reason({:codex_timeout, ms}),
    do: "codex sent nothing for #{show(ms)} ms: raise timeout_ms to wait longer"

  def reason({:timeout, ms}), do: "the call took longer than #{show(ms)} ms"
  def reason({:timeout, method, ms}), do: "no answer to #{show(method)} within #{show(ms)} ms"
  def reason({:http_error, status}), do: "HTTP status #{show(status)}"
  def reason(:timeout), do: "no answer came in time"
  def reason(:stream_timeout), do: "the stream was silent for too long"
  def reason(:closed), do: "the connection was closed"
  def reason(:stream_reset), do: "the stream was reset"

  def reason(:rate_limit_attempts_exhausted),
    do: "the rate limit still holds after all attempts: wait, or raise max_attempts"

  # --- Host tools -------------------------------------------------------------------------------

  def reason({:invalid_tool, tool, reason}),
    do: "option :tools: #{show(tool)} #{ToolWords.refusal(reason) || "is no tool"}"

  def reason({:bridge, posix}),
    do:
      "the tools of the host cannot be offered to the CLI: #{failure(posix)}; " <>
        "check that the directory for temporary files can be written"

  def reason({:already_registered, name}),
    do: "a tool is registered as #{show(name)} already; deregister it, or give another :name"

  def reason({:invalid_arguments, words}), do: "the arguments are invalid: #{text(words)}"

  def reason({tag, module, _failure}) when tag in [:tool_exception, :tool_failure],
    do: "the tool #{show(module)} crashed"

  def reason({:error_handler_failed, _error}), do: "the tool failed, and its :on_error raised"

  def reason({tag, value}) when tag in [:invalid_tool_result, :invalid_function_tool_result],
    do: "a tool must return {:ok, output} or {:error, reason}, got: #{kind(value)}"

  def reason(:missing_handler),
    do: "the function tool has no handler; give the option :handler, or define handle/2"

  def reason({tag, _key, _value} = refusal) when tag in [:invalid_metadata, :unknown_metadata],
    do: ToolWords.reason(refusal)

  def reason({:remote_image, url}),
    do: "the image #{show(url)} is remote; a model only takes data URLs: read the image first"

  def reason({:missing_callback, key}),
    do: "the tool has no #{key}; give it the option #{show(key)} with a function"

  def reason(:missing_client), do: "the tool has no MCP client; give it the option :client"
  def reason(:missing_tool), do: "the tool to call is missing; expected the argument tool"
  def reason({:computer_denied, reason}), do: "the action was denied: #{text(reason)}"
  def reason({:unsupported_action, type}), do: "the action #{show(type)} is not supported"
  def reason({:glob_error, words}), do: "the pattern is not a glob: #{text(words)}"
  def reason({:regex_error, words}), do: "the regular expression is invalid: #{text(words)}"

  def reason(:too_many_sessions),
    do: "too many commands of this turn still run; wait for the end of one"

  def reason({:invalid_image_path, reason}), do: "the image cannot be read: #{posix(reason)}"

  def reason({:unsupported_image_type, extension}),
    do: "a file of the type #{show(extension)} is no image that a model takes"

  def reason({:missing_argument, name}), do: "the argument #{name} of the tool is missing"
  def reason({:invalid_argument, name}), do: "the argument #{name} of the tool is invalid"
  def reason({tag, words}) when tag in [:empty_patch, :parse_error], do: text(words)

  def reason({tag, words}) when tag in [:context_mismatch, :missing_anchor],
    do: "the patch does not fit the file: #{text(words)}"

  def reason(refusal) when is_map_key(@refusals, refusal), do: @refusals[refusal]

  def reason({:invalid_approval_response, value}),
    do: "the approval answered #{show(value)}; expected :allow, :deny or {:deny, reason}"

  def reason({:approval_denied, reason}), do: "the approval was denied: #{text(reason)}"
  def reason(:already_exists), do: "a handler with this id is attached already"

  def reason(:no_telemetry),
    do: "the package :telemetry is not available: add it to the dependencies"

  def reason(:opentelemetry_unavailable),
    do: "the package :opentelemetry_api is not available: add it to the dependencies"

  def reason({:oauth_request_failed, url, {:status, status}}),
    do: "#{text(url)} answered with status #{show(status)}"

  def reason({:oauth_request_failed, url, :invalid_json}),
    do: "#{text(url)} answered without a JSON object"

  def reason({:oauth_request_failed, url, reason}),
    do: "the request to #{text(url)} failed: #{failure(reason)}"

  def reason(reason) when is_atom(reason),
    do: known_posix(reason) || OAuthWords.reason(reason) || ToolWords.reason(reason)

  def reason(%OptionError{} = error), do: Exception.message(error)

  # Reasons of earlier versions, which an application may have kept.
  def reason({:unknown_option, key, nearest}),
    do: :unknown |> OptionError.new([key], nearest: nearest) |> Exception.message()

  def reason({tag, value}) when is_atom(tag) do
    case Atom.to_string(tag) do
      "invalid_" <> name -> "option :#{name} is invalid, got: #{show(value)}"
      _other -> OAuthWords.reason({tag, value}) || ToolWords.reason({tag, value})
    end
  end

  def reason(other), do: OAuthWords.reason(other)

  @doc "Inspects a value for a sentence: short, whatever the value is."
  @spec show(term()) :: String.t()
  def show("[redacted]"), do: "[redacted]"
  def show(value), do: value |> inspect(limit: 10, printable_limit: 200) |> cut()

  # A result may hold anything.
  defp kind(value), do: if(is_atom(value), do: show(value), else: Type.kind(value))

  defp down(%{reason: reason}) when reason in [:noproc, :disconnected, :normal],
    do: "there is no such connection, or it was closed; connect again"

  defp down(%{reason: {:closed, code, ""}}), do: "the server closed it with code #{show(code)}"

  defp down(%{reason: {:closed, code, text}}),
    do: "the server closed it with code #{show(code)}: #{text(text)}"

  defp down(%{reason: {:protocol, rule}}), do: "the server broke the protocol: #{text(rule)}"

  defp down(%{reason: {:timeout, :ping, ms}}),
    do: "the server did not answer a ping within #{show(ms)} ms"

  defp down(%{reason: %{__exception__: true} = error}), do: Exception.message(error)

  defp down(%{signal: signal}) when signal != nil,
    do: "signal #{text(signal)} ended the app-server"

  defp down(%{exit_status: status} = info) when status != nil do
    said = info |> Map.get(:stderr) |> last_words()
    "the app-server exited with status #{show(status)}#{said}"
  end

  defp down(%{reason: reason}),
    do: (is_atom(reason) && known_posix(reason)) || reason(reason) || "it ended unexpectedly"

  defp down(_info), do: "it ended unexpectedly"

  defp last_words(stderr) when is_binary(stderr) and stderr != "" do
    case Classifier.last_words(stderr) do
      "" -> ""
      words -> ": " <> words
    end
  end

  defp last_words(_none), do: ""

  defp git_words(stderr) when is_binary(stderr) and stderr != "",
    do: ": " <> cut(Codex.Text.line(String.trim(stderr)))

  defp git_words(_none), do: ""

  # The error of a server, as it came.
  defp server_message(%{"message" => text}) when is_binary(text), do: text
  defp server_message(_other), do: "it gave no reason"

  # Reasons of an adapter may hold anything, also credentials: only names are shown.
  defp store_failure(:timeout), do: "it did not answer in time (call_ms)"
  defp store_failure({:raised, exception}), do: "it raised #{show(exception)}"
  defp store_failure(:exited), do: "its process ended"
  defp store_failure(:invalid), do: "it returned a value that the callback may not return"

  defp store_failure({:error, reason}) when is_atom(reason),
    do: "it returned the error #{text(reason)}"

  defp store_failure({:error, reason}) when is_tuple(reason) and is_atom(elem(reason, 0)),
    do: "it returned the error #{text(elem(reason, 0))}"

  defp store_failure(_reason), do: "it returned an error"

  defp posix({:not_regular, kind}), do: "it is not a regular file (#{text(kind)})"
  defp posix({:too_large, most}), do: "it is larger than #{show(most)} bytes"
  defp posix(reason) when is_atom(reason), do: known_posix(reason) || text(reason)
  defp posix(reason), do: reason(reason) || show(reason)

  # `:file` and `:inet` share most names. Unknown names are shown unchanged.
  defp known_posix(reason) do
    Enum.find_value([:file, :inet], fn module ->
      text = reason |> module.format_error() |> IO.chardata_to_string()
      unless text =~ ~r/unknown POSIX/i, do: text
    end)
  end

  defp failure(%{__exception__: true} = error), do: Exception.message(error)
  defp failure(other), do: reason(other) || show(other)

  defp hint(name), do: if(text = @rows[name][:hint], do: ": " <> text, else: "")

  # The transport that refuses an option whatever its value.
  defp refusal(facts) do
    case {refused?(facts[:exec]), refused?(facts[:app])} do
      {true, false} -> "by codex exec"
      {false, true} -> "over an app-server"
      {true, true} -> "by this version of the CLI"
      {false, false} -> "here"
    end
  end

  defp refused?(:refused), do: true
  defp refused?({:always, _value}), do: true
  defp refused?(_how), do: false

  defp transport(:exec), do: "codex exec"
  defp transport(other), do: text(other)

  defp list(names) do
    if is_list(names) and not List.improper?(names),
      do: Enum.map_join(names, ", ", &text/1),
      else: show(names)
  end

  defp cut(text),
    do: if(String.length(text) > @longest, do: String.slice(text, 0, @longest) <> "…", else: text)

  defp text(text) when is_binary(text), do: text |> Codex.Text.line() |> cut()

  defp text(atom) when is_atom(atom), do: Atom.to_string(atom)
  defp text(other), do: show(other)
end
