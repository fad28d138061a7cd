defmodule Codex.MCP.Oversized do
  @moduledoc false
  # Messages of the server over a limit. Such a message was the answer of a request, but nobody
  # knows of which: it is clear as soon as no other requests of that time are left without an
  # answer.

  alias Codex.JSONRPC.Message

  @enforce_keys [:reason, :count, :ids]
  defstruct @enforce_keys

  @type t :: %__MODULE__{reason: term(), count: pos_integer(), ids: [Message.id()]}

  @doc "Takes a message over a limit. `sent` are the requests without an answer."
  @spec add(t() | nil, term(), %{Message.id() => term()}) :: t()
  def add(nil, reason, sent), do: %__MODULE__{reason: reason, count: 1, ids: Map.keys(sent)}
  def add(oversized, reason, _sent), do: %{oversized | reason: reason, count: oversized.count + 1}

  @doc "Returns the requests whose answers were too long, once they are clear."
  @spec found(t() | nil, %{Message.id() => term()}) :: {[Message.id()], t() | nil}
  def found(nil, _sent), do: {[], nil}

  def found(oversized, sent) do
    ids = Enum.filter(oversized.ids, &is_map_key(sent, &1))

    if length(ids) > oversized.count,
      do: {[], %{oversized | ids: ids}},
      else: {ids, nil}
  end
end
