defmodule Codex.RateLimit.Gate do
  @moduledoc false
  # One gate for each account, for all runs that ask for it (`shared: true`), on all connected
  # nodes.
  # A limit closes the gate until it resets. Runs that come to a closed gate wait, and pass one
  # after the other when it opens: each has a slot, in the order in which they came.
  #
  # The gates are a table, so a run that passes asks no process. The process here sends each closing
  # to the gates of the other nodes, and asks these when it starts. It keeps a copy of the table,
  # which `Codex.RateLimit.Store` owns: the death of either of them opens no gate.
  use GenServer

  @table __MODULE__

  # The time between two slots. The exact time in it is random, since every node has its own slots.
  @pace_ms 25
  # Runs that come later pass together: many may have given up since.
  @longest_line_ms 5_000
  # How long a run waits while the table is being made again.
  @moment_ms 20

  @typedoc "A place in the line of a closed gate: when the gate opens, and when the place passes."
  @type ticket :: {until :: integer(), at :: integer()}

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "Makes the table. Called by its owner."
  @spec new_table() :: :ok
  def new_table do
    _ = :ets.new(@table, [:named_table, :public, read_concurrency: true])
    _ = if pid = Process.whereis(__MODULE__), do: send(pid, :restore)
    :ok
  end

  @doc """
  Asks whether a run may pass. Otherwise it waits so many ms, and asks again with its ticket.
  """
  @spec check(String.t(), ticket() | nil) :: :open | {:wait, pos_integer(), ticket() | nil}
  def check(account, ticket \\ nil) do
    :ok = Codex.Started.check!()

    case :ets.lookup(@table, account) do
      [] -> :open
      [{^account, until, slots}] -> check(account, ticket, until, slots, now())
    end
  rescue
    # The owner of the table is being restarted.
    ArgumentError -> {:wait, @moment_ms, ticket}
  end

  defp check(_account, {until, at}, until, _slots, now) when now >= at, do: :open
  defp check(_account, {until, at} = ticket, until, _slots, now), do: {:wait, at - now, ticket}

  defp check(account, _none_or_old, until, slots, now) do
    if now >= until + line(slots) do
      :open
    else
      slot = :ets.update_counter(@table, account, {3, 1}) - 1
      at = max(until + line(slot), now) + :rand.uniform(@pace_ms)
      {:wait, at - now, {until, at}}
    end
  end

  # The time that so many runs take to pass.
  defp line(slots), do: min(slots * @pace_ms, @longest_line_ms)

  @doc "Closes the gate of an account for so many ms, on this node and the others."
  @spec close(String.t(), non_neg_integer()) :: :ok
  def close(account, ms) do
    :ok = Codex.Started.check!()
    GenServer.call(__MODULE__, {:close, account, now() + ms}, :infinity)
  catch
    # The process is being restarted: it reads the table.
    :exit, _ ->
      _ = put(account, now() + ms)
      :ok
  end

  # A gate that closes again has a new line.
  defp put(account, until) do
    case :ets.lookup(@table, account) do
      [{^account, known, _slots}] when known >= until -> :known
      _earlier -> :ets.insert(@table, {account, until, 0})
    end
  rescue
    ArgumentError -> :known
  end

  ## The process

  @impl true
  def init([]) do
    _ = :net_kernel.monitor_nodes(true, node_type: :all)
    for node <- Node.list(:connected), do: send({__MODULE__, node}, {:gates_wanted, node()})
    {:ok, closed()}
  end

  @impl true
  def handle_call({:close, account, until}, _from, gates) do
    gates = close_gate(gates, account, until)

    for node <- Node.list(:connected),
        do: send({__MODULE__, node}, {:gates_closed, %{account => until}})

    {:reply, :ok, gates}
  end

  @impl true
  def handle_info({:gates_closed, %{} = others}, gates) do
    {:noreply,
     Enum.reduce(others, gates, fn
       {account, until}, gates when is_binary(account) and is_integer(until) ->
         close_gate(gates, account, until)

       _other, gates ->
         gates
     end)}
  end

  # A node that has connected, or whose process is new.
  def handle_info({:nodeup, node, _info}, gates), do: tell(node, gates)
  def handle_info({:gates_wanted, node}, gates) when is_atom(node), do: tell(node, gates)

  # The table is new.
  def handle_info(:restore, gates) do
    for {account, until} <- gates, do: put(account, until)
    {:noreply, gates}
  end

  def handle_info(_other, gates), do: {:noreply, gates}

  defp tell(node, gates) do
    gates = current(gates)
    _ = if gates != %{}, do: send({__MODULE__, node}, {:gates_closed, gates})
    {:noreply, gates}
  end

  # Gates that have opened, and whose line has passed, are removed.
  defp close_gate(gates, account, until) do
    _ = put(account, until)
    gates = Map.update(gates, account, until, &max(&1, until))
    open = [{{:_, :"$1", :_}, [{:<, :"$1", now() - @longest_line_ms}], [true]}]
    _ = :ets.select_delete(@table, open)
    current(gates)
  rescue
    ArgumentError -> Map.update(gates, account, until, &max(&1, until))
  end

  defp current(gates) do
    now = now()
    Map.filter(gates, fn {_account, until} -> until > now end)
  end

  defp closed do
    now = now()

    for {account, until, _slots} <- :ets.tab2list(@table),
        until > now,
        into: %{},
        do: {account, until}
  rescue
    ArgumentError -> %{}
  end

  defp now, do: System.system_time(:millisecond)
end
