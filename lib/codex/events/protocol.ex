defmodule Codex.Events.Protocol do
  @moduledoc false
  # Derives the kinds of notifications and items, with their fields, from the protocol of the
  # app-server (`priv/protocol/app_server.exs`). Called while `Codex.Events.Schema` is compiled,
  # which makes a row of each kind that its tables do not have, and adds fields that a row lacks.

  alias Codex.Events.Names

  @typedoc """
  A kind: its wire type, the name of its struct and its documentation. `fields` are as in a row,
  with two options more: `doc:`, and `exec: false` because `codex exec` does not send them.
  """
  @type kind :: %{
          type: String.t(),
          name: String.t(),
          doc: String.t(),
          fields: [{atom(), String.t(), keyword()}]
        }

  @typep fields :: [{:required | :optional, {String.t(), term()}}]
  @typep types :: %{String.t() => term()}

  # Members that all structs of a table have.
  @reserved [events: ~w(extra lossy), items: ~w(extra type id)]

  @doc "Returns the kinds of both tables, in the order of the protocol."
  @spec kinds(keyword()) :: [events: [kind()], items: [kind()]]
  def kinds(data) do
    types = for {:type, {name, type}} <- data, into: %{}, do: {name, type}

    events =
      for {:notification, {method, opts}} <- data,
          do: kind(:events, method, object(opts[:params], types), types)

    [
      events: events,
      items: for({type, fields} <- items(types), do: kind(:items, type, fields, types))
    ]
  end

  defp kind(table, type, fields, types) do
    reserved = @reserved[table]

    %{
      type: type,
      name: Names.struct(type),
      doc: Names.doc(type),
      fields: for({_, {wire, _}} = field <- fields, wire not in reserved, do: field(field, types))
    }
  end

  @spec object(term(), types()) :: fields()
  defp object({:ref, name}, types), do: object(types[name], types)
  defp object({:nullable, type}, types), do: object(type, types)

  defp object({:fields, fields}, _types) do
    {ids, others} =
      for({kind, {wire, type}} <- fields, do: {presence(kind), {wire, type}})
      |> Enum.split_with(fn {_, {wire, _}} -> wire in ["threadId", "turnId"] end)

    others ++ ids
  end

  defp object(_none, _types), do: []

  defp presence(kind) when kind in [:required, :experimental_required], do: :required
  defp presence(_kind), do: :optional

  # A type of item may have several forms. A field that some of them lack is optional.
  defp items(types) do
    forms =
      for {:fields, members} = form <- members(types["ThreadItem"]),
          {:required, {"type", {:word, type}}} <- members,
          do: {type, object(form, types)}

    for {type, _} <- Enum.uniq_by(forms, &elem(&1, 0)),
        do: {type, merge(for {^type, fields} <- forms, do: fields)}
  end

  defp members({:one_of, types}), do: types
  defp members(_none), do: []

  defp merge(forms) do
    fields = forms |> Enum.concat() |> Enum.uniq_by(fn {_, {wire, _}} -> wire end)

    for {_, {wire, type}} <- fields do
      required? = Enum.all?(forms, &({:required, {wire, type}} in &1))
      {if(required?, do: :required, else: :optional), {wire, type}}
    end
  end

  # Values are passed on as they came. A server of another version may lack any field.
  defp field({presence, {wire, type}}, types) do
    name = Names.field(wire)
    text = elixir(type, types, [])
    text = if presence == :required, do: text, else: optional(text)
    doc = Names.field_doc(wire) || words(type, types)
    also = if Atom.to_string(name) == wire, do: [], else: [wire]
    {name, text, also: also, app: [wire], enforce: presence == :required, doc: doc, exec: false}
  end

  @doc """
  Adds nil to the text of a type.

      iex> Codex.Events.Protocol.optional("String.t()")
      "String.t() | nil"
  """
  @spec optional(String.t()) :: String.t()
  def optional(text), do: if(text =~ ~r/\| nil$|^term/, do: text, else: text <> " | nil")

  ## Types

  @plain %{
    string: "String.t()",
    integer: "integer()",
    count: "non_neg_integer()",
    number: "number()",
    boolean: "boolean()",
    null: "nil"
  }

  # Writes the type of Elixir. Objects are maps with the names of the wire.
  defp elixir({:ref, name}, types, seen) do
    if name in seen, do: "term()", else: elixir(types[name], types, [name | seen])
  end

  defp elixir({:word, _}, _types, _seen), do: "String.t()"
  defp elixir({:fields, _}, _types, _seen), do: "map()"
  defp elixir({:list, type}, types, seen), do: "[#{elixir(type, types, seen)}]"
  defp elixir({:nullable, type}, types, seen), do: elixir({:one_of, [type, :null]}, types, seen)

  defp elixir({:one_of, members}, types, seen) do
    texts = members |> Enum.map(&elixir(&1, types, seen)) |> Enum.uniq()
    if "term()" in texts, do: "term()", else: Enum.join(texts, " | ")
  end

  defp elixir(plain, _types, _seen), do: Map.get(@plain, plain, "term()")

  # Describes words of a closed set, and members of objects, or returns nil.
  defp words({:ref, name}, types), do: words(types[name], types)
  defp words({:nullable, type}, types), do: words(type, types)

  defp words({:list, type}, types) do
    with text when is_binary(text) <- words(type, types), do: "each " <> text
  end

  defp words({:fields, fields}, _types) do
    case for {kind, {wire, _}} <- fields, kind != :other, do: inspect(wire) do
      [] -> nil
      names -> "with " <> Enum.join(names, ", ")
    end
  end

  defp words({:one_of, members}, types) do
    words = for {:word, word} <- members, do: inspect(word)

    tags =
      for {:fields, fields} <- members, {_, {"type", {:word, tag}}} <- fields, do: inspect(tag)

    cond do
      length(words) == length(members) ->
        "one of " <> Enum.join(words, ", ")

      length(tags) == length(members) ->
        "with \"type\", one of " <> Enum.join(Enum.uniq(tags), ", ")

      true ->
        Enum.find_value(members, &words(&1, types))
    end
  end

  defp words(_plain, _types), do: nil
end
