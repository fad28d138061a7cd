defmodule Codex.MCP.HTTP.Parameters do
  @moduledoc false
  # Tool parameters that are repeated in headers: `x-mcp-header` in an input schema, since version
  # 2026-07-28.

  alias Codex.HTTP

  @primitive ~w(string integer boolean)
  @largest_integer 9_007_199_254_740_991
  # Schemas come from servers.
  @most_nodes 10_000

  @doc """
  Checks the headers of a tool. A tool that breaks a rule must not be used.

      iex> schema = %{"properties" => %{"r" => %{"type" => "string", "x-mcp-header" => "Region"}}}
      iex> Codex.MCP.HTTP.Parameters.check(%{"inputSchema" => schema})
      :ok
      iex> schema = %{"properties" => %{"r" => %{"type" => "array", "x-mcp-header" => "Region"}}}
      iex> Codex.MCP.HTTP.Parameters.check(%{"inputSchema" => schema})
      {:error, "x-mcp-header stands on a parameter that is no string, integer or boolean"}
  """
  @spec check(map()) :: :ok | {:error, String.t()}
  def check(tool) do
    schema = tool["inputSchema"]
    rules = rules(schema, [])
    names = for {_path, name, _type} <- rules, do: name

    cond do
      count(schema) > length(rules) ->
        {:error, "x-mcp-header stands in a part of the schema that is not reached by properties"}

      not Enum.all?(names, &token?/1) ->
        {:error, "x-mcp-header is not the name of a header"}

      names |> Enum.map(&String.downcase/1) |> Enum.uniq() |> length() < length(names) ->
        {:error, "two parameters have the same x-mcp-header"}

      not Enum.all?(rules, fn {_path, _name, type} -> type in @primitive end) ->
        {:error, "x-mcp-header stands on a parameter that is no string, integer or boolean"}

      true ->
        :ok
    end
  end

  @doc "Returns the headers for the arguments of a call. Absent and null arguments have none."
  @spec headers(map() | nil, map()) :: [{String.t(), String.t()}]
  def headers(nil, _arguments), do: []

  def headers(tool, arguments) do
    for {path, name, _type} <- rules(tool["inputSchema"], []),
        token?(name),
        value = value(arguments, path),
        do: {"mcp-param-" <> String.downcase(name), HTTP.header_value(value)}
  end

  defp value(arguments, path) do
    case Enum.reduce_while(path, arguments, &member/2) do
      text when is_binary(text) -> text
      flag when is_boolean(flag) -> to_string(flag)
      number when is_integer(number) and abs(number) <= @largest_integer -> to_string(number)
      _other -> nil
    end
  end

  defp member(key, map) when is_map_key(map, key), do: {:cont, map[key]}

  # Arguments of the application may have atoms as keys.
  defp member(key, %{} = map) do
    found = Enum.find(map, fn {name, _value} -> is_atom(name) and Atom.to_string(name) == key end)
    {:cont, with({_name, value} <- found, do: value)}
  end

  defp member(_key, _other), do: {:halt, nil}

  # Returns `{path, name, type}` for the parameters that are reached only by `properties`.
  defp rules(%{"properties" => %{} = properties}, path) do
    Enum.flat_map(properties, fn {key, schema} ->
      here = path ++ [key]

      case schema do
        %{"x-mcp-header" => name} -> [{here, name, schema["type"]} | rules(schema, here)]
        %{} -> rules(schema, here)
        _other -> []
      end
    end)
  end

  defp rules(_schema, _path), do: []

  # Counts the headers in all of a schema, which may be a name of a property, too.
  defp count(schema), do: schema |> count(:schema, {0, @most_nodes}) |> elem(0)

  defp count(_term, _kind, {n, 0}), do: {n, 0}

  defp count(%{} = map, kind, {n, left}) do
    found = if kind == :schema and is_map_key(map, "x-mcp-header"), do: 1, else: 0

    Enum.reduce(map, {n + found, left - 1}, fn
      {key, inner}, acc
      when kind == :schema and key in ["properties", "$defs", "patternProperties"] ->
        count(inner, :names, acc)

      # Data, not schemas.
      {key, _data}, acc when kind == :schema and key in ["default", "const", "enum", "examples"] ->
        acc

      {_key, inner}, acc ->
        count(inner, :schema, acc)
    end)
  end

  defp count(list, _kind, acc) when is_list(list),
    do: Enum.reduce(list, acc, &count(&1, :schema, &2))

  defp count(_other, _kind, {n, left}), do: {n, left - 1}

  defp token?(name), do: is_binary(name) and name =~ ~r/\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\z/
end
