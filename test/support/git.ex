defmodule Codex.Git do
  @moduledoc "Git for tests, with an identity of its own: the user of the tests may have none."

  @identity ["-c", "user.name=Test", "-c", "user.email=test@localhost"]

  @doc "Runs Git in a folder. Returns its output without the last newline, or raises."
  def run!(dir, args) do
    case System.cmd("git", ["-C", dir] ++ @identity ++ args, stderr_to_stdout: true) do
      {output, 0} -> String.trim_trailing(output, "\n")
      {output, status} -> raise "git #{Enum.join(args, " ")} ended with #{status}: #{output}"
    end
  end

  @doc "Makes an empty commit, in a folder with a repository."
  def commit!(dir), do: run!(dir, ~w(commit --quiet --allow-empty --message first))
end
