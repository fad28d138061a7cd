defmodule Codex.SessionStore.File do
  @moduledoc """
  A session store in a directory, which nodes may share.

      store = {Codex.SessionStore.File, path: "/mnt/shared/codex"}

  Options:

    * `:path` - the directory; it is made if it is missing. Required
    * `:sync` - whether each append is written to the disk before it returns (default false: a
      crash of the machine may lose the last lines, which the next turn sends again)

  A thread is a folder `<thread id>/` of mode 0700 with its files, plain and of mode 0600. Appends
  of all processes and nodes exclude each other with a file lock, so a network file system must
  support `flock`. A write that was cut leaves half a line, which counts as missing and is
  overwritten. Links are not followed.
  """

  @behaviour Codex.SessionStore

  alias Codex.FileSystem

  @lock ".lock"
  @lock_ms 5_000

  # The part that is searched for the last newline.
  @tail 64 * 1024

  @impl true
  def append(opts, {thread, file}, offset, bytes) do
    folder = Path.join(root(opts), thread)

    with :ok <- private(root(opts)),
         :ok <- private(folder),
         {:ok, result} <-
           FileSystem.with_lock(Path.join(folder, @lock), @lock_ms, fn ->
             write(Path.join(folder, file), offset, bytes, sync?(opts))
           end),
         do: result
  end

  defp root(opts), do: opts |> Access.fetch!(:path) |> IO.chardata_to_string()
  defp sync?(opts), do: Access.get(opts, :sync) == true

  defp private(folder) do
    case :file.read_link_info(folder, [:raw]) do
      {:ok, info} -> if type(info) == :directory, do: :ok, else: {:error, :not_a_directory}
      {:error, :enoent} -> made(FileSystem.make_private(folder))
      error -> error
    end
  end

  # Another process may have made it meanwhile.
  defp made({:error, reason}) when reason == :eexist, do: :ok
  defp made(result), do: result

  defp type(info), do: File.Stat.from_record(info).type

  defp write(path, offset, bytes, sync?) do
    case whole_size(path) do
      {:ok, ^offset} -> opened(path, &put(&1, path, offset, bytes, sync?))
      {:ok, have} -> {:error, {:conflict, have}}
      error -> error
    end
  end

  defp opened(path, fun) do
    with {:ok, io} <- :file.open(path, [:read, :write, :raw, :binary]) do
      result = fun.(io)
      closed = :file.close(io)
      if result == :ok, do: closed, else: result
    end
  end

  # Half a line behind the offset is cut off first.
  defp put(io, path, offset, bytes, sync?) do
    with :ok <- if(offset == 0, do: File.chmod(path, 0o600), else: :ok),
         {:ok, ^offset} <- :file.position(io, offset),
         :ok <- :file.truncate(io),
         :ok <- :file.pwrite(io, offset, bytes),
         do: if(sync?, do: :file.sync(io), else: :ok)
  end

  @impl true
  def read(opts, {thread, file}, offset, max_bytes) do
    path = Path.join([root(opts), thread, file])

    with {:ok, size} when size > offset <- whole_size(path),
         {:ok, io} <- :file.open(path, [:read, :raw, :binary]) do
      result = :file.pread(io, offset, min(max_bytes, size - offset))
      :ok = :file.close(io)
      if result == :eof, do: {:ok, ""}, else: result
    else
      {:ok, _size} -> {:ok, ""}
      error -> error
    end
  end

  @impl true
  def files(opts, thread_id) do
    folder = Path.join(root(opts), thread_id)

    case FileSystem.list(folder) do
      {:ok, names} -> sizes(folder, names -- [@lock], [])
      {:error, reason} when reason in [:enoent, :enotdir] -> {:ok, []}
      error -> error
    end
  end

  # A file whose first write was cut, or that is just being deleted, is none.
  defp sizes(_folder, [], files), do: {:ok, files}

  defp sizes(folder, [name | names], files) do
    case whole_size(Path.join(folder, name)) do
      {:ok, 0} -> sizes(folder, names, files)
      {:ok, size} -> sizes(folder, names, [{name, size} | files])
      error -> error
    end
  end

  @impl true
  def threads(opts, after_id, limit) do
    case FileSystem.list(root(opts)) do
      {:ok, names} ->
        later = if after_id, do: Enum.filter(names, &(&1 > after_id)), else: names
        ids = Stream.filter(later, &match?({:ok, [_ | _]}, files(opts, &1)))
        {:ok, Enum.take(ids, limit)}

      {:error, reason} when reason in [:enoent, :enotdir] ->
        {:ok, []}

      error ->
        error
    end
  end

  @impl true
  def delete(opts, thread_id) do
    folder = Path.join(root(opts), thread_id)

    with true <- FileSystem.dir?(folder),
         {:ok, result} <-
           FileSystem.with_lock(Path.join(folder, @lock), @lock_ms, fn -> clear(folder) end) do
      result
    else
      false -> :ok
      error -> error
    end
  end

  # The lock stays: removing it would let two writers lock two files.
  defp clear(folder) do
    with {:ok, names} <- FileSystem.list(folder) do
      names = names -- [@lock]
      Enum.find_value(names, :ok, &failed(:file.delete(Path.join(folder, &1), [:raw])))
    end
  end

  defp failed(:ok), do: nil
  defp failed(error), do: error

  ## Sizes

  # Up to the last newline.
  defp whole_size(path) do
    case :file.read_link_info(path, [:raw]) do
      {:ok, info} -> regular(path, File.Stat.from_record(info))
      {:error, :enoent} -> {:ok, 0}
      error -> error
    end
  end

  defp regular(_path, %{type: :directory}), do: {:error, {:not_regular, :directory}}
  defp regular(_path, %{type: type}) when type != :regular, do: {:error, {:not_regular, :other}}
  defp regular(_path, %{size: 0}), do: {:ok, 0}

  defp regular(path, %{size: size}) do
    with {:ok, io} <- :file.open(path, [:read, :raw, :binary]) do
      result = last_newline(io, size, 1)
      :ok = :file.close(io)
      result
    end
  end

  # Usually the last byte.
  defp last_newline(_io, 0, _count), do: {:ok, 0}

  defp last_newline(io, size, count) do
    from = max(size - count, 0)

    with {:ok, bytes} <- :file.pread(io, from, size - from) do
      case :binary.matches(bytes, "\n") do
        [] -> last_newline(io, from, @tail)
        matches -> {:ok, from + elem(List.last(matches), 0) + 1}
      end
    end
  end
end
