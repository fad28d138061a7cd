defmodule Codex.DidYouMean do
  @moduledoc false
  # The known key that an unknown key was probably meant to be.

  @doc """
  Returns the known key that is spelled most like a key, or nil.

      iex> Codex.DidYouMean.nearest(:modle, [:model, :profile])
      :model
      iex> Codex.DidYouMean.nearest("zzz", [:model, :profile])
      nil
  """
  @spec nearest(term(), [atom()]) :: atom() | nil
  def nearest(key, known) when (is_atom(key) or is_binary(key)) and known != [] do
    word = key |> to_string() |> String.slice(0, 64)

    {distance, near} =
      known |> Enum.map(&{String.jaro_distance(word, Atom.to_string(&1)), &1}) |> Enum.max()

    if distance >= 0.75, do: near
  end

  def nearest(_key, _known), do: nil
end
