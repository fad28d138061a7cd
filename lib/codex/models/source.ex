defmodule Codex.Models.Source do
  @moduledoc false
  # Reads a catalog from the CLI or from a file.
  #
  # The CLI comes first: it knows its login and its configuration (`model_catalog_json`), and it
  # uses its cache file only if the file has the same version, account and provider, which only
  # the CLI can compare (the file has a digest). This package keeps no catalog. It
  # reads the cache file if the CLI cannot answer: if it is missing, too old to know the command,
  # or does not end. A failed CLI is an error: after a broken configuration an older list would be
  # wrong.

  alias Codex.{Error, Home}
  alias Codex.CLI.Program
  alias Codex.Models.{Catalog, Command, Files, Query}

  @no_answer [:cli_not_found, :cli_unsupported, :timeout]

  @doc "Returns the catalog of a query."
  @spec read(Query.t()) :: {:ok, Catalog.t()} | {:error, Error.t()}
  def read(%Query{source: {:file, path}}), do: Files.catalog(path)
  def read(%Query{source: :cache} = query), do: cache(query)
  def read(%Query{source: :cli} = query), do: cli(query)

  def read(%Query{source: :auto} = query) do
    with {:error, %Error{kind: kind}} = error when kind in @no_answer <- cli(query),
         {:error, _no_cache} <- cache(query),
         do: error
  end

  defp cache(query), do: query.home |> Home.path(:models_cache) |> Files.cache()

  defp cli(%Query{program: {:error, reason}}) do
    message = "no codex CLI to ask for its models: " <> missing(reason)

    {:error, Error.new(:cli_not_found, message, %{code: code(reason)})}
  end

  defp cli(%Query{program: {:ok, program}} = query) do
    with {:ok, output} <- Command.run(program, query),
         {:ok, %{"models" => entries}} <- Codex.JSON.decode(output),
         fields = [fetched_at: DateTime.utc_now(), cli_version: version(program)],
         {:ok, catalog} <- Catalog.new(entries, :cli, fields) do
      {:ok, catalog}
    else
      {:error, %Error{}} = error -> error
      _no_catalog -> {:error, Error.new(:protocol, "codex debug models printed no catalog")}
    end
  end

  defp version(program) do
    case Program.known_version(program) do
      {:ok, version} -> version
      _not_known -> nil
    end
  end

  defp missing(:codex_binary_not_found),
    do: "none on the PATH, and neither CODEX_PATH nor CODEX_BINARY is set"

  defp missing({:codex_binary_missing, path}), do: "#{path} does not exist"
  defp missing({:codex_binary_not_regular, path}), do: "#{path} is not a file"
  defp missing({:codex_binary_not_executable, path}), do: "#{path} may not be executed"

  defp code({reason, _path}), do: reason
  defp code(reason), do: reason
end
