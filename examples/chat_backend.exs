# The back end of a chat: a process for each conversation, live text, approvals that the user can
# give later, and a stop button.
#
#     mix run examples/chat_backend.exs
#
# The terminal stands in for the page: a line is a message, `y` or `n` answers the last question,
# and `/stop` is the stop button. The end of the input ends the chat after the last turn. The agent
# works in the current directory, with the login of the Codex CLI.

defmodule Chat do
  # The subscriber gets {:chat, message}. Messages are {:text, piece}, {:ask, token, command}, and
  # at the end of a turn :done, :stopped or {:failed, text}.
  use GenServer

  def start_link(options), do: GenServer.start_link(__MODULE__, options)
  def say(chat, text), do: GenServer.call(chat, {:say, text})
  def stop(chat), do: GenServer.call(chat, :stop)

  # Any process that has the token may answer.
  def answer(token, true), do: Codex.AppServer.answer(token, :allow)
  def answer(token, false), do: Codex.AppServer.answer(token, {:deny, "the user said no"})

  @impl true
  def init(connection: connection, subscriber: subscriber) do
    ask = fn event ->
      send(subscriber, {:chat, {:ask, event.token, event[:command] || event.type}})
      :later
    end

    options = [
      transport: {:app_server, connection},
      sandbox: :read_only,
      ask_for_approval: :on_request,
      approval_policy: ask
    ]

    with {:ok, thread} <- Codex.start_thread([], options),
         do: {:ok, %{thread: thread, subscriber: subscriber, task: nil}}
  end

  @impl true
  def handle_call({:say, text}, _from, %{task: nil, thread: thread, subscriber: to} = state) do
    show = fn
      %Codex.Events.ItemAgentMessageDelta{item: item} -> send(to, {:chat, {:text, item["text"]}})
      _event -> :ok
    end

    run = fn -> Codex.Thread.run(thread, text, on_event: show) end
    {:reply, :ok, %{state | task: Task.Supervisor.async_nolink(Chat.Tasks, run)}}
  end

  def handle_call({:say, _text}, _from, state), do: {:reply, {:error, :busy}, state}
  def handle_call(:stop, _from, state), do: {:reply, Codex.stop(state.thread), state}

  @impl true
  def handle_info({ref, outcome}, %{task: %{ref: ref}} = state) do
    Process.demonitor(ref, [:flush])
    ended(state, outcome)
  end

  def handle_info({:DOWN, ref, _, _, reason}, %{task: %{ref: ref}} = state),
    do: ended(state, {:error, reason})

  # The thread of the result continues the conversation, also after a failed turn.
  defp ended(state, outcome) do
    {message, result} =
      case outcome do
        {:ok, result} ->
          {:done, result}

        {:error, reason} ->
          error = Codex.Error.normalize(reason)
          message = if error.kind == :interrupted, do: :stopped, else: {:failed, error.message}
          {message, error.result}
      end

    send(state.subscriber, {:chat, message})
    {:noreply, %{state | task: nil, thread: if(result, do: result.thread, else: state.thread)}}
  end
end

defmodule Chat.Front do
  alias Codex.{Terminal, Text}

  def main do
    # A failed connection is a status, not a crash of this process.
    Process.flag(:trap_exit, true)
    connection = [name: Chat.Codex, reconnect: true, answer_timeout_ms: :timer.minutes(30)]
    children = [{Task.Supervisor, name: Chat.Tasks}, {Codex.AppServer, connection}]

    with {:ok, _pid} <- Supervisor.start_link(children, strategy: :one_for_one),
         {:ok, chat} <- Chat.start_link(connection: Chat.Codex, subscriber: self()) do
      front = self()
      spawn_link(fn -> read(front) end)
      # Typed text would stand in a status line.
      terminal = Terminal.start(status: false)
      state = %{chat: chat, terminal: terminal, waiting: [], open: [], busy?: false, end?: false}
      status = loop(state)
      Terminal.stop(terminal)
      status
    else
      {:error, {:shutdown, {:failed_to_start_child, _child, reason}}} -> failed(reason)
      {:error, reason} -> failed(reason)
    end
  end

  defp failed(reason) do
    IO.puts(:stderr, "no chat: #{Codex.Error.normalize(reason).message}")
    1
  end

  defp read(front) do
    case IO.gets("") do
      line when is_binary(line) ->
        send(front, {:line, String.trim(line)})
        read(front)

      _end ->
        send(front, :end)
    end
  end

  defp loop(%{waiting: [], busy?: false, end?: true}), do: 0

  defp loop(%{waiting: [text | waiting], busy?: false} = state) do
    :ok = Chat.say(state.chat, text)
    loop(%{state | waiting: waiting, busy?: true})
  end

  defp loop(state) do
    receive do
      {:line, line} -> state |> input(line) |> loop()
      {:chat, message} -> state |> show(message) |> loop()
      # No user is left to ask.
      :end -> state.open |> Enum.reduce(%{state | end?: true}, &answer(&2, &1, false)) |> loop()
      _exit -> loop(state)
    end
  end

  defp input(state, ""), do: state
  defp input(%{open: [token | _]} = state, "y"), do: answer(state, token, true)
  defp input(%{open: [token | _]} = state, "n"), do: answer(state, token, false)

  defp input(state, "/stop") do
    if Chat.stop(state.chat) != :ok, do: say(state, "[nothing to stop]")
    state
  end

  defp input(state, text), do: %{state | waiting: state.waiting ++ [text]}

  defp answer(state, token, allow?) do
    if Chat.answer(token, allow?) != :ok, do: say(state, "[too late]")
    %{state | open: List.delete(state.open, token)}
  end

  defp show(%{end?: true} = state, {:ask, token, _what}), do: answer(state, token, false)

  defp show(state, {:ask, token, what}) do
    say(state, "[may I? #{what} (y/n)]")
    %{state | open: [token | state.open]}
  end

  defp show(state, {:text, text}) do
    Terminal.piece(state.terminal, text)
    state
  end

  # The end of a turn closes its open questions.
  defp show(state, ended) do
    case ended do
      :done -> Terminal.piece(state.terminal, "\n")
      :stopped -> say(state, "[stopped]")
      {:failed, text} -> say(state, "[failed: #{text}]")
    end

    %{state | open: [], busy?: false}
  end

  # The renderer makes all texts printable, also those that come in pieces.
  defp say(state, text), do: Terminal.line(state.terminal, Text.line(text))
end

System.halt(Chat.Front.main())
