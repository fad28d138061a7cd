defmodule Codex.Schema.PropertyTest do
  # Random schemas, answers and terms. A failure prints its seed.
  use ExUnit.Case, async: true

  alias Codex.Schema

  @rounds 400

  # Runs `fun` with reproducible random numbers.
  defp rounds(fun) do
    first = System.unique_integer([:positive])

    for n <- 1..@rounds do
      seed = {first, n, 7}
      _ = :rand.seed(:exsss, seed)

      try do
        fun.()
      rescue
        error -> reraise "seed #{inspect(seed)}: #{Exception.message(error)}", __STACKTRACE__
      end
    end
  end

  defp one(list), do: Enum.random(list)
  defp maybe(map, more), do: if(:rand.uniform(3) == 1, do: Map.merge(map, more), else: map)

  ## Schemas that have a strict form

  defp root do
    # Optional, so that answers have an end.
    recursive = put_in(object(0), ["properties", "r"], %{"$ref" => "#/$defs/D"})
    Map.put(object(3), "$defs", %{"D" => recursive, "S" => scalar()})
  end

  defp part(0), do: scalar()

  defp part(depth) do
    case :rand.uniform(7) do
      n when n <= 2 ->
        scalar()

      3 ->
        object(depth - 1)

      4 ->
        maybe(%{"type" => "array", "items" => part(depth - 1)}, %{
          "maxItems" => 3,
          "minItems" => 0
        })

      5 ->
        %{one(["anyOf", "oneOf"]) => [object(depth - 1), scalar()]}

      6 ->
        %{"$ref" => one(["#/$defs/D", "#/$defs/S"])}

      7 ->
        maybe(%{"enum" => Enum.take_random(["a", 1, nil, true, 2.5], 2)}, %{"description" => "d"})
    end
  end

  defp object(depth) do
    names = Enum.take_random(~w(a b c ~ /), :rand.uniform(4))
    required = Enum.filter(names, fn _ -> :rand.uniform(2) == 1 end)
    properties = for name <- names, into: %{}, do: {name, part(depth)}

    %{"type" => "object", "properties" => properties, "required" => required}
    |> maybe(%{"additionalProperties" => false, "title" => "t"})
  end

  defp scalar do
    one([
      maybe(%{"type" => "string"}, %{"minLength" => 1, "maxLength" => 5, "format" => "iri"}),
      maybe(%{"type" => "integer"}, %{"minimum" => 0, "maximum" => 9}),
      %{"type" => "boolean"},
      %{"type" => ["number", "null"]},
      %{"const" => one(["k", 1, nil])}
    ])
  end

  ## What a provider accepts, in the plainest form

  defp accepted?(%{"type" => "object"} = root), do: strict?(root)

  defp strict?(%{"$ref" => ref} = node),
    do: map_size(node) == 1 and (ref == "#" or String.starts_with?(ref, "#/$defs/"))

  defp strict?(%{"anyOf" => forms} = node),
    do: Map.keys(node) -- ["anyOf", "description"] == [] and Enum.all?(forms, &strict?/1)

  defp strict?(%{"type" => type} = node) do
    known =
      ~w(type description enum minimum maximum minItems maxItems) ++
        ~w(properties required additionalProperties items $defs)

    closed? =
      "object" not in List.wrap(type) or
        (node["additionalProperties"] == false and
           Enum.sort(node["required"]) == Enum.sort(Map.keys(node["properties"])) and
           Enum.all?(Map.values(node["properties"]), &strict?/1))

    Map.keys(node) -- known == [] and closed? and
      ("array" not in List.wrap(type) or strict?(node["items"])) and
      Enum.all?(Map.values(node["$defs"] || %{}), &strict?/1)
  end

  defp strict?(_other), do: false

  ## Answers that keep to a schema

  defp answer(%{"$ref" => "#/$defs/" <> name}, root), do: answer(root["$defs"][name], root)
  defp answer(%{"enum" => values}, _root), do: one(values)
  defp answer(%{"const" => value}, _root), do: value
  defp answer(%{"anyOf" => forms}, root), do: answer(one(forms), root)
  # The forms of a union are of different types.
  defp answer(%{"oneOf" => forms}, root), do: answer(one(forms), root)

  defp answer(%{"type" => "object"} = schema, root) do
    for {name, property} <- schema["properties"], into: %{} do
      null? = name not in schema["required"] and :rand.uniform(2) == 1
      {name, if(null?, do: nil, else: answer(property, root))}
    end
  end

  defp answer(%{"type" => "array", "items" => items}, root),
    do: for(_ <- 1..:rand.uniform(3), do: answer(items, root))

  defp answer(%{"type" => "string"}, _root), do: one(["x", "äöü", "12345"])
  defp answer(%{"type" => "integer"}, _root), do: one([0, 5, 9.0])
  defp answer(%{"type" => "boolean"}, _root), do: one([true, false])
  defp answer(%{"type" => ["number", "null"]}, _root), do: one([1.5, -3, nil])

  ## Any JSON

  defp json(0), do: one([nil, true, 0, -1.5, 1.0e300, "", "a", "ö", [], %{}])

  defp json(depth) do
    case :rand.uniform(3) do
      1 -> json(0)
      2 -> for _ <- 1..:rand.uniform(3), do: json(depth - 1)
      3 -> for _ <- 1..:rand.uniform(4), into: %{}, do: {one(~w(a b c x)), json(depth - 1)}
    end
  end

  # Puts something else into one place of a term.
  defp spoil(%{} = map) when map_size(map) > 0 do
    {name, value} = one(Map.to_list(map))

    case :rand.uniform(4) do
      1 -> Map.delete(map, name)
      2 -> Map.put(map, name, json(2))
      _ -> Map.put(map, name, spoil(value))
    end
  end

  defp spoil([_ | _] = list), do: List.update_at(list, :rand.uniform(length(list)) - 1, &spoil/1)
  defp spoil(_value), do: json(2)

  test "the strict form is accepted, and is its own strict form" do
    rounds(fn ->
      schema = root()
      assert {:ok, strict} = Schema.strict(schema)
      assert accepted?(strict)
      assert Schema.strict(strict) == {:ok, strict}
    end)
  end

  test "an answer that keeps to the schema is decoded without nulls of optional members" do
    rounds(fn ->
      schema = root()
      answer = answer(schema, schema)
      assert {:ok, decoded} = Schema.decode(schema, Codex.JSON.encode!(answer))
      # Without nulls it is the same answer.
      assert Schema.decode(schema, decoded) == {:ok, decoded}

      for {name, value} <- decoded,
          do: assert(value == answer[name] or is_map(value) or is_list(value))
    end)
  end

  test "strict/1 and decode/2 are total" do
    rounds(fn ->
      valid = root()

      for schema <- [valid, spoil(valid), spoil(spoil(valid)), json(4)],
          is_map(schema),
          answer <- [answer(valid, valid), spoil(answer(valid, valid)), json(4)] do
        case Schema.strict(schema) do
          {:ok, strict} ->
            assert is_map(strict)

            case Schema.decode(schema, Codex.JSON.encode!(answer)) do
              {:ok, _value} -> :ok
              {:error, {:invalid_output, faults}} -> assert_faults(faults)
            end

          {:error, {:invalid_schema, path, keyword}} ->
            assert is_list(path) and is_binary(keyword)
            assert {:error, {:invalid_schema, ^path, ^keyword}} = Schema.decode(schema, "{}")
        end
      end
    end)
  end

  test "decode/2 is total for any text" do
    fields = [a: :string, b: {:list, [c: {:optional, :integer}]}]

    rounds(fn ->
      text = :crypto.strong_rand_bytes(:rand.uniform(40))
      assert {:error, {:invalid_output, faults}} = Schema.decode(fields, text)
      assert_faults(faults)
    end)
  end

  defp assert_faults(faults) do
    assert faults != [] and length(faults) <= 100

    for %{path: path, message: message} <- faults do
      assert Enum.all?(path, &(is_binary(&1) or is_integer(&1)))
      assert is_binary(message) and message != ""
    end
  end
end
