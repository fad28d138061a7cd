defmodule Mix.CodexTable do
  @moduledoc false
  # Tables for people: columns as wide as their texts, lines cut at the width of the terminal.
  # Without a terminal, nothing is cut and nothing is coloured.

  @gap "  "

  @doc "Formats rows of texts below a head. `right` are the indexes of columns of numbers."
  @spec format([String.t()], [[String.t()]], [non_neg_integer()]) :: String.t()
  def format(head, rows, right \\ []) do
    rows = for row <- rows, do: Enum.map(row, &Codex.Text.line/1)
    widths = [head | rows] |> Enum.zip_with(&widest/1)
    lines = for row <- [head | rows], do: row |> line(widths, right) |> cut(columns())
    [first | rest] = lines
    Enum.join([bold(first) | rest], "\n")
  end

  defp widest(texts), do: texts |> Enum.map(&String.length/1) |> Enum.max()

  defp line(row, widths, right) do
    last = length(row) - 1

    row
    |> Enum.zip(widths)
    |> Enum.with_index()
    |> Enum.map_join(@gap, fn {{text, width}, index} ->
      cond do
        index in right -> String.pad_leading(text, width)
        index == last -> text
        true -> String.pad_trailing(text, width)
      end
    end)
  end

  defp cut(text, :infinity), do: text

  defp cut(text, columns),
    do:
      if(String.length(text) > columns, do: String.slice(text, 0, columns - 1) <> "…", else: text)

  defp columns do
    case :io.columns() do
      {:ok, columns} -> columns
      {:error, _no_terminal} -> :infinity
    end
  end

  @doc "Makes text bold on a terminal."
  @spec bold(String.t()) :: String.t()
  def bold(text), do: IO.iodata_to_binary(IO.ANSI.format([:bright, text], terminal?()))

  defp terminal?, do: IO.ANSI.enabled?() and match?({:ok, _}, :io.columns())
end
