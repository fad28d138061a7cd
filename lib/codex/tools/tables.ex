defmodule Codex.Tools.Tables do
  @moduledoc false
  # Owns the tables of registered tools and of their calls. They end with this process, and not with
  # the process that used them first. Every process reads and writes them without waiting.
  use GenServer

  @registered Codex.Tools.Registered
  @metrics Codex.Tools.Metrics

  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil) do
    opts = [:named_table, :public, read_concurrency: true, write_concurrency: true]
    Enum.each([@registered, @metrics], &:ets.new(&1, opts))
    {:ok, nil}
  end

  @doc "Registers a tool; false if the name is taken."
  @spec register(String.t(), module(), map()) :: boolean()
  def register(name, module, metadata) do
    Codex.Started.check!()
    :ets.insert_new(@registered, {name, module, metadata})
  end

  @doc "Removes a tool if it is the same module."
  @spec deregister(String.t(), module()) :: :ok
  def deregister(name, module) do
    true = :ets.match_delete(@registered, {name, module, :_})
    :ok
  rescue
    ArgumentError -> :ok
  end

  @doc "Returns a registered tool."
  @spec fetch(String.t()) :: {:ok, {module(), map()}} | {:error, :not_found}
  def fetch(name) do
    case :ets.lookup(@registered, name) do
      [{^name, module, metadata}] -> {:ok, {module, metadata}}
      [] -> {:error, :not_found}
    end
  rescue
    # The application does not run.
    ArgumentError -> {:error, :not_found}
  end

  @doc "Counts a call that began at a native monotonic time."
  @spec count(String.t(), integer(), {:ok, term()} | {:error, term()}) :: :ok
  def count(name, began, result) do
    spent = System.monotonic_time() - began
    ms = System.convert_time_unit(spent, :native, :millisecond)
    {success, failure} = if match?({:ok, _}, result), do: {1, 0}, else: {0, 1}
    new = {name, 0, 0, 0, 0, nil}
    _ = :ets.update_counter(@metrics, name, [{2, success}, {3, failure}, {5, ms}], new)
    _ = :ets.update_element(@metrics, name, [{4, ms} | last_error(result)])
    :ok
  rescue
    ArgumentError -> :ok
  end

  defp last_error({:error, reason}), do: [{6, reason}]
  defp last_error({:ok, _output}), do: []

  @doc "Returns the numbers of calls by name."
  @spec metrics() :: %{String.t() => map()}
  def metrics do
    for {name, success, failure, last, total, error} <- :ets.tab2list(@metrics), into: %{} do
      {name,
       %{
         success: success,
         failure: failure,
         last_latency_ms: last,
         total_latency_ms: total,
         last_error: error
       }}
    end
  rescue
    ArgumentError -> %{}
  end

  @doc "Forgets the numbers of calls."
  @spec reset_metrics() :: :ok
  def reset_metrics, do: clear(@metrics)

  @doc "Forgets the registered tools, and the numbers of calls."
  @spec reset() :: :ok
  def reset do
    clear(@registered)
    clear(@metrics)
  end

  defp clear(table) do
    true = :ets.delete_all_objects(table)
    :ok
  rescue
    ArgumentError -> :ok
  end
end
