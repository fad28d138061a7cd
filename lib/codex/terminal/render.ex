defmodule Codex.Terminal.Render do
  @moduledoc false
  # Events as lines for people, and the text of the status line. Pure.

  alias Codex.{Events, Format, Items}
  alias Codex.Sessions.Export.Entry
  alias Codex.Terminal.Screen

  # The most bytes of a text that are looked at.
  @most 64 * 1024

  @type line :: {Screen.style(), String.t()}

  @doc "Returns the lines of an event, and the new status; `:keep` leaves the status as it is."
  @spec event(struct(), pos_integer()) :: {[line()], String.t() | nil | :keep}
  def event(%Events.ThreadStarted{thread_id: id}, _fold), do: {[{:dim, "thread #{id}"}], :keep}
  def event(%Events.TurnStarted{}, _fold), do: {[], "thinking"}

  def event(%Events.ItemStarted{item: %Items.CommandExecution{command: command}}, _fold),
    do: {[], "running " <> Entry.short(command)}

  def event(%Events.ItemStarted{item: %Items.FileChange{}}, _fold), do: {[], "writing files"}
  def event(%Events.ItemStarted{item: %Items.AgentMessage{}}, _fold), do: {[], "answering"}

  def event(%Events.ItemStarted{item: %Items.McpToolCall{server: server, tool: tool}}, _fold),
    do: {[], "calling #{Entry.short("#{server}.#{tool}")}"}

  def event(%Events.ItemStarted{item: %Items.TodoList{} = plan}, fold),
    do: {item(plan, fold), :keep}

  def event(%Events.ItemUpdated{item: %Items.TodoList{} = plan}, fold),
    do: {item(plan, fold), :keep}

  # The user has just typed it.
  def event(%Events.ItemCompleted{item: %Items.UserMessage{}}, _fold), do: {[], :keep}
  def event(%Events.ItemCompleted{item: item}, fold), do: {item(item, fold), "thinking"}
  def event(%Events.TurnCompleted{}, _fold), do: {[], nil}

  # The call that ran the turn returns the error.
  def event(%Events.TurnFailed{}, _fold), do: {[], nil}

  def event(%Events.Error{message: message}, _fold),
    do: {[{:dim, "warning: #{Entry.short(message)}"}], :keep}

  def event(_other, _fold), do: {[], :keep}

  @doc "Returns the text of a message that comes in pieces: a piece, or the whole at its end."
  @spec text(struct()) :: {:piece | :whole, id :: String.t(), String.t()} | nil
  def text(%Events.ItemAgentMessageDelta{item: %{"id" => id, "text" => text}})
      when is_binary(text),
      do: {:piece, id, text}

  def text(%Events.ItemCompleted{item: %Items.AgentMessage{id: id, text: text}})
      when is_binary(id) and is_binary(text),
      do: {:whole, id, text}

  def text(_event), do: nil

  @doc "Returns the lines of an item. Long outputs and diffs are folded to `fold` lines."
  @spec item(struct(), pos_integer()) :: [line()]
  def item(item, fold) do
    case Entry.new(item, @most) do
      nil -> []
      %{kind: :agent} = entry -> prose(entry)
      %{kind: :user} = entry -> for {:prose, text} <- entry.parts, do: {:bold, quoted(text)}
      entry -> [{style(entry.kind), title(entry)} | Enum.flat_map(entry.parts, &part(&1, fold))]
    end
  end

  defp style(:command), do: :bold
  defp style(:patch), do: :bold
  defp style(_kind), do: :dim

  defp title(%{status: nil, title: title}), do: title
  defp title(%{status: status, title: title}), do: "#{title} (#{status})"

  defp prose(entry), do: for({:prose, text} <- entry.parts, do: {:plain, text})

  defp quoted(text), do: Enum.map_join(lines(text), "\n", &("> " <> &1))

  defp part({:prose, text}, _fold), do: for(line <- lines(text), do: {:dim, "  " <> line})
  defp part({:text, "command", _text}, _fold), do: []
  defp part({:text, nil, text}, fold), do: folded(text, fold)
  defp part({:text, _name, text}, fold), do: folded(text, fold)
  # The lines of a patch are the result of the turn: more of them are shown than of an output.
  defp part({:diff, _name, text}, fold), do: folded(text, fold * 4)
  defp part({:image, name, _data}, _fold), do: [{:dim, "  image #{name}"}]

  defp folded(text, fold) do
    {shown, rest} = text |> lines() |> Enum.split(fold)
    more = if rest == [], do: [], else: [{:dim, "  | … #{length(rest)} more lines"}]
    for(line <- shown, do: {:dim, "  | " <> line}) ++ more
  end

  defp lines(text), do: text |> String.trim_trailing("\n") |> String.split("\n")

  @doc """
  Formats the tokens of a turn.

      iex> Codex.Terminal.Render.usage(%{"input_tokens" => 1200, "output_tokens" => 60})
      "1,200 tokens in (? cached), 60 out"
      iex> Codex.Terminal.Render.usage(nil)
      "tokens: not reported"
  """
  @spec usage(map() | nil) :: String.t()
  def usage(nil), do: "tokens: not reported"

  def usage(usage) do
    "#{Format.exact(usage["input_tokens"])} tokens in " <>
      "(#{Format.exact(usage["cached_input_tokens"])} cached), " <>
      "#{Format.exact(usage["output_tokens"])} out"
  end
end
