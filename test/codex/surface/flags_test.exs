defmodule Codex.Surface.FlagsTest do
  use ExUnit.Case, async: true

  alias Codex.CLI.Commands
  alias Codex.Surface.{Flags, Json, Overlay}

  doctest Codex.Surface.Flags
  doctest Codex.Surface.Json

  @flags Flags.file() |> File.read!() |> Flags.decode!()

  test "every command has a function or a reason, every flag an option or a reason" do
    assert Flags.unmatched(@flags) == []
  end

  test "an unknown flag, and an option and a reason without a flag, are lines" do
    {_color, without} = pop_in(@flags, ["exec", "--color"])
    {_stdio, without} = pop_in(without, ["app-server", "--stdio"])
    {_pretty, without} = pop_in(without, ["execpolicy check", "--pretty"])
    flags = put_in(without, ["exec fork", "--new"], %{})
    flags = put_in(flags, ["cloud list", "--new"], %{})
    flags = put_in(flags, ["resume", "--new"], %{})

    assert Flags.unmatched(flags) == [
             {"flags of app-server --stdio", "has a reason, and the CLI lacks it"},
             {"flags of cloud list --new", "has no option, and dev/cli/overlay.json no reason"},
             {"flags of exec --color", "is sent by [:color], and the CLI lacks it"},
             {"flags of exec fork --new", "has no option, and dev/cli/overlay.json no reason"},
             {"flags of execpolicy check --pretty", "has a reason, and the CLI lacks it"},
             {"flags of resume --new", "has no option, and dev/cli/overlay.json no reason"}
           ]
  end

  test "an unknown command, and a function and a reason without a command, are lines" do
    flags = @flags |> Map.drop(["completion", "review"]) |> Map.put("new", %{"--a" => %{}})

    assert Flags.unmatched(flags) == [
             {"command completion", "has a function, and the CLI lacks it"},
             {"command new", "has no function, and dev/cli/overlay.json no reason"},
             {"command review", "is in dev/cli/overlay.json, without need"},
             {"flags of new --a", "has no option, and dev/cli/overlay.json no reason"}
           ]
  end

  test "reasons name functions that exist" do
    refused = for row <- Commands.all(), row.refuse, do: {row.command, row.refuse}

    omitted = for row <- Commands.all(), {flags, why} <- row.without, do: {hd(flags), why}

    named =
      Map.new(refused ++ omitted)
      |> Map.merge(Overlay.of("commands"))
      |> Map.put("*", Enum.join(for(row <- Commands.all(), row[:doc], do: row.doc)))

    for {command, reasons} <- Map.put(Overlay.of("flags"), "commands", named),
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
