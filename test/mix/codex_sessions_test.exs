defmodule Mix.Tasks.Codex.SessionsTest do
  # Mix.shell/1 belongs to the VM.
  use ExUnit.Case, async: false

  import Codex.Stub, only: [eventually: 1]
  alias Codex.{JSON, SessionLines, SessionStores}
  alias Mix.Tasks.Codex.{Sessions, Usage}

  @moduletag :tmp_dir

  setup do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)
  end

  defp run(task, home, argv) do
    task.run(argv ++ ["--codex-home", home])
    lines([])
  end

  defp lines(lines) do
    receive do
      {:mix_shell, :info, [text]} -> lines([IO.iodata_to_binary(text) | lines])
    after
      0 -> Enum.reverse(lines)
    end
  end

  defp decode(lines), do: for(line <- lines, {:ok, value} = JSON.decode(line), do: value)

  @members ~w(id files archived name title cwd models model_provider originator cli_version source
    git started ended parent generation history_base compactions images lines bad_lines
    salvaged_lines usage)
  @turn ~w(id status model prompt final usage reverted)

  test "list --json has the names and values of the recorded stores", %{tmp_dir: dir} do
    stores = SessionStores.unpack!(dir)
    assert length(stores) == 76

    for {name, home, expected} <- stores do
      listed = run(Sessions, home, ~w(list --json --turns)) |> decode()
      by_id = fn threads -> Enum.sort_by(threads, & &1["id"]) end
      wanted = by_id.(expected["threads"])
      assert Enum.map(by_id.(listed), & &1["id"]) == Enum.map(wanted, & &1["id"]), name

      for {got, wanted} <- Enum.zip(by_id.(listed), wanted) do
        members = Enum.filter(@members, &is_map_key(wanted, &1))
        assert Map.take(got, members) == Map.take(wanted, members), name

        assert length(got["turns"]) == length(wanted["turns"]), name

        for {got, wanted} <- Enum.zip(got["turns"], wanted["turns"]) do
          members = Enum.filter(@turn, &is_map_key(wanted, &1))
          assert Map.take(got, members) == Map.take(wanted, members), name
        end
      end
    end
  end

  test "shows sessions as tables and documents", %{tmp_dir: dir} do
    home = SessionStores.unpack!(dir, "0.171.0/tools")
    assert [table] = run(Sessions, home, ~w(list))
    assert [head, row] = String.split(table, "\n")
    assert head =~ ~r/id +started +in +out +title/
    assert row =~ ~r/01a21974-\S+  2026-11-26 20:03  3.22K +192 +please do the work/
    assert ["There is no such session."] = run(Sessions, home, ~w(list --since 2030-01-01))
    assert [text] = run(Sessions, home, ~w(show 01a21974))
    assert text =~ "# please do the work" and text =~ "### `$ /bin/bash -lc"
    assert [first | _] = run(Sessions, home, ~w(show 01a21974 --json)) |> decode()
    assert first["type"] == "thread.started"

    assert [match] = run(Sessions, home, ["search", "the work"])
    assert match =~ ~r/01a21974-\S+ prompt: please do the work/
    found = run(Sessions, home, ~w(search d[o]ne --regex --part answer --json)) |> decode()
    assert [%{"part" => "answer", "text" => "done"}] = found

    for {file, begins} <- [{"s.html", "<!doctype html>"}, {"s.md", "# "}, {"s.json", "{"}] do
      to = Path.join(dir, file)
      assert ["Wrote " <> ^to] = run(Sessions, home, ["export", "01a21974", "--to", to])
      assert String.starts_with?(File.read!(to), begins)
      assert Bitwise.band(File.stat!(to).mode, 0o777) == 0o600
    end
  end

  test "follows a session until it is deleted", %{tmp_dir: home} do
    path = SessionLines.write!(home, SessionLines.whole())

    tail = Task.async(fn -> Sessions.run(tail(home) ++ ["--json"]) end)
    lines = lines_to([], ~s("turn.completed"))
    assert [%{"type" => "thread.started"} | _] = decode(lines)
    File.write!(path, SessionLines.answer("more `text`"), [:append])
    assert [%{"type" => "item.completed"}] = decode(lines_to([], "more `text`"))
    File.rm!(path)
    Task.await(tail)
  end

  test "shows a session as it grows, like a run", %{tmp_dir: home} do
    path = SessionLines.write!(home, SessionLines.whole())
    {:ok, device} = StringIO.open("")

    tail =
      Task.async(fn ->
        Process.group_leader(self(), device)
        Sessions.run(tail(home))
      end)

    assert eventually(fn -> contents(device) =~ "1 out\n" end)

    assert contents(device) =~
             ~r/\A\nturn \S+\n> hello\nturn completed\n10 tokens in \(0 cached\), 1 out\n\z/

    File.write!(path, SessionLines.answer("more `text` \e[2J"), [:append])
    assert eventually(fn -> contents(device) =~ "1 out\nmore `text` \n" end)
    File.rm!(path)
    Task.await(tail)
    refute contents(device) =~ "\e"
  end

  defp tail(home), do: ["tail", SessionLines.id(), "--from", "start", "--codex-home", home]
  defp contents(device), do: device |> StringIO.contents() |> elem(1)

  # The lines of another process, up to the first one with these words.
  defp lines_to(lines, words) do
    receive do
      {:mix_shell, :info, [text]} ->
        text = IO.iodata_to_binary(text)
        if text =~ words, do: Enum.reverse([text | lines]), else: lines_to([text | lines], words)
    after
      30_000 -> flunk("no #{words} in #{inspect(lines)}")
    end
  end

  test "moves sessions, and takes turns back", %{tmp_dir: dir} do
    home = SessionStores.unpack!(dir, "0.171.0/patches")
    assert [line] = run(Sessions, home, ~w(archive 01a21989))
    assert line =~ ~r{^sessions/\S+ -> archived_sessions/}
    assert [%{"archived" => true}] = run(Sessions, home, ~w(list --json)) |> decode()
    assert [_] = run(Sessions, home, ~w(unarchive 01a21989))

    # The recorded changes, as the turn left the files.
    work = Path.join(dir, "work")
    File.mkdir_p!(work <> "/dir")

    left = %{
      "a.txt" => "ALPHA\nbeta\n",
      "dir/new.txt" => "hello\n",
      "moved.txt" => "one\nTWO\nthree\n"
    }

    for {path, text} <- left, do: File.write!(Path.join(work, path), text)
    turn = "01a21989-f407-7c91-89db-56dc44aca81c"
    lines = run(Sessions, home, ["undo", "01a21989", "--turn", turn, "--cwd", work])
    assert "restored a.txt" in lines and "removed dir/new.txt" in lines
    assert File.read!(work <> "/a.txt") == "alpha\nbeta\n"
    assert File.read!(work <> "/old.txt") == "to be removed\n"
    assert File.read!(work <> "/mv.txt") == "one\ntwo\nthree\n"
    refute File.exists?(work <> "/moved.txt")

    assert [_] = run(Sessions, home, ~w(delete 01a21989))
    assert run(Sessions, home, ~w(list --json)) == []
  end

  test "sums up tokens", %{tmp_dir: dir} do
    home = SessionStores.unpack!(dir, "0.171.0/fork2")
    rows = run(Usage, home, ~w(--scope thread --json)) |> decode()
    {[total], rows} = Enum.split_with(rows, & &1["total"])
    assert total["usage"]["input_tokens"] == 8_036
    assert Enum.sum(for(row <- rows, do: row["usage"]["input_tokens"])) == 8_036

    assert [table] = run(Usage, home, ~w(--by model))
    assert table =~ ~r/mock-large +\S+ +8,036/
    assert table =~ ~r/total +\S+ +8,036/
  end

  test "errors name the argument", %{tmp_dir: dir} do
    for {task, argv, words} <- [
          {Sessions, [], "usage: mix codex.sessions list|"},
          {Sessions, ["lst"], ~s(there is no command "lst")},
          {Sessions, ["list", "--limt", "3"], "unknown or incomplete option --limt"},
          {Sessions, ["show", "nothing"], "no recorded thread"},
          {Sessions, ["tail", "nothing"], "no recorded thread"},
          {Sessions, ["search", "(", "--regex"], "the regular expression is invalid"},
          {Sessions, ["export", "x", "--format", "pdf"], ~s(got: "pdf")},
          {Usage, ["--by", "week"], ~s(expected --by day|model|cwd, got: "week")}
        ] do
      assert_raise Mix.Error, ~r/#{Regex.escape(words)}/, fn ->
        task.run(argv ++ ["--codex-home", dir])
      end
    end
  end
end
