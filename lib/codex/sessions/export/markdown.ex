defmodule Codex.Sessions.Export.Markdown do
  @moduledoc false
  # A session as a Markdown document. Texts that are data stand in fences or code spans that they
  # cannot end; prompts and answers are Markdown already, and stand in quotes.

  alias Codex.{Format, Text}
  alias Codex.Sessions.Export.Entry

  @doc "Returns the head of the document."
  @spec head(map()) :: iodata()
  def head(session) do
    facts =
      for {name, value} <- facts(session),
          value not in [nil, ""],
          do: "- #{name}: #{code(value)}\n"

    ["# ", escape(title(session)), "\n\n", facts]
  end

  @doc "Returns the facts about a session that all renderers show."
  @spec facts(map()) :: [{String.t(), String.t()}]
  def facts(session) do
    facts = [
      {"Thread", session.id},
      {"Directory", session.cwd},
      {"Models", Enum.join(session.models, ", ")},
      {"Started", time(session.started)},
      {"Ended", time(session.ended)},
      {"CLI", session.cli_version},
      {"Parent", session.parent && "#{session.parent} (#{session.parent_kind})"},
      {"Tokens", session.usage && usage(session.usage)}
    ]

    for {name, value} <- facts, value not in [nil, ""], do: {name, Text.line(value)}
  end

  @doc "Formats a recorded time for people."
  @spec time(String.t() | nil) :: String.t() | nil
  def time(text) do
    with true <- is_binary(text),
         {:ok, time, 0} <- DateTime.from_iso8601(text) do
      time |> DateTime.truncate(:second) |> Calendar.strftime("%Y-%m-%d %H:%M:%S UTC")
    else
      _ -> text
    end
  end

  @doc "Returns the title of a session in one line."
  @spec title(map()) :: String.t()
  def title(session), do: Entry.short(session.name || session.title || session.id)

  @doc "Formats usage in words."
  @spec usage(map()) :: String.t()
  def usage(usage) do
    "#{Format.exact(usage["input_tokens"])} in " <>
      "(#{Format.exact(usage["cached_input_tokens"])} cached), " <>
      "#{Format.exact(usage["output_tokens"])} out"
  end

  @doc "Returns a turn of the document."
  @spec turn(map(), pos_integer(), [Entry.t()]) :: iodata()
  def turn(turn, number, entries) do
    facts =
      [
        turn.status not in [:completed, :unknown] && status(turn.status),
        turn.reverted && "reverted",
        turn.started && time(turn.started),
        turn.model && code(turn.model),
        turn.usage && usage(turn.usage)
      ]
      |> Enum.filter(& &1)
      |> Enum.intersperse(", ")

    [
      "\n## Turn #{number}\n",
      if(facts != [], do: ["\n", facts, "\n"], else: ""),
      Enum.map(entries, &entry/1)
    ]
  end

  @doc "Formats the status of a turn in words."
  @spec status(atom()) :: String.t()
  def status(status), do: status |> Atom.to_string() |> String.replace("_", " ")

  @doc "Returns the section of an item."
  @spec entry(Entry.t()) :: iodata()
  def entry(entry) do
    status = if entry.status, do: " (#{entry.status})", else: ""
    ["\n### ", heading(entry), status, "\n", Enum.map(entry.parts, &["\n", part(&1)])]
  end

  defp heading(%{kind: kind} = entry) when kind in [:command, :patch, :tool],
    do: code(entry.title)

  defp heading(entry), do: escape(entry.title)

  # Characters of Markdown and HTML in text that is no Markdown.
  defp escape(text), do: String.replace(text, ~r/[\\`*_\[\]<>&#]/, "\\\\\\0")

  defp part({:prose, text}), do: [String.replace("> " <> text, "\n", "\n> "), "\n"]
  defp part({:text, nil, text}), do: fence(text, "")
  defp part({:text, name, text}), do: [name, ":\n\n", fence(text, "")]
  defp part({:diff, name, text}), do: [code(name), ":\n\n", fence(text, "diff")]
  defp part({:image, name, _data}), do: ["Image ", code(name || "without a name"), "\n"]

  # A fence or a code span is longer than every run of backticks inside.
  defp fence(text, language) do
    fence = String.duplicate("`", max(longest(text) + 1, 3))
    [fence, language, "\n", String.trim_trailing(text, "\n"), "\n", fence, "\n"]
  end

  defp code(text) do
    text = Text.line(text)
    ticks = String.duplicate("`", longest(text) + 1)
    space = if text =~ "`", do: " ", else: ""
    ticks <> space <> text <> space <> ticks
  end

  defp longest(text) do
    ~r/`+/
    |> Regex.scan(text)
    |> Enum.map(fn [run] -> byte_size(run) end)
    |> Enum.max(fn -> 0 end)
  end
end
