defmodule Codex.SessionStore.Restore do
  @moduledoc false
  # Writes a stored thread into a home. All files are staged first and then renamed, the history
  # before its forks; an error leaves the home as it was.
  #
  # What a store returns is checked: names of files are those of rollouts of this thread, folders do
  # not lead out of the home, sizes have a limit, pages have the size that was asked for, the first
  # line names the thread, and the last line is whole.

  alias Codex.Sessions.Moves
  alias Codex.SessionStore
  alias Codex.SessionStore.{Adapter, Local, Name, Places, Staging}

  @compared 16 * 1024
  @max_bases 1_000

  @enforce_keys [:store, :home]
  defstruct [:store, :home, plans: [], seen: MapSet.new()]

  @doc "Materialises a thread."
  @spec run(SessionStore.t(), Path.t(), String.t()) ::
          {:ok, [SessionStore.materialised()]} | {:error, SessionStore.reason()}
  def run(store, home, thread) do
    state = %__MODULE__{store: store, home: home}

    with {:ok, [_ | _] = files} <- Adapter.files(store, thread),
         {:ok, local} <- Local.files(home, thread) do
      files |> plan_all(local, state) |> finish()
    else
      {:ok, []} -> {:error, {:session_not_stored, thread}}
      {:error, reason} -> {:error, reason}
    end
  end

  defp plan_all(files, local, state) do
    Enum.reduce_while(files, {:ok, state}, fn file, {:ok, state} ->
      case plan(file, local, state) do
        {:ok, state} -> {:cont, {:ok, state}}
        {:error, reason, state} -> {:halt, {:error, reason, state}}
      end
    end)
  end

  defp finish({:ok, state}) do
    case commit(state.plans, state.home) do
      :ok ->
        {:ok, for(plan <- Enum.reverse(state.plans), do: Map.take(plan, [:path, :bytes, :state]))}

      {:error, reason} ->
        discard(state)
        {:error, reason}
    end
  end

  defp finish({:error, reason, state}) do
    discard(state)
    {:error, reason}
  end

  defp discard(state) do
    staged = for %{staged: path} <- state.plans, path != nil, do: path
    Enum.each(staged, &:file.delete/1)
  end

  ## One file

  # Plans are in the order of their renames: what was added last comes first, so the history of a
  # file is planned after the file.
  defp plan({file, size}, local, state) do
    {:ok, name} = Name.parse(file)
    mine = Enum.find(local, &(Name.of(&1.path) == file))
    state = %{state | seen: MapSet.put(state.seen, name.rollout)}

    with :ok <- small(state, file, size),
         {:ok, plan, meta} <- one(name, size, mine, state),
         state = %{state | plans: [plan | state.plans]},
         {:state, state, :ok} <- {:state, state, named(meta, name)} do
      base(meta, name, state)
    else
      {:state, state, {:error, reason}} -> {:error, reason, state}
      {:error, reason} -> {:error, reason, state}
    end
  end

  defp small(%{store: %{settings: %{max_file_bytes: limit}}}, file, size) when size > limit,
    do: {:error, {:invalid_stored_session, file, {:too_large, limit}}}

  defp small(_state, _file, _size), do: :ok

  defp one(name, _size, nil, state) do
    path = Path.join(name.folder, name.file)

    with :ok <- Places.make(state.home, name.folder, name.file),
         :ok <- Places.free(state.home, path),
         {:ok, staged, bytes, meta} <- Staging.write(state, name, nil) do
      {:ok, plan(path, bytes, :written, staged, name, nil), meta}
    end
  end

  defp one(name, size, file, state) do
    with {:ok, local, file} <- Staging.read(name, Local.size(state.home, file)),
         {:ok, meta} <- Staging.read(name, Local.meta(state.home, file)),
         {:ok, plan} <- known(name, size, file, local, state),
         do: {:ok, plan, meta}
  end

  defp known(name, size, file, local, state) when local < size do
    with {:ok, staged, bytes, _meta} <- Staging.write(state, name, {file, local}) do
      {:ok, plan(plain(file.path), bytes, :extended, staged, name, {file, local})}
    end
  end

  defp known(name, size, file, local, state) do
    how = if local == size, do: :same, else: :longer

    with :ok <- same(name, size, file, local, state),
         do: {:ok, plan(file.path, local, how, nil, name, nil)}
  end

  defp plan(path, bytes, how, staged, name, before),
    do: %{
      path: path,
      bytes: bytes,
      state: how,
      staged: staged,
      thread: name.thread,
      before: before
    }

  defp plain(path), do: String.replace_suffix(path, ".zst", "")

  # The home has at least as much.
  defp same(_name, 0, _file, _local, _state), do: :ok

  defp same(name, size, file, local, state) do
    from = max(size - @compared, 0)

    with {:ok, mine, _file} <-
           Staging.read(name, Local.bytes(state.home, file, from, size - from)),
         {:ok, stored} <- Adapter.read_all(state.store, Name.key(name), from, size - from) do
      if mine == stored,
        do: :ok,
        else: {:error, {:session_store_conflict, name.file, size, local}}
    end
  end

  # Another thread in the first line would be resumed in the place of this one.
  defp named(nil, name), do: {:error, {:invalid_stored_session, name.file, :content}}
  defp named(%{id: id}, %{thread: id}), do: :ok
  defp named(%{id: other}, name), do: {:error, {:wrong_session_file, name.file, other}}

  ## History in other files

  defp base(%{base: nil}, _name, state), do: {:ok, state}

  defp base(%{base: {rollout, parent, ended}}, name, state) do
    parent = if Name.id?(parent), do: parent, else: name.thread

    cond do
      MapSet.member?(state.seen, rollout) -> {:ok, state}
      MapSet.size(state.seen) > @max_bases -> {:ok, state}
      true -> history(rollout, parent, ended, state)
    end
  end

  # The file that holds the history is a file of the parent, or of one of the parent's own parents.
  defp history(rollout, parent, ended, state) do
    with {:ok, local} <- local(state, rollout),
         {:ok, files} <- Adapter.files(state.store, parent) do
      stored =
        Enum.find(files, fn {file, _size} -> match?(%{rollout: ^rollout}, parsed(file)) end)

      cond do
        stored != nil -> plan(stored, local, state)
        long_enough?(local, ended, state) -> {:ok, state}
        true -> {:error, {:session_not_stored, rollout}, state}
      end
    else
      {:error, reason} -> {:error, reason, state}
    end
  end

  defp parsed(file), do: with({:ok, name} <- Name.parse(file), do: name)

  defp local(state, rollout) do
    with {:ok, files} <- Local.files(state.home, rollout),
         do: {:ok, Enum.filter(files, &(&1.rollout == rollout))}
  end

  defp long_enough?([file], ended, state),
    do: match?({:ok, size, _file} when size >= ended, Local.size(state.home, file))

  defp long_enough?(_none, _ended, _state), do: false

  ## Renames

  defp commit(plans, home) do
    Enum.reduce_while(plans, :ok, fn plan, :ok ->
      case rename(plan, home) do
        :ok -> {:cont, :ok}
        error -> {:halt, error}
      end
    end)
  end

  defp rename(%{staged: nil}, _home), do: :ok

  # A CLI that has the thread open appends to the file that it knows.
  defp rename(plan, home) do
    Moves.locked(home, plan.thread, fn ->
      with :ok <- unchanged(plan, home),
           :ok <- moved(plan, home),
           do: plain_only(plan, home)
    end)
  end

  defp moved(plan, home) do
    with {:error, reason} <- :file.rename(plan.staged, Path.join(home, plan.path)),
         do: {:error, {:write_failed, plan.path, reason}}
  end

  defp unchanged(%{before: nil, path: path}, home), do: Places.free(home, path)

  defp unchanged(%{before: {file, size}, path: path, bytes: bytes}, home) do
    case Local.size(home, file) do
      {:ok, ^size, %{path: same}} when same == file.path -> :ok
      {:ok, other, _file} -> {:error, {:session_store_conflict, Name.of(path), bytes, other}}
      {:error, reason} -> {:error, {:unreadable_session, Name.of(path), reason}}
    end
  end

  # The compressed file has less.
  defp plain_only(%{before: {%{compressed: true, path: path}, _size}}, home) do
    _ = :file.delete(Path.join(home, path))
    :ok
  end

  defp plain_only(_plan, _home), do: :ok
end
