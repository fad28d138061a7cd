defmodule Mix.Tasks.Codex.Tui do
  @shortdoc "Opens the TUI of the Codex CLI on this terminal"

  @moduledoc """
  Opens the TUI of the Codex CLI on this terminal, under the launcher of this package.

      mix codex.tui
      mix codex.tui --model gpt-5 --sandbox workspace-write
      mix codex.tui resume THREAD
      mix codex.tui fork --last

  Without a command, the session has a new thread. `resume` and `fork` take the id or the name of a
  thread, or `--last` for the newest of the directory; without both, the TUI shows a list.

  When the task ends for any reason, so do the CLI and all of its processes, and the terminal gets
  its former settings back. The exit status is that of the CLI, or
  2 for wrong arguments.

  Options:

    * `--cwd DIR` - the working directory (default: the current one)
    * `--model NAME`, `--profile NAME`
    * `--sandbox read-only|workspace-write|danger-full-access`
    * `--ask-for-approval on-request|never`
    * `--config KEY=VALUE` - configuration, repeatable
    * `--no-alt-screen` - keeps the output in the scrollback of the terminal
    * `--daemon` - uses the server that the sessions of the home share
    * `--codex-home DIR` - the home (default: `CODEX_HOME`, else `~/.codex`)
    * `--codex PATH` - the CLI (default: `CODEX_PATH`, `CODEX_BINARY`, else `codex` on the PATH)

  `Codex.CLI.Session` does the same from code.
  """
  use Mix.Task

  alias Codex.CLI.Session
  alias Mix.CodexRun

  @switches [
    cwd: :string,
    model: :string,
    profile: :string,
    sandbox: :string,
    ask_for_approval: :string,
    config: [:string, :keep],
    alt_screen: :boolean,
    daemon: :boolean,
    last: :boolean,
    codex_home: :string,
    codex: :string
  ]
  @usage "usage: mix codex.tui [resume|fork [THREAD|--last]] " <>
           "(mix help codex.tui shows the options)"

  @impl true
  def run(argv) do
    Mix.CodexCompile.run("compile")

    {opts, words} = CodexRun.parse(argv, @switches, @usage)
    Mix.CodexTerminal.run(start(words, opts))
  end

  defp start(words, opts) do
    {last, opts} = Keyword.pop(opts, :last)
    {client, opts} = options(opts)

    case {words, last} do
      {[], nil} -> fn -> Session.start(client, opts) end
      {["resume" | rest], _} -> fn -> Session.resume(thread(rest, last), client, opts) end
      {["fork" | rest], _} -> fn -> Session.fork(thread(rest, last), client, opts) end
      _other -> CodexRun.wrong(@usage)
    end
  end

  defp thread([], true), do: :last
  defp thread([], nil), do: :pick
  defp thread([thread], nil), do: thread
  defp thread(_words, _last), do: CodexRun.wrong(@usage)

  defp options(opts) do
    {client, opts} = Keyword.split(opts, [:codex_home, :codex])
    {config, opts} = Keyword.pop_values(opts, :config)

    client =
      for {name, value} <- client, do: {if(name == :codex, do: :codex_path, else: name), value}

    opts =
      for {name, value} <- opts do
        case name do
          :cwd -> {:working_directory, value}
          name when name in [:sandbox, :ask_for_approval] -> {name, word(value)}
          name -> {name, value}
        end
      end

    {client, [config_overrides: config] ++ opts}
  end

  # The words of the CLI have dashes.
  defp word(value), do: String.replace(value, "-", "_")
end
