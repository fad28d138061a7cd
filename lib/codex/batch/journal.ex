defmodule Codex.Batch.Journal do
  @moduledoc false
  # The states of the jobs of a batch in a file, so that a batch continues after a crash. The file
  # is a `:disk_log`; each entry is `{checksum, binary}` of one of these terms:
  #
  #   * `{:codex_batch, version}` - the first entry
  #   * `{:queued, key, digest}` - the job was taken from its source, and nothing of it has run
  #   * `{:begun, key}` - written before the turn begins: its prompt may have been sent
  #   * `{:begun, key, node}` - likewise, in a batch with nodes
  #   * `{:thread, key, thread_id}` - the thread of the turn
  #   * `{:done, key, record}` - the result, see `Codex.Batch.Recovery`
  #
  # Entries of begun and done jobs are on the disk before they count. A lock file keeps other
  # batches, also those of other VMs, away from the journal.

  require Logger

  alias Codex.Batch.Job
  alias Codex.{Error, FileSystem, Telemetry}

  @version 1
  @header {:codex_batch, @version}

  # How long the lock of a VM or a process that is ending is waited for.
  @lock_ms 5_000

  # A shorter file has no header of a disk_log: its writer was killed before the first entry.
  @least 8
  # The most bytes of a file whose first entry was not written completely.
  @first 128

  @enforce_keys [:log, :path, :lock, :entries, :lost?]
  defstruct @enforce_keys

  @typedoc """
    * `entries` - the jobs of earlier runs by key
    * `lost?` - whether entries of earlier runs are lost
  """
  @type t :: %__MODULE__{
          log: term(),
          path: Path.t(),
          lock: reference(),
          entries: %{term() => state()},
          lost?: boolean()
        }

  @typedoc "A digest of a job, and its state; `:seen` in this run."
  @type state :: :seen | {binary() | nil, Job.state()}

  @doc """
  Opens a journal, or makes it. It belongs to the calling process. A damaged journal is repaired,
  with a warning in the log and a telemetry event.
  """
  @spec open(Path.t(), [atom(), ...]) :: {:ok, t()} | {:error, Error.t()}
  def open(path, prefix) do
    path = Path.expand(path)

    with {:ok, lock} <- lock(path),
         {:ok, log, entries, lost} <- unlock_on_error(open_log(path), lock) do
      if lost != nil, do: report(path, lost, map_size(entries), prefix)
      {:ok, %__MODULE__{log: log, path: path, lock: lock, entries: entries, lost?: lost != nil}}
    end
  end

  defp lock(path) do
    case FileSystem.await_lock(path <> ".lock", @lock_ms) do
      {:ok, lock} -> {:ok, lock}
      {:error, :held} -> error(path, "another batch uses it")
      {:error, reason} -> error(path, FileSystem.message(reason))
    end
  end

  defp unlock_on_error({:ok, _log, _entries, _lost} = opened, _lock), do: opened

  defp unlock_on_error(error, lock) do
    :ok = FileSystem.unlock(lock)
    error
  end

  defp error(path, why, kind \\ :config),
    do: {:error, Error.new(kind, "the journal #{path} cannot be used: #{why}")}

  defp report(path, lost, kept, prefix) do
    Logger.warning(
      "codex: the journal #{path} was damaged and repaired: #{lost.bytes} bytes and " <>
        "#{lost.entries} entries are lost, #{kept} jobs are known"
    )

    Telemetry.execute(
      prefix ++ [:batch, :journal, :repaired],
      %{system_time: System.system_time(), bytes: lost.bytes, entries: lost.entries},
      %{originator: :sdk, path: path, jobs: kept}
    )
  end

  ## Opening

  defp open_log(path) do
    log = {__MODULE__, make_ref()}
    options = [name: log, file: to_charlist(path), type: :halt, format: :internal, quiet: true]

    case :disk_log.open(options) do
      {:ok, ^log} -> read(log, path, 0)
      {:repaired, ^log, {:recovered, _entries}, {:badbytes, bytes}} -> read(log, path, bytes)
      {:error, reason} when elem(reason, 0) == :not_a_log_file -> begin_anew(path)
      {:error, reason} -> error(path, words(reason))
    end
  end

  defp begin_anew(path) do
    case File.stat(path) do
      {:ok, %{size: size}} when size < @least ->
        :ok = File.rm(path)
        with {:ok, log, entries, _lost} <- open_log(path), do: {:ok, log, entries, lost(size, 0)}

      _other ->
        error(path, "it is no journal of a batch; name another file")
    end
  end

  defp lost(0, 0), do: nil
  defp lost(bytes, entries), do: %{bytes: bytes, entries: entries}

  defp read(log, path, bytes) do
    case chunks(log, :start, [], 0) do
      {[], 0, :ok} when bytes <= @first ->
        _ = File.chmod(path, 0o600)
        with :ok <- write(log, path, @header), do: {:ok, log, %{}, lost(bytes, 0)}

      {[@header | entries], bad, :ok} ->
        {:ok, log, Enum.reduce(entries, %{}, &state/2), lost(bytes, bad)}

      {[@header | entries], bad, :corrupt} ->
        salvage(log, path, entries, bad)

      {[], 0, corrupt} when corrupt == :corrupt or bytes > 0 ->
        begin_again(log, path, max(bytes, size(path)))

      {[{:codex_batch, version} | _], _bad, _end} ->
        _ = :disk_log.close(log)
        error(path, other_version(version))

      _other ->
        _ = :disk_log.close(log)
        error(path, "it is no journal of a batch; name another file")
    end
  end

  defp other_version(version),
    do: "it has the version #{version}, and this package knows #{@version}"

  defp chunks(log, at, entries, bad) do
    case :disk_log.chunk(log, at) do
      :eof -> {Enum.reverse(entries), bad, :ok}
      {:error, _corrupt} -> {Enum.reverse(entries), bad, :corrupt}
      {at, terms} -> chunks(log, at, terms, entries, bad)
      {at, terms, _bytes} -> chunks(log, at, terms, entries, bad + 1)
    end
  end

  defp chunks(log, at, terms, entries, bad) do
    {entries, bad} = decode(terms, entries, bad)
    chunks(log, at, entries, bad)
  end

  defp decode(terms, entries, bad) do
    Enum.reduce(terms, {entries, bad}, fn
      {sum, binary}, {entries, bad} when is_binary(binary) ->
        if :erlang.crc32(binary) == sum,
          do: {[:erlang.binary_to_term(binary) | entries], bad},
          else: {entries, bad + 1}

      _other, {entries, bad} ->
        {entries, bad + 1}
    end)
  end

  # The disk_log repairs only logs that were not closed. The damaged file is kept.
  defp salvage(log, path, entries, bad) do
    _ = :disk_log.close(log)
    size = size(path)

    with :ok <- File.rename(path, path <> ".damaged"),
         {:ok, log, _none, _lost} <- open_log(path),
         :ok <- write_all(log, path, entries),
         :ok <- :disk_log.sync(log) do
      lost = lost(max(size - size(path), 1), bad)
      {:ok, log, Enum.reduce(entries, %{}, &state/2), lost}
    else
      {:error, %Error{}} = error -> error
      {:error, posix} -> error(path, FileSystem.message(posix))
    end
  end

  # Jobs of a longer file may have run.
  defp begin_again(log, path, bytes) when bytes <= @first do
    _ = :disk_log.close(log)
    :ok = File.rm(path)
    with {:ok, log, entries, _lost} <- open_log(path), do: {:ok, log, entries, lost(bytes, 0)}
  end

  defp begin_again(log, path, _bytes) do
    _ = :disk_log.close(log)
    error(path, "its beginning is damaged, and its jobs may have run; name another file")
  end

  defp size(path), do: File.stat!(path).size

  defp write_all(log, path, entries) do
    Enum.reduce_while(entries, :ok, fn entry, :ok ->
      case write(log, path, entry, false) do
        :ok -> {:cont, :ok}
        error -> {:halt, error}
      end
    end)
  end

  defp words({:file_error, _path, posix}), do: FileSystem.message(posix)
  defp words(reason), do: Codex.Text.line(inspect(reason))

  ## The states of jobs

  defp state({:queued, key, digest}, entries), do: Map.put(entries, key, {digest, :queued})
  defp state({:begun, key}, entries), do: put(entries, key, {:begun, nil, nil})
  defp state({:begun, key, node}, entries), do: put(entries, key, {:begun, nil, node})

  defp state({:thread, key, thread_id}, entries) do
    node =
      case entries do
        %{^key => {_digest, {:begun, _id, node}}} -> node
        _unknown -> nil
      end

    put(entries, key, {:begun, thread_id, node})
  end

  defp state({:done, key, record}, entries), do: put(entries, key, {:done, record})
  defp state(_unknown, entries), do: entries

  # Without its first entry, the digest of the job is not known.
  defp put(entries, key, state) do
    {digest, _state} = Map.get(entries, key, {nil, :queued})
    Map.put(entries, key, {digest, state})
  end

  @doc """
  Reads the entries of a journal, which another batch may be writing, into an accumulator. Nothing
  is repaired; what cannot be read is left out.
  """
  @spec fold(Path.t(), acc, (term(), acc -> acc)) :: {:ok, acc} | {:error, Error.t()}
        when acc: term()
  def fold(path, acc, fun) do
    log = {__MODULE__, make_ref()}
    options = [name: log, file: to_charlist(path), mode: :read_only, quiet: true]

    case :disk_log.open(options) do
      {:ok, ^log} ->
        result = fold_log(log, path, acc, fun)
        _ = :disk_log.close(log)
        result

      {:error, {:file_error, _path, _posix} = reason} ->
        error(path, words(reason))

      {:error, _other} ->
        error(path, "it is no journal of a batch; name another file")
    end
  end

  defp fold_log(log, path, acc, fun) do
    case chunk(log, :start) do
      {at, [@header | entries]} ->
        {:ok, fold_chunks(log, at, Enum.reduce(entries, acc, fun), fun)}

      {_at, []} ->
        {:ok, acc}

      {_at, [{:codex_batch, version} | _]} ->
        error(path, other_version(version))

      _other ->
        error(path, "it is no journal of a batch; name another file")
    end
  end

  defp fold_chunks(_log, :eof, acc, _fun), do: acc

  defp fold_chunks(log, at, acc, fun) do
    {at, entries} = chunk(log, at)
    fold_chunks(log, at, Enum.reduce(entries, acc, fun), fun)
  end

  defp chunk(log, at) do
    case :disk_log.chunk(log, at) do
      {at, terms} -> {at, terms |> decode([], 0) |> elem(0) |> Enum.reverse()}
      {at, terms, _bad_bytes} -> {at, terms |> decode([], 0) |> elem(0) |> Enum.reverse()}
      _end_or_corrupt -> {:eof, []}
    end
  end

  @doc """
  Enters a job that was taken from the source, and returns its state in earlier runs. A new job is
  noted as queued. If entries are lost, a queued job may have begun.
  """
  @spec enter(t(), Job.t()) ::
          {:ok, Job.state(), t()} | {:error, Error.t()}
  def enter(journal, %{key: key} = job) do
    digest = digest(job)
    seen = %{journal | entries: Map.put(journal.entries, key, :seen)}

    case journal.entries do
      %{^key => :seen} ->
        {:error, refused(key, "an earlier job has this key, too; a journal needs other keys")}

      %{^key => {known, _state}} when known not in [nil, digest] ->
        {:error, refused(key, "the journal has another prompt or folder for this key")}

      %{^key => {_digest, :queued}} when journal.lost? ->
        {:ok, {:begun, nil, nil}, seen}

      %{^key => {_digest, state}} ->
        {:ok, state, seen}

      _new ->
        with :ok <- write(journal.log, journal.path, {:queued, key, digest}, false),
             do: {:ok, :queued, seen}
    end
  end

  # Options may change: they hold functions, and limits that were too low.
  defp digest(job),
    do: :crypto.hash(:sha256, :erlang.term_to_binary({job.prompt, job.cwd}, minor_version: 2))

  defp refused(key, why) do
    shown = Codex.Text.line(inspect(key, limit: 5, printable_limit: 50))
    Error.new(:invalid_request, "the job #{shown} cannot run: #{why}")
  end

  @doc "Notes that the turn of a job may begin, in a batch with nodes on this one."
  @spec begun(t(), term(), node() | nil) :: :ok | {:error, Error.t()}
  def begun(journal, key, node \\ nil)
  def begun(journal, key, nil), do: write(journal.log, journal.path, {:begun, key})
  def begun(journal, key, node), do: write(journal.log, journal.path, {:begun, key, node})

  @doc "Notes the thread of a job."
  @spec thread(t(), term(), String.t()) :: :ok | {:error, Error.t()}
  def thread(journal, key, id), do: write(journal.log, journal.path, {:thread, key, id})

  @doc "Notes the result of a job."
  @spec done(t(), term(), map()) :: :ok | {:error, Error.t()}
  def done(journal, key, record), do: write(journal.log, journal.path, {:done, key, record})

  @doc "Notes that nothing of a job has run, after all."
  @spec queued(t(), Job.t()) :: :ok | {:error, Error.t()}
  def queued(journal, job),
    do: write(journal.log, journal.path, {:queued, job.key, digest(job)})

  # Called by workers, too. Their log is closed when its reader ends.
  defp write(log, path, entry, sync? \\ true) do
    binary = :erlang.term_to_binary(entry, minor_version: 2)

    with :ok <- :disk_log.log(log, {:erlang.crc32(binary), binary}),
         :ok <- if(sync?, do: :disk_log.sync(log), else: :ok) do
      :ok
    else
      {:error, reason} -> error(path, "it was not written: #{words(reason)}")
    end
  end

  @doc "Closes a journal."
  @spec close(t() | nil) :: :ok
  def close(nil), do: :ok

  def close(journal) do
    _ = :disk_log.close(journal.log)
    FileSystem.unlock(journal.lock)
  end
end
