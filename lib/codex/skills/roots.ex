defmodule Codex.Skills.Roots do
  @moduledoc false
  # The directories that hold skills, for a loaded configuration and a working directory.

  alias Codex.Config
  alias Codex.Config.Core

  @type t :: %{path: Path.t(), scope: String.t(), links: boolean()}

  @doc "Returns the roots. The first of several for a path counts."
  @spec of(Config.t(), Path.t(), Path.t() | nil, Path.t()) :: [t()]
  def of(config, cwd, user_home, system_dir) do
    projects =
      for %{name: :project, file: file} <- Config.layers(config),
          do: root(Path.dirname(file), "repo")

    agents =
      for dir <- between(Core.project_root(config, cwd), cwd),
          do: root(Path.join(dir, ".agents"), "repo")

    user = [root(config.home, "user")] ++ if(user_home, do: [agents(user_home)], else: [])
    roots = projects ++ user ++ bundled(config) ++ [root(system_dir, "admin")] ++ agents
    Enum.uniq_by(roots, & &1.path)
  end

  defp root(folder, scope), do: %{path: Path.join(folder, "skills"), scope: scope, links: true}
  defp agents(home), do: root(Path.join(home, ".agents"), "user")

  # The CLI itself writes these, without links.
  defp bundled(config) do
    if Config.get(config, "skills.bundled.enabled", true),
      do: [%{path: Path.join(config.home, "skills/.system"), scope: "system", links: false}],
      else: []
  end

  defp between(root, cwd) do
    below = Path.relative_to(cwd, root)
    parts = if below in [cwd, "."], do: [], else: Path.split(below)
    Enum.scan([root | parts], &Path.join(&2, &1))
  end
end
