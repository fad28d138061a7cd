defmodule Codex.JSONRPC.Flow.Reader do
  @moduledoc false
  # One reader of a connection: an estimate of its mailbox, and the messages spooled for it.

  import Kernel, except: [send: 2]

  # The memory of a spooled message besides its bytes.
  @overhead 320
  # Bytes of a spool that are sent at a time: at least, even if a mailbox may hold few messages, and
  # at most, even if it may hold many.
  @least 64 * 1024
  @most 1024 * 1024
  # The time limit of another node for the length of a mailbox.
  @patience 5_000

  defstruct count: 0, bytes: 0, length: 0, asked: nil, spool: nil, spooled: 0, over?: false

  @typedoc """
    * `count`, `bytes` - at most so many of our messages are in the mailbox, with about so many
      bytes
    * `length` - of the mailbox: as last seen, and the messages sent since then
    * `asked` - of a reader on another node: `count` when its node was asked for the length
    * `spool` - messages that wait, with their keys; nil if messages are sent as they come
    * `spooled` - bytes of the spool
    * `over?` - whether the spool exceeded its limit
  """
  @type t :: %__MODULE__{
          count: non_neg_integer(),
          bytes: non_neg_integer(),
          length: non_neg_integer(),
          asked: non_neg_integer() | nil,
          spool: :queue.queue({term(), binary()}) | nil,
          spooled: non_neg_integer(),
          over?: boolean()
        }

  @typedoc "Messages and bytes above which a mailbox is full."
  @type limits :: {pos_integer(), pos_integer()}

  @doc """
  Sends a message. Returns false if the reader is on another node to which nothing can be sent now,
  which would block the connection.
  """
  @spec send(pid(), tuple()) :: boolean()
  def send(pid, message) when node(pid) == node() do
    Kernel.send(pid, message)
    true
  end

  # If the node is not connected, the connection's monitor reports that.
  def send(pid, message), do: Process.send(pid, message, [:nosuspend, :noconnect]) != :nosuspend

  @doc "Counts `n` messages that were sent, out of so many bytes."
  @spec count(t(), pos_integer(), non_neg_integer()) :: t()
  def count(reader, n, bytes) do
    %{
      reader
      | count: reader.count + n,
        length: reader.length + n,
        bytes: reader.bytes + bytes
    }
  end

  @doc "Returns whether the mailbox is full, as far as is known."
  @spec full?(t(), limits()) :: boolean()
  def full?(reader, {max_queue, max_bytes}),
    do: reader.length > max_queue or (reader.bytes > max_bytes and reader.length > 0)

  @doc "Looks at a mailbox that may be full, and sends spooled messages if it has room."
  @spec update(t(), pid(), limits()) :: t()
  def update(%{spool: nil} = reader, pid, limits),
    do: if(full?(reader, limits), do: look(reader, pid, limits), else: reader)

  def update(reader, pid, limits), do: reader |> look(pid, limits) |> flush(pid, limits)

  # The VM interrupts a running process for this, so the length is read only if needed.
  defp look(reader, pid, _limits) when node(pid) == node() do
    case Process.info(pid, :message_queue_len) do
      {:message_queue_len, length} -> shrink(reader, length)
      nil -> reader
    end
  end

  # Only its own node knows. Until that has answered, all messages count.
  defp look(%{asked: nil} = reader, pid, limits) do
    if full?(reader, limits) do
      conn = self()
      ask = fn -> Kernel.send(conn, {:mailbox, pid, ask(pid)}) end
      {:ok, _} = Task.Supervisor.start_child(Codex.TaskSupervisor, ask)
      %{reader | asked: reader.count}
    else
      reader
    end
  end

  defp look(reader, _pid, _limits), do: reader

  defp ask(pid) do
    {:message_queue_len, length} =
      :erpc.call(node(pid), :erlang, :process_info, [pid, :message_queue_len], @patience)

    length
  catch
    # The connection's monitor reports a reader that is gone.
    _kind, _reason -> nil
  end

  # Messages that left the mailbox took their share of the bytes.
  defp shrink(reader, length) when length >= reader.count, do: %{reader | length: length}

  defp shrink(reader, length) do
    bytes = div(reader.bytes * length, reader.count)
    %{reader | count: length, bytes: bytes, length: length}
  end

  @doc "Takes the length that another node reported; nil if it did not."
  @spec seen(t(), non_neg_integer() | nil) :: t()
  def seen(reader, nil), do: %{reader | asked: nil}

  # Messages sent meanwhile count as if all were still there.
  def seen(reader, length) do
    asked = reader.asked || reader.count
    shrink(%{reader | asked: nil}, min(length, asked) + reader.count - asked)
  end

  # --- Spool ------------------------------------------------------------------------------------

  @spec spooled?(t()) :: boolean()
  def spooled?(reader), do: reader.spool != nil

  @doc "Spools the next messages."
  @spec hold(t()) :: t()
  def hold(%{spool: nil} = reader), do: %{reader | spool: :queue.new()}
  def hold(reader), do: reader

  @doc "Spools a message, if the spool has at most `most` bytes with it."
  @spec spool(t(), term(), binary(), pos_integer()) :: t()
  def spool(%{over?: true} = reader, _key, _binary, _most), do: reader

  def spool(reader, key, binary, most) do
    reader = hold(reader)
    spooled = reader.spooled + size(binary)

    if spooled > most,
      do: %{reader | over?: true, spool: :queue.new(), spooled: 0},
      else: %{reader | spool: :queue.in({key, binary}, reader.spool), spooled: spooled}
  end

  defp size(binary), do: byte_size(binary) + @overhead

  defp flush(%{over?: true} = reader, _pid, _limits), do: reader

  defp flush(reader, pid, {max_queue, _} = limits) do
    if full?(reader, limits),
      do: reader,
      else: flush(reader, pid, max_queue - reader.length, 0)
  end

  defp flush(reader, _pid, count, bytes) when bytes > @most or (count <= 0 and bytes > @least),
    do: reader

  defp flush(reader, pid, count, bytes) do
    case :queue.out(reader.spool) do
      {{:value, {_key, binary}}, spool} ->
        if send(pid, :erlang.binary_to_term(binary)) do
          spooled = reader.spooled - size(binary)
          reader = count(%{reader | spool: spool, spooled: spooled}, 1, size(binary))
          flush(reader, pid, count - 1, bytes + size(binary))
        else
          reader
        end

      {:empty, _} ->
        %{reader | spool: nil}
    end
  end

  @doc "Drops the spooled messages of a key."
  @spec forget(t(), term()) :: t()
  def forget(%{spool: nil} = reader, _key), do: reader

  def forget(reader, key) do
    spool = :queue.filter(fn {other, _} -> other != key end, reader.spool)
    spooled = :queue.fold(fn {_, binary}, sum -> sum + size(binary) end, 0, spool)
    %{reader | spool: if(spooled > 0, do: spool), spooled: spooled}
  end

  @doc "Sends all spooled messages."
  @spec close(t(), pid()) :: :ok
  def close(%{spool: nil}, _pid), do: :ok

  def close(reader, pid) do
    reader.spool
    |> :queue.to_list()
    |> Enum.each(fn {_key, binary} -> send(pid, :erlang.binary_to_term(binary)) end)
  end
end
