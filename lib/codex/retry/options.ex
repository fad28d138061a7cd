defmodule Codex.Retry.Options do
  @moduledoc false
  # The options of `Codex.Retry`, and what they say about the next attempt. Pure.

  alias Codex.Error
  alias Codex.Retry.Settings

  @rows [
    {:max_attempts, :positive, 4, "how many attempts there are in all"},
    {:base_delay_ms, :count, 200, "the delay from which the strategy goes, in ms"},
    {:max_delay_ms, :count, 10_000,
     "the longest delay of the strategy, in ms, before the jitter"},
    {:jitter, :boolean, true, "whether 1 to 25 % are added by chance, so that callers part"},
    {:strategy, :strategy, :exponential,
     "the delay before attempt n + 1: base · 2^(n - 1), base · n, base, or what the function returns for n, in ms"},
    {:retry_if, {:fun, 1}, &Error.retryable?/1,
     "whether an attempt that failed with this reason is repeated"},
    {:on_retry, {:fun, 2}, &__MODULE__.ignore/2,
     "called with the number of the attempt that failed and its reason, before the wait"},
    {:max_retry_after_ms, :timeout, 300_000,
     "where the server wants a longer wait than this, in ms, the error comes back at once"},
    {:total_timeout_ms, :timeout, :infinity,
     "in ms since the first attempt began: no wait that would end later is begun"},
    {:resume_prompt, :text, "Continue.",
     "what a run with `retry: :resume` says to the thread; only there"},
    {:telemetry_prefix, :atoms, [:codex],
     "first part of event names; of a run, it is the client's"}
  ]

  @doc false
  def rows, do: @rows

  @doc false
  def ignore(_attempt, _reason), do: :ok

  @spec check(term()) :: {:ok, map()} | {:error, Settings.reason()}
  def check(opts), do: Settings.check(@rows, opts)

  @spec check!(term()) :: map()
  def check!(opts), do: Settings.check!(@rows, opts)

  @spec docs() :: String.t()
  def docs, do: Settings.docs(@rows)

  # 2^40 times a millisecond is longer than anybody waits.
  @most_doublings 40

  @doc "The delay of the strategy after this many attempts, in ms."
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
  How long to wait after attempt number `attempt` failed with `reason`, `elapsed` ms after the first began; `:stop` where no
  other attempt is to follow. What the server asked for is the least.
  """
  # `:infinity` is above every number.
  @spec next(map(), pos_integer(), term(), non_neg_integer()) ::
          {:retry, non_neg_integer()} | :stop
  def next(opts, attempt, reason, elapsed) do
    with true <- attempt < opts.max_attempts,
         true <- !!opts.retry_if.(reason),
         told = Error.normalize(reason).retry_after_ms || 0,
         true <- told <= opts.max_retry_after_ms,
         delay = attempt |> delay(opts) |> max(told) |> min(Settings.max_ms()),
         true <- elapsed + delay <= opts.total_timeout_ms do
      {:retry, delay}
    else
      _ -> :stop
    end
  end
end
