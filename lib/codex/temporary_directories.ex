defmodule Codex.TemporaryDirectories do
  @moduledoc false
  # Removes directories together with their owner, a process of this VM: when the process ends or is
  # killed, the script is over, the VM halts or is killed.
  #
  # While the VM runs, this process removes the directories. At the end of a script, a hook does. A
  # launcher knows all of them, too: it removes them when its port has closed without a goodbye, so
  # when the VM is gone.
  use GenServer

  alias Codex.Subprocess.{Frame, Launcher}

  @typedoc """
  The rule for directories when the application is stopped and the VM goes on: `:remove` them, or
  `:leave` them to their owner.
  """
  @type when_stopped :: :remove | :leave

  # A CLI that ends with its owner still writes there for a moment.
  @rounds 40
  @round_ms 50

  @doc "Adopts directories that `owner` is about to make."
  @spec adopt([Path.t()], pid(), when_stopped()) :: :ok | {:error, :not_started}
  def adopt(paths, owner, when_stopped),
    do: call({:adopt, paths, owner, when_stopped}, {:error, :not_started})

  @doc "Forgets directories that their owner has removed; returns whether all were known."
  @spec forget([Path.t()]) :: boolean()
  def forget(paths), do: call({:forget, paths}, false)

  @doc "Returns whether a directory is known."
  @spec known?(Path.t()) :: boolean()
  def known?(path), do: call({:known?, path}, false)

  defp call(request, without) do
    GenServer.call(__MODULE__, request)
  catch
    :exit, {reason, _} when reason in [:noproc, :shutdown, :normal] -> without
  end

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init([]) do
    Process.flag(:trap_exit, true)
    # The end of a script does not stop applications.
    System.at_exit(fn _status -> remove(call(:all, [])) end)
    {:ok, %{entries: %{}, launcher: nil}}
  end

  # Entries by the monitor of their owner: `{paths, when_stopped}`.
  @impl true
  def handle_call({:adopt, paths, owner, when_stopped}, _from, state) do
    entry = {paths, when_stopped}
    {:reply, :ok, update_launcher(put_in(state.entries[Process.monitor(owner)], entry))}
  end

  def handle_call({:forget, paths}, _from, state) do
    known? = paths -- all(state) == []

    entries =
      for {monitor, {kept, when_stopped}} <- state.entries, into: %{} do
        {monitor, {kept -- paths, when_stopped}}
      end

    {empty, entries} = Enum.split_with(entries, &match?({_, {[], _}}, &1))
    for {monitor, _} <- empty, do: Process.demonitor(monitor, [:flush])
    {:reply, known?, update_launcher(%{state | entries: Map.new(entries)})}
  end

  def handle_call({:known?, path}, _from, state), do: {:reply, path in all(state), state}
  def handle_call(:all, _from, state), do: {:reply, all(state), state}

  @impl true
  def handle_info({:DOWN, monitor, :process, _, _}, state) do
    _ = with {paths, _} <- state.entries[monitor], do: remove_later(monitor, paths)
    {:noreply, state}
  end

  def handle_info({:removed, monitor}, state),
    do: {:noreply, update_launcher(%{state | entries: Map.delete(state.entries, monitor)})}

  # Only a launcher that was killed ends before this process.
  def handle_info({port, :eof}, %{launcher: port} = state),
    do: {:noreply, replace_launcher(state)}

  def handle_info({:EXIT, port, _}, %{launcher: port} = state),
    do: {:noreply, replace_launcher(state)}

  def handle_info(_other, state), do: {:noreply, state}

  defp replace_launcher(state) do
    Launcher.close(state.launcher)
    update_launcher(%{state | launcher: nil})
  end

  defp all(state), do: for({_, {paths, _}} <- state.entries, path <- paths, do: path)

  # Without a launcher, only this process and the hook remove directories.
  defp update_launcher(%{launcher: nil, entries: entries} = state) when entries == %{}, do: state

  defp update_launcher(%{launcher: nil} = state) do
    case Launcher.open() do
      {:ok, port} -> update_launcher(%{state | launcher: port})
      {:error, _} -> state
    end
  end

  # If the launcher has ended, a message follows.
  defp update_launcher(state) do
    _ = Launcher.send(state.launcher, Frame.keep(all(state)))
    state
  end

  defp remove_later(monitor, paths) do
    server = self()

    Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
      remove(paths)
      Process.sleep(@round_ms)
      remove(paths)
      send(server, {:removed, monitor})
    end)
  end

  defp remove(paths, rounds \\ @rounds) do
    Enum.each(paths, &File.rm_rf/1)

    if rounds > 0 and Enum.any?(paths, &File.exists?/1) do
      Process.sleep(@round_ms)
      remove(paths, rounds - 1)
    end
  end

  @impl true
  def terminate(_reason, state) do
    # If the VM ends, the launcher looks once more.
    if match?({:stopping, _}, :init.get_status()), do: remove(all(state)), else: stopped(state)
  end

  defp stopped(state) do
    remove(for {_, {paths, :remove}} <- state.entries, path <- paths, do: path)
    if state.launcher, do: Launcher.close(state.launcher)
  end
end
