defmodule Codex.Agent.Run do
  @moduledoc false
  # Stops a turn of `Codex.Agent.Loop` from another process: a guardrail that trips, a handoff, an
  # answer of a tool. The first reason counts; the process that reads the turn takes it.

  alias Codex.Turn.Cancellation

  @enforce_keys [:reader, :ref, :state, :token]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          reader: pid(),
          ref: reference(),
          state: :atomics.atomics_ref(),
          token: String.t()
        }

  @type reason ::
          {:guardrail, Codex.GuardrailError.t()}
          | {:handoff, struct(), map(), String.t() | nil}
          | {:answer, term()}
          | {:error, {:invalid_tool_use_behavior_result, term()}}

  @running 0
  @stopped 1
  @taken 2
  @again_ms 20
  @patience_ms 1_000

  # A call comes before the end of its response, and the tokens with the end.
  @tokens_ms 500
  @step_ms 5

  @doc "Returns a turn that this process reads, and that `token` cancels."
  @spec new(String.t()) :: t()
  def new(token),
    do: %__MODULE__{reader: self(), ref: make_ref(), state: :atomics.new(2, []), token: token}

  @doc "Notes whether the tokens of the newest response are known, or that nobody reports them."
  @spec counted(t(), boolean()) :: :ok
  def counted(run, known?), do: :atomics.put(run.state, 2, if(known?, do: 1, else: 0))

  @doc "Stops the turn. Returns when its reader knows, or has ended."
  @spec stop(t(), reason()) :: :ok
  def stop(run, reason) do
    # A guardrail does not wait: the model is to stop.
    _ = if elem(reason, 0) in [:handoff, :answer], do: await_tokens(run, @tokens_ms)

    if :atomics.compare_exchange(run.state, 1, @running, @stopped) == :ok do
      send(run.reader, {run.ref, reason})
      cancel(run)
    end

    :ok
  end

  defp await_tokens(run, left) do
    if left <= 0 or :atomics.get(run.state, 2) == 1 do
      :ok
    else
      Process.sleep(@step_ms)
      await_tokens(run, left - @step_ms)
    end
  end

  @doc "Notes a reason in the process that reads the turn, which has ended by itself."
  @spec note(t(), reason()) :: :ok
  def note(run, reason) do
    if :atomics.compare_exchange(run.state, 1, @running, @stopped) == :ok,
      do: send(run.reader, {run.ref, reason})

    :ok
  end

  # A turn that begins at this moment cannot be cancelled yet.
  defp cancel(run) do
    _ = Cancellation.cancel_all(run.token)

    if stopped?(run) and Process.alive?(run.reader) do
      Process.sleep(@again_ms)
      cancel(run)
    end
  end

  @spec stopped?(t()) :: boolean()
  def stopped?(run), do: :atomics.get(run.state, 1) == @stopped

  @doc "Takes the reason. Nothing stops the turn afterwards."
  @spec take(t()) :: reason() | nil
  def take(%{ref: ref} = run) do
    case :atomics.exchange(run.state, 1, @taken) do
      @stopped ->
        receive do
          {^ref, reason} -> reason
        after
          # The process that stopped the turn was killed before it said why.
          @patience_ms -> nil
        end

      _running_or_taken ->
        nil
    end
  end
end
