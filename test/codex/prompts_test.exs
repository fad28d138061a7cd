defmodule Codex.PromptsTest do
  use ExUnit.Case, async: true

  alias Codex.Prompts

  doctest Codex.Prompts
  doctest Codex.Prompts.Words

  @moduletag :tmp_dir

  test "lists regular Markdown files with their front matter", %{tmp_dir: dir} do
    File.write!(
      Path.join(dir, "b.MD"),
      "---\ndescription: \"Say: hi\"\nargument-hint: 'F=f'\n---\nHi $F\n"
    )

    File.write!(Path.join(dir, "a.md"), "---\ndescription: open\nHi\n")
    File.write!(Path.join(dir, "crlf.md"), "---\r\nargument_hint: x\r\n---\r\nbody\r\n")
    File.write!(Path.join(dir, "bad.md"), <<255>>)
    File.write!(Path.join(dir, "c.txt"), "no")
    File.write!(Path.join(dir, "left.md"), "out")
    File.mkdir_p!(Path.join(dir, "folder.md"))

    assert {:ok, [a, b, crlf]} = Prompts.list(dir: dir, exclude: ["left"])
    assert %{name: "a", content: "---\ndescription: open\nHi\n", description: nil} = a
    assert %{name: "b", description: "Say: hi", argument_hint: "F=f", content: "Hi $F\n"} = b
    assert b.path == Path.join(dir, "b.MD")
    assert %{argument_hint: "x", content: "body\n"} = crlf
    assert Prompts.expand(b, "F='a b'") == {:ok, "Hi a b\n"}
    assert Prompts.list(dir: Path.join(dir, "none")) == {:ok, []}
    assert Prompts.list(dir: Path.join(dir, "a.md")) == {:error, :enotdir}

    File.mkdir_p!(Path.join(dir, "prompts"))
    File.write!(Path.join(dir, "prompts/mine.md"), "text")
    assert {:ok, [%{name: "mine"}]} = Prompts.list(codex_home: dir)
  end

  test "named arguments" do
    assert Prompts.expand("$A $1 $ARGUMENTS $$B", A: 1) == {:ok, "1 $1 $ARGUMENTS $$B"}
    assert Prompts.expand("$A-$B_1", %{"A" => "$B_1", "B_1" => "x"}) == {:ok, "$B_1-x"}
    assert Prompts.expand("$A", ["A=b=c"]) == {:ok, "b=c"}
    assert {:error, %{missing: ["A", "B"], type: :missing_args}} = Prompts.expand("$A $B $A")

    for args <- ["A", "=x", ["A=1", "b"], %{A: [1]}, 7, "A='x"] do
      assert {:error, %{type: :invalid_args, message: <<_, _::binary>>}} =
               Prompts.expand("$A", args)
    end
  end

  test "positional arguments" do
    assert Prompts.expand("$1,$2,$9,$$1,$ARGUMENTS,$a", ["x", "y z"]) ==
             {:ok, "x,y z,,$$1,x y z,$a"}

    assert Prompts.expand("$ARGUMENTS") == {:ok, ""}
    assert Prompts.expand("$1", "\"ä ö\"") == {:ok, "ä ö"}

    for args <- ["\"x", "'", ["a", 1], %{"a" => 1}] do
      assert {:error, %{type: :invalid_args}} = Prompts.expand("$1", args)
    end
  end
end
