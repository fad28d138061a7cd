defmodule Codex.Protocol.Schema do
  @moduledoc false
  # From the JSON schema that the CLI writes (`codex app-server generate-json-schema`) to the data of `priv/protocol`:
  # names, types, required fields and words. What only the experimental schema has is marked so.

  alias Codex.Protocol.Type

  # Results are in no schema: they are named after the type of the parameters, or after the method; these are not.
  @results %{
    "account/logout" => "LogoutAccountResponse",
    "account/securitySetup/read" => "GetAccountSecuritySetupResponse",
    "account/workspaceMessages/read" => "GetWorkspaceMessagesResponse",
    "accountSession/list" => "AccountSessionsResponse",
    "config/batchWrite" => "ConfigWriteResponse",
    "config/mcpServer/reload" => "McpServerRefreshResponse",
    "config/value/write" => "ConfigWriteResponse",
    "externalAgentConfig/import/readHistories" => "ExternalAgentConfigImportHistoriesReadResponse"
  }

  @unions ~w(ClientRequest ClientNotification ServerRequest ServerNotification)

  @doc """
  The data of two decoded schemas. Raises `ArgumentError` where one says what this module has no word for.
  """
  @spec data(String.t(), map(), map()) :: Codex.Protocol.File.data()
  def data(cli, stable, experimental) do
    now = definitions(stable)
    all = definitions(experimental)

    data = %{
      cli: cli,
      requests: methods(all, now, "ClientRequest"),
      client_notifications: methods(all, now, "ClientNotification"),
      notifications: methods(all, now, "ServerNotification"),
      server_requests: methods(all, now, "ServerRequest"),
      types: %{}
    }

    # What holds the methods together is no type.
    stable_types =
      Map.new(Map.drop(now, @unions), fn {name, schema} -> {name, type(schema, name)} end)

    types =
      Map.new(Map.drop(all, @unions), fn {name, schema} ->
        {name, schema |> type(name) |> mark(stable_types[name])}
      end)

    %{data | types: types |> Map.take(reached(data, types)) |> Map.new()}
  end

  # The second version of the protocol has a place of its own; no name means two things.
  defp definitions(%{"definitions" => %{"v2" => %{} = second} = first}) do
    Map.merge(Map.delete(first, "v2"), second, fn name, one, other ->
      if is_map(one["properties"]) and one["properties"] != other["properties"],
        do: raise(ArgumentError, "#{name} is two different types"),
        else: other
    end)
    |> Map.reject(fn {name, _} -> String.starts_with?(name, "JSONRPC") end)
  end

  defp definitions(_other),
    do: raise(ArgumentError, "expected a JSON schema with definitions, the second version in v2")

  defp methods(all, stable, union) do
    known = for schema <- stable[union]["oneOf"], into: MapSet.new(), do: method(schema)

    for schema <- all[union]["oneOf"], into: %{} do
      method = method(schema)
      params = type(schema["properties"]["params"] || %{"type" => "null"}, method)

      {method,
       %{
         params: params,
         result: if(union in ~w(ClientRequest ServerRequest), do: result(method, params, all)),
         experimental: method not in known
       }}
    end
  end

  defp method(schema), do: schema["properties"]["method"]["enum"] |> hd()

  defp result(method, params, all) do
    words =
      for <<first, rest::binary>> <- String.split(method, "/"),
          do: String.upcase(<<first>>) <> rest

    [
      @results[method],
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
    types = for word <- words, do: if(is_binary(word), do: {:word, word}, else: odd(at, word))
    nullable(one_of(types), "null" in List.wrap(schema["type"]))
  end

  # Properties beside a union belong to each of its members.
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

  defp type(%{"type" => "string"}, _at), do: :string
  defp type(%{"type" => "integer", "minimum" => _}, _at), do: :count
  defp type(%{"type" => "integer"}, _at), do: :integer
  defp type(%{"type" => "number"}, _at), do: :number
  defp type(%{"type" => "boolean"}, _at), do: :boolean
  defp type(%{"type" => "null"}, _at), do: :null
  defp type(%{"type" => "array"} = schema, at), do: {:list, type(schema["items"] || true, at)}
  defp type(%{"type" => "object"} = schema, at), do: object(schema, at)

  # No word about the value at all: anything.
  defp type(%{} = schema, at) do
    if Map.drop(schema, ~w(description title default)) == %{}, do: :any, else: odd(at, schema)
  end

  defp type(other, at), do: odd(at, other)

  @spec odd(String.t(), term()) :: no_return()
  defp odd(at, schema),
    do: raise(ArgumentError, "#{at} has a schema of a new form: #{inspect(schema)}")

  defp object(schema, at) do
    required = schema["required"] || []

    fields =
      Map.new(schema["properties"] || %{}, fn {name, inner} ->
        {name,
         %{
           type: type(inner, "#{at}.#{name}"),
           required: name in required,
           experimental: false
         }}
      end)

    case schema["additionalProperties"] do
      none when none in [nil, false] -> {:fields, fields, nil}
      other -> {:fields, fields, type(other, at)}
    end
  end

  defp members({:one_of, types}), do: types
  defp members({:nullable, type}), do: members(type) ++ [:null]
  defp members(type), do: [type]

  defp merge({:fields, common, _}, {:fields, fields, other}, _at),
    do: {:fields, Map.merge(common, fields), other}

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

  ## What only the experimental schema has

  # A type that is experimental as a whole is reached by way of something that is marked.
  defp mark({:fields, fields, other}, {:fields, stable, _}) do
    fields =
      Map.new(fields, fn {name, field} ->
        case stable do
          %{^name => known} -> {name, %{field | type: mark(field.type, known.type)}}
          _ -> {name, %{field | experimental: true}}
        end
      end)

    {:fields, fields, other}
  end

  defp mark({:nullable, type}, {:nullable, stable}), do: {:nullable, mark(type, stable)}
  defp mark({:list, type}, {:list, stable}), do: {:list, mark(type, stable)}

  defp mark({:one_of, types}, {:one_of, stable}) when length(types) == length(stable),
    do: {:one_of, for({type, stable} <- Enum.zip(types, stable), do: mark(type, stable))}

  defp mark(type, _stable), do: type

  defp reached(data, types) do
    for kind <- [:requests, :client_notifications, :notifications, :server_requests],
        {_, method} <- data[kind],
        name <- refs(method.params) ++ List.wrap(method.result),
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

  @doc "The names that a type mentions."
  @spec refs(Type.t()) :: [String.t()]
  def refs({:ref, name}), do: [name]
  def refs({tag, type}) when tag in [:nullable, :list], do: refs(type)
  def refs({:one_of, types}), do: Enum.flat_map(types, &refs/1)

  def refs({:fields, fields, other}),
    do:
      Enum.flat_map(fields, fn {_, field} -> refs(field.type) end) ++
        if(other, do: refs(other), else: [])

  def refs(_plain), do: []
end
