defmodule Codex.Tools.ViewImageTool do
  @moduledoc """
  A host tool that shows an image of this machine to the model.

  **The tool reads outside the sandbox of the CLI**, with the rights of this VM: for a model, below
  the directory of the option `:base_path` or of the thread.

  The CLI has a tool `view_image` itself, so a thread needs another name:

      tools: [{Codex.Tools.ViewImageTool, name: "look", base_path: "/srv/images"}]

  Argument: `path`, relative to the directory. Options, in `context.metadata`:

    * `:base_path` - the directory in which images are (default: that of the thread, else of the VM;
      without this option, calls of the host itself may name other directories)

  Returns `{:ok, [text, image]}` with a `Codex.ToolOutput.Text` and a `Codex.ToolOutput.Image`. The
  file has at most 16 MiB; its content or its name says that it is PNG, JPEG, GIF, WebP, BMP, TIFF
  or an icon.
  """
  use Codex.Tool,
    name: "view_image",
    description: "Shows an image file.",
    checks_arguments: true,
    parameters: %{
      "type" => "object",
      "properties" => %{"path" => %{"type" => "string", "description" => "the file"}},
      "required" => ["path"],
      "additionalProperties" => false
    }

  alias Codex.ToolOutput
  alias Codex.Tools.Hosted

  import Codex.Tools.Hosted, only: [is_call: 2]

  @typedoc "Why no image is shown. `:path_traversal`: the path leads out of the directory."
  @type reason ::
          {:invalid_argument, :path}
          | :path_traversal
          | ToolOutput.image_reason()

  @doc "Reads an image. Blocks until it is read."
  @impl true
  @spec invoke(map(), map()) ::
          {:ok, [ToolOutput.Text.t() | ToolOutput.Image.t()]} | {:error, reason()}
  def invoke(args, context) when is_call(args, context) do
    with path when is_binary(path) and path != "" <- args["path"],
         {:ok, real} <- place(context, path),
         %ToolOutput.Image{} = image <- ToolOutput.image(path: real) do
      {:ok, [ToolOutput.text("the image #{path}"), image]}
    else
      {:error, reason} -> {:error, reason}
      _no_path -> {:error, {:invalid_argument, :path}}
    end
  end

  defp place(context, path) do
    case Hosted.place(context, path) do
      {:error, reason} when reason != :path_traversal -> {:error, {:invalid_image_path, reason}}
      result -> result
    end
  end

  @doc "Returns the words for the model about a failure."
  @impl true
  @spec error_text(term()) :: String.t()
  defdelegate error_text(reason), to: Hosted
end
