defmodule Codex.Turn.Warnings do
  @moduledoc false
  # The warnings among the events of a turn, as the texts of `warnings` in `Codex.Turn.Result`.
  # These events are warnings:
  #
  #   * `%Codex.Events.ItemCompleted{item: %Codex.Items.Error{message: text}}`, as `codex exec` does
  #   * `%Codex.Events.Warning{message: text}` and the like, as an app-server does
  #
  # A transport may also return the element `{:warnings, texts}`.

  alias Codex.{Events, Items, Text}
  alias Codex.Events.{ConfigWarning, DeprecationNotice, GuardianWarning, ItemCompleted}
  alias Codex.Events.{McpServerStartupStatusUpdated, Warning}

  # A server may repeat itself: each text counts once, up to this number of texts.
  @most 64
  @longest 4_096

  defstruct texts: [], more: 0
  @type t :: %__MODULE__{texts: [String.t()], more: non_neg_integer()}

  @notices [
    "warning",
    "configWarning",
    "deprecationNotice",
    "guardianWarning",
    "mcpServer/startupStatus/updated"
  ]

  @doc "Returns whether a notification of this method may be a warning."
  @spec notice?(String.t()) :: boolean()
  def notice?(method), do: method in @notices

  @doc "Adds the warning of an event, if it is one."
  @spec note(t(), Events.t() | term()) :: t()
  def note(warnings, event) do
    case text(event) do
      nil -> warnings
      text -> put(warnings, text)
    end
  end

  @doc "Returns the texts, in the order in which they came."
  @spec list(t()) :: [String.t()]
  def list(%{more: 0} = warnings), do: Enum.reverse(warnings.texts)
  def list(warnings), do: Enum.reverse(["#{warnings.more} more warnings" | warnings.texts])

  @doc "Adds a text, if it is new."
  @spec put(t(), String.t()) :: t()
  def put(warnings, text) do
    text = text |> String.slice(0, @longest) |> Text.line() |> String.trim()

    cond do
      text == "" or text in warnings.texts -> warnings
      length(warnings.texts) < @most -> %{warnings | texts: [text | warnings.texts]}
      true -> %{warnings | more: warnings.more + 1}
    end
  end

  @doc "Returns the warning of an event, or nil."
  @spec text(Events.t() | term()) :: String.t() | nil
  def text(event)

  def text(%ItemCompleted{item: %Items.Error{message: text}}) when is_binary(text), do: text

  def text(%DeprecationNotice{summary: summary, details: details}),
    do: sentences([summary, details])

  # A line that was dropped because of its length: the turn may lack a message.
  def text(%Events.Error{additional_details: %{"line_bytes" => _}, message: text}), do: text

  def text(%McpServerStartupStatusUpdated{status: "failed", name: name, error: error})
      when is_binary(name),
      do: sentences(["MCP server #{name} did not start", error])

  def text(%ConfigWarning{} = event), do: sentences([event.summary, event.details, event.path])

  def text(%warning{message: text})
      when warning in [Warning, GuardianWarning] and is_binary(text),
      do: text

  def text(_event), do: nil

  defp sentences(parts) do
    case Enum.filter(parts, &(is_binary(&1) and &1 != "")) do
      [] -> nil
      parts -> Enum.join(parts, ": ")
    end
  end
end
