defmodule Codex.Options.Rows.Retry do
  @moduledoc false
  # The options of `Codex.Retry` and `Codex.RateLimit`, as rows of `Codex.Options.Schema`.

  alias Codex.Options.Type

  @prefix {:telemetry_prefix, :atoms, "the first part of event names; a run uses the client's",
           default: [:codex]}

  @retry [
    {:max_attempts, {:integer, 1, 0xFFFFFFFF}, "the number of attempts in all",
     default: 4, expected: "a positive integer"},
    {:base_delay_ms, :wait, "the delay from which the strategy computes", default: 200},
    {:max_delay_ms, :wait, "the longest delay of the strategy, before the jitter",
     default: 10_000},
    {:jitter, :boolean,
     "adds 1 to 25 % to the delay at random, so that callers do not repeat at the same time",
     default: true},
    {:strategy, :strategy,
     "the delay before attempt n + 1: base · 2^(n - 1), base · n, base, or the result of the " <>
       "function for n, in ms",
     default: :exponential,
     expected: "`:exponential`, `:linear`, `:constant` or a function of arity 1"},
    {:retry_if, {:fun, 1}, "returns true if an attempt that failed with this reason is repeated",
     shown: "`&Codex.Error.retryable?/1`"},
    {:on_retry, {:fun, 2},
     "called with the number of the failed attempt and its reason, before the wait",
     shown: "none"},
    {:max_retry_after_ms, :limit,
     "the error is returned at once if the server asks for a longer wait than this",
     default: 300_000, expected: "0, a positive integer in milliseconds or `:infinity`"},
    {:total_timeout_ms, :limit,
     "the time limit since the first attempt began: no wait begins that would end later",
     default: :infinity, expected: "0, a positive integer in milliseconds or `:infinity`"},
    {:resume_prompt, :string, "the prompt of a resumed thread; for `retry: :resume`",
     default: "Continue."},
    @prefix
  ]

  @rate_limit [
    {:max_attempts, {:integer, 1, 0xFFFFFFFF}, "the number of attempts in all",
     default: 3, expected: "a positive integer"},
    {:default_delay_ms, :wait, "the first wait if the server gives no time",
     shown: "`:rate_limit_default_delay_ms` of the application environment, else 60_000"},
    {:max_delay_ms, :wait, "the longest of these waits",
     shown: "`:rate_limit_max_delay_ms` of the application environment, else 300_000"},
    {:multiplier, :factor, "each of these waits is multiplied with this for the next",
     expected: "a number from 1 to 1000",
     shown: "`:rate_limit_multiplier` of the application environment, else 2.0"},
    {:max_wait_ms, :limit, "the error is returned at once if a wait is longer",
     expected: "0, a positive integer in milliseconds or `:infinity`", shown: "`max_delay_ms`"},
    {:shared, :boolean,
     "for runs: whether a limit stops all runs of the account that have this option, on all " <>
       "connected nodes, until it resets", default: false},
    {:account, :string, "a name for the account",
     shown: "the provider and a digest of key or home"},
    @prefix
  ]

  @doc "Returns the rows of `Codex.Retry`."
  @spec retry() :: [tuple()]
  def retry, do: @retry

  @doc "Returns the rows of `Codex.RateLimit`."
  @spec rate_limit() :: [tuple()]
  def rate_limit, do: @rate_limit

  @doc "Checks a value of the types that only these rows have."
  @spec cast(atom(), term()) :: {:ok, term()} | :error
  def cast(:limit, :infinity), do: {:ok, :infinity}
  def cast(:limit, ms) when is_integer(ms) and ms in 0..0xFFFFFFFF, do: {:ok, ms}
  def cast(:factor, n) when is_number(n) and n >= 1 and n <= 1_000, do: {:ok, n}
  def cast(:strategy, fun) when is_function(fun, 1), do: {:ok, fun}

  def cast(:strategy, word), do: Type.cast({:one_of, [:exponential, :linear, :constant]}, word)
  def cast(_type, _value), do: :error
end
