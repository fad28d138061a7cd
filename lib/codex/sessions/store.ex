defmodule Codex.Sessions.Store do
  @moduledoc false
  # The rollout files of a home at one moment, by thread. Nothing is read but names and facts about
  # files, and `session_index.jsonl`, which holds the names of threads.

  alias Codex.{FileSystem, JSON, Native, NativePool}
  alias Codex.Sessions.Problem

  @enforce_keys [:home]
  defstruct [:home, :index, names: %{}, threads: %{}, rollouts: %{}, order: [], problems: []]

  @typedoc """
  A rollout file: its path from the home on, the ids of its thread and of itself, the start as its
  name tells it, size in bytes, time of the last change in nanoseconds, inode.
  """
  @type file :: %{
          path: Path.t(),
          thread: String.t(),
          rollout: String.t(),
          time: String.t(),
          archived: boolean(),
          compressed: boolean(),
          size: non_neg_integer(),
          modified: integer(),
          inode: non_neg_integer()
        }

  @typedoc "`order` has the ids, the newest thread first; the oldest file of a thread is first."
  @type t :: %__MODULE__{
          home: Path.t(),
          index: Path.t() | nil,
          names: %{String.t() => String.t()},
          threads: %{String.t() => [file()]},
          rollouts: %{String.t() => file()},
          order: [String.t()],
          problems: [Problem.t()]
        }

  @max_index 64 * 1024 * 1024

  @doc "Lists the files of a home."
  @spec open(Path.t()) :: {:ok, t()} | {:error, {:native, String.t()}}
  def open(home) do
    with {entries, skipped} when is_list(entries) <-
           NativePool.call(&Native.rollout_walk(&1, &2, home)) do
      {files, left_out} = entries |> Enum.map(&file/1) |> one_each()
      threads = Enum.group_by(files, & &1.thread)
      threads = Map.new(threads, fn {id, files} -> {id, Enum.sort_by(files, &key/1)} end)
      {names, bad} = names(home)

      {:ok,
       %__MODULE__{
         home: home,
         names: names,
         threads: threads,
         rollouts: Map.new(files, &{&1.rollout, &1}),
         order: newest_first(threads),
         problems: bad ++ left_out ++ Enum.map(skipped, &skipped/1)
       }}
    end
  end

  defp file({path, archived, size, modified, inode}) do
    # The native part has checked the name.
    <<"rollout-", time::binary-19, "-", thread::binary-36, rest::binary>> = Path.basename(path)

    rollout =
      case rest do
        <<"_", segment::binary-36, _::binary>> -> segment
        _whole -> thread
      end

    %{
      path: path,
      thread: thread,
      rollout: rollout,
      time: time,
      archived: archived,
      compressed: String.ends_with?(rest, ".zst"),
      size: size,
      modified: modified,
      inode: inode
    }
  end

  defp key(file), do: {file.time, file.rollout}

  # A rollout may exist twice: live before archived, plain before compressed.
  defp one_each(files) do
    groups = Enum.group_by(files, & &1.rollout)

    Enum.reduce(groups, {[], []}, fn {_rollout, group}, {kept, left_out} ->
      [first | others] = Enum.sort_by(group, &{&1.archived, &1.compressed})
      {[first | kept], Enum.map(others, &left_out(&1, first)) ++ left_out}
    end)
  end

  defp left_out(file, read) do
    kind = if file.archived == read.archived, do: :shadowed, else: :duplicate
    %Problem{kind: kind, path: file.path, session: file.thread, detail: read.path}
  end

  defp newest_first(threads) do
    threads
    |> Enum.map(fn {id, [first | _]} -> {first.time, id} end)
    |> Enum.sort(:desc)
    |> Enum.map(&elem(&1, 1))
  end

  defp skipped({path, :name}), do: %Problem{kind: :ignored_name, path: path}
  defp skipped({path, :outside}), do: %Problem{kind: :outside, path: path}
  defp skipped({path, reason}), do: %Problem{kind: :unreadable, path: path, detail: reason}

  # The last line of an id counts.
  defp names(home) do
    path = "session_index.jsonl"

    case FileSystem.read(Path.join(home, path), limit: @max_index) do
      {:ok, text} -> text |> String.split("\n", trim: true) |> Enum.reduce({%{}, []}, &name/2)
      {:error, :enoent} -> {%{}, []}
      {:error, reason} -> {%{}, [%Problem{kind: :unreadable, path: path, detail: reason}]}
    end
    |> with_count(path)
  end

  defp name(line, {names, bad}) do
    case JSON.decode(line) do
      {:ok, %{"id" => id, "thread_name" => name}} when is_binary(id) and is_binary(name) ->
        {Map.put(names, id, name), bad}

      {:ok, %{"id" => _without_a_name}} ->
        {names, bad}

      _not_an_entry ->
        {names, [line | bad]}
    end
  end

  defp with_count({names, [line | _] = bad}, path) when is_binary(line),
    do: {names, [%Problem{kind: :bad_lines, path: path, count: length(bad), detail: 0}]}

  defp with_count(names, _path), do: names

  @doc """
  Returns the present path of a file that is not at its path any more: it was compressed,
  decompressed, archived or taken out of the archive.
  """
  @spec moved(t(), file()) :: {:ok, file()} | :error
  def moved(%__MODULE__{home: home}, file) do
    name = file.path |> Path.basename() |> String.replace_suffix(".zst", "")
    <<year::binary-4, "-", month::binary-2, "-", day::binary-2, _::binary>> = file.time

    folders = [
      {Path.dirname(file.path), file.archived},
      {Path.join(["sessions", year, month, day]), false},
      {"archived_sessions", true}
    ]

    places =
      for {folder, archived} <- folders,
          {ending, compressed} <- [{"", false}, {".zst", true}],
          do:
            %{file | path: Path.join(folder, name <> ending), archived: archived}
            |> Map.put(:compressed, compressed)

    places
    |> Enum.find(&FileSystem.regular?(Path.join(home, &1.path)))
    |> then(&if(&1, do: {:ok, &1}, else: :error))
  end
end
