defmodule Codex.Config.LayerStack do
  @moduledoc """
  Configuration layers as maps, for callers of earlier versions. `Codex.Config` is the whole of it: where a value comes
  from, profiles, overrides, warnings.
  """

  alias Codex.Config
  alias Codex.Config.Error

  @typedoc "A layer that counts. `:path` is the file that it stands in."
  @type layer :: %{
          source: :system | :user | :project | :managed,
          path: Path.t(),
          config: %{String.t() => term()}
        }

  @doc """
  The layers that count, the lowest first: system, user, then the project's from its root to `cwd` (default: the current
  directory), managed. A system file that is not there is left out.

  `:system_config_path` of the application environment names another file instead of
  `/etc/codex/config.toml`, whatever that file is called; the managed file stays the system's. Errors are those of
  `Codex.Config.load/1`.
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
  The values of layers, merged: tables key by key, later ones win.

      iex> Codex.Config.LayerStack.effective_config([%{config: %{"a" => %{"x" => 1}}}, %{config: %{"a" => %{"y" => 2}}}])
      %{"a" => %{"x" => 1, "y" => 2}}
  """
  @spec effective_config([%{:config => map(), optional(atom()) => term()}]) :: map()
  def effective_config(layers), do: Enum.reduce(layers, %{}, &merge(&2, &1.config))

  defp merge(%{} = below, %{} = above),
    do: Map.merge(below, above, fn _key, a, b -> merge(a, b) end)

  defp merge(_below, above), do: above

  @doc "Whether `features.remote_models` is true; false also where the configuration cannot be read."
  @spec remote_models_enabled?(Path.t(), Path.t() | nil) :: boolean()
  def remote_models_enabled?(codex_home, cwd \\ nil) do
    case config(codex_home, cwd) do
      {:ok, config} -> Config.get(config, "features.remote_models") == true
      {:error, _} -> false
    end
  end
end
