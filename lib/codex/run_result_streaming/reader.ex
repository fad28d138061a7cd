defmodule Codex.RunResultStreaming.Reader do
  @moduledoc false
  # Holds a popped run: its stream, suspended between two events. Registered under the run's
  # progress. Ends with the stream, with `cancel`, or with the process that popped first.
  #
  # A run is popped once: it is never started again, even if the reader was ended in the middle. An
  # atomic that outlives the reader holds the progress.
  #
  # It is no GenServer: while the stream waits for the CLI, no other message needs handling, and a
  # caller that timed out must not lose the next event. So it reads one event and hands it to the
  # next caller.

  @registry Codex.RunResultStreaming.Registry

  @begun 1
  @ended 2

  @doc "Returns the progress of a run that was not popped yet."
  @spec new() :: :atomics.atomics_ref()
  def new, do: :atomics.new(1, [])

  @doc "Returns the next event; once `:lost` if the reader was ended before the stream."
  @spec pop(:atomics.atomics_ref(), Enumerable.t(), timeout()) ::
          {:ok, term()} | :done | :lost | {:error, Exception.t() | :timeout}
  def pop(progress, stream, timeout) do
    with true <- :atomics.get(progress, 1) != @ended,
         reader when is_pid(reader) <- whereis(progress, stream) do
      request(reader, progress, timeout)
    else
      _ -> ended(progress)
    end
  end

  @doc "Ends the reader of this run, if it exists, as soon as it waits for the next pop."
  @spec cancel(:atomics.atomics_ref()) :: :ok
  def cancel(progress) do
    for {reader, _} <- lookup(progress), do: send(reader, :cancel)
    :ok
  end

  # No reader: another process has taken the end, or the reader was ended.
  defp ended(progress) do
    if :atomics.exchange(progress, 1, @ended) == @ended, do: :done, else: :lost
  end

  defp request(reader, progress, timeout) do
    ref = :erlang.monitor(:process, reader, alias: :explicit_unalias)
    send(reader, {:pop, self(), ref})

    receive do
      {^ref, answer} -> taken(reader, progress, ref, answer)
      {:DOWN, ^ref, :process, _, _} -> ended(progress)
    after
      timeout ->
        # No answer can arrive from here on: an event that is not in the mailbox stays with the
        # reader.
        :erlang.unalias(ref)

        receive do
          {^ref, answer} ->
            taken(reader, progress, ref, answer)
        after
          0 ->
            Process.demonitor(ref, [:flush])
            send(reader, {:forget, ref})
            {:error, :timeout}
        end
    end
  end

  defp taken(reader, progress, ref, answer) do
    :erlang.unalias(ref)
    Process.demonitor(ref, [:flush])
    # The taker confirms, because the reader may be ended with this process before it could.
    unless match?({:ok, _}, answer), do: :atomics.put(progress, 1, @ended)
    send(reader, {:taken, ref})
    answer
  end

  defp whereis(progress, stream) do
    case lookup(progress) do
      [{reader, _}] -> reader
      [] -> start(progress, stream)
    end
  end

  defp lookup(progress) do
    :ok = Codex.Started.check!()
    Registry.lookup(@registry, progress)
  end

  defp start(progress, stream) do
    owner = self()
    ref = make_ref()

    {:ok, reader} =
      Task.Supervisor.start_child(
        Codex.TaskSupervisor,
        fn ->
          with {:ok, _} <- Registry.register(@registry, progress, nil),
               :ok <- :atomics.compare_exchange(progress, 1, 0, @begun) do
            send(owner, {ref, :begun})
            run(stream, owner)
          else
            {:error, {:already_registered, other}} -> send(owner, {ref, other})
            _begun_before -> send(owner, {ref, nil})
          end
        end,
        restart: :temporary
      )

    receive do
      {^ref, :begun} -> reader
      {^ref, other} -> other
    end
  end

  defp run(stream, owner) do
    # If the owner is killed, the reader ends even while it waits for the CLI; its port and the CLI
    # end, too.
    Codex.OwnerMonitor.start(owner)
    step = &Enumerable.reduce(stream, &1, fn item, _ -> {:suspend, item} end)
    loop(step)
  end

  defp loop(step) do
    case advance(step) do
      {:item, item, step} ->
        if hand_over({:ok, item}) == :taken, do: loop(step), else: halt(step)

      :cancelled ->
        halt(step)

      last ->
        hand_over(last)
    end
  end

  # Stops the child, if it exists.
  defp halt(step), do: step.({:halt, nil})

  # Read only on demand, so that the child waits, too.
  defp advance(step) do
    receive do
      {:pop, _, _} = request ->
        send(self(), request)
        next(step)

      :cancel ->
        :cancelled
    end
  end

  defp next(step) do
    case step.({:cont, nil}) do
      {:suspended, item, step} -> {:item, item, step}
      {:done, _} -> :done
      {:halted, _} -> :done
    end
  rescue
    error -> {:error, error}
  end

  # An event is removed only when its taker confirms it.
  defp hand_over(answer) do
    receive do
      :cancel ->
        :cancelled

      {:pop, from, ref} ->
        taker = Process.monitor(from)
        send(ref, {ref, answer})

        taken? =
          receive do
            {:taken, ^ref} -> true
            {:forget, ^ref} -> false
            {:DOWN, ^taker, :process, _, _} -> false
          end

        Process.demonitor(taker, [:flush])
        if taken?, do: :taken, else: hand_over(answer)
    end
  end
end
