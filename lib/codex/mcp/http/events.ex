defmodule Codex.MCP.HTTP.Events do
  @moduledoc false
  # The events of one stream: messages, and the place and the pause for opening it again.

  alias Codex.{JSON, Native}
  alias Codex.JSONRPC.Message

  @enforce_keys [:decoder]
  defstruct [:decoder, :last_id, :retry, attempts: 0, unread: 0]

  @typedoc """
    * `last_id` - the id of the newest event that had one
    * `retry` - the milliseconds that the server asks to wait, or nil
    * `attempts` - how often the stream was opened again since its last event
    * `unread` - bytes since the last message
  """
  @type t :: %__MODULE__{
          decoder: reference(),
          last_id: String.t() | nil,
          retry: non_neg_integer() | nil,
          attempts: non_neg_integer(),
          unread: non_neg_integer()
        }

  @doc "Returns the state of a new stream. `config` has the limits of messages."
  @spec new(map()) :: t()
  def new(config), do: %__MODULE__{decoder: Native.sse_new(config.max_message_bytes)}

  @doc "Returns the state of a stream that was opened again."
  @spec reopened(t(), map()) :: t()
  def reopened(events, config), do: %{events | decoder: new(config).decoder}

  @doc "Takes bytes of the stream."
  @spec feed(t(), binary(), map()) ::
          {:ok, [{:message, Message.t()} | {:endpoint, String.t()}], t()}
  def feed(events, bytes, config) do
    found = decode(events.decoder, bytes, &Native.sse_feed/3, 0)
    events = %{events | unread: events.unread + byte_size(bytes)}

    {found, events} =
      Enum.reduce(found, {[], events}, fn event, {found, events} ->
        {more, events} = event(event, events, config)
        {more ++ found, events}
      end)

    {:ok, Enum.reverse(found), events}
  end

  defp decode(decoder, bytes, feed, at) do
    case feed.(decoder, bytes, at) do
      {events, :done} -> events
      {events, {:more, at}} -> events ++ decode(decoder, bytes, &Native.sse_feed/3, at)
      {events, {:long, at}} -> events ++ decode(decoder, bytes, &Native.sse_feed_long/3, at)
    end
  end

  defp event({:retry, ms}, events, _config), do: {[], %{events | retry: ms}}

  defp event({:too_long, size}, events, _config),
    do: {[{:message, {:malformed, {:oversized, size}}}], events}

  defp event({:event, kind, data, id}, events, config) do
    events = %{id(events, id) | attempts: 0}

    case kind do
      "endpoint" ->
        {[{:endpoint, data}], events}

      # An event without data only has an id.
      kind when kind in [nil, "", "message"] and data != "" ->
        {[{:message, message(data, config)}], events}

      _other ->
        {[], events}
    end
  end

  defp id(events, nil), do: events
  defp id(events, ""), do: %{events | last_id: nil}
  defp id(events, id), do: %{events | last_id: id}

  @doc "Returns the message of a JSON text."
  @spec message(binary(), map()) :: Message.t()
  def message(text, config) do
    case JSON.decode(text, config.max_message_nodes) do
      {:ok, term} -> Message.from_term(term)
      {:error, {:nodes, _at}} -> {:malformed, {:overfull, config.max_message_nodes}}
      {:error, _} -> {:malformed, :not_json}
    end
  end

  @doc "Returns whether a message is the answer to a request, or a batch with it."
  @spec answer?(Message.t(), Message.id()) :: boolean()
  def answer?({kind, id, _value}, id) when kind in [:result, :error], do: true
  def answer?({:batch, messages}, id), do: Enum.any?(messages, &answer?(&1, id))
  def answer?(_message, _id), do: false
end
