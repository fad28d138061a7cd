defmodule Codex.SchemaTest do
  use ExUnit.Case, async: true

  alias Codex.Schema
  alias Codex.Schema.{Check, Limits, Pointer, ProviderLimits, Words}

  doctest Schema
  doctest Check
  doctest Limits
  doctest Pointer
  doctest ProviderLimits
  doctest Words

  @fixtures Path.wildcard(Path.expand("../fixtures/strict_schema/*.json", __DIR__))

  defmodule Line do
    use Codex.Schema, item: :string, price: {:number, minimum: 0}
  end

  defmodule Invoice do
    use Codex.Schema,
      number: {:string, pattern: "^R-[0-9]+$", description: "as printed"},
      total: :number,
      lines: {:list, Codex.SchemaTest.Line, max_items: 3},
      note: {:optional, :string}

    @impl true
    def validate(%{number: "R-0"}), do: {:error, "is void"}

    def validate(invoice) do
      if invoice.total == Enum.sum(Enum.map(invoice.lines, & &1.price)),
        do: :ok,
        else: {:error, [%{path: ["total"], message: "must be the sum of the lines"}]}
    end
  end

  defmodule Folder do
    use Codex.Schema, name: :string, folders: {:list, __MODULE__}, owner: {:optional, Line}
  end

  defp object(properties, more \\ %{}),
    do: Map.merge(%{"type" => "object", "properties" => properties}, more)

  defp a(schema), do: object(%{"a" => schema}, %{"required" => ["a"]})
  defp invalid(schema), do: schema |> Schema.strict() |> elem(1) |> Tuple.delete_at(0)

  describe "recorded schemas" do
    for path <- @fixtures do
      test Path.basename(path, ".json") do
        {:ok, case} = unquote(path) |> File.read!() |> Codex.JSON.decode()
        check(case)
      end
    end

    test "are 40", do: assert(length(@fixtures) == 40)

    defp check(%{"error" => %{"path" => path, "keyword" => keyword}, "schema" => schema}) do
      assert Schema.strict(schema) == {:error, {:invalid_schema, path, keyword}}
      assert Schema.decode(schema, "{}") == {:error, {:invalid_schema, path, keyword}}
    end

    defp check(%{"strict" => strict, "schema" => schema, "answers" => answers}) do
      assert Schema.strict(schema) == {:ok, strict}
      assert answers != []

      for %{"given" => given} = answer <- answers, text = Codex.JSON.encode!(given) do
        case answer do
          %{"decoded" => decoded} ->
            assert Schema.decode(schema, text) == {:ok, decoded}

          %{"wrong" => paths} ->
            assert {:error, {:invalid_output, faults}} = Schema.decode(schema, text)
            assert Enum.map(faults, & &1.path) == paths
            assert Enum.all?(faults, &(&1.message != ""))
        end
      end
    end
  end

  describe "strict/1" do
    test "names keywords with invalid values" do
      for {schema, keyword} <- [
            {%{"type" => "text"}, "type"},
            {%{"type" => []}, "type"},
            {%{"type" => ["string", "string"]}, "type"},
            {%{"type" => %{}}, "type"},
            {%{"type" => "object", "properties" => []}, "properties"},
            {object(%{}, %{"required" => "a"}), "required"},
            {object(%{}, %{"required" => ["b"]}), "required"},
            {%{"type" => "array", "items" => 1}, "any"},
            {%{"enum" => []}, "enum"},
            {%{"enum" => "a"}, "enum"},
            {%{"enum" => [%{}]}, "enum"},
            {%{"type" => "string", "enum" => [1]}, "type"},
            {%{"anyOf" => []}, "anyOf"},
            {%{"anyOf" => %{}}, "anyOf"},
            {%{"oneOf" => 1}, "oneOf"},
            {%{"type" => "string", "minLength" => -1}, "minLength"},
            {%{"type" => "string", "pattern" => 1}, "pattern"},
            {%{"type" => "string", "description" => 1}, "description"},
            {%{"type" => "number", "multipleOf" => 0}, "multipleOf"},
            {%{"type" => "number", "maximum" => "9"}, "maximum"},
            {%{"type" => "array", "items" => %{"type" => "null"}, "uniqueItems" => 1},
             "uniqueItems"},
            {%{"$ref" => 1}, "$ref"},
            {object(%{}, %{"additionalProperties" => nil}), "additionalProperties"},
            {object(%{}, %{"required" => nil}), "required"},
            {%{"type" => nil}, "type"},
            {%{"type" => "array", "items" => %{"type" => "null"}, "minItems" => nil}, "minItems"}
          ] do
        path = if keyword == "any", do: ["properties", "a", "items"], else: ["properties", "a"]
        assert {schema, invalid(a(schema))} == {schema, {path, keyword}}
      end

      assert invalid(object(%{}, %{"$defs" => []})) == {[], "$defs"}
      assert invalid(object(%{}, %{"$defs" => %{"R" => 1}})) == {["$defs", "R"], "any"}
    end

    test "refuses references to missing parts, other documents and themselves" do
      defs = %{
        "R" => %{"type" => "string"},
        "x/y" => %{"type" => "string"},
        "one" => %{"$ref" => "#/$defs/two"},
        "two" => %{"$ref" => "#/$defs/one"}
      }

      for ref <- [
            "#/$defs/S",
            "#/properties/a",
            "other.json",
            "https://example.org/s",
            "#R",
            "",
            "#/$defs/",
            "#/$defs/R/type",
            "#/$defs/one"
          ] do
        schema = Map.put(a(%{"$ref" => ref}), "$defs", Map.take(defs, ["R", "x/y"]))
        schema = if ref == "#/$defs/one", do: Map.put(schema, "$defs", defs), else: schema
        assert {ref, invalid(schema)} == {ref, {["properties", "a"], "$ref"}}
      end

      {:ok, strict} =
        Schema.strict(Map.put(a(%{"$ref" => "#/$defs/x~1y"}), "$defs", Map.take(defs, ["x/y"])))

      assert strict["properties"]["a"] == %{"$ref" => "#/$defs/x~1y"}

      twice = object(%{}, %{"$defs" => defs, "definitions" => %{"R" => %{"type" => "null"}}})
      assert {_path, "definitions"} = invalid(%{twice | "$defs" => Map.take(defs, ["R"])})
    end

    test "loses no keyword beside a union or an enumeration" do
      union = [%{"type" => "string"}, %{"type" => "null"}]

      for {schema, keyword} <- [
            {%{"anyOf" => union, "type" => "string"}, "anyOf"},
            {%{"anyOf" => union, "properties" => %{}}, "anyOf"},
            {%{"anyOf" => union, "oneOf" => union}, "oneOf"},
            {%{"enum" => ["a"], "const" => "a"}, "const"},
            {%{"enum" => ["a"], "properties" => %{}}, "enum"},
            {%{"enum" => ["a"], "anyOf" => union}, "anyOf"}
          ],
          do: assert({schema, invalid(a(schema))} == {schema, {["properties", "a"], keyword}})

      # Limits beside a union are left out, and the answer is checked against them.
      schema = a(%{"anyOf" => union, "minLength" => 2, "description" => "d"})
      {:ok, strict} = Schema.strict(schema)
      assert strict["properties"]["a"] == %{"anyOf" => union, "description" => "d"}
      assert {:error, {:invalid_output, [%{path: ["a"]}]}} = Schema.decode(schema, ~s({"a":"x"}))
      assert Schema.decode(schema, ~s({"a":null})) == {:ok, %{"a" => nil}}
    end

    test "keeps limits of the type, and the formats that providers know" do
      string = %{"type" => "string", "format" => "date", "minimum" => 1}
      {:ok, strict} = Schema.strict(a(string))
      assert strict["properties"]["a"] == %{"type" => "string", "format" => "date"}
    end

    test "checks the root" do
      for root <- [
            %{"oneOf" => [object(%{})]},
            %{"type" => "object", "enum" => [1]},
            %{"type" => ["object"], "properties" => %{}}
          ],
          do: assert({root, invalid(root)} == {root, {[], "root"}})

      assert Schema.strict(%{"type" => "object", "additionalProperties" => false}) ==
               {:ok, object(%{}, %{"required" => [], "additionalProperties" => false})}
    end

    test "keeps to the limits of providers" do
      deep = fn levels ->
        Enum.reduce(2..levels//1, a(%{"type" => "string"}), fn _, inner -> a(inner) end)
      end

      assert {:ok, _} = Schema.strict(deep.(10))
      assert {path, "too deep"} = invalid(deep.(11))
      assert length(path) == 20

      many = fn n, prefix -> Map.new(1..n, &{"#{prefix}#{&1}", %{"type" => "string"}}) end
      assert {:ok, _} = Schema.strict(object(many.(5_000, "p")))
      assert invalid(object(many.(5_001, "p"))) == {[], "too many properties"}

      long = String.duplicate("p", 120)
      assert invalid(object(many.(1_000, long))) == {[], "too many characters"}

      enum = fn n, text -> a(%{"enum" => for(i <- 1..n, do: "#{text}#{i}")}) end
      assert {:ok, _} = Schema.strict(enum.(1_000, ""))
      assert invalid(enum.(1_001, "")) == {[], "too many enum values"}
      assert {:ok, _} = Schema.strict(enum.(250, long))
      assert invalid(enum.(251, long)) == {["properties", "a"], "enum too long"}
    end

    test "takes terms, and names those without a form in JSON" do
      assert {:ok, _} = Schema.strict(%{type: :object, properties: %{a: %{type: :string}}})

      assert invalid(%{type: :object, properties: %{a: self()}}) ==
               {["properties", "a"], "not JSON"}

      assert invalid(name: :strin) == {["properties", "name"], "type"}
      assert invalid(name: {:string, min_lenght: 1}) == {["properties", "name"], "min_lenght"}

      assert invalid(a: [b: :string, c: :string, b: :integer]) == {["properties", "a"], "b"}

      assert invalid(name: {:list, {:optional, :string}}) ==
               {["properties", "name", "items"], "type"}

      assert invalid(name: {:enum, [[]]}) == {["properties", "name"], "enum"}
      assert invalid(name: %{not: %{}}) == {["properties", "name"], "not"}

      assert invalid(tags: {:list, %{a: {1}}}) ==
               {["properties", "tags", "items", "a"], "not JSON"}

      for source <- [[], nil, "x", String, :nope, [1], [{"a", :string}], {:string, []}],
          do: assert({source, invalid(source)} == {source, {[], "type"}})
    end

    test "has a sentence for each error" do
      for schema <- [
            %{},
            a(%{"not" => %{}}),
            a(%{"type" => "array"}),
            object(%{}, %{"required" => ["b"]})
          ] do
        {:error, reason} = Schema.strict(schema)
        error = Codex.Error.normalize(reason)
        assert error.kind == :invalid_request
        assert error.message =~ "has no strict form: "
      end

      {:error, reason} = Schema.decode([a: :string], ~s({"a":1}))
      assert %{kind: :protocol, message: message} = Codex.Error.normalize(reason)
      assert message == "the answer does not fit the schema: a must be a string, got a number"
    end
  end

  describe "a keyword list" do
    @fields [
      name: :string,
      size: {:enum, [:small, "Big", 3], description: "of the thing"},
      parts: {:list, [id: :integer, label: {:optional, :string}]},
      ref: {:any_of, [:integer, [path: :string]]},
      raw: {:optional, %{type: "object", properties: %{k: %{type: "string"}}}}
    ]

    test "gives a map with its atoms" do
      answer = %{
        name: "n",
        size: "small",
        parts: [%{id: 1, label: nil}, %{id: 2.0, label: "l"}],
        ref: %{path: "p"},
        raw: nil
      }

      assert Schema.decode(@fields, Codex.JSON.encode!(answer)) ==
               {:ok,
                %{
                  name: "n",
                  size: :small,
                  parts: [%{id: 1}, %{id: 2.0, label: "l"}],
                  ref: %{path: "p"}
                }}

      answer = %{answer | size: "Big", ref: 7, raw: %{k: nil}}
      assert {:ok, %{size: "Big", ref: 7, raw: raw}} = Schema.decode(@fields, answer)
      assert raw == %{}
    end

    test "makes no atoms" do
      name = "never_an_atom_#{System.unique_integer([:positive])}"
      text = Codex.JSON.encode!(%{name => 1, "name" => "n"})
      assert {:error, {:invalid_output, faults}} = Schema.decode([name: :string], text)
      assert [%{path: [], message: message}] = faults
      assert message == "#{name} is unknown; known are name"
      assert_raise ArgumentError, fn -> String.to_existing_atom(name) end
    end
  end

  describe "a module" do
    test "gives structs, and checks them" do
      lines = [%{item: "a", price: 1}, %{item: "b", price: 2}]
      answer = %{number: "R-1", total: 3, lines: lines, note: nil}

      assert Schema.decode(Invoice, answer) ==
               {:ok,
                %Invoice{
                  number: "R-1",
                  total: 3,
                  lines: [%Line{item: "a", price: 1}, %Line{item: "b", price: 2}],
                  note: nil
                }}

      faults = fn answer ->
        {:error, {:invalid_output, faults}} = Schema.decode(Invoice, answer)
        Enum.map(faults, &{&1.path, &1.message})
      end

      assert faults.(%{answer | total: 4}) == [{["total"], "must be the sum of the lines"}]
      assert faults.(%{answer | number: "R-0"}) == [{[], "is void"}]

      assert faults.(%{answer | lines: lines ++ lines}) == [
               {["lines"], "must have at most 3 items"}
             ]

      nested = [invoices: {:list, Invoice}]

      assert {:error, {:invalid_output, [fault]}} =
               Schema.decode(nested, %{invoices: [%{answer | total: 4}]})

      assert fault == %{path: ["invoices", 0, "total"], message: "must be the sum of the lines"}
    end

    test "may name itself and others" do
      {:ok, strict} = Schema.strict(Folder)
      assert strict["properties"]["folders"]["items"] == %{"$ref" => "#"}
      assert [{name, %{"required" => ["item", "price"]}}] = Map.to_list(strict["$defs"])

      assert strict["properties"]["owner"] == %{
               "anyOf" => [%{"$ref" => "#/$defs/" <> name}, %{"type" => "null"}]
             }

      inner = %{name: "b", folders: [], owner: %{item: "x", price: 0}}

      assert {:ok, %Folder{owner: nil, folders: [%Folder{owner: %Line{item: "x"}}]}} =
               Schema.decode(Folder, %{name: "a", folders: [inner], owner: nil})

      assert {:ok, strict} = Schema.strict(root: Folder)
      assert Enum.count(strict["$defs"]) == 2
    end

    test "needs fields" do
      for fields <- ["[]", ":string", "%{a: :string}"] do
        code = "defmodule Codex.SchemaTest.Bad do\n  use Codex.Schema, #{fields}\nend"

        assert_raise ArgumentError, ~r/expects a keyword list of fields/, fn ->
          Code.eval_string(code)
        end
      end
    end

    test "that returns something else from validate/1 raises" do
      defmodule Odd do
        use Codex.Schema, a: :string
        @impl true
        def validate(_value), do: true
      end

      assert_raise ArgumentError, ~r/validate\/1 must return :ok/, fn ->
        Schema.decode(Odd, %{a: "x"})
      end
    end
  end

  describe "decode/2" do
    defp faults(schema, answer) do
      case Schema.decode(schema, answer) do
        {:ok, _} -> []
        {:error, {:invalid_output, faults}} -> Enum.map(faults, &{&1.path, &1.message})
      end
    end

    test "reads fences, and names what is not JSON" do
      assert Schema.decode([a: :integer], "```json\n{\"a\": 1}\n```") == {:ok, %{a: 1}}

      assert faults([a: :integer], "Sure: {}") == [
               {[], "is not one JSON document (syntax, at byte 0)"}
             ]

      assert faults([a: :integer], "") == [{[], "is not one JSON document (eof, at byte 0)"}]
      assert faults([a: :integer], %{a: self()}) == [{[], "has no form in JSON"}]
    end

    test "checks all limits" do
      for {schema, good, bad} <- [
            {%{"type" => "string", "minLength" => 2}, "äö", "ä"},
            {%{"type" => "string", "maxLength" => 1}, "ä", "äö"},
            {%{"type" => "string", "format" => "date-time"}, "2024-02-29T00:00:00Z",
             "2024-02-29"},
            {%{"type" => "string", "format" => "date"}, "2024-02-29", "2023-02-29"},
            {%{"type" => "string", "format" => "time"}, "10:00:00Z", "25:00:00"},
            {%{"type" => "string", "format" => "duration"}, "P1DT2H", "PT"},
            {%{"type" => "string", "format" => "email"}, "a@b.c", "a b@c"},
            {%{"type" => "string", "format" => "hostname"}, "a-b.example", "-a"},
            {%{"type" => "string", "format" => "ipv4"}, "127.0.0.1", "127.1"},
            {%{"type" => "string", "format" => "ipv6"}, "::1", "127.0.0.1"},
            {%{"type" => "string", "format" => "uuid"}, "01a1f6d3-7fac-74c3-85f8-18e6b6e7f46f",
             "1"},
            {%{"type" => "string", "format" => "uri"}, "https://a.example/b", "a b"},
            {%{"type" => "number", "multipleOf" => 0.1}, 0.3, 0.35},
            {%{"type" => "number", "multipleOf" => 1.0e-300}, 1.0e300, 1.5e-300},
            {%{"type" => "integer", "exclusiveMinimum" => 0}, 1, 0},
            {%{"type" => "array", "items" => %{"type" => "number"}, "uniqueItems" => true},
             [1, 2], [1, 1.0]},
            {%{"enum" => [1]}, 1.0, 2},
            {%{"anyOf" => [%{"const" => 1}, %{"type" => "string"}]}, 1, 2}
          ] do
        assert {schema, good, faults(a(schema), %{a: good})} == {schema, good, []}
        assert {^schema, ^bad, [{["a"], _}]} = {schema, bad, faults(a(schema), %{a: bad})}
      end
    end

    test "reports the faults of the nearest form of a union" do
      forms = [[kind: {:enum, ["a"]}, x: :string], [kind: {:enum, ["b"]}, y: :integer], :integer]
      schema = [u: {:any_of, forms}]

      assert faults(schema, %{u: %{kind: "b", y: "z"}}) == [
               {["u", "y"], "must be an integer, got a string"}
             ]

      assert faults(schema, %{u: true}) ==
               [{["u"], "must be an object or an integer, got a boolean"}]
    end

    test "keeps messages short" do
      values = for n <- 1..200, do: "a rather long value #{n}"
      [{["e"], message}] = faults([e: {:enum, values}], %{e: "x"})
      assert String.starts_with?(message, ~s(must be one of "a rather long value 1", "a rather))
      assert String.ends_with?(message, "…, and others")
      assert String.length(message) < 1_100

      [{[], message}] = faults([a: {:optional, :string}], %{String.duplicate("x", 999) => 1})
      assert message == String.duplicate("x", 100) <> " is unknown; known are a"
    end

    test "returns at most 100 faults, and the deepest level is one" do
      answer = %{l: List.duplicate("x", 1_000)}
      assert length(faults([l: {:list, :integer}], answer)) == 100

      deep = fn levels -> Enum.reduce(1..levels, [], fn _, inner -> [inner] end) end

      lists =
        object(%{"l" => %{"$ref" => "#/$defs/L"}}, %{
          "$defs" => %{"L" => %{"type" => "array", "items" => %{"$ref" => "#/$defs/L"}}}
        })

      assert faults(lists, %{l: deep.(200)}) == []

      assert [{path, "has more than 256 levels"}] =
               for(
                 %{path: path, text: text} <- Check.faults(%{"l" => deep.(300)}, lists),
                 do: {path, text}
               )

      assert length(path) == 257
    end

    test "ends, whatever the unions are" do
      # Each definition asks the next one twice: 2^40 ways.
      defs =
        for n <- 1..40, into: %{"d41" => %{"type" => "string"}} do
          next = %{"$ref" => "#/$defs/d#{n + 1}"}
          {"d#{n}", %{"anyOf" => [next, next]}}
        end

      schema = Map.put(a(%{"$ref" => "#/$defs/d1"}), "$defs", defs)
      assert [{[], "has too many parts to be checked"}] = faults(schema, %{a: 1})
    end
  end
end
