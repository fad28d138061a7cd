defmodule Codex.Auth.Runtime do
  @moduledoc false
  # Holds the logins that are kept in this VM alone.
  use GenServer

  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "What is kept for an account in this VM: a document, or nil."
  @spec get(String.t()) :: String.t() | nil
  def get(account) do
    with show when is_function(show) <- call({:get, account}), do: show.()
  end

  @spec put(String.t(), String.t()) :: :ok
  def put(account, document),
    # A function shows nothing of what it holds: not in a crash report, not in a state, not in a last message.
    do: call({:put, account, fn -> document end})

  @doc "Whether there was one."
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
