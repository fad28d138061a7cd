defmodule Codex.Sessions.ApplyTest do
  use ExUnit.Case, async: true

  alias Codex.Git
  alias Codex.Items.FileChange
  alias Codex.Sessions.{Apply, Changes, Undo}

  @moduletag :tmp_dir
  @timeout 60_000

  # Git's own output: its last newline counts in a diff.
  defp git!(dir, args) do
    case Git.run!(dir, args) do
      "" -> ""
      output -> output <> "\n"
    end
  end

  defp repository(dir, files) do
    git!(dir, ~w(init -q))
    write(dir, files)
    git!(dir, ~w(add .))
    git!(dir, ~w(commit -qm first))
    dir
  end

  defp write(dir, files) do
    for {path, text} <- files do
      file = dir <> "/" <> path
      File.mkdir_p!(Path.dirname(file))
      File.write!(file, text)
    end
  end

  defp tree(dir) do
    for file <- Path.wildcard(dir <> "/**", match_dot: true),
        not String.contains?(file, "/.git/"),
        File.regular?(file),
        into: %{},
        do: {Path.relative_to(file, dir), File.read!(file)}
  end

  defp apply_to(changes, dir, check? \\ false) do
    {:ok, changes} = Changes.read(changes, dir)
    Apply.run(&Changes.diff(changes, &1), dir, check?, @timeout)
  end

  @before %{
    "a.txt" => "alpha\nbeta\n",
    "mv.txt" => "one\ntwo\nthree\n",
    "old.txt" => "to be removed"
  }
  @afterwards %{
    "a.txt" => "ALPHA\nbeta\n",
    "dir/new ü.txt" => "hello\n",
    "empty" => "",
    "moved.txt" => "one\nTWO\nthree\n"
  }

  # The forms of `FileChange` items of the app-server, of rollout files, and of maps.
  defp changes(dir) do
    [
      %FileChange{
        status: :completed,
        changes: [
          %{
            path: dir <> "/a.txt",
            kind: :update,
            diff: "@@ -1,2 +1,2 @@\n-alpha\n+ALPHA\n beta\n"
          },
          %{path: dir <> "/dir/new ü.txt", kind: :add, diff: "hello\n"},
          %{
            path: dir <> "/mv.txt",
            kind: %{"type" => "update", "move_path" => dir <> "/moved.txt"},
            diff: "@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n\n\nMoved to: #{dir}/moved.txt"
          }
        ]
      },
      %{
        "type" => "FileChange",
        "changes" => %{
          (dir <> "/old.txt") => %{"type" => "delete", "content" => "to be removed"},
          (dir <> "/empty") => %{"type" => "add", "content" => ""}
        }
      },
      %FileChange{status: :failed, changes: [%{path: "a.txt", kind: :delete, diff: "x"}]}
    ]
  end

  for {where, sub} <- [{"a repository", ""}, {"a folder of a repository", "/sub"}] do
    test "changes apply in #{where} and are taken back", %{tmp_dir: top} do
      dir = top <> unquote(sub)
      File.mkdir_p!(dir)
      write(dir, @before)
      repository(top, %{"outside" => "x"})
      before = tree(dir)

      assert {:ok, %{success: true, exit_code: 0, method: :three_way}} =
               apply_to(changes(dir), dir, true)

      assert tree(dir) == before
      assert {:ok, %{success: true, method: :three_way}} = apply_to(changes(dir), dir)
      assert Map.drop(tree(dir), ["outside"]) == @afterwards

      {:ok, steps} = Changes.read(changes(dir), dir)
      assert {:ok, done} = Undo.reverse([steps], dir, @timeout)
      assert Enum.sort(done.restored) == ["a.txt", "mv.txt", "old.txt"]
      assert Enum.sort(done.removed_paths) == ["dir/new ü.txt", "empty", "moved.txt"]
      assert tree(dir) == before
      refute File.exists?(dir <> "/dir")
    end
  end

  test "changes apply outside of a repository", %{tmp_dir: dir} do
    dir = outside(dir)
    write(dir, @before)
    assert {:ok, %{success: true, method: :work_tree}} = apply_to(changes(dir), dir)
    assert tree(dir) == @afterwards
  end

  # A folder in no repository, wherever the tests run.
  defp outside(_dir) do
    dir = Path.join(System.tmp_dir!(), "codex-apply-#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    dir
  end

  test "names of any bytes", %{tmp_dir: dir} do
    dir = outside(dir)
    names = [<<"bad ", 0xFF, 0xFE>>, "quote\"back\\slash", "tab\tand\nline", "-n", "a b"]
    changes = for name <- names, do: %{path: name, kind: :add, diff: name <> "\n"}
    assert {:ok, %{paths: paths}} = apply_to(changes, dir)
    assert Enum.sort(paths) == Enum.sort(names)
    for name <- names, do: assert({:ok, name <> "\n"} == :file.read_file(dir <> "/" <> name))

    {:ok, steps} = Changes.read(changes, dir)
    assert {:ok, %{removed_paths: removed}} = Undo.reverse([steps], dir, @timeout)
    assert Enum.sort(removed) == Enum.sort(names)
    assert {:ok, []} = :file.list_dir(dir)
  end

  test "a file with unstaged changes is changed in the work tree alone", %{tmp_dir: dir} do
    repository(dir, @before)
    write(dir, %{"a.txt" => "alpha\nbeta\nmore\n"})
    diff = "@@ -1,2 +1,2 @@\n-alpha\n+ALPHA\n beta\n"

    assert {:ok, %{method: :work_tree}} =
             apply_to([%{path: "a.txt", kind: "update", diff: diff}], dir)

    assert File.read!(dir <> "/a.txt") == "ALPHA\nbeta\nmore\n"
    assert git!(dir, ~w(diff --cached --name-only)) == ""
  end

  test "a merge with conflicts writes nothing", %{tmp_dir: dir} do
    lines = Enum.map_join(1..9, &"#{&1}\n")
    repository(dir, %{"f" => lines})
    write(dir, %{"f" => String.replace(lines, "5", "five")})
    diff = git!(dir, ~w(diff))
    write(dir, %{"f" => String.replace(lines, "5", "FIVE")})
    git!(dir, ~w(commit -qam second))
    before = tree(dir)

    assert {:error, {:apply_failed, %{success: false, stderr: stderr}}} =
             Apply.run(fn _ -> diff end, dir, false, @timeout)

    assert stderr =~ "conflict"
    assert tree(dir) == before
    assert git!(dir, ~w(status --porcelain)) == ""
  end

  test "a merge without conflicts is staged", %{tmp_dir: dir} do
    lines = Enum.map_join(1..20, &"#{&1}\n")
    repository(dir, %{"f" => lines})
    write(dir, %{"f" => String.replace(lines, "5\n6", "five\n6")})
    diff = git!(dir, ~w(diff))
    write(dir, %{"f" => "0\n" <> String.replace(lines, "8", "eight")})
    git!(dir, ~w(commit -qam second))
    assert {:ok, %{method: :three_way}} = Apply.run(fn _ -> diff end, dir, false, @timeout)
    assert File.read!(dir <> "/f") =~ "0\n1\n2\n3\n4\nfive\n6\n7\neight\n"
    assert git!(dir, ~w(diff --cached --name-only)) == "f\n"
  end

  test "nothing outside of the working directory is written", %{tmp_dir: top} do
    repository(top, %{"sub/in" => "in\n", "out" => "out\n"})
    dir = top <> "/sub"

    for path <- ["../out", "/etc/x", top <> "/out", "a/../../out", "..", "", ".", dir] do
      assert {:error, {:invalid_change_path, _}} =
               Changes.read([%{path: path, kind: :add, diff: "x"}], dir)
    end

    write(top, %{"out" => "changed\n", "sub/in" => "changed\n"})
    diff = git!(top, ~w(diff))
    git!(top, ~w(checkout -q .))
    assert {:error, {:outside_cwd, ["out"]}} = Apply.run(fn _ -> diff end, dir, false, @timeout)
    assert File.read!(top <> "/out") == "out\n"
    assert File.read!(dir <> "/in") == "in\n"

    File.ln_s!(top, dir <> "/link")
    change = %{path: "link/new", kind: :add, diff: "x\n"}
    assert {:error, {:unreadable, _, :enotdir}} = apply_to([change], dir)
    refute File.exists?(top <> "/new")

    {:ok, steps} = Changes.read([%{path: "link/out", kind: :add, diff: "out\n"}], dir)
    assert {:error, {:unreadable, _, :enotdir}} = Undo.reverse([steps], dir, @timeout)
    assert File.read!(top <> "/out") == "out\n"
  end

  test "errors name the input", %{tmp_dir: dir} do
    for {input, error} <- [
          {:none, {:invalid_apply_input, :none}},
          {%{}, {:invalid_apply_input, %{}}},
          {%{path: "a", kind: :odd, diff: ""}, :invalid_apply_input},
          {%{path: "a", kind: :update}, :missing_diff}
        ] do
      assert {:error, found} = Changes.read([input], dir)
      assert found == error or elem(found, 0) == error
    end

    assert {:error, :empty_patch} = Apply.run(fn _ -> " \n" end, dir, false, @timeout)
    assert {:error, {:apply_failed, _}} = Apply.run(fn _ -> "no diff" end, dir, false, @timeout)

    assert {:error, {:invalid_working_directory, _}} =
             Apply.run(fn _ -> "x" end, dir <> "/none", false, @timeout)
  end

  describe "undo" do
    test "takes back several turns, the newest first", %{tmp_dir: dir} do
      write(dir, %{"f" => "1\n"})
      first = %{path: "f", kind: :update, diff: "@@ -1 +1 @@\n-1\n+2\n"}
      second = %{path: "f", kind: :update, diff: "@@ -1 +1 @@\n-2\n+3\n"}
      [{:ok, first}, {:ok, second}] = Enum.map([first, second], &Changes.read([&1], dir))
      write(dir, %{"f" => "3\n"})
      assert {:ok, %{restored: ["f"]}} = Undo.reverse([second, first], dir, @timeout)
      assert File.read!(dir <> "/f") == "1\n"
    end

    test "changes nothing if a single file does not fit", %{tmp_dir: dir} do
      write(dir, @before)
      {:ok, _} = apply_to(changes(dir), dir)
      write(dir, %{"a.txt" => "written by somebody else\n"})
      before = tree(dir)
      {:ok, steps} = Changes.read(changes(dir), dir)
      assert {:error, {:undo_conflict, paths, words}} = Undo.reverse([steps], dir, @timeout)
      assert "a.txt" in paths and words =~ "a.txt"
      assert tree(dir) == before
    end

    test "keeps modes, and refuses links and directories", %{tmp_dir: dir} do
      write(dir, %{"run.sh" => "new\n", "target" => "new\n"})
      File.chmod!(dir <> "/run.sh", 0o755)
      diff = "@@ -1 +1 @@\n-old\n+new\n"
      {:ok, steps} = Changes.read([%{path: "run.sh", kind: :update, diff: diff}], dir)
      assert {:ok, _} = Undo.reverse([steps], dir, @timeout)
      assert File.read!(dir <> "/run.sh") == "old\n"
      assert Bitwise.band(File.stat!(dir <> "/run.sh").mode, 0o777) == 0o755

      File.ln_s!("target", dir <> "/link")
      File.mkdir!(dir <> "/folder")

      for path <- ["link", "folder"] do
        {:ok, steps} = Changes.read([%{path: path, kind: :update, diff: diff}], dir)
        assert {:error, _} = Undo.reverse([steps], dir, @timeout)
      end

      assert File.read!(dir <> "/target") == "new\n"
      assert File.read_link!(dir <> "/link") == "target"
    end

    test "puts files back if a later one cannot be written", %{tmp_dir: dir} do
      write(dir, %{"a" => "new\n"})
      # The temporary name beside this one is too long for the file system.
      long = String.duplicate("n", 250)
      write(dir, %{long => "new\n"})

      changes =
        for path <- ["a", long],
            do: %{path: path, kind: :update, diff: "@@ -1 +1 @@\n-old\n+new\n"}

      {:ok, steps} = Changes.read(changes, dir)
      assert {:error, {:write_failed, _, :enametoolong}} = Undo.reverse([steps], dir, @timeout)
      assert tree(dir) == %{"a" => "new\n", long => "new\n"}
    end

    test "by a ghost commit restores the folder alone", %{tmp_dir: top} do
      repository(top, %{"out" => "out\n", "sub/keep" => "keep\n", "sub/gone" => "gone\n"})
      dir = top <> "/sub"
      write(dir, %{"mine ü" => "untracked\n"})
      ghost = ghost(top)
      write(top, %{"out" => "changed\n", "made_outside" => "x"})
      write(dir, %{"keep" => "changed\n", "new ü" => "x", "deep/new" => "x", "mine ü" => "lost"})
      File.rm!(dir <> "/gone")

      assert {:ok, done} = Undo.restore(ghost, dir, @timeout)
      assert Enum.sort(done.removed_paths) == ["deep/new", "new ü"]
      assert Enum.sort(done.restored) == ["gone", "keep", "mine ü"]

      assert tree(dir) == %{"keep" => "keep\n", "gone" => "gone\n", "mine ü" => "untracked\n"}
      assert File.read!(top <> "/out") == "changed\n"
      assert File.read!(top <> "/made_outside") == "x"
      refute File.exists?(dir <> "/deep")
    end

    test "by a ghost commit that is gone is an error", %{tmp_dir: dir} do
      repository(dir, %{"a" => "a"})
      id = String.duplicate("a", 40)
      ghost = %{id: id, untracked_files: [], untracked_dirs: []}
      assert {:error, {:ghost_commit_missing, ^id}} = Undo.restore(ghost, dir, @timeout)
      outside = outside(dir)
      assert {:error, {:not_a_git_repo, 128, _}} = Undo.restore(ghost, outside, @timeout)
    end

    # A snapshot as the CLI made it: everything that is not ignored, in a commit without a name.
    defp ghost(top) do
      untracked = git!(top, ~w(ls-files --others --exclude-standard -z))
      git!(top, ~w(add -A))
      id = git!(top, ~w(write-tree)) |> String.trim()
      commit = git!(top, ["commit-tree", "-m", "snapshot", id]) |> String.trim()
      git!(top, ~w(reset -q))

      %{
        id: commit,
        untracked_files: String.split(untracked, "\0", trim: true),
        untracked_dirs: []
      }
    end
  end

  describe "Codex.Sessions" do
    alias Codex.{Events, Items, Sessions}

    defp turn(dir, old, new) do
      change = %{path: dir <> "/f", kind: :update, diff: "@@ -1 +1 @@\n-#{old}\n+#{new}\n"}

      items = [
        %Items.CommandExecution{id: "1", command: "rm -rf /", status: :completed},
        %FileChange{id: "2", status: :completed, changes: [change]},
        %Items.AgentMessage{id: "3", text: "done"}
      ]

      %Sessions.Turn{
        status: :completed,
        events: for(item <- items, do: %Events.ItemCompleted{item: item})
      }
    end

    test "applies a turn, a result, items and changes", %{tmp_dir: dir} do
      turn = turn("/recorded", 1, 2)
      items = Sessions.Turn.items(turn)
      changes = Enum.at(items, 1).changes
      result = struct!(Codex.Turn.Result, thread: %{}, events: turn.events)

      for input <- [turn, result, turn.events, [Enum.at(items, 1)], changes, hd(changes)] do
        write(dir, %{"f" => "1\n"})

        assert {:ok, %{success: true, paths: [_]}} =
                 Sessions.apply(input, cwd: dir, from: "/recorded", dry_run: true)

        assert File.read!(dir <> "/f") == "1\n"
        assert {:ok, _} = Sessions.apply(input, cwd: dir, from: "/recorded")
        assert File.read!(dir <> "/f") == "2\n"
      end

      assert {:error, {:invalid_change_path, _}} = Sessions.apply(turn, cwd: dir)
      assert {:error, :invalid_apply_input} = Sessions.apply(:none, cwd: dir)
      assert {:error, %Codex.OptionError{key: :cwdd}} = Sessions.apply("x", cwdd: dir)
    end

    test "takes turns back, and names the commands that it cannot take back", %{tmp_dir: dir} do
      write(dir, %{"f" => "3\n"})
      turns = [turn(dir, 1, 2), turn(dir, 2, 3)]
      assert {:ok, done} = Sessions.undo(turns, cwd: dir)
      assert done.restored == ["f"]
      assert [%Items.CommandExecution{}, %Items.CommandExecution{}] = done.not_undone
      assert File.read!(dir <> "/f") == "1\n"
      assert {:error, :invalid_undo_input} = Sessions.undo([], cwd: dir)
      assert {:error, :invalid_undo_input} = Sessions.undo("text", cwd: dir)
      assert {:error, {:undo_conflict, ["f"], _}} = Sessions.undo(hd(turns), cwd: dir)
    end

    test "takes snapshots of every form", %{tmp_dir: dir} do
      repository(dir, %{"f" => "1\n"})
      id = git!(dir, ~w(rev-parse HEAD)) |> String.trim()
      files = %{"preexisting_untracked_files" => ["u"], "preexisting_untracked_dirs" => ["d"]}
      commit = Map.put(files, "id", id)

      for snapshot <- [
            %Items.GhostSnapshot{id: nil, ghost_commit: commit},
            %{"type" => "ghost_snapshot", "ghost_commit" => commit},
            commit,
            %{id: id, preexisting_untracked_files: ["u"], preexisting_untracked_dirs: ["d"]}
          ] do
        write(dir, %{"f" => "2\n", "u" => "kept", "d/x" => "kept", "new" => "x"})
        assert {:ok, done} = Sessions.undo(snapshot, cwd: dir)
        assert %{restored: ["f"], removed_paths: ["new"], not_undone: []} = done
        assert tree(dir) == %{"f" => "1\n", "u" => "kept", "d/x" => "kept"}
      end

      assert {:error, :missing_ghost_commit_id} = Sessions.undo(files, cwd: dir)

      for bad <- ["--upload-pack=x", "HEAD", 5] do
        assert {:error, :invalid_ghost_snapshot} =
                 Sessions.undo(%{commit | "id" => bad}, cwd: dir)
      end
    end
  end
end
