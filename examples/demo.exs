# Runs a thread of two turns and shows it with `Codex.Terminal`. `bin/demo` runs it; with a CLI and
# a build at hand, so does:
#
#     mix run examples/demo.exs
#     mix run examples/demo.exs --live "prompt" --cd /some/project [--write]

defmodule Demo do
  import Codex.Test.Steps
  alias Codex.{RunResultStreaming, StreamEvent, Terminal, Thread}

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

    # The workspace is temporary, and the commands are those above. The CLI's sandbox does not work
    # in every container, so this thread runs without it.
    options = Codex.Test.thread_options(model) ++ [sandbox: :danger_full_access]
    {:ok, thread} = Codex.start_thread(Codex.Test.options(model), options)

    status =
      in_good_order(fn ->
        screen = Terminal.start()
        first = turn(screen, 1, thread, "Let greet.sh greet somebody by name. Try it.")
        second = turn(screen, 2, first.thread, "Now let it say goodbye as well.")

        Terminal.line(screen, "Answer: #{answer(second)}\n")
        Terminal.line(screen, "greet.sh, which the agent changed:\n")

        for line <- File.stream!(file),
            do: Terminal.line(screen, "    #{String.trim(line, "\n")}")

        Terminal.line(screen)
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

      screen = Terminal.start()
      done = turn(screen, 1, thread, prompt)
      Terminal.line(screen, "Answer: #{answer(done)}\n")
      usage(screen, 1, done)
    end)
  end

  # Prints a turn while it runs; the last stream event has the result.
  defp turn(screen, n, thread, prompt) do
    Terminal.line(screen, "Turn #{n}: #{prompt}")
    Terminal.status(screen, "starting codex")
    {:ok, run} = Thread.run_streamed(thread, prompt, cancellation_token: @token)

    done =
      Enum.reduce(RunResultStreaming.events(run), nil, fn
        %StreamEvent.RunItem{event: event}, done ->
          Terminal.event(screen, event, "  ")
          done

        %StreamEvent.RawResponses{} = done, _ ->
          done

        _other, done ->
          done
      end)

    Terminal.line(screen)
    done
  rescue
    error in Codex.Error ->
      Terminal.status(screen, nil)
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

  defp usage(screen, n, done) do
    Terminal.line(screen, "Turn #{n}:")
    Terminal.usage(screen, done && done.usage)
  end

  # Runs `fun` in its own process and returns the exit status. SIGTERM cancels the turn: `fun`
  # continues after codex has ended, so no process writes while the scripted model cleans up.
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
