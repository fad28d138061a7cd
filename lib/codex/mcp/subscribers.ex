defmodule Codex.MCP.Subscribers do
  @moduledoc false
  # The processes that get the notifications of a server, their resources, and the bytes that the
  # server may send: while a full subscriber is the only reader with work, the server waits.

  alias Codex.JSONRPC.Flow

  # How often a full mailbox is looked at again.
  @poll 10

  @enforce_keys [:flow]
  @derive {Inspect, only: [:pids]}
  defstruct [:flow, :poll, pids: %{}, resources: %{}, owed: 0, sent: []]

  @typedoc """
    * `pids` - subscribers with their monitors; `resources` - the subscribers of each resource
    * `owed` - bytes that came and were not granted again
    * `sent` - subscribers that got messages since the last decision; `poll` - a timer
  """
  @type t :: %__MODULE__{}

  @spec new(map()) :: t()
  def new(options), do: %__MODULE__{flow: Flow.new(options)}

  @spec close(t()) :: :ok
  def close(subscribers), do: Flow.close(subscribers.flow)

  @spec add(t(), pid()) :: t()
  def add(subscribers, pid) do
    monitor = subscribers.pids[pid] || Process.monitor(pid)
    put_in(subscribers.pids[pid], monitor)
  end

  @doc "Adds or removes the wish of a subscriber for a resource."
  @spec want(t(), pid(), String.t(), boolean()) :: t()
  def want(subscribers, pid, uri, wanted?) do
    pids = Map.get(subscribers.resources, uri, MapSet.new())
    pids = if wanted?, do: MapSet.put(pids, pid), else: MapSet.delete(pids, pid)

    if MapSet.size(pids) == 0,
      do: %{subscribers | resources: Map.delete(subscribers.resources, uri)},
      else: put_in(subscribers.resources[uri], pids)
  end

  @doc "Forgets a resource that the server refused."
  @spec refused(t(), String.t()) :: t()
  def refused(subscribers, uri),
    do: %{subscribers | resources: Map.delete(subscribers.resources, uri)}

  @doc "Returns whether there are subscribers, and the resources that they want."
  @spec wanted(t()) :: {boolean(), MapSet.t()}
  def wanted(subscribers),
    do: {subscribers.pids != %{}, subscribers.resources |> Map.keys() |> MapSet.new()}

  @spec remove(t(), pid()) :: t()
  def remove(subscribers, pid) do
    {monitor, pids} = Map.pop(subscribers.pids, pid)
    if monitor, do: Process.demonitor(monitor, [:flush])
    if Flow.spooled?(subscribers.flow, pid), do: send(self(), :collect_garbage)

    resources =
      for {uri, wanting} <- subscribers.resources,
          wanting = MapSet.delete(wanting, pid),
          MapSet.size(wanting) > 0,
          into: %{},
          do: {uri, wanting}

    flow = Flow.forget(subscribers.flow, pid, :all)
    %{subscribers | pids: pids, resources: resources, flow: flow}
  end

  @doc "Sends a notification to those who want it."
  @spec notify(t(), String.t(), map()) :: t()
  def notify(subscribers, method, params) do
    message = {:codex_mcp, self(), {:notification, method, params}}
    subscribers |> readers(method, params) |> Enum.reduce(subscribers, &deliver(&2, &1, message))
  end

  defp readers(subscribers, "notifications/resources/updated", %{"uri" => uri}) do
    wanting = subscribers.resources[uri]
    pids = Map.keys(subscribers.pids)
    if wanting, do: Enum.filter(pids, &(&1 in wanting)), else: pids
  end

  defp readers(subscribers, _method, _params), do: Map.keys(subscribers.pids)

  @doc "Tells all subscribers that the server has ended."
  @spec down(t(), map()) :: t()
  def down(subscribers, info) do
    message = {:codex_mcp, self(), {:down, info}}
    subscribers.pids |> Map.keys() |> Enum.reduce(subscribers, &deliver(&2, &1, message))
  end

  defp deliver(subscribers, pid, message) do
    case Flow.send(subscribers.flow, pid, :subscription, message) do
      :sent -> %{subscribers | sent: [pid | subscribers.sent]}
      {:spooled, flow} -> later(%{subscribers | flow: flow})
    end
  end

  # --- Flow -------------------------------------------------------------------------------------

  @doc "Takes the length of a mailbox on another node."
  @spec seen(t(), pid(), non_neg_integer()) :: t()
  def seen(subscribers, pid, n), do: %{subscribers | flow: Flow.seen(subscribers.flow, pid, n)}

  @doc "Takes the message `:poll`."
  @spec polled(t()) :: t()
  def polled(subscribers), do: %{subscribers | poll: nil}

  @doc """
  Adds bytes that came. Returns how many the server may send again, and the subscribers to cut off.
  `waiting?` says whether others wait for the server.
  """
  @spec grant(t(), non_neg_integer(), boolean()) :: {non_neg_integer(), [pid()], t()}
  def grant(%{owed: 0, flow: %{spools: 0}} = subscribers, 0, _waiting?), do: {0, [], subscribers}

  def grant(subscribers, bytes, waiting?) do
    pids = Map.keys(subscribers.pids)
    {verdict, over, flow} = Flow.next(subscribers.flow, pids, waiting?, bytes, subscribers.sent)
    owed = subscribers.owed + bytes
    subscribers = %{subscribers | flow: flow, owed: owed, sent: []}

    if verdict == :grant do
      subscribers = %{subscribers | owed: 0}
      {owed, over, if(flow.spools > 0, do: later(subscribers), else: subscribers)}
    else
      {0, over, later(subscribers)}
    end
  end

  @doc "Forgets the bytes of a server that has ended."
  @spec reset(t()) :: t()
  def reset(subscribers), do: %{subscribers | owed: 0}

  defp later(%{poll: nil} = subscribers),
    do: %{subscribers | poll: Process.send_after(self(), :poll, @poll)}

  defp later(subscribers), do: subscribers
end
