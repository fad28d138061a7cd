defmodule Codex.Skills.Rules do
  @moduledoc false
  # The entries of `skills.config`: skills that are enabled or disabled, by path or by name. Those
  # of project files do not count.

  alias Codex.Config

  @layers [:user, :profile, :session_flags]

  @type rule :: {key :: String.t(), String.t(), boolean()}

  @doc "Returns the rules of a configuration, the strongest last."
  @spec of(Config.t()) :: [rule()]
  def of(config) do
    for %{name: name} = layer <- Enum.reverse(Config.layers(config)),
        name in @layers,
        entry <- entries(layer.config),
        rule <- rule(entry),
        reduce: [] do
      # A later rule for the same skills takes the place of an earlier rule.
      rules -> List.keydelete(rules, selector(rule), 0) ++ [{selector(rule), rule}]
    end
    |> Enum.map(&elem(&1, 1))
  end

  defp selector({key, value, _enabled}), do: {key, value}

  defp entries(%{"skills" => %{"config" => entries}}) when is_list(entries), do: entries
  defp entries(_config), do: []

  # An entry with both selectors, or with none, is ignored.
  defp rule(%{"path" => _, "name" => _}), do: []
  defp rule(%{"path" => path, "enabled" => enabled}), do: [{"path", path, enabled}]

  defp rule(%{"name" => name, "enabled" => enabled}),
    do: for(name <- [String.trim(name)], name != "", do: {"name", name, enabled})

  defp rule(_entry), do: []

  @doc "Sets `\"enabled\"` of listed skills."
  @spec apply([map()], [rule()]) :: [map()]
  def apply(skills, rules) do
    for skill <- skills do
      own = for {key, value, enabled} <- rules, skill[key] == value, do: enabled
      %{skill | "enabled" => List.last(own, true)}
    end
  end

  @doc "Changes the rules for a selector in the user's file. Other rules stay."
  @spec write({String.t(), String.t()}, boolean(), keyword()) ::
          {:ok, %{file: Path.t(), version: String.t()}} | {:error, Config.Error.t()}
  def write({key, value}, enabled, opts) do
    name = if opts[:profile], do: :profile, else: :user

    with {:ok, config} <- Config.load([cwd: false] ++ opts) do
      layer = Enum.find(Config.layers(config), &(&1.name == name))
      others = Enum.reject(entries(layer.config), &(&1[key] == value))
      rules = if enabled, do: others, else: others ++ [%{key => value, "enabled" => false}]
      edit = if rules == [], do: {:delete, "skills.config"}, else: {:put, "skills.config", rules}

      # If the file changed in between, the rules are made anew of the new content.
      case Config.batch([edit], [expected_version: layer.version] ++ opts) do
        {:error, %{reason: :conflict}} -> write({key, value}, enabled, opts)
        result -> result
      end
    end
  end
end
