defmodule Codex.Files.Registry do
  @moduledoc false
  # Keeps the staging directory of `Codex.Files`. The directory itself is the state: for each
  # content `<checksum>/<name>`, and `<checksum>.json` with its facts. So a copy outlives a crash of
  # this process, and VMs can share a directory; a lock file orders their changes.
  #
  # Copies are made by their callers. Each caller has a temporary file, which the native library
  # removes if the caller ends before the copy has its name.
  use GenServer

  alias Codex.{FileSystem, JSON, Native, NativePool, Telemetry, TemporaryDirectories}
  alias Codex.Files.Attachment

  @interval 60_000
  @patience 5_000
  # Parts of a copy whose writer was killed.
  @leftover_seconds 3_600
  @lock ".lock"
  @temporary ".staged."

  @doc false
  def start_link(private), do: GenServer.start_link(__MODULE__, private, name: __MODULE__)

  @doc "Returns a name for the directory of this VM, which does not exist yet."
  @spec private() :: Path.t()
  def private do
    suffix = Base.encode32(:crypto.strong_rand_bytes(10), case: :lower, padding: false)
    Path.join(System.tmp_dir!(), "codex_files-" <> suffix)
  end

  @doc "Returns the staging directory, and makes it."
  @spec folder() :: {:ok, Path.t()} | {:error, Codex.Files.reason()}
  def folder, do: call(:folder)

  @doc "Returns the path of the staging directory."
  @spec dir() :: Path.t()
  def dir, do: call(:dir)

  @doc "Gives a copy its place, and returns whether its content was there already."
  @spec add(reference(), map()) ::
          {:ok, Attachment.t(), boolean()} | {:error, Codex.Files.reason()}
  def add(copy, wanted), do: call({:add, copy, wanted})

  @spec list() :: [Attachment.t()]
  def list, do: dir() |> attachments() |> Enum.sort_by(& &1.inserted_at, DateTime)

  @spec clean() :: :ok
  def clean, do: call(:clean)

  @spec reset() :: :ok
  def reset, do: call(:reset)

  # Each step of the server has a time of its own.
  defp call(request), do: GenServer.call(__MODULE__, request, :infinity)

  # --- The process ------------------------------------------------------------------------------

  @impl true
  def init(private) do
    schedule()
    {:ok, private}
  end

  defp schedule do
    interval = Application.get_env(:codex_sdk, :attachment_cleanup_interval_ms, @interval)
    Process.send_after(self(), :clean, interval)
  end

  @impl true
  def handle_call(:dir, _from, private), do: {:reply, path(private), private}
  def handle_call(:folder, _from, private), do: {:reply, made(private), private}

  def handle_call({:add, copy, wanted}, _from, private) do
    result =
      with {:ok, dir} <- made(private), do: locked(dir, fn -> keep(dir, copy, wanted, now()) end)

    # Both processes may hold the copy for a long time.
    :ok = Native.file_drop(copy)
    {:reply, result, private}
  end

  def handle_call(:clean, _from, private) do
    remove(path(private), &Attachment.expired?(&1, now()))
    {:reply, :ok, private}
  end

  def handle_call(:reset, _from, private) do
    dir = path(private)
    remove(dir, fn _all -> true end)
    _ = File.rm(Path.join(dir, @lock))
    _ = File.rmdir(dir)
    {:reply, :ok, private}
  end

  @impl true
  def handle_info(:clean, private) do
    remove(path(private), &Attachment.expired?(&1, now()))
    schedule()
    {:noreply, private}
  end

  def handle_info(_message, private), do: {:noreply, private}

  defp path(private) do
    case Application.get_env(:codex_sdk, :staging_dir) do
      nil -> private
      dir -> Path.expand(dir)
    end
  end

  # The directory of this VM ends with the supervisor, so it outlives a crash of this process.
  defp made(private) do
    dir = path(private)

    _ =
      if dir == private and not TemporaryDirectories.known?(dir),
        do: TemporaryDirectories.adopt([dir], Process.whereis(Codex.Supervisor), :remove)

    case FileSystem.make_private(dir) do
      :ok -> {:ok, dir}
      {:error, reason} -> there(dir, reason)
    end
  end

  # A file in the place of the directory is one that exists, too.
  defp there(dir, reason) do
    reason = if reason == :eexist, do: :enotdir, else: reason
    if FileSystem.dir?(dir), do: {:ok, dir}, else: {:error, {:write_failed, dir, reason}}
  end

  defp locked(dir, fun) do
    case FileSystem.with_lock(Path.join(dir, @lock), @patience, fun) do
      {:ok, result} -> result
      {:error, reason} -> {:error, {:write_failed, Path.join(dir, @lock), reason}}
    end
  end

  defp now, do: System.os_time(:millisecond)

  # --- Copies -----------------------------------------------------------------------------------

  defp keep(dir, copy, wanted, now) do
    facts = facts_path(dir, wanted.checksum)
    {text, known} = read(facts)
    name = if known, do: known.name, else: wanted.name
    path = Path.join([dir, wanted.checksum, name])

    attachment = %Attachment{
      id: wanted.checksum,
      checksum: wanted.checksum,
      name: name,
      path: path,
      size: wanted.size,
      persist: wanted.persist or (known != nil and known.persist),
      # `:infinity` is greater than any number.
      ttl_ms: if(known, do: max(known.ttl_ms, wanted.ttl_ms), else: wanted.ttl_ms),
      inserted_at: DateTime.from_unix!(now, :millisecond)
    }

    there? = known != nil and match?({:ok, %{size: size}} when size == wanted.size, stat(path))

    with :ok <- written(if(there?, do: :ok, else: place(copy, path)), path),
         :ok <- written(FileSystem.swap(facts, text, encoded(attachment)), facts),
         do: {:ok, attachment, there?}
  end

  defp stat(path), do: FileSystem.stat(path)

  defp place(copy, path) do
    with {:ok, :ok} <- NativePool.call(&Native.file_keep(&1, &2, copy, path), @patience), do: :ok
  end

  defp written(:ok, _path), do: :ok
  # Another program writes in the directory.
  defp written(:moved, path), do: {:error, {:write_failed, path, :held}}
  defp written({:error, reason}, path), do: {:error, {:write_failed, path, reason}}

  defp remove(dir, remove?) do
    # Most sweeps find nothing, and need no lock then.
    _ =
      if Enum.any?(attachments(dir), remove?) or leftovers(dir) != [] do
        locked(dir, fn ->
          dir |> attachments() |> Enum.filter(remove?) |> Enum.each(&delete(dir, &1))
          dir |> leftovers() |> Enum.each(&File.rm_rf/1)
        end)
      end

    :ok
  end

  defp delete(dir, attachment) do
    _ = File.rm(facts_path(dir, attachment.checksum))
    _ = File.rm_rf(Path.join(dir, attachment.checksum))

    Telemetry.execute(
      [:codex, :attachment, :cleaned],
      %{count: 1, bytes: attachment.size},
      Map.take(attachment, [:checksum, :name, :ttl_ms])
    )
  end

  # --- Files of facts ---------------------------------------------------------------------------

  defp facts_path(dir, checksum), do: Path.join(dir, checksum <> ".json")

  defp attachments(dir) do
    paths = for name <- names(dir), facts?(name), do: Path.join(dir, name)

    for {path, {:ok, text}} <- Enum.zip(paths, FileSystem.read_all(paths)),
        attachment = decoded(path, text),
        do: attachment
  end

  defp names(dir) do
    case FileSystem.list(dir) do
      {:ok, names} -> names
      {:error, _missing} -> []
    end
  end

  defp facts?(name), do: String.ends_with?(name, ".json") and sum?(Path.rootname(name))
  defp sum?(name), do: name =~ ~r/\A[0-9a-f]{64}\z/

  # Other files of the directory are not ours.
  defp leftovers(dir) do
    known = MapSet.new(attachments(dir), & &1.checksum)
    oldest = System.os_time(:second) - @leftover_seconds

    for name <- names(dir),
        String.starts_with?(name, @temporary) or sum?(name) or facts?(name),
        Path.rootname(name) not in known,
        path = Path.join(dir, name),
        {:ok, %{modified: modified}} <- [stat(path)],
        modified < oldest,
        do: path
  end

  defp read(path) do
    case FileSystem.read(path) do
      {:ok, text} -> {text, decoded(path, text)}
      {:error, _missing} -> {"", nil}
    end
  end

  defp encoded(attachment) do
    {:ok, text} =
      JSON.encode(%{
        "name" => attachment.name,
        "size" => attachment.size,
        "persist" => attachment.persist,
        "inserted_at" => DateTime.to_unix(attachment.inserted_at, :millisecond),
        "ttl_ms" => if(attachment.ttl_ms != :infinity, do: attachment.ttl_ms)
      })

    IO.iodata_to_binary([text, "\n"])
  end

  defp decoded(path, text) do
    checksum = Path.basename(path, ".json")

    with {:ok, %{"name" => name, "size" => size, "persist" => persist} = facts}
         when is_binary(name) and is_integer(size) and is_boolean(persist) <- JSON.decode(text),
         true <- Path.basename(name) == name and name not in ["", ".", ".."],
         ms when is_integer(ms) <- facts["inserted_at"],
         {:ok, inserted_at} <- DateTime.from_unix(ms, :millisecond),
         ttl when ttl == nil or (is_integer(ttl) and ttl >= 0) <- facts["ttl_ms"] do
      %Attachment{
        id: checksum,
        checksum: checksum,
        name: name,
        path: Path.join([Path.dirname(path), checksum, name]),
        size: size,
        persist: persist,
        inserted_at: inserted_at,
        ttl_ms: ttl || :infinity
      }
    else
      _torn -> nil
    end
  end
end
