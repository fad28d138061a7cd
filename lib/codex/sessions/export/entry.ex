defmodule Codex.Sessions.Export.Entry do
  @moduledoc false
  # An item of a turn in the form that all renderers take: a kind, a title of one line, and parts.
  # All texts are printable, and the long ones are cut.

  alias Codex.{Items, Text}

  @enforce_keys [:kind, :title]
  defstruct [:kind, :title, :status, :ms, parts: []]

  @typedoc """
  A part: prose in Markdown, preformatted text with its name, or a diff with the name of its file.
  """
  @type part ::
          {:prose, String.t()}
          | {:text, name :: String.t() | nil, String.t()}
          | {:diff, name :: String.t(), String.t()}
          | {:image, name :: String.t() | nil, data_url :: String.t() | nil}

  @type t :: %__MODULE__{
          kind: :user | :agent | :reasoning | :command | :patch | :tool | :note,
          title: String.t(),
          status: :failed | :declined | nil,
          ms: non_neg_integer() | nil,
          parts: [part()]
        }

  @doc "Makes an entry of an item, nil if there is nothing to show. Texts are cut at `most` bytes."
  @spec new(Items.t(), pos_integer()) :: t() | nil
  def new(item, most)

  def new(%Items.UserMessage{content: content}, most) do
    parts = Enum.flat_map(content, &content(&1, most))
    if parts != [], do: %__MODULE__{kind: :user, title: "User", parts: parts}
  end

  def new(%Items.AgentMessage{text: text} = item, most) do
    title = if item.phase == "commentary", do: "Agent, commentary", else: "Agent"
    %__MODULE__{kind: :agent, title: title, parts: [{:prose, cut(text, most)}]}
  end

  def new(%Items.Reasoning{text: text}, most) when text not in [nil, ""],
    do: %__MODULE__{kind: :reasoning, title: "Reasoning", parts: [{:prose, cut(text, most)}]}

  def new(%Items.Reasoning{}, _most), do: nil

  def new(%Items.CommandExecution{} = item, most) do
    exit = if item.exit_code in [nil, 0], do: [], else: [" (exit status #{item.exit_code})"]

    %__MODULE__{
      kind: :command,
      title: IO.iodata_to_binary(["$ ", short(item.command) | exit]),
      status: status(item.status),
      ms: item.duration_ms,
      parts: command(item, most)
    }
  end

  def new(%Items.FileChange{changes: changes} = item, most) do
    %__MODULE__{
      kind: :patch,
      title: Enum.map_join(changes, ", ", &(verb(&1.kind) <> " " <> name(&1))) |> short(),
      status: status(item.status),
      parts: for(c <- changes, is_binary(c.diff), do: {:diff, name(c), diff(c, most)})
    }
  end

  def new(%Items.McpToolCall{} = item, most) do
    result = item.error || item.result
    tool("#{item.server}.#{item.tool}", item, item.arguments, result, most)
  end

  def new(%Items.DynamicToolCall{} = item, most) do
    name = Enum.join(Enum.filter([item.namespace, item.tool], & &1), ".")
    tool(name, item, item.arguments, item.content_items, most)
  end

  def new(%Items.CollabToolCall{} = item, most) do
    call = tool("#{item.tool}", item, nil, nil, most)
    %{call | parts: if(item.prompt, do: [{:prose, cut(item.prompt, most)}], else: [])}
  end

  def new(%Items.WebSearch{query: query}, _most),
    do: %__MODULE__{kind: :tool, title: short("Web search: " <> query)}

  def new(%Items.TodoList{items: items}, most) do
    lines = for i <- items, do: "- [#{if i.completed, do: "x", else: " "}] #{i.text}"
    %__MODULE__{kind: :note, title: "Plan", parts: [{:prose, cut(Enum.join(lines, "\n"), most)}]}
  end

  def new(%Items.Plan{text: text}, most),
    do: %__MODULE__{kind: :note, title: "Plan", parts: [{:prose, cut(text, most)}]}

  def new(%Items.Error{message: message}, most),
    do: %__MODULE__{kind: :note, title: "Warning", parts: [{:prose, cut(message, most)}]}

  def new(%Items.ReviewMode{entered: entered, review: review}, most) do
    title = if entered, do: "Review begins", else: "Review ends"
    %__MODULE__{kind: :note, title: title, parts: [{:prose, cut(review, most)}]}
  end

  def new(%Items.ContextCompaction{}, _most),
    do: %__MODULE__{kind: :note, title: "The history was shortened"}

  def new(%Items.ImageView{path: path}, _most),
    do: %__MODULE__{kind: :tool, title: short("Image: " <> path)}

  # Ghost snapshots and raw response items show nothing; new kinds show their data.
  def new(%kind{}, _most) when kind in [Items.GhostSnapshot, Items.Compaction], do: nil

  def new(item, most) do
    case Items.to_map(item) do
      %{"type" => type} = map when is_binary(type) ->
        data = Map.drop(map, ["id", "type"])
        %__MODULE__{kind: :note, title: short(type), parts: [{:text, nil, json(data, most)}]}

      _none ->
        nil
    end
  end

  defp content(%{"type" => "text", "text" => text}, most) when is_binary(text),
    do: [{:prose, cut(text, most)}]

  defp content(%{"type" => type} = part, _most) when type in ~w(image localImage local_image) do
    url = part["url"] || part["image_url"]
    name = part["path"] || if(is_binary(url) and not data?(url), do: url)
    [{:image, is_binary(name) && short(name), data(part, url)}]
  end

  defp content(_other, _most), do: []

  defp data?(url), do: String.starts_with?(url, "data:")

  # Pages show no other kinds than these.
  @shown ~w(image/png image/jpeg image/gif image/webp)

  defp data(%{"bytes" => bytes, "media_type" => type}, _url) when type in @shown,
    do: "data:#{type};base64," <> Base.encode64(bytes)

  defp data(_part, url) do
    if is_binary(url) and Enum.any?(@shown, &String.starts_with?(url, "data:#{&1};base64,")),
      do: url
  end

  defp command(item, most) do
    script =
      if String.contains?(item.command, "\n"), do: [{:text, "command", cut(item.command, most)}]

    output = if item.aggregated_output not in [nil, ""], do: item.aggregated_output
    (script || []) ++ if(output, do: [{:text, "output", cut(output, most)}], else: [])
  end

  defp tool(name, item, arguments, result, most) do
    parts =
      for {name, value} <- [{"arguments", arguments}, {"result", result}],
          value not in [nil, %{}, []],
          do: {:text, name, json(value, most)}

    %__MODULE__{
      kind: :tool,
      title: short(name),
      status: status(item.status),
      ms: Map.get(item, :duration_ms),
      parts: parts
    }
  end

  defp json(value, most) do
    case Codex.JSON.encode(value) do
      {:ok, json} -> cut(json, most)
      {:error, _} -> "(no JSON)"
    end
  end

  defp name(%{path: path, move_path: nil}), do: printable(path)
  defp name(%{path: path, move_path: move}), do: "#{printable(path)} → #{printable(move)}"

  defp verb(:add), do: "Add"
  defp verb(:delete), do: "Delete"
  defp verb(_kind), do: "Update"

  # Added and deleted files come as their content.
  defp diff(%{kind: :add, diff: diff}, most), do: signed(cut(diff, most), "+")
  defp diff(%{kind: :delete, diff: diff}, most), do: signed(cut(diff, most), "-")
  defp diff(%{diff: diff}, most), do: cut(diff, most)

  defp signed(text, sign) do
    text
    |> String.trim_trailing("\n")
    |> String.split("\n")
    |> Enum.map_join("\n", &(sign <> &1))
  end

  defp status(status) when status in [:failed, :declined], do: status
  defp status(_status), do: nil

  @doc "Makes text printable, and says how many bytes were cut."
  @spec cut(String.t(), pos_integer()) :: String.t()
  def cut(text, most) when byte_size(text) <= most, do: printable(text)

  def cut(text, most) do
    left = byte_size(text) - most
    printable(binary_part(text, 0, most)) <> "\n… #{Codex.Format.exact(left)} more bytes"
  end

  @doc "Makes one short line of text."
  @spec short(String.t()) :: String.t()
  def short(text) do
    line = text |> binary_part(0, min(byte_size(text), 2_000)) |> Text.line()
    if String.length(line) > 200, do: String.slice(line, 0, 199) <> "…", else: line
  end

  defp printable(text), do: Text.printable(text)
end
