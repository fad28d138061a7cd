defmodule Codex.Tailing do
  @moduledoc "Follows sessions in processes of their own."

  @doc """
  Starts a process that follows a session, and sends each event to the caller as `{:tail, event}`,
  then `{:tail, :ended}` or `{:tail, {:raised, error}}`. The last value of an option counts.
  """
  def follow(session, opts) do
    test = self()
    opts = opts |> Enum.reverse() |> Enum.uniq_by(&elem(&1, 0))

    spawn_link(fn ->
      try do
        session |> Codex.Sessions.tail(opts) |> Enum.each(&send(test, {:tail, &1}))
        send(test, {:tail, :ended})
      rescue
        error -> send(test, {:tail, {:raised, error}})
      end
    end)
  end

  @doc "Returns the events up to the first one that a function is true for."
  def await(fun, before \\ []) do
    receive do
      {:tail, event} ->
        if fun.(event),
          do: Enum.reverse([event | before]),
          else: await(fun, [event | before])
    after
      60_000 -> raise "no such event after #{inspect(Enum.reverse(before))}"
    end
  end

  @doc "Kills such a process."
  def stop(pid) do
    Process.unlink(pid)
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)

    receive do
      {:DOWN, ^monitor, _, _, _} -> :ok
    end
  end

  @doc "Returns the files below a folder that this VM has open."
  def open_files(folder \\ "/") do
    for name <- File.ls!("/proc/self/fd"),
        {:ok, path} <- [File.read_link("/proc/self/fd/" <> name)],
        String.starts_with?(path, folder),
        do: path
  end

  @doc "Waits until a function returns a true value."
  def eventually(fun, left \\ 3_000) do
    value = fun.()

    if value || left == 0 do
      value
    else
      Process.sleep(10)
      eventually(fun, left - 1)
    end
  end
end
