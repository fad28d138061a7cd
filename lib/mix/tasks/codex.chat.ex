defmodule Mix.Tasks.Codex.Chat do
  @shortdoc "Talks with Codex at the terminal, in one or more threads"

  @moduledoc """
  Talks with Codex at the terminal, over an app-server.

      mix codex.chat --sandbox workspace-write --ask-for-approval on-request
      mix codex.chat --resume ID

  Each line that is typed is a message. While the turn runs, a line steers it. The agent's requests
  for approval are questions: `y` allows once, `a` for the rest of the thread, `n` declines.

    * `/new` - begins a thread, and changes to it; turns of the others go on
    * `/threads`, `/thread N` - lists the threads of this chat, changes to another
    * `/stop` - stops the turn of the thread
    * `/help`, `/quit`

  Ctrl-C stops the running turn; without one, it ends the chat. The end of the input ends the chat
  after the running turns, and declines what they ask. `mix help codex.exec` says when Ctrl-C opens
  the menu of the Erlang VM instead.

  Options of the task: `--resume ID` continues a recorded thread; `--fold N` is the most lines of a
  command's output that are shown (default 5). Options of the server and of the threads:

  #{Mix.CodexSwitches.docs(:app)}

  The exit status is 0 at the end of the chat, 1 if the app-server did not start or was lost, and 2
  for wrong arguments.
  """
  use Mix.Task

  alias Mix.{CodexChat, CodexRun, CodexSwitches}

  @own [resume: :string, fold: :integer]
  @aliases [c: :config, m: :model, s: :sandbox, C: :cwd]
  @usage "usage: mix codex.chat [options] (mix help codex.chat shows the options)"
  # The answers may take as long as a person does.
  @answer_ms 24 * 60 * 60 * 1_000

  @impl true
  def run(argv) do
    {opts, arguments} = CodexRun.parse(argv, @own ++ CodexSwitches.strict(:app), @aliases, @usage)
    if arguments != [], do: CodexRun.wrong(@usage)
    CodexRun.start()
    %{client: client, thread: thread, turn: turn} = CodexSwitches.split(opts, :app)
    server = [answer_timeout_ms: @answer_ms] ++ cwd(thread)
    conn = CodexRun.ok(Codex.AppServer.connect(client, server))
    begin = fn resume, policy -> begin(conn, thread, resume, policy) end
    status = CodexChat.run(begin, turn, conn, opts)
    :ok = Codex.AppServer.disconnect(conn)
    if status != 0, do: exit({:shutdown, status})
  end

  defp cwd(thread),
    do: for(path <- List.wrap(thread[:working_directory]), do: {:cwd, Path.expand(path)})

  defp begin(conn, options, resume, policy) do
    options = options ++ [transport: {:app_server, conn}, approval_policy: policy]
    if resume, do: Codex.resume_thread(resume, [], options), else: Codex.start_thread([], options)
  end
end
