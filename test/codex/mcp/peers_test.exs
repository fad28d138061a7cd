defmodule Codex.MCP.PeersTest do
  # The client with servers that others wrote: the reference servers of npm, and one of the official
  # Python package.
  use ExUnit.Case, async: true

  alias Codex.MCP.Client
  alias Codex.MCPServers

  @moduletag capture_log: true

  # Node and Python take seconds to start on a busy machine.
  @patience [timeout_ms: 60_000, probe_ms: 30_000]

  defp start!(server, way, opts \\ [])

  defp start!(server, :http, opts) do
    {url, _sub} = MCPServers.serve!(server)
    connect!([url: url, server_name: Atom.to_string(server)], opts)
  end

  defp start!(:python, :stdio, opts), do: connect!([command: MCPServers.python()], opts)

  defp start!(:everything, :stdio, opts),
    do: connect!([command: MCPServers.npm("everything") ++ ["stdio"]], opts)

  defp start!(server, :stdio, opts) do
    {args, opts} = Keyword.pop(opts, :args, [])
    connect!([command: MCPServers.npm(Atom.to_string(server)) ++ args], opts)
  end

  defp connect!(server, opts) do
    {:ok, client} = Client.start_link(server ++ Keyword.merge(@patience, opts))
    client
  end

  defp text({:ok, %{"content" => [%{"text" => text} | _]} = result}) do
    refute result["isError"]
    text
  end

  defp names(list), do: Enum.map(list, & &1["name"])

  # Waits for a notification of the client.
  defp notified(client, method) do
    assert_receive {:codex_mcp, ^client, {:notification, ^method, params}}, 20_000
    params
  end

  describe "server-everything" do
    @describetag :mcp_servers

    for way <- [:stdio, :http] do
      test "lists, calls, reads, completes and reports progress (#{way})" do
        client = start!(:everything, unquote(way))
        {:ok, info} = Client.info(client)
        assert info.protocol_version == "2025-11-25"
        {:ok, tools, _} = Client.list_tools(client)
        assert "echo" in names(tools)
        assert text(Client.call_tool(client, "echo", %{message: "hello"})) == "Echo: hello"

        {:ok, %{"resources" => [%{"uri" => uri} | _]}} = Client.list_resources(client)
        assert {:ok, %{"contents" => [_ | _]}} = Client.read_resource(client, uri)
        assert {:ok, %{"resourceTemplates" => [_ | _]}} = Client.list_resource_templates(client)
        {:ok, %{"prompts" => prompts}} = Client.list_prompts(client)
        assert "simple-prompt" in names(prompts)
        assert {:ok, %{"messages" => [_ | _]}} = Client.get_prompt(client, "simple-prompt")

        assert {:ok, %{"completion" => %{"values" => ["Engineering"]}}} =
                 Client.complete(
                   client,
                   %{"type" => "ref/prompt", "name" => "completable-prompt"},
                   %{"name" => "department", "value" => "Eng"}
                 )

        assert {:ok, %{}} = Client.ping(client)
        me = self()
        long = %{duration: 1, steps: 4}
        progress = &send(me, {:progress, &1["progress"]})

        assert {:ok, _} =
                 Client.call_tool(client, "trigger-long-running-operation", long,
                   progress: progress
                 )

        assert_received {:progress, _}
      end

      test "asks handlers (#{way})" do
        client =
          start!(:everything, unquote(way),
            roots: [%{"uri" => "file:///srv/shop", "name" => "shop"}],
            elicitation: fn _request -> {:accept, %{"name" => "Ann"}} end,
            sampling: fn _request ->
              content = %{"type" => "text", "text" => "sampled"}
              {:ok, %{"role" => "assistant", "model" => "m", "content" => content}}
            end
          )

        # The server offers these tools once it knows the capabilities of the client.
        assert text(eventually(client, "get-roots-list", %{})) =~ "file:///srv/shop"

        sampled = Client.call_tool(client, "trigger-sampling-request", %{prompt: "p"})
        assert text(sampled) =~ "sampled"

        assert {:ok, %{"content" => content}} =
                 Client.call_tool(client, "trigger-elicitation-request", %{})

        assert inspect(content) =~ "Ann"
      end

      test "notifies about resources and logs above a level (#{way})" do
        client = start!(:everything, unquote(way))
        :ok = Client.subscribe(client)
        {:ok, %{"resources" => [%{"uri" => uri} | _]}} = Client.list_resources(client)
        :ok = Client.subscribe_resource(client, uri)
        {:ok, _} = Client.call_tool(client, "toggle-subscriber-updates", %{})
        assert %{"uri" => ^uri} = notified(client, "notifications/resources/updated")
        assert :ok = Client.unsubscribe_resource(client, uri)

        assert {:ok, %{}} = Client.set_log_level(client, "debug")
        {:ok, _} = Client.call_tool(client, "toggle-simulated-logging", %{})
        assert %{"level" => level} = notified(client, "notifications/message")
        assert level in ~w(debug info notice warning error critical alert emergency)
        assert {:error, %{"code" => _}} = Client.set_log_level(client, "loudest")
      end

      test "1,000 calls from 100 processes (#{way})" do
        client = start!(:everything, unquote(way))

        1..100
        |> Task.async_stream(
          fn n ->
            for i <- 1..10 do
              args = %{message: "#{n}.#{i}"}
              result = Client.call_tool(client, "echo", args, timeout_ms: 110_000)
              assert text(result) == "Echo: #{n}.#{i}"
            end
          end,
          max_concurrency: 100,
          timeout: 110_000
        )
        |> Enum.each(fn {:ok, results} -> assert length(results) == 10 end)
      end
    end

    defp eventually(client, tool, args, left \\ 100) do
      case Client.call_tool(client, tool, args) do
        {:error, %{"code" => -32_602}} when left > 0 -> again(client, tool, args, left)
        {:ok, %{"isError" => true}} when left > 0 -> again(client, tool, args, left)
        result -> result
      end
    end

    defp again(client, tool, args, left) do
      Process.sleep(100)
      eventually(client, tool, args, left - 1)
    end
  end

  describe "server-filesystem" do
    @describetag :mcp_servers
    @describetag :tmp_dir

    test "reads and writes below its directory only", %{tmp_dir: dir} do
      File.write!(Path.join(dir, "note.txt"), "Buy bread.")
      client = start!(:filesystem, :stdio, args: [dir])
      {:ok, tools, _} = Client.list_tools(client, allow: ["read_text_file", "write_file"])
      assert names(tools) == ["read_text_file", "write_file"]

      read = &Client.call_tool(client, "read_text_file", %{path: &1})
      assert text(read.(Path.join(dir, "note.txt"))) == "Buy bread."

      assert {:ok, %{"isError" => true, "content" => [%{"text" => words}]}} =
               read.("/etc/hostname")

      assert words =~ "Access denied"
      assert {:ok, %{"isError" => true}} = read.(Path.join(dir, "missing.txt"))

      args = %{path: Path.join(dir, "new.txt"), content: "grüße\n"}
      assert text(Client.call_tool(client, "write_file", args)) =~ "new.txt"
      assert File.read!(args.path) == "grüße\n"
    end

    test "takes its directories from the roots of the client", %{tmp_dir: dir} do
      File.write!(Path.join(dir, "note.txt"), "Buy bread.")
      client = start!(:filesystem, :stdio, roots: [%{"uri" => "file://#{dir}", "name" => "tmp"}])
      assert text(rooted(client, %{path: Path.join(dir, "note.txt")}, 100)) == "Buy bread."
    end

    # The server asks for the roots after its start.
    defp rooted(client, args, left) do
      case Client.call_tool(client, "read_text_file", args) do
        {:ok, %{"isError" => true}} when left > 0 ->
          Process.sleep(100)
          rooted(client, args, left - 1)

        result ->
          result
      end
    end
  end

  describe "server-memory" do
    @describetag :mcp_servers
    @describetag :tmp_dir

    test "keeps what calls wrote, also for another client", %{tmp_dir: dir} do
      opts = [env: %{"MEMORY_FILE_PATH" => Path.join(dir, "memory.jsonl")}]
      first = start!(:memory, :stdio, opts)
      entity = %{name: "Ann", entityType: "person", observations: ["likes bread"]}
      assert text(Client.call_tool(first, "create_entities", %{entities: [entity]})) =~ "Ann"
      :ok = Client.stop(first)

      second = start!(:memory, :stdio, opts)

      assert {:ok, %{"structuredContent" => %{"entities" => [%{"name" => "Ann"} = found]}}} =
               Client.call_tool(second, "search_nodes", %{query: "bread"})

      assert found["observations"] == ["likes bread"]

      # Invalid arguments are an error of the server, and the client goes on.
      assert {:ok, %{"isError" => true}} =
               Client.call_tool(second, "create_entities", %{entities: 1})

      assert {:ok, %{"contents" => [%{"text" => graph}]}} =
               Client.read_resource(second, "memory://knowledge-graph")

      assert graph =~ "likes bread"
      assert {:error, %{"code" => -32_601}} = Client.list_prompts(second)
    end
  end

  describe "the Python package" do
    @describetag :mcp_python

    for way <- [:stdio, :http], version <- [nil, "2025-11-25", "2025-03-26"] do
      test "lists, calls, reads, completes and fails (#{way}, #{version || "found"})" do
        client = start!(:python, unquote(way), protocol_version: unquote(version))
        {:ok, info} = Client.info(client)
        assert info.protocol_version == unquote(version || "2026-07-28")
        assert %{"name" => "peer", "version" => "1.2.3"} = info.server_info
        assert info.instructions == "Be brief."

        {:ok, tools, _} = Client.list_tools(client)
        assert "add" in names(tools)

        assert {:ok, %{"structuredContent" => %{"result" => 5}} = sum} =
                 Client.call_tool(client, "add", %{a: 2, b: 3})

        assert text({:ok, sum}) == "5"

        assert {:ok, %{"isError" => true, "content" => [%{"text" => words}]}} =
                 Client.call_tool(client, "fail")

        assert words =~ "no such luck"
        assert {:ok, %{"isError" => true}} = Client.call_tool(client, "add", %{a: "x"})

        assert {:ok, %{"resources" => [%{"uri" => "memo://today"}]}} =
                 Client.list_resources(client)

        assert {:ok, %{"resourceTemplates" => [%{"uriTemplate" => "memo://of/{name}"}]}} =
                 Client.list_resource_templates(client)

        assert {:ok, %{"contents" => [%{"text" => "Buy bread."}]}} =
                 Client.read_resource(client, "memo://today")

        assert {:ok, %{"contents" => [%{"text" => "The memo of Zoë."}]}} =
                 Client.read_resource(client, "memo://of/Zo%C3%AB")

        assert {:error, %{"code" => code}} = Client.read_resource(client, "memo://missing/x")
        assert code in [-32_602, -32_002]

        assert {:ok, %{"prompts" => [%{"name" => "letter"}]}} = Client.list_prompts(client)

        assert {:ok, %{"messages" => [%{"content" => %{"text" => "Write a letter to Ann."}}]}} =
                 Client.get_prompt(client, "letter", %{"to" => "Ann"})

        assert {:ok, %{"completion" => %{"values" => ["Ann", "Anton"]}}} =
                 Client.complete(
                   client,
                   %{"type" => "ref/prompt", "name" => "letter"},
                   %{"name" => "to", "value" => "An"}
                 )

        assert {:error, %{"code" => -32_601}} = Client.request(client, "no/such/method")
      end

      test "reports progress and cancels (#{way}, #{version || "found"})" do
        client = start!(:python, unquote(way), protocol_version: unquote(version))
        me = self()
        progress = &send(me, {:progress, &1["progress"], &1["total"]})
        assert text(Client.call_tool(client, "steps", %{n: 3}, progress: progress)) == "done"
        assert_received {:progress, 3, 3}

        task = Task.async(fn -> Client.call_tool(client, "slow", %{seconds: 60}, tag: :slow) end)

        assert cancelled(client, task, 200) == {:error, :cancelled}

        assert {:error, :timeout} =
                 Client.call_tool(client, "slow", %{seconds: 60}, timeout_ms: 200)

        assert text(Client.call_tool(client, "add", %{a: 1, b: 1}, [])) == "2"
        if unquote(way) == :stdio, do: assert(told(client, 200) =~ "the call was cancelled")
      end
    end

    for way <- [:stdio, :http], version <- [nil, "2025-11-25"] do
      test "asks for input (#{way}, #{version || "found"})" do
        client =
          start!(:python, unquote(way),
            protocol_version: unquote(version),
            elicitation: fn %{"message" => "Who?"} -> {:accept, %{"name" => "Ann"}} end
          )

        # A legacy server over HTTP asks on the answer of the call.
        assert text(Client.call_tool(client, "greet")) == "Hello Ann"
      end

      test "gets no input from a client that declines (#{way}, #{version || "found"})" do
        client =
          start!(:python, unquote(way),
            protocol_version: unquote(version),
            elicitation: fn _request -> :decline end
          )

        assert {:ok, %{"isError" => true}} = Client.call_tool(client, "greet")
      end
    end

    for way <- [:stdio, :http] do
      test "notifies listeners of the modern era (#{way})" do
        client = start!(:python, unquote(way))
        :ok = Client.subscribe_resource(client, "memo://today")
        touched(client, "memo://today", 100)
        assert %{"uri" => "memo://today"} = notified(client, "notifications/resources/updated")
        _ = notified(client, "notifications/tools/list_changed")

        # Another resource is not asked for.
        {:ok, _} = Client.call_tool(client, "touch", %{uri: "memo://of/Ann"})
        _ = notified(client, "notifications/tools/list_changed")
        refute_received {:codex_mcp, _, {:notification, _, %{"uri" => "memo://of/Ann"}}}

        :ok = Client.unsubscribe(client)
        forget()
        {:ok, _} = Client.call_tool(client, "touch", %{uri: "memo://today"})
        {:ok, _} = Client.call_tool(client, "add", %{a: 1, b: 1})
        refute_received {:codex_mcp, _, _}
      end

      test "logs above the level of the client (#{way})" do
        client = start!(:python, unquote(way), log_level: "info")
        :ok = Client.subscribe(client)
        {:ok, _} = Client.call_tool(client, "say", %{text: "a word"})
        assert %{"data" => "a word"} = notified(client, "notifications/message")
      end
    end

    defp forget do
      receive do
        {:codex_mcp, _, _} -> forget()
      after
        0 -> :ok
      end
    end

    # The stream of notifications opens beside the calls.
    defp touched(client, uri, left) do
      {:ok, _} = Client.call_tool(client, "touch", %{uri: uri})
      told? = fn -> Process.info(self(), :message_queue_len) != {:message_queue_len, 0} end
      Process.sleep(50)
      if not told?.() and left > 0, do: touched(client, uri, left - 1)
    end

    defp cancelled(client, task, left) do
      :ok = Client.cancel(client, :slow)

      case Task.yield(task, 50) do
        {:ok, result} -> result
        nil when left > 0 -> cancelled(client, task, left - 1)
      end
    end

    defp told(client, left) do
      case Client.stderr(client) do
        {:ok, ""} when left > 0 ->
          Process.sleep(50)
          told(client, left - 1)

        {:ok, text} ->
          text
      end
    end
  end
end
