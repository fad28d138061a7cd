defmodule Codex.Tools.Terminals do
  @moduledoc false
  # Sessions of shell tools: commands that go on after the call that started them. A session has a
  # scope, outside of which its id means nothing: the turn of the call, else the calling process.

  # Sessions of one scope.
  @most 16

  @doc "Returns the scope of a call."
  @spec scope(map()) :: term()
  def scope(%{event: %{turn_id: id}}) when is_binary(id), do: {:turn, id}
  def scope(context), do: owner(context)

  @doc "Returns the process with which a session ends at the latest."
  @spec owner(map()) :: pid()
  def owner(%{owner: owner}) when is_pid(owner), do: owner
  def owner(_context), do: self()

  @doc "Returns whether a scope may have another session."
  @spec room?(term()) :: boolean()
  def room?(scope), do: length(Registry.lookup(__MODULE__, scope)) < @most

  @doc "Registers the calling process in a scope, and returns its id."
  @spec register(term()) :: pos_integer()
  def register(scope) do
    id = System.unique_integer([:positive])
    {:ok, _} = Registry.register(__MODULE__, scope, id)
    id
  end

  @doc "Returns a session of a scope by its id."
  @spec find(term(), integer()) :: pid() | nil
  def find(scope, id) do
    Enum.find_value(Registry.lookup(__MODULE__, scope), fn {pid, found} -> found == id && pid end)
  end

  @doc "Ends the sessions of a turn."
  @spec stop(String.t() | nil) :: :ok
  def stop(turn_id) do
    for {pid, _id} <- Registry.lookup(__MODULE__, {:turn, turn_id}),
        do: Process.exit(pid, :shutdown)

    :ok
  end
end
