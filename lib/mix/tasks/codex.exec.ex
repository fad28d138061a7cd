defmodule Mix.Tasks.Codex.Exec do
  @shortdoc "Runs a turn, and shows it while it runs"

  @moduledoc """
  Runs a turn with `codex exec`, and shows it while it runs.

      mix codex.exec "Fix the failing test" --sandbox workspace-write
      git diff | mix codex.exec - --model gpt-6
      mix codex.exec "List the modules" --json | jq .type

  At a terminal, stdout has a line for each item, commands with the first lines of their output,
  diffs of changed files, the answer and the tokens; a status line below them says what runs. If
  stdout is not a terminal, it has the answer alone, and stderr has warnings. The prompt `-`, or
  none, is read from stdin.

  Options of the task:

    * `--json` - prints each event as one line of JSON (`Codex.Events.to_map/1`), and nothing else
    * `--resume ID`, `--last` - continues a recorded thread, by id or name, or the newest one
    * `--output-schema FILE` - a JSON schema for the answer
    * `--fold N` - the most lines of a command's output that are shown (default 5)

  Options of the turn, as `Codex.Options` and `Codex.Thread.Options` have them. Those that are true
  or false also have a form `--no-…`:

  #{Mix.CodexSwitches.docs(:exec)}

  Credentials cannot be given as options, because other users of the machine can read the arguments
  of a program: see `mix codex.login`, or set `CODEX_API_KEY`.

  ## Ctrl-C

  Ctrl-C stops the turn: the CLI and its commands end, and the thread can be continued with
  `--resume`. A second Ctrl-C does not wait for that. SIGTERM stops the turn, too.

  The Erlang VM itself answers SIGINT with a menu, and a task cannot change that. So the task makes
  Ctrl-C a character while a turn runs, and restores the terminal at its end, also if the VM is
  killed. Without a terminal on stdin and stdout, in a background job, before the task has started,
  and for a SIGINT of another program (`kill -INT`), the menu appears: `a` ends the VM. However the
  VM ends, the CLI and its commands end with it.

  ## Exit status

    * 0 - the turn completed
    * 1 - the turn failed, or did not start
    * 2 - a wrong option or argument; nothing ran
    * 130 - Ctrl-C
    * 141 - nobody reads stdout
    * 143 - SIGTERM
  """
  use Mix.Task

  alias Codex.{Events, Items, JSON, Sessions, Terminal, Text, Thread}
  alias Codex.Terminal.Tty
  alias Mix.{CodexRun, CodexSwitches}

  @own [
    json: :boolean,
    resume: :string,
    last: :boolean,
    output_schema: :string,
    fold: :integer
  ]
  @aliases [c: :config, m: :model, s: :sandbox, C: :cwd, i: :images, p: :profile]
  @usage "usage: mix codex.exec PROMPT [options] (mix help codex.exec shows the options)"

  @impl true
  def run(argv) do
    {opts, arguments} =
      CodexRun.parse(argv, @own ++ CodexSwitches.strict(:exec), @aliases, @usage)

    if length(arguments) > 1, do: CodexRun.wrong("expected one prompt in quotes\n#{@usage}")
    CodexRun.start()
    tty = Tty.probe()
    scopes = CodexSwitches.split(opts, :exec)
    thread = CodexRun.ok(thread(opts, scopes))
    turn = schema_option(opts) ++ scopes.turn
    prompt = prompt(arguments, tty)

    {result, signal} =
      CodexRun.interruptible(fn -> turn(thread, prompt, turn, show(opts, tty)) end)

    finish(result, signal)
  end

  defp thread(opts, %{client: client, thread: thread}) do
    cond do
      opts[:resume] -> Codex.resume_thread(opts[:resume], client, thread)
      opts[:last] -> Codex.resume_thread(:last, client, thread)
      true -> Codex.start_thread(client, thread)
    end
  end

  defp schema_option(opts),
    do: if(opts[:output_schema], do: [output_schema: schema(opts[:output_schema])], else: [])

  defp schema(file) do
    with {:ok, text} <- File.read(file), {:ok, %{} = schema} <- JSON.decode(text) do
      schema
    else
      {:error, why} when is_atom(why) ->
        CodexRun.wrong("cannot read #{file}: #{:file.format_error(why)}")

      _other ->
        CodexRun.wrong("expected --output-schema with a file of a JSON object, got: #{file}")
    end
  end

  defp prompt([text], _tty) when text != "-", do: text
  defp prompt([], %{stdin: true}), do: CodexRun.wrong(@usage)

  defp prompt(_stdin, _tty) do
    case IO.read(:stdio, :eof) do
      text when is_binary(text) -> text
      _none -> CodexRun.wrong("the prompt on stdin is empty\n#{@usage}")
    end
  end

  ## Output

  defp show(opts, tty) do
    cond do
      opts[:json] -> :json
      tty.stdout -> {:terminal, Keyword.take(opts, [:fold])}
      true -> :answer
    end
  end

  defp turn(thread, prompt, turn, :json),
    do: Thread.run(thread, prompt, [on_event: &print_json/1] ++ turn)

  defp turn(thread, prompt, turn, :answer) do
    with {:ok, result} <- Thread.run(thread, prompt, [on_event: &warn/1] ++ turn) do
      if result.final_response, do: IO.puts(Text.printable(result.final_response.text))
      {:ok, result}
    end
  end

  defp turn(thread, prompt, turn, {:terminal, own}) do
    terminal = Terminal.start(own)
    Terminal.status(terminal, "starting codex")
    result = Thread.run(thread, prompt, [on_event: &Terminal.event(terminal, &1)] ++ turn)
    Terminal.status(terminal, nil)

    with {:ok, done} <- result do
      for item <- diffs(done), do: Terminal.item(terminal, item)
      Terminal.usage(terminal, done.usage)
    end

    :ok = Terminal.stop(terminal)
    result
  end

  # A provider that cannot be reached, for instance: the CLI tries for minutes.
  defp warn(%Events.Error{message: message}),
    do: Mix.shell().error(Text.line("warning: #{message}"))

  defp warn(_event), do: :ok

  defp print_json(event) do
    event |> Events.to_map() |> JSON.encode!() |> Text.json() |> IO.puts()
  rescue
    _closed in ErlangError -> CodexRun.closed()
  end

  # `codex exec` sends no diffs; the recorded thread has them.
  defp diffs(%{events: events, thread: thread}) do
    changed? = Enum.any?(events, &match?(%Events.ItemCompleted{item: %Items.FileChange{}}, &1))
    home = for home <- List.wrap(thread.codex_opts.codex_home), do: {:codex_home, home}

    with true <- changed?,
         {:ok, read} <- Sessions.read(thread.thread_id, home),
         %{} = turn <- List.last(read.turns) do
      for %Items.FileChange{} = item <- Sessions.Turn.items(turn), do: item
    else
      _unrecorded -> []
    end
  end

  defp finish({:ok, _result}, _signal), do: :ok

  defp finish({:error, reason}, signal) do
    error = CodexRun.error(reason)
    id = error.result && error.result.thread.thread_id
    again = if id, do: "; continue it with --resume #{id}", else: ""

    if signal do
      Mix.shell().error(Text.printable("the turn was stopped#{again}"))
      exit({:shutdown, signal})
    else
      Mix.raise(Text.printable("the turn failed: #{error.message}"))
    end
  end
end
