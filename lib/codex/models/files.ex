defmodule Codex.Models.Files do
  @moduledoc false
  # Catalogs in files: the one that the CLI keeps of its provider's models, and those that people write.

  alias Codex.Error
  alias Codex.Models.Catalog

  # As CLI 0.169: a file of 295 seconds counts, one of 310 does not, and one of the future does.
  @fresh_ms 300_000
  @most 16 * 1024 * 1024

  @doc "What `models_cache.json` holds, if it is fresh."
  @spec cache(Path.t()) :: {:ok, Catalog.t()} | {:error, Error.t()}
  def cache(path) do
    with {:ok, content, _changed} <- read(path),
         {:ok, fetched_at} <- fetched_at(content, path),
         fields = [fetched_at: fetched_at, cli_version: version(content)],
         {:ok, catalog} <- catalog(content, :cache, fields, path),
         do: fresh(catalog, path)
  end

  @doc "What a file like that of `model_catalog_json` holds."
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
      {:error, _} -> error(path, :no_time, "has a `fetched_at` that is no time of ISO 8601")
    end
  end

  defp fetched_at(_other, path), do: error(path, :no_time, "does not tell when it was fetched")

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

  # Looked at first: a pipe would block, and a file without end would fill memory.
  defp read(path) do
    case File.stat(path, time: :posix) do
      {:ok, %{type: :regular, mtime: changed}} ->
        with {:ok, bytes} <- bytes(path),
             {:ok, content} <- decode(bytes, path),
             do: {:ok, content, DateTime.from_unix!(changed)}

      {:ok, %{type: type}} ->
        error(path, :not_regular, "is no regular file, but #{type}")

      {:error, :enoent} ->
        error(path, :missing, "does not exist")

      {:error, reason} ->
        error(path, :unreadable, "cannot be read: #{:file.format_error(reason)}")
    end
  end

  defp bytes(path) do
    with {:ok, bytes} <- File.open(path, [:read, :raw], &IO.binread(&1, @most + 1)),
         true <- is_binary(bytes) do
      if byte_size(bytes) > @most,
        do: error(path, :too_large, "has more than #{@most} bytes"),
        else: {:ok, bytes}
    else
      {:error, reason} ->
        error(path, :unreadable, "cannot be read: #{:file.format_error(reason)}")

      _ ->
        error(path, :not_json, "is empty")
    end
  end

  defp decode(bytes, path) do
    case Codex.JSON.decode(bytes) do
      {:ok, content} -> {:ok, content}
      {:error, {_why, at}} -> error(path, :not_json, "is not JSON (at byte #{at})")
    end
  end

  defp error(path, code, words, more \\ %{}),
    do: {:error, Error.new(:config, "#{path} #{words}", Map.put(more, :code, code))}
end
