defmodule Codex.Test.Executable do
  @moduledoc false
  # Finds the Codex CLI for a test.

  alias Codex.CLI.{Npm, Program}

  @newest Program.tested_version()
  @install "npm install --prefix .codex-cli @openai/codex@#{@newest}"

  # Older CLIs run no turn with the configuration and the answers of a server.
  @lowest "0.80.0"

  @doc "Checks that a CLI (nil: the one that is found) is not too old. A missing CLI is no error."
  @spec check(Path.t() | nil) :: :ok | {:error, Exception.t()}
  def check(given) do
    with {:ok, path} <- if(given, do: {:ok, Path.expand(given)}, else: find()),
         {:ok, path} <- Program.find(path),
         {:ok, version} <- Program.known_version(path),
         :lt <- Version.compare(version, @lowest) do
      message =
        "Codex.Test needs codex-cli #{@lowest} or newer, and #{path} is #{version}: " <>
          "run `#{@install}`, or set CODEX_PATH to another program"

      {:error, RuntimeError.exception(message)}
    else
      _new_enough_or_unknown -> :ok
    end
  end

  @doc """
  Finds the program of CODEX_PATH or CODEX_BINARY, else in `.codex-cli`, else on the PATH. The
  newest tested version may have a directory of its own in `.codex-cli`, beside others.
  """
  @spec find() :: {:ok, Path.t()} | {:error, String.t()}
  def find do
    case Program.named(System.get_env()) do
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
    local = Enum.find_value([".codex-cli/#{@newest}", ".codex-cli"], &Npm.program/1)

    cond do
      local != nil -> {:ok, local}
      path = System.find_executable("codex") -> {:ok, path}
      true -> {:error, "no Codex CLI found: run `#{@install}`, or set CODEX_PATH to the program"}
    end
  end
end
