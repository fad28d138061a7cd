defmodule Codex.Turn.DriverTest do
  # Guarantees of the driver over any transport, with a scripted one.
  use ExUnit.Case, async: true

  alias Codex.{Error, Events, Items}
  alias Codex.Options.Table
  alias Codex.Turn.{Driver, Failure, Job}

  defmodule Scripted do
    @behaviour Codex.Turn.Transport

    # The plan of a job: an agent with the scripts of its attempts, and the process of the test.
    @impl true
    def prepare(job), do: {:ok, job}

    @impl true
    def open(job, how, context) do
      send(job.plan.test, {:opened, how})

      case Agent.get_and_update(job.plan.attempts, &List.pop_at(&1, 0)) do
        {:failed, cause} -> {:failed, cause, nil}
        steps -> {:ok, [], %{extras: nil, steps: steps, job: job, cancel: context.call.cancel}}
      end
    end

    @impl true
    def next(%{steps: []} = run, _ms), do: {:done, run}
    def next(%{steps: [{:failed, cause} | _]} = run, _ms), do: {:failed, cause, run}

    def next(%{steps: [:silence | _], cancel: cancel} = run, ms) do
      receive do
        {^cancel, :cancelled} -> {:cancelled, run}
      after
        ms -> {:timeout, run}
      end
    end

    def next(%{steps: [{status, events} | steps]} = run, _ms),
      do: {status, events, %{run | steps: steps}}

    @impl true
    def close(run) do
      send(run.job.plan.test, :closed)
      run
    end

    @impl true
    def ending(_run), do: {%{}, []}
    @impl true
    def stderr(_run), do: ""
    @impl true
    def secrets(_job), do: ["sk-secret"]
    @impl true
    def home(_job), do: nil
    @impl true
    def account(_job), do: "test"
    @impl true
    def unsupported, do: [:steer]
  end

  @started %Events.ThreadStarted{thread_id: "t"}
  @begun %Events.TurnStarted{}
  @answer %Events.ItemCompleted{item: %Items.AgentMessage{id: "m", text: "Hi"}}
  @completed %Events.TurnCompleted{}

  defp job(attempts, turn_opts) do
    {:ok, thread} = Codex.start_thread()
    {:ok, turn_opts} = Table.check(:turn, turn_opts)
    {:ok, job} = Job.new({:run, "hi"}, thread.codex_opts, thread, turn_opts)
    agent = start_supervised!({Agent, fn -> attempts end}, id: make_ref())
    %{job | plan: %{attempts: agent, test: self()}}
  end

  defp stream(attempts, mode, turn_opts \\ []) do
    {:ok, job} = Driver.prepare(Scripted, job(attempts, turn_opts), mode)
    Driver.stream(job)
  end

  defp mine, do: Enum.filter(Codex.running(), &(&1.pid == self()))

  test "nothing runs before the stream is read, and each reading is a call of its own" do
    steps = [ok: [@started, @begun, @answer], waiting: [@completed]]
    stream = stream([steps, steps], :events)
    refute_received {:opened, _}

    for _ <- 1..2 do
      assert Enum.to_list(stream) == [@started, @begun, @answer, @completed]
      assert_received {:opened, :first}
      assert_received :closed
      refute_received _any
      assert mine() == []
    end
  end

  test "a reader that halts, raises or throws closes the turn before it goes on" do
    stream = fn -> stream([[ok: [@started, @begun], ok: [@answer]]], :events) end
    assert Enum.take(stream.(), 1) == [@started]
    assert_received :closed
    assert_raise RuntimeError, "mine", fn -> Enum.each(stream.(), fn _ -> raise "mine" end) end
    assert_received :closed
    assert catch_throw(Enum.each(stream.(), &throw/1)) == @started
    assert_received :closed
    assert mine() == []
    # Two streams, read in turns, are suspended in between.
    assert [{@started, @started} | _] = Enum.zip(stream.(), stream.())
    assert_received :closed
    assert_received :closed
  end

  test "a failure is raised after the events, or the last element" do
    attempt = [ok: [@started], failed: :still_running]
    me = self()

    error =
      assert_raise Error, fn -> Enum.each(stream([attempt], :events), &send(me, {:event, &1})) end

    assert error.kind == :protocol
    assert_received {:event, @started}

    for mode <- [:blocking, :elements] do
      assert [@started, {:failed, %Error{kind: :protocol, message: message}}] =
               Enum.to_list(stream([attempt], mode))

      assert message == error.message
    end

    assert [{:failed, %Error{kind: :crashed}}] =
             Enum.to_list(stream([{:failed, :noproc}], :elements))
  end

  test "warnings are for a result; a reader of events alone gets items" do
    attempt = [ok: [@started, {:warnings, ["careful"]}, @completed]]
    assert {:warnings, ["careful"]} in Enum.to_list(stream([attempt], :blocking))
    item = %Events.ItemCompleted{item: %Items.Error{message: "careful"}}
    assert Enum.to_list(stream([attempt], :events)) == [@started, item, @completed]
  end

  test "keys are taken out of failures, and of nothing else" do
    error = %Events.Error{message: "bad key sk-secret"}
    said = %Events.ItemCompleted{item: %Items.AgentMessage{id: "m", text: "sk-secret"}}
    failed = %Events.TurnFailed{error: %{"message" => "no sk-secret"}}

    assert [%{message: "bad key [redacted]"}, ^said, %{error: %{"message" => "no [redacted]"}}] =
             Enum.to_list(stream([[ok: [error, said], ok: [failed]]], :events))

    assert [_, {:failed, %{event: %{message: "bad key [redacted]"}, message: "x [redacted]"}}] =
             Enum.to_list(
               stream([[ok: [error], failed: %{"message" => "x sk-secret"}]], :blocking)
             )
  end

  test "a limit that expires closes the turn and names its option; an ended turn has none" do
    opts = [idle_timeout_ms: 20]
    elements = Enum.to_list(stream([[{:ok, [@started]}, :silence]], :elements, opts))
    assert [@started, {:failed, %Error{kind: :timeout, details: details}}] = elements
    assert %{clock: :idle, option: :idle_timeout_ms, timeout_ms: 20} = details
    assert_received :closed

    opts = [total_timeout_ms: 50]
    steps = [{:ok, [@started]}, {:waiting, [@completed]}, :silence]
    assert Enum.to_list(stream([steps], :elements, opts)) == [@started, @completed]
    # Only the total counts while the host is to answer.
    opts = [idle_timeout_ms: 20, total_timeout_ms: 100]
    elements = Enum.to_list(stream([[{:waiting, [@started]}, :silence]], :elements, opts))
    assert [@started, {:failed, %Error{details: %{clock: :total}}}] = elements
  end

  test "a turn is stopped from another process" do
    stream = stream([[:silence]], :elements)
    task = Task.async(fn -> Enum.to_list(stream) end)
    stop = fn -> Codex.stop(task.pid) == :ok or (Process.sleep(10) && nil) end
    assert Enum.find_value(1..500, fn _ -> stop.() end)

    assert [{:failed, %Error{kind: :interrupted, message: "the run was cancelled"}}] =
             Task.await(task)
  end

  test "an attempt that did nothing is repeated, and leaves no trace" do
    opts = [retry: true, retry_opts: [base_delay_ms: 1, jitter: false, max_attempts: 3]]
    overloaded = %Events.TurnFailed{error: %{"message" => "server overloaded (503)"}}

    failed = [
      {:ok, [@started, @begun, %Events.Error{message: "again"}]},
      {:waiting, [overloaded]}
    ]

    fine = [ok: [@started, @begun, @answer, @completed]]

    assert Enum.to_list(stream([failed, fine], :blocking, opts)) ==
             [@started, @begun, @answer, @completed, {:attempts, 2}]

    assert_received {:opened, :first}
    assert_received {:opened, {:repeat, "t"}}
    # After the first item, nothing is repeated.
    done = [{:ok, [@started, @answer]}, {:waiting, [overloaded]}]

    assert Enum.to_list(stream([done, fine], :events, opts)) == [@started, @answer, overloaded]

    assert [{:attempts, 3} | _] =
             elements = Enum.to_list(stream([failed, failed, failed], :blocking, opts))

    assert List.last(elements) == overloaded
  end

  test "an option without effect is an error" do
    keep = job([[]], keep: [:raw])
    assert Driver.prepare(Scripted, keep, :events) == {:error, {:unsupported_option, :keep}}
    listener = job([[]], on_event: fn _ -> :ok end)
    error = {:error, {:unsupported_option, :on_event}}
    assert Driver.prepare(Scripted, listener, :elements) == error
    {:ok, thread} = Codex.start_thread()
    assert Driver.steer(Scripted, thread, "more") == {:error, {:unsupported, :exec}}
  end

  test "the same end has the same words on every transport" do
    for {status, signal, stderr} <- [
          {3, nil, "oh no"},
          {3, nil, ""},
          {nil, :kill, ""},
          {nil, :term, ""},
          {1, nil, "Error: thread/resume failed: no rollout found for thread id x"}
        ] do
      exit = %Codex.Subprocess.Exit{status: status, signal: signal}
      exec = Failure.error(:exited, %{exit: exit, stderr: stderr, started?: true, resume: "x"})
      info = %{exit_status: status, signal: signal, stderr: stderr}
      app = Failure.error({:app_server_down, info})
      same = [:kind, :message, :retryable?, :exit_status, :signal, :stderr]
      if exec.kind != :thread_not_found, do: assert(Map.take(exec, same) == Map.take(app, same))
    end
  end
end
