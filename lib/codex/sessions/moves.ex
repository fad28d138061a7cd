defmodule Codex.Sessions.Moves do
  @moduledoc false
  # Archives, unarchives and deletes threads: all files of a thread or none.
  #
  # A CLI that has a thread open holds the lock of a file named after it, and makes and removes
  # such files under a lock of their folder. Both locks are taken before anything moves. CLI
  # versions before 0.163 take no lock.

  alias Codex.{FileSystem, Native, NativePool}
  alias Codex.Sessions.{Problem, Record, Store}

  @locks "thread-writer-locks"
  @coordination ".coordination.lock"
  @wait_ms 2_000

  @type job :: :archive | :unarchive | :delete

  @doc """
  Runs a job for a thread. Options: `:referrers`, whether to look for threads that refer to it;
  `:force`, deletes a thread that holds the history of others.
  """
  @spec run(job(), Store.t(), String.t(), map()) ::
          {:ok, Codex.Sessions.moved()} | {:error, Codex.Sessions.move_reason()}
  def run(job, store, id, opts) do
    copies = copies(store, id)

    with {:ok, moves} <- plan(job, id, copies),
         :ok <- belongs(store, id),
         {:ok, referrers} <- referrers(job, store, id, opts),
         :ok <- locked(store.home, id, fn -> move(store.home, moves) end),
         do: {:ok, %{id: id, files: moves, referrers: referrers}}
  end

  # Also the copies that readers leave out: a copy that stays would take the place of the file.
  defp copies(store, id) do
    others =
      for %Problem{kind: kind, session: ^id, path: path} <- store.problems,
          kind in [:duplicate, :shadowed],
          do: path

    Enum.map(store.threads[id], & &1.path) ++ others
  end

  defp plan(:delete, _id, paths), do: {:ok, for(path <- paths, do: %{from: path, to: nil})}

  defp plan(:archive, id, paths) do
    case for("sessions/" <> _ = from <- paths, do: %{from: from, to: archived(from)}) do
      [] -> {:error, {:already_archived, id}}
      moves -> {:ok, moves}
    end
  end

  defp plan(:unarchive, id, paths) do
    case for("archived_sessions/" <> _ = from <- paths, do: %{from: from, to: live(from)}) do
      [] -> {:error, {:not_archived, id}}
      moves -> {:ok, moves}
    end
  end

  defp archived(path), do: Path.join("archived_sessions", Path.basename(path))

  # The folder of the day that the name tells.
  defp live(path) do
    name = Path.basename(path)
    "rollout-" <> <<year::binary-4, "-", month::binary-2, "-", day::binary-2, _::binary>> = name
    Path.join(["sessions", year, month, day, name])
  end

  # A file whose first line names another thread is not moved with this one.
  defp belongs(store, id) do
    [record] = store |> Record.stream([id]) |> Enum.to_list()

    case Enum.find(record.problems, &(&1.kind == :wrong_id)) do
      nil -> :ok
      %Problem{path: path, detail: other} -> {:error, {:wrong_session_file, path, other}}
    end
  end

  # Threads that have this one as parent, and those that hold their history in its files.
  defp referrers(job, _store, _id, %{referrers: false}) when job != :delete, do: {:ok, nil}

  defp referrers(job, store, id, opts) do
    with {:ok, parents, bases} <-
           NativePool.call(&Native.rollout_referrers(&1, &2, store.native, id)) do
      if job == :delete and bases != [] and not opts.force,
        do: {:error, {:session_referenced, id, bases}},
        else: {:ok, Enum.uniq(bases ++ parents)}
    end
  end

  # --- Locks ------------------------------------------------------------------------------------

  @doc "Calls a function while no CLI has the thread open, and none can open it."
  @spec locked(Path.t(), String.t(), (... -> result)) ::
          result
          | {:error, {:session_in_use, String.t()} | {:write_failed, Path.t(), term()}}
        when result: term()
  def locked(home, id, fun) do
    folder = Path.join(home, @locks)
    _ = :file.make_dir(folder)

    with {:ok, coordination} <- lock(Path.join(folder, @coordination), @wait_ms, id) do
      try do
        with_writer_lock(Path.join(folder, id <> ".lock"), id, fun)
      after
        FileSystem.unlock(coordination)
      end
    end
  end

  # Nobody else may open the thread meanwhile, because the folder is locked, too.
  defp with_writer_lock(path, id, fun) do
    with {:ok, writer} <- lock(path, 0, id) do
      try do
        fun.()
      after
        _ = :file.delete(path)
        FileSystem.unlock(writer)
      end
    end
  end

  defp lock(path, timeout, id) do
    case FileSystem.await_lock(path, timeout) do
      {:ok, lock} -> {:ok, lock}
      {:error, :held} -> {:error, {:session_in_use, id}}
      {:error, reason} -> {:error, {:write_failed, path, reason}}
    end
  end

  # --- Files ------------------------------------------------------------------------------------

  defp move(home, moves) do
    with :ok <- free(home, moves), do: carry_out(home, moves, [])
  end

  defp free(home, moves) do
    Enum.find_value(moves, :ok, fn %{to: to} ->
      if to && FileSystem.exists?(Path.join(home, to)), do: {:error, {:file_exists, to}}
    end)
  end

  # Deleted files are renamed first, and removed when all of them could be.
  defp carry_out(home, [], done) do
    deleted = for %{to: nil, from: from} <- done, do: Path.join(home, doomed(from))
    Enum.each(deleted, &:file.delete/1)
  end

  defp carry_out(home, [move | rest], done) do
    from = Path.join(home, move.from)
    to = Path.join(home, move.to || doomed(move.from))

    with :ok <- :filelib.ensure_dir(to),
         :ok <- :file.rename(from, to) do
      carry_out(home, rest, [move | done])
    else
      {:error, reason} ->
        Enum.each(done, &put_back(home, &1))
        {:error, {:write_failed, from, reason}}
    end
  end

  defp put_back(home, move),
    do: :file.rename(Path.join(home, move.to || doomed(move.from)), Path.join(home, move.from))

  # Not the name of a rollout, in the same folder.
  defp doomed(path), do: Path.join(Path.dirname(path), ".deleted-" <> Path.basename(path))
end
