defmodule Codex.Format do
  @moduledoc """
  Formats numbers for people: tokens in status lines, exact counts, costs. Independent of the
  locale.
  """

  @units [{1_000, "K"}, {1_000_000, "M"}, {1_000_000_000, "B"}, {1_000_000_000_000, "T"}]

  @doc """
  Formats a count in few characters, for status lines: exact below 1000, otherwise with two
  decimals, rounded half up.

      iex> for n <- [0, 999, 1_000, 1_234, 1_235_000], do: Codex.Format.tokens(n)
      ["0", "999", "1.00K", "1.23K", "1.24M"]

  A number that rounds up to a thousand gets the next unit:

      iex> for n <- [999_994, 999_995, 999_999, 1_000_000], do: Codex.Format.tokens(n)
      ["999.99K", "1.00M", "1.00M", "1.00M"]
      iex> for n <- [999_999_999, 5_000_000_000_000_000, -1_500], do: Codex.Format.tokens(n)
      ["1.00B", "5,000.00T", "-1.50K"]

  nil, for an unknown count, is `"?"`.
  """
  @spec tokens(integer() | nil) :: String.t()
  def tokens(nil), do: "?"
  def tokens(n) when is_integer(n) and n < 0, do: "-" <> tokens(-n)
  def tokens(n) when is_integer(n) and n < 1_000, do: Integer.to_string(n)

  def tokens(n) when is_integer(n) do
    {hundredths, unit} =
      Enum.find_value(@units, fn {size, unit} ->
        hundredths = div(n * 100 + div(size, 2), size)
        if hundredths < 100_000 or unit == "T", do: {hundredths, unit}
      end)

    decimal(hundredths, 2) <> unit
  end

  @doc """
  Formats a count with all its digits, in groups of three.

      iex> for n <- [0, 999, 1_000, 1_234_567, -12_345], do: Codex.Format.exact(n)
      ["0", "999", "1,000", "1,234,567", "-12,345"]
      iex> Codex.Format.exact(1_234_567, " ")
      "1 234 567"
  """
  @spec exact(integer() | nil, String.t()) :: String.t()
  def exact(n, separator \\ ",")
  def exact(nil, _separator), do: "?"
  def exact(n, separator) when is_integer(n) and n < 0, do: "-" <> exact(-n, separator)

  def exact(n, separator) when is_integer(n) and is_binary(separator) do
    digits = Integer.to_string(n)
    {first, rest} = String.split_at(digits, rem(byte_size(digits) + 2, 3) + 1)
    Enum.join([first | for(<<group::binary-3 <- rest>>, do: group)], separator)
  end

  @doc """
  Formats an amount of money: two decimals from one cent on, four below. Only zero is formatted as
  0.

      iex> for amount <- [0, 12.345, 1_234.5, 0.0123, 0.01, 0.00999], do: Codex.Format.cost(amount)
      ["$0.00", "$12.35", "$1,234.50", "$0.01", "$0.01", "$0.0100"]
      iex> for amount <- [0.0042, 0.00004, -0.5], do: Codex.Format.cost(amount)
      ["$0.0042", "<$0.0001", "-$0.50"]
      iex> Codex.Format.cost(3, "€")
      "€3.00"
  """
  @spec cost(number() | nil, String.t()) :: String.t()
  def cost(amount, currency \\ "$")
  def cost(nil, _currency), do: "?"

  def cost(amount, currency) when is_number(amount) and amount < 0,
    do: "-" <> cost(-amount, currency)

  def cost(amount, currency) when is_integer(amount), do: currency <> exact(amount) <> ".00"
  def cost(amount, currency) when is_float(amount) and amount == 0.0, do: currency <> "0.00"

  def cost(amount, currency) when is_float(amount) and amount < 0.00005,
    do: "<" <> currency <> "0.0001"

  def cost(amount, currency) when is_float(amount) and amount < 0.01,
    do: currency <> decimal(round(amount * 10_000), 4)

  def cost(amount, currency) when is_float(amount),
    do: currency <> decimal(round(amount * 100), 2)

  defp decimal(n, places) do
    one = Integer.pow(10, places)
    exact(div(n, one)) <> "." <> String.pad_leading(Integer.to_string(rem(n, one)), places, "0")
  end
end
