defmodule Codex.NativePool do
  @moduledoc false
  # Owns the native threads on which files, credentials and keyrings are used: work that may wait,
  # and that neither a scheduler of the VM nor its file server may wait for. The threads start with
  # the first call, and end with this process and the last call that is under way.
  use GenServer

  alias Codex.Native

  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  Starts native work and waits for its answer. `start` gets the pool and a reference, as the
  functions of `Codex.Native` take them.

  Exactly one answer comes, in the time that `start` asks for. Without the application, the threads
  are made for this call.
  """
  @spec call((reference(), reference() -> :ok)) :: term() | {:error, {:native, String.t()}}
  def call(start) do
    with {:ok, pool} <- pool() do
      ref = make_ref()
      :ok = start.(pool, ref)

      receive do
        {^ref, {:error, :crashed}} -> {:error, {:native, "it crashed"}}
        {^ref, answer} -> answer
      end
    else
      {:error, words} -> {:error, {:native, words}}
    end
  end

  defp pool do
    with {:error, _why} <- Code.ensure_loaded(Native) do
      {:error, "the native library does not load"}
    else
      {:module, Native} -> pool_of(GenServer.whereis(__MODULE__))
    end
  end

  defp pool_of(nil), do: Native.pool_new()

  defp pool_of(pid) do
    GenServer.call(pid, :pool)
  catch
    # The application ends at this moment.
    :exit, _ -> Native.pool_new()
  end

  @impl true
  def init(nil), do: {:ok, nil}

  @impl true
  def handle_call(:pool, _from, state) do
    # A native library that was loaded meanwhile does not know the threads of the library before.
    image = Native.image()

    with {other, _pool} when other != image <- state || {nil, nil},
         {:ok, pool} <- Native.pool_new() do
      {:reply, {:ok, pool}, {image, pool}}
    else
      {^image, pool} -> {:reply, {:ok, pool}, state}
      error -> {:reply, error, state}
    end
  end
end
