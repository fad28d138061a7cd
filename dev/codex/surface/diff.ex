defmodule Codex.Surface.Diff do
  @moduledoc false
  # Compares two trees of named nodes. A node has its own text, its text with all that is below, and
  # the nodes below by name:
  #
  #     {own, whole, %{name => node}}
  #
  # A name continues the path of the node above, with its own separator: `.field`, `[member]`.

  @type tree :: %{String.t() => tree_node()}
  @type tree_node :: {own :: String.t(), whole :: String.t(), tree()}

  @typedoc "One difference. A note says how something was read; its text is in `to`."
  @type change :: %{
          change: :added | :removed | :changed | :note,
          path: String.t(),
          from: String.t() | nil,
          to: String.t() | nil
        }

  @doc "Returns a node with nothing below."
  @spec leaf(String.t()) :: tree_node()
  def leaf(text), do: {text, text, %{}}

  @doc """
  Returns the differences, sorted by path. An added or removed node is one difference.

      iex> alias Codex.Surface.Diff
      iex> old = %{"T" => {"{}", "{a:1}", %{".a" => Diff.leaf("1")}}}
      iex> new = %{"T" => {"{}", "{a:2}", %{".a" => Diff.leaf("2")}}, "U" => Diff.leaf("3")}
      iex> Enum.map(Diff.changes(old, new), &Diff.line/1)
      ["~ T.a 1 is now 2", "+ U 3"]
  """
  @spec changes(tree(), tree(), String.t()) :: [change()]
  def changes(old, new, at \\ "") do
    names = Enum.sort(Enum.uniq(Map.keys(old) ++ Map.keys(new)))
    for name <- names, change <- compare(at <> name, old[name], new[name]), do: change
  end

  defp compare(path, nil, {_own, whole, _}), do: [change(:added, path, nil, whole)]
  defp compare(path, {_own, whole, _}, nil), do: [change(:removed, path, whole, nil)]
  defp compare(path, {own, _, old}, {own, _, new}), do: changes(old, new, path)

  defp compare(path, {own, _, old}, {other, _, new}) when old != %{} and new != %{},
    do: [change(:changed, path, own, other) | changes(old, new, path)]

  defp compare(path, {_, old, _}, {_, new, _}), do: [change(:changed, path, old, new)]

  defp change(change, path, from, to), do: %{change: change, path: path, from: from, to: to}

  @doc "Returns a note."
  @spec note(String.t(), String.t()) :: change()
  def note(path, text), do: change(:note, path, nil, text)

  @doc "Writes a change as a line: `+` added, `-` removed, `~` changed, `?` a note."
  @spec line(change()) :: String.t()
  def line(%{change: :added} = change), do: join("+", change.path, change.to)
  def line(%{change: :removed} = change), do: join("-", change.path, change.from)
  def line(%{change: :note} = change), do: join("?", change.path, change.to)

  def line(%{change: :changed} = change),
    do: join("~", change.path, "#{change.from} is now #{change.to}")

  defp join(mark, path, ""), do: "#{mark} #{path}"
  defp join(mark, path, text), do: "#{mark} #{path} #{text}"
end
