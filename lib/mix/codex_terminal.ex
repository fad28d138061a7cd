defmodule Mix.CodexTerminal do
  @moduledoc false
  # Shows an interactive session of the CLI on the terminal, for tasks.

  alias Codex.CLI.Session
  alias Codex.{Error, Text}

  @doc """
  Starts a session with the function and shows it. Exits with the status of the CLI, if that is
  not 0.
  """
  @spec run((... -> {:ok, Session.t()} | {:error, term()})) :: :ok
  def run(start) do
    {:ok, _apps} = Application.ensure_all_started(:codex_sdk)

    with {:ok, session} <- start.(),
         {:ok, exit} <- attach(session) do
      if exit.status == 0, do: :ok, else: exit({:shutdown, exit.status || 1})
    else
      {:error, reason} -> Mix.raise(Text.line(Error.normalize(reason).message))
    end
  end

  defp attach(session) do
    with {:error, {:no_terminal, _reason}} = error <- Session.attach(session) do
      _ = Session.stop(session)
      error
    end
  end
end
