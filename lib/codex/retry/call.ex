defmodule Codex.Retry.Call do
  @moduledoc false
  # One call that may take several attempts, in the process that waits for it: how it is cancelled between them. A token of
  # `Codex.Exec.cancel/1` finds it in the registry while it waits, and the runs that it starts share its flag.

  @registry Codex.Exec.Registry

  @enforce_keys [:tokens, :cancel, :cancelled]
  defstruct [:tokens, :cancel, :cancelled]

  @type t :: %__MODULE__{
          tokens: [String.t()],
          cancel: reference(),
          cancelled: :atomics.atomics_ref()
        }

  @doc "Begins a call that any of these tokens cancels."
  @spec begin([String.t()]) :: t()
  def begin(tokens) do
    # A message to an alias that is no more vanishes.
    call = %__MODULE__{
      tokens: tokens,
      cancel: :erlang.alias([:explicit_unalias]),
      cancelled: :atomics.new(1, [])
    }

    for token <- tokens,
        do: {:ok, _} = Registry.register(@registry, token, {:call, call.cancel, call.cancelled})

    call
  end

  @doc "Cancels a call, from any process, by what the registry has of it."
  @spec cancel({:call, reference(), :atomics.atomics_ref()}) :: :ok
  def cancel({:call, cancel, cancelled}) do
    :atomics.put(cancelled, 1, 1)
    send(cancel, {cancel, :cancelled})
    :ok
  end

  @spec cancelled?(t()) :: boolean()
  def cancelled?(call), do: :atomics.get(call.cancelled, 1) == 1

  @doc "Waits this long, or until the call is cancelled."
  @spec sleep(t(), non_neg_integer()) :: :ok | :cancelled
  def sleep(%{cancel: cancel}, ms) do
    receive do
      {^cancel, :cancelled} -> :cancelled
    after
      ms -> :ok
    end
  end

  @doc "The call is over. Nothing of it is left."
  @spec finish(t()) :: :ok
  def finish(%{cancel: cancel} = call) do
    for token <- call.tokens,
        do: Registry.unregister_match(@registry, token, {:call, cancel, :_})

    :erlang.unalias(cancel)

    drain(cancel)
  end

  # Whoever cancelled it more than once sent more than one.
  defp drain(cancel) do
    receive do
      {^cancel, :cancelled} -> drain(cancel)
    after
      0 -> :ok
    end
  end
end
