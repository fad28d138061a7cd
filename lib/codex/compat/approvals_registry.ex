defmodule Codex.Approvals.Registry do
  @moduledoc """
  Keeps a map for each open decision of an approval hook. Kept for callers of 0.4.5: the SDK neither
  starts nor reads it.

      {:ok, _} = start_supervised(Codex.Approvals.Registry)
      :ok = Codex.Approvals.Registry.register(ref, %{event: event})

  Each function takes the process as its last argument, by default the one named after this module.
  """

  use GenServer

  alias Codex.Options.Schema

  @doc false
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts), do: super(opts)

  @doc "Starts a registry. Option: `:name` (default: this module)."
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts \\ []) do
    opts = Schema.pairs!(opts)
    GenServer.start_link(__MODULE__, nil, name: Keyword.get(opts, :name, __MODULE__))
  end

  @doc "Keeps `metadata` under `ref`, with the time as `registered_at` (ms since 1970)."
  @spec register(term(), map(), GenServer.server()) :: :ok
  def register(ref, metadata, registry \\ __MODULE__) when is_map(metadata),
    do: call(registry, {:register, ref, metadata})

  @doc "Returns the map kept under `ref`."
  @spec lookup(term(), GenServer.server()) :: {:ok, map()} | {:error, :not_found}
  def lookup(ref, registry \\ __MODULE__), do: call(registry, {:lookup, ref})

  @doc "Forgets `ref`."
  @spec delete(term(), GenServer.server()) :: :ok
  def delete(ref, registry \\ __MODULE__), do: call(registry, {:delete, ref})

  @doc "Forgets maps older than `max_age_ms`, and returns their number."
  @spec cleanup_expired(non_neg_integer(), GenServer.server()) :: non_neg_integer()
  def cleanup_expired(max_age_ms, registry \\ __MODULE__)
      when is_integer(max_age_ms) and max_age_ms >= 0,
      do: call(registry, {:cleanup, max_age_ms})

  defp call(registry, request) do
    GenServer.call(registry, request)
  rescue
    FunctionClauseError -> reraise(none(registry), __STACKTRACE__)
  catch
    :exit, {reason, _call} when reason in [:noproc, :normal, :shutdown] -> raise none(registry)
  end

  defp none(registry),
    do: ArgumentError.exception("there is no registry #{inspect(registry)}: start it first")

  @impl true
  def init(nil), do: {:ok, %{}}

  @impl true
  def handle_call({:register, ref, metadata}, _from, kept),
    do: {:reply, :ok, Map.put(kept, ref, Map.put(metadata, :registered_at, now()))}

  def handle_call({:lookup, ref}, _from, kept) do
    found = with :error <- Map.fetch(kept, ref), do: {:error, :not_found}
    {:reply, found, kept}
  end

  def handle_call({:delete, ref}, _from, kept), do: {:reply, :ok, Map.delete(kept, ref)}

  def handle_call({:cleanup, max_age_ms}, _from, kept) do
    since = now() - max_age_ms
    left = for {ref, meta} <- kept, meta.registered_at > since, into: %{}, do: {ref, meta}
    {:reply, map_size(kept) - map_size(left), left}
  end

  defp now, do: System.system_time(:millisecond)
end
