defmodule Codex.AppServer.Server do
  @moduledoc false
  # The process of a connection. It does what `Codex.AppServer.State` says, and nothing else: lines in, messages out, one timer.
  #
  # Where the option `:reconnect` says so, it outlives the server: it has no transport then, and its machine is down until another
  # one is reached. Subscribers stay.
  #
  # It reads from the server as fast as its readers take, and what it does about a slow one,
  # `Codex.AppServer.Flow` says: while that is
  # the only one with work, what was read is not granted anew, and the server waits at its pipe or
  # socket.
  use GenServer, restart: :temporary

  alias Codex.AppServer.{
    Delivery,
    Flow,
    Life,
    Notices,
    Pending,
    Spans,
    State,
    Subscribers,
    Transport,
    Turns
  }

  alias Codex.Error.Redact
  alias Codex.{Events, JSON, RateLimit, Telemetry}
  alias Codex.Telemetry.Debug

  require Flow

  # How often a full mailbox is looked at again.
  @poll 10
  # Heap for several chunks: see bench/decode.
  @spawn_opt [min_heap_size: 65_536]

  defstruct [
    :transport,
    :state,
    :timer,
    :options,
    :owner,
    :poll,
    :spans,
    :open,
    :home,
    :parent,
    :flow,
    life: %Life{},
    debug: nil,
    notices: %Notices{},
    watched: %{},
    pending: %{},
    owed: 0,
    sent: []
  ]

  @typedoc "Given a home of the connection's own, or nil."
  @type opener ::
          (Path.t() | nil ->
             {:ok, Transport.opener()} | {:error, Codex.AppServer.connect_reason()})

  @doc """
  Starts one. Whoever `from` names gets the server's hello, or why there is none, as the reply to a call. `opener` is asked each time that a
  server is to be reached.

  The arguments come as a function: an environment has keys, a handshake a token, and reports of supervisors show arguments.
  """
  @spec start_link({(() -> {opener(), map(), GenServer.from()}), GenServer.name() | nil}) ::
          GenServer.on_start()
  def start_link({args, name}) when is_function(args, 0) do
    named = if name, do: [name: name], else: []
    GenServer.start_link(__MODULE__, args, [spawn_opt: @spawn_opt] ++ named)
  end

  # Its supervisor does not wait for a server: others want one, too.
  @impl true
  def init(args) do
    # What the supervisor ends, ends by the ladder.
    Process.flag(:trap_exit, true)
    {:ok, {:opening, args}, {:continue, :open}}
  end

  @impl true
  def handle_continue(:open, {:opening, args}) do
    {opener, options, from} = args.()

    with {:ok, home} <- home(options),
         open = fn -> open(opener, home) end,
         {:ok, transport} <- open.() do
      server = %__MODULE__{
        transport: transport,
        open: open,
        home: home,
        state: State.new(machine(options)),
        options: Map.drop(options, [:env, :config, :token, :headers, :tls, :address]),
        spans: if(Telemetry.listening?(), do: Spans.new(options.telemetry_prefix)),
        owner: options.owner && Process.monitor(options.owner),
        parent: options.parent,
        debug: Debug.new("connection #{inspect(self())}", fn -> secrets(options) end),
        flow: Flow.new(options)
      }

      server |> step(&State.start(&1, now())) |> step(&State.await(&1, from)) |> noreply()
    else
      {:error, reason} ->
        _ = left_alone(%{life: %Life{}, parent: options.parent})
        GenServer.reply(from, {:error, reason})
        {:stop, {:shutdown, reason}, {:opening, args}}
    end
  end

  defp secrets(options) do
    own = Map.put(Map.new(options[:env] || %{}), "TOKEN", options[:token])
    System.get_env() |> Map.merge(own) |> Redact.secrets()
  end

  # Whoever is linked, and gets the error, needs no signal beside it.
  defp left_alone(%{life: %{up?: false}, parent: parent} = server) when is_pid(parent) do
    Process.unlink(parent)
    server
  end

  defp left_alone(server), do: server

  # It goes with this process.
  defp home(%{own_home?: true}), do: Codex.Home.Isolated.create()
  defp home(_options), do: {:ok, nil}

  defp open(opener, home),
    do: with({:ok, transport} <- opener.(home), do: Transport.open(transport))

  @told [:client_name, :client_title, :experimental_api, :capabilities, :opt_out, :api_key] ++
          [:init_timeout_ms, :answer_timeout_ms, :max_message_bytes]

  defp machine(options) do
    told = options |> Map.take(@told) |> Map.to_list()
    [client_version: options.client_version || version()] ++ told
  end

  defp version, do: :codex_sdk |> Application.spec(:vsn) |> to_string()

  @impl true
  def handle_call({:request, method, params, opts}, {pid, _} = from, server) do
    # `:own` is a turn that does not go on without its follower.
    server = if opts[:follow], do: watch(server, pid), else: server

    opts =
      if opts[:follow],
        do: Keyword.merge(opts, follow: pid, own: opts[:follow] == :own),
        else: opts

    server = tell(server, &Spans.request(&1, from, method, params))
    # What holds back while nobody waits for an answer, does not now.
    server |> step(&State.request(&1, from, method, params, opts, now())) |> grant() |> noreply()
  end

  def handle_call({:subscribe, options}, {pid, _} = from, server),
    do: server |> watch(pid) |> step(&State.subscribe(&1, from, pid, options)) |> noreply()

  def handle_call(:unsubscribe, {pid, _}, server) do
    server = step(server, &State.unsubscribe(&1, pid))
    {:reply, :ok, forget(server, pid, :subscription)}
  end

  def handle_call({:unfollow, thread_id, turn_id}, {pid, _}, server) do
    server = step(server, &State.unfollow(&1, pid, thread_id, turn_id))
    {:reply, :ok, forget(server, pid, {thread_id, turn_id})}
  end

  def handle_call({:respond, name, answer}, from, server) do
    case Pending.named(server.pending, name) do
      nil -> {:reply, {:error, {:request_closed, name}}, server}
      id -> server |> respond(from, id, answer) |> noreply()
    end
  end

  def handle_call({:leave, token}, {pid, _}, server) do
    id = Pending.id(server.pending, token)
    {:reply, :ok, step(server, &State.leave(&1, id, pid))}
  end

  def handle_call({:answer, token, answer}, from, server) do
    case Pending.id(server.pending, token) do
      nil -> {:reply, {:error, {:request_closed, token}}, server}
      id -> server |> respond(from, id, answer) |> noreply()
    end
  end

  def handle_call({:interrupt, thread_id, opts}, from, server) do
    server
    |> step(&State.interrupt_in(&1, from, thread_id, opts, now()))
    |> grant()
    |> noreply()
  end

  def handle_call({:abandon, thread_id, turn_id, then}, _from, server),
    do: {:reply, :ok, step(server, &State.abandon(&1, thread_id, turn_id, then))}

  def handle_call({:running, thread_id}, _from, server),
    do: {:reply, Turns.running_in(server.state.turns, thread_id), server}

  def handle_call(:pending, _from, server),
    do: {:reply, Pending.requests(server.pending), server}

  def handle_call(:about, _from, server),
    do: {:reply, Map.take(server.options, [:client, :experimental_api, :files, :cwd]), server}

  def handle_call({:await_server, ms}, from, server) do
    if server.life.since do
      {:reply, :there, server}
    else
      timer = Process.send_after(self(), {:give_up, from}, ms)
      {:noreply, %{server | life: Life.wait(server.life, from, timer)}}
    end
  end

  def handle_call(:surroundings, _from, server),
    do: {:reply, server.options.surroundings, server}

  def handle_call(:hello, from, server), do: server |> step(&State.await(&1, from)) |> noreply()
  def handle_call(:account, _from, server), do: {:reply, server.options.account, server}

  def handle_call({:notices, thread_id}, _from, server),
    do: {:reply, Notices.of(server.notices, thread_id), server}

  def handle_call(:stderr, _from, %{transport: nil} = server), do: {:reply, "", server}

  def handle_call(:stderr, _from, server),
    do: {:reply, Transport.stderr(server.transport), server}

  def handle_call(:os_pid, _from, %{transport: nil} = server), do: {:reply, nil, server}

  def handle_call(:os_pid, _from, server),
    do: {:reply, Transport.os_pid(server.transport), server}

  @impl true
  def handle_info(:tick, server), do: server |> step(&State.tick(&1, now())) |> noreply()
  def handle_info(:poll, server), do: %{server | poll: nil} |> grant() |> noreply()

  def handle_info({:DOWN, owner, :process, _, _}, %{owner: owner} = server),
    do: {:stop, :normal, server}

  def handle_info({:DOWN, monitor, :process, pid, _}, server) do
    case server.watched do
      %{^pid => ^monitor} ->
        server = %{server | watched: Map.delete(server.watched, pid)}
        server |> forget(pid) |> step(&State.gone(&1, pid)) |> grant() |> noreply()

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
    {waited?, life} = Life.give_up(server.life, from)
    if waited?, do: GenServer.reply(from, :not_yet)
    {:noreply, %{server | life: life}}
  end

  def handle_info(:reopen, server), do: reopen(server)
  def handle_info(_late, %{transport: nil} = server), do: {:noreply, server}

  def handle_info(message, server) do
    case Transport.stream(server.transport, message) do
      {:ok, transport, outputs} ->
        outputs |> Enum.reduce(%{server | transport: transport}, &output/2) |> noreply()

      :unknown ->
        {:noreply, server}
    end
  end

  defp respond(server, from, id, answer) do
    {actions, _state} = step = State.respond(server.state, from, id, answer)

    server =
      case List.keyfind(actions, :send, 0) do
        {:send, %{"result" => result}} -> tell(server, &Spans.answered(&1, id, {:ok, result}))
        {:send, %{"error" => error}} -> tell(server, &Spans.answered(&1, id, {:error, error}))
        nil -> server
      end

    step(server, fn _state -> step end)
  end

  # Between two servers.
  defp noreply(%{transport: nil, state: %{phase: {:down, _}}, life: %{up?: true}} = server),
    do: {:noreply, server}

  # Where the machine has come to an end, this process has, unless there is to be another server.
  defp noreply(%{state: %{phase: {:down, reason}}} = server) do
    case Life.lost(server.life, server.options.reconnect, reason, now()) do
      {:wait, ms, was_up?, life} -> {:noreply, lost(server, reason, ms, was_up?, life)}
      :stop -> {:stop, {:shutdown, reason}, left_alone(server)}
    end
  end

  defp noreply(%{state: %{phase: {:ready, _}}, life: %{since: nil}} = server) do
    {again?, waiting, life} = Life.ready(server.life, now())
    server = if again?, do: tell_all(server, :up), else: server
    for {from, timer} <- waiting, do: there(from, timer)
    {:noreply, %{server | life: life}}
  end

  defp noreply(server), do: {:noreply, server}

  defp there(from, timer) do
    _ = Process.cancel_timer(timer)
    GenServer.reply(from, :there)
  end

  # --- Another server ---------------------------------------------------------------------------------------------------

  defp lost(server, reason, ms, was_up?, life) do
    _ = if server.transport, do: Transport.stop(server.transport)
    server = if was_up?, do: tell_all(server, {:down, reason}), else: server
    _ = Process.send_after(self(), :reopen, ms)
    timer(%{server | transport: nil, life: life, owed: 0})
  end

  defp reopen(server) do
    case server.open.() do
      {:ok, transport} ->
        state = State.new(machine(server.options))
        state = %{state | subscribers: server.state.subscribers}
        server = %{server | transport: transport, state: state, life: Life.reached(server.life)}
        server = %{server | notices: Notices.new()}
        server |> step(&State.start(&1, now())) |> noreply()

      {:error, reason} ->
        reason = {:app_server_down, %{reason: reason}}

        case Life.lost(server.life, server.options.reconnect, reason, now()) do
          {:wait, ms, was_up?, life} -> {:noreply, lost(server, reason, ms, was_up?, life)}
          :stop -> {:stop, {:shutdown, reason}, server}
        end
    end
  end

  defp tell_all(server, what) do
    message = {:codex_connection, self(), what}

    Enum.reduce(Map.keys(server.state.subscribers), server, fn pid, server ->
      deliver(server, pid, :subscription, message)
    end)
  end

  # Whoever waits is told, and nothing of the server is left.
  @impl true
  def terminate(_reason, {:opening, _args}), do: :ok

  def terminate(_reason, server) do
    server = step(server, &State.down(&1, %{reason: :disconnected}))
    :ok = Flow.close(server.flow)
    stop_transport(server)
  end

  # Its home stays for as long as a server does that ends later.
  defp stop_transport(%{transport: nil}), do: :ok

  defp stop_transport(server) do
    with {:behind, pid} <- Transport.stop(server.transport),
         do: if(server.home, do: Codex.Home.Isolated.give(server.home, pid), else: :ok)
  end

  # What waits for an answer, and how it is answered, is nothing for a log.
  @impl true
  def format_status(_reason, [_dictionary, %__MODULE__{} = server]) do
    %{
      phase: phase(server.state.phase),
      servers: server.life.servers,
      requests: map_size(server.state.requests.waiting),
      asked: map_size(server.pending),
      subscribers: map_size(server.state.subscribers)
    }
  end

  def format_status(_reason, [_dictionary, _opening]), do: :opening

  defp phase(phase) when is_tuple(phase), do: elem(phase, 0)
  defp phase(phase), do: phase

  # --- From the server --------------------------------------------------------------------------------------------------

  defp output({:messages, messages, bytes}, server),
    do: messages |> Enum.reduce(server, &message/2) |> grant(bytes)

  defp output({:down, info}, server), do: step(server, &State.down(&1, info))

  defp message(message, server) do
    :ok = Debug.log(server.debug, "<-", fn -> [message] end)

    with {:notification, "account/rateLimits/updated", %{"rateLimits" => limits}} <- message do
      event = %Events.AccountRateLimitsUpdated{rate_limits: limits}
      RateLimit.observe(server.options.account, event)
    end

    server |> notice(message) |> step(&State.message(&1, message, now()))
  end

  defp notice(server, {:notification, method, params}) when is_map(params),
    do: %{server | notices: Notices.note(server.notices, method, params)}

  defp notice(server, _message), do: server

  # --- Reading on -------------------------------------------------------------------------------------------------------

  # Whether the server may send on, after `bytes` of it.
  defp grant(server, bytes \\ 0) do
    if server.owed + bytes > 0 or server.flow.spools > 0,
      do: decide(server, bytes),
      else: server
  end

  defp decide(server, bytes) do
    waiting? = server.state.requests.waiting != %{}
    listeners = State.listeners(server.state)
    {verdict, over, flow} = Flow.next(server.flow, listeners, waiting?, bytes, server.sent)
    server = %{server | flow: flow, owed: server.owed + bytes, sent: []}
    server = Enum.reduce(over, server, &cut_off/2)
    server = if verdict == :grant, do: give(server), else: later(server)
    if server.flow.spools > 0, do: later(server), else: server
  end

  defp give(%{owed: 0} = server), do: server
  defp give(%{transport: nil} = server), do: %{server | owed: 0}

  defp give(server),
    do: %{server | transport: Transport.grant(server.transport, server.owed), owed: 0}

  defp later(%{poll: nil} = server),
    do: %{server | poll: Process.send_after(self(), :poll, @poll)}

  defp later(server), do: server

  # It hears of that behind what is in its mailbox.
  defp cut_off(pid, server) do
    limit = server.options.max_spool_bytes
    server |> forget(pid) |> step(&State.cut_off(&1, pid, limit))
  end

  # What was spooled is freed soon, and not when the connection next has much to do. Not now: the
  # caller of this module still has the state before.
  defp forget(server, pid, key \\ :all) do
    _ = if Flow.spooled?(server.flow, pid), do: send(self(), :collect_garbage)
    %{server | flow: Flow.forget(server.flow, pid, key)}
  end

  defp deliver(%{flow: flow} = server, pid, _key, message) when Flow.is_direct(flow, pid) do
    send(pid, message)
    %{server | sent: [pid | server.sent]}
  end

  defp deliver(server, pid, key, message) do
    case Flow.send(server.flow, pid, key, message) do
      :sent -> %{server | sent: [pid | server.sent]}
      {:spooled, flow} -> later(%{server | flow: flow})
    end
  end

  defp watch(server, pid) do
    if is_map_key(server.watched, pid),
      do: server,
      else: put_in(server.watched[pid], Process.monitor(pid))
  end

  # --- Actions ----------------------------------------------------------------------------------------------------------

  defp step(server, fun) do
    {actions, state} = fun.(server.state)
    Enum.reduce(actions, timer(%{server | state: state}), &act/2)
  end

  # One timer, set anew where the next point in time is another.
  defp timer(server) do
    case {State.deadline(server.state), server.timer} do
      {at, {at, _}} ->
        server

      {at, timer} ->
        _ = with {_, ref} <- timer, do: Process.cancel_timer(ref)

        %{
          server
          | timer:
              if(at != :infinity, do: {at, Process.send_after(self(), :tick, max(at - now(), 0))})
        }
    end
  end

  # Parameters were checked, but for texts that go round that: ids and names.
  defp act({:send, message}, server) do
    case {JSON.encode(message), message} do
      {{:ok, json}, _} ->
        :ok = Debug.log(server.debug, "->", fn -> [message] end)
        %{server | transport: Transport.send(server.transport, json)}

      {{:error, {:not_encodable, value, path}}, %{"id" => id, "method" => _}} ->
        reason = {:invalid_option, path, value, "a value that JSON has a form for"}
        step(server, &State.refuse(&1, id, reason))
    end
  end

  defp act({:reply, from, result}, server) do
    GenServer.reply(from, result)
    tell(server, &Spans.reply(&1, from, result))
  end

  defp act({:opened, id, method, params, deadline}, server) do
    left = if deadline != :infinity, do: deadline - now()
    pending = Pending.open(server.pending, id, {method, params}, left, server.life.servers)
    tell(%{server | pending: pending}, &Spans.asked(&1, id, method, params))
  end

  defp act({:closed, id, why}, server) do
    {messages, pending} = Delivery.closed(server.pending, id, why, server.state.subscribers)

    server =
      Enum.reduce(messages, %{server | pending: pending}, fn {pid, message}, server ->
        deliver(server, pid, :subscription, message)
      end)

    if why == :down, do: tell(server, &Spans.answered(&1, id, :down)), else: server
  end

  defp act({:notify, pid, {:codex_notification, method, params}}, server) do
    message = {:codex_notification, method, Pending.renamed(method, params, server.life.servers)}
    form = Subscribers.form(server.state.subscribers, pid)
    deliver(server, pid, :subscription, Delivery.told(form, message))
  end

  defp act({:notify, pid, {:codex_request, _, _, _} = message}, server) do
    form = Subscribers.form(server.state.subscribers, pid)
    deliver(server, pid, :subscription, Delivery.asked(server.pending, form, message))
  end

  defp act({:notify, pid, {:cut_off, _reason} = what}, server),
    do: deliver(server, pid, :subscription, {:codex_subscription, self(), what})

  defp act({:turn, pid, thread_id, turn_id, what}, server) do
    key = {thread_id, turn_id}
    deliver(server, pid, key, Delivery.turn(server.pending, key, what))
  end

  defp act({:note, {:denied, why, id, _method}}, server) when why in [:expired, :nobody],
    do: tell(server, &Spans.answered(&1, id, why))

  defp act({:note, {:resolved, id, _method}}, server),
    do: tell(server, &Spans.answered(&1, id, :resolved))

  defp act({:note, _what}, server), do: server
  defp act({:stop, _reason}, server), do: server

  # Where nobody listens, nothing is kept.
  defp tell(%{spans: nil} = server, _fun), do: server
  defp tell(server, fun), do: %{server | spans: fun.(server.spans)}

  defp now, do: System.monotonic_time(:millisecond)
end
