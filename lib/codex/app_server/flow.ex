defmodule Codex.AppServer.Flow do
  @moduledoc false
  # Flow control of a connection, for each of its readers: subscribers, and those who follow turns.
  #
  # A reader whose mailbox is full holds up nobody else. If it is the only one with work, nothing more
  # is read, and the server waits at its pipe. If others have work, the messages of the full reader are
  # spooled here and sent in order as its mailbox empties. A reader whose spool is over its limit is
  # over: it gets no more, and the connection cuts it off.
  #
  # A mailbox is full when it holds too many messages, or too many bytes of them. How many bytes a
  # message took is not known, so the bytes that were read are counted for each reader that got
  # something of them, and those of a mailbox are estimated by the messages that are left in it.
  #
  # Messages are spooled in the external term format: its bytes are what they take, and they are not
  # copied when the connection collects its garbage.

  alias Codex.AppServer.Flow.Reader

  @enforce_keys [:max_queue, :max_bytes]
  defstruct [:max_queue, :max_bytes, :last, readers: %{}]

  @typedoc """
  What a message belongs to: a subscription, or a turn that is followed. `last` is the message that was spooled last, for
  others that get the same.
  """
  @type key :: :subscription | {thread_id :: String.t(), turn_id :: String.t()}
  @type t :: %__MODULE__{
          max_queue: pos_integer(),
          max_bytes: pos_integer(),
          readers: %{pid() => Reader.t()},
          last: {term(), binary()} | nil
        }

  @doc "No readers yet."
  @spec new(%{max_queue: pos_integer(), max_spool_bytes: pos_integer()}) :: t()
  def new(%{max_queue: queue, max_spool_bytes: bytes}),
    do: %__MODULE__{max_queue: queue, max_bytes: bytes}

  @doc "Sends a reader a message, behind those that wait for it."
  @spec send(t(), pid(), key(), tuple()) :: t()
  def send(flow, pid, key, message) do
    reader = Map.get(flow.readers, pid) || %Reader{}

    if Reader.spooled?(reader) or not Reader.send(pid, message) do
      {binary, flow} = encode(flow, message)
      put(flow, pid, Reader.spool(reader, key, binary, flow.max_bytes))
    else
      put(flow, pid, %{reader | sent: reader.sent + 1})
    end
  end

  defp encode(%{last: {message, binary}} = flow, message), do: {binary, flow}

  defp encode(flow, message) do
    binary = :erlang.term_to_binary(message)
    {binary, %{flow | last: {message, binary}}}
  end

  defp put(flow, pid, reader), do: %{flow | readers: Map.put(flow.readers, pid, reader)}

  @doc """
  Whether more is read, after `bytes` were: what waits is sent to readers that have room for it, and those in `listeners`
  who have none are spooled for if others have work. `waiting?` tells whether somebody waits for an answer.

  Returns `:grant` or `:wait`, and the readers that are over.
  """
  @spec next(t(), [pid()], boolean(), non_neg_integer()) :: {:grant | :wait, [pid()], t()}
  def next(flow, listeners, waiting?, bytes) do
    flow = look(flow, bytes)
    listeners = MapSet.new(listeners)
    {full, others} = Enum.split_with(listeners, &full?(flow.readers[&1], flow))
    flow = %{flow | readers: Map.filter(flow.readers, &kept?(&1, listeners))}
    over = for {pid, %{over?: true}} <- flow.readers, do: pid

    cond do
      full == [] -> {:grant, over, %{flow | last: nil}}
      waiting? or others != [] -> {:grant, over, Enum.reduce(full, flow, &hold/2)}
      true -> {:wait, over, flow}
    end
  end

  defp look(flow, bytes) do
    readers =
      Map.new(flow.readers, fn {pid, reader} ->
        reader = Reader.look(reader, pid, bytes, flow.max_queue)
        {pid, Reader.flush(reader, pid, {flow.max_queue, flow.max_bytes})}
      end)

    %{flow | readers: readers}
  end

  defp full?(nil, _flow), do: false

  defp full?(reader, flow),
    do: Reader.spooled?(reader) or Reader.full?(reader, flow.max_queue, flow.max_bytes)

  defp kept?({pid, reader}, listeners),
    do: Reader.spooled?(reader) or MapSet.member?(listeners, pid)

  defp hold(pid, flow), do: put(flow, pid, Reader.hold(flow.readers[pid]))

  @doc "Whether something is spooled for anybody, or for this reader."
  @spec spooled?(t()) :: boolean()
  def spooled?(flow),
    do: Enum.any?(flow.readers, fn {_pid, reader} -> Reader.spooled?(reader) end)

  @spec spooled?(t(), pid()) :: boolean()
  def spooled?(flow, pid) do
    case flow.readers do
      %{^pid => reader} -> Reader.spooled?(reader)
      _none -> false
    end
  end

  @doc "A message of a process that looked at the mailbox of a reader on another node."
  @spec seen(t(), pid(), non_neg_integer() | nil) :: t()
  def seen(flow, pid, length) do
    case flow.readers do
      %{^pid => reader} -> put(flow, pid, Reader.seen(reader, length))
      _gone -> flow
    end
  end

  @doc "A reader wants nothing of this any more, or nothing at all: it is gone, or cut off."
  @spec forget(t(), pid(), key() | :all) :: t()
  def forget(flow, pid, :all), do: %{flow | readers: Map.delete(flow.readers, pid), last: nil}

  def forget(flow, pid, key) do
    case flow.readers do
      %{^pid => reader} -> put(flow, pid, Reader.forget(reader, key))
      _none -> flow
    end
  end

  @doc "The connection ends: what waits is sent, as nobody can send it later."
  @spec close(t()) :: :ok
  def close(flow), do: Enum.each(flow.readers, fn {pid, reader} -> Reader.close(reader, pid) end)
end
