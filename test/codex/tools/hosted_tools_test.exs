defmodule Codex.Tools.HostedToolsTest do
  use ExUnit.Case, async: true

  alias Codex.{ToolOutput, Tools}

  alias Codex.Tools.{
    CodeInterpreterTool,
    ComputerTool,
    FileSearchTool,
    HostedMcpTool,
    ImageGenerationTool,
    ShellTool,
    VectorStoreSearchTool,
    ViewImageTool,
    WebSearchTool
  }

  @png Base.decode64!(
         "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
       )

  setup do
    {:ok, path} = Codex.FileSystem.hand_over(System.tmp_dir!(), "dot.png", @png)
    root = Path.dirname(path)
    outside = root <> "_outside"
    File.mkdir_p!(outside)
    File.write!(Path.join(outside, "secret.png"), @png)
    on_exit(fn -> for dir <- [root, outside], do: File.rm_rf!(dir) end)
    %{root: root, outside: outside}
  end

  defp options(options), do: %{metadata: Map.new(options)}

  describe "view_image" do
    test "returns a text and an image", %{root: root} do
      assert {:ok, [%ToolOutput.Text{text: text}, %ToolOutput.Image{url: url}]} =
               ViewImageTool.invoke(%{"path" => "dot.png"}, options(base_path: root))

      assert text =~ "dot.png"
      assert url == "data:image/png;base64," <> Base.encode64(@png)
      absolute = %{"path" => Path.join(root, "dot.png")}
      assert {:ok, [_, _]} = ViewImageTool.invoke(absolute, %{})
      thread = %{thread_opts: %{working_directory: root}}

      assert {:ok, [_, _]} =
               ViewImageTool.invoke(%{"path" => "dot.png"}, %{thread: thread, event: %{}})
    end

    test "keeps a model in the directory", %{root: root, outside: outside} do
      File.ln_s!(outside, Path.join(root, "link"))
      base = Path.basename(outside)
      thread = %{thread_opts: %{working_directory: root}}

      for path <- ["../#{base}/secret.png", Path.join(outside, "secret.png"), "link/secret.png"],
          context <- [options(base_path: root), %{thread: thread, event: %{}}] do
        assert ViewImageTool.invoke(%{"path" => path}, context) == {:error, :path_traversal}
      end
    end

    test "errors", %{root: root} do
      view = &ViewImageTool.invoke(&1, options(base_path: root))
      assert view.(%{}) == {:error, {:invalid_argument, :path}}
      assert view.(%{"path" => 1}) == {:error, {:invalid_argument, :path}}
      assert view.(%{"path" => "gone.png"}) == {:error, {:invalid_image_path, :enoent}}

      assert view.(%{"path" => "."}) ==
               {:error, {:invalid_image_path, {:not_regular, :directory}}}

      File.write!(Path.join(root, "a.txt"), "text")
      assert view.(%{"path" => "a.txt"}) == {:error, {:unsupported_image_type, ".txt"}}
    end
  end

  describe "file_search" do
    setup %{root: root} do
      for {path, text} <- [
            {"lib/a.ex", "def run\ndef stop\n"},
            {"lib/b/c.ex", "run\nRUN\n"},
            {"notes.md", "def"},
            {".hidden.ex", "def run"}
          ] do
        File.mkdir_p!(Path.dirname(Path.join(root, path)))
        File.write!(Path.join(root, path), text)
      end

      :ok
    end

    defp search(root, args, opts \\ []),
      do: FileSearchTool.invoke(args, options([base_path: root] ++ opts))

    defp paths({:ok, %{"files" => files}}), do: Enum.map(files, & &1["path"])

    test "finds files by their paths", %{root: root} do
      assert search(root, %{"pattern" => "**/*.ex"}) ==
               {:ok,
                %{
                  "count" => 2,
                  "files" => [
                    %{"path" => "lib/a.ex"},
                    %{"path" => "lib/b/c.ex"}
                  ]
                }}

      assert paths(search(root, %{"pattern" => "*.ex"}, include_hidden: true)) == [".hidden.ex"]
      assert paths(search(root, %{"pattern" => "*.ex", "base_path" => "lib"})) == ["a.ex"]
    end

    test "finds lines", %{root: root} do
      assert search(root, %{"pattern" => "**/*.{ex,md}", "content" => "^def (\\w+)"}) ==
               {:ok,
                %{
                  "count" => 1,
                  "files" => [
                    %{
                      "path" => "lib/a.ex",
                      "matches" => [
                        %{"line" => 1, "text" => "def run"},
                        %{"line" => 2, "text" => "def stop"}
                      ]
                    }
                  ]
                }}

      run = %{"pattern" => "lib/**", "content" => "RUN"}
      assert paths(search(root, run)) == ["lib/b/c.ex"]
      any = ["lib/a.ex", "lib/b/c.ex"]
      assert paths(search(root, Map.put(run, "case_sensitive", false))) == any
      assert paths(search(root, run, case_sensitive: false)) == any
    end

    test "has limits", %{root: root} do
      all = %{"pattern" => "**"}
      assert {:ok, %{"count" => 1, "truncated" => true}} = search(root, all, max_results: 1)
      more = Map.put(all, "max_results", 3)
      assert {:ok, %{"count" => 1}} = search(root, more, max_results: 1)
      assert {:ok, %{"count" => 3, "truncated" => true}} = search(root, more)
      assert search(root, all, timeout_ms: 0) == {:error, :timeout}
    end

    test "errors", %{root: root, outside: outside} do
      assert search(root, %{}) == {:error, {:missing_argument, :pattern}}
      assert search(root, %{"pattern" => 1}) == {:error, {:invalid_argument, :pattern}}
      assert search(root, %{"pattern" => <<255>>}) == {:error, {:invalid_argument, :pattern}}
      assert {:error, {:glob_error, _}} = search(root, %{"pattern" => "{a"})
      assert {:error, {:regex_error, _}} = search(root, %{"pattern" => "*", "content" => "("})
      odd = %{"pattern" => "*", "max_results" => 0}
      assert search(root, odd) == {:error, {:invalid_argument, :max_results}}

      for base <- ["..", outside, "../#{Path.basename(outside)}"] do
        args = %{"pattern" => "*", "base_path" => base}
        assert search(root, args) == {:error, :path_traversal}
      end

      args = %{"pattern" => "*", "base_path" => "gone"}
      assert search(root, args) == {:error, :enoent}
      assert {:ok, %{"count" => 1}} = FileSearchTool.invoke(%{args | "base_path" => outside}, %{})
    end

    test "ends with its caller", %{root: root} do
      line = String.duplicate("a", 200) <> "\n"
      text = String.duplicate(line, 70_000)
      for n <- 1..20, do: File.write!(Path.join(root, "big#{n}"), text)
      args = %{"pattern" => "big*", "content" => "(a|b|ab)*c$"}
      {pid, ref} = spawn_monitor(fn -> search(root, args, timeout_ms: 60_000) end)
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^ref, :process, ^pid, :killed}
      # A thread of the pool is free for this.
      assert {:ok, _} = search(root, %{"pattern" => "*.md"})
    end
  end

  test "tools without their callback say so" do
    for {tool, args, key} <- [
          {WebSearchTool, %{"query" => "x"}, :searcher},
          {ComputerTool, %{"action" => "click"}, :executor},
          {VectorStoreSearchTool, %{"query" => "x"}, :searcher},
          {ImageGenerationTool, %{"prompt" => "x"}, :generator},
          {CodeInterpreterTool, %{"code" => "1"}, :runner}
        ] do
      assert tool.invoke(args, %{metadata: %{}}) == {:error, {:missing_callback, key}}
      assert tool.error_text({:missing_callback, key}) =~ "option :#{key}"

      {:ok, handle} =
        Tools.register(tool, [{:name, "t#{key}#{inspect(tool)}"}, {key, fn -> 1 end}])

      assert Tools.invoke(handle.name, args, %{}) == {:ok, 1}
      Tools.deregister(handle)
    end
  end

  test "callbacks take up to three arguments, and results are outputs" do
    run = fn runner -> CodeInterpreterTool.invoke(%{"code" => "1"}, options(runner: runner)) end
    assert run.(fn args -> args["code"] end) == {:ok, "1"}
    assert run.(fn _args, context -> {:ok, is_map(context.metadata)} end) == {:ok, true}

    assert run.(fn _args, _context, metadata -> {:error, Map.keys(metadata)} end) ==
             {:error, [:runner]}

    assert CodeInterpreterTool.invoke(%{}, %{}) == {:error, {:missing_argument, :code}}

    assert ImageGenerationTool.invoke(%{"prompt" => 1}, %{}) ==
             {:error, {:invalid_argument, :prompt}}
  end

  test "web_search" do
    search = &WebSearchTool.invoke(&1, options(searcher: fn args -> args end, max_results: 5))
    assert search.(%{"query" => "a"}) == {:ok, %{"query" => "a", "max_results" => 5}}

    assert {:ok, %{"query" => "b", "max_results" => 2}} =
             search.(%{"action" => %{"type" => "search", "query" => "b"}, "max_results" => 2})

    assert search.(%{}) == {:error, {:missing_argument, :query}}
    assert search.(%{"action" => %{"type" => "open"}}) == {:error, {:unsupported_action, "open"}}
    assert search.(%{"query" => "a", "type" => "find"}) == {:error, {:unsupported_action, "find"}}
    assert search.(%{"action" => "x"}) == {:error, {:invalid_argument, :action}}
  end

  test "computer" do
    act = &ComputerTool.invoke(%{"action" => "click"}, options([executor: fn a -> a end] ++ &1))
    assert act.([]) == {:ok, %{"action" => "click"}}

    assert act.(approval: fn "click" -> :allow end, safety: fn _ -> :ok end) ==
             {:ok, %{"action" => "click"}}

    assert act.(safety: fn _, _ -> {:deny, :unsafe} end) == {:error, {:computer_denied, :unsafe}}
    assert act.(approval: fn _ -> :deny end) == {:error, {:computer_denied, :denied}}
    assert ComputerTool.invoke(%{}, %{}) == {:error, {:missing_argument, :action}}
  end

  test "vector_store_search has the options of the thread" do
    context = options(searcher: fn args -> args end, vector_store_ids: ["a"], filters: %{a: 1})
    find = &VectorStoreSearchTool.invoke(%{"query" => "q"}, &1)

    assert find.(context) ==
             {:ok, %{"query" => "q", "vector_store_ids" => ["a"], "filters" => %{a: 1}}}

    thread = %{thread_opts: %{file_search: [vector_store_ids: ["b"]]}}
    assert {:ok, %{"vector_store_ids" => ["b"]}} = find.(Map.put(context, :thread, thread))
  end

  defmodule Client do
    defstruct [:name]

    def call_tool(%{name: name}, tool, args, opts), do: {:ok, {name, tool, args, opts}}
  end

  test "hosted_mcp" do
    call = &HostedMcpTool.invoke(&1, options(&2))
    assert call.(%{"tool" => "t"}, []) == {:error, :missing_client}
    client = %Client{name: "n"}
    assert call.(%{}, client: client) == {:error, :missing_tool}
    args = %{"tool" => "t", "arguments" => %{"a" => 1}}
    assert call.(args, client: client, retries: 2) == {:ok, {"n", "t", %{"a" => 1}, [retries: 2]}}

    assert call.(%{"a" => 1}, client: {Client, client}, tool: "only") ==
             {:ok, {"n", "only", %{"a" => 1}, []}}

    assert call.(%{"tool" => "x"}, client: client, tool_name: "only") ==
             {:ok, {"n", "only", %{}, []}}

    assert call.(args, client: fn tool, args, _opts -> {:ok, {tool, args}} end) ==
             {:ok, {"t", %{"a" => 1}}}
  end

  test "every tool has its listed name and a schema" do
    for {tool, name} <- [
          {ShellTool, "shell"},
          {Codex.Tools.ShellCommandTool, "shell_command"},
          {Codex.Tools.WriteStdinTool, "write_stdin"},
          {ViewImageTool, "view_image"},
          {Codex.Tools.ApplyPatchTool, "apply_patch"},
          {FileSearchTool, "file_search"},
          {WebSearchTool, "web_search"},
          {ComputerTool, "computer"},
          {VectorStoreSearchTool, "vector_store_search"},
          {ImageGenerationTool, "image_generation"},
          {CodeInterpreterTool, "code_interpreter"},
          {HostedMcpTool, "hosted_mcp"}
        ] do
      assert %{name: ^name, description: "" <> _} = Codex.Tool.metadata(tool)
      assert {:ok, [%{name: "x"}]} = Tools.Toolset.new([{tool, name: "x"}])
    end
  end
end
