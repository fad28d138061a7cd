defmodule Codex.Error.RecordedTest do
  # The classification of every recorded failure: kind, whether it is retryable, and the wait in ms
  # (`:clock` if the message names a time of day).
  use ExUnit.Case, async: true

  alias Codex.Failures

  @exec %{
    {:auth_missing, false, nil} =>
      ~w(auth_provider_env_key_missing human_output_error missing_auth_openai),
    {:config, false, nil} =>
      ~w(bad_c_approval bad_c_emptykey bad_c_enum bad_c_nested bad_c_noequals
        bad_c_through_scalar bad_c_wrongtype bad_cd c_approval_untrusted legacy_profile_key
        legacy_profile_table mcp_server_bad_transport output_last_baddir output_schema_badjson
        output_schema_missing project_untrustedtrust toml_dup_key toml_syntax_error toml_wrong_type
        toml_wrong_type_nested unknown_feature_enable unknown_feature_strict unknown_key_file_strict
        unknown_key_strict unknown_provider),
    {:cli_unsupported, false, nil} =>
      ~w(bad_flag bad_profile_name bad_sandbox_value review_conflict),
    {:thread_busy, true, nil} => ~w(concurrent_resume),
    {:thread_not_found, false, nil} => ~w(fork_unknown resume_unknown_id),
    {:not_a_git_repo, false, nil} => ~w(no_git_repo),
    {:mcp, false, nil} => ~w(mcp_server_required_fails),
    {:invalid_request, false, nil} =>
      ~w(failed_cyber http_400 image_greedy review_noargs stdin_empty_noarg stdin_nonutf8),
    {:context_window, false, nil} => ~w(failed_context_length),
    {:content_policy, false, nil} => ~w(failed_invalid_prompt),
    {:overloaded, true, nil} => ~w(failed_overloaded http_503_overloaded),
    {:quota, false, nil} => ~w(failed_quota http_429_quota),
    {:usage_limit, false, :clock} => ~w(http_429_usage_limit),
    {:rate_limit, true, 500} => ~w(failed_rate_limit),
    {:rate_limit, true, nil} => ~w(http_429 http_429_retry_after http_429_retry_budget),
    {:server_error, true, nil} => ~w(failed_server_error http_500 http_503),
    {:unauthorized, false, nil} => ~w(http_401 output_last_on_failure),
    {:forbidden, false, nil} => ~w(http_403),
    {:model_not_found, false, nil} => ~w(http_404),
    {:timeout, true, nil} => ~w(idle_timeout),
    {:incomplete, false, nil} => ~w(incomplete_max_tokens),
    {:stream_disconnected, true, nil} => ~w(no_answer_idle stream_cut stream_no_completed),
    {:interrupted, false, nil} => ~w(signal_sigint_during_command signal_sigint_during_stream
        signal_sigint_node_wrapper signal_sigint_sandboxed),
    {:killed, true, nil} =>
      ~w(server_down signal_sigkill_during_command signal_sigkill_during_stream
        signal_sigkill_node_wrapper signal_sigkill_sandboxed signal_sigterm_during_command
        signal_sigterm_during_stream signal_sigterm_node_wrapper signal_sigterm_sandboxed
        stdin_open_no_arg stdin_open_with_arg),
    {:killed, false, nil} =>
      ~w(signal_sighup_during_command signal_sighup_during_stream signal_sighup_sandboxed)
  }

  # The recording, and how the message begins.
  @app_server %{
    {:login_forbidden, false, nil} => [
      {"account_forced_api", "External ChatGPT auth is disabled."},
      {"account_forced_chatgpt", "API key login is disabled."}
    ],
    {:unauthorized, false, nil} => [
      {"account_forced_chatgpt", "failed to set external auth"},
      {"errors_all", "unexpected status 401"}
    ],
    {:auth_missing, false, nil} => [
      {"account_login_apikey", "chatgpt authentication required"},
      {"catalogs", "codex account authentication required to read rate limits"},
      {"catalogs", "codex account authentication required to read token usage"}
    ],
    {:config, false, nil} => [
      {"config_write", "Configuration was modified since last read."},
      {"config_write", "Invalid configuration: unknown variant"},
      {"config_write", "Invalid configuration: invalid type"},
      {"config_write", "keyPath must not be empty"},
      {"config_write", "keyPath segments"},
      {"config_write", "Only writes to the user config"},
      {"config_write_overridden", "failed to read configuration layers"},
      {"config_write_overridden", "failed to load configuration"}
    ],
    {:stream_disconnected, true, nil} => [
      {"error_retry_then_ok", "Reconnecting... 1/2"},
      {"errors_all", "stream disconnected before completion: e"},
      {"errors_all", "stream disconnected before completion: stream closed"}
    ],
    {:forbidden, false, nil} => [{"errors_all", "unexpected status 403"}],
    {:model_not_found, false, nil} => [{"errors_all", "no model"}],
    {:rate_limit, true, nil} => [{"errors_all", "exceeded retry limit, last status: 429"}],
    {:rate_limit, true, 500} => [{"errors_all", "rate limit exceeded"}],
    {:usage_limit, false, :clock} => [{"errors_all", "You’ve hit your usage limit."}],
    {:quota, false, nil} => [{"errors_all", "Quota exceeded."}],
    {:server_error, true, nil} => [
      {"errors_all", "We’re currently experiencing high demand"},
      {"errors_all", "unexpected status 503"}
    ],
    {:overloaded, true, nil} => [{"errors_all", "Selected model is at capacity."}],
    {:context_window, false, nil} => [{"errors_all", "Codex ran out of room"}],
    {:incomplete, false, nil} => [{"errors_all", "Incomplete response returned"}],
    {:timeout, true, nil} => [
      {"errors_all", "stream disconnected before completion: idle timeout"}
    ],
    {:invalid_request, false, nil} => [
      {"account_login_apikey", "Invalid request: unknown variant `bogus`"},
      {"command_exec_stream", "no active command/exec"},
      {"errors_all", "{\"error\": {\"message\": \"bad\""},
      {"interrupt", "expected active turn id"},
      {"interrupt", "no active turn to interrupt"},
      {"protocol_errors", "Invalid request: missing field `clientInfo`"},
      {"protocol_errors", "Invalid request: missing field `input`"},
      {"protocol_errors", "Invalid request: invalid type"},
      {"protocol_errors", "Invalid request: unknown variant `bogus`"},
      {"protocol_errors", "invalid thread id"},
      {"review", "Invalid request: unknown variant `detached`"},
      {"review", "instructions must not be empty"},
      {"steer", "expected active turn id"},
      {"steer", "no active turn to steer"},
      {"thread_lifecycle", "invalid thread id"}
    ],
    {:protocol, false, nil} => [
      {"protocol_errors", "Not initialized"},
      {"protocol_errors", "Already initialized"}
    ],
    {:unsupported, false, nil} => [
      {"protocol_errors", "Invalid request: unknown variant `no/such/method`"},
      {"protocol_errors", "thread/start.dynamicTools requires"},
      {"protocol_errors", "thread/search requires"},
      {"thread_lifecycle", "list_turns is not supported yet"},
      {"thread_lifecycle", "Invalid request: unknown variant `thread/rollback`"}
    ],
    {:thread_busy, true, nil} => [{"review", "failed to submit turn input"}],
    {:thread_not_found, false, nil} => [
      {"thread_lifecycle", "no rollout found"},
      {"thread_lifecycle", "thread not loaded"},
      {"thread_lifecycle", "session "},
      {"thread_resume_other_process", "thread not found"}
    ]
  }

  # Two failures have the same word, and different names of the CLI.
  @blocked [{"cyberPolicy", :content_policy}, {"other", :invalid_request}]

  # These say nothing about the failure, or its words say more.
  @plain ~w(other threadRollbackFailed sandboxError tooManyDenials)

  test "every word of codexErrorInfo in the protocol has a row" do
    {:one_of, members} = Codex.Protocol.types()["CodexErrorInfo"]

    words =
      for member <- members, member != :any do
        case member do
          {:word, word} -> word
          {:object, names, _required, _rest} -> hd(for {_, {wire, _, _, _, _}} <- names, do: wire)
        end
      end

    assert "bioPolicy" in words

    for word <- words -- @plain do
      error = Codex.Error.normalize(%{"message" => "zz", "codexErrorInfo" => word})
      assert {word, error.kind != :unknown} == {word, true}
    end
  end

  test "on codex exec" do
    expected = for {what, names} <- @exec, name <- names, into: %{}, do: {name, what}
    found = Failures.exec()
    assert length(found) == map_size(expected)

    for {name, error} <- found, do: assert({name, facts(error)} == {name, expected[name]})
  end

  test "on the app-server" do
    rows = for {what, messages} <- @app_server, {name, start} <- messages, do: {name, start, what}
    found = Enum.reject(Failures.app_server(), fn {_, error} -> error.message == "b" end)

    for {name, error} <- found do
      matching =
        for {^name, start, what} <- rows,
            String.starts_with?(error.message, start),
            do: {start, what}

      assert {_, what} =
               Enum.max_by(matching, fn {start, _} -> byte_size(start) end, fn -> nil end),
             "#{name}: no row for #{error.message}"

      assert {name, error.message, facts(error)} == {name, error.message, what}
    end

    for {name, start, _} <- rows do
      assert Enum.any?(found, fn {other, error} ->
               other == name and String.starts_with?(error.message, start)
             end),
             "#{name}: nothing begins with #{start}"
    end
  end

  test "without known words, the app-server's name of the failure counts" do
    found =
      for {"errors_all", %{message: "b"} = error} <- Failures.app_server(),
          do: {error.codex_error_info, error.kind}

    assert Enum.sort(found) == Enum.sort(@blocked)
  end

  test "other known fields stay" do
    errors = Map.new(Failures.exec())
    assert errors["http_401"].http_status == 401
    assert errors["http_429"].http_status == 429
    assert errors["toml_syntax_error"].message =~ ~r/^Error loading config.toml:\n.*4:22: invalid/
    assert errors["signal_sigint_during_command"].message == ""

    assert errors["concurrent_resume"].message =~
             ~r/^Error: thread\/resume: .* already has an active writer/
  end

  # A time of day is read as the clock here shows it, and the wait ends at it.
  defp facts(%{resets_at: nil} = error),
    do: {error.kind, error.retryable?, error.retry_after_ms}

  defp facts(%{resets_at: at} = error) do
    {_, time} =
      at
      |> DateTime.to_naive()
      |> NaiveDateTime.to_erl()
      |> :calendar.universal_time_to_local_time()

    assert time == {4, 46, 0}

    assert abs(DateTime.diff(at, DateTime.utc_now(), :millisecond) - error.retry_after_ms) <
             60_000

    {error.kind, error.retryable?, :clock}
  end
end
