defmodule Codex.Batch.Execution do
  @moduledoc false
  # Runs a job in the calling process, on the node where it is called: for the worker of a job
  # (`Codex.Batch.Worker`), and for a job of another node (`Codex.Batch.Guest`).

  alias Codex.Batch.{Job, Recovery, Result}
  alias Codex.{Events, Sessions, Thread}
  alias Codex.Sessions.Prices
  alias Codex.Thread.{Runner, Start}
  alias Codex.Turn.{Cancellation, Listener, Usage, Waits}

  # The prompt that continues an interrupted turn, as `retry: :resume` has it.
  @continue "Continue."

  @typedoc """
    * `client` - the client of the batch
    * `on_interrupted`, `prices` - options of the batch; `money?` - whether it has a budget in money
    * `limit_ms` - the time limit of the job, or nil
    * `hook` - called before a prompt is sent and when a thread is known, as
      `t:Codex.Turn.Job.t/0` has it, or nil
  """
  @type env :: %{
          client: Codex.Options.t(),
          on_interrupted: :report | :resume,
          prices: map() | nil,
          money?: boolean(),
          limit_ms: timeout() | nil,
          hook: (:begin | {:thread, String.t()} -> :ok | {:error, Codex.Error.t()}) | nil
        }

  @doc "Runs a job, or looks it up if it had begun before a crash."
  @spec run(Job.t(), env()) :: Result.t()
  def run(job, env) do
    began = now()
    started_at = DateTime.utc_now()
    {{result, thread}, waits} = Waits.during(fn -> turn(job, env) end)
    model = thread && (thread.thread_opts.model || env.client.model)
    result = %{result | usage: result.usage || spent(result, thread, started_at)}

    %{
      result
      | usd: usd(result, thread, model, env),
        node: node(),
        model: model,
        waits: waits,
        started_at: started_at,
        duration_ms: now() - began
    }
  end

  defp turn(%{state: :queued} = job, env),
    do: with_thread(job, env, [], &run_turn(job, &1, job.prompt, env))

  # The turn has begun before a crash.
  defp turn(%{state: {:begun, id, _node}} = job, env) do
    with_thread(job, env, if(id, do: [thread_id: id], else: []), fn thread ->
      case Recovery.look_up(job, thread, id, env) do
        {:interrupted, _result} when env.on_interrupted == :resume ->
          run_turn(job, thread, @continue, env)

        {:interrupted, result} ->
          result

        result ->
          result
      end
    end)
  end

  defp with_thread(job, env, extra, fun) do
    case Start.new(env.client, job.thread, extra) do
      {:ok, thread} -> {fun.(thread), thread}
      {:error, reason} -> {Result.of(job, {:error, reason}), nil}
    end
  end

  defp run_turn(job, thread, prompt, env) do
    opts = job.turn ++ if(env.limit_ms, do: [total_timeout_ms: env.limit_ms], else: [])
    Result.of(job, run_hooked(thread, prompt, opts, env.hook))
  end

  defp run_hooked(thread, prompt, opts, nil), do: Thread.run(thread, prompt, opts)

  # A run of an agent has several turns.
  defp run_hooked(thread, prompt, opts, hook) do
    if Runner.loop?(opts) do
      with :ok <- hook.(:begin),
           do: Thread.run(thread, prompt, Listener.add(opts, &started(&1, hook)))
    else
      with {:ok, opts} <- Runner.opts(opts),
           do: Thread.run_turn(thread, prompt, opts, hook)
    end
  end

  defp started(%Events.ThreadStarted{thread_id: id}, hook), do: hook.({:thread, id})
  defp started(_event, _hook), do: :ok

  @doc "Interrupts the turn of a process that runs a job. Returns when the process has ended."
  @spec stop(pid()) :: :ok
  def stop(pid), do: pid |> Process.monitor() |> stop(pid)

  # A process that has just begun has no turn yet.
  defp stop(monitor, pid) do
    _ = Cancellation.stop(pid)

    receive do
      {:DOWN, ^monitor, :process, _, _} -> :ok
    after
      20 -> stop(monitor, pid)
    end
  end

  ## Usage

  # `codex exec` does not report the tokens of a turn that failed; its thread records them.
  defp spent(%{thread_id: id, attempts: n}, thread, started_at) when id != nil and n > 0 do
    with home when is_binary(home) <- Runner.home(thread),
         {:ok, turns} <- Sessions.turns(id, codex_home: home) do
      for %{usage: usage} = turn <- turns, since?(turn, started_at), reduce: nil do
        sum -> Usage.sum(sum, usage)
      end
    else
      _unknown -> nil
    end
  end

  defp spent(_result, _thread, _started_at), do: nil

  defp since?(%{started: started}, started_at) do
    case started && DateTime.from_iso8601(started) do
      {:ok, time, _offset} -> DateTime.compare(time, started_at) != :lt
      _unknown -> false
    end
  end

  defp usd(%{thread_id: nil}, _thread, _model, _env), do: nil

  defp usd(result, thread, model, env) do
    prices = Map.merge(Prices.all(), env.prices || %{})

    case result.usage && Prices.of(model, prices) do
      nil -> if env.money?, do: recorded(result, thread, env)
      price -> Prices.cost(tokens(result.usage), price)
    end
  end

  defp tokens(usage) do
    count = fn name -> if is_integer(usage[name]), do: usage[name], else: 0 end
    {count.("input_tokens"), count.("cached_input_tokens"), 0, count.("output_tokens"), 0}
  end

  # As the CLI recorded it, with its sub-agents.
  defp recorded(result, thread, env) do
    with home when is_binary(home) <- Runner.home(thread),
         own = [codex_home: home, scope: :tree, prices: env.prices],
         {:ok, %{cost: %{lower_bound: false, usd: usd}, calls: calls}} when calls > 0 <-
           Sessions.usage(result.thread_id, own) do
      usd
    else
      _unknown -> nil
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
