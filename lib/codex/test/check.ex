defmodule Codex.Test.Check do
  @moduledoc false
  # Checks the arguments of the test kit when a script is made. Errors show the value and the
  # expected value.

  alias Codex.Options.Keywords

  @counts [
    :delay_ms,
    :delta_delay_ms,
    :input_tokens,
    :cached_input_tokens,
    :cache_write_input_tokens,
    :output_tokens,
    :reasoning_output_tokens
  ]

  @doc "Raises for an unknown key, with the nearest known key, and for an invalid value."
  @spec keys!(keyword(), [atom()], String.t()) :: :ok
  def keys!(opts, known, place) do
    unless Keyword.keyword?(opts),
      do: raise(ArgumentError, "#{place}: expected options, got: #{Keywords.shown(opts)}")

    members!(opts, known, place)
  end

  @doc "Checks a keyword list or a map like `keys!/3`."
  @spec members!(keyword() | map(), [atom()], String.t()) :: :ok
  def members!(opts, known, place) do
    unless Keyword.keyword?(opts) or (is_map(opts) and not is_struct(opts)),
      do: raise(ArgumentError, "#{place}: expected options, got: #{Keywords.shown(opts)}")

    Enum.each(opts, fn {key, value} ->
      unless key in known, do: raise(ArgumentError, unknown(key, known, place))

      with {:expected, expected} <- value(key, value) do
        raise ArgumentError,
              "#{place}: #{inspect(key)} is #{expected}, got: #{Keywords.shown(value)}"
      end
    end)
  end

  defp value(key, n) when key in @counts and not (is_integer(n) and n >= 0),
    do: {:expected, "0 or more"}

  defp value(:deltas, deltas) do
    if is_list(deltas) and Enum.all?(deltas, &is_binary/1),
      do: :ok,
      else: {:expected, "a list of strings"}
  end

  defp value(_key, _value), do: :ok

  defp unknown(key, known, place) do
    error = Codex.OptionError.new(:unknown, [key], nearest: Codex.DidYouMean.nearest(key, known))
    "#{place}: #{Exception.message(error)}"
  end

  @doc "Converts response headers to pairs of strings."
  @spec headers!(Codex.Test.Steps.headers()) :: [{String.t(), String.t()}]
  def headers!(headers) when is_map(headers) or is_list(headers) do
    Enum.map(headers, fn
      {name, value} ->
        {text!(name), text!(value)}

      other ->
        raise ArgumentError, "a header is a pair {name, value}, got: #{Keywords.shown(other)}"
    end)
  end

  def headers!(other),
    do:
      raise(ArgumentError, "headers are a map or a list of pairs, got: #{Keywords.shown(other)}")

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
        "a header is made of strings and numbers, got: #{Keywords.shown(other)}"
      )
end
