defmodule Codex.Home.LogsTest do
  use ExUnit.Case, async: true
  alias Codex.Home

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    log = Path.join(dir, "log")
    File.mkdir_p!(log)
    %{path: Path.join(log, "codex-tui.log"), home: dir}
  end

  test "lists the log files, the last changed first", %{home: home, path: path} do
    assert Home.log_files(home) == {:ok, []}
    File.write!(path, "one\n")
    File.touch!(path, 1_700_000_000)
    older = path <> ".1"
    File.write!(older, "")
    File.touch!(older, 1_600_000_000)
    assert {:ok, [%{path: ^path, size: 4}, %{path: ^older, size: 0}]} = Home.log_files(home)
    assert Home.log_files(Path.join(home, "none")) == {:ok, []}
  end

  # A process that sends each line; returns when it follows the file.
  defp follow(path, opts) do
    test = self()

    start_supervised!(
      {Task,
       fn ->
         path |> Home.tail_log([poll_ms: 5] ++ opts) |> Enum.each(&send(test, {:line, &1}))
       end}
    )
  end

  defp line do
    receive do
      {:line, line} -> line
    after
      30_000 -> flunk("no line")
    end
  end

  test "follows a file from its start, over rotation and truncation", %{path: path} do
    assert_raise ArgumentError, ~r/codex-tui.log/, fn ->
      path |> Home.tail_log() |> Enum.take(1)
    end

    File.write!(path, "one\ntw")
    follow(path, from: :start)
    assert line() == "one"
    File.write!(path, "o \e[31mred\e[0m\n", [:append])
    assert line() == "two red"

    File.rename!(path, path <> ".1")
    File.write!(path, "three\nfour, which is longer\n")
    assert line() == "three"
    assert line() == "four, which is longer"
    File.write!(path, "5\n")
    assert line() == "5"
  end

  test "cuts long lines into pieces, and refuses wrong options", %{path: path} do
    File.write!(path, [String.duplicate("a", 200_000), "\nlast\n"])
    pieces = path |> Home.tail_log(from: :start) |> Enum.take_while(&(&1 != "last"))
    assert length(pieces) > 1
    assert IO.iodata_length(pieces) == 200_000
    assert_raise Codex.OptionError, ~r/:from/, fn -> Home.tail_log(path, from: :middle) end
  end
end
