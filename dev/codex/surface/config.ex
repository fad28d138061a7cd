defmodule Codex.Surface.Config do
  @moduledoc false
  # The configuration keys: names from `config/read`, types and words from the faults that
  # `--strict-config` finds, features from `codex features list`. The overlay has the nodes that no
  # probe gives, by path: `*` is any name in a map, `[]` an element of a list.

  @behaviour Codex.Surface.Part

  alias Codex.Surface.Config.{Probe, Reader}
  alias Codex.Surface.{Diff, Json, Overlay, Program}

  @impl true
  def file, do: "priv/config/schema.json"

  @impl true
  def decode!(text) do
    case Json.read!(text) do
      %{"keys" => %{}} = schema ->
        schema

      other ->
        raise ArgumentError, "expected a schema with keys, got: #{inspect(other, limit: 5)}"
    end
  end

  @impl true
  def encode(schema), do: Json.write(schema)

  @impl true
  def read(program, stored) do
    overlay = Overlay.of("config")

    with {:ok, listed} <- features(program) do
      Probe.open(program, fn probe ->
        root = %{"table" => stored["keys"]}
        {root, notes} = Reader.inside(root, probe, [], & &1, overlay["keys"])
        keys = put_features(root["table"], listed, probe)
        {:ok, %{stored | "keys" => keys}, notes}
      end)
    end
  end

  # Lines of three columns; the home of every probe sets some features itself.
  defp features(program) do
    _config = Probe.write_base!(program.model.home)

    with {:ok, out} <- Program.run(program, ["features", "list"]) do
      lines = for line <- String.split(out, "\n", trim: true), do: String.split(line, ~r/ {2,}/)
      {:ok, for([name, stage, state] <- lines, into: %{}, do: {name, {stage, state == "true"}})}
    end
  end

  defp put_features(keys, listed, probe) do
    update_in(keys, ["features", "table"], fn known ->
      known
      |> Map.new(fn {name, node} -> {name, listed(node, listed[name], name)} end)
      |> Map.merge(
        for {name, fact} <- listed, not is_map_key(known, name), into: %{} do
          {node, _notes} =
            Reader.derive(probe, ["features", name], &%{"features" => %{name => &1}}, %{})

          {name, listed(node || %{"type" => "boolean"}, fact, name)}
        end
      )
    end)
  end

  defp listed(node, nil, _name), do: node

  defp listed(node, {stage, default}, name) do
    node = Map.put(node, "stage", stage)
    if name in Probe.features(), do: node, else: Map.put(node, "default", default)
  end

  ## The tree

  @impl true
  def tree(schema),
    do: Map.new(schema["keys"], fn {key, node} -> {"config " <> key, tree_node(node)} end)

  defp tree_node(node) do
    own = Enum.join([kind(node) | facts(node)], ", ")
    below = below(node)
    {own, own <> names(below), below}
  end

  defp names(below) when below == %{}, do: ""

  defp names(below),
    do: ":" <> Enum.map_join(Enum.sort(below), "", fn {name, _} -> " " <> String.trim(name) end)

  defp kind(%{"any" => _}), do: "one of several"
  defp kind(%{"enum" => _}), do: "a word"
  defp kind(%{"table" => _}), do: "table"
  defp kind(%{"extra" => _}), do: "table"
  defp kind(%{"map" => _}), do: "map"
  defp kind(%{"array" => _}), do: "list"
  defp kind(%{"ref" => key}), do: "as " <> key
  defp kind(%{"type" => "integer", "int" => int}), do: int
  defp kind(%{"type" => type}), do: type
  defp kind(_any), do: "any value"

  @shape ~w(any enum table extra map array ref type int any_value)

  defp facts(node) do
    for {name, fact} <- Enum.sort(Map.drop(node, @shape)),
        do: if(fact == true and name != "default", do: name, else: name <> " " <> fact(fact))
  end

  defp fact(fact) when is_binary(fact), do: fact
  defp fact(fact), do: fact |> Json.write() |> String.trim()

  defp below(node) do
    fields = for {name, inner} <- node["table"] || %{}, do: {"." <> name, tree_node(inner)}
    words = for word <- node["enum"] || [], do: {" '#{word}'", Diff.leaf("")}

    members =
      for {member, at} <- Enum.with_index(node["any"] || [], 1),
          do: {"[#{kind(member)} #{at}]", tree_node(member)}

    inner =
      for {key, sign} <- [{"map", ".*"}, {"extra", ".*"}, {"array", "[]"}],
          inner = node[key],
          do: {sign, tree_node(inner)}

    Map.new(fields ++ words ++ members ++ inner)
  end
end
