defmodule Codex.Sessions.Store do
  @moduledoc false
  # The rollout files of a home at one moment, by thread. Nothing is read but names and facts about
  # files, and `session_index.jsonl`, which holds the names of threads.

  alias Codex.{FileSystem, Native, NativePool}
  alias Codex.Sessions.Problem

  @enforce_keys [:home, :native]
  defstruct [
    :home,
    :native,
    :index,
    names: %{},
    threads: %{},
    rollouts: %{},
    order: [],
    problems: []
  ]

  @typedoc """
  A rollout file: its path from the home on, the ids of its thread and of itself, the start as its
  name tells it, size in bytes.
  """
  @type file :: %{
          path: Path.t(),
          thread: String.t(),
          rollout: String.t(),
          time: String.t(),
          archived: boolean(),
          compressed: boolean(),
          size: non_neg_integer()
        }

  @typedoc "`order` has the ids, the newest thread first; the oldest file of a thread is first."
  @type t :: %__MODULE__{
          home: Path.t(),
          native: reference(),
          index: Path.t() | nil,
          names: %{String.t() => String.t()},
          threads: %{String.t() => [file()]},
          rollouts: %{String.t() => file()},
          order: [String.t()],
          problems: [Problem.t()]
        }

  @doc """
  Lists the files of a home. With `files: false` they are known to the native part only, which is
  enough to read all threads.
  """
  @spec open(Path.t(), files: boolean()) ::
          {:ok, t()} | {:error, {:native, String.t()} | :stopped}
  def open(home, opts \\ []) do
    files = Keyword.get(opts, :files, true)

    with {:ok, native, threads, names, problems} <-
           NativePool.call(&Native.rollout_store(&1, &2, home, files)) do
      store = %__MODULE__{home: home, native: native, names: Map.new(names), problems: problems}
      {:ok, put_files(store, threads)}
    end
  end

  defp put_files(store, []), do: store

  defp put_files(store, threads) do
    threads = for {id, files} <- threads, do: {id, Enum.map(files, &file(&1, id))}

    %{
      store
      | order: Enum.map(threads, &elem(&1, 0)),
        threads: Map.new(threads),
        rollouts: for({_id, files} <- threads, file <- files, into: %{}, do: {file.rollout, file})
    }
  end

  defp file({path, rollout, time, archived, compressed, size}, thread) do
    %{
      path: path,
      thread: thread,
      rollout: rollout,
      time: time,
      archived: archived,
      compressed: compressed,
      size: size
    }
  end

  @doc "Lists the files of a thread, or the file of a rollout, the oldest first."
  @spec files(Path.t(), String.t()) ::
          {:ok, [file()]} | {:error, {:native, String.t()} | :stopped}
  def files(home, id) do
    with {:ok, files} <- NativePool.call(&Native.rollout_files(&1, &2, home, id)) do
      {:ok,
       for {path, thread, rollout, time, archived, compressed, size} <- files do
         file({path, rollout, time, archived, compressed, size}, thread)
       end}
    end
  end

  @doc """
  Returns the present places of a file that is not at its path any more: it was compressed,
  decompressed, archived or taken out of the archive. While it is written in its other form, there
  are two. The plain form comes first.
  """
  @spec moved(%{:home => Path.t(), optional(atom()) => term()}, file()) :: [file()]
  def moved(%{home: home}, file) do
    name = file.path |> Path.basename() |> String.replace_suffix(".zst", "")
    <<year::binary-4, "-", month::binary-2, "-", day::binary-2, _::binary>> = file.time

    folders = [
      {Path.dirname(file.path), file.archived},
      {Path.join(["sessions", year, month, day]), false},
      {"archived_sessions", true}
    ]

    for {folder, archived} <- folders,
        {ending, compressed} <- [{"", false}, {".zst", true}],
        path = Path.join(folder, name <> ending),
        FileSystem.regular?(Path.join(home, path)),
        do: %{file | path: path, archived: archived, compressed: compressed}
  end
end
