defmodule Codex.Retry.Options do
  @moduledoc false
  # The options of `Codex.Retry`, and the decision on the next attempt. Pure.

  alias Codex.Error
  alias Codex.Options.Schema

  @rows [
    {:max_attempts, :positive, 4, "the number of attempts in all"},
    {:base_delay_ms, :count, 200, "the delay in ms from which the strategy computes"},
    {:max_delay_ms, :count, 10_000, "the longest delay of the strategy in ms, before the jitter"},
    {:jitter, :boolean, true,
     "adds 1 to 25 % to the delay at random, so that callers do not repeat at the same time"},
    {:strategy, :strategy, :exponential,
     "the delay before attempt n + 1: base · 2^(n - 1), base · n, base, or the result of the " <>
       "function for n, in ms"},
    {:retry_if, {:fun, 1}, &Error.retryable?/1,
     "returns true if an attempt that failed with this reason is repeated"},
    {:on_retry, {:fun, 2}, &__MODULE__.ignore/2,
     "called with the number of the failed attempt and its reason, before the wait"},
    {:max_retry_after_ms, :timeout, 300_000,
     "the error is returned at once if the server asks for a longer wait than this, in ms"},
    {:total_timeout_ms, :timeout, :infinity,
     "the time limit in ms since the first attempt began: no wait begins that would end later"},
    {:resume_prompt, :text, "Continue.", "the prompt of a resumed thread; for `retry: :resume`"},
    {:telemetry_prefix, :atoms, [:codex],
     "the first part of event names; a run uses the client's"}
  ]

  @doc false
  def rows, do: @rows

  @doc false
  def ignore(_attempt, _reason), do: :ok

  @spec check(term()) :: {:ok, map()} | {:error, Schema.reason()}
  def check(opts), do: Schema.check(@rows, opts)

  @spec check!(term()) :: map()
  def check!(opts), do: Schema.check!(@rows, opts)

  @spec docs() :: String.t()
  def docs, do: Schema.docs(@rows)

  # 2^40 ms is longer than any useful wait.
  @most_doublings 40

  @doc "Returns the delay of the strategy after this many attempts, in ms."
  @spec delay(pos_integer(), map()) :: non_neg_integer()
  def delay(attempt, opts) do
    opts.strategy |> grown(attempt, opts.base_delay_ms) |> min(opts.max_delay_ms) |> jitter(opts)
  end

  defp grown(:exponential, n, base), do: base * 2 ** min(n - 1, @most_doublings)
  defp grown(:linear, n, base), do: base * n
  defp grown(:constant, _n, base), do: base

  defp grown(fun, n, _base) do
    case fun.(n) do
      ms when is_integer(ms) and ms >= 0 ->
        ms

      other ->
        raise ArgumentError,
              "expected the strategy to return milliseconds for #{n}, got: #{inspect(other)}"
    end
  end

  defp jitter(delay, %{jitter: true}) when delay >= 4, do: delay + :rand.uniform(div(delay, 4))
  defp jitter(delay, _opts), do: delay

  @doc """
  Decides after attempt number `attempt` failed with `reason`, `elapsed` ms after the first began:
  the delay before the next attempt, or `:stop`. The delay is at least the server's
  `retry_after_ms`.
  """
  # `:infinity` is greater than every number.
  @spec next(map(), pos_integer(), term(), non_neg_integer()) ::
          {:retry, non_neg_integer()} | :stop
  def next(opts, attempt, reason, elapsed) do
    with true <- attempt < opts.max_attempts,
         true <- !!opts.retry_if.(reason),
         asked = Error.normalize(reason).retry_after_ms || 0,
         true <- asked <= opts.max_retry_after_ms,
         delay = attempt |> delay(opts) |> max(asked) |> min(Schema.max_ms()),
         true <- elapsed + delay <= opts.total_timeout_ms do
      {:retry, delay}
    else
      _ -> :stop
    end
  end
end
