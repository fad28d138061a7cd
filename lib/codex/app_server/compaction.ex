defmodule Codex.AppServer.Compaction do
  @moduledoc false
  # A compaction from its request to its end. The server answers at once, and reports the
  # end as that of a turn. A process of its own subscribes for it, so that the caller's subscription
  # stays.

  alias Codex.{AppServer, Error}
  alias Codex.AppServer.Connection
  alias Codex.Options.Schema

  @schema Schema.new([
            {:timeout_ms, :milliseconds, "the limit of the compaction", default: 300_000}
          ])
  @patience 5_000
  @method "thread/compact/start"
  @methods ["item/started", "turn/completed"]

  @type reason ::
          AppServer.reason() | {:turn_failed, Error.t()} | {:timeout, String.t(), pos_integer()}

  @doc """
  Returns the timeout of options.

      iex> Codex.AppServer.Compaction.timeout(timeout_ms: 5)
      {:ok, 5}
      iex> {:error, error} = Codex.AppServer.Compaction.timeout(timeout: 5)
      iex> error.nearest
      :timeout_ms
  """
  @spec timeout(term()) :: {:ok, pos_integer()} | {:error, AppServer.reason()}
  def timeout(options) do
    with {:ok, %{timeout_ms: ms}} <- Schema.validate(@schema, options),
         do: {:ok, ms}
  end

  @doc "Runs a compaction: `start` sends the request, and waits so many ms for its answer."
  @spec run(
          AppServer.conn(),
          String.t(),
          pos_integer(),
          (pos_integer() -> {:ok, term()} | {:error, AppServer.reason()})
        ) :: :ok | {:error, reason()}
  def run(conn, id, timeout, start) do
    caller = self()
    ref = make_ref()

    {:ok, pid} =
      Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
        {result, turn_id} = compact(conn, id, timeout, start, Process.monitor(caller))
        send(caller, {ref, result})
        if turn_id, do: interrupt(conn, id, turn_id)
      end)

    monitor = Process.monitor(pid)

    receive do
      {^ref, result} ->
        Process.demonitor(monitor, [:flush])
        result

      {:DOWN, ^monitor, :process, _, reason} ->
        {:error, {:app_server_down, %{reason: reason}}}
    end
  end

  # What came of it, and the turn that is not to go on.
  defp compact(conn, id, timeout, start, caller) do
    deadline = now() + timeout

    with pid when pid != nil <- Connection.whereis(conn),
         monitors = %{conn: Process.monitor(pid), caller: caller},
         :ok <- AppServer.subscribe(conn, thread_id: id, methods: @methods),
         {:ok, _} <- start.(timeout) do
      case await(monitors, deadline, nil) do
        {:leave, turn_id} -> {late(timeout), turn_id}
        result -> {result, nil}
      end
    else
      nil -> {{:error, {:app_server_down, %{reason: :noproc}}}, nil}
      {:error, {:timeout, _method, _ms}} -> {late(timeout), nil}
      {:error, reason} -> {{:error, reason}, nil}
    end
  end

  defp late(timeout), do: {:error, {:timeout, @method, timeout}}

  defp interrupt(conn, id, turn_id) do
    ids = %{"threadId" => id, "turnId" => turn_id}
    Connection.request(conn, "turn/interrupt", ids, timeout_ms: @patience)
  end

  defp await(%{conn: conn, caller: caller} = monitors, deadline, turn_id) do
    receive do
      {:codex_notification, "item/started",
       %{"item" => %{"type" => "contextCompaction"}, "turnId" => turn_id}} ->
        await(monitors, deadline, turn_id)

      {:codex_notification, "turn/completed", %{"turn" => %{"id" => ^turn_id} = turn}} ->
        ended(turn)

      {:codex_notification, _, _} ->
        await(monitors, deadline, turn_id)

      {:codex_connection, _, {:down, reason}} ->
        {:error, reason}

      {:DOWN, ^conn, :process, _, {:shutdown, {:app_server_down, info}}} ->
        {:error, {:app_server_down, info}}

      {:DOWN, ^conn, :process, _, reason} ->
        {:error, {:app_server_down, %{reason: reason}}}

      {:DOWN, ^caller, :process, _, _} ->
        {:leave, turn_id}
    after
      max(deadline - now(), 0) -> {:leave, turn_id}
    end
  end

  defp ended(%{"status" => "completed"}), do: :ok
  defp ended(%{"error" => %{} = error}), do: {:error, {:turn_failed, Error.normalize(error)}}

  defp ended(turn) do
    error = Error.normalize("the compaction ended as #{inspect(turn["status"])}")
    {:error, {:turn_failed, error}}
  end

  defp now, do: System.monotonic_time(:millisecond)
end
