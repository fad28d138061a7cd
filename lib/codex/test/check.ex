defmodule Codex.Test.Check do
  @moduledoc false
  # Checks the arguments of the test kit when a script is made. Errors show the value and the
  # expected value.

  alias Codex.OptionError
  alias Codex.Options.{Schema, Type}

  @counts ~w(delay_ms delta_delay_ms input_tokens cached_input_tokens)a ++
            ~w(cache_write_input_tokens output_tokens reasoning_output_tokens)a
  @types Map.merge(Map.new(@counts, &{&1, :count}), %{deltas: {:list, :text}})

  @doc "Raises `Codex.OptionError` for options that are no keyword list, or invalid."
  @spec keys!(keyword(), [atom()]) :: :ok
  def keys!(opts, known) do
    if Keyword.keyword?(opts),
      do: members!(opts, known),
      else: raise(OptionError.not_options(opts))
  end

  @doc "Raises `Codex.OptionError` for an invalid keyword list or map."
  @spec members!(keyword() | map(), [atom()]) :: :ok
  def members!(opts, known) do
    rows = for name <- known, do: {name, Map.get(@types, name, :any), ""}
    _ = rows |> Schema.new() |> Schema.validate!(opts)
    :ok
  end

  @doc "Converts response headers to pairs of strings."
  @spec headers!(Codex.Test.Steps.headers()) :: [{String.t(), String.t()}]
  def headers!(headers) when is_map(headers) or is_list(headers) do
    Enum.map(headers, fn
      {name, value} ->
        {text!(name), text!(value)}

      other ->
        raise ArgumentError, "a header is a pair {name, value}, got: #{Type.kind(other)}"
    end)
  end

  def headers!(other),
    do: raise(ArgumentError, "headers are a map or a list of pairs, got: #{Type.kind(other)}")

  # A line break would end the header and begin another.
  defp text!(value) when is_binary(value) or is_atom(value) or is_number(value) do
    text = to_string(value)

    if text =~ ~r/[\r\n\0]/,
      do: raise(ArgumentError, "a line break in a header: #{inspect(text)}")

    text
  end

  defp text!(other),
    do:
      raise(
        ArgumentError,
        "a header is made of strings and numbers, got: #{Type.kind(other)}"
      )
end
