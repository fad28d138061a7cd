defmodule Codex.Sessions.Apply do
  @moduledoc false
  # Applies a diff to a work tree with `git apply`.
  #
  # In a repository, `--3way` is tried first: it can merge, and stages the result. It refuses a file
  # that differs from the index, and then the diff is applied to the work tree alone. Everything is
  # checked before anything is written; a merge with conflicts writes nothing.

  alias Codex.CLI.Git
  alias Codex.FileSystem
  alias Codex.Sessions.WorkTree

  # Limits of the names in a diff, and of the output of git.
  @most 16 * 1024 * 1024

  @doc """
  Applies a diff below `cwd`. `diff` takes the folder of `cwd` in its repository ("" or "sub/") and
  returns the text. With `check?`, nothing is written.
  """
  @spec run((binary() -> iodata()), Path.t(), check? :: boolean(), timeout :: pos_integer()) ::
          {:ok, Codex.Sessions.applied()} | {:error, Codex.Sessions.apply_reason()}
  def run(diff, cwd, check?, timeout) do
    deadline = FileSystem.deadline(timeout)

    with :ok <- FileSystem.working_directory(cwd),
         {:ok, place} <- place(cwd, deadline),
         patch = IO.iodata_to_binary(diff.(place.prefix)),
         :ok <- if(String.trim(patch) == "", do: {:error, :empty_patch}, else: :ok),
         job = Map.merge(place, %{patch: patch, cwd: cwd, deadline: deadline}),
         {:ok, paths} <- paths(job),
         {:ok, flags, checked} <- check(job, paths) do
      if check?, do: {:ok, checked}, else: apply_checked(job, flags, checked)
    end
  end

  # Without a repository, the prefix is empty, and there is no index.
  defp place(cwd, deadline) do
    with {:ok, result} <- git(["rev-parse", "--show-prefix", "--show-cdup"], cwd, deadline) do
      case {result.exit_code, String.split(result.stdout, "\n")} do
        {0, [prefix, up | _]} -> {:ok, %{prefix: prefix, top: Path.join(cwd, up), index?: true}}
        _ -> {:ok, %{prefix: "", top: cwd, index?: false}}
      end
    end
  end

  # Git leaves out paths above the working directory in silence.
  defp paths(job) do
    with {:ok, all} <- names(job, job.top),
         {:ok, here} <- names(job, job.cwd) do
      outside = Enum.reject(all, &String.starts_with?(&1, job.prefix))

      if length(all) != length(here) and outside != [],
        do: {:error, {:outside_cwd, outside}},
        else: no_links(here, job.top)
    end
  end

  # With `--3way`, git follows links that the index does not have.
  defp no_links(paths, top) do
    paths
    |> Enum.find_value({:ok, paths}, fn path ->
      with :ok <- WorkTree.inside(top, path), do: nil
    end)
  end

  defp names(job, dir) do
    with {:ok, result} <- git(["apply", "--numstat", "-z"], dir, job.deadline, job.patch) do
      if result.exit_code == 0,
        do: {:ok, result.stdout |> :binary.split("\0", [:global]) |> numstat()},
        else: {:error, {:apply_failed, report(result, false, :work_tree, [])}}
    end
  end

  # `added TAB deleted TAB path`, and for a move an empty path before the old and the new one.
  defp numstat([line | rest]) do
    case {:binary.split(line, "\t", [:global]), rest} do
      {[_, _, ""], [old, new | rest]} -> [old, new | numstat(rest)]
      {[_, _ | path], rest} when path != [] -> [Enum.join(path, "\t") | numstat(rest)]
      _ -> []
    end
  end

  defp numstat([]), do: []

  defp check(%{index?: true} = job, paths) do
    with {:ok, three_way} <- git_apply(job, ["--3way", "--check"]) do
      if clean?(three_way),
        do: {:ok, ["--3way"], report(three_way, true, :three_way, paths)},
        else: job |> check_work_tree(paths) |> or_conflicts(three_way, paths)
    end
  end

  defp check(job, paths), do: check_work_tree(job, paths)

  defp check_work_tree(job, paths) do
    with {:ok, result} <- git_apply(job, ["--check"]) do
      if result.exit_code == 0,
        do: {:ok, [], report(result, true, :work_tree, paths)},
        else: {:error, {:apply_failed, report(result, false, :work_tree, paths)}}
    end
  end

  # If the diff does not apply either way, the report of a merge with conflicts says more.
  defp or_conflicts({:error, {:apply_failed, _}}, %{exit_code: 0} = three_way, paths),
    do: {:error, {:apply_failed, report(three_way, false, :three_way, paths)}}

  defp or_conflicts(checked, _three_way, _paths), do: checked

  # With `--check`, a merge that will conflict is told in words alone.
  defp clean?(result),
    do: result.exit_code == 0 and not (result.stderr =~ ~r/^Applied patch .* with conflicts/m)

  defp apply_checked(job, flags, checked) do
    with {:ok, result} <- git_apply(job, flags) do
      done = %{
        report(result, result.exit_code == 0, checked.method, checked.paths)
        | stderr: result.stderr
      }

      if done.success, do: {:ok, done}, else: {:error, {:apply_failed, done}}
    end
  end

  defp git_apply(job, flags),
    do: git(["apply", "--whitespace=nowarn" | flags], job.cwd, job.deadline, job.patch)

  defp report(result, success, method, paths) do
    %{
      success: success,
      exit_code: result.exit_code,
      stdout: result.stdout,
      stderr: result.stderr,
      method: method,
      paths: paths
    }
  end

  defp git(args, dir, deadline, stdin \\ ""),
    do: Git.run_until(args, dir, deadline, stdin: stdin, most: @most)
end
