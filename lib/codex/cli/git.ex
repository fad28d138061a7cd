defmodule Codex.CLI.Git do
  @moduledoc false
  # Runs git in a repository that may be hostile: no hook and no program of its configuration runs,
  # nothing is fetched, and nothing asks at a terminal.

  alias Codex.CLI.Command

  @options ~w(--no-pager -c core.fsmonitor=false -c core.hooksPath=/dev/null)
  @env %{
    "GIT_ALLOW_PROTOCOL" => "none",
    "GIT_NO_LAZY_FETCH" => "1",
    "GIT_OPTIONAL_LOCKS" => "0",
    "GIT_TERMINAL_PROMPT" => "0",
    "LC_ALL" => "C"
  }

  @type result :: %{exit_code: non_neg_integer() | nil, stdout: binary(), stderr: binary()}
  @type error :: :git_not_found | Command.reason()
  @type failure :: :git_not_found | :timeout | {:exec_start_failed, Command.reason()}

  @doc """
  Runs git in a directory. Options: `:timeout` (ms), `:stdin`, `:most` (bytes of stdout), `:env` (a
  map, added to the own variables). `exit_code` is nil if a signal ended git.
  """
  @spec run([String.t()], Path.t(), keyword()) :: {:ok, result()} | {:error, error()}
  def run(args, dir, opts \\ []) do
    case System.find_executable("git") do
      nil ->
        {:error, :git_not_found}

      git ->
        {env, opts} = Keyword.pop(opts, :env, %{})
        opts = [cwd: dir, env: Map.merge(@env, env)] ++ opts

        with {:ok, %{exit: exit} = ended} <- Command.run([git | @options ++ args], opts),
             do: {:ok, %{exit_code: exit.status, stdout: ended.stdout, stderr: ended.stderr}}
    end
  end

  @doc """
  Runs git with the time that is left until a deadline of `Codex.FileSystem.deadline/1`. Options are
  those of `run/3` without `:timeout`.
  """
  @spec run_until([String.t()], Path.t(), integer(), keyword()) ::
          {:ok, result()} | {:error, failure()}
  def run_until(args, dir, deadline, opts) do
    timeout = max(deadline - System.monotonic_time(:millisecond), 1)

    case run(args, dir, [timeout: timeout] ++ opts) do
      {:ok, result} -> {:ok, result}
      {:error, :git_not_found} -> {:error, :git_not_found}
      {:error, {:timeout, _ms}} -> {:error, :timeout}
      {:error, reason} -> {:error, {:exec_start_failed, reason}}
    end
  end
end
