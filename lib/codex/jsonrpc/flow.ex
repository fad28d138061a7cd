defmodule Codex.JSONRPC.Flow do
  @moduledoc false
  # Flow control of a connection, for each of its readers.
  #
  # If a reader with a full mailbox is the only one with work, nothing more is read, and the server
  # waits at its pipe. If others have work, the messages of the full reader are spooled here, and
  # sent in order as its mailbox empties. A reader whose spool exceeds its limit gets nothing more,
  # and the connection cuts it off.
  #
  # A mailbox is full if it holds too many messages, or too many bytes of them. The bytes of a
  # single message are not known: all bytes that were read count for each reader that got some of
  # them, and the bytes in a mailbox are estimated by the messages that are left there.
  #
  # Messages are spooled in the external term format, which the connection does not copy when it
  # collects its garbage.

  alias Codex.JSONRPC.Flow.Reader

  @enforce_keys [:max_queue, :max_bytes]
  defstruct [:max_queue, :max_bytes, :last, readers: %{}, spools: 0]

  @typedoc """
  A key names the owner of a message, so that its spooled messages can be dropped, see `forget/3`.
  `last` is the message that was spooled last, for other readers of the same message; `spools` is
  the number of readers with a spool.
  """
  @type key :: term()
  @type t :: %__MODULE__{
          max_queue: pos_integer(),
          max_bytes: pos_integer(),
          readers: %{pid() => Reader.t()},
          spools: non_neg_integer(),
          last: {term(), binary()} | nil
        }

  @doc "Makes the flow control of a connection without readers."
  @spec new(%{
          :max_queue => pos_integer(),
          :max_spool_bytes => pos_integer(),
          optional(atom()) => term()
        }) :: t()
  def new(%{max_queue: queue, max_spool_bytes: bytes}),
    do: %__MODULE__{max_queue: queue, max_bytes: bytes}

  @doc """
  Returns whether the caller can send a message to this process by itself: nothing is spooled for
  any reader, and the process is on this node.
  """
  defguard is_direct(flow, pid) when :erlang.map_get(:spools, flow) == 0 and node(pid) == node()

  @doc "Sends a message to a reader, or spools it behind the messages that wait for that reader."
  @spec send(t(), pid(), key(), tuple()) :: :sent | {:spooled, t()}
  def send(flow, pid, key, message) do
    if spooled?(flow, pid) or not Reader.send(pid, message) do
      {binary, flow} = encode(flow, message)
      reader = flow |> reader(pid) |> Reader.spool(key, binary, flow.max_bytes)
      {:spooled, put(flow, pid, reader)}
    else
      :sent
    end
  end

  defp encode(%{last: {message, binary}} = flow, message), do: {binary, flow}

  defp encode(flow, message) do
    binary = :erlang.term_to_binary(message)
    {binary, %{flow | last: {message, binary}}}
  end

  defp reader(flow, pid), do: Map.get(flow.readers, pid) || %Reader{}

  defp put(flow, pid, reader) do
    before = if spooled?(flow, pid), do: 1, else: 0
    spools = flow.spools - before + if(Reader.spooled?(reader), do: 1, else: 0)
    %{flow | readers: Map.put(flow.readers, pid, reader), spools: spools}
  end

  @doc """
  Decides whether more is read, after `bytes` were.

  `sent` lists the readers that got messages, each as often as it did. Readers with room get their
  spooled messages. For full ones among `listeners` messages are spooled from now on if others have
  work; `waiting?` is whether a request waits for its answer.

  Returns `:grant` or `:wait`, and the readers over their limit.
  """
  @spec next(t(), [pid()], boolean(), non_neg_integer(), [pid()]) ::
          {:grant | :wait, [pid()], t()}
  def next(flow, listeners, waiting?, bytes, sent) do
    listeners = MapSet.new(listeners)
    flow = flow |> count(sent, bytes) |> update(listeners)
    {full, others} = Enum.split_with(listeners, &full?(flow, flow.readers[&1]))
    over = for {pid, %{over?: true}} <- flow.readers, do: pid

    cond do
      full == [] -> {:grant, over, %{flow | last: nil}}
      waiting? or others != [] -> {:grant, over, Enum.reduce(full, flow, &hold/2)}
      true -> {:wait, over, flow}
    end
  end

  defp hold(pid, flow), do: put(flow, pid, Reader.hold(flow.readers[pid]))

  defp count(flow, sent, bytes) do
    readers =
      Enum.reduce(counts(sent, %{}), flow.readers, fn {pid, n}, readers ->
        Map.put(readers, pid, flow |> reader(pid) |> Reader.count(n, bytes))
      end)

    %{flow | readers: readers}
  end

  # Often many in a row are for the same reader.
  defp counts([], counts), do: counts
  defp counts([pid | rest], counts), do: counts(rest, counts, pid, 1)

  defp counts([pid | rest], counts, pid, n), do: counts(rest, counts, pid, n + 1)

  defp counts(rest, counts, pid, n),
    do: counts(rest, Map.update(counts, pid, n, &(&1 + n)))

  # A spool outlives its subscription.
  defp update(flow, listeners) do
    limits = {flow.max_queue, flow.max_bytes}

    readers =
      for {pid, reader} <- flow.readers,
          reader = Reader.update(reader, pid, limits),
          Reader.spooled?(reader) or MapSet.member?(listeners, pid),
          into: %{},
          do: {pid, reader}

    spools = Enum.count(readers, fn {_pid, reader} -> Reader.spooled?(reader) end)
    %{flow | readers: readers, spools: spools}
  end

  defp full?(_flow, nil), do: false

  defp full?(flow, reader),
    do: Reader.spooled?(reader) or Reader.full?(reader, {flow.max_queue, flow.max_bytes})

  @doc "Returns whether messages are spooled for this reader."
  @spec spooled?(t(), pid()) :: boolean()
  def spooled?(flow, pid) do
    case flow.readers do
      %{^pid => reader} -> Reader.spooled?(reader)
      _none -> false
    end
  end

  @doc "Handles the message of a process that looked at the mailbox of a reader on another node."
  @spec seen(t(), pid(), non_neg_integer() | nil) :: t()
  def seen(flow, pid, length) do
    case flow.readers do
      %{^pid => reader} -> put(flow, pid, Reader.seen(reader, length))
      _gone -> flow
    end
  end

  @doc "Drops the messages that wait for a reader: all, or those that belong to a key."
  @spec forget(t(), pid(), key() | :all) :: t()
  def forget(flow, pid, :all) do
    flow = put(flow, pid, %Reader{})
    %{flow | readers: Map.delete(flow.readers, pid), last: nil}
  end

  def forget(flow, pid, key) do
    case flow.readers do
      %{^pid => reader} -> put(flow, pid, Reader.forget(reader, key))
      _none -> flow
    end
  end

  @doc "Sends all spooled messages, as the connection ends."
  @spec close(t()) :: :ok
  def close(flow), do: Enum.each(flow.readers, fn {pid, reader} -> Reader.close(reader, pid) end)
end
