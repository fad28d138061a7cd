defmodule Mix.CodexChat do
  @moduledoc false
  # The loop of `mix codex.chat`: one process that reads lines, starts a process for each turn, and
  # keeps the open questions of the agent.

  alias Codex.{AppServer, Terminal, Text, Thread}
  alias Codex.Terminal.Tty
  alias Mix.CodexRun

  @help "/new, /threads, /thread N, /stop, /quit; y, a or n answer a question"

  @doc "Talks until the input ends; returns the exit status."
  @spec run(
          (String.t() | nil, function() -> {:ok, Thread.t()} | {:error, term()}),
          keyword(),
          pid(),
          keyword()
        ) :: 0 | 1
  def run(begin, turn, conn, opts) do
    state = %{
      begin: begin,
      turn: turn,
      server: Process.monitor(conn),
      # Typed text would stand in the status line.
      terminal: Terminal.start([status: false] ++ Keyword.take(opts, [:fold])),
      threads: %{},
      current: 0,
      end?: false
    }

    state = new(state, opts[:resume])
    watch = Tty.watch(lines: true)
    say(state, "[#{@help}]")
    status = loop(state)
    :ok = Tty.unwatch(watch)
    :ok = Terminal.stop(state.terminal)
    status
  end

  defp new(state, resume) do
    n = map_size(state.threads) + 1
    chat = self()

    # Any process may answer the token of an event, until it expires.
    policy = fn event ->
      send(chat, {:ask, n, event})
      :later
    end

    thread = CodexRun.ok(state.begin.(resume, policy))
    conversation = %{thread: thread, worker: nil, asks: []}
    %{state | threads: Map.put(state.threads, n, conversation), current: n}
  end

  defp loop(state) do
    if state.end? and Enum.all?(state.threads, fn {_n, c} -> c.worker == nil end),
      do: 0,
      else: next(state)
  end

  defp next(%{server: server} = state) do
    receive do
      {:terminal, {:line, line}} ->
        line(state, String.trim(line))

      {:terminal, :interrupt} ->
        if current(state).worker, do: stop(state), else: 0

      {:terminal, :eof} ->
        state.threads
        |> Enum.reduce(%{state | end?: true}, fn {n, _}, state -> decline(state, n) end)
        |> loop()

      {:ask, n, event} ->
        state |> ask(n, event) |> loop()

      {:DOWN, ^server, :process, _pid, _reason} ->
        say(state, "[the app-server has ended]")
        1

      {:DOWN, _ref, :process, pid, reason} ->
        state |> ended(pid, reason) |> loop()
    end
  end

  ## Lines

  defp line(state, ""), do: loop(state)
  defp line(_state, "/quit"), do: 0
  defp line(state, "/stop"), do: stop(state)

  defp line(state, "/new") do
    state = new(state, nil)
    say(state, "[thread #{state.current}]")
    loop(state)
  end

  defp line(state, "/threads") do
    for {n, c} <- Enum.sort(state.threads) do
      marks = [n == state.current && "current", c.worker && "running", c.asks != [] && "asks"]
      marks = Enum.join(Enum.filter(marks, & &1), ", ")
      say(state, "[#{n} #{c.thread.thread_id || "new"} #{marks}]")
    end

    loop(state)
  end

  defp line(state, "/thread " <> number) do
    case Integer.parse(number) do
      {n, ""} when is_map_key(state.threads, n) ->
        say(state, "[thread #{n}]")
        loop(%{state | current: n})

      _other ->
        say(state, "[there is no thread #{number}]")
        loop(state)
    end
  end

  defp line(state, "/" <> _unknown) do
    say(state, "[#{@help}]")
    loop(state)
  end

  defp line(state, text) do
    case current(state) do
      %{asks: [token | _]} when text in ["y", "a", "n"] ->
        state |> answer(state.current, token, decision(text)) |> loop()

      %{worker: nil} ->
        state |> start(text) |> loop()

      %{thread: thread} ->
        steer(state, Thread.steer(thread, text))
        loop(state)
    end
  end

  defp decision("y"), do: :allow
  defp decision("a"), do: {:allow, for_session: true}
  defp decision("n"), do: {:deny, "the user said no"}

  defp steer(state, :ok), do: say(state, "[added to the turn]")

  defp steer(state, {:error, reason}),
    do: say(state, "[not added: #{Codex.Error.normalize(reason).message}]")

  defp stop(state) do
    with %{worker: worker} when worker != nil <- current(state),
         :ok <- Codex.stop(worker) do
      :ok
    else
      _none -> say(state, "[nothing to stop]")
    end

    loop(state)
  end

  ## Turns

  defp start(state, text) do
    %{terminal: terminal, turn: turn, current: n} = state
    thread = current(state).thread
    prefix = if map_size(state.threads) > 1, do: "[#{n}] ", else: ""
    show = &Terminal.event(terminal, &1, prefix)
    run = fn -> exit({:result, Thread.run(thread, text, [on_event: show] ++ turn)}) end
    {worker, _ref} = spawn_monitor(run)
    put_in(state.threads[n].worker, worker)
  end

  # The thread of the result continues the conversation, also after a failed turn. The end of a turn
  # closes its questions.
  defp ended(state, pid, reason) do
    case Enum.find(state.threads, fn {_n, c} -> c.worker == pid end) do
      nil ->
        state

      {n, conversation} ->
        result = outcome(state, reason)
        thread = if result, do: result.thread, else: conversation.thread
        put_in(state.threads[n], %{conversation | thread: thread, worker: nil, asks: []})
    end
  end

  defp outcome(state, {:result, {:ok, result}}) do
    Terminal.usage(state.terminal, result.usage)
    result
  end

  defp outcome(state, {:result, {:error, reason}}) do
    error = CodexRun.error(reason)
    stopped? = error.kind == :interrupted
    say(state, if(stopped?, do: "[stopped]", else: "[the turn failed: #{error.message}]"))
    error.result
  end

  defp outcome(_state, {:shutdown, 141}), do: exit({:shutdown, 141})

  defp outcome(state, _crash) do
    say(state, "[the turn failed]")
    nil
  end

  ## Questions

  defp ask(%{end?: true} = state, n, event),
    do: answer(state, n, event.token, {:deny, "no user is left"})

  defp ask(state, n, event) do
    what = event[:command] || event[:tool_name] || event[:grant_root] || "#{event.type}"
    reason = if event[:reason], do: " (#{event.reason})", else: ""
    place = if map_size(state.threads) > 1, do: "#{n}: ", else: ""
    say(state, "[#{place}may I? #{what}#{reason} y/a/n]")
    update_in(state.threads[n].asks, &(&1 ++ [event.token]))
  end

  defp answer(state, n, token, decision) do
    if AppServer.answer(token, decision) != :ok, do: say(state, "[too late]")
    update_in(state.threads[n].asks, &List.delete(&1, token))
  end

  defp decline(state, n) do
    Enum.reduce(state.threads[n].asks, state, &answer(&2, n, &1, {:deny, "no user is left"}))
  end

  defp current(state), do: state.threads[state.current]
  defp say(state, text), do: Terminal.line(state.terminal, Text.line(text))
end
