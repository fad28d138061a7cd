defmodule Codex.Schema.Check do
  @moduledoc false
  # Checks a JSON value against a JSON schema with string keys, and collects all faults.
  #
  # Knows `type`, `properties`, `required`, `additionalProperties`, `items`, `enum`, `const`,
  # `anyOf`, `oneOf`, `allOf`, `$ref` to the schema's own parts, and the keywords of
  # `Codex.Schema.Limits`. Other keywords allow everything, as the JSON Schema specification has it.
  #
  # The rules of an answer (`answer: true`) are those of strict form: an optional member may be
  # null, an object with `properties` has no other members, and `format` counts.

  alias Codex.Schema.{Limits, Pointer}

  @types ~w(object array string number integer boolean null)

  @max_faults 100
  @max_levels 256
  # Parts of values against parts of schemas. Unions of references can make any number of pairs.
  @max_steps 1_000_000

  # The longest name of a member, the number of known names or values, and their length in a text.
  @max_name 100
  @max_known 50
  @max_text 1_000

  @typedoc """
  A fault at a path. `member` is the missing or unknown member of the object at the path: then the
  text is about that member.
  """
  @type fault :: %{
          path: [String.t() | non_neg_integer()],
          member: String.t() | nil,
          text: String.t()
        }

  @doc """
  Returns the faults of a value in the order of their paths, at most #{@max_faults}.

      iex> alias Codex.Schema.Check
      iex> integer = %{"type" => "integer"}
      iex> schema = %{"type" => "object", "properties" => %{"n" => integer}, "required" => ["n"]}
      iex> Check.faults(%{"n" => 1.0}, schema)
      []
      iex> Check.faults(%{"n" => "1"}, schema)
      [%{path: ["n"], member: nil, text: "must be an integer, got a string"}]
      iex> Check.faults(%{}, schema)
      [%{path: [], member: "n", text: "is required"}]

  Options: `:answer` - true for the rules of an answer; `:root` - the schema that references of
  `schema` point into, by default `schema` itself.
  """
  @spec faults(term(), map() | boolean(), keyword()) :: [fault()]
  def faults(value, schema, opts \\ []) do
    state = %{
      root: Keyword.get(opts, :root, schema),
      answer?: opts[:answer] == true,
      faults: [],
      count: 0,
      steps: @max_steps
    }

    state = check(value, schema, [], [], state)

    state =
      if state.steps == 0,
        do: %{state | faults: [{[], nil, "has too many parts to be checked"}]},
        else: state

    state.faults |> Enum.reverse() |> Enum.map(&fault/1) |> Enum.sort_by(& &1.path)
  end

  @doc "Returns whether a value has no fault."
  @spec valid?(term(), map() | boolean(), keyword()) :: boolean()
  def valid?(value, schema, opts), do: faults(value, schema, opts) == []

  defp fault({path, member, text}),
    do: %{path: Enum.reverse(path), member: member, text: text(text)}

  defp text({:type, types, got}),
    do: "must be #{Enum.map_join(types, " or ", &noun/1)}, got #{got}"

  defp text(text), do: text

  # Paths are reversed. `refs` are the references that led here without a step into the value: a
  # circle of them allows everything.
  defp check(_value, _schema, _path, _refs, %{steps: 0} = state), do: state

  defp check(_value, _schema, _path, _refs, %{count: count} = state) when count >= @max_faults,
    do: state

  defp check(_value, false, path, _refs, state), do: wrong(state, path, "is not allowed")

  defp check(value, %{} = schema, path, refs, state) do
    state = %{state | steps: state.steps - 1}

    if length(path) > @max_levels,
      do: wrong(state, path, "has more than #{@max_levels} levels"),
      else: Enum.reduce(schema, state, &keyword(&1, value, schema, path, refs, &2))
  end

  defp check(_value, _true_or_invalid, _path, _refs, state), do: state

  defp keyword({"$ref", ref}, value, _schema, path, refs, state) do
    if ref in refs,
      do: state,
      else: check(value, Pointer.resolve(state.root, ref), path, [ref | refs], state)
  end

  defp keyword({"type", type}, value, _schema, path, _refs, state) do
    types = type |> List.wrap() |> Enum.filter(&(&1 in @types))

    if types == [] or Enum.any?(types, &type?(&1, value)),
      do: state,
      else: wrong(state, path, {:type, types, noun_of(value)})
  end

  defp keyword({"enum", [_ | _] = values}, value, _schema, path, _refs, state) do
    if Enum.any?(values, &(&1 == value)),
      do: state,
      else: wrong(state, path, "must be one of #{listed(values, &json/1)}")
  end

  defp keyword({"const", const}, value, _schema, path, _refs, state),
    do: if(value == const, do: state, else: wrong(state, path, "must be #{cut(json(const))}"))

  defp keyword({"required", names}, value, _schema, path, _refs, state)
       when is_list(names) and is_map(value) do
    for name <- names, is_binary(name), not is_map_key(value, name), reduce: state do
      state -> wrong(state, path, name, "is required")
    end
  end

  defp keyword({"properties", %{} = properties}, %{} = value, schema, path, _refs, state) do
    state =
      Enum.reduce(properties, state, fn {name, property}, state ->
        case value do
          %{^name => nil} -> null(property, name, schema, path, state)
          %{^name => member} -> check(member, property, [name | path], [], state)
          _ -> state
        end
      end)

    if state.answer? and not is_map_key(schema, "additionalProperties"),
      do: unknown(state, value, false, properties, path),
      else: state
  end

  defp keyword({"additionalProperties", rule}, %{} = value, schema, path, _refs, state) do
    case schema do
      %{"patternProperties" => patterns} when patterns != %{} -> state
      %{"properties" => %{} = known} -> unknown(state, value, rule, known, path)
      %{"properties" => _invalid} -> state
      _ -> unknown(state, value, rule, %{}, path)
    end
  end

  defp keyword({"items", items}, value, _schema, path, _refs, state) when is_list(value) do
    value
    |> Enum.with_index()
    |> Enum.reduce(state, fn {item, n}, state -> check(item, items, [n | path], [], state) end)
  end

  defp keyword({"allOf", [_ | _] = schemas}, value, _schema, path, refs, state),
    do: Enum.reduce(schemas, state, &check(value, &1, path, refs, &2))

  defp keyword({union, [_ | _] = schemas}, value, _schema, path, refs, state)
       when union in ["anyOf", "oneOf"] do
    {forms, state} =
      Enum.map_reduce(schemas, state, fn schema, state ->
        form = check(value, schema, path, refs, %{state | faults: [], count: 0})
        {form.faults, %{state | steps: form.steps}}
      end)

    case Enum.count(forms, &(&1 == [])) do
      0 ->
        forms |> nearest(path) |> Enum.reduce(state, &add(&2, &1))

      n when n > 1 and union == "oneOf" ->
        wrong(state, path, "fits more than one of the allowed forms")

      _ ->
        state
    end
  end

  defp keyword({"format", _format}, _value, _schema, _path, _refs, %{answer?: false} = state),
    do: state

  defp keyword({keyword, rule}, value, _schema, path, _refs, state) do
    case Limits.broken(keyword, rule, value) do
      nil -> state
      text -> wrong(state, path, text)
    end
  end

  defp null(property, name, schema, path, state) do
    if state.answer? and optional?(schema, name),
      do: state,
      else: check(nil, property, [name | path], [], state)
  end

  @doc "Returns whether an object may leave out a member."
  @spec optional?(map(), String.t()) :: boolean()
  def optional?(schema, name) do
    case schema do
      %{"required" => required} when is_list(required) -> name not in required
      _ -> true
    end
  end

  defp unknown(state, value, rule, known, path) do
    value
    |> Map.drop(Map.keys(known))
    |> Enum.reduce(state, fn
      {name, _member}, state when rule == false ->
        wrong(state, path, short(name), "is unknown; known are #{names(known)}")

      {name, member}, state ->
        check(member, rule, [name | path], [], state)
    end)
  end

  defp short(name) when is_binary(name), do: String.slice(name, 0, @max_name)
  defp short(name), do: name |> inspect() |> String.slice(0, @max_name)

  defp names(known), do: known |> Map.keys() |> listed(& &1)

  defp listed(terms, text) do
    list = terms |> Enum.take(@max_known) |> Enum.map_join(", ", text) |> cut()
    if length(terms) > @max_known, do: list <> ", and others", else: list
  end

  defp cut(text),
    do:
      if(String.length(text) > @max_text, do: String.slice(text, 0, @max_text) <> "…", else: text)

  # The faults to report if no form of a union fits: those of the form with the fewest among the
  # forms of the value's type; else one about the types.
  defp nearest(forms, path) do
    wrong_types = for faults <- forms, {^path, _, {:type, _, _} = type} <- faults, do: type
    near = Enum.reject(forms, &Enum.any?(&1, fn fault -> wrong_type?(fault, path) end))

    case {near, wrong_types} do
      {[], [{:type, _, got} | _]} ->
        types = for {:type, types, _} <- wrong_types, type <- types, uniq: true, do: type
        [{path, nil, {:type, types, got}}]

      _ ->
        Enum.min_by(near, &length/1)
    end
  end

  defp wrong_type?({at, _member, text}, path), do: at == path and match?({:type, _, _}, text)

  defp wrong(state, path, member \\ nil, text), do: add(state, {path, member, text})

  defp add(%{count: count} = state, _fault) when count >= @max_faults, do: state
  defp add(state, fault), do: %{state | faults: [fault | state.faults], count: state.count + 1}

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
    case Enum.find(@types -- ["integer"], &type?(&1, value)) do
      nil -> "a term that JSON does not have"
      type -> noun(type)
    end
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
