defmodule Codex.Home.Isolated do
  @moduledoc """
  A `CODEX_HOME` of its own for runs that must not see, or change, the user's: no login, no configuration but the given one,
  no AGENTS file, no rules, no sessions.

      {:ok, home} = Codex.Home.Isolated.create(config: %{"model" => "gpt-6", "analytics.enabled" => false})
      {:ok, thread} = Codex.start_thread([codex_home: home, api_key: key], isolation: :hermetic)

  The given configuration counts with every `isolation` and with `ignore_user_config`: the CLI is
  not told to ignore the `config.toml` of such a home, because it is not the user's.

  The directory belongs to the process that made it: it is removed, with the sessions of its threads in it, when that process
  ends, or when `remove/1` is called.
  """
  use GenServer

  alias Codex.Options.Overrides

  @type error ::
          {:invalid_config, term()}
          | {:unknown_option, term(), atom() | nil}
          | {:write_failed, Path.t(), File.posix()}

  @doc """
  Makes one. Options:

    * `:config` - what its `config.toml` has: map or keyword; keys are split at dots (default: nothing)
    * `:dir` - where it is made (default: the user's cache folder; the CLI warns about homes in the temporary folder)
    * `:owner` - the process with which it goes (default: the caller)

  Returns `{:ok, path}`. Errors: `{:invalid_config, key}`, `{:unknown_option, key, nearest}`, `{:write_failed, path, posix}`.
  """
  @spec create(keyword()) :: {:ok, Path.t()} | {:error, error()}
  def create(opts \\ []) do
    case Keyword.keys(opts) -- [:config, :dir, :owner] do
      [] ->
        with {:ok, toml} <- toml(opts[:config] || %{}),
             do:
               GenServer.call(
                 __MODULE__,
                 {:create, opts[:dir] || default_dir(), toml, opts[:owner] || self()}
               )

      [key | _] ->
        {:error, {:unknown_option, key, Codex.Suggest.nearest(key, [:config, :dir, :owner])}}
    end
  end

  @doc "Removes one before its owner ends. Others stay as they are."
  @spec remove(Path.t()) :: :ok
  def remove(home) do
    _ = if GenServer.call(__MODULE__, {:forget, home}), do: File.rm_rf(home)
    :ok
  end

  defp default_dir, do: :filename.basedir(:user_cache, "codex_sdk") |> IO.chardata_to_string()

  # Dotted keys only: what is told is merged, and each line stands by itself.
  defp toml(config) do
    with {:ok, told} <- Overrides.new(config),
         false <- Enum.any?(told, &is_binary/1),
         {:ok, document} <- Overrides.document(told) do
      {:ok, document}
    else
      true -> {:error, {:invalid_config, :not_a_table}}
      {:error, which} -> {:error, {:invalid_config, which}}
    end
  end

  @doc false
  def start_link(_opts), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  # Homes by the monitor of their owner.
  @impl true
  def init([]) do
    Process.flag(:trap_exit, true)
    {:ok, %{}}
  end

  @impl true
  def handle_call({:create, parent, toml, owner}, _from, homes) do
    name = "home-" <> Base.encode32(:crypto.strong_rand_bytes(10), case: :lower, padding: false)
    home = parent |> Path.join(name) |> Path.expand()

    with :ok <- File.mkdir_p(parent),
         :ok <- File.mkdir(home),
         :ok <- File.chmod(home, 0o700),
         :ok <- Codex.Home.mark(home),
         :ok <- File.write(Path.join(home, "config.toml"), toml) do
      {:reply, {:ok, home}, Map.put(homes, Process.monitor(owner), home)}
    else
      {:error, reason} ->
        _ = File.rm_rf(home)
        {:reply, {:error, {:write_failed, home, reason}}, homes}
    end
  end

  def handle_call({:forget, home}, _from, homes) do
    {gone, left} = Enum.split_with(homes, fn {_, other} -> other == home end)
    for {monitor, _} <- gone, do: Process.demonitor(monitor, [:flush])
    {:reply, gone != [], Map.new(left)}
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, _, _}, homes) do
    {home, homes} = Map.pop(homes, monitor)
    _ = if home, do: remove_later(home)
    {:noreply, homes}
  end

  def handle_info(_other, homes), do: {:noreply, homes}

  # A CLI that ends with the same owner still writes there for a moment.
  defp remove_later(home) do
    Task.Supervisor.start_child(Codex.TaskSupervisor, fn ->
      Enum.find(1..40, fn _ ->
        _ = File.rm_rf(home)
        Process.sleep(50)
        not File.exists?(home)
      end)
    end)
  end

  @impl true
  def terminate(_reason, homes) do
    for {_, home} <- homes, do: File.rm_rf(home)
  end
end
