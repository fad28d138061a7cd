defmodule Codex.Surface.Config.Reader do
  @moduledoc false
  # Brings the nodes of `priv/config/schema.json` up to date with a CLI. A node that the CLI still
  # takes keeps its facts; a node of another type, and a new key, are derived from the faults that
  # the CLI finds in values of all kinds.

  alias Codex.Surface.Config.Probe
  alias Codex.Surface.Diff

  @type node_map :: map()

  # The name of an entry of a map.
  @entry "zz"

  @doc "Returns the node at a path, nil if the CLI lacks it. The overlay has nodes by path."
  @spec update(Probe.t(), node_map(), [String.t()], Probe.put(), map()) ::
          {node_map() | nil, [Diff.change()]}
  def update(probe, node, path, put, overlay) do
    if fixed?(node) do
      {node, []}
    else
      known = kind(node)

      case Probe.class(probe, put) do
        :gone -> {nil, []}
        :anything when known not in [:any, :number] -> {nil, []}
        class -> kept(probe, node, path, put, overlay, class, known)
      end
    end
  end

  defp kept(probe, node, path, put, overlay, class, known) do
    cond do
      is_map_key(overlay, key(path)) -> {overlay[key(path)], []}
      same?(class, known) -> node |> words(probe, path, put) |> inside(probe, path, put, overlay)
      true -> derive(probe, path, put, overlay)
    end
  end

  # Keys that no value proves: refused always, or the same as another key.
  defp fixed?(node),
    do: node["removed"] == true or node["refused"] == true or is_map_key(node, "ref")

  defp kind(%{"any" => _}), do: :any
  defp kind(%{"any_value" => true}), do: :any
  defp kind(%{"enum" => [word | _]}) when is_binary(word), do: :words
  defp kind(%{"enum" => _}), do: :any
  defp kind(%{"map" => _}), do: :map
  defp kind(%{"array" => _}), do: :array
  defp kind(%{"type" => "integer"} = node), do: {:integer, node["int"]}
  defp kind(%{"type" => "number"}), do: :number
  defp kind(%{"type" => type}), do: {:type, type}
  defp kind(_table), do: :struct

  defp same?(same, same), do: true
  defp same?(_class, :any), do: true
  defp same?({:unclear, _}, _known), do: true
  defp same?(:untagged, _known), do: true
  defp same?({:integer, _}, {:integer, "unsigned"}), do: true
  # Maps of fixed types are structs for the CLI, and some enums plain strings.
  defp same?(:struct, :map), do: true
  defp same?({:type, "string"}, :words), do: true
  defp same?(:number, {:integer, _}), do: false
  defp same?(_class, _known), do: false

  ## Words

  # The tag of a table among others: the CLI names the tags of all of them.
  defp words(%{"enum" => _} = node, probe, path, put) do
    if List.last(path) in ["type", "kind"], do: node, else: enum(node, probe, put)
  end

  # The CLI names the words of the enum and the only keys of the tables.
  defp words(%{"any" => all} = node, probe, _path, put) do
    tables = for %{"table" => table} <- all, key <- Map.keys(table), do: key

    case Probe.words(probe, put) do
      nil -> node
      words -> %{node | "any" => Enum.map(all, &member_words(&1, words -- tables))}
    end
  end

  defp words(node, _probe, _path, _put), do: node

  defp enum(node, probe, put) do
    case Probe.words(probe, put) do
      nil -> node
      words -> member_words(node, words)
    end
  end

  defp member_words(%{"enum" => known} = node, words),
    do: Map.put(node, "enum", Enum.filter(known, &(&1 in words)) ++ (words -- known))

  defp member_words(node, _words), do: node

  ## Nodes inside

  @doc "Returns a node with the nodes inside it brought up to date."
  @spec inside(node_map(), Probe.t(), [String.t()], Probe.put(), map()) ::
          {node_map(), [Diff.change()]}
  def inside(%{"any" => all} = node, probe, path, put, overlay) do
    {all, notes} =
      all
      |> Enum.map(fn member ->
        if is_map_key(member, "table") or is_map_key(member, "map"),
          do: inside(member, probe, path, put, Map.merge(others(all, member, path), overlay)),
          else: {member, []}
      end)
      |> Enum.unzip()

    {%{node | "any" => all}, Enum.concat(notes)}
  end

  def inside(%{"array" => inner} = node, probe, path, put, overlay) do
    {inner, notes} = update(probe, inner, path ++ ["[]"], &put.([&1]), overlay)
    {if(inner, do: %{node | "array" => inner}, else: node), notes}
  end

  def inside(%{"map" => inner} = node, probe, path, put, overlay) do
    {inner, notes} = update(probe, inner, path ++ ["*"], &put.(%{@entry => &1}), overlay)
    {if(inner, do: %{node | "map" => inner}, else: node), notes}
  end

  def inside(%{"table" => table} = node, probe, path, put, overlay) do
    names = shown(probe, path, put, node) ++ candidates(overlay, path)
    new = Enum.uniq(names) -- Map.keys(table)

    known =
      for {name, inner} <- table do
        {name, update_field(probe, inner, path ++ [name], field(put, node, name), overlay)}
      end

    added =
      for name <- new do
        {name, derive(probe, path ++ [name], field(put, node, name), overlay)}
      end

    fields = for {name, {inner, _}} <- known ++ added, inner, into: %{}, do: {name, inner}
    notes = for {_name, {_inner, notes}} <- known ++ added, note <- notes, do: note
    extra(%{node | "table" => fields}, notes, probe, path, put, overlay)
  end

  def inside(node, _probe, _path, _put, _overlay), do: {node, []}

  # The keys of the other tables of a union are not new keys of this one.
  defp others(all, member, path) do
    for %{"table" => table} <- all,
        name <- Map.keys(table) -- Map.keys(member["table"] || %{}),
        into: %{},
        do: {key(path ++ [name]), false}
  end

  defp extra(%{"extra" => extra} = node, notes, probe, path, put, overlay) do
    {extra, more} = update(probe, extra, path ++ ["*"], field(put, node, @entry), overlay)
    {if(extra, do: %{node | "extra" => extra}, else: node), notes ++ more}
  end

  defp extra(node, notes, _probe, _path, _put, _overlay), do: {node, notes}

  # In a table of an untagged enum, every fault reads the same: a key is gone if a valid value is a
  # fault and the table without it is not.
  defp update_field(probe, node, path, put, overlay) do
    case Probe.class(probe, put) do
      :untagged ->
        if untagged?(probe, put.(least(node))),
          do: {nil, []},
          else: update(probe, node, path, put, overlay)

      _class ->
        update(probe, node, path, put, overlay)
    end
  end

  defp untagged?(probe, config) do
    case Probe.ask(probe, config) do
      {:error, fault} -> fault =~ "did not match any variant of untagged"
      {:ok, _read} -> false
    end
  end

  # Puts a field beside the required fields of its table.
  defp field(put, node, name),
    do: fn value -> put.(Map.put(required(node), name, value)) end

  defp required(node) do
    fields =
      for name <- node["required"] || [],
          inner = node["table"][name],
          into: %{},
          do: {name, least(inner)}

    if node["transport"], do: Map.put(fields, "command", "x"), else: fields
  end

  # The smallest valid value.
  defp least(%{"any" => [first | _]}), do: least(first)
  defp least(%{"enum" => [first | _]}), do: first
  defp least(%{"table" => _} = node), do: required(node)
  defp least(%{"map" => _}), do: %{}
  defp least(%{"array" => _}), do: []
  defp least(%{"type" => "boolean"}), do: false
  defp least(%{"type" => "integer"} = node), do: max(1, node["min"] || 1)
  defp least(%{"type" => "number"}), do: 1.0
  defp least(%{"type" => "path"}), do: "/tmp"
  defp least(_string), do: "x"

  # The keys that the server shows of a table that a file sets.
  defp shown(probe, path, put, node) do
    with {:ok, read} <- Probe.ask(probe, put.(required(node))),
         %{} = table <- at(read, path) do
      Map.keys(table) -- [@entry]
    else
      _not_shown -> []
    end
  end

  defp at(read, []), do: read
  defp at(%{} = read, ["*" | path]), do: at(read[@entry], path)
  defp at(%{} = read, [name | path]), do: at(read[name], path)
  defp at(_list_or_plain, _path), do: nil

  defp candidates(overlay, path) do
    for {key, _node} <- overlay, {above, [name]} = split(key), above == path, do: name
  end

  defp split(key), do: key |> String.split(".") |> Enum.split(-1)

  @doc "Returns the path as the overlay and differences write it."
  @spec key([String.t()]) :: String.t()
  def key(path), do: Enum.join(path, ".")

  ## New nodes

  @doc "Returns the node of a key that the data lacks, nil if the CLI does."
  @spec derive(Probe.t(), [String.t()], Probe.put(), map()) :: {node_map() | nil, [Diff.change()]}
  def derive(probe, path, put, overlay) do
    case overlay[key(path)] do
      nil -> derive(probe, path, put, overlay, Probe.class(probe, put))
      false -> {nil, []}
      node -> {if(takes?(probe, put, node), do: node), []}
    end
  end

  # A valid value is taken, and an invalid one is not.
  defp takes?(probe, put, node) do
    match?({:ok, _}, Probe.ask(probe, put.(node["example"] || least(node)))) and
      match?({:error, _}, Probe.ask(probe, put.([[1.5]])))
  end

  defp derive(_probe, _path, _put, _overlay, :gone), do: {nil, []}
  defp derive(_probe, _path, _put, _overlay, :number), do: {%{"type" => "number"}, []}

  defp derive(probe, _path, put, _overlay, {:type, "string"}) do
    case Probe.words(probe, put) do
      nil -> {%{"type" => "string"}, []}
      words -> {%{"enum" => words}, []}
    end
  end

  defp derive(_probe, _path, _put, _overlay, {:type, type}), do: {%{"type" => type}, []}

  defp derive(probe, _path, put, _overlay, {:integer, int}) do
    min = Enum.find([-1, 0, 1], 1, &match?({:ok, _}, Probe.ask(probe, put.(&1))))
    {bounds(%{"type" => "integer", "int" => int, "min" => min}, int), []}
  end

  defp derive(probe, path, put, overlay, :array) do
    {inner, notes} = derive(probe, path ++ ["[]"], &put.([&1]), overlay)
    {%{"array" => inner || %{"any_value" => true}}, notes}
  end

  defp derive(probe, path, put, overlay, :map) do
    {inner, notes} = derive(probe, path ++ ["*"], &put.(%{@entry => &1}), overlay)
    {%{"map" => inner || %{"any_value" => true}}, notes}
  end

  defp derive(probe, path, put, overlay, :words) do
    case Probe.words(probe, put) do
      nil -> derive(probe, path, put, overlay, {:unclear, "an enum without words"})
      words -> {%{"enum" => words}, []}
    end
  end

  defp derive(probe, path, put, overlay, :struct),
    do:
      inside(
        required_fields(probe, %{"table" => %{}}, path, put, overlay),
        probe,
        path,
        put,
        overlay
      )

  defp derive(_probe, path, _put, _overlay, class) do
    words = if match?({:unclear, _}, class), do: elem(class, 1), else: "several types, untagged"
    text = "takes values that no probe tells (#{words}); describe it in dev/cli/overlay.json"
    {%{"any_value" => true, "incomplete" => true}, [Diff.note("config " <> key(path), text)]}
  end

  # Adds the fields that the CLI misses, until it misses none.
  defp required_fields(probe, node, path, put, overlay) do
    with {:error, fault} <- Probe.ask(probe, put.(required(node))),
         [_, name] <- Regex.run(~r/missing field `([^`]+)`/, fault),
         false <- name in (node["required"] || []) do
      {inner, _notes} = derive(probe, path ++ [name], field(put, node, name), overlay)

      node
      |> put_in(["table", name], inner || %{"type" => "string"})
      |> Map.update("required", [name], &(&1 ++ [name]))
      |> then(&required_fields(probe, &1, path, put, overlay))
    else
      _complete -> node
    end
  end

  defp bounds(node, int) do
    case int do
      "u8" -> Map.put(node, "max", 255)
      "u16" -> Map.put(node, "max", 65_535)
      "u32" -> Map.put(node, "max", 4_294_967_295)
      "i32" -> Map.merge(node, %{"min" => -2_147_483_648, "max" => 2_147_483_647})
      "i64" -> Map.delete(node, "min")
      _other -> node
    end
  end
end
