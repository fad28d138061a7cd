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
  `experimental_api: true`. `codex exec` takes the same option, without a connection:

      {:ok, thread} = Codex.start_thread([], tools: [MyApp.LookUp])

  There the tools are those of an MCP server, which `guides/tools.md` describes.

  An entry of `tools` is a module, `{module, options}` with options that are merged over the
  metadata, the name of a tool that is registered with `Codex.Tools.register/2`, or its handle.
  `Codex.FunctionTool` builds the schema from types.

  A tool that the CLI could not call is refused before anything starts, with
  `{:error, {:invalid_tool, module, reason}}` (`t:Codex.Tools.refusal/0`): the names of the CLI's
  own tools (such as `view_image`) and names that begin with `mcp__` are reserved, and no two tools
  of a thread have the same name.

  ## Metadata

  `use Codex.Tool` defines `c:metadata/0` from its options; a module may define it itself. Known
  keys:

    * `:name` - the name for the model: letters, digits, `_` and `-`, at most 64 characters
      (default: the last part of the module's name, underscored)
    * `:description` - the description for the model (default `""`)
    * `:parameters` - the JSON schema of the arguments, as a map (default: an object without
      properties); `:schema` and `:input_schema` are other names of this key
    * `:timeout_ms` - the time limit of a call, in ms (default 60_000). On an app-server the
      connection's `:answer_timeout_ms` (300_000) is the upper limit
    * `:namespace` - the namespace of the name, or `{namespace, description}` (default: none)
    * `:defer` - `true` shows the tool to the model only after a search for tools; the tool needs a
      namespace, and the model the CLI's tool search (default `false`). No effect on `codex exec`
    * `:read_only` - whether the tool changes nothing; only `codex exec` is told (default `false`)
    * `:enabled?`, `:on_error` - the switches of `Codex.Tools`
    * `:checks_arguments` - `true` if `c:invoke/2` checks the arguments itself (default `false`)

  Other keys are kept: the tool finds them in `context.metadata`. A key that looks like a
  misspelling of a known key is refused.

  ## Calls

  Arguments are checked against `:parameters` before `c:invoke/2` is called, because the CLI does
  not check them. With invalid arguments the call fails: the model gets the path of each wrong value
  and the expected type, and can call again. The check covers types, properties, required members,
  `enum`, `const`, `items`, `anyOf`, `oneOf`, `allOf`, `$ref` inside the schema, and limits. The
  model itself never sees limits, `pattern`, `format`, `default` and `not`, because the CLI drops
  them: repeat them in the description.

  Each call runs in its own process, several at a time, and ends with the turn: an interrupt kills
  the process. The context is a map:

    * `thread` - the `Codex.Thread`
    * `context` - the value of `:tool_context` in the thread's metadata (default `%{}`)
    * `tool` - `%{name: name, metadata: metadata}`; `metadata` - the same metadata
    * `event` - the `Codex.AppServer.Request.ToolCall`, with the ids of call, turn and thread; on
      `codex exec` a map with the same `tool`, `namespace`, `arguments`, `call_id`, `turn_id` and
      `thread_id`
    * `owner` - the process that reads the turn, or that serves the tools of a run of `codex exec`.
      Processes that a tool leaves running should end with it

  The model gets the result: text unchanged, `Codex.ToolOutput` with images, other terms as JSON. It
  sees about 48,000 bytes; the CLI leaves out the middle of a longer text, and the telemetry event
  `[:codex, :tool, :output_cut]` reports it. The call fails, and the model is informed, if the
  tool returns `{:error, reason}`, a term that JSON cannot express or anything else, if it crashes
  (which is logged), or if it exceeds its time limit. The model sees `reason` only if it is a
  string, or the text that `c:error_text/1` makes of it.
  """

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
    if exports?(module, :metadata, 0), do: Map.new(module.metadata()), else: %{}
  end

  @doc false
  @spec exports?(module(), atom(), arity()) :: boolean()
  def exports?(module, function, arity) do
    match?({:module, _}, Code.ensure_loaded(module)) and
      function_exported?(module, function, arity)
  end
end
