defmodule Codex.Turn.Usage do
  @moduledoc false
  # Counts the tokens of a turn from the running total of its thread.

  @doc """
  Returns the part of the running total that came after `baseline`, and the scope `:turn`. A total
  below the baseline belongs to another count: then it is returned with the scope `:thread`.
  """
  @spec share(map() | nil, map() | :unknown | nil) :: {map() | nil, :turn | :thread}
  def share(nil, _baseline), do: {nil, :turn}
  def share(total, :unknown), do: {total, :thread}

  def share(total, baseline) do
    share =
      Map.new(total, fn
        {key, n} when is_integer(n) -> {key, n - integer(baseline[key])}
        other -> other
      end)

    if Enum.any?(share, fn {_, n} -> is_integer(n) and n < 0 end),
      do: {total, :thread},
      else: {share, :turn}
  end

  @doc """
  Adds the tokens of two turns.

      iex> one = %{"input_tokens" => 1}
      iex> Codex.Turn.Usage.sum(one, %{"input_tokens" => 2, "output_tokens" => 3})
      %{"input_tokens" => 3, "output_tokens" => 3}
      iex> Codex.Turn.Usage.sum(nil, nil)
      nil
  """
  @spec sum(map() | nil, map() | nil) :: map() | nil
  def sum(nil, usage), do: usage
  def sum(usage, nil), do: usage

  def sum(one, other) do
    Map.merge(one, other, fn
      _key, a, b when is_integer(a) and is_integer(b) -> a + b
      _key, _a, b -> b
    end)
  end

  defp integer(n) when is_integer(n), do: n
  defp integer(_other), do: 0
end
