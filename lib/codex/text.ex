defmodule Codex.Text do
  @moduledoc """
  Text from outside: from the CLI, a server, a model, a file or a user.

  Such text can hold escape sequences that drive a terminal, or a line break that forges a line of
  a log. The messages of errors, the log lines and the Mix tasks of this package are printable
  already. Events, items, results and the fields of errors other than `message` are data and stay
  raw: make their texts printable before you print or log them.

      IO.puts(Codex.Text.printable(result.final_response.text))
  """

  @replacement "\uFFFD"

  # The bytes of an escape sequence that `split/1` waits for, and the ends of open ones.
  @longest_sequence 4_096
  @ends ["m", "\a", "\\"]

  # Controls of writing direction: they reorder the text around them. Line and paragraph separators.
  defguardp reorders(char)
            when char in [0x061C, 0x200E, 0x200F, 0x2028, 0x2029] or char in 0x202A..0x202E or
                   char in 0x2066..0x2069

  defguardp control(char) when char < 0x20 or char in 0x7F..0x9F

  @doc false
  # Replaces invalid UTF-8 with U+FFFD.
  @spec utf8(binary()) :: String.t()
  def utf8(bytes) do
    if String.valid?(bytes) do
      bytes
    else
      bytes
      |> String.chunk(:valid)
      |> Enum.map_join(&if(String.valid?(&1), do: &1, else: @replacement))
    end
  end

  @doc """
  Makes text safe for terminals and logs. Line breaks and tabs stay.

  Escape sequences of terminals (colours, titles, links, cursor movements) are removed. Other
  control characters, controls of writing direction and invalid UTF-8 become U+FFFD each. `\\r\\n`
  and a single `\\r` become `\\n`.

      iex> Codex.Text.printable("\\e[31mred\\e[0m\\e]0;title\\a\\r\\nnext\\tline")
      "red\\nnext\\tline"
      iex> Codex.Text.printable("a\\0b\\u202Ec\\xFF")
      "a\\uFFFDb\\uFFFDc\\uFFFD"
  """
  @spec printable(binary()) :: String.t()
  def printable(text) when is_binary(text) do
    text = utf8(text)
    if plain?(text), do: text, else: clean(text, "")
  end

  defp plain?(<<char::utf8, rest::binary>>), do: plain?(char) and plain?(rest)
  defp plain?(""), do: true
  defp plain?(char) when char in [?\n, ?\t], do: true
  defp plain?(char), do: not (control(char) or reorders(char))

  @doc """
  Makes text safe for one line: as `printable/1`, with a space for each line break.

      iex> Codex.Text.line("broken\\r\\n2026-01-01 [error] forged\\e[2J")
      "broken 2026-01-01 [error] forged"
  """
  @spec line(binary()) :: String.t()
  def line(text) when is_binary(text), do: text |> printable() |> String.replace("\n", " ")

  @doc false
  # Splits a text that goes on, and may be cut anywhere: the first part can be made printable now.
  # The rest is the beginning of a character, a line break or an escape sequence. A sequence that is
  # longer than the limit is not waited for.
  @spec split(binary()) :: {binary(), binary()}
  def split(bytes) do
    {text, character} = :erlang.split_binary(bytes, byte_size(bytes) - cut_character(bytes))
    text = utf8(text)
    {before, last} = :erlang.split_binary(text, max(byte_size(text) - @longest_sequence, 0))
    at = open_sequence(last, byte_size(before))
    {ready, sequence} = :erlang.split_binary(text, at)
    {ready, sequence <> character}
  end

  # How many bytes at the end begin a character that is not complete.
  defp cut_character(bytes) do
    Enum.find(3..1//-1, 0, fn n ->
      size = byte_size(bytes) - n
      size >= 0 and begins?(:binary.at(bytes, size), n)
    end)
  end

  defp begins?(byte, n) when byte in 0xC2..0xDF, do: n < 2
  defp begins?(byte, n) when byte in 0xE0..0xEF, do: n < 3
  defp begins?(byte, n) when byte in 0xF0..0xF4, do: n < 4
  defp begins?(_byte, _n), do: false

  # The place of the first sequence that more text can complete, or the size of the text.
  defp open_sequence("\r", at), do: at
  defp open_sequence("", at), do: at
  defp open_sequence(<<?\e, rest::binary>>, at), do: open_sequence(?\e, rest, rest, at)

  defp open_sequence(<<0xC2, c1, rest::binary>>, at),
    do: open_sequence(c1, rest, <<c1, rest::binary>>, at)

  defp open_sequence(<<_, rest::binary>>, at), do: open_sequence(rest, at + 1)

  defp open_sequence(char, rest, next, at) do
    if sequence(char, rest) == nil and Enum.any?(@ends, &complete?(char, rest <> &1)),
      do: at,
      else: open_sequence(next, at + 1)
  end

  defp complete?(char, text), do: sequence(char, text) == byte_size(text)

  @doc false
  # Escapes the characters that JSON leaves raw and a terminal must not get. The value is the same.
  @spec json(String.t()) :: String.t()
  def json(json), do: for(<<char::utf8 <- json>>, into: "", do: member(char))

  defp member(char) when (control(char) and char not in [?\n, ?\t]) or reorders(char),
    do: "\\u" <> (char |> Integer.to_string(16) |> String.pad_leading(4, "0"))

  defp member(char), do: <<char::utf8>>

  defp clean("", done), do: done
  defp clean(<<"\r\n", rest::binary>>, done), do: clean(rest, done <> "\n")
  defp clean(<<"\r", rest::binary>>, done), do: clean(rest, done <> "\n")

  defp clean(<<char::utf8, rest::binary>>, done) do
    cond do
      plain?(char) -> clean(rest, <<done::binary, char::utf8>>)
      size = sequence(char, rest) -> clean(drop(rest, size), done)
      true -> clean(rest, done <> @replacement)
    end
  end

  defp drop(text, size), do: binary_part(text, size, byte_size(text) - size)

  # How many bytes after this character belong to its escape sequence; nil if it begins none.
  defp sequence(?\e, rest), do: escape(rest)
  # ESC and the letter in one character: C1.
  defp sequence(0x9B, rest), do: csi(rest, 0)
  defp sequence(char, rest) when char in [0x90, 0x98, 0x9D, 0x9E, 0x9F], do: string(rest, 0)
  defp sequence(_char, _rest), do: nil

  # The length of an escape sequence without its ESC, or nil.
  defp escape(<<?[, rest::binary>>), do: csi(rest, 1)
  # Text for the terminal (title, link, clipboard, …), up to BEL or ST.
  defp escape(<<char, rest::binary>>) when char in [?], ?P, ?X, ?^, ?_], do: string(rest, 1)
  defp escape(<<char, rest::binary>>) when char in 0x20..0x2F, do: escape_more(rest, 2)
  defp escape(<<char, _::binary>>) when char in 0x30..0x7E, do: 1
  defp escape(_rest), do: nil

  defp escape_more(<<char, rest::binary>>, n) when char in 0x20..0x2F,
    do: escape_more(rest, n + 1)

  defp escape_more(<<char, _::binary>>, n) when char in 0x30..0x7E, do: n
  defp escape_more(_rest, _n), do: nil

  defp csi(<<char, rest::binary>>, n) when char in 0x20..0x3F, do: csi(rest, n + 1)
  defp csi(<<char, _::binary>>, n) when char in 0x40..0x7E, do: n + 1
  defp csi(_rest, _n), do: nil

  defp string(<<?\a, _::binary>>, n), do: n + 1
  defp string(<<"\e\\", _::binary>>, n), do: n + 2
  defp string(<<0x9C::utf8, _::binary>>, n), do: n + 2

  defp string(<<char::utf8, rest::binary>>, n) when not control(char),
    do: string(rest, n + byte_size(<<char::utf8>>))

  # Without an end, the words stay.
  defp string(_rest, _n), do: nil
end
