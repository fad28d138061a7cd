defmodule Mix.Tasks.CodexSdk.Install do
  @shortdoc "Sets up codex_sdk in an application"

  @moduledoc """
  Sets up `codex_sdk` in an application.

      mix codex_sdk.install
      mix codex_sdk.install --connection
      mix igniter.install codex_sdk --connection

  The steps:

    * The dependency `:codex_sdk` in `mix.exs`. `mix igniter.install` adds it.
    * `Codex.Test.guard!()` in `test/test_helper.exs`: a test without a scripted model gets an
      error, and never uses the login of the developer.
    * A connection to an app-server as a child of the application, with the name `MyApp.Codex`, for
      `transport: {:app_server, MyApp.Codex}`. The application then starts the Codex CLI when it
      starts, also in its tests. Threads on `codex exec` need no connection.

  If the application has the package `igniter`, the task shows the changes to the files and writes
  them after a confirmation; the connection is added only with `--connection`. Otherwise, the task
  prints the steps with their code, and marks those that are done. A second run changes nothing.

  Options:

    * `--connection` - adds the connection
    * `--dry-run` - shows the changes only (with Igniter)
    * `--yes` - writes without a confirmation (with Igniter)
  """
  # The module has the callbacks of `Igniter.Mix.Task` and does not `use` it: Mix may compile this
  # package before Igniter, and then without it. Igniter is looked for when the task runs.
  use Mix.Task

  @compile {:no_warn_undefined,
            [Igniter, Igniter.Project.Application, Igniter.Project.Module, Rewrite.Source]}

  @switches [connection: :boolean, dry_run: :boolean, yes: :boolean]
  @helper "test/test_helper.exs"
  @guard "Codex.Test.guard!()"

  @impl Mix.Task
  def run(argv) do
    if Code.ensure_loaded?(igniter()) do
      _ = Application.ensure_all_started(:rewrite)
      args = parse_argv(argv)

      igniter().new()
      |> Map.put(:args, args)
      |> igniter()
      |> igniter().do_or_dry_run(Keyword.take(args.options, [:dry_run, :yes]))
    else
      _ = OptionParser.parse!(argv, strict: @switches)
      Mix.shell().info(steps(Mix.Project.config()))
    end
  end

  ## The callbacks of Igniter.Mix.Task

  @doc false
  def supports_umbrella?, do: false

  @doc false
  def installer?, do: true

  @doc false
  def info(_argv, _composing_task) do
    example = "mix codex_sdk.install --connection"
    struct!(info(), group: :codex_sdk, schema: [connection: :boolean], example: example)
  end

  @doc false
  def parse_argv(argv) do
    {options, _rest, _unknown} = OptionParser.parse(argv, switches: @switches)
    struct!(args(), options: options, positional: %{}, argv: argv, argv_flags: argv)
  end

  @doc false
  def igniter(igniter) do
    igniter = igniter().create_or_update_file(igniter, @helper, helper(), &guard/1)
    name = module().module_name(igniter, "Codex")

    if igniter.args.options[:connection] do
      application().add_new_child(igniter, {Codex.AppServer, {:code, child(name)}})
    else
      igniter().add_notice(igniter, """
      codex_sdk: for an app-server connection under the supervisor of the application, run
      `mix codex_sdk.install --connection`, or add {Codex.AppServer, #{code(name)}}.
      """)
    end
  end

  defp guard(source) do
    content = source().get(source, :content)

    if content =~ @guard,
      do: source,
      else: source().update(source, :content, @guard <> "\n" <> content)
  end

  defp helper, do: @guard <> "\nExUnit.start()\n"

  defp child(name), do: quote(do: [name: unquote(name), reconnect: true])

  defp code(name),
    do: name |> child() |> Macro.to_string() |> String.trim("[") |> String.trim("]")

  ## The steps without Igniter

  defp steps(config) do
    name = Module.concat(Macro.camelize(to_string(config[:app])), "Codex")

    """
    The package igniter is not available, so nothing was changed. The steps:

    #{dependency(config[:deps])}

    #{mark(file?(@helper, @guard))} In #{@helper}, before ExUnit.start():

        #{@guard}

    #{mark(application?(config))} If threads run over an app-server, a child of the application:

        {Codex.AppServer, #{code(name)}}

    Then run `mix codex.doctor`: it checks whether a run would work on this machine.\
    """
  end

  defp dependency(deps) do
    case List.keyfind(deps || [], :codex_sdk, 0) do
      nil -> ~s([ ] In the dependencies of mix.exs:\n\n    {:codex_sdk, "~> #{version()}"})
      dep -> "[x] In the dependencies of mix.exs:\n\n    #{inspect(dep)}"
    end
  end

  defp version, do: :codex_sdk |> Application.spec(:vsn) |> to_string()

  defp application?(config) do
    paths = config[:elixirc_paths] || ["lib"]
    files = Enum.flat_map(paths, &Path.wildcard("#{&1}/**/*.ex"))
    Enum.any?(files, &file?(&1, "{Codex.AppServer,"))
  end

  defp file?(path, text) do
    case File.read(path) do
      {:ok, content} -> content =~ text
      {:error, _} -> false
    end
  end

  defp mark(true), do: "[x]"
  defp mark(false), do: "[ ]"

  # Functions, because Dialyzer does not know the modules.
  defp igniter, do: Igniter
  defp info, do: Igniter.Mix.Task.Info
  defp args, do: Igniter.Mix.Task.Args
  defp application, do: Igniter.Project.Application
  defp module, do: Igniter.Project.Module
  defp source, do: Rewrite.Source
end
