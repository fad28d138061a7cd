defmodule Codex.Surface.FactsTest do
  # The data of CLI 0.169.0 compared with the pinned CLI: every key, method, field and word that was
  # observed to change has a line.
  use ExUnit.Case, async: true

  alias Codex.Surface
  alias Codex.Surface.Diff

  @moduletag :codex_cli
  @moduletag timeout: 600_000

  @old "test/fixtures/cli/0.169.0"

  @lines [
    "~ cli 0.169.0 is now 0.171.0",
    # Methods.
    "+ request modelProvider/default/set ModelProviderDefaultSetParams -> ConfigWriteResponse",
    "+ request thread/search/stream ThreadSearchParams -> ThreadSearchResponse (experimental)",
    "+ request thread/search/cancel ThreadSearchCancelParams -> ThreadSearchCancelResponse " <>
      "(experimental)",
    "+ request thread/search/stream/cancel ThreadSearchCancelParams -> " <>
      "ThreadSearchCancelResponse (experimental)",
    "+ request thread/realtime/list ThreadRealtimeListParams -> ThreadRealtimeListResponse " <>
      "(experimental)",
    "+ notification thread/search/partial ThreadSearchPartialNotification",
    "~ server_request currentTime/read CurrentTimeReadParams -> CurrentTimeReadResponse " <>
      "(experimental) is now CurrentTimeReadParams -> CurrentTimeReadResponse (experimental) " <>
      "(until 0.169.0)",
    # Fields and words.
    "+ type ThreadItem[mcpToolCall].environmentId string?",
    "+ type McpServerStatusUpdatedNotification.environmentId string?",
    "+ type ListMcpServerStatusParams.environmentId string?",
    "+ type McpServerStatus.environmentId string?",
    "+ type McpServerToolCallParams.environmentId string?",
    "+ type McpResourceReadParams.environmentId string?",
    "+ type McpServerOauthLoginParams.environmentId string?",
    "+ type McpServerElicitationRequestParams[form].environmentId string?",
    "+ type AccountUpdateReason 'workspaceRoutingReady'|'unknown'",
    "+ type AccountUpdatedNotification.reason AccountUpdateReason?",
    "+ type ThreadListParams.includedThreadIds [string]?",
    "+ type CodexErrorInfo 'bioPolicy'",
    "~ type AgentMessageDisplay {} is now a|b",
    "- type AgentMessageDisplay.action string (required)",
    "+ type AgentMessageDisplay[show] {annotation:AnswerAnnotation?,mode!:'show'," <>
      "trustedContacts!:TrustedContacts,version!:1}",
    "- type Project.position integer (required)",
    "+ type ThreadRealtimeItem[transcriptSegment].observedAtMs integer?",
    "+ type OtelRequirements.headers_helper string?",
    "+ type OtelRequirements.headers_helper_refresh_interval_ms count?",
    "+ type UserVerificationVerifyResponse.biometricType UserVerificationBiometricType?",
    "+ type UserVerificationBiometricType 'fingerprint'",
    # Configuration keys.
    "+ config code_mode table: .heartbeat_interval_s",
    "+ config responses table: .process_mode",
    "+ config rollout_trace table: .max_bytes .max_payload_bytes",
    "+ config marketplaces.*.auto_update boolean",
    "+ config otel.headers_helper string",
    "+ config otel.headers_helper_refresh_interval_ms u64, min 1",
    "+ config permissions.*.network.transparent_tcp boolean",
    "+ config features.network_proxy[table 2].transparent_tcp boolean",
    "+ config tui.keymap.global.choose_cloud_environment keybinding",
    "+ config tui.keymap.composer.undo keybinding",
    "+ config tui.keymap.composer.redo keybinding",
    "+ config tui.keymap.pager.mark_markdown keybinding",
    "+ config features.token_budget[table 2].context_window_as_tool_output boolean",
    "+ config features.rollout_budget[table 2].limit_budget number",
    "+ config features.rollout_budget[table 2].reminder_at_context_start boolean",
    "+ config features.guardianv2[table 2].async_elastic_budgeting boolean",
    # Features.
    "~ config features.incremental_tools_legacy boolean, default false, stage stable is now " <>
      "boolean, default true, stage stable",
    "~ config features.tui_workspace boolean, default false, stage under development is now " <>
      "boolean, default true, stage stable",
    "~ config features.tui_extensions_statusline boolean, default false, stage under " <>
      "development is now boolean, default false, stage experimental",
    # Flags.
    "+ flags of exec --remote <ADDR>",
    "+ flags of exec --remote-auth-token-env <ENV_VAR>",
    "+ flags of exec resume --remote <ADDR>",
    "+ flags of sandbox --transparent-tcp",
    # Messages.
    "+ shape of item mcpToolCall.environmentId null",
    "+ shape of notification mcpServer/startupStatus/updated.environmentId null",
    "+ shape of request mcpServer/elicitation/request.environmentId null"
  ]

  # Lines that begin like this, as their ends repeat the overlay or a long type.
  @begins [
    "+ config tui.status_line_provider one of several",
    "+ config features.guardianv2[table 2].async_elastic_sections map",
    "+ config features.guardianv2[table 2].sync_elastic_sections.*.nested_tool_names list, note " <>
      "required for the section transcript_selected_exec_results",
    "+ type ThreadRealtimeItem[frame] ",
    "+ type ThreadRealtimeItem[turnInputAccepted] ",
    "+ type ThreadRealtimeItem[sessionEndInputSaved] "
  ]

  @features ~w(catalog_apps_instructions file_backed_tool_audio guardian_nested_approval_context
    mcp_shared_repl_cwd multi_environment_mcp per_environment_context restored_history_prewarm
    safe_image_decoder utc_environment_date)

  @tag :cli_pin
  test "every change from 0.169.0 to 0.171.0 has a line" do
    {:ok, codex} = Codex.Test.codex_path()
    assert {:ok, _new, changes} = Surface.read(codex, Surface.stored!(@old))
    lines = Enum.map(changes, &Diff.line/1)

    assert @lines -- lines == []

    assert Enum.reject(@begins, fn start -> Enum.any?(lines, &String.starts_with?(&1, start)) end) ==
             []

    for name <- @features do
      line = "+ config features.#{name} boolean, default false, stage under development"
      assert line in lines
    end

    # Nothing that a new version only looks like it lost.
    assert for("- config" <> _ = line <- lines, do: line) == []

    # The runs of the two versions differ in nothing else.
    shapes = for line <- lines, line =~ " shape of ", do: line
    assert shapes -- @lines == []
  end
end
