defmodule Codex.Thread.Runner do
  @moduledoc false
  # The options of `Codex.Thread.run/3` besides those of the turn, and the loop of
  # `Codex.Thread.run_auto/3`.

  alias Codex.OptionError
  alias Codex.Options.{Schema, Table}
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

  @doc """
  Returns the options of the turn among those of a run: `turn_opts` alone, if these are set. Options
  beside them have no effect, but are checked.
  """
  @spec opts(term()) :: {:ok, [{term(), term()}]} | {:error, OptionError.t()}
  def opts(nil), do: {:ok, []}

  def opts(opts) do
    with {:ok, pairs} <- Schema.pairs(opts) do
      {given, others} =
        Enum.split_with(pairs, fn {key, _} -> key in [:turn_opts, "turn_opts"] end)

      case List.last(given) do
        {_key, turn_opts} when turn_opts != nil -> turn_opts(turn_opts, others)
        _none -> {:ok, others}
      end
    end
  end

  defp turn_opts(turn_opts, others) when is_list(others) do
    with {:ok, _checked} <- Table.check(:turn, others),
         {:error, error} <- Schema.pairs(turn_opts),
         do: {:error, OptionError.inside(error, :turn_opts)}
  end

  @doc "Returns a new name of a run, for its cancellation."
  @spec token() :: String.t()
  def token, do: "run-" <> Base.encode16(:crypto.strong_rand_bytes(12), case: :lower)

  @typedoc "The result of a turn. Its thread may ask for another turn."
  @type turn :: {:ok, Turn.Result.t()} | {:error, Codex.Thread.failure()}

  @doc "Calls `run` with a thread and options until the thread asks for no other turn."
  @spec auto(Codex.Thread.t(), term(), (Codex.Thread.t(), map() | keyword() -> turn())) :: turn()
  def auto(thread, opts, run) do
    with {:ok, opts} <- Schema.validate(@auto, opts, &options/2) do
      backoff = opts.backoff || (&sleep/1)
      attempt(thread, &run.(&1, opts.turn_opts), backoff, 1, opts.max_attempts)
    end
  end

  # The turn checks them.
  defp options(:options, value), do: {:ok, value}

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
