defmodule Codex.Retry.Policy do
  @moduledoc false
  # What the options of a run say about failures, on any lane.

  alias Codex.RateLimit
  alias Codex.Retry.Attempts

  @doc """
  The policy of a run or a review, or nil if nothing is on. `account` is called for the account
  whose limits count, if no option names it.
  """
  @spec of(map(), [String.t()], :run | :review, (() -> String.t())) :: Attempts.policy() | nil
  def of(settings, tokens, what, account) do
    retry = if on?(settings.retry, settings.retry_opts), do: retry(settings)
    limits = if on?(settings.rate_limit, settings.rate_limit_opts), do: limits(settings)

    if retry || limits do
      %{
        retry: retry,
        limits: limits,
        # What is not kept cannot be resumed, and there is no such thing as half a review.
        resume?: settings.retry == :resume and what == :run and settings.ephemeral != true,
        redo?: what == :review,
        account: (limits && limits.account) || account.(),
        total: settings.total_timeout_ms || :infinity,
        tokens: tokens
      }
    end
  end

  # Options are as good as `true`, but not against `false`.
  defp on?(nil, opts), do: opts not in [nil, [], %{}]
  defp on?(switch, _opts), do: switch != false

  defp retry(settings) do
    opts = Codex.Retry.Options.check!(settings.retry_opts || [])
    %{opts | telemetry_prefix: settings.telemetry_prefix}
  end

  defp limits(settings) do
    opts = RateLimit.Options.complete!(settings.rate_limit_opts || [])
    %{opts | telemetry_prefix: settings.telemetry_prefix}
  end
end
