defmodule Codex.TextTest do
  use ExUnit.Case, async: true

  alias Codex.Text

  doctest Codex.Text

  describe "printable/1" do
    test "removes the escape sequences of terminals, in both spellings" do
      for {sequence, n} <-
            Enum.with_index([
              "\e[1;31m",
              "\e[2J",
              "\e[?25l",
              "\e[38:2::1:2:3m",
              "\e]0;title\a",
              "\e]8;;http://example.com\e\\",
              "\e]52;c;aGk=\u009C",
              "\eP+q544e\e\\",
              "\e_apc\e\\",
              "\e^pm\e\\",
              "\eXsos\e\\",
              "\ec",
              "\e(B",
              "\e#8",
              "\e7",
              "\u009B31m",
              "\u009D0;title\a",
              "\u0090q\u009C"
            ]) do
        assert {n, Text.printable("a#{sequence}b")} == {n, "ab"}
      end
    end

    test "keeps the words of a sequence without an end" do
      assert Text.printable("a\e]0;words") == "a\uFFFD]0;words"
      assert Text.printable("a\e[31") == "a\uFFFD[31"
      assert Text.printable("a\e") == "a\uFFFD"
      assert Text.printable("\e]0;a\nb\a") == "\uFFFD]0;a\nb\uFFFD"
      assert Text.printable("\u009Bé") == "\uFFFDé"
    end

    test "leaves no control character, no reordering and no invalid byte" do
      odd =
        Enum.concat([0..0x1F, [0x7F], 0x80..0x9F, 0x202A..0x202E, 0x2066..0x2069]) ++
          [0x061C, 0x200E, 0x200F, 0x2028, 0x2029]

      for char <- odd, char not in [?\n, ?\t, ?\r] do
        assert Text.printable(<<"a", char::utf8>>) == "a\uFFFD"
        assert Text.line(<<"a", char::utf8>>) == "a\uFFFD"
      end

      for byte <- 0x80..0xFF, do: assert(Text.printable(<<"a", byte, "b">>) == "a\uFFFDb")
    end

    test "keeps what people write" do
      text = "a\tb\nc — “ü” 👩‍💻 שלום 日本\u00A0é"
      assert Text.printable(text) == text
      assert Text.line(text) == String.replace(text, "\n", " ")
      assert Text.printable("10%\r20%\r\n") == "10%\n20%\n"
    end

    test "is linear" do
      for piece <- ["\e]0;", "\u009D0;", "\e[", "\u009B1", "\xFF", "\r", "\e"] do
        text = String.duplicate(piece, div(2_000_000, byte_size(piece)))
        assert text |> Text.printable() |> String.valid?()
      end
    end
  end

  test "json/1 escapes what JSON leaves raw" do
    for text <- ["\u009B31m", "\u202Ea", "\u007F", "a\u2028b", "plain é"] do
      json = text |> Codex.JSON.encode!() |> Text.json()
      assert Text.printable(json) == json
      assert Codex.JSON.decode(json) == {:ok, text}
    end
  end
end
