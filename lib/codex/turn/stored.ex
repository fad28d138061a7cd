defmodule Codex.Turn.Stored do
  @moduledoc false
  # A turn with the option `session_store`: before its first attempt, a thread that is resumed or
  # forked is materialised; when the CLI names the thread, its mirror starts; at the end, the turn
  # waits for the mirror, for `flush_ms` at most. The last elements are `{:mirror, status}` and, if
  # the store lacks lines, a warning. Without the option, the turn is one of `Codex.Turn.Repair`.
  #
  # The store never fails a turn that can run: only a thread that is missing in the home, or that
  # differs in the store, is an error.

  alias Codex.{Error, Events, OwnerMonitor, SessionStore}
  alias Codex.SessionStore.{Local, Mirror, Name, Restore, Status}
  alias Codex.Turn.{Cancellation, Job, Repair}

  @enforce_keys [:job, :store, :call, :turns]
  defstruct [:job, :store, :call, :turns, :mirror, phase: :begin]

  @type t :: %__MODULE__{}
  @type element :: Repair.element() | {:mirror, Status.t()}

  @doc "Returns a turn that has not begun. Arguments as for `Codex.Turn.Repair.new/3`."
  @spec new(Job.t(), Codex.Retry.Plan.t() | nil, map()) :: Repair.t() | t()
  def new(job, plan, opts) do
    turns = Repair.new(job, plan, opts)

    case job.settings.session_store do
      nil -> turns
      store -> stored(SessionStore.new(store), job, opts.call, turns)
    end
  end

  # It was checked with the options.
  defp stored({:ok, store}, job, call, turns),
    do: %__MODULE__{job: job, store: store, call: call, turns: turns}

  @doc "Returns the next elements, perhaps none; `:halt` after the last."
  @spec next(Repair.t() | t()) :: {[element()], Repair.t() | t()} | :halt
  def next(%Repair{} = turns), do: Repair.next(turns)
  def next(%{phase: :over}), do: :halt
  def next(%{phase: :begin} = state), do: begin(state, known(state.job))

  def next(state) do
    case Repair.next(state.turns) do
      {elements, turns} -> {elements, Enum.reduce(elements, %{state | turns: turns}, &note/2)}
      :halt -> finish(state)
    end
  end

  @doc "Ends the turn, if it still runs. Its mirror goes on."
  @spec stop(Repair.t() | t()) :: Repair.t() | t()
  def stop(%Repair{} = turns), do: Repair.stop(turns)

  def stop(state) do
    turns = Repair.stop(state.turns)
    :ok = if state.mirror, do: Mirror.finish(state.mirror), else: :ok
    %{state | turns: turns, mirror: nil}
  end

  ## The thread that is resumed

  # A server that has the thread loaded would not read a file that is changed below it.
  defp known(%{thread: %{transport: {:app_server, _}, transport_ref: ref}}) when ref != nil,
    do: nil

  defp known(%{thread: %{thread_id: id}}) when is_binary(id), do: if(Name.id?(id), do: id)
  defp known(%{thread: %{fork_of: id}}) when is_binary(id), do: if(Name.id?(id), do: id)
  defp known(_new_thread), do: nil

  defp begin(state, nil), do: {[], %{state | phase: :running}}

  defp begin(state, id) do
    case restored(state, id) do
      :ok ->
        {[], %{state | phase: :running}}

      {:warning, reason} ->
        text =
          "the session store was not asked for the thread: #{Error.normalize(reason).message}"

        {[{:warnings, [text]}], %{state | phase: :running}}

      {:error, reason} ->
        {[{:failed, Error.normalize(reason)}], %{state | phase: :over}}
    end
  end

  defp restored(%{store: store, job: job, call: call}, id) do
    case within(fn -> restore(store, job, id) end, store.settings.restore_ms, call) do
      {:ok, result} -> result
      :cancelled -> {:error, Error.new(:interrupted, "the run was cancelled")}
      failure -> unless_local({:session_store_failed, :files, failure}, job, id)
    end
  end

  defp restore(store, job, id) do
    with home when is_binary(home) <- job.module.home(job),
         {:error, reason} <- Restore.run(store, home, id) do
      case reason do
        {:session_not_stored, ^id} -> :ok
        {:session_in_use, _id} -> {:warning, reason}
        {tag, _file, _stored, _local} when tag == :session_store_conflict -> {:error, reason}
        reason -> unless_local(reason, home, id)
      end
    else
      _no_home_or_restored -> :ok
    end
  end

  # A thread of the home runs without the store.
  defp unless_local(reason, home, id) when is_binary(home) do
    case Local.files(home, id) do
      {:ok, [_ | _]} -> {:warning, reason}
      _none -> {:error, reason}
    end
  end

  defp unless_local(reason, job, id), do: unless_local(reason, job.module.home(job) || "", id)

  # In a process of its own, so that neither its messages nor its end reach the reader.
  defp within(fun, ms, %{cancel: cancel} = call) do
    {reader, ref} = {self(), make_ref()}

    {pid, monitor} =
      spawn_monitor(fn ->
        _ = OwnerMonitor.start(reader)
        send(reader, {ref, fun.()})
      end)

    result =
      receive do
        {^ref, result} -> {:ok, result}
        {^cancel, :cancelled} -> :cancelled
        {:DOWN, ^monitor, :process, ^pid, _reason} -> :exited
      after
        ms -> :timeout
      end

    Process.exit(pid, :kill)
    Process.demonitor(monitor, [:flush])

    receive do
      {^ref, _late} -> :ok
    after
      0 -> :ok
    end

    if Cancellation.cancelled?(call), do: :cancelled, else: result
  end

  ## The mirror

  # An attempt that is repeated may have begun another thread.
  defp note(%Events.ThreadStarted{thread_id: id}, %{mirror: %{thread: id}} = state), do: state

  defp note(%Events.ThreadStarted{thread_id: id}, state) when is_binary(id) do
    %{job: job, store: store} = state
    :ok = if state.mirror, do: Mirror.finish(state.mirror), else: :ok

    opts = [
      home: fn -> job.module.home(job) end,
      final?: job.transport == :exec,
      prefix: job.settings.telemetry_prefix
    ]

    %{state | mirror: if(Name.id?(id), do: Mirror.start(store, id, opts))}
  end

  defp note(_element, state), do: state

  defp finish(%{mirror: nil} = state), do: {[], %{state | phase: :over}}

  defp finish(state) do
    status = Mirror.flush(state.mirror)
    warnings = if status.state == :current, do: [], else: [{:warnings, [Status.message(status)]}]
    {warnings ++ [{:mirror, status}], %{state | mirror: nil, phase: :over}}
  end
end
