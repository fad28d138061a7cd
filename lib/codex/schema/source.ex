defmodule Codex.Schema.Source do
  @moduledoc false
  # Makes a JSON schema with string keys of each form that `Codex.Schema` takes. The key `:as` of an
  # object or an enumeration is no keyword, and names the form of the decoded value:
  #
  #   * `{:map, names}` - a map with the atoms that `names` has for the members
  #   * `{:struct, module, names}` - a struct
  #   * `{:enum, atoms}` - the atom of a text
  #
  # The key `:order` of an object has the names of its fields in order.

  alias Codex.JSON

  @simple [:string, :integer, :number, :boolean]

  # The options of a type, with the keywords that they stand for.
  @options %{
    description: "description",
    min_length: "minLength",
    max_length: "maxLength",
    pattern: "pattern",
    format: "format",
    minimum: "minimum",
    maximum: "maximum",
    exclusive_minimum: "exclusiveMinimum",
    exclusive_maximum: "exclusiveMaximum",
    multiple_of: "multipleOf",
    min_items: "minItems",
    max_items: "maxItems",
    unique_items: "uniqueItems"
  }

  @type error :: Codex.Schema.Strict.error()

  @doc "Returns the schema of a map, of fields, or of a module that uses `Codex.Schema`."
  @spec schema(term()) :: {:ok, map()} | {:error, error()}
  def schema(%{} = map) when not is_struct(map), do: json(map)

  def schema(source) do
    {schema, modules} =
      if fields?(source),
        do: object(source, :map, [], %{}),
        else: source |> fields([]) |> object({:struct, source}, [], %{source => "#"})

    definitions = define(modules, %{source => "#"}, %{})
    {:ok, if(definitions == %{}, do: schema, else: Map.put(schema, "$defs", definitions))}
  catch
    {:invalid_schema, path, keyword} ->
      {:error, {:invalid_schema, Enum.reverse(path), keyword}}
  end

  defp json(map) do
    with {:ok, text} <- JSON.encode(map), {:ok, schema} <- JSON.decode(text) do
      {:ok, schema}
    else
      {:error, {:not_encodable, _value, path}} ->
        {:error, {:invalid_schema, Enum.map(path, &step/1), "not JSON"}}

      {:error, {_too_deep, _at}} ->
        {:error, {:invalid_schema, [], "too deep"}}
    end
  end

  defp step(name) when is_atom(name), do: Atom.to_string(name)
  defp step(name), do: name

  # Definitions of modules may name further modules.
  defp define(modules, done, definitions) do
    case Enum.find(modules, fn {module, _ref} -> not is_map_key(done, module) end) do
      nil ->
        definitions

      {module, "#/$defs/" <> name = ref} ->
        {schema, more} =
          module |> fields([name, "$defs"]) |> object({:struct, module}, [name, "$defs"], modules)

        define(more, Map.put(done, module, ref), Map.put(definitions, name, schema))
    end
  end

  @doc "Returns whether a term is a module that uses `Codex.Schema`."
  @spec module?(term()) :: boolean()
  def module?(module) do
    is_atom(module) and match?({:module, _}, Code.ensure_loaded(module)) and
      function_exported?(module, :__codex_schema__, 0)
  end

  @doc "Returns whether a term is a list of fields."
  @spec fields?(term()) :: boolean()
  def fields?(source), do: source != [] and Keyword.keyword?(source)

  defp fields(module, path) do
    with true <- module?(module),
         fields = module.__codex_schema__(),
         true <- fields?(fields) do
      fields
    else
      _ -> invalid(path, "type")
    end
  end

  # Each function returns the schema, and the references of the modules that were seen.
  defp object(fields, as, path, modules) do
    names = Keyword.keys(fields)
    twice = names -- Enum.uniq(names)
    if twice != [], do: invalid(path, Atom.to_string(hd(twice)))

    {properties, modules} =
      Enum.map_reduce(fields, modules, fn {name, type}, modules ->
        key = Atom.to_string(name)
        {optional?, type} = optional(type)
        {schema, modules} = type(type, [key, "properties" | path], modules)
        {{name, key, optional?, schema}, modules}
      end)

    names = for {name, key, _, _} <- properties, into: %{}, do: {key, name}

    schema = %{
      "type" => "object",
      "properties" => for({_, key, _, schema} <- properties, into: %{}, do: {key, schema}),
      "required" => for({_, key, false, _} <- properties, do: key),
      "additionalProperties" => false,
      as: as(as, names),
      order: for({_, key, _, _} <- properties, do: key)
    }

    {schema, modules}
  end

  defp as(:map, names), do: {:map, names}
  defp as({:struct, module}, names), do: {:struct, module, names}

  defp optional({:optional, type}), do: {true, type}
  defp optional(type), do: {false, type}

  defp type(simple, _path, modules) when simple in @simple,
    do: {%{"type" => Atom.to_string(simple)}, modules}

  defp type({:list, type}, path, modules) do
    {items, modules} = type(type, ["items" | path], modules)
    {%{"type" => "array", "items" => items}, modules}
  end

  defp type({:any_of, [_ | _] = types}, path, modules) do
    {forms, modules} =
      types
      |> Enum.with_index()
      |> Enum.map_reduce(modules, fn {type, n}, modules ->
        type(type, [n, "anyOf" | path], modules)
      end)

    {%{"anyOf" => forms}, modules}
  end

  defp type({:enum, [_ | _] = values}, path, modules) do
    atoms = for value <- values, name?(value), into: %{}, do: {Atom.to_string(value), value}
    values = Enum.map(values, &if(name?(&1), do: Atom.to_string(&1), else: &1))
    scalar? = &(is_binary(&1) or is_number(&1) or is_boolean(&1) or is_nil(&1))
    unless Enum.all?(values, scalar?), do: invalid(path, "enum")
    schema = %{"enum" => values}
    {if(atoms == %{}, do: schema, else: Map.put(schema, :as, {:enum, atoms})), modules}
  end

  defp type({tag, value, opts}, path, modules) when tag in [:list, :any_of, :enum],
    do: {tag, value} |> type(path, modules) |> with_options(opts, path)

  defp type({type, opts}, path, modules) when type not in [:list, :any_of, :enum, :optional],
    do: type |> type(path, modules) |> with_options(opts, path)

  defp type(%{} = map, path, modules) when not is_struct(map) do
    case json(map) do
      {:ok, schema} -> {schema, modules}
      {:error, {_, inner, keyword}} -> invalid(Enum.reverse(inner) ++ path, keyword)
    end
  end

  defp type(source, path, modules) do
    cond do
      fields?(source) -> object(source, :map, path, modules)
      is_map_key(modules, source) -> {%{"$ref" => modules[source]}, modules}
      module?(source) -> reference(source, modules)
      true -> invalid(path, "type")
    end
  end

  defp reference(module, modules) do
    ref = "#/$defs/" <> name(module, Map.values(modules), 1)
    {%{"$ref" => ref}, Map.put(modules, module, ref)}
  end

  # `A.B_C` and `A_B.C` are two modules.
  defp name(module, taken, n) do
    base = module |> inspect() |> String.replace(~r/[^a-zA-Z0-9]/, "_")
    name = if n == 1, do: base, else: "#{base}_#{n}"
    if ("#/$defs/" <> name) in taken, do: name(module, taken, n + 1), else: name
  end

  defp name?(value), do: is_atom(value) and value not in [nil, true, false]

  defp with_options({schema, modules}, opts, path) do
    unless Keyword.keyword?(opts), do: invalid(path, "type")

    schema =
      Enum.reduce(opts, schema, fn {name, value}, schema ->
        case @options do
          %{^name => keyword} -> Map.put(schema, keyword, value)
          _ -> invalid(path, Atom.to_string(name))
        end
      end)

    {schema, modules}
  end

  defp invalid(path, keyword), do: throw({:invalid_schema, path, keyword})
end
