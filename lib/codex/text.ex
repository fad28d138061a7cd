defmodule Codex.Text do
  @moduledoc false
  # Bytes of others as text.

  @doc """
  What is no UTF-8 becomes U+FFFD.

      iex> Codex.Text.utf8("a\\xffb")
      "a\\uFFFDb"
  """
  @spec utf8(binary()) :: String.t()
  def utf8(bytes) do
    if String.valid?(bytes) do
      bytes
    else
      bytes
      |> String.chunk(:valid)
      |> Enum.map_join(&if(String.valid?(&1), do: &1, else: "\uFFFD"))
    end
  end
end
