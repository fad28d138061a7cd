defmodule Mix.Tasks.Codex.Logout do
  @shortdoc "Logs out through the Codex CLI"

  @moduledoc """
  Logs out through the Codex CLI, as `Codex.Login.logout/1` does.

      mix codex.logout

  Options: `--codex-home DIR`, `--codex PATH` - the home of the CLI, and the CLI.

  The exit status is 0, also if there was no login, 1 if the CLI reports an error, and 2 for wrong
  arguments.
  """
  use Mix.Task

  alias Mix.CodexRun

  @switches [codex_home: :string, codex: :string]
  @usage "usage: mix codex.logout [--codex-home DIR] [--codex PATH]"

  @impl true
  def run(argv) do
    {opts, arguments} = CodexRun.parse(argv, @switches, [], @usage)
    if arguments != [], do: CodexRun.wrong(@usage)
    CodexRun.start()
    logged_out? = opts |> Mix.Tasks.Codex.Login.own() |> Codex.Login.logout() |> CodexRun.ok()
    Mix.shell().info(if logged_out?, do: "Logged out.", else: "There was no login.")
  end
end
