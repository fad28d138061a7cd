defmodule Codex.Error.Reasons do
  @moduledoc false
  # Maps each reason that a function of this package or of OTP returns to a kind.
  # `Codex.Error.Words` has the sentences.

  # Reasons of networks and timers.
  @atoms %{
    timeout: :timeout,
    stream_timeout: :timeout,
    econnrefused: :connection_refused,
    nxdomain: :connection_refused,
    econnreset: :stream_disconnected,
    closed: :stream_disconnected,
    stream_reset: :stream_disconnected,
    codex_binary_not_found: :cli_not_found,
    missing_thread_id: :invalid_request,
    not_authenticated: :auth_missing,
    no_credentials: :auth_missing,
    not_ready: :connection_refused,
    cancelled: :interrupted,
    crashed: :crashed,
    keyring_unavailable: :auth_missing,
    encrypted_store: :unsupported,
    oauth_discovery_failed: :config,
    oauth_client_required: :config,
    invalid_oauth_response: :protocol,
    missing_options: :invalid_request,
    not_an_override: :invalid_request,
    not_structured: :invalid_request,
    empty_patch: :invalid_request,
    git_not_found: :config,
    invalid_apply_input: :invalid_request,
    invalid_undo_input: :invalid_request,
    missing_ghost_commit_id: :invalid_request,
    invalid_ghost_snapshot: :invalid_request,
    invalid_raw_response_item: :invalid_request,
    missing_url: :invalid_request,
    server_not_found: :invalid_request,
    missing_server_config: :invalid_request,
    missing_transport: :invalid_request,
    invalid_server_name: :invalid_request,
    missing_path: :invalid_request,
    not_a_directory: :invalid_request,
    not_found: :invalid_request,
    already_exists: :invalid_request,
    no_output: :protocol,
    no_telemetry: :unsupported,
    opentelemetry_unavailable: :unsupported,
    no_version: :cli_unsupported,
    rate_limit_attempts_exhausted: :rate_limit,
    absolute_path_not_allowed: :invalid_request,
    path_traversal: :invalid_request,
    invalid_path: :invalid_request,
    multiple_operations: :invalid_request,
    move_onto_itself: :invalid_request,
    is_a_directory: :invalid_request,
    not_a_file: :invalid_request,
    not_text: :invalid_request,
    file_too_large: :invalid_request,
    changed: :invalid_request,
    full: :session_store,
    etimedout: :timeout,
    ehostunreach: :connection_refused,
    enetunreach: :connection_refused,
    epipe: :stream_disconnected,
    missing_command: :invalid_request,
    invalid_capabilities: :protocol,
    invalid_tools_response: :protocol,
    invalid_input_request: :protocol,
    session_lost: :stream_disconnected,
    missing_handler: :invalid_request,
    missing_client: :invalid_request,
    missing_tool: :invalid_request,
    too_many_sessions: :invalid_request,
    not_a_tool: :invalid_request,
    not_loaded: :invalid_request,
    no_invoke: :invalid_request,
    not_registered: :invalid_request,
    defer_without_namespace: :invalid_request
  }

  # The first element of a tuple.
  @tags %{
    codex_timeout: :timeout,
    timeout: :timeout,
    codex_binary_missing: :cli_not_found,
    codex_binary_not_regular: :cli_not_found,
    codex_binary_not_executable: :cli_not_found,
    approval_denied: :approval_denied,
    invalid_approval_response: :approval_denied,
    missing_argument: :invalid_request,
    invalid_argument: :invalid_request,
    empty_patch: :invalid_request,
    parse_error: :invalid_request,
    context_mismatch: :invalid_request,
    missing_anchor: :invalid_request,
    keyring: :auth_missing,
    invalid_credentials: :auth_missing,
    invalid_access_token: :auth_missing,
    missing_env: :auth_missing,
    oauth_request_failed: :connection_refused,
    oauth_metadata: :config,
    oauth_issuer_changed: :auth_missing,
    oauth_registration_failed: :config,
    oauth_client_key: :config,
    oauth_port: :config,
    oauth_browser: :config,
    oauth_denied: :unauthorized,
    oauth_callback: :unauthorized,
    oauth_token_failed: :unauthorized,
    oauth_identity: :unauthorized,
    oauth_refresh_failed: :server_error,
    missing_oauth_field: :protocol,
    oauth_login_required: :auth_missing,
    oauth_login_expired: :auth_missing,
    oauth_insufficient_scope: :forbidden,
    oauth_refused: :unauthorized,
    unknown_provider: :config,
    lock_held: :config,
    unreadable: :config,
    dangerous: :invalid_request,
    request_closed: :invalid_request,
    experimental: :unsupported,
    cli_unsupported: :cli_unsupported,
    overflow: :overflow,
    app_server_down: :crashed,
    init_timeout: :timeout,
    initialize_refused: :protocol,
    login_failed: :unauthorized,
    login_refused: :unauthorized,
    killed: :killed,
    lost: :crashed,
    pool_drained: :connection_refused,
    no_pool: :connection_refused,
    no_thread_server: :connection_refused,
    not_started: :cli_not_found,
    not_connected: :connection_refused,
    not_a_websocket: :protocol,
    ca_certificate: :config,
    invalid_proxy: :config,
    proxy_refused: :connection_refused,
    invalid_response: :protocol,
    response_too_large: :protocol,
    redirected: :config,
    too_long: :protocol,
    forced_login_method: :login_forbidden,
    forced_chatgpt_workspace_id: :login_forbidden,
    input_too_large: :input_too_large,
    unsupported_option: :unsupported,
    no_terminal: :unsupported,
    unsupported: :unsupported,
    turn_running: :thread_busy,
    unreachable: :connection_refused,
    already_started: :invalid_request,
    session_not_found: :invalid_request,
    ambiguous_session: :invalid_request,
    unreadable_session: :invalid_request,
    not_regular: :config,
    too_large: :config,
    session_in_use: :thread_busy,
    session_store_failed: :session_store,
    session_store_conflict: :session_store,
    conflict: :session_store,
    session_not_stored: :invalid_request,
    invalid_stored_session: :session_store,
    session_line_too_long: :session_store,
    session_referenced: :invalid_request,
    wrong_session_file: :invalid_request,
    already_archived: :invalid_request,
    turn_not_found: :invalid_request,
    not_archived: :invalid_request,
    file_exists: :invalid_request,
    invalid_apply_input: :invalid_request,
    invalid_change_path: :invalid_request,
    missing_diff: :invalid_request,
    outside_cwd: :invalid_request,
    apply_failed: :invalid_request,
    exec_start_failed: :config,
    undo_conflict: :invalid_request,
    changed_meanwhile: :invalid_request,
    ghost_commit_missing: :invalid_request,
    not_a_git_repo: :config,
    git_restore_failed: :config,
    unsupported_input: :unsupported,
    unknown_option: :invalid_request,
    invalid_input: :invalid_request,
    image_not_found: :invalid_request,
    image_too_large: :invalid_request,
    invalid_working_directory: :config,
    unwritable_tee: :config,
    invalid_profile: :config,
    invalid_config: :config,
    not_encodable: :invalid_request,
    unknown_method: :unsupported,
    skill: :invalid_request,
    max_attempts_reached: :incomplete,
    max_turns_exceeded: :incomplete,
    invalid_tool_use_behavior_result: :tool_failure,
    invalid_handoff_input: :tool_failure,
    no_turn: :invalid_request,
    no_id: :protocol,
    exited: :crashed,
    write_failed: :config,
    bridge: :config,
    blocked: :blocked,
    budget: :budget,
    until: :until,
    native: :config,
    eof: :invalid_request,
    syntax: :invalid_request,
    trailing: :invalid_request,
    control: :invalid_request,
    escape: :invalid_request,
    number: :invalid_request,
    number_range: :invalid_request,
    depth: :invalid_request,
    utf8: :invalid_request,
    nodes: :invalid_request,
    command_not_found: :config,
    server_down: :crashed,
    unsupported_protocol: :unsupported,
    tool_disabled: :invalid_request,
    already_registered: :invalid_request,
    tool_exception: :crashed,
    tool_failure: :crashed,
    error_handler_failed: :crashed,
    remote_image: :invalid_request,
    missing_callback: :invalid_request,
    computer_denied: :approval_denied,
    unsupported_action: :unsupported,
    glob_error: :invalid_request,
    regex_error: :invalid_request,
    unknown_metadata: :invalid_request,
    metadata_failed: :crashed,
    reserved_name: :invalid_request,
    reserved_namespace: :invalid_request,
    duplicate_name: :invalid_request,
    unsupported_image_type: :invalid_request,
    unknown_mcp_server: :config,
    headers_helper: :config,
    invalid_list: :protocol,
    invalid_output: :protocol,
    input_declined: :approval_denied
  }

  # Reasons of `Codex.Subprocess.Error`: kind, and whether the same call may succeed later.
  @subprocess %{
    enoent: {:cli_not_found, false},
    eacces: {:cli_not_found, false},
    eisdir: {:cli_not_found, false},
    enoexec: {:cli_not_found, false},
    etxtbsy: {:cli_not_found, true},
    launcher_missing: {:cli_not_found, false},
    e2big: {:input_too_large, false},
    einval: {:invalid_request, false},
    bad_cwd: {:config, false},
    unwritable: {:config, false},
    enomem: {:crashed, true},
    eagain: {:crashed, true},
    emfile: {:crashed, true},
    spawn_failed: {:cli_not_found, false},
    start_timeout: {:timeout, true},
    stop_timeout: {:timeout, false},
    launcher_died: {:crashed, true},
    terminated: {:killed, true},
    unkillable: {:crashed, false},
    protocol: {:protocol, false},
    stdin_closed: {:protocol, false},
    exited: {:protocol, false}
  }

  # HTTP statuses of remote servers.
  @statuses %{401 => :unauthorized, 403 => :forbidden, 429 => :rate_limit, 503 => :overloaded}

  @doc "Returns the kind of a reason, or nil."
  @spec kind(term()) :: atom() | nil
  # The server exists but is not trusted.
  def kind({:not_connected, {:tls, _alert, _text}}), do: :config

  def kind({:http_error, status, body}), do: kind({:handshake_refused, status, body})

  def kind({:handshake_refused, status, _text}) when is_map_key(@statuses, status),
    do: @statuses[status]

  def kind({:handshake_refused, status, _text}) when status in 500..599, do: :server_error
  def kind({:handshake_refused, _status, _text}), do: :protocol
  def kind(reason) when is_atom(reason), do: @atoms[reason]

  def kind(reason) when is_tuple(reason) and tuple_size(reason) > 0 do
    tag = elem(reason, 0)
    @tags[tag] || if(is_atom(tag) and invalid?(tag), do: :invalid_request)
  end

  def kind(_reason), do: nil

  # Options that are checked by name: `:invalid_tools`, …
  defp invalid?(tag), do: tag |> Atom.to_string() |> String.starts_with?("invalid_")

  # An invalid value of these is a matter of the configuration.
  @configuration [:working_directory, :cd, :cwd, :profile, :config_profile] ++
                   [:config, :config_overrides, :config_override]

  @doc "Returns the kind of a `Codex.OptionError`."
  @spec option(Codex.OptionError.t()) :: :invalid_request | :unsupported | :config
  def option(%{reason: :unsupported}), do: :unsupported
  def option(%{reason: :invalid, key: key}) when key in @configuration, do: :config
  def option(_error), do: :invalid_request

  @doc "Returns the kind of a `Codex.Subprocess.Error`, and whether it is retryable."
  @spec subprocess(atom()) :: {atom(), boolean()}
  def subprocess(reason), do: Map.get(@subprocess, reason, {:unknown, false})

  @doc "Returns the timeout that expired for a child process, or nil."
  @spec clock(atom()) :: atom() | nil
  def clock(:start_timeout), do: :start
  def clock(:stop_timeout), do: :stop
  def clock(_reason), do: nil
end
