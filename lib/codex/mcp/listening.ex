defmodule Codex.MCP.Listening do
  @moduledoc false
  # The notifications that a client wants, and the requests for them: in the legacy era a request
  # for each resource and one for the level of the log, which a new session needs again; in the
  # modern era a single stream, which the next stream replaces, and which is opened again after it
  # broke.

  alias Codex.MCP.Protocol

  defstruct wanted?: false,
            uris: MapSet.new(),
            sent: MapSet.new(),
            accepted: MapSet.new(),
            level: nil,
            sent_level: nil,
            stream: nil,
            at: :infinity,
            pause: 1_000

  @typedoc """
    * `wanted?`, `uris` - whether there are subscribers, and the resources that they want
    * `sent` - the resources that a legacy server was asked for; it answered for the `accepted` ones
    * `level` - the least level of the log of a legacy server, nil for its own; `sent_level` - the
      one that this session has
    * `stream` - the caller of the open stream
    * `at`, `pause` - when a broken stream is opened again, and after which pause
  """
  @type t :: %__MODULE__{}

  @type operation ::
          {:request, term(), String.t(), map(), keyword()} | {:cancel, term(), String.t()}

  @first_pause 1_000
  @longest_pause 60_000

  @doc "Takes the wishes of the client."
  @spec want(t(), boolean(), MapSet.t()) :: t()
  def want(listening, wanted?, uris), do: %{listening | wanted?: wanted?, uris: uris}

  @doc "Forgets the requests that were sent, because the session or the server is new."
  @spec forget(t()) :: t()
  def forget(listening) do
    none = MapSet.new()
    %{listening | sent: none, accepted: none, sent_level: nil, stream: nil, at: :infinity}
  end

  @doc "Takes the level of the log that the server was given by a call."
  @spec leveled(t(), term()) :: t()
  def leveled(listening, level), do: %{listening | level: level, sent_level: level}

  @doc "Returns whether no answer is awaited for a resource."
  @spec settled?(t(), Protocol.era() | nil, String.t()) :: boolean()
  def settled?(_listening, :modern, _uri), do: true
  def settled?(listening, _legacy, uri), do: uri in listening.accepted

  @doc "Takes the answer for a resource. A refused one is not wanted any more."
  @spec answered(t(), String.t(), {:ok, term()} | {:error, term()}) :: t()
  def answered(listening, uri, {:ok, _result}),
    do: %{listening | accepted: MapSet.put(listening.accepted, uri)}

  def answered(listening, uri, {:error, _reason}) do
    without = &MapSet.delete(&1, uri)
    %{listening | sent: without.(listening.sent), uris: without.(listening.uris)}
  end

  @doc "Returns the operations of the peer that tell the server about new wishes."
  @spec update(t(), Protocol.era(), map()) :: {[operation()], t()}
  def update(%{uris: uris, sent: sent} = listening, :legacy, _options) do
    added = for uri <- MapSet.difference(uris, sent), do: request("resources/subscribe", uri)
    removed = for uri <- MapSet.difference(sent, uris), do: request("resources/unsubscribe", uri)
    accepted = MapSet.intersection(listening.accepted, uris)
    {level, listening} = level(%{listening | sent: uris, accepted: accepted})
    {added ++ removed ++ level, listening}
  end

  def update(%{stream: before} = listening, :modern, options) do
    cancel = if before, do: [{:cancel, before, "replaced"}], else: []
    listening = %{listening | stream: nil, at: :infinity}

    if listening.wanted? or MapSet.size(listening.uris) > 0 do
      stream = {:listen, make_ref()}
      params = Protocol.with_meta(%{"notifications" => filter(listening)}, options)
      request = {:request, stream, "subscriptions/listen", params, [timeout_ms: :infinity]}
      {cancel ++ [request], %{listening | stream: stream}}
    else
      {cancel, listening}
    end
  end

  defp level(%{level: level, sent_level: level} = listening), do: {[], listening}

  defp level(%{level: level} = listening) do
    method = "logging/setLevel"
    request = {:request, {:listen, method, level}, method, %{"level" => level}, []}
    {[request], %{listening | sent_level: level}}
  end

  defp request(method, uri), do: {:request, {:listen, method, uri}, method, %{"uri" => uri}, []}

  defp filter(listening) do
    %{
      "toolsListChanged" => true,
      "promptsListChanged" => true,
      "resourcesListChanged" => true,
      "resourceSubscriptions" => Enum.sort(listening.uris)
    }
  end

  @doc "Takes the end of a stream. A stream that the server refused is not opened again."
  @spec ended(t(), term(), {:ok, term()} | {:error, term()}, integer()) :: t()
  def ended(%{stream: stream} = listening, stream, result, now) do
    if refused?(result) do
      %{listening | stream: nil}
    else
      pause = min(listening.pause * 2, @longest_pause)
      %{listening | stream: nil, at: now + listening.pause, pause: pause}
    end
  end

  def ended(listening, _replaced, _result, _now), do: listening

  defp refused?({:error, %{"code" => _}}), do: true
  defp refused?({:error, {:http_error, status, _text}}), do: status in 400..499
  defp refused?(_broken), do: false

  @doc "Takes the method of a notification, which may confirm a stream."
  @spec notified(t(), String.t()) :: t()
  def notified(listening, "notifications/subscriptions/acknowledged"),
    do: %{listening | pause: @first_pause}

  def notified(listening, _method), do: listening
end
