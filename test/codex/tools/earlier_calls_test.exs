defmodule Codex.Tools.EarlierCallsTest do
  # Calls of tools as applications of version 0.4.5 write them. Not async: names are those of the
  # tools.
  use ExUnit.Case, async: false

  alias Codex.Tools

  alias Codex.Tools.{
    ApplyPatchTool,
    ComputerTool,
    FileSearchTool,
    ShellTool,
    VectorStoreSearchTool
  }

  setup do
    Tools.Registry.reset!()
    {:ok, file} = Codex.FileSystem.hand_over(System.tmp_dir!(), "foo.ex", "defmodule Foo do\n")
    on_exit(&Tools.Registry.reset!/0)
    on_exit(fn -> File.rm_rf!(Path.dirname(file)) end)
    %{dir: Path.dirname(file)}
  end

  defmodule MathTool do
    use Codex.Tool, name: "math_tool", description: "adds two numbers"

    @impl true
    def invoke(%{"x" => x, "y" => y}, _context), do: {:ok, %{"sum" => x + y}}
  end

  defmodule Add do
    use Codex.FunctionTool,
      name: "add",
      description: "Adds numbers",
      parameters: %{left: :number, right: :number},
      handler: fn %{"left" => left, "right" => right}, _ctx ->
        {:ok, %{"sum" => left + right}}
      end
  end

  test "a tool without a schema, and a function tool" do
    {:ok, _handle} = Codex.Tools.register(MathTool)
    assert Codex.Tools.invoke("math_tool", %{"x" => 4, "y" => 5}, %{}) == {:ok, %{"sum" => 9}}
    {:ok, _handle} = Codex.Tools.register(Add)
    assert Codex.Tools.invoke("add", %{"left" => 4, "right" => 5}, %{}) == {:ok, %{"sum" => 9}}
    assert %{"add" => %{success: 1, failure: 0}} = Codex.Tools.metrics()
  end

  test "the shell with an approval" do
    approval = fn cmd, _ctx ->
      if String.contains?(cmd, "rm"), do: {:deny, "rm not allowed"}, else: :ok
    end

    {:ok, _} = Tools.register(ShellTool, approval: approval)

    assert {:error, {:approval_denied, "rm not allowed"}} =
             Tools.invoke("shell", %{"command" => ["rm", "file"]}, %{})

    assert {:ok, %{"output" => "/tmp\n", "exit_code" => 0, "success" => true}} =
             Tools.invoke("shell", %{"command" => ["pwd"], "workdir" => "/tmp"}, %{})

    assert {:ok, %{"output" => "/tmp\n"}} =
             Tools.invoke("container.exec", %{"command" => "pwd", "cwd" => "/tmp"}, %{})
  end

  test "the shell with an executor" do
    custom_executor = fn %{"command" => cmd}, _ctx, _meta ->
      formatted = if is_list(cmd), do: Enum.join(cmd, " "), else: cmd
      {:ok, %{"output" => "custom: #{formatted}", "exit_code" => 0}}
    end

    {:ok, _} = Tools.register(ShellTool, executor: custom_executor)

    assert Tools.invoke("shell", %{"command" => ["ls", "-la"]}, %{}) ==
             {:ok, %{"output" => "custom: ls -la", "exit_code" => 0}}
  end

  test "the search for files", %{dir: dir} do
    {:ok, _} = Tools.register(FileSearchTool, base_path: dir)

    assert Tools.invoke("file_search", %{"pattern" => "**/*.ex"}, %{}) ==
             {:ok, %{"count" => 1, "files" => [%{"path" => "foo.ex"}]}}

    args = %{"pattern" => "**/*.ex", "content" => "DEFMODULE", "case_sensitive" => false}

    assert {:ok, %{"files" => [%{"matches" => [%{"line" => 1, "text" => "defmodule Foo do"}]}]}} =
             Tools.invoke("file_search", args, %{})

    args = %{"pattern" => "*.ex", "base_path" => dir}
    assert {:ok, %{"count" => 1}} = FileSearchTool.invoke(args, %{})
  end

  test "callbacks, and a patch", %{dir: dir} do
    searcher = fn args, _ctx, _meta -> {:ok, %{results: [%{text: args["query"]}]}} end
    opts = [searcher: searcher, vector_store_ids: ["vs_123"]]
    {:ok, _} = Codex.Tools.register(VectorStoreSearchTool, opts)

    assert Codex.Tools.invoke("vector_store_search", %{"query" => "q"}, %{}) ==
             {:ok, %{results: [%{text: "q"}]}}

    {:ok, _} = Codex.Tools.register(ComputerTool)

    assert Codex.Tools.invoke("computer", %{"action" => "click"}, %{}) ==
             {:error, {:missing_callback, :executor}}

    {:ok, _} =
      Codex.Tools.register(ApplyPatchTool, base_path: dir, approval: fn _changes -> :allow end)

    patch = "*** Begin Patch\n*** Update File: foo.ex\n@@\n-defmodule Foo do\n+x\n*** End Patch"
    assert {:ok, %{"applied" => 1}} = Codex.Tools.invoke("apply_patch", %{"patch" => patch}, %{})
    assert File.read!(Path.join(dir, "foo.ex")) == "x\n"
  end
end
