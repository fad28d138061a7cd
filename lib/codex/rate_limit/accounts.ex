defmodule Codex.RateLimit.Accounts do
  @moduledoc false
  # What is known of accounts, and who waits for them. One process writes; whoever begins a run only looks into its table.
  #
  # A gate is closed until a point in time. Those that wait stand in a queue, in the order in which they came, and are let
  # go in that order, all at once. Each is monitored: one that dies, or gives up, leaves nothing. When this process itself dies the
  # gates are open: a run that meets the limit closes them again.
  use GenServer

  alias Codex.RateLimit.Snapshot

  @table __MODULE__

  # The account that was told of longest ago goes when there are more, unless its gate is closed.
  @max_accounts 1_000

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "The snapshot of an account, or nil."
  @spec snapshot(String.t()) :: Snapshot.t() | nil
  def snapshot(account) do
    case look(account) do
      {_, _until, snapshot} -> snapshot
      nil -> nil
    end
  end

  @doc "Adds what was told of an account."
  @spec learn(String.t(), Snapshot.t()) :: :ok
  def learn(account, snapshot), do: call({:learn, account, snapshot}, :ok)

  @doc "Puts the whole snapshot of an account in the place of the one before."
  @spec replace(String.t(), Snapshot.t()) :: :ok
  def replace(account, snapshot), do: call({:replace, account, snapshot}, :ok)

  @doc "How long the gate of an account is closed, in ms; 0 where it is open."
  @spec closed_ms(String.t()) :: non_neg_integer()
  def closed_ms(account) do
    case look(account) do
      {_, until, _} when is_integer(until) -> max(until - now(), 0)
      _ -> 0
    end
  end

  @doc "Closes the gate of an account for this long, unless it is closed for longer."
  @spec close(String.t(), non_neg_integer()) :: :ok
  def close(account, ms), do: call({:close, account, now() + ms}, :ok)

  @doc "Opens the gate of an account."
  @spec open(String.t()) :: :ok
  def open(account), do: call({:open, account}, :ok)

  @doc "How many wait at the gate of an account."
  @spec waiting(String.t()) :: non_neg_integer()
  def waiting(account), do: call({:waiting, account}, 0)

  @doc """
  Waits until the gate of an account is open, at most `max_wait_ms`. At once: `{:refused, :full | :too_long, ms}`, where ms is how
  long the gate is closed. A message `{cancel, _}` ends the wait.
  """
  @spec wait(String.t(), pos_integer(), timeout(), reference()) ::
          :ok | {:refused, :full | :too_long, non_neg_integer()} | :cancelled
  def wait(account, max_waiting, max_wait_ms, cancel) do
    if closed_ms(account) == 0, do: :ok, else: queue(account, max_waiting, max_wait_ms, cancel)
  end

  defp queue(account, max_waiting, max_wait_ms, cancel) do
    ref = :erlang.monitor(:process, __MODULE__, alias: :demonitor)

    answer =
      case call({:wait, account, ref, max_waiting, max_wait_ms}, :ok) do
        :queued -> await(ref, cancel)
        answer -> answer
      end

    # No answer comes after this.
    Process.demonitor(ref, [:flush])

    receive do
      {^ref, _late} -> answer
    after
      0 -> answer
    end
  end

  defp await(ref, cancel) do
    receive do
      {^ref, answer} ->
        answer

      {:DOWN, ^ref, :process, _, _} ->
        :ok

      {^cancel, _} ->
        call({:forget, ref}, :ok)
        :cancelled
    end
  end

  # This process may be starting anew just now; nothing that it would answer is worth the caller's life.
  defp call(request, otherwise) do
    :ok = Codex.Application.Guard.started!()
    GenServer.call(__MODULE__, request, :infinity)
  catch
    :exit, _ -> otherwise
  end

  defp look(account) do
    :ok = Codex.Application.Guard.started!()

    case :ets.lookup(@table, account) do
      [row] -> row
      [] -> nil
    end
  rescue
    # No table: as above.
    ArgumentError -> nil
  end

  ## The process

  # `gates`: by account, its timer and the references of those that wait. `waiters`: by the monitor on the waiter.
  # `order`: by account, the number of the last change.
  @impl true
  def init([]) do
    _ = :ets.new(@table, [:named_table, :protected, read_concurrency: true])
    {:ok, %{gates: %{}, waiters: %{}, order: %{}, changes: 0}}
  end

  @impl true
  def handle_call({:learn, account, newer}, _from, state) do
    {until, known} = row(account)
    {:reply, :ok, write(state, account, until, Snapshot.merge(known, newer))}
  end

  def handle_call({:replace, account, whole}, _from, state) do
    {until, known} = row(account)
    {:reply, :ok, write(state, account, until, Snapshot.replace(known, whole))}
  end

  def handle_call({:close, account, until}, _from, state) do
    {closed, snapshot} = row(account)

    if closed != nil and until <= closed,
      do: {:reply, :ok, state},
      else: {:reply, :ok, state |> write(account, until, snapshot) |> shut(account, until)}
  end

  def handle_call({:open, account}, _from, state) do
    case state.gates do
      %{^account => %{timer: timer, queue: queue}} ->
        _ = :erlang.cancel_timer(timer)
        {:reply, :ok, open(state, account, queue)}

      _ ->
        {:reply, :ok, state}
    end
  end

  def handle_call({:wait, account, ref, max_waiting, max_wait_ms}, {pid, _}, state) do
    left = closed_ms(account)
    queue = queue_of(state, account)

    cond do
      left == 0 -> {:reply, :ok, state}
      left > max_wait_ms -> {:reply, {:refused, :too_long, left}, state}
      :queue.len(queue) >= max_waiting -> {:reply, {:refused, :full, left}, state}
      true -> {:reply, :queued, enter(state, account, ref, pid, max_wait_ms)}
    end
  end

  def handle_call({:forget, ref}, _from, state) do
    case Enum.find(state.waiters, fn {_, waiter} -> waiter.ref == ref end) do
      {monitor, waiter} -> {:reply, :ok, leave(state, monitor, waiter)}
      nil -> {:reply, :ok, state}
    end
  end

  def handle_call({:waiting, account}, _from, state),
    do: {:reply, :queue.len(queue_of(state, account)), state}

  @impl true
  def handle_info({:timeout, timer, {:open, account}}, state) do
    case state.gates do
      %{^account => %{timer: ^timer, queue: queue}} -> {:noreply, open(state, account, queue)}
      # Closed for longer meanwhile.
      _ -> {:noreply, state}
    end
  end

  def handle_info({:DOWN, monitor, :process, _, _}, state) do
    case state.waiters do
      %{^monitor => waiter} -> {:noreply, leave(state, monitor, waiter)}
      _ -> {:noreply, state}
    end
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp row(account) do
    case look(account) do
      {_, until, snapshot} -> {until, snapshot}
      nil -> {nil, nil}
    end
  end

  defp write(state, account, until, snapshot) do
    :ets.insert(@table, {account, until, snapshot})
    changes = state.changes + 1
    evict(%{state | changes: changes, order: Map.put(state.order, account, changes)})
  end

  defp evict(%{order: order} = state) when map_size(order) <= @max_accounts, do: state

  defp evict(state) do
    idle = Enum.reject(state.order, fn {account, _} -> is_map_key(state.gates, account) end)

    # Where all gates are closed, the newest is not kept.
    {account, _} =
      if idle == [],
        do: Enum.max_by(state.order, &elem(&1, 1)),
        else: Enum.min_by(idle, &elem(&1, 1))

    :ets.delete(@table, account)
    %{state | order: Map.delete(state.order, account)}
  end

  # Those that cannot wait so long are told at once.
  defp shut(state, account, until) do
    if not is_map_key(state.order, account) do
      state
    else
      gate = Map.get(state.gates, account, %{timer: nil, queue: :queue.new()})
      _ = if gate.timer, do: :erlang.cancel_timer(gate.timer)
      timer = :erlang.start_timer(until, self(), {:open, account}, abs: true)
      gate = %{gate | timer: timer}
      state = %{state | gates: Map.put(state.gates, account, gate)}

      for monitor <- :queue.to_list(gate.queue), reduce: state do
        state ->
          waiter = state.waiters[monitor]

          if until > waiter.until do
            send(waiter.ref, {waiter.ref, {:refused, :too_long, max(until - now(), 0)}})
            leave(state, monitor, waiter)
          else
            state
          end
      end
    end
  end

  defp enter(state, account, ref, pid, max_wait_ms) do
    monitor = Process.monitor(pid)
    until = if max_wait_ms == :infinity, do: :infinity, else: now() + max_wait_ms
    waiter = %{account: account, ref: ref, until: until}
    queue = :queue.in(monitor, queue_of(state, account))

    %{
      state
      | waiters: Map.put(state.waiters, monitor, waiter),
        gates: Map.update!(state.gates, account, &%{&1 | queue: queue})
    }
  end

  defp leave(state, monitor, waiter) do
    Process.demonitor(monitor, [:flush])
    queue = :queue.delete(monitor, queue_of(state, waiter.account))

    %{
      state
      | waiters: Map.delete(state.waiters, monitor),
        gates: Map.update!(state.gates, waiter.account, &%{&1 | queue: queue})
    }
  end

  defp open(state, account, queue) do
    monitors = :queue.to_list(queue)

    for monitor <- monitors do
      %{ref: ref} = state.waiters[monitor]
      Process.demonitor(monitor, [:flush])
      send(ref, {ref, :ok})
    end

    {_until, snapshot} = row(account)
    :ets.insert(@table, {account, nil, snapshot})

    %{
      state
      | gates: Map.delete(state.gates, account),
        waiters: Map.drop(state.waiters, monitors)
    }
  end

  defp queue_of(state, account) do
    case state.gates do
      %{^account => %{queue: queue}} -> queue
      _ -> :queue.new()
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
