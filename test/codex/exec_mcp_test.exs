defmodule Codex.ExecMcpTest do
  # Not async: a variable of the VM is set.
  use ExUnit.Case, async: false

  import Codex.Test.Steps
  alias Codex.Config.Helpers
  alias Codex.Exec.McpLog
  alias Codex.{Git, Items, Thread}
  alias Codex.Options.Overrides

  @moduletag :codex_cli
  @moduletag :tmp_dir

  # Notes its environment, that of the CLI, and all arguments of the machine, and ends.
  @server """
  /usr/bin/env > "$1.new"
  /bin/cat /proc/$PPID/environ > "$1.cli" 2>/dev/null
  /bin/ps -eww -o args= > "$1.ps"
  /bin/mv "$1.new" "$1"
  """

  # Variables that servers, the client and the CLI can share.
  @names ~w(TOKEN CODEX_HOME HOME PATH HTTP_PROXY HTTPS_PROXY http_proxy https_proxy ALL_PROXY
            NO_PROXY CODEX_API_KEY OPENAI_API_KEY CLIENT CODEX_SDK_TEST_VM SHELL USER LANG TMPDIR
            RUST_LOG SSL_CERT_FILE CODEX_CA_CERTIFICATE)

  setup do
    System.put_env("CODEX_SDK_TEST_VM", "of-the-vm")
    on_exit(fn -> System.delete_env("CODEX_SDK_TEST_VM") end)
  end

  defp server(path, more), do: Map.merge(%{command: "/bin/sh", args: args(path)}, more)
  defp args(path), do: ["-c", @server, "sh", path]

  defp secret(id, name), do: "secret-of-#{id}-#{name}"

  defp env_of(path) do
    for line <- path |> File.read!() |> String.split("\n", trim: true),
        [name, value] <- [String.split(line, "=", parts: 2)],
        into: %{},
        do: {name, value}
  end

  defp outputs(result) do
    for %{item: %Items.CommandExecution{status: :completed} = item} <- result.events,
        do: item.aggregated_output
  end

  defp run!(model, options, prompt \\ "hi") do
    client = Codex.Test.options(model)
    client = put_in(client[:env]["CLIENT"], "of-the-client")
    {:ok, thread} = Codex.start_thread(client, Codex.Test.thread_options(model) ++ options)
    {:ok, result} = Thread.run(thread, prompt)
    result
  end

  @tag :cli_pin
  test "each server gets its own variables; the CLI, its commands and ps none", %{tmp_dir: dir} do
    model = Codex.Test.start!([shell("/usr/bin/env"), "One.", shell("/usr/bin/env"), "Two."])
    a = Path.join(dir, "a")
    b = Path.join(dir, "b")

    servers = %{
      "a" => server(a, %{env: Map.new(@names, &{&1, secret("a", &1)})}),
      "be.ta" =>
        server(b, %{env: [TOKEN: secret("b", "TOKEN")], env_vars: ["CLIENT", "CODEX_SDK_TEST_VM"]})
    }

    result = run!(model, mcp_servers: servers, sandbox: :danger_full_access)
    assert result.final_response.text == "One."

    seen = env_of(a)
    for name <- @names, do: assert({name, seen[name]} == {name, secret("a", name)})
    refute inspect(Map.values(seen)) =~ "secret-of-b"

    seen = env_of(b)
    assert seen["TOKEN"] == secret("b", "TOKEN")
    assert seen["CLIENT"] == "of-the-client"
    assert seen["CODEX_SDK_TEST_VM"] == "of-the-vm"
    refute inspect(Map.values(seen)) =~ "secret-of-a"

    assert [output] = outputs(result)
    assert output =~ "CLIENT=of-the-client"
    for text <- [output | shown(a) ++ shown(b)], do: refute(text =~ "secret-of-")

    # A thread that goes on gets them, too.
    for path <- [a, b], do: File.rm!(path)
    {:ok, result} = Thread.run(result.thread, "more")
    assert result.final_response.text == "Two."
    assert env_of(a)["TOKEN"] == secret("a", "TOKEN")
    assert env_of(b)["TOKEN"] == secret("b", "TOKEN")
    assert [output] = outputs(result)
    refute output =~ "secret-of-"

    refute inspect(left(), limit: :infinity) =~ "secret-of-"
    refute model.home |> texts() |> Enum.any?(&(&1 =~ "secret-of-"))
  end

  defp shown(path), do: [File.read!(path <> ".cli"), File.read!(path <> ".ps")]

  # Lists leftover files of runs.
  defp left do
    for path <- Path.wildcard(Path.join(System.tmp_dir!(), "codex_sdk_*/**")),
        {:ok, text} <- [File.read(path)],
        do: text
  end

  defp texts(dir) do
    for path <- Path.wildcard(Path.join(dir, "**"), match_dot: true),
        File.regular?(path),
        do: File.read!(path)
  end

  test "runs side by side keep theirs", %{tmp_dir: dir} do
    model = Codex.Test.start!([], default: "Done.")

    1..4
    |> Enum.map(fn n ->
      path = Path.join(dir, "#{n}")
      servers = %{"same" => server(path, %{env: %{"TOKEN" => secret(n, "TOKEN")}})}
      {n, path, Task.async(fn -> run!(model, mcp_servers: servers) end)}
    end)
    |> Enum.each(fn {n, path, task} ->
      Task.await(task, 60_000)
      assert env_of(path)["TOKEN"] == secret(n, "TOKEN")
    end)
  end

  describe "layers" do
    setup %{tmp_dir: dir} do
      %{path: Path.join(dir, "seen")}
    end

    defp toml(value), do: elem(Overrides.toml(value), 1)

    defp trust!(model) do
      Git.run!(model.workspace, ~w(init --quiet))
      project = Path.join(model.workspace, ".codex")
      File.mkdir_p!(project)
      {:ok, _} = Helpers.put_trust(model.workspace, :trusted, codex_home: model.home)
      Path.join(project, "config.toml")
    end

    test "a server of config.toml gets the variables of the run", %{path: path} do
      config = """
      [mcp_servers.docs]
      command = "/bin/sh"
      args = #{toml(args(path))}
      env = #{toml(%{"TOKEN" => "of-the-user", "KEPT" => "yes"})}
      """

      model = Codex.Test.start!([], default: "Done.", config: config)
      run!(model, mcp_servers: %{docs: %{env: %{"TOKEN" => "of-the-run"}}})
      assert %{"TOKEN" => "of-the-run", "KEPT" => "yes"} = env_of(path)
    end

    test "a project does not beat the run", %{path: path} do
      model = Codex.Test.start!([], default: "Done.")
      File.write!(trust!(model), "[mcp_servers.docs.env]\nTOKEN = \"of-the-project\"\n")
      run!(model, mcp_servers: %{docs: server(path, %{env: %{"TOKEN" => "of-the-run"}})})
      assert %{"TOKEN" => "of-the-run"} = env_of(path)
    end

    test "a profile stays, and so does a server in it", %{path: path} do
      model = Codex.Test.start!([], default: "Done.")

      File.write!(Path.join(model.home, "mine.config.toml"), """
      [mcp_servers.docs]
      command = "/bin/sh"
      args = #{toml(args(path))}
      """)

      servers = %{docs: %{env: %{"TOKEN" => "of-the-run"}}}
      run!(model, profile: "mine", strict_config: true, mcp_servers: servers)
      assert %{"TOKEN" => "of-the-run"} = env_of(path)
    end

    test "without the user's configuration they arrive", %{path: path} do
      model = Codex.Test.start!([], default: "Done.")
      config = File.read!(Path.join(model.home, "config.toml"))
      home = Path.join(Path.dirname(model.home), "plain")
      File.mkdir!(home)
      File.write!(Path.join(home, "config.toml"), "developer_instructions = \"OF THE USER\"\n")

      overrides =
        for line <- String.split(config, "\n", trim: true), do: String.replace(line, " = ", "=")

      servers = %{docs: server(path, %{env: %{"TOKEN" => "of-the-run"}})}
      client = Keyword.put(Codex.Test.options(model), :codex_home, home)

      for isolation <- [:project, :hermetic] do
        options = [isolation: isolation, mcp_servers: servers, config_overrides: overrides]

        {:ok, thread} = Codex.start_thread(client, Codex.Test.thread_options(model) ++ options)

        assert {:ok, %{final_response: %{text: "Done."}}} = Thread.run(thread, "hi")
        assert %{"TOKEN" => "of-the-run"} = env_of(path)
        File.rm!(path)
      end

      refute inspect(Codex.Test.requests(model), limit: :infinity) =~ "OF THE USER"
    end
  end

  test "over an app-server, those of the connection and of a thread are each server's own",
       %{tmp_dir: dir} do
    model = Codex.Test.start!([], default: "Done.", rules: [])
    [a, b, c] = for name <- ["a", "b", "c"], do: Path.join(dir, name)
    server = &server(&1, %{env: %{"TOKEN" => secret(&2, "TOKEN"), "HOME" => secret(&2, "HOME")}})
    config = [mcp_servers: [a: server.(a, "a"), b: server.(b, "b")]]
    conn = Codex.Connected.connect!(model, config: config)

    for servers <- [nil, %{c: server.(c, "c")}] do
      :ok = Codex.Test.push(model, [shell("/usr/bin/env"), "Done."])
      options = [mcp_servers: servers, sandbox: :danger_full_access]
      thread = Codex.Connected.thread!(model, conn, options)
      assert {:ok, %{final_response: %{text: "Done."}} = result} = Thread.run(thread, "hi")
      assert [output] = outputs(result)
      refute output =~ "secret-of-"

      # A thread's servers stand beside those of the connection.
      for {path, id} <- [{a, "a"}, {b, "b"}] ++ if(servers, do: [{c, "c"}], else: []) do
        seen = env_of(path)
        for name <- ["TOKEN", "HOME"], do: assert(seen[name] == secret(id, name))
        for text <- shown(path), do: refute(text =~ "secret-of-")
        File.rm!(path)
      end
    end
  end

  test "over an app-server, stderr does not show variables of servers, or of the connection" do
    model = Codex.Test.start!([], default: "Done.")
    script = "echo told $TOKEN $URL $OF_CONNECTION_KEY >&2"
    vars = %{"TOKEN" => "secret-of-token", "URL" => "db://user:secret-of-url@host"}

    server =
      &%{command: "/bin/sh", args: ["-c", script], env: &1, env_vars: ["OF_CONNECTION_KEY"]}

    env = %{"RUST_LOG" => "codex_rmcp_client=info", "OF_CONNECTION_KEY" => "secret-of-key"}
    conn = Codex.Connected.connect!(model, env: env, config: [mcp_servers: [a: server.(vars)]])
    of_thread = %{"TOKEN" => "secret-of-thread"}
    thread = Codex.Connected.thread!(model, conn, mcp_servers: %{b: server.(of_thread)})
    assert {:ok, result} = Thread.run(thread, "hi", keep: [:stderr])
    assert result.raw.stderr =~ "told [redacted] [redacted] [redacted]"
    refute inspect(result, limit: :infinity, printable_limit: :infinity) =~ "secret-of-"
    refute result.raw.stderr =~ "secret-of-"
  end

  test "texts of key=value are handed over in the same way, on both lanes", %{tmp_dir: dir} do
    raw = fn id, path ->
      [
        "mcp_servers.#{id}.command=/bin/sh",
        "mcp_servers.#{id}.args=#{toml(args(path))}",
        ~s( mcp_servers.#{id}.env = {TOKEN = "#{secret(id, "TOKEN")}"}),
        "mcp_servers.#{id}.env.OTHER=#{secret(id, "OTHER")}"
      ]
    end

    model = Codex.Test.start!([shell("/usr/bin/env"), "Done."], default: "Done.")
    [a, b] = for name <- ["a", "b"], do: Path.join(dir, name)
    options = [sandbox: :danger_full_access, config_overrides: raw.("a", a)]
    assert [output] = outputs(run!(model, options))
    refute output =~ "secret-of-"

    client = Codex.Test.options(model) ++ [config_overrides: raw.("b", b)]
    {:ok, conn} = Codex.AppServer.connect(client, cwd: model.workspace)
    {:ok, thread} = Codex.start_thread([], transport: {:app_server, conn})
    assert {:ok, _} = Thread.run(thread, "hi")

    for {path, id} <- [{a, "a"}, {b, "b"}] do
      seen = env_of(path)
      for name <- ["TOKEN", "OTHER"], do: assert(seen[name] == secret(id, name))
      for text <- shown(path), do: refute(text =~ "secret-of-")
    end
  end

  test "tokens and headers of a provider are not in the environment of commands" do
    model = Codex.Test.start!([shell("/usr/bin/env"), "Done."])

    provider = %{
      name: "Own",
      base_url: model.url,
      wire_api: "responses",
      experimental_bearer_token: "secret-of-token",
      http_headers: %{"X-Own" => "secret-of-header"}
    }

    options = [model_provider: "own", model_providers: %{own: provider}]
    result = run!(model, [sandbox: :danger_full_access] ++ options)
    assert [%{headers: headers} | _] = Codex.Test.requests(model)
    assert headers["authorization"] == "Bearer secret-of-token"
    assert headers["x-own"] == "secret-of-header"
    assert [output] = outputs(result)
    assert output =~ "CLIENT=of-the-client"
    refute output =~ "secret-of-"
  end

  describe "a server that does not start" do
    defp warning(result, name) do
      Enum.find(result.warnings, &(&1 =~ "MCP server #{name} did not start: "))
    end

    @tag :cli_pin
    test "is a warning of the result, with the reason", %{tmp_dir: dir} do
      model =
        Codex.Test.start!([], default: "Done.", config: "mcp_servers.old.command = '/nope/old'")

      File.write!(Path.join(dir, "no program"), "")

      servers = %{
        "docs" => %{command: "/nope/mcp"},
        "own" => %{command: "/nope/own", env: %{"TOKEN" => "secret-of-own"}},
        "path" => %{command: "sh", env: %{"PATH" => "/nope"}},
        "file" => %{command: Path.join(dir, "no program"), env: %{"A" => "b"}},
        "folder" => %{command: "/bin/sh", cwd: "/nope"},
        "ends \"at\" once" => %{command: "/bin/sh", args: ["-c", "exit 3"]}
      }

      result = run!(model, mcp_servers: servers)
      assert result.final_response.text == "Done."
      assert warning(result, "docs") =~ "No such file or directory"
      assert warning(result, "old") =~ "No such file or directory"
      assert warning(result, "own") =~ "/nope/own cannot be started: No such file or directory"
      assert warning(result, "path") =~ "sh cannot be started: No such file or directory"
      assert warning(result, "file") =~ "no program cannot be started: Permission denied"
      assert warning(result, "folder") =~ "No such file or directory"
      assert warning(result, "ends \"at\" once")
      assert length(result.warnings) == 7
      refute inspect(result, limit: :infinity) =~ "secret-of-"

      # The CLI's own warnings come after the start and before the end.
      assert [%Codex.Events.ThreadStarted{} | _] = result.events
      assert %Codex.Events.TurnCompleted{} = List.last(result.events)
    end

    test "fails a run that needs it, with the reason" do
      model = Codex.Test.start!([])
      server = %{command: "/nope/mcp", required: true, env: %{"TOKEN" => "secret-of-docs"}}
      options = Codex.Test.thread_options(model) ++ [mcp_servers: %{docs: server}]
      {:ok, thread} = Codex.start_thread(Codex.Test.options(model), options)
      assert {:error, {:exec_failed, %{kind: :mcp} = error}} = Thread.run(thread, "hi")
      assert error.message =~ "docs"
      assert error.message =~ "/nope/mcp cannot be started: No such file or directory"
      refute error.stderr =~ "codex_mcp::rmcp_client"
    end

    @tag :cli_pin
    test "leaves RUST_LOG of commands as it was, and other runs alone" do
      for {env, servers, seen} <- [
            {%{}, %{docs: %{command: "/nope/mcp"}}, ["RUST_LOG="]},
            {%{"RUST_LOG" => "off"}, %{docs: %{command: "/nope/mcp"}}, ["RUST_LOG=off"]},
            {%{"RUST_LOG" => "off"}, %{}, ["RUST_LOG=off"]},
            {%{}, %{}, []}
          ] do
        model = Codex.Test.start!([shell("/usr/bin/env"), "Done."], env: env)
        result = run!(model, mcp_servers: servers, sandbox: :danger_full_access)
        assert [output] = outputs(result)
        assert for("RUST_LOG" <> _ = line <- String.split(output, "\n"), do: line) == seen
        assert length(result.warnings) == map_size(servers)
      end
    end

    test "is read from any pieces of the log" do
      line = fn name ->
        "2026-11-26T23:22:03.054912Z  WARN mcp.request: codex_mcp::rmcp_client: " <>
          ~s(MCP server startup failed server_name="#{name}" error=No such file\n)
      end

      long = "2026 ERROR " <> String.duplicate("x", 20_000) <> "\n"
      late = "2026  WARN codex_mcp::rmcp_client: failed to initialize MCP client\n"
      text = "words\n" <> line.("a") <> long <> line.(~S(b \"c\" é)) <> late <> "end"

      for size <- [1, 7, 100, 8_191, 100_000] do
        {events, _log} =
          text |> pieces(size) |> Enum.flat_map_reduce(%McpLog{}, &McpLog.feed(&2, &1))

        assert for(%{item: %Items.Error{message: text}} <- events, do: text) == [
                 "MCP server a did not start: No such file",
                 ~s(MCP server b "c" é did not start: No such file)
               ]
      end

      assert McpLog.strip(text, %McpLog{}) == "words\n" <> long <> "end"
      assert McpLog.strip(text, nil) == text
    end

    defp pieces(text, size) when byte_size(text) <= size, do: [text]

    defp pieces(text, size) do
      {piece, rest} = :erlang.split_binary(text, size)
      [piece | pieces(rest, size)]
    end
  end

  test "an error does not show a variable that the server printed", %{tmp_dir: dir} do
    model = Codex.Test.start!([])
    codex = Path.join(dir, "codex")

    # A CLI that starts the server of its arguments, as the real one does, and fails with what
    # that printed.
    File.write!(codex, """
    #!/bin/sh
    case "$1" in --version) echo codex-cli #{Codex.CLI.Program.tested_version()}; exit 0;; esac
    cat > /dev/null
    for arg; do case "$arg" in mcp_servers.docs.args=*) list="${arg#*=}";; esac; done
    file=$(echo "$list" | cut -d'"' -f4)
    tr '\\0' '\\n' < "$file" >&2
    exit 1
    """)

    File.chmod!(codex, 0o755)
    client = Keyword.put(Codex.Test.options(model), :codex_path, codex)
    servers = %{docs: %{command: "x", env: %{"URL" => "db://user:pass@host"}}}
    options = Codex.Test.thread_options(model) ++ [mcp_servers: servers]
    {:ok, thread} = Codex.start_thread(client, options)
    assert {:error, {:exec_failed, error}} = Thread.run(thread, "hi")
    assert error.stderr =~ "docs\nURL\n[redacted]"
    refute inspect(error, limit: :infinity) =~ "user:pass"
  end
end
