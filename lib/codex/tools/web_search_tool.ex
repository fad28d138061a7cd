defmodule Codex.Tools.WebSearchTool do
  @moduledoc """
  A host tool that searches the web by a function of the host.

  The CLI has a tool `web_search` itself, so a thread needs another name:

      tools: [{Codex.Tools.WebSearchTool, name: "search_web", searcher: &MyApp.Search.run/2}]

  Arguments: `query`, or `action` with `type` (`"search"`) and `query`; and `max_results`. Options,
  in `context.metadata`:

    * `:searcher` - required: a function of arguments, context and metadata, or of the first of
      these, or without arguments. `{:ok, output}` and `{:error, reason}` are the result; anything
      else is an output. It finds `"query"` and `"max_results"` in the
      arguments
    * `:max_results` - the default of the argument (default 10)
  """
  use Codex.Tool,
    name: "web_search",
    description: "Searches the web.",
    checks_arguments: true,
    parameters: %{
      "type" => "object",
      "properties" => %{
        "action" => %{
          "type" => "object",
          "properties" => %{
            "type" => %{"type" => "string", "enum" => ["search"]},
            "query" => %{"type" => "string"}
          }
        },
        "query" => %{"type" => "string", "description" => "the words to search for"},
        "max_results" => %{"type" => "integer", "description" => "the most results to return"}
      },
      "additionalProperties" => true
    }

  alias Codex.Tools.Hosted

  import Codex.Tools.Hosted, only: [is_call: 2]

  @typedoc "Why nothing was searched. Other reasons are those of the `:searcher`."
  @type reason ::
          {:missing_callback, :searcher}
          | {:missing_argument, :query}
          | {:invalid_argument, :action | :query | :max_results}
          | {:unsupported_action, term()}

  @doc "Calls the `:searcher` with the query."
  @impl true
  @spec invoke(map(), map()) :: {:ok, term()} | {:error, reason() | term()}
  def invoke(args, context) when is_call(args, context) do
    most = Hosted.options(context)[:max_results] || 10
    whole = &(is_integer(&1) and &1 > 0)

    with {:ok, action} <- Hosted.optional(args, ["action"], :action, %{}, &is_map/1),
         :ok <- search(action["type"] || args["type"]),
         {:ok, query} <- Hosted.text(Map.merge(args, action), ["query"], :query),
         {:ok, most} <- Hosted.optional(args, ["max_results"], :max_results, most, whole) do
      args = Map.merge(args, %{"query" => query, "max_results" => most})
      Hosted.callback(:searcher, args, context)
    end
  end

  defp search(type) when type in [nil, "search"], do: :ok
  defp search(type), do: {:error, {:unsupported_action, type}}

  @doc "Returns the words for the model about a failure."
  @impl true
  @spec error_text(term()) :: String.t()
  defdelegate error_text(reason), to: Hosted
end
