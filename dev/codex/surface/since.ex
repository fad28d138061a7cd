defmodule Codex.Surface.Since do
  @moduledoc false
  # Adds to `priv/cli/since.exs` the requests, parameters and flags that a new version of the CLI
  # has first (see `Codex.CLI.Since`).

  alias Codex.Surface
  alias Codex.Surface.{Flags, Protocol}
  alias Codex.Surface.Protocol.Data

  @file_name "priv/cli/since.exs"

  @doc "Adds the names that are new in another version of the CLI to the file below a root, if any."
  @spec write!(Path.t(), stored :: Surface.t(), new :: Surface.t()) :: :ok
  def write!(root, stored, new) do
    path = Path.join(root, @file_name)

    case File.read(path) do
      {:ok, text} -> add(path, text, new.cli, added(stored, new))
      # Other data has no such file.
      {:error, :enoent} -> :ok
    end
  end

  defp add(path, text, version, names) do
    {:ok, versions} = Code.string_to_quoted(text)
    known = for {_version, names} <- versions, name <- names, into: MapSet.new(), do: name

    case Enum.reject(names, &(&1 in known)) do
      [] -> :ok
      names -> File.write!(path, append(text, version, names))
    end
  end

  defp append(text, version, names) do
    names = Enum.map_join(names, ",\n", &"     #{inspect(&1)}")
    row = "  {#{inspect(version)},\n   [\n#{names}\n   ]}"
    String.replace(text, ~r/\n\]\s*\z/, ",\n#{row}\n]\n")
  end

  @doc "Returns the names that only the second of two versions has, sorted."
  @spec added(Surface.t(), Surface.t()) :: [String.t()]
  def added(old, new) do
    names = MapSet.difference(names(new), names(old))
    names |> Enum.reject(&inside?(&1, names)) |> Enum.sort()
  end

  # A member of a new request or parameter.
  defp inside?(name, names) do
    ~r/[.=]/
    |> Regex.scan(name, return: :index)
    |> Enum.any?(fn [{at, _length}] -> binary_part(name, 0, at) in names end)
  end

  defp names(%{parts: parts}) do
    {Protocol, data} = List.keyfind!(parts, Protocol, 0)
    {Flags, flags} = List.keyfind!(parts, Flags, 0)
    types = Data.entries(data, :type)

    requests =
      for {method, entry} <- Data.entries(data, :request),
          method != "initialize",
          name <- [method | below(entry[:params], method, types)],
          do: name

    MapSet.new(requests ++ Map.keys(flags["exec"]))
  end

  defp below({:ref, name}, path, types) do
    {type, types} = Map.pop(types, name)
    below(type, path, types)
  end

  defp below({tag, type}, path, types) when tag in [:nullable, :list],
    do: below(type, path, types)

  defp below({:one_of, all}, path, types), do: Enum.flat_map(all, &below(&1, path, types))
  defp below({:word, word}, path, _types), do: ["#{path}=#{word}"]

  defp below({:fields, fields}, path, types) do
    Enum.flat_map(fields, fn
      {:other, type} -> below(type, path <> ".*", types)
      {_kind, {wire, type}} -> ["#{path}.#{wire}" | below(type, "#{path}.#{wire}", types)]
    end)
  end

  defp below(_plain, _path, _types), do: []
end
