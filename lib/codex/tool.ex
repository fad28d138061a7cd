defmodule Codex.Tool do
  @moduledoc """
  A tool of the host: a module that the agent may call while it works, with the option `tools` of a thread over an app-server.

      defmodule MyApp.LookUp do
        use Codex.Tool,
          name: "look_up_order",
          description: "Looks up an order by its number",
          parameters: %{
            type: "object",
            properties: %{number: %{type: "string"}},
            required: ["number"]
          }

        @impl true
        def invoke(%{"number" => number}, context) do
          case MyApp.Orders.get(context.context[:customer], number) do
            nil -> {:error, "there is no order \#{number}"}
            order -> {:ok, %{status: order.status}}
          end
        end
      end

      {:ok, conn} = Codex.AppServer.connect([], experimental_api: true)
      {:ok, thread} = Codex.start_thread([], transport: {:app_server, conn}, tools: [MyApp.LookUp])

  Host tools are experimental in the protocol (`dynamicTools`, CLI 0.169), so the connection needs `experimental_api: true`. `codex exec` has none.

  ## Metadata

  `use Codex.Tool` defines `c:metadata/0` from its options; a module may define it itself. Known are

    * `:name` - what the model calls it: letters, digits, `_` and `-`, at most 64 (default: the last part of the module's name, underscored)
    * `:description` - what it does, for the model (default `""`)
    * `:parameters` - the JSON schema of its arguments, as a map (default: an object without properties); `:schema` and `:input_schema` are other
      names of it
    * `:timeout_ms` - how long a call may take, in ms (default 60_000), but no longer than the connection's `:answer_timeout_ms` (300_000)

  Others are kept: the tool finds them in `context.metadata`. One that looks like a misspelled name of these is refused.

  ## Calls

  Arguments are checked against `:parameters` before `c:invoke/2` is called, because the CLI checks
  nothing. Invalid arguments are a failure: the model gets the path of the wrong value and what is
  expected, and can call again. The check covers types, properties, required members, `enum`,
  `const`, `items`, `anyOf`, `oneOf`, `allOf`, `$ref` inside the schema, and limits.

  Each call runs in a process of its own, several at a time, and ends with the turn. The context is a map:

    * `thread` - the `Codex.Thread`; `context` - what its metadata has under `:tool_context` (default `%{}`)
    * `tool` - `%{name: name, metadata: metadata}`; `metadata` - the same metadata
    * `event` - the `Codex.AppServer.Request.ToolCall`, with the ids of call, turn and thread

  The model is told what comes back: text as it is, other terms as JSON, and those that JSON has no form for as a failure. `{:error, reason}`, a crash (which is logged), a result that is none of the two
  and a call that takes too long are failures, and it is told so, too; a reason that is a text is shown to it, of others only that the tool failed.
  Pictures are the normal forms `%{"type" => "input_image", "image_url" => url}`, with `%{"type" => "input_text", "text" => text}` in a
  list beside them.
  """

  alias Codex.Approvals.Crash
  alias Codex.Tool.Arguments

  @typedoc "What a tool says of itself. See the section on metadata."
  @type metadata :: %{optional(atom()) => term()}

  @doc "One call, with the arguments that the model gave (string keys)."
  @callback invoke(args :: map(), context :: map()) :: {:ok, term()} | {:error, term()}

  @doc "What the tool is."
  @callback metadata() :: map() | keyword()

  @optional_callbacks metadata: 0

  @default_timeout 60_000

  @doc false
  defmacro __using__(opts) do
    quote do
      @behaviour Codex.Tool

      @impl Codex.Tool
      def metadata, do: Map.new(unquote(opts))

      defoverridable metadata: 0
    end
  end

  @doc """
  The metadata of a tool as a map; `%{}` where it has none.

      iex> Codex.Tool.metadata(String)
      %{}
  """
  @spec metadata(module()) :: metadata()
  def metadata(module) when is_atom(module) do
    if loaded?(module, :metadata, 0), do: Map.new(module.metadata()), else: %{}
  end

  defp loaded?(module, function, arity) do
    match?({:module, _}, Code.ensure_loaded(module)) and
      function_exported?(module, function, arity)
  end

  @typedoc "A tool of a thread, checked."
  @type t :: %{
          module: module(),
          name: String.t(),
          metadata: metadata(),
          timeout_ms: pos_integer(),
          spec: map()
        }

  @doc false
  # A tool as the protocol has it; the error says what is wrong.
  @spec new(term()) :: {:ok, t()} | {:error, String.t()}
  def new(module) when is_atom(module) and module not in [nil, true, false] do
    cond do
      not match?({:module, _}, Code.ensure_loaded(module)) ->
        {:error, "there is no module #{inspect(module)}"}

      not function_exported?(module, :invoke, 2) ->
        {:error, "#{inspect(module)} has no invoke/2"}

      true ->
        new(module, metadata(module))
    end
  rescue
    error -> {:error, "#{inspect(module)}.metadata/0 raised #{inspect(error.__struct__)}"}
  end

  def new(other), do: {:error, "#{inspect(other)} is no module"}

  defp new(module, metadata) do
    name = to_string(metadata[:name] || default_name(module))
    timeout = metadata[:timeout_ms] || @default_timeout

    cond do
      not (name =~ ~r/\A[a-zA-Z0-9_-]{1,64}\z/) ->
        {:error, "#{inspect(module)}: #{inspect(name)} is no name of letters, digits, _ and -"}

      not (is_integer(timeout) and timeout in 1..0xFFFFFFFF) ->
        {:error, "#{inspect(module)}: timeout_ms is #{inspect(timeout)}, not a positive integer"}

      true ->
        with :ok <- spelled(module, metadata), {:ok, schema} <- schema(module, metadata) do
          tool = %{module: module, name: name, metadata: metadata, timeout_ms: timeout}
          {:ok, Map.put(tool, :spec, spec(name, metadata, schema))}
        end
    end
  end

  @known [:name, :description, :parameters, :input_schema, :schema, :timeout_ms]

  # Others may stand there, but none that was meant to be one of these.
  defp spelled(module, metadata) do
    Enum.find_value(Map.keys(metadata) -- @known, :ok, fn key ->
      if nearest = Codex.Suggest.nearest(key, @known),
        do:
          {:error,
           "#{inspect(module)}: #{inspect(key)} is no metadata; did you mean #{inspect(nearest)}?"}
    end)
  end

  defp spec(name, metadata, schema) do
    description = to_string(metadata[:description] || "")

    %{
      "type" => "function",
      "name" => name,
      "description" => description,
      "inputSchema" => schema
    }
  end

  defp default_name(module), do: module |> Module.split() |> List.last() |> Macro.underscore()

  defp schema(module, metadata) do
    schema = metadata[:parameters] || metadata[:input_schema] || metadata[:schema]

    case schema && Codex.JSON.encode(schema) do
      nil -> {:ok, %{"type" => "object", "properties" => %{}}}
      {:ok, json} when is_map(schema) -> Codex.JSON.decode(json)
      _ -> {:error, "#{inspect(module)}: the parameters are no JSON schema"}
    end
  end

  @doc false
  # One call, in the process of the caller: an answer of `Codex.AppServer.answer/2`.
  @spec call(t(), term(), map()) :: {:ok, term()} | {:error, term()}
  def call(tool, args, context) do
    about = %{tool: Map.take(tool, [:name, :metadata]), metadata: tool.metadata}
    context = Map.merge(context, about)

    with :ok <- allowed(args, tool) do
      case tool.module.invoke(args, context) do
        {:ok, output} -> told(output, tool)
        {:error, reason} -> {:error, reason}
        _other -> {:error, "the tool #{tool.name} returned no result"}
      end
    end
  catch
    # What an exception says may be of no concern to a model, or a secret: the host's log has it.
    kind, reason ->
      Crash.log("the tool #{tool.name}", kind, reason, __STACKTRACE__)
      {:error, "the tool #{tool.name} failed#{exception(kind, reason, __STACKTRACE__)}"}
  end

  defp allowed(args, tool) do
    with {:error, text} <- Arguments.check(args, tool.spec["inputSchema"]),
         do: {:error, "invalid arguments for #{tool.name}: #{text}"}
  end

  # Only what it is.
  defp exception(:error, reason, stacktrace),
    do: ": " <> inspect(Exception.normalize(:error, reason, stacktrace).__struct__)

  defp exception(_kind, _reason, _stacktrace), do: ""

  defp told(text, _tool) when is_binary(text), do: {:ok, text}

  defp told(output, tool) do
    case Codex.JSON.encode(output) do
      {:ok, _json} -> {:ok, output}
      {:error, _} -> {:error, "the tool #{tool.name} returned what JSON has no form for"}
    end
  end

  @doc false
  # What a tool gave, or why it failed, as the protocol has it.
  @spec content(term(), boolean()) :: map()
  def content(output, success?) do
    output = if success? or is_binary(output), do: output, else: "the tool failed"
    %{"contentItems" => items(output), "success" => success?}
  end

  defp items([_ | _] = list) do
    if not List.improper?(list) and Enum.all?(list, &(item(&1) != nil)),
      do: Enum.map(list, &item/1),
      else: [text(list)]
  end

  defp items(output), do: [item(output) || text(output)]

  defp item(%{"type" => "input_text", "text" => text}) when is_binary(text), do: text(text)

  defp item(%{"type" => "input_image", "image_url" => url}) when is_binary(url),
    do: %{"type" => "inputImage", "imageUrl" => url}

  defp item(%{"type" => "input_image", "image_url" => %{"url" => url}}) when is_binary(url),
    do: %{"type" => "inputImage", "imageUrl" => url}

  defp item(_other), do: nil

  defp text(text) when is_binary(text),
    do: %{"type" => "inputText", "text" => Codex.Text.utf8(text)}

  defp text(term) do
    case Codex.JSON.encode(term) do
      {:ok, json} -> %{"type" => "inputText", "text" => json}
      {:error, _} -> %{"type" => "inputText", "text" => inspect(term)}
    end
  end
end
