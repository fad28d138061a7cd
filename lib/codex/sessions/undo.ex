defmodule Codex.Sessions.Undo do
  @moduledoc false
  # Takes file changes back, all or none: by a ghost commit, a snapshot of the work tree that older
  # CLIs made before each turn, or by the recorded changes in reverse order.

  alias Codex.CLI.Git
  alias Codex.FileSystem
  alias Codex.Sessions.{Changes, WorkTree}

  @typedoc "A snapshot: the commit, and the untracked files that were there before."
  @type ghost :: %{id: String.t(), untracked_files: [binary()], untracked_dirs: [binary()]}
  @type done :: %{restored: [binary()], removed_paths: [binary()]}

  @most 256 * 1024 * 1024

  @doc "Reverses changes, the newest first. Each list was one change of the work tree."
  @spec reverse([[Changes.t()]], Path.t(), pos_integer()) ::
          {:ok, done()} | {:error, Codex.Sessions.undo_reason()}
  def reverse(steps, cwd, timeout) do
    deadline = FileSystem.deadline(timeout)
    paths = for step <- steps, c <- step, p <- [c.path, c.move_path], p, uniq: true, do: p

    with :ok <- FileSystem.working_directory(cwd),
         do: WorkTree.with_copies(cwd, &reverse_copies(&1, paths, steps, deadline))
  end

  defp reverse_copies(tree, paths, steps, deadline) do
    with {:ok, tree} <- WorkTree.copy(tree, paths),
         :ok <- reverse_all(steps, tree, deadline),
         do: WorkTree.commit(tree)
  end

  defp reverse_all([], _tree, _deadline), do: :ok

  defp reverse_all([step | steps], tree, deadline) do
    diff = IO.iodata_to_binary(Changes.diff(step))
    # The copies are no part of a repository.
    opts = [stdin: diff, env: %{"GIT_CEILING_DIRECTORIES" => tree.scratch}]

    case git(~w(apply -R --whitespace=nowarn), WorkTree.new(tree), deadline, opts) do
      {:ok, %{exit_code: 0}} -> reverse_all(steps, tree, deadline)
      {:ok, result} -> {:error, {:undo_conflict, Enum.map(step, & &1.path), result.stderr}}
      error -> error
    end
  end

  @doc """
  Gives the files below `cwd` the contents of a snapshot, and removes files that are neither in it
  nor were there before. The user's index stays.
  """
  @spec restore(ghost(), Path.t(), pos_integer()) ::
          {:ok, done()} | {:error, Codex.Sessions.undo_reason()}
  def restore(ghost, cwd, timeout) do
    deadline = FileSystem.deadline(timeout)

    with :ok <- FileSystem.working_directory(cwd),
         {:ok, prefix} <- prefix(cwd, deadline),
         :ok <- present(ghost.id, cwd, deadline),
         do: WorkTree.with_copies(cwd, &restore_copies(&1, ghost, prefix, deadline))
  end

  defp restore_copies(tree, ghost, prefix, deadline) do
    index = %{"GIT_INDEX_FILE" => tree.scratch <> "/index"}
    run = &git(&1, tree.root, deadline, env: index, stdin: &2)

    with {:ok, _} <- ok(run.(["read-tree", ghost.id], "")),
         # Exits with 1 if a file differs.
         {:ok, _} <- run.(~w(update-index -q --really-refresh), ""),
         {:ok, changed} <- paths(run.(~w(diff-files --name-only -z --relative), "")),
         {:ok, made} <- paths(run.(~w(ls-files --others --exclude-standard -z), "")),
         made = Enum.reject(made, &there_before?(prefix <> &1, ghost)),
         {:ok, tree} <- WorkTree.look(tree, changed ++ made),
         {:ok, _} <- ok(check_out(run, changed, tree)),
         do: WorkTree.commit(tree, prefix)
  end

  defp prefix(cwd, deadline) do
    case git(~w(rev-parse --show-prefix), cwd, deadline) do
      {:ok, %{exit_code: 0, stdout: out}} -> {:ok, String.trim_trailing(out, "\n")}
      {:ok, result} -> {:error, {:not_a_git_repo, result.exit_code, result.stderr}}
      error -> error
    end
  end

  defp present(id, cwd, deadline) do
    case git(["cat-file", "-e", id <> "^{tree}"], cwd, deadline) do
      {:ok, %{exit_code: 0}} -> :ok
      {:ok, _result} -> {:error, {:ghost_commit_missing, id}}
      error -> error
    end
  end

  # Git writes the paths as they are from the top of the repository.
  defp check_out(run, paths, tree) do
    names = Enum.map(paths, &[&1, 0])

    run.(
      ["checkout-index", "-f", "-z", "--prefix=" <> WorkTree.new(tree) <> "/", "--stdin"],
      names
    )
  end

  defp there_before?(path, ghost) do
    path in ghost.untracked_files or
      Enum.any?(
        ghost.untracked_dirs,
        &String.starts_with?(path, String.trim_trailing(&1, "/") <> "/")
      )
  end

  defp ok({:ok, %{exit_code: 0} = result}), do: {:ok, result}
  defp ok({:ok, r}), do: {:error, {:git_restore_failed, r.exit_code, r.stderr}}
  defp ok(error), do: error

  defp paths(answer) do
    with {:ok, result} <- ok(answer),
         do: {:ok, :binary.split(result.stdout, "\0", [:global, :trim_all])}
  end

  defp git(args, dir, deadline, opts \\ []),
    do: Git.run_until(args, dir, deadline, [most: @most] ++ opts)
end
