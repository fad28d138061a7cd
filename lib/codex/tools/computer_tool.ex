defmodule Codex.Tools.ComputerTool do
  @moduledoc """
  A host tool that operates a computer by a function of the host.

  **The function acts outside the sandbox of the CLI.** It is the host's own, so it needs no
  `:approval`; if there is one, it decides first.

  Argument: `action`, a map or a text; others reach the function, too. Options, in
  `context.metadata`:

    * `:executor` - required: a function of arguments, context and metadata, or of the first of
      these, or without arguments. `{:ok, output}` and `{:error, reason}` are the result; anything
      else is an output
    * `:safety` - checks each action: a function of action; of action and context; or of action,
      context and metadata; or a module with `check/2`. Its answers are those of an approval
    * `:approval` - decides each action, in the same forms, or a module with `review_tool/2`. `:ok`
      and `:allow` allow; `:deny`, `false`, `{:deny, reason}` and other answers deny
  """
  use Codex.Tool,
    name: "computer",
    description: "Operates a computer.",
    checks_arguments: true,
    parameters: %{
      "type" => "object",
      "properties" => %{
        "action" => %{"description" => "the action: a text, or an object with a type"}
      },
      "required" => ["action"],
      "additionalProperties" => false
    }

  alias Codex.Tools.Hosted

  import Codex.Tools.Hosted, only: [is_call: 2]

  @typedoc "Why nothing was done. Other reasons are those of the `:executor`."
  @type reason ::
          {:missing_callback, :executor}
          | {:missing_argument, :action}
          | {:computer_denied, term()}

  @doc "Calls the `:executor` with the action, if safety and approval allow it."
  @impl true
  @spec invoke(map(), map()) :: {:ok, term()} | {:error, reason() | term()}
  def invoke(args, context) when is_call(args, context) do
    options = Hosted.options(context)

    with {:ok, action} <- action(args["action"]),
         :ok <- allowed(options[:safety], :check, action, context),
         :ok <- allowed(options[:approval], :review_tool, action, context),
         do: Hosted.callback(:executor, args, context)
  end

  defp action(nil), do: {:error, {:missing_argument, :action}}
  defp action(action), do: {:ok, action}

  defp allowed(nil, _function, _action, _context), do: :ok

  defp allowed(approval, function, action, context) do
    with {:error, {_tag, reason}} <- Hosted.approve(approval, function, action, context),
         do: {:error, {:computer_denied, reason}}
  end

  @doc "Returns the words for the model about a failure."
  @impl true
  @spec error_text(term()) :: String.t()
  defdelegate error_text(reason), to: Hosted
end
