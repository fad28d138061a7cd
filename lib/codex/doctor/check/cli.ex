defmodule Codex.Doctor.Check.CLI do
  @moduledoc false
  # The program that a run starts.

  alias Codex.CLI
  alias Codex.Doctor.{Check, Place}

  @spec run(Place.t()) :: {Check.t(), Place.t()}
  def run(place) do
    given = place.codex_path || CLI.named(place.env)

    with {:ok, program} <- CLI.find(given),
         {:ok, version} <- CLI.version(program) do
      {found(program, version), %{place | program: program}}
    else
      {:error, why} -> {Check.new(:cli, :error, words(why)), place}
    end
  end

  defp found(program, version) do
    tested? = CLI.supported?(version)
    status = if tested?, do: :ok, else: :warning
    said = if tested?, do: "", else: ", tested is #{CLI.tested_version()}"

    Check.new(:cli, status, "codex-cli #{version}#{said}", [
      %{
        text: program,
        path: program,
        version: version,
        tested: tested?,
        tested_version: CLI.tested_version()
      }
    ])
  end

  defp words(:codex_binary_not_found),
    do: "there is no `codex` on the PATH, and neither CODEX_PATH nor CODEX_BINARY is set"

  defp words({:codex_binary_missing, path}), do: "#{path} does not exist"
  defp words({:codex_binary_not_regular, path}), do: "#{path} is no file"
  defp words({:codex_binary_not_executable, path}), do: "#{path} may not be executed"
  defp words(:no_version), do: "it does not tell its version, so it is no codex that works"
  defp words({:not_started, error}), do: "it does not start: #{Exception.message(error)}"
end
