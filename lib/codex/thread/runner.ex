defmodule Codex.Thread.Runner do
  @moduledoc false
  # The options of `Codex.Thread.run/3` besides those of the turn, the loop of
  # `Codex.Thread.run_auto/3`, and the preparation of a turn, for `Codex.Thread` and
  # `Codex.AgentRunner`.

  alias Codex.AppServer.Connection
  alias Codex.OptionError
  alias Codex.Options.{Schema, Table}
  alias Codex.Turn
  alias Codex.Turn.{Driver, Job}

  @loop [:agent, :run_config, :max_turns, :backoff]

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

  @doc "Returns whether options of a run ask for a loop over turns."
  @spec loop?(term()) :: boolean()
  def loop?(opts) do
    case Schema.pairs(opts) do
      {:ok, pairs} -> Enum.any?(pairs, fn {key, _} -> loop_key?(key) end)
      {:error, _no_options} -> false
    end
  end

  defp loop_key?(key) when is_atom(key), do: key in @loop
  defp loop_key?(key) when is_binary(key), do: Enum.any?(@loop, &(Atom.to_string(&1) == key))
  defp loop_key?(_key), do: false

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

  # --- Turns ------------------------------------------------------------------------------------

  @doc """
  Checks a turn, and returns its job and the turn before its first event. `more` as for
  `Codex.Turn.Job.new/5`.
  """
  @spec prepare(term(), tuple(), term(), Driver.mode(), keyword()) ::
          {:ok, Job.t(), struct()} | {:error, term()}
  def prepare(thread, task, turn_opts, mode, more \\ [])

  def prepare(%{codex_opts: _, thread_opts: _} = thread, task, turn_opts, mode, more) do
    thread = if new?(task), do: Turn.reset(thread), else: thread

    with :ok <- reviewable(thread, task),
         {:ok, turn_opts} <- Table.check(:turn, turn_opts),
         {:ok, job} <-
           Job.new(task, thread.codex_opts, thread, turn_opts, more),
         {:ok, job} <- Driver.prepare(transport(thread), job, mode) do
      structured? = job.turn_opts[:output_schema] != nil
      {:ok, job, Turn.new(loaded(thread), structured?, job.turn_opts)}
    end
  end

  def prepare(other, _task, _turn_opts, _mode, _more), do: no_thread(other)

  @doc "Returns the home of the CLI that runs the turns of a thread, or nil."
  @spec home(struct()) :: Path.t() | nil
  def home(thread) do
    # Only the options around the prompt count.
    case prepare(thread, {:run, "?"}, %{}, :blocking) do
      {:ok, job, _turn} -> job.module.home(job)
      {:error, _reason} -> nil
    end
  end

  @doc "Returns the `Codex.Turn.Transport` of a thread."
  @spec transport(struct()) :: module()
  def transport(%{transport: :exec}), do: Codex.Exec.Turn
  def transport(%{transport: {:app_server, _conn}}), do: Codex.AppServer.Turn
  def transport(%{transport: {:pool, _pool}}), do: Codex.Pool.Turn

  defp reviewable(%{thread_id: id} = thread, {:review, _target}) when is_binary(id),
    do: Driver.check(transport(thread), thread, :review_of_thread)

  defp reviewable(_thread, _task), do: :ok

  @doc "Returns the error for a value in the place of a thread."
  @spec no_thread(term()) :: {:error, OptionError.t()}
  def no_thread(value) do
    expected = "a Codex.Thread, as {:ok, thread} of Codex.start_thread/2 has it"
    {:error, OptionError.argument(:thread, value, expected)}
  end

  # The connection that has the thread from now on. A new connection is asked to resume it.
  defp loaded(%{transport: {:app_server, conn}} = thread),
    do: %{thread | transport_ref: Connection.whereis(conn)}

  defp loaded(thread), do: thread

  defp new?({:run, text}) when is_binary(text),
    do: byte_size(text) < 64 and String.trim(text) == "/new"

  defp new?({:run, [%{type: type, text: text} | _]}) when type in [:text, "text"],
    do: new?({:run, text})

  defp new?(_what), do: false
end
