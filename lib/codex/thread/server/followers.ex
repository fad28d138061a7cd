defmodule Codex.Thread.Server.Followers do
  @moduledoc false
  # The processes that follow a thread. Each has at most one message of entries that it has not
  # acknowledged; meanwhile, new entries wait in the log, which may drop them. A message that the
  # connection of a node does not take at once is sent a moment later, so that a slow node does not
  # suspend the server.
  #
  # Functions send messages `{:codex_thread, ref, entries}`.

  alias Codex.Thread.Server.Log

  # The pause before a message to a busy node is sent again, in ms.
  @again_ms 100

  @type follower :: %{
          pid: pid(),
          monitor: reference(),
          next: Log.offset(),
          state: :waits | :reads | :busy
        }
  @type t :: %{reference() => follower()}

  @doc "Adds a follower, which gets entries from an offset on. `ref` names it in its messages."
  @spec add(t(), pid(), reference(), Log.offset(), Log.t()) :: t()
  def add(followers, pid, ref, from, log) do
    follower = %{pid: pid, monitor: Process.monitor(pid), next: from, state: :waits}
    Map.put(followers, ref, deliver(follower, ref, log))
  end

  @doc """
  Sends a follower the next entries: it has acknowledged its message (`:reads`), or its node was
  busy (`:busy`).
  """
  @spec next(t(), reference(), :reads | :busy, Log.t()) :: t()
  def next(followers, ref, state, log) do
    case followers do
      %{^ref => %{state: ^state} = follower} ->
        %{followers | ref => deliver(%{follower | state: :waits}, ref, log)}

      _unknown ->
        followers
    end
  end

  @doc "Sends new entries to all followers that wait for them."
  @spec deliver(t(), Log.t()) :: t()
  def deliver(followers, log),
    do: Map.new(followers, fn {ref, follower} -> {ref, deliver(follower, ref, log)} end)

  defp deliver(%{state: :waits, next: next} = follower, ref, %{next: newest} = log)
       when next < newest do
    {entries, next} = Log.read(log, next)

    if sent?(follower.pid, ref, entries) do
      %{follower | next: next, state: :reads}
    else
      _ = Process.send_after(self(), {:again, ref}, @again_ms)
      %{follower | state: :busy}
    end
  end

  defp deliver(follower, _ref, _log), do: follower

  # The monitor reports a node that is lost.
  defp sent?(pid, ref, entries),
    do: :erlang.send(pid, {:codex_thread, ref, entries}, [:nosuspend]) == :ok

  @doc "Sends each follower a last message, with the newest entries that it has not got."
  @spec finish(t(), Log.t()) :: :ok
  def finish(followers, log) do
    for {ref, %{next: next, pid: pid}} <- followers,
        [_ | _] = entries <- [Log.rest(log, next)],
        do: sent?(pid, ref, entries)

    :ok
  end

  @doc "Removes a follower."
  @spec remove(t(), reference()) :: t()
  def remove(followers, ref) do
    with {%{monitor: monitor}, followers} <- Map.pop(followers, ref) do
      Process.demonitor(monitor, [:flush])
      followers
    else
      {nil, followers} -> followers
    end
  end

  @doc "Returns the reference of the follower with this monitor, or nil."
  @spec find(t(), reference()) :: reference() | nil
  def find(followers, monitor),
    do: Enum.find_value(followers, fn {ref, follower} -> follower.monitor == monitor && ref end)
end
