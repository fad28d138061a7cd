defmodule Codex.SessionStore.Mirror do
  @moduledoc false
  # The process that mirrors a thread while a turn runs. It belongs to the reader of the turn, which
  # it monitors, and no failure of it reaches the reader. After the end of the turn it goes on until
  # the store has all lines, or for `give_up_ms`.
  #
  # A failed step is tried again after a pause that doubles. What was not sent stays in the file.

  alias Codex.{Error, SessionStore, Telemetry}
  alias Codex.SessionStore.{Status, Upload}

  @first_pause 100
  @longest_pause 5_000

  # An app-server may write the last lines of a turn after it has reported its end.
  @quiet_ms 300

  # The lines that end a turn have one of these types.
  @ends [~s("task_complete"), ~s("turn_aborted")]

  @enforce_keys [:upload, :owner, :prefix, :thread, :began]
  defstruct [
    :upload,
    :owner,
    :prefix,
    :thread,
    :began,
    # The file is final when the turn is over.
    :final?,
    # When it gives up; nil while the turn runs.
    :deadline,
    # Who waits for the end.
    :waiter,
    # Since when the files have not grown.
    :quiet_since,
    :error,
    failures: 0
  ]

  @typedoc "A running mirror: its process, its monitor, the thread, and how long its end may take."
  @type t :: %{pid: pid(), monitor: reference(), thread: String.t(), flush_ms: non_neg_integer()}

  @doc """
  Starts to mirror a thread for the calling process. Options: `:home`, a function that returns the
  home; `:final?`, whether the files do not change after the end of the turn; `:prefix` of the
  telemetry.
  """
  @spec start(SessionStore.t(), String.t(), keyword()) :: t() | nil
  def start(store, thread, opts) do
    owner = self()

    case Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
           run(store, thread, owner, opts)
         end) do
      {:ok, pid} ->
        flush_ms = store.settings.flush_ms
        %{pid: pid, monitor: Process.monitor(pid), thread: thread, flush_ms: flush_ms}

      _stopping ->
        nil
    end
  end

  @doc """
  Ends a mirror with its turn. Waits until the store has all lines, for `flush_ms` at most; the
  mirror goes on then.
  """
  @spec flush(t()) :: Status.t()
  def flush(%{flush_ms: 0} = mirror) do
    :ok = finish(mirror)
    %Status{thread_id: mirror.thread, state: :behind}
  end

  def flush(mirror) do
    send(mirror.pid, {:finish, self(), mirror.monitor})
    deadline = now() + mirror.flush_ms
    status = await(mirror, deadline, %Status{thread_id: mirror.thread, state: :behind})
    Process.demonitor(mirror.monitor, [:flush])
    status
  end

  defp await(%{monitor: ref} = mirror, deadline, status) do
    receive do
      {^ref, :done, status} -> status
      {^ref, :failing, status} -> await(mirror, deadline, status)
      {:DOWN, ^ref, :process, _pid, _reason} -> died(status)
    after
      max(deadline - now(), 0) -> drain(ref, status)
    end
  end

  defp died(status) do
    error = Error.new(:session_store, "the process of the mirror ended")
    %{status | state: :failed, error: status.error || error}
  end

  defp drain(ref, status) do
    receive do
      {^ref, _state, status} -> drain(ref, status)
    after
      0 -> status
    end
  end

  @doc "Ends a mirror with its turn, without waiting."
  @spec finish(t()) :: :ok
  def finish(mirror) do
    send(mirror.pid, {:finish, nil, nil})
    Process.demonitor(mirror.monitor, [:flush])
    :ok
  end

  ## The process

  defp run(store, thread, owner, opts) do
    monitor = Process.monitor(owner)

    case opts[:home].() do
      home when is_binary(home) ->
        loop(%__MODULE__{
          upload: Upload.new(store, home, thread),
          owner: monitor,
          prefix: opts[:prefix],
          thread: thread,
          began: System.monotonic_time(),
          final?: opts[:final?]
        })

      nil ->
        :ok
    end
  end

  defp loop(state) do
    began = System.monotonic_time()

    case Upload.step(state.upload) do
      {:sent, _key, bytes, upload} ->
        measurements = Map.put(Telemetry.spent(began), :bytes, bytes)
        emit(state, :append, measurements, %{})
        next(%{state | upload: upload, failures: 0, error: nil, quiet_since: nil}, 0)

      {:idle, upload} ->
        idle(%{state | upload: upload, failures: 0, error: nil})

      {:error, reason, upload} ->
        failed(%{state | upload: upload}, reason)
    end
  end

  # A waiter that came while a step ran is answered by the next step, which sees the final file.
  defp idle(%{deadline: nil} = state), do: next(state, poll_ms(state))

  defp idle(state) do
    quiet_since = state.quiet_since || now()

    cond do
      complete?(state, quiet_since) -> stop(state, :current)
      over?(state) -> stop(state, :behind)
      true -> next(%{state | quiet_since: quiet_since}, min(poll_ms(state), @quiet_ms))
    end
  end

  defp complete?(%{upload: upload} = state, quiet_since) do
    Upload.any?(upload) and
      (state.final? or ended?(upload.last) or now() - quiet_since >= @quiet_ms)
  end

  defp ended?(nil), do: false
  defp ended?(line), do: :binary.match(line, @ends) != :nomatch

  defp failed(state, reason) do
    error = Error.normalize(reason)
    failures = state.failures + 1
    emit(state, :failure, %{}, %{attempt: failures, kind: error.kind, reason: elem(reason, 0)})
    state = %{state | failures: failures, error: error, quiet_since: nil}
    tell(state, :failing, :failed)

    if over?(state),
      do: stop(state, :failed),
      else: next(state, pause(failures))
  end

  defp pause(failures) do
    pause = min(@first_pause * 2 ** min(failures - 1, 10), @longest_pause)
    div(pause, 2) + :rand.uniform(div(pause, 2))
  end

  defp over?(%{deadline: nil}), do: false
  defp over?(%{deadline: deadline}), do: now() >= deadline

  defp stop(state, result) do
    tell(state, :done, result)
    spent = Map.put(Telemetry.spent(state.began), :bytes, state.upload.sent)
    emit(state, :stop, spent, %{state: result, error: state.error && state.error.kind})
  end

  defp tell(%{waiter: nil}, _message, _result), do: :ok

  defp tell(%{waiter: {pid, ref}} = state, message, result) do
    status = %Status{
      thread_id: state.thread,
      state: result,
      sent: state.upload.sent,
      error: state.error
    }

    send(pid, {ref, message, status})
    :ok
  end

  defp next(%{owner: owner} = state, ms) do
    receive do
      {:finish, pid, ref} -> state |> finished(pid && {pid, ref}) |> loop()
      {:DOWN, ^owner, :process, _pid, _reason} -> state |> finished(state.waiter) |> loop()
    after
      min(ms, left(state)) -> loop(state)
    end
  end

  defp finished(state, waiter) do
    deadline = now() + state.upload.store.settings.give_up_ms
    state = %{state | deadline: state.deadline || deadline, waiter: waiter, quiet_since: nil}
    # The waiter sees why the last try failed even if the next one takes long.
    if state.error, do: tell(state, :failing, :failed)
    state
  end

  defp left(%{deadline: nil}), do: :infinity
  defp left(%{deadline: deadline}), do: max(deadline - now(), 0)

  defp poll_ms(state), do: state.upload.store.settings.poll_ms

  defp emit(state, name, measurements, metadata) do
    if Telemetry.listening?() do
      measurements = Map.put(measurements, :system_time, System.system_time())
      metadata = Map.merge(metadata, %{originator: :sdk, thread_id: state.thread})
      Telemetry.execute(state.prefix ++ [:session_store, name], measurements, metadata)
    end

    :ok
  end

  defp now, do: System.monotonic_time(:millisecond)

  ## Without a turn

  @doc "Mirrors the present content of a home."
  @spec sync(SessionStore.t(), Path.t(), String.t()) ::
          {:ok, Status.t()} | {:error, SessionStore.reason()}
  def sync(store, home, thread), do: store |> Upload.new(home, thread) |> all()

  defp all(upload) do
    case Upload.step(upload) do
      {:sent, _key, _bytes, upload} ->
        all(upload)

      {:idle, upload} ->
        if Upload.any?(upload),
          do:
            {:ok,
             %Status{thread_id: upload.thread, state: :current, sent: upload.sent, behind: 0}},
          else: {:error, {:session_not_found, upload.thread}}

      {:error, reason, _upload} ->
        {:error, reason}
    end
  end

  @doc "Compares a home with a store."
  @spec status(SessionStore.t(), Path.t(), String.t()) ::
          {:ok, Status.t()} | {:error, SessionStore.reason()}
  def status(store, home, thread) do
    case store |> Upload.new(home, thread) |> Upload.missing() do
      {:ok, 0} ->
        {:ok, %Status{thread_id: thread, state: :current, behind: 0}}

      {:ok, behind} ->
        {:ok, %Status{thread_id: thread, state: :behind, behind: behind}}

      {:error, {:session_store_conflict, _file, _stored, _local} = reason} ->
        {:ok, %Status{thread_id: thread, state: :failed, error: Error.normalize(reason)}}

      {:error, reason} ->
        {:error, reason}
    end
  end
end
