defmodule Codex.Schema.Strict do
  @moduledoc false
  # Makes the strict form of a JSON schema (keys are strings), which providers ask for: every object
  # is closed, every property is required, an optional property may be null. A keyword that has no
  # strict form, and is not checked in the answer, is an error.

  alias Codex.JSON.Object
  alias Codex.Schema.{Pointer, ProviderLimits}

  @annotations ~w($schema $id $comment title description default examples)

  # Limits of single values, by the types that they apply to. An answer is checked against all.
  @limits %{
    "minimum" => ["number", "integer"],
    "maximum" => ["number", "integer"],
    "exclusiveMinimum" => ["number", "integer"],
    "exclusiveMaximum" => ["number", "integer"],
    "multipleOf" => ["number", "integer"],
    "pattern" => ["string"],
    "format" => ["string"],
    "minItems" => ["array"],
    "maxItems" => ["array"]
  }
  # Limits that strict form does not have.
  @dropped ~w(minLength maxLength uniqueItems)
  # The formats that strict form has.
  @formats ~w(date-time time date duration email hostname ipv4 ipv6 uuid)

  @structure ~w(type properties required additionalProperties items enum const anyOf oneOf $ref)
  @definitions ~w($defs definitions)
  @known @annotations ++ Map.keys(@limits) ++ @dropped ++ @structure ++ @definitions

  @types ~w(object array string number integer boolean null)

  @type error ::
          {:invalid_schema, path :: [String.t() | non_neg_integer()], keyword :: String.t()}

  @doc """
  Returns the strict form, or the first keyword that has none, with its path. Objects keep the note
  `:order` of `Codex.Schema.Source`.
  """
  @spec form(map()) :: {:ok, map()} | {:error, error()}
  def form(schema) do
    :ok = root(schema)
    strict = Map.merge(node(schema, [], schema), definitions(schema))
    with :ok <- ProviderLimits.check(strict), do: {:ok, strict}
  catch
    {:invalid_schema, path, keyword} ->
      {:error, {:invalid_schema, Enum.reverse(path), keyword}}
  end

  defp root(schema) do
    cond do
      any?(schema) -> invalid([], "any")
      Enum.any?(~w($ref anyOf oneOf enum const), &is_map_key(schema, &1)) -> invalid([], "root")
      Map.get(schema, "type", "object") != "object" -> invalid([], "root")
      true -> :ok
    end
  end

  # Keys that are no text are notes of `Codex.Schema.Source`.
  defp keywords(schema), do: for(key <- Map.keys(schema), is_binary(key), do: key)

  defp any?(schema), do: not is_map(schema) or keywords(schema) -- @annotations == []

  defp node(schema, path, root) do
    if any?(schema), do: invalid(path, "any")

    keyword = schema |> keywords() |> Enum.sort() |> Enum.find(&(&1 not in @known))
    if keyword, do: invalid(path, keyword)
    :ok = values(schema, path)
    strict = shape(schema, path, root)

    case schema do
      %{"description" => text} when not is_map_key(strict, "$ref") ->
        Map.put(strict, "description", text)

      _ ->
        strict
    end
  end

  ## The values of keywords

  defp values(schema, path) do
    Enum.each(schema, fn {keyword, value} ->
      unless value?(keyword, value), do: invalid(path, keyword)
    end)
  end

  defp value?("description", value), do: is_binary(value)
  defp value?("multipleOf", value), do: is_number(value) and value > 0

  defp value?(keyword, value)
       when keyword in ~w(minimum maximum exclusiveMinimum exclusiveMaximum),
       do: is_number(value)

  defp value?(keyword, value) when keyword in ~w(minLength maxLength minItems maxItems),
    do: is_integer(value) and value >= 0

  defp value?(keyword, value) when keyword in ~w(pattern format $ref), do: is_binary(value)
  defp value?("uniqueItems", value), do: is_boolean(value)

  defp value?("type", value) do
    types = List.wrap(value)
    types != [] and Enum.uniq(types) == types and Enum.all?(types, &(&1 in @types))
  end

  defp value?(keyword, value) when keyword in ["properties" | @definitions], do: is_map(value)
  defp value?("required", value), do: is_list(value) and Enum.all?(value, &is_binary/1)
  defp value?("enum", value), do: is_list(value) and value != []
  defp value?(union, value) when union in ~w(anyOf oneOf), do: is_list(value) and value != []
  defp value?(_keyword, _value), do: true

  ## Shapes

  defp shape(%{"$ref" => ref} = schema, path, root) do
    :ok = alone("$ref", schema, path, Map.keys(@limits) ++ @dropped ++ @structure)
    %{"$ref" => reference(ref, [], root) || invalid(path, "$ref")}
  end

  defp shape(%{"oneOf" => union} = schema, path, root),
    do: union(union, "oneOf", schema, path, root)

  defp shape(%{"anyOf" => union} = schema, path, root),
    do: union(union, "anyOf", schema, path, root)

  defp shape(%{"const" => value} = schema, path, _root), do: enum([value], "const", schema, path)
  defp shape(%{"enum" => values} = schema, path, _root), do: enum(values, "enum", schema, path)
  defp shape(%{"type" => type} = schema, path, root), do: typed(type, schema, path, root)
  defp shape(%{"properties" => _} = schema, path, root), do: typed("object", schema, path, root)
  defp shape(%{"items" => _} = schema, path, root), do: typed("array", schema, path, root)
  defp shape(_schema, path, _root), do: invalid(path, "type")

  # Strict form would lose the keywords beside it.
  defp alone(keyword, schema, path, others) do
    if Enum.any?(others -- [keyword], &is_map_key(schema, &1)),
      do: invalid(path, keyword),
      else: :ok
  end

  # The root, or a definition of the root that is there; no circle of references alone.
  defp reference("#", _seen, _root), do: "#"

  defp reference(ref, seen, root) do
    name = Pointer.name(ref, "#/$defs/") || Pointer.name(ref, "#/definitions/")

    case name && ref not in seen && Pointer.resolve(root, ref) do
      %{"$ref" => next} when is_binary(next) ->
        reference(next, [ref | seen], root) && "#/$defs/" <> Pointer.escape(name)

      %{} ->
        "#/$defs/" <> Pointer.escape(name)

      _missing ->
        nil
    end
  end

  defp union(union, keyword, schema, path, root) do
    :ok = alone(keyword, schema, path, @structure)

    %{
      "anyOf" =>
        for({form, n} <- Enum.with_index(union), do: node(form, [n, keyword | path], root))
    }
  end

  defp enum(values, keyword, schema, path) do
    :ok = alone(keyword, schema, path, @structure -- ["type"])
    types = values |> Enum.map(&type/1) |> Enum.uniq()
    if Enum.any?(types, &(&1 in ["array", "object"])), do: invalid(path, keyword)
    declared = schema["type"]

    if declared && not Enum.all?(types, &among?(&1, List.wrap(declared))),
      do: invalid(path, "type")

    type = declared || single(types)
    schema |> limits(List.wrap(type)) |> Map.merge(%{"enum" => values, "type" => type})
  end

  defp type(nil), do: "null"
  defp type(value) when is_boolean(value), do: "boolean"
  defp type(value) when is_integer(value), do: "integer"
  defp type(value) when is_float(value), do: "number"
  defp type(value) when is_binary(value), do: "string"
  defp type(value) when is_list(value), do: "array"
  defp type(_value), do: "object"

  defp among?("integer", types), do: "integer" in types or "number" in types
  defp among?(type, types), do: type in types

  defp single([type]), do: type
  defp single(types), do: types

  defp limits(schema, types) do
    for {keyword, of} <- @limits,
        {:ok, value} <- [Map.fetch(schema, keyword)],
        Enum.any?(of, &(&1 in types)),
        keyword != "format" or value in @formats,
        into: %{},
        do: {keyword, value}
  end

  defp typed(type, schema, path, root) do
    types = List.wrap(type)
    object = if "object" in types, do: object(schema, path, root), else: %{}
    array = if "array" in types, do: %{"items" => items(schema, path, root)}, else: %{}
    schema |> limits(types) |> Map.put("type", type) |> Map.merge(object) |> Map.merge(array)
  end

  defp items(%{"items" => items}, path, root), do: node(items, ["items" | path], root)
  defp items(_schema, path, _root), do: invalid(path, "items")

  defp object(schema, path, root) do
    if Map.get(schema, "additionalProperties", false) != false,
      do: invalid(path, "additionalProperties")

    properties =
      case schema do
        %{"properties" => properties} -> properties
        %{"additionalProperties" => false} -> %{}
        _open -> invalid(path, "properties")
      end

    required = schema["required"] || []
    unless Enum.all?(required, &is_map_key(properties, &1)), do: invalid(path, "required")

    strict =
      for {name, property} <- properties, into: %{} do
        property = node(property, [name, "properties" | path], root)
        {name, if(name in required, do: property, else: nullable(property))}
      end

    schema
    |> Map.take([:order])
    |> Map.merge(%{
      "properties" => strict,
      "required" => strict |> Map.keys() |> Enum.sort(),
      "additionalProperties" => false
    })
  end

  @null %{"type" => "null"}

  defp nullable(%{"anyOf" => union} = schema),
    do: if(@null in union, do: schema, else: %{schema | "anyOf" => union ++ [@null]})

  defp nullable(%{"$ref" => _} = schema), do: %{"anyOf" => [schema, @null]}

  defp nullable(%{"type" => type} = schema) do
    types = List.wrap(type)
    schema = if "null" in types, do: schema, else: %{schema | "type" => types ++ ["null"]}

    case schema do
      %{"enum" => values} -> %{schema | "enum" => Enum.uniq(values ++ [nil])}
      schema -> schema
    end
  end

  # References reach definitions of the root only.
  defp definitions(schema) do
    definitions =
      for keyword <- @definitions, {name, node} <- schema[keyword] || %{}, reduce: %{} do
        %{^name => _} -> invalid([], keyword)
        done -> Map.put(done, name, node(node, [name, keyword], schema))
      end

    if definitions == %{}, do: %{}, else: %{"$defs" => definitions}
  end

  defp invalid(path, keyword), do: throw({:invalid_schema, path, keyword})

  @doc "Returns a strict form without notes."
  @spec plain(term()) :: term()
  def plain(%{} = node),
    do: for({key, value} <- node, is_binary(key), into: %{}, do: {key, plain(value)})

  def plain(list) when is_list(list), do: Enum.map(list, &plain/1)
  def plain(value), do: value

  @doc """
  Returns a strict form for `Codex.JSON.encode/1`. The properties have the order of the notes, in
  which a model writes them.
  """
  @spec ordered(term()) :: term()
  def ordered(%{"properties" => properties, order: names} = node) do
    members = for name <- names, do: {name, ordered(properties[name])}

    node
    |> Map.drop([:order, "properties"])
    |> ordered()
    |> Map.put("properties", %Object{members: members})
  end

  def ordered(%{} = node), do: Map.new(node, fn {key, value} -> {key, ordered(value)} end)
  def ordered(list) when is_list(list), do: Enum.map(list, &ordered/1)
  def ordered(value), do: value
end
