defmodule Codex.Retry do
  @moduledoc """
  Repeats failed calls, with growing pauses.

      Codex.Retry.with_retry(fn -> Codex.Thread.run(thread, prompt) end, max_attempts: 3)

  The options `retry` and `retry_opts` of a thread or a turn do this for runs: see "Retries" in
  `guides/errors.md`. A run never repeats work that a turn has done, can continue in the same
  thread, and ends its wait if it is cancelled. The functions here repeat any function blindly.

  ## Options

  As map or keyword list:

  #{Codex.Retry.Options.docs()}

  The delay is at least the `retry_after_ms` of a `Codex.Error`. An unknown option or an invalid
  value raises `Codex.OptionError`. Every attempt emits an event: see
  `Codex.Telemetry`.
  """

  alias Codex.{Error, OptionError, Telemetry}
  alias Codex.Options.Type
  alias Codex.Retry.Options

  @typedoc "An option. See the list above."
  @type option ::
          {:max_attempts, pos_integer()}
          | {:base_delay_ms, non_neg_integer()}
          | {:max_delay_ms, non_neg_integer()}
          | {:jitter, boolean()}
          | {:strategy, :exponential | :linear | :constant | (pos_integer() -> non_neg_integer())}
          | {:retry_if, (term() -> boolean())}
          | {:on_retry, (pos_integer(), term() -> term())}
          | {:max_retry_after_ms, timeout()}
          | {:total_timeout_ms, timeout()}
          | {:resume_prompt, String.t()}
          | {:telemetry_prefix, [atom(), ...]}

  @typedoc "Options as a keyword list or a map."
  @type options :: [option()] | map()

  @doc """
  Calls `fun` until it returns `{:ok, value}`, or the options allow no other attempt. Returns the
  last result.

  Blocks the caller, pauses included. Exceptions of `fun` are not rescued. Any other result of
  `fun` raises `ArgumentError`.

      iex> Codex.Retry.with_retry(fn -> {:ok, 1} end)
      {:ok, 1}
      iex> Codex.Retry.with_retry(fn -> {:error, :not_found} end)
      {:error, :not_found}
      iex> Codex.Retry.with_retry(fn -> {:error, :closed} end, max_attempts: 2, base_delay_ms: 0)
      {:error, :closed}
  """
  @spec with_retry((... -> {:ok, value} | {:error, reason}), options()) ::
          {:ok, value} | {:error, reason}
        when value: term(), reason: term()
  def with_retry(fun, opts \\ [])

  def with_retry(fun, opts) when is_function(fun, 0),
    do: attempt(fun, Options.check!(opts), 1, now())

  def with_retry(other, _opts), do: OptionError.wrong!(:fun, other, "a function of arity 0")

  defp attempt(fun, opts, n, began) do
    started = System.monotonic_time()

    case fun.() do
      {:ok, _value} = ok ->
        report(opts, n, started, :ok)
        ok

      {:error, reason} = error ->
        if wait(opts, n, reason, began, started) == :again,
          do: attempt(fun, opts, n + 1, began),
          else: error

      other ->
        raise ArgumentError,
              "expected the function to return {:ok, value} or {:error, reason}, " <>
                "got: #{Type.kind(other)}"
    end
  end

  defp wait(opts, n, reason, began, started) do
    case Options.next(opts, n, reason, now() - began) do
      {:retry, delay} ->
        report(opts, n, started, {:retry, reason, delay, :repeat})
        _ = opts.on_retry.(n, reason)
        Process.sleep(delay)
        :again

      :stop ->
        report(opts, n, started, {:error, reason})
        :stop
    end
  end

  @doc """
  Returns a lazy stream of the elements of `fun`, which returns an enumerable,
  `{:ok, enumerable}` or `{:error, reason}`, as `Codex.Thread.run_turn_streamed/3` does.

  An attempt that raises or returns an error before its first element is repeated as the options
  say. From the first element on, elements and exceptions pass at once. The last error is raised
  unchanged if it is an exception, else as `Codex.Error`.

      iex> Codex.Retry.with_stream_retry(fn -> [1, 2] end) |> Enum.to_list()
      [1, 2]
  """
  @spec with_stream_retry(
          (... -> Enumerable.t() | {:ok, Enumerable.t()} | {:error, reason}),
          options()
        ) :: Enumerable.t()
        when reason: term()
  def with_stream_retry(fun, opts \\ [])

  def with_stream_retry(fun, opts) when is_function(fun, 0) do
    opts = Options.check!(opts)
    fn acc, reducer -> reduce(acc, reducer, fun, opts) end
  end

  def with_stream_retry(other, _opts),
    do: OptionError.wrong!(:fun, other, "a function of arity 0")

  # No attempt starts before the reader asks for an element.
  defp reduce({:suspend, acc}, reducer, fun, opts),
    do: {:suspended, acc, &reduce(&1, reducer, fun, opts)}

  defp reduce({:halt, acc}, _reducer, _fun, _opts), do: {:halted, acc}
  defp reduce({:cont, _} = acc, reducer, fun, opts), do: open(acc, reducer, fun, opts, 1, now())

  defp open(acc, reducer, fun, opts, n, began) do
    started = System.monotonic_time()
    # 1 once the reader has an element: from then on, the reader may raise itself.
    delivered = :atomics.new(1, [])

    deliver = fn element, acc ->
      if :atomics.exchange(delivered, 1, 1) == 0, do: report(opts, n, started, :ok)
      reducer.(element, acc)
    end

    case first(fun, acc, deliver, delivered) do
      {:failed, reason, raise!} ->
        if wait(opts, n, reason, began, started) == :again,
          do: open(acc, reducer, fun, opts, n + 1, began),
          else: raise!.()

      result ->
        if :atomics.get(delivered, 1) == 0, do: report(opts, n, started, :ok)
        result
    end
  end

  defp first(fun, acc, deliver, delivered) do
    case fun.() do
      {:error, reason} -> {:failed, reason, fn -> raise exception(reason) end}
      {:ok, enumerable} -> Enumerable.reduce(enumerable, acc, deliver)
      enumerable -> Enumerable.reduce(enumerable, acc, deliver)
    end
  rescue
    error ->
      trace = __STACKTRACE__

      if :atomics.get(delivered, 1) == 1,
        do: reraise(error, trace),
        else: {:failed, error, fn -> reraise(error, trace) end}
  end

  defp exception(%{__exception__: true} = error), do: error
  defp exception(reason), do: Error.normalize(reason)

  @doc """
  Returns the delay of the strategy after attempt number `attempt`, in ms. Missing options have
  their defaults.

      iex> Codex.Retry.calculate_delay(3, base_delay_ms: 100, jitter: false)
      400
      iex> Codex.Retry.calculate_delay(9, base_delay_ms: 100, max_delay_ms: 1_000, jitter: false)
      1000
      iex> Codex.Retry.calculate_delay(3, base_delay_ms: 100, strategy: :linear, jitter: false)
      300
  """
  @spec calculate_delay(pos_integer(), options()) :: non_neg_integer()
  def calculate_delay(attempt, opts \\ [])

  def calculate_delay(attempt, opts) when is_integer(attempt) and attempt > 0,
    do: Options.delay(attempt, Options.check!(opts))

  def calculate_delay(other, _opts),
    do: OptionError.wrong!(:attempt, other, "a positive integer")

  @doc """
  Returns true if a call that failed with this reason may succeed when repeated, as
  `Codex.Error.retryable?/1` does.

      iex> reasons = [:closed, {:http_error, 503}, {:http_error, 404}, :enoent]
      iex> Enum.map(reasons, &Codex.Retry.retryable?/1)
      [true, true, false, false]
  """
  @spec retryable?(term()) :: boolean()
  def retryable?(reason), do: Error.retryable?(reason)

  @doc "Returns the options with their defaults, as a keyword list."
  @spec default_opts() :: keyword()
  def default_opts, do: Map.to_list(Options.check!([]))

  @doc false
  # Emits the event of an ended attempt. `started` is in native units.
  @spec report(
          map(),
          pos_integer(),
          integer(),
          :ok | {:error, term()} | {:retry, term(), non_neg_integer(), :repeat | :resume}
        ) :: :ok
  def report(opts, attempt, started, outcome) do
    {outcome, reason, delay, mode} =
      case outcome do
        :ok -> {:ok, nil, 0, nil}
        {:error, reason} -> {:error, reason, 0, nil}
        {:retry, reason, delay, mode} -> {:retry, reason, delay, mode}
      end

    Telemetry.execute(
      opts.telemetry_prefix ++ [:retry, :attempt],
      %{
        system_time: System.system_time(),
        duration: System.monotonic_time() - started,
        delay_ms: delay
      },
      %{
        attempt: attempt,
        max_attempts: opts.max_attempts,
        outcome: outcome,
        reason: Telemetry.bare(reason),
        kind: reason && Error.normalize(reason).kind,
        mode: mode
      }
    )
  end

  defp now, do: System.monotonic_time(:millisecond)
end
