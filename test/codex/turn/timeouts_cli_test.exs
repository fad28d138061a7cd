defmodule Codex.Turn.TimeoutsCLITest do
  # The clocks of a run, with the real CLI.
  use ExUnit.Case, async: true

  import Codex.Scripted
  import Codex.Test.Steps
  alias Codex.{Error, Events, Items, Stub, Thread}

  @moduletag :codex_cli

  @fast [base_delay_ms: 1, jitter: false]

  defp clock(error), do: {error.kind, error.details.clock, error.details.timeout_ms}

  test "a connection that is refused, which the CLI tries for ever" do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    url = "http://127.0.0.1:#{port}/v1"

    {_model, thread} =
      start([], [],
        features: %{unbounded_connection_retries: true},
        config_overrides: %{"model_providers.mock.base_url" => url}
      )

    for {opts, clock} <- [
          {[idle_timeout_ms: 2_000], :idle},
          {[total_timeout_ms: 2_000], :total}
        ] do
      assert {:error, {:exec_failed, error}} = Thread.run(thread, "hi", opts)
      assert clock(error) == {:timeout, clock, 2_000}
      assert Error.normalize(%{message: error.event.message}).kind == :connection_refused
      assert is_binary(error.result.thread.thread_id)

      {:ok, stream} = Thread.run_turn_streamed(thread, "hi", opts)

      assert %{details: %{clock: ^clock, open: []}} =
               assert_raise(Error, fn -> Enum.to_list(stream) end)
    end

    assert Stub.running(thread.thread_opts.working_directory) == []
  end

  test "a server that accepts and is silent: retried" do
    {model, thread} = start([silence(:infinity), silence(:infinity), "There."])
    assert {:error, {:exec_failed, error}} = Thread.run(thread, "hi", idle_timeout_ms: 2_000)
    assert clock(error) == {:timeout, :idle, 2_000}

    assert {:ok, %{attempts: 2}} =
             Thread.run(thread, "hi", idle_timeout_ms: 2_000, retry: true, retry_opts: @fast)

    assert Codex.Test.remaining(model) == 0
  end

  test "silence during the stream: the text so far is kept, and resumed" do
    silent = silence(:infinity, after: [message("Wait.")])
    {model, thread} = start([silent, silent, silent, "Here I am."])
    opts = [idle_timeout_ms: 3_000, retry_opts: @fast]
    assert {:error, {:exec_failed, error}} = Thread.run(thread, "hi", [retry: true] ++ opts)
    assert clock(error) == {:timeout, :idle, 3_000}
    assert {error.result.final_response.text, error.result.attempts} == {"Wait.", 1}

    {:ok, stream} = Thread.run_turn_streamed(thread, "hi", [retry: true] ++ opts)
    assert_raise Error, fn -> Enum.each(stream, &send(self(), &1)) end
    assert_received %Events.ItemCompleted{item: %{text: "Wait."}}

    assert {:ok, result} = Thread.run(thread, "hi", [retry: :resume] ++ opts)

    assert for(%Events.ItemCompleted{item: %{text: text}} <- result.events, do: text) == [
             "Wait.",
             "Here I am."
           ]

    assert Codex.Test.remaining(model) == 0
  end

  test "silence during a long command does not count" do
    {_model, thread} =
      start([shell("sleep 8; echo woken", yield_time_ms: 30_000), "Good morning."], [],
        sandbox: :danger_full_access
      )

    assert {:ok, result} = Thread.run(thread, "hi", idle_timeout_ms: 6_000)
    assert result.final_response.text == "Good morning."
  end

  test "the total holds during a command, which is ended with it" do
    n = "#{100_000 + System.unique_integer([:positive])}.#{:rand.uniform(999_999)}"

    {_model, thread} =
      start([shell("sleep #{n}", yield_time_ms: 30_000)], [], sandbox: :danger_full_access)

    assert {:error, {:exec_failed, error}} = Thread.run(thread, "hi", total_timeout_ms: 4_000)
    assert clock(error) == {:timeout, :total, 4_000}
    assert [%Items.CommandExecution{command: command}] = error.details.open
    assert command =~ n
    assert Stub.running("sleep #{n}") == []
  end
end
