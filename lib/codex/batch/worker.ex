defmodule Codex.Batch.Worker do
  @moduledoc false
  # The process of a job: runs its turn, and sends the result to the reader of the batch. It is
  # monitored by the reader, and ends with it; a turn ends with the process that runs it.

  alias Codex.Batch.{Budget, Journal, Recovery, Result}
  alias Codex.{Error, Events, OwnerMonitor, Sessions, Thread}
  alias Codex.Sessions.Prices
  alias Codex.Thread.{Runner, Start}
  alias Codex.Turn.Cancellation

  # Workers are found by the reference of their batch.
  @registry Codex.Exec.Registry

  # The prompt that continues an interrupted turn, as `retry: :resume` has it.
  @continue "Continue."

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
  Starts the process of a job. Returns its monitor, which is also the tag of the message
  `{monitor, result}`.
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
            send(reader, {monitor, run(job, context)})
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
  def stop(pid), do: pid |> Process.monitor() |> stop(pid)

  # A worker that has just begun has no turn yet.
  defp stop(monitor, pid) do
    _ = Cancellation.stop(pid)

    receive do
      {:DOWN, ^monitor, :process, _, _} -> :ok
    after
      20 -> stop(monitor, pid)
    end
  end

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
      {^monitor, %Result{}} -> :ok
    after
      0 -> :ok
    end
  end

  @doc "Returns the result of a job whose process is gone."
  @spec lost(Codex.Batch.Job.t(), term()) :: Result.t()
  def lost(job, reason) do
    message = "the process of the job ended before its turn did: #{words(reason)}"
    Result.without_turn(job, :uncertain, Error.new(:crashed, message)) |> Map.put(:node, node())
  end

  # A reason may hold data of the run.
  defp words({%{__exception__: true} = error, _trace}), do: inspect(error.__struct__)
  defp words(reason) when is_atom(reason), do: inspect(reason)
  defp words(_reason), do: "it crashed"

  ## The turn

  defp run(job, context) do
    began = now()
    started_at = DateTime.utc_now()
    {result, thread} = if cancelled?(context), do: cancelled(job), else: turn(job, context)

    note(job, context, %{
      result
      | usd: usd(result, thread, context.opts),
        node: node(),
        started_at: started_at,
        duration_ms: now() - began
    })
  end

  defp cancelled(job) do
    error = Error.new(:interrupted, "the batch was cancelled before the job began")
    {Result.without_turn(job, :cancelled, error), nil}
  end

  defp turn(%{state: :queued} = job, context),
    do: with_thread(job, context, [], &run_turn(job, &1, job.prompt, context))

  # The turn has begun before a crash.
  defp turn(%{state: {:begun, id}} = job, context) do
    with_thread(job, context, if(id, do: [thread_id: id], else: []), fn thread ->
      case Recovery.look_up(job, thread, id, context.opts) do
        {:interrupted, _result} when context.opts.on_interrupted == :resume ->
          run_turn(job, thread, @continue, context)

        {:interrupted, result} ->
          result

        result ->
          result
      end
    end)
  end

  defp with_thread(job, context, extra, fun) do
    case Start.new(context.opts.client, job.thread, extra) do
      {:ok, thread} -> {fun.(thread), thread}
      {:error, reason} -> {Result.of(job, {:error, reason}), nil}
    end
  end

  defp run_turn(job, thread, prompt, context) do
    opts = job.turn ++ limit(job, context)
    Result.of(job, run_turn(thread, prompt, opts, job, context.journal))
  end

  defp run_turn(thread, prompt, opts, _job, nil), do: Thread.run(thread, prompt, opts)

  # A run of an agent has several turns.
  defp run_turn(thread, prompt, opts, job, journal) do
    if Runner.loop?(opts) do
      with :ok <- hook(job, journal, :begin),
           do: Thread.run(thread, prompt, opts ++ listener(job, journal))
    else
      with {:ok, opts} <- Runner.opts(opts),
           do: Thread.run_turn(thread, prompt, opts, &hook(job, journal, &1))
    end
  end

  ## The journal

  # Whether the prompt may have been sent.
  @begun {__MODULE__, :begun}

  # Waits, for a limit or a server, come before.
  defp hook(job, journal, :begin) do
    Process.put(@begun, true)
    Journal.begun(journal, job.key)
  end

  defp hook(job, journal, {:thread, id}), do: Journal.thread(journal, job.key, id)

  defp listener(job, journal) do
    given = Enum.find_value(Enum.reverse(job.turn), &on_event/1)

    on_event = fn event ->
      with %Events.ThreadStarted{thread_id: id} <- event,
           do: _ = hook(job, journal, {:thread, id})

      given && given.(event)
    end

    [on_event: on_event]
  end

  defp on_event({name, fun}) when name in [:on_event, "on_event"], do: fun
  defp on_event(_option), do: nil

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
    case min(own, left) do
      nil -> []
      ms -> [total_timeout_ms: ms]
    end
  end

  ## Money

  defp usd(%{thread_id: nil}, _thread, _opts), do: nil

  defp usd(result, thread, opts) do
    prices = Map.merge(Prices.all(), opts.prices || %{})
    model = thread.thread_opts.model || opts.client.model

    case result.usage && Prices.of(model, prices) do
      nil -> if Budget.money?(opts.budget), do: recorded(result, thread, opts)
      price -> Prices.cost(tokens(result.usage), price)
    end
  end

  defp tokens(usage) do
    count = fn name -> if is_integer(usage[name]), do: usage[name], else: 0 end
    {count.("input_tokens"), count.("cached_input_tokens"), 0, count.("output_tokens"), 0}
  end

  # As the CLI recorded it, with its sub-agents.
  defp recorded(result, thread, opts) do
    with home when is_binary(home) <- Runner.home(thread),
         own = [codex_home: home, scope: :tree, prices: opts.prices],
         {:ok, %{cost: %{lower_bound: false, usd: usd}, calls: calls}} when calls > 0 <-
           Sessions.usage(result.thread_id, own) do
      usd
    else
      _unknown -> nil
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
