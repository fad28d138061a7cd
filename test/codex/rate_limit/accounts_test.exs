defmodule Codex.RateLimit.AccountsTest do
  # It ends the process that all runs share.
  use ExUnit.Case, async: false

  alias Codex.RateLimit
  alias Codex.RateLimit.Accounts

  test "the number of accounts is bounded: the one told of longest ago goes, unless its gate is closed" do
    RateLimit.close("kept", 60_000)
    RateLimit.observe("first", %{"primary" => %{"usedPercent" => 1}})
    RateLimit.observe("kept", %{"primary" => %{"usedPercent" => 2}})

    for n <- 1..1_000, do: RateLimit.observe("many:#{n}", %{"primary" => %{"usedPercent" => n}})

    assert RateLimit.snapshot("first") == nil
    assert RateLimit.snapshot("kept").primary.used_percent == 2
    assert RateLimit.gate("kept").closed_ms > 0
    assert RateLimit.snapshot("many:1000").primary.used_percent == 1_000
    assert map_size(:sys.get_state(Accounts).order) <= 1_000
    assert :ets.info(Accounts, :size) <= 1_000
  end

  test "where the process dies, those that wait go on, and it comes back" do
    account = "gone"
    RateLimit.close(account, 60_000)
    test = self()

    {pid, monitor} =
      spawn_monitor(fn -> send(test, {:waited, Accounts.wait(account, 1, 90_000, make_ref())}) end)

    assert Codex.Stub.eventually(fn -> RateLimit.gate(account).waiting == 1 end)
    owner = Process.whereis(Accounts)
    Process.exit(owner, :kill)
    assert_receive {:waited, :ok}
    assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}

    assert Codex.Stub.eventually(fn -> Process.whereis(Accounts) not in [nil, owner] end)
    assert RateLimit.gate(account) == %{closed_ms: 0, waiting: 0}
  end
end
