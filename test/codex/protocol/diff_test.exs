defmodule Codex.Protocol.DiffTest do
  use ExUnit.Case, async: true

  alias Codex.Protocol.{Diff, File, Schema}

  @data File.parse!("""
        cli 1.0.0
        request a/read AParams -> AResponse
        request a/write AParams -> AResponse
        ~request a/drop null -> AResponse
        notification a/changed AResponse
        type AParams {id!:string,mode:Mode?}
        type AResponse {}
        type Mode 'one'|'two'
        type Old {}
        """)

  test "the same is no difference, whatever the version" do
    assert Diff.lines(@data, @data) == []
    assert Diff.lines(@data, %{@data | cli: "2.0.0"}) == []
  end

  test "added, removed and changed methods, fields and words" do
    data =
      File.parse!("""
      cli 1.1.0
      request a/read AParams? -> AResponse
      request a/drop null -> AResponse
      ~request a/make AParams -> AResponse
      server_request a/ask AParams -> AResponse
      type AParams {~extra:[string],id:string,mode!:Mode}
      type AResponse {}
      type Mode 'one'|'three'
      type New integer
      """)

    assert Diff.lines(@data, data) == [
             "~ request a/drop null -> AResponse (experimental) is now null -> AResponse",
             "+ request a/make AParams -> AResponse (experimental)",
             "~ request a/read AParams -> AResponse is now AParams? -> AResponse",
             "- request a/write AParams -> AResponse",
             "- notification a/changed AResponse",
             "+ server_request a/ask AParams -> AResponse",
             "+ AParams.extra [string] (experimental)",
             "~ AParams.id string (required) is now string",
             "~ AParams.mode Mode? is now Mode (required)",
             "+ Mode 'three'",
             "- Mode 'two'",
             "+ type New integer",
             "- type Old {}"
           ]
  end

  test "every difference of two files is a line: what has none is the same" do
    lines = Codex.Protocol.path() |> Elixir.File.read!() |> String.split("\n", trim: true)
    data = File.parse!(Enum.join(lines, "\n"))

    for index <- 1..(length(lines) - 1)//37 do
      without = lines |> List.delete_at(index) |> Enum.join("\n") |> File.parse!()
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

      assert File.write(data) == """
             cli 1.0.0
             request x/doIt XParams -> XResponse
             ~request x/undo null
             type Kind 'one'|'two'
             type XParams {a!:string,b:count?,c:Kind?,d:[number],e:{*:any},f:Kind,g:any,~z:null}
             type XResponse {id!:integer,x:boolean}|{id!:integer,y:any}
             """
    end

    test "of a form that has no word here is an error that shows it" do
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
