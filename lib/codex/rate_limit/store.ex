defmodule Codex.RateLimit.Store do
  @moduledoc false
  # Keeps the newest snapshot of each account in a table. One process writes, so that updates
  # merge in order; readers look into the table. If the process dies, the snapshots are lost and
  # the next update starts anew.
  use GenServer

  alias Codex.RateLimit.{Gate, Snapshot}

  @table __MODULE__

  # The account with the oldest update is dropped if there are more.
  @max_accounts 1_000

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "Returns the snapshot of an account, or nil."
  @spec get(String.t()) :: Snapshot.t() | nil
  def get(account) do
    :ok = Codex.Started.check!()
    :ets.lookup_element(@table, account, 3)
  rescue
    # The account is unknown, or the process is restarting and has no table yet.
    ArgumentError -> nil
  end

  @doc "Returns whether a snapshot of any account is known."
  @spec any?() :: boolean()
  def any?, do: :ets.info(@table, :size) not in [0, :undefined]

  @doc "Merges a snapshot into the one of the account, or replaces that."
  @spec put(String.t(), :merge | :replace, Snapshot.t()) :: :ok
  def put(account, how, snapshot) when how in [:merge, :replace] do
    :ok = Codex.Started.check!()
    GenServer.call(__MODULE__, {:put, account, how, snapshot}, :infinity)
  catch
    # The process is restarting. Losing an update is better than ending the caller.
    :exit, _ -> :ok
  end

  # The state counts the updates.
  @impl true
  def init([]) do
    _ = :ets.new(@table, [:named_table, :protected, read_concurrency: true])
    :ok = Gate.new_table()
    {:ok, 0}
  end

  @impl true
  def handle_call({:put, account, how, snapshot}, _from, updates) do
    snapshot = apply(Snapshot, how, [get(account), snapshot])
    :ets.insert(@table, {account, updates, snapshot})
    if :ets.info(@table, :size) > @max_accounts, do: drop_oldest()
    {:reply, :ok, updates + 1}
  end

  @impl true
  def handle_info(_message, updates), do: {:noreply, updates}

  defp drop_oldest do
    rows = :ets.select(@table, [{{:"$1", :"$2", :_}, [], [{{:"$2", :"$1"}}]}])
    {_update, account} = Enum.min(rows)
    :ets.delete(@table, account)
  end
end
