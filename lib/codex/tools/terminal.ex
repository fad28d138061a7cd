defmodule Codex.Tools.Terminal do
  @moduledoc false
  # A command of a shell tool: a process that owns the child, keeps a limited part of its output and
  # ends with its owner. A command that goes on after its call is a session: it has an id, and ends
  # with the turn that started it.
  use GenServer, restart: :temporary

  alias Codex.Subprocess
  alias Codex.Tools.Terminals

  # The bytes that may wait for a child that does not read them.
  @most_input 1_048_576

  @typedoc "Output since the last answer, and the exit if the command has ended."
  @type answer :: {String.t(), Subprocess.Exit.t() | nil} | {:failed, Subprocess.Error.t()}

  @doc """
  Starts a command. Options: `:owner` (a pid), `:most` (bytes of output between two answers), and
  `:child`, options of `Codex.Subprocess.open/2`.
  """
  @spec start([String.t()], keyword()) :: {:ok, pid()} | {:error, Subprocess.Error.t()}
  def start(argv, opts) do
    Codex.Started.check!()
    child = {__MODULE__, {argv, Map.new(opts)}}

    # The supervisor does not wait for the program.
    with {:ok, terminal} <- DynamicSupervisor.start_child(Codex.Tools.Supervisor, child),
         :ok <- call(terminal, :open),
         do: {:ok, terminal}
  end

  def start_link(start), do: GenServer.start_link(__MODULE__, start)

  @doc "Waits until the command ends, at most so many ms."
  @spec wait(pid(), timeout()) :: answer() | :gone
  def wait(terminal, ms), do: call(terminal, {:wait, ms})

  @doc "Writes to the command's stdin, unless too much waits for it (`:full`)."
  @spec write(pid(), String.t()) :: :ok | :full | :gone
  def write(terminal, chars), do: call(terminal, {:write, chars})

  @doc "Makes a session of a command: it now belongs to another owner, and to a scope."
  @spec keep(pid(), pid(), term()) :: {:ok, pos_integer()} | :gone
  def keep(terminal, owner, scope), do: call(terminal, {:keep, owner, scope})

  @doc "Ends the command."
  @spec stop(pid()) :: :ok
  def stop(terminal) do
    GenServer.stop(terminal, :shutdown)
  catch
    :exit, _gone -> :ok
  end

  defp call(terminal, request) do
    GenServer.call(terminal, request, :infinity)
  catch
    :exit, _gone -> :gone
  end

  @impl true
  def init({argv, %{owner: owner, most: most, child: child}}) do
    {:ok,
     %{
       start: {argv, child},
       sub: nil,
       owner: Process.monitor(owner),
       most: most,
       out: {[], 0},
       err: {[], 0},
       ended: nil,
       waiting: nil
     }}
  end

  @impl true
  def handle_call(:open, _from, %{start: {argv, child}} = state) do
    case Subprocess.open(argv, child) do
      {:ok, sub} -> {:reply, :ok, %{state | sub: sub, start: nil}}
      {:error, error} -> {:stop, :normal, {:error, error}, state}
    end
  end

  def handle_call({:wait, ms}, from, state) do
    if state.ended != nil or ms == 0,
      do: answered(from, state),
      else: {:noreply, %{answer_waiting(state) | waiting: {from, timer(ms)}}}
  end

  def handle_call({:write, _chars}, _from, %{ended: ended} = state) when ended != nil,
    do: {:reply, :ok, state}

  def handle_call({:write, chars}, _from, state) do
    if Subprocess.pending(state.sub) + byte_size(chars) > @most_input do
      {:reply, :full, state}
    else
      # After a refused write, the exit follows.
      case Subprocess.write(state.sub, chars) do
        {:ok, sub} -> {:reply, :ok, %{state | sub: sub}}
        {:error, sub, _error} -> {:reply, :ok, %{state | sub: sub}}
      end
    end
  end

  def handle_call({:keep, owner, scope}, _from, state) do
    Process.demonitor(state.owner, [:flush])
    {:reply, {:ok, Terminals.register(scope)}, %{state | owner: Process.monitor(owner)}}
  end

  defp timer(:infinity), do: nil
  defp timer(ms), do: :erlang.start_timer(ms, self(), :wait)

  @impl true
  def handle_info({:timeout, timer, :wait}, %{waiting: {_from, timer}} = state),
    do: {:noreply, answer_waiting(state)}

  def handle_info({:DOWN, owner, :process, _pid, _reason}, %{owner: owner} = state),
    do: {:stop, :shutdown, state}

  def handle_info(_message, %{sub: nil} = state), do: {:noreply, state}

  def handle_info(message, state) do
    case Subprocess.stream(state.sub, message) do
      {:ok, sub, outputs} -> taken(%{state | sub: sub}, outputs)
      {:error, sub, error} -> ended(%{state | sub: sub}, {:failed, error})
      :unknown -> {:noreply, state}
    end
  end

  defp taken(state, []), do: {:noreply, state}
  defp taken(state, [{:exit, exit} | _rest]), do: ended(state, exit)

  defp taken(state, [{:stdout, bytes} | rest]) do
    # Output beyond the limit is dropped, so that the command goes on.
    sub =
      case Subprocess.grant(state.sub, byte_size(bytes)) do
        {:ok, sub} -> sub
        {:error, sub, _error} -> sub
      end

    taken(%{state | sub: sub, out: append(state.out, bytes, state.most)}, rest)
  end

  defp taken(state, [{:stderr, bytes} | rest]),
    do: taken(%{state | err: append(state.err, bytes, state.most)}, rest)

  defp taken(state, [_other | rest]), do: taken(state, rest)

  # Keeps a byte more than the limit: then the output is cut.
  defp append({kept, size}, bytes, most) do
    case most + 1 - size do
      left when left <= 0 -> {kept, size}
      left when left >= byte_size(bytes) -> {[kept, bytes], size + byte_size(bytes)}
      left -> {[kept, binary_part(bytes, 0, left)], size + left}
    end
  end

  defp ended(state, ended) do
    state = %{state | ended: ended}

    case state.waiting do
      {from, _timer} -> answered(from, state)
      nil -> {:noreply, state}
    end
  end

  # The exit is the last answer.
  defp answered(from, %{ended: nil} = state) do
    GenServer.reply(from, {output(state), nil})
    {:noreply, %{state | out: {[], 0}, err: {[], 0}, waiting: nil}}
  end

  defp answered(from, %{ended: {:failed, _error} = failed} = state) do
    GenServer.reply(from, failed)
    {:stop, :normal, state}
  end

  defp answered(from, state) do
    GenServer.reply(from, {output(state), state.ended})
    {:stop, :normal, state}
  end

  defp answer_waiting(%{waiting: nil} = state), do: state

  defp answer_waiting(%{waiting: {from, _timer}} = state) do
    {:noreply, state} = answered(from, state)
    state
  end

  defp output(%{out: {out, _}, err: {err, _}, most: most}) do
    bytes = IO.iodata_to_binary([out, err])

    if byte_size(bytes) > most,
      do: Codex.Text.utf8(whole(binary_part(bytes, 0, most))) <> "\n... (truncated)",
      else: Codex.Text.utf8(bytes)
  end

  # Without the beginning of a character at the end.
  defp whole(bytes) do
    Enum.find_value(0..min(3, byte_size(bytes)), bytes, fn cut ->
      part = binary_part(bytes, 0, byte_size(bytes) - cut)
      if String.valid?(part), do: part
    end)
  end
end
