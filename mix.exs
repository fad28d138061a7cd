Code.require_file("native/compiler.exs", __DIR__)

defmodule CodexSdk.MixProject do
  use Mix.Project

  @version "0.4.6"

  def project do
    [
      app: :codex_sdk,
      version: @version,
      elixir: "~> 1.14",
      description:
        "Drive OpenAI's Codex CLI from Elixir: typed events, no orphans, bounded memory.",
      compilers: [:codex_native] ++ Mix.compilers(),
      elixirc_paths: elixirc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      test_ignore_filters: [
        &String.starts_with?(&1, "test/fixtures/"),
        &String.starts_with?(&1, "test/conformance/")
      ],
      package: package(),
      docs: docs(),
      dialyzer: dialyzer(),
      aliases: ["deps.get": &get_deps/1],
      deps: deps()
    ]
  end

  def application do
    # Tests start servers of :inets.
    tests = if Mix.env() == :test, do: [:inets], else: []
    applications = [:logger, :crypto, :public_key, :ssl] ++ tests
    [extra_applications: applications, mod: {Codex.Application, []}]
  end

  # Tools of those who work on this package. Hex has them, so they are declared once they were
  # fetched. Applications that depend on this package never see them.
  defp deps do
    if hex_tools?() do
      [
        {:credo, "~> 1.7", only: [:dev, :test], runtime: false},
        {:dialyxir, "~> 1.4", only: [:dev, :test], runtime: false},
        {:ex_doc, "~> 0.31", only: [:dev, :test], runtime: false}
      ]
    else
      []
    end
  end

  defp hex_tools?,
    do: System.get_env("CODEX_SDK_DEV") == "1" or File.dir?(Path.join(__DIR__, "deps/credo"))

  # If Hex is installed, `mix deps.get` fetches the tools. The package works without them.
  defp get_deps(args) do
    if hex_tools?() or not Code.ensure_loaded?(Hex) do
      Mix.Task.run("deps.get", args)
    else
      options = [env: [{"CODEX_SDK_DEV", "1"}], into: IO.stream()]

      with {_output, status} when status != 0 <- System.cmd("mix", ["deps.get" | args], options),
           do: Mix.shell().error("credo, dialyxir and ex_doc are missing: Hex did not fetch them")
    end
  end

  # Options of dialyxir; `mix dialyzer` without dialyxir has the same.
  defp dialyzer,
    do: [plt_add_apps: [:inets, :mix, :ex_unit], flags: [:unmatched_returns, :unknown]]

  # dev/ has development tools of this package, and dev_tasks/ the tasks of tools that are missing.
  # Applications compile the package as :prod, without them.
  defp elixirc_paths(:prod), do: ["lib"]
  defp elixirc_paths(:test), do: ["test/support" | elixirc_paths(:dev)]

  defp elixirc_paths(_),
    do: if(hex_tools?(), do: ["lib", "dev"], else: ["lib", "dev", "dev_tasks"])

  # Options of ex_doc, for `bin/docs` and for `mix docs`.
  defp docs do
    [
      main: "readme",
      source_ref: "v#{@version}",
      extras: extras(),
      groups_for_extras: groups_for_extras(),
      assets: %{"examples" => "examples"},
      filter_modules: fn module, _metadata -> in_lib?(module) end,
      groups_for_modules: groups_for_modules(),
      nest_modules_by_prefix: [
        Codex.AppServer.Request,
        Codex.Events,
        Codex.Hooks,
        Codex.Items,
        Codex.StreamEvent
      ]
    ]
  end

  defp extras do
    [{"README.md", [title: "Overview"]}] ++
      (groups_for_extras() |> Keyword.values() |> List.flatten()) ++
      ["CHANGELOG.md", "usage-rules.md", {"LICENSE", [title: "License"]}]
  end

  defp groups_for_extras do
    [
      "Running turns":
        guides(~w(ways_to_run options app_server terminal events tools structured_output)) ++
          guides(~w(hooks agents long_runs many session_store jobs mix_tasks)),
      "Models, credentials, configuration":
        guides(~w(models auth configuration skills_prompts mcp costs)),
      "At a glance": ["guides/cheatsheet.cheatmd" | guides(~w(coming_from))],
      Notebooks: notebooks(~w(first_steps tools_and_output sessions_and_usage many_turns)),
      Operation: guides(~w(deployment cli errors debugging telemetry sessions upgrading))
    ]
  end

  defp guides(names), do: Enum.map(names, &"guides/#{&1}.md")
  defp notebooks(names), do: Enum.map(names, &"guides/livebook/#{&1}.livemd")

  # Development tools are not documented for users.
  defp in_lib?(module) do
    source = to_string(module.module_info(:compile)[:source])
    path = source |> String.split("/lib/") |> List.last()
    File.exists?(Path.join([__DIR__, "lib", path]))
  end

  defp groups_for_modules do
    [
      "Running turns": [
        Codex,
        Codex.Thread,
        Codex.Input,
        Codex.Files,
        Codex.Files.Attachment,
        Codex.Turn.Result,
        Codex.Schema,
        Codex.Turn.Running,
        Codex.Turn.Child,
        Codex.RunResultStreaming,
        Codex.Stream,
        Codex.StreamEvent,
        ~r/^Codex\.StreamEvent\./,
        Codex.Exec,
        Codex.Review,
        Codex.Review.Finding
      ],
      "Many at once": ~r/^Codex\.(Batch|Pool|SessionStore|Thread\.Server)(\.|$)/,
      Options: [Codex.Options, Codex.Thread.Options, Codex.Exec.Options],
      Hooks: ~r/^Codex\.Hooks(\.|$)/,
      "Approvals and tools": [
        Codex.Approvals,
        Codex.Approvals.Hook,
        Codex.Approvals.StaticPolicy,
        Codex.Tool,
        Codex.FunctionTool,
        ~r/^Codex\.ToolOutput(\.|$)/,
        ~r/^Codex\.Tools(\.|$)/
      ],
      "Agents and guardrails":
        ~r/^Codex\.(Agent|AgentRunner|RunConfig|ModelSettings|Handoff|Guardrail|ToolGuardrail|Session)(\.|$)/,
      "App-server and stored threads": [
        Codex.AppServer,
        Codex.AppServer.Mcp,
        Codex.AppServer.RequestHandler,
        Codex.Threads,
        Codex.AppServer.Request,
        ~r/^Codex\.AppServer\.Request\./
      ],
      "Credentials and models": ~r/^Codex\.(Auth|Login|Models)(\.|$)/,
      Configuration: [
        Codex.Config,
        Codex.Config.Core,
        Codex.Config.Error,
        Codex.Config.Helpers,
        Codex.Config.Key,
        Codex.Config.Layer,
        Codex.Config.Schema,
        Codex.Home,
        Codex.Home.Isolated
      ],
      "Errors, retries and limits": [
        Codex.Error,
        Codex.Reason,
        Codex.OptionError,
        Codex.TransportError,
        Codex.ApprovalError,
        Codex.GuardrailError,
        ~r/^Codex\.(Retry|RateLimit)(\.|$)/
      ],
      "Commands of the CLI": ~r/^Codex\.CLI(\.|$)/,
      "Diagnosis and telemetry": ~r/^Codex\.(Doctor|Telemetry)(\.|$)/,
      "Skills, prompts, MCP servers": [
        Codex.Skills,
        Codex.Prompts,
        Codex.MCP.Client,
        Codex.MCP.Handler,
        Codex.MCP.Transport.Stdio,
        Codex.MCP.Config,
        Codex.MCP.OAuth,
        Codex.MCP.Transport.StreamableHTTP
      ],
      Testing: ~r/^Codex\.Test(\.|$)/,
      "At the terminal": [Codex.Terminal],
      "Data and processes": ~r/^Codex\.(Format|JSON|JSONL|Subprocess|Text)(\.|$)/,
      "Recorded threads": ~r/^Codex\.Sessions(\.|$)/,
      Events: ~r/^Codex\.Events(\.|$)/,
      Items: ~r/^Codex\.Items(\.|$)/,
      "Kept for callers of 0.4.5": [
        CodexSdk,
        Codex.AppServer.V1,
        Codex.Approvals.Registry,
        Codex.Config.Constrained,
        Codex.Config.ConstraintError,
        Codex.Config.LayerStack,
        Codex.Config.Overrides,
        Codex.OutputSchemaFile,
        Codex.Realtime,
        Codex.Voice
      ],
      "Mix tasks": ~r/^Mix\.Tasks\./
    ]
  end

  defp package do
    [
      licenses: ["MIT"],
      links: %{"Codex CLI" => "https://github.com/openai/codex"},
      files:
        ~w(lib guides examples priv/cli priv/config priv/protocol native/*/src) ++
          ~w(native/*/{Cargo.toml,build.rs} native/*.{exs,sums}) ++
          ~w(Cargo.toml Cargo.lock mix.exs .formatter.exs README.md CHANGELOG.md LICENSE) ++
          ~w(usage-rules.md)
    ]
  end
end
