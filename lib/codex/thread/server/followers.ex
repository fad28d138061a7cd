defmodule Codex.Thread.Server.Followers do
  @moduledoc false
  # The processes that follow a thread. Each has at most one message of entries that it has not
  # acknowledged; meanwhile, new entries wait in the log, which may drop them.
  #
  # Functions send messages `{:codex_thread, ref, entries}`.

  alias Codex.Thread.Server.Log

  @type follower :: %{
          pid: pid(),
          monitor: reference(),
          next: Log.offset(),
          waits?: boolean()
        }
  @type t :: %{reference() => follower()}

  @doc "Adds a follower, which gets entries from an offset on. `ref` names it in its messages."
  @spec add(t(), pid(), reference(), Log.offset(), Log.t()) :: t()
  def add(followers, pid, ref, from, log) do
    follower = %{pid: pid, monitor: Process.monitor(pid), next: from, waits?: true}
    Map.put(followers, ref, deliver(follower, ref, log))
  end

  @doc "A follower has handled its message: it gets the next one, when there are entries."
  @spec ack(t(), reference(), Log.t()) :: t()
  def ack(followers, ref, log) do
    case followers do
      %{^ref => follower} -> %{followers | ref => deliver(%{follower | waits?: true}, ref, log)}
      _unknown -> followers
    end
  end

  @doc "Sends new entries to all followers that wait for them."
  @spec deliver(t(), Log.t()) :: t()
  def deliver(followers, log),
    do: Map.new(followers, fn {ref, follower} -> {ref, deliver(follower, ref, log)} end)

  defp deliver(%{waits?: true, next: next} = follower, ref, %{next: newest} = log)
       when next < newest do
    {entries, next} = Log.read(log, next)
    send(follower.pid, {:codex_thread, ref, entries})
    %{follower | next: next, waits?: false}
  end

  defp deliver(follower, _ref, _log), do: follower

  @doc "Sends each follower a last message, with the newest entries that it has not got."
  @spec finish(t(), Log.t()) :: :ok
  def finish(followers, log) do
    for {ref, %{next: next, pid: pid}} <- followers,
        [_ | _] = entries <- [Log.rest(log, next)],
        do: send(pid, {:codex_thread, ref, entries})

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
