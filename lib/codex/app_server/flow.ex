defmodule Codex.AppServer.Flow do
  @moduledoc false
  # Flow control of a connection, for each of its readers: subscribers, and those who follow turns.
  #
  # If a reader with a full mailbox is the only one with work, nothing more is read, and the server
  # waits at its pipe. If others have work, the messages of the full reader are spooled here, and sent
  # in order as its mailbox empties. A reader whose spool is over its limit gets no more, and the
  # connection cuts it off.
  #
  # A mailbox is full when it holds too many messages, or too many bytes of them. The bytes of one
  # message are not known: the bytes that were read are counted for each reader that got something of
  # them, and the bytes in its mailbox are estimated by the messages that are left there.
  #
  # Messages are spooled in the external term format. Its bytes are what they take, and they are not
  # copied when the connection collects its garbage.

  alias Codex.AppServer.Flow.Reader

  @enforce_keys [:max_queue, :max_bytes]
  defstruct [:max_queue, :max_bytes, :last, readers: %{}, spools: 0]

  @typedoc """
  `t:key/0` is what a message belongs to: a subscription, or a turn that is followed. `last` is the
  message that was spooled last, for other readers of the same; `spools` is how many have a spool.
  """
  @type key :: :subscription | {thread_id :: String.t(), turn_id :: String.t()}
  @type t :: %__MODULE__{
          max_queue: pos_integer(),
          max_bytes: pos_integer(),
          readers: %{pid() => Reader.t()},
          spools: non_neg_integer(),
          last: {term(), binary()} | nil
        }

  @doc "No readers yet."
  @spec new(%{
          :max_queue => pos_integer(),
          :max_spool_bytes => pos_integer(),
          optional(atom()) => term()
        }) :: t()
  def new(%{max_queue: queue, max_spool_bytes: bytes}),
    do: %__MODULE__{max_queue: queue, max_bytes: bytes}

  @doc """
  Whether a message for this process can be sent right away, by the caller: nothing is spooled for
  anybody, and the process is on this node.
  """
  defguard is_direct(flow, pid) when :erlang.map_get(:spools, flow) == 0 and node(pid) == node()

  @doc "Sends a reader a message, behind those that wait for it: `:sent`, or that it was spooled."
  @spec send(t(), pid(), key(), tuple()) :: :sent | {:spooled, t()}
  def send(flow, pid, key, message) do
    if spooled?(flow, pid) or not Reader.send(pid, message) do
      reader = Map.get(flow.readers, pid) || %Reader{}
      {binary, flow} = encode(flow, message)
      spools = if Reader.spooled?(reader), do: flow.spools, else: flow.spools + 1
      reader = Reader.spool(reader, key, binary, flow.max_bytes)
      {:spooled, %{flow | readers: Map.put(flow.readers, pid, reader), spools: spools}}
    else
      :sent
    end
  end

  defp encode(%{last: {message, binary}} = flow, message), do: {binary, flow}

  defp encode(flow, message) do
    binary = :erlang.term_to_binary(message)
    {binary, %{flow | last: {message, binary}}}
  end

  defp put(flow, pid, reader), do: readers(flow, Map.put(flow.readers, pid, reader))

  defp readers(flow, readers) do
    spools = Enum.count(readers, fn {_pid, reader} -> Reader.spooled?(reader) end)
    %{flow | readers: readers, spools: spools}
  end

  @doc """
  Decides whether more is read, after `bytes` were.

  `sent` are the readers that got something of them, each as often as it did. Readers with room get
  what waits for them. For full ones of `listeners` messages are spooled from now on, if others have
  work; `waiting?` tells whether a request waits for its answer.

  Returns `:grant` or `:wait`, and the readers that are over.
  """
  @spec next(t(), [pid()], boolean(), non_neg_integer(), [pid()]) ::
          {:grant | :wait, [pid()], t()}
  def next(flow, listeners, waiting?, bytes, sent) do
    flow = flow |> count(sent) |> look(bytes)
    listeners = MapSet.new(listeners)
    {full, others} = Enum.split_with(listeners, &full?(flow.readers[&1], flow))
    flow = readers(flow, Map.filter(flow.readers, &kept?(&1, listeners)))
    over = for {pid, %{over?: true}} <- flow.readers, do: pid

    cond do
      full == [] -> {:grant, over, %{flow | last: nil}}
      waiting? or others != [] -> {:grant, over, Enum.reduce(full, flow, &hold/2)}
      true -> {:wait, over, flow}
    end
  end

  # Most often many in a row are for the same one.
  defp count(flow, []), do: flow
  defp count(flow, [pid | rest]), do: count(flow, rest, pid, 1)

  defp count(flow, [pid | rest], pid, n), do: count(flow, rest, pid, n + 1)

  defp count(flow, rest, pid, n) do
    reader = Map.get(flow.readers, pid) || %Reader{}
    reader = %{reader | sent: reader.sent + n}
    count(%{flow | readers: Map.put(flow.readers, pid, reader)}, rest)
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

  @doc "Whether something is spooled for this reader."
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
  def forget(flow, pid, :all),
    do: readers(%{flow | last: nil}, Map.delete(flow.readers, pid))

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
