defmodule Codex.CLI.CommandsTest do
  # Every function of `Codex.CLI` with the pinned CLI: its result, or its documented refusal. The
  # daemon of a home is a part of the machine, so these tests are not async.
  use ExUnit.Case, async: false

  alias Codex.{AppServer, CLI, Error}
  alias Codex.CLI.{Commands, Result}

  @moduletag :codex_cli
  @moduletag :cli_pin
  @moduletag timeout: 600_000

  # Nothing leaves the machine: commands that want to reach OpenAI meet a proxy that is not there.
  @offline for name <- ~w(HTTPS_PROXY HTTP_PROXY https_proxy http_proxy),
               into: %{},
               do: {name, "http://127.0.0.1:9"}

  @feature "analytics_plan_history"
  @nowhere "11111111-1111-4111-8111-111111111111"

  # The path of a socket has at most 103 bytes, so the home is not below the build directory.
  setup context do
    model = Codex.Test.start!(List.wrap(context[:script]), dir: System.tmp_dir!())
    opts = Keyword.update!(Codex.Test.options(model), :env, &Map.merge(&1, @offline))
    %{model: model, opts: opts ++ [cwd: model.workspace]}
  end

  # A row: the function, its arguments, its options, and a check of the result.

  defp table(:threads, %{id: id}) do
    [
      {:queue, [id, "-a message"], [], message(id)},
      {:queue, ["nobody", "a message"], [], refused(:thread_not_found)},
      {:archive, [id], [], message("rchived")},
      {:archive, ["-nobody"], [], refused(:thread_not_found)},
      {:unarchive, [id], [], message(id)},
      {:unarchive, ["nobody"], [], refused(:thread_not_found)},
      {:delete, [id], [], refused(:unsupported)},
      {:delete, [id], [force: true], message(id)},
      {:delete, [@nowhere], [], refused(:thread_not_found)}
    ]
  end

  defp table(:cloud, _context) do
    for {name, args, opts} <- [
          {:apply, ["task"], []},
          {:cloud_exec, ["environment", "a prompt"], [attempts: 2, branch: "main"]},
          {:cloud_list, [], [environment: "e", limit: 20, cursor: "c"]},
          {:cloud_status, ["task"], []},
          {:cloud_diff, ["task"], [attempt: 1]},
          {:cloud_apply, ["task"], [attempt: 1]}
        ],
        do: {name, args, opts, refused(:auth_missing)}
  end

  defp table(:settings, %{rules: rules, market: market}) do
    known = &(&1 |> elem(1) |> Enum.find(fn feature -> feature.name == @feature end))
    plugins = [enable: ["plugins"]]

    [
      {:features_list, [], [], &assert(%{stage: :experimental, enabled: false} = known.(&1))},
      {:features_list, [], [enable: [@feature]], &assert(known.(&1).enabled)},
      {:features_list, [], [overrides: ["features.#{@feature}=true"]],
       &assert(known.(&1).enabled)},
      {:features_enable, [@feature], [], message("Enabled")},
      {:features_list, [], [], &assert(known.(&1).enabled)},
      {:features_list, [], [disable: [@feature]], &refute(known.(&1).enabled)},
      {:features_disable, [@feature], [], message("Disabled")},
      {:features_list, [], [], &refute(known.(&1).enabled)},
      {:features_enable, ["nothing"], [], refused(:invalid_request)},
      {:mcp_add, ["one"], [command: ["cat", "-n"]], message("Added")},
      {:mcp_add, ["two"], [url: "http://127.0.0.1:9/", bearer_token_env_var: "T"],
       message("Added")},
      {:mcp_add, ["three"], [], refused(:invalid_request)},
      {:mcp_get, ["one"], [], &assert({:ok, %{"transport" => %{"args" => ["-n"]}}} = &1)},
      {:mcp_get, ["three"], [], refused(:invalid_request)},
      {:mcp_list, [], [], &assert({:ok, [%{"name" => "one"}, %{"name" => "two"}]} = &1)},
      {:mcp_login, ["one"], [no_browser: true, scopes: "a,b"], refused(:invalid_request)},
      {:mcp_logout, ["two"], [overrides: ["mcp_oauth_credentials_store=file"]],
       &assert({:ok, _message} = &1)},
      {:mcp_remove, ["one"], [], message("Removed")},
      {:plugin_marketplace_add, [market], [], json("marketplaceName", "local")},
      {:plugin_marketplace_list, [], plugins, &assert({:ok, %{"marketplaces" => [_]}} = &1)},
      {:plugin_marketplace_upgrade, [], [], json("errors", [])},
      {:plugin_marketplace_upgrade, [], [name: "local"], refused(:invalid_request)},
      {:plugin_add, ["one"], [marketplace: "local"] ++ plugins, json("pluginId", "one@local")},
      {:plugin_add, ["two@local"], plugins, refused(:invalid_request)},
      {:plugin_list, [], [available: true] ++ plugins,
       &assert({:ok, %{"installed" => [_], "available" => []}} = &1)},
      {:plugin_remove, ["one@local"], plugins, json("name", "one")},
      {:plugin_marketplace_remove, ["local"], [], json("marketplaceName", "local")},
      {:execpolicy_check, [[rules], ["git", "push"]], [],
       &assert({:ok, %{decision: :prompt, matched_rules: [%{}]}} = &1)},
      {:execpolicy_check, [[rules], ["rm", "-r"]], [],
       &assert({:ok, %{decision: :forbidden}} = &1)},
      {:execpolicy_check, [[rules], ["ls"]], [resolve_host_executables: true],
       &assert({:ok, %{decision: nil, matched_rules: []}} = &1)},
      {:execpolicy_check, [["nothing"], ["ls"]], [], refused(:invalid_request)}
    ]
  end

  defp table(:machine, %{model: model}) do
    folder = Path.join(model.workspace, "generated")
    state = %{"permissionProfile" => nil}

    [
      {:sandbox, [["sh", "-c", "cat; exit 3"]], [stdin: "in"],
       &assert({:ok, %Result{exit_status: 3, stdout: "in"}} = &1)},
      {:sandbox, [["touch", "file"]], [permission_profile: ":read-only"],
       &assert({:ok, %Result{exit_status: 1}} = &1)},
      {:sandbox, [["pwd"]], [permission_profile: ":read-only", cd: "/"],
       &assert({:ok, %Result{exit_status: 0, stdout: "/\n"}} = &1)},
      # The CLI reads the state, and finds no profile in it.
      {:sandbox, [["true"]], [state: state, readable_roots: ["/"], disable_network: true],
       &assert({:ok, %Result{exit_status: 1, stderr: "" <> _}} = &1)},
      {:sandbox_uninstall, [], [], refused(:unsupported)},
      {:debug_models, [], [bundled: true], &assert({:ok, %{"models" => [_ | _]}} = &1)},
      {:debug_prompt_input, ["-words"], [],
       &assert(%{"content" => [%{"text" => "-words"}]} = &1 |> elem(1) |> List.last())},
      {:debug_clear_memories, [], [], message("Cleared")},
      {:doctor, [], [network_only: true], json("codexVersion", CLI.Program.tested_version())},
      {:completion, [:bash], [], &assert(elem(&1, 1) =~ "_codex()")},
      {:completion, ["fish"], [], &assert(elem(&1, 1) =~ "__fish_codex")},
      {:migrate_rollouts, [], [apply: true, max_mib_per_second: 1], json("outcomes", [])},
      {:update, [], [], refused(:invalid_request)},
      {:app_server_generate_json_schema, [folder], [experimental: true],
       fn {:ok, _} -> assert File.ls!(folder) != [] end},
      {:app_server_generate_ts, [folder <> "_ts"], [],
       fn {:ok, _} -> assert File.ls!(folder <> "_ts") != [] end},
      {:exec_server, [], [listen: "stdio"], &assert({:ok, %Result{exit_status: 0}} = &1)},
      {:exec_server, [], [listen: "nonsense"], &assert(elem(&1, 1).exit_status > 0)}
    ]
  end

  defp table(:daemon, _context) do
    [
      {:app_server_daemon_version, [], [], refused(:connection_refused)},
      {:remote_control_pair, [], [], refused(:connection_refused)},
      {:app_server_daemon_stop, [], [], json("status", "notRunning")},
      {:app_server_daemon_start, [], [], json("status", "started")},
      {:app_server_daemon_version, [], [], &connects/1},
      {:app_server_daemon_restart, [], [], json("status", "restarted")},
      {:app_server_daemon_enable_remote_control, [], [], json("remoteControlEnabled", true)},
      {:app_server_daemon_disable_remote_control, [], [], json("remoteControlEnabled", false)},
      {:app_server_daemon_update, [], [], refused(:connection_refused)},
      {:app_server_daemon_bootstrap, [], [], json("status", "bootstrapped")},
      {:remote_control_start, [], [], refused(:connection_refused)},
      {:remote_control_stop, [], [], json("status", "stopped")},
      {:app_server_daemon_stop, [], [], json("status", "notRunning")}
    ]
  end

  defp table(:refused, _context) do
    for name <- [:resume, :fork, :agents, :cloud, :mcp_server],
        do: {name, [], nil, &assert({:error, {:unsupported, ^name, "" <> _}} = &1)}
  end

  @groups [:threads, :cloud, :settings, :machine, :daemon, :refused]

  defp message(part) do
    fn result ->
      assert {:ok, text} = result
      assert text =~ part
    end
  end

  defp json(key, value), do: fn result -> assert {:ok, %{^key => ^value}} = result end

  defp refused(kind) do
    fn result ->
      assert {:error, %Error{kind: ^kind} = error} = result
      assert error.exit_status in [1, 2]
      refute error.message =~ "backtrace"
      refute error.message =~ "no message"
    end
  end

  # The daemon has outlived the command that started it.
  defp connects({:ok, %{"status" => "running", "socketPath" => socket}}) do
    assert {:ok, conn} = AppServer.connect_remote("unix://" <> socket)
    assert {:ok, %{"data" => []}} = AppServer.thread_list(conn)
    :ok = AppServer.disconnect(conn)
  end

  defp check(group, context) do
    for {name, args, own, check} <- table(group, context) do
      args = if own, do: args ++ [own ++ context.opts], else: args

      try do
        check.(apply(CLI, name, args))
      rescue
        error in ExUnit.AssertionError ->
          flunk("Codex.CLI.#{name}: #{Exception.message(error)}")
      end
    end
  end

  @tag script: ["an answer"]
  test "commands on threads", %{model: model} = context do
    {:ok, thread} =
      Codex.start_thread(Codex.Test.options(model), Codex.Test.thread_options(model))

    {:ok, %{thread: %{thread_id: id}}} = Codex.Thread.run(thread, "a prompt")
    check(:threads, Map.put(context, :id, id))
  end

  test "commands for Codex Cloud need a login", context do
    check(:cloud, context)
  end

  test "commands on features, MCP servers, plugins and rules", %{model: model} = context do
    rules = Path.join(model.workspace, "test.rules")

    File.write!(rules, """
    prefix_rule(pattern=["git", "push"], decision="prompt")
    prefix_rule(pattern=["rm"], decision="forbidden")
    """)

    market = Path.join(model.workspace, "market")
    plugin = ~s({"name":"one","version":"0.1.0","description":"d"})
    source = ~s([{"name":"one","source":"./one","description":"d"}])
    list = ~s({"name":"local","owner":{"name":"me"},"plugins":#{source}})

    for {path, text} <- [
          {".claude-plugin/marketplace.json", list},
          {"one/.codex-plugin/plugin.json", plugin}
        ] do
      path = Path.join(market, path)
      File.mkdir_p!(Path.dirname(path))
      File.write!(path, text)
    end

    check(:settings, Map.merge(context, %{rules: rules, market: market}))
  end

  test "an invalid configuration is named without its lines", %{model: model, opts: opts} do
    File.write!(Path.join(model.home, "config.toml"), ~s(notify = ["sk-marked"\nmodel = [))

    for {name, args} <- [features_list: [], mcp_list: [], debug_models: [], queue: ["t", "m"]] do
      result = apply(CLI, name, args ++ [opts])
      refused(:config).(result)
      {:error, error} = result
      assert error.message =~ "config.toml:"
      refute error.message =~ "sk-marked" or error.message =~ "TOML parse error"
    end
  end

  test "commands on this machine", context do
    check(:machine, context)
  end

  # `/proc` shows the network of a process on Linux only.
  if :os.type() == {:unix, :linux} do
    # The state of the sandbox that an app-server passes to tools.
    defp state(kind, network) do
      entries = [%{path: %{type: "special", value: %{kind: kind}}, access: "read"}]
      files = %{type: "restricted", entries: entries}
      profile = %{type: "managed", file_system: files, network: network}
      %{permissionProfile: profile, sandboxCwd: "file:///"}
    end

    test "a sandbox has the readable folders and the network of a state",
         %{model: model} = context do
      run = fn command, own -> CLI.sandbox(command, own ++ context.opts) end
      {:ok, program} = CLI.Program.find(context.opts[:codex_path])
      {program, 0} = System.cmd("readlink", ["-f", program])
      file = Path.join(model.workspace, "file")
      File.write!(file, "text")

      roots = [state: state("minimal", "enabled"), readable_roots: [Path.dirname(program)]]
      assert {:ok, %{exit_status: 1, stdout: ""}} = run.(["cat", file], roots)
      roots = Keyword.put(roots, :readable_roots, [Path.dirname(program), model.workspace])
      assert {:ok, %{exit_status: 0, stdout: "text"}} = run.(["cat", file], roots)

      {:ok, outside} = :file.read_link_all(~c"/proc/self/ns/net")
      net = ["readlink", "/proc/self/ns/net"]
      assert {:ok, %{stdout: inside}} = run.(net, state: state("root", "enabled"))
      assert String.trim(inside) == to_string(outside)

      assert {:ok, %{exit_status: 0, stdout: inside}} =
               run.(net, state: state("root", "enabled"), disable_network: true)

      refute String.trim(inside) == to_string(outside)

      assert {:ok, %{exit_status: 1, stderr: stderr}} =
               run.(["touch", file], state: Codex.JSON.encode!(state("root", "restricted")))

      assert stderr =~ "Read-only file system"
    end
  end

  test "daemons, which outlive the command", %{model: model} = context do
    updater = Path.join(model.home, "app-server-daemon/daemon-updater.pid")
    check(:daemon, context)
    assert [_, pid] = Regex.run(~r/"pid":(\d+)/, File.read!(updater))
    assert Codex.Stub.alive?(pid)
    {_, 0} = System.cmd("kill", [pid])
    assert Codex.Stub.eventually(fn -> Codex.Stub.running(model.home) == [] end)
  end

  test "commands that no program can use", context do
    check(:refused, context)

    for command <- ["resume", "fork", "agents", "mcp-server"] do
      assert {:ok, %{exit_status: 1, stderr: stderr}} = CLI.run([command], context.opts)
      assert stderr =~ "is not a terminal"
    end
  end

  test "every function is in a table" do
    context = %{id: "", rules: "", market: "", model: %{workspace: ""}}
    tested = for group <- @groups, {name, _, _, _} <- table(group, context), do: name
    assert Enum.sort(Enum.uniq(tested)) == Enum.sort(for(row <- Commands.all(), do: row.name))

    functions = for {name, _arity} <- CLI.__info__(:functions), uniq: true, do: name
    assert Enum.sort(functions -- tested) == [:cancel, :login_status, :run, :version]
  end

  # Values that the CLI checks.
  @samples %{
    tcp_upstream_proxy: "127.0.0.1:9",
    listen: "stdio",
    profile: "work",
    threads: [@nowhere, @nowhere]
  }

  # What an option sends, behind which the CLI prints its help if it knows the flag.
  test "the CLI knows every flag in the form in which it is sent", %{opts: opts} do
    for row <- Commands.all(), row.refuse == nil do
      values = for {_, type, _, _} <- row.args, do: sample(type)

      options =
        for {name, type, _, facts} <- row.options,
            facts[:only] == nil,
            into: %{},
            do: {name, @samples[name] || sample(type)}

      {flags, rest} = row |> Commands.argv(values, options) |> Enum.split_while(&(&1 != "--"))
      assert {:ok, result} = CLI.run(flags ++ ["--help"] ++ rest, opts)
      assert result.exit_status == 0, "codex #{row.command}: #{result.stderr}"
      assert result.stdout =~ ~r/^Usage: codex #{row.command} /m
    end
  end

  defp sample(:boolean), do: true
  defp sample(:json), do: "{}"
  defp sample({:one_of, words}), do: hd(words)
  defp sample({:integer, least, _most}), do: least
  defp sample(number) when number in [:positive, :count], do: 1
  defp sample({:list, _type}), do: ["/a", "/b"]
  defp sample(list) when list in [:argv, :paths], do: ["/a", "-b"]
  defp sample(_text), do: "/a"

  test "the version, and the login", %{opts: opts} do
    assert CLI.version(opts) == {:ok, CLI.Program.tested_version()}
    login = Keyword.take(opts, [:codex_path, :codex_home, :env])
    assert {:ok, %{logged_in?: false}} = CLI.login_status(login)
  end

  test "an exec-server runs until it is cancelled", %{opts: opts} do
    test = self()

    task =
      Task.async(fn ->
        own = [listen: "ws://127.0.0.1:0", tee: &send(test, &1), cancellation_token: "server"]
        CLI.exec_server(own ++ opts)
      end)

    assert_receive {:stdout, "ws://127.0.0.1:" <> _}, 60_000
    assert CLI.cancel("server") == :ok
    assert {:error, %Error{kind: :interrupted}} = Task.await(task, 60_000)
    assert CLI.cancel("server") == {:error, :not_found}
  end
end
