defmodule Codex.Thread.ServerFollowersTest do
  # Followers that are late, slow or on another node, and servers that stop, are lost or unknown.
  use ExUnit.Case, async: true

  import Codex.Test.Steps, only: [message: 1, silence: 1, tool_call: 2]

  alias Codex.{AppServer, Connected, Error, OptionError, OtherVM, Pool, Stub, Test}
  alias Codex.Thread.Server
  alias Codex.Thread.Server.{Followers, Log}

  @moduletag :codex_cli

  defp echo(%{body: %{"input" => input}}) do
    %{"content" => [%{"text" => text} | _]} = List.last(input)

    case text do
      "hang" <> _ ->
        silence(:infinity)

      "many " <> count ->
        pieces = for n <- 1..String.to_integer(count), do: "#{n} "
        {:item, elem(message(Enum.join(pieces)), 1), deltas: pieces}

      "long " <> count ->
        message(String.duplicate("x", String.to_integer(count)))

      text ->
        message("You said: " <> text)
    end
  end

  defp sent(model) do
    for %{path: "/v1/responses" <> _, body: %{"input" => input}} <- Test.requests(model) do
      %{"content" => [%{"text" => text} | _]} = List.last(input)
      text
    end
  end

  defp start(more \\ []) do
    model = Test.start!([], default: &echo/1)
    options = [client: Test.options(model), thread: Test.thread_options(model)]
    {model, start_supervised!({Server, Keyword.merge(options, more)}, id: make_ref())}
  end

  # Over a connection, the text comes in pieces.
  defp start_over(more) do
    model = Test.start!([], default: &echo/1)
    conn = Connected.connect!(model)
    thread = Test.thread_options(model) ++ [transport: {:app_server, conn}]
    {model, conn, start_supervised!({Server, [thread: thread] ++ more}, id: make_ref())}
  end

  defp eventually(fun), do: assert(Stub.eventually(fun, 60_000))
  defp status(server), do: elem({:ok, _} = Server.status(server), 1)
  defp await_turn(server), do: eventually(fn -> status(server).run == nil end)

  # All entries of a server from an offset on.
  defp read(server, from) do
    last = status(server).next - 1
    server |> Server.stream(from: from) |> Enum.reduce_while([], &collect(&1, &2, last))
  end

  defp collect({last, _} = entry, seen, last), do: {:halt, Enum.reverse([entry | seen])}
  defp collect(entry, seen, _last), do: {:cont, [entry | seen]}

  describe "the buffer" do
    test "keeps the newest entries; a late follower sees what was cut" do
      {_model, _conn, server} = start_over(buffer_events: 50)
      first = status(server).first
      {:ok, _} = Server.run(server, "many 200")
      %{first: kept, next: next} = status(server)
      assert next - kept == 50
      cut = kept - 1

      assert [{^cut, {:cut, ^first, ^cut}} | rest] = read(server, first)
      assert length(rest) == 50
      assert Enum.map(rest, &elem(&1, 0)) == Enum.to_list(kept..(next - 1))
      assert {_, {:ended, _, :ok}} = List.last(rest)
      assert read(server, :start) == rest
      assert read(server, kept + 10) == Enum.drop(rest, 10)

      # An offset that does not exist yet is the next one.
      {:ok, ref} = Server.follow(server, from: next + 1_000)
      {:ok, _} = Server.run(server, "two")
      assert_receive {:codex_thread, ^ref, [{^next, {:began, _, "two"}} | _]}, 10_000
    end

    test "is limited in bytes; the newest entry stays" do
      {_model, server} = start(buffer_bytes: 10_000)
      {:ok, _} = Server.run(server, "one")
      assert status(server).bytes < 10_000
      {:ok, _} = Server.run(server, "long 100000")
      %{bytes: bytes} = status(server)
      assert bytes < 10_000
      assert [{_, {:ended, _, :ok}}] = read(server, :start) |> Enum.take(-1)
      {:ok, _} = Server.submit(server, String.duplicate("y", 20_000))
      await_turn(server)
      assert status(server).bytes < 10_000
    end
  end

  describe "a slow follower" do
    test "has one message in its mailbox, and then sees what it has missed" do
      {_model, _conn, server} = start_over(buffer_events: 100)
      {:ok, ref} = Server.follow(server)
      {:ok, _} = Server.run(server, "many 2000")
      assert {:messages, [{:codex_thread, ^ref, entries}]} = Process.info(self(), :messages)
      assert length(entries) <= 64
      {last, _} = List.last(entries)
      %{first: kept} = status(server)
      assert kept > last + 1
      assert Server.ack(server, ref) == :ok
      cut = kept - 1
      from = last + 1
      # The message that was got, and the next one.
      assert_receive {:codex_thread, ^ref, ^entries}
      assert_receive {:codex_thread, ^ref, [{^cut, {:cut, ^from, ^cut}} | _]}, 10_000
      assert {:messages, []} = Process.info(self(), :messages)
    end

    test "gets messages of limited size, and the server's memory stays limited" do
      {_model, server} = start(buffer_bytes: 2_000_000)
      {:ok, ref} = Server.follow(server)
      for _ <- 1..5, do: {:ok, _} = Server.run(server, "long 300000")
      %{bytes: bytes, next: next} = status(server)
      assert bytes < 2_000_000
      :erlang.garbage_collect(server)
      {:memory, memory} = Process.info(server, :memory)
      {:binary, binaries} = Process.info(server, :binary)
      referenced = Enum.sum(for {_, size, _} <- binaries, do: size)
      assert memory + referenced < 4_000_000
      sizes = sizes(server, ref, next - 1, [])
      assert Enum.all?(sizes, fn {count, size} -> count == 1 or size < 100_000 end)
    end

    defp sizes(server, ref, last, sizes) do
      receive do
        {:codex_thread, ^ref, entries} ->
          Server.ack(server, ref)
          sizes = [{length(entries), :erlang.external_size(entries)} | sizes]
          {offset, _} = List.last(entries)
          if offset == last, do: sizes, else: sizes(server, ref, last, sizes)
      after
        10_000 -> flunk("no entries after #{inspect(sizes)}")
      end
    end

    test "holds up neither the turn nor others" do
      {_model, _conn, server} = start_over([])
      {:ok, slow} = Server.follow(server)
      reader = Task.async(fn -> Enum.find(Server.stream(server), &ended?/1) end)
      eventually(fn -> status(server).followers == 2 end)
      assert {:ok, _} = Server.run(server, "many 500")
      assert {_, {:ended, _, :ok}} = Task.await(reader, 60_000)
      assert_received {:codex_thread, ^slow, _}
      refute_received {:codex_thread, ^slow, _}
      # The reader has unfollowed.
      assert status(server).followers == 1
    end

    defp ended?({_offset, entry}), do: match?({:ended, _, _}, entry)
  end

  describe "over a server that is killed in mid-turn," do
    test "followers get the error, and the thread goes on with the next server of the pool" do
      model = Test.start!([], default: &echo/1)
      name = :"codex_pool_#{System.unique_integer([:positive])}"
      pool = [name: name, client: Test.options(model), server: [cwd: model.workspace]]
      start_supervised!({Pool, pool})
      thread = Test.thread_options(model) ++ [transport: {:pool, name}]
      lost(model, thread, fn -> Pool.stats(name) end)
    end

    test "followers get the error, and the thread goes on when the connection is back" do
      model = Test.start!([], default: &echo/1)
      name = :"codex_conn_#{System.unique_integer([:positive])}"

      options = [name: name, client: Test.options(model), cwd: model.workspace, reconnect: true]
      start_supervised!({AppServer, options})
      thread = Test.thread_options(model) ++ [transport: {:app_server, name}]
      lost(model, thread, fn -> {:ok, %{servers: [%{conn: name}]}} end)
    end

    defp lost(model, thread, servers) do
      server = start_supervised!({Server, [thread: thread]})
      {:ok, one} = Server.run(server, "one")
      {:ok, run} = Server.submit(server, "hang")
      eventually(fn -> List.last(sent(model)) == "hang" end)
      {:ok, %{servers: [%{conn: conn}]}} = servers.()
      os_pid = Connected.os_pid(conn)
      {_, 0} = System.cmd("kill", ["-KILL", to_string(os_pid)])

      assert {_, {:ended, ^run, {:error, error}}} =
               server |> Server.stream() |> Enum.find(&match?({_, {:ended, ^run, _}}, &1))

      assert error.kind in [:killed, :crashed]
      assert {:ok, two} = again(server, "two")
      assert two.thread.thread_id == one.thread.thread_id
      # The history is sent with it, and nothing was sent again.
      assert Enum.count(sent(model), &(&1 == "hang")) == 1
      assert %{body: %{"input" => input}} = List.last(Test.requests(model))
      assert inspect(input, limit: :infinity) =~ "You said: one"
    end

    # While the connection starts again, a turn cannot begin.
    defp again(server, prompt) do
      case Server.run(server, prompt) do
        {:ok, result} -> {:ok, result}
        {:error, _down} -> Process.sleep(50) && again(server, prompt)
      end
    end
  end

  describe "the end of a server" do
    test "comes when it is idle, and followers get why, after the last entries" do
      {_model, _conn, server} = start_over(idle_ms: 500)
      {:ok, ref} = Server.follow(server)
      {:ok, _} = Server.run(server, "many 300")
      assert_receive {:DOWN, ^ref, :process, ^server, {:shutdown, :idle}}, 30_000
      # It has confirmed nothing.
      assert_received {:codex_thread, ^ref, [{_, {:began, _, _}} | _]}
      assert_received {:codex_thread, ^ref, rest}
      assert {_, {:ended, _, :ok}} = List.last(rest)
      assert length(rest) <= 65
      refute_received {:codex_thread, ^ref, _}
      assert Server.run(server, "late") == {:error, {:no_thread_server, server}}
    end

    test "does not come while a turn runs or its functions are called" do
      {model, server} = start(idle_ms: 400)
      ref = Process.monitor(server)
      {:ok, _} = Server.submit(server, "hang")
      eventually(fn -> sent(model) == ["hang"] end)
      refute_receive {:DOWN, ^ref, _, _, _}, 1_000
      Server.interrupt(server)
      for _ <- 1..10, do: Process.sleep(100) && status(server)
      refute_received {:DOWN, ^ref, _, _, _}
      assert_receive {:DOWN, ^ref, _, _, {:shutdown, :idle}}, 30_000
    end

    test "interrupts the turn that runs, and drops those that wait" do
      {model, server} = start(queue: 1)
      running = Task.async(fn -> Server.run(server, "hang") end)
      eventually(fn -> sent(model) == ["hang"] end)
      waiting = Task.async(fn -> Server.run(server, "waits") end)
      eventually(fn -> match?(%{queued: [_]}, status(server)) end)
      {:ok, ref} = Server.follow(server, from: :now)
      assert [_ | _] = Stub.running(model.workspace)
      assert Server.stop(server) == :ok
      assert {:error, {:exec_failed, %{kind: :interrupted}}} = Task.await(running)
      assert {:error, {:exec_failed, %{kind: :interrupted}}} = Task.await(waiting)
      assert_received {:codex_thread, ^ref, [{_, {:ended, _, {:error, _}}} | _]}
      assert_receive {:DOWN, ^ref, :process, ^server, :normal}, 10_000
      eventually(fn -> Stub.running(model.workspace) == [] end)
      assert sent(model) == ["hang"]
      assert Server.stop(server) == {:error, {:no_thread_server, server}}
    end

    test "by a kill is an error of the calls that wait" do
      {model, server} = start()
      running = Task.async(fn -> Server.run(server, "hang") end)
      reading = Task.async(fn -> catch_error(Enum.to_list(Server.stream(server))) end)
      eventually(fn -> sent(model) == ["hang"] and status(server).followers == 1 end)
      Process.exit(server, :kill)
      assert {:error, {:exec_failed, error}} = Task.await(running)
      assert {error.kind, error.retryable?} == {:crashed, false}
      assert error.message =~ "the turn may have run"
      assert %Error{kind: :crashed} = Task.await(reading)
      eventually(fn -> Stub.running(model.workspace) == [] end)
    end

    test "without a server, calls are errors" do
      gone = spawn(fn -> :ok end)
      eventually(fn -> not Process.alive?(gone) end)

      for server <- [gone, :codex_nobody, {:global, make_ref()}] do
        for {:error, reason} <- [
              Server.run(server, "x"),
              Server.submit(server, "x"),
              Server.steer(server, "x"),
              Server.interrupt(server),
              Server.interrupt(server, make_ref()),
              Server.answer(server, "id", :allow),
              Server.follow(server),
              Server.status(server),
              Server.stop(server)
            ] do
          assert reason == {:no_thread_server, server}
          assert Error.normalize(reason).kind == :connection_refused
        end

        assert Server.ack(server, make_ref()) == :ok
        assert Server.unfollow(server, make_ref()) == :ok
        assert_raise Error, fn -> Enum.to_list(Server.stream(server)) end
      end

      for fun <- [&Server.run(&1, "x"), &Server.follow/1, &Server.ack(&1, make_ref())],
          do: assert({:error, %OptionError{key: :server}} = fun.("text"))

      assert {:error, %OptionError{key: :from}} = Server.follow(gone, from: -1)
      assert {:error, %OptionError{key: :fron}} = Server.follow(gone, fron: 1)
    end
  end

  describe "the state" do
    @tag :tmp_dir
    test "in a file is checked, and saved before the events of the turn", %{tmp_dir: dir} do
      path = Path.join(dir, "state.json")
      {_model, server} = start(state: path)
      {:ok, result} = Server.run(server, "one")
      id = result.thread.thread_id
      assert File.read!(path) == ~s({"codex_thread":"#{id}"}\n)
      assert Server.run(server, "two") |> elem(0) == :ok

      # A new thread of the same server.
      {:ok, _} = Server.run(server, "/new")
      %{thread_id: other} = status(server)
      assert other != id
      assert File.read!(path) == ~s({"codex_thread":"#{other}"}\n)

      for text <- ["[]", "text", ~s({"codex_thread":1})] do
        File.write!(path, text)
        assert {:error, %Error{kind: :config, message: message}} = Server.start_link(state: path)
        assert message =~ "state.json cannot be used: it holds no thread"
      end

      assert {:error, %Error{kind: :config}} = Server.start_link(state: dir)
    end

    @tag :tmp_dir
    test "that cannot be saved stops the turn", %{tmp_dir: dir} do
      {model, server} = start(state: Path.join(dir, "missing/state.json"))
      assert {:error, {:exec_failed, error}} = Server.run(server, "hang")
      assert error.kind == :config
      assert error.message =~ "state.json cannot be used: it cannot be written"
      assert status(server).run == nil
      eventually(fn -> Stub.running(model.workspace) == [] end)
    end

    test "by functions is loaded and saved" do
      {:ok, table} = Agent.start_link(fn -> nil end)
      state = {fn -> Agent.get(table, & &1) end, fn id -> Agent.update(table, fn _ -> id end) end}
      {model, server} = start(state: state)
      {:ok, result} = Server.run(server, "one")
      id = Agent.get(table, & &1)
      assert id == result.thread.thread_id

      options = [client: Test.options(model), thread: Test.thread_options(model), state: state]
      other = start_supervised!({Server, options}, id: :other)
      assert %{thread_id: ^id} = status(other)
      assert [{_, {:resumed, ^id}}] = read(other, :start)
      {:ok, result} = Server.run(other, "two")
      assert result.thread.thread_id == id

      for load <- [fn -> raise "no database" end, fn -> exit(:timeout) end, fn -> 1 end],
          do: assert({:error, %Error{kind: :config}} = Server.start_link(state: {load, & &1}))

      failing = {fn -> nil end, fn _id -> raise "no database" end}
      {_model, server} = start(state: failing)
      assert {:error, {:exec_failed, %{kind: :config} = error}} = Server.run(server, "one")
      assert error.message =~ "its second function failed: ** (RuntimeError) no database"
    end
  end

  describe "options" do
    test "are checked" do
      policy = fn _event -> :allow end

      for {options, path} <- [
            {[nmae: :x], [:nmae]},
            {[name: self()], [:name]},
            {[thread: [sandbx: 1]], [:thread, :sandbx]},
            {[client: [modle: 1]], [:client, :modle]},
            {[state: 1], [:state]},
            {[state: {policy, policy}], [:state]},
            {[resume: ""], [:resume]},
            {[idle_ms: 0], [:idle_ms]},
            {[buffer_events: 0], [:buffer_events]},
            {[approvals: :nobody], [:approvals]},
            {[approvals: :followers, thread: [approval_policy: policy]],
             [:thread, :approval_policy]}
          ],
          do: assert({:error, %OptionError{path: ^path}} = Server.start_link(options))

      assert {:error, {:unsupported_option, :request_handler}} =
               Server.start_link(thread: [request_handler: policy])
    end

    test "of a turn are checked when it runs; on_event gets its events" do
      {_model, server} = start()
      assert {:error, %OptionError{key: :modle}} = Server.run(server, "x", modle: "y")
      assert {:error, %OptionError{}} = Server.run(server, "x", [:y])
      {:ok, run} = Server.submit(server, "x", modle: "y")

      assert {_, {:ended, ^run, {:error, %Error{kind: :invalid_request}}}} =
               server |> Server.stream() |> Enum.find(&match?({_, {:ended, ^run, _}}, &1))

      test = self()
      on_event = &send(test, {:event, &1})
      {:ok, result} = Server.run(server, "x", on_event: on_event)
      for event <- result.events, do: assert_received({:event, ^event})

      assert {:error, {:exec_failed, %{kind: :interrupted}}} =
               Server.run(server, "x", turn_opts: [on_event: fn _ -> {:halt, :enough} end])
    end

    test "resume continues a thread" do
      {model, server} = start()
      {:ok, result} = Server.run(server, "one")
      id = result.thread.thread_id
      options = [client: Test.options(model), thread: Test.thread_options(model)]
      other = start_supervised!({Server, [resume: id] ++ options}, id: :other)
      {:ok, two} = Server.run(other, "two")
      assert two.thread.thread_id == id
      last = start_supervised!({Server, [resume: :last] ++ options}, id: :last)
      {:ok, three} = Server.run(last, "three")
      assert three.thread.thread_id == id
    end
  end

  describe "steering" do
    test "adds to the turn that runs" do
      model = Test.start!([silence(:infinity)], default: &echo/1)
      conn = Connected.connect!(model)
      thread = Test.thread_options(model) ++ [transport: {:app_server, conn}]
      server = start_supervised!({Server, [thread: thread]})
      assert Server.steer(server, "x") == {:error, :missing_thread_id}
      {:ok, run} = Server.submit(server, "one")
      eventually(fn -> length(sent(model)) == 1 end)
      assert Server.steer(server, "more") == :ok

      assert {_, {:steered, ^run, "more"}} =
               server |> Server.stream() |> Enum.find(&match?({_, {:steered, _, _}}, &1))

      assert Server.interrupt(server, run) == :ok
      await_turn(server)
    end

    test "is not supported on codex exec" do
      {model, server} = start()
      {:ok, _run} = Server.submit(server, "hang")
      eventually(fn -> sent(model) == ["hang"] end)
      assert Server.steer(server, "more") == {:error, {:unsupported, :exec}}
      Server.interrupt(server)
    end
  end

  test "followers answer questions of an app-server, and see that there was an answer" do
    options = for label <- ["A", "B"], do: %{label: label, description: label}
    question = %{id: "q", header: "Pick", question: "Which?", options: options}
    model = Test.start!([tool_call("request_user_input", %{questions: [question]}), "Then B."])
    conn = Connected.connect!(model, experimental_api: true)
    over = [transport: {:app_server, conn}, collaboration_mode: :plan]
    thread = Test.thread_options(model) ++ over
    server = start_supervised!({Server, thread: thread, approvals: :followers})
    task = Task.async(fn -> Server.run(server, "Which?") end)
    entries = Server.stream(server)
    {_, {:asked, id, asked}} = Enum.find(entries, &match?({_, {:asked, _, _}}, &1))
    assert %AppServer.Request.UserInput{questions: [%{question: "Which?"}]} = asked
    assert Server.answer(server, id, %{"q" => "B"}) == :ok
    assert {:ok, result} = Task.await(task, 60_000)
    assert to_string(result) == "Then B."
    assert {:answered, id, :given} in for({_, entry} <- read(server, :start), do: entry)
    assert inspect(List.last(Test.requests(model)).body, limit: :infinity) =~ ~s([\\"B\\"])
  end

  test "a follower on a busy node gets its message later" do
    log = Enum.reduce(1..3, Log.new(10, 1_000, 5), &Log.put(&2, &1))
    ref = make_ref()
    followers = Followers.add(%{}, self(), ref, 5, Log.new(10, 1_000, 5))
    busy = put_in(followers[ref].state, :busy)
    assert Followers.deliver(busy, log) == busy
    assert Followers.next(busy, ref, :reads, log) == busy
    assert %{^ref => %{state: :reads, next: 8}} = Followers.next(busy, ref, :busy, log)
    assert_received {:codex_thread, ^ref, [{5, 1}, {6, 2}, {7, 3}]}
  end

  describe "nodes:" do
    @tag :tmp_dir
    test "with a session store, a thread goes on in another home", %{tmp_dir: dir} do
      [here, there] = for _ <- 1..2, do: Test.start!([], default: &echo/1)
      store = [session_store: {Codex.SessionStore.File, path: Path.join(dir, "store")}]
      state = [state: Path.join(dir, "state.json")]

      options = fn model ->
        state ++ [client: Test.options(model), thread: Test.thread_options(model) ++ store]
      end

      {:ok, server} =
        DynamicSupervisor.start_child(
          start_supervised!(DynamicSupervisor),
          Supervisor.child_spec({Server, options.(here)}, restart: :temporary)
        )

      {:ok, one} = Server.run(server, "one")
      {:ok, _} = Server.submit(server, "hang")
      eventually(fn -> List.last(sent(here)) == "hang" end)
      Process.exit(server, :kill)
      eventually(fn -> Stub.running(here.workspace) == [] end)
      Test.stop(here)

      server = start_supervised!({Server, options.(there)})
      assert {:ok, two} = Server.run(server, "two")
      assert two.thread.thread_id == one.thread.thread_id
      assert sent(there) == ["two"]
      assert %{body: %{"input" => input}} = List.last(Test.requests(there))
      assert inspect(input, limit: :infinity) =~ "You said: one"
    end

    @tag :tmp_dir
    test "a follower on another node; a killed node, whose thread goes on here", %{tmp_dir: dir} do
      model = Test.start!([], default: &echo/1)
      {listens, asks, name} = OtherVM.nodes()
      state = Path.join(dir, "state.json")

      script = """
      {:ok, server} =
        Codex.Thread.Server.start_link(
          name: :codex_thread,
          client: #{OtherVM.client(model)},
          thread: #{inspect(Test.thread_options(model))},
          state: #{inspect(state)}
        )
      {:ok, result} = Codex.Thread.Server.run(server, "one")
      IO.puts("one \#{result.thread.thread_id}")
      Process.sleep(:infinity)
      """

      vm = OtherVM.start(script, listens)
      assert_receive {^vm, {:data, {:eol, "pid " <> os_pid}}}, 60_000
      on_exit(fn -> System.cmd("kill", ["-KILL", os_pid], stderr_to_stdout: true) end)
      assert_receive {^vm, {:data, {:eol, "one " <> id}}}, 60_000

      # The other node follows from the start, begins a turn, and loses the node in the middle.
      follower = """
      true = Node.connect(#{inspect(String.to_atom(name))})
      alias Codex.Thread.Server
      server = {:codex_thread, #{inspect(String.to_atom(name))}}
      {:ok, ref} = Server.follow(server)
      receive do
        {:codex_thread, ^ref, entries} ->
          for {_, {:ended, _, outcome}} <- entries, do: IO.puts("ended \#{outcome}")
          :ok = Server.ack(server, ref)
      end
      task = Task.async(fn -> Server.run(server, "hang") end)
      receive do
        {:codex_thread, ^ref, [{_, {:began, _, "hang"}} | _]} -> IO.puts("began hang")
      end
      receive do
        {:DOWN, ^ref, :process, _, reason} -> IO.puts("down \#{reason}")
      end
      {:error, {:exec_failed, error}} = Task.await(task)
      IO.puts("run \#{error.kind} \#{error.message}")
      IO.inspect(Server.status(server))
      """

      other = OtherVM.start(follower, asks)
      assert_receive {^other, {:data, {:eol, "pid " <> _}}}, 60_000
      assert_receive {^other, {:data, {:eol, "ended ok"}}}, 60_000
      assert_receive {^other, {:data, {:eol, "began hang"}}}, 60_000
      eventually(fn -> List.last(sent(model)) == "hang" end)
      assert [_ | _] = Stub.running(model.workspace)
      {_, 0} = System.cmd("kill", ["-KILL", os_pid])
      assert_receive {^other, {:data, {:eol, "down noconnection"}}}, 60_000
      assert_receive {^other, {:data, {:eol, "run crashed " <> words}}}, 60_000
      assert words =~ "the node #{name} is lost"
      assert_receive {^other, {:data, {:eol, "{:error, {:no_thread_server" <> _}}}, 60_000
      # The CLI ended with its node.
      eventually(fn -> Stub.running(model.workspace) == [] end)

      options = [client: Test.options(model), thread: Test.thread_options(model), state: state]
      server = start_supervised!({Server, options})
      assert %{thread_id: ^id} = status(server)
      assert {:ok, result} = Server.run(server, "two")
      assert result.thread.thread_id == id
      assert sent(model) == ["one", "hang", "two"]
      assert %{body: %{"input" => input}} = List.last(Test.requests(model))
      assert inspect(input, limit: :infinity) =~ "You said: one"
    end
  end
end
