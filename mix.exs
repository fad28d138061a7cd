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
      package: package(),
      deps: deps()
    ]
  end

  def application do
    # Tests start servers of :inets.
    tests = if Mix.env() == :test, do: [:inets], else: []
    applications = [:logger, :crypto, :public_key, :ssl] ++ tests
    [extra_applications: applications, mod: {Codex.Application, []}]
  end

  # Tools of those who work on this package. They need Hex, and are declared once somebody asked for
  # them: `CODEX_SDK_DEV=1 mix deps.get`. Applications that depend on this package never see them.
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

  # dev/ has development tools of this package, and dev_tasks/ the tasks of tools that are missing.
  # Applications compile the package as :prod, without them.
  defp elixirc_paths(:prod), do: ["lib"]
  defp elixirc_paths(:test), do: ["test/support" | elixirc_paths(:dev)]

  defp elixirc_paths(_),
    do: if(hex_tools?(), do: ["lib", "dev"], else: ["lib", "dev", "dev_tasks"])

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
