defmodule Codex.Schema.ProviderLimits do
  @moduledoc false
  # The limits of providers for a schema in strict form. A schema beyond them would be refused with
  # status 400 after the CLI has started.

  @levels 10
  @properties 5_000
  @enum_values 1_000
  @characters 120_000
  # The characters of an enumeration with more than this number of strings.
  @long_enum 250
  @enum_characters 15_000

  @empty %{properties: 0, enum_values: 0, characters: 0}

  @doc "Checks a strict form. Throws `{:invalid_schema, path, keyword}`, with the path reversed."
  @spec check(map()) :: :ok
  def check(strict) do
    counted = count(strict, [], 0, @empty)

    cond do
      counted.properties > @properties -> invalid([], "too many properties")
      counted.enum_values > @enum_values -> invalid([], "too many enum values")
      counted.characters > @characters -> invalid([], "too many characters")
      true -> :ok
    end
  end

  @doc """
  Returns the words of a limit that a schema exceeds, or nil if the keyword is none of these.

      iex> Codex.Schema.ProviderLimits.words("too many properties")
      "it has more than 5000 properties"
  """
  @spec words(String.t()) :: String.t() | nil
  def words("too many properties"), do: "it has more than #{@properties} properties"
  def words("too many enum values"), do: "it has more than #{@enum_values} values in enumerations"
  def words("too deep"), do: "it has more than #{@levels} levels of objects"

  def words("too many characters"),
    do: "the names and values in it have more than #{@characters} characters"

  def words("enum too long"),
    do:
      "an enumeration of more than #{@long_enum} strings has more than #{@enum_characters} " <>
        "characters"

  def words(_keyword), do: nil

  defp count(%{"properties" => properties} = node, path, level, counted) do
    if level == @levels, do: invalid(path, "too deep")

    counted = %{
      counted
      | properties: counted.properties + map_size(properties),
        characters: counted.characters + characters(Map.keys(properties))
    }

    properties
    |> Enum.reduce(counted, fn {name, property}, counted ->
      count(property, [name, "properties" | path], level + 1, counted)
    end)
    |> then(&rest(node, path, level, &1))
  end

  defp count(%{"enum" => values}, path, _level, counted) do
    texts = Enum.filter(values, &is_binary/1)
    size = characters(texts)

    if length(texts) > @long_enum and size > @enum_characters,
      do: invalid(path, "enum too long")

    %{
      counted
      | enum_values: counted.enum_values + length(values),
        characters: counted.characters + size
    }
  end

  defp count(node, path, level, counted), do: rest(node, path, level, counted)

  defp rest(node, path, level, counted) do
    forms = Map.get(node, "anyOf", [])
    definitions = Map.get(node, "$defs", %{})
    names = characters(Map.keys(definitions))
    counted = %{counted | characters: counted.characters + names}

    parts =
      for({items, "items"} <- [{node["items"], "items"}], items != nil, do: {items, ["items"]}) ++
        for({form, n} <- Enum.with_index(forms), do: {form, [n, "anyOf"]}) ++
        for({name, definition} <- definitions, do: {definition, [name, "$defs"]})

    Enum.reduce(parts, counted, fn {part, steps}, counted ->
      count(part, steps ++ path, if(match?([_, "$defs"], steps), do: 0, else: level), counted)
    end)
  end

  defp invalid(path, keyword), do: throw({:invalid_schema, path, keyword})

  defp characters(texts), do: texts |> Enum.map(&String.length/1) |> Enum.sum()
end
