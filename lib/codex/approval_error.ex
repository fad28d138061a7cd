defmodule Codex.ApprovalError do
  @moduledoc """
  An approval that was asked for and not given. As a `Codex.Error` it is of the kind `:approval_denied`.

    * `tool` - what was to run
    * `reason` - why not: text or any other term
    * `message` - both, for people
  """

  defexception [:message, :tool, :reason]

  @type t :: %__MODULE__{message: String.t(), tool: term(), reason: term()}

  @doc """
      iex> Exception.message(Codex.ApprovalError.new("shell", "not on Fridays"))
      "approval of shell was denied: not on Fridays"
  """
  @spec new(term(), term()) :: t()
  def new(tool, reason),
    do: %__MODULE__{
      tool: tool,
      reason: reason,
      message: "approval of #{words(tool)} was denied: #{words(reason)}"
    }

  defp words(text) when is_binary(text), do: Codex.Text.printable(text)
  defp words(term), do: inspect(term)
end
