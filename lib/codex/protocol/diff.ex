defmodule Codex.Protocol.Diff do
  @moduledoc false
  # What another version of the protocol adds (+), takes away (-) and changes (~), as lines for people.

  alias Codex.Protocol.{File, Type}

  @doc "The lines, methods first; none where both are the same but for the version of the CLI."
  @spec lines(File.data(), File.data()) :: [String.t()]
  def lines(from, to) do
    methods =
      for {kind, word} <- File.kinds(),
          line <- compare(from[kind], to[kind], &method("#{word} #{&1}", &2, &3)),
          do: line

    methods ++ compare(from.types, to.types, &type/3)
  end

  defp compare(from, to, line) do
    names = Enum.sort(Enum.uniq(Map.keys(from) ++ Map.keys(to)))

    for name <- names, from[name] != to[name], line <- line.(name, from[name], to[name]), do: line
  end

  defp method(name, nil, new), do: ["+ #{name} #{signature(new)}"]
  defp method(name, old, nil), do: ["- #{name} #{signature(old)}"]
  defp method(name, old, new), do: ["~ #{name} #{signature(old)} is now #{signature(new)}"]

  defp signature(method) do
    result = if method.result, do: " -> " <> method.result, else: ""
    mark = if method.experimental, do: " (experimental)", else: ""
    Type.write(method.params) <> result <> mark
  end

  # The fields of an object, the members of a union, each by itself; anything else whole.
  defp type(name, nil, new), do: ["+ type #{name} #{Type.write(new)}"]
  defp type(name, old, nil), do: ["- type #{name} #{Type.write(old)}"]

  defp type(name, {:fields, old, rest}, {:fields, new, rest}),
    do: compare(old, new, &field("#{name}.#{&1}", &1, &2, &3))

  defp type(name, {:one_of, old}, {:one_of, new}) do
    case {new -- old, old -- new} do
      {[], []} ->
        ["~ #{name} has its members in another order"]

      {added, removed} ->
        for(type <- added, do: "+ #{name} #{Type.write(type)}") ++
          for type <- removed, do: "- #{name} #{Type.write(type)}"
    end
  end

  defp type(name, old, new), do: ["~ #{name} #{Type.write(old)} is now #{Type.write(new)}"]

  defp field(path, _name, nil, new), do: ["+ #{path} #{described(new)}"]
  defp field(path, _name, old, nil), do: ["- #{path} #{described(old)}"]
  defp field(path, _name, old, new), do: ["~ #{path} #{described(old)} is now #{described(new)}"]

  defp described(field) do
    [Type.write(field.type)]
    |> Kernel.++(if field.required, do: ["(required)"], else: [])
    |> Kernel.++(if field.experimental, do: ["(experimental)"], else: [])
    |> Enum.join(" ")
  end
end
