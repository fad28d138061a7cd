defmodule Codex.Config.Project do
  @moduledoc false
  # Which directories of a project hold configuration, and whether they are trusted. As CLI 0.169.0 does it: paths are
  # compared as text, links are not followed.

  @default_markers [".git"]

  @type trust :: :trusted | {:disabled, String.t()}

  @doc """
  The `.codex` directories between `cwd` and the root of its project, the nearest first, each with the directory it
  belongs to. The home itself is none of them.
  """
  @spec folders(Path.t(), map(), Path.t()) :: [Path.t()]
  def folders(cwd, config, home) do
    root = root(cwd, config)

    for dir <- up_to(cwd, root),
        folder = Path.join(dir, ".codex"),
        folder != home,
        File.dir?(folder),
        do: folder
  end

  @doc "The nearest directory upwards that holds a marker, else `cwd`."
  @spec root(Path.t(), map()) :: Path.t()
  def root(cwd, config) do
    markers =
      case config do
        %{"project_root_markers" => markers} when is_list(markers) -> markers
        _ -> @default_markers
      end

    Enum.find(ancestors(cwd), cwd, fn dir -> Enum.any?(markers, &marked?(dir, &1)) end)
  end

  @doc "Whether the configuration of a folder counts: its directory decides, then the project's root, then the repository."
  @spec trust(Path.t(), Path.t(), map(), Path.t()) :: trust()
  def trust(folder, cwd, config, user_file) do
    root = root(cwd, config)
    repository = repository(cwd)

    levels =
      for dir <- [Path.dirname(folder), root, repository], dir, do: {dir, level(dir, config)}

    case Enum.find(levels, fn {_dir, level} -> level != nil end) do
      {_dir, "trusted"} -> :trusted
      {dir, _untrusted} -> {:disabled, untrusted(dir)}
      nil -> {:disabled, unknown(repository || root, user_file)}
    end
  end

  defp level(dir, %{"projects" => %{} = projects}) do
    case projects do
      %{^dir => %{"trust_level" => level}} -> level
      _ -> nil
    end
  end

  defp level(_dir, _config), do: nil

  # The CLI's own words.
  defp untrusted(dir) do
    "#{dir} is marked as untrusted in the effective configuration. To load project-local config, hooks, and exec " <>
      "policies, update its trust setting. If that setting is managed by your organization, contact your administrator."
  end

  defp unknown(dir, user_file) do
    "To load project-local config, hooks, and exec policies, add #{dir} as a trusted project in #{user_file}."
  end

  # An empty directory `.git` is no repository.
  defp marked?(dir, ".git"), do: git?(dir)
  defp marked?(dir, marker) when is_binary(marker), do: File.exists?(Path.join(dir, marker))
  defp marked?(_dir, _marker), do: false

  defp git?(dir) do
    git = Path.join(dir, ".git")
    File.regular?(git) or File.exists?(Path.join(git, "HEAD"))
  end

  # A worktree is trusted with the repository that it belongs to.
  defp repository(cwd) do
    case Enum.find(ancestors(cwd), &git?/1) do
      nil -> nil
      dir -> main_worktree(File.read(Path.join(dir, ".git")), dir)
    end
  end

  defp main_worktree({:ok, "gitdir:" <> path}, dir) do
    path = path |> String.trim() |> Path.expand(dir)

    if Path.basename(Path.dirname(path)) == "worktrees",
      do: path |> Path.dirname() |> Path.dirname() |> Path.dirname(),
      else: dir
  end

  defp main_worktree(_directory_or_other, dir), do: dir

  defp up_to(cwd, root),
    do: cwd |> ancestors() |> Enum.take_while(&(&1 != root)) |> Kernel.++([root])

  defp ancestors("/"), do: ["/"]
  defp ancestors(dir), do: [dir | ancestors(Path.dirname(dir))]
end
