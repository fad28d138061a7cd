defmodule Codex.Surface.ShapesTest do
  use ExUnit.Case, async: true

  # The whole of a CLI is read, which takes long on a loaded machine.
  @moduletag timeout: 600_000

  alias Codex.Surface.{Diff, Program, Shapes}
  alias Codex.Surface.Shapes.Runs

  doctest Shapes

  defp stored, do: "dev/cli/shapes.json" |> File.read!() |> Shapes.decode!()

  defp lines(old, new),
    do: Enum.map(Diff.changes(Shapes.tree(old), Shapes.tree(new)), &Diff.line/1)

  test "the data has every kind of item of exec and every request that a turn causes" do
    kinds = Map.keys(stored())

    items =
      ~w(agent_message command_execution error file_change mcp_tool_call reasoning) ++
        ~w(todo_list web_search)

    assert for("exec item " <> item <- kinds, do: item) |> Enum.sort() == items

    assert for("request " <> method <- kinds, do: method) |> Enum.sort() == [
             "item/commandExecution/requestApproval",
             "item/fileChange/requestApproval",
             "item/permissions/requestApproval",
             "item/tool/call",
             "item/tool/requestUserInput",
             "mcpServer/elicitation/request"
           ]
  end

  test "keys that are an id or a path are the same in all runs" do
    one = Shapes.of([{"k", %{"0199d4f4-8c3a-7bd1-9c2b-3a6d5e1f0a11" => 1, "/tmp/a" => true}}])
    two = Shapes.of([{"k", %{"0199d4f4-8c3a-7bd1-9c2b-3a6d5e1f0a12" => 2, "/tmp/b" => true}}])
    assert one == %{"k" => %{"<id>" => "number", "<path>" => "boolean"}}
    assert two == one
  end

  @tag :tmp_dir
  test "a program that writes no events is an error with its output", %{tmp_dir: dir} do
    for {command, words} <- [
          {"echo 9.9.9 nope", ~r/wrote a line that is no event: .*9\.9\.9 nope/},
          {"test $1 = --version && echo 9.9.9 || { echo kaput >&2; exit 1; }", ~r/failed: kaput/}
        ] do
      path = Path.join(dir, "codex")
      File.write!(path, "#!/bin/sh\n#{command}\n")
      File.chmod!(path, 0o755)
      assert {:error, text} = Program.open(Path.expand(path), &Runs.messages/1)
      assert text =~ words
    end
  end

  @tag :codex_cli
  @tag :cli_pin
  test "runs of the pinned CLI differ from changed data by one line for each change" do
    {:ok, codex} = Codex.Test.codex_path()
    {:ok, messages} = Program.open(codex, &Runs.messages/1)
    seen = Shapes.of(messages)
    stored = stored()
    assert lines(stored, Shapes.update(stored, seen)) == []

    doctored =
      stored
      |> Map.put("item teleport", %{"id" => "string"})
      |> Map.delete("exec item todo_list")
      |> put_in(["exec event turn.started", "gone"], "string")
      |> put_in(["exec event turn.started", "rare?"], "string")
      |> update_in(["item fileChange"], &Map.delete(&1, "changes[].kind.move_path?"))
      |> put_in(["item plan", "text"], "null")

    assert lines(doctored, Shapes.update(doctored, seen)) == [
             "- shape of exec event turn.started.gone string",
             "+ shape of exec item todo_list id items items[] items[].completed items[].text type",
             "+ shape of item fileChange.changes[].kind.move_path? null|string",
             "~ shape of item plan.text null is now null|string",
             "- shape of item teleport id"
           ]
  end
end
