defmodule Codex.AppServer.MethodsTest do
  # Every stable method, with the real server on the other side: `Codex.AppServerMethods` says what
  # it answers.
  use ExUnit.Case, async: true

  import Codex.Connected, only: [connect!: 1]
  import Codex.Test.Steps
  alias Codex.{AppServer, AppServerMethods, Events, Http, Protocol, Recorder}
  alias Codex.AppServer.{Calls, EventDecoder, Mcp}

  @moduletag :codex_cli
  @moduletag :tmp_dir

  @mcp Path.expand("../../children/mcp.sh", __DIR__)
  @tiny "[mcp_servers.tiny]\ncommand = #{Codex.JSON.encode!(@mcp)}\n"

  defp stable, do: Enum.reject(Protocol.methods(), &known(&1).experimental)

  defp known(method) do
    assert {:ok, known} = Protocol.method(method)
    known
  end

  # Of two functions for a method, the one that takes what the protocol has.
  defp function(method),
    do: Protocol.methods() |> Calls.rows() |> Enum.filter(&(&1.method == method)) |> List.last()

  defp call(conn, method, args), do: apply(AppServer, function(method).name, [conn | args])

  test "the table has a row for each" do
    assert AppServerMethods.rows() |> Enum.map(&elem(&1, 0)) |> Enum.sort() == stable()
  end

  @tag :cli_pin
  test "a call about an MCP server names the environment of the server" do
    conn = connect!(Codex.Test.start!([]))

    assert {:error, %{"message" => "environmentId requires serverName and threadId"}} =
             call(conn, "mcpServerStatus/list", [[environment_id: "local"]])
  end

  @tag :cli_pin
  test "each answers a valid call as the table says; bad ones are refused before they are sent",
       %{tmp_dir: dir} do
    review = %{
      findings: [],
      overall_correctness: "patch is correct",
      overall_explanation: "Fine.",
      overall_confidence_score: 1.0
    }

    # A steered turn asks its model anew, before or after it is interrupted.
    answer = fn %{headers: headers, body: %{"input" => input}} ->
      cond do
        headers["x-codex-turn-metadata"] =~ ~s("compaction") -> "Summary"
        inspect(List.last(input)) =~ "Look" -> json(review)
        true -> silence(:infinity, after: ["Wait"])
      end
    end

    # Whoever looks for another host over HTTP asks here.
    {:ok, proxy} = :gen_tcp.listen(0, ip: {127, 0, 0, 1}, active: false)
    {:ok, port} = :inet.port(proxy)
    env = Map.new(~w(http_proxy https_proxy all_proxy), &{&1, "http://127.0.0.1:#{port}"})
    config = "feedback.enabled = false\n" <> @tiny
    rules = [[step: answer, times: :infinity]]
    model = Codex.Test.start!([], rules: rules, git: true, config: config, env: env)
    fill!(dir, model.workspace)
    conn = connect!(model)
    assert AppServer.subscribe(conn) == :ok
    {:ok, recorder} = Recorder.start_link([])

    known = %{dir: dir, workspace: model.workspace, results: %{}, tasks: []}
    known = Enum.reduce(AppServerMethods.rows(), known, &row(&1, &2, conn, recorder))

    # What is answered later.
    for {method, task, outcome} <- known.tasks,
        do: answered(method, Task.await(task, 20_000), outcome)

    assert AppServer.disconnect(conn) == :ok
    assert :gen_tcp.accept(proxy, 0) == {:error, :timeout}

    # Every notification that came has a struct, with a field for each member.
    events = for {method, params} <- notifications([]), do: EventDecoder.decode(method, params)

    for event <- events,
        do: refute(is_struct(event, Events.AppServerNotification), inspect(event))

    assert length(Enum.uniq_by(events, & &1.__struct__)) >= 10
    for %{extra: extra} <- events, do: assert(extra == %{} or Map.keys(extra) == ["turn"])
  end

  defp notifications(done) do
    receive do
      {:codex_notification, method, params} -> notifications([{method, params} | done])
    after
      0 -> done
    end
  end

  # A skill, a marketplace with a plugin, and a file to find.
  defp fill!(dir, workspace) do
    market = %{
      name: "local-market",
      plugins: [
        %{
          name: "one",
          source: %{source: "local", path: "./one"},
          policy: %{installation: "AVAILABLE", authentication: "ON_INSTALL"},
          category: "Productivity"
        }
      ]
    }

    for {path, text} <- [
          {"skills/one/SKILL.md", "---\nname: one\ndescription: one\n---\nbody\n"},
          {"market/.agents/plugins/marketplace.json", Codex.JSON.encode!(market)},
          {"market/one/.codex-plugin/plugin.json",
           Codex.JSON.encode!(%{name: "one", version: "1.0.0", description: "one"})},
          {Path.join(workspace, "needle.txt"), ""}
        ] do
      path = Path.expand(path, dir)
      File.mkdir_p!(Path.dirname(path))
      File.write!(path, text)
    end
  end

  defp row({method, args, outcome}, known, conn, recorder),
    do: row({method, args, outcome, []}, known, conn, recorder)

  defp row({method, args, outcome, opts}, known, conn, recorder) do
    args = if is_function(args), do: args.(known), else: args
    refuses_bad(method, args, recorder)
    {result, known} = valid(method, args, outcome, known, conn)

    if until = opts[:until],
      do: assert_receive({:codex_notification, ^until, _}, 20_000, "#{until} after #{method}")

    case result do
      {:ok, result} -> put_in(known.results[method], result)
      _ -> known
    end
  end

  defp valid(method, args, {:later, outcome}, known, conn) do
    task = {method, Task.async(fn -> call(conn, method, args) end), outcome}
    {nil, %{known | tasks: [task | known.tasks]}}
  end

  defp valid(method, args, outcome, known, conn),
    do: {answered(method, call(conn, method, args), outcome), known}

  defp answered(method, result, :ok), do: assert({method, result} == {method, :ok})

  defp answered(method, result, {:refused, code, words}) do
    assert {^method, {:error, %{"code" => ^code, "message" => message}}} = {method, result}
    assert message =~ words
  end

  defp answered(method, result, {:ok, members}) do
    assert {^method, {:ok, %{} = map}} = {method, result}
    # What comes back is what the protocol says.
    assert {^method, {:ok, _}} = {method, Protocol.check(known(method).result, map)}

    if is_map(members),
      do: assert({method, Map.take(map, Map.keys(members))} == {method, members}),
      else: assert({method, members -- Map.keys(map)} == {method, []})

    result
  end

  ## Bad calls: the valid one with one thing wrong

  defp refuses_bad(method, args, recorder) do
    function = function(method)
    {positional, rest} = Enum.split(args, length(function.args))
    options = List.first(rest) || []
    fields = fields(known(method).params, options)

    send_bad = fn positional, options ->
      result = call(recorder, method, positional ++ [options])
      refute_received {:request, _, _, _}
      result
    end

    # The recorder would know.
    assert call(recorder, method, args) in [:ok, {:ok, %{}}]
    assert_received {:request, ^method, _params, _opts}

    assert {:error, %Codex.OptionError{reason: :unknown, path: ["odd_one"]}} =
             send_bad.(positional, options ++ [{"odd_one", 1}])

    assert {:error, %Codex.OptionError{reason: :not_options, value: :odd}} =
             send_bad.(positional, :odd)

    for {name, required} <- fields, name not in function.args do
      near = "#{name}x"
      others = Keyword.delete(options, name)

      assert {:error, %Codex.OptionError{reason: :unknown, path: [^near], nearest: nearest}} =
               send_bad.(positional, options ++ [{near, 1}])

      assert nearest == name, "#{method} #{near}"

      assert {:error, %Codex.OptionError{path: [^name], expected: expected}} =
               send_bad.(positional, others ++ [{name, self()}])

      assert is_binary(expected)

      if required and not is_map_key(function.fixed, Atom.to_string(name)),
        do:
          assert(
            match?(
              {:error, %Codex.OptionError{reason: :missing, path: [^name]}},
              send_bad.(positional, others)
            ),
            method
          )
    end

    for {name, index} <- Enum.with_index(function.args) do
      assert {:error, %Codex.OptionError{path: [^name]}} =
               send_bad.(List.replace_at(positional, index, self()), options)

      assert {:error, %Codex.OptionError{reason: :missing, path: [^name]}} =
               send_bad.(List.replace_at(positional, index, nil), options)
    end
  end

  # Names, and whether they have to be given; of a union, those of the member that is called.
  defp fields({:ref, name}, options), do: fields(Protocol.types()[name], options)
  defp fields({:nullable, type}, options), do: fields(type, options)

  defp fields({:object, names, _required, _rest}, _options) do
    for {_wire, name, _type, required, _experimental} <- names |> Map.values() |> Enum.uniq(),
        do: {name, required}
  end

  defp fields({:one_of, members}, options) do
    members
    |> Enum.map(&fields(&1, options))
    |> Enum.find(fn fields ->
      Enum.all?(Keyword.keys(options), &List.keymember?(fields, &1, 0)) and
        Enum.all?(fields, fn {name, required} -> not required or options[name] != nil end)
    end)
  end

  defp fields(:null, _options), do: []

  ## Families of methods

  test "MCP: a server's status, tools and resources" do
    model = Codex.Test.start!([], config: @tiny)
    conn = connect!(model)
    {:ok, %{"thread" => %{"id" => thread}}} = AppServer.thread_start(conn)
    tiny = [thread_id: thread, server: "tiny"]

    assert {:ok, %{"data" => [server]}} = Mcp.list_servers(conn, detail: :full)
    assert %{"name" => "tiny", "authStatus" => "unsupported", "tools" => tools} = server
    assert tools |> Map.keys() |> Enum.sort() == ["ask", "echo", "fail", "write"]
    assert [%{"uri" => "memo://one", "name" => "one"}] = server["resources"]

    assert {:ok, %{"content" => [%{"text" => "echo: hi there"}]}} =
             AppServer.mcp_server_tool_call(
               conn,
               tiny ++ [tool: "echo", arguments: %{text: "hi there"}]
             )

    assert {:ok, %{"isError" => true, "content" => [%{"text" => "it did not work"}]}} =
             AppServer.mcp_server_tool_call(conn, tiny ++ [tool: "fail"])

    assert {:ok, %{"contents" => [%{"text" => "a memo", "uri" => "memo://one"}]}} =
             AppServer.mcp_server_resource_read(conn, tiny ++ [uri: "memo://one"])

    for {method, options} <- [
          mcp_server_tool_call: [tool: "echo"],
          mcp_server_resource_read: [uri: "memo://one"]
        ] do
      assert {:error, %{"code" => _, "message" => message}} =
               apply(AppServer, method, [conn, [thread_id: thread, server: "none"] ++ options])

      assert message =~ "none"
    end
  end

  test "MCP: a login to a server, to its end" do
    {:ok, tokens} =
      Codex.JSON.encode(%{
        access_token: "marked-access",
        token_type: "Bearer",
        expires_in: 3600,
        refresh_token: "marked-refresh"
      })

    {:ok, place} = Agent.start_link(fn -> nil end)

    url =
      Http.start!(fn
        "/.well-known/oauth-authorization-server", _body ->
          url = Agent.get(place, & &1)

          {200,
           %{
             issuer: url,
             authorization_endpoint: url <> "/authorize",
             token_endpoint: url <> "/token",
             registration_endpoint: url <> "/register",
             response_types_supported: ["code"],
             code_challenge_methods_supported: ["S256"]
           }}

        "/register", body ->
          {:ok, asked} = Codex.JSON.decode(body)
          {201, Map.put(asked, "client_id", "client-1")}

        "/token", _body ->
          {200, tokens}

        "/mcp", _body ->
          {401, ""}

        _other, _body ->
          {404, ""}
      end)

    Agent.update(place, fn nil -> url end)

    config = "mcp_oauth_credentials_store = \"file\"\n[mcp_servers.far]\nurl = \"#{url}/mcp\"\n"

    conn = connect!(Codex.Test.start!([], config: config))
    assert AppServer.subscribe(conn) == :ok
    assert Mcp.oauth_tokens(conn, "far") == {:ok, nil}

    assert {:ok, %{"authorizationUrl" => page}} =
             Mcp.oauth_login(conn, name: "far", timeout_secs: 60)

    # What the user's browser comes back with.
    assert String.starts_with?(page, url <> "/authorize?")
    %{"redirect_uri" => back, "state" => state} = page |> URI.parse() |> query()
    assert %URI{host: "127.0.0.1", port: port} = uri = URI.parse(back)
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
    asked = "#{uri.path}?#{URI.encode_query(code: "code-1", state: state)}"
    :ok = :gen_tcp.send(socket, "GET #{asked} HTTP/1.1\r\nhost: 127.0.0.1:#{port}\r\n\r\n")
    assert {:ok, "HTTP/1.1 200" <> _} = :gen_tcp.recv(socket, 0, 20_000)
    :gen_tcp.close(socket)

    assert_receive {:codex_notification, "mcpServer/oauthLogin/completed", completed}, 20_000
    assert %{"name" => "far", "success" => true} = completed
    assert {:ok, %{} = kept} = Mcp.oauth_tokens(conn, "far")
    refute inspect(kept) =~ "marked"

    assert {:ok, %{"data" => [%{"authStatus" => "oAuth"}]}} =
             Mcp.list_servers(conn, detail: :tools_and_auth_only)

    assert Mcp.oauth_logout(conn, "far") == :ok
    assert Mcp.oauth_tokens(conn, "far") == {:ok, nil}
  end

  defp query(uri), do: URI.decode_query(uri.query)

  test "a running command takes input, and its output arrives" do
    conn = connect!(Codex.Test.start!())
    assert AppServer.subscribe(conn, methods: ["command/exec/outputDelta"]) == :ok

    options = [
      process_id: "p",
      stream_stdin: true,
      stream_stdout_stderr: true,
      sandbox_policy: :danger_full_access
    ]

    script = "echo ready; while read line; do echo \"got $line\"; done; echo bye >&2; exit 3"
    command = Task.async(fn -> AppServer.command_exec(conn, ["sh", "-c", script], options) end)
    assert printed("stdout", "ready\n") == "ready\n"

    for line <- ["one", "two"] do
      assert {:ok, %{}} = AppServer.command_write_stdin(conn, "p", line <> "\n")
      assert printed("stdout", "got #{line}\n") == "got #{line}\n"
    end

    assert {:ok, %{}} = AppServer.command_exec_write(conn, process_id: "p", close_stdin: true)
    assert printed("stderr", "bye\n") == "bye\n"

    # What was streamed is not told twice.
    assert {:ok, %{"exitCode" => 3, "stdout" => "", "stderr" => ""}} = Task.await(command, 20_000)

    assert {:error, %{"code" => -32600}} = AppServer.command_write_stdin(conn, "p", "late")
  end

  # The bytes of a stream, until there are as many as expected.
  defp printed(stream, expected, so_far \\ "") do
    if byte_size(so_far) >= byte_size(expected) do
      so_far
    else
      assert_receive {:codex_notification, "command/exec/outputDelta",
                      %{"processId" => "p", "stream" => ^stream, "deltaBase64" => bytes}},
                     20_000

      printed(stream, expected, so_far <> Base.decode64!(bytes))
    end
  end

  test "files: written files are read and watched, missing files are errors", %{tmp_dir: dir} do
    conn = connect!(Codex.Test.start!())
    path = Path.join(dir, "file")
    bytes = <<0, 255, "text">>

    assert AppServer.subscribe(conn, methods: ["fs/changed"]) == :ok
    assert {:ok, %{"path" => ^path}} = AppServer.fs_watch(conn, path: path, watch_id: "w")

    assert {:ok, %{}} =
             AppServer.fs_write_file(conn, path: path, data_base64: Base.encode64(bytes))

    assert File.read!(path) == bytes

    assert_receive {:codex_notification, "fs/changed",
                    %{"watchId" => "w", "changedPaths" => [^path]}},
                   20_000

    assert {:ok, %{"dataBase64" => read}} = AppServer.fs_read_file(conn, path: path)
    assert Base.decode64!(read) == bytes
    assert {:ok, %{}} = AppServer.fs_remove(conn, path: path)
    refute File.exists?(path)

    for method <- [:fs_read_file, :fs_get_metadata, :fs_read_directory] do
      assert {:error, %{"code" => code, "message" => _}} =
               apply(AppServer, method, [conn, [path: path]])

      assert code in [-32600, -32603]
    end

    assert {:error, %{"code" => -32600}} = AppServer.fs_read_file(conn, path: "relative")
  end

  test "a configuration that someone else wrote is not overwritten" do
    model = Codex.Test.start!()
    conn = connect!(model)
    file = Path.join(model.home, "config.toml")
    assert {:ok, %{"layers" => layers}} = AppServer.config_read(conn, include_layers: true)

    assert [version] =
             for(
               %{"name" => %{"type" => "user", "file" => ^file}, "version" => version} <- layers,
               do: version
             )

    File.write!(file, File.read!(file) <> "model_verbosity = \"high\"\n")

    for call <- [
          &AppServer.config_write(conn, "model_verbosity", "low", &1),
          &AppServer.config_batch_write(conn, [%{key_path: "model_verbosity", value: "low"}], &1)
        ] do
      assert {:error,
              %{"data" => %{"config_write_error_code" => "configVersionConflict"}} = error} =
               call.(expected_version: version)

      assert Codex.Error.normalize(error).kind == :config

      assert {:error,
              %Codex.OptionError{
                reason: :unknown,
                path: [:expect_version],
                nearest: :expected_version
              }} = call.(expect_version: "v")

      assert File.read!(file) =~ "model_verbosity = \"high\""
    end

    assert {:ok, %{"status" => "ok"}} = AppServer.config_write(conn, "model_verbosity", "low")
    assert File.read!(file) =~ "model_verbosity = \"low\""
  end
end
