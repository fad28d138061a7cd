defmodule Codex.Pool do
  @moduledoc """
  A pool of warm app-servers under a supervisor of the application.

      children = [
        {Codex.Pool, name: MyApp.Codex, server: [cwd: "/srv/app"], min: 2, max: 8}
      ]

      {:ok, thread} = Codex.start_thread([], transport: {:pool, MyApp.Codex}, sandbox: :read_only)
      {:ok, result} = Codex.Thread.run(thread, "What does this project do?")

  A thread with `transport: {:pool, name}` behaves as one over a connection: `Codex.Thread`,
  `Codex.Threads`, `Codex.AgentRunner` and `Codex.Batch` take it. Between two turns it occupies
  neither a process nor a connection.

  ## Servers

  Each turn occupies a place on a server, and waits in line if no place is free; the timeouts of the
  turn end the wait. While turns wait, the pool starts further servers, one at a time, up to `max`.
  A thread returns to the server that has it loaded. If that server is gone, another one resumes the
  thread from the home of the CLI, which all servers of a pool share.

  A server is recycled after `max_turns`, `max_age_ms` or `max_memory_bytes`, and when it does not
  answer a health check: it gets no further turns, and ends after its last one. A server that fails
  a second check in a row ends at once. A turn whose server is lost fails; it is repeated or
  continued only as `retry` of the thread says.

  The servers end with the process of the pool and with the VM.

  ## Deploys

  `drain/2` ends a pool in good order: no turn begins any more, and running turns have some time to
  end. Call it before the application stops:

      def prep_stop(state) do
        {:ok, _} = Codex.Pool.drain(MyApp.Codex, 30_000)
        state
      end

  ## Options

  #{Codex.Pool.Options.docs()}
  """

  alias Codex.OptionError
  alias Codex.Options.{Schema, Type}
  alias Codex.Pool.{Options, Server}

  @typedoc "The name or the pid of a pool."
  @type pool :: GenServer.server()

  @typedoc "Why a pool gives no server: it is drained or gone, or no server can be started."
  @type reason ::
          {:pool_drained, pool()}
          | {:no_pool, pool()}
          | Codex.Error.t()
          | OptionError.t()

  @doc """
  Starts a pool that is linked to the caller. Options: see above. Does not wait for servers.

  Returns `{:error, error}` with a `Codex.OptionError` for invalid options, and
  `{:error, {:already_started, pid}}`.
  """
  @spec start_link(keyword() | (... -> keyword())) ::
          {:ok, pid()} | {:error, OptionError.t() | {:already_started, pid()}}
  def start_link(options) when is_function(options, 0), do: start_link(options.())

  def start_link(options) do
    with {:ok, opts} <- Options.new(options) do
      :ok = Codex.Started.check!()
      Server.start_link(opts)
    end
  end

  @doc "Returns the child specification for `start_link/1`. Its id is the name."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(options) do
    %{
      id: options |> Schema.pairs!() |> Keyword.get(:name, __MODULE__),
      # A function, because reports of supervisors show arguments, which may hold keys.
      start: {__MODULE__, :start_link, [fn -> options end]},
      shutdown: 10_000
    }
  end

  @doc """
  Ends the servers of a pool: turns that wait fail, no turn begins, and running turns have
  `timeout` ms to end. Turns that still run are interrupted then.

  Returns `{:ok, %{finished: n, interrupted: n}}`, the numbers of turns, when all servers have
  ended, or `{:error, {:no_pool, pool}}`. The pool stays drained until its process is restarted.
  """
  @spec drain(pool(), timeout()) ::
          {:ok, %{finished: non_neg_integer(), interrupted: non_neg_integer()}}
          | {:error, {:no_pool, pool()} | OptionError.t()}
  def drain(pool, timeout \\ 30_000) do
    case Type.cast(:timeout, timeout) do
      {:ok, timeout} -> call(pool, {:drain, timeout})
      :error -> {:error, OptionError.argument(:timeout, timeout, Type.words(:timeout))}
    end
  end

  @doc """
  Returns the state of a pool, `{:ok, map}`, or `{:error, {:no_pool, pool}}`:

    * `:servers` - a map for each server, with `:conn`, `:turns` (running), `:total_turns`,
      `:threads` (loaded), `:age_ms`, `:memory_bytes` (nil if it is not known yet), and `:retiring`
    * `:starting` - whether a server is being started; `:draining`
    * `:running`, `:waiting` - numbers of turns
    * `:started`, `:failed`, `:ended` - numbers of servers since the pool began; `:ended` is a map
      by reason: `:turns`, `:age`, `:memory`, `:unhealthy`, `:idle`, `:drained`, `:lost`
  """
  @spec stats(pool()) :: {:ok, map()} | {:error, {:no_pool, pool()} | OptionError.t()}
  def stats(pool), do: call(pool, :stats)

  @doc """
  Returns a connection of a pool for calls of `Codex.AppServer` and `Codex.Threads`, `{:ok, conn}`.
  With the id of a thread, it is the server that has the thread loaded, if there is one.

  Waits for a server, at most `timeout` ms (`{:error, :timeout}`). The connection may be recycled at
  any time, so ask again for each piece of work. Errors: `t:reason/0`.
  """
  @spec connection(pool(), String.t() | nil, timeout()) ::
          {:ok, pid()} | {:error, :timeout | reason()}
  def connection(pool, thread_id \\ nil, timeout \\ 30_000)

  def connection(pool, thread_id, timeout) when is_binary(thread_id) or thread_id == nil do
    with :ok <- check(pool),
         {:ok, timeout} <- Type.cast(:timeout, timeout),
         {:ok, conn, _loaded?, lease} <- Server.checkout(pool, thread_id, timeout) do
      :ok = Server.checkin(lease)
      {:ok, conn}
    else
      :error -> {:error, OptionError.argument(:timeout, timeout, Type.words(:timeout))}
      error -> error
    end
  end

  def connection(_pool, other, _timeout),
    do: {:error, OptionError.argument(:thread_id, other, "the id of a thread, or nil")}

  defp call(pool, request), do: with(:ok <- check(pool), do: Server.call(pool, request))

  defp check(pool) do
    if Type.server?(pool),
      do: :ok,
      else: {:error, OptionError.argument(:pool, pool, "a pool: its pid or its name")}
  end
end
