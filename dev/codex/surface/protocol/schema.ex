defmodule Codex.Surface.Protocol.Schema do
  @moduledoc false
  # Converts the JSON schema of the CLI (`codex app-server generate-json-schema`) to the data of
  # `priv/protocol`: names, types, required fields and words. Methods and fields that only the
  # experimental schema has are marked.

  #
  # A schema of an unknown form becomes `any`, and a note says so.

  alias Codex.Protocol.Check
  alias Codex.Surface.Diff
  alias Codex.Surface.Protocol.Data

  @unions [
    request: "ClientRequest",
    client_notification: "ClientNotification",
    notification: "ServerNotification",
    server_request: "ServerRequest"
  ]

  @doc """
  Converts two decoded schemas. The overlay has `definitions`, which the schemas lack, and
  `results`, the types of results by method: no schema names these, and elsewhere they follow the
  type of the parameters or the name of the method. Raises `ArgumentError` if a definition is
  missing.
  """
  @spec data(map(), map(), map()) :: {Data.t(), [Diff.change()]}
  def data(stable, experimental, overlay) do
    now = definitions(stable, overlay)
    all = definitions(experimental, overlay)

    methods =
      for {kind, union} <- @unions,
          method <- methods(all, now, union, overlay["results"] || %{}),
          do: {kind, method}

    methods = methods ++ older(methods, overlay["older"] || %{})
    stable = for {name, schema} <- types(now), into: %{}, do: {name, type(schema, name)}

    types =
      for {name, schema} <- types(all),
          into: %{},
          do: {name, schema |> type(name) |> mark(stable[name])}

    types = for type <- Map.take(types, reached(methods, types)), do: {:type, type}
    known(methods ++ types)
  end

  # Methods that the CLI has no longer, and that older ones send.
  defp older(methods, older) do
    known = for {kind, {name, _method}} <- methods, do: {Atom.to_string(kind), name}

    for {kind, entries} <- older,
        {name, method} <- entries,
        {kind, name} not in known do
      facts = [result: method["result"], experimental: true, until: method["until"]]
      {String.to_existing_atom(kind), {name, [params: {:ref, method["params"]}] ++ facts}}
    end
  end

  # Replaces `{:unknown, place, schema}` by `:any`.
  defp known(data), do: Enum.map_reduce(data, [], &known/2)

  defp known({:unknown, place, schema}, notes) do
    text = "has a schema of an unknown form, stored as any: #{inspect(schema)}"
    {:any, notes ++ [Diff.note("type #{place}", text)]}
  end

  defp known(list, notes) when is_list(list), do: Enum.map_reduce(list, notes, &known/2)

  defp known({one, two}, notes) do
    {one, notes} = known(one, notes)
    {two, notes} = known(two, notes)
    {{one, two}, notes}
  end

  defp known(plain, notes), do: {plain, notes}

  # The unions of methods are not types.
  defp types(definitions), do: Map.drop(definitions, Keyword.values(@unions))

  # Types of the second version of the protocol stand under `v2`. A name has one meaning only.
  defp definitions(%{"definitions" => %{"v2" => %{} = second} = first}, overlay) do
    Map.merge(Map.delete(first, "v2"), second, fn name, one, other ->
      if is_map(one["properties"]) and one["properties"] != other["properties"],
        do: raise(ArgumentError, "#{name} is two different types"),
        else: other
    end)
    |> Map.reject(fn {name, _} -> String.starts_with?(name, "JSONRPC") end)
    |> Map.merge(overlay["definitions"] || %{})
  end

  defp definitions(_other, _overlay),
    do: raise(ArgumentError, "expected a JSON schema with definitions, the second version in v2")

  defp methods(all, stable, union, results) do
    known = for schema <- stable[union]["oneOf"], into: MapSet.new(), do: method(schema)

    for schema <- all[union]["oneOf"] do
      method = method(schema)
      params = type(schema["properties"]["params"] || %{"type" => "null"}, method)
      result = if String.ends_with?(union, "Request"), do: result(method, params, all, results)

      {method,
       [params: params] ++
         if(result, do: [result: result], else: []) ++
         if(method in known, do: [], else: [experimental: true])}
    end
  end

  defp method(schema), do: schema["properties"]["method"]["enum"] |> hd()

  defp result(method, params, all, results) do
    words =
      for <<first, rest::binary>> <- String.split(method, "/"),
          do: String.upcase(<<first>>) <> rest

    [
      results[method],
      after_params(params),
      Enum.join(words) <> "Response",
      Enum.join(tl(words)) <> "Response"
    ]
    |> Enum.find(&is_map_key(all, &1))
  end

  defp after_params({:nullable, type}), do: after_params(type)
  defp after_params({:ref, name}), do: String.replace_suffix(name, "Params", "Response")
  defp after_params(_none), do: nil

  ## Schemas

  defp type(true, _at), do: :any
  defp type(%{"$ref" => ref}, _at), do: {:ref, ref |> String.split("/") |> List.last()}
  defp type(%{"allOf" => [schema]}, at), do: type(schema, at)

  defp type(%{"enum" => words} = schema, at) do
    types = for word <- words, do: constant(word, at)
    nullable(one_of(types), "null" in List.wrap(schema["type"]))
  end

  # Properties next to a union belong to each of its members.
  defp type(%{} = schema, at) when is_map_key(schema, "oneOf") or is_map_key(schema, "anyOf") do
    common = if schema["properties"], do: object(schema, at)

    schema
    |> Map.get_lazy("oneOf", fn -> schema["anyOf"] end)
    |> Enum.flat_map(&members(type(&1, at)))
    |> Enum.map(&if(common, do: merge(common, &1, at), else: &1))
    |> one_of()
  end

  defp type(%{"type" => types} = schema, at) when is_list(types) do
    case types -- ["null"] do
      [type] -> schema |> Map.put("type", type) |> type(at) |> nullable("null" in types)
      _several -> :any
    end
  end

  defp type(%{"const" => word} = schema, at),
    do: type(schema |> Map.delete("const") |> Map.put("enum", [word]), at)

  defp type(%{"type" => "string"}, _at), do: :string
  defp type(%{"type" => "integer", "minimum" => _}, _at), do: :count
  defp type(%{"type" => "integer"}, _at), do: :integer
  defp type(%{"type" => "number"}, _at), do: :number
  defp type(%{"type" => "boolean"}, _at), do: :boolean
  defp type(%{"type" => "null"}, _at), do: :null
  defp type(%{"type" => "array"} = schema, at), do: {:list, type(schema["items"] || true, at)}
  defp type(%{"type" => "object"} = schema, at), do: object(schema, at)

  # A schema without a type: any value.
  defp type(%{} = schema, at) do
    if Map.drop(schema, ~w(description title default)) == %{}, do: :any, else: odd(at, schema)
  end

  defp type(other, at), do: odd(at, other)

  defp constant(word, _at) when is_binary(word), do: {:word, word}
  defp constant(number, _at) when is_number(number), do: {:value, number}
  defp constant(nil, _at), do: :null
  defp constant(other, at), do: odd(at, other)

  defp odd(at, schema), do: {:unknown, at, schema}

  defp object(schema, at) do
    required = schema["required"] || []

    fields =
      for {name, inner} <- Enum.sort(schema["properties"] || %{}) do
        kind = if name in required, do: :required, else: :optional
        {kind, {name, type(inner, "#{at}.#{name}")}}
      end

    case schema["additionalProperties"] do
      none when none in [nil, false] -> {:fields, fields}
      other -> {:fields, fields ++ [other: type(other, at)]}
    end
  end

  defp members({:one_of, types}), do: types
  defp members({:nullable, type}), do: members(type) ++ [:null]
  defp members(type), do: [type]

  defp merge({:fields, common}, {:fields, fields}, _at) do
    names = for {_kind, {name, _type}} <- fields, do: name
    common = for {kind, {name, _}} = field <- common, kind != :other, name not in names, do: field
    {other, fields} = Keyword.split(fields, [:other])
    {:fields, Enum.sort_by(common ++ fields, fn {_kind, {name, _type}} -> name end) ++ other}
  end

  defp merge(_common, other, at), do: odd(at, other)

  defp one_of(types) do
    {nulls, types} = types |> Enum.uniq() |> Enum.split_with(&(&1 == :null))

    case types do
      [] -> :null
      [type] -> nullable(type, nulls != [])
      types -> nullable({:one_of, types}, nulls != [])
    end
  end

  defp nullable({:nullable, _} = type, _null?), do: type
  defp nullable(type, false), do: type
  defp nullable(type, true), do: {:nullable, type}

  ## Marks of the experimental schema

  # A type that is experimental as a whole needs no mark: a marked method or field leads to it.
  defp mark({:fields, fields}, {:fields, stable}) do
    stable = for {kind, {name, type}} <- stable, kind != :other, into: %{}, do: {name, type}
    {:fields, Enum.map(fields, &mark_field(&1, stable))}
  end

  defp mark({:nullable, type}, {:nullable, stable}), do: {:nullable, mark(type, stable)}
  defp mark({:list, type}, {:list, stable}), do: {:list, mark(type, stable)}

  defp mark({:one_of, types}, {:one_of, stable}) when length(types) == length(stable),
    do: {:one_of, for({type, stable} <- Enum.zip(types, stable), do: mark(type, stable))}

  defp mark(type, _stable), do: type

  defp mark_field({:other, _type} = other, _stable), do: other

  defp mark_field({kind, {name, type}}, stable) do
    case {stable, kind} do
      {%{^name => known}, _} -> {kind, {name, mark(type, known)}}
      {_, :required} -> {:experimental_required, {name, type}}
      {_, :optional} -> {:experimental, {name, type}}
    end
  end

  ## The types that methods need

  defp reached(methods, types) do
    for {_kind, {_name, method}} <- methods,
        name <- refs(method[:params]) ++ List.wrap(method[:result]),
        reduce: %{} do
      seen -> reach(name, types, seen)
    end
    |> Map.keys()
  end

  defp reach(name, _types, seen) when is_map_key(seen, name), do: seen

  defp reach(name, types, seen) do
    case types do
      %{^name => type} ->
        Enum.reduce(refs(type), Map.put(seen, name, true), &reach(&1, types, &2))

      _ ->
        raise ArgumentError, "the schema does not define #{name}"
    end
  end

  @doc "Returns the names that a type mentions."
  @spec refs(Check.type()) :: [String.t()]
  def refs({:ref, name}), do: [name]
  def refs({tag, type}) when tag in [:nullable, :list], do: refs(type)
  def refs({:one_of, types}), do: Enum.flat_map(types, &refs/1)

  def refs({:fields, fields}), do: Enum.flat_map(fields, &field_refs/1)
  def refs(_plain), do: []

  defp field_refs({:other, type}), do: refs(type)
  defp field_refs({_kind, {_name, type}}), do: refs(type)
end
