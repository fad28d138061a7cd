defmodule Codex.AppServer.Hooks do
  @moduledoc false
  # The hooks of a thread over a connection. The server learns them when it loads the thread, and
  # calls them as long as it has the thread loaded. So one process for each thread has the bridge,
  # and knows which functions count: those of the turn that runs, else those that the thread began
  # with. It ends with its connection, and when the server has unloaded the thread.

  use GenServer

  alias Codex.AppServer.TurnStart
  alias Codex.{Bridge, Events, Items}
  alias Codex.Hooks.{Config, Set, Table}
  alias Codex.Options.Overrides

  @registry Codex.AppServer.HooksRegistry
  @supervisor Codex.AppServer.Supervisor

  # A name that no server of the user's has.
  @server "codex_sdk_hooks"

  @flags "/<session-flags>/config.toml"
  @refused ["blocked", "stopped"]

  defstruct [:conn, :base, :bridge, :current, :reader, lost?: false]

  @doc "Starts the hooks of a thread that the server is to load."
  @spec start(pid(), Set.t()) :: {:ok, pid()} | {:error, {:bridge, :inet.posix() | :not_started}}
  def start(conn, set) do
    child = %{
      id: __MODULE__,
      start: {GenServer, :start_link, [__MODULE__, {conn, set}]},
      restart: :temporary
    }

    DynamicSupervisor.start_child(@supervisor, child)
  end

  @doc "Returns the process of a thread's hooks, or nil."
  @spec whereis(pid(), String.t()) :: pid() | nil
  def whereis(conn, thread_id) do
    case Registry.lookup(@registry, {conn, thread_id}) do
      [{gate, _events}] -> if Process.alive?(gate), do: gate
      [] -> nil
    end
  end

  @doc "Lists the events that the server knows for a thread."
  @spec events(pid(), String.t()) :: [Table.name()]
  def events(conn, thread_id) do
    case Registry.lookup(@registry, {conn, thread_id}) do
      [{_gate, events}] -> events
      [] -> []
    end
  end

  @doc """
  Returns the overrides of a thread's configuration with these hooks, added to others, and the keys
  by which the server lists them.
  """
  @spec overrides(Bridge.t(), [Table.name()], [Overrides.t()]) :: {[Overrides.t()], [String.t()]}
  def overrides(bridge, events, others) do
    [command | args] = Bridge.command()
    own = [{"command", command}, {"args", args}, {"env", {:table, Enum.to_list(bridge.env)}}]
    server = own ++ Bridge.server([%Bridge.Hooks{current: fn -> nil end}])
    members = for {key, value} <- server, do: {["mcp_servers", @server, key], value}
    {hooks, keys} = Config.overrides(others, @server, Set.timeouts(events))
    {members ++ hooks, keys}
  end

  @doc "Returns the bridge of a process that was just started."
  @spec bridge(pid()) :: Bridge.t()
  def bridge(gate), do: GenServer.call(gate, :bridge)

  @doc "The server has named the thread. Hooks that it had before are over."
  @spec named(pid(), String.t()) :: :ok
  def named(gate, thread_id), do: GenServer.call(gate, {:named, thread_id})

  @doc "From now on these functions count, until `leave/1` or the end of the caller."
  @spec enter(pid(), Set.t()) :: :ok | {:error, {:blocked, :lost}}
  def enter(gate, set) do
    GenServer.call(gate, {:enter, set})
  catch
    :exit, _gone -> {:error, {:blocked, :lost}}
  end

  @spec leave(pid() | nil) :: :ok
  def leave(nil), do: :ok
  def leave(gate), do: GenServer.cast(gate, {:leave, self()})

  @spec stop(pid()) :: :ok
  def stop(gate), do: GenServer.cast(gate, :stop)

  @doc "Checks that the server runs the hooks with these keys: `ask` sends requests."
  @spec verify([String.t()], String.t(), TurnStart.ask()) ::
          :ok | {:error, {:blocked, :not_run} | Codex.AppServer.reason()}
  def verify(keys, thread_id, ask) do
    case ask.("hooks/list", %{"threadId" => thread_id}, []) do
      {:ok, answer} ->
        trusted =
          for %{"hooks" => hooks} <- answer["data"] || [],
              %{"key" => key, "trustStatus" => "trusted", "enabled" => true} <- hooks,
              do: key

        if keys -- trusted == [], do: :ok, else: {:error, {:blocked, :not_run}}

      {:error, reason} ->
        {:error, reason}
    end
  end

  @doc """
  Returns what a hook of the user's files refused, by the report of the server: the item, and
  whether the turn itself was refused.
  """
  @spec refused(map()) :: {Items.HookBlocked.t(), turn? :: boolean()} | nil
  def refused(%{"run" => %{"status" => status} = run} = params) when status in @refused do
    name = run["eventName"] |> to_string() |> Macro.underscore() |> Table.named()

    if name != nil and not own?(run) do
      item = %Items.HookBlocked{
        id: call_id(run["id"]),
        event: name,
        reason: for(%{"text" => text} <- run["entries"] || [], do: text) |> Enum.join("\n"),
        thread_id: params["threadId"],
        source: :user
      }

      case {name, status} do
        {name, _} when name in [:session_start, :user_prompt_submit] -> {item, true}
        {name, "blocked"} when name in [:pre_tool_use, :permission_request] -> {item, false}
        _no_refusal -> nil
      end
    end
  end

  def refused(_params), do: nil

  defp own?(run), do: run["sourcePath"] == @flags and run["handlerType"] == "mcpTool"

  # `pre-tool-use:0:/home/config.toml:call_1`
  defp call_id(id) when is_binary(id) do
    case Regex.run(~r/\.(?:toml|json):(.+)\z/, id) do
      [_, call] -> call
      nil -> nil
    end
  end

  defp call_id(_id), do: nil

  @doc "Returns the event of an item."
  @spec event(Items.HookBlocked.t()) :: Events.t()
  def event(item), do: %Events.ItemCompleted{item: item, thread_id: item.thread_id}

  # --- The process ------------------------------------------------------------------------------

  @impl true
  def init({conn, set}) do
    gate = self()
    _ = Process.monitor(conn)
    current = fn -> current(gate) end
    ended = fn how -> send(gate, {:connection, how}) end

    case Bridge.open([%Bridge.Hooks{current: current}], ended) do
      {:ok, bridge} ->
        {:ok, %__MODULE__{conn: conn, base: set, bridge: bridge, current: set}}

      {:error, reason} ->
        {:stop, reason}
    end
  end

  defp current(gate) do
    GenServer.call(gate, :current)
  catch
    :exit, _gone -> nil
  end

  @impl true
  def handle_call(:bridge, _from, state), do: {:reply, state.bridge, state}
  def handle_call(:current, _from, state), do: {:reply, state.current, state}

  def handle_call({:named, thread_id}, _from, state) do
    key = {state.conn, thread_id}
    for {gate, _events} <- Registry.lookup(@registry, key), gate != self(), do: replace(gate)
    {:reply, register(key, Set.events(state.base)), state}
  end

  def handle_call({:enter, _set}, _from, %{lost?: true} = state),
    do: {:reply, {:error, {:blocked, :lost}}, state}

  def handle_call({:enter, set}, {pid, _tag}, state) do
    state = forget(state)
    {:reply, :ok, %{state | current: set, reader: {pid, Process.monitor(pid)}}}
  end

  @impl true
  def handle_cast({:leave, pid}, %{reader: {pid, _ref}} = state), do: {:noreply, forget(state)}
  def handle_cast({:leave, _pid}, state), do: {:noreply, state}
  def handle_cast(:stop, state), do: {:stop, :normal, state}

  @impl true
  def handle_info({:DOWN, ref, :process, _pid, _reason}, %{reader: {_reader, ref}} = state),
    do: {:noreply, forget(state)}

  def handle_info({:DOWN, _ref, :process, conn, _reason}, %{conn: conn} = state),
    do: {:stop, :normal, state}

  # The server goes on without hooks.
  def handle_info({:connection, :lost}, state) do
    :ok = Set.tell(state.current, :lost)
    {:noreply, %{state | lost?: true}}
  end

  # The server has unloaded the thread.
  def handle_info({:connection, :last}, state), do: {:stop, :normal, state}
  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state), do: Bridge.close(state.bridge)

  defp forget(%{reader: nil} = state), do: state

  defp forget(%{reader: {_pid, ref}} = state) do
    _ = Process.demonitor(ref, [:flush])
    %{state | reader: nil, current: state.base}
  end

  # The entry of a process that has just ended may still be there.
  defp register(key, events) do
    case Registry.register(@registry, key, events) do
      {:ok, _owner} ->
        :ok

      {:error, {:already_registered, _ended}} ->
        Process.sleep(1)
        register(key, events)
    end
  end

  defp replace(gate) do
    ref = Process.monitor(gate)
    :ok = stop(gate)

    receive do
      {:DOWN, ^ref, :process, _pid, _reason} -> :ok
    end
  end
end
