defmodule Codex.RateLimit.Snapshot do
  @moduledoc """
  What is known of an account's limits.

    * `primary`, `secondary` - windows, each a `Codex.RateLimit.Window` or nil
    * `credits` - `%{has_credits: boolean | nil, unlimited: boolean | nil, balance: text | nil}`, or nil
    * `plan` - as the CLI names it (`"plus"`, …), or nil
    * `limit_id`, `limit_name` - which limit it is: `"codex"` is that of the account, others are of single models
    * `reached` - the CLI's word for the limit that is reached (`rateLimitReachedType`), or nil
    * `limited_until` - when the limit ends that a run ran into, as a `DateTime` in UTC, or nil
    * `updated_at` - when the newest of it was seen
    * `raw` - the newest map of limits, as it came

  What a source does not tell stays as it was: `codex exec` tells `limited_until` only, by the failures of its turns; the
  app-server (CLI 0.169) tells the rest.
  """

  alias Codex.RateLimit.Window

  defstruct [
    :limit_id,
    :limit_name,
    :plan,
    :primary,
    :secondary,
    :credits,
    :reached,
    :limited_until,
    :updated_at,
    raw: %{}
  ]

  @type t :: %__MODULE__{
          limit_id: String.t() | nil,
          limit_name: String.t() | nil,
          plan: String.t() | nil,
          primary: Window.t() | nil,
          secondary: Window.t() | nil,
          credits:
            %{
              has_credits: boolean() | nil,
              unlimited: boolean() | nil,
              balance: String.t() | nil
            }
            | nil,
          reached: String.t() | nil,
          limited_until: DateTime.t() | nil,
          updated_at: DateTime.t() | nil,
          raw: map()
        }

  @doc """
  Reads the limits as the app-server (`usedPercent`, `planType`) or a session file (`used_percent`, `plan_type`) has them.
  What is not as it should be is nil.

      iex> snapshot = Codex.RateLimit.Snapshot.new(%{"primary" => %{"usedPercent" => 12, "windowDurationMins" => 300, "resetsAt" => 1795150000}})
      iex> {snapshot.primary.used_percent, snapshot.primary.window_minutes, snapshot.primary.resets_at}
      {12, 300, ~U[2026-11-20 04:46:40Z]}
  """
  @spec new(map()) :: t()
  def new(%{} = limits) do
    %__MODULE__{
      limit_id: text(limits, ~w(limitId limit_id)),
      limit_name: text(limits, ~w(limitName limit_name)),
      plan: text(limits, ~w(planType plan_type)),
      primary: Window.new(limits["primary"]),
      secondary: Window.new(limits["secondary"]),
      credits: credits(limits["credits"]),
      reached: text(limits, ~w(rateLimitReachedType rate_limit_reached_type)),
      updated_at: now(),
      raw: limits
    }
  end

  @doc "The older snapshot with what the newer one tells."
  @spec merge(t() | nil, t()) :: t()
  def merge(nil, newer), do: newer

  # A limit of one model does not hide that of the account.
  def merge(%{limit_id: "codex"} = older, %{limit_id: id}) when id not in [nil, "codex"],
    do: older

  def merge(older, newer) do
    older = if same?(older, newer), do: older, else: %__MODULE__{}

    Map.merge(older, newer, fn
      _key, known, nil -> known
      :raw, known, raw when raw == %{} -> known
      _key, _known, told -> told
    end)
  end

  defp same?(%{limit_id: a}, %{limit_id: b}), do: a == nil or b == nil or a == b

  @doc "What a failure that ends at this time tells."
  @spec limited(DateTime.t()) :: t()
  def limited(until), do: %__MODULE__{limited_until: until, updated_at: now()}

  defp credits(%{} = credits) do
    %{
      has_credits: flag(credits, ~w(hasCredits has_credits)),
      unlimited: flag(credits, ~w(unlimited)),
      balance: text(credits, ~w(balance))
    }
  end

  defp credits(_none), do: nil

  defp text(map, keys), do: first(map, keys, &is_binary/1)
  defp flag(map, keys), do: first(map, keys, &is_boolean/1)

  defp first(map, keys, fits?) do
    Enum.find_value(keys, fn key ->
      value = map[key]
      if fits?.(value), do: {:ok, value}
    end)
    |> case do
      {:ok, value} -> value
      nil -> nil
    end
  end

  defp now, do: DateTime.utc_now() |> DateTime.truncate(:second)
end
