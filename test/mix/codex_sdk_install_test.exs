defmodule Mix.Tasks.CodexSdk.InstallTest do
  # Igniter is there for the whole VM, or not. `Codex.ConsumerTest` runs the task without it.
  use ExUnit.Case, async: false

  alias Mix.Tasks.CodexSdk.Install

  @moduletag :tmp_dir

  # Stands in for Igniter: the functions that the task calls, with the arguments and results of the
  # package. Sources are a map of paths; `do_or_dry_run/2` writes them.
  @source """
  defmodule Igniter do
    defstruct rewrite: %{}, args: nil, notices: [], children: []
    def new, do: %Igniter{}

    def create_or_update_file(igniter, path, contents, updater)
        when is_binary(contents) and is_function(updater, 1) do
      source =
        case File.read(path) do
          {:ok, content} -> updater.(%{content: content})
          {:error, :enoent} -> %{content: contents}
        end

      put_in(igniter.rewrite[path], source)
    end

    def add_notice(igniter, notice) when is_binary(notice),
      do: %{igniter | notices: [notice | igniter.notices]}

    def do_or_dry_run(igniter, options) do
      send(self(), {:igniter, igniter, options})

      unless options[:dry_run] do
        for {path, source} <- igniter.rewrite do
          File.mkdir_p!(Path.dirname(path))
          File.write!(path, source.content)
        end
      end
    end
  end

  defmodule Igniter.Mix.Task.Args do
    defstruct positional: %{}, options: [], argv_flags: [], argv: []
  end

  defmodule Igniter.Mix.Task.Info do
    defstruct group: nil, schema: [], example: nil
  end

  defmodule Igniter.Project.Module do
    def module_name(%Igniter{}, suffix), do: Module.concat(Sample, suffix)
  end

  defmodule Igniter.Project.Application do
    def add_new_child(igniter, {module, {:code, code}}) when is_atom(module) do
      if List.keymember?(igniter.children, module, 0),
        do: igniter,
        else: %{igniter | children: [{module, Macro.to_string(code)} | igniter.children]}
    end
  end

  defmodule Rewrite.Source do
    def get(source, :content), do: source.content
    def update(source, :content, content), do: %{source | content: content}
  end
  """

  setup %{tmp_dir: dir} do
    modules = for {module, _} <- Code.compile_string(@source), do: module
    here = File.cwd!()
    File.cd!(dir)

    on_exit(fn ->
      File.cd!(here)
      for module <- modules, do: :code.delete(module) and :code.purge(module)
    end)
  end

  defp run(argv) do
    Install.run(argv)
    assert_received {:igniter, igniter, options}
    {igniter, options}
  end

  test "writes a test helper, once" do
    assert {%{children: [], notices: [notice]}, []} = run([])
    assert notice =~ "{Codex.AppServer, name: Sample.Codex, reconnect: true}"
    written = File.read!("test/test_helper.exs")
    assert written == "Codex.Test.guard!()\nExUnit.start()\n"
    run([])
    assert File.read!("test/test_helper.exs") == written
  end

  test "changes a test helper that exists, and nothing in a dry run" do
    File.mkdir_p!("test")
    File.write!("test/test_helper.exs", "ExUnit.start(capture_log: true)\n")
    assert {_, [dry_run: true]} = run(["--dry-run"])
    assert File.read!("test/test_helper.exs") == "ExUnit.start(capture_log: true)\n"
    assert {_, [yes: true]} = run(["--yes"])

    assert File.read!("test/test_helper.exs") ==
             "Codex.Test.guard!()\nExUnit.start(capture_log: true)\n"
  end

  test "--connection adds a child, which starts as written" do
    assert {%{children: [{Codex.AppServer, code}], notices: []}, []} = run(["--connection"])
    assert code == "[name: Sample.Codex, reconnect: true]"
    {options, _} = Code.eval_string(code)
    assert %{id: Sample.Codex} = Supervisor.child_spec({Codex.AppServer, options}, [])
  end

  test "is a task that Igniter composes" do
    for {name, arity} <- [run: 1, igniter: 1, info: 2, parse_argv: 1, supports_umbrella?: 0],
        do: assert(function_exported?(Install, name, arity))

    assert %{group: :codex_sdk, schema: [connection: :boolean]} = Install.info([], nil)
    # Options of other installers are not an error.
    args = Install.parse_argv(["--connection", "--repo", "Sample.Repo"])
    assert %{options: options, argv_flags: ["--connection" | _]} = args
    assert options[:connection]
  end
end
