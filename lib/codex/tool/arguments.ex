defmodule Codex.Tool.Arguments do
  @moduledoc false
  # Checks the arguments of a tool call against the tool's JSON schema, which the CLI does not do.
  #
  # Knows `type`, `properties`, `required`, `additionalProperties`, `items`, `enum`, `const`,
  # `anyOf`, `oneOf`, `allOf`, `$ref` to the schema's own definitions, and the limits of numbers,
  # texts and lists. Other keywords allow everything, as the JSON Schema specification has it.

  @types ~w(object array string number integer boolean null)

  # Limits references of references and nested schemas.
  @max_depth 64

  @doc """
  Returns `:ok`, or a text for the model: the path of the first wrong value and the expected value.

      iex> integer = %{"type" => "integer"}
      iex> schema = %{"type" => "object", "properties" => %{"n" => integer}, "required" => ["n"]}
      iex> Codex.Tool.Arguments.check(%{"n" => 1}, schema)
      :ok
      iex> Codex.Tool.Arguments.check(%{"n" => "1"}, schema)
      {:error, "n must be an integer, got a string"}
      iex> Codex.Tool.Arguments.check(%{}, schema)
      {:error, "n is required"}
  """
  @spec check(term(), map()) :: :ok | {:error, String.t()}
  def check(arguments, schema), do: check(arguments, schema, [], {schema, @max_depth})

  defp check(_value, true, _path, _root), do: :ok
  defp check(_value, false, path, _root), do: wrong(path, "is not allowed")
  defp check(_value, _schema, _path, {_root, 0}), do: :ok

  defp check(value, %{} = schema, path, {root, depth}) do
    Enum.find_value(schema, :ok, fn {keyword, rule} ->
      case keyword(keyword, rule, value, schema, path, {root, depth - 1}) do
        :ok -> nil
        error -> error
      end
    end)
  end

  defp check(_value, _odd, _path, _root), do: :ok

  defp keyword("$ref", "#" <> pointer, value, _schema, path, {root, _} = at) do
    case resolve(root, pointer) do
      nil -> :ok
      schema -> check(value, schema, path, at)
    end
  end

  defp keyword("type", type, value, _schema, path, _root) do
    types = type |> List.wrap() |> Enum.filter(&(&1 in @types))

    if types == [] or Enum.any?(types, &type?(&1, value)),
      do: :ok,
      else: wrong(path, "must be #{Enum.map_join(types, " or ", &noun/1)}, got #{noun_of(value)}")
  end

  defp keyword("enum", [_ | _] = values, value, _schema, path, _root) do
    if Enum.any?(values, &(&1 == value)),
      do: :ok,
      else: wrong(path, "must be one of #{Enum.map_join(values, ", ", &json/1)}")
  end

  defp keyword("const", const, value, _schema, path, _root),
    do: if(value == const, do: :ok, else: wrong(path, "must be #{json(const)}"))

  defp keyword("required", [_ | _] = names, %{} = value, _schema, path, _root) do
    case Enum.find(names, &(not is_map_key(value, &1))) do
      nil -> :ok
      name -> wrong(path ++ [name], "is required")
    end
  end

  defp keyword("properties", %{} = properties, %{} = value, _schema, path, at) do
    first_error(properties, fn {name, schema} ->
      case value do
        %{^name => member} -> check(member, schema, path ++ [name], at)
        _ -> :ok
      end
    end)
  end

  defp keyword("additionalProperties", rule, %{} = value, schema, path, at) do
    known = Map.get(schema, "properties", %{})
    patterns = schema |> Map.get("patternProperties", %{}) |> map_size()

    if patterns > 0 or not is_map(known),
      do: :ok,
      else: first_error(Map.drop(value, Map.keys(known)), &unknown(&1, rule, known, path, at))
  end

  defp keyword("items", %{} = schema, value, _schema, path, at) when is_list(value) do
    value
    |> Enum.with_index()
    |> first_error(fn {member, n} -> check(member, schema, path ++ [n], at) end)
  end

  defp keyword("allOf", [_ | _] = schemas, value, _schema, path, at),
    do: first_error(schemas, &check(value, &1, path, at))

  defp keyword(any, [_ | _] = schemas, value, _schema, path, at) when any in ["anyOf", "oneOf"] do
    results = Enum.map(schemas, &check(value, &1, path, at))

    case {Enum.count(results, &(&1 == :ok)), any} do
      {0, _} -> hd(results)
      {n, "oneOf"} when n > 1 -> wrong(path, "fits more than one of the allowed forms")
      _ -> :ok
    end
  end

  defp keyword("minimum", n, value, _, path, _) when is_number(n) and is_number(value),
    do: limit(value >= n, path, "must be at least #{n}")

  defp keyword("maximum", n, value, _, path, _) when is_number(n) and is_number(value),
    do: limit(value <= n, path, "must be at most #{n}")

  defp keyword("exclusiveMinimum", n, value, _, path, _) when is_number(n) and is_number(value),
    do: limit(value > n, path, "must be more than #{n}")

  defp keyword("exclusiveMaximum", n, value, _, path, _) when is_number(n) and is_number(value),
    do: limit(value < n, path, "must be less than #{n}")

  defp keyword("minLength", n, value, _, path, _) when is_integer(n) and is_binary(value),
    do: limit(String.length(value) >= n, path, "must have at least #{n} characters")

  defp keyword("maxLength", n, value, _, path, _) when is_integer(n) and is_binary(value),
    do: limit(String.length(value) <= n, path, "must have at most #{n} characters")

  defp keyword("minItems", n, value, _, path, _) when is_integer(n) and is_list(value),
    do: limit(length(value) >= n, path, "must have at least #{n} items")

  defp keyword("maxItems", n, value, _, path, _) when is_integer(n) and is_list(value),
    do: limit(length(value) <= n, path, "must have at most #{n} items")

  # A pattern that Elixir cannot compile allows everything.
  defp keyword("pattern", pattern, value, _, path, _)
       when is_binary(pattern) and is_binary(value) do
    case Regex.compile(pattern, "u") do
      {:ok, regex} -> limit(Regex.match?(regex, value), path, "must match #{pattern}")
      {:error, _} -> :ok
    end
  end

  defp keyword(_keyword, _rule, _value, _schema, _path, _root), do: :ok

  defp unknown({name, member}, rule, known, path, at) do
    with {:error, _} = error <- check(member, rule, path ++ [name], at) do
      if rule == false,
        do:
          wrong(path ++ [name], "is unknown; known are #{known |> Map.keys() |> Enum.join(", ")}"),
        else: error
    end
  end

  defp resolve(root, pointer) do
    pointer
    |> String.split("/", trim: true)
    |> Enum.map(&(&1 |> String.replace("~1", "/") |> String.replace("~0", "~")))
    |> Enum.reduce_while(root, fn name, at ->
      case at do
        %{^name => next} -> {:cont, next}
        _ -> {:halt, nil}
      end
    end)
  end

  defp first_error(values, fun) do
    Enum.find_value(values, :ok, fn value ->
      with :ok <- fun.(value), do: nil
    end)
  end

  defp limit(true, _path, _text), do: :ok
  defp limit(false, path, text), do: wrong(path, text)

  defp wrong([], text), do: {:error, "the arguments: #{text}"}
  defp wrong(path, text), do: {:error, "#{Enum.join(path, ".")} #{text}"}

  defp type?("object", value), do: is_map(value)
  defp type?("array", value), do: is_list(value)
  defp type?("string", value), do: is_binary(value)
  defp type?("boolean", value), do: is_boolean(value)
  defp type?("null", value), do: value == nil
  defp type?("number", value), do: is_number(value)
  # JSON Schema counts 1.0 as an integer.
  defp type?("integer", value),
    do: is_integer(value) or (is_float(value) and trunc(value) == value)

  defp noun_of(value) do
    (@types -- ["integer"]) |> Enum.find(&type?(&1, value)) |> noun()
  end

  defp noun("null"), do: "null"
  defp noun(type) when type in ["object", "array", "integer"], do: "an #{type}"
  defp noun(type), do: "a #{type}"

  defp json(value) do
    case Codex.JSON.encode(value) do
      {:ok, json} -> json
      {:error, _} -> inspect(value)
    end
  end
end
