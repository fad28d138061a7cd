defmodule Codex.Test.StepsTest do
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  doctest Codex.Test.Steps, import: true

  test "an unknown option is named, with the nearest known one" do
    assert_raise Codex.OptionError,
                 ~r/unknown option :workdirr; did you mean :workdir\?/,
                 fn ->
                   shell("ls", workdirr: "/")
                 end

    assert_raise Codex.OptionError,
                 ~r/unknown option :inputtokens; did you mean :input_tokens\?/,
                 fn ->
                   respond([], usage: %{inputtokens: 1})
                 end
  end

  test "an invalid item, plan step, header or piece is named" do
    for {build, text} <- [
          {fn -> respond([:hello]) end, ~r/an item or a string, got: :hello/},
          {fn -> respond("hello") end, ~r/a list of items, got: "hello"/},
          {fn -> update_plan([{"a", :done}]) end, ~r/got: {"a", :done}/},
          {fn -> http_error(500, "", %{"a" => "b\r\nc: d"}) end, ~r/line break in a header/},
          {fn -> http_error(500, "", ["a"]) end, ~r/pair {name, value}, got: a string/},
          {fn -> raw([1]) end, ~r/got: 1/},
          {fn -> cut([], after: -1) end, ~r/got: -1/},
          {fn -> json(%{a: {1}}) end, ~r/cannot write \{1\} as JSON/}
        ] do
      assert_raise ArgumentError, text, build
    end
  end

  test "invalid options are errors" do
    for {build, text} <- [
          {fn -> message("a", deltas: "a") end, ~r/:deltas must be a list of strings, got: "a"/},
          {fn -> respond([], delay_ms: -1) end, ~r/:delay_ms must be 0 or .*, got: -1/},
          {fn -> respond([], usage: %{input_tokens: "1"}) end, ~r/:input_tokens must be 0 or/}
        ] do
      assert_raise Codex.OptionError, text, build
    end
  end
end
