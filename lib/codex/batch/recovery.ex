defmodule Codex.Batch.Recovery do
  @moduledoc false
  # The results of jobs that ran before a crash: from the record in the journal, or from the thread
  # that the CLI has recorded in its home.

  alias Codex.Batch.{Job, Result}
  alias Codex.{Error, Events, Items, Sessions, Thread, Turn}
  alias Codex.Thread.{Runner, Start}

  # The fields of a result that are recorded as they are.
  @kept [
    :status,
    :usage,
    :usd,
    :attempts,
    :thread_id,
    :node,
    :model,
    :started_at,
    :duration_ms,
    :waits
  ]

  @doc """
  Returns what the journal keeps of a result: neither events nor options, which may hold secrets.
  """
  @spec record(Result.t()) :: map()
  def record(result) do
    more = %{text: text(result.result), warnings: (result.result && result.result.warnings) || []}
    result |> Map.take(@kept) |> Map.merge(more) |> Map.put(:error, error(result.error))
  end

  defp text(%{final_response: %{text: text}}) when is_binary(text), do: text
  defp text(_none), do: nil

  defp error(nil), do: nil

  defp error(error),
    do: Map.take(error, [:kind, :message, :retryable?, :retry_after_ms, :resets_at, :http_status])

  @doc "Returns the result of a record."
  @spec replay(Job.t(), map(), map()) :: Result.t()
  def replay(job, record, opts) do
    began? = record.thread_id != nil or record.text != nil
    result = if began?, do: result(job, record.thread_id, record.text, record.usage, opts)
    result = result && %{result | warnings: record.warnings, attempts: record.attempts}

    %{of_record(job.key, job.index, record) | result: result}
  end

  @doc "Returns the result of a record as far as it needs no job: without its turn."
  @spec of_record(term(), non_neg_integer(), map()) :: Result.t()
  def of_record(key, index, record) do
    error = record.error && struct!(Error.new(:unknown, ""), record.error)
    fields = record |> Map.take(@kept) |> Map.merge(%{key: key, index: index, error: error})
    struct!(Result, fields)
  end

  # As far as it is known: without events.
  defp result(job, thread_id, text, usage, opts) do
    turn = job |> turn(thread_id, opts) |> answer(text)
    %{Turn.so_far(turn) | usage: usage, usage_scope: :turn}
  end

  defp answer(turn, nil), do: turn

  defp answer(turn, text) do
    {_event, turn} = Turn.add(turn, %Events.ItemCompleted{item: %Items.AgentMessage{text: text}})

    turn
  end

  # With the schema of the job, so that its answer can be decoded.
  defp turn(job, thread_id, opts) do
    with {:ok, thread} <- Start.new(opts.client, job.thread, thread_id: thread_id),
         {:ok, _job, turn} <- Runner.prepare(thread, {:run, job.prompt}, job.turn, :blocking) do
      turn
    else
      {:error, _reason} ->
        Turn.new(Thread.build(opts.client, %Thread.Options{}, thread_id: thread_id), false)
    end
  end

  @doc """
  Looks up a turn whose end is not in the journal. Returns its result, or `{:interrupted, result}`
  if it did not end by itself.
  """
  @spec look_up(Job.t(), Thread.t(), String.t() | nil, map()) ::
          Result.t() | {:interrupted, Result.t()}
  def look_up(job, _thread, nil, _opts),
    do: uncertain(job, nil, "its prompt may have been sent, and its thread is not known")

  def look_up(job, thread, id, opts) do
    with home when is_binary(home) <- Runner.home(thread),
         {:ok, [_ | _] = turns} <- Sessions.turns(id, codex_home: home) do
      recorded(List.last(turns), turns, job, id, opts)
    else
      {:error, reason} -> uncertain(job, id, Error.normalize(reason).message)
      _none -> uncertain(job, id, "its thread has no recorded turn")
    end
  end

  defp recorded(%{status: :completed} = last, turns, job, id, opts) do
    usage = usage(turns)
    result = result(job, id, last.final, usage, opts)
    of(job, id, %{status: :ok, result: result, usage: usage, attempts: 1})
  end

  defp recorded(%{status: :failed} = last, turns, job, id, opts) do
    usage = usage(turns)
    result = result(job, id, last.final, usage, opts)

    error =
      Error.new(:unknown, "the turn failed, as the thread #{id} records; see its last lines")

    of(job, id, %{status: :failed, result: result, usage: usage, attempts: 1, error: error})
  end

  defp recorded(last, turns, job, id, opts) do
    usage = usage(turns)
    words = "its turn did not end: #{last.status}"
    result = result(job, id, last.final, usage, opts)
    {:interrupted, %{uncertain(job, id, words) | result: result, usage: usage, attempts: 1}}
  end

  defp usage(turns), do: Enum.reduce(turns, nil, &Turn.Usage.sum(&2, &1.usage))

  defp uncertain(job, id, why) do
    message = "the batch ended while the job ran, and #{why}"
    error = Error.new(:crashed, message, %{retryable?: false})
    of(job, id, %{status: :uncertain, error: error})
  end

  defp of(job, id, fields) do
    struct!(Result, Map.merge(%{key: job.key, index: job.index, thread_id: id}, fields))
  end
end
