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

  Exactly one answer comes. A function that returns another call (`:file` functions) waits for
  `timeout` milliseconds at most; the others keep to a time that they are given. Without the
  application, the threads are made for this call.
  """
  @spec call((reference(), reference() -> :ok | reference()), timeout()) ::
          term() | {:error, :timeout | {:native, String.t()}}
  def call(start, timeout \\ :infinity)
  def call(_start, 0), do: {:error, :timeout}

  def call(start, timeout) do
    with {:ok, call} <- start(start), do: await(call, timeout)
  end

  @typedoc "A call under way. It belongs to the process that started it."
  @opaque call :: {reference(), :ok | reference()}

  @doc "Starts native work without waiting for its answer, which `await/2` returns."
  @spec start((reference(), reference() -> :ok | reference())) ::
          {:ok, call()} | {:error, {:native, String.t()}}
  def start(start) do
    case pool() do
      {:ok, pool} ->
        ref = make_ref()
        {:ok, {ref, start.(pool, ref)}}

      {:error, words} ->
        {:error, {:native, words}}
    end
  end

  @doc "Waits for the answer of a call, as `call/2` does."
  @spec await(call(), timeout()) :: term() | {:error, :timeout | {:native, String.t()}}
  def await({ref, call}, timeout \\ :infinity) do
    receive do
      {^ref, answer} -> answer(answer)
    after
      timeout -> if Native.pool_give_up(call), do: {:error, :timeout}, else: late(ref)
    end
  end

  @doc "Gives a call up: its work ends soon, and its answer does not arrive."
  @spec give_up(call()) :: :ok
  def give_up({ref, call}) do
    _ = Native.pool_give_up(call) or late(ref)
    :ok
  end

  # The answer is being sent at this moment.
  defp late(ref) do
    receive do
      {^ref, answer} -> answer(answer)
    end
  end

  defp answer({:error, :crashed}), do: {:error, {:native, "it crashed"}}
  defp answer(answer), do: answer

  defp pool do
    case Native.load_error() do
      nil -> pool(kept(), Native.image())
      words -> {:error, "the native library does not load: " <> words}
    end
  end

  # A native library that was loaded meanwhile does not know the threads of the library before.
  defp pool({image, pool}, image), do: {:ok, pool}

  defp pool(_none_or_old, _image) do
    GenServer.call(__MODULE__, :pool)
  catch
    # The application does not run, or ends at this moment.
    :exit, _ -> Native.pool_new()
  end

  # In a table, so that callers need not wait for a process.
  defp kept do
    :ets.lookup_element(__MODULE__, :pool, 2)
  rescue
    ArgumentError -> nil
  end

  @impl true
  def init(nil) do
    {:ok, :ets.new(__MODULE__, [:named_table, read_concurrency: true])}
  end

  @impl true
  def handle_call(:pool, _from, table) do
    image = Native.image()

    with {other, _pool} when other != image <- kept() || {nil, nil},
         {:ok, pool} <- Native.pool_new() do
      true = :ets.insert(table, {:pool, {image, pool}})
      {:reply, {:ok, pool}, table}
    else
      {^image, pool} -> {:reply, {:ok, pool}, table}
      error -> {:reply, error, table}
    end
  end
end
