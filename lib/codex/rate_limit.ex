defmodule Codex.RateLimit do
  @moduledoc """
  Limits of the account: what is known of them, and waiting until they end.

      Codex.RateLimit.with_rate_limit_handling(fn -> Codex.Thread.run(thread, prompt) end)

  A run does it by itself with the options `rate_limit` and `rate_limit_opts` of thread or turn: see "Rate limits" in
  `guides/errors.md`.

  ## What counts as a limit

  Failures of the kind `:rate_limit`, and those of the kind `:usage_limit` where it is known when the limit ends. A quota that
  is used up (`:quota`) is none: waiting does not help.

  ## How long is waited

  As long as the server said (`retry_after_ms`), or until the limit ends (`resets_at`; the CLI tells that to the minute, so that
  minute is waited for, too). Only where neither is known the wait is a guess, which grows from attempt to attempt: `default_delay_ms`,
  `multiplier` and `max_delay_ms`.

  ## The gate

  With `gate: true`, runs of one account wait together: the first that is limited closes the gate until the limit ends, and runs
  that begin meanwhile wait, too, in the order in which they came, without asking the server. `max_waiting` and `max_wait_ms` bound
  that, a cancelled or killed waiter leaves nothing. Only runs that have it on look at the gate.

  ## Options

  As map or keyword list:

  #{Codex.RateLimit.Options.docs()}

  An option that does not exist, or a value that cannot be, raises `ArgumentError` with the name.
  """

  require Logger

  alias Codex.{Error, Events, Telemetry, TransportError}
  alias Codex.Error.Classifier
  alias Codex.RateLimit.{Account, Accounts, Options, Snapshot}
  alias Codex.Retry.Settings

  @codes ~w(rate_limit_exceeded rate_limit rate_limit_error)

  # The CLI's clock has no seconds.
  @minute_ms 60_000

  @typedoc """
  What is known of a limit: `retry_after_ms`, `source` (`:codex_error`, `:http_429`, `:api_error`, `:http_error_tuple`), and for a
  `:codex_error` also `message`, `details`, `kind` and `resets_at`; for an `:api_error` its `body`.
  """
  @type info :: %{
          required(:retry_after_ms) => pos_integer() | nil,
          required(:source) => :codex_error | :http_429 | :api_error | :http_error_tuple,
          optional(:message) => String.t(),
          optional(:details) => map(),
          optional(:kind) => :rate_limit | :usage_limit,
          optional(:resets_at) => DateTime.t() | nil,
          optional(:body) => map()
        }

  @doc """
  Whether this result is that of a call that was limited.

      iex> {:rate_limited, info} = Codex.RateLimit.detect({:error, %{status: 429, headers: %{"retry-after" => "7"}}})
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
  How long to wait, in ms, after a call was limited for the `attempt`th time.

      iex> Codex.RateLimit.calculate_delay(%{retry_after_ms: 1_300})
      1300
      iex> Codex.RateLimit.calculate_delay(%{retry_after_ms: nil}, 2)
      120_000
  """
  @spec calculate_delay(map(), pos_integer()) :: non_neg_integer()
  def calculate_delay(info, attempt \\ 1)
      when is_map(info) and not is_struct(info) and is_integer(attempt) and attempt > 0,
      do: delay(info, attempt, Options.complete!([]))

  @doc false
  @spec delay(map(), pos_integer(), map()) :: non_neg_integer()
  def delay(info, attempt, opts) do
    # A time that has passed tells nothing: the clocks of two machines differ.
    case {with(%DateTime{} = at <- info[:resets_at], do: until(at)), info[:retry_after_ms]} do
      {ms, _} when is_integer(ms) and ms > 0 -> min(ms, Settings.max_ms())
      {_, ms} when is_integer(ms) and ms > 0 -> min(ms, Settings.max_ms())
      _ -> grow(opts.default_delay_ms, attempt, opts.multiplier, opts.max_delay_ms)
    end
  end

  defp until(at) do
    ms = DateTime.diff(at, DateTime.utc_now(), :millisecond)
    if at.second == 0, do: ms + @minute_ms, else: ms
  end

  # Step by step, and no further than the limit: a power may be more than a float holds.
  defp grow(delay, attempt, multiplier, max) when attempt > 1 and delay < max and delay > 0,
    do: grow(delay * multiplier, attempt - 1, multiplier, max)

  defp grow(delay, _attempt, _multiplier, max), do: delay |> min(max) |> round()

  @doc """
  Waits as long as `info` says, with a warning in the log and the telemetry event `[:codex, :rate_limit, :rate_limited]`. Returns `:ok`.

  Options: those above, and `attempt` (default 1). Blocks the caller; a wait that is longer than `max_wait_ms` is not cut.
  """
  @spec handle(map(), keyword() | map()) :: :ok
  def handle(info, opts \\ [])
      when is_map(info) and not is_struct(info) and (is_list(opts) or is_map(opts)) do
    opts = if is_map(opts), do: opts, else: opts |> Codex.Options.Keywords.list!() |> Map.new()
    {attempt, opts} = Map.pop(opts, :attempt, 1)
    opts = Options.complete!(opts)
    wait(info, attempt, delay(info, attempt, opts), opts)
  end

  defp wait(info, attempt, delay, opts) do
    Logger.warning("codex: rate limited, waiting #{delay} ms (attempt #{attempt})")
    announce(info, attempt, delay, opts)
    Process.sleep(delay)
  end

  @doc false
  @spec announce(map(), pos_integer(), non_neg_integer(), map()) :: :ok
  def announce(info, attempt, delay, opts) do
    Telemetry.execute(
      opts.telemetry_prefix ++ [:rate_limit, :rate_limited],
      %{system_time: System.system_time()},
      %{delay_ms: delay, attempt: attempt, info: info}
    )
  end

  @doc """
  Calls `fun`, and again after a wait while it is limited. Returns the last result of `fun`, of whatever shape.

  Options: those above; `gate`, `max_waiting` and `account` are for runs. Blocks the caller.

      iex> Codex.RateLimit.with_rate_limit_handling(fn -> {:error, :closed} end)
      {:error, :closed}
  """
  @spec with_rate_limit_handling((() -> result), keyword() | map()) :: result
        when result: term()
  def with_rate_limit_handling(fun, opts \\ []) when is_function(fun, 0),
    do: attempt(fun, Options.complete!(opts), 1)

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
  What a response says about when to try again, in ms, or nil. A response is a map with `:headers` (map or list of pairs): `retry-after`, as
  seconds or HTTP date, or `x-ratelimit-reset-after`, in seconds. Names in any case.

      iex> Codex.RateLimit.parse_retry_after(%{headers: [{"Retry-After", "20"}]})
      20_000
      iex> Codex.RateLimit.parse_retry_after(%{headers: %{}})
      nil
  """
  @spec parse_retry_after(map()) :: pos_integer() | nil
  def parse_retry_after(%{headers: headers}) when is_map(headers) or is_list(headers) do
    headers = for {name, value} <- headers, do: {String.downcase(to_string(name)), value}

    Enum.find_value(["retry-after", "x-ratelimit-reset-after"], fn name ->
      case List.keyfind(headers, name, 0) do
        {_, value} -> seconds(value)
        nil -> nil
      end
    end)
  end

  def parse_retry_after(_response), do: nil

  # One value of several, or a charlist, as `:httpc` has them.
  defp seconds([char | _] = text) when is_integer(char) and char in ?\s..?~ do
    if List.ascii_printable?(text), do: text |> List.to_string() |> seconds()
  end

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

  ## Accounts

  @doc """
  The name under which limits of these settings are kept: provider, and a digest of the API key or, without one, of the home.
  """
  @spec account(map()) :: String.t()
  def account(%{env: _, api_key: _, base_url: _} = settings), do: Account.name(settings)

  @doc """
  The newest that is known of an account's limits, or nil. `Codex.Thread.rate_limits/1` asks for that of a thread.

  Kept for the 1_000 accounts that were told of last.
  """
  @spec snapshot(String.t()) :: Snapshot.t() | nil
  def snapshot(account) when is_binary(account), do: Accounts.snapshot(account)

  @doc """
  Keeps what is known of an account's limits.

  The answer to `account/rateLimits/read`, a map with `"rateLimits"` or `"rateLimitsByLimitId"`, is the whole snapshot: it
  replaces the one before, and a window that is null is gone. A `Codex.Events.AccountRateLimitsUpdated`
  is an update, so are limits as a map with `"primary"`, `"secondary"` or `"credits"`: null and missing members leave
  what is known. A `Codex.Error` of a limit sets `limited_until`. Other terms change nothing.
  """
  @spec observe(String.t(), term()) :: :ok
  def observe(account, %Events.AccountRateLimitsUpdated{rate_limits: %{} = limits}),
    do: Accounts.learn(account, Snapshot.new(limits))

  def observe(account, %{"rateLimits" => %{}} = answer),
    do: Accounts.replace(account, Snapshot.read(answer))

  # The limits by id alone.
  def observe(account, %{"rateLimitsByLimitId" => %{}} = answer),
    do: observe(account, Map.put(answer, "rateLimits", %{}))

  def observe(account, %Error{kind: kind, resets_at: %DateTime{} = at})
      when kind in [:rate_limit, :usage_limit],
      do: Accounts.learn(account, Snapshot.limited(at))

  def observe(account, %{} = limits)
      when is_map_key(limits, "primary") or is_map_key(limits, "secondary") or
             is_map_key(limits, "credits"),
      do: Accounts.learn(account, Snapshot.new(limits))

  def observe(_account, _other), do: :ok

  # Timers have an end, too.
  @longest 366 * 24 * 3600 * 1000

  @doc "Closes the gate of an account for `ms` milliseconds, unless it is closed for longer."
  @spec close(String.t(), non_neg_integer()) :: :ok
  def close(account, ms) when is_binary(account) and is_integer(ms) and ms >= 0,
    do: Accounts.close(account, min(ms, @longest))

  @doc "Opens the gate of an account: those that wait are let go. For an application that knows better, say after credits were bought."
  @spec open(String.t()) :: :ok
  def open(account) when is_binary(account), do: Accounts.open(account)

  @doc """
  The gate of an account: how long it is closed, in ms (0: it is open), and how many wait there.

      iex> Codex.RateLimit.gate("nobody")
      %{closed_ms: 0, waiting: 0}
  """
  @spec gate(String.t()) :: %{closed_ms: non_neg_integer(), waiting: non_neg_integer()}
  def gate(account) when is_binary(account),
    do: %{closed_ms: Accounts.closed_ms(account), waiting: Accounts.waiting(account)}
end
