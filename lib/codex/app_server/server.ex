defmodule Codex.AppServer.Server do
  @moduledoc false
  # The process of a connection: its calls, its messages, and its servers, one after the other. Its
  # data is a `Codex.AppServer.Session`.
  #
  # With the option `:reconnect` it outlives its server: it has no transport until the next server
  # is reached, and its state is down. Subscribers stay.
  use GenServer, restart: :temporary

  import Codex.AppServer.Session, only: [deliver: 4, forget: 2, forget: 3, grant: 1, step: 2]

  alias Codex.AppServer.{Notices, PendingRequests, Reconnect, RequestId, Session, Spans, Turns}
  alias Codex.Error.Redact
  alias Codex.Home.Isolated
  alias Codex.JSONRPC.{Flow, Reports, Transport}
  alias Codex.Telemetry
  alias Codex.Telemetry.Debug

  # Heap for several chunks: see bench/decode.
  @spawn_opt [min_heap_size: 65_536]

  @typedoc "Opens a transport. Takes a home of the connection's own, or nil."
  @type opener ::
          (Path.t() | nil ->
             {:ok, Transport.opener()} | {:error, Codex.AppServer.connect_reason()})

  @doc """
  Starts a connection. The process in `from` gets the server's answer to `initialize`, or the reason
  why there is none, as the reply to a call. `opener` is called for each server.

  The arguments come as a function, because reports of supervisors show arguments: environments hold
  keys, and handshakes hold tokens.
  """
  @spec start_link({(... -> {opener(), map(), GenServer.from()}), GenServer.name() | nil}) ::
          GenServer.on_start()
  def start_link({args, name}) when is_function(args, 0) do
    named = if name, do: [name: name], else: []
    GenServer.start_link(__MODULE__, args, [spawn_opt: @spawn_opt] ++ named)
  end

  # The supervisor does not wait for a server, so that other connections can start meanwhile.
  @impl true
  def init(args) do
    # So that `terminate/2` ends the server.
    Process.flag(:trap_exit, true)
    {:ok, {:opening, args}, {:continue, :open}}
  end

  @impl true
  def handle_continue(:open, {:opening, args}) do
    {opener, options, from} = args.()

    with {:ok, home} <- home(options),
         open = fn -> open(opener, home) end,
         {:ok, transport} <- open.() do
      server = %Session{
        open: open,
        home: home,
        options: Map.drop(options, [:env, :config, :token, :headers, :tls, :address]),
        telemetry: if(Telemetry.listening?(), do: options.telemetry_prefix),
        owner: options.owner && Process.monitor(options.owner),
        parent: options.parent,
        debug: Debug.new("connection #{inspect(self())}", fn -> secrets(options) end),
        flow: Flow.new(options),
        request_ids: RequestId.register()
      }

      server |> Session.start(transport) |> step({:await, from}) |> noreply()
    else
      {:error, reason} ->
        _ = unlink_parent(%{servers: %Reconnect{}, parent: options.parent})
        GenServer.reply(from, {:error, reason})
        {:stop, {:shutdown, reason}, {:opening, args}}
    end
  end

  defp secrets(options) do
    own = Map.put(Map.new(options[:env] || %{}), "TOKEN", options[:token])
    System.get_env() |> Map.merge(own) |> Redact.secrets()
  end

  # Unlink first: the caller already gets the error as a return value.
  defp unlink_parent(%{servers: %{up?: false}, parent: parent} = server) when is_pid(parent) do
    Process.unlink(parent)
    server
  end

  defp unlink_parent(server), do: server

  # The home is removed after this process has ended.
  defp home(%{own_home?: true}), do: Isolated.create()
  defp home(_options), do: {:ok, nil}

  defp open(opener, home),
    do: with({:ok, transport} <- opener.(home), do: Transport.open(transport))

  # --- Calls ------------------------------------------------------------------------------------

  @impl true
  def handle_call({:request, method, params, opts}, {pid, _} = from, server) do
    # A turn is interrupted when its reader is gone.
    follow? = opts[:follow] != nil
    server = if follow?, do: Session.watch(server, pid), else: server
    opts = if follow?, do: Keyword.put(opts, :follow, pid), else: opts
    caller = {:request, from, Spans.request(server.telemetry, method, params)}
    # Reading goes on: a request waits for its answer now.
    server |> step({:request, caller, method, params, opts}) |> grant() |> noreply()
  end

  def handle_call({:interrupt, thread_id, opts}, from, server),
    do: server |> step({:interrupt, from, thread_id, opts}) |> grant() |> noreply()

  def handle_call({:subscribe, options}, {pid, _} = from, server),
    do: server |> Session.watch(pid) |> step({:subscribe, from, pid, options}) |> noreply()

  def handle_call(:unsubscribe, {pid, _}, server) do
    server = step(server, {:unsubscribe, pid})
    {:reply, :ok, forget(server, pid, :subscription)}
  end

  def handle_call({:unfollow, thread_id, turn_id}, {pid, _}, server) do
    server = step(server, {:unfollow, pid, thread_id, turn_id})
    {:reply, :ok, forget(server, pid, {thread_id, turn_id})}
  end

  def handle_call({:respond, id, answer}, from, server),
    do: server |> step({:respond, from, {:id, id}, answer}) |> noreply()

  def handle_call({:answer, token, answer}, from, server),
    do: server |> step({:respond, from, {:token, token}, answer}) |> noreply()

  def handle_call({:skip, token}, {pid, _}, server),
    do: {:reply, :ok, step(server, {:skip, token, pid})}

  def handle_call({:abandon, thread_id, turn_id, next}, _from, server),
    do: {:reply, :ok, step(server, {:abandon, thread_id, turn_id, next})}

  def handle_call({:abandon_start, thread_id}, {pid, _}, server),
    do: {:reply, :ok, step(server, {:abandon_start, pid, thread_id})}

  def handle_call({:await_server, ms}, from, server) do
    if server.servers.since do
      {:reply, :there, server}
    else
      timer = Process.send_after(self(), {:give_up, from}, ms)
      {:noreply, %{server | servers: Reconnect.wait(server.servers, from, timer)}}
    end
  end

  def handle_call(:hello, from, server), do: server |> step({:await, from}) |> noreply()
  def handle_call(read, _from, server), do: {:reply, read(read, server), server}

  defp read({:running, thread_id}, server), do: Turns.running_in(server.state.turns, thread_id)
  defp read({:notices, thread_id}, server), do: Notices.of(server.state.notices, thread_id)
  defp read(:pending, server), do: PendingRequests.list(server.state)
  defp read(:account, server), do: server.options.account
  defp read(:surroundings, server), do: server.options.surroundings

  defp read(:about, server) do
    server.options
    |> Map.take([:client, :experimental_api, :files, :cwd])
    |> Map.put(:lacks, server.state.lacks)
  end

  defp read(:stderr, %{transport: nil}), do: ""
  defp read(:stderr, server), do: Transport.stderr(server.transport)
  defp read(:secrets, %{transport: nil}), do: []
  defp read(:secrets, server), do: Transport.secrets(server.transport)
  defp read(:os_pid, %{transport: nil}), do: nil
  defp read(:os_pid, server), do: Transport.os_pid(server.transport)

  # --- Messages ---------------------------------------------------------------------------------

  @impl true
  def handle_info(:tick, server), do: server |> step(:tick) |> noreply()
  def handle_info(:poll, server), do: %{server | poll: nil} |> grant() |> noreply()

  def handle_info({:DOWN, owner, :process, _, _}, %{owner: owner} = server),
    do: {:stop, :normal, server}

  def handle_info({:DOWN, monitor, :process, pid, _}, server) do
    case server.watched do
      %{^pid => ^monitor} ->
        server = %{server | watched: Map.delete(server.watched, pid)}
        server |> forget(pid) |> step({:reader_down, pid}) |> grant() |> noreply()

      _ ->
        {:noreply, server}
    end
  end

  def handle_info(:collect_garbage, server) do
    true = :erlang.garbage_collect()
    {:noreply, server}
  end

  def handle_info({:mailbox, pid, length}, server),
    do: %{server | flow: Flow.seen(server.flow, pid, length)} |> grant() |> noreply()

  def handle_info({:give_up, from}, server) do
    {waited?, servers} = Reconnect.give_up(server.servers, from)
    if waited?, do: GenServer.reply(from, :not_yet)
    {:noreply, %{server | servers: servers}}
  end

  def handle_info(:reopen, server) do
    case server.open.() do
      {:ok, transport} ->
        %{server | servers: Reconnect.reached(server.servers)}
        |> Session.start(transport)
        |> noreply()

      {:error, reason} ->
        lost(server, {:app_server_down, %{reason: reason}})
    end
  end

  def handle_info(_late, %{transport: nil} = server), do: {:noreply, server}

  def handle_info(message, server) do
    case Transport.stream(server.transport, message) do
      {:ok, transport, outputs} ->
        outputs |> Enum.reduce(%{server | transport: transport}, &output/2) |> noreply()

      :unknown ->
        {:noreply, server}
    end
  end

  defp output({:messages, messages, bytes}, server),
    do: Session.receive_messages(server, messages, bytes)

  defp output({:down, info}, server), do: step(server, {:down, info})

  # --- Servers one after the other --------------------------------------------------------------

  # Between two servers.
  defp noreply(%{transport: nil, state: %{phase: {:down, _}}, servers: %{up?: true}} = server),
    do: {:noreply, server}

  defp noreply(%{state: %{phase: {:down, reason}}} = server), do: lost(server, reason)

  defp noreply(%{state: %{phase: {:ready, _}}, servers: %{since: nil}} = server) do
    {again?, waiting, servers} = Reconnect.ready(server.servers, now())
    server = if again?, do: notify_all(server, :up), else: server

    for {from, timer} <- waiting do
      _ = Process.cancel_timer(timer)
      GenServer.reply(from, :there)
    end

    {:noreply, %{server | servers: servers}}
  end

  defp noreply(server), do: {:noreply, server}

  # The process ends with its last server.
  defp lost(server, reason) do
    case Reconnect.lost(server.servers, server.options.reconnect, reason, now()) do
      {:wait, ms, was_up?, servers} ->
        _ = if server.transport, do: Transport.stop(server.transport)
        server = if was_up?, do: notify_all(server, {:down, reason}), else: server
        _ = Process.send_after(self(), :reopen, ms)
        {:noreply, Session.set_timer(%{server | transport: nil, servers: servers, owed: 0})}

      :stop ->
        {:stop, {:shutdown, reason}, unlink_parent(server)}
    end
  end

  defp notify_all(server, what) do
    message = {:codex_connection, self(), what}

    Enum.reduce(Map.keys(server.state.subscribers), server, fn pid, server ->
      deliver(server, pid, :subscription, message)
    end)
  end

  # All callers get their replies, and nothing of the server is left.
  @impl true
  def terminate(_reason, {:opening, _args}), do: :ok

  def terminate(_reason, server) do
    server = step(server, {:down, %{reason: :disconnected}})
    :ok = Flow.close(server.flow)
    stop_transport(server)
  end

  # A server that ends later needs its home until then.
  defp stop_transport(%{transport: nil}), do: :ok

  defp stop_transport(server) do
    with {:behind, pid} <- Transport.stop(server.transport),
         do: if(server.home, do: Isolated.give(server.home, pid), else: :ok)
  end

  # GenServer has this callback since Elixir 1.17, OTP since 25.
  if Version.match?(System.version(), ">= 1.17.0"), do: @impl(true)

  def format_status(status), do: Reports.status(status, &summary/1)

  # Matches all that it reads: a crash in here would show everything.
  defp summary(%Session{state: %{phase: phase, peer: %{sent: %{}}} = state, servers: servers}) do
    %{
      phase: phase(phase),
      servers: servers.servers,
      sent: map_size(state.peer.sent),
      received: map_size(state.peer.received),
      subscribers: map_size(state.subscribers)
    }
  end

  defp summary({:opening, _args}), do: :opening
  defp summary(_other), do: :invalid

  defp phase(phase) when is_tuple(phase), do: elem(phase, 0)
  defp phase(phase), do: phase

  defp now, do: System.monotonic_time(:millisecond)
end
