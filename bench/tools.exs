# Measures calls of host tools, and the search for files beside ripgrep. See README.md.

Code.require_file("support.exs", __DIR__)

defmodule Bench.Echo do
  use Codex.FunctionTool, name: "echo", parameters: [text: :string]
  def handle(%{"text" => text}), do: {:ok, text}
end

defmodule Bench.Tools do
  alias Codex.{AppServer, Test, Thread}
  alias Codex.Test.Steps
  alias Codex.Tools.FileSearchTool

  @corpus Path.expand(".corpora/tools", __DIR__)

  def run do
    {:ok, cli} = Test.codex_path()
    rg = System.get_env("RG") || System.find_executable("rg")

    Bench.machine(
      cli: Bench.first_line(cli, ["--version"]),
      ripgrep: rg && Bench.first_line(rg, ["--version"])
    )

    calls(Bench.setting("CALLS", 20), Bench.setting("REPETITIONS", 15))
    search(Bench.setting("FILES", 10_000), rg, Bench.setting("REPETITIONS", 15))
  end

  # --- Calls --------------------------------------------------------------------------------------

  # Turns of so many calls, each in a response of its own. `get_goal` is a tool of the CLI that does
  # nothing, so the difference is the way to this VM and back.
  defp calls(n, repetitions) do
    model = Test.start!([], default: &step(&1, n))

    {:ok, conn} =
      AppServer.connect(Test.options(model), cwd: model.workspace, experimental_api: true)

    measured =
      Bench.interleave(
        [
          {"a message alone", fn -> turn(model, conn, "none") end},
          {"a tool of the CLI", fn -> turn(model, conn, "get_goal") end},
          {"a host tool, app-server", fn -> turn(model, conn, "echo") end},
          {"a message alone, exec", fn -> turn(model, nil, "none") end},
          {"a tool of the CLI, exec", fn -> turn(model, nil, "get_goal") end},
          {"a host tool, exec", fn -> turn(model, nil, "exec echo") end}
        ],
        repetitions
      )

    AppServer.disconnect(conn)
    IO.puts("## A turn with #{n} calls, one after the other\n")

    rows =
      for {name, times} <- Enum.sort(measured) do
        exec = if name =~ "exec", do: ", exec", else: ""
        above = if name =~ "host", do: per_call(times, measured["a tool of the CLI" <> exec], n)
        alone = per_call(times, measured["a message alone" <> exec], n)
        [name, Bench.number(Bench.median(times)), alone, above || "-"]
      end

    Bench.table(["", "ms a turn", "ms a call", "ms a call above the CLI's own tool"], rows)
  end

  defp per_call(times, below, n) do
    differences = Enum.zip_with(times, below, &((&1 - &2) / n))
    Bench.number(Bench.median(differences))
  end

  defp turn(model, conn, tool) do
    transport = if conn, do: [transport: {:app_server, conn}], else: []
    options = transport ++ [tools: [Bench.Echo]] ++ Test.thread_options(model)
    {:ok, thread} = Codex.start_thread(Test.options(model), options)
    {us, {:ok, _result}} = :timer.tc(fn -> Thread.run(thread, tool) end)
    us / 1_000
  end

  # The prompt names the tool; the outputs in the input are the calls so far.
  defp step(request, n) do
    input = request.body["input"]
    tool = Enum.find(["echo", "exec echo", "get_goal"], fn tool -> prompted?(input, tool) end)
    done = Enum.count(input, &(&1["type"] == "function_call_output"))

    cond do
      tool == nil or done == n ->
        Steps.message("done")

      tool == "echo" ->
        Steps.tool_call("echo", %{text: "hello"})

      tool == "exec echo" ->
        Steps.tool_call("echo", %{text: "hello"}, namespace: "mcp__host")

      true ->
        Steps.tool_call(tool, %{})
    end
  end

  defp prompted?(input, tool) do
    Enum.any?(input, fn item ->
      match?(%{"role" => "user", "content" => [%{"text" => ^tool} | _]}, item)
    end)
  end

  # --- Search -------------------------------------------------------------------------------------

  # Without ripgrep, grep has its place.
  defp search(files, rg, repetitions) do
    root = corpus(files)
    other = if rg, do: "rg", else: "grep -r (ripgrep is not installed)"
    IO.puts("## #{files} files, ms a search\n")

    rows =
      for {title, pattern, content} <- [
            {"paths alone", "**/*.txt", nil},
            {"a word of 100 files", "**/*.txt", "needle"},
            {"a word of no file", "**/*.txt", "haystack"},
            {"an expression, no literal", "**/*.txt", "\\b[xyz]{3,}\\d\\b"}
          ] do
        measured =
          Bench.interleave(
            [
              {"file_search", fn -> ours(root, pattern, content) end},
              {other, fn -> theirs(rg, root, pattern, content) end}
            ],
            repetitions
          )

        [
          title,
          Bench.number(Bench.median(measured["file_search"])),
          Bench.number(Bench.median(measured[other])),
          Bench.share(measured, "file_search", other)
        ]
      end

    Bench.table(["", "file_search", other, "ratio"], rows)
  end

  defp ours(root, pattern, content) do
    args = %{"pattern" => pattern, "content" => content, "max_results" => 1_000_000}
    {us, {:ok, %{"count" => _}}} = :timer.tc(fn -> FileSearchTool.invoke(args, root(root)) end)
    us / 1_000
  end

  defp root(root), do: %{metadata: %{base_path: root}}

  defp theirs(rg, root, pattern, content) do
    {program, args} = command(rg, pattern, content)

    {us, {_out, status}} =
      :timer.tc(fn -> System.cmd(program, args, cd: root, stderr_to_stdout: true) end)

    if status > 1, do: raise("#{program} failed")
    us / 1_000
  end

  defp command(nil, _pattern, nil), do: {"find", [".", "-name", "*.txt"]}
  defp command(nil, _pattern, content), do: {"grep", ["-rnE", "--include=*.txt", content, "."]}
  defp command(rg, pattern, nil), do: {rg, ["--files", "--sort", "path", "-g", pattern]}
  defp command(rg, pattern, content), do: {rg, ["-n", "-g", pattern, "-e", content, "."]}

  # Files of about 4 KB with random words, in directories of 100. Every hundredth has a needle.
  defp corpus(files) do
    root = Path.join(@corpus, "#{files}")

    unless File.exists?(root) do
      _ = :rand.seed(:exsss, {1, 2, 3})
      words = for _ <- 1..2_000, do: word(:rand.uniform(9) + 1)
      words = List.to_tuple(words)
      new = root <> ".new"
      File.rm_rf!(new)

      for n <- 1..files do
        dir = Path.join(new, "d#{div(n, 100)}")
        File.mkdir_p!(dir)
        File.write!(Path.join(dir, "f#{n}.txt"), text(words, n))
      end

      File.rename!(new, root)
    end

    root
  end

  defp word(n), do: for(_ <- 1..n, into: "", do: <<Enum.random(?a..?z)>>)

  defp text(words, n) do
    lines =
      for _ <- 1..70 do
        line = for _ <- 1..9, do: elem(words, :rand.uniform(tuple_size(words)) - 1)
        [Enum.intersperse(line, " "), "\n"]
      end

    if rem(n, 100) == 0, do: [lines, "a needle here\n"], else: lines
  end
end

Bench.Tools.run()
