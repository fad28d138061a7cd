defmodule Codex.ExecEndTest do
  # Programs that do not end as they should, and callers that cancel more than once.
  use ExUnit.Case, async: true

  alias Codex.{Error, Exec, RateLimit, Stub, Thread}

  @moduletag :tmp_dir

  test "one that keeps printing after its turn is stopped, and the turn counts", %{tmp_dir: dir} do
    body = ~s(cat >/dev/null; echo "$turn"; exec yes '{"type":"error","message":"again"}')

    for opts <- [[], [retry: true]] do
      thread = Stub.thread(dir, body)
      assert {:ok, result} = Thread.run(thread, "hi", [exit_timeout_ms: 300] ++ opts)
      assert result.final_response.text == "Hello"
    end

    assert Stub.running("yes {\"type\":\"error\",\"message\":\"again\"}") == []
  end

  test "the total holds after stdout was closed, too", %{tmp_dir: dir} do
    body = ~s(cat >/dev/null; echo "$started"; exec 1>&-; sleep 60)
    opts = [total_timeout_ms: 600, exit_timeout_ms: 30_000]
    assert {:error, {:exec_failed, error}} = Thread.run(Stub.thread(dir, body), "hi", opts)
    assert %Error{kind: :timeout, details: %{clock: :total}} = error

    assert {:error, {:exec_failed, error}} =
             Thread.run(Stub.thread(dir, body), "hi", exit_timeout_ms: 300)

    assert %Error{kind: :protocol} = error
  end

  test "a run that is cancelled more than once leaves no message behind", %{tmp_dir: dir} do
    thread = Stub.thread(dir, ~s(cat >/dev/null; echo "$started"; sleep 60))

    for opts <- [[], [retry: true], [rate_limit: true]] do
      token = "token-#{System.unique_integer([:positive])}"

      canceller =
        Task.async(fn ->
          Stub.eventually(fn -> Exec.cancel(token) == :ok end)
          for _ <- 1..3, do: Exec.cancel(token)
        end)

      assert {:error, _} = Thread.run(thread, "hi", [cancellation_token: token] ++ opts)
      Task.await(canceller)
      assert Process.info(self(), :messages) == {:messages, []}
    end
  end

  test "a gate can be opened, and no time is too long for it" do
    account = "opened-#{System.unique_integer([:positive])}"
    assert RateLimit.close(account, Bitwise.bsl(1, 50)) == :ok
    assert RateLimit.gate(account).closed_ms > 365 * 24 * 3600 * 1000
    assert RateLimit.open(account) == :ok
    assert RateLimit.gate(account) == %{closed_ms: 0, waiting: 0}
    assert RateLimit.open("never-seen") == :ok
  end

  test "headers as :httpc has them" do
    assert RateLimit.parse_retry_after(%{headers: [{~c"retry-after", ~c"20"}]}) == 20_000
    assert RateLimit.parse_retry_after(%{headers: %{"retry-after" => ["7"]}}) == 7_000
    assert RateLimit.parse_retry_after(%{headers: %{"retry-after" => []}}) == nil
  end
end
