defmodule Codex.Surface.Protocol do
  @moduledoc false
  # The protocol of the app-server: `codex app-server generate-json-schema`, without and with
  # `--experimental`. Types are written in a short notation:
  #
  #     string integer count number boolean null any    count: an integer from 0; any: any JSON
  #     value 'word' 1                                       this string or number
  #     Name                                                 another type
  #     [T]                                                  a list
  #     T?                                                   T or null
  #     A|B                                                  one of them
  #     {a!:T,b:T,~c:T,*:T}                                  an object: ! is required, ~ is
  #                                                          experimental, * is any other key
  #
  # In the path of a difference, `.a` is a field, `[a]` a member of a union (the word of its tag, or
  # its type), and `[]` the elements of a list.

  @behaviour Codex.Surface.Part

  alias Codex.Protocol.Check
  alias Codex.Surface.{Diff, Overlay, Program}
  alias Codex.Surface.Protocol.{Data, Schema}

  @bundle "codex_app_server_protocol.schemas.json"

  @impl true
  def file, do: "priv/protocol/app_server.exs"

  @impl true
  def decode!(text), do: Data.read!(text)

  @impl true
  def encode(data), do: Data.write(data)

  @impl true
  def read(program, _stored) do
    with {:ok, stable} <- schema(program, "stable", []),
         {:ok, all} <- schema(program, "all", ["--experimental"]) do
      {data, notes} = Schema.data(stable, all, Overlay.of("protocol"))
      {:ok, data, notes}
    end
  rescue
    error in ArgumentError -> {:error, Exception.message(error)}
  end

  defp schema(program, name, flags) do
    dir = Path.join(program.model.home, name)
    argv = ["app-server", "generate-json-schema", "--out", dir] ++ flags

    with {:ok, _out} <- Program.run(program, argv),
         {:file, {:ok, json}} <- {:file, File.read(Path.join(dir, @bundle))},
         {:json, {:ok, schema}} <- {:json, Codex.JSON.decode(json)} do
      {:ok, schema}
    else
      {:file, {:error, reason}} ->
        {:error, "#{program.path} wrote no #{@bundle}: #{:file.format_error(reason)}"}

      {:json, {:error, {reason, at}}} ->
        {:error, "#{program.path} wrote a #{@bundle} that is not JSON (#{reason} at byte #{at})"}

      {:error, text} ->
        {:error, text}
    end
  end

  @impl true
  def tree(data) do
    for {kind, {name, entry}} <- data, into: %{} do
      {"#{kind} #{name}", if(kind == :type, do: tree_node(entry), else: method(entry))}
    end
  end

  defp method(method) do
    result = if method[:result], do: " -> " <> method[:result], else: ""
    mark = if method[:experimental], do: " (experimental)", else: ""
    until = if method[:until], do: " (until #{method[:until]})", else: ""
    Diff.leaf(notation(method[:params]) <> result <> mark <> until)
  end

  defp tree_node(type), do: {own(type), notation(type), below(type)}

  defp own({:fields, _}), do: "{}"
  defp own({:one_of, _}), do: "a|b"
  defp own({:nullable, type}), do: own(type) <> "?"
  defp own({:list, type}), do: "[#{own(type)}]"
  defp own(type), do: notation(type)

  defp below({:fields, fields}), do: Map.new(fields, &field/1)
  defp below({:nullable, type}), do: below(type)

  defp below({:list, type}),
    do: for({name, inner} <- below(type), into: %{}, do: {"[]" <> name, inner})

  # Members of the same name are numbered.
  defp below({:one_of, types}) do
    {named, _counts} =
      Enum.map_reduce(types, %{}, fn type, counts ->
        name = member(type)
        count = Map.get(counts, name, 0) + 1
        shown = if count == 1, do: name, else: "#{name}[#{count}]"
        {{shown, named(name, type)}, Map.put(counts, name, count)}
      end)

    Map.new(named)
  end

  defp below(_plain), do: %{}

  defp member({:word, word}), do: " '#{word}'"
  defp member({:fields, fields} = type), do: "[#{tag(fields) || notation(type)}]"
  defp member(type), do: "[#{notation(type)}]"

  # The name of the member says it all.
  defp named(name, type) do
    {own, whole, below} = tree_node(type)

    if name == " " <> whole or name == "[#{whole}]",
      do: {"", "", below},
      else: {own, whole, below}
  end

  # The word of a required field, or the only required field.
  defp tag(fields) do
    required = for {:required, {name, type}} <- fields, do: {name, type}

    case {Enum.find(required, &match?({_, {:word, _}}, &1)), required} do
      {{_name, {:word, word}}, _} -> word
      {nil, [{name, _type}]} -> name
      _ -> nil
    end
  end

  defp field({:other, type}), do: {".*", tree_node(type)}

  defp field({kind, {name, type}}) do
    marks =
      case kind do
        :optional -> ""
        :required -> " (required)"
        :experimental -> " (experimental)"
        :experimental_required -> " (required) (experimental)"
      end

    {own, whole, below} = tree_node(type)
    {"." <> name, {own <> marks, whole <> marks, below}}
  end

  @doc """
  Writes a type in the short notation.

      iex> Codex.Surface.Protocol.notation({:nullable, {:one_of, [:string, {:list, :count}]}})
      "(string|[count])?"
      iex> Codex.Surface.Protocol.notation({:fields, [required: {"a", {:ref, "N"}}, other: :any]})
      "{a!:N,*:any}"
  """
  @spec notation(Check.type()) :: String.t()
  def notation(type) when is_atom(type), do: Atom.to_string(type)
  def notation({:word, word}), do: "'#{word}'"
  def notation({:value, number}), do: to_string(number)
  def notation({:ref, name}), do: name
  def notation({:list, type}), do: "[#{notation(type)}]"
  def notation({:nullable, {:one_of, _} = type}), do: "(#{notation(type)})?"
  def notation({:nullable, type}), do: notation(type) <> "?"
  def notation({:one_of, types}), do: Enum.map_join(types, "|", &notation/1)
  def notation({:fields, fields}), do: "{" <> Enum.map_join(fields, ",", &short/1) <> "}"

  defp short({:other, type}), do: "*:" <> notation(type)
  defp short({:optional, {name, type}}), do: "#{name}:#{notation(type)}"
  defp short({:required, {name, type}}), do: "#{name}!:#{notation(type)}"
  defp short({:experimental, {name, type}}), do: "~#{name}:#{notation(type)}"
  defp short({:experimental_required, {name, type}}), do: "~#{name}!:#{notation(type)}"
end
