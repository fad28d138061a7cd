defmodule Codex.ConfigSchemaCases do
  @moduledoc "Configurations made from the schema data: good ones, and the same with one thing wrong."

  import Codex.ConfigStacks, only: [one_of: 1, chance: 1, inline: 1]

  # Cases that depend on several keys, with the reason.
  @left_out %{
    "computer_use" => "its executables are checked against the file system",
    "default_permissions" => "has to name a permission profile",
    "experimental_compact_prompt_file" => "has to exist",
    "experimental_thread_store_endpoint" => "is refused always",
    "hooks" => "handlers of one kind exclude keys of the other",
    "mcp_enterprise_managed_auth" => "conditions between keys",
    "model_catalog_json" => "has to exist",
    "model_instructions_file" => "has to exist",
    "model_provider" => "has to name a provider; every home of ours sets it",
    "model_providers" => "conditions between keys; every home of ours sets it",
    "permissions" => "conditions between keys and on their names",
    "plugins" => "every home of ours keeps them off",
    "profile" => "is refused always",
    "profiles" => "is there for the older form only, and not looked into",
    "windows" => "conditions between keys"
  }

  @schema "priv/config/schema.json"

  def schema do
    {:ok, json} = File.cwd!() |> Path.join(@schema) |> File.read!() |> Codex.JSON.decode()
    Map.drop(json["keys"], Map.keys(@left_out))
  end

  @doc "A list of `{path, node, value}`, one for each value of a good configuration."
  def good(schema) do
    schema
    |> Enum.take_random(1 + :rand.uniform(5))
    |> Enum.flat_map(fn {key, node} -> leaves(node, [key]) end)
    |> Enum.uniq_by(fn {path, _, _} -> path end)
    |> Enum.reject(fn {path, _, _} -> path in [~w(analytics enabled), ~w(features plugins)] end)
  end

  defp leaves(%{"removed" => true}, _path), do: []
  defp leaves(%{"refused" => true}, _path), do: []
  defp leaves(%{"alias_of" => _}, _path), do: []
  defp leaves(%{"type" => "keybinding"}, _path), do: []
  defp leaves(%{"ref" => _}, _path), do: []
  defp leaves(%{"any" => [first | _]}, ["features" | _] = path), do: leaves(first, path)
  defp leaves(%{"any" => all}, path), do: all |> one_of() |> leaves(path)

  defp leaves(%{"transport" => _, "table" => table}, path) do
    kind = one_of(~w(command url))

    with_keys(
      Map.take(table, [kind | ~w(enabled required enabled_tools tool_timeout_sec scopes)]),
      [kind],
      path
    )
  end

  defp leaves(%{"table" => table} = node, path) do
    excluded = for [one | _] <- node["exclusive"] || [], do: one
    with_keys(Map.drop(table, excluded), node["required"] || [], path)
  end

  defp leaves(%{"map" => inner, "key_format" => "one digit"}, path),
    do: leaves(inner, path ++ ["7"])

  defp leaves(%{"map" => inner}, path),
    do: leaves(inner, path ++ [one_of(["name", "other-name"])])

  defp leaves(node, path), do: for(value <- value(node), do: {path, node, value})

  defp with_keys(table, required, path) do
    optional = table |> Map.drop(required) |> Enum.take_random(:rand.uniform(3))

    for {key, node} <- Enum.to_list(Map.take(table, required)) ++ optional,
        leaf <- leaves(node, path ++ [key]),
        do: leaf
  end

  # Lists of none or one value.
  defp value(%{"enum" => values} = node),
    do: [one_of(values -- Map.keys(if is_map(node["refused"]), do: node["refused"], else: %{}))]

  defp value(%{"array" => inner} = node),
    do: [Enum.flat_map(1..max(node["min_items"] || 1, 1), fn _ -> element(inner) end)]

  defp value(%{"type" => "string"}), do: ["zzz"]
  defp value(%{"type" => "path"}), do: ["/zzz"]
  defp value(%{"type" => "boolean"}), do: [chance(50)]
  defp value(%{"type" => "number"}), do: [1.5]

  defp value(%{"type" => "integer"} = node),
    do: [(node["min"] || 1) |> max(1) |> min(node["max"] || 1)]

  defp value(%{"any_value" => true}), do: [1]
  defp value(_node), do: []

  # A table within an array stands on one line.
  defp element(%{"any" => all}), do: all |> one_of() |> element()

  defp element(%{"table" => table} = node) do
    [
      for(
        {key, inner} <- Map.take(table, node["required"] || []),
        value <- element(inner),
        into: %{},
        do: {key, value}
      )
    ]
  end

  defp element(%{"map" => _}), do: [%{}]
  defp element(node), do: value(node)

  @doc "The text, and the line of every path, after `before` lines."
  def text(leaves, before) do
    {tables, dotted} =
      leaves
      |> Enum.group_by(fn {path, _, _} -> Enum.drop(path, -1) end)
      |> Enum.split_with(fn {head, _} ->
        head != [] and hd(head) not in ~w(features analytics) and chance(50)
      end)

    # A header opens its table once, so a table that dotted keys opened already gets none.
    opened = for {head, _} <- dotted, head != [], do: hd(head)
    {clash, tables} = Enum.split_with(tables, fn {[top | _], _} -> top in opened end)

    lines =
      for {_, leaves} <- dotted ++ clash,
          {path, _, value} <- leaves,
          do: {path, line(path, value)}

    lines =
      lines ++
        for {head, leaves} <- Enum.sort(tables),
            line <- [
              {nil, "[#{key(head)}]"}
              | for({path, _, value} <- leaves, do: {path, line([List.last(path)], value)})
            ],
            do: line

    numbers =
      for {{path, _}, index} <- Enum.with_index(lines, before + 1),
          path,
          into: %{},
          do: {path, index}

    {Enum.map_join(lines, "\n", &elem(&1, 1)) <> "\n", numbers}
  end

  defp line(path, value), do: key(path) <> " = " <> IO.iodata_to_binary(inline(value))
  defp key(path), do: Enum.map_join(path, ".", &if(&1 =~ ~r/^[\w-]+$/, do: &1, else: inspect(&1)))

  @doc "The same with one value of another type or out of its range, or one key that does not exist; its path comes along."
  def broken(leaves) do
    {path, node, _} = leaf = one_of(leaves)

    case wrong(node) do
      nil ->
        {[{unknown(path), %{}, 1} | leaves], unknown(path)}

      value ->
        if chance(30),
          do: {leaves ++ [{unknown(path), %{}, 1}], unknown(path)},
          else: {[{path, node, value} | List.delete(leaves, leaf)], path}
    end
  end

  defp unknown(path), do: List.replace_at(path, -1, "zz_not_a_key")

  defp wrong(%{"type" => type}) when type in ~w(string path boolean), do: 3
  defp wrong(%{"type" => "integer", "min" => min}), do: one_of([min - 1, "x", 1.5])
  defp wrong(%{"type" => type}) when type in ~w(integer number), do: "x"
  defp wrong(%{"enum" => _}), do: one_of(["zzz", 3])
  defp wrong(%{"array" => _}), do: one_of([3, "x"])
  defp wrong(_node), do: nil
end
