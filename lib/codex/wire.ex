defmodule Codex.Wire do
  @moduledoc false
  # What follows from the tables of events and items: struct modules, reading, writing, and the table for the NIF.

  alias Codex.Wire.{Events, Items}

  @typep field :: %{
           name: atom(),
           type: String.t(),
           wire: [String.t()],
           or: String.t() | nil,
           kind: term(),
           default: term(),
           required: boolean(),
           enforce: boolean(),
           omit: boolean()
         }
  @type spec :: %{
          module: module(),
          types: [{String.t(), keyword()}],
          app: String.t() | nil,
          doc: String.t(),
          fields: [field()]
        }

  @doc "The specs of a table (`:events` or `:items`), rows with every default filled in."
  @spec specs(:events | :items) :: [spec()]
  def specs(:events), do: Enum.map(Events.rows(), &spec(&1, "Codex.Events"))
  def specs(:items), do: Enum.map(Items.rows(), &spec(&1, "Codex.Items"))

  # A namespace is text here: this module must not depend on those that are made from it.
  defp spec({name, types, app, doc, fields}, namespace) do
    id = if namespace == "Codex.Items", do: [{:id, "String.t() | nil", []}], else: []
    fields = id ++ fields

    %{
      module: Module.concat(namespace, name),
      types: Enum.map(types, &if(is_tuple(&1), do: &1, else: {&1, []})),
      app: app,
      doc: doc,
      fields: Enum.map(fields, &field/1)
    }
  end

  defp field({name, type, opts}) do
    own = Atom.to_string(name)

    %{
      name: name,
      type: type,
      wire: if(opts[:wire] == false, do: [], else: [own | opts[:also] || []]),
      or: opts[:or],
      kind: opts[:kind] || :any,
      default: opts[:default],
      required: opts[:required] || false,
      enforce: opts[:required] || opts[:enforce] || false,
      omit: opts[:omit] || false
    }
  end

  @doc "The body of the struct module of a spec; `common` are fields that all structs of the table have."
  def module_body(spec, common) do
    common = Enum.map(common, &field/1)
    fields = spec.fields ++ common
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
    types = Enum.map_join(spec.types, ", ", fn {type, _} -> "`#{type}`" end)
    app = if spec.app, do: " App-server: `#{spec.app}`.", else: ""

    rows =
      Enum.map_join(fields, "\n", fn field ->
        default = if field.default != nil, do: ", default `#{inspect(field.default)}`", else: ""
        "  * `#{field.name}` - `#{field.type}`#{default}"
      end)

    "#{spec.doc}\n\nJSONL: #{types}.#{app}\n\n#{rows}\n"
  end

  ## Reading maps

  @doc "Fills the struct of a spec from a string-keyed map. Raises `KeyError` where a required field is missing."
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

  @doc "Reads enums and records; the kinds that both tables share."
  def read_kind({:enum, name}, value) when is_binary(value) do
    Enum.find(Items.enums()[name], value, &(Atom.to_string(&1) == value))
  end

  def read_kind({:records, name}, list) when is_list(list) do
    fields = Items.records()[name]

    for entry <- list do
      if is_map(entry), do: read_record(entry, fields), else: entry
    end
  end

  def read_kind(_kind, value), do: value

  defp read_record(entry, fields) do
    Enum.reduce(fields, entry, fn {name, enum}, map ->
      {value, map} = Map.pop(map, Atom.to_string(name), Map.get(entry, name))
      Map.put(map, name, read_kind(enum && {:enum, enum}, value))
    end)
  end

  ## Writing maps

  @doc "The string-keyed map of a struct, nil and omitted defaults left out."
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

  @doc "Writes enums and records; the kinds that both tables share."
  def write_kind({:enum, _}, value) when is_atom(value), do: Atom.to_string(value)

  def write_kind(:plan, steps), do: write_kind({:records, :step}, steps)

  def write_kind({:records, _}, list) when is_list(list) do
    for entry <- list do
      if is_map(entry), do: write_record(entry), else: entry
    end
  end

  def write_kind(_kind, value), do: value

  defp write_record(entry) do
    for {key, value} <- entry, value != nil, into: %{} do
      if is_atom(key),
        do:
          {Atom.to_string(key),
           if(is_atom(value) and not is_boolean(value), do: Atom.to_string(value), else: value)},
        else: {key, value}
    end
  end

  ## The NIF

  @doc """
  The tables as the NIF takes them when it loads: `{unions, enums, records}`, with kinds as `{code, index}`.

  A decoded object of a union is `{index, field…, extra}`, where the index counts wire types through the table.
  """
  def native do
    {[union(specs(:events)), union(specs(:items))],
     for({_, values} <- Items.enums(), do: Enum.map(values, &{Atom.to_string(&1), &1})),
     for({_, fields} <- Items.records(), do: Enum.map(fields, &native_record/1))}
  end

  defp native_record({name, enum}),
    do: {Atom.to_string(name), name, enum && index(Items.enums(), enum)}

  defp union(specs) do
    fields = for spec <- specs, field <- spec.fields, field.wire != [], do: field
    slots = fields |> Enum.map(&hd(&1.wire)) |> Enum.uniq()

    native_fields =
      for slot <- slots do
        same = Enum.filter(fields, &(hd(&1.wire) == slot))
        {same |> Enum.flat_map(& &1.wire) |> Enum.uniq(), native_kind(hd(same).kind)}
      end

    variants =
      for spec <- specs, {type, _} <- spec.types do
        on_wire = native_fields_of(spec)
        at = fn field -> Enum.find_index(slots, &(&1 == hd(field.wire))) end

        {type, Enum.map(on_wire, &{at.(&1), native_kind(&1.kind)}),
         for(field <- on_wire, field.required, do: at.(field))}
      end

    {native_fields, variants}
  end

  @doc "The fields of a spec that the NIF hands over, in their order in the tuple."
  def native_fields_of(spec), do: Enum.filter(spec.fields, &(&1.wire != []))

  @doc "A variable of a decoded tuple, or the field's default where it is nil; quoted."
  def or_default(%{default: nil}, var), do: var

  def or_default(%{default: default}, var),
    do: quote(do: if(unquote(var) == nil, do: unquote(Macro.escape(default)), else: unquote(var)))

  defp native_kind(:item), do: {2, 1}
  defp native_kind({:enum, name}), do: {1, index(Items.enums(), name)}
  defp native_kind({:records, name}), do: {3, index(Items.records(), name)}
  defp native_kind(_), do: {0, 0}

  defp index(keyword, name), do: Enum.find_index(keyword, fn {key, _} -> key == name end)
end
