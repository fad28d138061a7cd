defmodule Codex.JSONRPC.Peer do
  @moduledoc false
  # One side of a JSON-RPC connection, as a value: the requests that it sent and those that it
  # received, with ids, deadlines, repetition and cancellation. It knows no methods and has no
  # process and no clock. Times are arguments, in ms of a clock that does not go back.
  #
  # `run/3` takes one operation, and returns the actions to perform, in order. Both are tagged
  # values that can be logged and replayed. After each operation, `deadline/1` returns the time of
  # the next `:tick`.

  alias Codex.JSONRPC.Message

  @defaults %{
    # The member "jsonrpc" of messages sent; nil leaves it out.
    version: nil,
    # Whether the other side may send batches.
    batches?: false,
    max_sent: 1024,
    max_received: 256,
    # The time limit of a received request, and the answer that declines it then.
    answer_timeout_ms: :infinity,
    decline: nil,
    # Requests refused with this code did nothing yet, and are sent again, after 100 ms, 200 ms, …
    overload_code: -32_001,
    retries: 5,
    retry_ms: 100,
    # The notification that tells the other side of a request that is not waited for any more: its
    # params are `requestId` and `reason`.
    cancel_method: nil,
    # The limit of the transport, for its error.
    max_message_bytes: nil
  }

  @timeout_ms 30_000
  @longest_pause 5_000
  @unsupported {:error, %{"code" => -32_601, "message" => "method not found"}}

  @enforce_keys [:config]
  defstruct [:config, :deadlines, next: 0, sent: %{}, received: %{}]

  @typedoc "A request that was sent. `retry_at` is set until it is sent again."
  @type sent :: %{
          caller: term(),
          method: String.t(),
          params: map() | nil,
          members: map(),
          timeout: timeout(),
          deadline: time(),
          limit: time(),
          cancel?: boolean(),
          attempt: non_neg_integer(),
          retry_at: integer() | nil
        }

  @typedoc "A request of the other side that has no answer yet. `data` belongs to the caller."
  @type received :: %{method: String.t(), params: map(), deadline: time(), data: term()}
  @type time :: integer() | :infinity
  @type t :: %__MODULE__{
          config: map(),
          next: non_neg_integer(),
          sent: %{non_neg_integer() => sent()},
          received: %{Message.id() => received()},
          deadlines: :gb_sets.set({integer(), {atom(), Message.id()}})
        }

  @typedoc """
    * `:request` - sends a request. Options: `:timeout_ms`, `:limit_ms` (for `:extend`), `:members`
      beside method and parameters, and `cancel?: false` for a request that must not be cancelled
    * `:extend` - the request has made progress: its timeout begins anew, up to its limit
    * `:cancel` - the caller does not wait any more
    * `:refuse` - the request could not be sent
    * `:respond`, `:decline` - answers a received request
    * `:withdraw` - the other side needs no answer any more
  """
  @type operation ::
          {:request, caller :: term(), String.t(), map() | nil, keyword()}
          | {:notify, String.t(), map() | nil}
          | {:extend, Message.id()}
          | {:cancel, caller :: term(), reason :: String.t()}
          | {:refuse, Message.id(), reason :: term()}
          | {:respond, Message.id(), answer()}
          | {:decline, Message.id(), why :: term()}
          | {:withdraw, Message.id()}
          | {:receive, Message.t()}
          | :tick
          | {:down, reason :: term()}

  @type answer :: {:ok, term()} | {:error, map()}

  @typedoc """
    * `:answer` - a sent request is over. Its id is nil if it was not sent. Besides the answer of
      the other side, the result is `{:error, {:timeout, method, ms}}`,
      `{:error, {:overflow, :requests, limit}}`, `{:error, :cancelled}`, or the reason of `:refuse`
      or `:down`
    * `:resent` - a request has a new id
    * `:unexpected` - an answer that no request waits for
    * `:request` - the other side waits for `:respond` or `:decline`
    * `:closed` - a received request has its answer or needs none
    * `:fail` - messages are missing: the connection cannot go on
    * `:note` - for logs
  """
  @type action ::
          {:send, map()}
          | {:answer, Message.id() | nil, caller :: term(), {:ok, term()} | {:error, term()}}
          | {:resent, Message.id(), Message.id()}
          | {:unexpected, Message.id(), :late | :never_sent, {:ok | :error, term()}}
          | {:request, Message.id(), String.t(), map()}
          | {:closed, Message.id(), received(), {:answered, answer()} | :withdrawn | term()}
          | {:notification, String.t(), map()}
          | {:fail, term()}
          | {:note, tuple()}

  # Parameters and answers may hold secrets.
  defimpl Inspect do
    def inspect(peer, _opts) do
      methods = fn requests -> requests |> Map.values() |> Enum.frequencies_by(& &1.method) end

      "#Codex.JSONRPC.Peer<next: #{peer.next}, sent: #{Kernel.inspect(methods.(peer.sent))}, " <>
        "received: #{Kernel.inspect(methods.(peer.received))}>"
    end
  end

  @doc "Makes a peer. Raises `KeyError` for an unknown option."
  @spec new(keyword()) :: t()
  def new(opts \\ []) do
    config =
      Enum.reduce(opts, @defaults, fn {key, value}, all -> Map.replace!(all, key, value) end)

    # Not a default of the struct: newer Dialyzers take the literal for a broken opaque term.
    %__MODULE__{config: config, deadlines: :gb_sets.new()}
  end

  @doc "Returns when `:tick` is due."
  @spec deadline(t()) :: time()
  def deadline(%{deadlines: deadlines}) do
    if :gb_sets.is_empty(deadlines),
      do: :infinity,
      else: deadlines |> :gb_sets.smallest() |> elem(0)
  end

  @doc "Stores data of the caller with a received request."
  @spec put_data(t(), Message.id(), term()) :: t()
  def put_data(peer, id, data), do: put_in(peer.received[id].data, data)

  @doc "Accepts batches of the other side from now on."
  @spec accept_batches(t()) :: t()
  def accept_batches(peer), do: put_in(peer.config.batches?, true)

  @doc "Runs one operation at the time `now`."
  @spec run(t(), operation(), integer()) :: {[action()], t()}
  def run(peer, {:receive, message}, now), do: receive_message(peer, message, now)

  def run(peer, {:request, caller, method, params, opts}, now) do
    timeout = Keyword.get(opts, :timeout_ms, @timeout_ms)

    send_request(peer, %{
      caller: caller,
      method: method,
      params: params,
      members: Keyword.get(opts, :members, %{}),
      timeout: timeout,
      deadline: at(now, timeout),
      limit: at(now, Keyword.get(opts, :limit_ms, timeout)),
      cancel?: Keyword.get(opts, :cancel?, true),
      attempt: 0,
      retry_at: nil
    })
  end

  def run(peer, {:notify, method, params}, _now),
    do: {[message(peer, put_params(%{"method" => method}, params))], peer}

  def run(peer, {:extend, id}, now) do
    case peer.sent do
      %{^id => entry} ->
        deadline = min(at(now, entry.timeout), entry.limit)
        {[], peer |> forget(id, entry) |> wait(id, %{entry | deadline: deadline})}

      _over ->
        {[], peer}
    end
  end

  def run(peer, {:cancel, caller, reason}, _now) do
    case Enum.find(peer.sent, fn {_id, entry} -> entry.caller == caller end) do
      {id, entry} ->
        over = {:answer, id, caller, {:error, :cancelled}}
        {[over | cancel(peer, id, entry, reason)], forget(peer, id, entry)}

      nil ->
        {[], peer}
    end
  end

  def run(peer, {:refuse, id, reason}, _now) do
    case take(peer, id) do
      {:ok, entry, peer} -> {[{:answer, id, entry.caller, {:error, reason}}], peer}
      _over -> {[], peer}
    end
  end

  def run(peer, {:respond, id, answer}, _now),
    do: close(peer, id, [response(peer, id, answer)], {:answered, answer})

  def run(peer, {:decline, id, why}, _now), do: decline(peer, id, why)
  def run(peer, {:withdraw, id}, _now), do: close(peer, id, [], :withdrawn)

  def run(peer, :tick, now) do
    case deadline(peer) <= now and :gb_sets.take_smallest(peer.deadlines) do
      false ->
        {[], peer}

      {{_at, key}, deadlines} ->
        {actions, peer} = expire(%{peer | deadlines: deadlines}, key)
        {more, peer} = run(peer, :tick, now)
        {actions ++ more, peer}
    end
  end

  def run(peer, {:down, reason}, _now) do
    over =
      for {id, entry} <- Enum.sort(peer.sent), do: {:answer, id, entry.caller, {:error, reason}}

    closed = for {id, entry} <- Enum.sort(peer.received), do: {:closed, id, entry, :down}
    {over ++ closed, %{peer | sent: %{}, received: %{}, deadlines: :gb_sets.new()}}
  end

  # --- Messages of the other side ---------------------------------------------------------------

  defp receive_message(peer, {:notification, method, params}, _now),
    do: {[{:notification, method, params}], peer}

  defp receive_message(peer, {:result, id, result}, _now), do: answered(peer, id, {:ok, result})

  # A refusal by an overloaded server is repeated if there is time left.
  defp receive_message(peer, {:error, id, error}, now) do
    with %{^id => entry} <- peer.sent,
         true <- error["code"] == peer.config.overload_code,
         attempt = entry.attempt + 1,
         at = now + pause(peer.config.retry_ms, attempt, id),
         true <- attempt <= peer.config.retries and at < entry.deadline do
      peer = peer |> forget(id, entry) |> wait(id, %{entry | attempt: attempt, retry_at: at})
      {[{:note, {:overloaded, entry.method, attempt}}], peer}
    else
      _ -> answered(peer, id, {:error, error})
    end
  end

  defp receive_message(peer, {:request, id, method, params}, now) do
    %{max_received: most, answer_timeout_ms: timeout} = peer.config

    cond do
      is_map_key(peer.received, id) ->
        {[{:note, {:duplicate_request, id, method}}], peer}

      map_size(peer.received) >= most ->
        answer = decline_of(peer, method)
        {[response(peer, id, answer), {:note, {:denied, {:overflow, most}, id, method}}], peer}

      true ->
        deadline = at(now, timeout)
        entry = %{method: method, params: params, deadline: deadline, data: nil}
        peer = %{peer | received: Map.put(peer.received, id, entry)}
        {[{:request, id, method, params}], add_deadline(peer, deadline, {:answer, id})}
    end
  end

  defp receive_message(%{config: %{batches?: true}} = peer, {:batch, messages}, now),
    do: Enum.flat_map_reduce(messages, peer, &receive_message(&2, &1, now))

  defp receive_message(peer, {:batch, _messages}, _now),
    do: {[{:note, {:malformed, :not_a_message}}], peer}

  defp receive_message(peer, {:malformed_request, id}, _now) do
    error = %{"code" => -32_602, "message" => "Invalid params: expected an object"}
    {[response(peer, id, {:error, error}), {:note, {:malformed, :not_a_message}}], peer}
  end

  # An answer may have been in a message over a limit.
  defp receive_message(peer, {:malformed, {:oversized, bytes}}, _now),
    do: {[{:fail, {:overflow, :line, bytes, peer.config.max_message_bytes}}], peer}

  defp receive_message(peer, {:malformed, {:overfull, limit}}, _now),
    do: {[{:fail, {:overflow, :nodes, limit}}], peer}

  defp receive_message(peer, {:malformed, reason}, _now),
    do: {[{:note, {:malformed, reason}}], peer}

  defp answered(peer, id, result) do
    case take(peer, id) do
      {:ok, entry, peer} -> {[{:answer, id, entry.caller, result}], peer}
      unexpected -> {[{:unexpected, id, unexpected, result}], peer}
    end
  end

  # Doubles each time; the id spreads requests that were refused together.
  defp pause(ms, attempt, id),
    do: min(ms * Integer.pow(2, attempt - 1), @longest_pause) + rem(id * 37, max(ms, 1))

  # --- Sent requests ----------------------------------------------------------------------------

  defp send_request(%{config: %{max_sent: most}} = peer, entry) when map_size(peer.sent) >= most,
    do: {[{:answer, nil, entry.caller, {:error, {:overflow, :requests, most}}}], peer}

  defp send_request(%{next: id} = peer, entry) do
    request = Map.merge(entry.members, %{"id" => id, "method" => entry.method})
    request = put_params(request, entry.params)
    {[message(peer, request)], wait(%{peer | next: id + 1}, id, entry)}
  end

  defp wait(peer, id, entry) do
    peer = %{peer | sent: Map.put(peer.sent, id, entry)}

    peer
    |> add_deadline(entry.deadline, {:timeout, id})
    |> add_deadline(entry.retry_at, {:retry, id})
  end

  defp take(peer, id) do
    case peer.sent do
      %{^id => entry} -> {:ok, entry, forget(peer, id, entry)}
      _ when is_integer(id) and id >= 0 and id < peer.next -> :late
      _ -> :never_sent
    end
  end

  defp forget(peer, id, entry) do
    %{peer | sent: Map.delete(peer.sent, id)}
    |> delete_deadline(entry.deadline, {:timeout, id})
    |> delete_deadline(entry.retry_at, {:retry, id})
  end

  defp cancel(%{config: %{cancel_method: method}} = peer, id, %{cancel?: true}, reason)
       when method != nil do
    params = %{"requestId" => id, "reason" => reason}
    [message(peer, %{"method" => method, "params" => params})]
  end

  defp cancel(_peer, _id, _entry, _reason), do: []

  # --- Received requests ------------------------------------------------------------------------

  defp decline(peer, id, why) do
    case peer.received do
      %{^id => %{method: method}} ->
        sent = [response(peer, id, decline_of(peer, method)), {:note, {:denied, why, id, method}}]
        close(peer, id, sent, why)

      _closed ->
        {[], peer}
    end
  end

  defp decline_of(%{config: %{decline: nil}}, _method), do: @unsupported
  defp decline_of(%{config: %{decline: decline}}, method), do: decline.(method)

  # Nothing is sent for a request that is closed.
  defp close(peer, id, actions, why) do
    case Map.pop(peer.received, id) do
      {nil, _} ->
        {[], peer}

      {entry, received} ->
        peer = delete_deadline(%{peer | received: received}, entry.deadline, {:answer, id})
        {actions ++ [{:closed, id, entry, why}], peer}
    end
  end

  # --- Time -------------------------------------------------------------------------------------

  # Another action at the same time may have closed the request.
  defp expire(peer, {:timeout, id}) do
    case take(peer, id) do
      {:ok, entry, peer} ->
        late = {:error, {:timeout, entry.method, entry.timeout}}
        {[{:answer, id, entry.caller, late} | cancel(peer, id, entry, "timeout")], peer}

      _over ->
        {[], peer}
    end
  end

  defp expire(peer, {:retry, id}) do
    case take(peer, id) do
      {:ok, entry, %{next: new} = peer} ->
        {actions, peer} = send_request(peer, %{entry | retry_at: nil})
        {actions ++ [{:resent, id, new}], peer}

      _over ->
        {[], peer}
    end
  end

  defp expire(peer, {:answer, id}), do: decline(peer, id, :expired)

  defp at(_now, :infinity), do: :infinity
  defp at(now, ms), do: now + ms

  defp add_deadline(peer, at, _key) when is_atom(at), do: peer

  defp add_deadline(peer, at, key),
    do: %{peer | deadlines: :gb_sets.add_element({at, key}, peer.deadlines)}

  defp delete_deadline(peer, at, _key) when is_atom(at), do: peer

  defp delete_deadline(peer, at, key),
    do: %{peer | deadlines: :gb_sets.del_element({at, key}, peer.deadlines)}

  # --- Encoding ---------------------------------------------------------------------------------

  defp response(peer, id, {:ok, result}), do: message(peer, %{"id" => id, "result" => result})
  defp response(peer, id, {:error, error}), do: message(peer, %{"id" => id, "error" => error})

  defp put_params(message, nil), do: message
  defp put_params(message, params), do: Map.put(message, "params", params)

  defp message(%{config: %{version: nil}}, message), do: {:send, message}
  defp message(%{config: %{version: version}}, map), do: {:send, Map.put(map, "jsonrpc", version)}
end
