defmodule Codex.Config.LayerStack do
  @moduledoc """
  Returns configuration layers as maps. Kept for callers of 0.4.5; `Codex.Config` also has the
  origin of each value, profiles, overrides and warnings.
  """

  alias Codex.Config
  alias Codex.Config.Error

  @typedoc "An enabled layer. `:path` is its file."
  @type layer :: %{
          source: :system | :user | :project | :managed,
          path: Path.t(),
          config: %{String.t() => term()}
        }

  @doc """
  Loads the enabled layers, the lowest first: system, user, project from its root to `cwd` (default:
  the current directory), managed. A missing system file is left out.

  `:system_config_path` of the application environment replaces `/etc/codex/config.toml`. The
  managed file stays the system's. Errors are those of `Codex.Config.load/1`.
  """
  @spec load(Path.t(), Path.t() | nil) :: {:ok, [layer()]} | {:error, Error.t()}
  def load(codex_home, cwd \\ nil) do
    with {:ok, config} <- config(codex_home, cwd) do
      layers =
        for layer <- Enum.reverse(Config.layers(config)),
            layer.disabled_reason == nil,
            layer.name != :system or Codex.FileSystem.exists?(layer.file),
            do: %{source: layer.name, path: layer.file, config: layer.config}

      {:ok, layers}
    end
  end

  defp config(codex_home, cwd) do
    system = Application.get_env(:codex_sdk, :system_config_path)
    Config.load(codex_home: codex_home, cwd: cwd, system_config: system)
  end

  @doc """
  Merges the values of layers: tables key by key, later layers win.

      iex> layers = [%{config: %{"a" => %{"x" => 1}}}, %{config: %{"a" => %{"y" => 2}}}]
      iex> Codex.Config.LayerStack.effective_config(layers)
      %{"a" => %{"x" => 1, "y" => 2}}
  """
  @spec effective_config([%{:config => map(), optional(atom()) => term()}]) :: map()
  def effective_config(layers) when is_list(layers),
    do: Enum.reduce(layers, %{}, &merge(&2, config(&1)))

  defp config(%{config: %{} = config}), do: config

  defp config(other),
    do: raise(ArgumentError, "expected a layer of Codex.Config, got: #{inspect(other)}")

  defp merge(%{} = below, %{} = above),
    do: Map.merge(below, above, fn _key, a, b -> merge(a, b) end)

  defp merge(_below, above), do: above

  @doc """
  Returns whether `features.remote_models` is true; false if the configuration cannot be read.
  """
  @spec remote_models_enabled?(Path.t(), Path.t() | nil) :: boolean()
  def remote_models_enabled?(codex_home, cwd \\ nil) do
    case config(codex_home, cwd) do
      {:ok, config} -> Config.get(config, "features.remote_models") == true
      {:error, _} -> false
    end
  end
end
