defmodule Codex.Sessions.Segments do
  @moduledoc false
  # Looks for files that a thread gets while it is followed: a revert makes one. It is in the folder
  # of its day or, if the thread was archived at once, in the archive. A folder is listed only if it
  # has changed, and the home only if there is another file of the thread.

  alias Codex.FileSystem
  alias Codex.Sessions.Store

  # The time of a folder is in seconds, and a file may come in the second in which it was listed.
  @fresh_seconds 2

  @enforce_keys [:home, :thread, :day, :known]
  defstruct [:home, :thread, :day, :known, later: [], listed: %{}]

  @opaque t :: %__MODULE__{}

  @doc "Returns the state for files of a thread that come from now on."
  @spec new(Store.t(), String.t()) :: t()
  def new(store, id), do: new(store.home, id, store.threads[id])

  @doc "Returns the state for files of a thread other than these."
  @spec new(Path.t(), String.t(), [Store.file()]) :: t()
  def new(home, id, files) do
    known = MapSet.new(files, &name(&1.path))
    %__MODULE__{home: home, thread: id, day: Date.utc_today(), known: known}
  end

  @doc "Returns the next file of the thread, or nil."
  @spec next(t()) :: {Store.file() | nil, t()}
  def next(%__MODULE__{later: [file | later]} = segments), do: {file, %{segments | later: later}}

  def next(segments) do
    case names(segments) do
      {[], segments} ->
        {nil, segments}

      {names, segments} ->
        {:ok, files} = Store.files(segments.home, segments.thread)
        later = Enum.reject(files, &(name(&1.path) in segments.known))
        known = MapSet.union(segments.known, MapSet.new(names))

        case later do
          [] -> {nil, %{segments | known: known}}
          [file | later] -> {file, %{segments | known: known, later: later}}
        end
    end
  end

  # The names of the thread's files in changed folders that are not known.
  defp names(segments) do
    now = System.os_time(:second)
    today = Date.utc_today()
    folders = folders(segments.day, today)
    stats = folders |> Enum.map(&Path.join(segments.home, &1)) |> FileSystem.stat_all()

    {names, listed} =
      for({folder, {:ok, stat}} <- Enum.zip(folders, stats), do: {folder, stat.modified})
      |> Enum.flat_map_reduce(segments.listed, fn {folder, modified}, listed ->
        if unchanged?(listed[folder], modified),
          do: {[], listed},
          else: {names(segments, folder), Map.put(listed, folder, {modified, now})}
      end)

    {names, %{segments | day: today, listed: listed}}
  end

  # Names have the day of the writer's time zone.
  defp folders(from, to) do
    days =
      for day <- Date.range(Date.add(from, -1), Date.add(to, 1)),
          do: Path.join("sessions", Calendar.strftime(day, "%Y/%m/%d"))

    ["archived_sessions" | days]
  end

  defp unchanged?({modified, at}, modified), do: modified + @fresh_seconds < at
  defp unchanged?(_listed, _modified), do: false

  defp names(segments, folder) do
    case FileSystem.list(Path.join(segments.home, folder)) do
      {:ok, names} ->
        for name <- names,
            String.contains?(name, "-" <> segments.thread),
            name = name(name),
            name not in segments.known,
            do: name

      {:error, _missing} ->
        []
    end
  end

  defp name(path), do: path |> Path.basename() |> String.replace_suffix(".zst", "")
end
