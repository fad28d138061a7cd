defmodule Codex.FileSystem do
  @moduledoc false
  # Reads and writes files that others may control: those of a repository, of a home, of another
  # program. All readers of the SDK use this module, for four guarantees:
  #
  #   * only regular files are opened; a named pipe, a device, a socket and a directory are errors
  #   * a file has a limit of bytes, by default `max_bytes/0`
  #   * a call has a deadline: `:timeout` in milliseconds (default 5000), or `:deadline` of
  #     `deadline/1` for several calls
  #   * the VM's file server is not used, so a disk that hangs blocks neither it nor a scheduler
  #
  # Paths may be links; their target counts.

  alias Codex.{Native, NativePool}

  @max_bytes 16 * 1024 * 1024
  @max_names 100_000
  @timeout 5_000
  @lock_poll 5

  @type kind :: :regular | :directory | :pipe | :socket | :device | :other
  @type stat :: %{
          kind: kind(),
          size: non_neg_integer(),
          modified: integer(),
          inode: non_neg_integer(),
          mode: non_neg_integer(),
          owner: non_neg_integer()
        }

  @typedoc "`:timeout`, `:deadline`; `:limit` in bytes for reading."
  @type opts :: [timeout: pos_integer(), deadline: integer(), limit: pos_integer()]

  @doc "Returns the limit of a document (configuration, login, catalog, certificate) in bytes."
  @spec max_bytes() :: pos_integer()
  def max_bytes, do: @max_bytes

  @doc "Returns the deadline for calls that begin now and have so many milliseconds together."
  @spec deadline(non_neg_integer()) :: integer()
  def deadline(ms), do: System.monotonic_time(:millisecond) + ms

  @doc "Reads a file."
  @spec read(Path.t(), opts()) :: {:ok, binary()} | {:error, Codex.Reason.file()}
  def read(path, opts \\ []) do
    [result] = read_all([path], opts)
    result
  end

  @doc "Reads files, with one result for each. They share the time."
  @spec read_all([Path.t()], opts()) :: [{:ok, binary()} | {:error, Codex.Reason.file()}]
  def read_all(paths, opts \\ []), do: [] |> look(paths, opts) |> elem(1)

  @doc "Reads the last bytes of a file, at most `limit`."
  @spec tail(Path.t(), pos_integer(), opts()) :: {:ok, binary()} | {:error, Codex.Reason.file()}
  def tail(path, limit, opts \\ []),
    do: call(&Native.file_tail(&1, &2, text(path), limit), opts)

  @doc "Returns facts about a file."
  @spec stat(Path.t(), opts()) :: {:ok, stat()} | {:error, Codex.Reason.file()}
  def stat(path, opts \\ []) do
    [result] = stat_all([path], opts)
    result
  end

  @doc "Returns facts about files, one result for each."
  @spec stat_all([Path.t()], opts()) :: [{:ok, stat()} | {:error, Codex.Reason.file()}]
  def stat_all(paths, opts \\ []), do: paths |> look([], opts) |> elem(0)

  @doc """
  Returns facts about some files and the contents of others, in the order of the paths. All of them
  are one call, which takes little longer than that for one file.
  """
  @spec look([Path.t()], [Path.t()], opts()) ::
          {[{:ok, stat()} | {:error, Codex.Reason.file()}],
           [{:ok, binary()} | {:error, Codex.Reason.file()}]}
  def look(stats, texts, opts \\ [])
  def look([], [], _opts), do: {[], []}

  def look(stats, texts, opts) do
    limit = Keyword.get(opts, :limit, @max_bytes)
    {paths, others} = {Enum.map(stats, &text/1), Enum.map(texts, &text/1)}

    case call(&Native.file_look(&1, &2, paths, others, limit), opts) do
      {:error, reason} ->
        error = {:error, reason}
        {Enum.map(paths, &without_native(&1, error)), Enum.map(others, fn _ -> error end)}

      {stats, texts} ->
        {Enum.map(stats, &stat_of/1), texts}
    end
  end

  defp stat_of({:ok, {kind, size, modified, inode, mode, owner}}) do
    {:ok, %{kind: kind, size: size, modified: modified, inode: inode, mode: mode, owner: owner}}
  end

  defp stat_of(error), do: error

  # Without the native library, `Codex.Doctor` still needs facts about files.
  defp without_native(path, {:error, {:native, _words}}) do
    with {:ok, info} <- :file.read_file_info(text(path), [:raw, time: :posix]) do
      stat = File.Stat.from_record(info)
      kind = if stat.type in [:regular, :directory, :device], do: stat.type, else: :other
      mode = Bitwise.band(stat.mode, 0o7777)

      {:ok,
       %{
         kind: kind,
         size: stat.size,
         modified: stat.mtime,
         inode: stat.inode,
         mode: mode,
         owner: stat.uid
       }}
    end
  end

  defp without_native(_path, error), do: error

  @doc "Returns the current directory of the VM without access to a file system."
  @spec cwd() :: {:ok, Path.t()} | {:error, Codex.Reason.file()}
  def cwd do
    case Code.ensure_loaded(Native) do
      {:module, Native} -> Native.file_cwd()
      {:error, _why} -> File.cwd()
    end
  end

  @doc "Returns whether a path is a directory."
  @spec dir?(Path.t(), opts()) :: boolean()
  def dir?(path, opts \\ []), do: match?({:ok, %{kind: :directory}}, stat(path, opts))

  @doc "Checks that a working directory exists; nil is the VM's own."
  @spec working_directory(Path.t() | nil) ::
          :ok | {:error, {:invalid_working_directory, Path.t()}}
  def working_directory(nil), do: :ok

  def working_directory(dir),
    do: if(dir?(dir), do: :ok, else: {:error, {:invalid_working_directory, dir}})

  @doc "Returns whether a path is a regular file."
  @spec regular?(Path.t(), opts()) :: boolean()
  def regular?(path, opts \\ []), do: match?({:ok, %{kind: :regular}}, stat(path, opts))

  @doc "Returns whether a path is a file of any type."
  @spec exists?(Path.t(), opts()) :: boolean()
  def exists?(path, opts \\ []), do: match?({:ok, _}, stat(path, opts))

  @doc "Lists the names in a directory, sorted, at most #{@max_names}."
  @spec list(Path.t(), opts()) :: {:ok, [String.t()]} | {:error, Codex.Reason.file()}
  def list(path, opts \\ []),
    do: call(&Native.file_list(&1, &2, text(path), @max_names), opts)

  @doc """
  Follows the links of a path to a file that need not exist. Makes the directory of a link's target.
  """
  @spec target(Path.t(), opts()) :: {:ok, Path.t()} | {:error, Codex.Reason.file()}
  def target(path, opts \\ []),
    do: call(&Native.file_target(&1, &2, text(path)), opts)

  @doc "Returns the path of an existing file or directory without links."
  @spec real(Path.t(), opts()) :: {:ok, Path.t()} | {:error, Codex.Reason.file()}
  def real(path, opts \\ []), do: call(&Native.file_real(&1, &2, text(path)), opts)

  @doc """
  Replaces a file atomically if it still holds `before`; otherwise returns `:moved`. A missing file
  holds an empty text. A link stays a link, and the mode of the file stays; a new file has mode
  0600.
  """
  @spec swap(Path.t(), binary(), binary(), opts()) :: :ok | :moved | {:error, Codex.Reason.file()}
  def swap(path, before, text, opts \\ []),
    do: call(&Native.file_swap(&1, &2, text(path), before, text), opts)

  @doc "Takes the lock of a file if it is free. Makes a missing file. `unlock/1` releases it."
  @spec lock(Path.t(), opts()) :: {:ok, reference()} | {:error, :held | Codex.Reason.file()}
  def lock(path, opts \\ []),
    do: call(&Native.file_lock(&1, &2, text(path)), opts)

  @doc """
  Takes the lock of a file, and waits up to `timeout` ms for it: with 0, it has to be free. A lock
  that is held is tried again each `poll` ms.
  """
  @spec await_lock(Path.t(), non_neg_integer(), pos_integer()) ::
          {:ok, reference()} | {:error, :held | Codex.Reason.file()}
  def await_lock(path, timeout, poll \\ @lock_poll),
    do: poll_lock(path, deadline(timeout), poll)

  defp poll_lock(path, deadline, poll) do
    with {:error, :held} <- lock(path),
         true <- System.monotonic_time(:millisecond) < deadline do
      Process.sleep(poll)
      poll_lock(path, deadline, poll)
    else
      false -> {:error, :held}
      result -> result
    end
  end

  @doc "Calls a function while the lock of a file is held, as `await_lock/3` takes it."
  @spec with_lock(Path.t(), non_neg_integer(), (... -> result)) ::
          {:ok, result} | {:error, :held | Codex.Reason.file()}
        when result: term()
  def with_lock(path, timeout, fun) do
    with {:ok, lock} <- await_lock(path, timeout) do
      try do
        {:ok, fun.()}
      after
        unlock(lock)
      end
    end
  end

  @spec unlock(reference()) :: :ok
  def unlock(lock), do: Native.config_unlock(lock)

  @doc """
  Makes a directory of mode 0700, and missing parent directories. An existing directory is an error.
  """
  @spec make_private(Path.t(), opts()) :: :ok | {:error, Codex.Reason.file()}
  def make_private(path, opts \\ []) do
    with {:ok, :ok} <- call(&Native.file_make_private(&1, &2, text(path)), opts),
         do: :ok
  end

  @doc """
  Makes a file of mode 0600 in a new directory of mode 0700 below `parent`. Both have these modes
  from the beginning.
  """
  @spec hand_over(Path.t(), String.t(), iodata(), opts()) ::
          {:ok, Path.t()} | {:error, Codex.Reason.file()}
  def hand_over(parent, name, content, opts \\ []) do
    content = IO.iodata_to_binary(content)
    call(&Native.file_hand_over(&1, &2, text(parent), name, content), opts)
  end

  @doc """
  Formats a reason.

      iex> Codex.FileSystem.message({:not_regular, :pipe})
      "it is not a regular file but a named pipe"
      iex> Codex.FileSystem.message(:enoent)
      "no such file or directory"
  """
  @spec message(Codex.Reason.file()) :: String.t()
  def message({:not_regular, kind}), do: "it is not a regular file but #{kind_words(kind)}"
  def message({:too_large, limit}), do: "it is larger than the limit of #{limit} bytes"
  def message(:timeout), do: "the file system did not answer in time"
  def message({:native, words}), do: words
  def message(posix), do: posix |> :file.format_error() |> to_string()

  @doc false
  def kind_words(:regular), do: "a regular file"
  def kind_words(:directory), do: "a directory"
  def kind_words(:pipe), do: "a named pipe"
  def kind_words(:socket), do: "a socket"
  def kind_words(:device), do: "a device"
  def kind_words(:other), do: "of another type"

  @doc """
  Returns whether an error means that a file, or a directory on the way to it, does not exist.
  """
  defguard is_missing(reason) when reason in [:enoent, :enotdir]

  defp call(start, opts), do: NativePool.call(start, left(opts))

  defp left(opts) do
    case opts[:deadline] do
      nil -> Keyword.get(opts, :timeout, @timeout)
      deadline -> max(deadline - System.monotonic_time(:millisecond), 0)
    end
  end

  @doc "Returns the absolute path, as `Path.expand/1` does; at once if the path is that already."
  @spec expand(Path.t()) :: Path.t()
  def expand("/" <> _ = path) do
    normal? =
      :binary.match(path, ["//", "/./", "/../"]) == :nomatch and
        not String.ends_with?(path, ["/", "/.", "/.."])

    if normal?, do: path, else: Path.expand(path)
  end

  def expand(path), do: Path.expand(path)

  defp text(path), do: IO.chardata_to_string(path)
end
