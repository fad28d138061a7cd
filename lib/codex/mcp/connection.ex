defmodule Codex.MCP.Connection do
  @moduledoc false
  # The process of a client: owns a transport and a `Codex.MCP.State`, and performs the actions of
  # that state. Callers wait with monitors (`Codex.MCP.Caller`); handlers run in processes of their
  # own. It ends with its owner, with its server, or with its last restart.
  use GenServer, restart: :permanent

  alias Codex.JSONRPC.Flow
  alias Codex.MCP.{Cache, Handlers, State, Transport}
  alias Codex.OwnerMonitor

  require Logger

  # How often a full mailbox is looked at again.
  @poll 10

  @derive {Inspect, only: [:subscribers]}
  defstruct [
    :opener,
    :options,
    :transport,
    :state,
    :flow,
    :owner,
    :parent,
    :starter,
    :timer,
    :poll,
    cache: %Cache{},
    callers: %{},
    refs: %{},
    jobs: %{},
    subscribers: %{},
    resources: %{},
    restarts: [],
    owed: 0,
    sent: []
  ]

  @doc """
  Starts a connection. The arguments come as a function, because reports show arguments: a map with
  `:opener`, `:options`, `:owner` (ends the connection), `:parent` (is unlinked from a failure) and
  `:starter`, a process with a reference: it gets `{ref, {:ok, about}}` or `{ref, {:error, reason}}`.
  """
  @spec start_link({(... -> map()), GenServer.name() | nil}) :: GenServer.on_start()
  def start_link({args, name}) do
    named = if name, do: [name: name], else: []
    GenServer.start_link(__MODULE__, args, [spawn_opt: [min_heap_size: 65_536]] ++ named)
  end

  @impl true
  def init(args) do
    Process.flag(:trap_exit, true)
    {:ok, args, {:continue, :open}}
  end

  @impl true
  def handle_continue(:open, args) do
    args = args.()
    conn = struct!(__MODULE__, Map.take(args, [:opener, :options, :parent, :starter]))
    owner = if args.owner, do: Process.monitor(args.owner)
    conn = %{conn | owner: owner, flow: Flow.new(args.options), state: State.new(args.options)}

    case Transport.open(args.opener.()) do
      {:ok, transport} -> %{conn | transport: transport} |> step(:start) |> noreply()
      {:error, reason} -> fail(conn, reason)
    end
  end

  def handle_continue({:stop, reason}, conn), do: fail(conn, reason)

  # Unlink first: the caller of `start_link` gets the error as a return value.
  defp fail(conn, reason) do
    conn = started(conn, {:error, reason})
    if conn.parent != nil and conn.state.server == nil, do: Process.unlink(conn.parent)
    {:stop, {:shutdown, reason}, conn}
  end

  # --- Calls ------------------------------------------------------------------------------------

  @impl true
  def handle_cast({:call, pid, tag, node, limit, call}, conn) do
    # Clocks of other nodes differ.
    call = if node == node(), do: call, else: %{call | deadline: at(limit)}
    tool = if call.method == "tools/call", do: conn.cache.tools[call.params["name"]]
    monitor = Process.monitor(pid)
    caller = %{pid: pid, tag: tag, monitor: monitor, progress: :idle}
    conn = put_in(conn.callers[call.ref], caller)
    conn = put_in(conn.refs[monitor], call.ref)
    conn |> step({:call, %{call | tool: tool}}) |> grant(0) |> noreply()
  end

  def handle_cast({:cancel, ref, reason}, conn),
    do: conn |> step({:cancel, ref, reason}) |> noreply()

  # While a caller is busy with progress, only the newest is kept for it.
  def handle_cast({:progress_seen, ref}, conn) do
    case conn.callers do
      %{^ref => %{progress: {:busy, params}}} when params != nil ->
        send(ref, {ref, {:progress, params}})
        {:noreply, put_in(conn.callers[ref].progress, {:busy, nil})}

      %{^ref => _} ->
        {:noreply, put_in(conn.callers[ref].progress, :idle)}

      _over ->
        {:noreply, conn}
    end
  end

  @impl true
  def handle_call({:cancel_tag, tag, reason}, _from, conn) do
    refs = for {ref, %{tag: ^tag}} <- conn.callers, do: ref
    conn = Enum.reduce(refs, conn, &step(&2, {:cancel, &1, reason}))
    {:reply, :ok, conn}
  end

  def handle_call({:notify, method, params}, _from, conn),
    do: {:reply, :ok, step(conn, {:notify, method, params})}

  def handle_call({:cached, method}, _from, conn),
    do: {:reply, Cache.fetch(conn.cache, method, now()), conn}

  def handle_call({:store, method, items, ttl, generation}, _from, conn) do
    items = Enum.filter(items, &usable?(conn, method, &1))

    until =
      cond do
        is_integer(ttl) -> now() + ttl
        conn.state.era == :legacy -> :infinity
        true -> 0
      end

    {:reply, items, %{conn | cache: Cache.store(conn.cache, method, items, until, generation)}}
  end

  def handle_call({:tool, name}, _from, conn), do: {:reply, conn.cache.tools[name], conn}

  def handle_call({:subscribe, pid}, _from, conn) do
    monitor = conn.subscribers[pid] || Process.monitor(pid)
    conn = put_in(conn.subscribers[pid], monitor)
    {:reply, :ok, conn |> listen() |> grant(0)}
  end

  def handle_call({:unsubscribe, pid}, _from, conn),
    do: {:reply, :ok, conn |> leave(pid) |> listen()}

  def handle_call({:resource, pid, uri, wanted?}, _from, conn) do
    uris = Map.get(conn.resources, uri, MapSet.new())
    uris = if wanted?, do: MapSet.put(uris, pid), else: MapSet.delete(uris, pid)

    resources =
      if MapSet.size(uris) == 0,
        do: Map.delete(conn.resources, uri),
        else: Map.put(conn.resources, uri, uris)

    {:reply, :ok, listen(%{conn | resources: resources})}
  end

  def handle_call(:os_pid, _from, conn), do: {:reply, Transport.os_pid(conn.transport), conn}
  def handle_call(:stderr, _from, conn), do: {:reply, Transport.stderr(conn.transport), conn}
  def handle_call(:about, _from, conn), do: {:reply, about(conn), conn}

  def handle_call(:stop, _from, conn), do: {:stop, :normal, :ok, conn}

  defp about(conn) do
    {module, _arg} = conn.opener.()

    conn.options
    |> Map.take([
      :server_name,
      :enabled_tools,
      :disabled_tools,
      :tool_timeout_ms,
      :telemetry_prefix,
      :telemetry_content
    ])
    |> Map.merge(%{
      version: conn.state.version,
      era: conn.state.era,
      server: conn.state.server,
      transport: module
    })
  end

  # The transport has a say in the tools that it can call.
  defp usable?(%{transport: %module{}} = conn, "tools/list", tool) do
    with true <- conn.state.era == :modern and function_exported?(module, :accept_tool, 1),
         {:error, text} <- module.accept_tool(tool) do
      Logger.warning("the tool #{inspect(tool["name"])} of an MCP server is left out: #{text}")
      false
    else
      _usable -> true
    end
  end

  defp usable?(_conn, _method, item), do: is_map(item)

  # --- Messages ---------------------------------------------------------------------------------

  @impl true
  def handle_info(:tick, conn), do: %{conn | timer: nil} |> step(:tick) |> noreply()
  def handle_info(:poll, conn), do: %{conn | poll: nil} |> grant(0) |> noreply()

  def handle_info(:collect_garbage, conn),
    do: {:noreply, tap(conn, fn _ -> :erlang.garbage_collect() end)}

  def handle_info({:mailbox, pid, n}, conn),
    do: %{conn | flow: Flow.seen(conn.flow, pid, n)} |> grant(0) |> noreply()

  def handle_info({:EXIT, parent, reason}, %{parent: parent} = conn), do: {:stop, reason, conn}

  def handle_info({:DOWN, owner, :process, _, _}, %{owner: owner} = conn),
    do: {:stop, :normal, conn}

  def handle_info({:handled, job, answer}, conn) do
    case Map.pop(conn.jobs, job) do
      {nil, _jobs} ->
        {:noreply, conn}

      {entry, jobs} ->
        forget_job(entry)
        %{conn | jobs: jobs} |> step({:handled, job, answer}) |> noreply()
    end
  end

  def handle_info({:handler_late, job}, conn), do: conn |> decline(job) |> noreply()

  def handle_info({:DOWN, monitor, :process, pid, reason} = message, conn) do
    job = Enum.find_value(conn.jobs, fn {job, entry} -> if entry.monitor == monitor, do: job end)

    cond do
      job != nil and reason == :normal -> {:noreply, conn}
      job != nil -> conn |> decline(job) |> noreply()
      ref = conn.refs[monitor] -> conn |> step({:cancel, ref, "the caller is gone"}) |> noreply()
      conn.subscribers[pid] == monitor -> conn |> leave(pid) |> listen() |> grant(0) |> noreply()
      true -> transport_message(message, conn)
    end
  end

  def handle_info(message, conn), do: transport_message(message, conn)

  defp transport_message(_late, %{transport: nil} = conn), do: {:noreply, conn}

  defp transport_message(message, conn) do
    case Transport.stream(conn.transport, message) do
      {:ok, transport, outputs} ->
        outputs |> Enum.reduce(%{conn | transport: transport}, &output/2) |> noreply()

      :unknown ->
        {:noreply, conn}
    end
  end

  defp output({:messages, messages, bytes}, conn) do
    messages |> Enum.reduce(conn, &step(&2, {:receive, &1})) |> grant(bytes)
  end

  defp output({:lost, id, reason}, conn), do: step(conn, {:lost, id, reason})
  defp output({:session_lost, _ids}, conn), do: step(conn, :session_lost)
  defp output({:down, info}, conn), do: step(conn, {:down, info})

  # --- Operations and actions -------------------------------------------------------------------

  defp step(conn, operation) do
    {actions, state} = State.run(conn.state, operation, now())
    actions |> Enum.reduce(%{conn | state: state}, &act/2) |> set_timer()
  end

  defp set_timer(conn) do
    case {State.deadline(conn.state), conn.timer} do
      {at, {at, _ref}} ->
        conn

      {:infinity, nil} ->
        conn

      {at, timer} ->
        _ = with {_at, ref} <- timer, do: Process.cancel_timer(ref)
        ms = if at != :infinity, do: max(at - now(), 0)
        %{conn | timer: ms && {at, Process.send_after(self(), :tick, ms)}}
    end
  end

  defp act({:send, message, meta}, conn),
    do: %{conn | transport: Transport.send(conn.transport, message, meta)}

  defp act({:cancel, id}, conn), do: %{conn | transport: Transport.cancel(conn.transport, id)}

  defp act({:protocol, version, era}, conn),
    do: %{conn | transport: Transport.protocol(conn.transport, version, era)}

  defp act({:reply, ref, result}, conn) do
    case Map.pop(conn.callers, ref) do
      {nil, _callers} ->
        conn

      {caller, callers} ->
        Process.demonitor(caller.monitor, [:flush])
        # The last progress comes before the answer.
        with {:busy, %{} = params} <- caller.progress, do: send(ref, {ref, {:progress, params}})
        send(ref, {ref, {:answer, result}})
        %{conn | callers: callers, refs: Map.delete(conn.refs, caller.monitor)}
    end
  end

  defp act({:progress, ref, params}, conn) do
    case conn.callers[ref] do
      nil ->
        conn

      %{progress: :idle} ->
        send(ref, {ref, {:progress, params}})
        put_in(conn.callers[ref].progress, {:busy, nil})

      _busy ->
        put_in(conn.callers[ref].progress, {:busy, params})
    end
  end

  defp act({:handle, job, method, params}, conn) do
    handlers = conn.options.handlers
    context = %{server_name: conn.options.server_name, client: self()}
    owner = self()

    {:ok, pid} =
      Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
        OwnerMonitor.start(owner)
        send(owner, {:handled, job, Handlers.run(handlers, method, params, context)})
      end)

    timer = Process.send_after(self(), {:handler_late, job}, conn.options.handler_timeout_ms)
    entry = %{pid: pid, monitor: Process.monitor(pid), timer: timer, method: method}
    put_in(conn.jobs[job], entry)
  end

  defp act({:drop, job}, conn) do
    case Map.pop(conn.jobs, job) do
      {nil, _jobs} ->
        conn

      {entry, jobs} ->
        forget_job(entry)
        %{conn | jobs: jobs}
    end
  end

  defp act({:notification, method, params}, conn) do
    conn = %{conn | cache: Cache.changed(conn.cache, method)}
    message = {:codex_mcp, self(), {:notification, method, params}}
    conn |> readers(method, params) |> Enum.reduce(conn, &deliver(&2, &1, message))
  end

  defp act(:ready, conn), do: started(conn, {:ok, about(conn)})
  defp act({:failed, reason}, conn), do: started(conn, {:error, reason})
  defp act({:down, reason}, conn), do: started(conn, {:error, reason})

  defp act(:reopen, conn) do
    _ = Transport.stop(conn.transport)
    reopen(conn)
  end

  defp started(%{starter: nil} = conn, _result), do: conn

  defp started(%{starter: {pid, ref}} = conn, result) do
    send(pid, {ref, result})
    %{conn | starter: nil}
  end

  defp forget_job(entry) do
    _ = Process.cancel_timer(entry.timer)
    Process.demonitor(entry.monitor, [:flush])
    Process.exit(entry.pid, :kill)
  end

  # A crash or a late answer declines the request.
  defp decline(conn, job) do
    case conn.jobs[job] do
      nil ->
        conn

      entry ->
        conn = act({:drop, job}, conn)
        step(conn, {:handled, job, Handlers.decline(conn.options.handlers, entry.method)})
    end
  end

  # --- The end of a server ----------------------------------------------------------------------

  defp noreply(%{state: %{phase: {:down, reason}}} = conn) do
    since = now() - conn.options.restart_window_ms
    restarts = Enum.filter(conn.restarts, &(&1 > since))

    if length(restarts) < conn.options.max_restarts do
      %{conn | restarts: [now() | restarts], cache: %Cache{}} |> reopen() |> noreply()
    else
      {:noreply, conn, {:continue, {:stop, reason}}}
    end
  end

  defp noreply(%{state: %{phase: {:failed, reason}}} = conn),
    do: {:noreply, conn, {:continue, {:stop, reason}}}

  defp noreply(conn), do: {:noreply, conn}

  defp reopen(conn) do
    case Transport.open(conn.opener.()) do
      {:ok, transport} -> step(%{conn | transport: transport, owed: 0}, :start)
      {:error, reason} -> step(%{conn | transport: nil}, {:down, %{reason: reason}})
    end
  end

  @impl true
  def terminate(_reason, %__MODULE__{transport: transport} = conn) when transport != nil do
    conn = step(%{conn | owed: 0}, {:down, %{reason: :stopped}})
    message = {:codex_mcp, self(), {:down, %{reason: :stopped}}}
    conn = Enum.reduce(Map.keys(conn.subscribers), conn, &deliver(&2, &1, message))
    :ok = Flow.close(conn.flow)
    Enum.each(conn.jobs, fn {_job, entry} -> forget_job(entry) end)
    Transport.stop(conn.transport)
  end

  def terminate(_reason, _conn), do: :ok

  # --- Subscribers ------------------------------------------------------------------------------

  defp readers(conn, "notifications/resources/updated", %{"uri" => uri}) do
    conn.subscribers
    |> Map.keys()
    |> Enum.filter(fn pid ->
      wanted = conn.resources[uri]
      wanted == nil or pid in wanted
    end)
  end

  defp readers(conn, _method, _params), do: Map.keys(conn.subscribers)

  defp listen(conn) do
    uris = conn.resources |> Map.keys() |> MapSet.new()
    listen? = conn.subscribers != %{}

    if match?(%{wanted?: ^listen?, uris: ^uris}, conn.state.listening),
      do: conn,
      else: step(conn, {:listen, listen?, uris})
  end

  defp deliver(conn, pid, message) do
    case Flow.send(conn.flow, pid, :subscription, message) do
      :sent -> %{conn | sent: [pid | conn.sent]}
      {:spooled, flow} -> later(%{conn | flow: flow})
    end
  end

  defp leave(conn, pid) do
    {monitor, subscribers} = Map.pop(conn.subscribers, pid)
    if monitor, do: Process.demonitor(monitor, [:flush])
    if Flow.spooled?(conn.flow, pid), do: send(self(), :collect_garbage)

    resources =
      for {uri, pids} <- conn.resources,
          pids = MapSet.delete(pids, pid),
          MapSet.size(pids) > 0,
          into: %{},
          do: {uri, pids}

    %{
      conn
      | subscribers: subscribers,
        resources: resources,
        flow: Flow.forget(conn.flow, pid, :all)
    }
  end

  # While a full subscriber is the only reader with work, the server waits.
  defp grant(conn, bytes) do
    if conn.owed + bytes > 0 or conn.flow.spools > 0, do: decide(conn, bytes), else: conn
  end

  defp decide(conn, bytes) do
    waiting? = conn.callers != %{} or conn.state.phase != :ready

    {verdict, over, flow} =
      Flow.next(conn.flow, Map.keys(conn.subscribers), waiting?, bytes, conn.sent)

    conn = %{conn | flow: flow, owed: conn.owed + bytes, sent: []}
    conn = Enum.reduce(over, conn, &cut_off/2)
    conn = if verdict == :grant, do: give(conn), else: later(conn)
    if conn.flow.spools > 0, do: later(conn), else: conn
  end

  defp cut_off(pid, conn) do
    send(pid, {:codex_mcp, self(), {:overflow, conn.options.max_spool_bytes}})
    conn |> leave(pid) |> listen()
  end

  defp give(%{owed: 0} = conn), do: conn
  defp give(%{transport: nil} = conn), do: %{conn | owed: 0}
  defp give(conn), do: %{conn | transport: Transport.grant(conn.transport, conn.owed), owed: 0}

  defp later(%{poll: nil} = conn), do: %{conn | poll: Process.send_after(self(), :poll, @poll)}
  defp later(conn), do: conn

  # Requests and answers are not for logs.
  if Version.match?(System.version(), ">= 1.17.0"), do: @impl(true)

  def format_status(status) do
    Map.new(status, fn
      {:state, %__MODULE__{state: %{phase: phase}}} ->
        {:state, if(is_tuple(phase), do: elem(phase, 0), else: phase)}

      {:state, _other} ->
        {:state, :opening}

      {:message, _message} ->
        {:message, :message}

      {:log, _events} ->
        {:log, []}

      {:reason, {reason, stack}} when is_list(stack) ->
        {:reason, {reason, Enum.map(stack, &bare/1)}}

      other ->
        other
    end)
  end

  defp bare({module, function, args, place}) when is_list(args),
    do: {module, function, length(args), place}

  defp bare(entry), do: entry

  defp at(:infinity), do: :infinity
  defp at(ms), do: now() + ms
  defp now, do: System.monotonic_time(:millisecond)
end
