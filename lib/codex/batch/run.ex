defmodule Codex.Batch.Run do
  @moduledoc false
  # Reads a batch in the process of its reader: takes jobs from the source while there is room,
  # starts a worker for each, and returns their results. There is no other process, so a slow reader
  # starts no further jobs, and workers end with their reader.

  alias Codex.Batch.{Budget, Job, Journal, Progress, Recovery, Result, Worker}
  alias Codex.{Error, Telemetry}

  # Finished results of an ordered batch that wait for an earlier one, for each job that runs.
  @window 10

  @enforce_keys [:batch, :context, :journal, :source, :budget, :progress, :began]
  defstruct @enforce_keys ++
              [:refusal, :reason, running: %{}, ready: %{}, next: 0, taken: 0, counts: %{}]

  # The fields of a run:
  #
  #   * `source` - returns the next element and what follows it; nil after the last
  #   * `running` - workers by their monitors; `ready` - results that were not read yet, by number
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
    state = fill(state)

    case ready(state) do
      {:ok, _result, _state} = ready -> ready
      :none when state.running == %{} -> {:done, state}
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

  defp room?(%{batch: %{opts: opts}, running: running, ready: ready}) do
    waiting = if opts.ordered, do: opts.max_concurrency * @window, else: 0
    map_size(running) < opts.max_concurrency and map_size(ready) <= waiting
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

    case Job.new(element, index, state.batch.opts.thread) do
      {:ok, job} -> enter(job, state)
      {:error, key, error} -> failed(%{key: key, index: index}, error, state)
    end
  end

  defp failed(job, error, state),
    do: put(Result.without_turn(job, :failed, Error.normalize(error)), state)

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
    emit(state.batch, [:batch, :job, :start], %{}, about(job))
    monitor = Worker.start(job, state.context)
    show(%{state | running: Map.put(state.running, monitor, job)})
  end

  defp about(job), do: %{key: job.key, index: job.index, node: node()}

  ## Results

  defp await(%{running: running} = state) do
    receive do
      {monitor, %Result{} = result} when is_map_key(running, monitor) ->
        ended(monitor, result, state)

      {:DOWN, monitor, :process, _pid, reason} when is_map_key(running, monitor) ->
        ended(monitor, Worker.lost(running[monitor], reason), state)
    end
  end

  defp ended(monitor, result, state) do
    Worker.forget(monitor)
    put(result, %{state | running: Map.delete(state.running, monitor)})
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
