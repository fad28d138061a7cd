defmodule Codex.Schema do
  @moduledoc """
  Schemas of structured answers. The option `output` of a turn takes one, and
  `Codex.Turn.Result.output/1` returns the decoded answer:

      {:ok, result} =
        Codex.Thread.run(thread, "What is in this folder?",
          output: [name: :string, tags: {:list, :string}, note: {:optional, :string}],
          repair: 1
        )

      {:ok, %{name: name, tags: tags}} = Codex.Turn.Result.output(result)

  ## Forms of a schema

    * A **keyword list** of fields and types. The decoded answer is a map with these atoms.
    * A **module** that uses `Codex.Schema` with such a list. The decoded answer is a struct.
    * A **JSON schema** as a map with atom or string keys. The decoded answer has string keys.

  | Type of a field | JSON | Decoded |
  | --- | --- | --- |
  | `:string`, `:integer`, `:number`, `:boolean` | the same | the same; an integer may be `1.0` |
  | `{:list, type}` | array | list |
  | `{:enum, values}` | one of these strings, atoms, numbers, booleans | the declared value |
  | `{:any_of, types}` | a value of one of these types | the value of the first type that fits |
  | a keyword list of fields | object | map with the declared atoms |
  | a module that uses `Codex.Schema` | object | struct |
  | a JSON schema as a map | as it says | with string keys |
  | `{:optional, type}`, for fields only | the type or null | without the field; in a struct nil |

  A model writes the members of an object in the order of the fields, so put the reasons before the
  verdict. A JSON schema is a map, and has the order of the map.

  Options describe and limit a type: `{:string, description: "ISO code", max_length: 2}`,
  `{:list, :string, max_items: 5}`, `{:enum, [:low, :high], description: "urgency"}`. They are
  `description`, `min_length`, `max_length`, `pattern`, `format`, `minimum`, `maximum`,
  `exclusive_minimum`, `exclusive_maximum`, `multiple_of`, `min_items`, `max_items`, `unique_items`,
  and mean the JSON Schema keywords of these names.

  ## Modules

      defmodule MyApp.Invoice do
        use Codex.Schema,
          number: {:string, pattern: "^R-[0-9]+$"},
          total: :number,
          lines: {:list, MyApp.Line},
          note: {:optional, :string}

        @impl true
        def validate(invoice) do
          if invoice.total == Enum.sum(Enum.map(invoice.lines, & &1.price)),
            do: :ok,
            else: {:error, [%{path: ["total"], message: "must be the sum of the lines"}]}
        end
      end

  `use` defines the struct. A module may name itself and other such modules. `c:validate/1` is
  optional, and called with each decoded struct, the inner ones first; an exception in it is not
  caught.

  ## Strict form

  Providers ask for a subset of JSON Schema, and enforce it while the model writes. `strict/1`
  returns this form of a schema:

    * All objects are closed, and all properties required. An optional property may be null instead,
      and null is taken out when the answer is decoded.
    * `oneOf` becomes `anyOf`, `const` an `enum`, `definitions` become `$defs`.
    * `minLength`, `maxLength`, `uniqueItems`, unknown formats, `title`, `default`, `examples` are
      left out. `decode/2` checks the answer against all limits, also those that were left out.

  A schema without a strict form is `{:error, {:invalid_schema, path, keyword}}`: the path leads to
  the part, and the keyword is the one that has no strict form or an invalid value (`"allOf"`,
  `"not"`, `"patternProperties"`, a `"$ref"` to another document, a `"required"` name that is no
  property, …), or one of these:

    * `"root"` - the root is not a plain object
    * `"any"` - the part allows everything
    * `"properties"`, `"items"`, `"type"` - an object, a list or a value of any form
    * `"not JSON"` - the term has no form in JSON
    * the name of an option that is unknown, or of a field that is listed twice
    * `"too deep"`, `"too many properties"`, `"too many enum values"`, `"too many characters"`,
      `"enum too long"` - the schema is beyond the limits of providers: 10 levels of objects, 5,000
      properties, 1,000 values of enumerations, 120,000 characters of names and values, 15,000
      characters in an enumeration of more than 250 strings
  """

  alias Codex.Schema.{Decoder, Source, Strict}

  @typedoc "A schema: a JSON schema, a keyword list of fields, or a module. See above."
  @type source :: map() | keyword() | module()

  @typedoc """
  A fault of an answer: the path of the value from the root of the answer, and a sentence without
  its subject, such as `"must be an integer, got a string"`. A missing or unknown member is a fault
  of the object.
  """
  @type fault :: %{path: [String.t() | non_neg_integer()], message: String.t()}

  @typedoc "A schema without a strict form. See above."
  @type invalid ::
          {:invalid_schema, path :: [String.t() | non_neg_integer()], keyword :: String.t()}

  @doc """
  Checks a decoded struct. The paths of faults begin at the struct, and have strings as names.
  """
  @callback validate(struct()) :: :ok | {:error, String.t() | [fault(), ...]}

  @optional_callbacks validate: 1

  @doc false
  defmacro __using__(fields) do
    # The fields name modules without a dependency at compile time.
    env = %{__CALLER__ | function: {:__codex_schema__, 0}}

    fields =
      Macro.prewalk(fields, fn
        {:__aliases__, _, _} = alias -> Macro.expand(alias, env)
        other -> other
      end)

    quote do
      @behaviour Codex.Schema

      @codex_schema_fields unquote(fields)
      defstruct Codex.Schema.names!(@codex_schema_fields)

      @doc false
      def __codex_schema__, do: @codex_schema_fields
    end
  end

  @doc false
  @spec names!(term()) :: [atom()]
  def names!(fields) do
    unless Source.fields?(fields) do
      raise ArgumentError,
            "use Codex.Schema expects a keyword list of fields, got: #{inspect(fields)}"
    end

    Keyword.keys(fields)
  end

  @doc """
  Returns the strict form of a schema, with string keys.

      iex> {:ok, schema} = Codex.Schema.strict(name: :string, note: {:optional, :string})
      iex> schema["properties"]
      %{"name" => %{"type" => "string"}, "note" => %{"type" => ["string", "null"]}}
      iex> Codex.Schema.strict(%{type: "object", properties: %{a: %{not: %{type: "null"}}}})
      {:error, {:invalid_schema, ["properties", "a"], "not"}}
  """
  @spec strict(source()) :: {:ok, map()} | {:error, invalid()}
  def strict(source) do
    with {:ok, _schema, strict} <- compile(source), do: {:ok, Strict.plain(strict)}
  end

  @doc """
  Decodes an answer: a text, or a term that JSON can express.

  Reads a text as `Codex.Turn.Result.json/1` does, with or without a Markdown fence. Returns
  `{:error, {:invalid_output, faults}}` with at most 100 faults in the order of their paths, or the
  error of `strict/1`.

      iex> fields = [name: :string, size: {:enum, [:small, :big]}, note: {:optional, :string}]
      iex> Codex.Schema.decode(fields, ~s({"name": "a", "size": "big", "note": null}))
      {:ok, %{name: "a", size: :big}}
      iex> {:error, {:invalid_output, faults}} = Codex.Schema.decode(fields, ~s({"name": 1}))
      iex> faults
      [
        %{path: [], message: "size is required"},
        %{path: ["name"], message: "must be a string, got a number"}
      ]
  """
  @spec decode(source(), String.t() | term()) ::
          {:ok, term()} | {:error, {:invalid_output, [fault(), ...]} | invalid()}
  def decode(source, answer) do
    with {:ok, schema, _strict} <- compile(source), do: Decoder.decode(schema, answer)
  end

  @doc false
  @spec source?(term()) :: boolean()
  def source?(term), do: Source.fields?(term) or Source.module?(term)

  @doc false
  # The schema for `Codex.Schema.Decoder`, and its strict form for `Codex.Schema.Strict.ordered/1`.
  @spec compile(source()) :: {:ok, map(), map()} | {:error, invalid()}
  def compile(source) do
    with {:ok, schema} <- Source.schema(source),
         {:ok, strict} <- Strict.form(schema),
         do: {:ok, schema, strict}
  end
end
