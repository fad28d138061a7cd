defmodule Codex.Surface.FlagsTest do
  use ExUnit.Case, async: true

  alias Codex.Surface.{Flags, Json, Overlay}

  doctest Codex.Surface.Flags
  doctest Codex.Surface.Json

  @flags Flags.file() |> File.read!() |> Flags.decode!()

  test "every flag has an option or a reason, and every option and reason a flag" do
    assert Flags.unmatched(@flags) == []
  end

  test "an unknown flag, and an option and a reason without a flag, are lines" do
    {_color, without} = pop_in(@flags, ["exec", "--color"])
    {_stdio, without} = pop_in(without, ["app-server", "--stdio"])
    flags = put_in(without, ["exec fork", "--new"], %{})

    assert Flags.unmatched(flags) == [
             {"flags of app-server --stdio", "is in dev/cli/overlay.json, and the CLI lacks it"},
             {"flags of exec --color", "is sent by [:color], and the CLI lacks it"},
             {"flags of exec fork --new", "has no option, and dev/cli/overlay.json no reason"}
           ]
  end

  test "reasons name functions that exist" do
    for {command, reasons} <- Overlay.of("flags"),
        is_map(reasons),
        {flag, reason} <- reasons,
        [_, module, name, arity] <- Regex.scan(~r/(Codex[\w.]*)\.([a-z_]+)\/(\d)/, reason) do
      module = Module.concat([module])
      assert Code.ensure_loaded?(module), "#{command} #{flag}"

      assert function_exported?(module, String.to_atom(name), String.to_integer(arity)),
             "#{command} #{flag}: #{reason}"
    end
  end

  test "the data is written as it is read" do
    assert Flags.encode(@flags) == File.read!(Flags.file())
    nested = %{"a" => Enum.to_list(1..60), "b" => %{"é" => [nil, 1.5, "\n"]}, "" => []}
    assert nested |> Json.write() |> Json.read!() == nested

    assert_raise ArgumentError, ~r/expected a JSON object, got: \[1\]/, fn ->
      Json.read!("[1]")
    end
  end
end
