defmodule Codex.Options.Rows do
  @moduledoc false
  # Every option of a run, as data for `Codex.Options.Table`. The ways to
  # the CLI are those that it was observed to accept.
  #
  # A row is `{name, scopes, type, documentation, facts}`. The scopes are `:global`, `:thread` and
  # `:turn`; if a name has several scopes, the value of the turn wins over that of the thread, and
  # that over that of the client. The facts are those of `Codex.Options.Schema`, and:
  #
  #   * `exec:`      - required: how the option reaches `codex exec`
  #   * `app:`       - required: how the option reaches the app-server
  #   * `flags:`     - the flags that `exec:` sends if it names a function, as `--x` or
  #     `subcommand --x`
  #   * `turn_also:` - further names that only turns accept
  #   * `hint:`      - the replacement, if a transport refuses the option
  #
  # On both transports:
  #
  #   * `:host`            - the SDK itself gives the option its effect
  #   * `{:always, value}` - the transport behaves like this anyway; other values are refused
  #   * `:refused`         - the transport has nothing like it: an error that names the option
  #
  # On `exec:` also `{:flag, "--x"}` with a value, `{:switch, "--x"}` when true, `{:each, "--x"}`
  # once a value, `{:config, "a.b"}` as `--config a.b=<toml>`, `{:table, "a"}` each member of a map
  # below that key, `{:provider, "x"}` as `model_providers.<id>.x`, `{:dangerous, "--x"}` when true
  # beside `dangerous`, `{:env, names}` in the environment, `:input` with the prompt, `:overrides`
  # after the configuration of the other options, `:hooks` by functions that the CLI calls, or the
  # name of a function clause of `Codex.Exec.Flags`.
  #
  # On `app:` also the parameter of `thread/start` or `turn/start`, `:config` for the configuration
  # key of `exec:` in the thread's `config`, `:connection` for an option of the server's process,
  # `:input`, `:overrides`, or the name of a function clause of `Codex.AppServer.ThreadParams`.

  @only_app "it needs transport: {:app_server, conn}"
  @asks_nobody "codex exec never asks; use transport: {:app_server, conn}"
  @own_provider "name a model_provider that is not built in"

  @summaries [:auto, :concise, :detailed, :none]
  @levels [:low, :medium, :high]

  @client [
    {:api_key, [:global], :key,
     "OpenAI API key; handed over in the environment. nil and \"\" are errors: a key from a " <>
       "variable that is not set must not become another login",
     exec: {:env, ["CODEX_API_KEY", "OPENAI_API_KEY"]},
     app: :connection,
     secret: true,
     nil: :error,
     expected: "a non-empty string (is the variable set that it comes from?)"},
    {:base_url, [:global], :string,
     "base URL of the built-in provider; sent unless it is this default",
     default: "https://api.openai.com/v1", exec: :base_url, app: :connection, secret: true},
    {:codex_path_override, [:global], :path,
     "the CLI; else `CODEX_PATH`, else `CODEX_BINARY`, else `codex` on the PATH",
     also: [:codex_path], exec: :host, app: :connection},
    {:codex_home, [:global], :path,
     "folder with config, login and sessions (`CODEX_HOME`); it must exist",
     exec: {:env, ["CODEX_HOME"]}, app: :connection},
    {:telemetry_prefix, [:global], :atoms, "first part of event names",
     default: [:codex], exec: :host, app: :host},
    {:telemetry_content, [:global], :boolean,
     "events have prompts, commands and outputs as well: see `Codex.Telemetry`",
     exec: :host, app: :host}
  ]

  @where [
    {:profile, [:thread, :turn], :string,
     "name of a profile: layers `$CODEX_HOME/<name>.config.toml` on the user's",
     also: [:config_profile],
     exec: {:flag, "--profile"},
     app: :refused,
     hint: "the app-server accepts no profile: use config"},
    {:strict_config, [:thread, :turn], :boolean,
     "unknown configuration keys are errors of the CLI",
     exec: {:switch, "--strict-config"},
     app: {:always, false},
     hint: "give it to Codex.AppServer.connect/2"},
    {:isolation, [:thread], {:one_of, [:inherit, :project, :hermetic]},
     "`:inherit`: nothing. `:project`: not the user's `config.toml` (`--ignore-user-config`), " <>
       "and so no project's either, as trust is kept there. `:hermetic`: nor rules " <>
       "(`--ignore-rules`), AGENTS files of the project (`project_doc_max_bytes=0`) and the " <>
       "VM's environment (`clear_env?`). Login, AGENTS file and sessions are those of " <>
       "`codex_home`: see `Codex.Home.Isolated`. The `config.toml` of a home that " <>
       "`Codex.Home.Isolated` or `Codex.Test` made counts all the same",
     exec: :isolation, app: {:always, :inherit}, hint: "give it to Codex.AppServer.connect/2"},
    {:ignore_user_config, [:thread, :turn], :boolean,
     "do not load the user's `config.toml`; the login is used all the same. No effect with a " <>
       "home that `Codex.Home.Isolated` or `Codex.Test` made, whose `config.toml` is the " <>
       "caller's own", exec: {:switch, "--ignore-user-config"}, app: {:always, false}},
    {:ignore_rules, [:thread, :turn], :boolean,
     "do not load `.rules` files, the user's and the project's",
     exec: {:switch, "--ignore-rules"}, app: {:always, false}},
    {:working_directory, [:thread, :turn], :path,
     "the working directory of the agent; relative to that of the VM",
     also: [:cd, :cwd], exec: {:flag, "--cd"}, app: "cwd"},
    {:worktree, [:thread], :boolean, "work in a new Git worktree that the CLI manages",
     exec: {:switch, "--worktree"}, app: {:always, false}},
    {:additional_directories, [:thread], {:list, :path}, "further folders that may be written",
     default: [],
     exec: {:each, "--add-dir"},
     app: :refused,
     hint: "use sandbox_policy with writable_roots"},
    {:skip_git_repo_check, [:thread], :boolean,
     "run outside a Git repository; the app-server does so in any case",
     default: false, exec: {:switch, "--skip-git-repo-check"}, app: {:always, true}},
    {:trust, [:thread], :boolean,
     "save trust for this project: it persists, in the user's `config.toml`",
     exec: {:switch, "--trust"}, app: {:always, false}},
    {:ephemeral, [:thread], :boolean,
     "write no session files; such a thread cannot be resumed, and a thread that is resumed " <>
       "cannot be ephemeral: fork it",
     exec: {:switch, "--ephemeral"},
     app: "ephemeral",
     hint: "fork the thread with Codex.fork_thread/3 and ephemeral: true"},
    {:thread_source, [:thread], :string, "a word that classifies new threads",
     exec: {:flag, "--thread-source"}, app: "threadSource"},
    {:remote, [:thread, :turn], :string,
     "run the turn in the app-server at this address: `ws://host:port`, `wss://host:port`, " <>
       "`unix://` or `unix://PATH`. Model, provider, sandbox, working directory, home and " <>
       "session file are those of the server: only `output_last_message`, `color`, " <>
       "`skip_git_repo_check` and the options of the SDK itself go with it. Works for new " <>
       "threads and for those that are resumed by their id",
     exec: {:flag, "--remote"}, app: :refused, hint: "use Codex.AppServer.connect_remote/2"},
    {:remote_auth_token_env, [:thread, :turn], :string,
     "the name of the variable that holds the bearer token of `remote`",
     exec: {:flag, "--remote-auth-token-env"},
     app: :refused,
     hint: "give token to Codex.AppServer.connect_remote/2"},
    {:resume_all, [:thread], :boolean,
     "for `Codex.resume_thread/3` with `:last` alone: the newest thread of any folder",
     exec: :resume_all, flags: ["resume --all"], app: :host}
  ]

  @model [
    {:model, [:global, :thread, :turn], :string, "the model",
     exec: {:flag, "--model"}, app: "model"},
    {:model_provider, [:thread], :string, "id of a provider of the configuration",
     also: [:provider], exec: {:config, "model_provider"}, app: "modelProvider"},
    {:oss, [:thread, :turn], :boolean, "use a local open-source provider",
     exec: {:switch, "--oss"}, app: {:always, false}, hint: "use model_provider"},
    {:local_provider, [:thread, :turn], :string, "`lmstudio` or `ollama`; needs `oss: true`",
     also: [:oss_provider],
     exec: {:flag, "--local-provider"},
     app: :refused,
     hint: "use model_provider"},
    {:model_providers, [:thread], {:tables, "model_providers"},
     "definitions of providers by id. On `codex exec`, bearer tokens and header values go into " <>
       "the environment under names of their own, not into the arguments; the agent's commands " <>
       "find those variables empty", exec: :model_providers, app: :model_providers, secret: true},
    {:request_max_retries, [:thread], :positive,
     "of `model_provider`, which must be named: built-in providers are fixed",
     exec: {:provider, "request_max_retries"}, app: :config, hint: @own_provider},
    {:stream_max_retries, [:thread], :positive, "likewise",
     exec: {:provider, "stream_max_retries"}, app: :config, hint: @own_provider},
    {:provider_stream_idle_timeout_ms, [:thread], :positive,
     "likewise: the longest silence of the provider's stream, in ms",
     exec: {:provider, "stream_idle_timeout_ms"}, app: :config, hint: @own_provider},
    {:reasoning_effort, [:global, :thread, :turn], :effort,
     "#{Enum.map_join(Codex.Options.Effort.all(), ", ", &"`#{inspect(&1)}`")}, or a word of the " <>
       "model's own",
     also: [:reasoning, :effort], exec: {:config, "model_reasoning_effort"}, app: "effort"},
    {:model_reasoning_summary, [:global, :thread, :turn], {:one_of, @summaries},
     "the summary of reasoning",
     also: [:reasoning_summary, :summary],
     exec: {:config, "model_reasoning_summary"},
     app: "summary"},
    {:model_verbosity, [:global, :thread], {:one_of, @levels}, "the length of answers",
     also: [:verbosity], exec: {:config, "model_verbosity"}, app: :config},
    {:model_context_window, [:global, :thread], :positive, "tokens",
     also: [:context_window], exec: {:config, "model_context_window"}, app: :config},
    {:tool_output_token_limit, [:global, :thread], :count,
     "the number of tokens of a tool's output that the model gets",
     exec: {:config, "tool_output_token_limit"}, app: :config},
    {:agents, [:thread], {:tables, "agents"},
     "roles of sub-agents by name: `%{\"reviewer\" => %{description: text, config_file: path}}`" <>
       ". The model reads the description; the file is a configuration for the sub-agent: " <>
       "model, effort, instructions", exec: {:table, "agents"}, app: :config},
    {:agent_max_threads, [:global, :thread], :positive,
     "the number of agents that may work at once in a session",
     exec: {:config, "agents.max_threads"}, app: :config},
    {:model_supports_reasoning_summaries, [:global, :thread], :boolean,
     "the CLI has no such setting any more",
     also: [:supports_reasoning_summaries], exec: :refused, app: :refused},
    {:personality, [:thread], {:one_of, [:none, :friendly, :pragmatic]}, "the tone of the agent",
     exec: {:config, "personality"}, app: "personality"},
    {:collaboration_mode, [:thread, :turn], :collaboration_mode,
     "`:plan`, in which the agent asks and plans and changes nothing, or `:default`; or a map " <>
       "with `mode` and `settings`. Needs a connection with `experimental_api: true`",
     exec: :refused, app: "collaborationMode", hint: @only_app},
    {:base_instructions, [:thread], :string,
     "instead of the model's own instructions; beyond 127 KiB through a file, of which the CLI " <>
       "trims the ends", exec: :base_instructions, app: "baseInstructions"},
    {:developer_instructions, [:thread], :string,
     "besides the model's own instructions; beyond 127 KiB through a profile made for the run",
     exec: {:config, "developer_instructions"}, app: "developerInstructions"},
    {:cyber_access_program, [:thread, :turn],
     {:one_of, [:standard, :daybreak_blue, :daybreak_red]},
     "an experimental access program of OpenAI's",
     exec: {:flag, "--cyber-access-program"}, app: :refused}
  ]

  @may [
    {:sandbox, [:thread], {:one_of, Codex.Options.Sandbox.names()},
     "the files that commands may write; `:default` sends nothing; the CLI has no " <>
       "`:external_sandbox`",
     default: :default, exec: :sandbox, flags: ["--sandbox"], app: "sandbox"},
    {:sandbox_policy, [:thread, :turn], :sandbox_policy,
     "details of the workspace-write sandbox: map with `type`, `writable_roots` (made " <>
       "absolute), `network_access`, `exclude_tmpdir_env_var`, `exclude_slash_tmp`. A `type` " <>
       "wins over `sandbox`", exec: :sandbox_policy, app: "sandboxPolicy"},
    {:network_access_enabled, [:thread], :boolean,
     "network for commands in the workspace-write sandbox",
     exec: {:config, "sandbox_workspace_write.network_access"}, app: :config},
    {:ask_for_approval, [:thread, :turn], :ask_for_approval,
     "when commands need approval; `:granular` says it for each kind: `[granular: " <>
       "[sandbox_approval: false, rules: true, mcp_elicitations: true]]`, and if you like " <>
       "`skill_approval` and `request_permissions`. `codex exec` refuses `:untrusted`, the " <>
       "app-server `:on_failure`",
     turn_also: [:approval_policy], exec: :approval, app: "approvalPolicy"},
    {:approvals_reviewer, [:thread, :turn], {:one_of, [:user, :auto_review, :guardian_subagent]},
     "the reviewer of approvals: the user, or the CLI by itself",
     exec: {:config, "approvals_reviewer"}, app: "approvalsReviewer"},
    {:approve_for_me, [:thread, :turn], :boolean,
     "let the CLI review approvals by itself, in the workspace-write sandbox",
     exec: {:switch, "--approve-for-me"},
     app: {:always, false},
     hint: "use approvals_reviewer: :auto_review, ask_for_approval and sandbox"},
    {:full_auto, [:thread, :turn], :boolean,
     "the CLI dropped `--full-auto`: sends `--sandbox workspace-write` and the approval policy " <>
       "`on-request`", exec: :full_auto, app: :bundle},
    {:dangerous, [:thread, :turn], :boolean, "must be true beside the two options that follow",
     exec: :host, app: :host},
    {:dangerously_bypass_approvals_and_sandbox, [:thread, :turn], :boolean,
     "run every command without asking and without sandbox; needs `dangerous: true`",
     exec: {:dangerous, "--dangerously-bypass-approvals-and-sandbox"}, app: :bundle},
    {:dangerously_bypass_hook_trust, [:thread, :turn], :boolean,
     "run hooks without trust; needs `dangerous: true`",
     exec: {:dangerous, "--dangerously-bypass-hook-trust"}, app: {:always, false}},
    {:shell_environment_policy, [:thread], :shell_environment_policy,
     "the variables that commands inherit: map with `inherit` (`core`, `all`, `none`), " <>
       "`ignore_default_excludes`, `exclude`, `include_only`, `set`",
     exec: {:table, "shell_environment_policy"}, app: :config}
  ]

  @tools [
    {:features, [:thread], :flags, "features of the CLI by name, true or false",
     exec: {:table, "features"}, app: :config},
    {:enable, [:thread, :turn], {:list, :string},
     "features to enable; an unknown one is an error of the CLI",
     default: [], exec: {:each, "--enable"}, app: :enable},
    {:disable, [:thread, :turn], {:list, :string}, "features to disable",
     default: [], exec: {:each, "--disable"}, app: :disable},
    {:web_search_mode, [:thread], {:one_of, [:disabled, :cached, :indexed, :live]}, "web search",
     exec: {:config, "web_search"}, app: :config},
    {:web_search_enabled, [:thread], :boolean,
     "true is `web_search_mode: :live`, false is `web_search_mode: :disabled`; " <>
       "`web_search_mode` itself wins", exec: :web_search_enabled, app: :web_search_enabled},
    {:view_image_tool_enabled, [:thread], :boolean, "whether the agent may look at images",
     exec: {:config, "features.view_image"}, app: :config},
    {:unified_exec_enabled, [:thread], :boolean, "whether commands may go on in sessions",
     exec: {:config, "features.unified_exec"}, app: :config},
    {:skills_enabled, [:thread], :boolean, "lists the skills in the instructions of the model",
     exec: {:config, "skills.include_instructions"}, app: :config},
    {:apply_patch_freeform_enabled, [:thread], :boolean, "the CLI has no such switch any more",
     exec: :refused, app: :refused},
    {:mcp_servers, [:thread], {:tables, "mcp_servers"},
     "MCP servers for this run by name; each has the keys that the CLI takes below " <>
       "`mcp_servers.<name>`. On `codex exec`, the `env` of a server goes into a file that only " <>
       "its owner may read, so only that server gets it; `http_headers` are handed over as " <>
       "those of `model_providers`; `oauth.client_secret` is an error",
     exec: :mcp_servers, app: :mcp_servers, secret: true},
    {:history_persistence, [:global, :thread], :word,
     "`\"save-all\"` or `\"none\"`: the CLI's own history file",
     exec: {:config, "history.persistence"}, app: :config},
    {:history_max_bytes, [:global, :thread], :count, "the maximum size of that file in bytes",
     exec: {:config, "history.max_bytes"}, app: :config},
    {:config, [:global, :thread], :overrides,
     "any configuration. The thread's comes after the options above and before " <>
       "`config_overrides`, the client's before all of them",
     exec: :overrides, flags: ["--config"], app: :overrides, secret: true},
    {:config_overrides, [:global, :thread, :turn], :overrides,
     "any configuration, as map, keyword, `{key, value}` list or list of `\"key=value\"`; the " <>
       "turn's come last and win. Part of the arguments, which other users of the machine can " <>
       "see, but for secrets of MCP servers and providers",
     also: [:config_override],
     exec: :overrides,
     flags: ["--config"],
     app: :overrides,
     secret: true}
  ]

  @turn [
    {:attachments, [:thread], {:list, :image},
     "images that every turn gets: paths, or maps with a `:path`",
     default: [], exec: :input, flags: ["--image"], app: :input},
    {:images, [:turn], {:list, :image}, "images for this turn: paths, or maps with a `:path`",
     exec: :input, flags: ["--image"], app: :input},
    {:output, [:turn], :output,
     "schema of the answer, sent in strict form: see `Codex.Schema`. " <>
       "`Codex.Turn.Result.output/1` returns the decoded answer",
     exec: :input, flags: ["--output-schema"], app: :input},
    {:repair, [:turn], :count,
     "how many further turns of the thread may ask for a corrected answer, if it does not fit " <>
       "`output`. Not after a turn that failed, was interrupted or has no answer",
     default: 0, exec: :host, app: :host},
    {:output_schema, [:turn], :map,
     "JSON schema of the answer, sent unchanged; the result has the answer as JSON, unchecked",
     exec: :input, flags: ["--output-schema"], app: :input},
    {:output_last_message, [:thread, :turn], :path, "file that gets the last message",
     exec: {:flag, "--output-last-message"}, app: :refused},
    {:color, [:thread, :turn], {:one_of, [:auto, :always, :never]},
     "colours in the CLI's own log", exec: {:flag, "--color"}, app: :refused},
    {:env, [:global, :turn], :env, "variables for the CLI, as map or keyword; nil takes one away",
     exec: :host,
     app: :connection,
     secret: true,
     hint: "give it to the client of Codex.AppServer.connect/2"},
    {:clear_env?, [:turn], :boolean,
     "start from an environment of HOME, USER, LOGNAME, PATH, LANG, LC_ALL, TMPDIR, CODEX_HOME " <>
       "and the XDG folders only",
     exec: :host, app: :refused, hint: "give clear_env to Codex.AppServer.connect/2"},
    {:cancellation_token, [:turn], :string, "a name for `Codex.Exec.cancel/1`",
     exec: :host, app: :host},
    {:timeout_ms, [:turn], :timeout,
     "clock `:idle`: the longest silence of the CLI, whatever it does, in ms; 3_600_000 for " <>
       "calls that block, no limit for streams",
     also: [:completion_timeout_ms], exec: :host, app: :host},
    {:stream_idle_timeout_ms, [:thread, :turn], :milliseconds,
     "the same for streams, in ms; wins over `timeout_ms` there. The provider's own is " <>
       "`provider_stream_idle_timeout_ms`", exec: :host, app: :host},
    {:start_timeout_ms, [:thread, :turn], :milliseconds,
     "clock `:start`: how long it may take until the CLI runs and its first event is there, in " <>
       "ms; 5_000 for the program alone, else none", exec: :host, app: :host},
    {:request_timeout_ms, [:thread, :turn], :milliseconds,
     "clock `:request`: the limit of one request to the app-server, in ms (30_000)",
     exec: :refused, app: :host, hint: @only_app},
    {:idle_timeout_ms, [:thread, :turn], :timeout,
     "clock `:idle`: how long nothing may come of the turn while no command, tool call or the " <>
       "like is open, in ms; that the CLI tries again (`error` events) does not count. While " <>
       "something is open, `timeout_ms` holds alone", exec: :host, app: :host},
    {:total_timeout_ms, [:thread, :turn], :timeout,
     "clock `:total`: the limit of the whole run, waits and further attempts included, in ms",
     exec: :host, app: :host},
    {:exit_timeout_ms, [:turn], :milliseconds,
     "the limit for the exit of the CLI after the end of the turn, in ms",
     default: 5_000, exec: :host, app: :refused},
    {:max_line_bytes, [:turn], :bytes, "the longest line of the CLI's output",
     exec: :host, app: :refused, hint: "a connection accepts max_message_bytes"},
    {:max_line_nodes, [:turn], :positive,
     "how many values and keys one line of the CLI's output may have (2_000_000); a line over " <>
       "it is an `error` event that says so",
     exec: :host, app: :refused, hint: "a connection accepts max_message_nodes"},
    {:max_events, [:thread, :turn], :positive,
     "how many events a result keeps: as many pieces of growing texts, and as many others " <>
       "(100_000). More are counted in `events_dropped`; a stream gives all of them",
     exec: :host, app: :host},
    {:max_event_bytes, [:thread, :turn], :bytes,
     "how much memory the events of a result may take, in bytes (134_217_728)",
     exec: :host, app: :host},
    {:on_event, [:turn], {:fun, 1},
     "a function that gets each event of `Codex.Events` while a call waits for the end of the " <>
       "turn, in the process that waits. If it returns `:halt` or `{:halt, reason}`, or fails, " <>
       "the turn is stopped and the call returns an error: see `Codex.Thread.run/3`. Streams " <>
       "refuse it", exec: :host, app: :host},
    {:keep, [:turn], {:list, {:one_of, [:raw, :stderr]}},
     "further members of `raw` of the result: `:raw` the lines of JSON of the turn, `:stderr` " <>
       "the stderr of the CLI. `Codex.Thread.run_turn_streamed/3`, which has no result, refuses it",
     exec: :host, app: :host},
    {:tee, [:thread, :turn], :tee,
     "a folder that gets the JSON lines, the stderr and the events of each run, without secrets: " <>
       "a path, or `folder:` with `max_bytes:` (16_777_216) and `max_files:` (4), the limits at " <>
       "which files are rotated; see `guides/debugging.md`", exec: :host, app: :host}
  ]

  @host [
    {:approval_policy, [:thread], :policy,
     "the decision about approvals: see `Codex.Approvals`. `codex exec` asks for none, so the " <>
       "policy decides about each command, patch and MCP tool", exec: :hooks, app: :host},
    {:approval_hook, [:thread], :policy, "a module that decides instead",
     exec: :hooks, app: :host},
    {:approval_timeout_ms, [:thread], :milliseconds,
     "the limit of a decision and of a `request_handler`, in ms",
     default: 30_000, exec: :host, app: :host},
    {:hooks, [:thread, :turn], :hooks,
     "functions of the application in the agent's loop: see `Codex.Hooks`. Those of the turn " <>
       "come after those of the thread; over an app-server they are for events that the thread " <>
       "began with", default: [], exec: :hooks, app: :host},
    {:hook_timeout_ms, [:thread], :milliseconds,
     "the limit of one call of a hook, in ms; then the action is refused",
     default: 60_000, exec: :host, app: :host},
    {:until, [:turn], :until,
     "a check of the result so far, before the turn ends: " <>
       "`fn result -> :ok | {:again, why} end`. The turn goes on until it returns `:ok`. `{check, max: 5, timeout_ms: 600_000}` limits " <>
       "how often that happens, and one check. Beyond, the error has the kind `:until`",
     exec: :hooks, app: :host},
    {:budget, [:thread, :turn], :budget,
     "a limit of tokens (`100_000`, `tokens: 100_000`) or of money by list prices (`usd: 2.5`), " <>
       "sub-agents included: no request begins beyond it, and the error has the kind `:budget`. " <>
       "`per: :thread` counts the thread's earlier turns, too, `per: :tree` also its sub-agents " <>
       "and reviews, `prices:` has other prices", exec: :hooks, app: :host},
    {:redact, [:thread, :turn], :redact,
     "texts and regular expressions that are masked in what tools print before the model reads " <>
       "it, and in events, results and telemetry. The session file of the CLI keeps them",
     default: [], exec: :hooks, app: :host, secret: true},
    {:session_store, [:global, :thread], :session_store,
     "the store to which the session file of the thread is mirrored while it is written, and from " <>
       "which a thread is materialised before it is resumed: see `Codex.SessionStore`. Not with " <>
       "`ephemeral`, nor with a server on another machine",
     exec: :host, app: :host, secret: true},
    {:request_handler, [:thread], :request_handler,
     "the handler of requests of the server, also of approvals if there is no policy: " <>
       "see `Codex.AppServer.RequestHandler`", exec: :refused, app: :host, hint: @asks_nobody},
    {:tools, [:thread], :tools,
     "tools of the host, as `Codex.Tool` describes them. An app-server gets them when a thread " <>
       "is started, keeps them with it, and needs a connection with `experimental_api: true`; " <>
       "`codex exec` gets them with each turn", exec: :tools, app: "dynamicTools"},
    {:children, [:thread, :turn], :boolean,
     "whether events of sub-agents are in the stream, as `Codex.Events.Child`; `children` of " <>
       "the result then has their tokens", exec: {:always, false}, app: :host, hint: @only_app},
    {:clean_background, [:thread, :turn], :boolean,
     "whether commands that an interrupted turn leaves running end, too; needs a connection " <>
       "with `experimental_api: true`; `codex exec` ends them always",
     exec: {:always, true}, app: :host, hint: @only_app},
    {:file_search, [:thread], :opts,
     "for tools of the host, which find it in the thread of their context",
     exec: :host, app: :host},
    {:retry, [:thread, :turn], :retry,
     "whether a run that failed is tried again: `true` repeats it where nothing was done, " <>
       "`:resume` goes on in its thread; on where `retry_opts` are set, unless false",
     exec: :host, app: :host},
    {:retry_opts, [:thread, :turn], :retry_opts, "the options of `Codex.Retry`",
     exec: :host, app: :host},
    {:rate_limit, [:thread, :turn], :boolean,
     "whether a run waits until a limit of the account ends, and is tried again; on where " <>
       "`rate_limit_opts` are set, unless false", exec: :host, app: :host},
    {:rate_limit_opts, [:thread, :turn], :rate_limit_opts, "the options of `Codex.RateLimit`",
     exec: :host, app: :host},
    {:trace, [:thread, :turn], :trace,
     "the W3C Trace Context that Codex continues in its own export (`[otel]`): see " <>
       "`guides/telemetry.md`. Without it, that of the calling process in OpenTelemetry, if the " <>
       "application has `:opentelemetry_api`; `false` sends none", exec: :trace, app: :trace},
    # The host may keep anything there.
    {:metadata, [:thread], :map, "for the host; not sent",
     default: %{}, exec: :host, app: :host, secret: true},
    {:labels, [:thread], :map, "for the host; not sent",
     default: %{}, exec: :host, app: :host, secret: true},
    {:auto_run, [:thread], :boolean, "only false: one call runs one turn",
     default: false,
     exec: {:always, false},
     app: {:always, false},
     hint: "use Codex.Thread.run_auto/3"},
    {:experimental_raw_events, [:thread], :boolean,
     "raw events of the app-server; takes effect when the thread is started",
     default: false, exec: {:always, false}, app: "experimentalRawEvents", hint: @only_app},
    {:transport, [:thread], :transport,
     "`:exec`: a process of `codex exec` for each turn. `{:app_server, conn}`: over a " <>
       "connection of `Codex.AppServer.connect/2`; see `guides/app_server.md`",
     default: :exec, exec: :host, app: :host}
  ]

  @granular "`[granular: [sandbox_approval: boolean, rules: boolean, " <>
              "mcp_elicitations: boolean]]`, and if wanted `skill_approval` and " <>
              "`request_permissions`"

  # The valid values of the types that only these options have.
  @expected %{
    word: "an atom or a string",
    effort: "an atom or a string",
    flags: "a map or keyword of names and booleans",
    overrides:
      "a map, a keyword, or a list of `{key, value}` or `\"key=value\"`, with values that TOML " <>
        "has a form for",
    collaboration_mode: "`:plan`, `:default` or a map",
    ask_for_approval: "`:untrusted`, `:on_failure`, `:on_request`, `:never` or #{@granular}",
    sandbox_policy:
      "one of `:read_only`, `:workspace_write`, `:danger_full_access` and `:external_sandbox`, " <>
        "or a map or keyword with `type`, `writable_roots` (a list of paths), and the booleans " <>
        "`network_access`, `exclude_tmpdir_env_var` and `exclude_slash_tmp`",
    shell_environment_policy:
      "a map or keyword with `inherit`, `ignore_default_excludes`, `exclude`, `include_only` " <>
        "and `set`",
    image: "a list of paths, or of maps with a `:path`",
    tables: "a map or keyword of tables by name",
    tools:
      "a list of modules that use `Codex.Tool`, `{module, options}`, registered names and handles",
    hooks:
      "a module with callbacks of `Codex.Hooks`, functions of one argument by event, or a list",
    until: "a function of the result, or `{function, max: number, timeout_ms: ms}`",
    budget: "a number of tokens, or `tokens:`, `usd:` and, if wanted, `per:` and `prices:`",
    tee: "a path, or `folder:` and, if wanted, `max_bytes:` and `max_files:`",
    redact:
      "a list of texts that are not blank, and of regular expressions that need a character",
    session_store:
      "`{module, opts}` or `{module, opts, settings}` with a module that implements " <>
        "`Codex.SessionStore`",
    policy: "a module, a function or a `Codex.Approvals.StaticPolicy`",
    request_handler: "a function of arity 1 or 2, or a module with `handle_request/2`",
    opts: "a map or keyword",
    output:
      "a JSON schema as a map, a keyword list of fields, or a module that uses `Codex.Schema`",
    retry: "a boolean or `:resume`",
    trace:
      "a `traceparent` (`00-<trace id>-<span id>-<flags>`), a map or keyword with `traceparent` " <>
        "and if wanted `tracestate`, or `false`",
    retry_opts: "a map or keyword of the options of `Codex.Retry`",
    rate_limit_opts: "a map or keyword of the options of `Codex.RateLimit`",
    transport: "`:exec`, `{:app_server, conn}` or `{:pool, name}`"
  }

  @rows (for {name, scopes, type, doc, facts} <-
               @client ++ @where ++ @model ++ @may ++ @tools ++ @turn ++ @host do
           for transport <- [:exec, :app], facts[transport] == nil do
             raise ArgumentError, "the option #{name} does not say how it reaches #{transport}"
           end

           key =
             case type do
               {:list, :image} -> :image
               {:tables, _key} -> :tables
               type -> type
             end

           facts = if words = @expected[key], do: [expected: words] ++ facts, else: facts
           {name, type, doc, [scopes: scopes] ++ facts}
         end)

  @doc "Returns every row as `{name, type, documentation, facts}`, with `scopes:` among the facts."
  @spec all() :: [tuple()]
  def all, do: @rows

  @doc "Returns the rows of one scope."
  @spec of(:global | :thread | :turn) :: [tuple()]
  def of(scope) do
    for {name, type, doc, facts} <- @rows, scope in facts[:scopes] do
      also = (facts[:also] || []) ++ if(scope == :turn, do: facts[:turn_also] || [], else: [])
      {name, type, doc, if(also == [], do: facts, else: Keyword.put(facts, :also, also))}
    end
  end
end
