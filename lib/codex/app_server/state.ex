defmodule Codex.AppServer.State do
  @moduledoc false
  # What a connection to an app-server knows, and what follows from each thing that happens to it. There is no process, no
  # clock and no line in it: times are arguments (ms, of any clock that does not go back), messages are decoded.
  #
  # Every function returns `{actions, state}`; the actions are done in order:
  #
  #   * `{:send, map}`              - a message for the server
  #   * `{:reply, from, result}`    - the answer to a call, once for each `from`
  #   * `{:notify, who, message}`   - for a subscriber: `{:codex_notification, method, params}`,
  #     `{:codex_request, id, method, params}` or `{:cut_off, reason}`
  #   * `{:turn, who, thread_id, turn_id, what}` - for somebody who follows a turn; see `Codex.AppServer.Turns`
  #   * `{:opened, id, method, params, deadline}`, `{:closed, id, why}` - what the server asks has begun to wait for an answer, or ended
  #   * `{:note, what}`             - for telemetry: nothing has to be done
  #   * `{:stop, reason}`           - the connection is over, and everybody who waited has been told
  #
  # After each, `deadline/1` says when `tick/2` has to be called.

  alias Codex.AppServer.{
    Message,
    Outgoing,
    Questions,
    Requests,
    ServerRequest,
    Subscribers,
    Timers,
    Turns
  }

  @defaults [
    client_name: "codex_sdk",
    client_version: "0",
    client_title: nil,
    experimental_api: false,
    capabilities: %{},
    opt_out: [],
    # Returns a key that this server alone logs in with, before it counts as ready.
    api_key: nil,
    # How long initialize may take.
    init_timeout_ms: 10_000,
    # How long a request of the server waits for an answer of ours before it gets the no of its kind.
    answer_timeout_ms: 300_000,
    # A server that is overloaded is asked again so often, after 100 ms, 200 ms, …
    retries: 5,
    retry_ms: 100,
    # The limit of the transport, for the words of its error.
    max_message_bytes: 268_435_456,
    # What may wait or be known at a time.
    max_requests: 1024,
    max_asked: 256,
    max_subscribers: 1024,
    max_turns: 256
  ]

  @enforce_keys [:config, :requests, :turns, :timers]
  defstruct [
    :config,
    :requests,
    :turns,
    :timers,
    phase: :new,
    awaiting: [],
    asked: %{},
    subscribers: %{}
  ]

  @typedoc "`down` is for ever, with the reason that every call gets."
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
          requests: Requests.t(),
          turns: Turns.t(),
          timers: Timers.t(),
          phase: phase(),
          awaiting: [term()],
          asked: map(),
          subscribers: Subscribers.t()
        }
  @type note ::
          {:malformed, Message.reason()}
          | {:unexpected_answer, :late | :never_sent, Message.id()}
          | {:overloaded, String.t(), attempt :: pos_integer()}
          | {:duplicate_request, Message.id(), String.t()}
          | {:denied, :nobody | :expired | {:overflow, pos_integer()}, Message.id(), String.t()}
          | {:resolved, Message.id(), String.t()}
  @type action ::
          {:send, map()}
          | {:reply, term(), term()}
          | {:notify, term(), tuple()}
          | {:turn, term(), String.t(), String.t(), Turns.what()}
          | {:opened, Message.id(), String.t(), map(), integer() | :infinity}
          | {:closed, Message.id(), :answered | :resolved | :expired | :nobody | :down}
          | {:note, note()}
          | {:stop, reason()}
  @type step :: {[action()], t()}

  @doc "A connection that has not said hello. Options: those above. Raises `KeyError` for one that is none."
  @spec new(keyword()) :: t()
  def new(opts \\ []) do
    config = struct_of(opts)

    %__MODULE__{
      config: config,
      requests: Requests.new(config.max_requests),
      turns: Turns.new(config.max_turns),
      timers: Timers.new()
    }
  end

  defp struct_of(opts) do
    Enum.reduce(opts, Map.new(@defaults), fn {key, value}, config ->
      Map.replace!(config, key, value)
    end)
  end

  @doc "When `tick/2` is due."
  @spec deadline(t()) :: integer() | :infinity
  def deadline(state), do: Timers.next(state.timers)

  ## Hello

  @doc "Says hello."
  @spec start(t(), integer()) :: step()
  def start(%{phase: :new, config: config} = state, now) do
    capabilities =
      config.capabilities
      |> Map.put("experimentalApi", config.experimental_api)
      |> put_unless("optOutNotificationMethods", config.opt_out, [])

    info =
      %{"name" => config.client_name, "version" => config.client_version}
      |> put_unless("title", config.client_title, nil)

    params = %{"clientInfo" => info, "capabilities" => capabilities}

    Outgoing.send_request(
      %{state | phase: :initializing},
      :hello,
      "initialize",
      params,
      config.init_timeout_ms,
      now
    )
  end

  defp put_unless(map, _key, none, none), do: map
  defp put_unless(map, key, value, _none), do: Map.put(map, key, value)

  @doc "Replies `{:ok, hello of the server}` when it is ready, or `{:error, reason}`."
  @spec await(t(), term()) :: step()
  def await(%{phase: {:ready, hello}} = state, from), do: {[{:reply, from, {:ok, hello}}], state}

  def await(%{phase: {:down, reason}} = state, from),
    do: {[{:reply, from, {:error, reason}}], state}

  def await(%{config: %{max_requests: most}} = state, from) when length(state.awaiting) >= most,
    do: {[{:reply, from, {:error, {:overflow, :requests, most}}}], state}

  def await(state, from), do: {[], %{state | awaiting: [from | state.awaiting]}}

  ## Requests of ours

  @doc """
  Sends a request; its answer is a reply to `from`. Options:

    * `:timeout_ms` - until the answer (default 30_000), or `:infinity`
    * `:experimental` - what in it needs `experimental_api` (default `[]`)
    * `:follow` - who follows the turn that the request starts in the thread of its parameters
    * `:own` - whether that turn is interrupted when they are gone. Then there must be no other such turn in the thread, for
      which the server would take the request as more input: `{:error, {:turn_running, thread_id, turn_id | :starting}}`
  """
  @spec request(t(), term(), String.t(), map() | nil, keyword(), integer()) :: step()
  def request(state, from, method, params, opts, now) do
    Outgoing.request(state, from, method, params, opts, now)
  end

  ## Messages of the server

  @doc "A message of the server."
  @spec message(t(), Message.t(), integer()) :: step()
  def message(%{phase: {:down, _}} = state, _message, _now), do: {[], state}

  def message(state, {:result, id, result}, now) do
    case Outgoing.take(state, id) do
      {:ok, %{from: :hello}, state} -> greeted(state, result, now)
      {:ok, entry, state} -> Outgoing.answered(state, id, entry, {:ok, result})
      unexpected -> Outgoing.unexpected(state, id, unexpected, result)
    end
  end

  def message(state, {:error, id, error}, now) do
    case Outgoing.take(state, id) do
      {:ok, %{from: :hello}, state} -> fail(state, refusal(state.phase, error))
      {:ok, entry, state} -> Outgoing.refused(state, id, entry, error, now)
      unexpected -> {[{:note, {:unexpected_answer, unexpected, id}}], state}
    end
  end

  def message(state, {:notification, method, params}, _now) do
    {turns, state} = Outgoing.turns(state, Turns.told(state.turns, method, params))
    {resolved, state} = Questions.resolved(state, method, params)

    told =
      for who <- Subscribers.of(state.subscribers, method, params),
          do: {:notify, who, {:codex_notification, method, params}}

    {resolved ++ told ++ turns, state}
  end

  def message(state, {:request, id, method, params}, now),
    do: Questions.ask(state, id, method, params, now)

  # It waits for an answer.
  def message(state, {:malformed_request, id}, _now) do
    error = %{"code" => -32_602, "message" => "Invalid params: they are no object"}
    {[{:send, %{"id" => id, "error" => error}}, {:note, {:malformed, :not_a_message}}], state}
  end

  # An answer, or the end of a turn, may have been in it: nothing that comes later is whole.
  def message(state, {:malformed, {:oversized, bytes}}, _now),
    do: fail(state, {:overflow, :line, bytes, state.config.max_message_bytes})

  def message(state, {:malformed, {:overfull, limit}}, _now),
    do: fail(state, {:overflow, :nodes, limit})

  def message(state, {:malformed, reason}, _now), do: {[{:note, {:malformed, reason}}], state}

  defp refusal({:logging_in, _hello}, error), do: {:login_refused, error}
  defp refusal(_phase, error), do: {:initialize_refused, error}

  # The answer to initialize, and then, if there is a key, to the login with it.
  defp greeted(%{phase: {:logging_in, hello}} = state, _account, _now), do: ready(state, hello)

  defp greeted(state, hello, now) do
    hello = if is_map(hello), do: hello, else: %{}
    {actions, state} = log_in(state, hello, now)
    {[{:send, %{"method" => "initialized"}} | actions], state}
  end

  defp log_in(%{config: %{api_key: nil}} = state, hello, _now), do: ready(state, hello)

  defp log_in(%{config: config} = state, hello, now) do
    params = %{"type" => "apiKey", "apiKey" => config.api_key.()}
    state = %{state | phase: {:logging_in, hello}}

    Outgoing.send_request(
      state,
      :hello,
      "account/login/start",
      params,
      config.init_timeout_ms,
      now
    )
  end

  defp ready(state, hello) do
    replies = for from <- Enum.reverse(state.awaiting), do: {:reply, from, {:ok, hello}}
    {replies, %{state | phase: {:ready, hello}, awaiting: []}}
  end

  ## What the server asks

  @doc """
  Answers what the server asked, once: `{:ok, result}` or `{:error, error}` as on the wire, or `{:answer, answer}` as
  `Codex.AppServer.answer/2` takes it. `from` gets `:ok`, or `{:error, reason}`:

    * `{:request_closed, id}` - it has its answer, its time was over, the server took it back, or it was never asked
    * `{:unknown_option, …}`, `{:missing_option, …}`, `{:invalid_option, …}`, `{:invalid_options, …}` - not an answer to what was asked; it still
      waits for one
  """
  @spec respond(t(), term(), Message.id(), ServerRequest.answer()) :: step()
  def respond(state, from, id, answer), do: Questions.respond(state, from, id, answer)

  @doc "Somebody who was asked will not answer, though they live: as `gone/2` for this one question."
  @spec leave(t(), Message.id() | nil, term()) :: step()
  def leave(state, id, who), do: Questions.leave(state, id, who)

  @doc "What could not be sent: whoever asked gets `{:error, reason}`."
  @spec refuse(t(), Message.id(), tuple()) :: step()
  def refuse(state, id, reason), do: Outgoing.refuse(state, id, reason, &fail/2)

  ## Subscribers

  @doc """
  Somebody wants to hear what passes a filter (see `Codex.AppServer.Subscribers.filter/1`), instead of what they heard before. `from`
  gets `:ok` or `{:error, reason}`: `{:overflow, :subscribers, limit}`, or what is wrong with the filter.
  """
  @spec subscribe(t(), term(), term(), term()) :: step()
  def subscribe(state, from, who, options) do
    full? = map_size(state.subscribers) >= state.config.max_subscribers

    case Subscribers.filter(options) do
      {:ok, _} when full? and not is_map_key(state.subscribers, who) ->
        overflow = {:overflow, :subscribers, state.config.max_subscribers}
        {[{:reply, from, {:error, overflow}}], state}

      {:ok, filter} ->
        {[{:reply, from, :ok}], put_in(state.subscribers[who], filter)}

      {:error, reason} ->
        {[{:reply, from, {:error, reason}}], state}
    end
  end

  @doc "They want to hear nothing any more."
  @spec unsubscribe(t(), term()) :: step()
  def unsubscribe(state, who),
    do: {[], %{state | subscribers: Map.delete(state.subscribers, who)}}

  @doc """
  Interrupts the turn of a thread that somebody follows, at its beginning where that is not told yet. `from` gets `{:ok, answer}`, or
  `{:error, reason}`: `{:no_turn, thread_id}`, or that of the request, with `:timeout_ms` as its option.
  """
  @spec interrupt_in(t(), term(), String.t(), keyword(), integer()) :: step()
  def interrupt_in(state, from, thread_id, opts, now) do
    case Turns.running_in(state.turns, thread_id) do
      nil ->
        {[{:reply, from, {:error, {:no_turn, thread_id}}}], state}

      {turn_id, nil} ->
        turns = Turns.orphan(state.turns, {thread_id, turn_id})
        {[{:reply, from, {:ok, %{}}}], %{state | turns: turns}}

      {_turn_id, active} ->
        ids = %{"threadId" => thread_id, "turnId" => active}
        request(state, from, "turn/interrupt", ids, opts, now)
    end
  end

  @doc """
  Interrupts a turn that nobody wants any more, at its beginning where that is not told yet. Nobody
  waits for the answer; when it is
  there, the request `then` is sent, a method with its parameters, if it is not nil.
  """
  @spec abandon(t(), String.t(), String.t(), {String.t(), map()} | nil) :: step()
  def abandon(state, thread_id, turn_id, then) do
    case Turns.running_in(state.turns, thread_id) do
      {^turn_id, nil} ->
        {[], %{state | turns: Turns.orphan(state.turns, {thread_id, turn_id})}}

      {^turn_id, active} ->
        Outgoing.interrupt(state, thread_id, active, then)

      _ended ->
        {[], state}
    end
  end

  @doc "They do not follow this turn any more; others they do."
  @spec unfollow(t(), term(), String.t(), String.t()) :: step()
  def unfollow(state, who, thread_id, turn_id) do
    turns = Turns.forget(state.turns, who, thread_id, turn_id)
    {[], %{state | turns: turns}}
  end

  @doc """
  Somebody is gone: no subscription and no turn is for them, and their own turns are interrupted. What they were asked as one of
  several waits for another's answer; what only they were asked, or the last of them, gets its no.
  """
  @spec gone(t(), term()) :: step()
  def gone(state, who) do
    {[], state} = unsubscribe(state, who)
    {interrupted, state} = Outgoing.turns(state, Turns.gone(state.turns, who))
    {denied, state} = Questions.gone(state, who)
    {denied ++ interrupted, state}
  end

  @doc """
  Somebody took so little that more than `limit` bytes waited for them: they get no more of what
  they follow and are subscribed to, and
  are told so. Their own turns are interrupted, and what only they were asked gets its no.
  """
  @spec cut_off(t(), term(), pos_integer()) :: step()
  def cut_off(state, who, limit) do
    over = {:overflow, {:reader, who}, limit}
    told = if is_map_key(state.subscribers, who), do: [{:notify, who, {:cut_off, over}}], else: []
    {[], state} = unsubscribe(state, who)
    {ended, state} = Outgoing.turns(state, Turns.cut_off(state.turns, who, over))
    {denied, state} = Questions.gone(state, who)
    {told ++ ended ++ denied, state}
  end

  @doc "Whom messages may be for at this time; some more than once. What others have in their mailboxes is not ours."
  @spec listeners(t()) :: [term()]
  def listeners(state), do: Map.keys(state.subscribers) ++ Turns.listeners(state.turns)

  ## Time

  @doc "What is due at `now`."
  @spec tick(t(), integer()) :: step()
  def tick(state, now) do
    {keys, timers} = Timers.due(state.timers, now)

    Enum.reduce(keys, {[], %{state | timers: timers}}, fn key, {actions, state} ->
      {more, state} = due(state, key)
      {actions ++ more, state}
    end)
  end

  defp due(state, {:timeout, id}), do: Outgoing.expire(state, id, &fail/2)
  defp due(state, {:retry, id}), do: Outgoing.again(state, id)
  defp due(state, {:asked, id}), do: Questions.expire(state, id)

  ## The end

  @doc "The server is gone, or the way to it; `info` is what is known of that. Everybody who waits is told."
  @spec down(t(), map()) :: step()
  def down(%{phase: {:down, _}} = state, _info), do: {[], state}

  def down(state, info) do
    {actions, state} = close_all(state, {:app_server_down, info})
    {actions, state}
  end

  defp fail(%{phase: {:down, _}} = state, _reason), do: {[], state}

  defp fail(state, reason) do
    {actions, state} = close_all(state, reason)
    {actions ++ [{:stop, reason}], state}
  end

  defp close_all(state, reason) do
    waiting =
      for {_, %{from: from}} <- Enum.sort(state.requests.waiting), from != :hello, do: from

    replies =
      Enum.flat_map(
        Enum.reverse(state.awaiting) ++ waiting,
        &Outgoing.reply(&1, {:error, reason})
      )

    {turns, state} = Outgoing.turns(state, Turns.down(state.turns, reason))
    requests = %{state.requests | waiting: %{}}
    closed = for id <- state.asked |> Map.keys() |> Enum.sort(), do: {:closed, id, :down}

    {replies ++ turns ++ closed,
     %{
       state
       | phase: {:down, reason},
         requests: requests,
         awaiting: [],
         asked: %{},
         timers: Timers.new()
     }}
  end
end
