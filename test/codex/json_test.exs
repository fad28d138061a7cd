defmodule Codex.JSONTest do
  use ExUnit.Case, async: true
  doctest Codex.JSON
  doctest Codex.JSON.Object

  alias Codex.JSON

  describe "encode/1" do
    test "scalars" do
      assert JSON.encode(nil) == {:ok, "null"}
      assert JSON.encode(true) == {:ok, "true"}
      assert JSON.encode(false) == {:ok, "false"}
      assert JSON.encode(:atom) == {:ok, ~S("atom")}
      assert JSON.encode(-12) == {:ok, "-12"}

      assert JSON.encode(123_456_789_012_345_678_901_234_567_890) ==
               {:ok, "123456789012345678901234567890"}
    end

    test "floats are the shortest text that reads back the same" do
      for {float, text} <- [
            {0.1, "0.1"},
            {1.0, "1.0"},
            {1.0e22, "1.0e22"},
            {5.0e-324, "5.0e-324"}
          ] do
        assert JSON.encode(float) == {:ok, text}
        assert JSON.decode(text) == {:ok, float}
      end
    end

    test "containers" do
      assert JSON.encode([]) == {:ok, "[]"}
      assert JSON.encode(%{}) == {:ok, "{}"}
      assert JSON.encode([[], %{}, [1, [2]]]) == {:ok, "[[],{},[1,[2]]]"}
      assert JSON.encode(%{a: %{"b" => []}}) == {:ok, ~S({"a":{"b":[]}})}
    end

    test "strings: every byte below 0x80, and above" do
      for byte <- 0..0x7F do
        assert {:ok, json} = JSON.encode(<<"x", byte, "y">>)
        assert JSON.decode(json) == {:ok, <<"x", byte, "y">>}
        refute json =~ ~r/[\x00-\x1f]/
      end

      text = "é߿ࠀ\u2028�𐀀\u{10FFFF}\"\\/\n"
      assert {:ok, json} = JSON.encode(text)
      assert JSON.decode(json) == {:ok, text}
      assert JSON.encode(~s(\b\f\n\r\t"\\)) == {:ok, ~S("\u0008\u000C\n\r\t\"\\")}
    end

    test "keys are escaped, too" do
      assert JSON.encode(%{"a\"b" => 1}) == {:ok, ~S({"a\"b":1})}
    end

    test "a term without a JSON form is named with its path" do
      refute_encodes = fn term, value, path ->
        assert JSON.encode(term) == {:error, {:not_encodable, value, path}}
      end

      refute_encodes.({1, 2}, {1, 2}, [])
      refute_encodes.([a: 1], {:a, 1}, [0])
      refute_encodes.(%{a: [0, %{"b" => self()}]}, self(), [:a, 1, "b"])
      refute_encodes.(%{a: 1..2}, 1..2, [:a])
      refute_encodes.(%{a: %{1 => 2}}, 1, [:a])
      refute_encodes.([1 | 2], [1 | 2], [])
      refute_encodes.(%{k: <<"a", 0xFF>>}, <<"a", 0xFF>>, [:k])
      refute_encodes.(<<1::3>>, <<1::3>>, [])
      # a surrogate, an overlong form, a character cut in two
      for bad <- [<<0xED, 0xA0, 0x80>>, <<0xC0, 0x80>>, <<0xE2, 0x82>>],
          do: refute_encodes.([bad], bad, [0])
    end

    test "the exception names the term and the reason" do
      for {term, text} <- [
            {%{a: <<0xFF>>}, "not valid UTF-8"},
            {%{1 => 2}, "object keys are strings or atoms"},
            {[1 | 2], "improper list"},
            {%{a: 1..2}, "structs"},
            {fn -> 1 end, "only maps, lists"}
          ] do
        assert_raise ArgumentError, ~r/#{text}/, fn -> JSON.encode!(term) end
      end
    end
  end

  test "an encoded term decodes to the same term" do
    :rand.seed(:exsss, {1, 2, 3})

    for _ <- 1..300 do
      term = random(4)
      assert {:ok, json} = JSON.encode(term)
      assert JSON.decode(json) == {:ok, term}
    end
  end

  defp random(0), do: Enum.random([nil, true, -7, 1.5e-9, "", "é\n\"", 2 ** 80])

  defp random(depth) do
    case :rand.uniform(3) do
      1 -> random(0)
      2 -> for _ <- 1..:rand.uniform(4), do: random(depth - 1)
      3 -> for n <- 1..:rand.uniform(4), into: %{}, do: {"k#{n}\t", random(depth - 1)}
    end
  end

  describe "decode/1" do
    test "rejects text that is not JSON" do
      for {bad, fault} <- [
            {"", :eof},
            {"{", :eof},
            {"nul", :syntax},
            {"[1,]", :syntax},
            {~S({"a":1}x), :trailing},
            {"\"\n\"", :control},
            {~S("\x"), :escape},
            {"01", :number},
            {"1e999", :number_range},
            {String.duplicate("[", 300), :depth},
            {<<?", 0xFF, ?">>, :utf8}
          ] do
        assert {:error, {^fault, offset}} = JSON.decode(bad)
        assert offset in 0..byte_size(bad)
      end
    end

    test "takes the last of two equal keys" do
      assert JSON.decode(~S({"a":1,"a":2})) == {:ok, %{"a" => 2}}
    end

    test "takes documents of any size" do
      for size <- [65_533, 65_534, 65_535, 1_000_000] do
        text = String.duplicate("é", div(size, 2)) <> String.duplicate("x", rem(size, 2))
        assert JSON.decode(JSON.encode!(text)) == {:ok, text}
      end
    end
  end
end
