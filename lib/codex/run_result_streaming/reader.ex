defmodule Codex.RunResultStreaming.Reader do
  @moduledoc false
  # Holds a run that is popped: the stream, suspended between two items. Registered by the run's token; ends with
  # the stream, or with the process that popped first.
  #
  # It is no GenServer: while the stream waits for the CLI, nothing else is to be handled, and a caller that gave up
  # must not lose the item that comes then. So it works on one item and hands it to whoever asks.

  @registry Codex.RunResultStreaming.Registry

  @spec pop(String.t(), Enumerable.t(), (() -> term()), timeout()) ::
          {:ok, term()} | :done | {:error, Exception.t() | :timeout}
  def pop(token, stream, ended, timeout) do
    reader = whereis(token, stream, ended)
    ref = :erlang.monitor(:process, reader, alias: :explicit_unalias)
    send(reader, {:pop, self(), ref})

    receive do
      {^ref, answer} -> taken(reader, ref, answer)
      {:DOWN, ^ref, :process, _, _} -> :done
    after
      timeout ->
        # From here on no answer can come: what is not in the mailbox now stays with the reader.
        :erlang.unalias(ref)

        receive do
          {^ref, answer} ->
            taken(reader, ref, answer)
        after
          0 ->
            Process.demonitor(ref, [:flush])
            send(reader, {:forget, ref})
            {:error, :timeout}
        end
    end
  end

  defp taken(reader, ref, answer) do
    :erlang.unalias(ref)
    Process.demonitor(ref, [:flush])
    send(reader, {:taken, ref})
    answer
  end

  defp whereis(token, stream, ended) do
    case Registry.lookup(@registry, token) do
      [{reader, _}] -> reader
      [] -> start(token, stream, ended)
    end
  end

  defp start(token, stream, ended) do
    owner = self()
    ref = make_ref()

    {:ok, reader} =
      Task.Supervisor.start_child(
        Codex.TaskSupervisor,
        fn ->
          registered = Registry.register(@registry, token, nil)
          send(owner, {ref, registered})
          if match?({:ok, _}, registered), do: run(stream, owner, ended)
        end,
        restart: :temporary
      )

    receive do
      {^ref, {:ok, _}} -> reader
      {^ref, {:error, {:already_registered, other}}} -> other
    end
  end

  defp run(stream, owner, ended) do
    # A killed owner ends the reader even while it waits for the CLI; the port goes with it, and the CLI with that.
    watch(owner)
    step = &Enumerable.reduce(stream, &1, fn item, _ -> {:suspend, item} end)
    loop(step, ended)
  end

  defp watch(owner) do
    reader = self()

    spawn_link(fn ->
      owner = Process.monitor(owner)
      reader = Process.monitor(reader)

      receive do
        {:DOWN, ^owner, :process, _, _} -> exit(:owner_gone)
        {:DOWN, ^reader, :process, _, _} -> :ok
      end
    end)
  end

  defp loop(step, ended) do
    case advance(step) do
      {:item, item, step} ->
        hand_over({:ok, item})
        loop(step, ended)

      {:error, error} ->
        ended.()
        hand_over({:error, error})

      :done ->
        ended.()
        hand_over(:done)
    end
  end

  # Not before somebody asks: the child is to wait, too.
  defp advance(step) do
    receive do
      {:pop, _, _} = request -> send(self(), request)
    end

    case step.({:cont, nil}) do
      {:suspended, item, step} -> {:item, item, step}
      {:done, _} -> :done
      {:halted, _} -> :done
    end
  rescue
    error -> {:error, error}
  end

  # An item leaves only when its taker says so.
  defp hand_over(answer) do
    receive do
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
        unless taken?, do: hand_over(answer)
    end
  end
end
