defmodule Codex.Protocol.DiffTest do
  use ExUnit.Case, async: true

  alias Codex.Protocol.{Data, Diff, Schema}

  doctest Codex.Protocol.Diff

  @data [
    cli: "1.0.0",
    request: {"a/read", [params: {:ref, "AParams"}, result: "AResponse"]},
    request: {"a/write", [params: {:ref, "AParams"}, result: "AResponse"]},
    request: {"a/drop", [params: :null, result: "AResponse", experimental: true]},
    notification: {"a/changed", [params: {:ref, "AResponse"}]},
    type:
      {"AParams", {:fields, [required: {"id", :string}, optional: {"mode", {:nullable, :any}}]}},
    type: {"AResponse", {:fields, []}},
    type: {"Mode", {:one_of, [word: "one", word: "two"]}},
    type: {"Old", {:fields, []}},
    type: {"Open", {:fields, [other: :string]}}
  ]

  test "equal data has no difference, whatever the version" do
    assert Diff.lines(@data, @data) == []
    assert Diff.lines(@data, Keyword.put(@data, :cli, "2.0.0")) == []
  end

  test "added, removed and changed methods, fields and words" do
    data = [
      cli: "1.1.0",
      request: {"a/read", [params: {:nullable, {:ref, "AParams"}}, result: "AResponse"]},
      request: {"a/drop", [params: :null, result: "AResponse"]},
      request: {"a/make", [params: {:ref, "AParams"}, result: "AResponse", experimental: true]},
      server_request: {"a/ask", [params: {:ref, "AParams"}, result: "AResponse"]},
      type:
        {"AParams",
         {:fields,
          [
            experimental: {"extra", {:list, :string}},
            optional: {"id", :string},
            required: {"mode", {:ref, "Mode"}}
          ]}},
      type: {"AResponse", {:fields, []}},
      type: {"Mode", {:one_of, [word: "one", word: "three"]}},
      type: {"New", :integer},
      type: {"Open", {:fields, [optional: {"a", :null}, other: :any]}}
    ]

    assert Diff.lines(@data, data) == [
             "~ request a/drop null -> AResponse (experimental) is now null -> AResponse",
             "+ request a/make AParams -> AResponse (experimental)",
             "~ request a/read AParams -> AResponse is now AParams? -> AResponse",
             "- request a/write AParams -> AResponse",
             "- notification a/changed AResponse",
             "+ server_request a/ask AParams -> AResponse",
             "+ AParams.extra [string] (experimental)",
             "~ AParams.id string (required) is now string",
             "~ AParams.mode any? is now Mode (required)",
             "+ Mode 'three'",
             "- Mode 'two'",
             "+ type New integer",
             "- type Old {}",
             "~ Open {*:string} is now {a:null,*:any}"
           ]
  end

  test "every difference of two files is a line: without a line they are the same" do
    data = Codex.Protocol.path() |> File.read!() |> Data.read!()

    for index <- 1..(length(data) - 1)//37 do
      without = List.delete_at(data, index)
      assert [line] = Diff.lines(without, data)
      assert "+ " <> _ = line
      assert ["- " <> _] = Diff.lines(data, without)
    end
  end

  describe "a schema" do
    @method %{
      "properties" => %{
        "method" => %{"enum" => ["x/doIt"]},
        "params" => %{"$ref" => "#/definitions/v2/XParams"}
      }
    }

    defp schema(types, methods \\ [@method]) do
      unions =
        Map.new(~w(ClientNotification ServerRequest ServerNotification), &{&1, %{"oneOf" => []}})
        |> Map.put("ClientRequest", %{"oneOf" => methods})

      %{"definitions" => Map.put(unions, "v2", types)}
    end

    defp object(properties, rest \\ %{}),
      do: Map.merge(%{"type" => "object", "properties" => properties}, rest)

    test "is reduced to names, types, required fields and words" do
      stable = %{
        "XParams" =>
          object(
            %{
              "a" => %{"type" => "string", "description" => "prose"},
              "b" => %{"type" => ["integer", "null"], "minimum" => 0},
              "c" => %{"anyOf" => [%{"$ref" => "#/definitions/v2/Kind"}, %{"type" => "null"}]},
              "d" => %{"type" => "array", "items" => %{"type" => "number"}},
              "e" => %{"type" => "object", "additionalProperties" => true},
              "f" => %{"allOf" => [%{"$ref" => "#/definitions/v2/Kind"}], "default" => "one"},
              "g" => %{}
            },
            %{"required" => ["a"]}
          ),
        "Kind" => %{
          "oneOf" => [
            %{"type" => "string", "enum" => ["one"]},
            %{"type" => "string", "enum" => ["two"]}
          ]
        },
        "XResponse" =>
          object(%{"id" => %{"type" => "integer"}}, %{
            "required" => ["id"],
            "oneOf" => [object(%{"x" => %{"type" => "boolean"}}), object(%{"y" => true})]
          }),
        "Unused" => %{"type" => "string"}
      }

      more = put_in(stable, ["XParams", "properties", "z"], %{"type" => "null"})
      also = %{"properties" => %{"method" => %{"enum" => ["x/undo"]}}}
      data = Schema.data("1.0.0", schema(stable), schema(more, [@method, also]))

      assert Data.read!(Data.write(data)) == [
               cli: "1.0.0",
               request: {"x/doIt", [params: {:ref, "XParams"}, result: "XResponse"]},
               request: {"x/undo", [params: :null, experimental: true]},
               type: {"Kind", {:one_of, [word: "one", word: "two"]}},
               type:
                 {"XParams",
                  {:fields,
                   [
                     required: {"a", :string},
                     optional: {"b", {:nullable, :count}},
                     optional: {"c", {:nullable, {:ref, "Kind"}}},
                     optional: {"d", {:list, :number}},
                     optional: {"e", {:fields, [other: :any]}},
                     optional: {"f", {:ref, "Kind"}},
                     optional: {"g", :any},
                     experimental: {"z", :null}
                   ]}},
               type:
                 {"XResponse",
                  {:one_of,
                   [
                     fields: [required: {"id", :integer}, optional: {"x", :boolean}],
                     fields: [required: {"id", :integer}, optional: {"y", :any}]
                   ]}}
             ]
    end

    test "of an unknown form is an error that shows it" do
      for odd <- [%{"type" => "date"}, %{"not" => %{}}, %{"enum" => [1]}, 7] do
        types = %{"XParams" => object(%{"odd" => odd}), "XResponse" => object(%{})}

        assert_raise ArgumentError, ~r/XParams.odd has a schema of a new form/, fn ->
          Schema.data("1.0.0", schema(types), schema(types))
        end
      end

      assert_raise ArgumentError, ~r/does not define Gone/, fn ->
        types = %{"XParams" => %{"$ref" => "#/Gone"}}
        Schema.data("1.0.0", schema(types), schema(types))
      end

      assert_raise ArgumentError, ~r/expected a JSON schema with definitions/, fn ->
        Schema.data("1.0.0", %{}, %{})
      end
    end
  end
end
