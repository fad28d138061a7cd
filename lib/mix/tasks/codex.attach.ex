defmodule Mix.Tasks.Codex.Attach do
  @shortdoc "Opens the TUI on a thread of a running application"

  @moduledoc """
  Opens the TUI of the Codex CLI on a thread of a running application's app-server.

      mix codex.attach THREAD
      mix codex.attach THREAD --remote unix:///run/my_app/codex.sock
      CODEX_TOKEN=… mix codex.attach THREAD --remote wss://host:4500 --token-env CODEX_TOKEN

  THREAD is the id of the thread, as the application knows it. Both see each turn, whoever starts
  it. When the TUI ends, the thread, its turns and the application go on.

  The application's server has to listen: see `guides/terminal.md`. Without `--remote`, it is the
  server that listens on `unix://` for the same `CODEX_HOME`.

  Options:

    * `--remote ADDRESS` - `unix://PATH`, `ws://HOST:PORT`, `wss://HOST:PORT`, or `unix://` for the
      socket of the home (default)
    * `--token-env NAME` - the variable that holds the bearer token of the server
    * `--no-alt-screen` - keeps the output in the scrollback of the terminal
    * `--codex-home DIR` - the home (default: `CODEX_HOME`, else `~/.codex`)
    * `--codex PATH` - the CLI (default: `CODEX_PATH`, `CODEX_BINARY`, else `codex` on the PATH)

  The exit status is that of the CLI, or 2 for wrong arguments.
  """
  use Mix.Task

  alias Codex.AppServer.DefaultSocket
  alias Codex.CLI.Session
  alias Mix.CodexRun

  @switches [
    remote: :string,
    token_env: :string,
    alt_screen: :boolean,
    codex_home: :string,
    codex: :string
  ]
  @usage "usage: mix codex.attach THREAD [--remote ADDRESS] [--token-env NAME] " <>
           "[--no-alt-screen] [--codex-home DIR] [--codex PATH]"

  @impl true
  def run(argv) do
    Mix.CodexCompile.run("compile")

    {opts, arguments} = CodexRun.parse(argv, @switches, @usage)
    if length(arguments) != 1, do: CodexRun.wrong(@usage)
    Mix.CodexTerminal.run(fn -> attach(hd(arguments), opts) end)
  end

  defp attach(thread, opts) do
    client = for {:codex_home, home} <- opts, do: {:codex_home, home}
    client = client ++ for {:codex, path} <- opts, do: {:codex_path, path}
    own = [remote_auth_token_env: opts[:token_env]] ++ Keyword.take(opts, [:alt_screen])

    with {:ok, remote} <- remote(opts[:remote] || "unix://", opts[:codex_home]),
         do: Session.resume(thread, client, [remote: remote] ++ own)
  end

  # With the path of its socket, the server of the home is another machine's to the TUI, which then
  # does not ask for the directory of the thread.
  defp remote("unix://", home) do
    with {:ok, home} <- Codex.Home.resolve(codex_home: home),
         do: {:ok, "unix://" <> DefaultSocket.path(home, DefaultSocket.uid())}
  end

  defp remote(address, _home), do: {:ok, address}
end
