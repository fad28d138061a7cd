defmodule Codex.Sessions.WorkTree do
  @moduledoc false
  # Changes many files of a directory, all or none.
  #
  # New contents are made beside it, in a private directory that goes with the calling process:
  # `copy/2` copies the files there, git changes the copies, and `commit/1` checks that the
  # originals are still the same, and replaces them. If a write fails, the files before it are put
  # back.
  #
  # Paths are relative, and may hold any bytes. A path that leaves the directory through a link is
  # an error. Files and links are handled; other kinds are errors.

  alias Codex.{FileSystem, TemporaryDirectories}

  @enforce_keys [:root, :scratch]
  defstruct [:root, :scratch, states: %{}]

  @typedoc "The state of a path: missing, a file with its mode, or a link with its target."
  @type state ::
          :missing | {:file, hash :: binary(), mode :: non_neg_integer()} | {:link, binary()}
  @type t :: %__MODULE__{root: Path.t(), scratch: Path.t(), states: %{binary() => state()}}
  @type error :: {:unreadable, Path.t(), Codex.Reason.file()} | {:write_failed, Path.t(), term()}

  @doc "Calls `fun` with a work tree of `root`, and removes the copies afterwards."
  @spec with_copies(Path.t(), (t() -> result)) :: result | {:error, error()} when result: term()
  def with_copies(root, fun) do
    name =
      "codex-undo-" <> Base.encode32(:crypto.strong_rand_bytes(10), case: :lower, padding: false)

    scratch = Path.join(System.tmp_dir!(), name)
    _ = TemporaryDirectories.adopt([scratch], self(), :remove)

    try do
      with :ok <- made(FileSystem.make_private(scratch), scratch),
           :ok <- made(:file.make_dir(Path.join(scratch, "new")), scratch),
           :ok <- made(:file.make_dir(Path.join(scratch, "old")), scratch),
           do: fun.(%__MODULE__{root: root, scratch: scratch})
    after
      _ = File.rm_rf(scratch)
      _ = TemporaryDirectories.forget([scratch])
    end
  end

  defp made(:ok, _path), do: :ok
  defp made({:error, reason}, path), do: {:error, {:write_failed, path, reason}}

  @doc "The directory of the new contents, for git."
  @spec new(t()) :: Path.t()
  def new(tree), do: Path.join(tree.scratch, "new")

  @doc "Copies paths to the new contents, and remembers their states."
  @spec copy(t(), [binary()]) :: {:ok, t()} | {:error, error()}
  def copy(tree, paths) do
    with {:ok, tree} <- look(tree, paths),
         :ok <- each(paths, &put(tree.states[&1], tree.root, new(tree), &1)),
         do: {:ok, tree}
  end

  @doc "Remembers the states of paths, and keeps copies of the old contents."
  @spec look(t(), [binary()]) :: {:ok, t()} | {:error, error()}
  def look(tree, paths) do
    Enum.reduce_while(paths, {:ok, tree}, fn path, {:ok, tree} ->
      with :ok <- inside(tree.root, path),
           {:ok, state} <- state(tree.root, path),
           :ok <- put(state, tree.root, Path.join(tree.scratch, "old"), path) do
        {:cont, {:ok, put_in(tree.states[path], state)}}
      else
        error -> {:halt, error}
      end
    end)
  end

  @doc """
  Gives the remembered paths their new contents, which are in the folder `place` of those. Returns
  the paths that were written and those that were removed. `{:error, {:changed_meanwhile, path}}`:
  another program wrote it, and nothing was changed.
  """
  @spec commit(t(), place :: binary()) ::
          {:ok, %{restored: [binary()], removed_paths: [binary()]}}
          | {:error, error() | {:changed_meanwhile, binary()}}
  def commit(tree, place \\ "") do
    new = Path.join(new(tree), place)

    with {:ok, plan} <- plan(tree, new),
         :ok <- unchanged(tree, plan),
         :ok <- write(tree, plan, new, []) do
      {removed, restored} = Enum.split_with(plan, &match?({_path, :missing}, &1))
      Enum.each(removed, fn {path, _} -> prune(tree.root, path) end)
      {:ok, %{restored: names(restored), removed_paths: names(removed)}}
    end
  end

  defp names(plan), do: Enum.map(plan, &elem(&1, 0))

  defp plan(tree, new) do
    tree.states
    |> Enum.sort()
    |> Enum.reduce_while({:ok, []}, fn {path, before}, {:ok, plan} ->
      case state(new, path) do
        {:ok, ^before} -> {:cont, {:ok, plan}}
        {:ok, state} -> {:cont, {:ok, [{path, state} | plan]}}
        error -> {:halt, error}
      end
    end)
    |> case do
      # Files are removed first: a directory may take the place of one.
      {:ok, plan} -> {:ok, Enum.sort_by(plan, fn {path, state} -> {state != :missing, path} end)}
      error -> error
    end
  end

  defp unchanged(tree, plan) do
    each(plan, fn {path, _new} ->
      before = Map.fetch!(tree.states, path)

      with :ok <- inside(tree.root, path),
           {:ok, ^before} <- state(tree.root, path) do
        :ok
      else
        _changed -> {:error, {:changed_meanwhile, path}}
      end
    end)
  end

  defp write(_tree, [], _new, _done), do: :ok

  defp write(tree, [{path, state} | rest], new, done) do
    case put(state, new, tree.root, path) do
      :ok ->
        write(tree, rest, new, [path | done])

      error ->
        old = Path.join(tree.scratch, "old")
        Enum.each(done, &put(tree.states[&1], old, tree.root, &1))
        error
    end
  end

  # Directories that a removed file leaves empty.
  defp prune(root, path) do
    parent = Path.dirname(path)

    if parent != "." and :file.del_dir(at(root, parent)) == :ok,
      do: prune(root, parent),
      else: :ok
  end

  @doc "Checks that no directory on the way from `root` to a path is a link."
  @spec inside(Path.t(), binary()) :: :ok | {:error, {:unreadable, Path.t(), Codex.Reason.file()}}
  def inside(root, path) do
    parts = :binary.split(path, "/", [:global])
    parents = parts |> Enum.drop(-1) |> Enum.scan(fn part, parent -> parent <> "/" <> part end)

    each(parents, fn parent ->
      case :file.read_link_info(at(root, parent), [:raw]) do
        {:ok, info} when elem(info, 2) == :directory -> :ok
        {:ok, _other} -> {:error, {:unreadable, at(root, path), :enotdir}}
        {:error, reason} when reason in [:enoent] -> :ok
        {:error, reason} -> {:error, {:unreadable, at(root, parent), reason}}
      end
    end)
  end

  # --- One path ---------------------------------------------------------------------------------

  defp state(root, path) do
    file = at(root, path)

    case :file.read_link_info(file, [:raw]) do
      {:ok, info} -> state(File.Stat.from_record(info), file, path)
      {:error, reason} when reason in [:enoent, :enotdir] -> {:ok, :missing}
      {:error, reason} -> {:error, {:unreadable, file, reason}}
    end
  end

  defp state(%{type: :regular, mode: mode}, file, _path) do
    case File.open(file, [:read, :raw, :binary], &hash(&1, :crypto.hash_init(:sha256))) do
      {:ok, {:ok, hash}} -> {:ok, {:file, hash, Bitwise.band(mode, 0o7777)}}
      {:ok, {:error, reason}} -> {:error, {:unreadable, file, reason}}
      {:error, reason} -> {:error, {:unreadable, file, reason}}
    end
  end

  defp state(%{type: :symlink}, file, _path) do
    case :file.read_link_all(file) do
      {:ok, target} -> {:ok, {:link, IO.chardata_to_string(target)}}
      {:error, reason} -> {:error, {:unreadable, file, reason}}
    end
  end

  defp state(%{type: :directory}, file, _path),
    do: {:error, {:unreadable, file, {:not_regular, :directory}}}

  defp state(_stat, file, _path), do: {:error, {:unreadable, file, {:not_regular, :other}}}

  defp hash(device, hash) do
    case :file.read(device, 65_536) do
      {:ok, bytes} -> hash(device, :crypto.hash_update(hash, bytes))
      :eof -> {:ok, :crypto.hash_final(hash)}
      {:error, reason} -> {:error, reason}
    end
  end

  # Gives a path below `to` the state that it has below `from`.
  defp put(:missing, _from, to, path) do
    case :file.delete(at(to, path)) do
      :ok -> :ok
      {:error, reason} when reason in [:enoent, :enotdir] -> :ok
      {:error, reason} -> {:error, {:write_failed, at(to, path), reason}}
    end
  end

  defp put(state, from, to, path) do
    target = at(to, path)
    temporary = target <> ".codex-" <> Base.encode16(:crypto.strong_rand_bytes(6), case: :lower)

    with :ok <- :filelib.ensure_dir(target),
         :ok <- make(state, at(from, path), temporary),
         :ok <- :file.rename(temporary, target) do
      :ok
    else
      {:error, reason} ->
        _ = :file.delete(temporary)
        {:error, {:write_failed, target, reason}}
    end
  end

  defp make({:link, target}, _source, path), do: :file.make_symlink(target, path)

  defp make({:file, _hash, mode}, source, path) do
    with {:ok, _bytes} <- :file.copy({source, [:raw]}, {path, [:raw, :write, :exclusive]}),
         do: :file.change_mode(path, mode)
  end

  defp at(root, path), do: root <> "/" <> path

  defp each(list, fun) do
    Enum.reduce_while(list, :ok, fn element, :ok ->
      case fun.(element) do
        :ok -> {:cont, :ok}
        error -> {:halt, error}
      end
    end)
  end
end
