defmodule Codex.SessionStore.Staging do
  @moduledoc false
  # Copies a stored file beside its place in a home, under a temporary name and with mode 0600. The
  # copy is whole: its first line was parsed, its last one has a newline, and a file of the home is
  # its beginning.

  alias Codex.SessionStore
  alias Codex.SessionStore.{Adapter, Local, Name}

  @page 1024 * 1024

  @typedoc "The store and the home."
  @type place :: %{:store => SessionStore.t(), :home => Path.t(), optional(atom()) => term()}

  @doc """
  Writes the copy. `before` is the file of the home with its size, or nil. Returns the path of the
  copy, its size, and its first line.
  """
  @spec write(place(), Name.t(), {Local.file(), non_neg_integer()} | nil) ::
          {:ok, Path.t(), non_neg_integer(), Local.meta() | nil}
          | {:error, SessionStore.reason()}
  def write(place, name, before) do
    folder =
      if before, do: before |> elem(0) |> Map.fetch!(:path) |> Path.dirname(), else: name.folder

    staged = Path.join([place.home, folder, ".codex-sdk-" <> random()])

    with {:ok, io} <- written(:file.open(staged, [:write, :raw, :binary, :exclusive]), name) do
      result = filled(io, staged, place, name, before)
      closed = written(:file.close(io), name)

      with {:ok, bytes, meta} <- result,
           :ok <- closed do
        {:ok, staged, bytes, meta}
      else
        {:error, reason} ->
          _ = :file.delete(staged)
          {:error, reason}
      end
    end
  end

  defp filled(io, staged, place, name, before) do
    {file, local} = before || {nil, 0}
    copy = %{io: io, name: name, file: file, local: local, meta: nil, newline?: false}

    with :ok <- written(File.chmod(staged, 0o600), name),
         {:ok, _bytes, _meta} = result <- pages(copy, 0, "", place),
         :ok <- written(:file.sync(io), name),
         do: result
  end

  defp random, do: 12 |> :crypto.strong_rand_bytes() |> Base.encode16(case: :lower)

  defp written({:error, reason}, name), do: {:error, {:write_failed, name.file, reason}}
  defp written(ok, _name), do: ok

  # `head` is the first line as far as it has come, nil when it is whole.
  defp pages(copy, at, head, place) do
    %{max_file_bytes: limit} = place.store.settings

    case Adapter.read(place.store, Name.key(copy.name), at, @page) do
      {:ok, ""} -> complete(copy, at, head)
      {:ok, bytes} when at + byte_size(bytes) > limit -> invalid(copy, {:too_large, limit})
      {:ok, bytes} -> page(copy, at, head, bytes, place)
      {:error, reason} -> {:error, reason}
    end
  end

  defp page(copy, at, head, bytes, place) do
    with {:ok, copy, head} <- first_line(copy, head, bytes, place.store.settings.max_line_bytes),
         :ok <- prefix(copy, at, bytes, place),
         :ok <- written(:file.write(copy.io, bytes), copy.name) do
      copy = %{copy | newline?: :binary.last(bytes) == ?\n}
      pages(copy, at + byte_size(bytes), head, place)
    end
  end

  defp first_line(copy, nil, _bytes, _longest), do: {:ok, copy, nil}

  defp first_line(copy, head, bytes, longest) do
    head = head <> bytes

    cond do
      :binary.match(head, "\n") != :nomatch -> {:ok, %{copy | meta: Local.parse(head)}, nil}
      byte_size(head) <= longest -> {:ok, copy, head}
      true -> {:error, {:session_line_too_long, copy.name.file, longest}}
    end
  end

  defp complete(%{newline?: true, local: local} = copy, at, nil) when at >= local,
    do: {:ok, at, copy.meta}

  defp complete(copy, _at, _head), do: invalid(copy, :content)

  defp invalid(copy, why), do: {:error, {:invalid_stored_session, copy.name.file, why}}

  # Half a line at the end of the file in the home does not count.
  defp prefix(%{file: nil}, _at, _bytes, _place), do: :ok
  defp prefix(%{local: local}, at, _bytes, _place) when at >= local, do: :ok

  defp prefix(%{name: name, file: file, local: local}, at, bytes, place) do
    count = min(local - at, byte_size(bytes))

    with {:ok, mine, _file} <- read(name, Local.bytes(place.home, file, at, count)) do
      whole = if at + count == local, do: whole(mine), else: mine

      if binary_part(bytes, 0, byte_size(whole)) == whole,
        do: :ok,
        else: {:error, {:session_store_conflict, name.file, stored(place, name), local}}
    end
  end

  defp whole(bytes) do
    case :binary.matches(bytes, "\n") do
      [] -> ""
      matches -> binary_part(bytes, 0, elem(List.last(matches), 0) + 1)
    end
  end

  defp stored(place, name) do
    with {:ok, files} <- Adapter.files(place.store, name.thread),
         {_file, size} <- List.keyfind(files, name.file, 0) do
      size
    else
      _unknown -> 0
    end
  end

  @doc "Names the file in the error of a read from the home."
  @spec read(Name.t(), result) :: result | {:error, SessionStore.reason()} when result: tuple()
  def read(_name, {:error, {:native, _words} = reason}), do: {:error, reason}
  def read(name, {:error, reason}), do: {:error, {:unreadable_session, name.file, reason}}
  def read(_name, ok), do: ok
end
