defmodule Codex.RateLimit.GateTest do
  # Gates of accounts: in one VM, with processes that are killed, and over two nodes.
  use ExUnit.Case, async: false

  alias Codex.{OtherVM, Stub, Thread}
  alias Codex.Options.Merge
  alias Codex.RateLimit.Gate

  @moduletag :tmp_dir

  defp account, do: "test:#{System.unique_integer([:positive])}"

  test "a closed gate has a place for each run, in order, until it opens" do
    account = account()
    assert Gate.check(account) == :open
    :ok = Gate.close(account, 60_000)
    tickets = for _ <- 1..5, do: Gate.check(account)
    assert Enum.all?(tickets, fn {:wait, ms, _ticket} -> ms in 55_000..61_000 end)
    places = for {:wait, _ms, {_until, at}} <- tickets, do: at
    assert places == Enum.sort(places) and places == Enum.uniq(places)
    {:wait, _ms, ticket} = hd(tickets)
    assert {:wait, _ms, ^ticket} = Gate.check(account, ticket)

    # A shorter limit changes nothing, and another account goes on.
    :ok = Gate.close(account, 1)
    assert {:wait, ms, ^ticket} = Gate.check(account, ticket)
    assert ms > 50_000
    assert Gate.check(account()) == :open
  end

  test "an open gate lets a ticket pass, and new runs after those that wait" do
    account = account()
    :ok = Gate.close(account, 3_000)
    {:wait, _ms, ticket} = Gate.check(account)
    assert Stub.eventually(fn -> Gate.check(account, ticket) == :open end)
    assert Stub.eventually(fn -> Gate.check(account) == :open end)
    # A limit that comes later has a new line.
    :ok = Gate.close(account, 60_000)
    assert {:wait, _ms, other} = Gate.check(account, ticket)
    assert other != ticket
  end

  test "the death of a process opens no gate" do
    account = account()
    :ok = Gate.close(account, 600_000)

    for name <- [Gate, Codex.RateLimit.Store] do
      pid = Process.whereis(name)
      Process.exit(pid, :kill)
      assert Stub.eventually(fn -> Process.whereis(name) not in [nil, pid] end)
      # It has begun.
      _ = :sys.get_state(name)
      _ = :sys.get_state(Gate)
      assert {:wait, ms, {_until, _at}} = Gate.check(account)
      assert ms > 300_000
    end
  end

  test "a limit at job 10 of 200 stops all jobs once, and all finish", %{tmp_dir: dir} do
    jobs = for n <- 1..200, do: "job #{n}"
    client = [codex_path: Stub.limited!(dir, 3), codex_home: dir, api_key: account()]
    thread = [skip_git_repo_check: true]
    options = [client: client, thread: thread, max_concurrency: 6]

    results = jobs |> Codex.map(& &1, options) |> Enum.to_list()
    assert Enum.map(results, &to_string(&1.result)) == jobs
    assert Enum.all?(results, &(&1.status == :ok))

    # Only jobs that were running met the limit, once each; then nothing is sent until it resets.
    until = dir |> Path.join("until") |> File.read!() |> String.trim() |> String.to_integer()
    {before, rest} = Enum.split_with(Stub.sent(dir), fn {ms, _prompt} -> ms < until end)
    refused = Enum.count(results, &(&1.attempts == 2))
    assert refused in 1..6
    assert length(before) <= 9 + 6
    assert length(before) + length(rest) == 200 + refused
  end

  test "a single run asks for the gate", %{tmp_dir: dir} do
    key = account()
    stub = Stub.write!(dir, ~s(cat >/dev/null; echo "$turn"))

    {:ok, thread} =
      Codex.start_thread([codex_path: stub, codex_home: dir, api_key: key],
        skip_git_repo_check: true
      )

    settings = Merge.merge(thread.codex_opts, thread.thread_opts, %{})
    :ok = Gate.close(Codex.RateLimit.account(settings), 600_000)

    assert {:ok, _} = Thread.run(thread, "no gate")
    assert {:ok, _} = Thread.run(thread, "no gate", rate_limit: true)

    assert {:ok, _} =
             Thread.run(thread, "another account",
               rate_limit_opts: [shared: true, account: account()]
             )

    assert {:error, {:exec_failed, error}} =
             Thread.run(thread, "gate", rate_limit_opts: [shared: true])

    assert {error.kind, error.retry_after_ms > 500_000} == {:rate_limit, true}

    # A wait ends with the run.
    options = [rate_limit_opts: [shared: true, max_wait_ms: :infinity]]
    task = Task.async(fn -> Thread.run(thread, "gate", options) end)
    assert Stub.eventually(fn -> Codex.stop(thread) == :ok end)
    assert {:error, {:exec_failed, %{kind: :interrupted}}} = Task.await(task, 60_000)
  end

  test "a limit holds on all connected nodes, also on one that comes later" do
    {listens, asks, name} = OtherVM.nodes()

    a =
      OtherVM.start(
        """
        :ok = Codex.RateLimit.Gate.close("shared", 600_000)
        IO.puts("closed")
        Process.sleep(:infinity)
        """,
        listens
      )

    assert_receive {^a, {:data, {:eol, "pid " <> pid_a}}}, 60_000
    on_exit(fn -> System.cmd("kill", ["-KILL", pid_a]) end)
    assert_receive {^a, {:data, {:eol, "closed"}}}, 60_000

    b =
      OtherVM.start(
        """
        other = #{inspect(String.to_atom(name))}
        true = Node.connect(other)

        wait = fn wait, account ->
          case Codex.RateLimit.Gate.check(account) do
            :open -> Process.sleep(10) && wait.(wait, account)
            {:wait, ms, _ticket} when ms > 500_000 -> IO.puts("closed " <> account)
          end
        end

        # A limit from before this node connected.
        wait.(wait, "shared")
        # A limit of this node, for the other one.
        :ok = Codex.RateLimit.Gate.close("back", 600_000)
        closed? = fn -> Codex.RateLimit.Gate.check("back") != :open end
        check = fn check ->
          case :erpc.call(other, Codex.RateLimit.Gate, :check, ["back"]) do
            :open -> Process.sleep(10) && check.(check)
            {:wait, _ms, _ticket} -> IO.puts("closed there")
          end
        end
        check.(check)
        true = closed?.()
        Process.sleep(:infinity)
        """,
        asks
      )

    assert_receive {^b, {:data, {:eol, "pid " <> pid_b}}}, 60_000
    on_exit(fn -> System.cmd("kill", ["-KILL", pid_b]) end)
    assert_receive {^b, {:data, {:eol, "closed shared"}}}, 60_000
    assert_receive {^b, {:data, {:eol, "closed there"}}}, 60_000
  end
end
