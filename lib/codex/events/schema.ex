defmodule Codex.Events.Schema do
  @moduledoc false
  # Derives from the tables of events and items: the struct modules, reading and writing of maps,
  # the tables for the NIF, and the clauses that make structs from its tuples.

  @typep field :: %{
           name: atom() | String.t(),
           type: String.t(),
           wire: [String.t()],
           or: String.t() | nil,
           kind: term(),
           default: term(),
           required: boolean(),
           enforce: boolean(),
           omit: boolean(),
           app: [String.t()],
           app_kind: term()
         }
  @typep wire_type :: {String.t(), keyword()}
  @type spec :: %{
          module: module(),
          types: [wire_type()],
          app: [wire_type()],
          doc: String.t(),
          fields: [field()]
        }

  # Modules of rows, by table. A namespace is text: this module must not depend on the structs.
  @tables [events: {Codex.Events.Rows, "Codex.Events"}, items: {Codex.Items.Rows, "Codex.Items"}]

  @doc "Returns the specs of a table, rows with every default filled in."
  @spec specs(:events | :items) :: [spec()]
  def specs(table) do
    {rows, namespace} = @tables[table]
    id = if table == :items, do: [{:id, "String.t() | nil", []}], else: []

    for {name, types, doc, fields} <- rows.rows() do
      %{
        module: Module.concat(namespace, name),
        types: types(types[:exec]),
        app: types(types[:app]),
        doc: String.trim_trailing(doc),
        fields: Enum.map(id ++ fields, &field/1)
      }
    end
  end

  defp types(types),
    do: for(type <- List.wrap(types), do: with(text when is_binary(text) <- type, do: {text, []}))

  defp field({name, type, opts}) do
    wire = if opts[:wire] == false, do: [], else: ["#{name}" | opts[:also] || []]
    kind = opts[:kind] || :any

    %{
      name: name,
      type: type,
      wire: wire,
      or: opts[:or],
      kind: kind,
      default: opts[:default],
      required: opts[:required] || false,
      enforce: opts[:required] || opts[:enforce] || false,
      omit: opts[:omit] || false,
      app: List.wrap(opts[:app] || Enum.uniq(Enum.map(Enum.take(wire, 1), &camel/1) ++ wire)),
      app_kind: opts[:app_kind] || kind
    }
  end

  defp camel(name) do
    <<first, _::binary>> = name
    <<_, rest::binary>> = Macro.camelize(name)
    <<first, rest::binary>>
  end

  # The variants of a table in the order of their tags: a row and the values that its type fixes.
  defp variants(specs), do: for(spec <- specs, {_, consts} <- spec.types, do: {spec, consts})

  ## Structs

  @doc "Quotes the body of a spec's module; `common` are fields that all structs of the table have."
  @spec module_body(spec(), [tuple()]) :: Macro.t()
  def module_body(spec, common) do
    fields = spec.fields ++ Enum.map(common, &field/1)
    enforce = for field <- fields, field.enforce, do: field.name
    defaults = for field <- fields, do: {field.name, Macro.escape(field.default)}
    types = for field <- fields, do: {field.name, Code.string_to_quoted!(field.type)}

    quote do
      @moduledoc unquote(module_doc(spec, fields))
      @enforce_keys unquote(enforce)
      defstruct unquote(defaults)
      @type t :: %__MODULE__{unquote_splicing(types)}
    end
  end

  defp module_doc(spec, fields) do
    names = fn types -> Enum.map_join(types, ", ", fn {type, _} -> "`#{type}`" end) end
    app = if spec.app != [], do: " App-server: #{names.(spec.app)}.", else: ""

    rows =
      Enum.map_join(fields, "\n", fn field ->
        default = if field.default != nil, do: ", default `#{inspect(field.default)}`", else: ""
        "  * `#{field.name}` - `#{field.type}`#{default}"
      end)

    "#{spec.doc}\n\nJSONL: #{names.(spec.types)}.#{app}\n\n#{rows}\n"
  end

  ## Reading maps

  @doc """
  Fills the struct of a spec from a string-keyed map.

  Raises `KeyError` if a required field is missing.
  """
  @spec read!(spec(), keyword(), map(), (term(), term() -> term())) :: struct()
  def read!(spec, consts, map, read_kind) do
    {values, rest} =
      Enum.map_reduce(spec.fields, Map.delete(map, "type"), fn field, rest ->
        {value, rest} = take(field, map, rest)
        value = if value == nil, do: field.default, else: read_kind.(field.kind, value)
        {{field.name, value}, rest}
      end)

    struct(spec.module, Keyword.merge(values, consts) ++ [extra: rest])
  end

  defp take(field, map, rest) do
    case Enum.filter(field.wire, &is_map_key(map, &1)) do
      [] when field.required -> raise KeyError, key: hd(field.wire), term: map
      [] -> if field.or, do: Map.pop(rest, field.or), else: {nil, rest}
      [key | _] = keys -> {Map.fetch!(map, key), Map.drop(rest, keys)}
    end
  end

  @doc "Reads the kinds that both tables share: enums and records."
  @spec read_kind(term(), term()) :: term()
  def read_kind({:enum, name}, value) when is_binary(value) do
    Enum.find(enums()[name], value, &(Atom.to_string(&1) == value))
  end

  def read_kind({:records, name}, list) when is_list(list) do
    fields = record(name)

    for entry <- list do
      if is_map(entry), do: read_record(entry, fields), else: entry
    end
  end

  def read_kind(_kind, value), do: value

  defp read_record(entry, fields) do
    Enum.reduce(fields, entry, fn %{name: name, kind: kind}, map ->
      {value, map} = Map.pop(map, Atom.to_string(name), Map.get(entry, name))
      Map.put(map, name, read_kind(kind, value))
    end)
  end

  ## Writing maps

  @doc "Returns the string-keyed map of a struct, without nil and omitted defaults."
  @spec write(spec(), String.t(), struct(), (term(), term() -> term())) :: map()
  def write(spec, type, struct, write_kind) do
    for field <- spec.fields,
        [key | _] <- [field.wire],
        # Not a match, which would filter false out.
        value <- [Map.fetch!(struct, field.name)],
        value != nil,
        not (field.omit and value == field.default),
        into: Map.put(struct.extra, "type", type) do
      {key, write_kind.(field.kind, value)}
    end
  end

  @doc "Writes the kinds that both tables share: enums and records."
  @spec write_kind(term(), term()) :: term()
  def write_kind({:enum, _}, value) when is_atom(value), do: Atom.to_string(value)
  def write_kind(:plan, steps), do: write_kind({:records, :step}, steps)

  def write_kind({:records, _}, list) when is_list(list),
    do: for(entry <- list, do: if(is_map(entry), do: write_record(entry), else: entry))

  def write_kind(_kind, value), do: value

  defp write_record(entry) do
    for {key, value} <- entry, value != nil, into: %{} do
      name? = is_atom(key) and is_atom(value) and not is_boolean(value)
      {to_string(key), if(name?, do: Atom.to_string(value), else: value)}
    end
  end

  ## The NIF

  @doc """
  Returns the tables as the NIF takes them when it loads: `{lines, dialects}`.

  The NIF hands over a decoded object of a union as `{tag, field…, extra}`. The tag counts the types
  of the exec dialect through the table, whatever the dialect of the object.
  """
  @spec native() :: {tuple(), [tuple()]}
  def native, do: {lines(), [app()]}

  # The lines of `codex exec --json`: `{unions, enums, records}`, with kinds as `{code, index}`.
  defp lines do
    # A record of this dialect has its fields under their own names.
    records =
      for {name, _} <- records() do
        for %{name: name} = field <- record(name), is_atom(name) do
          enum = with({:enum, enum} <- field.kind, do: index(enums(), enum), else: (_ -> nil))
          {Atom.to_string(name), name, enum}
        end
      end

    {[union(specs(:events)), union(specs(:items))], words(), records}
  end

  defp words,
    do: for({_, values} <- enums(), do: Enum.map(values, &{Atom.to_string(&1), &1}))

  defp union(specs) do
    fields = for spec <- specs, field <- spec.fields, field.wire != [], do: field
    slots = fields |> Enum.map(&hd(&1.wire)) |> Enum.uniq()

    native_fields =
      for slot <- slots do
        same = Enum.filter(fields, &(hd(&1.wire) == slot))
        {same |> Enum.flat_map(& &1.wire) |> Enum.uniq(), code(hd(same).kind)}
      end

    variants =
      for spec <- specs, {type, _} <- spec.types do
        sent = sent(spec)
        at = fn field -> Enum.find_index(slots, &(&1 == hd(field.wire))) end
        required = for field <- sent, field.required, do: at.(field)
        {type, Enum.map(sent, &{at.(&1), code(&1.kind)}), required}
      end

    {native_fields, variants}
  end

  # The notifications of the app-server: `{unions, enums, records, camel_case?}`.
  defp app do
    records =
      for {name, _} <- records() do
        for field <- record(name), do: {field.name, source(field, [])}
      end

    {[rows(specs(:events)), rows(specs(:items))], words(), records, true}
  end

  # Rows with a condition come first.
  defp rows(specs) do
    rows = for spec <- specs, {type, opts} <- spec.app, do: row(spec, type, opts, variants(specs))
    Enum.sort_by(rows, fn {_type, condition, _tag, _fields, _keep} -> condition == nil end)
  end

  defp row(spec, type, opts, variants) do
    {rules, consts} = Keyword.split(opts, [:when, :whole, :drop])

    {sent, unsent} =
      Enum.split_with(consts, fn {name, _} -> name in Enum.map(sent(spec), & &1.name) end)

    tag = Enum.find_index(variants, &(&1 == {spec, unsent}))
    condition = with({at, text} <- rules[:when], do: {path(at), text})
    keep = for {rule, code} <- [whole: 1, drop: 2], name = rules[rule], do: {name, code}
    {type, condition, tag, Enum.map(sent(spec), &source(&1, sent)), keep}
  end

  defp source(field, consts) do
    case List.keyfind(consts, field.name, 0) do
      {_name, value} -> {[], {5, value}, false}
      nil -> {Enum.map(field.app, &path/1), code(field.app_kind), field.required}
    end
  end

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
  defp code(_as_it_stands), do: {0, 0}

  defp index(keyword, name), do: Enum.find_index(keyword, fn {key, _} -> key == name end)

  defp enums, do: Codex.Items.Rows.enums()
  defp records, do: Codex.Items.Rows.records()
  defp record(name), do: for({key, opts} <- records()[name], do: field({key, "term()", opts}))

  # The fields of a spec that the NIF hands over, in their order in the tuple.
  defp sent(spec), do: Enum.filter(spec.fields, &(&1.wire != []))

  ## Structs from tuples

  @doc """
  Defines `struct_of/2`: the tag of a tuple and the tuple to the struct of a table.

  `fixed` quotes a keyword of fields that the table does not have. The caller defines `convert/2`
  for values of kinds other than `:any`, enums and records, and `complete/2` for the struct of a
  row with such a need.
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

  @doc "Returns the `type` of an item: an atom made from our own table, not from the wire."
  @spec type_atom(spec()) :: atom()
  def type_atom(%{types: [{type, _} | _]}), do: String.to_atom(type)

  defp value(%{kind: :item}, var),
    do: quote(do: unquote(Module.concat(["Codex", "Items"])).from_native(unquote(var)))

  defp value(%{kind: :raw_item} = field, var),
    do: quote(do: raw_item(unquote(or_default(field, var))))

  defp value(field, var), do: or_default(field, var)

  defp or_default(%{default: nil}, var), do: var

  defp or_default(%{default: default}, var),
    do: quote(do: if(unquote(var) == nil, do: unquote(Macro.escape(default)), else: unquote(var)))

  # Only a row with stand-ins pays for looking for them, and only reasoning for its text.
  defp completed(%{types: [{"reasoning", []}]}, struct), do: quote(do: finish(unquote(struct)))

  defp completed(spec, struct) do
    case for field <- spec.fields, field.or, do: {field.name, field.or, field.default} do
      [] -> struct
      stand_ins -> quote(do: stand_in(unquote(struct), unquote(Macro.escape(stand_ins))))
    end
  end
end
