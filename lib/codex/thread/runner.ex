defmodule Codex.Thread.Runner do
  @moduledoc false
  # The options of `Codex.Thread.run/3` besides those of the turn, and the loop of
  # `Codex.Thread.run_auto/3`.

  alias Codex.OptionError
  alias Codex.Options.{Places, Schema}
  alias Codex.Turn

  @auto Schema.new(
          [
            {:max_attempts, :positive, "the most turns", default: 3},
            {:backoff, {:fun, 1}, "called with the number of the turn, before the next turn",
             shown: "sleeps 100, 200, 400 … at most 5_000 ms"},
            {:turn_opts, :options, "the options of each turn",
             default: %{}, expected: "a map or keyword"}
          ],
          places: true
        )

  @doc "Returns the options of `Codex.Thread.run_auto/3` as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Schema.docs(@auto)

  @doc "Returns the options of the turn among those of a run: `turn_opts` alone, if these are set."
  @spec opts(term()) :: {:ok, map()} | {:error, OptionError.t()}
  def opts(opts) do
    with {:ok, opts} <- map(opts),
         {turn_opts, opts} = pop(opts, :turn_opts, nil) do
      if turn_opts,
        do: with(:ok <- check_loop(opts), do: map(turn_opts)),
        else: {:ok, opts}
    end
  end

  defp pop(opts, key, default) do
    {value, opts} = Map.pop(opts, Atom.to_string(key), default)
    Map.pop(opts, key, value)
  end

  # Beside `turn_opts`, other options have no effect; those of a loop over turns are errors.
  defp check_loop(opts) do
    Enum.find_value(opts, :ok, fn {key, value} ->
      error = if value, do: Places.error(key)
      if error && error.reason == :unsupported, do: {:error, error}
    end)
  end

  defp map(opts), do: with({:ok, pairs} <- Schema.pairs(opts), do: {:ok, Map.new(pairs)})

  @doc "Returns a new name of a run, for its cancellation."
  @spec token() :: String.t()
  def token, do: "run-" <> Base.encode16(:crypto.strong_rand_bytes(12), case: :lower)

  @typedoc "The result of a turn. Its thread may ask for another turn."
  @type turn :: {:ok, Turn.Result.t()} | {:error, Codex.Thread.failure()}

  @doc "Calls `run` with a thread and options until the thread asks for no other turn."
  @spec auto(Codex.Thread.t(), term(), (Codex.Thread.t(), map() | keyword() -> turn())) :: turn()
  def auto(thread, opts, run) do
    with {:ok, opts} <- Schema.validate(@auto, opts, &turn_opts/2) do
      backoff = opts.backoff || (&sleep/1)
      attempt(thread, &run.(&1, opts.turn_opts), backoff, 1, opts.max_attempts)
    end
  end

  defp turn_opts(:options, value), do: {:ok, value}

  defp attempt(thread, run, backoff, n, max) do
    case run.(thread) do
      {:ok, %{thread: %{continuation_token: nil}} = result} ->
        {:ok, %{result | attempts: result.attempts + n - 1}}

      {:ok, %{thread: %{continuation_token: token}}} when n == max ->
        {:error, {:max_attempts_reached, max, %{continuation: token}}}

      {:ok, %{thread: thread}} ->
        backoff.(n)
        attempt(thread, run, backoff, n + 1, max)

      error ->
        error
    end
  end

  defp sleep(n), do: Process.sleep(min(100 * 2 ** (n - 1), 5_000))
end
