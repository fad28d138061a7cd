defmodule Mix.Tasks.Codex.ArgumentsTest do
  # Wrong arguments end every task in one way.
  use ExUnit.Case, async: true

  @tasks ~w(attach batch chat config doctor exec features login logout mcp report script) ++
           ~w(sessions status tui usage)

  # The commands that have switches of their own.
  @commands %{"mcp" => ["list"], "sessions" => ["list"]}

  test "the list is complete" do
    # These print lists.
    others = ~w(errors events options)
    files = Path.wildcard("lib/mix/tasks/codex.*.ex")
    names = for file <- files, do: file |> Path.basename(".ex") |> String.trim_leading("codex.")
    assert Enum.sort(names) == Enum.sort(@tasks ++ others)
  end

  for task <- @tasks do
    test "mix codex.#{task} ends with the status 2 and its usage" do
      argv = Map.get(@commands, unquote(task), []) ++ ["--no-such-switch\e[31m"]
      error = assert_raise Mix.Error, fn -> Mix.Task.rerun("codex.#{unquote(task)}", argv) end
      assert error.mix == 2
      assert error.message =~ "unknown or incomplete option --no-such-switch"
      assert error.message =~ "usage: mix codex.#{unquote(task)}"
      refute error.message =~ "\e"
    end
  end
end
