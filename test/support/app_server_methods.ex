defmodule Codex.AppServerMethods do
  @moduledoc """
  Every stable method of the app-server, and what the real one answers to a valid call: without a
  login, with the feature `plugins` and feedback turned off, and with an MCP server named `tiny`
  that is `test/children/mcp.sh`. Like that none of these calls looks for another host.

  The rows are in an order in which they can be called on one connection. A row is
  `{method, args, outcome}` or `{method, args, outcome, until: notification}`:

    * `args` - what the function takes after the connection: a list, or a function of what is known
      by then
    * `outcome` - `:ok`; `{:ok, keys}` or `{:ok, map}` with what the result has, maybe among others;
      `{:refused, code, words}`, the server's error, whose message has these words;
      `{:later, outcome}`, where the answer comes after those of the next rows
    * `until:` - the notification that comes before the next row is called
  """

  @typedoc "What is known: the directories of the test, and the results so far by method."
  @type known :: %{
          dir: Path.t(),
          workspace: Path.t(),
          results: %{String.t() => map()}
        }
  @type outcome ::
          :ok
          | {:ok, [String.t()] | map()}
          | {:refused, integer(), String.t()}
          | {:later, outcome()}
  @type row ::
          {String.t(), list() | (known() -> list()), outcome()}
          | {String.t(), list() | (known() -> list()), outcome(), until: String.t()}

  # What the guardian of approvals told of; the protocol does not say what is in it.
  @denied %{
    id: "denied-1",
    status: "denied",
    action: %{type: "command", source: "shell", command: "ls", cwd: "/"}
  }
  @no_login {:refused, -32600, "codex account authentication required"}
  @no_sharing {:refused, -32600, "plugin sharing is not enabled"}

  @doc "The rows, in order."
  @spec rows() :: [row()]
  def rows do
    [
      {"initialize", [[client_info: %{name: "again", version: "1"}]],
       {:refused, -32600, "Already initialized"}},
      {"model/list", [[limit: 1]], {:ok, ["data"]}},
      {"modelProvider/list", [], {:ok, %{"defaultProviderId" => "mock"}}},
      {"modelProvider/capabilities/read", [], {:ok, ["imageGeneration", "webSearch"]}},
      {"permissionProfile/list", &[[cwd: &1.workspace]], {:ok, ["data"]}},
      {"experimentalFeature/list", [[limit: 1]], {:ok, %{"nextCursor" => "1"}}},
      {"experimentalFeature/enablement/set", [[enablement: %{"apps" => false}]],
       {:ok, ["enablement"]}},
      {"hooks/list", &[[cwds: [&1.workspace]]], {:ok, ["data"]}},
      {"configRequirements/read", [], {:ok, %{"requirements" => nil}}},
      {"config/read", [[include_layers: true]], {:ok, ["config", "layers", "origins"]}},
      {"config/value/write",
       [[key_path: "hide_agent_reasoning", value: true, merge_strategy: :replace]],
       {:ok, %{"status" => "ok"}}},
      {"config/batchWrite",
       &[
         [%{key_path: "model_verbosity", value: "low"}],
         [expected_version: &1.results["config/value/write"]["version"]]
       ], {:ok, %{"status" => "ok"}}},
      {"modelProvider/default/set", [[provider_id: "mock"]], {:ok, ["status", "version"]}},
      {"config/mcpServer/reload", [], {:ok, []}},
      {"skills/list", &[[cwds: [&1.workspace], force_reload: true]], {:ok, ["data"]}},
      {"skills/config/write", &[[path: Path.join(&1.dir, "skills/one/SKILL.md"), enabled: false]],
       {:ok, %{"effectiveEnabled" => false}}},
      {"skills/extraRoots/set", &[[extra_roots: [Path.join(&1.dir, "skills")]]], {:ok, []}},
      {"fs/createDirectory", &[[path: Path.join(&1.dir, "a/b"), recursive: true]], {:ok, []}},
      {"fs/writeFile",
       &[[path: Path.join(&1.dir, "a/b/file"), data_base64: Base.encode64("bytes")]], {:ok, []}},
      {"fs/readFile", &[[path: Path.join(&1.dir, "a/b/file")]],
       {:ok, %{"dataBase64" => "Ynl0ZXM="}}},
      {"fs/getMetadata", &[[path: Path.join(&1.dir, "a/b/file")]],
       {:ok, %{"isFile" => true, "isDirectory" => false}}},
      {"fs/copy",
       &[
         [
           source_path: Path.join(&1.dir, "a/b"),
           destination_path: Path.join(&1.dir, "a/c"),
           recursive: true
         ]
       ], {:ok, []}},
      {"fs/readDirectory", &[[path: Path.join(&1.dir, "a/c")]],
       {:ok, %{"entries" => [%{"fileName" => "file", "isDirectory" => false, "isFile" => true}]}}},
      {"fs/watch", &[[path: Path.join(&1.dir, "a"), watch_id: "w"]], {:ok, ["path"]}},
      {"fs/unwatch", [[watch_id: "w"]], {:ok, []}},
      {"fs/remove", &[[path: Path.join(&1.dir, "a"), recursive: true]], {:ok, []}},
      {"fuzzyFileSearch", &["needle", [roots: [&1.workspace]]], {:ok, ["files"]}},
      {"command/exec",
       [
         ["sh", "-c", "echo ready; cat"],
         [
           process_id: "p",
           tty: true,
           stream_stdin: true,
           stream_stdout_stderr: true,
           sandbox_policy: :danger_full_access
         ]
       ], {:later, {:ok, ["exitCode", "stderr", "stdout"]}}, until: "command/exec/outputDelta"},
      {"command/exec/write", [[process_id: "p", delta_base64: Base.encode64("hi\n")]], {:ok, []},
       until: "command/exec/outputDelta"},
      {"command/exec/resize", [[process_id: "p", size: %{rows: 40, cols: 120}]], {:ok, []}},
      {"command/exec/terminate", [[process_id: "p"]], {:ok, []}},
      {"mcpServerStatus/list", [[limit: 5]], {:ok, ["data"]}},
      {"mcpServer/oauth/login", [[name: "tiny", timeout_secs: 5]],
       {:refused, -32600, "only supported for streamable HTTP servers"}},
      {"thread/start",
       &[[cwd: &1.workspace, approval_policy: :never, sandbox: :danger_full_access]],
       {:ok, ["model", "thread"]}},
      {"mcpServer/tool/call",
       &[[thread_id: thread(&1), server: "tiny", tool: "echo", arguments: %{text: "hi"}]],
       {:ok, %{"content" => [%{"text" => "echo: hi", "type" => "text"}]}}},
      {"mcpServer/resource/read", &[[thread_id: thread(&1), server: "tiny", uri: "memo://one"]],
       {:ok, ["contents"]}},
      {"turn/start", &[thread(&1), "Hi"], {:ok, ["turn"]}, until: "item/agentMessage/delta"},
      {"turn/steer", &[[thread_id: thread(&1), expected_turn_id: turn(&1), input: "And so on"]],
       {:ok, ["turnId"]}},
      {"turn/interrupt", &[thread(&1), turn(&1)], :ok, until: "turn/completed"},
      {"thread/compact/start", &[[thread_id: thread(&1)]], {:ok, []}, until: "turn/completed"},
      {"review/start", &[thread(&1), "Look", [delivery: :inline]],
       {:ok, ["reviewThreadId", "turn"]}, until: "turn/completed"},
      {"thread/shellCommand", &[[thread_id: thread(&1), command: "true"]], {:ok, []},
       until: "turn/completed"},
      {"thread/name/set", &[[thread_id: thread(&1), name: "One"]], {:ok, []}},
      {"thread/metadata/update", &[[thread_id: thread(&1), git_info: %{branch: "main"}]],
       {:ok, ["thread"]}},
      {"thread/inject_items",
       &[
         [
           thread_id: thread(&1),
           items: [
             %{type: "message", role: "user", content: [%{type: "input_text", text: "Known"}]}
           ]
         ]
       ], {:ok, []}},
      {"thread/goal/set", &[[thread_id: thread(&1), objective: "Rest", status: :paused]],
       {:ok, ["goal"]}},
      {"thread/goal/get", &[[thread_id: thread(&1)]], {:ok, ["goal"]}},
      {"thread/goal/clear", &[[thread_id: thread(&1)]], {:ok, %{"cleared" => true}}},
      {"thread/attachment/add",
       &[
         [
           thread_id: thread(&1),
           attachment_type: "note",
           identity_key: "k",
           payload: %{text: "x"}
         ]
       ], {:ok, %{"outcome" => "created"}}},
      {"thread/attachment/list", &[[thread_id: thread(&1)]], {:ok, ["data"]}},
      {"thread/attachmentOwner/list", [[attachment_type: "note", identity_key: "k"]],
       {:ok, ["data"]}},
      {"thread/attachment/remove",
       &[[thread_id: thread(&1), attachment_type: "note", identity_key: "k"]], {:ok, []}},
      {"thread/approveGuardianDeniedAction", &[[thread_id: thread(&1), event: @denied]],
       {:ok, []}},
      {"thread/read", &[[thread_id: thread(&1), include_turns: true]], {:ok, ["thread"]}},
      {"thread/turns/list", &[[thread_id: thread(&1), limit: 5]], {:ok, ["data"]}},
      {"thread/items/list", &[[thread_id: thread(&1), limit: 5]], {:ok, ["data"]}},
      {"thread/list", [[limit: 5]], {:ok, ["data"]}},
      {"thread/loaded/list", [[limit: 5]], {:ok, ["data"]}},
      {"threadSection/create", [[name: "Section", appearance: %{color: "blue"}]],
       {:ok, ["section"]}},
      {"threadSection/update", &[[section_id: section(&1), name: "Other"]], {:ok, ["section"]}},
      {"threadSection/list", [[limit: 5]], {:ok, ["data"]}},
      {"thread/section/move", &[[thread_id: thread(&1), section_id: section(&1)]], {:ok, []}},
      {"threadSection/delete", &[[section_id: section(&1)]], {:ok, []}},
      {"feedback/save",
       &[
         [
           classification: "bug",
           include_logs: false,
           save_path: Path.join(&1.dir, "feedback"),
           thread_id: thread(&1)
         ]
       ], {:ok, ["savedPath", "threadId"]}},
      {"feedback/upload", [[classification: "bug", include_logs: false]],
       {:refused, -32600, "disabled by configuration"}},
      {"thread/fork", &[[thread_id: thread(&1)]], {:ok, ["thread"]}},
      {"thread/delete", &[[thread_id: &1.results["thread/fork"]["thread"]["id"]]], {:ok, []}},
      {"thread/revert", &[[thread_id: thread(&1), before_turn_id: turn(&1)]], {:ok, ["thread"]}},
      {"thread/resume", &[thread(&1)], {:ok, ["thread"]}},
      {"thread/unsubscribe", &[[thread_id: thread(&1)]], {:ok, %{"status" => "unsubscribed"}}},
      {"thread/archive", &[thread(&1)], :ok},
      {"thread/unarchive", &[[thread_id: thread(&1)]], {:ok, ["thread"]}},
      {"account/read", [[refresh_token: false]],
       {:ok, %{"account" => nil, "requiresOpenaiAuth" => false}}},
      {"account/rateLimits/read", [], @no_login},
      {"account/usage/read", [], @no_login},
      {"account/workspaceMessages/read", [], @no_login},
      {"account/securitySetup/read", [], {:ok, %{"notice" => nil}}},
      {"account/rateLimitResetCredit/consume", [[idempotency_key: "k"]], @no_login},
      {"account/sendAddCreditsNudgeEmail", [[credit_type: :credits]], @no_login},
      {"account/gatewayOAuth/read", [], {:ok, %{"providerId" => "mock", "required" => false}}},
      {"account/gatewayOAuth/login", [], {:refused, -32600, "does not use gateway OAuth"}},
      {"account/gatewayOAuth/cancel", [], {:ok, []}},
      {"account/login/start", [[type: "apiKey", api_key: "sk-test"]],
       {:ok, %{"type" => "apiKey"}}},
      {"account/login/cancel", [[login_id: "01a1f6d4-85db-7361-ba5e-e19a013750ca"]],
       {:ok, %{"status" => "notFound"}}},
      {"account/logout", [], {:ok, []}},
      {"app/installed", [], {:ok, %{"apps" => []}}},
      {"app/list", [[limit: 1]], {:ok, %{"data" => []}}},
      {"app/read", [[app_ids: ["one"]]], {:ok, %{"apps" => [], "missingAppIds" => ["one"]}}},
      {"marketplace/add", &[[source: Path.join(&1.dir, "market")]],
       {:ok, %{"alreadyAdded" => false, "marketplaceName" => "local-market"}}},
      {"marketplace/upgrade", [[marketplace_name: "local-market"]],
       {:refused, -32600, "not configured as a Git marketplace"}},
      {"plugin/list", &[[cwds: [&1.workspace], marketplace_kinds: [:local]]],
       {:ok, %{"marketplaces" => []}}},
      {"plugin/installed", &[[cwds: [&1.workspace]]], {:ok, %{"marketplaces" => []}}},
      {"plugin/read", &[[plugin_name: "one", marketplace_path: market(&1)]],
       {:refused, -32600, "plugins feature is disabled"}},
      {"plugin/install", &[[plugin_name: "one", marketplace_path: market(&1)]],
       {:ok, %{"authPolicy" => "ON_INSTALL"}}},
      {"plugin/uninstall", [[plugin_id: "one@local-market"]], {:ok, []}},
      {"plugin/reconcile", [[reason: "test"]], {:ok, %{"changedPlugins" => []}}},
      {"plugin/skill/read",
       [[remote_marketplace_name: "m", remote_plugin_id: "p", skill_name: "s"]],
       {:refused, -32600, "not enabled for marketplace m"}},
      {"plugin/share/list", [], @no_sharing},
      {"plugin/share/save", &[[plugin_path: Path.join(&1.dir, "market/one")]], @no_sharing},
      {"plugin/share/checkout", [[remote_plugin_id: "p"]], @no_sharing},
      {"plugin/share/updateTargets",
       [[remote_plugin_id: "p", discoverability: "PRIVATE", share_targets: []]], @no_sharing},
      {"plugin/share/delete", [[remote_plugin_id: "p"]], @no_sharing},
      {"marketplace/remove", [[marketplace_name: "local-market"]],
       {:ok, %{"marketplaceName" => "local-market"}}},
      {"externalAgentConfig/detect", &[[cwds: [&1.workspace], include_home: false]],
       {:ok, %{"items" => []}}},
      {"externalAgentConfig/import", [[migration_items: []]], {:ok, ["importId"]}},
      {"externalAgentConfig/import/readHistories", [], {:ok, ["data"]}},
      {"externalAgentConfig/import/recordHistory", [[provider_id: "p", item_type_results: []]],
       {:ok, ["importId"]}},
      {"windowsSandbox/readiness", [], {:ok, %{"status" => "notConfigured"}}},
      {"windowsSandbox/setupStart", [[mode: :unelevated]], {:ok, %{"started" => true}},
       until: "windowsSandbox/setupCompleted"},
      {"modelProvider/config/write",
       [
         [
           settings: %{
             type: "customGateway",
             name: "Gateway",
             base_url: "http://127.0.0.1:9/v1"
           }
         ]
       ], {:ok, ["provider"]}}
    ]
  end

  defp thread(c), do: c.results["thread/start"]["thread"]["id"]
  defp turn(c), do: c.results["turn/start"]["turn"]["id"]
  defp section(c), do: c.results["threadSection/create"]["section"]["id"]
  defp market(c), do: Path.join(c.dir, "market/.agents/plugins/marketplace.json")
end
