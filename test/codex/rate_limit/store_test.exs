defmodule Codex.RateLimit.StoreTest do
  # Ends the process that all runs share, so it is not async.
  use ExUnit.Case, async: false

  alias Codex.RateLimit
  alias Codex.RateLimit.Store

  defp observe(account, percent),
    do: RateLimit.observe(account, %{"primary" => %{"usedPercent" => percent}})

  test "keeps a limited number of accounts, those with the newest updates" do
    observe("first", 1)
    observe("updated", 2)
    for n <- 1..998, do: observe("many:#{n}", n)
    observe("updated", 3)
    observe("many:999", 999)
    observe("many:1000", 1_000)

    assert RateLimit.snapshot("first") == nil
    assert RateLimit.snapshot("updated").primary.used_percent == 3
    assert RateLimit.snapshot("many:1000").primary.used_percent == 1_000
    assert :ets.info(Store, :size) == 1_000
  end

  test "starts anew after its process died" do
    observe("gone", 1)
    owner = Process.whereis(Store)
    monitor = Process.monitor(owner)
    Process.exit(owner, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^owner, :killed}
    # Neither raises while the process restarts.
    assert observe("other", 1) == :ok
    assert RateLimit.snapshot("gone") == nil

    assert Codex.Stub.eventually(fn ->
             observe("gone", 2)
             RateLimit.snapshot("gone") != nil
           end)
  end
end
