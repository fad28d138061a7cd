defmodule Codex.FoundCLI do
  @moduledoc "The CLI that the tests run: any version of the range, see `CODEX_PATH`."

  alias Codex.CLI.Program

  @doc "Returns its version, or an error if it is missing."
  def version do
    with {:ok, path} <- Codex.Test.codex_path(),
         {:ok, path} <- Program.find(path),
         do: Program.version(path)
  end

  @doc "Returns its version."
  def version! do
    {:ok, version} = version()
    version
  end
end
