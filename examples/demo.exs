# Runs a thread of two turns and prints its events as they arrive. `bin/demo` runs it; with a CLI and a
# build at hand, so does:
#
#     mix run examples/demo.exs
#     mix run examples/demo.exs --live "prompt" --cd /some/project [--write]

defmodule Demo.Screen do
  # Prints the lines of the demo. On a terminal, a status line below them is redrawn ten times a second.
  # The same process writes both, so that they do not mix.

  @frames String.graphemes("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

  def start do
    redraws? = IO.ANSI.enabled?() and System.get_env("TERM", "dumb") != "dumb"
    width = if redraws?, do: String.to_integer(System.get_env("COLUMNS", "80"))
    spawn_link(fn -> run(%{width: width, status: nil, since: 0, frame: 0}) end)
  end

  def line(screen, text \\ ""), do: call(screen, {:line, text})
  def status(screen, text), do: call(screen, {:status, text})

  defp call(screen, request) do
    ref = Process.monitor(screen)
    send(screen, {request, self(), ref})

    receive do
      ^ref -> Process.demonitor(ref, [:flush])
      {:DOWN, ^ref, _, _, _closed} -> exit({:shutdown, 141})
    end
  end

  # The reader of the output may have ended (`bin/demo | head`).
  defp run(state) do
    loop(state)
  rescue
    _closed in ErlangError -> :ok
  end

  defp loop(state) do
    wait = if state.width && state.status, do: 100, else: :infinity

    receive do
      {request, from, ref} ->
        state = state |> clear() |> take(request) |> draw()
        send(from, ref)
        loop(state)
    after
      wait -> loop(draw(clear(%{state | frame: rem(state.frame + 1, length(@frames))})))
    end
  end

  defp take(state, {:line, text}) do
    IO.puts(Codex.Text.printable(text))
    state
  end

  defp take(state, {:status, text}), do: %{state | status: text, since: now()}

  defp clear(%{width: nil} = state), do: state

  defp clear(state) do
    if state.status, do: IO.write("\r\e[2K")
    state
  end

  defp draw(%{width: width, status: status} = state) when width == nil or status == nil, do: state

  defp draw(state) do
    seconds = :erlang.float_to_binary((now() - state.since) / 1000, decimals: 1)
    text = Codex.Text.line("#{Enum.at(@frames, state.frame)} #{state.status} · #{seconds} s")
    # A line that wraps cannot be cleared.
    IO.write(String.slice(text, 0, max(state.width - 1, 1)))
    state
  end

  defp now, do: System.monotonic_time(:millisecond)
end

defmodule Demo.Events do
  # Prints an event of a turn.
  alias Codex.{Events, Items}
  alias Demo.Screen

  def show(screen, %Events.ThreadStarted{thread_id: id}),
    do: Screen.line(screen, "  thread #{id}")

  def show(screen, %Events.TurnStarted{}), do: Screen.status(screen, "thinking")

  def show(screen, %Events.ItemStarted{item: %Items.CommandExecution{command: command}}),
    do: Screen.status(screen, "running #{one_line(command)}")

  def show(screen, %Events.ItemStarted{item: %Items.FileChange{}}),
    do: Screen.status(screen, "writing files")

  def show(screen, %Events.ItemUpdated{item: %Items.TodoList{} = plan}), do: plan(screen, plan)
  def show(screen, %Events.ItemStarted{item: %Items.TodoList{} = plan}), do: plan(screen, plan)

  def show(screen, %Events.ItemCompleted{item: item}) do
    item(screen, item)
    Screen.status(screen, "thinking")
  end

  def show(screen, %Events.TurnCompleted{}), do: Screen.status(screen, nil)
  def show(screen, %Events.TurnFailed{}), do: Screen.status(screen, nil)

  def show(screen, %Events.Error{message: message}),
    do: Screen.line(screen, "  warning: #{message}")

  def show(screen, %Events.Unknown{} = event),
    do: Screen.line(screen, "  unknown event: #{inspect(event)}")

  def show(_screen, _other), do: :ok

  defp item(screen, %Items.Reasoning{text: text}),
    do: Screen.line(screen, "  thought: #{one_line(text)}")

  defp item(screen, %Items.AgentMessage{text: text}),
    do: Screen.line(screen, "  says: #{one_line(text)}")

  defp item(screen, %Items.CommandExecution{} = item) do
    Screen.line(screen, "  ran: #{one_line(item.command)} (exit #{item.exit_code})")

    item.aggregated_output
    |> String.split("\n", trim: true)
    |> Enum.take(5)
    |> Enum.each(&Screen.line(screen, "     | #{&1}"))
  end

  defp item(screen, %Items.FileChange{changes: changes, status: status}) do
    for change <- changes,
        do: Screen.line(screen, "  file: #{change.kind} #{change.path} (#{status})")
  end

  defp item(screen, %Items.TodoList{} = plan), do: plan(screen, plan)
  defp item(screen, %Items.Error{message: text}), do: Screen.line(screen, "  warning: #{text}")
  defp item(screen, item), do: Screen.line(screen, "  #{item.type}")

  defp plan(screen, %Items.TodoList{items: steps}) do
    marks = for step <- steps, do: "#{if step.completed, do: "[x]", else: "[ ]"} #{step.text}"
    Screen.line(screen, "  plan: #{Enum.join(marks, "  ")}")
  end

  defp one_line(text) do
    line = text |> String.split() |> Enum.join(" ")
    if String.length(line) > 100, do: String.slice(line, 0, 99) <> "…", else: line
  end
end

defmodule Demo do
  import Codex.Test.Steps
  alias Codex.{RunResultStreaming, StreamEvent, Thread}
  alias Demo.{Events, Screen}

  @token "demo"
  @before "echo \"Hello\"\n"

  # The answers of the scripted model, one for each request. Commands and patches really run.
  @script_1 """
  *** Begin Patch
  *** Update File: greet.sh
  @@
  -echo "Hello"
  +echo "Hello, ${1:-world}!"
  *** End Patch
  """
  @script_2 """
  *** Begin Patch
  *** Update File: greet.sh
  @@
   echo "Hello, ${1:-world}!"
  +echo "Goodbye, ${1:-world}."
  *** End Patch
  """

  defp script do
    [
      respond([reasoning("**Looking at the script first**"), shell("cat greet.sh")],
        usage: %{input_tokens: 1200, cached_input_tokens: 900, output_tokens: 60}
      ),
      apply_patch(@script_1),
      shell("sh greet.sh Ada"),
      "greet.sh now greets whom you name, and the world otherwise.",
      respond([apply_patch(@script_2)], usage: %{input_tokens: 1900, output_tokens: 80}),
      shell("sh greet.sh Ada"),
      "It says goodbye, too."
    ]
  end

  def scripted do
    model = Codex.Test.start!(script())
    file = Path.join(model.workspace, "greet.sh")
    File.write!(file, @before)

    # The workspace is temporary, and the commands are those above. The CLI's sandbox does not work in
    # every container, so this thread runs without it.
    options = Codex.Test.thread_options(model) ++ [sandbox: :danger_full_access]
    {:ok, thread} = Codex.start_thread(Codex.Test.options(model), options)

    status =
      in_good_order(fn ->
        screen = Screen.start()
        first = turn(screen, 1, thread, "Let greet.sh greet somebody by name. Try it.")
        second = turn(screen, 2, first.thread, "Now let it say goodbye as well.")

        Screen.line(screen, "Answer: #{answer(second)}\n")
        Screen.line(screen, "greet.sh, which the agent changed:\n")
        for line <- File.stream!(file), do: Screen.line(screen, "    #{String.trim(line, "\n")}")
        Screen.line(screen)
        for {done, n} <- [{first, 1}, {second, 2}], do: usage(screen, n, done)
      end)

    Codex.Test.stop(model)
    status
  end

  def live(prompt, cd, sandbox) do
    in_good_order(fn ->
      client =
        case Codex.Test.codex_path() do
          {:ok, path} -> [codex_path: path]
          {:error, message} -> stop(message)
        end

      options = [working_directory: cd, sandbox: sandbox, skip_git_repo_check: true]
      {:ok, thread} = Codex.start_thread(client, options)

      screen = Screen.start()
      done = turn(screen, 1, thread, prompt)
      Screen.line(screen, "Answer: #{answer(done)}\n")
      usage(screen, 1, done)
    end)
  end

  # Prints a turn while it runs; the last stream event has the result.
  defp turn(screen, n, thread, prompt) do
    Screen.line(screen, "Turn #{n}: #{prompt}")
    Screen.status(screen, "starting codex")
    {:ok, run} = Thread.run_streamed(thread, prompt, cancellation_token: @token)

    done =
      Enum.reduce(RunResultStreaming.events(run), nil, fn
        %StreamEvent.RunItem{event: event}, done ->
          Events.show(screen, event)
          done

        %StreamEvent.RawResponses{} = done, _ ->
          done

        _other, done ->
          done
      end)

    Screen.line(screen)
    done
  rescue
    error in Codex.Error ->
      Screen.status(screen, nil)
      error = Codex.Error.normalize(error)
      if error.kind == :interrupted, do: exit({:shutdown, 143})
      stop("the turn failed: #{error.message}")
  end

  defp answer(%StreamEvent.RawResponses{events: events}) do
    Enum.reduce(events, "(none)", fn
      %Codex.Events.ItemCompleted{item: %Codex.Items.AgentMessage{text: text}}, _ -> text
      _event, text -> text
    end)
  end

  defp usage(screen, n, %StreamEvent.RawResponses{usage: %{} = usage}) do
    Screen.line(
      screen,
      "Usage of turn #{n}: #{usage["input_tokens"]} tokens in (#{usage["cached_input_tokens"]} cached), " <>
        "#{usage["output_tokens"]} out (#{usage["reasoning_output_tokens"]} reasoning)"
    )
  end

  defp usage(screen, n, _none), do: Screen.line(screen, "Usage of turn #{n}: not reported")

  # Runs `fun` in its own process and returns the exit status. SIGTERM cancels the turn: `fun` continues
  # after codex has ended, so no process writes while the scripted model cleans up.
  defp in_good_order(fun) do
    {pid, ref} = spawn_monitor(fun)

    {:ok, _} =
      System.trap_signal(:sigterm, fn ->
        if Codex.Exec.cancel(@token) != :ok, do: Process.exit(pid, {:shutdown, 143})
        Process.sleep(:infinity)
      end)

    receive do
      {:DOWN, ^ref, _, _, :normal} -> 0
      {:DOWN, ^ref, _, _, {:shutdown, status}} -> status
      {:DOWN, ^ref, _, _, _crash} -> 1
    end
  end

  @spec stop(String.t()) :: no_return()
  defp stop(message) do
    IO.puts(:stderr, Codex.Text.printable("demo: #{message}"))
    exit({:shutdown, 1})
  end
end

# Without an output, the log has no reader.
:logger.add_primary_filter(
  :closed,
  {fn _event, _ -> if Process.whereis(:user), do: :ignore, else: :stop end, []}
)

{options, rest, wrong} =
  OptionParser.parse(System.argv(), strict: [live: :string, cd: :string, write: :boolean])

status =
  cond do
    rest != [] or wrong != [] or (options != [] and options[:live] == nil) ->
      IO.puts(:stderr, "usage: mix run examples/demo.exs [--live PROMPT [--cd DIR] [--write]]")
      2

    prompt = options[:live] ->
      sandbox = if options[:write], do: :workspace_write, else: :read_only
      Demo.live(prompt, Path.expand(options[:cd] || "."), sandbox)

    true ->
      Demo.scripted()
  end

if status != 0, do: System.halt(status)
