defmodule Codex.MCP.Connection do
  @moduledoc false
  # The process of a client: owns a transport and a `Codex.MCP.State`, and performs the actions of
  # that state. Callers wait with monitors (`Codex.MCP.Caller`); handlers run in processes of their
  # own. It ends with its owner, with its server, or with its last restart.
  use GenServer, restart: :permanent

  alias Codex.JSONRPC.Reports
  alias Codex.MCP.{Cache, Handlers, Jobs, Listening, State, Subscribers, Transport}

  require Logger

  # Options that callers need.
  @about ~w(server_name enabled_tools disabled_tools tool_timeout_ms)a ++
           ~w(telemetry_prefix telemetry_content)a

  @derive {Inspect, only: [:subscribers]}
  defstruct [
    :opener,
    :options,
    :transport,
    :state,
    :subscribers,
    :owner,
    :parent,
    :starter,
    :timer,
    cache: %Cache{},
    callers: %{},
    refs: %{},
    jobs: %{},
    # The callers that wait for the answer about a resource.
    asking: %{},
    restarts: []
  ]

  @doc """
  Starts a connection. The arguments come as a function, because reports show arguments: a map with
  `:opener`, `:options`, `:owner` (ends the connection), `:parent` (is unlinked from a failure) and
  `:starter`, a process with a reference: it gets `{ref, {:ok, about}}` or `{ref, {:error,
  reason}}`.
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
    conn = %{conn | owner: owner, state: State.new(args.options)}
    conn = %{conn | subscribers: Subscribers.new(args.options)}

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

    until = Cache.until(ttl, conn.state.era, now())
    {:reply, items, %{conn | cache: Cache.store(conn.cache, method, items, until, generation)}}
  end

  def handle_call({:tool, name}, _from, conn), do: {:reply, conn.cache.tools[name], conn}

  def handle_call({:subscribe, pid}, _from, conn),
    do: {:reply, :ok, conn |> subscribers(&Subscribers.add(&1, pid)) |> listen() |> grant(0)}

  def handle_call({:unsubscribe, pid}, _from, conn),
    do: {:reply, :ok, leave(conn, pid)}

  def handle_call({:resource, pid, uri, false}, _from, conn),
    do: {:reply, :ok, conn |> subscribers(&Subscribers.want(&1, pid, uri, false)) |> listen()}

  def handle_call({:resource, pid, uri, true}, from, conn) do
    conn = conn |> subscribers(&Subscribers.want(&1, pid, uri, true)) |> listen()

    if Listening.settled?(conn.state.listening, conn.state.era, uri),
      do: {:reply, :ok, conn},
      else: noreply(%{conn | asking: Map.update(conn.asking, uri, [from], &[from | &1])})
  end

  def handle_call(:os_pid, _from, conn), do: {:reply, Transport.os_pid(conn.transport), conn}
  def handle_call(:stderr, _from, conn), do: {:reply, Transport.stderr(conn.transport), conn}
  def handle_call(:about, _from, conn), do: {:reply, about(conn), conn}
  def handle_call(:stop, _from, conn), do: {:stop, :normal, :ok, conn}

  defp about(conn) do
    {module, _arg} = conn.opener.()

    conn.options
    |> Map.take(@about)
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

  def handle_info(:poll, conn),
    do: conn |> subscribers(&Subscribers.polled/1) |> grant(0) |> noreply()

  def handle_info(:collect_garbage, conn),
    do: {:noreply, tap(conn, fn _ -> :erlang.garbage_collect() end)}

  def handle_info({:mailbox, pid, n}, conn),
    do: conn |> subscribers(&Subscribers.seen(&1, pid, n)) |> grant(0) |> noreply()

  def handle_info({:EXIT, parent, reason}, %{parent: parent} = conn), do: {:stop, reason, conn}

  def handle_info({:DOWN, owner, :process, _, _}, %{owner: owner} = conn),
    do: {:stop, :normal, conn}

  def handle_info({:handled, job, answer}, conn) do
    case Jobs.stop(conn.jobs, job) do
      {nil, _jobs} -> {:noreply, conn}
      {_method, jobs} -> %{conn | jobs: jobs} |> step({:handled, job, answer}) |> noreply()
    end
  end

  def handle_info({:handler_late, job}, conn), do: conn |> decline(job) |> noreply()

  def handle_info({:DOWN, monitor, :process, pid, reason} = message, conn) do
    job = Jobs.find(conn.jobs, monitor)

    cond do
      job != nil and reason == :normal -> {:noreply, conn}
      job != nil -> conn |> decline(job) |> noreply()
      ref = conn.refs[monitor] -> conn |> step({:cancel, ref, "the caller is gone"}) |> noreply()
      conn.subscribers.pids[pid] == monitor -> conn |> leave(pid) |> grant(0) |> noreply()
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

  defp output({:messages, messages, bytes}, conn),
    do: messages |> Enum.reduce(conn, &step(&2, {:receive, &1})) |> grant(bytes)

  defp output({:lost, id, reason}, conn), do: step(conn, {:lost, id, reason})
  defp output({:session_lost, _ids}, conn), do: step(conn, :session_lost)
  defp output({:down, info}, conn), do: step(conn, {:down, info})

  # --- Operations and actions -------------------------------------------------------------------

  defp step(conn, operation) do
    {actions, state} = State.run(conn.state, operation, now())
    actions |> Enum.reduce(%{conn | state: state}, &act/2) |> set_timer()
  end

  defp set_timer(conn) do
    at = State.deadline(conn.state)
    {before, ref} = conn.timer || {:infinity, nil}

    if at == before do
      conn
    else
      _ = ref && Process.cancel_timer(ref)
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
        progress = for {:busy, %{} = params} <- [caller.progress], do: {:progress, params}
        for last <- progress ++ [{:answer, result}], do: send(ref, {ref, last})
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

  defp act({:handle, job, method, params}, conn),
    do: %{conn | jobs: Jobs.start(conn.jobs, job, method, params, conn.options)}

  defp act({:drop, job}, conn), do: %{conn | jobs: conn.jobs |> Jobs.stop(job) |> elem(1)}

  defp act({:notification, method, params}, conn) do
    conn = %{conn | cache: Cache.changed(conn.cache, method)}
    subscribers(conn, &Subscribers.notify(&1, method, params))
  end

  defp act({:resource, uri, :ok}, conn), do: asked(conn, uri, :ok)

  defp act({:resource, uri, refusal}, conn) do
    # The subscribers of an earlier session do not wait.
    if not is_map_key(conn.asking, uri),
      do:
        Logger.warning("an MCP server refused the subscription to a resource that it had before")

    conn |> asked(uri, refusal) |> subscribers(&Subscribers.refused(&1, uri))
  end

  defp act(:ready, conn) do
    # A modern server does not answer for a resource.
    settled? = &Listening.settled?(conn.state.listening, conn.state.era, &1)
    uris = conn.asking |> Map.keys() |> Enum.filter(settled?)
    uris |> Enum.reduce(conn, &asked(&2, &1, :ok)) |> started({:ok, about(conn)})
  end

  defp act({over, reason}, conn) when over in [:failed, :down] do
    conn.asking
    |> Map.keys()
    |> Enum.reduce(conn, &asked(&2, &1, {:error, reason}))
    |> started({:error, reason})
  end

  defp act(:reopen, conn) do
    _ = Transport.stop(conn.transport)
    reopen(conn)
  end

  defp asked(conn, uri, answer) do
    {waiting, asking} = Map.pop(conn.asking, uri, [])
    Enum.each(waiting, &GenServer.reply(&1, answer))
    %{conn | asking: asking}
  end

  defp started(%{starter: nil} = conn, _result), do: conn

  defp started(%{starter: {pid, ref}} = conn, result) do
    send(pid, {ref, result})
    %{conn | starter: nil}
  end

  # A crash or a late answer declines the request.
  defp decline(conn, job) do
    case Jobs.stop(conn.jobs, job) do
      {nil, _jobs} ->
        conn

      {method, jobs} ->
        answer = Handlers.decline(conn.options.handlers, method)
        step(%{conn | jobs: jobs}, {:handled, job, answer})
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
      {:ok, transport} -> %{conn | transport: transport} |> reset() |> step(:start)
      {:error, reason} -> step(%{conn | transport: nil}, {:down, %{reason: reason}})
    end
  end

  @impl true
  def terminate(_reason, %__MODULE__{transport: transport} = conn) when transport != nil do
    info = %{reason: :stopped}
    conn = conn |> reset() |> step({:down, info}) |> subscribers(&Subscribers.down(&1, info))
    :ok = Subscribers.close(conn.subscribers)
    Enum.each(Map.keys(conn.jobs), &Jobs.stop(conn.jobs, &1))
    Transport.stop(conn.transport)
  end

  def terminate(_reason, _conn), do: :ok

  defp subscribers(conn, fun), do: %{conn | subscribers: fun.(conn.subscribers)}
  defp reset(conn), do: subscribers(conn, &Subscribers.reset/1)
  defp leave(conn, pid), do: conn |> subscribers(&Subscribers.remove(&1, pid)) |> listen()

  defp listen(conn) do
    {wanted?, uris} = Subscribers.wanted(conn.subscribers)

    if match?(%{wanted?: ^wanted?, uris: ^uris}, conn.state.listening),
      do: conn,
      else: step(conn, {:listen, wanted?, uris})
  end

  defp grant(conn, bytes) do
    waiting? = conn.callers != %{} or conn.state.phase != :ready
    {granted, over, subscribers} = Subscribers.grant(conn.subscribers, bytes, waiting?)
    conn = Enum.reduce(over, %{conn | subscribers: subscribers}, &cut_off/2)

    if granted > 0 and conn.transport != nil,
      do: %{conn | transport: Transport.grant(conn.transport, granted)},
      else: conn
  end

  defp cut_off(pid, conn) do
    send(pid, {:codex_mcp, self(), {:overflow, conn.options.max_spool_bytes}})
    leave(conn, pid)
  end

  if Version.match?(System.version(), ">= 1.17.0"), do: @impl(true)

  def format_status(status), do: Reports.status(status, &summary/1)

  defp summary(%__MODULE__{state: %{phase: phase}}),
    do: if(is_tuple(phase), do: elem(phase, 0), else: phase)

  defp summary(_args), do: :opening

  defp at(:infinity), do: :infinity
  defp at(ms), do: now() + ms
  defp now, do: System.monotonic_time(:millisecond)
end
