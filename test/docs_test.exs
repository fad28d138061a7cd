defmodule Codex.DocsTest do
  # The documents agree with the code.
  use ExUnit.Case, async: true

  alias Codex.Config.Schema
  alias Codex.Error.Kinds
  alias Codex.Options.Table

  @root Path.expand("..", __DIR__)
  @guides for path <- Path.wildcard(@root <> "/guides/**/*.{md,cheatmd,livemd}"),
              do: Path.relative_to(path, @root)
  @documents ~w(README.md CONTRIBUTING.md CHANGELOG.md usage-rules.md) ++ @guides

  defp read(path), do: File.read!(Path.join(@root, path))
  defp version, do: Mix.Project.config()[:version]

  defp blocks(document, language) do
    for [_, code] <- Regex.scan(~r/^```#{language}\n(.*?)^```/ms, read(document)), do: code
  end

  test "mix.exs, Cargo.toml, README and CHANGELOG have the same version" do
    assert [_, cargo] =
             Regex.run(~r/^\[workspace\.package\]\nversion = "(.*)"/m, read("Cargo.toml"))

    assert cargo == version()

    assert read("README.md") =~ "Version #{version()}"
    assert [_, newest] = Regex.run(~r/^## (\S+)/m, read("CHANGELOG.md"))
    assert newest == version()
  end

  test "priv/cli/version, the configuration keys and the README name the same version" do
    tested = String.trim(read("priv/cli/version"))
    assert Codex.CLI.Program.tested_version() == tested
    assert Schema.cli_version() == tested
    assert read("README.md") =~ "version #{Codex.CLI.Range.lowest()} to version #{tested}"

    for document <- ["README.md" | @guides],
        [_, version] <- Regex.scan(~r/@openai\/codex@([\d.]*\d)/, read(document)),
        do: assert(version == tested, document)
  end

  test "the list of options in the guide equals the rows of the code" do
    [_, list, _] = String.split(read("guides/options.md"), "<!-- OPTIONS -->")

    assert String.trim(list) == Mix.CodexList.render(Table.reach()),
           "run `mix codex.options --write guides/options.md`"
  end

  test "the lists of events and items in the guide equal the rows of the code" do
    for {table, marker} <- [events: "<!-- EVENTS -->", items: "<!-- ITEMS -->"] do
      [_, list, _] = String.split(read("guides/events.md"), marker)

      assert String.trim(list) == Mix.CodexList.render(Codex.Events.Schema.guide(table)),
             "run `mix codex.events --write guides/events.md`"
    end
  end

  test "the list of kinds of errors in the guide equals the rows of the code" do
    [_, list, _] = String.split(read("guides/errors.md"), "<!-- KINDS -->")

    assert String.trim(list) == Mix.CodexList.render(Kinds.guide()),
           "run `mix codex.errors --write guides/errors.md`"
  end

  test "all files name the same minimum versions of Rust and Elixir" do
    [_, rust] = Regex.run(~r/^rust-version = "(.*)"/m, read("Cargo.toml"))
    [_, elixir] = Regex.run(~r/^~> (.*)$/, Mix.Project.config()[:elixir])

    assert read("bin/setup.sh") =~ "\nRUST_VERSION=#{rust}\nELIXIR_VERSION=#{elixir}\n"
    assert read("native/compiler.exs") =~ "@min_rust {#{String.replace(rust, ".", ", ")}}"

    for document <- ~w(README.md CONTRIBUTING.md) do
      text = document |> read() |> String.replace(~r/\s+/, " ")
      assert text =~ "Rust #{rust} or newer"
      assert text =~ "Elixir #{elixir} or newer"
    end
  end

  test "the documentation has every guide, and the README links to each" do
    extras = for extra <- Mix.Project.config()[:docs][:extras], do: path(extra)
    assert Enum.sort(@guides) == extras |> Enum.filter(&(&1 =~ "guides/")) |> Enum.sort()
    for guide <- @guides, do: assert(read("README.md") =~ "](#{guide})", guide)
  end

  test "the README links to each example, and a test runs each" do
    assert [_, _ | _] = examples = Codex.Example.names()
    assert "examples" in Mix.Project.config()[:package][:files]
    tests = for path <- Path.wildcard(@root <> "/test/*_test.exs"), do: File.read!(path)
    tests = Enum.join(tests)

    for name <- examples do
      assert read("README.md") =~ "](examples/#{name})", name
      # `bin/demo` runs the demo.
      assert tests =~ ~s("#{name}") or read("bin/demo") =~ "examples/#{name}", name
    end
  end

  defp path({path, _}), do: path
  defp path(path), do: path

  test "no document repeats a paragraph" do
    for document <- @documents do
      # Paragraphs, entries of lists and rows of tables.
      parts = document |> read() |> String.split(~r/\n(?=\n|- |  \* |\| )/)
      parts = for part <- parts, text = String.trim(part), String.length(text) > 60, do: text
      assert parts -- Enum.uniq(parts) == [], document
    end
  end

  test "Elixir code in the documents parses, and calls existing modules and functions" do
    codes = for document <- @documents, code <- blocks(document, "elixir"), do: code
    assert length(codes) >= 4

    for code <- codes, {module, name, arity} <- calls(Code.string_to_quoted!(code)) do
      assert Code.ensure_loaded?(module), "#{inspect(module)} in: #{code}"

      if name,
        do: assert(function_exported?(module, name, arity), "#{module}.#{name}/#{arity}")
    end
  end

  test "the code of usage-rules.md compiles, without variables from elsewhere" do
    assert [_, _ | _] = blocks = blocks("usage-rules.md", "elixir")

    for code <- blocks do
      name = "Codex.DocsTest.Rules#{System.unique_integer([:positive])}"

      assert [{module, _}] =
               Code.compile_string("defmodule #{name} do\ndef run do\n#{code}\nend\nend")

      :code.delete(module)
    end

    assert Enum.member?(Mix.Project.config()[:package][:files], "usage-rules.md")
  end

  # Returns the calls of our modules, and modules that are named without a call.
  defp calls(ast) do
    {_, found} =
      Macro.prewalk(ast, [], fn
        {{:., _, [{:__aliases__, _, [:Codex | _] = names}, name]}, _, args} = node, found ->
          {node, [{Module.concat(names), name, length(args)} | found]}

        {:__aliases__, _, [:Codex | _] = names} = node, found ->
          {node, [{Module.concat(names), nil, 0} | found]}

        node, found ->
          {node, found}
      end)

    found
  end

  test "modules and functions in the text exist" do
    for document <- @documents,
        text = prose(document),
        [_, name] <- Regex.scan(~r/`(Codex(?:\.[A-Z]\w*)+)(?:[.`])/, text) do
      assert Code.ensure_loaded?(Module.concat([name])), "#{name} in #{document}"
    end

    for document <- @documents,
        [_, module, name, arity] <-
          Regex.scan(~r/`(Codex(?:\.[A-Z]\w*)*)\.([a-z_]\w*[?!]?)\/(\d)`/, prose(document)) do
      assert Code.ensure_loaded?(Module.concat([module]))

      assert function_exported?(
               Module.concat([module]),
               String.to_atom(name),
               String.to_integer(arity)
             ),
             "#{module}.#{name}/#{arity} in #{document}"
    end
  end

  # Leaves out code blocks and the sections on removed functions.
  defp prose(document) do
    text = Regex.replace(~r/^```.*?^```/ms, read(document), "")
    Regex.replace(~r/^### Removed\n.*?(?=^## |\z)/ms, text, "")
  end

  test "commands in the documents exist" do
    commands =
      for document <- @documents,
          text <- [read(document)],
          [_, command] <- Regex.scan(~r/(?:^|`|\s)((?:bin|\.ci)\/[\w.]+)/, text),
          uniq: true,
          do: command

    assert "bin/demo" in commands and "bin/test" in commands

    for command <- commands -- ["bin/setup.sh"] do
      assert {:ok, %File.Stat{type: :regular, mode: mode}} = File.stat(Path.join(@root, command))
      assert rem(div(mode, 64), 2) == 1, "#{command} is not executable"
    end
  end

  test "links and paths in the documents point to existing files" do
    for document <- @documents, [_, link] <- Regex.scan(~r/\]\(([^)]+)\)/, read(document)) do
      unless link =~ ~r/^https?:/,
        do:
          assert(
            File.exists?(Path.join([@root, Path.dirname(document), hd(String.split(link, "#"))])),
            link
          )
    end

    for [_, path] <-
          Regex.scan(
            ~r/`((?:lib|native|test|examples|bench|guides)\/[\w.\/]*)`/,
            read("CONTRIBUTING.md")
          ),
        do: assert(File.exists?(Path.join(@root, path)), path)
  end

  test "the README begins with code, and its shared part is the documentation of Codex" do
    readme = read("README.md")
    line = readme |> String.split("\n") |> Enum.find_index(&(&1 == "```elixir"))
    assert line < 20

    [_, shared, _] = String.split(readme, "<!-- MDOC -->")
    {:docs_v1, _, _, _, %{"en" => moduledoc}, _, _} = Code.fetch_docs(Codex)
    assert moduledoc == shared
  end
end
