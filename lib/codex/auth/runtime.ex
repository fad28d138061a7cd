defmodule Codex.Auth.Runtime do
  @moduledoc false
  # Holds the logins with the store `:ephemeral`.
  use GenServer

  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "Returns the document of an account in this VM, or nil."
  @spec get(String.t()) :: String.t() | nil
  def get(account) do
    with show when is_function(show) <- call({:get, account}), do: show.()
  end

  @spec put(String.t(), String.t()) :: :ok
  def put(account, document),
    # A function hides its data in crash reports, in the state and in the last message.
    do: call({:put, account, fn -> document end})

  @doc "Removes the document of an account. Returns whether it existed."
  @spec delete(String.t()) :: boolean()
  def delete(account), do: call({:delete, account})

  defp call(request) do
    :ok = Codex.Started.check!()
    GenServer.call(__MODULE__, request)
  end

  @impl true
  def init(nil), do: {:ok, %{}}

  @impl true
  def handle_call({:get, account}, _from, kept), do: {:reply, kept[account], kept}

  def handle_call({:put, account, show}, _from, kept),
    do: {:reply, :ok, Map.put(kept, account, show)}

  def handle_call({:delete, account}, _from, kept) do
    {show, kept} = Map.pop(kept, account)
    {:reply, show != nil, kept}
  end
end
