defmodule Codex.Retry.Options do
  @moduledoc false
  # The options of `Codex.Retry`, and the decision on the next attempt. Pure.

  alias Codex.{Error, OptionError}
  alias Codex.Options.Rows.Retry, as: Rows
  alias Codex.Options.{Schema, Type}

  @schema Schema.new(Rows.retry(), places: true)

  @spec check(term()) :: {:ok, map()} | {:error, OptionError.t()}
  def check(opts) do
    with {:ok, opts} <- Schema.validate(@schema, opts, &Rows.cast/2), do: {:ok, complete(opts)}
  end

  @spec check!(term()) :: map()
  def check!(opts), do: @schema |> Schema.validate!(opts, &Rows.cast/2) |> complete()

  defp complete(opts) do
    %{
      opts
      | retry_if: opts.retry_if || (&Error.retryable?/1),
        on_retry: opts.on_retry || fn _attempt, _reason -> :ok end
    }
  end

  @spec docs() :: String.t()
  def docs, do: Schema.docs(@schema)

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
              "expected the strategy to return milliseconds for #{n}, got: #{Type.kind(other)}"
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
         delay = attempt |> delay(opts) |> max(asked) |> min(Type.max_ms()),
         true <- elapsed + delay <= opts.total_timeout_ms do
      {:retry, delay}
    else
      _ -> :stop
    end
  end
end
