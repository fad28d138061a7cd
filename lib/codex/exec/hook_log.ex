defmodule Codex.Exec.HookLog do
  @moduledoc false
  # Finds in the log of the CLI what hooks refused before a tool ran: `codex exec` has no event for
  # it. The log has the reason on one line, or the rest of it on further lines, which are left out.

  alias Codex.Items.HookBlocked
  alias Codex.Text

  @words "blocked by PreToolUse hook: "
  @line ~r/error=(?:Command|Tool call) blocked by PreToolUse hook: (.*?)(?:\. (Command|Tool): (.*))?$/

  # A line that is not complete yet, in bytes.
  @longest 64 * 1024

  defstruct rest: "", own: []

  @typedoc "`own` are the reasons of the host's hooks, which have items already."
  @type t :: %__MODULE__{rest: String.t(), own: [String.t()]}

  @doc "Notes a reason of the host, whose line may come before or after."
  @spec own(t(), String.t()) :: t()
  def own(log, reason), do: %{log | own: Enum.take([first(reason) | log.own], 100)}

  defp first(reason), do: reason |> String.split("\n", parts: 2) |> hd()

  @doc "Returns items for the refusals that these bytes of stderr name."
  @spec feed(t(), binary()) :: {[HookBlocked.t()], t()}
  def feed(%{rest: ""} = log, bytes) do
    # Most output has none.
    if :binary.match(bytes, @words) == :nomatch, do: {[], log}, else: lines(log, bytes)
  end

  def feed(log, bytes), do: lines(log, log.rest <> bytes)

  defp lines(log, text) do
    [rest | lines] = text |> String.split("\n") |> Enum.reverse()
    keep? = :binary.match(rest, "error=") != :nomatch and byte_size(rest) <= @longest

    lines
    |> Enum.reverse()
    |> Enum.flat_map_reduce(%{log | rest: ""}, &line/2)
    |> keep(rest, keep?)
  end

  defp keep({items, log}, rest, true), do: {items, %{log | rest: rest}}
  defp keep(result, _rest, false), do: result

  defp line(line, log) do
    case Regex.run(@line, Text.utf8(line)) do
      [_, reason | call] ->
        if reason in log.own,
          do: {[], %{log | own: List.delete(log.own, reason)}},
          else: {[item(reason, call)], log}

      nil ->
        {[], log}
    end
  end

  defp item(reason, ["Command", command]), do: item(reason, "Bash", %{"command" => command})
  defp item(reason, ["Tool", tool]), do: item(reason, tool, nil)
  defp item(reason, []), do: item(reason, nil, nil)

  defp item(reason, tool, input) do
    %HookBlocked{event: :pre_tool_use, tool: tool, input: input, reason: reason, source: :user}
  end
end
