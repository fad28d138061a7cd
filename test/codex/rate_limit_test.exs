defmodule Codex.RateLimitTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  alias Codex.{Error, Events, RateLimit, Thread, TransportError}
  alias Codex.Options.Merge
  alias Codex.RateLimit.{Options, Snapshot, Window}

  doctest Codex.RateLimit
  doctest Codex.RateLimit.Snapshot

  defp account, do: "test:#{System.unique_integer([:positive])}"

  describe "detect/1" do
    test "knows the shapes of a limit" do
      limit = Error.rate_limit("slow down", retry_after_ms: 20, details: %{a: 1})

      for result <- [
            {:error, limit},
            {:error, {:turn_failed, limit}},
            {:error, {:exec_failed, limit}}
          ] do
        assert {:rate_limited, %{retry_after_ms: 20, source: :codex_error} = info} =
                 RateLimit.detect(result)

        assert {info.message, info.details, info.kind} == {"slow down", %{a: 1}, :rate_limit}
      end

      assert {:rate_limited, %{source: :codex_error}} =
               RateLimit.detect({:error, %TransportError{message: "m", reason_code: :rate_limit}})

      body = %{"error" => %{"code" => "rate_limit_exceeded"}}

      assert RateLimit.detect({:error, body}) ==
               {:rate_limited, %{retry_after_ms: nil, source: :api_error, body: body}}

      assert RateLimit.detect({:error, {:http_error, 429}}) ==
               {:rate_limited, %{retry_after_ms: nil, source: :http_error_tuple}}

      assert {:rate_limited, %{retry_after_ms: nil, source: :http_429}} =
               RateLimit.detect({:error, %{status: 429}})
    end

    test "a limit of the plan counts if its end is known, a quota never" do
      at = DateTime.utc_now()
      limit = %{Error.new(:usage_limit, "used up") | resets_at: at}

      assert {:rate_limited, %{kind: :usage_limit, resets_at: ^at}} =
               RateLimit.detect({:error, limit})

      assert RateLimit.detect({:error, Error.new(:usage_limit, "used up")}) == :ok
      assert RateLimit.detect({:error, %{Error.new(:quota, "pay") | resets_at: at}}) == :ok
      assert RateLimit.detect({:error, {:http_error, 503}}) == :ok
      assert RateLimit.detect({:ok, limit}) == :ok
    end
  end

  describe "how long to wait" do
    defp delay(info, attempt \\ 1, opts \\ []),
      do: RateLimit.delay(info, attempt, Options.complete!(opts))

    test "is the time of the server" do
      assert delay(%{retry_after_ms: 1_300}, 3) == 1_300
      soon = DateTime.add(DateTime.utc_now(), 30, :second) |> Map.put(:second, 30)
      assert delay(%{retry_after_ms: 5, resets_at: soon}) in 0..60_000
      past = ~U[2020-01-01 00:00:30Z]
      # If the clocks of two machines differ, the time is unknown.
      assert delay(%{retry_after_ms: nil, resets_at: past}) == 60_000
      assert delay(%{retry_after_ms: 20, resets_at: past}) == 20
    end

    test "is until the end of the minute that the CLI's clock shows" do
      now = DateTime.utc_now()
      minute = %{now | second: 0, microsecond: {0, 0}}
      left = (60 - now.second) * 1000
      assert delay(%{retry_after_ms: nil, resets_at: minute}) in (left - 2_000)..left
    end

    test "is a growing guess without a known time, from options or the application environment" do
      for {attempt, ms} <- [
            {1, 60_000},
            {2, 120_000},
            {3, 240_000},
            {4, 300_000},
            {10_000, 300_000}
          ],
          do: assert(delay(%{retry_after_ms: nil}, attempt) == ms)

      opts = [default_delay_ms: 10, multiplier: 1.5, max_delay_ms: 20]
      assert for(n <- 1..4, do: delay(%{retry_after_ms: nil}, n, opts)) == [10, 15, 20, 20]
      assert delay(%{retry_after_ms: nil}, 1_000_000, default_delay_ms: 5, multiplier: 1) == 5
      assert delay(%{retry_after_ms: nil}, 9, default_delay_ms: 0) == 0
      assert RateLimit.calculate_delay(%{retry_after_ms: nil}) == 60_000
    end

    test "refuses unknown options by name, and invalid values" do
      for name <- [:gate, :max_waiting] do
        assert_raise Codex.OptionError, ~r/unknown option #{inspect(name)}/, fn ->
          RateLimit.with_rate_limit_handling(fn -> :ok end, [{name, true}])
        end
      end

      assert_raise Codex.OptionError, ~r/did you mean :max_attempts\?/, fn ->
        RateLimit.with_rate_limit_handling(fn -> :ok end, max_atempts: 1)
      end

      assert_raise Codex.OptionError,
                   ~r/:multiplier must be a number from 1 to 1000, got: 0/,
                   fn ->
                     RateLimit.handle(%{retry_after_ms: 1}, multiplier: 0)
                   end
    end
  end

  test "headers: names in any case, seconds or a date" do
    for {headers, ms} <- [
          {%{"retry-after" => "20"}, 20_000},
          {%{"Retry-After" => 20}, 20_000},
          {%{"x-ratelimit-reset-after" => "2"}, 2_000},
          {[{"RETRY-AFTER", "7"}], 7_000},
          {%{"retry-after" => ["3"]}, 3_000},
          {%{"retry-after" => "1500"}, 1_500_000},
          {%{"retry-after" => "soon"}, nil},
          {%{"retry-after" => "Fri, 31 Dec 1999 23:59:59 GMT"}, nil},
          {%{}, nil},
          {nil, nil},
          {[{to_charlist("Retry-After"), to_charlist("7")}], 7_000},
          {[{:"retry-after", 7}], 7_000},
          {[1 | 2], nil},
          {~D[2020-01-01], nil},
          {%{{1} => "7", [1 | 2] => "7"}, nil},
          {%{"retry-after" => [?7 | 2]}, nil}
        ],
        do: assert({headers, RateLimit.parse_retry_after(%{headers: headers})} == {headers, ms})

    later = System.os_time(:second) + 3_600
    date = :calendar.system_time_to_universal_time(later, :second) |> :httpd_util.rfc1123_date()

    assert RateLimit.parse_retry_after(%{headers: %{"retry-after" => to_string(date)}}) in 3_590_000..3_600_000
  end

  describe "with_rate_limit_handling/2" do
    @fast [default_delay_ms: 0]

    test "calls again while limited, and returns the last result" do
      {:ok, agent} =
        Agent.start_link(fn ->
          [{:error, {:http_error, 429}}, {:error, {:http_error, 429}}, :done]
        end)

      fun = fn -> Agent.get_and_update(agent, fn [a | rest] -> {a, rest} end) end

      log = capture_log(fn -> assert RateLimit.with_rate_limit_handling(fun, @fast) == :done end)
      assert log =~ "rate limited, waiting 0 ms (attempt 2)"
      assert Agent.get(agent, & &1) == []
    end

    test "gives up after max_attempts, or if the wait is too long" do
      limited = fn ->
        send(self(), :called)
        {:error, {:http_error, 429}}
      end

      capture_log(fn ->
        assert {:error, {:http_error, 429}} =
                 RateLimit.with_rate_limit_handling(limited, [max_attempts: 2] ++ @fast)
      end)

      assert_received :called
      assert_received :called
      refute_received :called

      assert {:error, _} = RateLimit.with_rate_limit_handling(limited, max_wait_ms: 59_999)
      assert_received :called
      refute_received :called
    end
  end

  describe "snapshots" do
    test "are read from answers of the app-server, and from session files" do
      answer = %{
        "rateLimits" => %{
          "limitId" => "codex",
          "primary" => %{
            "usedPercent" => 12,
            "windowDurationMins" => 300,
            "resetsAt" => 1_795_150_000
          },
          "secondary" => %{
            "usedPercent" => 30,
            "windowDurationMins" => 10_080,
            "resetsAt" => 1_795_500_000
          },
          "credits" => %{"hasCredits" => true, "unlimited" => false, "balance" => "5.00"},
          "planType" => "plus",
          "rateLimitReachedType" => nil
        }
      }

      account = account()
      assert RateLimit.snapshot(account) == nil
      assert RateLimit.observe(account, answer) == :ok

      assert %Snapshot{plan: "plus", limit_id: "codex", reached: nil} =
               snapshot = RateLimit.snapshot(account)

      assert snapshot.primary == %Window{
               used_percent: 12,
               window_minutes: 300,
               resets_at: ~U[2026-11-20 04:46:40Z]
             }

      assert snapshot.credits == %{has_credits: true, unlimited: false, balance: "5.00"}
      assert snapshot.raw == answer["rateLimits"]

      # An update is sparse, and of another spelling in a session file.
      update = %{
        "limit_id" => "codex",
        "primary" => %{
          "used_percent" => 42.5,
          "window_minutes" => 300,
          "resets_at" => 1_795_150_000
        },
        "secondary" => nil,
        "plan_type" => nil
      }

      RateLimit.observe(account, %Events.AccountRateLimitsUpdated{rate_limits: update})
      assert %{primary: %{used_percent: 42.5}, plan: "plus"} = newer = RateLimit.snapshot(account)
      assert newer.secondary == snapshot.secondary

      # The limit of a single model is not that of the account.
      RateLimit.observe(account, %{"limitId" => "other", "primary" => %{"usedPercent" => 99}})
      assert RateLimit.snapshot(account) == newer
    end

    test "are complete in an answer to a read: null removes a window" do
      account = account()
      window = %{"usedPercent" => 10, "windowDurationMins" => 300, "resetsAt" => 4_102_444_800}
      weekly = %{window | "windowDurationMins" => 10_080}

      read = fn limits, more ->
        limits = Map.merge(%{"limitId" => "codex", "primary" => weekly}, limits)
        RateLimit.observe(account, Map.put(more, "rateLimits", limits))
        RateLimit.snapshot(account)
      end

      full = %{"secondary" => window, "planType" => "plus", "credits" => %{"unlimited" => true}}
      reached = %{"rateLimitReachedType" => "rate_limit_reached", "limitName" => "n"}
      assert %{secondary: %{}, credits: %{}} = read.(Map.merge(full, reached), %{})

      snapshot = read.(%{"secondary" => nil, "planType" => nil}, %{})
      assert %{window_minutes: 10_080} = snapshot.primary

      for field <- [:secondary, :plan, :credits, :reached, :limit_name],
          do: assert({field, Map.fetch!(snapshot, field)} == {field, nil})

      # An update after it is sparse, down to the members of a window.
      update = %{"limitId" => "codex", "primary" => %{"usedPercent" => 11}, "secondary" => nil}
      event = %Events.AccountRateLimitsUpdated{rate_limits: update}
      assert RateLimit.observe(account, event) == :ok
      assert %{primary: primary} = RateLimit.snapshot(account)
      assert primary == %{snapshot.primary | used_percent: 11}
    end

    test "may name one window, or stand by their ids alone" do
      account = account()
      window = &%{"usedPercent" => &1, "windowDurationMins" => 10_080}
      RateLimit.observe(account, %{"primary" => window.(1)})
      RateLimit.observe(account, %{"secondary" => window.(2)})

      assert %{primary: %{used_percent: 1}, secondary: %{used_percent: 2}} =
               RateLimit.snapshot(account)

      for limits <- [%{}, %{"rateLimits" => nil}] do
        all = %{"codex" => %{"primary" => window.(3)}}
        RateLimit.observe(account, Map.put(limits, "rateLimitsByLimitId", all))
        assert %{primary: %{used_percent: 3}, secondary: nil} = RateLimit.snapshot(account)
      end
    end

    test "of an account with several are distinguished by their ids" do
      account = account()
      limits = &%{"limitId" => &1, "primary" => %{"usedPercent" => &2}}

      answer = %{
        "rateLimits" => limits.("gpt", 90),
        "rateLimitsByLimitId" => %{"codex" => limits.("codex", 5), "gpt" => limits.("gpt", 90)},
        "ordinaryUsageAllowed" => false
      }

      RateLimit.observe(account, answer)
      snapshot = RateLimit.snapshot(account)
      assert %{limit_id: "codex", ordinary_usage_allowed: false} = snapshot
      assert snapshot.primary.used_percent == 5
      assert snapshot.by_limit_id["gpt"].primary.used_percent == 90

      event = %Events.AccountRateLimitsUpdated{rate_limits: limits.("gpt", 91)}
      RateLimit.observe(account, event)
      snapshot = RateLimit.snapshot(account)
      assert {snapshot.limit_id, snapshot.primary.used_percent} == {"codex", 5}
      assert snapshot.by_limit_id["gpt"].primary.used_percent == 91
      assert snapshot.ordinary_usage_allowed == false

      one = %{"rateLimits" => limits.("codex", 6), "rateLimitsByLimitId" => nil}
      RateLimit.observe(account, one)
      assert %{by_limit_id: by_id, ordinary_usage_allowed: nil} = RateLimit.snapshot(account)
      assert by_id == %{}
    end

    test "that a run met end when the server allows usage again" do
      account = account()
      at = ~U[2030-01-01 10:00:00Z]
      RateLimit.observe(account, %{Error.new(:usage_limit, "used up") | resets_at: at})
      answer = %{"rateLimits" => %{"primary" => %{"usedPercent" => 1}}}
      RateLimit.observe(account, answer)
      assert %{limited_until: ^at} = RateLimit.snapshot(account)
      RateLimit.observe(account, Map.put(answer, "ordinaryUsageAllowed", true))
      assert %{limited_until: nil} = RateLimit.snapshot(account)
    end

    test "take the end of a limit from a failure" do
      account = account()
      at = ~U[2030-01-01 10:00:00Z]
      RateLimit.observe(account, %{Error.new(:usage_limit, "used up") | resets_at: at})
      assert %{limited_until: ^at, primary: nil} = RateLimit.snapshot(account)
      RateLimit.observe(account, %{"primary" => %{"usedPercent" => 1}})
      assert %{limited_until: ^at, primary: %{used_percent: 1}} = RateLimit.snapshot(account)
    end

    test "show when a reached limit resets" do
      at = ~U[2030-01-01 10:00:30Z]
      later = DateTime.add(at, 3_600, :second)
      window = &%{"usedPercent" => &1, "resetsAt" => DateTime.to_unix(&2)}
      full = %{"primary" => window.(100, at), "secondary" => window.(30, later)}
      word = %{"rateLimitReachedType" => "rate_limit_reached"}
      read = &Snapshot.read(%{"rateLimits" => &1, "ordinaryUsageAllowed" => &2})

      for {snapshot, resets_at} <- [
            {Snapshot.limited(at), at},
            # The app-server rounds the percents.
            {Snapshot.new(full), nil},
            {Snapshot.new(Map.merge(full, word)), at},
            {Snapshot.new(Map.merge(full, %{word | "rateLimitReachedType" => 1})), nil},
            {Snapshot.new(Map.merge(word, %{"secondary" => window.(100, later)})), later},
            {Snapshot.new(Map.merge(word, %{"primary" => %{"usedPercent" => 100}})), nil},
            {Snapshot.new(Map.merge(word, %{"primary" => window.(nil, at)})), nil},
            {Snapshot.new(word), nil},
            {read.(full, false), at},
            {read.(Map.merge(full, word), true), nil},
            {read.(full, nil), nil},
            {Snapshot.merge(Snapshot.limited(later), read.(full, false)), later}
          ],
          do: assert({snapshot, Snapshot.resets_at(snapshot)} == {snapshot, resets_at})
    end

    test "that are no longer reached cause no wait" do
      account = account()
      assert RateLimit.reached(account) == nil

      for {seconds, source} <- [{-61, nil}, {90, :snapshot}] do
        at = DateTime.add(DateTime.utc_now(), seconds, :second)
        RateLimit.observe(account, %{Error.rate_limit("m") | resets_at: at})
        assert RateLimit.reached(account)[:source] == source
      end
    end

    test "ignore malformed data" do
      account = account()

      for odd <- [
            nil,
            1,
            "x",
            %{},
            [],
            %Error{kind: :rate_limit, message: "m"},
            %{"rateLimits" => 1}
          ],
          do: assert(RateLimit.observe(account, odd) == :ok)

      assert RateLimit.snapshot(account) == nil

      RateLimit.observe(account, %{
        "primary" => %{"usedPercent" => "a", "resetsAt" => 1.0e300},
        "credits" => 3,
        "planType" => 1
      })

      assert %{primary: %Window{used_percent: nil, resets_at: nil}, credits: nil, plan: nil} =
               RateLimit.snapshot(account)
    end

    test "are read from every recorded update" do
      recorded =
        for path <- Path.wildcard("test/fixtures/app_server/*.jsonl"),
            line <- File.stream!(path),
            {:ok, %{"msg" => %{"method" => "account/rateLimits/updated", "params" => params}}} <-
              [
                Codex.JSON.decode(line)
              ],
            do: params["rateLimits"]

      assert recorded != []
      for limits <- recorded, do: assert(%Snapshot{raw: ^limits} = Snapshot.new(limits))
    end
  end

  describe "accounts" do
    defp account_of(opts, thread_opts \\ []) do
      {:ok, thread} = Codex.start_thread(opts, thread_opts)
      RateLimit.account(Merge.merge(thread.codex_opts, thread.thread_opts, %{}))
    end

    test "are distinguished by credential, without the key" do
      name = account_of(api_key: "sk-secret-1")
      assert name == account_of(api_key: "sk-secret-1", codex_home: "/other")
      assert name == account_of(env: %{"CODEX_API_KEY" => "sk-secret-1"})
      refute name =~ "secret"

      others = [
        account_of(api_key: "sk-secret-2"),
        account_of([api_key: "sk-secret-1"], model_provider: "p"),
        account_of(api_key: "sk-secret-1", base_url: "https://example.org/v1"),
        account_of(codex_home: "/a"),
        account_of(codex_home: "/b")
      ]

      assert length(Enum.uniq([name | others])) == 6
      assert account_of(codex_home: "/a") == account_of(env: %{"CODEX_HOME" => "/a"})
    end

    test "a thread shows the limits of its account" do
      {:ok, thread} = Codex.start_thread(api_key: "sk-#{account()}")
      assert Thread.rate_limits(thread) == nil

      settings = Merge.merge(thread.codex_opts, thread.thread_opts, %{})
      RateLimit.observe(RateLimit.account(settings), %{"primary" => %{"usedPercent" => 7}})
      assert %Snapshot{primary: %{used_percent: 7}} = Thread.rate_limits(thread)

      own = %Events.AccountRateLimitsUpdated{rate_limits: %{"primary" => %{"usedPercent" => 8}}}
      {thread, _, _} = Thread.reduce_events(thread, [own])
      assert %Snapshot{primary: %{used_percent: 8}} = Thread.rate_limits(thread)
    end
  end
end
