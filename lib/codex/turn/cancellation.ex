defmodule Codex.Turn.Cancellation do
  @moduledoc false
  # Cancels a call, which may take several attempts. The call lives in the process that waits for
  # it. `Codex.Exec.cancel/1` finds the call in the registry by its tokens, and all runs of the
  # call share one flag. Every call has the token `ref`, which also names it in `Codex.running/0`.

  alias Codex.Subprocess
  alias Codex.Turn.Running

  @registry Codex.Exec.Registry

  @enforce_keys [:ref, :tokens, :cancel, :cancelled]
  defstruct [:ref, :tokens, :cancel, :cancelled]

  @type token :: String.t() | reference()
  @type t :: %__MODULE__{
          ref: reference(),
          tokens: [token()],
          cancel: reference(),
          cancelled: :atomics.atomics_ref()
        }

  @doc """
  Begins a call that any of these tokens cancels. With `about`, `Codex.running/0` lists it.
  """
  @spec begin([token()], Running.about() | nil) :: t()
  def begin(tokens, about \\ nil) do
    ref = make_ref()

    # A message to an alias that is inactive is dropped.
    call = %__MODULE__{
      ref: ref,
      tokens: [ref | tokens],
      cancel: :erlang.alias([:explicit_unalias]),
      cancelled: :atomics.new(1, [])
    }

    for token <- call.tokens,
        do: {:ok, _} = Registry.register(@registry, token, {ref, call.cancel, call.cancelled})

    if about, do: Running.begin(ref, about)
    call
  end

  @doc "Cancels the calls of these runs: see `Codex.stop/1`."
  @spec stop(Running.target()) :: :ok | {:error, :not_found}
  def stop(target) do
    stopped = for run <- Running.find(target), do: cancel_all(run.ref)
    if :ok in stopped, do: :ok, else: {:error, :not_found}
  end

  @doc "Cancels the calls with this token, from any process, and the runs that they started."
  @spec cancel_all(token()) :: :ok | {:error, :not_found}
  def cancel_all(token) do
    :ok = Codex.Started.check!()

    case Registry.lookup(@registry, token) do
      [] -> {:error, :not_found}
      calls -> Enum.each(calls, fn {_pid, call} -> cancel(call) end)
    end
  end

  defp cancel({ref, cancel, cancelled}) do
    :atomics.put(cancelled, 1, 1)
    send(cancel, {cancel, :cancelled})
    for {_pid, sub} <- Registry.lookup(@registry, {:run, ref}), do: Subprocess.request_stop(sub)
  end

  @doc "Registers a process that the call started. Cancelling the call stops the process, too."
  @spec started(
          %{
            :ref => reference(),
            :cancelled => :atomics.atomics_ref(),
            optional(atom()) => term()
          },
          Subprocess.t()
        ) :: :ok
  def started(call, sub) do
    {:ok, _} = Registry.register(@registry, {:run, call.ref}, sub)

    # A cancellation at this moment did not find the process yet.
    _ = if cancelled?(call), do: Subprocess.request_stop(sub)
    :ok
  end

  @doc "Unregisters the process of the call, which has ended."
  @spec ended(%{:ref => reference(), optional(atom()) => term()}) :: :ok
  def ended(call), do: Registry.unregister(@registry, {:run, call.ref})

  @doc "Returns whether the call was cancelled."
  @spec cancelled?(%{
          :cancelled => :atomics.atomics_ref(),
          optional(atom()) => term()
        }) :: boolean()
  def cancelled?(call), do: :atomics.get(call.cancelled, 1) == 1

  @doc "Waits `ms` milliseconds, or until the call is cancelled."
  @spec sleep(t(), non_neg_integer()) :: :ok | :cancelled
  def sleep(%{cancel: cancel}, ms) do
    receive do
      {^cancel, :cancelled} -> :cancelled
    after
      ms -> :ok
    end
  end

  @doc "Ends the call and removes all its traces from the registries and the mailbox."
  @spec finish(t()) :: :ok
  def finish(%{cancel: cancel} = call) do
    # The first token is this call's own. Calls of one process may share the others.
    [ref | tokens] = call.tokens
    :ok = Registry.unregister(@registry, ref)

    for token <- tokens,
        do: Registry.unregister_match(@registry, token, {:_, cancel, :_})

    Running.finish(ref)
    :erlang.unalias(cancel)

    drain(cancel)
  end

  # Each cancellation sent a message, and hooks may have.
  defp drain(cancel) do
    receive do
      {^cancel, _message} -> drain(cancel)
    after
      0 -> :ok
    end
  end
end
