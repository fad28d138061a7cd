defmodule Codex.SessionStore.Adapter do
  @moduledoc false
  # Calls an adapter in a process of its own, with a limit of time, and checks what it returns. The
  # process ends with its caller.

  alias Codex.OwnerMonitor
  alias Codex.SessionStore
  alias Codex.SessionStore.Name

  @type failed :: {:error, {:session_store_failed, atom(), SessionStore.failure()}}

  @doc "Appends bytes."
  @spec append(SessionStore.t(), SessionStore.key(), non_neg_integer(), binary()) ::
          :ok | {:conflict, non_neg_integer()} | failed()
  def append(store, key, offset, bytes) do
    call(store, :append, [key, offset, bytes], fn
      :ok -> :ok
      {:error, {:conflict, have}} when is_integer(have) and have >= 0 -> {:conflict, have}
      other -> other
    end)
  end

  @doc "Reads bytes."
  @spec read(SessionStore.t(), SessionStore.key(), non_neg_integer(), pos_integer()) ::
          {:ok, binary()} | failed()
  def read(store, key, offset, most) do
    call(store, :read, [key, offset, most], fn
      {:ok, bytes} when is_binary(bytes) and byte_size(bytes) <= most -> {:ok, bytes}
      {:ok, _too_much} -> :invalid
      other -> other
    end)
  end

  @doc "Reads so many bytes, or fewer if the file ends before."
  @spec read_all(SessionStore.t(), SessionStore.key(), non_neg_integer(), non_neg_integer()) ::
          {:ok, binary()} | failed()
  def read_all(store, key, from, count), do: read_all(store, key, from, count, [])

  defp read_all(_store, _key, _from, 0, parts),
    do: {:ok, parts |> Enum.reverse() |> IO.iodata_to_binary()}

  defp read_all(store, key, from, count, parts) do
    case read(store, key, from, count) do
      {:ok, ""} ->
        read_all(store, key, from, 0, parts)

      {:ok, bytes} ->
        size = byte_size(bytes)
        read_all(store, key, from + size, count - size, [bytes | parts])

      error ->
        error
    end
  end

  @doc "Returns the files of a thread, the oldest first. Their names are checked."
  @spec files(SessionStore.t(), String.t()) ::
          {:ok, [{String.t(), non_neg_integer()}]}
          | failed()
          | {:error, {:invalid_stored_session, String.t(), :name}}
  def files(store, thread) do
    with {:ok, files} <- call(store, :files, [thread], &list(&1, fn entry -> file?(entry) end)),
         do: named(Enum.sort(files), thread)
  end

  defp named(files, thread) do
    case Enum.find(files, fn {file, _size} -> not of?(file, thread) end) do
      nil -> {:ok, files}
      {file, _size} -> {:error, {:invalid_stored_session, file, :name}}
    end
  end

  defp file?({file, size}), do: is_binary(file) and is_integer(size) and size >= 0
  defp file?(_other), do: false
  defp of?(file, thread), do: match?({:ok, %{thread: ^thread}}, Name.parse(file))

  @doc "Returns ids of threads."
  @spec threads(SessionStore.t(), String.t() | nil, pos_integer()) ::
          {:ok, [String.t()]} | failed()
  def threads(store, after_id, limit),
    do: call(store, :threads, [after_id, limit], &list(&1, fn id -> Name.id?(id) end))

  @doc "Deletes a thread."
  @spec delete(SessionStore.t(), String.t()) :: :ok | failed()
  def delete(store, thread), do: call(store, :delete, [thread], & &1)

  defp list({:ok, list} = result, valid?) when is_list(list) do
    if not List.improper?(list) and Enum.all?(list, valid?), do: result, else: :invalid
  end

  defp list(other, _valid?), do: other

  @ok [:append, :delete]

  defp call(store, callback, arguments, check) do
    case isolated(store, callback, arguments) do
      {:returned, value} -> checked(check.(value), callback)
      failure -> failed(callback, failure)
    end
  end

  defp checked(:ok, callback) when callback in @ok, do: :ok
  defp checked({:conflict, _have} = conflict, :append), do: conflict
  defp checked({:ok, value}, callback) when callback not in @ok, do: {:ok, value}
  defp checked({:error, reason}, callback), do: failed(callback, {:error, reason})
  defp checked(_invalid, callback), do: failed(callback, :invalid)

  defp failed(callback, failure), do: {:error, {:session_store_failed, callback, failure}}

  defp isolated(%{module: module, opts: opts, settings: settings}, callback, arguments) do
    {caller, ref} = {self(), make_ref()}

    {pid, monitor} =
      spawn_monitor(fn ->
        _ = OwnerMonitor.start(caller)
        send(caller, {ref, applied(module, callback, [opts | arguments])})
      end)

    receive do
      {^ref, answer} ->
        Process.demonitor(monitor, [:flush])
        answer

      {:DOWN, ^monitor, :process, ^pid, _reason} ->
        :exited
    after
      settings.call_ms ->
        Process.exit(pid, :kill)

        receive do
          {:DOWN, ^monitor, :process, ^pid, _reason} -> :ok
        end

        receive do
          {^ref, answer} -> answer
        after
          0 -> :timeout
        end
    end
  end

  defp applied(module, callback, arguments) do
    {:returned, apply(module, callback, arguments)}
  rescue
    error -> {:raised, error.__struct__}
  catch
    _exit_or_throw, _reason -> :exited
  end
end
