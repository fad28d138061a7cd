defmodule Codex.Config.Project do
  @moduledoc false
  # Finds the directories of a project that hold configuration, and whether they are trusted. Like
  # the CLI, it compares paths as text and does not follow links.

  alias Codex.FileSystem

  @default_markers [".git"]

  @type trust :: :trusted | {:disabled, String.t()}

  @enforce_keys [:cwd, :root, :repository]
  defstruct [:cwd, :root, :repository]

  @typedoc "A directory, the root of its project, and its Git repository or nil."
  @type t :: %__MODULE__{cwd: Path.t(), root: Path.t(), repository: Path.t() | nil}

  @doc "Lists the keys at the top of a configuration that decide about projects."
  @spec keys() :: [String.t()]
  def keys, do: ["project_root_markers", "projects"]

  @doc "Finds the nearest parent directory with a marker (default `cwd`), and the repository."
  @spec find(Path.t(), map(), FileSystem.opts()) :: t()
  def find(cwd, config, opts \\ []) do
    markers =
      case config do
        %{"project_root_markers" => markers} when is_list(markers) -> markers
        _ -> @default_markers
      end

    dirs = ancestors(cwd)
    # One call checks all names.
    names = Enum.uniq([".git", ".git/HEAD" | Enum.filter(markers, &is_binary/1)])
    paths = for dir <- dirs, name <- names, do: Path.join(dir, name)
    there = paths |> Enum.zip(FileSystem.stat_all(paths, opts)) |> Map.new()

    %__MODULE__{
      cwd: cwd,
      root: Enum.find(dirs, cwd, fn dir -> Enum.any?(markers, &marked?(there, dir, &1)) end),
      repository: repository(Enum.find(dirs, &git?(there, &1)), opts)
    }
  end

  @doc """
  Lists the `.codex` directories between `cwd` and the root of its project, the nearest first,
  without the home itself.
  """
  @spec folders(t(), Path.t(), FileSystem.opts()) :: [Path.t()]
  def folders(project, home, opts \\ []) do
    folders =
      for dir <- up_to(project.cwd, project.root),
          folder = Path.join(dir, ".codex"),
          folder != home,
          do: folder

    for {folder, {:ok, %{kind: :directory}}} <-
          Enum.zip(folders, FileSystem.stat_all(folders, opts)),
        do: folder
  end

  @doc """
  Decides whether the configuration of a folder counts. The trust level of its directory wins over
  that of the project root, and that over the repository's.
  """
  @spec trust(t(), Path.t(), map(), Path.t()) :: trust()
  def trust(%__MODULE__{root: root, repository: repository}, folder, config, user_file) do
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
    "#{dir} is marked as untrusted in the effective configuration. To load project-local " <>
      "config, hooks, and exec policies, update its trust setting. If that setting is managed " <>
      "by your organization, contact your administrator."
  end

  defp unknown(dir, user_file) do
    "To load project-local config, hooks, and exec policies, add #{dir} as a trusted project " <>
      "in #{user_file}."
  end

  # An empty directory `.git` does not make a repository.
  defp marked?(there, dir, ".git"), do: git?(there, dir)

  defp marked?(there, dir, marker) when is_binary(marker),
    do: match?({:ok, _}, there[Path.join(dir, marker)])

  defp marked?(_there, _dir, _marker), do: false

  defp git?(there, dir) do
    match?({:ok, %{kind: :regular}}, there[Path.join(dir, ".git")]) or
      match?({:ok, _}, there[Path.join(dir, ".git/HEAD")])
  end

  # A worktree is trusted if its main repository is.
  defp repository(nil, _opts), do: nil

  defp repository(dir, opts),
    do: dir |> Path.join(".git") |> FileSystem.read(opts) |> main_worktree(dir)

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
