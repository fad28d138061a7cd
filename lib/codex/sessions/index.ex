defmodule Codex.Sessions.Index do
  @moduledoc false
  # Keeps the sums of files in a file of the application, so that unchanged files are not read
  # again. An entry holds for a path with the same size, time of change and inode. An index that is
  # torn, of another version or of another home is ignored, and written anew.

  alias Codex.OptionError
  alias Codex.Sessions.{Scan, Store}

  @version 2

  @doc "Checks the path of an index: it must be outside the home."
  @spec check(Path.t() | nil, Path.t()) :: :ok | {:error, OptionError.t()}
  def check(nil, _home), do: :ok

  def check(path, home) do
    if String.starts_with?(Path.expand(path) <> "/", Path.expand(home) <> "/") do
      {:error, OptionError.invalid(:index, path, "a file outside of the home of the CLI")}
    else
      :ok
    end
  end

  @doc "Streams the results of files as `Scan.stream/3` does. Writes the index if it changed."
  @spec stream(Path.t(), Store.t(), Enumerable.t(), keyword()) :: Enumerable.t()
  def stream(path, store, files, opts) do
    known = load(path, store.home)

    files
    |> Stream.map(&{&1, lookup(known, &1)})
    |> Stream.chunk_by(fn {_file, found} -> found == :error end)
    |> Stream.flat_map(&results(&1, store, opts))
    |> Stream.transform(
      fn -> %{} end,
      fn
        {result, :known}, fresh -> {[result], fresh}
        {result, :read}, fresh -> {[result], remember(fresh, result)}
      end,
      fn fresh -> save(path, store, known, fresh) end
    )
  end

  defp lookup(known, file) do
    wanted = key(file)

    case Map.get(known, file.path) do
      {^wanted, bytes} -> {:ok, bytes}
      _unknown_or_changed -> :error
    end
  end

  defp key(file), do: {file.size, file.modified, file.inode}

  defp results([{_file, :error} | _] = chunk, store, opts) do
    files = Enum.map(chunk, &elem(&1, 0))
    store |> Scan.stream(files, opts) |> Stream.map(&{&1, :read})
  end

  # A summary is decoded when it is asked for.
  defp results(chunk, _store, _opts) do
    Stream.map(chunk, fn {file, {:ok, bytes}} ->
      {{file, {:ok, :erlang.binary_to_term(bytes)}}, :known}
    end)
  end

  defp remember(fresh, {file, {:ok, summary}}),
    do: Map.put(fresh, file.path, {key(file), :erlang.term_to_binary(summary)})

  defp remember(fresh, {_file, _error}), do: fresh

  defp load(path, home) do
    with {:ok, <<crc::32, bytes::binary>>} <- File.read(path),
         true <- :erlang.crc32(bytes) == crc,
         {@version, ^home, known} when is_map(known) <- :erlang.binary_to_term(bytes) do
      known
    else
      _missing_or_invalid -> %{}
    end
  end

  # Nothing new was read, and no more files are known than there are.
  defp save(_path, store, known, fresh)
       when map_size(fresh) == 0 and map_size(known) <= map_size(store.rollouts),
       do: :ok

  # Files that are gone are forgotten.
  defp save(path, store, known, fresh) do
    paths = MapSet.new(store.rollouts, fn {_id, file} -> file.path end)
    all = known |> Map.merge(fresh) |> Map.filter(fn {file, _} -> file in paths end)

    if all != known do
      bytes = :erlang.term_to_binary({@version, store.home, all})
      write(path, [<<:erlang.crc32(bytes)::32>>, bytes])
    end
  end

  # A reader sees the old index or the new one. Without a place to write, there is no index.
  defp write(path, bytes) do
    new = "#{path}.#{System.unique_integer([:positive])}.new"

    with :ok <- File.mkdir_p(Path.dirname(path)),
         :ok <- File.write(new, bytes),
         {:error, _reason} <- File.rename(new, path) do
      File.rm(new)
    end
  end
end
