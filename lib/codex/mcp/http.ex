defmodule Codex.MCP.HTTP do
  @moduledoc false
  # An MCP server over Streamable HTTP, or over the older HTTP+SSE, as a value of the process that
  # opened it.
  #
  # Each message is a job of a process (`Codex.MCP.HTTP.Exchange`), which keeps its connection for
  # the next one. Here is the state that jobs share: the session, the protocol version, and the
  # messages that wait until the server knows the session.

  alias Codex.HTTP.{Connection, Socket}
  alias Codex.{JSON, JSONRPC}
  alias Codex.MCP.HTTP.{Config, Exchange, Headers, Parameters}

  @enforce_keys [:config, :tag, :target]
  @derive {Inspect, only: [:mode, :era, :version]}
  defstruct [
    :config,
    :tag,
    :target,
    :session,
    :version,
    :listener,
    :fallback,
    mode: :streamable,
    era: :legacy,
    gate: nil,
    waiting: :queue.new(),
    jobs: %{},
    ids: %{},
    idle: [],
    debts: :queue.new()
  ]

  @typedoc """
    * `mode` - `:sse` for a server of version 2024-11-05, which has a stream and a URL for messages
    * `gate` - `:initialize` without a session, `:initialized` until it is confirmed, `:listen`
      until the stream for requests of the server is open: other messages wait
    * `ids` - requests, and the processes of their jobs
    * `debts` - bytes that were given to the process, and the processes that wait for a grant
    * `fallback` - a refused `initialize`, while the older protocol is tried
  """
  @opaque t :: %__MODULE__{}

  @type output ::
          {:messages, [JSONRPC.Message.t()], non_neg_integer()}
          | {:lost, JSONRPC.Message.id(), term()}
          | {:session_lost, []}
          | {:down, %{reason: term()}}

  # Processes with a connection that wait for the next message.
  @most_idle 8
  # How long the stream for requests of the server is waited for: some servers answer late.
  @listen_timeout 1_000
  @delete_timeout 5_000
  # How long the end of a session is waited for.
  @goodbye 500

  @doc "Checks the options, and runs the helper of headers. The first message opens a connection."
  @spec open(Config.options()) :: {:ok, t()} | {:error, Config.reason()}
  def open(options) do
    with {:ok, config, target} <- Config.new(options),
         do: {:ok, %__MODULE__{config: config, tag: make_ref(), target: target}}
  end

  @doc "Returns whether a tool can be called, and otherwise the rule that it breaks."
  @spec accept_tool(map()) :: :ok | {:error, String.t()}
  def accept_tool(tool), do: Parameters.check(tool)

  # --- Sending ----------------------------------------------------------------------------------

  @doc "Sends a message. `meta` may have the definition of the tool that is called as `:tool`."
  @spec send(t(), map(), map()) :: t()
  def send(t, message, meta \\ %{}) do
    job = %{message: message, meta: meta, id: request_id(message), tries: 0}

    case message["method"] do
      "initialize" -> start(%{t | gate: :initialize, session: nil, version: nil}, job)
      "notifications/initialized" -> start(%{t | gate: :initialized}, job)
      _other -> if held?(t, message), do: wait(t, job), else: start(t, job)
    end
  end

  # Modern requests need no session.
  defp held?(t, message), do: t.gate != nil and not Headers.modern?(t.era, message)
  defp wait(t, job), do: %{t | waiting: :queue.in(job, t.waiting)}

  defp request_id(%{"method" => _, "id" => id}), do: id
  defp request_id(_message), do: nil

  # The headers depend on the session of the moment.
  defp start(t, job) do
    modern? = Headers.modern?(t.era, job.message)

    assign(
      t,
      Map.merge(job, %{
        kind: :post,
        method: job.message["method"],
        target: t.target,
        headers: headers(t, job, modern?),
        body: JSON.encode!(job.message),
        resume?: t.mode == :streamable and not modern?,
        session: t.session,
        elsewhere?: t.mode == :sse
      })
    )
  end

  defp headers(t, job, true),
    do: Headers.modern(job.message, job.meta, t.version, t.config.headers)

  defp headers(t, _job, false), do: Headers.legacy(t.version, t.session, t.config.headers)

  defp assign(t, job) do
    {pid, idle} =
      case t.idle do
        [pid | idle] -> {pid, idle}
        [] -> {Exchange.start(t.config, t.tag), []}
      end

    :ok = Exchange.run(pid, t.tag, Map.drop(job, [:message, :meta]))
    ids = if job.id != nil, do: Map.put(t.ids, job.id, pid), else: t.ids
    %{t | idle: idle, jobs: Map.put(t.jobs, pid, job), ids: ids}
  end

  # --- Protocol, cancel, grant ------------------------------------------------------------------

  @doc "Takes the version that was agreed on."
  @spec protocol(t(), String.t(), :legacy | :modern) :: t()
  def protocol(t, version, era), do: %{t | version: version, era: era}

  @doc "Closes the answer of a request. Its messages do not follow any more."
  @spec cancel(t(), JSONRPC.Message.id()) :: t()
  def cancel(t, id) do
    waiting = :queue.filter(&(&1.id != id), t.waiting)
    {pid, ids} = Map.pop(t.ids, id)
    t = %{t | waiting: waiting, ids: ids}

    if is_map_key(t.jobs, pid) do
      kill(pid)
      %{t | jobs: Map.delete(t.jobs, pid)}
    else
      t
    end
  end

  defp kill(pid) do
    true = Process.unlink(pid)
    true = Process.exit(pid, :kill)
  end

  @doc "Lets as many more bytes come. The streams that wait longest go on first."
  @spec grant(t(), pos_integer()) :: t()
  def grant(t, bytes) do
    case :queue.out(t.debts) do
      {{:value, {pid, owed}}, debts} when owed <= bytes ->
        _ = Kernel.send(pid, {t.tag, :grant})
        grant(%{t | debts: debts}, bytes - owed)

      {{:value, {pid, owed}}, debts} ->
        %{t | debts: :queue.in_r({pid, owed - bytes}, debts)}

      {:empty, _debts} ->
        t
    end
  end

  # --- Messages of the processes ----------------------------------------------------------------

  @doc "Handles a message of the process. Returns `:unknown` if it is not for this transport."
  @spec stream(t(), term()) :: {:ok, t(), [output()]} | :unknown
  def stream(%{tag: tag} = t, {tag, pid, event}) do
    case t.jobs do
      %{^pid => job} -> event(t, pid, job, event)
      # Of a cancelled request.
      _none -> {:ok, t, []}
    end
  end

  def stream(_t, _message), do: :unknown

  defp event(t, pid, _job, {:messages, messages, bytes}) do
    t = %{t | debts: :queue.in({pid, bytes}, t.debts)}
    {:ok, if(t.mode == :sse, do: answered(t, messages), else: t), [{:messages, messages, bytes}]}
  end

  defp event(t, _pid, _job, {:session, session}), do: {:ok, %{t | session: session}, []}

  # A request of the server that a call causes would be lost without the stream.
  defp event(%{gate: :listen, listener: pid} = t, pid, _job, :listening),
    do: {:ok, flush(%{t | gate: nil}), []}

  defp event(t, _pid, _job, :listening), do: {:ok, t, []}

  # The first endpoint only.
  defp event(%{fallback: %{} = job} = t, _pid, _job, {:endpoint, target}),
    do: {:ok, start(%{t | mode: :sse, target: target, fallback: nil}, job), []}

  defp event(t, _pid, _job, {:endpoint, _target}), do: {:ok, t, []}

  defp event(t, pid, job, {:ended, outcome}) do
    t = %{t | jobs: Map.delete(t.jobs, pid)}
    t = if outcome == :accepted and job.id != nil, do: t, else: forget(t, job.id)
    t |> rest(pid) |> ended(job, outcome)
  end

  # An old server answers on its stream.
  defp answered(t, messages) do
    for {kind, id, _value} when kind in [:result, :error] <- messages, reduce: t do
      t -> forget(t, id)
    end
  end

  defp forget(t, id), do: %{t | ids: Map.delete(t.ids, id)}

  defp rest(t, pid) when length(t.idle) < @most_idle, do: %{t | idle: [pid | t.idle]}

  defp rest(t, pid) do
    kill(pid)
    t
  end

  # --- Ends of jobs -----------------------------------------------------------------------------

  defp ended(t, %{method: "notifications/initialized"}, _outcome), do: {:ok, listen(t), []}

  defp ended(t, %{kind: :listen} = job, :session_lost) do
    t = %{t | listener: nil}
    if job.session == t.session, do: lost_session(t), else: {:ok, t, []}
  end

  defp ended(%{gate: :listen} = t, %{kind: :listen}, _outcome),
    do: {:ok, flush(%{t | gate: nil, listener: nil}), []}

  defp ended(t, %{kind: :listen}, _outcome), do: {:ok, %{t | listener: nil}, []}

  defp ended(%{fallback: %{} = job} = t, %{kind: :endpoint}, _outcome),
    do: {:ok, %{t | fallback: nil}, [{:lost, job.id, job.refusal}]}

  defp ended(t, %{kind: :endpoint}, {:lost, reason}) do
    lost = for {id, _pid} <- t.ids, do: {:lost, id, reason}
    {:ok, %{t | ids: %{}}, lost ++ [{:down, %{reason: reason}}]}
  end

  defp ended(t, job, :session_lost), do: refused(t, job)

  # Servers of version 2024-11-05 know no such request.
  defp ended(
         %{mode: :streamable} = t,
         %{method: "initialize"} = job,
         {:lost, {:http_error, status, _} = reason}
       )
       when status in [400, 404, 405] do
    fallback = job |> Map.take([:message, :meta, :id, :tries]) |> Map.put(:refusal, reason)
    t = assign(%{t | fallback: fallback}, get(t, :endpoint))
    {:ok, t, []}
  end

  defp ended(t, %{method: "initialize", id: id}, {:lost, reason}),
    do: {:ok, %{t | gate: nil}, [{:lost, id, reason}]}

  defp ended(t, %{id: nil}, _outcome), do: {:ok, t, []}
  defp ended(t, job, {:lost, reason}), do: {:ok, t, [{:lost, job.id, reason}]}
  defp ended(t, _job, _outcome), do: {:ok, t, []}

  # The server has not executed the request. Notifications of a lost session have no sense.
  defp refused(t, %{id: nil}), do: {:ok, t, []}

  defp refused(t, %{tries: 0} = job) do
    again = job |> Map.take([:message, :meta, :id]) |> Map.put(:tries, 1)

    cond do
      t.gate != nil ->
        {:ok, wait(t, again), []}

      job.session == t.session ->
        lost_session(wait(t, again))

      true ->
        {:ok, start(t, again), []}
    end
  end

  defp refused(t, job), do: {:ok, t, [{:lost, job.id, {:http_error, 404, "the session is lost"}}]}

  defp lost_session(t), do: {:ok, %{t | session: nil, gate: :initialize}, [{:session_lost, []}]}

  defp flush(t) do
    jobs = :queue.to_list(t.waiting)
    Enum.reduce(jobs, %{t | waiting: :queue.new()}, &start(&2, &1))
  end

  defp listen(%{mode: :streamable, era: :legacy, config: %{listen: true}} = t) do
    _ = if is_map_key(t.jobs, t.listener), do: kill(t.listener)
    t = assign(%{t | jobs: Map.delete(t.jobs, t.listener)}, get(t, :listen))
    {pid, _job} = Enum.find(t.jobs, fn {_pid, job} -> job.kind == :listen end)
    _timer = Process.send_after(self(), {t.tag, pid, :listening}, @listen_timeout)
    %{t | listener: pid, gate: :listen}
  end

  defp listen(t), do: flush(%{t | gate: nil})

  defp get(t, kind) do
    %{
      kind: kind,
      id: nil,
      method: nil,
      target: t.target,
      headers: headers(t, nil, false),
      body: nil,
      resume?: kind == :listen,
      session: t.session,
      elsewhere?: false
    }
  end

  # --- The end ----------------------------------------------------------------------------------

  @doc "Closes all connections and ends the session. A process of its own waits for a slow server."
  @spec stop(t()) :: :ok | {:behind, pid()}
  def stop(t) do
    for pid <- Map.keys(t.jobs) ++ t.idle, do: kill(pid)
    if t.session, do: delete(t), else: :ok
  end

  defp delete(t) do
    headers = headers(t, nil, false)
    {:ok, pid} = Task.Supervisor.start_child(Codex.TaskSupervisor, fn -> delete(t, headers) end)
    ref = Process.monitor(pid)

    receive do
      {:DOWN, ^ref, :process, _pid, _reason} -> :ok
    after
      @goodbye ->
        true = Process.demonitor(ref, [:flush])
        {:behind, pid}
    end
  end

  defp delete(t, headers) do
    deadline = Socket.deadline(@delete_timeout)
    opts = Map.to_list(Map.take(t.config, [:proxy, :tls]))

    with {:ok, token} <- if(t.config.auth, do: token(t.config.auth), else: {:ok, nil}),
         {:ok, conn} <- Connection.open(t.target, deadline, opts) do
      headers = if token, do: [{"authorization", "Bearer " <> token} | headers], else: headers
      Connection.request(conn, "DELETE", t.target, headers, nil, deadline)
    end
  end

  defp token({module, arg}), do: module.token(arg)

  @spec os_pid(t()) :: nil
  def os_pid(_t), do: nil

  @spec stderr(t()) :: String.t()
  def stderr(_t), do: ""
end
