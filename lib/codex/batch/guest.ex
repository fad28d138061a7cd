defmodule Codex.Batch.Guest do
  @moduledoc false
  # The process of a job on the node that runs it. The worker of the job (`Codex.Batch.Remote`),
  # which is on the node that gave it, owns this process: it ends with its worker, and when the
  # connection to the worker's node is lost. It asks the worker before it sends a prompt, so that a
  # job never begins unless its worker knows.
  #
  # Messages to the worker, each with the reference of the attempt:
  #
  #   * `{ref, from, {:hook, what}}` - the hook of a turn; `from` is an alias that gets the answer
  #   * `{ref, from, {:call, caller, id, args}}` - a call of a function that stayed
  #   * `{ref, {:result, fields}}` - the result
  #
  # Requests and results are maps, so a node may know more fields than another one. A change that
  # another version would misunderstand needs a new number of the protocol.

  alias Codex.Batch.{Execution, Job, Result, Travel}
  alias Codex.OwnerMonitor

  @protocol 1

  @typedoc "The version of the package on a node, and the number of its protocol."
  @type version :: {String.t(), pos_integer()}

  @doc "Returns the version of this node."
  @spec version() :: version()
  def version, do: {to_string(Application.spec(:codex_sdk, :vsn)), @protocol}

  @doc """
  Starts the process of a job. Called from other nodes: see `Codex.Batch.Remote`.
  """
  @spec start(map()) :: {:ok, pid()} | {:refused, version()}
  def start(%{protocol: @protocol} = request) do
    :ok = Codex.Started.check!()
    # As a function: the report of a crash shows arguments.
    Task.Supervisor.start_child(Codex.TaskSupervisor, fn -> run(request) end)
  end

  def start(_other), do: {:refused, version()}

  @doc "Interrupts the turn of such a process. Returns when it has ended."
  @spec stop(pid()) :: :ok
  defdelegate stop(pid), to: Execution

  defp run(%{owner: owner, ref: ref} = request) do
    _ = OwnerMonitor.start(owner)
    call = fn id, args -> call(owner, ref, id, args) end
    cargo = Travel.unpack(request.cargo, call)
    client = struct(Codex.Options, Map.from_struct(cargo.client))
    job = struct!(Job, Map.merge(request.job, Map.take(cargo, [:thread, :turn])))

    env =
      request.env
      |> Map.take([:on_interrupted, :prices, :money?, :limit_ms])
      |> Map.merge(%{client: client, hook: &ask(owner, ref, {:hook, &1})})

    send(owner, {ref, {:result, job |> Execution.run(env) |> Map.from_struct()}})
  end

  @doc "Returns the result of such a message."
  @spec result(map()) :: Result.t()
  def result(fields), do: struct(Result, fields)

  defp call(owner, ref, id, args) do
    case ask(owner, ref, {:call, self(), id, args}) do
      {:ok, value} -> value
      {:raised, kind, reason, trace} -> :erlang.raise(kind, reason, trace)
    end
  end

  defp ask(owner, ref, question) do
    from = :erlang.monitor(:process, owner, alias: :reply_demonitor)
    _ = send(owner, {ref, from, question})

    receive do
      {^from, answer} -> answer
      {:DOWN, ^from, :process, _, _} -> exit(:shutdown)
    end
  end
end
