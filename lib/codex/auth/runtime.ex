defmodule Codex.Auth.Runtime do
  @moduledoc false
  # Owns the native threads on which credentials are read and written, and what is kept in this VM alone. The threads start
  # with the first call and end with this process and the last call that is under way.
  use GenServer

  alias Codex.Native

  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The threads."
  @spec pool() :: {:ok, reference()} | {:error, String.t()}
  def pool, do: GenServer.call(__MODULE__, :pool)

  @doc "What is kept for an account in this VM: a document, or nil."
  @spec get(String.t()) :: String.t() | nil
  def get(account) do
    with show when is_function(show) <- GenServer.call(__MODULE__, {:get, account}), do: show.()
  end

  @spec put(String.t(), String.t()) :: :ok
  def put(account, document),
    # A function shows nothing of what it holds: not in a crash report, not in a state, not in a last message.
    do: GenServer.call(__MODULE__, {:put, account, fn -> document end})

  @doc "Whether there was one."
  @spec delete(String.t()) :: boolean()
  def delete(account), do: GenServer.call(__MODULE__, {:delete, account})

  @impl true
  def init(nil), do: {:ok, %{pool: nil, kept: %{}}}

  @impl true
  def handle_call(:pool, _from, state) do
    # A native library that was loaded meanwhile does not know the threads of the one before.
    image = Native.image()

    case state.pool do
      {^image, pool} -> {:reply, {:ok, pool}, state}
      _none -> start_pool(image, state)
    end
  end

  def handle_call({:get, account}, _from, state), do: {:reply, state.kept[account], state}

  def handle_call({:put, account, show}, _from, state),
    do: {:reply, :ok, put_in(state.kept[account], show)}

  def handle_call({:delete, account}, _from, state) do
    {show, kept} = Map.pop(state.kept, account)
    {:reply, show != nil, %{state | kept: kept}}
  end

  defp start_pool(image, state) do
    case Native.auth_pool() do
      {:ok, pool} -> {:reply, {:ok, pool}, %{state | pool: {image, pool}}}
      error -> {:reply, error, state}
    end
  end
end
