defmodule Codex.Thread.Runner do
  @moduledoc false
  # The options of `Codex.Thread.run/3` and its like that are none of the turn, and the loop of `Codex.Thread.run_auto/3`.

  alias Codex.Options.{Table, Unknown}
  alias Codex.Turn

  @auto [:max_attempts, :backoff, :turn_opts]

  @type reason ::
          {:invalid_options, term()}
          | {:unsupported_option, :agent | :run_config | :backoff | :max_turns}

  @doc "The options of the turn that options of a run have: `turn_opts` alone, where these are given."
  @spec opts(term()) :: {:ok, map()} | {:error, reason()}
  def opts(opts) do
    with {:ok, opts} <- map(opts),
         {turn_opts, opts} = pop(opts, :turn_opts, nil),
         :ok <- check_loop(opts) do
      if turn_opts, do: map(turn_opts), else: {:ok, opts}
    end
  end

  defp pop(opts, key, default) do
    {value, opts} = Map.pop(opts, Atom.to_string(key), default)
    Map.pop(opts, key, value)
  end

  # Options of a loop over turns, which this version does not have.
  defp check_loop(opts) do
    Enum.find_value([:agent, :run_config, :backoff, :max_turns], :ok, fn key ->
      if opts[key] || opts[Atom.to_string(key)], do: {:error, {:unsupported_option, key}}
    end)
  end

  @doc "Options as a map; what is odd about others is shown without the rest."
  @spec map(term()) :: {:ok, map()} | {:error, {:invalid_options, term()}}
  def map(%{} = opts) when not is_struct(opts), do: {:ok, opts}

  def map(opts) do
    cond do
      Keyword.keyword?(opts) -> {:ok, Map.new(opts)}
      is_list(opts) -> {:error, {:invalid_options, Table.first_odd(opts)}}
      true -> {:error, {:invalid_options, Codex.Options.Keywords.redacted(opts)}}
    end
  end

  @doc "A name for one run, by which it is cancelled."
  @spec token() :: String.t()
  def token, do: "run-" <> Base.encode16(:crypto.strong_rand_bytes(12), case: :lower)

  @typedoc "What a turn comes to, whose thread may ask to go on."
  @type turn :: {:ok, Turn.Result.t()} | {:error, Codex.Thread.failure()}

  @doc "Runs turns, as `run` does with a thread and options, until none asks to go on."
  @spec auto(Codex.Thread.t(), term(), (Codex.Thread.t(), map() | keyword() -> turn())) :: turn()
  def auto(thread, opts, run) do
    with {:ok, opts} <- map(opts) do
      max = Map.get(opts, :max_attempts, 3)
      backoff = Map.get(opts, :backoff, &sleep/1)

      cond do
        key = Enum.find(Map.keys(opts), &(&1 not in @auto)) ->
          {:error, Unknown.reason(key, @auto)}

        not (is_integer(max) and max > 0) ->
          {:error, {:invalid_max_attempts, max}}

        not is_function(backoff, 1) ->
          {:error, {:invalid_backoff, backoff}}

        true ->
          turn_opts = opts[:turn_opts] || %{}
          attempt(thread, &run.(&1, turn_opts), backoff, 1, max)
      end
    end
  end

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
