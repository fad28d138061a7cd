defmodule Codex.FormatTest do
  use ExUnit.Case, async: true
  doctest Codex.Format

  test "a short count is never off by more than half of its last digit, and never shows four digits before the unit" do
    for exponent <- 4..14,
        step <- -6..6,
        n = Integer.pow(10, exponent) + step * Integer.pow(10, exponent - 3) do
      text = Codex.Format.tokens(n)
      [_, whole, decimals, unit] = Regex.run(~r/^(\d{1,3})\.(\d\d)([KMBT])$/, text)

      size =
        %{"K" => 1_000, "M" => 1_000_000, "B" => 1_000_000_000, "T" => 1_000_000_000_000}[unit]

      shown = div(String.to_integer(whole <> decimals) * size, 100)
      assert abs(shown - n) * 200 <= size, "#{n} is shown as #{text}"
    end
  end

  test "an exact count keeps all digits" do
    for n <- [
          0,
          7,
          10,
          99,
          100,
          999,
          1_000,
          10_000,
          100_000,
          999_999,
          1_000_000,
          12_345_678_901_234
        ] do
      text = Codex.Format.exact(n)
      assert text |> String.replace(",", "") |> String.to_integer() == n
      assert text =~ ~r/^\d{1,3}(,\d{3})*$/
    end
  end

  test "what is not known is a question mark" do
    assert {"?", "?", "?"} ==
             {Codex.Format.tokens(nil), Codex.Format.exact(nil), Codex.Format.cost(nil)}
  end
end
