defmodule Codex.RunResultStreaming do
  @moduledoc """
  A turn to read while it runs, returned by `Codex.Thread.run_streamed/3`. It is enumerable: its
  elements are those of `events/1`.

      {:ok, run} = Codex.Thread.run_streamed(thread, "Fix the failing test")
      run |> Codex.Stream.text() |> Enum.each(&IO.write/1)
      {:ok, result} = Codex.RunResultStreaming.result(run)

      # Continue with the thread of the result: it has the id of the conversation.
      {:ok, run} = Codex.Thread.run_streamed(result.thread, "And now the docs")

  The pieces of text come as they are generated, then `result/1` returns the result of
  `Codex.Thread.run/3`. `result/1` alone runs the turn without events.

  The turn starts when it is read. `events/1` runs the turn in the process that reads it: a slow
  reader makes the CLI wait, and a reader that halts stops the turn. `pop/2` reads one event at a
  time, from any process; then a separate process holds the turn, and ends with the turn, with
  `cancel/2`, or with the process that popped first. Use either `events/1` or `pop/2`.

  A stream never ends normally if the turn fails, is cancelled or times out: `events/1` raises
  `Codex.Error`, and `pop/2` returns the same exception as `{:error, exception}`.
  """

  alias Codex.{Error, Exec, StreamEvent, Turn}
  alias Codex.RunResultStreaming.Reader

  @enforce_keys [:stream, :raw, :token, :usage, :progress]
  defstruct [:stream, :raw, :token, :usage, :progress]

  @typedoc "A turn to read once."
  @type t :: %__MODULE__{
          stream: Enumerable.t(),
          raw: Enumerable.t(),
          token: String.t(),
          usage: :counters.counters_ref(),
          progress: :atomics.atomics_ref()
        }

  # Counters outlive the reader, are cheap to read, and are freed with the last reference to the
  # run.
  @usage_keys ~w(input_tokens cached_input_tokens cache_write_input_tokens output_tokens) ++
                ~w(reasoning_output_tokens total_tokens)

  @doc false
  # `stream` makes the stream of a function that returns whether no further turn may begin.
  def new(stream, turn, token, first \\ %StreamEvent.AgentUpdated{}) do
    usage = :counters.new(length(@usage_keys) + 2, [])
    stream = stream.(fn -> :counters.get(usage, cancelled()) > 0 end)

    %__MODULE__{
      stream: semantic(stream, turn, usage, token, first),
      raw: semantic(stream, %{turn | keep?: false}, usage, token, first),
      token: token,
      usage: usage,
      progress: Reader.new()
    }
  end

  # Converts events to stream events, and a failed turn to an exception.
  defp semantic(events, turn, usage, token, first) do
    # A cancel before the CLI has started counts, too.
    start = fn ->
      if cancelled?(usage), do: raise(interrupted())
      :counters.put(usage, begun(), 1)
      forget_result()
      turn
    end

    each = fn event, turn ->
      if cancelled?(usage), do: raise(interrupted())

      case Turn.add(turn, event) do
        {{:failed, error}, turn} ->
          _ = keep_result(token, Turn.result(turn))
          raise error

        {{:agent, agent, config}, turn} ->
          {[%StreamEvent.AgentUpdated{agent: agent, run_config: config}], turn}

        {{tag, _}, turn} when is_atom(tag) ->
          {[], turn}

        {event, turn} ->
          {[StreamEvent.run_item(event)], turn}
      end
    end

    last = fn turn ->
      case keep_result(token, Turn.result(turn)) do
        {:ok, result} ->
          count(usage, result.usage)

          done = %StreamEvent.RawResponses{
            events: result.events,
            events_dropped: result.events_dropped,
            usage: result.usage,
            usage_scope: result.usage_scope,
            thread: result.thread
          }

          {[done], turn}

        {:error, {_tag, error}} ->
          raise error
      end
    end

    Stream.concat(
      [first],
      Stream.transform(events, start, each, last, &halted(token, &1))
    )
  end

  # The result of the last run that this process has read. If the run was not read to its end, the
  # turn was stopped.
  defp halted(token, turn) do
    unless match?({^token, _result}, Process.get(__MODULE__)) do
      error = Error.new(:interrupted, "the run was not read to its end")
      keep_result(token, turn |> Turn.failed(turn.lost || error) |> Turn.result())
    end
  end

  defp keep_result(token, result) do
    Process.put(__MODULE__, {token, result})
    result
  end

  defp forget_result, do: Process.delete(__MODULE__)

  defp interrupted, do: Error.new(:interrupted, "the run was cancelled")

  @doc """
  Returns the run as a stream of `Codex.StreamEvent`s. Reading it twice runs the turn twice.

  Reading raises `Codex.Error`, see above.
  """
  @spec events(t()) :: Enumerable.t()
  def events(%__MODULE__{stream: stream}), do: stream

  @doc """
  Returns the result of the run, like `Codex.Thread.run/3`, in the process that reads it.

  After `events/1` or `raw_events/1`, this is the result of the read events; `raw_events/1` keeps no
  events. If the run has not been read, this function reads it to its end. A run that was halted, or
  whose events raised, is `{:error, {:exec_failed | :turn_failed, error}}` with the result so far.

  A process keeps the result of the last run that it read. For other runs, and for runs that other
  processes read or pop, the error is of the kind `:unsupported`.
  """
  @spec result(t()) :: {:ok, Turn.Result.t()} | {:error, {:exec_failed | :turn_failed, Error.t()}}
  def result(%__MODULE__{token: token} = run) do
    case Process.get(__MODULE__) do
      {^token, result} -> result
      _another -> if begun?(run), do: {:error, {:exec_failed, not_here()}}, else: read(run)
    end
  end

  defp read(run) do
    Stream.run(run.stream)
    result(run)
  rescue
    error in Error ->
      if begun?(run) and match?({:error, _}, result(run)),
        do: failed(result(run), Error.normalize(error)),
        else: {:error, {:exec_failed, Error.normalize(error)}}
  end

  # An error before the first event is more specific than the missing result.
  defp failed({:error, {:exec_failed, %{result: result}}}, error),
    do: {:error, {:exec_failed, %{error | result: result}}}

  defp failed(turn_failed, _error), do: turn_failed

  defp not_here do
    message =
      "only the process that read the run last has its result: use the last event of pop/2, " <>
        "or read the run in this process"

    Error.new(:unsupported, message)
  end

  @doc """
  Returns the run as a stream of `Codex.Events` only. `events/1` ends with all events in one
  `Codex.StreamEvent.RawResponses`; this stream keeps no events, so its memory does not grow.
  """
  @spec raw_events(t()) :: Enumerable.t()
  def raw_events(%__MODULE__{raw: stream}) do
    Stream.flat_map(stream, fn
      %StreamEvent.RunItem{event: event} -> [event]
      _other -> []
    end)
  end

  @doc """
  Returns the next stream event within `timeout` ms: `{:ok, event}`, `:done`, or
  `{:error, exception}` once, then `:done`.

  After a timeout, `{:error, :timeout}`, the next call continues without a loss. If the process that
  popped first ends before the turn, other processes get a `Codex.Error` of the kind `:interrupted`;
  the turn is not run again.
  """
  @spec pop(t(), timeout()) :: {:ok, StreamEvent.t()} | :done | {:error, Exception.t() | :timeout}
  def pop(%__MODULE__{} = run, timeout \\ 5_000) do
    with :lost <- Reader.pop(run.progress, run.stream, timeout) do
      if cancelled?(run.usage),
        do: {:error, interrupted()},
        else: {:error, Error.new(:interrupted, "the process that popped first has ended")}
    end
  end

  @doc """
  Stops the run: `:immediate` (default) ends the CLI immediately; `:after_turn` lets the running
  turn end, and begins no further turn (option `repair`).

  Any process may call it, also before the run is read: then the turn will not start.
  """
  @spec cancel(t(), :immediate | :after_turn) :: :ok
  def cancel(run, mode \\ :immediate)

  def cancel(%__MODULE__{} = run, :immediate) do
    :counters.put(run.usage, cancelled(), 1)
    _ = Exec.cancel(run.token)
    Reader.cancel(run.progress)
  end

  def cancel(%__MODULE__{} = run, :after_turn) do
    unless cancelled?(run.usage), do: :counters.put(run.usage, cancelled(), 2)
    :ok
  end

  @doc """
  Returns the tokens used so far, by the CLI's names; `%{}` until the turn has ended. The scope of
  the numbers is in the `RawResponses` event.
  """
  @spec usage(t()) :: %{String.t() => non_neg_integer()}
  def usage(%__MODULE__{usage: usage}) do
    for {key, i} <- Enum.with_index(@usage_keys, 1),
        n = :counters.get(usage, i),
        n > 0,
        into: %{},
        do: {key, n - 1}
  end

  # One more than the number, so that 0 means: not reported.
  defp count(usage, counted) do
    for {key, i} <- Enum.with_index(@usage_keys, 1), n = counted[key], is_integer(n) do
      :counters.put(usage, i, n + 1)
    end

    :ok
  end

  # 0, or 1 after `:immediate`, 2 after `:after_turn`.
  defp cancelled?(usage), do: :counters.get(usage, cancelled()) == 1
  defp cancelled, do: length(@usage_keys) + 1
  defp begun?(%{usage: usage}), do: :counters.get(usage, begun()) == 1
  defp begun, do: length(@usage_keys) + 2

  defimpl Enumerable do
    def reduce(run, acc, fun), do: Enumerable.reduce(run.stream, acc, fun)
    def count(_run), do: {:error, __MODULE__}
    def member?(_run, _element), do: {:error, __MODULE__}
    def slice(_run), do: {:error, __MODULE__}
  end

  defimpl Inspect do
    def inspect(run, _opts), do: "#Codex.RunResultStreaming<#{run.token}>"
  end
end
