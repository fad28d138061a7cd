defmodule Codex.Events.Dialects do
  @moduledoc false
  # Derives from the tables of events and items: the tables for the NIF, one a dialect, and the
  # clauses that make structs from its tuples.

  import Codex.Events.Schema, only: [record: 1, sent: 1, specs: 1, type_atom: 1]
  import Codex.Items.Rows, only: [enums: 0, records: 0]

  # The variants of a table in the order of their tags: a row and the values that its type fixes.
  # Rows without a type in the exec dialect come last.
  defp variants(specs) do
    for(spec <- specs, {_, consts} <- spec.types, do: {spec, consts}) ++
      for %{types: []} = spec <- specs, do: {spec, []}
  end

  @doc """
  Returns the tables as the NIF takes them when it loads: `{lines, dialects}`.

  The NIF hands over a decoded object of a union as `{tag, field…, extra}`. The tag counts the types
  of the exec dialect through the table, then the rows without one, whatever the dialect of the
  object.
  """
  @spec native() :: {tuple(), [tuple()]}
  def native, do: {lines(), [other(:app, true), other(:rollout, false)]}

  # The lines of `codex exec --json`: `{unions, enums, records}`, with kinds as `{code, index}`.
  defp lines do
    # A record of this dialect has its fields under their own names.
    records =
      for {name, _} <- records() do
        for %{name: name} = field <- record(name),
            is_atom(name),
            do: {Atom.to_string(name), name, enum(field.kind)}
      end

    {[union(specs(:events)), union(specs(:items))], words(), records}
  end

  defp enum({:enum, name}), do: index(enums(), name)
  defp enum(_kind), do: nil

  defp words,
    do: for({_, values} <- enums(), do: Enum.map(values, &{Atom.to_string(&1), &1}))

  defp union(specs) do
    fields = for spec <- specs, field <- spec.fields, field.wire != [] and field.exec, do: field
    slots = fields |> Enum.map(&hd(&1.wire)) |> Enum.uniq()

    native_fields =
      for slot <- slots do
        same = Enum.filter(fields, &(hd(&1.wire) == slot))
        {same |> Enum.flat_map(& &1.wire) |> Enum.uniq(), code(hd(same).kind)}
      end

    # The last slot, without a name on the wire, is that of all fields of other dialects.
    native_fields = native_fields ++ [{[], {0, 0}}]

    variants =
      for spec <- specs, {type, _} <- spec.types do
        sent = sent(spec)

        at = fn
          %{exec: false} -> length(slots)
          field -> Enum.find_index(slots, &(&1 == hd(field.wire)))
        end

        required = for field <- sent, field.required, do: at.(field)
        {type, Enum.map(sent, &{at.(&1), code(&1.kind)}), required}
      end

    {native_fields, variants}
  end

  # Another column, for objects that are decoded already: `{unions, enums, records, camel_case?}`.
  defp other(column, camel_case) do
    records =
      for {name, _} <- records() do
        for field <- record(name), do: {field.name, source(field, [], column)}
      end

    {[rows(specs(:events), column), rows(specs(:items), column)], words(), records, camel_case}
  end

  # Rows with a condition come first.
  defp rows(specs, column) do
    variants = variants(specs)

    rows =
      for spec <- specs,
          {type, opts} <- Map.fetch!(spec, column),
          do: row(spec, type, opts, variants, column)

    Enum.sort_by(rows, fn {_type, condition, _tag, _fields, _keep} -> condition == nil end)
  end

  defp row(spec, type, opts, variants, column) do
    {rules, consts} = Keyword.split(opts, [:when, :whole, :drop, :known])

    {sent, unsent} =
      Enum.split_with(consts, fn {name, _} -> name in Enum.map(sent(spec), & &1.name) end)

    tag = Enum.find_index(variants, &(&1 == {spec, unsent}))
    condition = with({at, text} <- rules[:when], do: {path(at), text})
    keep = for {rule, code} <- [whole: 1, drop: 2], name = rules[rule], do: {name, code}
    {type, condition, tag, Enum.map(sent(spec), &source(&1, sent, column)), keep}
  end

  defp source(field, consts, column) do
    case List.keyfind(consts, field.name, 0) do
      {_name, value} ->
        {[], {5, value}, false}

      nil ->
        {paths, kind} = place(field, column)
        {Enum.map(paths, &path/1), code(kind), field.required}
    end
  end

  defp place(field, :app), do: {field.app, field.app_kind}
  defp place(field, :rollout), do: {field.rollout, field.rollout_kind}

  defp path(text) do
    case String.split(text, ".") do
      [name] -> {name, nil}
      [object, name] -> {object, name}
    end
  end

  defp code({:enum, name}), do: {1, index(enums(), name)}
  defp code(:item), do: {2, 1}
  defp code({:records, name}), do: {3, index(records(), name)}
  defp code({:object, name}), do: {4, index(records(), name)}
  defp code(:word), do: code({:enum, :word})
  defp code(:counts), do: {6, 0}
  defp code(:text), do: {7, 0}
  defp code(:command), do: {8, 0}
  defp code(:place), do: {9, 0}
  defp code(:millis), do: {10, 0}
  defp code({:changes, name}), do: {11, index(records(), name)}
  defp code(:states), do: {12, 0}
  defp code(_as_it_stands), do: {0, 0}

  defp index(keyword, name), do: Enum.find_index(keyword, fn {key, _} -> key == name end)

  ## Structs from tuples

  @doc """
  Defines `struct_of/2`: the tag of a tuple and the tuple to the struct of a table.

  The module of the table has the functions for special rows: `raw_item/1` and `stand_in/2` for
  events, `finish/1` for reasoning.
  """
  defmacro structs(table) do
    variants = Enum.with_index(variants(specs(table)))
    parts = for {{spec, consts}, tag} <- variants, do: struct_of(table, spec, consts, tag)
    {makers, clauses} = Enum.unzip(parts)
    {:__block__, [], makers ++ clauses}
  end

  defp struct_of(table, spec, consts, tag) do
    vars = Macro.generate_arguments(length(sent(spec)), __MODULE__)
    extra = Macro.var(:extra, __MODULE__)
    values = for {field, var} <- Enum.zip(sent(spec), vars), do: {field.name, value(field, var)}

    unsent =
      for %{wire: [], name: name, default: default} <- spec.fields,
          not Keyword.has_key?(consts, name),
          do: {name, Macro.escape(default)}

    fixed = if table == :items, do: [type: type_atom(spec)], else: [lossy: false]
    extra_or_empty = quote(do: if(unquote(extra) == nil, do: %{}, else: unquote(extra)))
    head = [__struct__: spec.module, extra: extra_or_empty]

    # A map with constant values would be compiled to an update of a literal map: twice the time,
    # and a copy of the keys in every struct. As arguments of a function they are no constants, and
    # all structs share the keys.
    {keys, values} = Enum.unzip(head ++ fixed ++ consts ++ unsent ++ values)
    args = Macro.generate_arguments(length(keys), __MODULE__)
    make = :"make_#{tag}"
    struct = quote(do: unquote(make)(unquote_splicing(values)))

    {quote do
       defp unquote(make)(unquote_splicing(args)), do: unquote({:%{}, [], Enum.zip(keys, args)})
     end,
     quote do
       defp struct_of(unquote(tag), {_, unquote_splicing(vars), unquote(extra)}),
         do: unquote(completed(spec, struct))
     end}
  end

  defp value(%{kind: :item}, var),
    do: quote(do: unquote(Module.concat(["Codex", "Items"])).from_native(unquote(var)))

  defp value(%{kind: :raw_item} = field, var),
    do: quote(do: raw_item(unquote(or_default(field, var))))

  defp value(field, var), do: or_default(field, var)

  defp or_default(%{default: nil}, var), do: var

  defp or_default(%{default: default}, var),
    do: quote(do: if(unquote(var) == nil, do: unquote(Macro.escape(default)), else: unquote(var)))

  # Only a row with stand-ins pays for looking for them, and only reasoning for its text.
  defp completed(%{names: [{"reasoning", []}]}, struct), do: quote(do: finish(unquote(struct)))

  defp completed(spec, struct) do
    case for field <- spec.fields, field.or, do: {field.name, field.or, field.default} do
      [] -> struct
      stand_ins -> quote(do: stand_in(unquote(struct), unquote(Macro.escape(stand_ins))))
    end
  end
end
