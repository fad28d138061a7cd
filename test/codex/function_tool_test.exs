defmodule Codex.FunctionToolTest do
  use ExUnit.Case, async: true

  alias Codex.FunctionTool
  alias Codex.Tools.{Call, Toolset}

  doctest Codex.FunctionTool

  defmodule Add do
    use Codex.FunctionTool,
      name: "add",
      description: "Adds numbers",
      parameters: %{left: :number, right: :number},
      unit: "m",
      handler: fn %{"left" => left, "right" => right}, context ->
        {:ok, %{"sum" => left + right, "unit" => context.metadata.unit}}
      end
  end

  defmodule Loose do
    use Codex.FunctionTool, parameters: [who: :string], strict?: false
    def handle(args), do: {:ok, args}
  end

  defmodule Two do
    use Codex.FunctionTool, parameters: [], handler: fn -> :odd end
  end

  defmodule Empty do
    use Codex.FunctionTool, name: "empty"
  end

  defp call(module, args) do
    {:ok, [tool]} = Toolset.new([module])
    Call.run(tool, args, %{})
  end

  test "the handler gets checked arguments and the context" do
    assert call(Add, %{"left" => 1, "right" => 2}) == {:ok, %{"sum" => 3, "unit" => "m"}}

    assert call(Add, %{"left" => 1}) == {:error, {:invalid_arguments, "right is required"}}

    assert {:error, {:invalid_arguments, "more is unknown" <> _}} =
             call(Add, %{"left" => 1, "right" => 2, "more" => 3})
  end

  test "strict?: false allows more" do
    assert call(Loose, %{"who" => "A", "more" => 1}) == {:ok, %{"who" => "A", "more" => 1}}
    assert {:error, {:invalid_arguments, _}} = call(Loose, %{"who" => 1})
    assert Codex.Tool.metadata(Loose).schema["additionalProperties"] == true
    assert Codex.Tool.metadata(Add).schema["additionalProperties"] == false
  end

  test "a missing handler and an odd result are errors" do
    assert call(Two, %{}) == {:error, {:invalid_function_tool_result, :odd}}
    assert call(Empty, %{}) == {:error, :missing_handler}

    assert FunctionTool.execute(Empty, [handler: fn args -> {:ok, args} end], ~s({"a":1}), %{}) ==
             {:ok, %{"a" => 1}}

    assert FunctionTool.execute(Loose, %{}, "text", %{}) == {:ok, %{"input" => "text"}}
  end

  test "the forms of types" do
    types = [
      s: :string,
      i: :integer,
      n: :number,
      b: :boolean,
      o: :object,
      m: :map,
      a: :array,
      l: :list,
      aa: {:array, {:array, :integer}},
      raw: %{type: "string", enum: ["x"]},
      odd: :null,
      opt: {:optional, {:list, :string}}
    ]

    schema = FunctionTool.build_schema(types)
    properties = schema["properties"]

    assert for({name, %{"type" => type}} <- properties, into: %{}, do: {name, type}) ==
             %{
               "s" => "string",
               "i" => "integer",
               "n" => "number",
               "b" => "boolean",
               "o" => "object",
               "m" => "object",
               "a" => "array",
               "l" => "array",
               "aa" => "array",
               "raw" => "string",
               "odd" => "null",
               "opt" => "array"
             }

    assert properties["aa"]["items"] == %{"type" => "array", "items" => %{"type" => "integer"}}
    assert properties["raw"]["enum"] == ["x"]
    assert Enum.sort(schema["required"]) == Enum.sort(Map.keys(properties) -- ["opt"])
    assert FunctionTool.build_schema(types, required: [:s])["required"] == ["s"]
  end

  test "a given schema, and options beside it" do
    metadata =
      FunctionTool.build_metadata(
        schema: %{type: "object"},
        namespace: "shop",
        defer: true,
        handler: fn -> {:ok, 1} end
      )

    assert metadata == %{schema: %{type: "object"}, namespace: "shop", defer: true}
    assert {:ok, [%{name: "add", namespace: nil}]} = Toolset.new([Add])
    assert {:ok, [%{name: "two"}]} = Toolset.new([Two])
  end
end
