defmodule Codex.Tools.ImageGenerationTool do
  @moduledoc """
  A host tool that makes images by a function of the host.

  Arguments: `prompt`, `size` and `quality`. Options, in `context.metadata`:

    * `:generator` - required: a function of arguments, context and metadata, or of the first of
      these, or without arguments. `{:ok, output}` and `{:error, reason}` are the result; anything
      else is an output. The model sees an output of
      `Codex.ToolOutput.image/1`
  """
  use Codex.Tool,
    name: "image_generation",
    description: "Makes an image.",
    checks_arguments: true,
    parameters: %{
      "type" => "object",
      "properties" => %{
        "prompt" => %{"type" => "string", "description" => "the content of the image"},
        "size" => %{"type" => "string"},
        "quality" => %{"type" => "string"}
      },
      "required" => ["prompt"],
      "additionalProperties" => false
    }

  alias Codex.Tools.Hosted

  import Codex.Tools.Hosted, only: [is_call: 2]

  @typedoc "Why there is no image. Other reasons are those of the `:generator`."
  @type reason ::
          {:missing_callback, :generator}
          | {:missing_argument, :prompt}
          | {:invalid_argument, :prompt}

  @doc "Calls the `:generator` with the arguments."
  @impl true
  @spec invoke(map(), map()) :: {:ok, term()} | {:error, reason() | term()}
  def invoke(args, context) when is_call(args, context) do
    with {:ok, _prompt} <- Hosted.text(args, ["prompt"], :prompt),
         do: Hosted.callback(:generator, args, context)
  end

  @doc "Returns the words for the model about a failure."
  @impl true
  @spec error_text(term()) :: String.t()
  defdelegate error_text(reason), to: Hosted
end
