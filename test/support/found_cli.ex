defmodule Codex.FoundCLI do
  @moduledoc "The CLI that the tests run: any version of the range, see `CODEX_PATH`."

  @doc "Returns its version, or an error if it is missing."
  def version do
    with {:ok, path} <- Codex.Test.codex_path(),
         {:ok, path} <- Codex.CLI.Program.find(path),
         do: Codex.CLI.Program.version(path)
  end

  @doc "Returns its version."
  def version! do
    {:ok, version} = version()
    version
  end
end
