defmodule Codex.Retry.TelemetryTest do
  # With and without `:telemetry`; it stands in for that application, so nothing else may run
  # meanwhile.
  use ExUnit.Case, async: false

  alias Codex.{Error, RateLimit, Retry, Stub, Telemetry, Thread}
  alias Codex.Telemetry.Table

  doctest Codex.Telemetry

  # Stands in for `:telemetry.execute/3`, with a handler that sends to this test.
  defp load_telemetry do
    Process.register(self(), :codex_telemetry_test)

    Code.compile_quoted(
      quote do
        defmodule :telemetry do
          def execute(event, measurements, metadata),
            do: send(:codex_telemetry_test, {:event, event, measurements, metadata})
        end
      end
    )

    on_exit(fn ->
      :code.purge(:telemetry)
      :code.delete(:telemetry)
    end)
  end

  test "without it nothing happens" do
    refute :erlang.function_exported(:telemetry, :execute, 3)
    assert Telemetry.execute([:codex, :a], %{}, %{}) == :ok
    assert Retry.with_retry(fn -> {:ok, 1} end) == {:ok, 1}
  end

  test "each attempt of Codex.Retry emits an event" do
    load_telemetry()
    {:ok, agent} = Agent.start_link(fn -> [{:error, :closed}, {:ok, 1}] end)
    fun = fn -> Agent.get_and_update(agent, fn [a | rest] -> {a, rest} end) end

    assert {:ok, 1} =
             Retry.with_retry(fun, base_delay_ms: 3, jitter: false, telemetry_prefix: [:my, :app])

    assert_received {:event, [:my, :app, :retry, :attempt],
                     %{delay_ms: 3, duration: duration, system_time: _},
                     %{
                       attempt: 1,
                       max_attempts: 4,
                       outcome: :retry,
                       reason: :closed,
                       kind: :stream_disconnected,
                       mode: :repeat
                     }}

    assert is_integer(duration)

    assert_received {:event, [:my, :app, :retry, :attempt], %{delay_ms: 0},
                     %{attempt: 2, outcome: :ok, reason: nil, kind: nil, mode: nil}}

    Retry.with_retry(fn -> {:error, :enoent} end)

    assert_received {:event, [:codex, :retry, :attempt], _,
                     %{attempt: 1, outcome: :error, kind: :unknown}}

    assert [1] == Enum.to_list(Retry.with_stream_retry(fn -> [1] end))
    assert_received {:event, [:codex, :retry, :attempt], _, %{attempt: 1, outcome: :ok}}
    refute_received {:event, _, _, _}
  end

  @tag :tmp_dir
  test "a run emits its attempts and limits under the prefix of the client, without a key",
       %{
         tmp_dir: dir
       } do
    load_telemetry()

    body = """
    cat > /dev/null
    if [ -e #{dir}/once ]; then echo "$turn"; else touch #{dir}/once
    echo "$started"; echo '{"type":"turn.failed","error":{"message":"rate limit exceeded: sk-my-secret-key, try again in 0.02s."}}'; exit 1; fi
    """

    thread = Stub.thread(dir, body, telemetry_prefix: [:acme], api_key: "sk-my-secret-key")
    assert {:ok, %{attempts: 2}} = Thread.run(thread, "hi", retry: true, rate_limit: true)

    assert_received {:event, [:acme, :rate_limit, :rate_limited], %{system_time: _},
                     %{delay_ms: 20, attempt: 1, info: %{kind: :rate_limit}} = limited}

    assert_received {:event, [:acme, :retry, :attempt], %{delay_ms: 20},
                     %{
                       attempt: 1,
                       outcome: :retry,
                       kind: :rate_limit,
                       mode: :repeat,
                       reason: {:turn_failed, %Error{}}
                     } = failed}

    assert_received {:event, [:acme, :retry, :attempt], _, %{attempt: 2, outcome: :ok}}
    refute_received {:event, [_prefix, :retry | _], _, _}
    refute_received {:event, [_prefix, :rate_limit | _], _, _}
    refute inspect({limited, failed}, structs: false, limit: :infinity) =~ "secret"
  end

  test "the table of events has all emitted events" do
    load_telemetry()
    ExUnit.CaptureLog.capture_log(fn -> RateLimit.handle(%{retry_after_ms: 1}) end)
    Retry.with_retry(fn -> {:ok, 1} end)

    for name <- [[:retry, :attempt], [:rate_limit, :rate_limited]] do
      event = [:codex | name]
      assert_received {:event, ^event, measurements, metadata}
      {told, known, _content} = Table.keys(name)
      assert Enum.sort(Map.keys(measurements)) == Enum.sort(told)
      assert Enum.sort(Map.keys(metadata)) == Enum.sort(known)
    end
  end

  test "Codex.RateLimit.handle/2 emits the limit" do
    load_telemetry()

    ExUnit.CaptureLog.capture_log(fn ->
      assert RateLimit.handle(%{retry_after_ms: 1, source: :http_429}, attempt: 2) == :ok
    end)

    assert_received {:event, [:codex, :rate_limit, :rate_limited], _,
                     %{delay_ms: 1, attempt: 2, info: %{source: :http_429}}}
  end
end
