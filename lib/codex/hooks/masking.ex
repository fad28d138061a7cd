defmodule Codex.Hooks.Masking do
  @moduledoc false
  # The option `redact` for what tools print: the model reads the masked text.

  alias Codex.Hooks.Set
  alias Codex.{JSON, Redaction}

  @spec hooks(map()) :: [{atom(), function(), non_neg_integer()}]
  def hooks(%{redact: []}), do: []

  def hooks(%{redact: patterns}) do
    redaction = Redaction.new(patterns)
    [{:post_tool_use, &output(&1, &2, redaction), 0}]
  end

  defp output(event, set, redaction) do
    case Redaction.mask(event.tool_response, redaction) do
      {_same, 0} ->
        :allow

      {masked, count} ->
        :ok = Set.tell(set, {:masked, count})
        {:replace_output, text(masked)}
    end
  end

  defp text(text) when is_binary(text), do: text

  # The parts of an MCP result that are text.
  defp text(%{"content" => [_ | _] = content} = result) do
    texts = for %{"type" => "text", "text" => text} <- content, do: text
    if length(texts) == length(content), do: Enum.join(texts, "\n"), else: JSON.encode!(result)
  end

  defp text(other), do: JSON.encode!(other)
end
