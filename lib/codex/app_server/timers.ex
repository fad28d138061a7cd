defmodule Codex.AppServer.Timers do
  @moduledoc false
  # What is to happen when, in order: times in ms, each for a key. It has no clock.

  @type t :: :gb_sets.set({at :: integer(), key :: term()})

  @spec new() :: t()
  def new, do: :gb_sets.new()

  @doc "Nothing is to happen at `:infinity`."
  @spec put(t(), integer() | :infinity, term()) :: t()
  def put(timers, :infinity, _key), do: timers
  def put(timers, at, key), do: :gb_sets.add_element({at, key}, timers)

  @spec delete(t(), integer() | :infinity, term()) :: t()
  def delete(timers, :infinity, _key), do: timers
  def delete(timers, at, key), do: :gb_sets.del_element({at, key}, timers)

  @doc "When the next one is."
  @spec next(t()) :: integer() | :infinity
  def next(timers) do
    if :gb_sets.is_empty(timers), do: :infinity, else: timers |> :gb_sets.smallest() |> elem(0)
  end

  @doc "Takes the keys whose time has come, the earliest first."
  @spec due(t(), integer()) :: {[term()], t()}
  def due(timers, now), do: due(timers, now, [])

  defp due(timers, now, keys) do
    if next(timers) <= now do
      {{_at, key}, timers} = :gb_sets.take_smallest(timers)
      due(timers, now, [key | keys])
    else
      {Enum.reverse(keys), timers}
    end
  end
end
