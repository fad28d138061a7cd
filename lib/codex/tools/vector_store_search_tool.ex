defmodule Codex.Tools.VectorStoreSearchTool do
  @moduledoc """
  A host tool that searches vector stores by a function of the host.

  Arguments: `query` and `filters`. Options, in `context.metadata`:

    * `:searcher` - required: a function of arguments, context and metadata, or of the first of
      these, or without arguments. `{:ok, output}` and `{:error, reason}` are the result; anything
      else is an output
    * `:vector_store_ids`, `:filters`, `:ranking_options`, `:include_search_results` - reach the
      function among the arguments, with string keys. The option `file_search` of the thread
      overrides them, and the `filters` of the model override both
  """
  use Codex.Tool,
    name: "vector_store_search",
    description: "Searches documents by their meaning.",
    checks_arguments: true,
    parameters: %{
      "type" => "object",
      "properties" => %{
        "query" => %{"type" => "string", "description" => "the words to search for"},
        "filters" => %{"type" => "object", "description" => "attributes of the documents"}
      },
      "required" => ["query"],
      "additionalProperties" => false
    }

  alias Codex.Tools.Hosted

  @keys [:vector_store_ids, :filters, :ranking_options, :include_search_results]

  import Codex.Tools.Hosted, only: [is_call: 2]

  @typedoc "Why nothing was searched. Other reasons are those of the `:searcher`."
  @type reason ::
          {:missing_callback, :searcher}
          | {:missing_argument, :query}
          | {:invalid_argument, :query}

  @doc "Calls the `:searcher` with the query and the options."
  @impl true
  @spec invoke(map(), map()) :: {:ok, term()} | {:error, reason() | term()}
  def invoke(args, context) when is_call(args, context) do
    with {:ok, _query} <- Hosted.text(args, ["query"], :query) do
      sources = [Hosted.options(context), of_thread(context)]

      given =
        for source <- sources, key <- @keys, source[key] != nil, into: %{} do
          {Atom.to_string(key), source[key]}
        end

      Hosted.callback(:searcher, Map.merge(given, args), context)
    end
  end

  defp of_thread(%{thread: %{thread_opts: %{file_search: opts}}}) when opts != nil,
    do: Map.new(opts)

  defp of_thread(_context), do: %{}

  @doc "Returns the words for the model about a failure."
  @impl true
  @spec error_text(term()) :: String.t()
  defdelegate error_text(reason), to: Hosted
end
