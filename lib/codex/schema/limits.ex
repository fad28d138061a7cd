defmodule Codex.Schema.Limits do
  @moduledoc false
  # The keywords of a JSON schema that limit a single value. Each applies to values of its own type
  # and allows all others; so does a keyword with an invalid value, and an unknown format.

  @doc """
  Returns nil if a value keeps a limit, else the rule in words.

      iex> Codex.Schema.Limits.broken("multipleOf", 0.1, 0.3)
      nil
      iex> Codex.Schema.Limits.broken("minLength", 2, "a")
      "must have at least 2 characters"
  """
  @spec broken(String.t(), term(), term()) :: String.t() | nil
  def broken("minimum", n, value) when is_number(n) and is_number(value),
    do: unless(value >= n, do: "must be at least #{n}")

  def broken("maximum", n, value) when is_number(n) and is_number(value),
    do: unless(value <= n, do: "must be at most #{n}")

  def broken("exclusiveMinimum", n, value) when is_number(n) and is_number(value),
    do: unless(value > n, do: "must be more than #{n}")

  def broken("exclusiveMaximum", n, value) when is_number(n) and is_number(value),
    do: unless(value < n, do: "must be less than #{n}")

  def broken("multipleOf", n, value) when is_number(n) and n > 0 and is_number(value),
    do: unless(multiple?(decimal(value), decimal(n)), do: "must be a multiple of #{n}")

  def broken("minLength", n, value) when is_integer(n) and is_binary(value),
    do: unless(characters(value) >= n, do: "must have at least #{n} characters")

  def broken("maxLength", n, value) when is_integer(n) and is_binary(value),
    do: unless(characters(value) <= n, do: "must have at most #{n} characters")

  def broken("minItems", n, value) when is_integer(n) and is_list(value),
    do: unless(length(value) >= n, do: "must have at least #{n} items")

  def broken("maxItems", n, value) when is_integer(n) and is_list(value),
    do: unless(length(value) <= n, do: "must have at most #{n} items")

  def broken("uniqueItems", true, value) when is_list(value) do
    values = Enum.map(value, &plain/1)
    unless length(Enum.uniq(values)) == length(values), do: "must not have an item twice"
  end

  # A pattern that Elixir cannot compile allows everything.
  def broken("pattern", pattern, value) when is_binary(pattern) and is_binary(value) do
    with true <- String.valid?(value), {:ok, regex} <- Regex.compile(pattern, "u") do
      unless Regex.match?(regex, value), do: "must match #{pattern}"
    else
      {:error, _} -> nil
      false -> "must be UTF-8"
    end
  end

  def broken("format", format, value) when is_binary(value),
    do: unless(format?(format, value), do: "must have the format #{format}")

  def broken(_keyword, _rule, _value), do: nil

  # JSON Schema counts code points.
  defp characters(text), do: text |> String.codepoints() |> length()

  # JSON has one type of numbers: 1 and 1.0 are the same.
  defp plain(n) when is_float(n), do: if(trunc(n) == n, do: trunc(n), else: n)
  defp plain(list) when is_list(list), do: Enum.map(list, &plain/1)
  defp plain(%{} = map), do: Map.new(map, fn {name, value} -> {name, plain(value)} end)
  defp plain(value), do: value

  # A number as it is written, `{integer, exponent of ten}`: 0.3 is a multiple of 0.1.
  defp decimal(n) when is_integer(n), do: {n, 0}

  defp decimal(n) do
    {mantissa, exponent} =
      case n |> Float.to_string() |> String.split("e") do
        [mantissa] -> {mantissa, 0}
        [mantissa, exponent] -> {mantissa, String.to_integer(exponent)}
      end

    [whole, part] = String.split(mantissa, ".")
    {String.to_integer(whole <> part), exponent - byte_size(part)}
  end

  defp multiple?({value, a}, {n, b}) do
    least = min(a, b)
    rem(value * Integer.pow(10, a - least), n * Integer.pow(10, b - least)) == 0
  end

  ## Formats

  defp format?("date-time", text), do: match?({:ok, _, _}, DateTime.from_iso8601(text))
  defp format?("date", text), do: match?({:ok, _}, Date.from_iso8601(text))

  defp format?("time", text) do
    case Regex.run(~r/\A(.+?)(?:[Zz]|[+-]\d\d:\d\d)?\z/, text) do
      [_, time] -> match?({:ok, _}, Time.from_iso8601(time))
      nil -> false
    end
  end

  defp format?("duration", text) do
    text =~ ~r/\AP(?!\z)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?!\z)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?)\z/
  end

  defp format?("email", text), do: text =~ ~r/\A[^\s@]+@[^\s@]+\z/

  defp format?("hostname", text) do
    label = "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    byte_size(text) <= 253 and text =~ ~r/\A#{label}(\.#{label})*\z/
  end

  defp format?("ipv4", text), do: address?(:ipv4_address, text)
  defp format?("ipv6", text), do: address?(:ipv6_address, text)
  defp format?("uuid", text), do: text =~ ~r/\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z/i

  defp format?("uri", text) do
    match?({:ok, %URI{scheme: scheme}} when is_binary(scheme), URI.new(text))
  end

  defp format?(_format, _text), do: true

  # `:inet` takes characters below 256.
  defp address?(kind, text) do
    text =~ ~r/\A[0-9a-fA-F.:]+\z/ and parsed?(kind, String.to_charlist(text))
  end

  defp parsed?(:ipv4_address, chars), do: match?({:ok, _}, :inet.parse_ipv4strict_address(chars))
  defp parsed?(:ipv6_address, chars), do: match?({:ok, _}, :inet.parse_ipv6strict_address(chars))
end
