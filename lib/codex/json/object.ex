defmodule Codex.JSON.Object do
  @moduledoc """
  A JSON object with its members in a fixed order, for `Codex.JSON.encode/1`. A map has an order of
  its own.

      iex> object = %Codex.JSON.Object{members: [{"b", 1}, {:a, [2]}]}
      iex> Codex.JSON.encode(object)
      {:ok, ~S({"b":1,"a":[2]})}
  """

  @enforce_keys [:members]
  defstruct [:members]

  @typedoc "An object: its members in order, with strings or atoms as keys."
  @type t :: %__MODULE__{members: [{String.t() | atom(), term()}]}
end
