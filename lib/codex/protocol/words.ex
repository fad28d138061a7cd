defmodule Codex.Protocol.Words do
  @moduledoc false
  # Describes prepared types in errors and documentation, and hides secrets in values of errors.

  @doc "Describes a type in words."
  @spec expected(term(), %{String.t() => term()}) :: String.t()
  def expected(:string, _types), do: "a string"
  def expected(:integer, _types), do: "an integer"
  def expected(:count, _types), do: "an integer from 0"
  def expected(:number, _types), do: "a number"
  def expected(:boolean, _types), do: "a boolean"
  def expected(:null, _types), do: "nil"
  def expected(:any, _types), do: "any value"
  def expected({:word, word}, _types), do: inspect(word)
  def expected({:value, number}, _types), do: to_string(number)
  def expected({:nullable, type}, types), do: expected(type, types) <> " or nil"
  def expected({:list, type}, types), do: "a list of " <> plural(type, types)
  def expected({:object, names, _, nil}, _types) when names == %{}, do: "an empty map"

  def expected({:object, names, _, rest}, types) when names == %{},
    do: "a map of text to " <> expected(rest, types)

  def expected({:object, names, _, _}, _types) do
    wires = for {_, entry} <- names, uniq: true, do: Atom.to_string(elem(entry, 1))
    "a map with #{Enum.join(Enum.sort(wires), ", ")}"
  end

  def expected({:ref, name}, types) do
    case Map.fetch!(types, name) do
      {:object, _, _, _} -> "a map (#{name})"
      {:one_of, members} -> union(members, types, name)
      type -> expected(type, types)
    end
  end

  def expected({:one_of, members}, types), do: union(members, types, nil)

  defp union(members, types, name) do
    case Enum.split_with(members, &match?({:object, _, _, _}, &1)) do
      {[], members} ->
        choice(members, types)

      {_objects, []} ->
        "a map" <> if(name, do: " (#{name})", else: "")

      {_objects, members} ->
        choice(members, types) <> " or a map" <> if(name, do: " (#{name})", else: "")
    end
  end

  defp choice([member], types), do: expected(member, types)

  defp choice(members, types) do
    if Enum.all?(members, &match?({tag, _} when tag in [:word, :value], &1)),
      do: "one of " <> Enum.map_join(members, ", ", &expected(&1, types)),
      else: Enum.map_join(members, " or ", &expected(&1, types))
  end

  defp plural(type, _types) when type in [:string, :integer, :number, :boolean],
    do: "#{type}s"

  defp plural({:ref, name} = type, types) do
    case Map.fetch!(types, name) do
      plain when is_atom(plain) -> plural(plain, types)
      {:object, _, _, _} -> "maps (#{name})"
      _ -> expected(type, types)
    end
  end

  defp plural(type, types), do: expected(type, types)

  @secret ~r/key|token|secret|password|credential|authorization|header|^env$|^config$/i
  @no_secret ~w(key_path keyPath sort_key sortKey)

  @doc "Makes a value safe for errors: values under names that sound like secrets are hidden."
  @spec hide(term(), [term()]) :: term()
  def hide(value, path) do
    if Enum.any?(path, &secret?/1), do: "[redacted]", else: hide(value)
  end

  defp hide(%{} = map) when not is_struct(map),
    do: Map.new(map, fn {key, value} -> {key, hide(value, [key])} end)

  defp hide([_ | _] = list) do
    if List.improper?(list), do: "[redacted]", else: Enum.map(list, &hide/1)
  end

  defp hide({key, value}), do: {key, hide(value, [key])}
  defp hide(value), do: value

  defp secret?(key) when is_binary(key), do: key =~ @secret and key not in @no_secret
  defp secret?(key) when is_atom(key), do: key |> Atom.to_string() |> secret?()
  defp secret?(_index), do: false
end
