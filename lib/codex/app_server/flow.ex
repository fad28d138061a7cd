defmodule Codex.AppServer.Flow do
  @moduledoc false
  # Whether a connection reads on: as fast as its subscribers take, and ahead of them, up to a limit, while answers are waited for.

  alias Codex.AppServer.State

  @doc """
  What is done with bytes that were read and not granted yet (`owed`), where `ahead` of them were granted before their readers were ready:

    * `:grant` - everybody keeps up
    * `:ahead` - they do not, but somebody waits for an answer, which may be next
    * `:wait` - look again soon
    * `:overflow` - too much was read ahead
  """
  @spec next(State.t(), non_neg_integer(), non_neg_integer(), map()) ::
          :grant | :ahead | :wait | :overflow
  def next(_state, 0, 0, _options), do: :grant

  def next(state, owed, ahead, options) do
    cond do
      not full?(state, options.max_queue) -> :grant
      state.requests.waiting == %{} -> :wait
      ahead + owed > options.max_ahead -> :overflow
      true -> :ahead
    end
  end

  # Of a process on another node only the distribution knows; it blocks us where that is full.
  defp full?(state, most) do
    Enum.any?(State.listeners(state), fn pid ->
      node(pid) == node() and match?({_, n} when n > most, Process.info(pid, :message_queue_len))
    end)
  end
end
