defmodule Codex.Retry.Plan do
  @moduledoc false
  # Decides by the options `retry` and `rate_limit` about a failed attempt of a turn. Pure, but for
  # the snapshot of the account's limits.

  alias Codex.{RateLimit, Retry}
  alias Codex.RateLimit.Gate

  defstruct [
    :retry,
    :limits,
    :account,
    :ticket,
    resume?: false,
    redo?: false,
    total: :infinity,
    tries: 1,
    limited: 0
  ]

  @typedoc """
  `retry` and `limits` are checked options, or nil if switched off. `resume?`: the thread can be
  continued. `redo?`: an attempt that did some work may be repeated. `account`: names the account of
  the limits when it is needed. `total`: the time limit of the call in ms. `tries` and `limited`
  count attempts.
  """
  @type t :: %__MODULE__{
          retry: map() | nil,
          limits: map() | nil,
          account: (... -> String.t()),
          ticket: Gate.ticket() | nil,
          resume?: boolean(),
          redo?: boolean(),
          total: timeout(),
          tries: pos_integer(),
          limited: non_neg_integer()
        }

  @typedoc "A failed attempt: the event `TurnFailed`, or an attempt that did not end its turn."
  @type reason :: {:turn_failed | :exec_failed, Codex.Error.t()}

  @doc """
  Returns the plan of a run or a review, or nil if the settings switch nothing on. `account` is
  called for the account of the limits, unless an option names it.
  """
  @spec new(map(), :run | :review, (... -> String.t())) :: t() | nil
  def new(settings, kind, account) do
    retry = options(Retry.Options, :check!, settings.retry, settings.retry_opts, settings)

    limits =
      options(
        RateLimit.Options,
        :complete!,
        settings.rate_limit,
        settings.rate_limit_opts,
        settings
      )

    if retry || limits do
      %__MODULE__{
        retry: retry,
        limits: limits,
        # An ephemeral thread is not stored, and half a review cannot be continued.
        resume?: settings.retry == :resume and kind == :run and settings.ephemeral != true,
        redo?: kind == :review,
        account: account(limits, account),
        total: settings.total_timeout_ms || :infinity
      }
    end
  end

  defp account(%{account: account}, _default) when account != nil, do: fn -> account end
  defp account(_limits, default), do: default

  # Options alone switch it on, unless the switch is false.
  defp options(_module, _check, nil, opts, _settings) when opts in [nil, [], %{}], do: nil
  defp options(_module, _check, false, _opts, _settings), do: nil

  defp options(module, check, _on, opts, settings) do
    opts = apply(module, check, [opts || []])
    %{opts | telemetry_prefix: settings.telemetry_prefix}
  end

  @doc "Returns whether every attempt of the run has to pass the gate of its account."
  @spec gate?(t() | nil) :: boolean()
  def gate?(plan), do: match?(%{limits: %{shared: true}}, plan)

  @doc """
  Returns the wait before an attempt: before the first one if the account's limit is known to be
  reached, and with a gate before each of them. After the wait, a run with a gate asks again.
  """
  @spec before(t() | nil, integer()) ::
          {:go, t() | nil} | {:wait, non_neg_integer(), t()} | {:refused, Codex.Error.t()}
  def before(%{limits: %{shared: true}} = plan, elapsed) do
    case Gate.check(plan.account.(), plan.ticket) do
      :open ->
        {:go, %{plan | ticket: nil}}

      {:wait, ms, ticket} ->
        info = %{retry_after_ms: ms, resets_at: resets_at(ticket), source: :snapshot}
        _ = if ticket != plan.ticket, do: RateLimit.announce(info, 0, ms, plan.limits)

        if fits?(plan, ms, elapsed),
          do: {:wait, ms, %{plan | ticket: ticket}},
          else: {:refused, refused(info, ms)}
    end
  end

  def before(%{limits: %{} = limits} = plan, elapsed) do
    case if(RateLimit.Store.any?(), do: RateLimit.reached(plan.account.())) do
      nil ->
        {:go, plan}

      info ->
        delay = RateLimit.delay(info, 1, limits)
        RateLimit.announce(info, 0, delay, limits)

        if fits?(plan, delay, elapsed),
          do: {:wait, delay, plan},
          else: {:refused, refused(info, delay)}
    end
  end

  def before(plan, _elapsed), do: {:go, plan}

  defp resets_at({until, _at}), do: DateTime.from_unix!(until, :millisecond)
  defp resets_at(nil), do: nil

  defp refused(info, delay) do
    message =
      "the rate limit of the account is reached until #{info.resets_at}: waiting #{delay} ms " <>
        "is longer than max_wait_ms or total_timeout_ms allow"

    error = Codex.Error.rate_limit(message, retry_after_ms: max(delay, 1))
    %{error | resets_at: info.resets_at}
  end

  @doc """
  Decides after a failed attempt: the wait before the next one, or `:stop`. `again?` is false if no
  attempt may follow; the account's snapshot learns of a limit all the same.
  """
  @spec decide(t(), reason(), again? :: boolean(), elapsed :: non_neg_integer()) ::
          {:wait, non_neg_integer(), t()} | :stop
  def decide(plan, reason, again?, elapsed) do
    case limit(plan, reason, elapsed) do
      _limit when not again? -> :stop
      {:wait, delay} -> {:wait, delay, %{plan | limited: plan.limited + 1}}
      :too_long -> :stop
      :none -> retry(plan, reason, elapsed)
    end
  end

  defp limit(%{limits: nil}, _reason, _elapsed), do: :none

  defp limit(%{limits: limits} = plan, {_tag, error} = reason, elapsed) do
    case RateLimit.detect({:error, reason}) do
      {:rate_limited, info} ->
        n = plan.limited + 1
        delay = RateLimit.delay(info, n, limits)
        RateLimit.announce(info, n, delay, limits)
        RateLimit.observe(plan.account.(), error)
        _ = if limits.shared, do: Gate.close(plan.account.(), delay)

        if n < limits.max_attempts and fits?(plan, delay, elapsed),
          do: {:wait, delay},
          else: :too_long

      :ok ->
        :none
    end
  end

  defp fits?(plan, delay, elapsed),
    do: delay <= plan.limits.max_wait_ms and delay < left(plan, elapsed)

  defp retry(%{retry: nil}, _reason, _elapsed), do: :stop

  defp retry(%{retry: opts} = plan, reason, elapsed) do
    with {:retry, delay} <- Retry.Options.next(opts, plan.tries, reason, elapsed),
         true <- delay < left(plan, elapsed) do
      {:wait, delay, %{plan | tries: plan.tries + 1}}
    else
      _ -> :stop
    end
  end

  # `:infinity` is above every number.
  defp left(%{total: :infinity}, _elapsed), do: :infinity
  defp left(plan, elapsed), do: max(plan.total - elapsed, 0)
end
