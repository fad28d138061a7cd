defmodule Codex.RateLimit.Snapshot do
  @moduledoc """
  The known limits of an account.

    * `primary`, `secondary` - windows, each a `Codex.RateLimit.Window` or nil
    * `credits` - a map with `has_credits`, `unlimited` (booleans or nil) and `balance` (a string
      or nil), or nil
    * `plan` - the CLI's name of the plan (`"plus"`, …), or nil
    * `limit_id`, `limit_name` - the limit: `"codex"` is the account's, others are for single
      models
    * `by_limit_id` - the limits of an account with several, each a snapshot, by their ids
    * `ordinary_usage_allowed` - true if the app-server reports that the account can run turns now,
      false if not, or nil
    * `reached` - the CLI's word for the limit that is reached (`rateLimitReachedType`), or nil
    * `limited_until` - the end of the limit that a run met, as a `DateTime` in UTC, or nil
    * `updated_at` - the time of the newest update
    * `raw` - the newest map of limits, unchanged

  An answer to `account/rateLimits/read` is whole: a null member of it is nil here. All other
  sources are sparse and leave the members that they do not name as they were. `codex exec`
  reports `limited_until` only, by the failures of its turns; the app-server reports the rest.
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
    :ordinary_usage_allowed,
    by_limit_id: %{},
    raw: %{}
  ]

  @typedoc "The limits of an account. Fields: see above."
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
          by_limit_id: %{String.t() => t()},
          ordinary_usage_allowed: boolean() | nil,
          limited_until: DateTime.t() | nil,
          updated_at: DateTime.t() | nil,
          raw: map()
        }

  @doc """
  Reads the limits of the app-server (`usedPercent`, `planType`) or of a session file
  (`used_percent`, `plan_type`). Invalid members are nil.

      iex> primary = %{"usedPercent" => 12, "windowDurationMins" => 300, "resetsAt" => 1795150000}
      iex> snapshot = Codex.RateLimit.Snapshot.new(%{"primary" => primary})
      iex> {snapshot.primary.used_percent, snapshot.primary.resets_at}
      {12, ~U[2026-11-20 04:46:40Z]}
  """
  @spec new(map()) :: t()
  def new(%{} = limits) when not is_struct(limits) do
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

  @doc """
  Reads the answer to `account/rateLimits/read`: the limit of the account, and all limits by id.

      iex> answer = %{"rateLimits" => %{"limitId" => "codex"}, "ordinaryUsageAllowed" => false}
      iex> Codex.RateLimit.Snapshot.read(answer).ordinary_usage_allowed
      false
  """
  @spec read(map()) :: t()
  def read(%{"rateLimits" => %{} = limits} = answer) do
    all = by_limit_id(answer["rateLimitsByLimitId"])

    %__MODULE__{} = snapshot = account(new(limits), all)
    allowed = flag(answer, ~w(ordinaryUsageAllowed ordinary_usage_allowed))
    %{snapshot | by_limit_id: all, ordinary_usage_allowed: allowed}
  end

  # The older member of the answer may show the limit of one model.
  defp account(%{limit_id: id}, %{"codex" => account}) when id != "codex", do: account
  defp account(snapshot, _all), do: snapshot

  defp by_limit_id(%{} = limits) do
    for {id, %{} = limit} <- limits, is_binary(id), into: %{} do
      snapshot = new(limit)
      {id, %{snapshot | limit_id: snapshot.limit_id || id}}
    end
  end

  defp by_limit_id(_none), do: %{}

  @doc "Returns the whole snapshot. An end that a run met holds, unless usage is allowed again."
  @spec replace(t() | nil, t()) :: t()
  def replace(%{limited_until: until}, %{ordinary_usage_allowed: allowed} = whole)
      when allowed != true,
      do: %{whole | limited_until: whole.limited_until || until}

  def replace(_older, whole), do: whole

  @doc "Merges the members of the newer snapshot into the older one."
  @spec merge(t() | nil, t()) :: t()
  def merge(nil, %__MODULE__{} = newer), do: newer

  def merge(%__MODULE__{} = older, %__MODULE__{} = newer) do
    by_limit_id = update(older.by_limit_id, newer)

    merged =
      cond do
        same?(older, newer) -> combine(older, newer)
        # The limit of one model does not hide the account's.
        older.limit_id == "codex" -> older
        true -> combine(%__MODULE__{}, newer)
      end

    %{merged | by_limit_id: by_limit_id}
  end

  # Empty: the account is not known to have several limits.
  defp update(all, newer) when all == %{} or newer.limit_id == nil, do: all
  defp update(all, newer), do: Map.update(all, newer.limit_id, newer, &combine(&1, newer))

  defp combine(older, newer) do
    Map.merge(older, newer, fn
      _key, known, nil -> known
      :raw, known, raw when raw == %{} -> known
      key, known, window when key in [:primary, :secondary] -> Window.merge(known, window)
      :credits, %{} = known, credits -> Map.merge(known, credits, &newest/3)
      _key, _known, newer -> newer
    end)
  end

  defp newest(_key, known, nil), do: known
  defp newest(_key, _known, newer), do: newer

  defp same?(%{limit_id: a}, %{limit_id: b}), do: a == nil or b == nil or a == b

  @doc """
  Returns when the reached limit resets, or nil if no limit is known to be reached.

  A limit counts as reached if a run met it (`limited_until`), or if the app-server reports it and a
  window is used up. The app-server rounds percents, so a full window alone is not enough.
  """
  @spec resets_at(t()) :: DateTime.t() | nil
  def resets_at(%__MODULE__{} = snapshot) do
    windows = if reached?(snapshot), do: [snapshot.primary, snapshot.secondary], else: []

    full =
      for %{used_percent: used, resets_at: %DateTime{} = at} when is_number(used) <- windows,
          used >= 100,
          do: at

    [snapshot.limited_until | full]
    |> Enum.reject(&is_nil/1)
    |> Enum.max(DateTime, fn -> nil end)
  end

  defp reached?(%{ordinary_usage_allowed: nil, reached: reached}), do: reached != nil
  defp reached?(%{ordinary_usage_allowed: allowed}), do: not allowed

  @doc "Returns the snapshot of a failure whose limit ends at this time."
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
