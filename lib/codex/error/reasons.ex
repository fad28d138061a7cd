defmodule Codex.Error.Reasons do
  @moduledoc false
  # The reasons that functions of this package, and of others, give instead of an exception: which kind each is.

  # Atoms that networks and timers give.
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
    not_ready: :protocol,
    cancelled: :interrupted,
    crashed: :crashed,
    keyring_unavailable: :auth_missing,
    encrypted_store: :unsupported,
    conflicting_auto_flags: :invalid_request,
    invalid_base_url: :invalid_request,
    invalid_codex_path: :invalid_request
  }

  # The first element of a tuple.
  @tags %{
    codex_timeout: :timeout,
    timeout: :timeout,
    codex_binary_missing: :cli_not_found,
    codex_binary_not_regular: :cli_not_found,
    codex_binary_not_executable: :cli_not_found,
    approval_denied: :approval_denied,
    keyring: :auth_missing,
    invalid_credentials: :auth_missing,
    invalid_access_token: :auth_missing,
    missing_env: :auth_missing,
    unknown_provider: :config,
    lock_held: :config,
    unreadable: :config,
    dangerous: :invalid_request,
    missing_option: :invalid_request,
    invalid_option: :invalid_request,
    invalid_options: :invalid_request,
    request_closed: :invalid_request,
    experimental: :unsupported,
    overflow: :overflow,
    app_server_down: :crashed,
    init_timeout: :timeout,
    initialize_refused: :protocol,
    login_failed: :unauthorized,
    login_refused: :unauthorized,
    killed: :killed,
    lost: :crashed,
    not_started: :cli_not_found,
    not_connected: :connection_refused,
    not_a_websocket: :protocol,
    ca_certificate: :config,
    too_long: :protocol,
    forced_login_method: :login_forbidden,
    forced_chatgpt_workspace_id: :login_forbidden,
    input_too_large: :input_too_large,
    unsupported_option: :unsupported,
    unsupported: :unsupported,
    turn_running: :thread_busy,
    unreachable: :connection_refused,
    already_started: :invalid_request,
    unsupported_input: :unsupported,
    unknown_option: :invalid_request,
    misplaced_option: :invalid_request,
    invalid_input: :invalid_request,
    image_not_found: :invalid_request,
    image_too_large: :invalid_request,
    invalid_working_directory: :config,
    invalid_config_overrides: :config,
    invalid_profile: :config
  }

  # `Codex.Subprocess.Error`: kind, and whether the same call may succeed later.
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

  # Why a review has nothing to look at.
  @targets %{
    no_branch: "there is no such branch",
    no_commit: "there is no such commit",
    no_repository: "there is no Git repository with a work tree",
    no_answer: "Git gave no answer about the repository"
  }

  # A server elsewhere answers in HTTP.
  @statuses %{401 => :unauthorized, 403 => :forbidden, 429 => :rate_limit, 503 => :overloaded}

  @doc """
  What a reason says, or nil where it has no words of its own.

      iex> Codex.Error.Reasons.words({:unknown_option, :modell, :model})
      "there is no option :modell; did you mean :model?"
      iex> Codex.Error.Reasons.words({:invalid_option, [:input, 0], 1, "a text"})
      "the option [:input, 0] is 1, and not a text"
  """
  @spec words(term()) :: String.t() | nil
  def words({:unknown_option, key, nil}), do: "there is no option #{inspect(key)}"

  def words({:unknown_option, key, nearest}),
    do: "there is no option #{inspect(key)}; did you mean #{inspect(nearest)}?"

  def words({:missing_option, key}), do: "the option #{inspect(key)} is missing"

  def words({:invalid_option, key, value, expected}) when is_binary(expected),
    do: "the option #{inspect(key)} is #{inspect(value)}, and not #{expected}"

  def words({:invalid_options, value}), do: "#{inspect(value)} is no map or keyword of options"

  def words({:experimental, [name | _] = names}) when is_binary(name),
    do: "#{inspect(names)} needs a connection with experimental_api: true"

  def words({:invalid_review_target, %{target: target, reason: reason} = missing})
      when is_map_key(@targets, reason) do
    details = if missing[:details], do: " (git: #{Codex.Text.line(missing.details)})"

    "the review cannot look at #{inspect(target)}: #{@targets[reason]} in " <>
      "#{inspect(missing[:directory])}#{details}"
  end

  def words({:invalid_review_target, target}) do
    "#{inspect(target)} is no target of a review; expected :uncommitted_changes, " <>
      "{:base_branch, branch}, {:commit, sha}, {:commit, sha, title} or instructions as text"
  end

  def words({:unsupported, :exec}), do: "that needs a thread over an app-server"

  def words({:turn_running, id, _turn}) when is_binary(id),
    do: "a turn is running in the thread #{id}"

  def words({:login_refused, %{"message" => text}}) when is_binary(text),
    do: "the app-server refuses the login with the option api_key: #{text}"

  def words({:unsupported, :remote}),
    do:
      "a server of connect_remote/2 keeps its login elsewhere: " <>
        "ask it with Codex.AppServer.account_read/2"

  def words(:missing_thread_id), do: "the thread has not begun: it has no id yet"

  def words(:codex_binary_not_found),
    do: "there is no codex: `mix codex.doctor` says where it is looked for"

  def words({:app_server_down, %{reason: :noproc}}), do: "there is no such connection"
  def words(other), do: Codex.Options.Words.reason(other)

  @doc "The kind of a reason, or nil."
  @spec kind(term()) :: atom() | nil
  # It is there, and not trusted.
  def kind({:not_connected, {:tls, _alert, _text}}), do: :config

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

  @doc "The kind of a `Codex.Subprocess.Error`, and whether it is retryable."
  @spec subprocess(atom()) :: {atom(), boolean()}
  def subprocess(reason), do: Map.get(@subprocess, reason, {:unknown, false})

  @doc "The clock that ran out, where a child process was waited for."
  @spec clock(atom()) :: atom() | nil
  def clock(:start_timeout), do: :start
  def clock(:stop_timeout), do: :stop
  def clock(_reason), do: nil
end
