defmodule Codex.Sessions.Export do
  @moduledoc false
  # Writes a session as a document, a turn after the other, so that a long one needs little memory.

  alias Codex.{Items, JSON}
  alias Codex.Sessions.Export.{Entry, HTML, Markdown}
  alias Codex.Sessions.{Session, Turn}

  @type format :: :markdown | :html | :json

  @doc "Makes a document, and writes it to a file if `path` names one."
  @spec run(format(), Session.t(), [Turn.t()], pos_integer(), Path.t() | nil) ::
          {:ok, iodata() | Path.t()} | {:error, {:write_failed, Path.t(), atom()}}
  def run(format, session, turns, most, nil),
    do: {:ok, Enum.to_list(stream(format, session, turns, most))}

  def run(format, session, turns, most, path) do
    parts = stream(format, session, turns, most)

    with {:ok, file} <- :file.open(path, [:write, :raw, :delayed_write]),
         :ok <- :file.change_mode(path, 0o600),
         :ok <- write(file, parts),
         :ok <- :file.close(file) do
      {:ok, path}
    else
      {:error, reason} -> {:error, {:write_failed, path, reason}}
    end
  end

  defp write(file, parts) do
    Enum.reduce_while(parts, :ok, fn part, :ok ->
      case :file.write(file, part) do
        :ok -> {:cont, :ok}
        error -> {:halt, error}
      end
    end)
  end

  @doc """
  Streams the parts of a document. Texts are cut at `most` bytes; JSON is whole.
  """
  @spec stream(format(), Session.t(), [Turn.t()], pos_integer()) :: Enumerable.t()
  def stream(:markdown, session, turns, most) do
    Stream.concat([Markdown.head(session)], numbered(turns, &Markdown.turn/3, most))
  end

  def stream(:html, session, turns, most) do
    [[HTML.head(session, turns)], numbered(turns, &HTML.turn/3, most), [HTML.close()]]
    |> Stream.concat()
  end

  def stream(:json, session, turns, _most) do
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
    do: for(item <- Turn.items(turn), entry = Entry.new(item, most), do: entry)

  defp json_turn(turn) do
    items = Enum.map(Turn.items(turn), &Items.to_map/1)
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
