defmodule Codex.Models.Cache do
  @moduledoc false
  # Keeps catalogs for the VM, so that a request of a web server does not start a CLI, and lets any number of callers share
  # one run. A process, because a run has to have one owner that is none of the callers: the first of them may die.
  #
  # Bounded: @most answers of some 50 KB, each for as long as its source says; the oldest goes first. A run is a task
  # of `Codex.TaskSupervisor`, with an end of its own; should this process end, the run ends by itself.
  use GenServer

  @most 64
  @most_names 256

  @type key :: term()
  @type result :: {:ok, term()} | {:error, term()}

  @doc """
  What is kept under the key, else what `fun` returns: `{result, how long to keep it in ms}`. While it runs, others who ask for
  the same wait for it, also with `refresh?`. `{:error, {:exited, reason}}` where it did not return.
  """
  @spec get(key(), (() -> {result(), non_neg_integer()}), boolean(), GenServer.server()) ::
          result()
  def get(key, fun, refresh?, server \\ __MODULE__),
    do: call(server, {:get, key, fun, refresh?})

  @doc "Whether this is the first time that the VM asks for this name. After #{@most_names} names, none is the first."
  @spec first?(term(), GenServer.server()) :: boolean()
  def first?(name, server \\ __MODULE__) do
    # A name may be long, and come from anywhere.
    call(server, {:first?, :crypto.hash(:sha256, :erlang.term_to_binary(name))})
  end

  defp call(server, request) do
    :ok = Codex.Application.Guard.started!()
    GenServer.call(server, request, :infinity)
  end

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  # kept: %{key => {since, until, result}}, runs: %{monitor => {key, callers}}, running: %{key => monitor}
  @impl true
  def init([]), do: {:ok, %{kept: %{}, runs: %{}, running: %{}, names: MapSet.new()}}

  @impl true
  def handle_call({:get, key, fun, refresh?}, from, state) do
    case state.kept do
      %{^key => {_since, until, result}} when not refresh? ->
        if until > now(),
          do: {:reply, result, state},
          else: {:noreply, wait(state, key, fun, from)}

      _ ->
        {:noreply, wait(state, key, fun, from)}
    end
  end

  def handle_call({:first?, name}, _from, %{names: names} = state) do
    if MapSet.size(names) >= @most_names or MapSet.member?(names, name),
      do: {:reply, false, state},
      else: {:reply, true, %{state | names: MapSet.put(names, name)}}
  end

  defp wait(state, key, fun, from) do
    case state.running do
      %{^key => ref} ->
        update_in(state.runs[ref], fn {key, callers} -> {key, [from | callers]} end)

      _ ->
        %Task{ref: ref} = Task.Supervisor.async_nolink(Codex.TaskSupervisor, fun)

        %{
          state
          | runs: Map.put(state.runs, ref, {key, [from]}),
            running: Map.put(state.running, key, ref)
        }
    end
  end

  @impl true
  def handle_info({ref, {result, hold}}, %{runs: runs} = state) when is_map_key(runs, ref) do
    Process.demonitor(ref, [:flush])
    {key, state} = finish(state, ref, result)
    {:noreply, %{state | kept: keep(state.kept, key, result, hold)}}
  end

  def handle_info({:DOWN, ref, :process, _, reason}, %{runs: runs} = state)
      when is_map_key(runs, ref) do
    {_key, state} = finish(state, ref, {:error, {:exited, reason}})
    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp finish(state, ref, result) do
    {{key, callers}, runs} = Map.pop!(state.runs, ref)
    for from <- callers, do: GenServer.reply(from, result)
    {key, %{state | runs: runs, running: Map.delete(state.running, key)}}
  end

  defp keep(kept, key, result, hold) do
    now = now()
    kept = Map.reject(kept, fn {_, {_, until, _}} -> until <= now end)
    # Two in the same millisecond have an order, too.
    since = System.unique_integer([:monotonic])
    kept = Map.put(kept, key, {since, now + hold, result})

    if map_size(kept) > @most do
      {oldest, _} = Enum.min_by(kept, fn {_, {since, _, _}} -> since end)
      Map.delete(kept, oldest)
    else
      kept
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
