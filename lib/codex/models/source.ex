defmodule Codex.Models.Source do
  @moduledoc false
  # Where a catalog comes from, and which place wins.
  #
  # The CLI wins: it knows its login and its configuration (`model_catalog_json`), and it takes its own cache file only if
  # that is of the same version, account and provider, which nobody else can tell (the file has a digest). So the cache file
  # is looked at where the CLI cannot answer: it is not there, is too old to be asked, or does not come to an end. A CLI
  # that refuses is right: a broken configuration is an error, not an older list.

  alias Codex.{CLI, Error, Home}
  alias Codex.Models.{Catalog, Files, Query, Run}

  @no_answer [:cli_not_found, :cli_unsupported, :timeout]

  # How long an answer holds, in ms: as long as the CLI's own cache; and what may be better soon, much shorter.
  @hold 300_000
  @hold_failure 30_000

  @type result :: {:ok, Catalog.t()} | {:error, Error.t()}

  @doc "The answer, and for how many ms it may be kept."
  @spec read(Query.t()) :: {result(), non_neg_integer()}
  def read(%Query{source: {:file, path}}), do: path |> Files.catalog() |> held()
  def read(%Query{source: :cache} = query), do: query |> cache() |> held()
  def read(%Query{source: :cli} = query), do: query |> cli() |> held()

  def read(%Query{source: :auto} = query) do
    case cli(query) do
      {:error, %Error{kind: kind}} = error when kind in @no_answer ->
        # Why there is no cache is of less interest.
        {with({:error, _no_cache} <- cache(query), do: error), @hold_failure}

      answer ->
        held(answer)
    end
  end

  defp cache(query), do: query.home |> Home.path(:models_cache) |> Files.cache()

  defp cli(%Query{program: {:error, reason}}) do
    message =
      "no codex CLI to ask for its models: " <>
        case reason do
          :codex_binary_not_found ->
            "none on the PATH, and neither CODEX_PATH nor CODEX_BINARY is set"

          {why, path} ->
            "#{path} #{why(why)}"
        end

    {:error, Error.new(:cli_not_found, message, %{code: code(reason)})}
  end

  defp cli(%Query{program: {:ok, program}} = query) do
    with {:ok, output} <- Run.debug_models(program, query),
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
    case CLI.known_version(program) do
      {:ok, version} -> version
      _not_known -> nil
    end
  end

  defp why(:codex_binary_missing), do: "does not exist"
  defp why(:codex_binary_not_regular), do: "is no file"
  defp why(:codex_binary_not_executable), do: "may not be executed"

  defp code({reason, _path}), do: reason
  defp code(reason), do: reason

  # A cache file that goes out of date in a minute is held for a minute.
  defp held({:ok, %Catalog{source: :cache} = catalog} = found),
    do: {found, (@hold - Catalog.aged(catalog).age_ms) |> max(0)}

  defp held({:ok, _} = found), do: {found, @hold}
  defp held(error), do: {error, @hold_failure}
end
