defmodule Codex.Pool.Turn do
  @moduledoc false
  # A turn over a pool: waits for a place on a server, and runs the turn over the connection to this
  # server (`Codex.AppServer.Turn`). The place is given back when the turn is closed, or by the pool
  # when its reader is gone.

  @behaviour Codex.Turn.Transport

  alias Codex.AppServer.{Backend, Connection, Turn}
  alias Codex.Pool.Server
  alias Codex.Turn.{Cancellation, Job, Running}

  # How often a server that is gone is given back, and the pause until the pool knows.
  @tries 50
  @pause_ms 20

  @impl true
  def unsupported, do: []

  # What can be checked without a server, or with any server: the turn's own one is not known yet.
  @impl true
  def prepare(%{transport: {:pool, pool}, thread: thread} = job) do
    case Server.call(pool, {:any, thread.thread_id}) do
      {conn, loaded?} when is_pid(conn) ->
        with {:ok, _on_server} <- Backend.prepare(on_server(job, conn, loaded?)),
             do: {:ok, %{job | plan: %{}}}

      _none ->
        {:ok, %{job | plan: %{}}}
    end
  end

  defp on_server(job, conn, loaded?) do
    transport = {:app_server, conn}
    thread = %{job.thread | transport: transport, transport_ref: if(loaded?, do: conn)}
    %{job | transport: transport, thread: thread}
  end

  @impl true
  def open(%{transport: {:pool, pool}} = job, how, context) do
    checkout(job, how, context, pool, @tries)
  end

  defp checkout(job, how, context, pool, tries) do
    case Server.checkout(pool, thread_id(how, job), fn -> unwanted(context) end) do
      {:ok, conn, loaded?, lease} -> open(job, how, context, {conn, loaded?, lease}, tries)
      {:error, {:cause, cause}} -> {:failed, cause, nil}
      {:error, reason} -> {:failed, reason, nil}
    end
  end

  defp thread_id({:repeat, id}, _job) when is_binary(id), do: id
  defp thread_id({:resume, id, _prompt}, _job), do: id
  defp thread_id(_how, job), do: job.thread.thread_id

  defp unwanted(context) do
    case context.left.() do
      {:expired, name, ms} -> {:cause, {:timeout, name, ms}}
      {:wait, _ms} -> if Cancellation.cancelled?(context.call), do: {:cause, :cancelled}
    end
  end

  # The pool may not know yet that a server is gone: another one is asked for, as long as nothing
  # was sent.
  defp open(job, how, context, {conn, _loaded?, lease} = place, tries) do
    if tries > 0 and match?({:error, _down}, Connection.call(conn, :about)) do
      :ok = Server.checkin(lease)
      Process.sleep(@pause_ms)
      checkout(job, how, context, elem(job.transport, 1), tries - 1)
    else
      open(job, how, context, place)
    end
  end

  defp open(job, how, context, {conn, loaded?, lease}) do
    with {:ok, job} <- Backend.prepare(on_server(job, conn, loaded?)),
         :ok <- Job.notify(job, :begin),
         job = put_in(job.plan[:lease], lease),
         {:ok, events, run} <- Turn.open(job, how, context) do
      :ok = Server.thread(lease, run.thread_id)
      {:ok, events, run}
    else
      {:failed, cause, nil} -> failed(cause, lease)
      # `close/1` gives the place back.
      {:failed, cause, run} -> {:failed, cause, run}
      {:error, reason} -> failed(reason, lease)
    end
  end

  defp failed(cause, lease) do
    :ok = Server.checkin(lease)
    {:failed, cause, nil}
  end

  @impl true
  defdelegate next(run, ms), to: Turn
  @impl true
  defdelegate ending(run), to: Turn
  @impl true
  defdelegate stderr(run), to: Turn

  @impl true
  def close(run) do
    run = Turn.close(run)
    :ok = Server.checkin(run.job.plan.lease)
    run
  end

  @impl true
  defdelegate secrets(job), to: Backend

  @impl true
  def home(%{thread: thread}) do
    with {:ok, conn} <- connection(thread),
         {:ok, %{"codexHome" => home}} <- Codex.AppServer.server_info(conn),
         do: home,
         else: (_ -> nil)
  end

  @doc "Returns the account that the limits of a thread's turns belong to."
  @impl true
  def account(%{transport: {:pool, pool}} = job_or_thread) do
    case Server.call(pool, :account) do
      account when is_binary(account) -> account
      _gone -> Codex.AppServer.account(client(job_or_thread))
    end
  end

  defp client(%{thread: %{codex_opts: client}}), do: client
  defp client(%{codex_opts: client}), do: client

  @impl true
  def steer(thread, input), do: with_running(thread, &Backend.steer(&1, input))

  @impl true
  def interrupt(thread, clean?), do: with_running(thread, &Backend.interrupt(&1, clean?))

  # On the server that runs the thread.
  defp with_running(%{transport: {:pool, pool}} = thread, fun) do
    case Running.thread_id(thread) do
      nil ->
        {:error, :missing_thread_id}

      id ->
        case Server.call(pool, {:any, id}) do
          {conn, true} -> fun.(%{thread | transport: {:app_server, conn}})
          _not_loaded -> {:error, {:no_turn, id}}
        end
    end
  end

  @doc "Notes that a connection has loaded a thread."
  @spec loaded(struct(), GenServer.server(), String.t()) :: :ok
  def loaded(%{transport: {:pool, pool}}, conn, id), do: Server.assign(pool, conn, id)
  def loaded(_thread, _conn, _id), do: :ok

  @doc "Returns a connection for calls about a thread. Waits for a server of a pool."
  @spec connection(struct()) :: {:ok, GenServer.server()} | {:error, term()}
  def connection(%{transport: {:app_server, conn}}), do: {:ok, conn}

  def connection(%{transport: {:pool, pool}, thread_id: id}),
    do: Codex.Pool.connection(pool, id)
end
