defmodule Codex.AppServer.Session do
  @moduledoc false
  # The data of a connection's process. Runs operations of `Codex.AppServer.State` and performs
  # their actions: sends messages to the server, replies to callers and delivers messages to
  # readers.
  #
  # It reads from the server as fast as its readers do, see `Codex.JSONRPC.Flow`: while a slow
  # reader is the only one with work, bytes that were read are not granted again, and the server
  # waits at its pipe or socket.

  alias Codex.AppServer.{Reconnect, Spans, State}
  alias Codex.CLI.Program
  alias Codex.{Events, JSON, RateLimit}
  alias Codex.JSONRPC.{Flow, Transport}
  alias Codex.Telemetry.Debug

  require Flow

  # How often a full mailbox is looked at again.
  @poll 10

  defstruct [
    :transport,
    :state,
    :timer,
    :options,
    :owner,
    :poll,
    :telemetry,
    :open,
    :home,
    :parent,
    :flow,
    :request_ids,
    :debug,
    servers: %Reconnect{},
    watched: %{},
    owed: 0,
    sent: []
  ]

  @typedoc """
    * `options`, `open`, `home`, `owner`, `parent`, `servers` - see `Codex.AppServer.Server`
    * `transport` - nil between two servers
    * `timer` - for the next deadline of `state`; `poll` - for full mailboxes
    * `telemetry` - the prefix of events, nil while nobody listens
    * `watched` - monitors of readers
    * `owed` - bytes to grant; `sent` - readers that got messages since the last decision on that
  """
  @type t :: %__MODULE__{}

  @state_options [:client_name, :client_title, :experimental_api, :capabilities, :opt_out] ++
                   [:api_key, :init_timeout_ms, :answer_timeout_ms, :max_message_bytes]

  @doc "Begins with a server that was reached."
  @spec start(t(), Transport.t()) :: t()
  def start(%{options: options} = session, transport) do
    state =
      State.new(
        [
          client_version: options.client_version || version(),
          conn: self(),
          servers: session.servers.servers,
          request_ids: session.request_ids,
          clock_offset_ms: System.time_offset(:millisecond)
        ] ++ Map.to_list(Map.take(options, @state_options))
      )

    subscribers = if session.state, do: session.state.subscribers, else: %{}
    state = %{state | subscribers: subscribers}
    step(%{session | transport: transport, state: state}, :start)
  end

  defp version, do: :codex_sdk |> Application.spec(:vsn) |> to_string()

  # --- Operations and actions -------------------------------------------------------------------

  @doc "Runs an operation of the state, and performs its actions."
  @spec step(t(), State.operation()) :: t()
  def step(session, operation), do: steps(session, [operation])

  defp steps(session, operations) do
    now = now()
    {actions, state} = Enum.flat_map_reduce(operations, session.state, &State.run(&2, &1, now))
    set_timer(Enum.reduce(actions, %{session | state: state}, &act/2))
  end

  @doc "Handles messages of the server that took so many bytes."
  @spec receive_messages(t(), [Codex.JSONRPC.Message.t()], non_neg_integer()) :: t()
  def receive_messages(session, messages, bytes) do
    :ok = log(session, messages)
    session |> steps(Enum.map(messages, &{:receive, &1})) |> grant(bytes)
  end

  defp log(%{debug: nil}, _messages), do: :ok

  defp log(%{debug: debug}, messages),
    do: Enum.each(messages, &Debug.log(debug, "<-", fn -> [&1] end))

  # Only a changed deadline needs another timer.
  @doc "Sets the timer for the next deadline."
  @spec set_timer(t()) :: t()
  def set_timer(session) do
    case {State.deadline(session.state), session.timer} do
      {at, {at, _}} ->
        session

      {:infinity, nil} ->
        session

      {at, timer} ->
        _ = with {_, ref} <- timer, do: Process.cancel_timer(ref)
        ms = if at != :infinity, do: max(at - now(), 0)
        %{session | timer: ms && {at, Process.send_after(self(), :tick, ms)}}
    end
  end

  defp act({:notify, pid, message}, session), do: deliver(session, pid, :subscription, message)

  defp act({:turn, pid, thread_id, turn_id, what}, session) do
    message = {:codex_turn, self(), thread_id, turn_id, what}
    deliver(session, pid, {thread_id, turn_id}, message)
  end

  # Parameters were checked, but not all strings in ids and names.
  defp act({:send, message}, session) do
    case {JSON.encode(message), message} do
      {{:ok, json}, _} ->
        :ok = Debug.log(session.debug, "->", fn -> [message] end)
        %{session | transport: Transport.send(session.transport, json)}

      {{:error, {:not_encodable, value, path}}, %{"id" => id, "method" => _}} ->
        reason = Codex.OptionError.invalid(path, value, "a value that JSON has a form for")
        step(session, {:refuse, id, reason})
    end
  end

  defp act({:reply, {:request, from, span}, result}, session) do
    GenServer.reply(from, result)
    :ok = Spans.reply(span, result)
    session
  end

  defp act({:reply, from, result}, session) do
    GenServer.reply(from, result)
    session
  end

  defp act({:opened, request}, session) do
    :ok = Spans.opened(session.telemetry, request)
    session
  end

  defp act({:closed, request, why, ms}, session) do
    :ok = Spans.closed(session.telemetry, request, why, ms)
    session
  end

  defp act({:rate_limits, limits}, session) do
    event = %Events.AccountRateLimitsUpdated{rate_limits: limits}
    RateLimit.observe(session.options.account, event)
    session
  end

  defp act({:version, version}, session) do
    :ok = Program.warn_version(version, "the app-server")
    session
  end

  defp act({:note, note}, session) do
    :ok = Debug.log(session.debug, "note", fn -> [note] end)
    session
  end

  defp act({:stop, _reason}, session), do: session

  # --- Readers ----------------------------------------------------------------------------------

  @doc "Sends or spools a message for a reader."
  @spec deliver(t(), pid(), Flow.key(), tuple()) :: t()
  def deliver(%{flow: flow} = session, pid, _key, message) when Flow.is_direct(flow, pid) do
    send(pid, message)
    %{session | sent: [pid | session.sent]}
  end

  def deliver(session, pid, key, message) do
    case Flow.send(session.flow, pid, key, message) do
      :sent -> %{session | sent: [pid | session.sent]}
      {:spooled, flow} -> later(%{session | flow: flow})
    end
  end

  @doc "Decides whether the server may send on, after `bytes` were read."
  @spec grant(t(), non_neg_integer()) :: t()
  def grant(session, bytes \\ 0) do
    if session.owed + bytes > 0 or session.flow.spools > 0,
      do: decide(session, bytes),
      else: session
  end

  defp decide(session, bytes) do
    waiting? = session.state.peer.sent != %{}
    listeners = State.listeners(session.state)
    {verdict, over, flow} = Flow.next(session.flow, listeners, waiting?, bytes, session.sent)
    session = %{session | flow: flow, owed: session.owed + bytes, sent: []}
    session = Enum.reduce(over, session, &cut_off/2)
    session = if verdict == :grant, do: give(session), else: later(session)
    if session.flow.spools > 0, do: later(session), else: session
  end

  defp give(%{owed: 0} = session), do: session
  defp give(%{transport: nil} = session), do: %{session | owed: 0}

  defp give(session),
    do: %{session | transport: Transport.grant(session.transport, session.owed), owed: 0}

  defp later(%{poll: nil} = session),
    do: %{session | poll: Process.send_after(self(), :poll, @poll)}

  defp later(session), do: session

  # The last message lands behind those in the mailbox.
  defp cut_off(pid, session),
    do: session |> forget(pid) |> step({:cut_off, pid, session.options.max_spool_bytes})

  # The caller still has the state before, so the spool is freed a moment later, and not only when
  # the connection next has much to do.
  @doc "Drops the messages that wait for a reader."
  @spec forget(t(), pid(), Flow.key() | :all) :: t()
  def forget(session, pid, key \\ :all) do
    _ = if Flow.spooled?(session.flow, pid), do: send(self(), :collect_garbage)
    %{session | flow: Flow.forget(session.flow, pid, key)}
  end

  @doc "Monitors a reader."
  @spec watch(t(), pid()) :: t()
  def watch(session, pid) do
    if is_map_key(session.watched, pid),
      do: session,
      else: put_in(session.watched[pid], Process.monitor(pid))
  end

  defp now, do: System.monotonic_time(:millisecond)
end
