defmodule Codex.Pool.State do
  @moduledoc false
  # The servers, turns and threads of a pool. Pure: a call, a message or a tick goes in, and new
  # data with actions comes out. Times are monotonic milliseconds.
  #
  #   * a lease is a turn that occupies a place on a server; its reader is monitored
  #   * a server that is retiring gets no further turn, and ends after its last one
  #   * `threads` names the server that has a thread loaded: a second server must not write to the
  #     file of the thread

  defstruct [
    :opts,
    :drain,
    :retry_at,
    servers: %{},
    threads: %{},
    leases: %{},
    waiting: :queue.new(),
    starting?: false,
    failures: 0,
    started: 0,
    failed: 0,
    ended: %{},
    actions: []
  ]

  @typedoc """
    * `leases` - by the reference of the lease: server, thread and reader's monitor
    * `waiting` - leases without a place: `{lease, from, thread_id, since}`
    * `failures` - failed starts in a row; `retry_at` - when the next one is tried,
      or nil
    * `drain` - nil, or the turns that ended since the drain began and were interrupted
    * `ended` - numbers of servers by reason
  """
  @type t :: %__MODULE__{}

  @type action ::
          {:reply, GenServer.from(), term()}
          | :start
          | {:stop, pid()}
          | {:check, pid()}
          | {:demonitor, reference()}
          | {:wait, waited_ms :: non_neg_integer(), loaded? :: boolean()}
          | {:ended, pid(), server :: map(), reason :: atom()}

  @type result :: {[action()], t()}

  # The first pause after a failed start, which doubles, and the longest.
  @pause_ms 200
  @max_pause_ms 10_000

  @doc "Returns the state of a new pool."
  @spec new(map()) :: t()
  def new(opts), do: %__MODULE__{opts: opts}

  @doc "Looks for what is to do at this time: servers to start, to check, to retire."
  @spec tick(t(), integer()) :: result()
  def tick(state, now), do: state |> check(now) |> settle(now)

  @doc "Asks for a place on a server; a process waits for the reply."
  @spec checkout(t(), map(), integer()) :: result()
  def checkout(%{drain: drain} = state, %{from: from}, _now) when drain != nil,
    do: flush(act(state, {:reply, from, :drained}))

  def checkout(state, request, now) do
    waiting = :queue.in(Map.put(request, :since, now), state.waiting)
    settle(%{state | waiting: waiting}, now)
  end

  @doc "Notes the thread that a turn runs in."
  @spec thread(t(), reference(), String.t()) :: result()
  def thread(state, lease, thread_id) do
    case state.leases do
      %{^lease => held} ->
        leases = Map.put(state.leases, lease, %{held | thread_id: thread_id})
        {[], %{state | leases: leases, threads: Map.put(state.threads, thread_id, held.server)}}

      _gone ->
        {[], state}
    end
  end

  @doc "Notes that a server has loaded a thread."
  @spec assign(t(), pid(), String.t()) :: result()
  def assign(state, pid, thread_id) when is_map_key(state.servers, pid),
    do: {[], %{state | threads: Map.put(state.threads, thread_id, pid)}}

  def assign(state, _gone, _thread_id), do: {[], state}

  @doc "Ends a lease, or the wait for a place."
  @spec checkin(t(), reference(), integer()) :: result()
  def checkin(state, lease, now), do: state |> release(lease, now) |> settle(now)

  defp release(state, lease, now) do
    case Map.pop(state.leases, lease) do
      {nil, _leases} ->
        {left, others} =
          state.waiting |> :queue.to_list() |> Enum.split_with(&(&1.lease == lease))

        state = Enum.reduce(left, state, &act(&2, {:demonitor, &1.monitor}))
        if left == [], do: state, else: %{state | waiting: :queue.from_list(others)}

      {held, leases} ->
        state = act(%{state | leases: leases}, {:demonitor, held.monitor})
        state = finished(state)
        update(state, held.server, &%{&1 | turns: &1.turns - 1, idle_since: now})
    end
  end

  defp finished(%{drain: nil} = state), do: state
  defp finished(state), do: update_in(state.drain.finished, &(&1 + 1))

  defp update(state, pid, fun) do
    case state.servers do
      %{^pid => server} -> %{state | servers: Map.put(state.servers, pid, fun.(server))}
      _gone -> state
    end
  end

  @doc "Finds the lease of a monitor of a reader that is gone."
  @spec lease_of(t(), reference()) :: reference() | nil
  def lease_of(state, monitor) do
    held = Enum.find_value(state.leases, fn {lease, held} -> held.monitor == monitor && lease end)

    held ||
      Enum.find_value(:queue.to_list(state.waiting), &(&1.monitor == monitor && &1.lease))
  end

  ## Servers

  @doc "Adds a server that is ready."
  @spec started(t(), pid(), integer()) :: result()
  def started(state, pid, now) do
    server = %{
      turns: 0,
      total: 0,
      since: now,
      idle_since: now,
      checked_at: now,
      checking?: false,
      failed?: false,
      memory: nil,
      retiring: nil,
      stopping?: false
    }

    servers = Map.put(state.servers, pid, server)
    state = %{state | servers: servers, starting?: false, failures: 0, started: state.started + 1}
    state |> retire_all_if_drained() |> settle(now)
  end

  @doc "Notes that a server could not be started. Without any server, nobody waits any longer."
  @spec start_failed(t(), term(), integer()) :: result()
  def start_failed(state, reason, now) do
    pause = min(@pause_ms * Integer.pow(2, min(state.failures, 16)), @max_pause_ms)

    state = %{
      state
      | starting?: false,
        failures: state.failures + 1,
        failed: state.failed + 1,
        retry_at: now + pause
    }

    state = if state.servers == %{}, do: fail_all(state, {:error, reason}), else: state
    settle(state, now)
  end

  defp fail_all(state, answer) do
    Enum.reduce(:queue.to_list(state.waiting), %{state | waiting: :queue.new()}, fn waits,
                                                                                    state ->
      state |> act({:demonitor, waits.monitor}) |> act({:reply, waits.from, answer})
    end)
  end

  @doc "Removes a server that has ended. Its turns learn of it by themselves."
  @spec down(t(), pid(), integer()) :: result()
  def down(state, pid, now) do
    case Map.pop(state.servers, pid) do
      {nil, _servers} ->
        {[], state}

      {server, servers} ->
        {lost, leases} = Enum.split_with(state.leases, fn {_, held} -> held.server == pid end)

        state =
          Enum.reduce(lost, state, fn {_, held}, s -> act(s, {:demonitor, held.monitor}) end)

        reason = if server.stopping?, do: server.retiring, else: :lost

        %{
          state
          | servers: servers,
            leases: Map.new(leases),
            threads: Map.reject(state.threads, fn {_id, on} -> on == pid end),
            ended: Map.update(state.ended, reason, 1, &(&1 + 1)),
            drain: interrupted(state.drain, length(lost))
        }
        |> act({:ended, pid, server, reason})
        |> settle(now)
    end
  end

  defp interrupted(nil, _turns), do: nil
  defp interrupted(drain, turns), do: update_in(drain.interrupted, &(&1 + turns))

  @doc "Notes the result of a health check: the resident memory in bytes (or nil), or `:error`."
  @spec checked(t(), pid(), {:ok, non_neg_integer() | nil} | :error, integer()) :: result()
  def checked(state, pid, {:ok, memory}, now) do
    state
    |> update(pid, &%{&1 | checking?: false, failed?: false, memory: memory, checked_at: now})
    |> settle(now)
  end

  def checked(state, pid, :error, now) do
    case state.servers do
      # The second failure in a row.
      %{^pid => %{failed?: true} = server} ->
        state |> stop(pid, %{server | retiring: :unhealthy, checking?: false}) |> settle(now)

      %{^pid => server} ->
        retiring = server.retiring || :unhealthy
        server = %{server | checking?: false, failed?: true, checked_at: now, retiring: retiring}
        settle(%{state | servers: Map.put(state.servers, pid, server)}, now)

      _gone ->
        {[], state}
    end
  end

  defp check(state, now) do
    Enum.reduce(state.servers, state, fn {pid, server}, state ->
      if not server.checking? and not server.stopping? and
           now - server.checked_at >= state.opts.health_ms,
         do: state |> update(pid, &%{&1 | checking?: true}) |> act({:check, pid}),
         else: state
    end)
  end

  ## Draining

  @doc "Begins to drain: no turn begins any more."
  @spec drain(t(), integer()) :: result()
  def drain(%{drain: nil} = state, now) do
    state = fail_all(%{state | drain: %{finished: 0, interrupted: 0}}, :drained)
    state |> retire_all_if_drained() |> settle(now)
  end

  def drain(state, now), do: settle(state, now)

  @doc "Ends the servers of turns that still run."
  @spec cut(t(), integer()) :: result()
  def cut(state, now) do
    state =
      Enum.reduce(state.leases, state, fn {_, held}, s -> act(s, {:demonitor, held.monitor}) end)

    cut = interrupted(state.drain, map_size(state.leases))
    state = %{state | leases: %{}, drain: cut}

    state.servers
    |> Enum.reduce(state, fn {pid, server}, state -> stop(state, pid, server) end)
    |> settle(now)
  end

  @doc "Returns whether a pool that drains has no server left."
  @spec drained?(t()) :: boolean()
  def drained?(state), do: state.drain != nil and state.servers == %{} and not state.starting?

  defp retire_all_if_drained(%{drain: nil} = state), do: state

  defp retire_all_if_drained(state) do
    servers =
      Map.new(state.servers, fn {pid, s} -> {pid, %{s | retiring: s.retiring || :drained}} end)

    %{state | servers: servers}
  end

  ## What follows from a change

  defp settle(state, now),
    do: state |> retire(now) |> serve(now) |> shrink(now) |> grow(now) |> flush()

  defp flush(state), do: {Enum.reverse(state.actions), %{state | actions: []}}
  defp act(state, action), do: %{state | actions: [action | state.actions]}

  defp retire(state, now) do
    Enum.reduce(state.servers, state, fn {pid, server}, state ->
      case server.retiring || overdue(server, state.opts, now) do
        nil -> state
        reason -> retire(state, pid, %{server | retiring: reason})
      end
    end)
  end

  defp retire(state, pid, %{turns: 0} = server), do: stop(state, pid, server)
  defp retire(state, pid, server), do: %{state | servers: Map.put(state.servers, pid, server)}

  defp overdue(server, opts, now) do
    cond do
      server.total >= opts.max_turns -> :turns
      # `:infinity` is above every number.
      now - server.since >= opts.max_age_ms -> :age
      server.memory != nil and server.memory > opts.max_memory_bytes -> :memory
      true -> nil
    end
  end

  defp stop(state, _pid, %{stopping?: true}), do: state

  defp stop(state, pid, server) do
    server = %{server | stopping?: true, retiring: server.retiring || :drained}
    act(%{state | servers: Map.put(state.servers, pid, server)}, {:stop, pid})
  end

  # In order, but nobody waits for one who wants a server that is full.
  defp serve(state, now) do
    if :queue.is_empty(state.waiting) or free(state) == [],
      do: state,
      else: serve(:queue.to_list(state.waiting), [], state, now)
  end

  defp serve([], left, state, _now),
    do: %{state | waiting: left |> Enum.reverse() |> :queue.from_list()}

  defp serve([waits | rest], left, state, now) do
    case place(state, waits.thread_id) do
      {:ok, pid, loaded?} ->
        serve(rest, left, give(state, waits, pid, loaded?, now), now)

      :full ->
        waiting = Enum.reverse(left, [waits | rest])
        %{state | waiting: :queue.from_list(waiting)}

      :wait ->
        serve(rest, [waits | left], state, now)
    end
  end

  defp place(state, thread_id) do
    free = free(state)

    case thread_id && state.threads[thread_id] do
      _any when free == [] -> :full
      nil -> {:ok, least(free), false}
      pid -> place_of(state, pid, thread_id, free)
    end
  end

  # The server that has the thread. A server that retires ends the thread's turn first.
  defp place_of(state, pid, thread_id, free) do
    busy? = fn -> Enum.any?(state.leases, fn {_, held} -> held.thread_id == thread_id end) end

    cond do
      List.keymember?(free, pid, 0) -> {:ok, pid, true}
      state.servers[pid].retiring == nil or busy?.() -> :wait
      true -> {:ok, least(free), false}
    end
  end

  defp free(%{opts: opts} = state) do
    for {pid, server} <- state.servers,
        server.retiring == nil and server.turns < opts.threads_per_server,
        do: {pid, server.turns}
  end

  defp least(free), do: free |> Enum.min_by(&elem(&1, 1)) |> elem(0)

  defp give(state, waits, pid, loaded?, now) do
    held = %{server: pid, thread_id: waits.thread_id, monitor: waits.monitor}
    threads = if id = waits.thread_id, do: Map.put(state.threads, id, pid), else: state.threads

    %{state | leases: Map.put(state.leases, waits.lease, held), threads: threads}
    |> update(pid, &%{&1 | turns: &1.turns + 1, total: &1.total + 1})
    |> act({:reply, waits.from, {:ok, pid, loaded?}})
    |> act({:wait, now - waits.since, loaded?})
  end

  # One at a time, the one that is idle longest.
  defp shrink(state, now) do
    idle =
      for {pid, %{turns: 0, retiring: nil} = server} <- state.servers,
          now - server.idle_since >= state.opts.idle_ms,
          do: {server.idle_since, pid}

    if idle != [] and count(state) > state.opts.min do
      {_since, pid} = Enum.min(idle)
      stop(state, pid, %{state.servers[pid] | retiring: :idle})
    else
      state
    end
  end

  defp grow(state, now) do
    wanted? = count(state) < state.opts.min or not :queue.is_empty(state.waiting)

    if wanted? and state.drain == nil and not state.starting? and
         count(state) < state.opts.max and (state.retry_at == nil or now >= state.retry_at),
       do: act(%{state | starting?: true}, :start),
       else: state
  end

  defp count(state), do: Enum.count(state.servers, fn {_, server} -> server.retiring == nil end)

  @doc "Returns the map of `Codex.Pool.stats/1`."
  @spec stats(t(), integer()) :: map()
  def stats(state, now) do
    loaded = Enum.frequencies(Map.values(state.threads))

    %{
      servers:
        for {pid, server} <- state.servers do
          %{
            conn: pid,
            turns: server.turns,
            total_turns: server.total,
            threads: Map.get(loaded, pid, 0),
            age_ms: now - server.since,
            memory_bytes: server.memory,
            retiring: server.retiring != nil
          }
        end,
      starting: state.starting?,
      draining: state.drain != nil,
      running: map_size(state.leases),
      waiting: :queue.len(state.waiting),
      started: state.started,
      failed: state.failed,
      ended: state.ended
    }
  end
end
