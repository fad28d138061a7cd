defmodule Codex.Thread.Server.Worker do
  @moduledoc false
  # The process of a turn: runs it, and sends each event to the server, which takes one at a time.
  # It ends with the server, and the turn ends with it.
  #
  # Messages to the server: `{run, :event, pid, reply, event}`, which is answered by `reply`, and
  # `{run, :done, result}`.

  alias Codex.{Error, Events, OwnerMonitor, Thread}
  alias Codex.Options.Schema
  alias Codex.Thread.Runner
  alias Codex.Thread.Server.Saved
  alias Codex.Turn.Listener

  @unsaved {__MODULE__, :unsaved}

  @doc "Starts a turn. Returns the process and its monitor."
  @spec start(Thread.t(), map(), Saved.t()) :: {pid(), reference()}
  def start(thread, run, state) do
    server = self()
    callers = [server | Process.get(:"$callers", [])]

    spawn_monitor(fn ->
      _ = OwnerMonitor.start(server)
      Process.put(:"$callers", callers)
      send(server, {run.ref, :done, turn(thread, run, state, server)})
    end)
  end

  defp turn(thread, run, state, server) do
    known = fn id -> save(state, id, thread.thread_id) end

    result =
      if Runner.loop?(run.opts) do
        with {:ok, opts} <- Schema.pairs(run.opts),
             do: Thread.run(thread, run.input, Listener.add(opts, &event(&1, run, server, known)))
      else
        with {:ok, opts} <- Runner.opts(run.opts),
             {:ok, opts} <- Schema.pairs(opts) do
          opts = Listener.add(opts, &event(&1, run, server, fn _id -> :ok end))
          Thread.run_turn(thread, run.input, opts, &hook(&1, known))
        end
      end

    case {Process.get(@unsaved), result} do
      {%Error{} = error, {:error, {:exec_failed, %{result: so_far}}}} ->
        {:error, {:exec_failed, %{error | result: so_far}}}

      _saved ->
        result
    end
  end

  # Called when the CLI has named the thread, also while its first events wait for a retry.
  defp hook({:thread, id}, known), do: known.(id)
  defp hook(:begin, _known), do: :ok

  # The id of the thread is saved before the events of its turn.
  defp save(_state, id, id), do: :ok

  defp save(state, id, _other) do
    with false <- Process.get(__MODULE__) == id,
         {:error, error} <- Saved.save(state, id) do
      Process.put(@unsaved, error)
    end

    Process.put(__MODULE__, id)
    :ok
  end

  defp event(event, run, server, known) do
    with %Events.ThreadStarted{thread_id: id} <- event, do: known.(id)
    if Process.get(@unsaved), do: {:halt, :state}, else: hand_over(server, run.ref, event)
  end

  # The server is the reader: the turn waits for it.
  defp hand_over(server, run, event) do
    reply = make_ref()
    send(server, {run, :event, self(), reply, event})

    receive do
      ^reply -> :ok
    end
  end
end
