defmodule Codex.AppServer.TokensTest do
  # Requests of the server, answered by their token: later, by another process, by another node, or
  # by nobody; and subscriptions with structs.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Test.Steps
  alias Codex.{AppServer, Events, Items, OtherVM, Test, Thread}
  alias Codex.AppServer.Request

  @moduletag :codex_cli

  defp ask(command),
    do: shell(command, sandbox_permissions: "require_escalated", justification: "May I?")

  defp connect(script, connect \\ []) do
    model = Test.start!(script)
    {model, connect!(model, connect)}
  end

  defp thread(model, conn, options),
    do: thread!(model, conn, [ask_for_approval: :on_request] ++ options)

  defp statuses(result) do
    for %Events.ItemCompleted{item: %Items.CommandExecution{status: status}} <- result.events,
        do: status
  end

  defp run(thread), do: Task.async(fn -> Thread.run(thread, "go") end)

  test "subscribers get structs of events and requests, and a message when a request is closed" do
    {model, conn} = connect([ask("echo hi"), "Done."])
    assert AppServer.subscribe(conn, as: :structs) == :ok
    task = run(thread(model, conn, []))

    assert_receive {:codex_request, ^conn, %Request.CommandApproval{} = request}, 10_000
    assert request.command =~ "echo hi"
    assert %{reason: "May I?", method: "item/commandExecution/requestApproval"} = request
    assert request.params["itemId"] == request.item_id
    left = DateTime.diff(request.expires_at, DateTime.utc_now(), :millisecond)
    assert left in 1..300_000

    # No answer, and then one.
    for {answer, shown} <- [
          {:perhaps, :perhaps},
          {{:allow, for_sesion: true}, {:allow, [:for_sesion]}},
          {"a secret", "[redacted]"}
        ] do
      assert {:error,
              %Codex.OptionError{path: [:answer], value: ^shown, expected: "a decision" <> _}} =
               AppServer.answer(request, answer)
    end

    assert {:error, %Codex.OptionError{path: [:token], value: nil}} =
             AppServer.answer(nil, :allow)

    # Whoever has the token may be anybody.
    assert Task.await(Task.async(fn -> AppServer.answer(request.token, :allow) end)) == :ok
    token = request.token
    assert_receive {:codex_request_closed, ^conn, ^token, :answered}
    assert AppServer.answer(token, :allow) == {:error, {:request_closed, token}}

    assert {:ok, result} = Task.await(task, 20_000)
    assert statuses(result) == [:completed]
    assert_received {:codex_event, ^conn, %Events.TurnStarted{}}
    assert_received {:codex_event, ^conn, %Events.ItemStarted{item: %Items.CommandExecution{}}}
    assert_received {:codex_event, ^conn, %Events.ItemAgentMessageDelta{}}
    assert_received {:codex_event, ^conn, %Events.TurnCompleted{status: "completed"}}

    assert_received {:codex_event, ^conn, %Events.ThreadStatusChanged{status: %{"type" => _}}}

    refute_received {:codex_notification, _, _}
  end

  test "closings come to subscribers of other methods, and not to those of another thread" do
    {model, conn} = connect([ask("echo hi"), "Done."])
    test = self()

    task =
      run(thread(model, conn, request_handler: fn request -> send(test, request) && :later end))

    assert_receive %Request.CommandApproval{token: token, thread_id: id}, 20_000

    other =
      Task.async(fn ->
        :ok = AppServer.subscribe(conn, as: :structs, methods: [], thread_id: "another")
        send(test, :subscribed)
        receive(do: ({:codex_request_closed, _, _, _} -> :told), after: (500 -> :nothing))
      end)

    assert_receive :subscribed, 5_000
    :ok = AppServer.subscribe(conn, as: :structs, methods: ["turn/started"], thread_id: id)
    assert AppServer.answer(token, :allow) == :ok
    assert_receive {:codex_request_closed, ^conn, ^token, :answered}, 5_000
    assert {:ok, _} = Task.await(task, 20_000)
    assert Task.await(other) == :nothing
    refute_received {:codex_event, _, _}
  end

  test "a policy hands the token on, and the turn waits as long as its clocks for approvals do not matter" do
    {model, conn} = connect([ask("echo hi"), "Done."])
    test = self()

    policy = fn event ->
      send(test, {:later, event.token, event.expires_at})
      :later
    end

    task =
      run(
        thread(model, conn,
          approval_policy: policy,
          approval_timeout_ms: 1_000,
          idle_timeout_ms: 5_000
        )
      )

    assert_receive {:later, token, %DateTime{}}, 20_000
    # Longer than any clock of the thread.
    refute_receive {_ref, _result}, 5_500
    assert AppServer.answer(token, {:deny, "not now"}) == :ok
    assert {:ok, result} = Task.await(task, 20_000)
    assert statuses(result) == [:declined]
  end

  test "a request without an answer in time is declined, also if all subscribers die" do
    {model, conn} = connect([ask("echo 1"), ask("echo 2"), "Done."], answer_timeout_ms: 300)
    test = self()

    subscriber =
      spawn(fn ->
        :ok = AppServer.subscribe(conn, as: :structs)
        send(test, :ready)

        for n <- 1..2 do
          receive do
            {:codex_request, _, request} -> send(test, {:asked, n, request.token})
          end

          receive do
            {:codex_request_closed, _, token, why} -> send(test, {:closed, token, why})
          end
        end
      end)

    assert_receive :ready, 5_000
    # Not followed by a reader: only the subscriber can answer.
    {:ok, %{"thread" => %{"id" => id}}} =
      AppServer.thread_start(conn, approval_policy: :on_request)

    :ok = AppServer.subscribe(conn, methods: ["item/completed", "turn/completed"])
    {:ok, _} = AppServer.turn_start(conn, id, "go")
    assert_receive {:asked, 1, token}, 10_000
    assert_receive {:closed, ^token, :expired}, 5_000
    assert_receive {:asked, 2, token}, 10_000
    Process.exit(subscriber, :kill)
    assert_receive {:codex_notification, "turn/completed", _}, 10_000
    assert AppServer.answer(token, :allow) == {:error, {:request_closed, token}}

    assert ["declined", "declined"] = declined([])
    assert model.pid |> Test.remaining() == 0
  end

  defp declined(statuses) do
    receive do
      {:codex_notification, "item/completed", %{"item" => %{"type" => "commandExecution"} = item}} ->
        declined([item["status"] | statuses])

      {:codex_notification, _, _} ->
        declined(statuses)
    after
      0 -> statuses
    end
  end

  test "a reader that answers nothing does not keep a question open for a subscriber that died" do
    {model, conn} = connect([ask("echo 1"), "Done."])
    test = self()

    subscriber =
      spawn(fn ->
        :ok = AppServer.subscribe(conn, as: :structs)
        send(test, :ready)
        receive do: ({:codex_request, _, _} -> send(test, :asked))
        Process.sleep(:infinity)
      end)

    assert_receive :ready, 5_000
    task = run(thread(model, conn, []))
    assert_receive :asked, 10_000
    Process.exit(subscriber, :kill)
    assert {:ok, result} = Task.await(task, 10_000)
    assert statuses(result) == [:declined]
  end

  test "an unsubscribed process gets no more messages" do
    {model, conn} = connect([ask("echo 1"), "Done."])
    :ok = AppServer.subscribe(conn, as: :structs)
    task = run(thread(model, conn, []))
    assert_receive {:codex_request, _, %{token: token}}, 10_000
    :ok = AppServer.unsubscribe(conn)
    assert AppServer.answer(token, :allow) == :ok
    assert {:ok, _} = Task.await(task, 10_000)
    refute_received {:codex_request_closed, _, _, _}
  end

  test "a policy that traps exits ends with its reader all the same" do
    {model, conn} = connect([ask("echo 1"), "Done."])
    test = self()

    policy = fn _event ->
      Process.flag(:trap_exit, true)
      send(test, {:deciding, self()})
      Process.sleep(:infinity)
    end

    thread = thread(model, conn, approval_policy: policy)
    reader = spawn(fn -> Thread.run(thread, "go") end)
    assert_receive {:deciding, pid}, 10_000
    monitor = Process.monitor(pid)
    # The answer comes after the monitor has reached the process.
    assert Process.alive?(pid)
    Process.exit(reader, :kill)
    # Ended, if it had not ended already.
    assert_receive {:DOWN, ^monitor, :process, _, reason} when reason in [:killed, :noproc],
                   20_000
  end

  test "an answer comes from another node" do
    {listens, asks, name} = OtherVM.nodes()
    model = Test.start!([ask("echo hi"), "Done."])
    options = Test.thread_options(model) ++ [ask_for_approval: :on_request]

    script = """
    {:ok, conn} = Codex.AppServer.connect(#{OtherVM.client(model)}, cwd: #{inspect(model.workspace)})
    policy = fn event -> IO.puts("token " <> event.token); :later end
    options = #{inspect(options)} ++ [transport: {:app_server, conn}, approval_policy: policy]
    {:ok, thread} = Codex.start_thread(#{OtherVM.client(model)}, options)
    {:ok, result} = Codex.Thread.run(thread, "go")
    for %Codex.Events.ItemCompleted{item: %{status: status}} <- result.events, do: IO.puts("status \#{status}")
    """

    vm = OtherVM.start(script, listens)
    assert_receive {^vm, {:data, {:eol, "token " <> token}}}, 30_000
    assert String.ends_with?(token, "@" <> name)

    # This node knows nobody of that name; another one does.
    assert AppServer.answer(token, :allow) == {:error, {:unreachable, name}}

    answer = """
    true = Node.connect(:"#{name}")
    IO.inspect(Codex.AppServer.answer(#{inspect(token)}, :allow), width: :infinity)
    IO.inspect(Codex.AppServer.answer(#{inspect(token)}, :allow), width: :infinity)
    """

    assert {output, 0} = OtherVM.run(answer, asks)
    assert output == ":ok\n{:error, {:request_closed, #{inspect(token)}}}\n"
    assert_receive {^vm, {:data, {:eol, "status completed"}}}, 20_000
  end

  test "an invalid token counts as closed" do
    for token <- ["", "abc", "abc@" <> Atom.to_string(node())],
        do: assert(AppServer.answer(token, :allow) == {:error, {:request_closed, token}})

    assert AppServer.answer("abc@nowhere", :allow) == {:error, {:unreachable, "nowhere"}}
  end
end
