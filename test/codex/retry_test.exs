defmodule Codex.RetryTest do
  use ExUnit.Case, async: true

  alias Codex.{Error, Retry, TransportError}

  doctest Codex.Retry

  alias Codex.Retry.Options

  @fast [jitter: false, base_delay_ms: 0]

  # Returns these results, one for each call, and reports each call to the test.
  defp results(results) do
    {:ok, agent} = Agent.start_link(fn -> results end)

    fn ->
      send(self(), :called)
      Agent.get_and_update(agent, fn [result | rest] -> {result, rest} end)
    end
  end

  defp calls(n \\ 0) do
    receive do
      :called -> calls(n + 1)
    after
      0 -> n
    end
  end

  describe "with_retry/2" do
    test "goes on until it works" do
      assert {:ok, 1} =
               Retry.with_retry(results([{:error, :closed}, {:error, :timeout}, {:ok, 1}]), @fast)

      assert calls() == 3
    end

    test "returns the last error" do
      fun = results([{:error, :closed}, {:error, {:http_error, 502}}, {:ok, :never}])

      assert {:error, {:http_error, 502}} = Retry.with_retry(fun, [max_attempts: 2] ++ @fast)
      assert calls() == 2
    end

    test "repeats nothing that cannot succeed, and obeys retry_if" do
      quota = {:turn_failed, Error.new(:quota, "pay first")}
      assert {:error, ^quota} = Retry.with_retry(results([{:error, quota}]), @fast)

      fun = results([{:error, :odd}, {:ok, 2}])
      assert {:ok, 2} = Retry.with_retry(fun, [retry_if: &(&1 == :odd)] ++ @fast)

      assert {:error, :closed} =
               Retry.with_retry(results([{:error, :closed}]), retry_if: fn _ -> false end)
    end

    test "reports each failure before the wait" do
      on_retry = &send(self(), {:failed, &1, &2})
      fun = results([{:error, :closed}, {:error, :timeout}, {:ok, 1}])
      assert {:ok, 1} = Retry.with_retry(fun, [on_retry: on_retry] ++ @fast)
      assert_received {:failed, 1, :closed}
      assert_received {:failed, 2, :timeout}
    end

    test "waits at least as long as the server says, and gives up if that is too long" do
      next =
        &Options.next(
          Options.check!(@fast ++ &1),
          1,
          Error.rate_limit("slow", retry_after_ms: &2),
          0
        )

      assert next.([], 60) == {:retry, 60}
      assert next.([base_delay_ms: 100], 60) == {:retry, 100}
      assert next.([], 300_001) == :stop
      assert next.([max_retry_after_ms: 59], 60) == :stop

      told = Error.rate_limit("slow down", retry_after_ms: 300_001)
      assert {:error, ^told} = Retry.with_retry(results([{:error, told}]), @fast)
      assert calls() == 1
    end

    test "begins no wait that would end after the total" do
      opts = [base_delay_ms: 1_000_000, max_delay_ms: 1_000_000, total_timeout_ms: 900_000]
      assert {:error, :closed} = Retry.with_retry(results([{:error, :closed}]), opts)
      assert calls() == 1
    end

    test "rejects unknown options" do
      assert_raise Codex.OptionError,
                   ~r/unknown option :max_atempts; did you mean :max_attempts\?/,
                   fn ->
                     Retry.with_retry(fn -> {:ok, 1} end, max_atempts: 1)
                   end

      assert_raise Codex.OptionError, ~r/:max_attempts must be a positive integer, got: 0/, fn ->
        Retry.with_retry(fn -> {:ok, 1} end, max_attempts: 0)
      end

      assert_raise ArgumentError, ~r/got: :odd/, fn -> Retry.with_retry(fn -> :odd end) end

      assert_raise Codex.OptionError, ~r/got: 7/, fn ->
        Retry.with_retry(fn -> {:ok, 1} end, 7)
      end

      assert_raise ArgumentError, ~r/milliseconds for 1, got: :soon/, fn ->
        Retry.with_retry(fn -> {:error, :closed} end, strategy: fn _ -> :soon end)
      end
    end
  end

  describe "calculate_delay/2" do
    test "grows as the strategy says, up to the limit" do
      delays = fn opts ->
        for n <- 1..4, do: Retry.calculate_delay(n, [base_delay_ms: 100, jitter: false] ++ opts)
      end

      assert delays.([]) == [100, 200, 400, 800]
      assert delays.(strategy: :linear) == [100, 200, 300, 400]
      assert delays.(strategy: :constant) == [100, 100, 100, 100]
      assert delays.(strategy: &(&1 * 7)) == [7, 14, 21, 28]
      assert delays.(max_delay_ms: 300) == [100, 200, 300, 300]
      assert Retry.calculate_delay(1_000_000, jitter: false) == 10_000
    end

    test "adds up to a quarter by chance, after the limit" do
      delays = for _ <- 1..500, do: Retry.calculate_delay(9, max_delay_ms: 1_000)
      assert Enum.all?(delays, &(&1 in 1_001..1_250))
      assert length(Enum.uniq(delays)) > 50
    end

    test "takes the strategy in any spelling, as other options do" do
      for strategy <- ["linear", "Linear"] do
        opts = [base_delay_ms: 100, jitter: false, strategy: strategy]
        assert Retry.calculate_delay(3, opts) == 300
        assert {:ok, _} = Codex.Thread.Options.new(retry_opts: opts)
      end

      assert_raise Codex.OptionError, ~r/:strategy must be :exponential, .* got: "some"/, fn ->
        Retry.calculate_delay(3, strategy: "some")
      end
    end

    test "takes the defaults" do
      assert Retry.calculate_delay(2, Retry.default_opts()) in 401..500
    end
  end

  test "retryable errors" do
    for reason <- [
          :timeout,
          :econnrefused,
          :econnreset,
          :closed,
          :nxdomain,
          :stream_reset,
          :stream_timeout,
          {:http_error, 500},
          {:http_error, 429},
          {:codex_timeout, 5},
          {:timeout, "turn/start", 5},
          TransportError.new(75),
          {:exec_failed, Error.normalize(TransportError.new(75))},
          {:turn_failed, Error.rate_limit("slow")},
          Error.rate_limit("slow")
        ],
        do: assert({reason, Retry.retryable?(reason)} == {reason, true})

    for reason <- [
          {:http_error, 400},
          "rate limit",
          nil,
          TransportError.new(1),
          {:turn_failed, Error.new(:quota, "x")},
          {:turn_failed, Error.new(:usage_limit, "x")}
        ],
        do: assert({reason, Retry.retryable?(reason)} == {reason, false})
  end

  describe "with_stream_retry/2" do
    test "is lazy, and passes elements on as they come" do
      test = self()
      stream = Retry.with_stream_retry(fn -> Stream.each(1..3, &send(test, {:made, &1})) end)
      refute_received {:made, _}
      assert Enum.take(stream, 1) == [1]
      assert_received {:made, 1}
      refute_received {:made, 2}
      assert Enum.to_list(stream) == [1, 2, 3]
      assert Enum.zip(stream, 1..9) == [{1, 1}, {2, 2}, {3, 3}]
    end

    test "repeats a stream that fails before its first element" do
      fun =
        results([
          Stream.map([1], fn _ -> raise TransportError.new(75) end),
          {:error, :closed},
          {:ok, [1, 2]}
        ])

      assert fun |> Retry.with_stream_retry(@fast) |> Enum.to_list() == [1, 2]
      assert calls() == 3
    end

    test "repeats nothing of which something was delivered" do
      broken =
        Stream.map([1, 2], fn n -> if n == 2, do: raise(TransportError.new(75)), else: n end)

      stream = Retry.with_stream_retry(results([broken]), @fast)

      assert_raise TransportError, fn ->
        Enum.each(stream, &send(self(), {:element, &1}))
      end

      assert_received {:element, 1}
      assert calls() == 1
    end

    test "does not treat an exception of the reader as its own failure" do
      stream = Retry.with_stream_retry(results([[1]]), @fast)

      assert_raise TransportError, fn ->
        Enum.each(stream, fn _ -> raise TransportError.new(75) end)
      end

      assert calls() == 1
    end

    test "raises the last error" do
      stream = Retry.with_stream_retry(results([{:error, :closed}, {:error, :enoent}]), @fast)
      assert %Error{kind: :unknown} = assert_raise(Error, fn -> Enum.to_list(stream) end)

      stream = Retry.with_stream_retry(results([{:error, TransportError.new(1)}]), @fast)
      assert_raise TransportError, fn -> Enum.to_list(stream) end
    end

    test "an empty stream is not a failure" do
      assert [] |> List.wrap() |> then(&Retry.with_stream_retry(fn -> &1 end)) |> Enum.to_list() ==
               []
    end
  end
end
