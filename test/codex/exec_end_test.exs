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

    assert Stub.running(~S(yes {"type":"error","message":"again"})) == []
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

    for opts <- [[], [retry: true], [rate_limit_opts: [account: dir]]] do
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

  describe "a CLI that does not end" do
    # Only SIGKILL ends the child.
    @deaf ~s(trap '' INT TERM; cat >/dev/null; echo "$started"; echo $$ > "$0.pid"; while :; do sleep 30; done)

    defp os_pid(thread), do: File.read!(thread.codex_opts.codex_path_override <> ".pid")
    defp gone?(thread), do: not Stub.alive?(String.trim(os_pid(thread)))

    test "holds up neither the total nor who halts; it is ended behind them", %{tmp_dir: dir} do
      thread = Stub.thread(dir, @deaf)

      assert {:error, {:exec_failed, %Error{kind: :timeout, details: %{clock: :total}}}} =
               Thread.run(thread, "hi", total_timeout_ms: 1_000)

      refute gone?(thread)
      assert Stub.eventually(fn -> gone?(thread) end, 20_000)

      {:ok, stream} = Thread.run_turn_streamed(thread, "hi")
      assert [%Codex.Events.ThreadStarted{}] = Enum.take(stream, 1)
      assert Stub.eventually(fn -> gone?(thread) end, 20_000)
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "and is cancelled: its reader hears of that first", %{tmp_dir: dir} do
      for opts <- [[], [retry: true]] do
        thread = Stub.thread(dir, @deaf)
        test = self()

        task =
          Task.async(fn ->
            {:ok, stream} =
              Thread.run_turn_streamed(thread, "hi", [cancellation_token: dir] ++ opts)

            error =
              assert_raise Codex.Error, fn ->
                Enum.each(stream, fn _ -> send(test, :reading) end)
              end

            {error, gone?(thread), Process.info(self(), :messages)}
          end)

        if opts == [], do: assert_receive(:reading, 20_000)

        assert Stub.eventually(fn ->
                 File.exists?(thread.codex_opts.codex_path_override <> ".pid")
               end)

        assert Exec.cancel(dir) == :ok
        assert {%{kind: :interrupted}, false, {:messages, []}} = Task.await(task, 20_000)
        assert Stub.eventually(fn -> gone?(thread) end, 20_000)
      end
    end

    test "after its turn is left to itself for as long as it has for its exit", %{tmp_dir: dir} do
      body =
        ~s(trap '' INT TERM; cat >/dev/null; echo "$turn"; echo $$ > "$0.pid"; while :; do sleep 30; done)

      thread = Stub.thread(dir, body)

      assert {:ok, %{final_response: %{text: "Hello"}}} =
               Thread.run(thread, "hi", exit_timeout_ms: 300)

      assert Stub.eventually(fn -> gone?(thread) end, 20_000)
      {:ok, stream} = Thread.run_turn_streamed(thread, "hi")
      assert Enum.find(stream, &is_struct(&1, Codex.Events.TurnCompleted))
      refute gone?(thread)
      assert Stub.eventually(fn -> gone?(thread) end, 20_000)
    end
  end

  test "headers as :httpc has them" do
    assert RateLimit.parse_retry_after(%{headers: [{~c"retry-after", ~c"20"}]}) == 20_000
    assert RateLimit.parse_retry_after(%{headers: %{"retry-after" => ["7"]}}) == 7_000
    assert RateLimit.parse_retry_after(%{headers: %{"retry-after" => []}}) == nil
  end
end
