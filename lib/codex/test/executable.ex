defmodule Codex.Test.Executable do
  @moduledoc false
  # Finds the Codex CLI for a test.

  alias Codex.CLI

  @newest Codex.CLI.tested_version()
  @install "npm install --prefix .codex-cli @openai/codex@#{@newest}"

  @doc """
  Finds the program of CODEX_PATH or CODEX_BINARY, else in `.codex-cli`, else on the PATH. The newest
  tested version may have a directory of its own in `.codex-cli`, beside others.
  """
  @spec find() :: {:ok, Path.t()} | {:error, String.t()}
  def find do
    case Codex.CLI.named(System.get_env()) do
      nil -> installed()
      path -> named(Path.expand(path))
    end
  end

  defp named(path) do
    if File.regular?(path),
      do: {:ok, path},
      else: {:error, "CODEX_PATH or CODEX_BINARY names #{path}, but there is no such file"}
  end

  # The native program, not the wrapper in node_modules/.bin: it needs no Node.js, and signals reach
  # it directly.
  defp installed do
    local = Enum.find_value([".codex-cli/#{@newest}", ".codex-cli"], &CLI.Npm.program/1)

    cond do
      local != nil -> {:ok, local}
      path = System.find_executable("codex") -> {:ok, path}
      true -> {:error, "no Codex CLI found: run `#{@install}`, or set CODEX_PATH to the program"}
    end
  end
end
