defmodule Codex.Protocol.Diff do
  @moduledoc false
  # Lists what another version of the protocol adds (+), removes (-) and changes (~), as lines for
  # people. Types are written in a short notation:
  #
  #     string integer count number boolean null any    count: an integer from 0; any: any JSON
  #     value 'word'                                          this string Name
  #     another type [T]                                             a list T?
  #     T or null A|B                                             one of them {a!:T,b:T,~c:T,*:T}
  #     an object: ! is required, ~ is experimental,
  #                                                     * is any other key

  alias Codex.Protocol.{Check, Data}

  @doc "Returns the lines, methods first; none if the two differ in the version of the CLI only."
  @spec lines(Data.t(), Data.t()) :: [String.t()]
  def lines(from, to) do
    methods =
      for kind <- Data.kinds(),
          line <- compare(from, to, kind, &method("#{kind} #{&1}", &2, &3)),
          do: line

    methods ++ compare(from, to, :type, &type/3)
  end

  defp compare(from, to, kind, line),
    do: compare(Data.entries(from, kind), Data.entries(to, kind), line)

  defp compare(from, to, line) do
    names = Enum.sort(Enum.uniq(Map.keys(from) ++ Map.keys(to)))

    for name <- names, from[name] != to[name], line <- line.(name, from[name], to[name]), do: line
  end

  defp method(name, nil, new), do: ["+ #{name} #{signature(new)}"]
  defp method(name, old, nil), do: ["- #{name} #{signature(old)}"]
  defp method(name, old, new), do: ["~ #{name} #{signature(old)} is now #{signature(new)}"]

  defp signature(method) do
    result = if method[:result], do: " -> " <> method[:result], else: ""
    mark = if method[:experimental], do: " (experimental)", else: ""
    notation(method[:params]) <> result <> mark
  end

  # The fields of an object and the members of a union have a line each.
  defp type(name, nil, new), do: ["+ type #{name} #{notation(new)}"]
  defp type(name, old, nil), do: ["- type #{name} #{notation(old)}"]

  defp type(name, {:fields, old} = from, {:fields, new} = to) do
    if List.keyfind(old, :other, 0) == List.keyfind(new, :other, 0),
      do: compare(fields(old), fields(new), &field("#{name}.#{&1}", &2, &3)),
      else: changed(name, from, to)
  end

  defp type(name, {:one_of, old}, {:one_of, new}) do
    case {new -- old, old -- new} do
      {[], []} ->
        ["~ #{name} has its members in another order"]

      {added, removed} ->
        for(type <- added, do: "+ #{name} #{notation(type)}") ++
          for type <- removed, do: "- #{name} #{notation(type)}"
    end
  end

  defp type(name, old, new), do: changed(name, old, new)

  defp changed(name, old, new), do: ["~ #{name} #{notation(old)} is now #{notation(new)}"]

  defp fields(fields) do
    for {kind, {name, type}} <- fields, kind != :other, into: %{}, do: {name, {kind, type}}
  end

  defp field(path, nil, new), do: ["+ #{path} #{described(new)}"]
  defp field(path, old, nil), do: ["- #{path} #{described(old)}"]
  defp field(path, old, new), do: ["~ #{path} #{described(old)} is now #{described(new)}"]

  defp described({:optional, type}), do: notation(type)
  defp described({:required, type}), do: notation(type) <> " (required)"
  defp described({:experimental, type}), do: notation(type) <> " (experimental)"

  defp described({:experimental_required, type}),
    do: notation(type) <> " (required) (experimental)"

  @doc """
  Writes a type in the short notation.

      iex> Codex.Protocol.Diff.notation({:nullable, {:one_of, [:string, {:list, :count}]}})
      "(string|[count])?"
      iex> Codex.Protocol.Diff.notation({:fields, [required: {"a", {:ref, "Name"}}, other: :any]})
      "{a!:Name,*:any}"
  """
  @spec notation(Check.type()) :: String.t()
  def notation(type) when is_atom(type), do: Atom.to_string(type)
  def notation({:word, word}), do: "'#{word}'"
  def notation({:ref, name}), do: name
  def notation({:list, type}), do: "[#{notation(type)}]"
  def notation({:nullable, {:one_of, _} = type}), do: "(#{notation(type)})?"
  def notation({:nullable, type}), do: notation(type) <> "?"
  def notation({:one_of, types}), do: Enum.map_join(types, "|", &notation/1)
  def notation({:fields, fields}), do: "{" <> Enum.map_join(fields, ",", &member/1) <> "}"

  defp member({:other, type}), do: "*:" <> notation(type)
  defp member({:optional, {name, type}}), do: "#{name}:#{notation(type)}"
  defp member({:required, {name, type}}), do: "#{name}!:#{notation(type)}"
  defp member({:experimental, {name, type}}), do: "~#{name}:#{notation(type)}"
  defp member({:experimental_required, {name, type}}), do: "~#{name}!:#{notation(type)}"
end
