defmodule Codex.Pool.Server do
  @moduledoc false
  # The process of a pool: performs the actions of `Codex.Pool.State`. It owns its connections,
  # which end with it. Starts, stops and checks of servers run in tasks, so no call waits for a
  # server.
  use GenServer

  alias Codex.{AppServer, Error, Telemetry}
  alias Codex.AppServer.{Connect, Connection}
  alias Codex.JSONRPC.Reports
  alias Codex.Pool.State

  # How often servers are looked at.
  @tick_ms 500
  # How often a process that waits for a server checks whether it is still wanted.
  @slice 100
  @page_bytes 4_096

  @typedoc "A place on a server: the pool, and the reference of the place."
  @type lease :: {GenServer.server(), reference()}

  @doc "Starts the process of a pool."
  @spec start_link(map()) :: GenServer.on_start()
  def start_link(opts) do
    named = if opts.name, do: [name: opts.name], else: []
    # As a function: reports of a crash show the arguments.
    GenServer.start_link(__MODULE__, fn -> opts end, named)
  end

  ## Calls

  @doc "Calls a pool."
  @spec call(GenServer.server(), term()) :: term() | {:error, {:no_pool, GenServer.server()}}
  def call(pool, request) do
    GenServer.call(pool, request, :infinity)
  catch
    :exit, _reason -> {:error, {:no_pool, pool}}
  end

  @doc """
  Waits for a place on a server. `unwanted` returns nil while the place is wanted, or the reason for
  giving up. With `loaded?`, the server has the thread loaded.
  """
  @spec checkout(GenServer.server(), String.t() | nil, timeout() | (... -> term() | nil)) ::
          {:ok, pid(), loaded? :: boolean(), lease()} | {:error, term()}
  def checkout(pool, thread_id, :infinity), do: checkout(pool, thread_id, fn -> nil end)

  def checkout(pool, thread_id, ms) when is_integer(ms) do
    deadline = now() + ms
    checkout(pool, thread_id, fn -> if now() >= deadline, do: :timeout end)
  end

  def checkout(pool, thread_id, unwanted) do
    lease = make_ref()

    case GenServer.whereis(pool) do
      nil ->
        {:error, {:no_pool, pool}}

      process ->
        request = :gen_server.send_request(process, {:checkout, lease, thread_id})

        case await(request, unwanted) do
          {:ok, conn, loaded?} -> {:ok, conn, loaded?, {process, lease}}
          :drained -> {:error, {:pool_drained, pool}}
          :gone -> {:error, {:no_pool, pool}}
          {:error, reason} -> {:error, reason}
          {:unwanted, reason} -> give_up(request, {process, lease}, reason)
        end
    end
  end

  defp await(request, unwanted) do
    case :gen_server.wait_response(request, @slice) do
      {:reply, answer} -> answer
      {:error, _down} -> :gone
      :timeout -> if reason = unwanted.(), do: {:unwanted, reason}, else: await(request, unwanted)
    end
  end

  # From here on, an answer does not reach the mailbox.
  defp give_up(request, lease, reason) do
    _ = :gen_server.receive_response(request, 0)
    :ok = checkin(lease)
    {:error, reason}
  end

  @doc "Gives a place back."
  @spec checkin(lease()) :: :ok
  def checkin({pool, lease}), do: GenServer.cast(pool, {:checkin, lease})

  @doc "Notes the thread of a turn."
  @spec thread(lease(), String.t()) :: :ok
  def thread({pool, lease}, thread_id), do: GenServer.cast(pool, {:thread, lease, thread_id})

  @doc "Notes that a server has loaded a thread."
  @spec assign(GenServer.server(), pid(), String.t()) :: :ok
  def assign(pool, conn, thread_id), do: GenServer.cast(pool, {:assign, conn, thread_id})

  ## The process

  @impl true
  def init(opts) do
    opts = opts.()
    Process.flag(:trap_exit, true)
    pool = self()
    {client, server} = {opts.client, [owner: pool] ++ opts.server}

    data = %{
      state: State.new(Map.drop(opts, [:client, :server])),
      name: opts.name || pool,
      prefix: client.telemetry_prefix,
      account: Connect.account(client, Map.new(opts.server)),
      # As functions: reports of a crash show the state.
      open: fn -> AppServer.connect(client, server) end,
      client: fn -> client end,
      task: nil,
      drains: []
    }

    {:ok, data, {:continue, :tick}}
  end

  @impl true
  def handle_continue(:tick, data), do: tick(data)

  defp tick(data) do
    _ = Process.send_after(self(), :tick, @tick_ms)
    noreply(State.tick(data.state, now()), data)
  end

  @impl true
  def handle_call({:checkout, lease, thread_id}, {reader, _} = from, data) do
    monitor = Process.monitor(reader)
    request = %{lease: lease, from: from, thread_id: thread_id, monitor: monitor}
    noreply(State.checkout(data.state, request, now()), data)
  end

  def handle_call({:any, thread_id}, _from, data) do
    conn = data.state.threads[thread_id] || data.state.servers |> Map.keys() |> List.first()
    loaded? = thread_id != nil and is_map_key(data.state.threads, thread_id)
    {:reply, {conn, loaded?}, data}
  end

  def handle_call(:account, _from, data), do: {:reply, data.account, data}
  def handle_call(:client, _from, data), do: {:reply, data.client, data}

  def handle_call(:stats, _from, data),
    do: {:reply, {:ok, State.stats(data.state, now())}, data}

  def handle_call({:drain, timeout}, from, data) do
    _ = if timeout != :infinity, do: Process.send_after(self(), :cut, timeout)
    noreply(State.drain(data.state, now()), %{data | drains: [from | data.drains]})
  end

  @impl true
  def handle_cast({:checkin, lease}, data),
    do: noreply(State.checkin(data.state, lease, now()), data)

  def handle_cast({:thread, lease, id}, data),
    do: noreply(State.thread(data.state, lease, id), data)

  def handle_cast({:assign, conn, id}, data),
    do: noreply(State.assign(data.state, conn, id), data)

  def handle_cast(_other, data), do: {:noreply, data}

  @impl true
  def handle_info(:tick, data), do: tick(data)
  def handle_info(:cut, data), do: noreply(State.cut(data.state, now()), data)

  # The result of the task that starts a server.
  def handle_info({ref, {:ok, conn}}, %{task: ref} = data) do
    Process.demonitor(ref, [:flush])
    _ = Process.monitor(conn)
    emit(data, [:pool, :server, :start], %{}, %{conn: conn})
    noreply(State.started(data.state, conn, now()), %{data | task: nil})
  end

  def handle_info({ref, {:error, reason}}, %{task: ref} = data) do
    Process.demonitor(ref, [:flush])
    start_failed(reason, data)
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, %{task: ref} = data),
    do: start_failed(:crashed, data)

  def handle_info({:checked, conn, result}, data),
    do: noreply(State.checked(data.state, conn, result, now()), data)

  def handle_info({:DOWN, _monitor, :process, conn, _reason}, data)
      when is_map_key(data.state.servers, conn),
      do: noreply(State.down(data.state, conn, now()), data)

  def handle_info({:DOWN, monitor, :process, _reader, _reason}, data) do
    case State.lease_of(data.state, monitor) do
      nil -> {:noreply, data}
      lease -> noreply(State.checkin(data.state, lease, now()), data)
    end
  end

  def handle_info(_late, data), do: {:noreply, data}

  defp start_failed(reason, data) do
    error = Error.normalize(reason)
    emit(data, [:pool, :server, :failed], %{}, %{kind: error.kind})
    noreply(State.start_failed(data.state, unreachable(error), now()), %{data | task: nil})
  end

  # Nothing was sent to a server that has not started.
  defp unreachable(error) do
    lost? = error.kind in [:crashed, :killed, :unknown]
    message = "no server of the pool can be started: " <> error.message
    %{error | kind: if(lost?, do: :connection_refused, else: error.kind), message: message}
  end

  defp noreply({actions, state}, data) do
    data = Enum.reduce(actions, %{data | state: state}, &perform/2)
    {:noreply, drained(data)}
  end

  defp drained(%{drains: [_ | _] = drains} = data) do
    if State.drained?(data.state) do
      for from <- drains, do: GenServer.reply(from, {:ok, data.state.drain})
      %{data | drains: []}
    else
      data
    end
  end

  defp drained(data), do: data

  ## Actions

  defp perform({:reply, from, answer}, data) do
    GenServer.reply(from, answer)
    data
  end

  defp perform({:demonitor, monitor}, data) do
    Process.demonitor(monitor, [:flush])
    data
  end

  defp perform({:wait, ms, loaded?}, data) do
    duration = System.convert_time_unit(ms, :millisecond, :native)
    spent = %{duration: duration, duration_ms: ms}
    emit(data, [:pool, :checkout], spent, %{loaded?: loaded?})
    data
  end

  defp perform(:start, data) do
    %{ref: ref} = Task.Supervisor.async_nolink(Codex.TaskSupervisor, data.open)
    %{data | task: ref}
  end

  defp perform({:stop, conn}, data) do
    {:ok, _} = Task.Supervisor.start_child(Codex.TaskSupervisor, AppServer, :disconnect, [conn])
    data
  end

  defp perform({:check, conn}, data) do
    pool = self()
    limit = data.state.opts.health_timeout_ms
    check = fn -> send(pool, {:checked, conn, health(conn, limit)}) end
    {:ok, _} = Task.Supervisor.start_child(Codex.TaskSupervisor, check)
    data
  end

  defp perform({:ended, conn, server, reason}, data) do
    ms = now() - server.since
    duration = System.convert_time_unit(ms, :millisecond, :native)
    spent = %{duration: duration, duration_ms: ms}
    facts = %{conn: conn, reason: reason, turns: server.total}
    emit(data, [:pool, :server, :stop], spent, facts)
    data
  end

  defp emit(data, name, measurements, metadata) do
    measurements = Map.put(measurements, :system_time, System.system_time())
    metadata = Map.merge(%{originator: :sdk, pool: data.name}, metadata)
    Telemetry.execute(data.prefix ++ name, measurements, metadata)
  end

  # The server answers a cheap request, and its memory is known on Linux.
  defp health(conn, limit) do
    with {:ok, _threads} <- AppServer.thread_loaded_list(conn, %{limit: 1}, timeout_ms: limit),
         {:ok, os_pid} <- Connection.call(conn, :os_pid) do
      {:ok, memory(os_pid)}
    else
      _error -> :error
    end
  end

  defp memory(os_pid) do
    with {:ok, text} <- File.read("/proc/#{os_pid}/statm"),
         [_size, resident | _] <- String.split(text),
         {pages, ""} <- Integer.parse(resident) do
      pages * @page_bytes
    else
      _unknown -> nil
    end
  end

  # The servers end with their owner; here they end in good order.
  @impl true
  def terminate(_reason, data) do
    stop = &Task.Supervisor.async_nolink(Codex.TaskSupervisor, AppServer, :disconnect, [&1])
    _ = data.state.servers |> Map.keys() |> Enum.map(stop) |> Task.yield_many(5_000)
    :ok
  end

  # GenServer has this callback since Elixir 1.17, OTP since 25.
  if Version.match?(System.version(), ">= 1.17.0"), do: @impl(true)

  def format_status(status), do: Reports.status(status, &summary/1)

  defp summary(%{state: %State{} = state}) do
    %{servers: map_size(state.servers), leases: map_size(state.leases)}
  end

  defp summary(_other), do: :invalid

  defp now, do: System.monotonic_time(:millisecond)
end
