defmodule Codex.DidYouMean do
  @moduledoc false
  # The known key that an unknown key was probably meant to be.

  @doc """
  Returns the known key that is spelled most like a key, or nil. For invalid UTF-8, returns nil.

      iex> Codex.DidYouMean.nearest(:modle, [:model, :profile])
      :model
      iex> Codex.DidYouMean.nearest("zzz", [:model, :profile])
      nil
  """
  @spec nearest(term(), [atom()]) :: atom() | nil
  def nearest(key, known) when (is_atom(key) or is_binary(key)) and known != [] do
    word = to_string(key)
    # Newer OTPs raise for the distance of invalid UTF-8.
    if String.valid?(word), do: word |> String.slice(0, 64) |> nearest_word(known)
  end

  def nearest(_key, _known), do: nil

  defp nearest_word(word, known) do
    {distance, near} =
      known |> Enum.map(&{String.jaro_distance(word, Atom.to_string(&1)), &1}) |> Enum.max()

    if distance >= 0.75, do: near
  end
end
