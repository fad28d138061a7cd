defmodule Codex.Surface.ProtocolTest do
  use ExUnit.Case, async: true

  alias Codex.Surface.{Diff, Protocol}
  alias Codex.Surface.Protocol.{Data, Schema}

  doctest Codex.Surface.Diff
  doctest Codex.Surface.Protocol

  defp lines(from, to),
    do: Enum.map(Diff.changes(Protocol.tree(from), Protocol.tree(to)), &Diff.line/1)

  @data [
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

  test "equal data has no difference, in any order of the members of unions" do
    assert lines(@data, @data) == []
    mode = {:type, {"Mode", {:one_of, [word: "one", word: "two"]}}}
    turned = {:type, {"Mode", {:one_of, [word: "two", word: "one"]}}}
    assert mode in @data
    assert lines(@data, [turned | @data -- [mode]]) == []
  end

  test "added, removed and changed methods, fields and words" do
    data = [
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

    assert lines(@data, data) == [
             "- notification a/changed AResponse",
             "~ request a/drop null -> AResponse (experimental) is now null -> AResponse",
             "+ request a/make AParams -> AResponse (experimental)",
             "~ request a/read AParams -> AResponse is now AParams? -> AResponse",
             "- request a/write AParams -> AResponse",
             "+ server_request a/ask AParams -> AResponse",
             "+ type AParams.extra [string] (experimental)",
             "~ type AParams.id string (required) is now string",
             "~ type AParams.mode any? is now Mode (required)",
             "+ type Mode 'three'",
             "- type Mode 'two'",
             "+ type New integer",
             "- type Old {}",
             "~ type Open.* string is now any",
             "+ type Open.a null"
           ]
  end

  test "a changed field of a member of a union is one line" do
    member = fn tag, fields -> {:fields, fields ++ [required: {"type", {:word, tag}}]} end
    inner = fn type -> {:nullable, {:list, {:fields, [optional: {"x", type}]}}} end
    types = fn one, two -> [type: {"Item", {:one_of, [one, two]}}] end
    plan = member.("plan", required: {"text", :string}, optional: {"list", inner.(:string)})
    call = member.("call", required: {"server", :string})

    for {new, lines} <- [
          {types.(call, plan), []},
          {types.(plan, member.("call", [])), ["- type Item[call].server string (required)"]},
          {types.(plan, member.("call", optional: {"server", :string})),
           ["~ type Item[call].server string (required) is now string"]},
          {types.(member.("plan", required: {"text", :string}), call),
           ["- type Item[plan].list [{x:string}]?"]},
          {types.(
             member.("plan", required: {"text", :string}, optional: {"list", inner.(:any)}),
             call
           ), ["~ type Item[plan].list[].x string is now any"]},
          {types.(plan, member.("tool", [])),
           ["- type Item[call] {server!:string,type!:'call'}", "+ type Item[tool] {type!:'tool'}"]}
        ],
        do: assert(lines(types.(plan, call), new) == lines)
  end

  test "members of the same tag do not hide each other" do
    one = {:fields, [required: {"kind", {:word, "a"}}, optional: {"x", :string}]}
    two = {:fields, [required: {"kind", {:word, "a"}}, optional: {"y", :string}]}

    assert lines([type: {"T", {:one_of, [one, two]}}], type: {"T", {:one_of, [one]}}) ==
             ["- type T[a][2] {kind!:'a',y:string}"]
  end

  test "every difference of two files is a line: without a line they are the same" do
    data = Codex.Protocol.path() |> File.read!() |> Data.read!()

    for index <- 0..(length(data) - 1)//37 do
      without = List.delete_at(data, index)
      assert [line] = lines(without, data)
      assert "+ " <> _ = line
      assert ["- " <> _] = lines(data, without)
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
      {data, []} = Schema.data(schema(stable), schema(more, [@method, also]), %{})

      assert Data.read!(Data.write(data)) == [
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

    test "has numbers as values, and constants as words" do
      types = %{
        "XParams" =>
          object(%{
            "a" => %{"type" => "integer", "enum" => [1]},
            "b" => %{"enum" => ["x", 2, nil]},
            "c" => %{"const" => "y", "type" => "string"}
          }),
        "XResponse" => object(%{})
      }

      assert {data, []} = Schema.data(schema(types), schema(types), %{})

      assert {:fields,
              [
                optional: {"a", {:value, 1}},
                optional: {"b", {:nullable, {:one_of, [word: "x", value: 2]}}},
                optional: {"c", {:word, "y"}}
              ]} = Data.entries(data, :type)["XParams"]

      assert Data.read!(Data.write(data)) == data
    end

    test "of an unknown form is any, with a note that shows it" do
      for odd <- [%{"type" => "date"}, %{"not" => %{}}, %{"enum" => [[1]]}, 7] do
        types = %{"XParams" => object(%{"odd" => odd}), "XResponse" => object(%{})}
        assert {data, [note]} = Schema.data(schema(types), schema(types), %{})

        assert Diff.line(note) =~
                 "? type XParams.odd has a schema of an unknown form, stored as any: "

        assert Data.entries(data, :type)["XParams"] == {:fields, [optional: {"odd", :any}]}
      end
    end

    test "may lack definitions and results that the overlay has" do
      types = %{"XParams" => object(%{})}
      overlay = %{"definitions" => %{"Y" => object(%{})}, "results" => %{"x/doIt" => "Y"}}
      assert {data, []} = Schema.data(schema(types), schema(types), overlay)
      assert data[:request] == {"x/doIt", [params: {:ref, "XParams"}, result: "Y"]}
      assert Data.entries(data, :type)["Y"] == {:fields, []}
    end

    test "without a definition that it mentions is an error" do
      assert_raise ArgumentError, ~r/does not define Gone/, fn ->
        types = %{"XParams" => %{"$ref" => "#/Gone"}}
        Schema.data(schema(types), schema(types), %{})
      end

      assert_raise ArgumentError, ~r/expected a JSON schema with definitions/, fn ->
        Schema.data(%{}, %{}, %{})
      end
    end
  end
end
