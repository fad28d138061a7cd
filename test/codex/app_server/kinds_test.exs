defmodule Codex.AppServer.KindsTest do
  # Items and notifications that only an app-server has, from the real one.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Test.Steps
  alias Codex.{AppServer, Events, Items, Test, Thread}

  @moduletag :codex_cli
  @moduletag :cli_pin

  defp run(steps, options, more \\ []) do
    model = Test.start!(steps, more)
    conn = connect!(model, experimental_api: true)
    {:ok, result} = Thread.run(thread!(model, conn, options), "go")
    result
  end

  defp items(result, module),
    do: for(%Events.ItemCompleted{item: %{__struct__: ^module} = item} <- result.events, do: item)

  test "hooks, and their texts for the model" do
    hook = fn command -> [%{"hooks" => [%{"type" => "command", "command" => command}]}] end

    hooks = %{
      "Stop" =>
        hook.(
          ~S(grep -q '"stop_hook_active":true' || echo '{"decision":"block","reason":"Go on."}')
        )
    }

    config = %{"hooks" => hooks, "bypass_hook_trust" => true}
    result = run(["First.", "Second."], config: config)
    assert [_ | _] = started = for(%Events.HookStarted{run: run} <- result.events, do: run)
    assert Enum.all?(started, &(&1["eventName"] == "stop" and &1["status"] == "running"))
    ended = for %Events.HookCompleted{run: run} <- result.events, do: run["status"]
    assert ended == ["blocked", "completed"]
    assert [%{fragments: [%{"text" => "Go on."}], extra: extra}] = items(result, Items.HookPrompt)
    assert extra == %{}
    assert result.final_response.text == "Second."
  end

  test "sub-agents of the second version, and a pause" do
    collaboration = &tool_call(&1, &2, namespace: "collaboration")

    steps = [
      collaboration.("spawn_agent", %{task_name: "look", message: "Look"}),
      collaboration.("wait_agent", %{timeout_ms: 15_000}),
      tool_call("sleep", %{duration_ms: 20}, namespace: "clock"),
      "Done."
    ]

    features = %{
      "multi_agent_v2" => true,
      "current_time_reminder" => %{"enabled" => true, "sleep_tool" => true}
    }

    rule = [header: {"x-openai-subagent", "collab_spawn"}, times: :infinity, step: "Found it."]
    options = [children: true, config: %{"features" => features}]
    result = run(steps, options, rules: [rule])

    assert [%{kind: "started", agent_path: path} | _] = items(result, Items.SubAgentActivity)
    assert path =~ "look"

    assert [%{agent_path: ^path, model: "codex-test", status: "completed"} = child] =
             result.children

    assert child.usage["total_tokens"] == 120
    assert child.parent_thread_id == result.thread.thread_id
    assert [%Items.Sleep{duration_ms: 20}] = items(result, Items.Sleep)
  end

  test "what happens to a thread" do
    model = Test.start!(["Done."])
    conn = connect!(model, experimental_api: true)
    {:ok, %{thread: %{thread_id: id}}} = Thread.run(thread!(model, conn), "go")
    :ok = AppServer.subscribe(conn, as: :structs, thread_id: id)
    {:ok, _} = AppServer.request(conn, "thread/name/set", %{threadId: id, name: "Ada"})
    {:ok, _} = AppServer.request(conn, "thread/archive", %{threadId: id})
    {:ok, _} = AppServer.request(conn, "thread/unarchive", %{threadId: id})
    assert_receive {:codex_event, ^conn, %Events.ThreadNameUpdated{thread_name: "Ada"}}, 20_000
    assert_receive {:codex_event, ^conn, %Events.ThreadArchived{thread_id: ^id} = event}, 20_000
    assert event.extra == %{}
    assert_receive {:codex_event, ^conn, %Events.ThreadUnarchived{thread_id: ^id}}, 20_000
  end

  test "what happens to files, processes and searches of a client" do
    model = Test.start!([])
    conn = connect!(model, experimental_api: true)
    :ok = AppServer.subscribe(conn, as: :structs)
    directory = model.workspace

    {:ok, _} = AppServer.request(conn, "fs/watch", %{watchId: "w", path: directory})
    File.write!(Path.join(directory, "new.txt"), "x")
    assert_receive {:codex_event, ^conn, %Events.FsChanged{watch_id: "w"} = changed}, 20_000
    assert Enum.any?(changed.changed_paths, &String.ends_with?(&1, "new.txt"))

    spawn = %{command: ["/bin/echo", "hi"], processHandle: "h", cwd: directory}
    spawn = Map.put(spawn, :streamStdoutStderr, true)
    {:ok, _} = AppServer.request(conn, "process/spawn", spawn)
    assert_receive {:codex_event, ^conn, %Events.ProcessOutputDelta{} = piece}, 20_000
    assert {piece.process_handle, Base.decode64!(piece.delta_base64)} == {"h", "hi\n"}
    assert_receive {:codex_event, ^conn, %Events.ProcessExited{exit_code: 0} = exited}, 20_000
    assert {exited.extra, exited.stdout_cap_reached} == {%{}, false}

    search = %{sessionId: "s", roots: [directory]}
    {:ok, _} = AppServer.request(conn, "fuzzyFileSearch/sessionStart", search)
    query = %{sessionId: "s", query: "new"}
    {:ok, _} = AppServer.request(conn, "fuzzyFileSearch/sessionUpdate", query)

    assert_receive {:codex_event, ^conn,
                    %Events.FuzzyFileSearchSessionUpdated{session_id: "s", files: [_ | _]}},
                   20_000
  end
end
