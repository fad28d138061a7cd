defmodule Codex.SessionStore.Restore do
  @moduledoc false
  # Writes a stored thread into a home. All files are staged first and then renamed, the history
  # before its forks; an error leaves the home as it was.
  #
  # What a store returns is checked: names of files are those of rollouts of this thread, folders do
  # not lead out of the home, sizes have a limit, pages have the size that was asked for, the first
  # line names the thread, and the last line is whole.

  alias Codex.FileSystem
  alias Codex.Sessions.Moves
  alias Codex.SessionStore
  alias Codex.SessionStore.{Adapter, Local, Name}

  @page 1024 * 1024
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

  defp discard(state), do: for(%{staged: path} <- state.plans, path, do: :file.delete(path))

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

    with :ok <- folders(state.home, name.folder, name.file),
         :ok <- free(state.home, path),
         {:ok, staged, bytes, meta} <- stage(name, nil, 0, state) do
      {:ok, plan(path, bytes, :written, staged, name, nil), meta}
    end
  end

  defp one(name, size, file, state) do
    with {:ok, local, file} <- read(name, Local.size(state.home, file)),
         {:ok, meta} <- read(name, Local.meta(state.home, file)) do
      if local < size do
        with {:ok, staged, bytes, _meta} <- stage(name, file, local, state) do
          {:ok, plan(plain(file.path), bytes, :extended, staged, name, {file, local}), meta}
        end
      else
        with :ok <- same(name, size, file, local, state) do
          how = if local == size, do: :same, else: :longer
          {:ok, plan(file.path, local, how, nil, name, nil), meta}
        end
      end
    end
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

  defp read(_name, {:error, {:native, _words} = reason}), do: {:error, reason}
  defp read(name, {:error, reason}), do: {:error, {:unreadable_session, name.file, reason}}
  defp read(_name, ok), do: ok

  # The home has at least as much.
  defp same(_name, 0, _file, _local, _state), do: :ok

  defp same(name, size, file, local, state) do
    from = max(size - @compared, 0)

    with {:ok, mine, _file} <- read(name, Local.bytes(state.home, file, from, size - from)),
         {:ok, stored} <- Adapter.read_all(state.store, key(name), from, size - from) do
      if mine == stored,
        do: :ok,
        else: {:error, {:session_store_conflict, name.file, size, local}}
    end
  end

  defp key(name), do: {name.thread, name.file}

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

  ## Staging

  # Beside its place, so that the rename is atomic.
  defp stage(name, file, local, state) do
    folder = if file, do: Path.dirname(file.path), else: name.folder
    staged = Path.join([state.home, folder, ".codex-sdk-" <> random()])

    with {:ok, io} <- written(:file.open(staged, [:write, :raw, :binary, :exclusive]), name),
         :ok <- written(File.chmod(staged, 0o600), name) do
      result = pages(%{io: io, name: name, file: file, local: local, meta: nil}, 0, "", state)
      synced = if match?({:ok, _, _}, result), do: :file.sync(io), else: :ok
      closed = :file.close(io)

      with {:ok, bytes, meta} <- result,
           :ok <- written(synced, name),
           :ok <- written(closed, name) do
        {:ok, staged, bytes, meta}
      else
        {:error, reason} ->
          _ = :file.delete(staged)
          {:error, reason}
      end
    end
  end

  defp random, do: 12 |> :crypto.strong_rand_bytes() |> Base.encode16(case: :lower)

  defp written({:error, reason}, name), do: {:error, {:write_failed, name.file, reason}}
  defp written(ok, _name), do: ok

  # `head` is the first line as far as it has come.
  defp pages(copy, at, head, state) do
    %{max_file_bytes: limit, max_line_bytes: longest} = state.store.settings

    case Adapter.read(state.store, key(copy.name), at, @page) do
      {:ok, ""} -> complete(copy, at, head)
      {:ok, bytes} when at + byte_size(bytes) > limit -> invalid(copy, {:too_large, limit})
      {:ok, bytes} -> page(copy, at, head, bytes, longest, state)
      {:error, reason} -> {:error, reason}
    end
  end

  defp page(copy, at, head, bytes, longest, state) do
    head = if is_binary(head), do: head <> bytes
    line? = head == nil or :binary.match(head, "\n") != :nomatch

    cond do
      not line? and byte_size(head) > longest ->
        {:error, {:session_line_too_long, copy.name.file, longest}}

      true ->
        copy = if head != nil and line?, do: %{copy | meta: Local.parse(head)}, else: copy
        head = if line?, do: nil, else: head

        with :ok <- prefix(copy, at, bytes, state),
             :ok <- written(:file.write(copy.io, bytes), copy.name),
             do:
               pages(
                 %{copy | file: copy.file} |> ended(bytes),
                 at + byte_size(bytes),
                 head,
                 state
               )
    end
  end

  defp ended(copy, bytes), do: Map.put(copy, :newline?, :binary.last(bytes) == ?\n)

  defp complete(%{newline?: true, local: local} = copy, at, nil) when at >= local,
    do: {:ok, at, copy.meta}

  defp complete(copy, _at, _head), do: invalid(copy, :content)

  defp invalid(copy, why), do: {:error, {:invalid_stored_session, copy.name.file, why}}

  # The file of the home is the beginning of the stored one; half a line at its end does not count.
  defp prefix(%{file: nil}, _at, _bytes, _state), do: :ok
  defp prefix(%{local: local}, at, _bytes, _state) when at >= local, do: :ok

  defp prefix(%{name: name, file: file, local: local}, at, bytes, state) do
    count = min(local - at, byte_size(bytes))

    with {:ok, mine, _file} <- read(name, Local.bytes(state.home, file, at, count)) do
      whole = if at + count == local, do: whole(mine), else: mine

      if binary_part(bytes, 0, byte_size(whole)) == whole,
        do: :ok,
        else: {:error, {:session_store_conflict, name.file, stored(state, name), local}}
    end
  end

  defp whole(bytes) do
    case :binary.matches(bytes, "\n") do
      [] -> ""
      matches -> binary_part(bytes, 0, elem(List.last(matches), 0) + 1)
    end
  end

  defp stored(state, name) do
    with {:ok, files} <- Adapter.files(state.store, name.thread),
         {_file, size} <- List.keyfind(files, name.file, 0) do
      size
    else
      _unknown -> 0
    end
  end

  ## Places

  # Each folder is checked before the next one is made in it. The root may be a link to another
  # disk, as for the readers of homes; nothing below it may lead out.
  defp folders(home, folder, file) do
    [root | below] = Path.split(folder)
    root = Path.join(home, root)

    with :ok <- made(root),
         {:ok, real} <- FileSystem.real(root) do
      below
      |> Enum.reduce_while({:ok, root}, fn part, {:ok, parent} ->
        path = Path.join(parent, part)

        with :ok <- made(path),
             {:ok, there} <- FileSystem.real(path),
             true <- String.starts_with?(there, real <> "/") do
          {:cont, {:ok, path}}
        else
          false -> {:halt, {:error, {:invalid_stored_session, file, :link}}}
          {:error, reason} -> {:halt, {:error, {:write_failed, file, reason}}}
        end
      end)
      |> case do
        {:ok, _folder} -> :ok
        error -> error
      end
    else
      {:error, reason} -> {:error, {:write_failed, file, reason}}
    end
  end

  defp made(path) do
    case :file.make_dir(path) do
      :ok -> File.chmod(path, 0o700)
      {:error, reason} when reason == :eexist -> :ok
      error -> error
    end
  end

  # Something that is no session file, or a link out of the home.
  defp free(home, path) do
    case :file.read_link_info(Path.join(home, path), [:raw]) do
      {:error, :enoent} -> :ok
      _anything -> {:error, {:file_exists, path}}
    end
  end

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

  defp unchanged(%{before: nil, path: path}, home), do: free(home, path)

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
