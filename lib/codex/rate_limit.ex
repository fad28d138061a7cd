defmodule Codex.RateLimit do
  @moduledoc """
  Detects the rate limits of an account, waits until they reset, and keeps snapshots of them.

      Codex.RateLimit.with_rate_limit_handling(fn -> Codex.Thread.run(thread, prompt) end)

  The options `rate_limit` and `rate_limit_opts` of a thread or a turn do this for runs: see
  "Rate limits" in `guides/errors.md`.

  ## Limits

  A failure of kind `:rate_limit` is a limit. A failure of kind `:usage_limit` is one if its end
  is known. A used up quota (`:quota`) is not: waiting does not help.

  ## Delays

  A wait ends when the limit resets (`resets_at`; the CLI reports it to the minute, so the wait
  includes that minute), or after the time that the server named (`retry_after_ms`). If neither
  is known, the wait is a guess that grows with each attempt: `default_delay_ms`, `multiplier` and
  `max_delay_ms`.

  ## Options

  As map or keyword list:

  #{Codex.RateLimit.Options.docs()}

  An unknown option or an invalid value raises `Codex.OptionError`.
  """

  require Logger

  alias Codex.{Error, Events, OptionError, Telemetry, TransportError}
  alias Codex.Error.Classifier
  alias Codex.Options.Type
  alias Codex.RateLimit.{AccountKey, Options, Snapshot, Store}

  @codes ~w(rate_limit_exceeded rate_limit rate_limit_error)

  # The CLI reports times without seconds.
  @minute_ms 60_000

  @typedoc """
  A limit: `retry_after_ms`, and the `source`. A `:codex_error` also has `message`, `details`,
  `kind` and `resets_at`, an `:api_error` its `body`, and a `:snapshot` of the account `resets_at`.
  """
  @type info :: %{
          required(:retry_after_ms) => pos_integer() | nil,
          required(:source) =>
            :codex_error | :http_429 | :api_error | :http_error_tuple | :snapshot,
          optional(:message) => String.t(),
          optional(:details) => map(),
          optional(:kind) => :rate_limit | :usage_limit,
          optional(:resets_at) => DateTime.t() | nil,
          optional(:body) => map()
        }

  @doc """
  Returns `{:rate_limited, info}` if this is the result of a limited call, else `:ok`.

      iex> response = %{status: 429, headers: %{"retry-after" => "7"}}
      iex> {:rate_limited, info} = Codex.RateLimit.detect({:error, response})
      iex> {info.retry_after_ms, info.source}
      {7_000, :http_429}
      iex> Codex.RateLimit.detect({:error, :closed})
      :ok
  """
  @spec detect(term()) :: {:rate_limited, info()} | :ok
  def detect({:error, {tag, %Error{} = error}}) when tag in [:turn_failed, :exec_failed],
    do: detect({:error, error})

  def detect({:error, %TransportError{} = error}), do: detect({:error, Error.normalize(error)})
  def detect({:error, %Error{kind: :rate_limit} = error}), do: {:rate_limited, info(error)}

  def detect({:error, %Error{kind: :usage_limit} = error}) do
    if error.resets_at || error.retry_after_ms, do: {:rate_limited, info(error)}, else: :ok
  end

  def detect({:error, %{status: 429} = response}),
    do: {:rate_limited, %{retry_after_ms: parse_retry_after(response), source: :http_429}}

  def detect({:error, %{"error" => %{"code" => code}} = body}) when code in @codes,
    do: {:rate_limited, %{retry_after_ms: nil, source: :api_error, body: body}}

  def detect({:error, {:http_error, 429}}),
    do: {:rate_limited, %{retry_after_ms: nil, source: :http_error_tuple}}

  def detect(_result), do: :ok

  defp info(error) do
    %{
      retry_after_ms: error.retry_after_ms,
      resets_at: error.resets_at,
      kind: error.kind,
      message: error.message,
      details: error.details,
      source: :codex_error
    }
  end

  @doc """
  Returns the wait in ms after a call was limited for the `attempt`th time.

      iex> Codex.RateLimit.calculate_delay(%{retry_after_ms: 1_300})
      1300
      iex> Codex.RateLimit.calculate_delay(%{retry_after_ms: nil}, 2)
      120_000
  """
  @spec calculate_delay(map(), pos_integer()) :: non_neg_integer()
  def calculate_delay(info, attempt \\ 1)

  def calculate_delay(info, attempt)
      when is_map(info) and not is_struct(info) and is_integer(attempt) and attempt > 0,
      do: delay(info, attempt, Options.complete!([]))

  def calculate_delay(info, attempt) when is_map(info) and not is_struct(info),
    do: OptionError.wrong!(:attempt, attempt, "a positive integer")

  def calculate_delay(other, _attempt), do: OptionError.wrong!(:info, other, "a map")

  @doc false
  @spec delay(map(), pos_integer(), map()) :: non_neg_integer()
  def delay(info, attempt, opts) do
    # A time in the past is ignored: the clocks of two machines differ.
    case {with(%DateTime{} = at <- info[:resets_at], do: until(at)), info[:retry_after_ms]} do
      {ms, _} when is_integer(ms) and ms > 0 -> min(ms, Type.max_ms())
      {_, ms} when is_integer(ms) and ms > 0 -> min(ms, Type.max_ms())
      _ -> grow(opts.default_delay_ms, attempt, opts.multiplier, opts.max_delay_ms)
    end
  end

  defp until(at) do
    ms = DateTime.diff(at, DateTime.utc_now(), :millisecond)
    if at.second == 0, do: ms + @minute_ms, else: ms
  end

  # Step by step up to the maximum, because a power may exceed the range of a float.
  defp grow(delay, attempt, multiplier, max) when attempt > 1 and delay < max and delay > 0,
    do: grow(delay * multiplier, attempt - 1, multiplier, max)

  defp grow(delay, _attempt, _multiplier, max), do: delay |> min(max) |> round()

  @doc """
  Waits until the limit of `info` ends and returns `:ok`. Logs a warning and emits the telemetry
  event `[:codex, :rate_limit, :rate_limited]`.

  Options: those above, and `attempt` (default 1). Blocks the caller, also for longer than
  `max_wait_ms`.
  """
  @spec handle(map(), keyword() | map()) :: :ok
  def handle(info, opts \\ [])

  def handle(info, opts) when is_map(info) and not is_struct(info) do
    %{attempt: attempt} = opts = Options.handle!(opts)
    wait(info, attempt, delay(info, attempt, opts), opts)
  end

  def handle(other, _opts), do: OptionError.wrong!(:info, other, "a map")

  defp wait(info, attempt, delay, opts) do
    Logger.warning("codex: rate limited, waiting #{delay} ms (attempt #{attempt})")
    announce(info, attempt, delay, opts)
    Process.sleep(delay)
  end

  @doc false
  @spec announce(map(), non_neg_integer(), non_neg_integer(), map()) :: :ok
  def announce(info, attempt, delay, opts) do
    Telemetry.execute(
      opts.telemetry_prefix ++ [:rate_limit, :rate_limited],
      %{system_time: System.system_time()},
      %{delay_ms: delay, attempt: attempt, info: info}
    )
  end

  @doc """
  Calls `fun`, and again after a wait while it is limited. Returns the last result of `fun`.

  Options: those above; `account` has an effect for runs only. Blocks the caller.

      iex> Codex.RateLimit.with_rate_limit_handling(fn -> {:error, :closed} end)
      {:error, :closed}
  """
  @spec with_rate_limit_handling((... -> result), keyword() | map()) :: result
        when result: term()
  def with_rate_limit_handling(fun, opts \\ [])

  def with_rate_limit_handling(fun, opts) when is_function(fun, 0),
    do: attempt(fun, Options.complete!(opts), 1)

  def with_rate_limit_handling(other, _opts),
    do: OptionError.wrong!(:fun, other, "a function of arity 0")

  defp attempt(fun, opts, n) do
    result = fun.()

    with true <- n < opts.max_attempts,
         {:rate_limited, info} <- detect(result),
         delay = delay(info, n, opts),
         true <- delay <= opts.max_wait_ms do
      wait(info, n, delay, opts)
      attempt(fun, opts, n + 1)
    else
      _ -> result
    end
  end

  @doc """
  Returns the wait in ms that a response asks for, or nil.

  A response is a map with `:headers`, a map or a list of pairs with names in any case. The header
  is `retry-after` in seconds or as HTTP date, or `x-ratelimit-reset-after` in seconds.

      iex> Codex.RateLimit.parse_retry_after(%{headers: [{"Retry-After", "20"}]})
      20_000
      iex> Codex.RateLimit.parse_retry_after(%{headers: %{}})
      nil
  """
  @spec parse_retry_after(map()) :: pos_integer() | nil
  def parse_retry_after(%{headers: headers}) do
    case Type.pairs(headers) do
      {:ok, pairs} -> asked(pairs)
      :error -> nil
    end
  end

  def parse_retry_after(_response), do: nil

  defp asked(pairs) do
    headers = for {name, value} <- pairs, name = text(name), do: {String.downcase(name), value}

    Enum.find_value(["retry-after", "x-ratelimit-reset-after"], fn name ->
      case List.keyfind(headers, name, 0) do
        {_, value} -> seconds(value)
        nil -> nil
      end
    end)
  end

  # `:httpc` returns charlists, other clients lists of values.
  defp seconds([char | _] = text) when is_integer(char) and char in ?\s..?~,
    do: text |> text() |> seconds()

  defp seconds([value | _]), do: seconds(value)
  defp seconds(n) when is_integer(n) and n > 0, do: n * 1000

  defp seconds(text) when is_binary(text) do
    now = System.os_time(:second)

    case Classifier.retry_after(text, now) do
      {ms, _} when is_integer(ms) and ms > 0 -> ms
      {_, {:unix, at}} when at > now -> (at - now) * 1000
      _ -> nil
    end
  end

  defp seconds(_other), do: nil

  defp text(list) when is_list(list) do
    if not List.improper?(list) and List.ascii_printable?(list), do: List.to_string(list)
  end

  defp text(name), do: Type.name(name)

  ## Accounts

  @doc """
  Returns the name of the account of these settings: the provider, and a digest of the API key or,
  without a key, of the home.
  """
  @spec account(map()) :: String.t()
  def account(%{env: _, api_key: _, base_url: _} = settings), do: AccountKey.of(settings)
  def account(other), do: OptionError.wrong!(:settings, other, "the merged settings of a turn")

  @doc """
  Returns the newest snapshot of an account's limits, or nil. `Codex.Thread.rate_limits/1` returns
  the one of a thread's account.

  Snapshots are kept for the 1_000 accounts with the newest updates.
  """
  @spec snapshot(String.t()) :: Snapshot.t() | nil
  def snapshot(account) when is_binary(account), do: Store.get(account)
  def snapshot(other), do: OptionError.wrong!(:account, other, "the name of an account")

  @doc false
  # The limit that the account's snapshot shows as reached, or nil.
  @spec reached(String.t()) :: info() | nil
  def reached(account) do
    with %Snapshot{} = snapshot <- snapshot(account),
         %DateTime{} = at <- Snapshot.resets_at(snapshot),
         true <- until(at) > 0 do
      %{retry_after_ms: nil, resets_at: at, source: :snapshot}
    else
      _ -> nil
    end
  end

  @doc """
  Updates the snapshot of an account's limits.

  The answer to `account/rateLimits/read`, a map with `"rateLimits"` or `"rateLimitsByLimitId"`, is
  the whole snapshot: it replaces the one before, and a null window is removed. A
  `Codex.Events.AccountRateLimitsUpdated` is an update, as are limits as a map with `"primary"`,
  `"secondary"` or `"credits"`: null and missing members leave the known ones unchanged. A
  `Codex.Error` of a limit sets `limited_until`. Other terms change nothing.
  """
  @spec observe(String.t(), term()) :: :ok
  def observe(account, %Events.AccountRateLimitsUpdated{rate_limits: %{} = limits}),
    do: Store.put(account, :merge, Snapshot.new(limits))

  def observe(account, %{"rateLimits" => %{}} = answer),
    do: Store.put(account, :replace, Snapshot.read(answer))

  # An answer with the limits by id only.
  def observe(account, %{"rateLimitsByLimitId" => %{}} = answer),
    do: observe(account, Map.put(answer, "rateLimits", %{}))

  def observe(account, %Error{kind: kind, resets_at: %DateTime{} = at})
      when kind in [:rate_limit, :usage_limit],
      do: Store.put(account, :merge, Snapshot.limited(at))

  def observe(account, %{} = limits)
      when is_map_key(limits, "primary") or is_map_key(limits, "secondary") or
             is_map_key(limits, "credits"),
      do: Store.put(account, :merge, Snapshot.new(limits))

  def observe(_account, _other), do: :ok
end
