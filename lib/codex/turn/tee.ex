defmodule Codex.Turn.Tee do
  @moduledoc false
  # The option `tee`: writes the output of a run to a folder. The process that reads the turn sends
  # the output to a writer (`Codex.Turn.Tee.Writer`) and never waits for a disk: what the writer has
  # not handled is bounded in bytes, and output beyond that is dropped and counted.

  alias Codex.{FileSystem, Telemetry}
  alias Codex.Turn.Tee.Writer

  # Bytes that wait for the writer.
  @most 8 * 1024 * 1024
  # How long the end of a run waits for the writer.
  @patience 2_000

  @pending 1
  @streams %{raw: 2, stderr: 3, events: 4}

  @enforce_keys [:pid, :counters, :path]
  defstruct [:pid, :counters, :path]

  @typedoc "A writer, bytes that wait and were dropped, and the folder of the run."
  @type t :: %__MODULE__{pid: pid(), counters: :atomics.atomics_ref(), path: Path.t()}
  @type stream :: :raw | :stderr | :events

  @doc "Checks that the folder of the option can be written, and makes a missing one."
  @spec check(map()) :: :ok | {:error, {:unwritable_tee, Path.t(), String.t()}}
  def check(%{tee: %{folder: folder}}) do
    folder = FileSystem.expand(folder)
    probe = Path.join(folder, ".codex-tee-" <> random())

    with :ok <- folder(folder),
         :ok <- FileSystem.make_private(probe) do
      _ = File.rmdir(probe)
      :ok
    else
      {:error, reason} -> {:error, {:unwritable_tee, folder, FileSystem.message(reason)}}
    end
  end

  def check(_without), do: :ok

  defp folder(path) do
    if FileSystem.dir?(path), do: :ok, else: make(path)
  end

  # Another run may make it at the same time.
  defp make(path) do
    made = FileSystem.make_private(path)
    if made != :ok and FileSystem.dir?(path), do: :ok, else: made
  end

  @doc "Starts the writer of a run, if the option is set. It ends with the calling process."
  @spec open(Codex.Turn.Job.t()) :: t() | nil
  def open(%{settings: %{tee: %{folder: folder} = limits} = settings} = job) do
    path = Path.join(FileSystem.expand(folder), name())
    counters = :atomics.new(map_size(@streams) + 1, signed: false)

    start = %{
      owner: self(),
      path: path,
      limits: limits,
      patterns: settings.redact,
      taken: &:atomics.sub(counters, @pending, &1),
      dropped: &dropped(counters, &1),
      telemetry: if(Telemetry.listening?(), do: settings.telemetry_prefix),
      run: %{"transport" => transport(job), "thread_id" => job.thread && job.thread.thread_id}
    }

    {:ok, pid} = Task.Supervisor.start_child(Codex.TaskSupervisor, Writer, :run, [start])
    tee = %__MODULE__{pid: pid, counters: counters, path: path}
    :ok = secrets(tee, fn -> job.module.secrets(job) end)
    tee
  end

  def open(_job), do: nil

  defp transport(%{transport: {kind, _server}}), do: Atom.to_string(kind)
  defp transport(%{transport: kind}), do: Atom.to_string(kind)

  # Names sort by time.
  defp name do
    time = DateTime.utc_now() |> DateTime.truncate(:millisecond) |> DateTime.to_iso8601(:basic)
    time <> "-" <> random()
  end

  defp random, do: 4 |> :crypto.strong_rand_bytes() |> Base.encode16(case: :lower)

  @doc "Adds secrets that are masked from now on. They are computed only if there is a writer."
  @spec secrets(t() | nil, (... -> [String.t()])) :: :ok
  def secrets(nil, _secrets), do: :ok

  def secrets(tee, secrets) do
    send(tee.pid, {:tee, :secrets, secrets.()})
    :ok
  end

  @doc "Writes bytes of stdout or stderr, cut anywhere."
  @spec bytes(t() | nil, :raw | :stderr, binary()) :: :ok
  def bytes(nil, _stream, _bytes), do: :ok
  def bytes(tee, stream, bytes), do: put(tee, stream, bytes, byte_size(bytes))

  @doc "Writes terms as lines of JSON: notifications, events and maps."
  @spec terms(t() | nil, :raw | :events, [term()]) :: :ok
  def terms(nil, _stream, _terms), do: :ok
  def terms(_tee, _stream, []), do: :ok
  def terms(tee, stream, terms), do: put(tee, stream, terms, :erlang.external_size(terms))

  defp put(tee, stream, data, size) do
    if :atomics.add_get(tee.counters, @pending, size) <= @most do
      send(tee.pid, {:tee, stream, data, size, dropped(tee.counters, stream)})
    else
      :atomics.sub(tee.counters, @pending, size)
      :atomics.add(tee.counters, @streams[stream], size)
    end

    :ok
  end

  defp dropped(counters, stream), do: :atomics.get(counters, @streams[stream])

  @doc """
  Ends the writer and returns the last elements of the run: the folder with the bytes written and
  dropped, and a warning if something is missing there. Waits two seconds at most.
  """
  @spec finish(t() | nil) :: [{:extras, map()} | {:warnings, [String.t()]}]
  def finish(nil), do: []

  def finish(tee) do
    ref = Process.monitor(tee.pid)
    send(tee.pid, {:finish, self(), ref})

    summary =
      receive do
        {^ref, summary} -> summary
        {:DOWN, ^ref, :process, _pid, _reason} -> missing("its writer has crashed")
      after
        @patience -> missing("the file system does not answer; its writer goes on")
      end

    Process.demonitor(ref, [:flush])
    summary = Map.put(summary, :path, tee.path)
    warnings = for words <- [words(summary)], words != nil, do: {:warnings, [words]}
    [{:extras, %{tee: summary}} | warnings]
  end

  defp missing(why), do: %{bytes: nil, dropped_bytes: nil, error: why}

  defp words(%{error: nil, dropped_bytes: 0}), do: nil

  defp words(%{error: nil} = summary) do
    "the files in #{summary.path} (option tee) lack #{summary.dropped_bytes} bytes, because they " <>
      "were written too slowly"
  end

  defp words(summary),
    do: "the files in #{summary.path} (option tee) are incomplete: #{summary.error}"
end
