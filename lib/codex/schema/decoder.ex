defmodule Codex.Schema.Decoder do
  @moduledoc false
  # Decodes the answer of a model by a schema of `Codex.Schema.Source`: reads the JSON, checks it
  # against the schema, takes out the nulls of optional members, and makes structs and atoms of
  # declared names.

  alias Codex.{JSON, Schema}
  alias Codex.JSON.Answer
  alias Codex.Schema.{Check, Pointer}

  @max_faults 100

  @type result :: {:ok, term()} | {:error, {:invalid_output, [Schema.fault(), ...]}}

  @doc "Decodes a text, or a term that JSON can express."
  @spec decode(map(), term()) :: result()
  def decode(schema, answer) do
    with {:ok, value} <- json(answer),
         [] <- Check.faults(value, schema, answer: true),
         {value, []} <- convert(value, schema, [], schema) do
      {:ok, value}
    else
      {:error, text} -> invalid([%{path: [], message: text}])
      {_value, faults} -> invalid(faults)
      faults -> faults |> Enum.map(&fault/1) |> invalid()
    end
  end

  defp invalid(faults), do: {:error, {:invalid_output, Enum.take(faults, @max_faults)}}

  defp fault(%{path: path, member: nil, text: text}), do: %{path: path, message: text}

  defp fault(%{path: path, member: member, text: text}),
    do: %{path: path, message: "#{member} #{text}"}

  defp json(text) when is_binary(text) do
    with {:error, {why, at}} <- Answer.decode(text),
         do: {:error, "is not one JSON document (#{why}, at byte #{at})"}
  end

  defp json(term) do
    with {:ok, text} <- JSON.encode(term), {:ok, value} <- JSON.decode(text) do
      {:ok, value}
    else
      {:error, _reason} -> {:error, "has no form in JSON"}
    end
  end

  # Returns the value and the faults that `validate/1` of modules found. Paths are reversed.
  defp convert(value, %{"$ref" => ref}, path, root),
    do: convert(value, Pointer.resolve(root, ref), path, root)

  defp convert(value, %{"anyOf" => forms}, path, root), do: union(value, forms, path, root)
  defp convert(value, %{"oneOf" => forms}, path, root), do: union(value, forms, path, root)

  defp convert(value, %{as: {:enum, atoms}}, _path, _root) when is_map_key(atoms, value),
    do: {Map.fetch!(atoms, value), []}

  defp convert(%{} = value, %{"properties" => properties} = schema, path, root) do
    {members, faults} =
      Enum.flat_map_reduce(value, [], fn {name, member}, faults ->
        property = Map.fetch!(properties, name)

        if member == nil and absent?(name, property, schema, root) do
          {[], faults}
        else
          {member, more} = convert(member, property, [name | path], root)
          {[{name, member}], faults ++ more}
        end
      end)

    if faults == [], do: build(schema[:as], members, path), else: {value, faults}
  end

  defp convert(value, %{"items" => items}, path, root) when is_list(value) do
    value
    |> Enum.with_index()
    |> Enum.map_reduce([], fn {item, n}, faults ->
      {item, more} = convert(item, items, [n | path], root)
      {item, faults ++ more}
    end)
  end

  defp convert(value, _schema, _path, _root), do: {value, []}

  # The check has found a form that fits.
  defp union(value, forms, path, root) do
    form = Enum.find(forms, &Check.valid?(value, &1, answer: true, root: root))
    convert(value, form, path, root)
  end

  # Null stands for a missing member, unless the schema itself allows null.
  defp absent?(name, property, schema, root) do
    Check.optional?(schema, name) and not Check.valid?(nil, property, answer: true, root: root)
  end

  defp build(nil, members, _path), do: {Map.new(members), []}

  defp build({:map, names}, members, _path),
    do: {Map.new(members, fn {name, value} -> {Map.fetch!(names, name), value} end), []}

  defp build({:struct, module, names}, members, path) do
    {fields, []} = build({:map, names}, members, path)
    value = struct!(module, fields)

    if function_exported?(module, :validate, 1),
      do: {value, validate(module, value, path)},
      else: {value, []}
  end

  defp validate(module, value, path) do
    at = Enum.reverse(path)

    case module.validate(value) do
      :ok ->
        []

      {:error, message} when is_binary(message) ->
        [%{path: at, message: message}]

      {:error, [_ | _] = faults} ->
        for %{path: inner, message: message} <- faults, do: %{path: at ++ inner, message: message}

      other ->
        raise ArgumentError,
              "#{inspect(module)}.validate/1 must return :ok, {:error, message} or " <>
                "{:error, [%{path: path, message: message}]}, got: #{inspect(other)}"
    end
  end
end
