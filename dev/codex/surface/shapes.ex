defmodule Codex.Surface.Shapes do
  @moduledoc false
  # The messages of scripted runs: for each kind, the paths of all keys with the JSON types of their
  # values.
  #
  #     %{"exec item todo_list" => %{"items" => "list", "items[].text" => "string"}}
  #
  # `[]` is an element of a list, and `<id>` and `<path>` are keys that differ between runs. A path
  # ends with `?` if some message of the kind lacks it.
  #
  # A run need not show all that a kind can have: an optional path, or a type, is kept once it was
  # seen. A path that every message had is gone if no message has it.

  @behaviour Codex.Surface.Part

  alias Codex.Surface.{Diff, Json}
  alias Codex.Surface.Shapes.Runs

  @type t :: %{(kind :: String.t()) => shape()}
  @type shape :: %{(path :: String.t()) => types :: String.t()}

  @impl true
  def file, do: "dev/cli/shapes.json"

  @impl true
  def decode!(text), do: Json.read!(text)

  @impl true
  def encode(shapes), do: Json.write(shapes)

  @impl true
  def read(program, stored) do
    with {:ok, messages} <- Runs.messages(program), do: {:ok, update(stored, of(messages)), []}
  end

  @impl true
  def tree(shapes) do
    for {kind, shape} <- shapes, into: %{} do
      below = for {path, types} <- shape, into: %{}, do: {"." <> path, Diff.leaf(types)}
      {"shape of " <> kind, {"", Enum.join(Enum.sort(Map.keys(shape)), " "), below}}
    end
  end

  @doc """
  Returns the shapes of messages, which are pairs of a kind and a JSON object.

      iex> messages = [{"k", %{"a" => [%{"b" => 1}], "c" => nil}}, {"k", %{"a" => []}}]
      iex> Codex.Surface.Shapes.of(messages)
      %{"k" => %{"a" => "list", "a[]?" => "object", "a[].b?" => "number", "c?" => "null"}}
  """
  @spec of([{String.t(), map()}]) :: t()
  def of(messages) do
    for {kind, messages} <- Enum.group_by(messages, &elem(&1, 0), &elem(&1, 1)), into: %{} do
      found = for message <- messages, pair <- message |> paths("") |> Enum.uniq(), do: pair

      shape =
        for {path, types} <- Enum.group_by(found, &elem(&1, 0), &elem(&1, 1)), into: %{} do
          holders = Enum.count(messages, &List.keymember?(paths(&1, ""), path, 0))
          {if(holders < length(messages), do: path <> "?", else: path), union(types)}
        end

      {kind, shape}
    end
  end

  defp paths(%{} = map, at) do
    for {key, value} <- map,
        path = if(at == "", do: key(key), else: at <> "." <> key(key)),
        pair <- [{path, type(value)} | paths(value, path)],
        do: pair
  end

  defp paths(list, at) when is_list(list) do
    for value <- list, pair <- [{at <> "[]", type(value)} | paths(value, at <> "[]")], do: pair
  end

  defp paths(_plain, _at), do: []

  defp key("/" <> _), do: "<path>"
  defp key(key), do: if(key =~ ~r/^[0-9a-f-]{36}$/, do: "<id>", else: key)

  defp type(nil), do: "null"
  defp type(value) when is_boolean(value), do: "boolean"
  defp type(value) when is_number(value), do: "number"
  defp type(value) when is_binary(value), do: "string"
  defp type(value) when is_list(value), do: "list"
  defp type(%{}), do: "object"

  @doc """
  Returns the stored shapes as new runs change them.

      iex> old = %{"gone" => %{}, "k" => %{"a" => "null", "b?" => "list", "c" => "null"}}
      iex> Codex.Surface.Shapes.update(old, %{"k" => %{"a?" => "number", "d" => "string"}})
      %{"k" => %{"a" => "null|number", "b?" => "list", "d" => "string"}}
  """
  @spec update(t(), t()) :: t()
  def update(stored, new),
    do: Map.new(new, fn {kind, shape} -> {kind, update_shape(stored[kind], shape)} end)

  defp update_shape(nil, new), do: new

  defp update_shape(old, new) do
    seen = Map.new(new, fn {path, types} -> {bare(path), types} end)
    known = MapSet.new(old, fn {path, _types} -> bare(path) end)

    kept =
      for {path, types} <- old,
          String.ends_with?(path, "?") or is_map_key(seen, path),
          into: %{} do
        {path, union([types | List.wrap(seen[bare(path)])])}
      end

    for {path, types} <- new, bare(path) not in known, into: kept, do: {path, types}
  end

  defp bare(path), do: String.trim_trailing(path, "?")

  defp union(types),
    do:
      types
      |> Enum.flat_map(&String.split(&1, "|"))
      |> Enum.uniq()
      |> Enum.sort()
      |> Enum.join("|")
end
