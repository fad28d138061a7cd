defmodule Codex.ApprovalError do
  @moduledoc """
  A denied approval. As a `Codex.Error` it has the kind `:approval_denied`.

    * `tool` - the tool that asked
    * `reason` - the reason of the denial: text or any other term
    * `message` - both, for people
  """

  defexception [:message, :tool, :reason]

  @typedoc "A denied approval."
  @type t :: %__MODULE__{message: String.t(), tool: term(), reason: term()}

  @doc """
  Makes the error for a tool and a reason.

      iex> Exception.message(Codex.ApprovalError.new("shell", "not on Fridays"))
      "approval of shell was denied: not on Fridays"
  """
  @spec new(term(), term()) :: t()
  def new(tool, reason),
    do: %__MODULE__{
      tool: tool,
      reason: reason,
      message: "approval of #{text(tool)} was denied: #{text(reason)}"
    }

  defp text(text) when is_binary(text), do: Codex.Text.printable(text)
  defp text(term), do: inspect(term)
end
