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
      deps: []
    ]
  end

  def application do
    [extra_applications: [:logger, :crypto, :public_key, :ssl], mod: {Codex.Application, []}]
  end

  # dev/ has development tools of this package. Applications compile it as :prod, without them.
  defp elixirc_paths(:test), do: ["lib", "dev", "test/support"]
  defp elixirc_paths(:dev), do: ["lib", "dev"]
  defp elixirc_paths(_), do: ["lib"]

  defp package do
    [
      licenses: ["MIT"],
      links: %{"Codex CLI" => "https://github.com/openai/codex"},
      files:
        ~w(lib guides examples priv/cli priv/config priv/protocol native/*/src) ++
          ~w(native/*/{Cargo.toml,build.rs} native/*.{exs,sums}) ++
          ~w(Cargo.toml Cargo.lock mix.exs .formatter.exs README.md CHANGELOG.md LICENSE)
    ]
  end
end
