defmodule Codex.Batch.Remote do
  @moduledoc false
  # Runs a job on another node, in the process of its worker. The other node's process
  # (`Codex.Batch.Guest`) asks this one before it sends a prompt. So if that node is lost, this
  # process knows whether the job may have begun:
  #
  #   * it had not: nothing of it runs, and the job may go to any node
  #   * it had: this process waits for that node, and lets it look the turn up in its recorded
  #     threads. If the node does not return in time, the job is uncertain
  #
  # Functions of the options run here, each call in a process that ends with its caller.

  alias Codex.Batch.{Guest, Job, Result, Travel}
  alias Codex.{Error, OwnerMonitor}
  alias Codex.Options.Type
  alias Codex.Turn.{Cancellation, Running}

  # The limit of the start of a process, with the connection to its node.
  @start_ms 15_000
  # How often a lost node is tried.
  @pause_ms 500

  @enforce_keys [:job, :env, :wait_ms, :cargo, :functions, :call]
  defstruct @enforce_keys ++
              [:ref, :guest, :monitor, :thread_id, :lost_at] ++
              [begun?: false, stopped?: false]

  @typedoc "Why nothing of a job has run: its node is of another version, or was lost."
  @type again :: {:again, {:refused, Error.t()} | :lost}

  @doc """
  Runs a job on its node. `env` as for `Codex.Batch.Execution.run/2`; a lost node is waited for
  `wait_ms` ms.
  """
  @spec run(Job.t(), map(), timeout()) :: {:result, Result.t()} | again()
  def run(job, env, wait_ms) do
    case Travel.pack(job, env.client) do
      {:ok, cargo, functions} ->
        call = Cancellation.begin([], about(job))
        begun? = job.state != :queued
        thread_id = if begun?, do: elem(job.state, 1)

        state = %__MODULE__{
          job: job,
          env: env,
          wait_ms: wait_ms,
          cargo: cargo,
          functions: functions,
          call: call,
          begun?: begun?,
          thread_id: thread_id
        }

        result = start(state)
        :ok = Cancellation.finish(call)
        result

      {:error, reason} ->
        {:result, Result.of(job, {:error, reason})}
    end
  end

  defp about(job) do
    transport =
      Enum.find_value(Enum.reverse(job.thread), :exec, fn {name, value} ->
        Type.name(name) == "transport" && value
      end)

    Running.about(transport, nil, {:run, job.prompt}, %{working_directory: job.cwd})
  end

  defp start(state) do
    ref = make_ref()

    case call_node(state.job.node, :start, [request(state, ref)]) do
      {:ok, {:ok, pid}} ->
        await(%{state | ref: ref, guest: pid, monitor: Process.monitor(pid), lost_at: nil})

      {:ok, {:refused, version}} ->
        refused(state, version)

      {:no, :undef} ->
        refused(state, nil)

      {:no, :lost} ->
        lost(state)
    end
  end

  defp request(state, ref) do
    {_version, protocol} = Guest.version()

    %{
      protocol: protocol,
      owner: self(),
      ref: ref,
      job: Map.take(state.job, [:index, :key, :prompt, :cwd, :timeout_ms, :state]),
      env: Map.take(state.env, [:on_interrupted, :prices, :money?, :limit_ms]),
      cargo: state.cargo
    }
  end

  defp call_node(node, function, args) do
    {:ok, :erpc.call(node, Guest, function, args, @start_ms)}
  rescue
    error in ErlangError ->
      case error.original do
        {:exception, :undef, [{Guest, _, _, _} | _]} -> {:no, :undef}
        _other -> {:no, :lost}
      end

    # The exception of the other node.
    _error ->
      {:no, :lost}
  catch
    _kind, _reason -> {:no, :lost}
  end

  defp await(%{ref: ref, monitor: monitor, call: %{cancel: cancel}} = state) do
    receive do
      {^ref, from, {:hook, what}} ->
        answer = state.env.hook.(what)
        send(from, {from, answer})
        await(note(what, state))

      {^ref, from, {:call, caller, id, args}} ->
        _ = spawn(serve(self(), from, caller, state.functions[id], args))
        await(state)

      {^ref, {:result, fields}} ->
        Process.demonitor(monitor, [:flush])
        {:result, fields |> Guest.result() |> at_home(state)}

      {^cancel, :cancelled} ->
        state |> stop() |> await()

      {:DOWN, ^monitor, :process, _pid, reason} ->
        down(reason, state)
    end
  end

  defp note(:begin, state), do: %{state | begun?: true}

  defp note({:thread, id}, state) do
    :ok = Running.begun(state.call.ref, id)
    %{state | thread_id: id}
  end

  # The cancellation is repeated until this process has ended.
  defp stop(%{stopped?: true} = state), do: state

  defp stop(state) do
    _ = :erpc.cast(state.job.node, Guest, :stop, [state.guest])
    %{state | stopped?: true}
  end

  defp serve(worker, from, caller, fun, args) do
    fn ->
      _ = OwnerMonitor.start(worker)
      _ = OwnerMonitor.start(caller)
      send(from, {from, outcome(fun, args)})
    end
  end

  defp outcome(fun, args) do
    {:ok, apply(fun, args)}
  catch
    kind, reason -> {:raised, kind, reason, __STACKTRACE__}
  end

  ## A node that is gone

  # A crash comes again.
  defp down({_exception, [_ | _] = _trace}, %{begun?: false} = state) do
    message = "the process of the job crashed on #{state.job.node} before the turn began"
    {:result, result(state, :failed, Error.new(:crashed, message))}
  end

  defp down(_reason, state), do: lost(state)

  defp lost(%{begun?: false}), do: {:again, :lost}

  defp lost(%{thread_id: nil} = state),
    do: uncertain(state, "the node was lost, and its thread is not known")

  defp lost(state) do
    state = %{state | lost_at: state.lost_at || now()}

    cond do
      left(state) <= 0 ->
        uncertain(state, "the node was lost and did not return within #{state.wait_ms} ms")

      Cancellation.sleep(state.call, @pause_ms) == :cancelled ->
        uncertain(state, "the node was lost, and the batch was cancelled")

      true ->
        look_up(state)
    end
  end

  defp look_up(%{job: job} = state) do
    if Node.connect(job.node) == true,
      do: start(%{state | job: %{job | state: {:begun, state.thread_id, job.node}}}),
      else: lost(state)
  end

  defp left(%{wait_ms: :infinity}), do: 1
  defp left(state), do: state.lost_at + state.wait_ms - now()

  defp refused(%{begun?: false} = state, version),
    do: {:again, {:refused, Error.new(:config, mismatch(state.job.node, version))}}

  defp refused(state, version), do: uncertain(state, mismatch(state.job.node, version))

  defp mismatch(node, version) do
    {own, protocol} = Guest.version()
    own = "this node has codex_sdk #{own} (protocol #{protocol})"

    case version do
      {vsn, other} ->
        "the node #{node} runs no jobs of this node: it has codex_sdk #{vsn} (protocol " <>
          "#{other}), and #{own}; use versions with the same protocol"

      nil ->
        "the node #{node} runs no jobs of this node: it has no codex_sdk that runs jobs of " <>
          "other nodes, and #{own}"
    end
  end

  defp uncertain(state, why) do
    thread = if id = state.thread_id, do: ", in the thread #{id}", else: ""
    message = "the job was running on #{state.job.node}#{thread}, and #{why}"
    error = Error.new(:crashed, message, %{retryable?: false})
    {:result, %{result(state, :uncertain, error) | thread_id: state.thread_id}}
  end

  defp result(state, status, error),
    do: %{Result.without_turn(state.job, status, error) | node: state.job.node}

  defp at_home(%{result: %{thread: thread} = result} = of_job, state) do
    thread = Travel.at_home(thread, state.job, state.env.client)
    %{of_job | result: %{result | thread: thread}}
  end

  defp at_home(of_job, _state), do: of_job

  defp now, do: System.monotonic_time(:millisecond)
end
