defmodule Codex.AppServer.Deciders do
  @moduledoc false
  # What the server asks in a turn, and who decides: a process each, owned by the reader of the turn. It answers by itself, so that a
  # reader that is away holds nothing up; where it cannot, the reader says no.

  alias Codex.{Approvals, AppServer.ApprovalDecision, AppServer.Connection, AppServer.Denials}

  @types %{
    "item/commandExecution/requestApproval" => :command_execution_approval,
    "item/fileChange/requestApproval" => :file_change_approval,
    "item/permissions/requestApproval" => :permissions_approval
  }

  # Fields of the event beside those that all have.
  @fields %{
    command_execution_approval: [
      command: "command",
      cwd: "cwd",
      proposed_execpolicy_amendment: "proposedExecpolicyAmendment"
    ],
    file_change_approval: [grant_root: "grantRoot"],
    permissions_approval: [cwd: "cwd", permissions: "permissions"]
  }

  @typedoc "Who decides (nil: nobody, which is no), what they are told besides, and how long they may take, in ms."
  @type handler :: %{
          policy: Approvals.policy() | nil,
          context: map(),
          timeout_ms: pos_integer()
        }

  @typedoc "What is being decided, by the monitor of the process that does, or `{:others, id}`."
  @type t :: %{
          (reference() | {:others, term()}) => %{
            id: term(),
            method: String.t(),
            pid: pid() | nil,
            deadline: integer() | :infinity
          }
        }

  @doc "The server asks. Where nobody here decides it is a no at once, unless others were asked, too."
  @spec put(t(), pid(), handler(), {term(), String.t(), map()}, boolean(), integer()) :: t()
  def put(asked, conn, handler, {id, method, params}, others?, now) do
    type = @types[method]

    cond do
      type != nil and handler.policy != nil ->
        event = event(type, params)
        pid = begin(conn, handler, {id, method, params}, event)
        deadline = now + handler.timeout_ms
        entry = %{id: id, method: method, pid: pid, deadline: deadline}
        Map.put(asked, Process.monitor(pid), entry)

      # It is waited for, as long as the connection does.
      others? ->
        entry = %{id: id, method: method, pid: nil, deadline: :infinity}
        Map.put(asked, {:others, id}, entry)

      true ->
        decline(conn, id, method)
        asked
    end
  end

  defp event(type, params) do
    own = for {name, wire} <- @fields[type], into: %{}, do: {name, params[wire]}

    Map.merge(own, %{
      type: type,
      thread_id: params["threadId"],
      turn_id: params["turnId"],
      item_id: params["itemId"],
      reason: params["reason"]
    })
  end

  defp begin(conn, handler, request, event) do
    reader = self()

    {:ok, pid} =
      Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
        watch(reader)
        decide(conn, handler, request, event)
      end)

    pid
  end

  # A reader that is gone wants no decision.
  defp watch(reader) do
    decider = self()

    spawn_link(fn ->
      reader = Process.monitor(reader)
      decider = Process.monitor(decider)

      receive do
        {:DOWN, ^reader, :process, _, _} -> exit(:shutdown)
        {:DOWN, ^decider, :process, _, _} -> :ok
      end
    end)
  end

  defp decide(conn, handler, {id, method, params}, event) do
    decision = Approvals.decide(handler.policy, event, handler.context, handler.timeout_ms)

    answer =
      if event.type == :permissions_approval,
        do: ApprovalDecision.permissions(decision, params),
        else: %{"decision" => ApprovalDecision.from_hook(decision)}

    # What the protocol does not take is no answer.
    with {:error, reason} <- respond(conn, id, {:ok, answer}),
         true <- elem(reason, 0) not in [:request_closed, :app_server_down],
         do: decline(conn, id, method)

    :ok
  end

  @doc "One of the processes has ended. In whatever way: the question is closed."
  @spec decided(t(), reference(), term(), pid()) :: t()
  def decided(asked, ref, reason, conn) do
    {entry, asked} = Map.pop!(asked, ref)
    # One that was quicker than the monitor may have answered: then this is refused.
    if reason != :normal, do: decline(conn, entry.id, entry.method)
    asked
  end

  @doc "It has its answer, from whomever."
  @spec answered(t(), term()) :: {:ok, t()} | :error
  def answered(asked, id) do
    case Enum.find(asked, fn {_ref, entry} -> entry.id == id end) do
      nil ->
        :error

      {ref, entry} ->
        finish(ref, entry)
        {:ok, Map.delete(asked, ref)}
    end
  end

  @doc "How long the next decision may be waited for, in ms."
  @spec patience(t(), integer()) :: timeout()
  def patience(asked, now) do
    # `:infinity` is above every number.
    case asked |> Enum.map(fn {_, entry} -> entry.deadline end) |> Enum.min() do
      :infinity -> :infinity
      deadline -> max(deadline - now, 0)
    end
  end

  @doc "Those who took too long are ended, and the answer is no."
  @spec expire(t(), pid(), integer()) :: t()
  def expire(asked, conn, now) do
    for {ref, entry} <- asked, entry.deadline <= now, reduce: asked do
      asked ->
        finish(ref, entry)
        decline(conn, entry.id, entry.method)
        Map.delete(asked, ref)
    end
  end

  @doc "Nobody is asked any more."
  @spec stop(t()) :: :ok
  def stop(asked), do: Enum.each(asked, fn {ref, entry} -> finish(ref, entry) end)

  defp finish({:others, _}, _entry), do: true

  defp finish(ref, entry) do
    Process.exit(entry.pid, :kill)
    Process.demonitor(ref, [:flush])
  end

  defp decline(conn, id, method) do
    _ = respond(conn, id, Denials.answer(method))
    :ok
  end

  defp respond(conn, id, answer) do
    with {:ok, result} <- Connection.call(conn, {:respond, id, answer}), do: result
  end
end
