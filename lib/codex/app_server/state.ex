defmodule Codex.AppServer.State do
  @moduledoc false
  # The state of a connection to an app-server, as a value without process and clock: its handshake,
  # its subscribers, the turns that are followed, and its peer (`Codex.JSONRPC.Peer`) with the
  # requests in both directions. Times are arguments, in ms of a clock that does not go back.
  #
  # `run/3` takes one operation and returns the actions to perform, in order. Both are tagged values
  # that can be logged and replayed. After each operation, `deadline/1` tells when `:tick` is due.

  alias Codex.AppServer.{EventDecoder, Subscribers, Turns}
  alias Codex.AppServer.{Ids, Notices, PendingRequests, Request, ServerRequest}
  alias Codex.CLI.{Program, Since}
  alias Codex.JSONRPC.{Message, Peer}

  @defaults [
    client_name: "codex_sdk",
    client_version: "0",
    client_title: nil,
    experimental_api: false,
    capabilities: %{},
    opt_out: [],
    # Returns a key that this server alone logs in with before the connection is ready.
    api_key: nil,
    init_timeout_ms: 10_000,
    # How long a request of the server waits for an answer before it is declined.
    answer_timeout_ms: 300_000,
    retries: 5,
    retry_ms: 100,
    max_message_bytes: 268_435_456,
    max_requests: 1024,
    max_asked: 256,
    max_subscribers: 1024,
    max_turns: 256,
    # For messages to readers: the connection, the number of its server, the source of the tokens of
    # requests, and the difference between the clock and Unix time.
    conn: nil,
    servers: 1,
    request_ids: {"", ""},
    clock_offset_ms: 0
  ]

  @enforce_keys [:config, :peer, :turns]
  defstruct [
    :config,
    :peer,
    :turns,
    :lacks,
    phase: :new,
    awaiting: [],
    opened: 0,
    subscribers: %{},
    notices: Notices.new()
  ]

  @typedoc "`:down` is final: every call gets its reason."
  @type phase ::
          :new | :initializing | {:logging_in, map()} | {:ready, map()} | {:down, reason()}
  @type reason ::
          {:app_server_down, map()}
          | {:init_timeout, pos_integer()}
          | {:initialize_refused, map()}
          | {:login_refused, map()}
          | {:overflow, :line, non_neg_integer() | nil, pos_integer()}
          | {:overflow, :nodes, pos_integer()}
  @type t :: %__MODULE__{
          config: map(),
          peer: Peer.t(),
          turns: Turns.t(),
          lacks: Since.lacks(),
          phase: phase(),
          awaiting: [term()],
          opened: non_neg_integer(),
          subscribers: Subscribers.t(),
          notices: Notices.t()
        }

  @typedoc """
    * `:start` - sends `initialize`
    * `:await` - replies `{:ok, answer to initialize}` when the connection is ready
    * `:request` - sends a request; the reply is its result. Options: `:timeout_ms`;
      `:experimental`, the parts that need `experimental_api`; `:trace`, a trace context; `:follow`,
      the reader of the turn that it starts; `:children`, whether that reader gets the
      notifications of sub-agents. A thread has one such turn at a time:
      `{:error, {:turn_running, thread_id, turn_id | :starting}}`; `:alone`, the same error without
      following a turn
    * `:refuse` - the request could not be sent
    * `:receive` - a message of the server
    * `:respond`, `:skip` - see `Codex.AppServer.PendingRequests`
    * `:subscribe` - replaces the filter of a subscriber
    * `:interrupt` - interrupts the followed turn of a thread, at its beginning if the server has
      not reported that; the reply may be `{:error, {:no_turn, thread_id}}`
    * `:abandon` - interrupts a turn without a reply, and then sends the request `next`
    * `:abandon_start` - the reader does not wait for the id of the turn that it starts in a thread;
      the turn is interrupted when it begins
    * `:unfollow` - the reader does not follow this turn any more
    * `:reader_down` - the reader is gone: its turns are interrupted, requests that only it got are
      declined
    * `:cut_off` - more than `limit` bytes waited for the reader: it gets nothing more
    * `:tick` - the time is `deadline/1`
    * `:down` - the server or the way to it is gone
  """
  @type operation ::
          :start
          | {:await, from :: term()}
          | {:request, from :: term(), String.t(), map() | nil, keyword()}
          | {:refuse, Message.id(), reason :: Codex.OptionError.t()}
          | {:receive, Message.t()}
          | {:respond, from :: term(), {:token | :id, term()}, ServerRequest.answer()}
          | {:skip, token :: String.t(), reader()}
          | {:subscribe, from :: term(), reader(), options :: term()}
          | {:unsubscribe, reader()}
          | {:interrupt, from :: term(), thread_id :: String.t(), keyword()}
          | {:abandon, thread_id :: String.t(), turn_id :: String.t(),
             next :: {String.t(), map()} | nil}
          | {:abandon_start, reader(), thread_id :: String.t()}
          | {:unfollow, reader(), thread_id :: String.t(), turn_id :: String.t()}
          | {:reader_down, reader()}
          | {:cut_off, reader(), limit :: pos_integer()}
          | :tick
          | {:down, info :: map()}
  @type reader :: term()

  @typedoc """
    * `:send` - a message for the server
    * `:reply` - the reply to a call, once for each `from`
    * `:notify` - a message for a subscriber
    * `:turn` - a message for a follower of a turn, see `Codex.AppServer.Turns`
    * `:opened`, `:closed` - a request of the server begins to wait for its answer, or is over
    * `:rate_limits` - new limits of the account
    * `:version` - the version of the server, when it is ready
    * `:note` - for logs
    * `:stop` - the connection is over, and all callers have their replies
  """
  @type action ::
          {:send, map()}
          | {:reply, from :: term(), term()}
          | {:notify, reader(), tuple()}
          | {:turn, reader(), String.t(), String.t(), Turns.what()}
          | {:opened, Request.t()}
          | {:closed, Request.t(), why :: term(), ms :: non_neg_integer()}
          | {:rate_limits, map()}
          | {:version, String.t()}
          | {:note, tuple()}
          | {:stop, reason()}
  @type step :: {[action()], t()}

  @doc "Makes the state of a new connection. Raises `KeyError` for an unknown option."
  @spec new(keyword()) :: t()
  def new(opts \\ []) do
    config =
      Enum.reduce(opts, Map.new(@defaults), fn {key, value}, all ->
        Map.replace!(all, key, value)
      end)

    peer = [
      max_sent: config.max_requests,
      max_received: config.max_asked,
      decline: &ServerRequest.decline/1
    ]

    shared = [:answer_timeout_ms, :retries, :retry_ms, :max_message_bytes]
    peer = Peer.new(peer ++ Map.to_list(Map.take(config, shared)))
    %__MODULE__{config: config, peer: peer, turns: Turns.new(config.max_turns)}
  end

  @doc "Returns when `:tick` is due."
  @spec deadline(t()) :: integer() | :infinity
  def deadline(state), do: Peer.deadline(state.peer)

  @doc "Runs one operation at the time `now`."
  @spec run(t(), operation(), integer()) :: step()
  def run(%{phase: {:down, _}} = state, {:receive, _message}, _now), do: {[], state}
  def run(state, {:receive, _message} = operation, now), do: peer(state, operation, now)
  def run(state, :tick, now), do: peer(state, :tick, now)
  def run(state, {:refuse, _id, _reason} = operation, now), do: peer(state, operation, now)

  def run(%{phase: :new} = state, :start, now),
    do: send_hello(%{state | phase: :initializing}, "initialize", hello(state.config), now)

  def run(state, {:await, from}, _now) do
    most = state.config.max_requests

    case state.phase do
      {:ready, hello} -> {[{:reply, from, {:ok, hello}}], state}
      {:down, reason} -> {[{:reply, from, {:error, reason}}], state}
      _ when length(state.awaiting) < most -> {[], %{state | awaiting: [from | state.awaiting]}}
      _ -> {[{:reply, from, {:error, {:overflow, :requests, most}}}], state}
    end
  end

  def run(state, {:request, from, method, params, opts}, now) do
    experimental = opts[:experimental] || []

    case state.phase do
      {:down, reason} ->
        {[{:reply, from, {:error, reason}}], state}

      {:ready, _} when experimental != [] and not state.config.experimental_api ->
        {[{:reply, from, {:error, {:experimental, experimental}}}], state}

      {:ready, _} ->
        case Since.check(state.lacks, method, params) do
          :ok -> request_unless_busy(state, from, method, params, opts, now)
          unsupported -> {[{:reply, from, unsupported}], state}
        end

      _not_yet ->
        {[{:reply, from, {:error, :not_ready}}], state}
    end
  end

  def run(state, {:respond, from, key, answer}, now),
    do: PendingRequests.respond(state, from, key, answer, now)

  def run(state, {:skip, token, who}, now), do: PendingRequests.skip(state, token, who, now)

  def run(state, {:subscribe, from, who, options}, _now) do
    most = state.config.max_subscribers
    full? = map_size(state.subscribers) >= most and not is_map_key(state.subscribers, who)

    case Subscribers.filter(options) do
      {:ok, _} when full? -> {[{:reply, from, {:error, {:overflow, :subscribers, most}}}], state}
      {:ok, filter} -> {[{:reply, from, :ok}], put_in(state.subscribers[who], filter)}
      {:error, reason} -> {[{:reply, from, {:error, reason}}], state}
    end
  end

  def run(state, {:unsubscribe, who}, _now),
    do: {[], %{state | subscribers: Map.delete(state.subscribers, who)}}

  def run(state, {:interrupt, from, thread_id, opts}, now) do
    case Turns.running_in(state.turns, thread_id) do
      nil ->
        {[{:reply, from, {:error, {:no_turn, thread_id}}}], state}

      {turn_id, nil} ->
        turns = Turns.orphan(state.turns, {thread_id, turn_id})
        {[{:reply, from, {:ok, %{}}}], %{state | turns: turns}}

      {_turn_id, active} ->
        ids = %{"threadId" => thread_id, "turnId" => active}
        run(state, {:request, from, "turn/interrupt", ids, opts}, now)
    end
  end

  def run(state, {:abandon, thread_id, turn_id, next}, now) do
    case Turns.running_in(state.turns, thread_id) do
      {^turn_id, nil} ->
        {[], %{state | turns: Turns.orphan(state.turns, {thread_id, turn_id})}}

      {^turn_id, active} ->
        interrupt(state, {:nobody, next}, thread_id, active, now)

      _ended ->
        {[], state}
    end
  end

  def run(state, {:abandon_start, who, thread_id}, now) do
    state = %{state | turns: Turns.remove_start(state.turns, who, thread_id)}

    case Turns.busy(state.turns, thread_id) do
      turn_id when is_binary(turn_id) ->
        {actions, state} = run(state, {:abandon, thread_id, turn_id, nil}, now)
        {[], state} = run(state, {:unfollow, who, thread_id, turn_id}, now)
        {actions, state}

      _starting_or_none ->
        {[], state}
    end
  end

  def run(state, {:unfollow, who, thread_id, turn_id}, _now),
    do: {[], %{state | turns: Turns.unfollow(state.turns, who, thread_id, turn_id)}}

  def run(state, {:reader_down, who}, now) do
    {[], state} = run(state, {:unsubscribe, who}, now)
    {interrupted, state} = turns(state, Turns.remove(state.turns, who), now)
    {declined, state} = PendingRequests.remove(state, who, now)
    {declined ++ interrupted, state}
  end

  def run(state, {:cut_off, who, limit}, now) do
    over = {:overflow, {:reader, who}, limit}
    message = {:codex_subscription, state.config.conn, {:cut_off, over}}
    told = if is_map_key(state.subscribers, who), do: [{:notify, who, message}], else: []
    {[], state} = run(state, {:unsubscribe, who}, now)
    {ended, state} = turns(state, Turns.cut_off(state.turns, who, over), now)
    {declined, state} = PendingRequests.remove(state, who, now)
    {told ++ ended ++ declined, state}
  end

  def run(%{phase: {:down, _}} = state, {:down, _info}, _now), do: {[], state}
  def run(state, {:down, info}, now), do: close(state, {:app_server_down, info}, now)

  @doc "Returns the readers that may get messages now, some of them more than once."
  @spec listeners(t()) :: [reader()]
  def listeners(state), do: Map.keys(state.subscribers) ++ Turns.readers(state.turns)

  @doc "Runs an operation of the peer, and handles its actions."
  @spec peer(t(), Peer.operation(), integer()) :: step()
  def peer(state, operation, now) do
    {actions, peer} = Peer.run(state.peer, operation, now)
    Enum.flat_map_reduce(actions, %{state | peer: peer}, &handle(&2, &1, now))
  end

  # --- Actions of the peer ----------------------------------------------------------------------

  defp handle(state, {:notification, method, params}, now),
    do: notification(state, method, params, now)

  defp handle(state, {:send, _message} = action, _now), do: {[action], state}
  defp handle(state, {:note, _note} = action, _now), do: {[action], state}

  defp handle(state, {:request, id, method, params}, now),
    do: PendingRequests.open(state, id, method, params, now)

  defp handle(state, {:closed, _id, entry, why}, now),
    do: PendingRequests.closed(state, entry, why, now)

  defp handle(state, {:answer, _id, :hello, result}, now), do: greeted(state, result, now)
  defp handle(state, {:answer, _id, {:nobody, nil}, _result}, _now), do: {[], state}

  defp handle(state, {:answer, _id, {:nobody, {method, params}}, _result}, now),
    do: send_for(state, {:nobody, nil}, method, params, now)

  # The turn of a late answer is not to go on.
  defp handle(state, {:answer, id, from, {:error, {:timeout, _, _}} = late}, _now),
    do: {[{:reply, from, late}], %{state | turns: Turns.late(state.turns, id)}}

  defp handle(state, {:answer, id, from, result}, now) do
    {actions, state} = turns(state, Turns.started(state.turns, id, turn_id(result)), now)
    {[{:reply, from, result} | actions], state}
  end

  defp handle(state, {:unexpected, id, why, result}, now) do
    {actions, state} = turns(state, Turns.started(state.turns, id, turn_id(result)), now)
    {[{:note, {:unexpected_answer, why, id}} | actions], state}
  end

  defp handle(state, {:resent, id, new}, _now),
    do: {[], %{state | turns: Turns.renamed(state.turns, id, new)}}

  defp handle(state, {:fail, reason}, now), do: fail(state, reason, now)

  defp turn_id({:ok, %{} = result}), do: Ids.turn_id(result)
  defp turn_id(_none), do: nil

  # --- Handshake --------------------------------------------------------------------------------

  defp hello(config) do
    capabilities =
      config.capabilities
      |> Map.put("experimentalApi", config.experimental_api)
      |> put_unless("optOutNotificationMethods", config.opt_out, [])

    info =
      %{"name" => config.client_name, "version" => config.client_version}
      |> put_unless("title", config.client_title, nil)

    %{"clientInfo" => info, "capabilities" => capabilities}
  end

  defp put_unless(map, _key, none, none), do: map
  defp put_unless(map, key, value, _none), do: Map.put(map, key, value)

  defp send_hello(state, method, params, now) do
    timeout = [timeout_ms: state.config.init_timeout_ms]
    peer(state, {:request, :hello, method, params, timeout}, now)
  end

  defp greeted(state, {:error, {:timeout, _method, ms}}, now),
    do: fail(state, {:init_timeout, ms}, now)

  defp greeted(%{phase: {:logging_in, _}} = state, {:error, %{} = error}, now),
    do: fail(state, {:login_refused, error}, now)

  defp greeted(state, {:error, %{} = error}, now),
    do: fail(state, {:initialize_refused, error}, now)

  defp greeted(state, {:error, reason}, now),
    do: fail(state, {:app_server_down, %{reason: reason}}, now)

  defp greeted(%{phase: {:logging_in, hello}} = state, {:ok, _account}, _now),
    do: ready(state, hello)

  defp greeted(state, {:ok, hello}, now) do
    hello = if is_map(hello), do: hello, else: %{}
    {initialized, state} = peer(state, {:notify, "initialized", nil}, now)
    {actions, state} = log_in(state, hello, now)
    {initialized ++ actions, state}
  end

  defp log_in(%{config: %{api_key: nil}} = state, hello, _now), do: ready(state, hello)

  defp log_in(%{config: config} = state, hello, now) do
    params = %{"type" => "apiKey", "apiKey" => config.api_key.()}
    send_hello(%{state | phase: {:logging_in, hello}}, "account/login/start", params, now)
  end

  defp ready(state, hello) do
    replies = for from <- Enum.reverse(state.awaiting), do: {:reply, from, {:ok, hello}}
    version = Program.of_user_agent(hello["userAgent"])
    greeted = if version, do: [{:version, version}], else: []
    state = %{state | phase: {:ready, hello}, lacks: Since.lacks(version), awaiting: []}
    {greeted ++ replies, state}
  end

  # --- Requests of the host ---------------------------------------------------------------------

  # A request that begins a turn waits for no other turn of its thread: it is an error.
  defp request_unless_busy(state, from, method, params, opts, now) do
    thread_id = Ids.thread_id(params)

    case (opts[:follow] || opts[:alone]) && Turns.busy(state.turns, thread_id) do
      none when none in [nil, false] ->
        send_request(state, from, method, params, opts, now)

      turn ->
        {[{:reply, from, {:error, {:turn_running, thread_id, turn}}}], state}
    end
  end

  defp send_request(state, from, method, params, opts, now) do
    members = if trace = opts[:trace], do: %{"trace" => trace}, else: %{}
    options = [timeout_ms: opts[:timeout_ms] || 30_000, members: members]
    {actions, state} = peer(state, {:request, from, method, params, options}, now)
    actions = announce(actions, opts[:announce])

    with [{:send, %{"id" => id}}] <- actions,
         who when who != nil <- opts[:follow],
         %{"threadId" => thread_id} <- params do
      children? = opts[:children] == true
      {actions, %{state | turns: Turns.start(state.turns, id, who, thread_id, children?)}}
    else
      _ -> {actions, state}
    end
  end

  # Tells a subscriber the id of its request, which notifications repeat.
  defp announce([{:send, %{"id" => id}}] = actions, who) when who != nil,
    do: actions ++ [{:notify, who, {:codex_request_sent, id}}]

  defp announce(actions, _nobody), do: actions

  # The server answers at once, or ends.
  defp send_for(state, caller, method, params, now),
    do: peer(state, {:request, caller, method, params, timeout_ms: :infinity}, now)

  defp interrupt(state, caller, thread_id, turn_id, now) do
    ids = %{"threadId" => thread_id, "turnId" => turn_id}
    send_for(state, caller, "turn/interrupt", ids, now)
  end

  # --- Notifications ----------------------------------------------------------------------------

  defp notification(state, "serverRequest/resolved" = method, params, now) do
    {{closed, state}, params} = PendingRequests.resolve(state, params, now)
    {actions, state} = notify(state, method, params, now)
    {closed ++ actions, state}
  end

  defp notification(state, "account/rateLimits/updated" = method, params, now) do
    {actions, state} = notify(state, method, params, now)

    case params do
      %{"rateLimits" => limits} -> {[{:rate_limits, limits} | actions], state}
      _ -> {actions, state}
    end
  end

  defp notification(state, method, params, now), do: notify(state, method, params, now)

  defp notify(state, method, params, now) do
    state = %{state | notices: Notices.note(state.notices, method, params)}
    {turns, state} = turns(state, Turns.observe(state.turns, method, params), now)

    told =
      for {who, filter} <- state.subscribers, Subscribers.pass?(filter, method, params) do
        {:notify, who, message(state, filter.as, method, params)}
      end

    {told ++ turns, state}
  end

  defp message(_state, :wire, method, params), do: {:codex_notification, method, params}

  defp message(state, :structs, method, params),
    do: {:codex_event, state.config.conn, EventDecoder.decode(method, params)}

  # Turns that nobody wants are interrupted.
  defp turns(state, {messages, turns}, now) do
    Enum.flat_map_reduce(messages, %{state | turns: turns}, fn
      {nil, thread, turn, :abandoned}, state ->
        interrupt(state, {:nobody, nil}, thread, turn, now)

      {who, thread, turn, what}, state ->
        {[{:turn, who, thread, turn, what}], state}
    end)
  end

  # --- The end ----------------------------------------------------------------------------------

  defp fail(%{phase: {:down, _}} = state, _reason, _now), do: {[], state}

  defp fail(state, reason, now) do
    {actions, state} = close(state, reason, now)
    {actions ++ [{:stop, reason}], state}
  end

  defp close(state, reason, now) do
    {over, peer} = Peer.run(state.peer, {:down, reason}, now)
    waiting = for {:answer, _id, from, _} <- over, not internal?(from), do: from
    callers = Enum.reverse(state.awaiting) ++ waiting
    replies = for from <- callers, do: {:reply, from, {:error, reason}}
    {lost, turns} = Turns.down(state.turns, reason)
    lost = for {who, thread, turn, what} <- lost, do: {:turn, who, thread, turn, what}
    state = %{state | peer: peer, turns: turns, awaiting: [], phase: {:down, reason}}
    closed = for {:closed, _id, entry, :down} <- over, do: entry

    {ends, state} =
      Enum.flat_map_reduce(closed, state, &PendingRequests.closed(&2, &1, :down, now))

    {replies ++ lost ++ ends, state}
  end

  defp internal?(:hello), do: true
  defp internal?({:nobody, _next}), do: true
  defp internal?(_from), do: false
end
