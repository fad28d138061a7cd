defmodule Codex.SessionStore.Upload do
  @moduledoc false
  # Sends the session files of a thread to a store, step by step. The files themselves are the
  # buffer: only offsets are kept, so a slow store costs no memory.
  #
  # The store decides with its size: `append` refuses every other offset. Before the first bytes of
  # a file are sent, and after each refusal, the end of the stored content is compared with the
  # home. So a batch whose answer was lost, and two mirrors of one node, go on; content that another
  # node wrote is a conflict.
  #
  # A fork of newer CLIs holds only its own lines: the files with the history before them are sent,
  # too, as far as the fork needs them.

  alias Codex.Sessions.Segments
  alias Codex.SessionStore
  alias Codex.SessionStore.{Adapter, Local, Name}

  # The part of the stored content that is compared.
  @compared 16 * 1024

  # A longer chain of forks is a loop.
  @max_bases 1_000

  @enforce_keys [:store, :home, :thread]
  defstruct [
    :store,
    :home,
    :thread,
    :segments,
    :last,
    # Keys of files in the order in which they are looked at, and the files.
    order: [],
    entries: %{},
    # Sizes in the store, by thread.
    stored: %{},
    sent: 0
  ]

  @typedoc """
  `last` has the beginning of the last line that was sent. An entry has the file, the offset up to
  which the store has it (nil before it was asked), the offset that is enough, and whether its end
  was reached.
  """
  @type t :: %__MODULE__{}

  @type result ::
          {:sent, SessionStore.key(), pos_integer(), t()}
          | {:idle, t()}
          | {:error, SessionStore.reason(), t()}

  @doc "Returns the upload of a thread, of which nothing was sent."
  @spec new(SessionStore.t(), Path.t(), String.t()) :: t()
  def new(store, home, thread),
    do: %__MODULE__{store: store, home: home, thread: thread}

  @doc "Returns whether there is a file of the thread."
  @spec any?(t()) :: boolean()
  def any?(upload), do: upload.order != []

  @doc """
  Sends a batch. The result is `:idle` if the home has nothing more; a later call looks again.
  """
  @spec step(t()) :: result()
  def step(%{segments: nil} = upload) do
    case Local.files(upload.home, upload.thread) do
      {:ok, files} ->
        segments = Segments.new(upload.home, upload.thread, files)
        files |> Enum.reduce(%{upload | segments: segments}, &add(&2, &1, :all)) |> step()

      {:error, reason} ->
        {:error, reason, upload}
    end
  end

  def step(upload) do
    case Enum.find(upload.order, &(not upload.entries[&1].idle?)) do
      nil -> look(upload)
      key -> send_some(upload, key)
    end
  end

  # A revert makes another file. Only the newest file of a thread grows.
  defp look(upload) do
    case Segments.next(upload.segments) do
      {nil, segments} -> {:idle, wake(%{upload | segments: segments})}
      {file, segments} -> %{upload | segments: segments} |> add(file, :all) |> step()
    end
  end

  defp wake(upload) do
    case Enum.filter(upload.order, &(elem(&1, 0) == upload.thread)) do
      [] -> upload
      own -> put(upload, List.last(own), idle?: false)
    end
  end

  defp add(upload, file, enough) do
    key = {file.thread, Name.of(file.path)}

    if is_map_key(upload.entries, key) do
      upload
    else
      entry = %{file: file, at: nil, enough: enough, idle?: false}

      # History first, so that the store never has a fork without it for long.
      order =
        if file.thread == upload.thread,
          do: upload.order ++ [key],
          else: [key | upload.order]

      %{upload | order: order, entries: Map.put(upload.entries, key, entry)}
    end
  end

  defp put(upload, key, changes) do
    entry = Map.merge(upload.entries[key], Map.new(changes))
    %{upload | entries: Map.put(upload.entries, key, entry)}
  end

  ## One file

  defp send_some(upload, key) do
    case upload.entries[key] do
      %{at: nil} -> locate(upload, key)
      %{at: at, enough: enough} when at >= enough -> upload |> put(key, idle?: true) |> step()
      _entry -> push(upload, key)
    end
  end

  defp push(upload, key) do
    %{file: file, at: at} = upload.entries[key]
    %{batch_bytes: most, max_line_bytes: longest} = upload.store.settings

    case Local.lines(upload.home, file, at, most, longest) do
      {:ok, "", file} -> upload |> put(key, file: file, idle?: true) |> step()
      {:ok, bytes, file} -> append(put(upload, key, file: file), key, at, bytes)
      {:error, reason} -> fail(upload, key, unreadable(reason, upload, key))
    end
  end

  defp append(upload, key, at, bytes) do
    case Adapter.append(upload.store, key, at, bytes) do
      :ok ->
        size = byte_size(bytes)
        upload = put(upload, key, at: at + size)
        {:sent, key, size, %{upload | sent: upload.sent + size, last: last(upload, key, bytes)}}

      # Looked at again: this may be the batch before, whose answer was lost.
      {:conflict, have} ->
        upload
        |> put(key, at: nil)
        |> Map.update!(:stored, &Map.delete(&1, elem(key, 0)))
        |> compare(key, have)

      {:error, reason} ->
        fail(upload, key, reason)
    end
  end

  @head 512

  defp last(%{thread: thread}, {thread, _file}, bytes) do
    before = binary_part(bytes, 0, byte_size(bytes) - 1)

    from =
      case :binary.matches(before, "\n") do
        [] -> 0
        matches -> elem(List.last(matches), 0) + 1
      end

    bytes |> binary_part(from, min(@head, byte_size(bytes) - from)) |> :binary.copy()
  end

  defp last(upload, _history, _bytes), do: upload.last

  ## The place in the store

  defp locate(upload, {thread, file} = key) do
    with {:ok, upload} <- stored(upload, thread),
         {:ok, upload} <- bases(upload, key) do
      have = Map.get(upload.stored[thread], file, 0)

      if have >= upload.entries[key].enough,
        do: upload |> put(key, idle?: true) |> step(),
        else: compare(upload, key, have)
    else
      {:error, reason} -> fail(upload, key, reason)
    end
  end

  defp stored(%{stored: stored} = upload, thread) when is_map_key(stored, thread),
    do: {:ok, upload}

  defp stored(upload, thread) do
    with {:ok, files} <- Adapter.files(upload.store, thread),
         do: {:ok, put_in(upload.stored[thread], Map.new(files))}
  end

  defp compare(upload, key, have) do
    case agree(upload, key, upload.entries[key].file, have) do
      {:ok, file} -> upload |> put(key, file: file, at: have) |> step()
      {:ahead, file} -> upload |> put(key, file: file, idle?: true) |> step()
      {:error, reason} -> fail(upload, key, unreadable(reason, upload, key))
    end
  end

  # Compares the end of the shorter one with the other one. Two different files do not agree in
  # 16 KiB: lines have times and ids. `:ahead` if the store has more.
  defp agree(upload, {_thread, name} = key, file, have) do
    with {:ok, size, file} <- whole_size(upload, file, have),
         ended = min(size, have),
         from = max(ended - @compared, 0),
         {:ok, local, file} <- local(upload, file, from, ended - from),
         {:ok, stored} <- Adapter.read_all(upload.store, key, from, ended - from) do
      cond do
        local != stored -> {:error, {:session_store_conflict, name, have, size}}
        have > size -> {:ahead, file}
        true -> {:ok, file}
      end
    end
  end

  defp local(_upload, file, _from, 0), do: {:ok, "", file}
  defp local(upload, file, from, count), do: Local.bytes(upload.home, file, from, count)

  # The size without half a line at the end, which matters only if the store has more.
  defp whole_size(upload, file, have) do
    with {:ok, size, file} when size < have <- Local.size(upload.home, file),
         {:ok, half} <- half(upload, file, size, 65_536),
         do: {:ok, size - half, file}
  end

  ## History in other files

  defp bases(upload, key) do
    with true <- map_size(upload.entries) < @max_bases,
         {:ok, %{base: {rollout, _parent, ended}}} <-
           Local.meta(upload.home, upload.entries[key].file),
         false <-
           Enum.any?(upload.entries, fn {_key, entry} -> entry.file.rollout == rollout end),
         {:ok, files} <- Local.files(upload.home, rollout),
         %{} = file <- Enum.find(files, &(&1.rollout == rollout)) do
      {:ok, add(upload, file, ended)}
    else
      # The home has not got it, or there is none.
      _no_base -> {:ok, upload}
    end
  end

  ## Failures

  # The next step asks the store again.
  defp fail(upload, {thread, _file} = key, reason) do
    upload = %{put(upload, key, at: nil) | stored: Map.delete(upload.stored, thread)}
    {:error, reason, upload}
  end

  defp unreadable(:too_long, upload, {_thread, name}),
    do: {:session_line_too_long, name, upload.store.settings.max_line_bytes}

  # The store has more than the home.
  defp unreadable(:replaced, upload, {_thread, name} = key) do
    %{file: file, at: at} = upload.entries[key]

    case Local.size(upload.home, file) do
      {:ok, size, _file} -> {:session_store_conflict, name, at, size}
      {:error, reason} -> unreadable(reason, upload, key)
    end
  end

  defp unreadable(reason, _upload, _key) when is_tuple(reason), do: reason

  defp unreadable(reason, _upload, {_thread, name}), do: {:unreadable_session, name, reason}

  ## Facts

  @doc """
  Counts the bytes of whole lines that the store lacks of the thread's own files, with the first
  difference that shows.
  """
  @spec missing(t()) :: {:ok, non_neg_integer()} | {:error, SessionStore.reason()}
  def missing(%{segments: nil} = upload) do
    with {:ok, files} <- Local.files(upload.home, upload.thread),
         {:ok, upload} <- stored(upload, upload.thread) do
      missing(files, upload, 0)
    end
  end

  defp missing([], _upload, sum), do: {:ok, sum}

  defp missing([file | files], upload, sum) do
    with {:ok, count} <- missing(upload, file), do: missing(files, upload, sum + count)
  end

  defp missing(upload, file) do
    key = {_thread, name} = {file.thread, Name.of(file.path)}
    have = Map.get(upload.stored[file.thread], name, 0)

    with {:ok, file} <- agree(upload, key, file, have),
         {:ok, size, file} <- Local.size(upload.home, file),
         {:ok, half} <- half(upload, file, size, 65_536) do
      {:ok, size - half - have}
    else
      {:ahead, _file} -> {:ok, 0}
      {:error, reason} -> {:error, unreadable(reason, upload, key)}
    end
  end

  # The bytes behind the last newline.
  defp half(_upload, _file, 0, _count), do: {:ok, 0}

  defp half(upload, file, size, count) do
    from = max(size - count, 0)

    with {:ok, bytes, file} <- Local.bytes(upload.home, file, from, size - from) do
      case :binary.matches(bytes, "\n") do
        [] when from > 0 -> half(upload, file, size, count * 4)
        [] -> {:ok, size}
        matches -> {:ok, byte_size(bytes) - elem(List.last(matches), 0) - 1}
      end
    end
  end
end
