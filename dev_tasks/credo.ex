defmodule Mix.Tasks.Credo do
  @moduledoc """
  Fails with a line that tells how to get credo. `mix deps.get` fetches credo if Hex is installed;
  then the task of credo runs instead of this one.
  """
  @shortdoc "Tells how to get credo, which is not installed"
  use Mix.Task

  @dialyzer {:no_return, run: 1}
  @impl true
  def run(_args) do
    Mix.raise(
      "credo is not installed, so nothing was checked. It comes from Hex: run " <>
        "`mix local.hex --force`, `mix deps.get`, then `MIX_ENV=test mix credo --strict`"
    )
  end
end
