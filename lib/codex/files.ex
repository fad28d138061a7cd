defmodule Codex.Files do
  @moduledoc """
  Copies of files for turns: an upload of a user stays readable until its turns have run, also if
  the original is moved or deleted.

      {:ok, shot} = Codex.Files.stage(upload.path, name: "screen.png", ttl_ms: 3_600_000)
      {:ok, options} = Codex.Thread.Options.new(%{})
      {:ok, thread} = Codex.start_thread(%{}, Codex.Files.attach(options, shot))

  The same content is kept once, at `<staging_dir>/<checksum>/<name>`. Copies have the mode 0600 in
  directories of the mode 0700. A process of the SDK removes copies whose time is over, every 60
  seconds.

  The CLI gets each attachment as an image (`--image`, or the input `localImage` of an app-server).
  It reads images of at most 64 MiB. Name other files in the prompt by the path of their copy.

  ## Configuration

      config :codex_sdk,
        staging_dir: "/var/lib/my_app/attachments",
        attachment_ttl_ms: 86_400_000,
        attachment_cleanup_interval_ms: 60_000

    * `:staging_dir` - a directory that outlives the VM. Several VMs may share it: the sums, times
      and names of copies are files beside them. By default it is a directory of this VM alone below
      `System.tmp_dir!/0`, which is removed when the VM ends, also if the VM is killed
    * `:attachment_ttl_ms` - the default of `ttl_ms`
    * `:attachment_cleanup_interval_ms` - the time between two clean-ups

  The keys are read at run time. The functions need the application `:codex_sdk`, and raise if it is
  not started.
  """

  alias Codex.{Native, NativePool, OptionError, Started, Telemetry}
  alias Codex.Files.{Attachment, Registry}
  alias Codex.Options.{Schema, Type}

  @most 1024 * 1024 * 1024
  @day 86_400_000
  @copy_timeout 600_000

  @schema Schema.new([
            {:name, :file_name, "the name of the copy",
             expected: "a file name without slashes, of at most 255 bytes",
             shown: "the name of the file"},
            {:persist, :boolean, "keep the copy until `reset!/0`", default: false},
            {:ttl_ms, :ttl, "how long the copy is kept, in ms",
             expected: "0 or a positive integer in milliseconds, or `:infinity`",
             shown: "one day, or the application's `:attachment_ttl_ms`"}
          ])

  @typedoc """
  Why a file was not staged: an option is invalid, the file or the staging directory cannot be read,
  or the copy cannot be written.
  """
  @type reason ::
          OptionError.t()
          | {:unreadable, Path.t(), Codex.Reason.file()}
          | {:write_failed, Path.t(), :held | Codex.Reason.file()}

  @doc """
  Copies a file of at most 1 GiB into the staging directory.

  Options:

  #{Schema.docs(@schema)}

  If the content is there already, its name stays, the time begins anew with the longer of both
  `ttl_ms`, and `persist: true` stays.

  Returns `{:ok, attachment}`. Errors:

    * `Codex.OptionError` - an option is unknown, or its value is invalid
    * `{:unreadable, path, reason}` - the file is missing, is not a regular file, or is too large
    * `{:write_failed, path, reason}` - the copy could not be written
  """
  @spec stage(Path.t(), keyword() | map()) :: {:ok, Attachment.t()} | {:error, reason()}
  def stage(path, opts \\ []) when is_binary(path) do
    :ok = Started.check!()

    with {:ok, opts} <- Schema.validate(@schema, opts, &cast/2),
         {:ok, name} <- name(opts.name, path),
         {:ok, dir} <- Registry.folder(),
         {:ok, {copy, checksum, size}} <- copy(path, dir) do
      wanted = %{
        name: name,
        checksum: checksum,
        size: size,
        persist: opts.persist,
        ttl_ms: opts.ttl_ms || default_ttl()
      }

      with {:ok, attachment, cached?} <- Registry.add(copy, wanted) do
        tell(attachment, cached?)
        {:ok, attachment}
      end
    end
  end

  defp cast(:file_name, name) do
    valid? =
      is_binary(name) and name not in ["", ".", ".."] and byte_size(name) <= 255 and
        String.valid?(name) and not String.contains?(name, ["/", <<0>>])

    if valid?, do: {:ok, name}, else: :error
  end

  defp cast(:ttl, :infinity), do: {:ok, :infinity}
  defp cast(:ttl, ms), do: Type.cast(:count, ms)
  defp cast(type, value), do: Type.cast(type, value)

  defp name(nil, path) do
    with :error <- cast(:file_name, Path.basename(path)),
         do: {:error, OptionError.invalid(:name, path, "a path that ends with a file name")}
  end

  defp name(name, _path), do: {:ok, name}

  defp copy(path, dir) do
    path = Path.expand(path)
    copy = &Native.file_stage(&1, &2, path, dir, @most)
    with {:error, reason} <- NativePool.call(copy, @copy_timeout), do: failed(reason, path, dir)
  end

  defp failed({:write, reason}, _path, dir), do: {:error, {:write_failed, dir, reason}}
  defp failed(reason, path, _dir), do: {:error, {:unreadable, path, reason}}

  defp default_ttl, do: Application.get_env(:codex_sdk, :attachment_ttl_ms, @day)

  defp tell(attachment, cached?) do
    Telemetry.execute([:codex, :attachment, :staged], %{size_bytes: attachment.size}, %{
      checksum: attachment.checksum,
      name: attachment.name,
      persist?: attachment.persist,
      ttl_ms: attachment.ttl_ms,
      cached?: cached?
    })
  end

  @doc "Returns the staged copies, the newest last."
  @spec list_staged() :: [Attachment.t()]
  def list_staged do
    :ok = Started.check!()
    Registry.list()
  end

  @doc "Returns the staging directory. It may not exist before the first copy."
  @spec staging_dir() :: Path.t()
  def staging_dir do
    :ok = Started.check!()
    Registry.dir()
  end

  @doc "Removes the copies whose time is over now, instead of at the next clean-up."
  @spec force_cleanup() :: :ok
  def force_cleanup do
    :ok = Started.check!()
    Registry.clean()
  end

  @doc "The former name of `force_cleanup/0`."
  @spec cleanup!() :: :ok
  def cleanup!, do: force_cleanup()

  @doc """
  Removes all copies, those with `persist: true`, too, and the staging directory if nothing else is
  in it.
  """
  @spec reset!() :: :ok
  def reset! do
    :ok = Started.check!()
    Registry.reset()
  end

  @doc """
  Counts the staged copies and their bytes. Persistent copies have `persist: true`; expirable copies
  have a time that ends.
  """
  @spec metrics() :: %{
          total_count: non_neg_integer(),
          total_bytes: non_neg_integer(),
          persistent_count: non_neg_integer(),
          persistent_bytes: non_neg_integer(),
          expirable_count: non_neg_integer(),
          expirable_bytes: non_neg_integer()
        }
  def metrics do
    all = list_staged()
    {persistent, others} = Enum.split_with(all, & &1.persist)
    expirable = Enum.reject(others, &(&1.ttl_ms == :infinity))

    for {name, list} <- [total: all, persistent: persistent, expirable: expirable],
        {unit, number} <- [count: length(list), bytes: list |> Enum.map(& &1.size) |> Enum.sum()],
        into: %{},
        do: {:"#{name}_#{unit}", number}
  end

  @doc """
  Adds an attachment to the option `attachments` of a thread: a `Codex.Thread.Options`, a map or a
  keyword list. Every turn of the thread gets it. Raises `Codex.OptionError` for other arguments.

      iex> shot = %Codex.Files.Attachment{
      ...>   id: "c0", checksum: "c0", name: "a.png", path: "/s/c0/a.png", size: 1,
      ...>   inserted_at: ~U[2026-01-01 00:00:00Z]
      ...> }
      iex> Codex.Files.attach([attachments: ["/b.png"]], shot)
      [attachments: ["/b.png", shot]]
  """
  @spec attach(options, Attachment.t()) :: options
        when options: Codex.Thread.Options.t() | map() | keyword()
  def attach(options, %Attachment{} = attachment) when is_list(options) do
    Keyword.update(options, :attachments, [attachment], &((&1 || []) ++ [attachment]))
  end

  def attach(%{} = options, %Attachment{} = attachment) do
    key = if is_map_key(options, "attachments"), do: "attachments", else: :attachments
    Map.update(options, key, [attachment], &((&1 || []) ++ [attachment]))
  end

  # The options may hold secrets, which the report of a missing clause would show.
  def attach(_options, %Attachment{}), do: raise(OptionError.not_options(:redacted))

  def attach(_options, other),
    do: raise(OptionError.invalid(:attachment, other, "a Codex.Files.Attachment"))
end
