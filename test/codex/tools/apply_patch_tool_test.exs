defmodule Codex.Tools.ApplyPatchToolTest do
  use ExUnit.Case, async: true

  alias Codex.Tools.{ApplyPatchTool, Call, Toolset}

  doctest ApplyPatchTool

  setup do
    {:ok, root} = Codex.FileSystem.hand_over(System.tmp_dir!(), "a.txt", "alpha\nbeta\n")
    root = Path.dirname(root)
    on_exit(fn -> File.rm_rf!(root) end)
    %{root: root}
  end

  @patch """
  *** Begin Patch
  *** Update File: a.txt
  @@ alpha
  -beta
  +B
  *** Add File: d/n.txt
  +new
  *** End Patch
  """

  defp invoke(args, root, options \\ []) do
    metadata = Map.merge(%{base_path: root}, Map.new(options))
    ApplyPatchTool.invoke(args, %{metadata: metadata, tag: :context})
  end

  defp text(root, name \\ "a.txt"), do: File.read!(Path.join(root, name))
  defp allow(_changes), do: :allow

  test "a patch is denied without an approval, and nothing is written", %{root: root} do
    assert invoke(%{"input" => @patch}, root) == {:error, {:approval_denied, :no_approval}}
    assert text(root) == "alpha\nbeta\n"
    assert File.ls!(root) == ["a.txt"]
  end

  test "an approval sees the changes, and decides", %{root: root} do
    test = self()

    approval = fn changes, context, metadata ->
      send(test, {changes, context.tag, metadata.base_path})
      {:deny, :later}
    end

    assert invoke(%{"input" => @patch}, root, approval: approval) ==
             {:error, {:approval_denied, :later}}

    assert_received {[update, add], :context, ^root}
    assert update == %{path: "a.txt", kind: :update, hunk_count: 1, additions: 1, deletions: 1}
    assert add == %{path: "d/n.txt", kind: :add, hunk_count: 0, additions: 1, deletions: 0}

    assert invoke(%{"input" => @patch}, root, approval: fn _ -> :perhaps end) ==
             {:error, {:invalid_approval_response, :perhaps}}

    assert text(root) == "alpha\nbeta\n"

    assert {:ok, %{"applied" => 2, "validated" => 2, "files" => [first, second]}} =
             invoke(%{"patch" => @patch}, root, approval: &allow/1)

    assert first == %{"path" => Path.join(root, "a.txt"), "kind" => "update"}
    assert second == %{"path" => Path.join(root, "d/n.txt"), "kind" => "add"}
    assert {text(root), text(root, "d/n.txt")} == {"alpha\nB\n", "new\n"}
  end

  defmodule Reviewer do
    def review_patch([%{path: "a.txt"} | _], _context), do: :allow
  end

  test "a module approves, and a file moves", %{root: root} do
    patch =
      "*** Begin Patch\n*** Update File: a.txt\n*** Move to: b\n@@\n-beta\n+B\n*** End Patch"

    assert {:ok, %{"files" => [%{"move_path" => path}]}} =
             invoke(%{"input" => patch}, root, approval: Reviewer)

    assert path == Path.join(root, "b")
    assert File.ls!(root) == ["b"]
  end

  test "a dry run writes nothing and needs no approval", %{root: root} do
    assert {:ok, %{"applied" => 0, "validated" => 2, "files" => [%{"dry_run" => true} | _]}} =
             invoke(%{"input" => @patch}, root, dry_run: true)

    assert text(root) == "alpha\nbeta\n"
  end

  test "a diff applies only where its context matches", %{root: root} do
    diff = "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n alpha\n-beta\n+B\n"
    assert {:ok, _} = invoke(%{"input" => diff}, root, approval: &allow/1)
    assert text(root) == "alpha\nB\n"

    assert {:error, {"a.txt", {:context_mismatch, words}}} =
             invoke(%{"input" => diff}, root, approval: &allow/1)

    assert words =~ "alpha\nbeta"
    assert text(root) == "alpha\nB\n"
  end

  test "paths stay in the base directory", %{root: root} do
    add = fn path -> "*** Begin Patch\n*** Add File: #{path}\n+x\n*** End Patch" end
    run = fn args -> invoke(args, root, approval: &allow/1) end
    outside = root <> "_outside"
    File.mkdir_p!(outside)
    on_exit(fn -> File.rm_rf!(outside) end)
    File.ln_s!(outside, Path.join(root, "link"))

    for {path, reason} <- [
          {"/tmp/x", :absolute_path_not_allowed},
          {"../x", :path_traversal},
          {"d/../x", :path_traversal},
          {"link/x", :path_traversal}
        ] do
      assert run.(%{"input" => add.(path)}) == {:error, {path, reason}}
    end

    assert run.(%{"input" => add.("x"), "base_path" => "../#{Path.basename(outside)}"}) ==
             {:error, {"../#{Path.basename(outside)}/x", :path_traversal}}

    assert run.(%{"input" => add.("x"), "base_path" => outside}) ==
             {:error, {:invalid_argument, :base_path}}

    assert File.ls!(outside) == []
    assert {:ok, _} = run.(%{"input" => add.("x"), "base_path" => "sub"})
    assert text(root, "sub/x") == "x\n"
  end

  test "wrong arguments", %{root: root} do
    assert invoke(%{}, root) == {:error, {:missing_argument, :patch}}
    assert invoke(%{"input" => 1}, root) == {:error, {:invalid_argument, :patch}}
    assert {:error, {:empty_patch, _}} = invoke(%{"input" => " \n"}, root)
    empty = "*** Begin Patch\n*** End Patch"
    assert {:error, {:empty_patch, _}} = invoke(%{"input" => empty}, root)
    assert {:error, {:parse_error, words}} = invoke(%{"input" => "nonsense"}, root)
    assert words =~ "The first line of the patch must be"
  end

  test "the model sees why a patch is refused", %{root: root} do
    {:ok, [tool]} = Toolset.new([{ApplyPatchTool, name: "patch", base_path: root}])
    call = fn text -> Call.answer(tool, %{"input" => text}, %{}) end

    assert {:error, "apply_patch verification failed: gone: no such file or directory"} =
             call.("*** Begin Patch\n*** Delete File: gone\n*** End Patch")

    assert {:error, "the patch was denied; nothing was written"} = call.(@patch)
  end

  test "hunks of a diff and of a patch apply to a text" do
    diff = "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n 1\n-2\n+two\n"
    assert {:ok, [%{kind: :update, hunks: hunks}]} = ApplyPatchTool.parse_patch(diff)
    assert ApplyPatchTool.apply_hunks("1\n2\n", hunks) == {:ok, "1\ntwo\n"}
    assert {:error, {:context_mismatch, _}} = ApplyPatchTool.apply_hunks("0\n2\n", hunks)
    assert ApplyPatchTool.apply_hunks(<<255>>, hunks) == {:error, :not_text}
  end

  test "a caller that is gone gets nothing written", %{root: root} do
    test = self()

    approval = fn _changes ->
      send(test, {:asked, self()})
      Process.sleep(:infinity)
    end

    {pid, ref} = spawn_monitor(fn -> invoke(%{"input" => @patch}, root, approval: approval) end)
    assert_receive {:asked, ^pid}, 5_000
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, :process, ^pid, :killed}, 5_000
    assert text(root) == "alpha\nbeta\n"
  end
end
