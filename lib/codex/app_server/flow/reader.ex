defmodule Codex.AppServer.Flow.Reader do
  @moduledoc false
  # What a connection knows of one reader: about how much lies in its mailbox, and what is spooled
  # for it.

  import Kernel, except: [send: 2]

  # What a spooled message takes besides its bytes.
  @overhead 320
  # How much of a spool is sent at a time, in bytes: at least, however few messages a mailbox may
  # hold, and at most, however many.
  @least 64 * 1024
  @most 1024 * 1024
  # How long a node may take to tell of a mailbox.
  @patience 5_000

  defstruct sent: 0,
            count: 0,
            bytes: 0,
            length: 0,
            asked: nil,
            spool: nil,
            spooled: 0,
            over?: false

  @typedoc """
    * `sent` - messages since the last look at its mailbox
    * `count`, `bytes` - messages of ours that may lie there, and about how many bytes they took
    * `length` - of its mailbox, when that was looked at
    * `asked` - of a reader on another node: what was sent before its node was asked for the length
    * `spool` - what waits, with what it belongs to; nil where messages are sent as they come
    * `spooled` - bytes of the spool
    * `over?` - whether these were too many
  """
  @type t :: %__MODULE__{
          sent: non_neg_integer(),
          count: non_neg_integer(),
          bytes: non_neg_integer(),
          length: non_neg_integer(),
          asked: non_neg_integer() | nil,
          spool: :queue.queue({Codex.AppServer.Flow.key(), binary()}) | nil,
          spooled: non_neg_integer(),
          over?: boolean()
        }

  @doc """
  Sends a message, unless the reader is on another node to which nothing can be sent now: that would
  hold up the connection.
  """
  @spec send(pid(), tuple()) :: boolean()
  def send(pid, message) when node(pid) == node() do
    Kernel.send(pid, message)
    true
  end

  # Of a node that is not connected, the monitor of the connection tells.
  def send(pid, message), do: Process.send(pid, message, [:nosuspend, :noconnect]) != :nosuspend

  @spec spooled?(t()) :: boolean()
  def spooled?(reader), do: reader.spool != nil

  @doc "What comes next is spooled."
  @spec hold(t()) :: t()
  def hold(%{spool: nil} = reader), do: %{reader | spool: :queue.new()}
  def hold(reader), do: reader

  @doc "Spools a message."
  @spec spool(t(), Codex.AppServer.Flow.key(), binary(), pos_integer()) :: t()
  def spool(%{over?: true} = reader, _key, _binary, _most), do: reader

  def spool(reader, key, binary, most) do
    reader = hold(reader)
    spooled = reader.spooled + size(binary)

    if spooled > most,
      do: %{reader | over?: true, spool: :queue.new(), spooled: 0},
      else: %{reader | spool: :queue.in({key, binary}, reader.spool), spooled: spooled}
  end

  defp size(binary), do: byte_size(binary) + @overhead

  @doc "Looks at the mailbox, after `bytes` were read."
  @spec look(t(), pid(), non_neg_integer(), pos_integer()) :: t()
  def look(reader, pid, bytes, _most) when node(pid) == node() do
    case Process.info(pid, :message_queue_len) do
      {:message_queue_len, length} -> reader |> count(bytes) |> shrink(length)
      nil -> reader
    end
  end

  # Only its own node knows, and is asked after as many messages as may lie there. Until it has
  # answered, all of them do.
  def look(reader, pid, bytes, most) do
    reader = count(reader, bytes)
    if reader.count > most and reader.asked == nil, do: ask(reader, pid), else: reader
  end

  defp count(%{sent: 0} = reader, _bytes), do: reader

  defp count(reader, bytes) do
    count = reader.count + reader.sent
    length = reader.length + reader.sent
    %{reader | sent: 0, count: count, length: length, bytes: reader.bytes + bytes}
  end

  # What is no more there has taken its share of the bytes.
  defp shrink(reader, length) when length >= reader.count, do: %{reader | length: length}

  defp shrink(reader, length) do
    bytes = div(reader.bytes * length, reader.count)
    %{reader | count: length, bytes: bytes, length: length}
  end

  defp ask(reader, pid) do
    conn = self()

    {:ok, _} =
      Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
        Kernel.send(conn, {:mailbox, pid, ask(pid)})
      end)

    %{reader | asked: reader.count}
  end

  defp ask(pid) do
    {:message_queue_len, length} =
      :erpc.call(node(pid), :erlang, :process_info, [pid, :message_queue_len], @patience)

    length
  catch
    # The monitor of the connection tells of a reader that is gone.
    _kind, _reason -> nil
  end

  @doc "What the node of a reader says of its mailbox; nil where it does not say it."
  @spec seen(t(), non_neg_integer() | nil) :: t()
  def seen(reader, nil), do: %{reader | asked: nil}

  # What was sent meanwhile is counted as if it were all there.
  def seen(reader, length) do
    since = reader.count - (reader.asked || reader.count)
    shrink(%{reader | asked: nil}, min(length, reader.asked || length) + since)
  end

  @doc "Whether too much lies in the mailbox."
  @spec full?(t(), pos_integer(), pos_integer()) :: boolean()
  def full?(reader, max_queue, max_bytes),
    do: reader.length > max_queue or (reader.bytes > max_bytes and reader.length > 0)

  @doc "Sends of the spool what the mailbox has room for."
  @spec flush(t(), pid(), {pos_integer(), pos_integer()}) :: t()
  def flush(%{spool: nil} = reader, _pid, _most), do: reader
  def flush(%{over?: true} = reader, _pid, _most), do: reader

  def flush(reader, pid, {max_queue, max_bytes}) do
    if full?(reader, max_queue, max_bytes),
      do: reader,
      else: flush(reader, pid, max_queue - reader.length, 0)
  end

  defp flush(reader, _pid, count, bytes) when bytes > @most or (count <= 0 and bytes > @least),
    do: reader

  defp flush(reader, pid, count, bytes) do
    case :queue.out(reader.spool) do
      {{:value, {_key, binary}}, spool} ->
        if send(pid, :erlang.binary_to_term(binary)) do
          flush(sent(reader, spool, binary), pid, count - 1, bytes + size(binary))
        else
          reader
        end

      {:empty, _} ->
        %{reader | spool: nil}
    end
  end

  defp sent(reader, spool, binary) do
    %{
      reader
      | spool: spool,
        spooled: reader.spooled - size(binary),
        count: reader.count + 1,
        length: reader.length + 1,
        bytes: reader.bytes + size(binary)
    }
  end

  @doc "Nothing that belongs to this is sent any more."
  @spec forget(t(), Codex.AppServer.Flow.key()) :: t()
  def forget(%{spool: nil} = reader, _key), do: reader

  def forget(reader, key) do
    spool = :queue.filter(fn {other, _} -> other != key end, reader.spool)
    spooled = :queue.fold(fn {_, binary}, sum -> sum + size(binary) end, 0, spool)
    %{reader | spool: if(spooled > 0, do: spool), spooled: spooled}
  end

  @doc "Sends all that is spooled."
  @spec close(t(), pid()) :: :ok
  def close(%{spool: nil}, _pid), do: :ok

  def close(reader, pid) do
    reader.spool
    |> :queue.to_list()
    |> Enum.each(fn {_key, binary} -> send(pid, :erlang.binary_to_term(binary)) end)
  end
end
