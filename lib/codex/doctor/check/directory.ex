defmodule Codex.Doctor.Check.Directory do
  @moduledoc false
  # Where a run would work.

  alias Codex.Config.Project
  alias Codex.Doctor.{Check, Place}
  alias Codex.FileSystem

  @spec run(Place.t()) :: {Check.t(), Place.t()}
  def run(place) do
    case directory(place.cwd) do
      {:ok, dir} -> {look(dir), %{place | cwd: dir}}
      {:error, why} -> {Check.new(:directory, :error, why), %{place | cwd: nil}}
    end
  end

  defp directory(nil) do
    with {:error, why} <- File.cwd(),
         do: {:error, "the current directory: #{:file.format_error(why)}"}
  end

  defp directory(path) do
    path = Path.expand(path)
    if FileSystem.dir?(path), do: {:ok, path}, else: {:error, "#{path} is no directory"}
  end

  # Trusting a directory does not help (0.169).
  defp look(dir) do
    project = Project.find(dir, %{})

    if project.repository do
      Check.new(:directory, :ok, dir, [
        %{text: "Git repository #{project.root}", path: dir, repository: project.root}
      ])
    else
      text = "it is in no Git repository: `codex exec` wants the option skip_git_repo_check there"
      detail = %{status: :warning, text: text, path: dir, repository: nil}
      Check.new(:directory, :warning, dir, [detail])
    end
  end
end
