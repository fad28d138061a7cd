defmodule Codex.Tools.CodeInterpreterTool do
  @moduledoc """
  A host tool that runs code by a function of the host.

  **The function acts outside the sandbox of the CLI.** It is the host's own, so it needs no
  approval.

  Argument: `code`. Options, in `context.metadata`:

    * `:runner` - required: a function of arguments, context and metadata, or of the first of
      these, or without arguments. `{:ok, output}` and `{:error, reason}` are the result; anything
      else is an output
  """
  use Codex.Tool,
    name: "code_interpreter",
    description: "Runs code.",
    checks_arguments: true,
    parameters: %{
      "type" => "object",
      "properties" => %{"code" => %{"type" => "string", "description" => "the code to run"}},
      "required" => ["code"],
      "additionalProperties" => false
    }

  alias Codex.Tools.Hosted

  import Codex.Tools.Hosted, only: [is_call: 2]

  @typedoc "Why no code was run. Other reasons are those of the `:runner`."
  @type reason ::
          {:missing_callback, :runner}
          | {:missing_argument, :code}
          | {:invalid_argument, :code}

  @doc "Calls the `:runner` with the arguments."
  @impl true
  @spec invoke(map(), map()) :: {:ok, term()} | {:error, reason() | term()}
  def invoke(args, context) when is_call(args, context) do
    with {:ok, _code} <- Hosted.text(args, ["code"], :code),
         do: Hosted.callback(:runner, args, context)
  end

  @doc "Returns the words for the model about a failure."
  @impl true
  @spec error_text(term()) :: String.t()
  defdelegate error_text(reason), to: Hosted
end
