defmodule Codex.SessionStore.Memory do
  @moduledoc """
  A session store in the memory of a process: for tests, and for nodes that share one store process.

      children = [{Codex.SessionStore.Memory, name: MyApp.Sessions}]
      store = {Codex.SessionStore.Memory, name: MyApp.Sessions}

  Options of the process:

  #{Codex.SessionStore.Memory.Options.docs()}

  The option of the store is `:name`: a registered name, a pid, `{name, node}`, `{:global, term}` or
  `{:via, module, term}`. Calls are answered by one process, which ends with its content. Beyond
  `:max_bytes`, an append returns `{:error, :full}`.
  """

  @behaviour Codex.SessionStore

  use GenServer

  alias Codex.OptionError
  alias Codex.Options.Schema
  alias Codex.SessionStore.Memory.Options

  @doc "Returns the specification for a supervisor, with the name as its id."
  @spec child_spec(keyword() | map()) :: Supervisor.child_spec()
  def child_spec(opts) do
    name = opts |> Schema.pairs!() |> Keyword.get(:name)
    %{id: {__MODULE__, name}, start: {__MODULE__, :start_link, [opts]}}
  end

  @doc "Starts the process of a store. Options: see above."
  @spec start_link(keyword() | map()) :: GenServer.on_start() | {:error, OptionError.t()}
  def start_link(opts) do
    with {:ok, opts} <- Options.new(opts) do
      name = if opts.name == nil, do: [], else: [name: opts.name]
      GenServer.start_link(__MODULE__, opts.max_bytes, name)
    end
  end

  @impl Codex.SessionStore
  def append(opts, key, offset, bytes), do: call(opts, {:append, key, offset, bytes})
  @impl Codex.SessionStore
  def read(opts, key, offset, max_bytes), do: call(opts, {:read, key, offset, max_bytes})
  @impl Codex.SessionStore
  def files(opts, thread_id), do: call(opts, {:files, thread_id})
  @impl Codex.SessionStore
  def threads(opts, after_id, limit), do: call(opts, {:threads, after_id, limit})
  @impl Codex.SessionStore
  def delete(opts, thread_id), do: call(opts, {:delete, thread_id})

  # The caller has its own limit.
  defp call(opts, request), do: GenServer.call(Access.fetch!(opts, :name), request, :infinity)

  ## The process: chunks by key and offset, and the sizes of files

  @impl GenServer
  def init(max_bytes) do
    {:ok, %{chunks: :ets.new(__MODULE__, [:ordered_set]), sizes: %{}, bytes: 0, max: max_bytes}}
  end

  @impl GenServer
  def handle_call({:append, key, offset, bytes}, _from, state) do
    case Map.get(state.sizes, key, 0) do
      ^offset when state.bytes + byte_size(bytes) > state.max ->
        {:reply, {:error, :full}, state}

      ^offset ->
        # A part of a larger binary would keep all of it.
        true = :ets.insert(state.chunks, {{key, offset}, :binary.copy(bytes)})
        sizes = Map.put(state.sizes, key, offset + byte_size(bytes))
        {:reply, :ok, %{state | sizes: sizes, bytes: state.bytes + byte_size(bytes)}}

      have ->
        {:reply, {:error, {:conflict, have}}, state}
    end
  end

  def handle_call({:read, key, offset, most}, _from, state) do
    bytes =
      with {^key, from} <- :ets.prev(state.chunks, {key, offset + 1}),
           [{_key, bytes}] when from + byte_size(bytes) > offset <-
             :ets.lookup(state.chunks, {key, from}) do
        start = offset - from
        binary_part(bytes, start, min(most, byte_size(bytes) - start))
      else
        _end_or_missing -> ""
      end

    {:reply, {:ok, bytes}, state}
  end

  def handle_call({:files, thread}, _from, state),
    do: {:reply, {:ok, for({{^thread, file}, size} <- state.sizes, do: {file, size})}, state}

  def handle_call({:threads, after_id, limit}, _from, state) do
    ids = for {{id, _file}, _size} <- state.sizes, after_id == nil or id > after_id, do: id
    {:reply, {:ok, ids |> Enum.uniq() |> Enum.sort() |> Enum.take(limit)}, state}
  end

  def handle_call({:delete, thread}, _from, state) do
    {gone, kept} = Enum.split_with(state.sizes, fn {{id, _file}, _size} -> id == thread end)
    true = :ets.match_delete(state.chunks, {{{thread, :_}, :_}, :_})
    freed = for {_key, size} <- gone, reduce: 0, do: (sum -> sum + size)
    {:reply, :ok, %{state | sizes: Map.new(kept), bytes: state.bytes - freed}}
  end
end
