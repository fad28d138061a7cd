defmodule Codex.Tool do
  @moduledoc """
  A host tool: a module that the agent can call while it works. Tools are given with the option
  `tools` of a thread over an app-server.

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

  Host tools are experimental in the protocol (`dynamicTools`), so the connection needs
  `experimental_api: true`. `codex exec` does not support host tools.

  ## Metadata

  `use Codex.Tool` defines `c:metadata/0` from its options; a module may define it itself. Known
  keys:

    * `:name` - the name for the model: letters, digits, `_` and `-`, at most 64 characters
      (default: the last part of the module's name, underscored)
    * `:description` - the description for the model (default `""`)
    * `:parameters` - the JSON schema of the arguments, as a map (default: an object without
      properties); `:schema` and `:input_schema` are other names of this key
    * `:timeout_ms` - the time limit of a call, in ms (default 60_000). The connection's
      `:answer_timeout_ms` (300_000) is the upper limit

  Other keys are kept: the tool finds them in `context.metadata`. A key that looks like a
  misspelling of a known key is refused.

  ## Calls

  Arguments are checked against `:parameters` before `c:invoke/2` is called, because the CLI does
  not check them. With invalid arguments the call fails: the model gets the path of the wrong value
  and the expected type, and can call again. The check covers types, properties, required members,
  `enum`, `const`, `items`, `anyOf`, `oneOf`, `allOf`, `$ref` inside the schema, and limits.

  Each call runs in its own process, several at a time, and ends with the turn. The context is a
  map:

    * `thread` - the `Codex.Thread`
    * `context` - the value of `:tool_context` in the thread's metadata (default `%{}`)
    * `tool` - `%{name: name, metadata: metadata}`; `metadata` - the same metadata
    * `event` - the `Codex.AppServer.Request.ToolCall`, with the ids of call, turn and thread

  The model gets the result: text unchanged, other terms as JSON. The call fails, and the model is
  informed, if the tool returns `{:error, reason}`, a term that JSON cannot express or anything
  else, if it crashes (which is logged), or if it exceeds its time limit. The model sees `reason`
  only if it is a string, or the text that `c:error_text/1` makes of it.

  Images have the form `%{"type" => "input_image", "image_url" => url}`, in a list that may also
  contain `%{"type" => "input_text", "text" => text}`.
  """

  alias Codex.Approvals.Crash
  alias Codex.Tool.Arguments

  @typedoc "The description of a tool. See the section on metadata."
  @type metadata :: %{optional(atom()) => term()}

  @doc "Runs one call with the arguments of the model (string keys)."
  @callback invoke(args :: map(), context :: map()) :: {:ok, term()} | {:error, term()}

  @doc "Returns the metadata of the tool."
  @callback metadata() :: map() | keyword()

  @doc """
  Returns the words for the model about a failure of `c:invoke/2`. Without this callback, the model
  sees reasons only if they are strings.
  """
  @callback error_text(reason :: term()) :: String.t()

  @optional_callbacks metadata: 0, error_text: 1

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
  Returns the metadata of a tool as a map, `%{}` if it has no metadata.

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

  @typedoc "A checked tool of a thread."
  @type t :: %{
          module: module(),
          name: String.t(),
          metadata: metadata(),
          timeout_ms: pos_integer(),
          spec: map()
        }

  @doc false
  # A tool in the form of the protocol; the error is a sentence.
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

  def new(other), do: {:error, "a tool must be a module, got: #{inspect(other)}"}

  defp new(module, metadata) do
    name = to_string(metadata[:name] || default_name(module))
    timeout = metadata[:timeout_ms] || @default_timeout

    cond do
      not (name =~ ~r/\A[a-zA-Z0-9_-]{1,64}\z/) ->
        {:error,
         "#{inspect(module)}: the name must have 1 to 64 letters, digits, _ or -, " <>
           "got: #{inspect(name)}"}

      not (is_integer(timeout) and timeout in 1..0xFFFFFFFF) ->
        {:error,
         "#{inspect(module)}: timeout_ms must be a positive integer, got: #{inspect(timeout)}"}

      true ->
        with :ok <- spelled(module, metadata), {:ok, schema} <- schema(module, metadata) do
          tool = %{module: module, name: name, metadata: metadata, timeout_ms: timeout}
          {:ok, Map.put(tool, :spec, spec(name, metadata, schema))}
        end
    end
  end

  @known [:name, :description, :parameters, :input_schema, :schema, :timeout_ms]

  # Unknown keys are allowed, unless they look like a misspelled key.
  defp spelled(module, metadata) do
    Enum.find_value(Map.keys(metadata) -- @known, :ok, fn key ->
      if nearest = Codex.DidYouMean.nearest(key, @known),
        do:
          {:error,
           "#{inspect(module)}: unknown metadata #{inspect(key)}; " <>
             "did you mean #{inspect(nearest)}?"}
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
      _ -> {:error, "#{inspect(module)}: the parameters must be a JSON schema (a map)"}
    end
  end

  @doc false
  # Runs one call in the caller's process and returns an answer for `Codex.AppServer.answer/2`.
  @spec call(t(), term(), map()) :: {:ok, term()} | {:error, term()}
  def call(tool, args, context) do
    about = %{tool: Map.take(tool, [:name, :metadata]), metadata: tool.metadata}
    context = Map.merge(context, about)

    with :ok <- allowed(args, tool) do
      case tool.module.invoke(args, context) do
        {:ok, output} -> encodable(output, tool)
        {:error, reason} -> {:error, error_text(tool.module, reason)}
        _other -> {:error, "the tool #{tool.name} returned no result"}
      end
    end
  catch
    # The exception's text may be irrelevant to the model, or a secret: it goes to the host's log.
    kind, reason ->
      Crash.log("the tool #{tool.name}", kind, reason, __STACKTRACE__)
      {:error, "the tool #{tool.name} failed#{exception(kind, reason, __STACKTRACE__)}"}
  end

  defp error_text(module, reason) do
    if not is_binary(reason) and loaded?(module, :error_text, 1),
      do: module.error_text(reason),
      else: reason
  end

  defp allowed(args, tool) do
    with {:error, text} <- Arguments.check(args, tool.spec["inputSchema"]),
         do: {:error, "invalid arguments for #{tool.name}: #{text}"}
  end

  # Only the name of the exception.
  defp exception(:error, reason, stacktrace),
    do: ": " <> inspect(Exception.normalize(:error, reason, stacktrace).__struct__)

  defp exception(_kind, _reason, _stacktrace), do: ""

  defp encodable(text, _tool) when is_binary(text), do: {:ok, text}

  defp encodable(output, tool) do
    case Codex.JSON.encode(output) do
      {:ok, _json} -> {:ok, output}
      {:error, _} -> {:error, "the tool #{tool.name} returned a term that JSON cannot express"}
    end
  end

  @doc false
  # The result or the failure of a tool, in the form of the protocol.
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
