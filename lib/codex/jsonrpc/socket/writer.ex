defmodule Codex.JSONRPC.Socket.Writer do
  @moduledoc false
  # Writes to a socket in a process of its own, because a send blocks while the peer does not read,
  # and a blocked connection process would miss its timeouts.
  #
  # The waiting bytes have no limit of their own. The connection reads nothing more while `busy?/1`,
  # so a peer cannot ask for answers that it does not read; a send that takes too long closes the
  # socket.

  @enforce_keys [:pid, :waiting]
  defstruct [:pid, :waiting]

  @type t :: %__MODULE__{pid: pid(), waiting: :atomics.atomics_ref()}

  # With more waiting bytes, nothing is read.
  @most 1024 * 1024

  @doc """
  Starts a writer, linked to the caller. It sends the caller `{:sent, socket}` when it is not busy
  any more, and `{:send_failed, socket, reason}` at most once; it drops all later bytes.
  """
  @spec start(:gen_tcp | :ssl, term()) :: t()
  def start(module, socket) do
    owner = self()
    waiting = :atomics.new(1, [])
    %__MODULE__{pid: spawn_link(fn -> loop(module, socket, owner, waiting) end), waiting: waiting}
  end

  @doc "Writes bytes behind those that wait."
  @spec write(t(), iodata()) :: :ok
  def write(writer, bytes) do
    :ok = :atomics.add(writer.waiting, 1, IO.iodata_length(bytes))
    _ = send(writer.pid, {:write, bytes})
    :ok
  end

  @doc "Returns the number of bytes that the socket has not taken."
  @spec waiting(t()) :: non_neg_integer()
  def waiting(writer), do: :atomics.get(writer.waiting, 1)

  @doc "Returns whether nothing more should be read; then `{:sent, socket}` follows."
  @spec busy?(t()) :: boolean()
  def busy?(writer) do
    busy? = waiting(writer) > @most
    if busy?, do: send(writer.pid, :tell)
    busy?
  end

  @doc "Ends the writer. Waiting bytes are written if that takes at most `ms`."
  @spec stop(t(), non_neg_integer()) :: :ok
  def stop(writer, ms) do
    ref = Process.monitor(writer.pid)
    true = Process.unlink(writer.pid)
    _ = send(writer.pid, :stop)

    receive do
      {:DOWN, ^ref, :process, _pid, _reason} -> :ok
    after
      ms ->
        true = Process.exit(writer.pid, :kill)
        receive(do: ({:DOWN, ^ref, :process, _pid, _reason} -> :ok))
    end
  end

  defp loop(module, socket, owner, waiting) do
    receive do
      # These two follow all earlier writes in the mailbox.
      :stop ->
        :ok

      :tell ->
        _ = send(owner, {:sent, socket})
        loop(module, socket, owner, waiting)

      {:write, bytes} ->
        case module.send(socket, bytes) do
          :ok ->
            :ok = :atomics.sub(waiting, 1, IO.iodata_length(bytes))
            loop(module, socket, owner, waiting)

          {:error, reason} ->
            _ = send(owner, {:send_failed, socket, reason})
            drop(socket, owner)
        end
    end
  end

  defp drop(socket, owner) do
    receive do
      :stop ->
        :ok

      :tell ->
        _ = send(owner, {:sent, socket})
        drop(socket, owner)

      {:write, _bytes} ->
        drop(socket, owner)
    end
  end
end
