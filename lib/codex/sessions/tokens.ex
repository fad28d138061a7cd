defmodule Codex.Sessions.Tokens do
  @moduledoc false
  # Tokens as the native part sends them: `{input, cached, cache_write, output, reasoning}`.

  @type t ::
          {non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer(),
           non_neg_integer()}

  @zero {0, 0, 0, 0, 0}

  @doc "Returns no tokens."
  @spec zero() :: t()
  def zero, do: @zero

  @doc "Adds tokens."
  @spec add(t(), t()) :: t()
  def add({a, b, c, d, e}, {f, g, h, i, j}), do: {a + f, b + g, c + h, d + i, e + j}

  @doc "Adds the tokens of cells."
  @spec sum([tuple()]) :: t()
  def sum(cells), do: Enum.reduce(cells, @zero, fn cell, sum -> add(sum, elem(cell, 4)) end)

  @doc "Returns tokens as a map with the names of the CLI."
  @spec to_map(t()) :: Codex.Sessions.Session.usage()
  def to_map({input, cached, cache_write, output, reasoning}) do
    %{
      "input_tokens" => input,
      "cached_input_tokens" => cached,
      "cache_write_input_tokens" => cache_write,
      "output_tokens" => output,
      "reasoning_output_tokens" => reasoning
    }
  end
end
