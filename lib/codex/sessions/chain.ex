defmodule Codex.Sessions.Chain do
  @moduledoc false
  # The history of a thread over several rollouts. A thread that was reverted has a file for each
  # revert, which names the rollout that holds its history and the line at which it ends. What
  # stands behind that line, or in a file that no later one names, was reverted.

  alias Codex.Sessions.{Record, Store}

  @doc """
  Returns a function that tells whether a turn of a file was reverted by another file of its thread.
  """
  @spec reverted([{Store.file(), Record.summary()}]) :: (Store.file(), map() -> boolean())
  def reverted([_only]), do: fn _file, _turn -> false end

  def reverted(summaries) do
    by_rollout = Map.new(summaries, fn {file, summary} -> {file.rollout, summary} end)

    ends =
      case List.last(summaries) do
        {file, _summary} -> follow(file.rollout, :infinity, by_rollout, %{})
        nil -> %{}
      end

    fn %{rollout: rollout}, turn ->
      case ends do
        %{^rollout => at} -> turn.ordinal != nil and turn.ordinal >= at
        _not_in_the_chain -> true
      end
    end
  end

  # The line at which each file of the chain ends. Numbers are smaller than atoms.
  defp follow(rollout, at, by_rollout, ends) do
    case by_rollout do
      %{^rollout => summary} when not is_map_key(ends, rollout) ->
        ends = Map.put(ends, rollout, at)

        case summary.meta.history_base do
          {base, ordinal, _offset} -> follow(base, ordinal, by_rollout, ends)
          nil -> ends
        end

      _another_thread_or_a_circle ->
        ends
    end
  end
end
