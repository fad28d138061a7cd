defmodule Codex.Tools.HostedMcpTool do
  @moduledoc """
  A host tool that calls a tool of an MCP server through a client of the host.

      {:ok, client} = Codex.MCP.Client.initialize(transport, server_name: "files")

      tools: [
        {Codex.Tools.HostedMcpTool, name: "files", client: client, tool: "read_file",
         parameters: %{"type" => "object"}}
      ]

  Arguments: `tool` and `arguments`. With the option `:tool`, all arguments are those of that tool,
  unless there is a map `arguments`. Options, in `context.metadata`:

    * `:client` - required: a `Codex.MCP.Client`, a function of tool, arguments and options, or
      `{module, client}` with `module.call_tool(client, tool, arguments, options)`
    * `:tool` (or `:tool_name`) - the only tool that may be called
    * `:retries`, `:backoff`, `:approval` - options of `Codex.MCP.Client.call_tool/4`
  """
  use Codex.Tool,
    name: "hosted_mcp",
    description: "Calls a tool of an MCP server.",
    checks_arguments: true,
    parameters: %{
      "type" => "object",
      "properties" => %{
        "tool" => %{"type" => "string", "description" => "the name of the tool"},
        "arguments" => %{"type" => "object", "description" => "its arguments"}
      }
    }

  alias Codex.Tools.Hosted

  import Codex.Tools.Hosted, only: [is_call: 2]

  @typedoc "Why nothing was called. Other reasons are those of the client."
  @type reason :: :missing_client | :missing_tool

  @doc "Calls the tool and waits for its result."
  @impl true
  @spec invoke(map(), map()) :: {:ok, term()} | {:error, reason() | term()}
  def invoke(args, context) when is_call(args, context) do
    options = Hosted.options(context)
    only = options[:tool_name] || mcp_tool(options[:tool])

    case {options[:client], only || args["tool"]} do
      {nil, _tool} ->
        {:error, :missing_client}

      {client, tool} when is_binary(tool) and tool != "" ->
        opts =
          for key <- [:retries, :backoff, :approval], options[key] != nil, do: {key, options[key]}

        call(client, tool, arguments(args, only), opts)

      _no_tool ->
        {:error, :missing_tool}
    end
  end

  defp mcp_tool(name) when is_binary(name), do: name
  defp mcp_tool(_none), do: nil

  defp arguments(%{"arguments" => %{} = arguments}, _only), do: arguments
  defp arguments(_args, nil), do: %{}
  defp arguments(args, _only), do: Map.delete(args, "tool")

  # The client is above this module, so it names its own module.
  defp call(%module{} = client, tool, args, opts), do: module.call_tool(client, tool, args, opts)
  defp call({module, client}, tool, args, opts), do: module.call_tool(client, tool, args, opts)

  defp call(fun, tool, args, opts) when is_function(fun, 3),
    do: fun.(tool, args, opts)

  defp call(_other, _tool, _args, _opts), do: {:error, :missing_client}

  @doc "Returns the words for the model about a failure."
  @impl true
  @spec error_text(term()) :: String.t()
  defdelegate error_text(reason), to: Hosted
end
