defmodule Codex.Batch.Run do
  @moduledoc false
  # Reads a batch in the process of its reader: takes jobs from the source while there is room,
  # starts a worker for each, and returns their results. There is no other process, so a slow reader
  # starts no further jobs, and workers end with their reader.

  alias Codex.Batch.{Budget, Job, Journal, Placement, Progress, Recovery, Result, Travel, Worker}
  alias Codex.{Error, Telemetry}

  # Finished results of an ordered batch that wait for an earlier one, for each job that runs.
  @window 10

  # How often jobs that wait for a node look for one.
  @look_ms 100

  @enforce_keys [:batch, :context, :journal, :source, :budget, :progress, :began, :placement]
  defstruct @enforce_keys ++
              [:refusal, :reason, running: %{}, ready: %{}, next: 0, taken: 0, counts: %{}] ++
              [waiting: %{}]

  # The fields of a run:
  #
  #   * `source` - returns the next element and what follows it; nil after the last
  #   * `running` - workers by their monitors; `ready` - results that were not read yet, by number
  #   * `waiting` - jobs that no node can run now, by number, each with the time since when it waits
  #   * `placement` - the nodes (`Codex.Batch.Placement`)
  #   * `next` - the number of the next result; `taken` - the number of jobs so far
  #   * `refusal` - the error of the jobs that do not begin any more; `reason` - why the batch ended

  @doc "Implements `Enumerable.reduce/3` of a batch."
  @spec reduce(Codex.Batch.t(), Enumerable.acc(), Enumerable.reducer()) :: Enumerable.result()
  def reduce(batch, {:suspend, acc}, fun), do: {:suspended, acc, &reduce(batch, &1, fun)}
  def reduce(_batch, {:halt, acc}, _fun), do: {:halted, acc}
  def reduce(batch, {:cont, _} = acc, fun), do: batch |> start() |> loop(acc, fun)

  defp start(%{opts: opts} = batch) do
    :ok = Codex.Started.check!()
    journal = journal(opts)
    emit(batch, [:batch, :start], %{}, %{max_concurrency: opts.max_concurrency})

    %__MODULE__{
      batch: batch,
      context: Worker.context(batch, journal),
      journal: journal,
      source: &Enumerable.reduce(batch.jobs, &1, fn job, _none -> {:suspend, {:job, job}} end),
      budget: opts.budget,
      placement: Placement.new(opts),
      progress: Progress.new(opts.progress),
      began: System.monotonic_time()
    }
  end

  defp journal(%{journal: nil}), do: nil

  defp journal(opts) do
    case Journal.open(opts.journal, opts.client.telemetry_prefix) do
      {:ok, journal} -> journal
      {:error, error} -> raise error
    end
  end

  defp loop(state, {:suspend, acc}, fun), do: {:suspended, acc, &loop(state, &1, fun)}

  defp loop(state, {:halt, acc}, _fun) do
    finish(close(state), :halted)
    {:halted, acc}
  end

  defp loop(state, {:cont, acc}, fun) do
    # A source that raises has closed itself.
    case guard(%{state | source: nil}, fn -> next(state) end) do
      {:ok, result, state} -> loop(state, guard(state, fn -> fun.(result, acc) end), fun)
      {:done, state} -> {finish(state, state.reason || :done), acc}
    end
  end

  # Whatever the source and the reader do, nothing of the batch is left.
  defp guard(state, fun) do
    fun.()
  catch
    kind, reason ->
      trace = __STACKTRACE__
      finish(close(state), :raised)
      :erlang.raise(kind, reason, trace)
  end

  defp finish(state, reason) do
    Worker.kill_all(state.context)
    Enum.each(Map.keys(state.running), &Worker.forget/1)
    :ok = Journal.close(state.journal)
    _ = Progress.finish(state.progress)
    spent = Telemetry.spent(state.began)
    emit(state.batch, [:batch, :stop], spent, %{reason: reason, counts: state.counts})
    :done
  end

  defp close(%{source: nil} = state), do: state

  defp close(state) do
    _ = state.source.({:halt, nil})
    %{state | source: nil}
  end

  ## The next result

  defp next(state) do
    state = state |> place_waiting() |> fill()

    case ready(state) do
      {:ok, _result, _state} = ready -> ready
      :none when state.running == %{} and state.waiting == %{} -> {:done, state}
      :none -> state |> await() |> next()
    end
  end

  defp ready(%{ready: ready} = state) do
    place = if state.batch.opts.ordered, do: state.next, else: first(ready)

    case ready do
      %{^place => result} ->
        {:ok, result, %{state | ready: Map.delete(ready, place), next: state.next + 1}}

      _none ->
        :none
    end
  end

  defp first(ready) when ready == %{}, do: nil
  defp first(ready), do: ready |> Map.keys() |> Enum.min()

  defp fill(state), do: if(room?(state), do: state |> take() |> fill(), else: state)

  defp room?(%{source: nil}), do: false

  defp room?(%{batch: %{opts: opts}, running: running, ready: ready} = state) do
    waiting = if opts.ordered, do: opts.max_concurrency * @window, else: 0

    map_size(running) < opts.max_concurrency and map_size(ready) <= waiting and
      map_size(state.waiting) < opts.max_concurrency * @window
  end

  defp take(state) do
    if Worker.cancelled?(state.context) do
      close(%{state | reason: :cancelled})
    else
      case state.source.({:cont, nil}) do
        {:suspended, {:job, element}, source} -> begin(element, %{state | source: source})
        {_done, _none} -> %{state | source: nil}
      end
    end
  end

  defp begin(element, state) do
    index = state.taken
    state = %{state | taken: index + 1}

    with {:ok, job} <- Job.new(element, index, state.batch.opts.thread),
         {:job, job, :ok} <- {:job, job, may_travel(job, state.batch.opts)} do
      enter(job, state)
    else
      {:error, key, error} -> failed(%{key: key, index: index}, error, state)
      {:job, job, {:error, error}} -> failed(job, error, state)
    end
  end

  defp failed(job, error, state),
    do: put(Result.without_turn(job, :failed, Error.normalize(error)), state)

  # An option of the job itself may hold a secret, too.
  defp may_travel(_job, %{nodes: nil}), do: :ok

  defp may_travel(job, opts),
    do: Travel.check(job.thread ++ job.turn, :options, opts.send_secrets)

  defp enter(job, %{journal: nil} = state), do: run_or_refuse(job, state)

  defp enter(job, state) do
    case Journal.enter(state.journal, job) do
      {:ok, {:done, record}, journal} ->
        put(Recovery.replay(job, record, state.batch.opts), %{state | journal: journal})

      {:ok, job_state, journal} ->
        run_or_refuse(%{job | state: job_state}, %{state | journal: journal})

      {:error, error} ->
        failed(job, error, state)
    end
  end

  defp run_or_refuse(job, state) do
    case refusal(state) do
      nil -> run(job, state)
      error -> refuse(job, error, state)
    end
  end

  defp refusal(state),
    do: state.refusal || Budget.exceeded(state.budget) || Worker.expired(state.context)

  defp refuse(job, error, state) do
    state = put(Result.without_turn(job, :skipped, error), state)
    close(%{state | reason: error.details[:option] || error.kind})
  end

  defp run(job, state) do
    case Placement.place(state.placement, job) do
      {:ok, node, placement} -> start(%{job | node: node}, %{state | placement: placement})
      :wait -> wait(job, state)
      {:error, error} -> failed(job, error, state)
    end
  end

  defp start(job, state) do
    emit(state.batch, [:batch, :job, :start], %{}, about(job))
    monitor = Worker.start(job, state.context)
    show(%{state | running: Map.put(state.running, monitor, job)})
  end

  ## Jobs that wait for a node

  defp wait(job, state), do: put_in(state.waiting[job.index], {job, now()})

  defp place_waiting(%{waiting: waiting} = state) when waiting == %{}, do: state

  defp place_waiting(%{waiting: waiting} = state) do
    waiting |> Map.keys() |> Enum.sort() |> Enum.reduce(state, &place_waiting/2)
  end

  defp place_waiting(index, %{waiting: waiting, batch: %{opts: opts}} = state) do
    {job, since} = waiting[index]
    gone = %{state | waiting: Map.delete(waiting, index)}

    cond do
      Worker.cancelled?(state.context) -> put(Worker.cancelled(job), gone)
      error = refusal(state) -> refuse(job, error, gone)
      map_size(state.running) >= opts.max_concurrency -> state
      true -> place_waiting(job, since, gone, state)
    end
  end

  defp place_waiting(job, since, gone, state) do
    case Placement.place(state.placement, job) do
      {:ok, node, placement} ->
        start(%{job | node: node}, %{gone | placement: placement})

      {:error, error} ->
        failed(job, error, gone)

      :wait ->
        if Placement.expired?(state.placement, now() - since),
          do: put(Placement.nowhere(state.placement, job), gone),
          else: state
    end
  end

  defp now, do: System.monotonic_time(:millisecond)

  defp about(job), do: %{key: job.key, index: job.index, node: job.node || node()}

  ## Results

  defp await(%{running: running} = state) do
    receive do
      {monitor, %Result{} = result} when is_map_key(running, monitor) ->
        put(result, ended(monitor, :ok, state))

      {monitor, {:again, why}} when is_map_key(running, monitor) ->
        wait(%{running[monitor] | node: nil}, ended(monitor, why, state))

      {:DOWN, monitor, :process, _pid, reason} when is_map_key(running, monitor) ->
        put(Worker.lost(running[monitor], reason), ended(monitor, :ok, state))
    after
      if(state.waiting == %{}, do: :infinity, else: @look_ms) -> state
    end
  end

  defp ended(monitor, how, state) do
    Worker.forget(monitor)
    {job, running} = Map.pop!(state.running, monitor)
    %{state | running: running, placement: Placement.ended(state.placement, job.node, how)}
  end

  defp put(result, state) do
    budget = state.budget && Budget.add(state.budget, result)
    counts = Map.update(state.counts, result.status, 1, &(&1 + 1))
    report(state.batch, result)

    show(%{
      state
      | budget: budget,
        counts: counts,
        refusal: state.refusal || quota(result),
        ready: Map.put(state.ready, result.index, result),
        progress: Progress.add(state.progress, result)
    })
  end

  # All further jobs of the account would fail.
  defp quota(%{status: :failed, error: %{kind: :quota} = error}),
    do: %{error | message: "an earlier job failed: " <> error.message}

  defp quota(_result), do: nil

  defp report(batch, result) do
    ms = result.duration_ms || 0

    spent = %{
      duration: System.convert_time_unit(ms, :millisecond, :native),
      duration_ms: ms
    }

    fields = Map.take(result, [:status, :attempts, :usage, :usd, :thread_id])
    more = %{kind: result.error && result.error.kind}

    emit(
      batch,
      [:batch, :job, :stop],
      spent,
      about(result) |> Map.merge(fields) |> Map.merge(more)
    )
  end

  defp emit(batch, name, measurements, metadata) do
    if Telemetry.listening?() do
      Telemetry.execute(
        batch.opts.client.telemetry_prefix ++ name,
        Map.put_new(measurements, :system_time, System.system_time()),
        Map.merge(%{originator: :sdk, batch: batch.ref}, metadata)
      )
    end
  end

  defp show(state),
    do: %{state | progress: Progress.show(state.progress, map_size(state.running))}
end
