defmodule Codex.Sessions.Export do
  @moduledoc false
  # Writes a session as a document, a turn after the other, so that a long one needs little memory.

  alias Codex.{Events, Items, JSON}
  alias Codex.Sessions.{Session, Turn}
  alias Codex.Sessions.Export.{Entry, HTML, Markdown}

  @type format :: :markdown | :html | :json

  @doc """
  Streams the parts of a document. `outline` are the turns without their events, `turns` the same
  with them, lazily. Texts are cut at `most` bytes; JSON is whole.
  """
  @spec stream(format(), Session.t(), [Turn.t()], Enumerable.t(), pos_integer()) :: Enumerable.t()
  def stream(:markdown, session, _outline, turns, most) do
    Stream.concat([Markdown.head(session)], numbered(turns, &Markdown.turn/3, most))
  end

  def stream(:html, session, outline, turns, most) do
    [[HTML.head(session, outline)], numbered(turns, &HTML.turn/3, most), [HTML.close()]]
    |> Stream.concat()
  end

  def stream(:json, session, _outline, turns, _most) do
    head = session |> fields() |> JSON.encode!() |> String.replace_suffix("}", "")

    body =
      turns
      |> Stream.map(&json_turn/1)
      |> Stream.transform("", fn turn, comma -> {[[comma, "\n", turn]], ","} end)

    Stream.concat([[head, ~s(,"turns":[)], body, ["\n]}\n"]])
  end

  defp numbered(turns, render, most) do
    turns
    |> Stream.with_index(1)
    |> Stream.map(fn {turn, number} -> render.(turn, number, entries(turn, most)) end)
  end

  defp entries(turn, most),
    do: for(item <- items(turn), entry = Entry.new(item, most), do: entry)

  defp items(turn), do: for(%Events.ItemCompleted{item: item} <- turn.events, do: item)

  defp json_turn(turn) do
    items = Enum.map(items(turn), &Items.to_map/1)
    turn |> Map.delete(:events) |> fields() |> Map.put("items", items) |> JSON.encode!()
  end

  @doc "Returns the fields of a session or turn with the names of JSON documents."
  @spec fields(struct()) :: %{String.t() => term()}
  def fields(struct) do
    for {key, value} <- Map.from_struct(struct), key != :events, into: %{} do
      word? = is_atom(value) and value not in [nil, true, false]
      {Atom.to_string(key), if(word?, do: Atom.to_string(value), else: value)}
    end
  end
end
