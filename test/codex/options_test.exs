defmodule Codex.OptionsTest do
  use ExUnit.Case, async: true

  defmodule Echo do
    use Codex.Tool, name: "echo", description: "Says it again."
    @impl true
    def invoke(arguments, _context), do: {:ok, inspect(arguments)}
  end

  alias Codex.Approvals.StaticPolicy
  alias Codex.AppServer.{Subscribers, ThreadParams}
  alias Codex.Exec.{Argv, Secrets}
  alias Codex.Home.Isolated
  alias Codex.Subprocess.Launcher
  import Codex.OptionErrors, only: [short: 1]

  doctest Codex.OptionError
  doctest Codex.Options.Schema
  doctest Codex.Options.Type
  doctest Codex.Options.Places
  doctest Codex.DidYouMean

  alias Codex.{Exec, Options, Thread}
  alias Codex.Options.{Merge, Overrides, Table}
  alias Codex.Turn.Job

  defp argv(thread, turn_opts \\ %{}) do
    with {:ok, job} <- Job.new({:run, "hi"}, thread.codex_opts, thread, turn_opts),
         do: Argv.build(job)
  end

  defp sent(thread_opts, turn_opts \\ [], global \\ []) do
    {:ok, turn_opts} = Table.check(:turn, turn_opts)

    with {:ok, thread} <- Codex.start_thread([codex_path: "/bin/true"] ++ global, thread_opts),
         {:ok, args} <- argv(thread, turn_opts) do
      {args.argv |> Enum.drop(3) |> Enum.drop(-2), args.env}
    end
  end

  defp config(thread_opts, turn_opts \\ []) do
    {args, _} = sent(thread_opts, turn_opts)
    for ["--config", told] <- Enum.chunk_every(args, 2, 1), do: told
  end

  # Every option that reaches the CLI, a value for it, and the arguments that it must become.
  @reach [
    {:profile, "p", ["--profile", "p"]},
    {:strict_config, true, ["--strict-config"]},
    {:ignore_user_config, true, ["--ignore-user-config"]},
    {:ignore_rules, true, ["--ignore-rules"]},
    {:working_directory, "/", ["--cd", "/"]},
    {:worktree, true, ["--worktree"]},
    {:additional_directories, ["/a", "/b"], ["--add-dir", "/a", "--add-dir", "/b"]},
    {:skip_git_repo_check, true, ["--skip-git-repo-check"]},
    {:trust, true, ["--trust"]},
    {:ephemeral, true, ["--ephemeral"]},
    {:thread_source, "ci", ["--thread-source", "ci"]},
    {:remote, "unix:///r", ["--remote", "unix:///r"]},
    {:remote_auth_token_env, "TOKEN", ["--remote-auth-token-env", "TOKEN"]},
    {:model, "m", ["--model", "m"]},
    {:model_provider, "p", ["--config", ~S(model_provider="p")]},
    {:oss, true, ["--oss"]},
    {:reasoning_effort, :high, ["--config", ~S(model_reasoning_effort="high")]},
    {:model_reasoning_summary, :detailed, ["--config", ~S(model_reasoning_summary="detailed")]},
    {:model_verbosity, "LOW", ["--config", ~S(model_verbosity="low")]},
    {:model_context_window, 9, ["--config", "model_context_window=9"]},
    {:personality, :friendly, ["--config", ~S(personality="friendly")]},
    {:base_instructions, "a\n\"b\"", ["--config", ~S(instructions="a\n\"b\"")]},
    {:developer_instructions, "d", ["--config", ~S(developer_instructions="d")]},
    {:cyber_access_program, :daybreak_blue, ["--cyber-access-program", "daybreak_blue"]},
    {:sandbox, :read_only, ["--sandbox", "read-only"]},
    {:network_access_enabled, true, ["--config", "sandbox_workspace_write.network_access=true"]},
    {:ask_for_approval, :on_request, ["--config", ~S(approval_policy="on-request")]},
    {:approve_for_me, true, ["--approve-for-me"]},
    {:full_auto, true,
     ["--sandbox", "workspace-write", "--config", ~S(approval_policy="on-request")]},
    {:shell_environment_policy, [inherit: :core, exclude: ["A*"], set: %{"B" => "1"}],
     [
       "--config",
       ~S(shell_environment_policy.exclude=["A*"]),
       "--config",
       ~S(shell_environment_policy.inherit="core"),
       "--config",
       ~S(shell_environment_policy.set.B="1")
     ]},
    {:features, %{view_image: false}, ["--config", "features.view_image=false"]},
    {:enable, ["a", "b"], ["--enable", "a", "--enable", "b"]},
    {:disable, ["c"], ["--disable", "c"]},
    {:web_search_mode, :live, ["--config", ~S(web_search="live")]},
    {:web_search_enabled, true, ["--config", ~S(web_search="live")]},
    {:tool_output_token_limit, 900, ["--config", "tool_output_token_limit=900"]},
    {:agents, %{"r" => %{description: "d", nickname_candidates: ["A"]}},
     [
       "--config",
       ~S(agents.r.description="d"),
       "--config",
       ~S(agents.r.nickname_candidates=["A"])
     ]},
    {:agent_max_threads, 2, ["--config", "agents.max_threads=2"]},
    {:approvals_reviewer, :auto_review, ["--config", ~S(approvals_reviewer="auto_review")]},
    {:view_image_tool_enabled, false, ["--config", "features.view_image=false"]},
    {:unified_exec_enabled, true, ["--config", "features.unified_exec=true"]},
    {:skills_enabled, false, ["--config", "skills.include_instructions=false"]},
    {:history_persistence, "save-all", ["--config", ~S(history.persistence="save-all")]},
    {:history_max_bytes, 0, ["--config", "history.max_bytes=0"]},
    {:config, %{"a" => %{"b" => 1}}, ["--config", "a.b=1"]},
    {:config_overrides, ["a=1"], ["--config", "a=1"]},
    {:output_last_message, "/f", ["--output-last-message", "/f"]},
    {:color, :never, ["--color", "never"]}
  ]

  # Those with a test of their own, below, in `telemetry/trace_test.exs` or in
  # `tools/exec_test.exs`.
  @apart [
    :api_key,
    :base_url,
    :codex_home,
    :resume_all,
    :tools,
    :hooks,
    :until,
    :budget,
    :redact,
    :approval_policy,
    :approval_hook,
    :local_provider,
    :isolation,
    :model_providers,
    :request_max_retries,
    :stream_max_retries,
    :provider_stream_idle_timeout_ms,
    :sandbox_policy,
    :dangerously_bypass_approvals_and_sandbox,
    :dangerously_bypass_hook_trust,
    :mcp_servers,
    :trace
  ]

  describe "reach" do
    for {name, value, args} <- @reach do
      test "of #{name}" do
        {args, _env} =
          if :thread in row(unquote(name)).opts[:scopes],
            do: sent([{unquote(name), unquote(Macro.escape(value))}]),
            else: sent([], [{unquote(name), unquote(Macro.escape(value))}])

        assert args == unquote(args)
      end
    end

    defp row(name), do: Enum.find(Table.rows(), &(&1.name == name))

    test "of every option that has one is tested" do
      apart = [:host, :refused, :input]

      reaching =
        for row <- Table.rows(),
            how = row.opts[:exec],
            how not in apart and not match?({:always, _}, how),
            do: row.name

      tested = for({name, _, _} <- @reach, do: name) ++ @apart
      assert Enum.sort(reaching) == Enum.sort(tested)
    end

    test "of all at once: nothing that was not set" do
      assert sent([]) == {[], %{}}
    end

    test "the turn's value wins over the thread's over the client's" do
      global = [reasoning_effort: :low, model: "g"]

      assert {["--model", "t", "--config", ~S(model_reasoning_effort="low")], _} =
               sent([model: "t"], [], global)

      assert {["--profile", "q"], _} = sent([profile: "p"], profile: "q")

      # A turn and its thread have different options.
      assert {["--sandbox", "read-only"], _} =
               sent([sandbox: :workspace_write], sandbox_policy: :read_only)

      assert {[], _} = sent([oss: true], oss: false)
      assert {["--oss"], _} = sent([oss: true], oss: nil)
    end

    test "options that the CLI dropped or never had are errors that name them" do
      for {option, reason} <- [
            {{:model_supports_reasoning_summaries, true},
             {:unsupported_option, :model_supports_reasoning_summaries}},
            {{:auto_run, true}, {:unsupported_option, :auto_run}},
            {{:sandbox, {:external_sandbox, :enabled}},
             {:unsupported_option, :sandbox, :external_sandbox}},
            {{:sandbox_policy, :external_sandbox},
             {:unsupported_option, :sandbox_policy, "external-sandbox"}},
            {{:request_max_retries, 1}, {:unsupported_option, :request_max_retries}},
            {{:stream_max_retries, 1}, {:unsupported_option, :stream_max_retries}},
            {{:dangerously_bypass_approvals_and_sandbox, true},
             {:dangerous, :dangerously_bypass_approvals_and_sandbox}},
            {{:dangerously_bypass_hook_trust, true}, {:dangerous, :dangerously_bypass_hook_trust}}
          ] do
        assert sent([option]) == {:error, reason}
      end
    end

    test "options of the host are kept, and false stays false" do
      assert sent(
               retry: false,
               rate_limit_opts: [],
               approval_timeout_ms: 30_000,
               auto_run: false,
               experimental_raw_events: false,
               clean_background: true,
               metadata: %{a: 1}
             ) == {[], %{}}

      {:ok, thread} = Codex.start_thread(codex_path: "/bin/true")

      for key <- [:agent, :run_config, :backoff, :max_turns] do
        error = {:error, {:unsupported, [key], nil}}
        assert short(Thread.run_turn(thread, "hi", [{key, 3}])) == error
        assert short(Thread.run_turn(thread, "hi", %{"#{key}" => 3})) == error
      end
    end

    # A value for each option that is neither sent nor kept by every transport.
    @values %{
      profile: "p",
      isolation: :hermetic,
      working_directory: "/",
      additional_directories: ["/a"],
      thread_source: "ci",
      remote: "unix:///r",
      remote_auth_token_env: "TOKEN",
      model: "m",
      model_provider: "p",
      local_provider: "ollama",
      model_providers: %{"p" => %{"name" => "P"}},
      reasoning_effort: :high,
      model_reasoning_summary: :concise,
      model_verbosity: :low,
      personality: :friendly,
      collaboration_mode: :plan,
      base_instructions: "b",
      developer_instructions: "d",
      cyber_access_program: :standard,
      sandbox: :read_only,
      sandbox_policy: [type: :workspace_write, network_access: true],
      ask_for_approval: :on_request,
      approvals_reviewer: :auto_review,
      shell_environment_policy: [inherit: :core],
      features: %{a: true},
      enable: ["a"],
      disable: ["a"],
      web_search_mode: :live,
      mcp_servers: %{"s" => %{"command" => "c"}},
      agents: %{"r" => %{"description" => "d"}},
      history_persistence: "none",
      config: %{"a" => 1},
      config_overrides: %{"a" => 1},
      attachments: [__ENV__.file],
      images: [__ENV__.file],
      output: [a: :string],
      output_schema: %{"type" => "object"},
      output_last_message: "/f",
      color: :never,
      env: %{"A" => "1"},
      cancellation_token: "t",
      keep: [:raw, :stderr],
      file_search: %{},
      session_store: {Codex.SessionStore.Memory, [name: :nobody], flush_ms: 1},
      retry: :resume,
      retry_opts: [max_attempts: 2],
      rate_limit_opts: [max_attempts: 2],
      hooks: [pre_tool_use: &__MODULE__.allow/1],
      until: &__MODULE__.allow/1,
      budget: 1_000,
      redact: ["a"],
      tee: Path.join(System.tmp_dir!(), "codex_options_tee"),
      metadata: %{a: 1},
      labels: %{a: 1},
      api_key: "sk-1",
      base_url: "http://127.0.0.1:1",
      codex_path_override: "/bin/false",
      codex_home: "/",
      telemetry_prefix: [:mine],
      trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    }

    def allow(_event), do: :allow

    @numbers [:positive, :count, :milliseconds, :timeout, :bytes]

    defp values(%{type: :boolean}), do: [true, false]
    defp values(%{type: type}) when type in @numbers, do: [1]
    defp values(%{name: :approval_policy}), do: [StaticPolicy.deny()]
    defp values(%{name: :approval_hook}), do: [StaticPolicy.deny()]
    defp values(%{name: :request_handler}), do: [fn _ -> :ignore end]
    defp values(%{name: :on_event}), do: [fn _ -> :ok end]
    defp values(%{name: :tools}), do: [[Echo]]
    defp values(%{name: :transport}), do: []
    defp values(%{name: name}), do: [Map.fetch!(@values, name)]

    # Returns all parameters of a transport, for comparison.
    defp told(transport, row, value) do
      scope = hd(row.opts[:scopes])
      {:ok, client} = Options.new([codex_path: "/bin/true"] ++ given(scope, :global, row, value))

      # Providers are tuned under the id of one that is not built in.
      about = if match?({:provider, _}, row.opts[:exec]), do: [model_provider: "own"], else: []
      about = if match?({:dangerous, _}, row.opts[:exec]), do: [dangerous: true], else: about

      about = if {transport, row.name} == {:exec, :local_provider}, do: [oss: true], else: about

      {:ok, options} = Thread.Options.new(about ++ given(scope, :thread, row, value))
      beside = if row.name == :repair, do: [output: [a: :string]], else: []
      {:ok, turn} = Table.check(:turn, beside ++ given(scope, :turn, row, value))
      thread = Thread.build(client, options)

      case transport do
        :exec ->
          with {:ok, args} <- argv(thread, turn), do: {:ok, %{args | settings: nil}}

        :app ->
          with {:ok, settings} <- Merge.settings(client, options, turn),
               {:ok, sent} <- ThreadParams.new(settings, turn),
               {:ok, params} <- ThreadParams.thread(sent, "thread/start"),
               {:ok, turn_params} <- ThreadParams.turn(sent),
               do: {:ok, %{thread: elem(params, 0), turn: elem(turn_params, 0)}}
      end
    end

    defp given(scope, scope, row, value) when value != nil, do: [{row.name, value}]
    defp given(_scope, _other, _row, _value), do: []

    for transport <- [:exec, :app] do
      test "of every option on #{transport} is an effect, or an error that names it" do
        transport = unquote(transport)

        for row <- Table.rows(), value <- values(row) do
          how = row.opts[transport]
          {:ok, unset} = told(transport, row, nil)

          case {how, told(transport, row, value)} do
            {:refused, told} ->
              assert told == {:error, {:unsupported_option, row.name}}

            {{:always, ^value}, told} ->
              assert told == {:ok, unset}

            {{:always, _}, told} ->
              default? = value == row.opts[:default]
              error = {:error, {:unsupported_option, row.name}}
              assert told == if(default?, do: {:ok, unset}, else: error)

            {how, told} when how in [:host, :hooks, :connection, :input, :resume_all, :trace] ->
              assert {row.name, elem(told, 0)} == {row.name, :ok}

            {_sent, {:ok, told}} ->
              # A flag that is not there says false.
              assert told != unset or value == false, "#{row.name}: #{inspect(value)} is not sent"
          end
        end
      end
    end

    test "false is sent if it differs from the default" do
      for {name, key} <- [
            network_access_enabled: ["sandbox_workspace_write", "network_access"],
            view_image_tool_enabled: ["features", "view_image"],
            unified_exec_enabled: ["features", "unified_exec"],
            skills_enabled: ["skills", "include_instructions"]
          ] do
        assert config([{name, false}]) == [Enum.join(key, ".") <> "=false"]
        assert config([{name, nil}]) == []
        {:ok, %{thread: start}} = told(:app, row(name), false)
        assert start["config"][Enum.join(key, ".")] == false
      end

      assert config(web_search_enabled: false) == [~S(web_search="disabled")]
      assert config(web_search_enabled: nil) == []
      assert config(web_search_enabled: false, web_search_mode: :live) == [~S(web_search="live")]
      {:ok, %{thread: start}} = told(:app, row(:web_search_enabled), false)
      assert start["config"] == %{"web_search" => "disabled"}
    end

    test "granular approvals, in each form" do
      kinds = [sandbox_approval: false, rules: true, mcp_elicitations: true, skill_approval: true]

      for given <- [[granular: kinds], %{"granular" => Map.new(kinds)}, {:granular, kinds}] do
        assert {:ok, %{ask_for_approval: %{granular: %{rules: true}}}} =
                 Thread.Options.new(ask_for_approval: given)

        assert config(ask_for_approval: given) |> Enum.sort() == [
                 "approval_policy.granular.mcp_elicitations=true",
                 "approval_policy.granular.rules=true",
                 "approval_policy.granular.sandbox_approval=false",
                 "approval_policy.granular.skill_approval=true"
               ]

        assert {:ok, %{turn: %{"approvalPolicy" => %{"granular" => %{"rules" => true}}}}} =
                 told(:app, row(:ask_for_approval), given)
      end

      for odd <- [[granular: [rules: true]], [granular: [rules: 1]], %{rules: true}, [], {:a, 1}] do
        assert short(Thread.Options.new(ask_for_approval: odd)) ==
                 {:error, {:invalid, [:ask_for_approval], odd}}
      end
    end

    test "the configuration of the client is below everything else" do
      client = [config: %{"model_verbosity" => "low", "a" => 1}, config_overrides: %{"b" => 1}]

      {args, _} = sent([model_verbosity: :high, config: %{"b" => 2}], [], client)

      assert for(["--config", told] <- Enum.chunk_every(args, 2), do: told) |> Enum.sort() ==
               ["a=1", "b=2", ~S(model_verbosity="high")]

      {:ok, client} = Options.new(client)
      {:ok, thread} = Thread.Options.new(model_verbosity: :high)

      {:ok, settings} = Merge.settings(client, thread, %{})
      {:ok, sent} = ThreadParams.new(settings, %{})
      {:ok, {start, _experimental}} = ThreadParams.thread(sent, "thread/start")

      assert start["config"] == %{"a" => 1, "b" => 1, "model_verbosity" => "high"}
    end

    test "a value keeps its type" do
      for {name, value} <- [
            reasoning_effort: :high,
            reasoning_effort: "high",
            reasoning_effort: "of its own",
            history_persistence: :none,
            history_persistence: "save-all",
            model: "m"
          ] do
        assert {:ok, %{^name => ^value}} = Options.new([{name, value}])
      end

      assert {:ok, %{reasoning_effort: :xhigh}} = Options.new(reasoning_effort: :extra_high)
      assert {:ok, %{collaboration_mode: :plan}} = Thread.Options.new(collaboration_mode: :plan)
    end

    test "options that the transport cannot send are errors when the thread is made" do
      for make <- [
            &Codex.start_thread/2,
            &Codex.resume_thread("t", &1, &2),
            &Codex.fork_thread("t", &1, &2)
          ] do
        assert make.([], request_handler: fn _ -> :ignore end) ==
                 {:error, {:unsupported_option, :request_handler}}

        assert make.([], ask_for_approval: :untrusted) ==
                 {:error, {:unsupported_option, :ask_for_approval, :untrusted}}

        assert make.([model_supports_reasoning_summaries: true], []) ==
                 {:error, {:unsupported_option, :model_supports_reasoning_summaries}}

        assert make.([], transport: {:app_server, self()}, profile: "p") ==
                 {:error, {:unsupported_option, :profile}}

        assert {:ok, _} =
                 make.([], transport: {:app_server, self()}, request_handler: fn _ -> :ignore end)
      end
    end

    test "a thread that is resumed cannot be ephemeral" do
      for id <- ["t", :last] do
        {:ok, thread} = Codex.resume_thread(id, [codex_path: "/bin/true"], ephemeral: true)
        error = {:unsupported_option, :ephemeral, :resume}
        assert Thread.run(thread, "hi") == {:error, error}
        assert Exception.message(Codex.Error.normalize(error)) =~ "fork_thread"
      end

      {:ok, thread} = Codex.fork_thread("t", [codex_path: "/bin/true"], ephemeral: true)
      assert {:ok, %{argv: argv}} = argv(thread)
      assert ["--ephemeral", "fork" | _] = Enum.drop(argv, 3)
    end

    test "the dangerous two need a word beside them" do
      assert {["--dangerously-bypass-approvals-and-sandbox", "--dangerously-bypass-hook-trust"],
              _} =
               sent(
                 dangerous: true,
                 dangerously_bypass_approvals_and_sandbox: true,
                 dangerously_bypass_hook_trust: true
               )
    end

    test "a provider is tuned under its id" do
      assert config(
               model_provider: "my.own",
               request_max_retries: 1,
               stream_max_retries: 2,
               provider_stream_idle_timeout_ms: 3
             ) == [
               ~S(model_provider="my.own"),
               ~S(model_providers={"my.own" = {"request_max_retries" = 1, "stream_max_retries" = 2, "stream_idle_timeout_ms" = 3}})
             ]
    end

    test "a sandbox policy, its roots absolute" do
      policy = %{
        "writableRoots" => ["x", "/y"],
        type: :workspace_write,
        network_access: :enabled,
        exclude_slash_tmp: true
      }

      assert {["--sandbox", "workspace-write" | config], _} = sent(sandbox_policy: policy)

      assert Enum.sort(for ["--config", told] <- Enum.chunk_every(config, 2), do: told) == [
               "sandbox_workspace_write.exclude_slash_tmp=true",
               "sandbox_workspace_write.network_access=true",
               ~s(sandbox_workspace_write.writable_roots=["#{Path.expand("x")}", "/y"])
             ]
    end

    test "history as a map, for the client and for the thread" do
      assert config(history: %{persistence: "none", maxBytes: 5}) == [
               ~S(history.persistence="none"),
               "history.max_bytes=5"
             ]

      assert {:ok, %{history_max_bytes: 7}} = Options.new(history: %{"max_bytes" => 7})

      assert {:ok, %{history_max_bytes: 7}} = Options.new(history: [max_bytes: 7])
      assert Options.new(history: nil) == Options.new([])

      for {member, nearest} <- [
            persistance: :persistence,
            sandbox: nil,
            zzz: nil
          ] do
        for options <- [&Options.new/1, &Thread.Options.new/1] do
          assert short(options.(history: %{member => :danger_full_access})) ==
                   {:error, {:unknown, [:history, member], nearest}}
        end
      end

      assert short(Options.new(history: %{{1} => 2})) ==
               {:error, {:unknown, [:history, {1}], nil}}

      for value <- [~D[2020-01-01], 1, [1], [{:max_bytes, 1} | 2]] do
        assert short(Options.new(history: value)) == {:error, {:invalid, [:history], value}}
      end
    end

    test "isolation sends no flag twice, and hermetic means a clean environment by default" do
      assert sent(isolation: :inherit) == {[], %{}}
      assert {["--ignore-user-config"], _} = sent(isolation: :project)
      hermetic = ["--ignore-user-config", "--ignore-rules", "--config", "project_doc_max_bytes=0"]
      assert {args, %{"PATH" => _}} = sent(isolation: :hermetic, ignore_rules: true)
      assert Enum.sort(args) == Enum.sort(hermetic)
      assert {_, env} = sent([isolation: :hermetic], clear_env?: false)
      assert env == %{}
    end

    test "an option that would have no effect beside the others is refused by name" do
      assert {["--oss", "--local-provider", "ollama"], _} =
               sent([local_provider: "ollama"], oss: true)

      for {thread, turn} <- [{[local_provider: "ollama"], []}, {[], [local_provider: "ollama"]}],
          oss <- [[], [oss: false]] do
        error = {:error, {:unsupported_option, :local_provider, :not_oss}}
        assert sent(thread ++ oss, turn) == error
        assert Codex.Error.normalize(elem(error, 1)).message =~ "without oss: true"
      end

      {:ok, conn} = Agent.start_link(fn -> nil end)

      for transport <- [:exec, {:app_server, conn}] do
        options = [resume_all: true, transport: transport]
        error = {:error, {:unsupported_option, :resume_all, :not_last}}
        assert Codex.start_thread([], options) == error
        assert Codex.resume_thread("id", [], options) == error
        assert Codex.fork_thread("id", [], options) == error
        assert {:ok, _} = Codex.resume_thread(:last, [], options)
      end
    end

    test "tokens and headers that cannot be sent are refused in overrides, too" do
      for {key, value, path} <- [
            {"model_providers.p.experimental_bearer_token", "",
             "model_providers.p.experimental_bearer_token"},
            {"model_providers.p.http_headers.X", " ", "model_providers.p.http_headers.X"},
            {"mcp_servers.a.http_headers.X", "a\n", "mcp_servers.a.http_headers.X"}
          ] do
        assert {:error, error} = sent(config_overrides: %{key => value})
        assert Enum.join(error.path, ".") == path
        assert error.value == "[redacted]"
      end
    end

    test "--all stands with --last" do
      {:ok, thread} = Codex.resume_thread(:last, [codex_path: "/bin/true"], resume_all: true)
      {:ok, args} = argv(thread)
      assert args.argv == ~w(/bin/true exec --json resume --last --all -- -)
    end

    test "long instructions go through a file, or are an error" do
      long = String.duplicate("x", 200_000)
      {args, _} = sent(base_instructions: long)
      assert args == ["--config", {:file, long, {:config, "model_instructions_file"}}]

      home = Path.expand(System.tmp_dir!())

      assert {["--profile", {:file, toml, {:profile, ^home}}], _} =
               sent([developer_instructions: long], [], codex_home: home)

      assert toml =~ long

      assert {:error, %Codex.Config.Error{reason: :missing_home}} =
               sent([developer_instructions: long], [], codex_home: "/no/such")

      for more <- [[ignore_user_config: true], [isolation: :project], [isolation: :hermetic]] do
        options = [developer_instructions: long] ++ more
        reason = {:unsupported_option, :developer_instructions, :ignore_user_config}
        assert sent(options, [], codex_home: home) == {:error, reason}
      end
    end
  end

  describe "secrets" do
    @servers %{
      "a" => %{
        command: "x",
        args: ["1"],
        env: %{"TOKEN" => "sk-1", "N" => "2"},
        env_vars: ["HOME"]
      },
      "b.c" => %{command: "y", env: %{"TOKEN" => "sk-5"}},
      "w" => %{url: "http://127.0.0.1:1", http_headers: %{"X-Key" => "sk-2"}}
    }

    @providers %{
      "own" => %{
        name: "Own",
        experimental_bearer_token: "sk-3",
        http_headers: %{"X-Key" => "sk-4"}
      }
    }

    test "of MCP servers are in a file, of providers in the environment, none in the arguments" do
      {args, env} = sent(mcp_servers: @servers, model_providers: @providers)
      texts = Enum.filter(args, &is_binary/1)
      refute inspect(texts, limit: :infinity) =~ "sk-"
      assert env |> Map.values() |> Enum.sort() == ["sk-2", "sk-3", "sk-4"]
      # The commands of the agent find them empty.
      for {name, _} <- env, do: assert(~s(shell_environment_policy.set.#{name}="") in texts)

      assert [{:file, content, {:mark, mark}}] = args -- texts
      records = IO.iodata_to_binary(content) |> String.split("\0", trim: true)

      assert records |> Enum.chunk_every(3) |> Enum.sort() ==
               [["a", "N", "2"], ["a", "TOKEN", "sk-1"], ["b.c", "TOKEN", "sk-5"]]

      servers = Enum.find(texts, &String.starts_with?(&1, "mcp_servers={"))
      {:ok, tree} = Codex.Native.config_overrides([servers])
      servers = Codex.Native.config_term(tree)["mcp_servers"]
      launcher = Launcher.path()

      assert servers["a"] == %{
               "command" => launcher,
               "args" => ["mcp-server", mark, "a", "x", "1"],
               "env_vars" => ["HOME"]
             }

      assert servers["b.c"] == %{
               "command" => launcher,
               "args" => ["mcp-server", mark, "b.c", "y"]
             }

      {:ok, thread} = Codex.start_thread([], mcp_servers: @servers, model_providers: @providers)
      refute inspect(thread, limit: :infinity) =~ "sk-"
      assert inspect(thread) =~ "own"

      {:ok, options} = Thread.Options.new(mcp_servers: @servers, model_providers: @providers)
      derived = Codex.Config.Overrides.derived_overrides(%Options{}, options)
      refute inspect(derived, limit: :infinity) =~ "sk-"
    end

    test "are found in `config` and in pairs of `config_overrides`, too" do
      for told <- [
            [config: %{"mcp_servers.a" => %{command: "x", env: %{"T" => "sk-1"}}}],
            [config: [mcp_servers: [a: [command: "x", env: [T: "sk-1"]]]]],
            [config_overrides: [{"mcp_servers.a.command", "x"}, {"mcp_servers.a.env.T", "sk-1"}]]
          ] do
        {args, env} = sent(told)
        assert env == %{}
        texts = Enum.filter(args, &is_binary/1)
        refute inspect(texts, limit: :infinity) =~ "sk-"
        assert [{:file, content, {:mark, _}}] = args -- texts
        assert IO.iodata_to_binary(content) == "a\0T\0sk-1\0"
      end
    end

    test "that cannot be handed over are errors with their path" do
      command = %{command: "x"}

      for {told, reason} <- [
            {[mcp_servers: %{a: %{url: "http://h", env: %{"T" => "sk-1"}}}],
             {:invalid, [:mcp_servers, "a", "env"], "[redacted]"}},
            {[config: %{mcp_servers: %{a: Map.put(command, :env, %{"T" => 77_177})}}],
             {:invalid, [:mcp_servers, "a", "env", "T"], "[redacted]"}},
            {[config: %{"mcp_servers.a.env" => "sk-1"}],
             {:invalid, [:mcp_servers, "a", "env"], "[redacted]"}},
            {[config: %{"mcp_servers.a.http_headers.A.B" => "sk-1"}],
             {:invalid, [:mcp_servers, "a", "http_headers", "A", "B"], "[redacted]"}},
            {[config: %{"model_providers.p.experimental_bearer_token" => 77_177}],
             {:invalid, [:model_providers, "p", "experimental_bearer_token"], "[redacted]"}},
            {[mcp_servers: %{a: %{url: "http://h", bearer_token: "sk-1"}}],
             {:unsupported_option, :mcp_servers, "mcp_servers.a.bearer_token"}},
            {[mcp_servers: %{a: %{url: "http://h", oauth: %{client_secret: "sk-1"}}}],
             {:unsupported_option, :mcp_servers, "mcp_servers.a.oauth.client_secret"}}
          ] do
        assert short(sent(told)) == {:error, reason}
      end
    end

    test "names that differ only in characters without a place in variables stay apart" do
      headers = {:table, [{"X-Key", "1"}, {"X_Key", "2"}]}
      {:ok, hidden} = Secrets.hide([{["mcp_servers", "a", "http_headers"], headers}])
      assert map_size(hidden.vars) == 2
    end

    test "of a shell environment are not in the error" do
      policy = %{set: %{"A" => nil, "B" => "sk-1"}}

      assert short(Thread.Options.new(shell_environment_policy: policy)) ==
               {:error, {:invalid, [:shell_environment_policy, :set], "[redacted]"}}
    end

    test "are not in an error, whatever form they have" do
      for {place, options} <- [
            {[:config], [config: %{"a=sk-1" => 1}]},
            {[:config], [config: %{"a=sk-1": 1}]},
            {[:config_overrides], [config_overrides: [{"openai.key=sk-1", true}]]},
            {[:config, :b], [config: [b: %{"x=sk-1" => nil}]]},
            {[:config, "b.c"], [config: [b: [c: %{"x=sk-1" => [y: nil]}]]]},
            {[:mcp_servers], [mcp_servers: %{"a=sk-1" => 1}]},
            {[:mcp_servers], [mcp_servers: %{"a=sk-1" => [cwd: {1}]}]},
            {[:mcp_servers, "a", "query_params"],
             [mcp_servers: [a: [query_params: %{"k=sk-1" => 1}]]]},
            {[:metadata], [metadata: "sk-1"]},
            {[:labels], [labels: [a: "sk-1"]]},
            {[:shell_environment_policy, :exclude],
             [shell_environment_policy: [exclude: %{a: "sk-1"}]]},
            {[:shell_environment_policy, :include_only],
             [shell_environment_policy: [include_only: ["A", {"B", "sk-1"}]]]}
          ] do
        assert short(Thread.Options.new(options)) == {:error, {:invalid, place, "[redacted]"}}
      end

      assert short(Options.new(base_url: ["https://user:sk-1@h"])) ==
               {:error, {:invalid, [:base_url], "[redacted]"}}
    end

    test "are not shown by inspect/1 of options" do
      {:ok, options} = Options.new(base_url: "https://u:sk-1@h/v1")
      assert inspect(options) == ~s(#Codex.Options<[base_url: "[redacted]"]>)
      {:ok, options} = Thread.Options.new(metadata: %{a: "sk-1"}, labels: %{b: "sk-1"})

      assert inspect(options) ==
               ~s(#Codex.Thread.Options<[metadata: %{a: "[redacted]"}, labels: %{b: "[redacted]"}]>)
    end
  end

  describe "a struct" do
    test "is checked where it was changed" do
      {:ok, options} = Options.new(model: "m", env: [A: 1])
      {:ok, thread_options} = Thread.Options.new([])

      for {field, value, reason} <- [
            {:env, [{"A=B", 1}], {:invalid, [:env], "[redacted]"}},
            {:api_key, "", {:invalid, [:api_key], ""}},
            {:telemetry_prefix, nil, nil},
            {:model, 5, {:invalid, [:model], 5}}
          ] do
        result = Options.new(Map.put(options, field, value))

        if reason,
          do: assert(short(result) == {:error, reason}),
          else: assert(result == {:ok, Map.put(options, field, value)})
      end

      assert Options.new(%{options | env: [A: "b"]}) == {:ok, %{options | env: %{"A" => "b"}}}
      assert {:error, error} = Exec.run("hi", codex_opts: %{options | env: 1})
      assert error.path == [:codex_opts, :env]

      assert short(Codex.start_thread([], %{thread_options | retry_opts: [bogus: 1]})) ==
               {:error, {:unknown, [:retry_opts, :bogus], nil}}
    end

    test "that was made by new/1 is valid, whatever is set" do
      values = Enum.into(@reach, @values, fn {name, value, _arguments} -> {name, value} end)

      more = %{
        ask_for_approval: [
          granular: [sandbox_approval: true, rules: false, mcp_elicitations: true]
        ],
        sandbox_policy: [type: "workspace-write", writable_roots: ["x"], network_access: :enabled],
        mcp_servers: [a: [command: "x", env: [A: "b"]]],
        config: [a: [b: ~D[2020-01-01]]],
        features: [a: true]
      }

      for {scope, module} <- [global: Options, thread: Thread.Options],
          row <- Table.rows(scope),
          value <- [Map.get(more, row.name, values[row.name])],
          value != nil do
        assert {:ok, options} = module.new([{row.name, value}])
        assert module.new(options) == {:ok, options}
      end
    end
  end

  test "a long text in any part of an error is cut" do
    long = String.duplicate("é", 1_000)
    cut = String.duplicate("é", 200) <> "…"

    for {options, path, value} <- [
          {%{long => 1}, [cut], nil},
          {[history: %{long => 1}], [:history, cut], nil},
          {[model: <<long::binary, 0>>], [:model], cut}
        ] do
      assert {:error, error} = Options.new(options)
      assert {error.key, error.path, error.value} == {hd(path), path, value}
      assert String.length(Exception.message(error)) < 500
    end

    {:error, error} = Options.new(%{String.duplicate(<<0xFF>>, 1_000) => 1})
    assert byte_size(error.key) == 200
  end

  describe "an option of another list" do
    defp said({:error, reason}), do: Exception.message(Codex.Error.normalize(reason))

    @places [
      client: "a client",
      thread: "a thread",
      turn: "a turn",
      connection: "a connection",
      remote: "a remote connection",
      retry: "retries",
      rate_limit: "rate limits"
    ]

    test "is named with the list that it belongs to, everywhere" do
      {:ok, thread} = Codex.start_thread(codex_path: "/bin/true")
      app = %{thread | transport: {:app_server, self()}}
      exec = [codex_opts: thread.codex_opts]

      for {given, option, place} <- [
            {Codex.start_thread(sandbox: :read_only), :sandbox, [:thread]},
            {Codex.start_thread(cd: "/"), :cd, [:thread, :turn]},
            {Codex.start_thread(%{"sandbox" => :read_only}), "sandbox", [:thread]},
            {Codex.start_thread([], api_key: "sk-1"), :api_key, [:client]},
            {Codex.start_thread([], timeout_ms: 1), :timeout_ms, [:turn]},
            {Codex.start_thread([], output_schema: %{}), :output_schema, [:turn]},
            {Codex.start_thread([], max_attempts: 3), :max_attempts, [:retry, :rate_limit]},
            {Codex.start_thread([], experimental_api: true), :experimental_api, [:connection]},
            {Thread.run(thread, "hi", sandbox: :read_only), :sandbox, [:thread]},
            {Thread.run_streamed(thread, "hi", api_key: "sk-1"), :api_key, [:client]},
            {Thread.run_auto(thread, "hi", model: "m"), :model, [:client, :thread, :turn]},
            {Thread.review(thread, "hi", transport: :exec), :transport, [:thread]},
            {Thread.interrupt(app, timeout_ms: 1), :timeout_ms, [:turn]},
            {Exec.run("hi", exec ++ [sandbox: :strict]), :sandbox, [:thread]},
            {Codex.AppServer.connect([], sandbox: :strict), :sandbox, [:thread]},
            {Codex.AppServer.connect([], api_key: "sk-1"), :api_key, [:client]},
            {Codex.AppServer.connect([], token: "sk-1"), :token, [:remote]},
            {Codex.AppServer.connect(experimental_api: true), :experimental_api, [:connection]},
            {Codex.AppServer.connect_remote("unix:///x", model: "m"), :model,
             [:client, :thread, :turn]},
            {Codex.AppServer.connect_remote("unix:///x", isolation: :hermetic), :isolation,
             [:thread, :connection]},
            {Subscribers.filter(model: "m"), :model, [:client, :thread, :turn]},
            {Codex.AppServer.thread_start(self(), timeout_ms: 1), :timeout_ms, [:turn]},
            {Codex.AppServer.request(self(), "x", %{}, model: "m"), :model,
             [:client, :thread, :turn]},
            {Isolated.create(codex_home: "/x"), :codex_home, [:client, :remote]}
          ] do
        assert short(given) == {:error, {:misplaced, [option], nil}}

        for name <- place do
          assert said(given) =~ ~r/^option #{inspect(option)} belongs to .*#{@places[name]}/
        end

        refute said(given) =~ "sk-1"
      end

      assert said(Codex.start_thread(sandbox: :read_only)) ==
               "option :sandbox belongs to a thread: " <>
                 "give it to the second argument of Codex.start_thread/2"

      {:ok, thread} = Codex.start_thread()
      assert said(Codex.Thread.run_turn(thread, "Hi", max_turns: 3)) =~ "this call runs one turn"

      for stream <- [&Codex.Thread.run_streamed/3, &Codex.Thread.run_turn_streamed/3],
          do: assert(said(stream.(thread, "Hi", on_event: & &1)) =~ "events of the stream")

      assert short(Codex.start_thread([], retry_opts: [timeout_ms: 1])) ==
               {:error, {:misplaced, [:retry_opts, :timeout_ms], nil}}

      assert short(Codex.start_thread(modle: "m")) == {:error, {:unknown, [:modle], :model}}
      assert said(Codex.Thread.run(thread, "Hi", auto_run: true)) =~ "Codex.Thread.run_auto/3"
    end
  end

  describe "invalid values" do
    test "are errors with the allowed values, for every option" do
      for row <- Table.rows(), scope <- row.opts[:scopes], row.type != :overrides do
        odd = if row.type == :word, do: true, else: {:odd}
        {:error, reason} = Table.check(scope, [{row.name, odd}])
        error = Codex.Error.normalize(reason)
        assert error.kind in [:invalid_request, :config]
        assert error.message =~ "#{row.name}"
        assert error.message =~ "must be"

        for word <- allowed(row.type), do: assert(error.message =~ word)
      end

      for {options, message} <- [
            {[sandbox: :readonly],
             "option :sandbox must be one of :default, :strict, :read_only, :workspace_write, " <>
               ":permissive, :danger_full_access, :external_sandbox, got: :readonly"},
            {[transport: :app_server],
             "option :transport must be :exec, {:app_server, conn} or {:pool, name}, got: :app_server"},
            {[cd: 5], "option :cd must be a path, got: 5"},
            {[shell_environment_policy: [inherit: :some]],
             "option [:shell_environment_policy, :inherit] must be one of :core, :all, :none, " <>
               "got: :some"},
            {[attachments: 1],
             "option :attachments must be a list of paths, or of maps with a :path, got: 1"},
            {[metadata: 1], "option :metadata must be a map, got: [redacted]"},
            {[profile: 1], "option :profile must be a non-empty string, got: 1"},
            {[config: 1],
             "option :config must be a map, a keyword, or a list of {key, value} or " <>
               "\"key=value\", with values that TOML has a form for, got: [redacted]"},
            {[retry_opts: [max_attempts: 0]],
             "option [:retry_opts, :max_attempts] must be a positive integer, got: 0"}
          ] do
        assert said(Thread.Options.new(options)) == message
      end

      {:ok, thread} = Codex.start_thread([codex_path: "/bin/true"], cd: "/no/such")
      assert said(Thread.run(thread, "hi")) == ~S(there is no folder "/no/such" to work in)

      assert said(Thread.run(thread, "hi", cd: "/", output_schema: %{a: {1}})) ==
               "option :output_schema: {1} at a has no form in JSON"

      for {option, value} <- [timeout_ms: 0, completion_timeout_ms: "10s"] do
        message = said(Thread.run(thread, "hi", [{option, value}]))
        assert message =~ "#{option}" and message =~ "positive integer in milliseconds"
      end
    end

    defp allowed({:one_of, values}), do: Enum.map(values, &inspect/1)
    defp allowed(:boolean), do: ["boolean"]
    defp allowed(:string), do: ["string"]
    defp allowed(:path), do: ["path"]
    defp allowed(:milliseconds), do: ["positive integer in milliseconds"]
    defp allowed(:timeout), do: ["positive integer in milliseconds", ":infinity"]
    defp allowed(:map), do: ["map"]
    defp allowed({:list, _}), do: ["list"]
    defp allowed(_type), do: []

    test "are errors with the path of the value" do
      for {options, reason} <- [
            {[shell_environment_policy: 1], {:invalid, [:shell_environment_policy], 1}},
            {[shell_environment_policy: [inherit: :some]],
             {:invalid, [:shell_environment_policy, :inherit], :some}},
            {[shell_environment_policy: [exclude: [1]]],
             {:invalid, [:shell_environment_policy, :exclude], "[redacted]"}},
            {[shell_environment_policy: [ignore_default_excludes: 1]],
             {:invalid, [:shell_environment_policy, :ignore_default_excludes], 1}},
            {[sandbox_policy: [writable_roots: 1]],
             {:invalid, [:sandbox_policy], [writable_roots: 1]}},
            {[history_max_bytes: -1], {:invalid, [:history_max_bytes], -1}},
            {[request_max_retries: 0], {:invalid, [:request_max_retries], 0}},
            {[features: %{a: 1}], {:invalid, [:features], %{a: 1}}},
            {[personality: :rude], {:invalid, [:personality], :rude}},
            {[retry_opts: 1], {:invalid, [:retry_opts], 1}},
            {[retry_opts: [max_attemps: 2]],
             {:unknown, [:retry_opts, :max_attemps], :max_attempts}},
            {[retry_opts: %{"max_attempts" => 0}], {:invalid, [:retry_opts, :max_attempts], 0}},
            {[retry: :again], {:invalid, [:retry], :again}},
            {[collaboration_mode: ~D[2020-01-01]],
             {:invalid, [:collaboration_mode], ~D[2020-01-01]}},
            {[transport: {:app_server, {:via, nil, 1}}],
             {:invalid, [:transport], {:app_server, {:via, nil, 1}}}},
            {[transport: {:app_server, {:via, Enum, 1}}],
             {:invalid, [:transport], {:app_server, {:via, Enum, 1}}}},
            {[transport: {:app_server, {:via, "m", 1}}],
             {:invalid, [:transport], {:app_server, {:via, "m", 1}}}},
            {[rate_limit: 1], {:invalid, [:rate_limit], 1}},
            {[rate_limit_opts: [:account]], {:invalid, [:rate_limit_opts], [:account]}},
            {[rate_limit_opts: [account: 1]], {:invalid, [:rate_limit_opts, :account], 1}},
            {[rate_limit_opts: [gate: true]], {:unknown, [:rate_limit_opts, :gate], nil}},
            {[idle_timeout_ms: 0], {:invalid, [:idle_timeout_ms], 0}},
            {[start_timeout_ms: :infinity], {:invalid, [:start_timeout_ms], :infinity}},
            {[total_timeout_ms: -1], {:invalid, [:total_timeout_ms], -1}},
            {[request_timeout_ms: "1"], {:invalid, [:request_timeout_ms], "1"}},
            {[approval_timeout_ms: 0], {:invalid, [:approval_timeout_ms], 0}},
            {[mcp_servers: 1], {:invalid, [:mcp_servers], "[redacted]"}},
            {[mcp_servers: %{"" => %{}}], {:invalid, [:mcp_servers], "[redacted]"}},
            {[mcp_servers: [a: "sk-1"]], {:invalid, [:mcp_servers, "a"], "[redacted]"}},
            {[mcp_servers: %{a: [1]}], {:invalid, [:mcp_servers, "a"], "[redacted]"}},
            {[mcp_servers: %{"a.b" => %{cwd: {1}}}],
             {:invalid, [:mcp_servers, "a.b", "cwd"], "[redacted]"}},
            {[mcp_servers: %{a: %{"" => 1}}], {:invalid, [:mcp_servers, "a"], "[redacted]"}},
            {[mcp_servers: %{a: %{args: ["x", nil]}}],
             {:invalid, [:mcp_servers, "a", "args"], "[redacted]"}},
            {[mcp_servers: %{a: %{env: %{"" => "sk-1"}}}],
             {:invalid, [:mcp_servers, "a", "env"], "[redacted]"}},
            {[mcp_servers: %{a: %{env: ["T=sk-1": ""]}}],
             {:invalid, [:mcp_servers, "a", "env"], "[redacted]"}},
            {[mcp_servers: %{a: %{env: ["T=sk-1"]}}],
             {:invalid, [:mcp_servers, "a", "env"], "[redacted]"}},
            {[mcp_servers: %{a: %{env: [T: 77_177]}}],
             {:invalid, [:mcp_servers, "a", "env", "T"], "[redacted]"}},
            {[mcp_servers: %{a: %{env: [T: "a\0"]}}],
             {:invalid, [:mcp_servers, "a", "env", "T"], "[redacted]"}},
            {[mcp_servers: %{a: %{http_headers: [{"X", true}]}}],
             {:invalid, [:mcp_servers, "a", "http_headers", "X"], "[redacted]"}},
            {[mcp_servers: %{a: %{http_headers: [{"X", "v"} | "y"]}}],
             {:invalid, [:mcp_servers, "a", "http_headers"], "[redacted]"}},
            {[mcp_servers: %{a: %{env_vars: ["T", "T=sk-1"]}}],
             {:invalid, [:mcp_servers, "a", "env_vars"], "[redacted]"}},
            {[mcp_servers: %{a: %{env_vars: [[name: "", source: "local"]]}}],
             {:invalid, [:mcp_servers, "a", "env_vars", "name"], "[redacted]"}},
            {[mcp_servers: %{a: %{bearer_token_env_var: "T=sk-1"}}],
             {:invalid, [:mcp_servers, "a", "bearer_token_env_var"], "[redacted]"}},
            {[mcp_servers: %{a: [env_http_headers: [X: "T=sk-1"]]}],
             {:invalid, [:mcp_servers, "a", "env_http_headers", "X"], "[redacted]"}},
            {[model_providers: [p: [env_key: ""]]],
             {:invalid, [:model_providers, "p", "env_key"], "[redacted]"}},
            {[model_providers: [p: [env_http_headers: %{"X" => "\0"}]]],
             {:invalid, [:model_providers, "p", "env_http_headers", "X"], "[redacted]"}},
            {[mcp_servers: %{a: %{http_headers: %{"X" => true}}}],
             {:invalid, [:mcp_servers, "a", "http_headers", "X"], "[redacted]"}},
            {[mcp_servers: %{a: %{http_headers: %{"X" => ""}}}],
             {:invalid, [:mcp_servers, "a", "http_headers", "X"], "[redacted]"}},
            {[mcp_servers: %{a: %{http_headers: %{"Bearer sk-1" => "x"}}}],
             {:invalid, [:mcp_servers, "a", "http_headers"], "[redacted]"}},
            {[model_providers: [p: [http_headers: [X: "a\nb"]]]],
             {:invalid, [:model_providers, "p", "http_headers", "X"], "[redacted]"}},
            {[model_providers: [p: [experimental_bearer_token: ""]]],
             {:invalid, [:model_providers, "p", "experimental_bearer_token"], "[redacted]"}},
            {[model_providers: %{"p" => %{"experimental_bearer_token" => " "}}],
             {:invalid, [:model_providers, "p", "experimental_bearer_token"], "[redacted]"}},
            {[model_providers: [p: [experimental_bearer_token: "sk-1\n"]]],
             {:invalid, [:model_providers, "p", "experimental_bearer_token"], "[redacted]"}},
            {[model_providers: [p: [query_params: [v: 1]]]],
             {:invalid, [:model_providers, "p", "query_params", "v"], "[redacted]"}},
            {[config: [mcp_servers: [a: [cwd: nil]]]],
             {:invalid, [:config, "mcp_servers.a.cwd"], "[redacted]"}},
            {[config: %{"mcp_servers.a.env" => %{"T=sk-1" => ""}}],
             {:invalid, [:config, "mcp_servers.a.env"], "[redacted]"}},
            {[config: %{"tools" => [a: {1}]}], {:invalid, [:config, "tools.a"], "[redacted]"}}
          ] do
        assert short(Thread.Options.new(options)) == {:error, reason}
      end
    end

    test "do not include any name of a process" do
      for name <- [{:via, Registry, {Codex.Exec.Registry, 1}}, {:global, 1}, :name, self()] do
        transport = {:app_server, name}
        assert {:ok, %{transport: ^transport}} = Thread.Options.new(transport: transport)
      end
    end

    test "tables of servers: nil means not set, empty lists have the type of the CLI" do
      servers = [
        a: [
          command: "x",
          cwd: nil,
          args: [],
          enabled_tools: [],
          env: [A: nil],
          env_vars: [],
          tools: [t: []]
        ],
        b: [{"url", "u"}, http_headers: [], env_http_headers: [], oauth: []],
        c: [],
        d: nil
      ]

      providers = [p: [name: "P", query_params: [], http_headers: [], env_http_headers: []]]
      options = [mcp_servers: servers, model_providers: providers]
      assert {:ok, options} = Thread.Options.new(options)

      assert options.mcp_servers == %{
               "a" => %{
                 "command" => "x",
                 "args" => [],
                 "enabled_tools" => [],
                 "env" => %{},
                 "env_vars" => [],
                 "tools" => %{"t" => %{}}
               },
               "b" => %{
                 "url" => "u",
                 "http_headers" => %{},
                 "env_http_headers" => %{},
                 "oauth" => %{}
               },
               "c" => %{}
             }

      assert options.model_providers["p"] == %{
               "name" => "P",
               "query_params" => %{},
               "http_headers" => %{},
               "env_http_headers" => %{}
             }

      told = config(config: [mcp_servers: [a: [command: "x", args: [], env: []]]])

      assert Enum.sort(told) == [
               "mcp_servers.a.args=[]",
               ~S(mcp_servers.a.command="x"),
               "mcp_servers.a.env={}"
             ]
    end

    test "overrides: nil, tuples, structs, big integers, too deep" do
      deep = Enum.reduce(1..40, 1, fn _, value -> [value] end)

      for value <- [nil, {1, 2}, %URI{}, 2 ** 63, <<0xFF>>, deep, [1 | 2], %{nil => 1}, self()] do
        assert Overrides.new(%{"k" => value}) == {:error, "k"}
      end

      assert Overrides.arguments(elem(Overrides.new(%{"a" => %{"b.c" => %{}}}), 1)) ==
               {:ok, [~S(a={"b.c" = {}})]}

      assert Overrides.arguments(elem(Overrides.new([{".x", 1}]), 1)) == {:error, ""}
    end
  end

  describe "the real CLI" do
    @describetag :codex_cli

    # It accepts each of them with --strict-config; what it does where that can be seen. A function
    # gets the request.
    @contract [
      {[profile: "nobody"], nil},
      {[ignore_rules: true], nil},
      {[trust: true], nil},
      {[ephemeral: true], nil},
      {[thread_source: "ci"], nil},
      {[cyber_access_program: :daybreak_red], nil},
      {[additional_directories: ["/"]], nil},
      {[model: "codex-test"], {:model, "codex-test"}},
      {[reasoning_effort: :high], {:effort, "high"}},
      {[model_reasoning_summary: :concise], nil},
      {[tool_output_token_limit: 500, agent_max_threads: 2], nil},
      {[approvals_reviewer: :auto_review], nil},
      {[
         ask_for_approval: [
           granular: [sandbox_approval: true, rules: false, mcp_elicitations: false]
         ]
       ], nil},
      {[web_search_enabled: false], {:no_tool, "web_search"}},
      {[model_verbosity: :low], {:verbosity, "low"}},
      {[model_context_window: 50_000], nil},
      {[personality: :pragmatic], nil},
      {[base_instructions: "Base \"one\"\n\ttwo \u2028 é \\ \u007F"],
       {:has, "Base \"one\"\n\ttwo \u2028 é \\ \u007F"}},
      {[base_instructions: String.duplicate("long é", 30_000)],
       {:has, String.duplicate("long é", 30_000)}},
      {[developer_instructions: "Dev 'x'"], {:has, "Dev 'x'"}},
      {[developer_instructions: String.duplicate("dev \"é\"\n", 30_000) <> "."],
       {:has, String.duplicate("dev \"é\"\n", 30_000) <> "."}},
      {[sandbox: :read_only], nil},
      {[
         sandbox_policy: %{
           type: "workspace-write",
           writable_roots: ["/tmp"],
           exclude_slash_tmp: true
         }
       ], nil},
      {[network_access_enabled: true], nil},
      {[ask_for_approval: :never], nil},
      {[approve_for_me: true], nil},
      {[full_auto: true], nil},
      {[dangerous: true, dangerously_bypass_approvals_and_sandbox: true], nil},
      {[dangerous: true, dangerously_bypass_hook_trust: true], nil},
      {[
         shell_environment_policy: [
           inherit: :none,
           ignore_default_excludes: true,
           exclude: ["X"],
           set: %{"A.B" => "1"}
         ]
       ], nil},
      {[features: %{"view_image" => false}], {:no_tool, "view_image"}},
      {[enable: ["unified_exec"], disable: ["view_image"]], {:no_tool, "view_image"}},
      {[view_image_tool_enabled: false], {:no_tool, "view_image"}},
      {[unified_exec_enabled: true], {:tool, "exec_command"}},
      {[skills_enabled: false], nil},
      {[web_search_mode: :disabled], {:no_tool, "web_search"}},
      {[web_search_mode: :live], {:tool, "web_search"}},
      {[web_search_enabled: true], {:tool, "web_search"}},
      {[history_persistence: "none", history_max_bytes: 10], nil},
      {[
         model_provider: "mock",
         request_max_retries: 1,
         stream_max_retries: 1,
         provider_stream_idle_timeout_ms: 9_000
       ], nil},
      {[tools: [Echo]], {:tool, "mcp__host"}},
      {[config: %{"tools" => %{"update_plan" => %{"enabled" => false}}}],
       {:no_tool, "update_plan"}},
      {[config_overrides: %{"projects" => %{"/a.b \"c\"" => %{"trust_level" => :trusted}}}], nil}
    ]

    # Options whose flags only a part of the tested versions has.
    @newer for row <- Codex.Options.Table.rows(),
               {_kind, flag} when is_binary(flag) <- [row.opts[:exec]],
               Codex.CLI.Since.first(flag) != nil,
               do: row.name

    for {{options, effect}, index} <- Enum.with_index(@contract) do
      if Enum.any?(@newer, &Keyword.has_key?(options, &1)), do: @tag(:cli_pin)

      test "takes #{index} #{options |> Keyword.keys() |> Enum.join(" ")}" do
        model = Codex.Test.start!(["Done."])

        {:ok, thread} =
          Codex.start_thread(
            Codex.Test.options(model),
            Codex.Test.thread_options(model) ++
              [strict_config: true] ++ unquote(Macro.escape(options))
          )

        assert {:ok, %{final_response: %{text: "Done."}}} = Thread.run(thread, "hi")

        [%{body: body}] =
          for(%{method: "POST"} = request <- Codex.Test.requests(model), do: request)

        check(unquote(Macro.escape(effect)), body)
      end
    end

    defp check(nil, _body), do: :ok
    defp check({:model, model}, body), do: assert(body["model"] == model)
    defp check({:effort, effort}, body), do: assert(body["reasoning"]["effort"] == effort)
    defp check({:verbosity, verbosity}, body), do: assert(body["text"]["verbosity"] == verbosity)
    defp check({:tool, tool}, body), do: assert(tool in tools(body))
    defp check({:no_tool, tool}, body), do: refute(tool in tools(body))

    defp check({:has, text}, body) do
      texts = for %{"content" => content} <- body["input"], %{"text" => text} <- content, do: text
      assert Enum.any?(texts, &(&1 == text)) or body["instructions"] == text
    end

    defp tools(body), do: Enum.map(body["tools"], &(&1["name"] || &1["type"]))

    test "keeps the named profile if a text needs its own profile, and leaves no file" do
      model = Codex.Test.start!(["Done."])

      File.write!(
        Path.join(model.home, "mine.config.toml"),
        "# kept\nmodel_verbosity = \"high\"\n"
      )

      before = File.ls!(model.home)
      text = String.duplicate("long ", 40_000) <> "end"

      opts =
        Codex.Test.thread_options(model) ++
          [strict_config: true, profile: "mine", developer_instructions: text]

      {:ok, thread} = Codex.start_thread(Codex.Test.options(model), opts)
      assert {:ok, _} = Thread.run(thread, "hi")

      [%{body: body}] =
        for(%{method: "POST"} = request <- Codex.Test.requests(model), do: request)

      check({:has, text}, body)
      check({:verbosity, "high"}, body)
      assert Enum.filter(File.ls!(model.home) -- before, &(&1 =~ "config.toml")) == []
    end

    @tag :cli_pin
    test "works in a worktree, resumes over folders, and writes the last message" do
      model = Codex.Test.start!(["One.", "Two.", "Three."], git: true)
      Codex.Git.commit!(model.workspace)
      last = Path.join(model.home, "last.txt")

      {:ok, thread} =
        Codex.start_thread(
          Codex.Test.options(model),
          Codex.Test.thread_options(model) ++ [worktree: true]
        )

      assert {:ok, first} = Thread.run(thread, "hi", output_last_message: last, color: :never)
      assert File.read!(last) == "One."

      {:ok, again} =
        Codex.resume_thread(:last, Codex.Test.options(model),
          resume_all: true,
          skip_git_repo_check: true,
          working_directory: model.home
        )

      assert {:ok, %{thread: %{thread_id: id}}} = Thread.run(again, "more")
      assert id == first.thread.thread_id
    end

    test "runs without the user's configuration, with a provider of this run and its secrets" do
      model = Codex.Test.start!(["Done."])

      provider = %{
        name: "Own",
        base_url: model.url,
        wire_api: "responses",
        experimental_bearer_token: "sk-own",
        http_headers: %{"X-Own" => "sk-header"}
      }

      {:ok, thread} =
        Codex.start_thread(
          Codex.Test.options(model),
          Codex.Test.thread_options(model) ++
            [
              ignore_user_config: true,
              strict_config: true,
              model: "codex-test",
              model_provider: "own.one",
              model_providers: %{"own.one" => provider},
              config: %{
                "analytics.enabled" => false,
                "features.plugins" => false,
                "model_catalog_json" => Path.join(model.home, "models.json")
              }
            ]
        )

      assert {:ok, _} = Thread.run(thread, "hi")
      assert [%{headers: headers}] = Codex.Test.requests(model)
      assert headers["authorization"] == "Bearer sk-own"
      assert headers["x-own"] == "sk-header"
    end

    test "sends the key to the built-in provider, at the base URL" do
      model = Codex.Test.start!(["Done."])
      global = [base_url: model.url, api_key: "sk-client"] ++ Codex.Test.options(model)
      opts = Codex.Test.thread_options(model) ++ [strict_config: true, model_provider: "openai"]
      {:ok, thread} = Codex.start_thread(global, opts)
      assert {:ok, _} = Thread.run(thread, "hi")
      posts = for %{method: "POST"} = request <- Codex.Test.requests(model), do: request
      assert [%{headers: %{"authorization" => "Bearer sk-client"}}] = posts
    end

    test "passes variables to an MCP server without showing them in ps" do
      model = Codex.Test.start!(["Done."])
      seen = Path.join(model.home, "seen")

      command =
        "echo \"$TOKEN\" > #{seen}.new; ps -eww -o args= > #{seen}.ps; mv #{seen}.new #{seen}; exec sleep 1"

      server = %{
        command: "/bin/sh",
        args: ["-c", command],
        env: %{"TOKEN" => "sk-mcp"},
        startup_timeout_sec: 1.0,
        required: true
      }

      {:ok, thread} =
        Codex.start_thread(
          Codex.Test.options(model),
          Codex.Test.thread_options(model) ++
            [strict_config: true, mcp_servers: %{"tiny" => server}]
        )

      # It is no MCP server, and the run needs it: the CLI waits for it as long as it may, and gives
      # up.
      assert {:error, {:exec_failed, %Codex.Error{}}} = Thread.run(thread, "hi")
      assert File.read!(seen) == "sk-mcp\n"
      refute File.read!(seen <> ".ps") =~ "sk-mcp"
    end
  end

  test "options of 0.4.5 without a form here, and empty ids, are refused by name" do
    for key <- [:max_turns, :agent, :run_config, "backoff"] do
      name = if is_binary(key), do: String.to_existing_atom(key), else: key
      error = {:error, {:unsupported, [name], nil}}
      assert short(Codex.start_thread([], %{key => 1})) == error
      assert short(Codex.start_thread(%{key => 1})) == error
    end

    assert short(Codex.resume_thread("")) == {:error, {:argument, [:id], ""}}
  end
end
