defmodule Codex.Replay do
  @moduledoc """
  Recorded sessions of an app-server, played to `Codex.AppServer.State` as if they happened: what the client sent is called,
  what the server sent is fed as bytes, cut as told.
  """

  alias Codex.AppServer.{Ids, State, Turns}
  alias Codex.JSONL
  alias Codex.JSONRPC.Message

  @dir Path.expand("../fixtures/app_server", __DIR__)

  defstruct [:state, :decoder, ids: %{}, actions: [], now: 0]

  def names, do: for(path <- Path.wildcard(@dir <> "/*.jsonl"), do: Path.basename(path, ".jsonl"))

  @doc "The lines of a session, as `{:out | :in, message}` or `{:out, :raw}`."
  def lines(name) do
    for line <- File.stream!(Path.join(@dir, name <> ".jsonl")) do
      {:ok, entry} = Codex.JSON.decode(line)
      {String.to_existing_atom(entry["dir"]), Map.get(entry, "msg", :raw)}
    end
  end

  @doc """
  Plays them. `cut` makes a list of chunks of a binary. One subscriber, `:all`, hears everything, and each request follows the turn
  that it starts, as `{:turn, id}`.
  """
  def play(lines, cut, opts \\ []) do
    state = State.new([experimental_api: true] ++ opts)
    {[{:reply, _, :ok}], state} = State.run(state, {:subscribe, :us, :all, []}, 0)

    lines
    |> Enum.chunk_by(&elem(&1, 0))
    |> Enum.reduce(%__MODULE__{state: state, decoder: JSONL.new()}, &part(&1, &2, cut))
    |> Map.update!(:actions, &Enum.reverse/1)
    |> Map.put(:decoder, nil)
  end

  defp part([{:out, _} | _] = lines, replay, _cut),
    do: Enum.reduce(lines, replay, fn {:out, message}, replay -> out(message, replay) end)

  # The bytes are those that a server would write for the same objects.
  defp part(lines, replay, cut) do
    bytes =
      for {:in, message} <- lines, message = renamed(message, replay.ids), into: "" do
        Codex.JSON.encode!(message) <> "\n"
      end

    for chunk <- cut.(bytes), event <- JSONL.feed(replay.decoder, chunk), reduce: replay do
      replay -> step(replay, &State.run(&1, {:receive, Message.from_line(event)}, replay.now))
    end
  end

  # Answers get the id of our request; answers to requests that we do not send are left out.
  defp renamed(%{"method" => _} = message, _ids), do: message

  defp renamed(%{"id" => id} = message, ids) do
    case ids do
      %{^id => ours} -> %{message | "id" => ours}
      _ -> nil
    end
  end

  defp out(
         %{"method" => "initialize", "id" => id, "params" => %{"clientInfo" => _}},
         %{state: %{phase: :new}} = replay
       ) do
    replay = %{replay | ids: Map.put(replay.ids, id, replay.state.peer.next)}
    step(replay, &State.run(&1, :start, replay.now))
  end

  defp out(%{"method" => method, "id" => id} = message, replay)
       when is_integer(id) or is_binary(id) do
    ours = replay.state.peer.next
    # A second `turn/start` in a thread is more input to its turn.
    busy? = Turns.busy(replay.state.turns, Ids.thread_id(message["params"] || %{})) != nil
    opts = if busy?, do: [], else: [follow: {:turn, id}]

    replay =
      step(
        replay,
        &State.run(&1, {:request, {:call, id}, method, message["params"], opts}, replay.now)
      )

    if replay.state.peer.next > ours,
      do: %{replay | ids: Map.put(replay.ids, id, ours)},
      else: replay
  end

  defp out(%{"id" => id, "result" => result}, replay),
    do: step(replay, &State.run(&1, {:respond, {:answer, id}, {:id, id}, {:ok, result}}, 0))

  defp out(%{"id" => id, "error" => error}, replay),
    do: step(replay, &State.run(&1, {:respond, {:answer, id}, {:id, id}, {:error, error}}, 0))

  # "initialized", and requests that our client never sends.
  defp out(_other, replay), do: replay

  defp step(replay, fun) do
    {actions, state} = fun.(replay.state)

    %{
      replay
      | state: state,
        actions: Enum.reverse(actions) ++ replay.actions,
        now: replay.now + 1
    }
  end
end
