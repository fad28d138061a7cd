defmodule Codex.CredoTest do
  # The settings of credo, and the task of that name for machines without credo.
  use ExUnit.Case, async: true

  @root Path.expand("..", __DIR__)

  test "credo checks the files that are formatted, except recorded data" do
    {%{configs: [%{files: files}]}, _} = Code.eval_file(Path.join(@root, ".credo.exs"))
    {formatter, _} = Code.eval_file(Path.join(@root, ".formatter.exs"))

    checked =
      files.included
      |> Enum.map(&if(&1 =~ ~r"/$", do: &1 <> "**/*.{ex,exs}", else: &1))
      |> found()

    formatted = found(formatter[:inputs])
    excluded = Enum.filter(formatted, fn file -> Enum.any?(files.excluded, &(file =~ &1)) end)

    assert Enum.sort(checked -- excluded) == Enum.sort(formatted -- excluded)
    assert "lib/codex.ex" in checked and "mix.exs" in checked
  end

  defp found(patterns) do
    patterns
    |> Enum.flat_map(&Path.wildcard(Path.join(@root, &1), match_dot: true))
    |> Enum.map(&Path.relative_to(&1, @root))
    |> Enum.uniq()
  end

  unless File.dir?(Path.join(@root, "deps/credo")) do
    test "without credo, the task fails with one line that tells how to get credo" do
      error = assert_raise Mix.Error, fn -> Mix.Task.run("credo", ["--strict"]) end
      assert error.message =~ ~r/\Acredo is not installed, .*`mix deps.get`.*\z/
    end
  end
end
