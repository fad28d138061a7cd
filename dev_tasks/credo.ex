defmodule Mix.Tasks.Credo do
  @moduledoc "Says how to get credo, which is not installed."
  @shortdoc @moduledoc
  use Mix.Task

  @dialyzer {:no_return, run: 1}
  @impl true
  def run(_args) do
    Mix.raise(
      "credo is not installed. It comes from Hex: run `CODEX_SDK_DEV=1 mix deps.get` once, " <>
        "then `MIX_ENV=test mix credo --strict`"
    )
  end
end
