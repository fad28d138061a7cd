defmodule Codex.MCP.ClientTest do
  # The client over stdio, with servers that misbehave in one way each.
  use ExUnit.Case, async: true

  alias Codex.MCP.{Client, Transport}
  alias Codex.OtherVM

  @moduletag :python
  @moduletag capture_log: true
  @server Path.expand("../../children/mcp_server.py", __DIR__)

  defp start(ways, opts \\ []) do
    Client.start_link([command: ["python3", @server | ways]] ++ opts)
  end

  defp start!(ways \\ [], opts \\ []) do
    {:ok, client} = start(ways, opts)
    client
  end

  defp text({:ok, %{"content" => [%{"text" => text}]}}), do: text
  defp call(client, tool, args \\ %{}, opts \\ []), do: Client.call_tool(client, tool, args, opts)
  defp seen(client), do: client |> call("seen") |> text() |> Codex.JSON.decode() |> elem(1)

  defp alive?(os_pid), do: File.exists?("/proc/#{os_pid}")

  defp gone!(os_pid, left \\ 200) do
    cond do
      not alive?(os_pid) ->
        :ok

      left == 0 ->
        flunk("process #{os_pid} is still there")

      true ->
        Process.sleep(50)
        gone!(os_pid, left - 1)
    end
  end

  describe "eras" do
    for version <- ~w(2024-11-05 2025-03-26 2025-06-18 2025-11-25) do
      test "a server of #{version} is found by initialize" do
        client = start!(["version=#{unquote(version)}"])
        {:ok, info} = Client.info(client)
        assert info.protocol_version == unquote(version)
        assert info.server_info == %{"name" => "odd", "version" => "1"}
        assert info.instructions == "be kind"
        assert text(call(client, "echo", %{text: "hello"})) == "hello"
      end
    end

    test "a server of 2026-07-28 is found by server/discover" do
      client = start!(["modern"])
      {:ok, info} = Client.info(client)
      assert info.protocol_version == "2026-07-28"
      assert text(call(client, "echo", %{"text" => "hello"})) == "hello"
    end

    test "a server that is silent about server/discover gets initialize" do
      client = start!(["silent"], probe_ms: 50)
      assert text(call(client, "echo", %{"text" => "x"})) == "x"
    end

    test "a server that ends because of server/discover is started again" do
      client = start!(["strict"])
      assert {:ok, %{protocol_version: "2025-11-25"}} = Client.info(client)
    end

    test "batches are accepted from a server of 2025-03-26 alone" do
      client = start!(["version=2025-03-26"])
      assert text(call(client, "batch")) == "in a batch"
      client = start!(["version=2025-06-18"])
      assert {:error, :timeout} = call(client, "batch", %{}, timeout_ms: 300)
    end

    test "an unknown version is an error that names both" do
      Process.flag(:trap_exit, true)

      assert {:error, {:unsupported_protocol, "2025-11-25", "1999-01-01"} = reason} =
               start(["version=1999-01-01"])

      assert Exception.message(Codex.Error.normalize(reason)) =~ "1999-01-01"
    end

    test "the modern version alone is no fallback" do
      assert {:error, %{"code" => -32_601}} = start([], protocol_version: "2026-07-28")
    end
  end

  describe "lists" do
    test "all pages are fetched once, and filters apply to the kept list" do
      client = start!()
      {:ok, tools, ^client} = Client.list_tools(client)
      assert length(tools) == 13
      {:ok, [%{"name" => "echo"}], _} = Client.list_tools(client, allow: ["echo"])
      {:ok, all, _} = Client.list_tools(client)
      assert length(all) == 13
      assert seen(client)["list"] == 3
      {:ok, _, _} = Client.list_tools(client, cache?: false)
      assert seen(client)["list"] == 6
    end

    test "a changed list is fetched again" do
      client = start!()
      :ok = Client.subscribe(client)
      {:ok, _, _} = Client.list_tools(client)
      {:ok, _} = call(client, "change")

      assert_receive {:codex_mcp, ^client,
                      {:notification, "notifications/tools/list_changed", _}},
                     5_000

      {:ok, tools, _} = Client.list_tools(client)
      assert List.last(tools)["name"] == "added"
    end

    test "the empty string is a cursor, and the loop is bounded" do
      client = start!(["endless"])
      assert {:error, {:overflow, :pages, 1_000}} = Client.list_tools(client, timeout_ms: 60_000)
    end

    test "a stream fetches pages as they are read" do
      client = start!()
      assert [%{"name" => "echo"}] = client |> Client.stream(:tools) |> Enum.take(1)
      assert seen(client)["list"] == 1
      assert client |> Client.stream(:tools) |> Enum.count() == 13
    end

    test "tools of the configuration" do
      client = start!([], enabled_tools: ["echo", "boom"], disabled_tools: ["boom"])
      {:ok, tools, _} = Client.list_tools(client, qualify?: true)
      assert Enum.map(tools, & &1["name"]) == ["echo"]
      assert {:error, {:tool_disabled, "boom"}} = call(client, "boom")
    end
  end

  describe "calls" do
    test "keep every field" do
      assert {:ok, %{"extra" => %{"kept" => true}}} = call(start!(), "echo")
    end

    test "are repeated if that is safe, except for invalid parameters" do
      client = start!()
      {:ok, _, _} = Client.list_tools(client)
      opts = [retries: 2, backoff: fn _ -> 1 end]
      assert {:error, %{"message" => "busy"}} = call(client, "boom", %{}, opts)
      assert {:error, %{"message" => "busy"}} = call(client, "write", %{}, opts)
      assert {:error, %{"code" => -32_602}} = call(client, "invalid", %{}, opts)
      assert %{"boom" => 3, "write" => 1, "invalid" => 1} = seen(client)
      assert {:error, %{"message" => "busy"}} = call(client, "write", %{}, opts ++ [safe: true])
      assert %{"write" => 4} = seen(client)
    end

    test "time out, and the server is told" do
      client = start!()
      assert {:error, :timeout} = call(client, "slow", %{s: 0.5}, timeout_ms: 50)
      Process.sleep(600)
      assert {:ok, "cancelled" <> _} = Client.stderr(client)
      assert text(call(client, "echo", %{text: "on"})) == "on"
      refute_received _
    end

    test "a tag cancels" do
      client = start!()
      task = Task.async(fn -> call(client, "slow", %{s: 20}, tag: :mine) end)
      cancel(client, task)
    end

    defp cancel(client, task) do
      :ok = Client.cancel(client, :mine)

      case Task.yield(task, 50) do
        {:ok, result} -> assert result == {:error, :cancelled}
        nil -> cancel(client, task)
      end
    end

    test "progress extends the time up to the limit" do
      client = start!()
      me = self()
      opts = [timeout_ms: 600, limit_ms: 20_000, progress: &send(me, {:progress, &1["progress"]})]
      assert text(call(client, "progress", %{n: 8, s: 0.2}, opts)) == "done"
      assert_received {:progress, 0}
    end

    test "1,000 from 100 processes" do
      client = start!()

      results =
        1..100
        |> Task.async_stream(
          fn n ->
            for i <- 1..10, do: {"#{n}.#{i}", text(call(client, "echo", %{text: "#{n}.#{i}"}))}
          end,
          max_concurrency: 100,
          timeout: 60_000
        )
        |> Enum.flat_map(fn {:ok, pairs} -> pairs end)

      assert length(results) == 1_000
      assert Enum.all?(results, fn {sent, got} -> sent == got end)
    end

    test "an answer over the limit is an error of its call alone" do
      client = start!([], max_message_bytes: 1_000_000)
      slow = Task.async(fn -> call(client, "slow", %{s: 1}) end)

      assert {:error, {:overflow, :line, bytes, 1_000_000}} =
               call(client, "big", %{n: 100_000_000})

      assert bytes > 100_000_000
      assert text(Task.await(slow, 30_000)) == "slept"
      assert text(call(client, "echo", %{text: "on"})) == "on"
    end

    test "values without a form in JSON are refused" do
      assert {:error, %Codex.OptionError{}} = call(start!(), "echo", %{text: self()})
    end
  end

  describe "handlers" do
    for way <- [[], ["modern"]] do
      test "answer elicitation with defaults, roots and sampling (#{inspect(way)})" do
        client =
          start!(unquote(way),
            elicitation: fn %{"message" => "who?"} -> {:accept, %{}} end,
            roots: [%{"uri" => "file:///tmp"}],
            sampling: fn _params, %{client: _} -> {:ok, %{"role" => "assistant"}} end
          )

        assert text(call(client, "ask", %{kind: "elicitation"})) =~ ~s("name": "Ann")
        assert text(call(client, "ask", %{kind: "roots"})) =~ "file:///tmp"
        assert text(call(client, "ask", %{kind: "sampling"})) =~ "assistant"
      end

      test "decline without a handler, after a crash and after the limit (#{inspect(way)})" do
        assert text(call(start!(unquote(way)), "ask", %{kind: "elicitation"})) =~ ~s("decline")

        late =
          start!(unquote(way),
            elicitation: fn _ -> Process.sleep(:infinity) end,
            handler_timeout_ms: 50
          )

        assert text(call(late, "ask", %{kind: "elicitation"})) =~ ~s("decline")

        crash = start!(unquote(way), elicitation: fn _ -> exit(:oops) end)
        assert text(call(crash, "ask", %{kind: "elicitation"})) =~ ~s("decline")
      end
    end
  end

  describe "servers" do
    test "exit status and stderr are in the error" do
      Process.flag(:trap_exit, true)
      client = start!()
      assert {:error, {:server_down, info} = reason} = call(client, "exit")
      assert info.exit_status == 3
      assert Exception.message(Codex.Error.normalize(reason)) =~ "out of cheese"
      assert_receive {:EXIT, ^client, {:shutdown, {:server_down, _}}}, 5_000
    end

    test "are started again as often as allowed" do
      client = start!([], max_restarts: 1)
      assert {:error, {:server_down, _}} = call(client, "exit")
      assert text(call(client, "echo", %{text: "again"})) == "again"
    end

    test "print noise, and notify before they answer" do
      client = start!(["noise", "early"])
      assert text(call(client, "echo", %{text: "x"})) == "x"
    end

    test "that never read or answer are too late" do
      assert {:error, :timeout} = start(["deaf"], timeout_ms: 300, probe_ms: 100)
    end

    test "leave no process, even if they ignore the end of their input" do
      client = start!(["ignores_eof", "child"])
      {:ok, os_pid} = Client.os_pid(client)
      {children, 0} = System.cmd("pgrep", ["-P", "#{os_pid}"])
      :ok = Client.stop(client)
      for pid <- [os_pid | String.split(children)], do: gone!(pid)
    end

    test "leave no process if the VM is killed in mid-call" do
      script = """
      {:ok, client} = Codex.MCP.Client.start_link(command: ["python3", #{inspect(@server)}, "child"])
      {:ok, os_pid} = Codex.MCP.Client.os_pid(client)
      IO.puts("server \#{os_pid}")
      Codex.MCP.Client.call_tool(client, "slow", %{s: 1000}, timeout_ms: :infinity)
      """

      port = OtherVM.start(script)
      assert_receive {^port, {:data, {:eol, "pid " <> vm}}}, 60_000
      assert_receive {^port, {:data, {:eol, "server " <> os_pid}}}, 60_000
      {children, 0} = System.cmd("pgrep", ["-P", os_pid])
      {_, 0} = System.cmd("kill", ["-KILL", vm])
      for pid <- [os_pid | String.split(children)], do: gone!(pid)
    end

    test "wait for a subscriber that sleeps" do
      client = start!([], max_queue: 50)
      me = self()

      sleeper =
        spawn_link(fn ->
          :ok = Client.subscribe(client)
          send(me, :subscribed)
          Process.sleep(:infinity)
        end)

      assert_receive :subscribed, 5_000
      {:ok, _} = call(client, "flood", %{n: 20_000, size: 10_000})
      Process.sleep(1_000)
      {:message_queue_len, length} = Process.info(sleeper, :message_queue_len)
      assert length < 2_000
    end

    test "a missing program is named" do
      assert {:error, {:command_not_found, "no-such-program"}} =
               Client.start_link(command: "no-such-program")

      assert {:error, :missing_command} = Client.start_link([])
    end

    test "the environment is an allow-list" do
      System.put_env("MCP_TEST_SECRET", "1")
      {:ok, {_, arg}} = Transport.Stdio.opener(command: "sh", env: %{"A" => "b"})
      refute Map.has_key?(arg.env, "MCP_TEST_SECRET")
      assert arg.env["A"] == "b"
      {:ok, {_, arg}} = Transport.Stdio.opener(command: "sh", env_vars: ["MCP_TEST_SECRET"])
      assert arg.env["MCP_TEST_SECRET"] == "1"
    end
  end
end
