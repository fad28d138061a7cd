defmodule Codex.Retry.CLITest do
  # The real CLI against a scripted server that fails.
  use ExUnit.Case, async: true

  import Codex.Scripted
  import Codex.Test.Steps
  alias Codex.{Error, Events, Items, RateLimit, RunResultStreaming, Thread}

  @moduletag :codex_cli

  @fast [base_delay_ms: 1, jitter: false]

  defp account, do: "cli-#{System.unique_integer([:positive])}"

  # Failures that happen once, with their kinds.
  for {name, step, kind} <- [
        {"429 without Retry-After", quote(do: http_error(429, %{error: %{message: "slow down"}})),
         :rate_limit},
        {"429 with Retry-After",
         quote(do: http_error(429, %{error: %{message: "slow down"}}, %{"retry-after" => 1})),
         :rate_limit},
        {"a limit told in the stream",
         quote(do: failed("rate_limit_exceeded", "Please try again in 0.2s.")), :rate_limit},
        {"500", quote(do: http_error(500, "oops")), :server_error},
        {"no room", quote(do: failed("server_is_overloaded", "full")), :overloaded},
        {"a stream that is cut", quote(do: cut([message("half")], after: 1)),
         :stream_disconnected}
      ] do
    test "#{name}, then success" do
      step = unquote(step)
      {model, thread} = start([step, step, "Done.", step, "Streamed.", step, "Seen."])

      # Off, which is the default.
      assert {:error, {:turn_failed, %Error{kind: unquote(kind), result: %{attempts: 1}}}} =
               Thread.run(thread, "hi")

      assert Codex.Test.remaining(model) == 6

      opts = [retry: true, retry_opts: @fast]

      assert {:ok, %{attempts: 2, final_response: %{text: "Done."}} = result} =
               Thread.run(thread, "hi", opts)

      assert [
               %Events.ThreadStarted{},
               %Events.TurnStarted{},
               %Events.ItemCompleted{},
               %Events.TurnCompleted{}
             ] = result.events

      {:ok, stream} = Thread.run_turn_streamed(thread, "hi", opts)

      assert [
               %Events.ThreadStarted{},
               %Events.TurnStarted{},
               %Events.ItemCompleted{},
               %Events.TurnCompleted{}
             ] = Enum.to_list(stream)

      {:ok, run} = Thread.run_streamed(thread, "hi", opts)

      assert [%{item: %{text: "Seen."}}] =
               run
               |> RunResultStreaming.raw_events()
               |> Enum.filter(&is_struct(&1, Events.ItemCompleted))

      assert Codex.Test.remaining(model) == 0
    end
  end

  @tag :cli_pin
  test "a request that cannot succeed is sent once" do
    for {step, kind} <- [
          {http_error(401, %{error: %{message: "bad key"}}), :unauthorized},
          {http_error(429, %{error: %{message: "pay", code: "insufficient_quota"}}), :quota}
        ] do
      {model, thread} = start([step, step, "never"])

      opts = [
        retry: :resume,
        retry_opts: @fast,
        rate_limit: true,
        rate_limit_opts: [default_delay_ms: 1, account: account()]
      ]

      assert {:error, {:turn_failed, %Error{kind: ^kind}}} = Thread.run(thread, "hi", opts)
      {:ok, stream} = Thread.run_turn_streamed(thread, "hi", opts)
      assert %Events.TurnFailed{} = stream |> Enum.to_list() |> List.last()
      assert Codex.Test.remaining(model) == 1
    end
  end

  test "a limit of the plan has an end: stored for the account, too long for a wait" do
    account = account()
    ends = System.os_time(:second) + 7_200

    step =
      http_error(429, %{error: %{type: "usage_limit_reached", plan_type: "plus", resets_at: ends}})

    {model, thread} = start([step, "never"])
    opts = [rate_limit: true, rate_limit_opts: [account: account, max_wait_ms: 1_000]]

    assert {:error, {:turn_failed, %Error{kind: :usage_limit, resets_at: at}}} =
             Thread.run(thread, "hi", opts)

    # To the minute.
    assert DateTime.to_unix(at) == ends - rem(ends, 60)
    assert %RateLimit.Snapshot{limited_until: ^at} = Thread.rate_limits(thread)
    assert RateLimit.snapshot(account).limited_until == at

    assert {:error, {:exec_failed, %Error{kind: :rate_limit}}} = Thread.run(thread, "hi", opts)
    assert Codex.Test.remaining(model) == 1
  end

  test "a turn that did something is not repeated, but resumed" do
    script = [shell("echo done >> log"), http_error(500, "oops")]
    opts = [retry: true, retry_opts: @fast]
    {model, thread} = start(script ++ ["never"], [], sandbox: :danger_full_access)

    assert {:error, {:turn_failed, %Error{kind: :server_error} = error}} =
             Thread.run(thread, "do it", opts)

    assert Enum.any?(
             error.result.events,
             &match?(%Events.ItemCompleted{item: %Items.CommandExecution{}}, &1)
           )

    assert Codex.Test.remaining(model) == 1

    {model, thread} = start(script ++ ["All done."], [], sandbox: :danger_full_access)
    assert {:ok, result} = Thread.run(thread, "do it", retry: :resume, retry_opts: @fast)
    assert {result.attempts, result.final_response.text} == {2, "All done."}
    assert File.read!(Path.join(model.workspace, "log")) == "done\n"
    assert [%{thread_id: id}] = Enum.filter(result.events, &is_struct(&1, Events.ThreadStarted))
    assert result.thread.thread_id == id
    input = inspect(List.last(Codex.Test.requests(model)).body["input"], limit: :infinity)
    assert input =~ "do it" and input =~ "echo done" and input =~ "Continue."
  end

  test "a limit is waited for, and the run is tried again" do
    limit = failed("rate_limit_exceeded", "Rate limit. Please try again in 0.2s.")
    {model, thread} = start([limit, "Done."])
    opts = [rate_limit: true, rate_limit_opts: [account: account()]]

    assert {:ok, %{attempts: 2, final_response: %{text: "Done."}}} =
             Thread.run(thread, "hi", opts)

    assert Codex.Test.remaining(model) == 0
  end
end
