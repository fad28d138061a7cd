defmodule Codex.AppServer.ConnectionTest do
  # A real server at the other end, or one that misbehaves.
  use ExUnit.Case, async: true

  import Codex.Stub, only: [alive?: 1, eventually: 1, eventually: 2]
  import Codex.Test.Steps
  alias Codex.{AppServer, Stub, Test}
  alias Codex.Auth.MCP

  @moduletag :tmp_dir

  defp connect!(model, options \\ []) do
    {:ok, conn} = AppServer.connect(Test.options(model), [cwd: model.workspace] ++ options)
    on_exit(fn -> AppServer.disconnect(conn) end)
    conn
  end

  defp thread!(conn, options \\ []) do
    {:ok, %{"thread" => %{"id" => id}}} = AppServer.thread_start(conn, options)
    id
  end

  defp os_pid(conn), do: GenServer.call(conn, :os_pid)

  # Notifications of a thread until the turn has ended.
  defp turn(thread_id, told \\ []) do
    receive do
      {:codex_notification, "turn/completed" = method, %{"threadId" => ^thread_id} = params} ->
        Enum.reverse([{method, params} | told])

      {:codex_notification, method, %{"threadId" => ^thread_id} = params} ->
        turn(thread_id, [{method, params} | told])
    after
      20_000 -> flunk("the turn did not end: #{inspect(told)}")
    end
  end

  defp status(told), do: told |> List.last() |> elem(1) |> get_in(["turn", "status"])

  describe "the real server" do
    @describetag :codex_cli

    test "threads, turns and notifications" do
      model = Test.start!(["Hello there."])
      conn = connect!(model)
      assert AppServer.alive?(conn)
      id = thread!(conn)
      assert AppServer.subscribe(conn, thread_id: id) == :ok

      assert {:ok, %{"turn" => %{"status" => "inProgress"}}} =
               AppServer.turn_start(conn, id, "Hi")

      told = turn(id)
      assert status(told) == "completed"
      assert {_, %{"item" => item}} = List.keyfind(Enum.reverse(told), "item/completed", 0)
      assert item["type"] == "agentMessage" and item["text"] == "Hello there."

      # Refused before it is sent, and by the server.
      assert {:error, %Codex.OptionError{reason: :unknown, path: [:modle], nearest: :model}} =
               AppServer.thread_start(conn, modle: "x")

      assert {:error, %{"code" => -32600}} = AppServer.request(conn, "no/such", %{})
      assert {:error, %{"code" => _}} = AppServer.turn_start(conn, "no-such-thread", "Hi")

      os_pid = os_pid(conn)
      assert AppServer.disconnect(conn) == :ok
      refute AppServer.alive?(conn)
      assert eventually(fn -> not alive?(os_pid) end)
      assert AppServer.disconnect(conn) == :ok
      assert {:error, {:app_server_down, _}} = AppServer.model_list(conn)
      assert {:error, {:app_server_down, _}} = AppServer.subscribe(conn)
    end

    test "behind a wrapper that writes a byte order mark and CRLF", %{tmp_dir: dir} do
      model = Test.start!(["Hello there."])
      {:ok, codex} = Test.codex_path()
      path = Stub.write!(dir, "printf '\\357\\273\\277'; #{codex} \"$@\" | sed -u 's/$/\\r/'")

      options = model |> Test.options() |> Keyword.put(:codex_path, path)
      {:ok, conn} = AppServer.connect(options, cwd: model.workspace)

      assert {:ok, %{"thread" => %{"id" => _}}} = AppServer.thread_start(conn)
      AppServer.disconnect(conn)
    end

    test "another process answers an approval later; without an answer, it is declined" do
      model =
        Test.start!([
          shell("echo one > a.txt",
            sandbox_permissions: "require_escalated",
            justification: "why"
          ),
          "done",
          shell("echo two > b.txt",
            sandbox_permissions: "require_escalated",
            justification: "why"
          ),
          "done"
        ])

      conn = connect!(model, answer_timeout_ms: 700)
      id = thread!(conn, approval_policy: :on_request, sandbox: :read_only)
      :ok = AppServer.subscribe(conn, thread_id: id)
      {:ok, _} = AppServer.turn_start(conn, id, "one")

      assert_receive {:codex_request, request, "item/commandExecution/requestApproval", params},
                     10_000

      assert params["command"] =~ "echo one"

      # An answer that is none can be given again.
      assert {:error, %Codex.OptionError{}} =
               AppServer.respond(conn, request, %{decision: :maybe})

      answer = Task.async(fn -> AppServer.respond(conn, request, %{decision: :accept}) end)
      assert Task.await(answer) == :ok

      assert {:error, {:request_closed, ^request}} =
               AppServer.respond(conn, request, %{decision: :accept})

      assert status(turn(id)) == "completed"
      assert File.read!(Path.join(model.workspace, "a.txt")) == "one\n"

      {:ok, _} = AppServer.turn_start(conn, id, "two")
      assert_receive {:codex_request, request, _, _}, 10_000
      assert status(turn(id)) == "completed"
      refute File.exists?(Path.join(model.workspace, "b.txt"))

      assert {:error, {:request_closed, ^request}} =
               AppServer.respond(conn, request, %{decision: :accept})
    end

    test "a server that is killed during a turn: all waiting processes get an error immediately" do
      model = Test.start!([silence(60_000)])
      conn = connect!(model)
      ref = Process.monitor(conn)
      id = thread!(conn)
      {:ok, _} = AppServer.turn_start(conn, id, "Hi")

      waiting =
        Task.async(fn ->
          AppServer.request(conn, "command/exec", %{"command" => ["sleep", "60"]})
        end)

      assert eventually(fn -> :sys.get_state(conn).state.peer.sent != %{} end)
      {_, 0} = System.cmd("kill", ["-9", Integer.to_string(os_pid(conn))])
      assert {:error, {:app_server_down, %{signal: :kill}}} = Task.await(waiting)

      assert_receive {:DOWN, ^ref, :process, _,
                      {:shutdown, {:app_server_down, %{signal: :kill}}}},
                     5_000
    end

    test "is a child of a supervisor, by a name" do
      model = Test.start!(["Hi.", "Again."])
      name = :"codex_#{System.unique_integer([:positive])}"
      spec = {AppServer, name: name, client: Test.options(model), cwd: model.workspace}
      start_supervised!(spec)
      assert AppServer.alive?(name)

      {:ok, thread} =
        Codex.start_thread(Test.options(model),
          transport: {:app_server, name},
          working_directory: model.workspace
        )

      assert {:ok, %{final_response: %{text: "Hi."}}} = Codex.Thread.run(thread, "hi")
      pid = Process.whereis(name)

      assert {:error, {:already_started, ^pid}} =
               AppServer.connect(Test.options(model), name: name)

      # A turn that begins while the next one says hello waits for that.
      Process.exit(pid, :kill)
      assert eventually(fn -> Process.whereis(name) not in [nil, pid] end)
      assert {:ok, %{final_response: %{text: "Again."}}} = Codex.Thread.run(thread, "hi")

      os_pid = os_pid(name)
      assert stop_supervised(name) == :ok
      assert eventually(fn -> not alive?(os_pid) end)

      assert {:error, {reason, _child}} = start_supervised({AppServer, client: [], cwd: 1})
      assert %Codex.OptionError{path: [:cwd], value: 1, expected: "a path"} = reason

      # Keys are in no child's start arguments, and what waits for an answer in no log.
      spec = AppServer.child_spec(client: [api_key: "sk-canary"], name: name)
      refute inspect(spec, limit: :infinity) =~ "sk-canary"
      {:ok, conn} = AppServer.connect(Test.options(model))
      {:status, _, _, status} = :sys.get_status(conn)
      assert inspect(status) =~ "phase: :ready"
      refute inspect(status, limit: :infinity) =~ "pending:"
      AppServer.disconnect(conn)
    end

    test "that crashes logs no request and no answer" do
      model = Test.start!([])
      Process.flag(:trap_exit, true)
      {:ok, conn} = AppServer.start_link(client: Test.options(model), cwd: model.workspace)
      os_pid = os_pid(conn)
      :sys.replace_state(conn, fn server -> %{server | state: {:broken}} end)

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          params = %{"type" => "apiKey", "apiKey" => "sk-canary"}
          assert {:error, _down} = AppServer.request(conn, "account/login/start", params)
          assert_receive {:EXIT, ^conn, _reason}, 5_000
        end)

      assert log =~ "terminating"
      refute log =~ "sk-canary"
      assert eventually(fn -> not alive?(os_pid) end)
    end

    test "that fails leaves no message with linked processes" do
      for trap? <- [true, false] do
        task =
          Task.async(fn ->
            Process.flag(:trap_exit, trap?)
            result = AppServer.start_link(client: [codex_home: "/no/such/home"])
            Process.sleep(100)
            {result, Process.info(self(), :messages)}
          end)

        assert {{:error, _reason}, {:messages, []}} = Task.await(task)
      end
    end

    test "has the options that only a process has; those of a thread must be the same" do
      model = Test.start!(["Hi."])
      {:ok, conn} = AppServer.connect(Test.options(model), cwd: model.workspace)
      on_exit(fn -> AppServer.disconnect(conn) end)

      for {options, name} <- [
            {[codex_home: "/other"], :codex_home},
            {[api_key: "sk-other"], :api_key},
            {[base_url: "http://127.0.0.1:9"], :base_url},
            {[env: %{"A" => "b"}], :env}
          ] do
        {:ok, thread} = Codex.start_thread(options, transport: {:app_server, conn})
        assert Codex.Thread.run(thread, "hi") == {:error, {:unsupported_option, name}}
      end

      for client <- [[], Test.options(model)] do
        {:ok, thread} =
          Codex.start_thread(client, transport: {:app_server, conn}, clean_background: true)

        assert Codex.Thread.run(thread, "hi") ==
                 {:error, {:experimental, ["thread/backgroundTerminals/clean"]}}

        assert {:error, {:experimental, _}} =
                 Codex.Thread.interrupt(%{thread | thread_id: "t"}, clean_background: true)
      end
    end

    test "logs its server in with the key of its client, and leaves the login of the home alone" do
      config = "model_providers.mock.requires_openai_auth = true"
      model = Test.start!([], default: "Hi.", config: config)
      auth = Path.join(model.home, "auth.json")
      stored = ~s({"auth_mode":"apikey","OPENAI_API_KEY":"sk-of-the-home-0123456789"})
      File.write!(auth, stored)
      client = [api_key: "sk-of-the-client-0123456789"] ++ Test.options(model)

      {:ok, conn} =
        AppServer.connect(client, cwd: model.workspace, reconnect: [attempts: 3, delay_ms: 10])

      on_exit(fn -> AppServer.disconnect(conn) end)
      {:ok, thread} = Codex.start_thread([], transport: {:app_server, conn})
      {:ok, %{thread: thread}} = Codex.Thread.run(thread, "one")
      assert key_of_last(model) == "Bearer sk-of-the-client-0123456789"

      assert {:ok, %{ready?: true, source: {:option, :api_key}, warnings: []} = preflight} =
               Codex.Thread.preflight(thread)

      assert {preflight.method, preflight.provider} == {:api_key, "mock"}

      # The next server logs in, too.
      :ok = AppServer.subscribe(conn)
      {_, 0} = System.cmd("kill", ["-KILL", "#{Codex.Connected.os_pid(conn)}"])
      assert_receive {:codex_connection, ^conn, :up}, 20_000
      {:ok, _} = Codex.Thread.run(thread, "two")
      assert key_of_last(model) == "Bearer sk-of-the-client-0123456789"
      assert File.read!(auth) == stored

      # Without the option, the home's login counts.
      {:ok, other} = AppServer.connect(Test.options(model), cwd: model.workspace)
      on_exit(fn -> AppServer.disconnect(other) end)
      {:ok, thread} = Codex.start_thread([], transport: {:app_server, other})
      {:ok, _} = Codex.Thread.run(thread, "three")
      assert key_of_last(model) == "Bearer sk-of-the-home-0123456789"

      assert {:ok, %{ready?: true, source: {:file, ^auth}}} = Codex.Thread.preflight(thread)
    end

    defp key_of_last(model) do
      %{headers: headers} =
        model |> Test.requests() |> Enum.filter(&(&1.path =~ "responses")) |> List.last()

      Map.new(headers)["authorization"]
    end

    test "refuses a key that the configuration forbids" do
      model = Test.start!([], config: ~s(forced_login_method = "chatgpt"))
      client = [api_key: "sk-of-the-client-0123456789"] ++ Test.options(model)
      assert {:error, {:login_refused, error}} = AppServer.connect(client, cwd: model.workspace)
      error = Codex.Error.normalize({:login_refused, error})
      assert error.kind == :unauthorized
      refute error.message =~ "sk-of-the-client"
      assert error.message =~ "login"
    end

    test "reports the credential for the options of a thread" do
      model = Test.start!([])
      {:ok, conn} = AppServer.connect(Test.options(model), cwd: model.workspace)
      on_exit(fn -> AppServer.disconnect(conn) end)
      over = [transport: {:app_server, conn}]
      {:ok, thread} = Codex.start_thread([], over)
      assert {:ok, %{lane: :app_server, provider: "mock"}} = Codex.Thread.preflight(thread)

      {:ok, thread} = Codex.start_thread([], [model_provider: "openai"] ++ over)

      assert {:ok, %{provider: "openai", error: :no_credentials}} = Codex.Thread.preflight(thread)

      config = %{"model_providers.mine" => %{name: "m", base_url: "x", env_key: "NO_SUCH_KEY"}}
      {:ok, thread} = Codex.start_thread([], [model_provider: "mine", config: config] ++ over)
      assert {:ok, %{error: {:missing_env, "NO_SUCH_KEY"}}} = Codex.Thread.preflight(thread)

      AppServer.disconnect(conn)
      assert {:error, {:app_server_down, _}} = Codex.Thread.preflight(thread)
    end

    test "that is hermetic has a home of its own, which goes with it, also when it is killed" do
      model = Test.start!(["Hi."])
      File.write!(Path.join(model.workspace, "AGENTS.md"), "canary-agents")
      client = Test.options(model) |> Keyword.delete(:codex_home)
      provider = %{name: "mock", base_url: model.url, wire_api: "responses"}

      config = %{
        "analytics.enabled" => false,
        "features.plugins" => false,
        model_provider: "mock",
        model_providers: %{mock: provider}
      }

      options = [isolation: :hermetic, cwd: model.workspace, config: config, reconnect: true]
      {:ok, conn} = AppServer.connect(client, options)
      on_exit(fn -> AppServer.disconnect(conn) end)
      {:ok, %{"codexHome" => home}} = AppServer.server_info(conn)
      refute home == model.home
      assert File.dir?(home)

      {:ok, thread} = Codex.start_thread(client, transport: {:app_server, conn})
      {:ok, _} = Codex.Thread.run(thread, "hi")
      refute inspect(Test.requests(model), limit: :infinity) =~ "canary-agents"

      # Another server has the same home.
      :ok = AppServer.subscribe(conn)
      {_, 0} = System.cmd("kill", ["-9", Integer.to_string(os_pid(conn))])
      assert_receive {:codex_connection, ^conn, :up}, 10_000
      assert {:ok, %{"codexHome" => ^home}} = AppServer.server_info(conn)
      Process.exit(conn, :kill)
      assert eventually(fn -> not File.exists?(home) end)

      # A home that the client names is used.
      {:ok, conn} = AppServer.connect(Test.options(model), isolation: :hermetic)
      home = model.home
      assert {:ok, %{"codexHome" => ^home}} = AppServer.server_info(conn)
      AppServer.disconnect(conn)
      assert File.dir?(home)
    end

    test "to a server that has stopped is ended before the server, which ends behind it" do
      model = Test.start!([])
      client = Test.options(model) |> Keyword.delete(:codex_home)
      config = %{"analytics.enabled" => false, "features.plugins" => false}

      options = [
        isolation: :hermetic,
        cwd: model.workspace,
        config: config,
        name: :stopped_server
      ]

      {:ok, conn} = AppServer.connect(client, options)
      {:ok, %{"codexHome" => home}} = AppServer.server_info(conn)
      os_pid = os_pid(conn)
      {_, 0} = System.cmd("kill", ["-STOP", "#{os_pid}"])
      assert AppServer.disconnect(conn) == :ok
      # The name is free, and the home is there for as long as the server is.
      refute AppServer.alive?(conn)
      assert Process.whereis(:stopped_server) == nil
      assert alive?(os_pid) and File.dir?(home)
      assert eventually(fn -> not alive?(os_pid) end, 20_000)
      assert eventually(fn -> not File.exists?(home) end, 20_000)
    end

    test "a connection that is killed leaves no server; one that is owned ends with its owner" do
      model = Test.start!([])
      conn = connect!(model)
      os_pid = os_pid(conn)

      waiting =
        Task.async(fn ->
          AppServer.request(conn, "command/exec", %{"command" => ["sleep", "60"]})
        end)

      assert eventually(fn -> :sys.get_state(conn).state.peer.sent != %{} end)
      Process.exit(conn, :kill)
      assert {:error, {:app_server_down, %{reason: :killed}}} = Task.await(waiting)
      assert eventually(fn -> not alive?(os_pid) end)

      owner = spawn(fn -> Process.sleep(:infinity) end)
      conn = connect!(model, owner: owner)
      os_pid = os_pid(conn)
      Process.exit(owner, :kill)
      assert eventually(fn -> not AppServer.alive?(conn) and not alive?(os_pid) end)
    end

    test "sixty-four threads on one server, their turns at once" do
      answers = for n <- 1..64, do: message("answer #{n}")
      model = Test.start!(answers)
      conn = connect!(model)

      results =
        1..64
        |> Enum.map(fn n ->
          Task.async(fn ->
            id = thread!(conn)
            :ok = AppServer.subscribe(conn, thread_id: id)
            {:ok, _} = AppServer.turn_start(conn, id, "turn #{n}")
            told = turn(id)
            assert Enum.all?(told, fn {_, params} -> params["threadId"] == id end)
            {_, %{"item" => item}} = List.keyfind(Enum.reverse(told), "item/completed", 0)
            {status(told), item["text"]}
          end)
        end)
        |> Task.await_many(60_000)

      assert Enum.all?(results, &match?({"completed", _}, &1))
      assert results |> Enum.map(&elem(&1, 1)) |> Enum.uniq() |> length() == 64
    end

    test "tokens of an MCP server, in the store of the CLI" do
      model = Test.start!([])
      url = "http://127.0.0.1:9/mcp"
      servers = %{"mcp_servers.tiny.url" => url, "mcp_servers.child.command" => "true"}
      conn = connect!(model, config: Map.put(servers, "mcp_oauth_credentials_store", "file"))
      home = model.home
      assert {:ok, %{"codexHome" => ^home}} = AppServer.server_info(conn)
      alias Codex.AppServer.Mcp
      assert Mcp.oauth_tokens(conn, "tiny") == {:ok, nil}
      tokens = %MCP{server: "tiny", url: url, client_id: "c", access_token: "a"}
      assert MCP.write(tokens, codex_home: home, cwd: false, store: :file) == :ok
      assert {:ok, %{access_token: "a"}} = Mcp.oauth_tokens(conn, "tiny")
      assert Mcp.oauth_logout(conn, "tiny") == :ok
      assert Mcp.oauth_tokens(conn, "tiny") == {:ok, nil}
      assert Mcp.oauth_tokens(conn, "none") == {:error, :server_not_found}
      assert Mcp.oauth_tokens(conn, "child") == {:error, :missing_url}
    end

    test "a configuration that cannot be read is an error, not a server with defaults" do
      model = Test.start!([])
      config = Path.join(model.home, "config.toml")
      File.write!(config, "broken = [\n" <> File.read!(config))

      assert {:error, %Codex.Config.Error{reason: :syntax, line: 2}} =
               AppServer.connect(Test.options(model))
    end

    test "configuration, strictness and experimental methods" do
      model = Test.start!([])
      conn = connect!(model, config: %{"model_verbosity" => :low})
      assert {:ok, %{"config" => %{"model_verbosity" => "low"}}} = AppServer.config_read(conn)

      assert {:error, {:experimental, ["thread/backgroundTerminals/list"]}} =
               AppServer.thread_background_terminals_list(conn, thread_id: "x")

      assert {:error, {:app_server_down, %{exit_status: 1, stderr: stderr}}} =
               AppServer.connect(Test.options(model),
                 config: %{"no_such_key" => 1},
                 strict_config: true,
                 broken_config: :allow
               )

      assert stderr =~ "no_such_key"
    end
  end

  describe "a server that misbehaves" do
    # Says hello, then does what `body` says.
    defp stub!(dir, body) do
      Stub.write!(dir, """
      read -r line
      echo '{"id":0,"result":{"userAgent":"stub"}}'
      read -r line
      #{body}
      """)
    end

    defp stub_connect(dir, body, options \\ []),
      do:
        AppServer.connect([codex_path: stub!(dir, body), codex_home: dir], [cwd: dir] ++ options)

    test "never answers initialize, refuses it, exits, or is not a program", %{tmp_dir: dir} do
      connect = fn body, options ->
        AppServer.connect(
          [codex_path: Stub.write!(dir, body), codex_home: dir],
          [cwd: dir] ++ options
        )
      end

      assert connect.("sleep 60", init_timeout_ms: 200) == {:error, {:init_timeout, 200}}

      refuse = ~s(read -r line; echo '{"id":0,"error":{"code":-32600,"message":"no"}}'; sleep 60)

      assert connect.(refuse, []) ==
               {:error, {:initialize_refused, %{"code" => -32600, "message" => "no"}}}

      assert {:error, {:app_server_down, %{exit_status: 3, stderr: "why"}}} =
               connect.("echo why >&2; exit 3", [])

      file = Path.join(dir, "text")
      File.write!(file, "text")
      File.chmod!(file, 0o755)

      assert {:error, {:not_started, %Codex.Subprocess.Error{}}} =
               AppServer.connect([codex_path: file, codex_home: dir], cwd: dir)

      assert {:error, {:codex_binary_missing, _}} = AppServer.connect(codex_path: file <> "-none")

      assert {:error, %Codex.OptionError{reason: :unknown, path: [:titel]}} =
               AppServer.connect([], titel: "x")

      assert {:error, %Codex.OptionError{path: [:init_timeout_ms], value: 0}} =
               AppServer.connect([], init_timeout_ms: 0)

      assert {:error, %Codex.OptionError{path: [:config], value: "[redacted]"}} =
               AppServer.connect([], config: %{"a" => {:odd, "sk-secret"}})

      config = [mcp_servers: [a: [env: ["T=sk-secret": ""]]]]

      assert {:error,
              %Codex.OptionError{path: [:config, "mcp_servers.a.env"], value: "[redacted]"}} =
               AppServer.connect([], config: config)

      assert {:error, %Codex.OptionError{path: [:config], value: "[redacted]"}} =
               AppServer.connect([], config: ["a=sk-secret", {"b", {1}}])

      config = %{"mcp_servers.a" => %{url: "u", bearer_token: "sk-secret"}}

      assert {:error, {:unsupported_option, :mcp_servers, "mcp_servers.a.bearer_token"}} =
               AppServer.connect([], config: config)

      assert {:error, {:invalid_working_directory, _}} =
               AppServer.connect([codex_path: "/bin/true"], cwd: Path.join(dir, "none"))
    end

    test "answers out of order, twice, late, with nonsense, or never", %{tmp_dir: dir} do
      body = """
      read -r one; read -r two; read -r three
      echo 'nonsense'; echo '[1,2]'; echo '{"id":99,"result":{}}'
      echo '{"id":2,"result":{"n":2}}'; echo '{"id":1,"result":{"n":1}}'; echo '{"id":1,"result":{"n":9}}'
      cat > /dev/null
      """

      {:ok, conn} = stub_connect(dir, body)
      first = Task.async(fn -> AppServer.request(conn, "a") end)
      assert eventually(fn -> map_size(:sys.get_state(conn).state.peer.sent) == 1 end)
      second = Task.async(fn -> AppServer.request(conn, "b") end)
      assert eventually(fn -> map_size(:sys.get_state(conn).state.peer.sent) == 2 end)
      assert AppServer.request(conn, "c", nil, timeout_ms: 200) == {:error, {:timeout, "c", 200}}
      assert {Task.await(first), Task.await(second)} == {{:ok, %{"n" => 1}}, {:ok, %{"n" => 2}}}
      AppServer.disconnect(conn)
    end

    test "sends rate limits: they are stored for the account", %{tmp_dir: dir} do
      body = """
      read -r line
      echo '{"method":"account/rateLimits/updated","params":{"rateLimits":{"primary":{"usedPercent":42,"windowDurationMins":300,"resetsAt":1900000000},"secondary":null}}}'
      echo '{"id":1,"result":{}}'
      cat > /dev/null
      """

      {:ok, client} = Codex.Options.new(codex_path: stub!(dir, body), codex_home: dir)
      account = AppServer.account(client)
      assert Codex.RateLimit.snapshot(account) == nil
      {:ok, conn} = AppServer.connect(client, cwd: dir)
      assert {:ok, %{}} = AppServer.request(conn, "a")
      assert %{primary: %{used_percent: percent}} = Codex.RateLimit.snapshot(account)
      assert percent == 42
      AppServer.disconnect(conn)
    end

    test "sends a message over a limit: the connection ends and names the limit", %{
      tmp_dir: dir
    } do
      line = ~s({"method":"x/y","params":{"list":[#{String.duplicate("[],", 500)}1]}})
      body = "read -r line; echo '#{line}'; cat >/dev/null"

      for {option, reason} <- [
            max_message_nodes: {:overflow, :nodes, 100},
            max_message_bytes: {:overflow, :line, byte_size(line), 100}
          ] do
        {:ok, conn} = stub_connect(dir, body, [{option, 100}])
        ref = Process.monitor(conn)
        assert AppServer.request(conn, "go") == {:error, reason}
        assert_receive {:DOWN, ^ref, :process, ^conn, _}, 10_000
      end
    end

    test "floods a subscriber that sleeps: it waits at its pipe, and nothing is lost", %{
      tmp_dir: dir
    } do
      body = ~S"""
      read -r line; echo '{"id":1,"result":{}}'
      i=0; while [ $i -lt 40000 ]; do echo "{\"method\":\"x/y\",\"params\":{\"n\":$i,\"pad\":\"0123456789012345678901234567890123456789012345678901234567890123456789\"}}"; i=$((i+1)); done
      cat > /dev/null
      """

      {:ok, conn} = stub_connect(dir, body, max_queue: 500)
      test = self()

      reader =
        spawn_link(fn ->
          :ok = AppServer.subscribe(conn)
          send(test, :subscribed)
          receive(do: (:go -> :ok))
          send(test, {:read, read(0)})
        end)

      assert_receive :subscribed, 5_000
      assert {:ok, %{}} = AppServer.request(conn, "go")
      assert eventually(fn -> elem(Process.info(reader, :message_queue_len), 1) > 500 end)
      # It comes to rest, at one window's worth more than the limit, of forty thousand.
      assert eventually(fn ->
               {_, waiting} = Process.info(reader, :message_queue_len)
               Process.sleep(200)
               assert waiting < 20_000
               Process.info(reader, :message_queue_len) == {:message_queue_len, waiting}
             end)

      send(reader, :go)
      assert_receive {:read, 40_000}, 30_000
      AppServer.disconnect(conn)
    end

    test "floods during a request: only the subscriber that does not read is cut off", %{
      tmp_dir: dir
    } do
      body = ~S"""
      read -r line
      i=0; while [ $i -lt 100000 ]; do echo "{\"method\":\"x/y\",\"params\":{\"n\":$i,\"pad\":\"0123456789012345678901234567890123456789012345678901234567890123456789\"}}"; i=$((i+1)); done
      echo '{"id":1,"result":{}}'
      cat > /dev/null
      """

      {:ok, conn} = stub_connect(dir, body, max_queue: 100, max_spool_bytes: 20_000_000)
      test = self()

      sleeper =
        spawn_link(fn ->
          :ok = AppServer.subscribe(conn)
          send(test, :subscribed)
          receive(do: (:go -> :ok))
          send(test, {:read, read_to_cut(0, conn)})
          :ok = AppServer.subscribe(conn)
          send(test, :again)
        end)

      assert_receive :subscribed, 5_000

      quick =
        Task.async(fn ->
          :ok = AppServer.subscribe(conn)
          send(test, :quick)
          for n <- 0..99_999, do: assert_receive({:codex_notification, _, %{"n" => ^n}}, 30_000)
          :all
        end)

      assert_receive :quick, 5_000
      {:memory, before} = Process.info(conn, :memory)
      assert {:ok, %{}} = AppServer.request(conn, "a", nil, timeout_ms: :infinity)
      assert Task.await(quick, 60_000) == :all

      # What was kept for it is gone, and it has what it had before.
      assert eventually(fn -> Process.info(conn, :memory) < {:memory, before + 4_000_000} end)
      send(sleeper, :go)
      assert_receive {:read, {n, {:overflow, {:reader, ^sleeper}, 20_000_000}}}, 10_000
      assert n > 100 and n < 90_000
      assert_receive :again, 5_000
      AppServer.disconnect(conn)
    end

    test "floods a reader that pauses while others work: it gets all of it, in order", %{
      tmp_dir: dir
    } do
      body = ~S"""
      read -r line
      i=0; while [ $i -lt 20000 ]; do echo "{\"method\":\"x/y\",\"params\":{\"n\":$i,\"pad\":\"0123456789\"}}"; i=$((i+1)); done
      echo '{"id":1,"result":{}}'
      read -r line; echo '{"id":2,"result":{}}'
      cat > /dev/null
      """

      {:ok, conn} = stub_connect(dir, body, max_queue: 100)
      test = self()

      reader =
        spawn_link(fn ->
          :ok = AppServer.subscribe(conn)
          send(test, :subscribed)
          receive(do: (:go -> :ok))
          send(test, {:read, read(0)})
        end)

      assert_receive :subscribed, 5_000
      assert {:ok, %{}} = AppServer.request(conn, "a", nil, timeout_ms: :infinity)
      assert {:ok, %{}} = AppServer.request(conn, "b", nil, timeout_ms: :infinity)
      {:message_queue_len, waiting} = Process.info(reader, :message_queue_len)
      assert waiting < 10_000
      send(reader, :go)
      assert_receive {:read, 20_000}, 30_000
      AppServer.disconnect(conn)
    end

    test "ends with messages kept for a reader: it gets them, and then the end", %{tmp_dir: dir} do
      body = ~S"""
      read -r line
      i=0; while [ $i -lt 5000 ]; do echo "{\"method\":\"x/y\",\"params\":{\"n\":$i,\"pad\":\"0123456789\"}}"; i=$((i+1)); done
      echo '{"id":1,"result":{}}'
      cat > /dev/null
      """

      {:ok, conn} = stub_connect(dir, body, max_queue: 10)
      test = self()

      reader =
        spawn_link(fn ->
          ref = Process.monitor(conn)
          :ok = AppServer.subscribe(conn)
          send(test, :subscribed)
          receive(do: (:go -> :ok))
          read = for _ <- 1..5000, do: receive(do: ({:codex_notification, _, %{"n" => n}} -> n))
          receive(do: ({:DOWN, ^ref, :process, _, _} -> send(test, {:read, read})))
        end)

      assert_receive :subscribed, 5_000
      assert {:ok, %{}} = AppServer.request(conn, "a", nil, timeout_ms: :infinity)
      AppServer.disconnect(conn)
      send(reader, :go)
      assert_receive {:read, read}, 10_000
      assert read == Enum.to_list(0..4999)
    end

    test "floods a reader on another node that sleeps: it waits, and nothing is lost", %{
      tmp_dir: dir
    } do
      {listens, asks, name} = Codex.OtherVM.nodes()

      body = ~S"""
      read -r line; echo '{"id":1,"result":{}}'
      i=0; while [ $i -lt 30000 ]; do echo "{\"method\":\"x/y\",\"params\":{\"n\":$i,\"pad\":\"0123456789012345678901234567890123456789012345678901234567890123456789\"}}"; i=$((i+1)); done
      cat > /dev/null
      """

      client = [codex_path: stub!(dir, body), codex_home: dir]

      script = """
      Process.register(self(), :main)
      {:ok, _} = Codex.AppServer.connect(#{inspect(client)}, cwd: #{inspect(dir)}, name: :conn, max_queue: 300)
      IO.puts("up")
      receive(do: (:end -> :ok))
      """

      vm = Codex.OtherVM.start(script, listens)
      assert_receive {^vm, {:data, {:eol, "up"}}}, 60_000

      reader = """
      node = :"#{name}"
      true = Node.connect(node)
      conn = {:conn, node}
      :ok = Codex.AppServer.subscribe(conn)
      {:ok, _} = Codex.AppServer.request(conn, "go")

      still = fn still ->
        {:message_queue_len, n} = Process.info(self(), :message_queue_len)
        Process.sleep(500)
        if n > 0 and Process.info(self(), :message_queue_len) == {:message_queue_len, n}, do: n, else: still.(still)
      end

      IO.puts("waiting \#{still.(still) < 15_000}")
      for n <- 0..29_999, do: receive(do: ({:codex_notification, "x/y", %{"n" => ^n}} -> :ok))
      send({:main, node}, :end)
      IO.puts("read")
      """

      assert Codex.OtherVM.run(reader, asks) == {"waiting true\nread\n", 0}
    end

    test "no report shows its environment", %{tmp_dir: dir} do
      log =
        ExUnit.CaptureLog.capture_log(fn ->
          client = [
            codex_path:
              stub!(dir, """
              read -r line
              echo '{"id":1,"result":{"type":"apiKey"}}'
              cat > /dev/null
              """),
            codex_home: dir,
            api_key: "sk-canary-app"
          ]

          {:ok, conn} =
            AppServer.connect(client,
              cwd: dir,
              env: %{"T" => "sk-canary-env"},
              config: %{"a" => "sk-canary-config"}
            )

          ref = Process.monitor(conn)
          catch_exit(GenServer.call(conn, :no_such_call))
          assert_receive {:DOWN, ^ref, _, _, _}, 5_000
        end)

      assert log =~ "Codex.AppServer.Server"
      refute log =~ "sk-canary-app"
      refute log =~ "sk-canary-env"
    end
  end

  defp read_to_cut(n, conn) do
    receive do
      {:codex_notification, "x/y", %{"n" => ^n}} -> read_to_cut(n + 1, conn)
      {:codex_subscription, ^conn, {:cut_off, reason}} -> {n, reason}
    after
      5_000 -> {n, :nothing}
    end
  end

  defp read(n) do
    receive do
      {:codex_notification, "x/y", %{"n" => ^n}} -> read(n + 1)
    after
      5_000 -> n
    end
  end
end
