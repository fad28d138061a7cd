defmodule Codex.Suggest do
  @moduledoc false
  # Words for a key that does not exist: which one was meant.

  @doc """
  A sentence about an unknown key.

      iex> Codex.Suggest.unknown_key(:modle, [:model, :profile])
      "unknown option :modle; did you mean :model?"
      iex> Codex.Suggest.unknown_key(:zzz, [:model, :profile])
      "unknown option :zzz; known options: :model, :profile"
  """
  @spec unknown_key(term(), [atom()]) :: String.t()
  def unknown_key(key, known) do
    case nearest(key, known) do
      nil ->
        "unknown option #{inspect(key)}; known options: #{Enum.map_join(known, ", ", &inspect/1)}"

      near ->
        "unknown option #{inspect(key)}; did you mean #{inspect(near)}?"
    end
  end

  @doc "The known key that is spelled most like this one, or nil."
  @spec nearest(term(), [atom()]) :: atom() | nil
  def nearest(key, known) when (is_atom(key) or is_binary(key)) and known != [] do
    word = to_string(key)

    {distance, near} =
      known |> Enum.map(&{String.jaro_distance(word, Atom.to_string(&1)), &1}) |> Enum.max()

    if distance >= 0.75, do: near
  end

  def nearest(_key, _known), do: nil
end
