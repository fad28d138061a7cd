defmodule Codex.ThreadsTest do
  # Stored threads, with the real server.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Test.Steps
  alias Codex.{AppServer, Error, Recorder, Test, Thread, Threads}

  doctest Codex.AppServer.Compaction

  defp start(script, options \\ []) do
    model = Test.start!(script)
    conn = connect!(model, experimental_api: true)
    {model, conn, thread!(model, conn, options)}
  end

  # Messages of the user in the last request to the model.
  defp told(model) do
    %{body: %{"input" => input}} = model |> Test.requests() |> List.last()

    for %{"role" => "user", "content" => content} <- input,
        %{"text" => text} <- content,
        not String.starts_with?(text, "<"),
        do: text
  end

  describe "threads" do
    @describetag :codex_cli

    @tag :cli_pin
    test "are listed page by page, on demand" do
      {_model, conn, thread} = start(["1", "2", "3", "4", "5"])

      ids =
        for n <- 1..5 do
          {:ok, result} = Thread.run(thread, "thread #{n}")
          result.thread.thread_id
        end

      listed = Threads.list(conn, limit: 2)
      assert listed |> Enum.map(& &1["id"]) |> Enum.sort() == Enum.sort(ids)
      assert [%{"preview" => "thread" <> _}] = Enum.take(listed, 1)
      assert [_] = Enum.to_list(Threads.list(conn, search_term: "thread 3"))

      two = Enum.take(ids, 2)
      included = conn |> Threads.list(included_thread_ids: two) |> Enum.map(& &1["id"])
      assert Enum.sort(included) == Enum.sort(two)

      # A page has two; unread pages are not requested.
      page = [%{"id" => "1"}, %{"id" => "2"}]
      {:ok, recorder} = Recorder.start_link(answer: {:ok, %{"data" => page, "nextCursor" => "n"}})

      assert recorder |> Threads.list(limit: 2) |> Enum.take(2) == page
      assert_received {:request, "thread/list", %{"limit" => 2}, _}
      refute_received {:request, _, _, _}

      # A server that goes round in circles is left.
      assert recorder |> AppServer.pages("thread/list") |> Enum.to_list() == page ++ page
      # A thread that the server lists twice (after a revert) is listed once.
      assert recorder |> Threads.list() |> Enum.to_list() == page
    end

    test "are searched as the server finds them" do
      {_model, conn, thread} = start(["1", "2", "3"])
      {:ok, codex} = Test.codex_path()
      {:ok, version} = Codex.CLI.Program.version(codex)

      for text <- ["a pelican", "a heron", "two pelicans"],
          do: {:ok, _result} = Thread.run(thread, text)

      if Version.match?(version, ">= 0.171.0") do
        found = conn |> Threads.search("pelican") |> Enum.to_list()
        assert [%{"snippet" => snippet}, _] = found
        assert snippet =~ "pelican"
        ids = for %{"thread" => %{"id" => id}} <- found, do: id
        assert ids == Enum.uniq(ids)

        # Two searches at once; one is left early, and leaves no message and no subscription.
        assert [_one] = conn |> Threads.search("pelican") |> Enum.take(1)
        assert [_heron] = conn |> Threads.search("heron", limit: 1) |> Enum.to_list()

        # The server continues a page after the time of its last thread, so that a small page may
        # leave out a thread of the same second.
        paged =
          for %{"thread" => %{"id" => id}} <- Threads.search(conn, "pelican", limit: 1), do: id

        assert paged != [] and paged -- ids == []
        assert [] = conn |> Threads.search("flamingo") |> Enum.to_list()
        refute_received _message
      else
        error = assert_raise Error, fn -> conn |> Threads.search("pelican") |> Enum.to_list() end
        assert error.kind == :cli_unsupported
      end

      assert_raise Error, ~r/nosuch/, fn -> Threads.search(conn, "pelican", nosuch: 1) end
    end

    test "of every source are listed" do
      {model, conn, _thread} = start(["1"])
      {:ok, exec} = Codex.start_thread(Test.options(model), Test.thread_options(model))
      {:ok, %{thread: %{thread_id: id}}} = Thread.run(exec, "by codex exec")

      assert [%{"id" => ^id}] = Enum.to_list(Threads.list(conn))
      assert [%{"id" => ^id}] = Enum.to_list(Threads.list(conn, %{"cwd" => model.workspace}))
      assert Enum.to_list(Threads.list(conn, source_kinds: [:cli])) == []
      assert Enum.to_list(Threads.list(conn, %{"sourceKinds" => ["vscode"]})) == []
    end

    test "have turns and items" do
      {_model, _conn, thread} = start(["One.", "Two.", "Three."])

      thread =
        Enum.reduce(1..3, thread, fn n, thread ->
          {:ok, result} = Thread.run(thread, "say #{n}")
          result.thread
        end)

      assert [_, _, _] =
               turns = thread |> Threads.turns(limit: 1, sort_direction: :asc) |> Enum.to_list()

      assert Enum.all?(turns, &(&1["status"] == "completed"))

      texts = fn items -> for %{"item" => %{"text" => text}} <- items, do: text end
      assert thread |> Threads.items(limit: 2) |> texts.() == ["One.", "Two.", "Three."]
      [_, second, _] = turns
      assert thread |> Threads.items(turn_id: second["id"]) |> texts.() == ["Two."]
      assert {:ok, %{"preview" => "say 1"}} = Threads.read(thread)
    end

    test "that an older CLI wrote have items, too" do
      model = Test.start!(["And two."])
      id = "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"
      at = "2026-01-02T03:04:05.000Z"
      meta = %{id: id, timestamp: at, cwd: model.workspace, originator: "codex_exec"}
      meta = Map.merge(meta, %{cli_version: "0.80.0", source: "exec", model_provider: "mock"})
      said = fn type, text -> {"event_msg", %{type: type, message: text}} end

      lines =
        for {type, payload} <- [
              {"session_meta", meta},
              said.("user_message", "one?"),
              said.("agent_message", "One.")
            ],
            do: Codex.JSON.encode!(%{timestamp: at, type: type, payload: payload}) <> "\n"

      dir = Path.join(model.home, "sessions/2026/01/02")
      File.mkdir_p!(dir)
      File.write!(Path.join(dir, "rollout-2026-01-02T03-04-05-#{id}.jsonl"), lines)
      conn = connect!(model)

      assert [%{"id" => ^id, "historyMode" => "legacy"}] = Enum.to_list(Threads.list(conn))
      assert {:ok, _result} = Thread.run(%{thread!(model, conn) | thread_id: id}, "two?")

      words = fn options ->
        for %{"turnId" => turn, "item" => item} <- Threads.items({conn, id}, options) do
          assert is_binary(turn)
          item["text"] || hd(item["content"])["text"]
        end
      end

      assert words.([]) == ["one?", "One.", "two?", "And two."]
      assert words.(sort_direction: :desc) == ["And two.", "two?", "One.", "one?"]
      [_, second] = Enum.to_list(Threads.turns({conn, id}, sort_direction: :asc))
      assert words.(turn_id: second["id"]) == ["two?", "And two."]
    end

    test "without items say why" do
      {_model, conn, thread} = start(["One."], ephemeral: true)
      {:ok, result} = Thread.run(thread, "one")
      items = Threads.items(result.thread)
      assert_raise Error, ~r/ephemeral/, fn -> Enum.to_list(items) end

      items = Threads.items({conn, "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"})
      assert %Error{kind: :thread_not_found} = catch_error(Enum.to_list(items))
    end

    test "are forked at a turn, and reverted" do
      {model, conn, thread} = start(["1", "2", "3", "4", "5"])
      {:ok, first} = Thread.run(thread, "one")
      {:ok, second} = Thread.run(first.thread, "two")
      [turn, _] = second.thread |> Threads.turns(sort_direction: :asc) |> Enum.map(& &1["id"])

      {:ok, fork} = Threads.fork(second.thread, last_turn_id: turn)
      assert fork.thread_id != second.thread.thread_id
      {:ok, third} = Thread.run(fork, "three")
      assert third.thread.thread_id == fork.thread_id
      assert told(model) == ["one", "three"]

      # On another connection, which has it not loaded.
      AppServer.disconnect(conn)
      conn = connect!(model, experimental_api: true)

      [_, turn] =
        {conn, second.thread.thread_id}
        |> Threads.turns(sort_direction: :asc)
        |> Enum.map(& &1["id"])

      thread = %{second.thread | transport: {:app_server, conn}}
      assert {:ok, %{"id" => id}} = Threads.revert(thread, turn)
      assert id == second.thread.thread_id
      {:ok, _} = Thread.run(thread, "four")
      assert told(model) == ["one", "four"]
      assert {:error, %{"message" => _}} = Threads.revert(thread, "no-such-turn")
      assert {:ok, {^conn, forked}} = Threads.fork({conn, id})
      assert is_binary(forked)
    end

    test "are resumed from a file, or from a given history" do
      {model, conn, thread} = start(["1", "2", "3"])
      {:ok, first} = Thread.run(thread, "one")
      {:ok, %{"path" => path}} = Threads.read(first.thread)
      AppServer.disconnect(conn)
      conn = connect!(model, experimental_api: true)
      id = first.thread.thread_id

      assert {:ok, {^conn, ^id} = pair} = Threads.resume({conn, id}, path: path)
      assert {:ok, %{"path" => ^path}} = Threads.read(pair)
      {:ok, _} = Thread.run(%{first.thread | transport: {:app_server, conn}}, "two")
      assert told(model) == ["one", "two"]

      # The server refuses it for a thread that it has loaded.
      AppServer.disconnect(conn)
      conn = connect!(model, experimental_api: true)
      said = [%{type: "message", role: "user", content: [%{type: "input_text", text: "before"}]}]
      new = %{thread!(model, conn, []) | thread_id: id}
      assert {:ok, new} = Threads.resume(new, history: said)
      {:ok, _} = Thread.run(new, "three")
      assert told(model) == ["before", "three"]
    end

    test "are compacted, and failures are returned" do
      {model, conn, thread} =
        start(["One.", "The summary.", "Two.", http_error(400, "no summary"), silence(:infinity)])

      {:ok, result} = Thread.run(thread, "one")
      :ok = AppServer.subscribe(conn, methods: ["turn/completed"])
      assert Threads.compact(result.thread) == :ok
      # The subscription of the caller is its own.
      assert_received {:codex_notification, "turn/completed", _}
      {:ok, result} = Thread.run(result.thread, "two")
      assert inspect(told(model), printable_limit: :infinity) =~ "The summary."
      assert {:error, {:turn_failed, %Error{} = error}} = Threads.compact(result.thread)
      assert error.message =~ "no summary"

      task = Task.async(fn -> Thread.run(result.thread, "three") end)
      assert Codex.Stub.eventually(fn -> length(Test.requests(model)) == 5 end)
      id = result.thread.thread_id
      assert {:error, {:turn_running, ^id, turn}} = Threads.compact(result.thread)
      assert turn == :starting or is_binary(turn)
      assert Thread.interrupt(result.thread) == :ok
      assert {:error, {:exec_failed, %{kind: :interrupted}}} = Task.await(task)

      none = "00000000-0000-7000-8000-000000000000"
      assert {:error, %{"message" => _}} = Threads.compact({conn, none}, timeout_ms: 5_000)
    end

    test "that are compacted do not outlast their time, their caller or their server" do
      model = Test.start!(["One.", silence(:infinity), silence(:infinity), silence(:infinity)])
      conn = connect!(model, experimental_api: true, reconnect: [delay_ms: 50])
      {:ok, %{thread: thread}} = Thread.run(thread!(model, conn, []), "one")
      :ok = AppServer.subscribe(conn, methods: ["turn/completed"])

      ended = fn ->
        assert_receive {:codex_notification, "turn/completed", %{"turn" => turn}}, 10_000
        turn["status"]
      end

      own = fn -> map_size(:sys.get_state(conn).state.subscribers) end

      assert Threads.compact(thread, timeout_ms: 500) ==
               {:error, {:timeout, "thread/compact/start", 500}}

      assert ended.() == "interrupted"
      assert Codex.Stub.eventually(fn -> own.() == 1 end)

      caller = spawn(fn -> Threads.compact(thread) end)
      assert Codex.Stub.eventually(fn -> length(Test.requests(model)) == 3 end)
      Process.exit(caller, :kill)
      assert ended.() == "interrupted"
      assert Codex.Stub.eventually(fn -> own.() == 1 end)

      task = Task.async(fn -> Threads.compact(thread) end)
      assert Codex.Stub.eventually(fn -> length(Test.requests(model)) == 4 end)
      {_, 0} = System.cmd("kill", ["-9", to_string(GenServer.call(conn, :os_pid))])
      assert {:error, {:app_server_down, %{signal: :kill}}} = Task.await(task, 5_000)

      assert {:error,
              %Codex.OptionError{reason: :unknown, path: [:timeout], nearest: :timeout_ms}} =
               Threads.compact(thread, timeout: 1)
    end

    test "whose ids and names no server could read are errors, and the connection goes on" do
      {_model, conn, thread} = start(["One."])
      {:ok, %{thread: thread}} = Thread.run(thread, "one")
      bad = <<97, 255>>

      for call <- [
            fn -> Threads.rename(thread, bad) end,
            fn -> Threads.revert(thread, bad) end,
            fn -> Threads.read({conn, bad}) end,
            fn -> Threads.archive({conn, bad}) end,
            fn -> Threads.compact({conn, bad}) end,
            fn -> AppServer.request(conn, bad, %{}) end
          ],
          do: assert({:error, %Codex.OptionError{value: ^bad}} = call.())

      {:ok, thread} = Codex.resume_thread(bad, [], transport: {:app_server, conn})
      assert {:error, {:exec_failed, %Error{}}} = Thread.run(thread, "two")
      assert AppServer.alive?(conn)
    end

    test "are named, put away, taken back and deleted" do
      {_model, conn, thread} = start(["One.", "Two."])
      {:ok, %{thread: thread}} = Thread.run(thread, "one")
      assert Threads.rename(thread, "Mine") == :ok
      assert {:ok, %{"name" => "Mine"}} = Threads.read(thread)
      assert Threads.archive(thread) == :ok
      assert Enum.to_list(Threads.list(conn)) == []
      assert [%{"name" => "Mine"}] = Enum.to_list(Threads.list(conn, archived: true))
      assert {:error, %{"message" => _}} = Threads.rename(thread, "Yours")
      assert {:error, {:exec_failed, %Error{}}} = Thread.run(thread, "two")
      assert Threads.unarchive(thread) == :ok
      assert {:ok, _} = Thread.run(thread, "two")
      assert Threads.delete(thread) == :ok
      assert Enum.to_list(Threads.list(conn)) == []
    end

    test "work on a goal, which begins a turn by itself" do
      {_model, conn, thread} =
        start(["One.", tool_call("update_goal", %{status: "complete"}), "Done."])

      {:ok, %{thread: thread}} = Thread.run(thread, "one")
      assert Threads.goal(thread) == {:ok, nil}
      :ok = AppServer.subscribe(conn, methods: ["turn/completed"])
      assert {:ok, %{"objective" => "Two"}} = Threads.set_goal(thread, objective: "Two")
      assert_receive {:codex_notification, "turn/completed", _}, 10_000
      assert {:ok, %{"status" => "complete"}} = Threads.goal(thread)
      assert Threads.clear_goal(thread) == :ok
      assert Threads.goal(thread) == {:ok, nil}

      assert {:error, %Codex.OptionError{reason: :unknown, path: [:goal]}} =
               Threads.set_goal(thread, goal: "x")
    end

    test "run with other settings, until these are taken back" do
      {model, _conn, thread} = start(["1", "2", "3"])
      effort = fn -> List.last(Test.requests(model)).body["reasoning"]["effort"] end
      {:ok, %{thread: thread}} = Thread.run(thread, "one")
      default = effort.()
      assert Threads.update_settings(thread, effort: :high) == :ok
      {:ok, %{thread: thread}} = Thread.run(thread, "two")
      assert {effort.(), default} == {"high", "medium"}
      assert Threads.update_settings(thread, effort: :default) == :ok
      {:ok, _} = Thread.run(thread, "three")
      assert effort.() == default
    end
  end

  test "without a server, or a beginning, are errors" do
    {:ok, exec} = Codex.start_thread()
    {:ok, new} = Codex.start_thread([], transport: {:app_server, self()})

    for call <- [
          &Threads.read/1,
          &Threads.archive/1,
          &Threads.goal/1,
          &Threads.compact/1,
          &Threads.fork/1,
          &Threads.revert(&1, "t"),
          &Threads.set_goal(&1, objective: "x"),
          &Threads.update_settings(&1, effort: :default)
        ] do
      assert call.(exec) == {:error, {:unsupported, :exec}}
      assert call.(new) == {:error, :missing_thread_id}
    end

    for call <- [
          &Threads.fork/2,
          &Threads.set_goal/2,
          &Threads.update_settings/2,
          &Threads.resume/2
        ],
        do:
          assert(
            {:error, %Codex.OptionError{reason: :not_options, value: :odd}} =
              call.({self(), "t"}, :odd)
          )

    assert {:error, %Codex.OptionError{path: [:effort], value: :default}} =
             Threads.update_settings({self(), "t"}, effort: :default, collaboration_mode: %{})

    # A server that answers nothing.
    silent = spawn(fn -> Process.sleep(:infinity) end)
    monitor = Process.monitor(silent)
    task = Task.async(fn -> Threads.compact({silent, "t"}, timeout_ms: 50) end)
    Process.exit(silent, :kill)
    assert_receive {:DOWN, ^monitor, _, _, _}
    assert {:error, {:app_server_down, _}} = Task.await(task)

    assert {:error, %Codex.OptionError{path: [:thread], value: "abc"}} = Threads.delete("abc")
    assert_raise Error, ~r/needs a thread over an app-server/, fn -> Threads.turns(exec) end

    assert_raise Error, ~r/must be a Codex.Thread.*got: "abc"/, fn ->
      for thread <- ["abc"], do: Threads.items(thread)
    end

    assert_raise Error, ~r/limt/, fn -> Threads.list(self(), limt: 1) end
    assert_raise Error, fn -> Threads.list(self(), :odd) end

    dead = spawn(fn -> :ok end)
    assert_raise Error, fn -> Enum.to_list(Threads.list(dead)) end
  end
end
