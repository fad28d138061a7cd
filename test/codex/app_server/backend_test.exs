defmodule Codex.AppServer.BackendTest do
  # The requests and failures of a turn over a connection, without a server.
  use ExUnit.Case, async: true

  alias Codex.AppServer.{EventDecoder, ThreadParams}
  alias Codex.{Error, Events, Items}
  alias Codex.Options.{Merge, Table}
  alias Codex.Turn.Failure

  defp reach(thread, turn \\ []) do
    {:ok, thread} = Codex.Thread.Options.new(thread)
    {:ok, turn} = Table.check(:turn, turn)
    {:ok, client} = Codex.Options.new([])

    with {:ok, settings} <- Merge.settings(client, thread, turn),
         {:ok, sent} <- ThreadParams.new(settings, turn),
         {:ok, {turn, _experimental}} <- ThreadParams.turn(sent) do
      threads =
        for method <- ~w(thread/start thread/resume thread/fork), into: %{} do
          {:ok, {params, _experimental}} = ThreadParams.thread(sent, method)
          {method, params}
        end

      {:ok, %{threads: threads, turn: turn}}
    end
  end

  test "options are parameters of the thread and of the turn, or its configuration" do
    assert {:ok, %{threads: %{"thread/start" => none}, turn: none}} = reach([])
    assert none == %{}

    {:ok, sent} =
      reach(
        [
          cd: "/x",
          sandbox: :read_only,
          model: "m",
          model_verbosity: :low,
          enable: ["a"],
          disable: ["b"],
          mcp_servers: %{"x.y" => %{command: "c"}},
          config: %{"tools.web_search" => true},
          config_overrides: [~s(history.persistence="none"), "instructions=raw text"]
        ],
        effort: :low,
        output_schema: %{type: "object"}
      )

    assert sent.threads["thread/start"] == %{
             "cwd" => "/x",
             "sandbox" => "read-only",
             "model" => "m",
             "config" => %{
               "model_verbosity" => "low",
               "model_reasoning_effort" => "low",
               "features.a" => true,
               "features.b" => false,
               "mcp_servers" => %{"x.y" => %{"command" => "c"}},
               "tools.web_search" => true,
               "history.persistence" => "none",
               "instructions" => "raw text"
             }
           }

    assert sent.turn == %{
             "cwd" => "/x",
             "model" => "m",
             "effort" => "low",
             "outputSchema" => %{"type" => "object"}
           }

    {:ok, sent} = reach(full_auto: true, ephemeral: true, personality: :friendly)
    assert %{"sandbox" => "workspace-write", "ephemeral" => true} = sent.threads["thread/start"]
    assert %{"approvalPolicy" => "on-request"} = sent.turn
    # Each method gets what it has.
    refute is_map_key(sent.threads["thread/resume"], "ephemeral")
    assert %{"personality" => "friendly"} = sent.threads["thread/resume"]
    refute is_map_key(sent.threads["thread/fork"], "personality")

    {:ok, sent} = reach(sandbox_policy: [writable_roots: ["/y"], network_access: true])

    assert sent.turn["sandboxPolicy"] ==
             %{"type" => "workspaceWrite", "writableRoots" => ["/y"], "networkAccess" => true}

    {:ok, sent} = reach(dangerous: true, dangerously_bypass_approvals_and_sandbox: true)

    assert sent.threads["thread/start"] ==
             %{"sandbox" => "danger-full-access", "approvalPolicy" => "never"}
  end

  test "options that only a process of its own could have are named" do
    for {name, value} <- [
          profile: "p",
          isolation: :hermetic,
          additional_directories: ["/a"],
          worktree: true,
          oss: true,
          strict_config: true,
          color: :never,
          output_last_message: "/f",
          trust: true
        ] do
      assert reach([{name, value}]) == {:error, {:unsupported_option, name}}
    end

    for {name, value} <- [env: %{A: "1"}, clear_env?: true, exit_timeout_ms: 1, max_line_bytes: 9] do
      assert reach([], [{name, value}]) == {:error, {:unsupported_option, name}}
    end

    assert reach(ask_for_approval: :on_failure) ==
             {:error, {:unsupported_option, :ask_for_approval, :on_failure}}

    assert reach(sandbox: :external_sandbox) ==
             {:error, {:unsupported_option, :sandbox, :external_sandbox}}

    assert reach(dangerously_bypass_approvals_and_sandbox: true) ==
             {:error, {:dangerous, :dangerously_bypass_approvals_and_sandbox}}

    assert reach(request_max_retries: 1) == {:error, {:unsupported_option, :request_max_retries}}

    assert {:error, {:invalid_output_schema, {:not_encodable, _, _}}} =
             reach([], output_schema: %{a: self()})
  end

  test "a transport is a lane, with the connection's pid or name" do
    for ok <- [:exec, {:app_server, self()}, {:app_server, MyConn}, {:app_server, {:global, :x}}] do
      assert {:ok, %{transport: ^ok}} = Codex.Thread.Options.new(transport: ok)
    end

    for bad <- [:app_server, {:app_server, nil}, {:app_server, "x"}, {:other, self()}] do
      assert {:error, %Codex.OptionError{key: :transport, value: ^bad}} =
               Codex.Thread.Options.new(transport: bad)
    end

    {:ok, thread} = Codex.start_thread([], transport: {:app_server, NoSuchConn})
    assert {:error, {:exec_failed, %Error{kind: :crashed}}} = Codex.Thread.run(thread, "Hi")
    {:ok, stream} = Codex.Thread.run_turn_streamed(thread, "Hi")
    assert_raise Error, fn -> Stream.run(stream) end
    assert {:error, {:app_server_down, _}} = Codex.Thread.steer(%{thread | thread_id: "t"}, "x")
    assert Process.info(self(), :messages) == {:messages, []}
  end

  test "whatever a connection says of its end has a kind" do
    killed = {:app_server_down, %{exit_status: nil, signal: :kill, stderr: ""}}
    exited = {:app_server_down, %{exit_status: 3, signal: nil, stderr: "oh no"}}

    for {reason, kind} <- [
          {killed, :killed},
          {{:down, {:shutdown, killed}}, :killed},
          {exited, :crashed},
          {{:app_server_down, %{reason: :disconnected}}, :crashed},
          {{:app_server_down, %{reason: :anything}}, :crashed},
          {{:down, :killed}, :crashed},
          {:noproc, :crashed},
          {{:turn_running, "t", "u"}, :thread_busy},
          {{:experimental, ["a/b"]}, :unsupported},
          {{:overflow, :requests, 9}, :overflow},
          {{:thread_closed, "thread/closed"}, :protocol},
          {{:no_id, "turn/start", %{}}, :protocol},
          {:not_ready, :connection_refused},
          {%{"code" => -32600, "message" => "thread not found: x"}, :thread_not_found}
        ] do
      assert {^reason, %Error{kind: ^kind, message: message}} = {reason, Failure.error(reason)}

      assert is_binary(message)
    end

    assert %{exit_status: 137, signal: :kill} = Failure.error(killed)
    assert %{exit_status: 3, message: message, stderr: "oh no"} = Failure.error(exited)
    assert message =~ "oh no"

    closed = {:app_server_down, %{reason: {:closed, 1001, "going"}}}
    assert %{kind: :crashed, message: message} = Failure.error(closed)
    assert message == "the app-server closed the connection (1001): going"
  end

  test "malformed notifications arrive unchanged" do
    for {method, params} <- [
          {"item/started", %{}},
          {"item/started", %{"item" => %{}}},
          {"item/completed", %{"item" => %{"type" => "commandExecution"}}},
          {"thread/tokenUsage/updated", %{"tokenUsage" => nil}},
          {"error", %{"error" => nil, "x" => 1}},
          {"item/agentMessage/delta", %{"itemId" => 1}}
        ] do
      event = EventDecoder.decode(method, params)
      assert is_struct(event)

      if is_struct(event, Events.AppServerNotification),
        do: assert(event.params == params and event.method == method)
    end

    change = %{
      "path" => "/a",
      "kind" => %{"type" => "update", "move_path" => "/b"},
      "diff" => "d"
    }

    item = %{"type" => "fileChange", "id" => "i", "changes" => [change], "status" => "inProgress"}

    event =
      EventDecoder.decode("item/started", %{"item" => item, "threadId" => "t", "turnId" => "u"})

    assert %Events.ItemStarted{thread_id: "t", turn_id: "u", item: item} = event

    assert %Items.FileChange{status: :in_progress, changes: [change]} = item
    assert change == %{path: "/a", kind: :update, diff: "d", move_path: "/b"}
    new = %{"type" => "hologram", "id" => "s"}

    assert %{item: %Items.Unknown{raw: ^new}} =
             EventDecoder.decode("item/started", %{"item" => new})
  end

  test "a registry keeps undecided requests" do
    alias Codex.Approvals.Registry
    {:ok, pid} = Registry.start_link(name: __MODULE__.Registry)
    assert Registry.register(:a, %{x: 1}, pid) == :ok
    assert {:ok, %{x: 1, registered_at: at}} = Registry.lookup(:a, pid)
    assert is_integer(at)
    assert Registry.cleanup_expired(60_000, pid) == 0
    assert Registry.cleanup_expired(0, pid) == 1
    assert Registry.lookup(:a, pid) == {:error, :not_found}
    assert Registry.delete(:a, pid) == :ok
  end
end
