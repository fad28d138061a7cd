defmodule Codex.FunctionTool do
  @moduledoc """
  Defines a host tool (`Codex.Tool`) by a function and the types of its parameters.

      defmodule MyApp.Add do
        use Codex.FunctionTool,
          name: "add",
          description: "Adds two numbers",
          parameters: %{left: :number, right: :number},
          handler: fn %{"left" => left, "right" => right}, _context ->
            {:ok, %{"sum" => left + right}}
          end
      end

      {:ok, thread} = Codex.start_thread([], transport: {:app_server, conn}, tools: [MyApp.Add])

  ## Options

    * `:name`, `:description`, `:timeout_ms`, `:namespace`, `:defer` - as in `Codex.Tool`
    * `:parameters` - the types of the parameters by name, as a map or keyword list
    * `:required` - the names of the required parameters (default: all that are not
      `{:optional, type}`)
    * `:schema` - the JSON schema of the arguments, instead of `:parameters`
    * `:strict?` - whether parameters without a type are refused (default `true`)
    * `:handler` - a function of arguments and context, of the arguments, or without arguments
      (default: the module's `handle/2` or `handle/1`)
    * `:enabled?`, `:on_error` - as in `Codex.Tools`

  Other options reach the handler in `context.metadata`. Options are evaluated for each call, so
  they may read the environment.

  Types are `:string`, `:integer`, `:number`, `:boolean`, `:object` (or `:map`), `:array` (or
  `:list`), `{:array, type}` (or `{:list, type}`), `{:optional, type}`, or a JSON schema as a map.
  Any other atom is the name of a type of JSON Schema.

  The handler returns `{:ok, output}` or `{:error, reason}`. The call fails with
  `:missing_handler` if there is no handler, and with `{:invalid_function_tool_result, value}` if
  the handler returns anything else.
  """

  alias Codex.OptionError
  alias Codex.Options.Schema

  @typedoc "The type of a parameter. See above."
  @type parameter ::
          atom()
          | {:array | :list | :optional, parameter()}
          | map()

  @doc false
  defmacro __using__(opts) do
    quote do
      @behaviour Codex.Tool

      @doc false
      def __function_tool__, do: Map.new(unquote(opts))

      @impl Codex.Tool
      def metadata, do: Codex.FunctionTool.build_metadata(__function_tool__())

      @impl Codex.Tool
      def invoke(args, context),
        do: Codex.FunctionTool.execute(__MODULE__, __function_tool__(), args, context)

      defoverridable metadata: 0, invoke: 2
    end
  end

  @doc """
  Calls the handler of a tool with its options. Arguments may be a map, a keyword list, or a string
  with a JSON object. Raises `Codex.OptionError` if `module` is no module, or `context` no map.
  """
  @spec execute(module(), map() | keyword(), term(), map()) :: {:ok, term()} | {:error, term()}
  def execute(module, opts, args, context)

  def execute(module, opts, args, context) when is_atom(module) and is_map(context) do
    args = arguments(args)

    case call(Map.new(Schema.pairs!(opts))[:handler] || handler(module), args, context) do
      {:ok, _output} = ok -> ok
      {:error, _reason} = error -> error
      other -> {:error, {:invalid_function_tool_result, other}}
    end
  end

  # The options may hold secrets, which the report of a missing clause would show.
  def execute(module, _opts, _args, context) when is_atom(module),
    do: raise(OptionError.argument(:context, context, "a map"))

  def execute(module, _opts, _args, _context),
    do: raise(OptionError.argument(:module, module, "a module"))

  defp handler(module) do
    cond do
      Codex.Tool.exports?(module, :handle, 2) -> &module.handle/2
      Codex.Tool.exports?(module, :handle, 1) -> &module.handle/1
      true -> nil
    end
  end

  defp call(fun, args, context) when is_function(fun, 2), do: fun.(args, context)
  defp call(fun, args, _context) when is_function(fun, 1), do: fun.(args)
  defp call(fun, _args, _context) when is_function(fun, 0), do: fun.()
  defp call(_none, _args, _context), do: {:error, :missing_handler}

  defp arguments(nil), do: %{}
  defp arguments(%{} = args), do: args

  defp arguments(text) when is_binary(text) do
    case Codex.JSON.decode(text) do
      {:ok, %{} = args} -> args
      _other -> %{"input" => text}
    end
  end

  defp arguments(list) do
    if is_list(list) and Keyword.keyword?(list), do: Map.new(list), else: %{"input" => list}
  end

  @doc """
  Returns the metadata of a tool with these options: all of them but the handler, and the schema of
  its arguments as `:schema`.
  """
  @spec build_metadata(map() | keyword()) :: Codex.Tool.metadata()
  def build_metadata(opts) do
    opts = Map.new(Schema.pairs!(opts))
    schema = opts[:schema] || build_schema(opts[:parameters] || %{}, opts)
    opts |> Map.drop([:handler, :required, :strict?]) |> Map.put(:schema, schema)
  end

  @doc """
  Returns the JSON schema of parameters. Options: `:required` and `:strict?`, as above. Raises
  `Codex.OptionError` for parameters without such a form.

      iex> Codex.FunctionTool.build_schema(%{tags: {:array, :string}})
      %{
        "type" => "object",
        "properties" => %{"tags" => %{"type" => "array", "items" => %{"type" => "string"}}},
        "required" => ["tags"],
        "additionalProperties" => false
      }
      iex> schema = Codex.FunctionTool.build_schema([note: {:optional, :string}], strict?: false)
      iex> {schema["required"], schema["additionalProperties"]}
      {[], true}
  """
  @spec build_schema(map() | keyword(), map() | keyword()) :: map()
  def build_schema(parameters, opts \\ []) do
    parameters = Schema.pairs!(parameters)
    opts = Map.new(Schema.pairs!(opts))
    names = for {name, type} <- parameters, not match?({:optional, _}, type), do: name

    %{
      "type" => "object",
      "properties" => Map.new(parameters, fn {name, type} -> {name(name), schema(type)} end),
      "required" => Enum.map(opts[:required] || names, &name/1),
      "additionalProperties" => Map.get(opts, :strict?, true) == false
    }
  end

  defp name(name) when is_binary(name), do: name
  defp name(name) when is_atom(name), do: Atom.to_string(name)
  defp name(_other), do: raise(invalid("names of parameters"))

  defp invalid(expected), do: OptionError.invalid(:parameters, "[redacted]", expected)

  defp schema({:optional, type}), do: schema(type)

  defp schema({array, type}) when array in [:array, :list],
    do: %{"type" => "array", "items" => schema(type)}

  defp schema(:map), do: %{"type" => "object"}
  defp schema(:list), do: %{"type" => "array"}
  defp schema(type) when is_atom(type), do: %{"type" => Atom.to_string(type)}

  defp schema(%{} = schema) when not is_struct(schema),
    do: Map.new(schema, fn {key, value} -> {name(key), value} end)

  defp schema(_other), do: raise(invalid("types of parameters, or JSON schemas as maps"))
end
