defmodule Codex.Models.Files do
  @moduledoc false
  # Reads catalogs in files: the cache file of the CLI, and files that users write.

  alias Codex.{Error, FileSystem}
  alias Codex.Models.Catalog

  # The rule of the CLI: files of 295 seconds and files of the future are fresh, one of 310 is not.
  @fresh_ms 300_000

  @doc "Reads `models_cache.json`, if it is fresh."
  @spec cache(Path.t()) :: {:ok, Catalog.t()} | {:error, Error.t()}
  def cache(path) do
    with {:ok, content, _changed} <- read(path),
         {:ok, fetched_at} <- fetched_at(content, path),
         fields = [fetched_at: fetched_at, cli_version: version(content)],
         {:ok, catalog} <- catalog(content, :cache, fields, path),
         do: fresh(catalog, path)
  end

  @doc "Reads a file in the format of `model_catalog_json`."
  @spec catalog(Path.t()) :: {:ok, Catalog.t()} | {:error, Error.t()}
  def catalog(path) do
    with {:ok, content, changed} <- read(path),
         do: catalog(content, :file, [fetched_at: changed], path)
  end

  defp catalog(%{"models" => entries}, source, fields, path) do
    with :error <- Catalog.new(entries, source, fields),
         do: error(path, :no_models, "names no model in its list `models`")
  end

  defp catalog(_other, _source, _fields, path),
    do: error(path, :no_models, "has no list `models`")

  defp fetched_at(%{"fetched_at" => text}, path) when is_binary(text) do
    case DateTime.from_iso8601(text) do
      {:ok, at, _offset} -> {:ok, at}
      {:error, _} -> error(path, :no_time, "has a `fetched_at` that is not an ISO 8601 time")
    end
  end

  defp fetched_at(_other, path), do: error(path, :no_time, "has no `fetched_at`")

  defp version(%{"client_version" => version}) when is_binary(version), do: version
  defp version(_content), do: nil

  defp fresh(catalog, path) do
    case Catalog.aged(catalog).age_ms do
      age when age <= @fresh_ms ->
        {:ok, catalog}

      age ->
        words = "is #{div(age, 1000)} s old, and counts for #{div(@fresh_ms, 1000)} s"
        error(path, :stale, words, %{age_ms: age})
    end
  end

  defp read(path) do
    with {:ok, bytes} <- FileSystem.read(path),
         {:ok, %{modified: changed}} <- FileSystem.stat(path),
         {:ok, content} <- decode(bytes, path) do
      {:ok, content, DateTime.from_unix!(changed)}
    else
      {:error, %Error{}} = error -> error
      {:error, reason} -> unreadable(path, reason)
    end
  end

  defp unreadable(path, {:not_regular, kind}),
    do: error(path, :not_regular, "is not a regular file but #{FileSystem.kind_words(kind)}")

  defp unreadable(path, {:too_large, limit}),
    do: error(path, :too_large, "has more than #{limit} bytes")

  defp unreadable(path, :enoent), do: error(path, :missing, "does not exist")

  defp unreadable(path, reason),
    do: error(path, :unreadable, "cannot be read: #{FileSystem.message(reason)}")

  defp decode("", path), do: error(path, :not_json, "is empty")

  defp decode(bytes, path) do
    case Codex.JSON.decode(bytes) do
      {:ok, content} -> {:ok, content}
      {:error, {_why, at}} -> error(path, :not_json, "is not JSON (at byte #{at})")
    end
  end

  defp error(path, code, words, more \\ %{}),
    do: {:error, Error.new(:config, "#{path} #{words}", Map.put(more, :code, code))}
end
