defmodule Codex.Retry.RunTest do
  # Runs of several attempts, of a CLI that fails in one way each.
  use ExUnit.Case, async: true

  alias Codex.{
    Error,
    Events,
    Exec,
    RateLimit,
    RunResultStreaming,
    StreamEvent,
    Stub,
    Thread,
    TransportError
  }

  alias Codex.Thread.Options

  @moduletag :tmp_dir
  @fast [base_delay_ms: 1, jitter: false]

  @turn ~S(echo '{"type":"turn.started"}')
  @command ~S(echo '{"type":"item.started","item":{"id":"item_9","type":"command_execution","command":"make","aggregated_output":"","exit_code":null,"status":"in_progress"}}')
  @trying ~S(echo '{"type":"error","message":"Reconnecting... 1/2"}')

  defp failed(message),
    do:
      ~s(echo '{"type":"error","message":"#{message}"}'; echo '{"type":"turn.failed","error":{"message":"#{message}"}}'; exit 1)

  @overload "We’re currently experiencing high demand, which may cause temporary errors."

  # A CLI that behaves differently each time, and records its input.
  defp thread(dir, bodies, opts \\ []) do
    cases = for {body, n} <- Enum.with_index(bodies, 1), do: "#{n}) #{body};;\n"

    Stub.thread(
      dir,
      """
      n=$(cat #{dir}/n 2>/dev/null || echo 0); n=$((n+1)); echo $n > #{dir}/n
      echo "$@" > #{dir}/args.$n; cat > #{dir}/prompt.$n
      case $n in
      #{cases}
      *) echo "run $n was not expected" >&2; exit 1;;
      esac
      """,
      opts
    )
  end

  defp runs(dir),
    do: dir |> Path.join("n") |> File.read!() |> String.trim() |> String.to_integer()

  defp prompt(dir, n), do: File.read!(Path.join(dir, "prompt.#{n}"))
  defp args(dir, n), do: dir |> Path.join("args.#{n}") |> File.read!() |> String.trim()

  describe "retry" do
    test "off, which is the default, changes nothing", %{tmp_dir: dir} do
      thread = thread(dir, [failed(@overload)])

      assert {:error, {:turn_failed, %Error{kind: :server_error} = error}} =
               Thread.run(thread, "hi")

      assert error.result.attempts == 1
      assert runs(dir) == 1
    end

    test "false wins over options, options alone turn it on", %{tmp_dir: dir} do
      thread = thread(dir, [failed(@overload), failed(@overload), ~S(echo "$turn")])
      assert {:error, _} = Thread.run(thread, "hi", retry: false, retry_opts: @fast)
      assert runs(dir) == 1
      assert {:ok, %{attempts: 2}} = Thread.run(thread, "hi", retry_opts: @fast)
      assert runs(dir) == 3
    end

    test "repeats the prompt if no item came, and the result is that of one run", %{
      tmp_dir: dir
    } do
      thread =
        thread(dir, [
          ~s(echo "$started"; #{@turn}; #{@trying}; #{failed(@overload)}),
          "exit 75",
          ~S(echo "$turn")
        ])

      assert {:ok, result} = Thread.run(thread, "do it", retry: true, retry_opts: @fast)
      assert result.attempts == 3

      assert [%Events.ThreadStarted{}, %Events.ItemCompleted{}, %Events.TurnCompleted{}] =
               result.events

      assert {prompt(dir, 1), prompt(dir, 3)} == {"do it", "do it"}
    end

    test "gives up after max_attempts, with the last error", %{tmp_dir: dir} do
      thread = thread(dir, List.duplicate(~s(echo "$started"; #{failed(@overload)}), 2))
      opts = [retry: true, retry_opts: [max_attempts: 2] ++ @fast]

      assert {:error, {:turn_failed, %Error{kind: :server_error} = error}} =
               Thread.run(thread, "hi", opts)

      assert error.result.attempts == 2

      assert [%Events.ThreadStarted{}, %Events.Error{}, %Events.TurnFailed{}] =
               error.result.events

      assert runs(dir) == 2
    end

    test "repeats nothing that cannot succeed", %{tmp_dir: dir} do
      for {message, kind} <- [
            {"Quota exceeded. Check your plan and billing details.", :quota},
            {"unexpected status 401 Unauthorized: bad key, url: x", :unauthorized}
          ] do
        File.rm(Path.join(dir, "n"))
        thread = thread(dir, [failed(message)])
        opts = [retry: true, retry_opts: @fast, rate_limit_opts: [account: dir]]
        assert {:error, {:turn_failed, %Error{kind: ^kind}}} = Thread.run(thread, "hi", opts)
        assert runs(dir) == 1
      end
    end

    test "repeats nothing of which something was done: the error has it", %{tmp_dir: dir} do
      thread = thread(dir, [~s(echo "$started"; #{@turn}; #{@command}; exit 75)])
      opts = [retry: true, retry_opts: @fast]

      assert {:error, {:exec_failed, %Error{retryable?: true} = error}} =
               Thread.run(thread, "hi", opts)

      assert [_, _, %Events.ItemStarted{}] = error.result.events
      assert runs(dir) == 1
    end

    test "resume continues the thread, also after items have begun", %{tmp_dir: dir} do
      id = "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"

      thread =
        thread(dir, [
          ~s(echo "$started"; #{@turn}; #{@command}; #{failed(@overload)}),
          ~s(echo "$started"; #{failed(@overload)}),
          ~s(echo "$started"; #{@turn}; echo "$message"; echo "$completed")
        ])

      opts = [
        retry: :resume,
        retry_opts: [resume_prompt: "Go on."] ++ @fast,
        images: [__ENV__.file]
      ]

      assert {:ok, result} = Thread.run(thread, "do it", opts)
      assert {result.attempts, result.final_response.text} == {3, "Hello"}

      assert [
               %Events.ThreadStarted{thread_id: ^id},
               %Events.TurnStarted{},
               %Events.ItemStarted{},
               %Events.Error{},
               %Events.Error{},
               %Events.TurnStarted{},
               %Events.ItemCompleted{},
               %Events.TurnCompleted{}
             ] = result.events

      assert {prompt(dir, 1), prompt(dir, 2), prompt(dir, 3)} == {"do it", "Go on.", "Go on."}
      assert args(dir, 1) =~ ~r/ -i \S+run_test.exs -- -$/
      assert args(dir, 2) =~ ~r/ resume -- #{id} -$/
    end

    test "resume repeats a run without a turn, or without a stored thread", %{tmp_dir: dir} do
      thread = thread(dir, ["exit 75", ~S(echo "$turn")])
      assert {:ok, %{attempts: 2}} = Thread.run(thread, "hi", retry: :resume, retry_opts: @fast)
      assert prompt(dir, 2) == "hi"

      File.rm!(Path.join(dir, "n"))
      {:ok, thread_opts} = Options.new(ephemeral: true)

      thread = %{
        thread(dir, [~s(echo "$started"; #{@turn}; #{@command}; exit 75)])
        | thread_opts: thread_opts
      }

      assert {:error, _} = Thread.run(thread, "hi", retry: :resume, retry_opts: @fast)
      assert runs(dir) == 1
    end

    test "the newest thread stays the same one", %{tmp_dir: dir} do
      %{codex_opts: codex_opts} =
        thread(dir, [~s(echo "$started"; #{failed(@overload)}), ~S(echo "$turn")])

      {:ok, thread} = Codex.resume_thread(:last, codex_opts)
      assert {:ok, _} = Thread.run(thread, "hi", retry: true, retry_opts: @fast)
      assert args(dir, 1) =~ "resume --last"
      assert args(dir, 2) =~ "resume -- 01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"
    end

    test "a failed start is retried", %{tmp_dir: dir} do
      test = self()
      path = Path.join(dir, "late")
      File.write!(path, "\0\0\0\0")
      File.chmod!(path, 0o755)
      {:ok, thread} = Codex.start_thread(codex_path: path)

      mend = fn 1, {:exec_failed, %Error{kind: kind}} ->
        send(test, {:kind, kind})
        # A program that may be starting cannot be written, but it can be replaced.
        File.rename!(Stub.write!(dir, ~S(cat >/dev/null; echo "$turn")), path)
      end

      opts = [retry: true, retry_opts: [on_retry: mend, retry_if: fn _ -> true end] ++ @fast]
      assert {:ok, %{attempts: 2}} = Thread.run(thread, "hi", opts)
      assert_received {:kind, :cli_not_found}
    end

    test "begins no attempt after the total", %{tmp_dir: dir} do
      thread = thread(dir, [failed(@overload)])

      opts = [
        retry: true,
        retry_opts: [base_delay_ms: 60_000, max_delay_ms: 60_000],
        total_timeout_ms: 30_000
      ]

      assert {:error, {:turn_failed, %Error{kind: :server_error}}} =
               Thread.run(thread, "hi", opts)

      assert runs(dir) == 1
    end
  end

  describe "streams" do
    test "of events are retried, and look like one run", %{tmp_dir: dir} do
      thread =
        thread(dir, [~s(echo "$started"; #{failed(@overload)}), "exit 75", ~S(echo "$turn")])

      {:ok, stream} = Thread.run_turn_streamed(thread, "hi", retry: true, retry_opts: @fast)
      refute File.exists?(Path.join(dir, "n"))

      assert [%Events.ThreadStarted{}, %Events.ItemCompleted{}, %Events.TurnCompleted{}] =
               Enum.to_list(stream)
    end

    test "raise, or end with the failure, if retries do not help", %{tmp_dir: dir} do
      thread =
        thread(dir, [
          "exit 75",
          ~s(echo "$started"; exit 75),
          failed(@overload),
          failed(@overload)
        ])

      opts = [retry: true, retry_opts: [max_attempts: 2] ++ @fast]
      {:ok, stream} = Thread.run_turn_streamed(thread, "hi", opts)

      error = assert_raise Error, fn -> Enum.each(stream, &send(self(), {:event, &1})) end

      assert error.exit_status == 75
      assert_received {:event, %Events.ThreadStarted{}}
      assert [%Events.Error{}, %Events.TurnFailed{}] = Enum.to_list(stream)
      assert runs(dir) == 4
    end

    test "of stream events are retried as well", %{tmp_dir: dir} do
      thread =
        thread(dir, [
          failed(@overload),
          ~S(echo "$turn"),
          failed(@overload),
          ~s(echo "$started"; exit 75)
        ])

      opts = [retry: true, retry_opts: [max_attempts: 2] ++ @fast]
      {:ok, run} = Thread.run_streamed(thread, "hi", opts)

      assert [
               %StreamEvent.AgentUpdated{},
               %StreamEvent.RunItem{type: :thread_started},
               %StreamEvent.RunItem{type: :item_completed},
               %StreamEvent.RunItem{type: :turn_completed},
               %StreamEvent.RawResponses{}
             ] = Enum.to_list(RunResultStreaming.events(run))

      {:ok, run} = Thread.run_streamed(thread, "hi", opts)
      assert {:ok, %StreamEvent.AgentUpdated{}} = RunResultStreaming.pop(run)
      assert {:ok, %StreamEvent.RunItem{type: :thread_started}} = RunResultStreaming.pop(run)
      assert {:error, %Error{exit_status: 75}} = RunResultStreaming.pop(run)
      assert RunResultStreaming.pop(run) == :done
    end

    test "pass at once from the first item on, and end with their reader", %{tmp_dir: dir} do
      thread =
        thread(dir, [
          ~s(echo $$ > #{dir}/pid; echo "$started"; #{@turn}; #{@command}; exec sleep 1000)
        ])

      {:ok, stream} = Thread.run_turn_streamed(thread, "hi", retry: true)
      assert [_, _, %Events.ItemStarted{}] = Enum.take(stream, 3)
      pid = dir |> Path.join("pid") |> File.read!() |> String.trim() |> String.to_integer()
      refute Stub.alive?(pid)
    end

    test "hold no more than so many events back", %{tmp_dir: dir} do
      body =
        ~s(echo "$started"; #{@turn}; i=0; while [ $i -lt 150 ]; do #{@trying}; i=$((i+1\)\); done; exit 75)

      thread = thread(dir, [body])
      {:ok, stream} = Thread.run_turn_streamed(thread, "hi", retry: true, retry_opts: @fast)
      assert_raise Error, fn -> Enum.each(stream, &send(self(), &1)) end
      assert {:messages, messages} = Process.info(self(), :messages)
      assert Enum.count(messages, &is_struct(&1, Events.Error)) == 150
      assert runs(dir) == 1
    end
  end

  describe "Codex.Exec" do
    test "retries blocking calls, streams and reviews", %{tmp_dir: dir} do
      %{codex_opts: codex_opts} =
        thread(dir, List.duplicate(failed(@overload), 4) ++ [~S(echo "$turn")])

      opts = [
        codex_opts: codex_opts,
        turn_opts: [retry: true, retry_opts: [max_attempts: 2] ++ @fast]
      ]

      assert {:error, {:turn_failed, %Error{result: %{events: [_, _]}}}} = Exec.run("hi", opts)
      assert {:error, {:turn_failed, _}} = Exec.review("Look", opts)
      {:ok, stream} = Exec.run_stream("hi", opts)
      assert [_, _, _] = Enum.to_list(stream)
      assert args(dir, 4) == args(dir, 3)
    end

    test "resumes without a thread of ours", %{tmp_dir: dir} do
      %{codex_opts: codex_opts} =
        thread(dir, [~s(echo "$started"; #{@turn}; #{@command}; exit 75), ~S(echo "$turn")])

      opts = [codex_opts: codex_opts, turn_opts: [retry: :resume, retry_opts: @fast]]
      assert {:ok, %{events: events}} = Exec.run("hi", opts)

      assert [_, _, %Events.ItemStarted{}, %Events.ItemCompleted{}, %Events.TurnCompleted{}] =
               events

      assert {prompt(dir, 1), prompt(dir, 2)} == {"hi", "Continue."}
    end
  end

  describe "cancelling" do
    defp cancel_when(token, fun) do
      assert Stub.eventually(fun)
      assert Exec.cancel(token) == :ok
    end

    defp waits?(pid),
      do:
        match?(
          {:current_function, {Codex.Turn.Cancellation, :sleep, 2}},
          Process.info(pid, :current_function)
        )

    test "ends a pause at once, and leaves nothing", %{tmp_dir: dir} do
      thread = thread(dir, [~s(echo "$started"; #{failed(@overload)})])
      token = "token-#{System.unique_integer([:positive])}"

      opts = [
        cancellation_token: token,
        retry: true,
        retry_opts: [base_delay_ms: 600_000, max_delay_ms: 600_000]
      ]

      task =
        Task.async(fn -> {Thread.run(thread, "hi", opts), Process.info(self(), :messages)} end)

      cancel_when(token, fn -> waits?(task.pid) end)

      assert {{:error, {:exec_failed, %Error{kind: :interrupted} = error}}, {:messages, []}} =
               Task.await(task)

      # The thread that was begun can be resumed.
      assert is_binary(error.result.thread.thread_id)
      assert Exec.cancel(token) == {:error, :not_found}
      assert runs(dir) == 1
    end

    test "ends the wait before the first attempt", %{tmp_dir: dir} do
      account = "limit-#{System.unique_integer([:positive])}"
      at = DateTime.add(DateTime.utc_now(), 100, :second)
      RateLimit.observe(account, %{Error.rate_limit("m") | resets_at: at})
      thread = thread(dir, [])
      token = "token-#{System.unique_integer([:positive])}"
      opts = [cancellation_token: token, rate_limit_opts: [account: account]]

      task =
        Task.async(fn -> {Thread.run(thread, "hi", opts), Process.info(self(), :messages)} end)

      cancel_when(token, fn -> waits?(task.pid) end)

      assert {{:error, {:exec_failed, %Error{kind: :interrupted}}}, {:messages, []}} =
               Task.await(task)

      assert Exec.cancel(token) == {:error, :not_found}
      refute File.exists?(Path.join(dir, "n"))
    end

    test "ends the attempt that runs, and none follows", %{tmp_dir: dir} do
      thread =
        thread(dir, [
          "exit 75",
          ~s(trap 'exit 1' INT; echo "$started"; while :; do sleep 0.05; done)
        ])

      token = "token-#{System.unique_integer([:positive])}"

      opts = [
        cancellation_token: token,
        retry: true,
        retry_opts: [retry_if: fn _ -> true end] ++ @fast
      ]

      task = Task.async(fn -> Thread.run(thread, "hi", opts) end)
      cancel_when(token, fn -> File.exists?(Path.join(dir, "prompt.2")) end)
      assert {:error, {:exec_failed, %Error{kind: :interrupted}}} = Task.await(task)
      assert runs(dir) == 2
    end

    test "between a failure and the end of its process leaves no other error", %{tmp_dir: dir} do
      failed = ~s({"type":"turn.failed","error":{"message":"#{@overload}"}})

      thread =
        thread(dir, [~s(echo "$started"; echo '#{failed}'; touch #{dir}/failed; exec sleep 9)])

      token = "token-#{System.unique_integer([:positive])}"
      pause = [base_delay_ms: 600_000, max_delay_ms: 600_000]
      opts = [cancellation_token: token, retry: true, retry_opts: pause]
      task = Task.async(fn -> Thread.run(thread, "hi", opts) end)
      cancel_when(token, fn -> File.exists?(Path.join(dir, "failed")) end)
      assert {:error, {:exec_failed, %Error{kind: :interrupted}}} = Task.await(task, 20_000)
    end

    test "a streamed run is cancelled in its pause", %{tmp_dir: dir} do
      thread = thread(dir, [failed(@overload)])
      opts = [retry: true, retry_opts: [base_delay_ms: 600_000, max_delay_ms: 600_000]]
      {:ok, run} = Thread.run_streamed(thread, "hi", opts)

      task =
        Task.async(fn ->
          assert_raise Error, fn ->
            run |> RunResultStreaming.events() |> Enum.to_list()
          end
        end)

      assert Stub.eventually(fn -> waits?(task.pid) end)
      assert RunResultStreaming.cancel(run) == :ok
      assert Task.await(task).kind == :interrupted
    end
  end

  test "an exception of a function of the host ends the run without leftovers", %{
    tmp_dir: dir
  } do
    thread = thread(dir, [failed(@overload)])
    token = "token-#{System.unique_integer([:positive])}"
    opts = [retry_opts: [on_retry: fn _, _ -> raise "no more" end], cancellation_token: token]
    assert_raise RuntimeError, "no more", fn -> Thread.run(thread, "hi", opts) end
    assert Exec.cancel(token) == {:error, :not_found}
    assert Stub.running(dir) == []
  end

  describe "limits" do
    defp opts(account, more \\ []),
      do: [rate_limit: true, rate_limit_opts: [account: account, default_delay_ms: 1] ++ more]

    defp account, do: "limit-#{System.unique_integer([:positive])}"

    @limit "rate limit exceeded: Rate limit. Please try again in 0.05s."

    test "are waited for, and do not count as attempts of retry", %{tmp_dir: dir} do
      test = self()
      thread = thread(dir, [failed(@limit), failed(@limit), failed(@overload), ~S(echo "$turn")])
      on_retry = fn n, reason -> send(test, {:retry, n, reason}) end

      opts =
        opts(account()) ++
          [retry: true, retry_opts: [on_retry: on_retry, max_attempts: 2] ++ @fast]

      assert {:ok, %{attempts: 4}} = Thread.run(thread, "hi", opts)
      assert_received {:retry, 1, {:turn_failed, %Error{kind: :server_error}}}
      refute_received {:retry, _, _}
    end

    test "are not waited for more than max_attempts, or longer than max_wait_ms", %{tmp_dir: dir} do
      thread = thread(dir, List.duplicate(failed(@limit), 4))

      assert {:error, {:turn_failed, %Error{kind: :rate_limit} = error}} =
               Thread.run(thread, "hi", opts(account()))

      assert {runs(dir), error.result.attempts} == {3, 3}

      assert {:error, {:turn_failed, %Error{kind: :rate_limit}}} =
               Thread.run(thread, "hi", opts(account(), max_wait_ms: 49))

      assert runs(dir) == 4
    end

    test "of the plan are kept with the account, and the next run does not ask", %{tmp_dir: dir} do
      {{year, month, day}, {hour, minute, _}} =
        (System.os_time(:second) + 3_600)
        |> :calendar.system_time_to_local_time(:second)

      months = ~w(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec)
      twelve = if rem(hour, 12) == 0, do: 12, else: rem(hour, 12)
      half = if hour < 12, do: "AM", else: "PM"
      minute = String.pad_leading("#{minute}", 2, "0")
      clock = "#{Enum.at(months, month - 1)} #{day}th, #{year} #{twelve}:#{minute} #{half}"

      thread =
        thread(
          dir,
          [
            failed("You’ve hit your usage limit. Please try again at #{clock}."),
            ~S(echo "$turn")
          ],
          codex_home: dir
        )

      account = account()

      assert {:error, {:turn_failed, %Error{kind: :usage_limit, resets_at: at}}} =
               Thread.run(thread, "hi", opts(account, max_wait_ms: 1_000))

      assert %{limited_until: ^at} = Thread.rate_limits(thread)
      assert %{limited_until: ^at} = RateLimit.snapshot(account)

      for more <- [[max_wait_ms: 1_000], [max_wait_ms: :infinity]] do
        opts = opts(account, more) ++ [total_timeout_ms: 60_000]

        assert {:error, {:exec_failed, %Error{kind: :rate_limit, resets_at: ^at} = error}} =
                 Thread.run(thread, "hi", opts)

        assert error.retry_after_ms > 3_000_000
        assert error.message =~ "is longer than max_wait_ms or total_timeout_ms allow"
      end

      assert runs(dir) == 1
      # Runs without the option neither wait nor fail.
      assert {:ok, %{attempts: 1}} = Thread.run(thread, "hi")
    end

    test "that the snapshot shows are waited for before the first attempt", %{
      tmp_dir: dir
    } do
      account = account()
      now = DateTime.utc_now()
      at = DateTime.add(now, if(now.second >= 57, do: 5, else: 2), :second)
      limits = %{"usedPercent" => 100, "resetsAt" => DateTime.to_unix(at)}
      answer = %{"rateLimits" => %{"primary" => limits}, "ordinaryUsageAllowed" => false}
      RateLimit.observe(account, answer)
      thread = thread(dir, [~S(echo "$turn"), ~S(echo "$turn")])

      assert {:ok, %{attempts: 1}} = Thread.run(thread, "hi", opts(account))
      assert DateTime.to_unix(DateTime.utc_now()) >= DateTime.to_unix(at)
      # The limit has reset.
      assert {:ok, %{attempts: 1}} = Thread.run(thread, "hi", opts(account, max_wait_ms: 0))
    end
  end

  describe "clocks" do
    defp clock(error), do: {error.kind, error.details.clock, error.details.timeout_ms}

    test "idle: also with announcements without a pause", %{tmp_dir: dir} do
      thread = thread(dir, [~s(echo "$started"; while :; do #{@trying}; done)])
      assert {:error, {:exec_failed, error}} = Thread.run(thread, "hi", idle_timeout_ms: 400)
      assert clock(error) == {:timeout, :idle, 400}
      assert error.details.option == :idle_timeout_ms
    end

    test "start: no event", %{tmp_dir: dir} do
      thread = thread(dir, ["exec sleep 1000"])
      assert {:error, {:exec_failed, error}} = Thread.run(thread, "hi", start_timeout_ms: 400)
      assert clock(error) == {:timeout, :start, 400}
      assert {error.details.open, error.retryable?} == {[], true}
    end

    test "idle: an announcement that it tries again is nothing of the turn", %{tmp_dir: dir} do
      body = ~s(echo $$ > #{dir}/pid; echo "$started"; while :; do #{@trying}; sleep 0.05; done)
      thread = thread(dir, [body])
      assert {:error, {:exec_failed, error}} = Thread.run(thread, "hi", idle_timeout_ms: 3_000)
      assert clock(error) == {:timeout, :idle, 3_000}
      assert %Events.Error{message: "Reconnecting... 1/2"} = error.event

      refute Stub.alive?(
               dir
               |> Path.join("pid")
               |> File.read!()
               |> String.trim()
               |> String.to_integer()
             )
    end

    test "idle: not while a command is open, but timeout_ms is", %{tmp_dir: dir} do
      body =
        ~s(echo "$started"; #{@command}; sleep 2.5; echo '{"type":"item.completed","item":{"id":"item_9","type":"command_execution","command":"make","aggregated_output":"","exit_code":0,"status":"completed"}}'; echo "$completed")

      thread = thread(dir, [body, ~s(echo "$started"; #{@command}; exec sleep 1000)])
      assert {:ok, _} = Thread.run(thread, "hi", idle_timeout_ms: 1_500)

      assert {:error, {:exec_failed, error}} =
               Thread.run(thread, "hi", idle_timeout_ms: 1_000, timeout_ms: 1_500)

      assert clock(error) == {:timeout, :idle, 1_500}
      assert error.details.option == :timeout_ms
      assert [%Codex.Items.CommandExecution{command: "make"}] = error.details.open
      assert [_, %Events.ItemStarted{}] = error.result.events
    end

    test "total: whatever comes", %{tmp_dir: dir} do
      thread = thread(dir, [~s(echo "$started"; #{@command}; while :; do echo "$message"; done)])
      assert {:error, {:exec_failed, error}} = Thread.run(thread, "hi", total_timeout_ms: 1_500)
      assert clock(error) == {:timeout, :total, 1_500}
      assert [%Codex.Items.CommandExecution{}] = error.details.open
      assert error.result.final_response.text == "Hello"
    end

    test "total: over all attempts", %{tmp_dir: dir} do
      slow = ~s(sleep 0.6; #{failed(@overload)})
      thread = thread(dir, List.duplicate(slow, 9) ++ List.duplicate("exec sleep 1000", 9))
      opts = [retry: true, retry_opts: [max_attempts: 100] ++ @fast, total_timeout_ms: 2_000]
      assert {:error, {_tag, %Error{kind: kind} = error}} = Thread.run(thread, "hi", opts)
      assert kind in [:timeout, :server_error]
      assert error.result.attempts in 2..4
    end

    test "a slow reader is not silence", %{tmp_dir: dir} do
      thread =
        thread(dir, [~s(echo "$started"; #{@turn}; sleep 0.3; echo "$message"; echo "$completed")])

      {:ok, stream} =
        Thread.run_turn_streamed(thread, "hi",
          idle_timeout_ms: 1_000,
          stream_idle_timeout_ms: 1_000
        )

      assert stream |> Stream.each(fn _ -> Process.sleep(1_100) end) |> Enum.count() == 4
    end

    test "an idle clock that ran out is retried", %{tmp_dir: dir} do
      thread = thread(dir, [~s(echo "$started"; exec sleep 1000), ~S(echo "$turn")])
      opts = [idle_timeout_ms: 1_500, retry: true, retry_opts: @fast]
      assert {:ok, %{attempts: 2}} = Thread.run(thread, "hi", opts)
    end

    test "Codex.Exec names the timeout, with the events so far", %{tmp_dir: dir} do
      %{codex_opts: codex_opts} = thread(dir, [~s(echo "$started"; #{@command}; exec sleep 1000)])
      opts = [codex_opts: codex_opts, turn_opts: [total_timeout_ms: 1_500]]

      assert {:error, %TransportError{clock: :total, open: [_], result: %{events: [_, _]}}} =
               Exec.run("hi", opts)
    end
  end
end
