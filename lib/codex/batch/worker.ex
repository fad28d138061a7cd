defmodule Codex.Batch.Worker do
  @moduledoc false
  # The process of a job: runs its turn, and sends the result to the reader of the batch. It is
  # monitored by the reader, and ends with it; a turn ends with the process that runs it.

  alias Codex.Batch.{Budget, Execution, Journal, Recovery, Remote, Result}
  alias Codex.{Error, OwnerMonitor}

  # Workers are found by the reference of their batch.
  @registry Codex.Exec.Registry

  @enforce_keys [:ref, :stopped, :opts, :deadline, :journal]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          ref: reference(),
          stopped: :atomics.atomics_ref(),
          opts: map(),
          deadline: integer() | nil,
          journal: Journal.t() | nil
        }

  @doc "Returns the data that all workers of a run share. The time of the batch begins."
  @spec context(Codex.Batch.t(), Journal.t() | nil) :: t()
  def context(%{opts: opts} = batch, journal) do
    deadline = if is_integer(opts.total_timeout_ms), do: now() + opts.total_timeout_ms
    # Workers write; the reader alone needs what was read.
    journal = journal && %{journal | entries: %{}}

    %__MODULE__{
      ref: batch.ref,
      stopped: batch.stopped,
      opts: opts,
      deadline: deadline,
      journal: journal
    }
  end

  @doc "Returns whether the batch was cancelled."
  @spec cancelled?(t()) :: boolean()
  def cancelled?(context), do: :atomics.get(context.stopped, 1) == 1

  @doc "Returns the error of a job that begins after the time of the batch, or nil."
  @spec expired(t()) :: Error.t() | nil
  def expired(%{deadline: deadline, opts: opts}) do
    if deadline != nil and now() >= deadline do
      message = "the batch was not over after #{opts.total_timeout_ms} ms (total_timeout_ms)"
      details = %{clock: :total, timeout_ms: opts.total_timeout_ms, option: :total_timeout_ms}
      Error.new(:timeout, message, details)
    end
  end

  @doc """
  Starts the process of a job that has its node. Returns its monitor, which is also the tag of the
  message `{monitor, result}`, or `{monitor, {:again, why}}` if nothing of the job has run, because
  its node refused it or was lost.
  """
  @spec start(Codex.Batch.Job.t(), t()) :: reference()
  def start(job, context) do
    reader = self()
    callers = [reader | Process.get(:"$callers", [])]

    {pid, monitor} =
      spawn_monitor(fn ->
        _ = OwnerMonitor.start(reader)
        Process.put(:"$callers", callers)

        receive do
          {:begin, monitor} ->
            value = {job.key, monitor}
            {:ok, _} = Registry.register(@registry, {:batch, context.ref, reader}, value)
            send(reader, {monitor, :begun})

            case run(job, context) do
              {:result, result} -> send(reader, {monitor, result})
              {:again, _why} = again -> send(reader, {monitor, again})
            end
        end
      end)

    send(pid, {:begin, monitor})

    # From now on, `kill_all/1` finds it. One that is gone already is reported to `lost/2`.
    receive do
      {^monitor, :begun} ->
        monitor

      {:DOWN, ^monitor, _, _, _} = down ->
        _ = send(self(), down)
        monitor
    end
  end

  @doc "Returns the pids and keys of the running jobs of a batch."
  @spec running(reference()) :: [{pid(), term()}]
  def running(ref) do
    :ok = Codex.Started.check!()
    workers = [{{{:batch, ref, :_}, :"$1", {:"$2", :_}}, [], [{{:"$1", :"$2"}}]}]
    # The registry forgets a process a moment after its end.
    for {pid, _key} = worker <- Registry.select(@registry, workers),
        Process.alive?(pid),
        do: worker
  end

  @doc "Interrupts the turn of a worker. Returns when the worker has ended."
  @spec stop(pid()) :: :ok
  defdelegate stop(pid), to: Execution

  @doc "Kills the workers of this reader. Returns when they have ended."
  @spec kill_all(t()) :: :ok
  def kill_all(%{ref: ref}) do
    workers = Registry.lookup(@registry, {:batch, ref, self()})
    for {pid, _value} <- workers, do: Process.exit(pid, :kill)

    for {pid, {_key, monitor}} <- workers do
      gone = Process.monitor(pid)

      receive do
        {:DOWN, ^gone, :process, _, _} -> forget(monitor)
      end
    end

    :ok
  end

  @doc "Removes the messages of a worker from the mailbox."
  @spec forget(reference()) :: :ok
  def forget(monitor) do
    Process.demonitor(monitor, [:flush])

    receive do
      {^monitor, _result} -> :ok
    after
      0 -> :ok
    end
  end

  @doc "Returns the result of a job whose process is gone."
  @spec lost(Codex.Batch.Job.t(), term()) :: Result.t()
  def lost(job, reason) do
    message = "the process of the job ended before its turn did: #{words(reason)}"
    %{Result.without_turn(job, :uncertain, Error.new(:crashed, message)) | node: job.node}
  end

  # A reason may hold data of the run.
  defp words({%{__exception__: true} = error, _trace}), do: inspect(error.__struct__)
  defp words(reason) when is_atom(reason), do: inspect(reason)
  defp words(_reason), do: "it crashed"

  ## The job

  defp run(job, context) do
    cond do
      cancelled?(context) -> {:result, note(job, context, cancelled(job))}
      job.node == node() -> {:result, note(job, context, Execution.run(job, env(job, context)))}
      true -> run_there(job, context)
    end
  end

  defp run_there(job, context) do
    env = env(job, context)
    env = %{env | hook: env.hook || fn _what -> :ok end}

    with {:result, result} <- Remote.run(job, env, context.opts.node_wait_ms),
         do: {:result, note(job, context, result)}
  end

  @doc "Returns the result of a job that the batch's end kept from running."
  @spec cancelled(Codex.Batch.Job.t()) :: Result.t()
  def cancelled(job) do
    error = Error.new(:interrupted, "the batch was cancelled before the job began")
    %{Result.without_turn(job, :cancelled, error) | node: node(), started_at: DateTime.utc_now()}
  end

  defp env(job, %{opts: opts} = context) do
    opts
    |> Map.take([:client, :on_interrupted, :prices])
    |> Map.merge(%{
      money?: Budget.money?(opts.budget),
      limit_ms: limit(job, context),
      hook: context.journal && (&hook(job, context, &1))
    })
  end

  ## The journal

  # Whether the prompt may have been sent.
  @begun {__MODULE__, :begun}

  # Waits, for a limit or a server, come before.
  defp hook(job, %{journal: journal, opts: opts}, :begin) do
    Process.put(@begun, true)
    Journal.begun(journal, job.key, opts.nodes && job.node)
  end

  defp hook(job, %{journal: journal}, {:thread, id}), do: Journal.thread(journal, job.key, id)

  # A result counts when it is noted. A turn without a known end stays begun.
  defp note(_job, %{journal: nil}, result), do: result

  defp note(job, %{journal: journal}, %{status: status} = result) when status in [:ok, :failed] do
    noted =
      if Process.get(@begun) || job.state != :queued,
        do: done(job, journal, result),
        # Nothing of it has run: the next run begins the job.
        else: Journal.queued(journal, job)

    case noted do
      :ok -> result
      {:error, error} -> %{result | status: :uncertain, error: error}
    end
  end

  defp note(_job, _context, result), do: result

  # A turn that was to be continued, and could not.
  defp done(_job, _journal, %{status: :failed, result: nil}), do: :ok
  defp done(job, journal, result), do: Journal.done(journal, job.key, Recovery.record(result))

  defp limit(job, %{opts: opts, deadline: deadline}) do
    left = if deadline, do: max(deadline - now(), 1)
    own = job.timeout_ms || opts.timeout_ms

    # `:infinity` is above every number, and so is nil.
    min(own, left)
  end

  defp now, do: System.monotonic_time(:millisecond)
end
