defmodule Codex.AppServer.ReconnectTest do
  # A connection that outlives its server, with the real one.
  use ExUnit.Case, async: true

  import Codex.Stub, only: [alive?: 1, eventually: 1, running: 1]
  import Codex.Connected
  import Codex.Test.Steps
  alias Codex.{AppServer, Events, Test, Thread}

  doctest Codex.AppServer.Reconnect

  @moduletag :tmp_dir

  defp connect(script, options) do
    model = Test.start!(script)
    {model, connect!(model, options)}
  end

  defp kill(conn) do
    os_pid = os_pid(conn)
    {_, 0} = System.cmd("kill", ["-KILL", to_string(os_pid)])
    os_pid
  end

  describe "a connection that is to reconnect" do
    @describetag :codex_cli

    test "notifies its subscribers, and continues under its pid with its threads" do
      {model, conn} = connect(["One.", "Two."], reconnect: [delay_ms: 300])
      {:ok, %{thread: thread}} = Thread.run(thread!(model, conn), "one")
      :ok = AppServer.subscribe(conn)
      old = kill(conn)

      assert_receive {:codex_connection, ^conn, {:down, {:app_server_down, info}}}, 5_000
      assert info.signal == :kill
      # Between two servers nothing waits.
      assert {:error, {:app_server_down, %{signal: :kill}}} = AppServer.model_list(conn)
      assert {:error, {:app_server_down, _}} = AppServer.server_info(conn)
      assert os_pid(conn) == nil

      assert_receive {:codex_connection, ^conn, :up}, 10_000
      assert {:ok, %{"codexHome" => _}} = AppServer.server_info(conn)
      refute os_pid(conn) in [nil, old]
      refute alive?(old)

      {:ok, result} = Thread.run(thread, "two")
      assert result.final_response.text == "Two."
      assert result.thread.thread_id == thread.thread_id
      # The subscription stayed.
      assert_received {:codex_notification, "turn/completed", _}
      refute_received {:codex_connection, _, _}
    end

    test "has a turn wait that begins between two servers, and a retry, too" do
      {model, conn} = connect(["One.", silence(:infinity), "Two."], reconnect: [delay_ms: 700])
      :ok = AppServer.subscribe(conn)
      kill(conn)
      assert_receive {:codex_connection, ^conn, {:down, _}}, 5_000
      assert {:ok, %{attempts: 1} = one} = Thread.run(thread!(model, conn), "one")
      assert one.final_response.text == "One."

      # Not more than the attempt that was lost, and the next one.
      task = Task.async(fn -> Thread.run(thread!(model, conn, retry: true), "two") end)
      assert eventually(fn -> length(Test.requests(model)) == 2 end)
      kill(conn)
      assert {:ok, %{attempts: 2} = two} = Task.await(task, 20_000)
      assert two.final_response.text == "Two."

      kill(conn)
      assert_receive {:codex_connection, ^conn, {:down, _}}, 5_000
      thread = thread!(model, conn, request_timeout_ms: 50)
      assert {:error, {:exec_failed, %{kind: kind}}} = Thread.run(thread, "three")
      # On a slow machine the next server is there already, and slow.
      assert kind in [:killed, :timeout]
    end

    test "leaves a turn that is cancelled while it waits, and starts nothing for it" do
      {model, conn} = connect([], reconnect: [delay_ms: 3_000])
      :ok = AppServer.subscribe(conn, methods: ["thread/started"])
      kill(conn)
      assert_receive {:codex_connection, ^conn, {:down, _}}, 5_000
      token = "cancel-#{System.unique_integer([:positive])}"
      thread = thread!(model, conn)
      task = Task.async(fn -> Thread.run(thread, "one", cancellation_token: token) end)
      assert eventually(fn -> Codex.Exec.cancel(token) == :ok end)
      assert {:error, {:exec_failed, %{kind: :interrupted}}} = Task.await(task, 2_000)
      assert_receive {:codex_connection, ^conn, :up}, 10_000
      refute_receive {:codex_notification, "thread/started", _}, 300
    end

    test "reports a closed request under its original id" do
      ask = shell("true", sandbox_permissions: "require_escalated", justification: "May I?")
      {model, conn} = connect([ask, "Done."], reconnect: true)
      :ok = AppServer.subscribe(conn)
      kill(conn)
      assert_receive {:codex_connection, ^conn, :up}, 10_000

      task =
        Task.async(fn ->
          Thread.run(thread!(model, conn, ask_for_approval: :on_request), "go")
        end)

      assert_receive {:codex_request, id, "item/commandExecution/requestApproval", _}, 10_000
      assert is_binary(id)
      assert AppServer.respond(conn, id, decision: :decline) == :ok
      assert_receive {:codex_notification, "serverRequest/resolved", %{"requestId" => ^id}}, 5_000
      assert {:ok, _} = Task.await(task, 10_000)
    end

    test "fails the running turn immediately, and retries it if the thread has retry on" do
      {model, conn} = connect([silence(:infinity), silence(:infinity), "Two."], reconnect: true)
      thread = thread!(model, conn)
      task = Task.async(fn -> Thread.run(thread, "one") end)
      assert eventually(fn -> length(Test.requests(model)) == 1 end)
      kill(conn)
      assert {:error, {:exec_failed, %{kind: :killed}}} = Task.await(task, 5_000)

      retry = [max_attempts: 20, base_delay_ms: 100, strategy: :constant]
      assert eventually(fn -> os_pid(conn) != nil end)
      thread = thread!(model, conn, retry: true, retry_opts: retry)
      task = Task.async(fn -> Thread.run(thread, "one") end)
      assert eventually(fn -> length(Test.requests(model)) == 2 end)
      kill(conn)
      assert {:ok, result} = Task.await(task, 20_000)
      assert result.final_response.text == "Two."
      assert result.attempts > 1
    end

    test "closes open requests, and accepts no later answer to them" do
      ask = shell("echo hi", sandbox_permissions: "require_escalated", justification: "May I?")
      {model, conn} = connect([ask, ask, "Done."], reconnect: true)
      :ok = AppServer.subscribe(conn, as: :structs)
      thread = thread!(model, conn, ask_for_approval: :on_request)
      task = Task.async(fn -> Thread.run(thread, "one") end)
      assert_receive {:codex_request, ^conn, %{token: token}}, 10_000
      kill(conn)
      assert_receive {:codex_request_closed, ^conn, ^token, :down}, 5_000
      assert {:error, {:exec_failed, %{kind: :killed}}} = Task.await(task, 5_000)
      assert_receive {:codex_connection, ^conn, :up}, 10_000

      # The new server counts its requests from 0 again.
      task = Task.async(fn -> Thread.run(thread, "two") end)
      assert_receive {:codex_request, ^conn, %{token: other}}, 10_000
      assert AppServer.answer(token, :allow) == {:error, {:request_closed, token}}
      assert AppServer.answer(other, :allow) == :ok
      assert {:ok, result} = Task.await(task, 20_000)

      assert [:completed] =
               for(
                 %Events.ItemCompleted{item: %Codex.Items.CommandExecution{} = item} <-
                   result.events,
                 do: item.status
               )
    end

    test "takes no answer by an id of the server before" do
      ask = &shell(&1, sandbox_permissions: "require_escalated", justification: "May I?")
      {model, conn} = connect([ask.("true"), ask.("rm x"), "Done."], reconnect: true)
      :ok = AppServer.subscribe(conn)
      thread = thread!(model, conn, ask_for_approval: :on_request)
      task = Task.async(fn -> Thread.run(thread, "one") end)
      assert_receive {:codex_request, 0, "item/commandExecution/requestApproval", _}, 10_000
      kill(conn)
      assert {:error, _} = Task.await(task, 5_000)
      assert_receive {:codex_connection, ^conn, :up}, 10_000

      task = Task.async(fn -> Thread.run(thread, "two") end)
      assert_receive {:codex_request, id, "item/commandExecution/requestApproval", _}, 10_000
      assert AppServer.respond(conn, 0, decision: :accept) == {:error, {:request_closed, 0}}
      assert {:ok, [%{id: ^id}]} = AppServer.pending(conn)
      assert AppServer.respond(conn, id, decision: :decline) == :ok
      assert {:ok, _} = Task.await(task, 20_000)
    end

    test "gives up after its attempts, and without any subscriber or caller" do
      {model, conn} = connect([], reconnect: [attempts: 2, delay_ms: 10])
      monitor = Process.monitor(conn)
      :ok = AppServer.subscribe(conn)
      # Nothing that a server could start with.
      File.rename!(model.home, model.home <> ".away")
      kill(conn)
      assert_receive {:codex_connection, ^conn, {:down, _}}, 5_000
      assert_receive {:DOWN, ^monitor, :process, _, {:shutdown, {:app_server_down, info}}}, 10_000
      assert %Codex.Config.Error{reason: :missing_home} = info.reason
      File.rename!(model.home <> ".away", model.home)

      owner = spawn(fn -> Process.sleep(:infinity) end)
      {model, conn} = connect([], reconnect: [delay_ms: 5_000], owner: owner)
      monitor = Process.monitor(conn)
      kill(conn)
      assert eventually(fn -> os_pid(conn) == nil end)
      Process.exit(owner, :kill)
      assert_receive {:DOWN, ^monitor, :process, _, :normal}, 5_000
      assert eventually(fn -> running(model.workspace) == [] end)
    end
  end

  test "a server that ends as soon as it is there counts as an attempt", %{tmp_dir: dir} do
    program =
      Codex.Stub.write!(dir, ~S(read hello; echo '{"id":0,"result":{}}'; sleep 0.05; exit 3))

    model = Test.start!([])
    client = Keyword.put(Test.options(model), :codex_path, program)
    client = Keyword.delete(client, :codex_path_override)
    reconnect = [attempts: 3, delay_ms: 10]
    {:ok, conn} = AppServer.connect(client, reconnect: reconnect)
    monitor = Process.monitor(conn)
    _ = AppServer.subscribe(conn)

    assert_receive {:DOWN, ^monitor, :process, _, {:shutdown, {:app_server_down, info}}}, 10_000
    assert info.exit_status == 3
    assert {:messages, messages} = Process.info(self(), :messages)
    assert Enum.count(messages, &match?({:codex_connection, _, :up}, &1)) <= 3
  end

  test "options are checked" do
    for bad <- [1, [tries: 1], [attempts: -1], [delay_ms: 0]] do
      assert {:error, %Codex.OptionError{key: :reconnect} = error} =
               AppServer.connect([], reconnect: bad)

      assert Exception.message(error) =~ ~r/a boolean, or|:attempts|:delay_ms/
    end
  end
end
