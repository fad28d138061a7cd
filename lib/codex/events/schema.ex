defmodule Codex.Events.Schema do
  @moduledoc false
  # Derives the struct modules of events and items from their tables, and reads and writes maps.
  #
  # The protocol of the app-server completes the tables: a kind without a row gets one, and a row
  # gets the fields that it lacks.

  alias Codex.Events.Protocol
  alias Codex.Items.Rows

  @path Path.expand("../../../priv/protocol/app_server.exs", __DIR__)
  @external_resource @path
  @kinds @path |> File.read!() |> Code.string_to_quoted!() |> Protocol.kinds()

  @type field :: %{
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
          app_kind: term(),
          exec: boolean(),
          doc: String.t() | nil,
          rollout: [String.t()],
          rollout_kind: term()
        }
  @type wire_type :: {String.t(), keyword()}
  @typedoc """
  A row with every default filled in. `types` are those of the exec dialect. `names` are the types
  that `parse!/1` reads; `to_map/1` writes the first.
  """
  @type spec :: %{
          module: module(),
          types: [wire_type()],
          names: [wire_type()],
          app: [wire_type()],
          rollout: [wire_type()],
          doc: String.t(),
          fields: [field()]
        }

  # Modules of rows, by table. A namespace is text: this module must not depend on the structs.
  @tables [events: {Codex.Events.Rows, "Codex.Events"}, items: {Codex.Items.Rows, "Codex.Items"}]

  @doc "Returns the specs of a table, then those of the kinds that only the protocol has."
  @spec specs(:events | :items) :: [spec()]
  def specs(table) do
    {rows, namespace} = @tables[table]
    id = if table == :items, do: [{:id, "String.t() | nil", []}], else: []
    own = for {name, types, doc, fields} <- rows.rows(), do: {name, types, doc, id ++ fields}
    own = Enum.map(own, &(&1 |> spec(namespace) |> complete(@kinds[table])))
    typed = for spec <- own, {type, _} <- spec.app, do: type
    taken = for spec <- own, do: spec.module

    own ++
      for kind <- @kinds[table], kind.type not in typed do
        type = if table == :items, do: Macro.underscore(kind.type), else: kind.type
        name = if Module.concat(namespace, kind.name) in taken, do: "Server", else: ""
        types = [name: type, app: kind.type]
        spec({name <> kind.name, types, kind.doc, id ++ kind.fields}, namespace)
      end
  end

  defp spec({name, types, doc, fields}, namespace) do
    %{
      module: Module.concat(namespace, name),
      types: types(types[:exec]),
      names: types(types[:exec] || types[:name]),
      app: types(types[:app]),
      rollout: types(types[:rollout]),
      doc: String.trim_trailing(doc),
      fields: Enum.map(fields, &field/1)
    }
  end

  # A field of the protocol is missing if no path of the row leads to it or into it.
  defp complete(spec, kinds) do
    rules = [:whole, :drop, :known]
    opened = for {_, opts} <- spec.app, rule <- rules, name <- List.wrap(opts[rule]), do: name
    paths = for field <- spec.fields, path <- field.app, do: hd(String.split(path, "."))
    names = for field <- spec.fields, do: field.name

    missing =
      for {type, _} <- spec.app,
          %{type: ^type, fields: fields} <- kinds,
          {name, text, opts} <- fields,
          hd(opts[:app]) not in (opened ++ paths) and name not in names,
          # `codex exec` does not send it, nor do servers of other versions.
          do: field({name, Protocol.optional(text), Keyword.delete(opts, :enforce)})

    %{spec | fields: spec.fields ++ Enum.uniq_by(missing, & &1.name)}
  end

  defp types(types),
    do: for(type <- List.wrap(types), do: with(text when is_binary(text) <- type, do: {text, []}))

  defp field({name, type, opts}) do
    wire = if opts[:wire] == false, do: [], else: ["#{name}" | opts[:also] || []]
    kind = Keyword.get(opts, :kind, :any)

    %{
      name: name,
      type: type,
      wire: wire,
      or: opts[:or],
      kind: kind,
      default: opts[:default],
      required: opts[:required] || false,
      enforce: opts[:required] || opts[:enforce] || false,
      omit: Keyword.get(opts, :omit, false),
      app: List.wrap(opts[:app] || app_names(wire)),
      app_kind: Keyword.get(opts, :app_kind, kind),
      exec: Keyword.get(opts, :exec, true),
      doc: opts[:doc],
      rollout: List.wrap(opts[:rollout] || Enum.take(wire, 1)),
      rollout_kind: Keyword.get(opts, :rollout_kind, kind)
    }
  end

  defp app_names(wire), do: Enum.uniq(Enum.map(Enum.take(wire, 1), &camel/1) ++ wire)

  defp camel(name) do
    <<first, _::binary>> = name
    <<_, rest::binary>> = Macro.camelize(name)
    <<first, rest::binary>>
  end

  @doc "Returns the `type` of an item: an atom made from our own table, not from the wire."
  @spec type_atom(spec()) :: atom()
  def type_atom(%{names: [{type, _} | _]}), do: String.to_atom(type)

  @doc "Returns the fields of a spec that the NIF hands over, in their order in the tuple."
  @spec sent(spec()) :: [field()]
  def sent(spec), do: Enum.filter(spec.fields, &(&1.wire != []))

  @doc "Returns the fields of a record."
  @spec record(atom()) :: [field()]
  def record(name),
    do: for({key, opts} <- Rows.records()[name], do: field({key, "term()", opts}))

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
      @typedoc "The struct. Fields: see above."
      @type t :: %__MODULE__{unquote_splicing(types)}
    end
  end

  @doc "Returns a line of Markdown for each struct of a table."
  @spec guide(:events | :items) :: [String.t()]
  def guide(table) do
    table |> specs() |> Enum.sort_by(& &1.module) |> Enum.map(&guide_line/1)
  end

  defp guide_line(spec) do
    name = spec.module |> Module.split() |> List.last()
    text = spec.doc |> String.split("\n\n") |> hd()

    case for(%{name: name} <- spec.fields, name != :id, do: "`#{name}`") do
      [] -> "`#{name}`: #{text} #{sent_as(spec)}"
      fields -> "`#{name}`: #{text} Fields: #{Enum.join(fields, ", ")}. #{sent_as(spec)}"
    end
  end

  defp sent_as(spec) do
    names = fn types -> Enum.map_join(types, ", ", fn {type, _} -> "`#{type}`" end) end
    exec = if spec.types != [], do: ["JSONL: #{names.(spec.types)}."], else: []
    app = if spec.app != [], do: ["App-server: #{names.(spec.app)}."], else: []
    Enum.join(exec ++ app, " ")
  end

  defp module_doc(spec, fields) do
    rows =
      Enum.map_join(fields, "\n", fn field ->
        default = if field.default != nil, do: ", default `#{inspect(field.default)}`", else: ""
        doc = if field.doc, do: ", " <> field.doc, else: ""
        "  * `#{field.name}` - `#{field.type}`#{default}#{doc}"
      end)

    "#{spec.doc}\n\n#{sent_as(spec)}\n\n#{rows}\n"
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
    Enum.find(Rows.enums()[name], value, &(Atom.to_string(&1) == value))
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
end
