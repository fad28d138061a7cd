defmodule Codex.SessionStore.LiveTest do
  # Turns of the real CLI on all transports, mirrored while they run and resumed in other homes.
  use ExUnit.Case, async: true

  import Codex.Connected, only: [connect!: 1, connect!: 2]
  import Codex.Mirrored
  import Codex.Tailing, only: [eventually: 1]
  import Codex.Test.Steps

  alias Codex.{AppServer, OtherVM, Pool, Sessions, SessionStore, Test, Thread, Threads}

  @moduletag :codex_cli
  @moduletag :tmp_dir
  @moduletag timeout: 180_000

  # A loaded machine may need longer than the defaults to start.
  @calm [flush_ms: 60_000]

  defp transport(:exec, _model), do: []
  defp transport(:app_server, model), do: [transport: {:app_server, connect!(model)}]

  defp transport(:pool, model) do
    name = :"codex_pool_#{System.unique_integer([:positive])}"
    opts = [name: name, client: Test.options(model), server: [cwd: model.workspace]]
    start_supervised!({Pool, opts}, id: name)
    [transport: {:pool, name}]
  end

  defp client(:pool, _model), do: []
  defp client(_transport, model), do: Test.options(model)

  defp thread!(kind, model, store, id \\ nil) do
    options = Test.thread_options(model) ++ transport(kind, model) ++ [session_store: store]

    {:ok, thread} =
      if id,
        do: Codex.resume_thread(id, client(kind, model), options),
        else: Codex.start_thread(client(kind, model), options)

    thread
  end

  for kind <- [:exec, :app_server, :pool] do
    test "#{kind}: a turn is mirrored byte by byte, and resumed in another home" do
      store = memory!(@calm)
      one = Test.start!([shell("echo one"), "first answer", "second answer"])
      thread = thread!(unquote(kind), one, store)
      {:ok, result} = Thread.run(thread, "first prompt")
      assert %{state: :current, error: nil, sent: sent} = result.mirror
      assert sent > 0
      refute Enum.any?(result.warnings, &(&1 =~ "session store"))
      id = result.thread.thread_id
      assert in_store(store, id) == in_home(one.home, id)

      assert {:ok, %{state: :current, behind: 0}} =
               SessionStore.status(store, id, codex_home: one.home)

      # The same node goes on.
      {:ok, result} = Thread.run(result.thread, "second prompt")
      assert %{state: :current, sent: more} = result.mirror
      assert in_store(store, id) == in_home(one.home, id)
      assert [bytes] = Map.values(in_store(store, id))
      assert byte_size(bytes) == sent + more

      two = Test.start!(["third answer"])
      assert in_home(two.home, id) == %{}
      {:ok, result} = Thread.run(thread!(unquote(kind), two, store, id), "third prompt")
      assert result.final_response.text == "third answer"
      assert result.thread.thread_id == id
      texts = texts(hd(Test.requests(two)))

      for text <- ["first prompt", "first answer", "second answer", "third prompt"],
          do: assert(text in texts)

      assert in_store(store, id) == in_home(two.home, id)
      [path] = Path.wildcard(Path.join(two.home, "sessions/**/*.jsonl"))
      assert Bitwise.band(File.stat!(path).mode, 0o777) == 0o600
      assert Path.wildcard(Path.join(two.home, "sessions/**/.codex-sdk-*"), match_dot: true) == []

      # Back on the first node, whose file is older, and which has closed the thread.
      close(unquote(kind), thread)
      assert {:ok, %{state: :current}} = SessionStore.status(store, id, codex_home: one.home)
      :ok = Test.push(one, "fourth answer")
      {:ok, result} = Thread.run(thread!(:exec, one, store, id), "fourth prompt")
      assert "third answer" in texts(List.last(Test.requests(one)))
      assert result.mirror.state == :current
      assert in_store(store, id) == in_home(one.home, id)
    end
  end

  defp close(:exec, _thread), do: :ok
  defp close(:app_server, %{transport: {_, conn}}), do: AppServer.disconnect(conn)
  defp close(:pool, %{transport: {_, pool}}), do: stop_supervised!(pool)

  test "a fork of a reverted thread comes with the history in other files" do
    store = memory!(@calm)
    one = Test.start!(for n <- 1..6, do: "answer #{n}")
    conn = connect!(one, experimental_api: true)
    stored = Test.thread_options(one) ++ [transport: {:app_server, conn}, session_store: store]

    # The parent runs without the store.
    {:ok, parent} =
      Codex.start_thread(
        Test.options(one),
        Test.thread_options(one) ++ [transport: {:app_server, conn}]
      )

    {:ok, %{thread: parent}} = Thread.run(parent, "one")
    {:ok, %{thread: parent, events: events}} = Thread.run(parent, "two")
    {:ok, _thread} = Threads.revert(parent, turn_id(events))
    {:ok, %{thread: parent}} = Thread.run(parent, "three")
    id = parent.thread_id
    assert map_size(in_home(one.home, id)) == 2
    {:ok, fork} = Codex.fork_thread(id, Test.options(one), stored)
    {:ok, %{thread: fork, mirror: mirror}} = Thread.run(fork, "four")
    assert mirror.state == :current
    assert in_store(store, fork.thread_id) == in_home(one.home, fork.thread_id)
    assert in_store(store, id) == in_home(one.home, id)
    AppServer.disconnect(conn)

    two = Test.start!(["answer 7", "answer 8"])
    assert {:ok, files} = SessionStore.materialise(store, fork.thread_id, codex_home: two.home)
    assert length(files) == 3 and Enum.all?(files, &(&1.state == :written))
    assert in_home(two.home, fork.thread_id) == in_home(one.home, fork.thread_id)

    {:ok, %{thread: %{thread_id: resumed}}} =
      Thread.run(thread!(:exec, two, store, fork.thread_id), "five")

    assert resumed == fork.thread_id
    texts = texts(List.last(Test.requests(two)))
    for text <- ~w(one three four five), do: assert(text in texts)
    refute "two" in texts

    # The parent itself, with its segments; and a fork in a home that has nothing of it.
    three = Test.start!(["answer 9"])

    {:ok, fork} =
      Codex.fork_thread(
        id,
        Test.options(three),
        Test.thread_options(three) ++ [session_store: store]
      )

    {:ok, %{mirror: %{state: :current}}} = Thread.run(fork, "six")
    texts = texts(List.last(Test.requests(three)))
    for text <- ~w(one three six), do: assert(text in texts)
    refute "two" in texts
  end

  defp turn_id(events), do: Enum.find_value(events, &Map.get(&1, :turn_id))

  defp unlocked?(path) do
    case Codex.FileSystem.lock(path) do
      {:ok, lock} -> Codex.FileSystem.unlock(lock) == :ok
      {:error, _held} -> false
    end
  end

  test "a VM is killed in mid-turn; another one sends the rest and goes on", %{tmp_dir: dir} do
    store = {SessionStore.File, path: Path.join(dir, "store")}
    one = Test.start!([shell("echo works"), silence(:infinity)])

    script = """
    client = #{OtherVM.client(one)}
    client = Keyword.update!(client, :env, &Map.new/1)
    options = #{inspect(Test.thread_options(one))} ++ [session_store: #{inspect(store)}]
    {:ok, thread} = Codex.start_thread(client, options)
    Codex.Thread.run(thread, "do it")
    """

    port = OtherVM.start(script)
    assert_receive {^port, {:data, {:eol, "pid " <> pid}}}, 60_000

    # The command has run: its output is in the second request.
    assert eventually(fn -> length(Test.requests(one)) == 2 end)
    {:ok, %{sessions: [%{id: id}]}} = Sessions.list(codex_home: one.home)
    assert eventually(fn -> match?({:ok, [_]}, SessionStore.files(store, id)) end)
    {_, 0} = System.cmd("kill", ["-9", pid])
    # The CLI ends with its VM.
    lock = Path.join(one.home, "thread-writer-locks/#{id}.lock")
    assert eventually(fn -> unlocked?(lock) end)
    [{name, _bytes}] = Enum.to_list(in_home(one.home, id))

    # As much was not mirrored as came in the last moments, and half a line.
    path = Path.wildcard(Path.join(one.home, "sessions/**/*.jsonl")) |> hd()
    File.write!(path, ~s({"timestamp":"2026), [:append])
    assert {:ok, %{state: :current}} = SessionStore.sync(store, id, codex_home: one.home)
    assert in_store(store, id)[name] <> ~s({"timestamp":"2026) == in_home(one.home, id)[name]

    two = Test.start!(["done"])
    {:ok, result} = Thread.run(thread!(:exec, two, store, id), "go on")
    assert result.mirror.state == :current
    assert "do it" in texts(hd(Test.requests(two)))

    # The first home has half a line where the other node went on: it does not count.
    assert {:ok, [%{state: :extended}]} =
             SessionStore.materialise(store, id, codex_home: one.home)

    assert in_home(one.home, id) == in_home(two.home, id)
  end
end
