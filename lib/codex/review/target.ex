defmodule Codex.Review.Target do
  @moduledoc false
  # Checks that the target of a review exists before anything is started, because a reviewer without
  # a branch or a repository reports no findings.

  alias Codex.CLI.{Command, Git}
  alias Codex.Review.Finding

  @patience 10_000

  @doc "Checks the form of a target."
  @spec form(term()) :: :ok | {:error, {:invalid_review_target, term()}}
  def form(target) do
    if form?(target), do: :ok, else: {:error, {:invalid_review_target, target}}
  end

  defp form?(all) when all in [:uncommitted_changes, {:uncommitted_changes}], do: true
  defp form?({:base_branch, branch}), do: revision?(branch)
  defp form?({:commit, sha}), do: revision?(sha)
  defp form?({:commit, sha, nil}), do: revision?(sha)
  defp form?({:commit, sha, title}), do: revision?(sha) and text?(title)
  defp form?({:custom, text}), do: text?(text) and Finding.text(text) != nil
  defp form?(text) when is_binary(text), do: form?({:custom, text})
  defp form?(_other), do: false

  # Git would parse it as an option.
  defp revision?(text), do: text?(text) and Finding.text(text) != nil and text =~ ~r/\A[^-]/

  defp text?(text),
    do: is_binary(text) and String.valid?(text) and not String.contains?(text, "\0")

  @doc """
  Checks whether a target exists in the repository of a directory (nil: that of the VM).

  Without Git on this machine, nothing is checked.
  """
  @spec exists(Codex.Review.target(), Path.t() | nil) ::
          :ok | {:error, {:invalid_review_target, Codex.Reason.missing_target()}}
  def exists(target, directory) do
    directory = Path.expand(directory || ".")

    case missing(target, directory) do
      nil ->
        :ok

      {reason, details} ->
        missing = %{target: target, reason: reason, directory: directory, details: details}
        {:error, {:invalid_review_target, missing}}
    end
  end

  # Changes need a work tree.
  defp missing(all, dir) when all in [:uncommitted_changes, {:uncommitted_changes}],
    do: repository(dir, "--show-toplevel")

  defp missing({:base_branch, branch}, dir), do: revision(branch, dir, :no_branch)
  defp missing({:commit, sha}, dir), do: revision(sha, dir, :no_commit)
  defp missing({:commit, sha, _title}, dir), do: revision(sha, dir, :no_commit)
  defp missing(_instructions, _dir), do: nil

  # A full SHA is valid without an object of that name; its commit is not.
  defp revision(revision, dir, reason) do
    case git(["--verify", "--quiet", revision <> "^{commit}"], dir) do
      {:error, _details} -> repository(dir, "--git-dir") || {reason, nil}
      other -> seen(other)
    end
  end

  defp repository(dir, question) do
    case git([question], dir) do
      {:error, details} -> {:no_repository, details}
      other -> seen(other)
    end
  end

  defp seen(:ok), do: nil
  defp seen(:no_answer), do: {:no_answer, nil}

  defp git(args, dir) do
    opts = [timeout: @patience, most: 64 * 1024]

    case Git.run(["rev-parse" | args], dir, opts) do
      {:ok, %{exit_code: 0}} -> :ok
      {:ok, %{stderr: stderr}} -> {:error, stderr |> Command.text() |> Finding.text()}
      {:error, :git_not_found} -> :ok
      {:error, {:not_started, %{reason: :bad_cwd} = error}} -> {:error, Exception.message(error)}
      {:error, _reason} -> :no_answer
    end
  end
end
