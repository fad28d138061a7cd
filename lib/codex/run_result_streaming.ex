defmodule Codex.RunResultStreaming do
  @moduledoc """
  A turn that is read while it runs; `Codex.Thread.run_streamed/3` makes it.

      {:ok, run} = Codex.Thread.run_streamed(thread, "Fix the failing test")

      for %Codex.StreamEvent.RunItem{event: event} <- Codex.RunResultStreaming.events(run) do
        IO.inspect(event)
      end

  Nothing runs until it is read. `events/1` runs the turn in the process that reads it: a reader that is slow makes the CLI
  wait, one that halts stops it. `pop/2` reads one at a time, from any process; a process of its own then holds the
  turn, and ends with it, with `cancel/2`, or with the process that popped first. Use one of the two.

  A turn that fails, is cancelled or times out never just ends: `events/1` raises `Codex.Error` (the turn failed) or
  `Codex.TransportError` (the CLI did not end it), `pop/2` returns the same exception as `{:error, exception}`.
  """

  alias Codex.{Error, Exec, StreamEvent, Turn}
  alias Codex.RunResultStreaming.Reader

  @enforce_keys [:stream, :raw, :token, :usage, :progress]
  defstruct [:stream, :raw, :token, :usage, :progress]

  @opaque t :: %__MODULE__{
            stream: Enumerable.t(),
            raw: Enumerable.t(),
            token: String.t(),
            usage: :counters.counters_ref(),
            progress: :atomics.atomics_ref()
          }

  # Counters outlive the process that reads, cost nothing to ask, and go with the last reference to the run.
  @usage_keys ~w(input_tokens cached_input_tokens cache_write_input_tokens output_tokens reasoning_output_tokens total_tokens)

  @doc false
  def new(stream, turn, token) do
    usage = :counters.new(length(@usage_keys) + 1, [])

    %__MODULE__{
      stream: semantic(stream, turn, usage),
      raw: semantic(stream, %{turn | keep?: false}, usage),
      token: token,
      usage: usage,
      progress: Reader.new()
    }
  end

  # Turns events into stream events, and a failed turn into an exception.
  defp semantic(events, turn, usage) do
    # Before the CLI starts, too.
    start = fn ->
      if cancelled?(usage), do: raise(interrupted())
      turn
    end

    each = fn event, turn ->
      if cancelled?(usage), do: raise(interrupted())

      case Turn.add(turn, event) do
        {{:failed, error}, _turn} -> raise error
        {{tag, _}, turn} when is_atom(tag) -> {[], turn}
        {event, turn} -> {[StreamEvent.run_item(event)], turn}
      end
    end

    last = fn turn ->
      case Turn.result(turn) do
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
      [%StreamEvent.AgentUpdated{}],
      Stream.transform(events, start, each, last, fn _turn -> :ok end)
    )
  end

  defp interrupted, do: Error.new(:interrupted, "the run was cancelled")

  @doc """
  The run as a stream of `Codex.StreamEvent`s. Reading it twice runs the turn twice.

  Raises `Codex.Error` and `Codex.TransportError`, see above.
  """
  @spec events(t()) :: Enumerable.t()
  def events(%__MODULE__{stream: stream}), do: stream

  @doc """
  The run as a stream of `Codex.Events` only. Unlike `events/1`, which ends with all of them in one
  `Codex.StreamEvent.RawResponses`, it keeps none: memory stays the same however long the turn is.
  """
  @spec raw_events(t()) :: Enumerable.t()
  def raw_events(%__MODULE__{raw: stream}) do
    Stream.flat_map(stream, fn
      %StreamEvent.RunItem{event: event} -> [event]
      _other -> []
    end)
  end

  @doc """
  The next stream event, within `timeout` ms: `{:ok, event}`, `:done`, or `{:error, exception}` once, then `:done`.

  A timeout is `{:error, :timeout}` and loses nothing: the next call goes on. Where the process that popped first has
  ended in the middle, the others get a `Codex.Error` of the kind `:interrupted`; the turn is not run again.
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
  Stops the run: `:immediate` (default) ends the CLI now; `:after_turn` lets the turn that runs come to its end.

  Any process may call it, also before the run is read: then it will not start.
  """
  @spec cancel(t(), :immediate | :after_turn) :: :ok
  def cancel(run, mode \\ :immediate)

  def cancel(%__MODULE__{} = run, :immediate) do
    :counters.put(run.usage, cancelled(), 1)
    _ = Exec.cancel(run.token)
    Reader.cancel(run.progress)
  end

  # A run is one turn: there is no next one to keep from starting.
  def cancel(%__MODULE__{}, :after_turn), do: :ok

  @doc """
  Tokens used so far, by the names of the CLI; `%{}` until the turn has ended. What they count is in the `RawResponses` event.
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

  defp cancelled?(usage), do: :counters.get(usage, cancelled()) == 1
  defp cancelled, do: length(@usage_keys) + 1

  defimpl Inspect do
    def inspect(run, _opts), do: "#Codex.RunResultStreaming<#{run.token}>"
  end
end
