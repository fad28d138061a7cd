defmodule Codex.GuardrailError do
  @moduledoc """
  A run that a guardrail of the host stopped. As a `Codex.Error` it has the kind `:guardrail`.

    * `stage` - the place of the check: `:input`, `:output`, `:tool_input`, `:tool_output`
    * `guardrail` - its name
    * `type` - `:tripwire` (default) or `:reject`
    * `message` - for people
  """

  defexception [:stage, :guardrail, :message, type: :tripwire]

  @typedoc "A run that was stopped."
  @type t :: %__MODULE__{
          stage: atom(),
          guardrail: term(),
          message: String.t(),
          type: atom()
        }

  @doc """
  Makes the error from a keyword list or map of the fields. The default message is made of the
  others.

      iex> Exception.message(Codex.GuardrailError.exception(stage: :input, guardrail: "secrets"))
      "guardrail \\"secrets\\" stopped the run at input"
  """
  @impl true
  @spec exception(keyword() | map()) :: t()
  def exception(opts)
      when (is_map(opts) and not is_struct(opts)) or
             (is_list(opts) and (opts == [] or is_tuple(hd(opts)))) do
    error = struct(__MODULE__, opts)
    %{error | message: Codex.Text.printable(error.message || default_message(error))}
  end

  defp default_message(%{guardrail: guardrail, stage: nil}),
    do: "guardrail #{inspect(guardrail)} stopped the run"

  defp default_message(%{guardrail: guardrail, stage: stage}),
    do: "guardrail #{inspect(guardrail)} stopped the run at #{stage}"
end
