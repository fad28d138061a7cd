defmodule Codex.Subprocess.Launchers do
  @moduledoc false
  # Keeps a few launchers started ahead, so that a child does not wait for one to come up.
  #
  # An idle launcher knows nothing of the run that will use it: program, arguments, environment and
  # directory come with START. It ends when this process or the VM ends, because its port closes.
  # A caller that finds none starts its own. The first call starts the first ones: an application
  # that never runs a child has none.
  #
  # The application environment's `:idle_launchers` sets how many are kept (default 2, 0 for none).
  use GenServer

  alias Codex.Subprocess.Launcher

  @default 2

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  Takes an idle launcher: its port is then owned by the calling process, and linked to it.
  """
  @spec take() :: {:ok, port()} | :none
  def take do
    case Process.whereis(__MODULE__) do
      nil -> :none
      pid -> GenServer.call(pid, :take)
    end
  catch
    # The process ended in this moment.
    :exit, _ -> :none
  end

  @doc "Lists the operating system's process ids of the idle launchers."
  @spec idle() :: [pos_integer()]
  def idle, do: GenServer.call(__MODULE__, :idle)

  @impl true
  def init(nil) do
    # A launcher that is killed while it is idle ends its port, not this process.
    Process.flag(:trap_exit, true)
    {:ok, %{idle: [], filling?: false}}
  end

  @impl true
  def handle_call(:take, {pid, _}, %{idle: [port | idle]} = state) do
    if hand_over(port, pid),
      do: {:reply, {:ok, port}, fill_later(%{state | idle: idle})},
      else: handle_call(:take, {pid, nil}, %{state | idle: idle})
  end

  def handle_call(:take, _from, state), do: {:reply, :none, fill_later(state)}

  def handle_call(:idle, _from, state) do
    pids = for port <- state.idle, {:os_pid, pid} <- [Port.info(port, :os_pid)], do: pid
    {:reply, pids, state}
  end

  # Raises if the port has closed meanwhile.
  defp hand_over(port, pid) do
    true = Port.connect(port, pid)
    true = Process.unlink(port)
  rescue
    ArgumentError -> false
  end

  # In a moment: the child that is starting needs the processors first (bench/turn), and calls that
  # wait already start their own launchers at once.
  @soon_ms 3

  defp fill_later(%{filling?: true} = state), do: state

  defp fill_later(state) do
    _ = Process.send_after(self(), :fill, @soon_ms)
    %{state | filling?: true}
  end

  @impl true
  def handle_info(:fill, state) do
    state = %{state | filling?: false}

    with true <- length(state.idle) < Application.get_env(:codex_sdk, :idle_launchers, @default),
         {:ok, port} <- Launcher.open() do
      {:noreply, fill_later(%{state | idle: state.idle ++ [port]})}
    else
      _ -> {:noreply, state}
    end
  end

  # A launcher has ended: an idle one is dropped. If it was handed over in this moment, its owner
  # waits for the message.
  def handle_info({port, :eof} = message, state) when is_port(port) do
    cond do
      port in state.idle -> Launcher.close(port)
      owner = owner(port) -> send(owner, message)
      true -> :ok
    end

    {:noreply, %{state | idle: List.delete(state.idle, port)}}
  end

  def handle_info({:EXIT, port, _}, state) when is_port(port),
    do: {:noreply, %{state | idle: List.delete(state.idle, port)}}

  def handle_info(_message, state), do: {:noreply, state}

  defp owner(port) do
    case Port.info(port, :connected) do
      {:connected, pid} when pid != self() -> pid
      _none -> nil
    end
  end
end
