defmodule Codex.Screen do
  @moduledoc false
  # The screen of a terminal, fed with the bytes that a program writes: enough of a VT100 for the
  # TUI of the CLI. Each character is one column wide, and styles are ignored.
  #
  # `feed/2` also returns the answers of the terminal to questions of the program (the position of
  # the cursor, the kind of terminal), which have to be written to it.

  defstruct rows: 24, cols: 80, at: {0, 0}, saved: {0, 0}, cells: %{}, region: nil, rest: ""

  @type t :: %__MODULE__{}

  @spec new({pos_integer, pos_integer}) :: t
  def new({rows, cols}), do: %__MODULE__{rows: rows, cols: cols, region: {0, rows - 1}}

  @spec resize(t, {pos_integer, pos_integer}) :: t
  def resize(screen, {rows, cols}) do
    cells = Map.filter(screen.cells, fn {{row, col}, _} -> row < rows and col < cols end)
    %{screen | rows: rows, cols: cols, region: {0, rows - 1}, cells: cells} |> move(screen.at)
  end

  @doc "Returns the lines of the screen, without spaces at their ends."
  @spec lines(t) :: [String.t()]
  def lines(screen) do
    for row <- 0..(screen.rows - 1) do
      0..(screen.cols - 1)
      |> Enum.map_join(&Map.get(screen.cells, {row, &1}, " "))
      |> String.trim_trailing()
    end
  end

  @spec text(t) :: String.t()
  def text(screen), do: screen |> lines() |> Enum.join("\n") |> String.trim_trailing()

  @spec feed(t, binary) :: {t, answers :: binary}
  def feed(screen, bytes), do: parse(screen.rest <> bytes, %{screen | rest: ""}, "")

  defp parse("", screen, answers), do: {screen, answers}

  defp parse("\e[" <> rest = all, screen, answers) do
    case Regex.run(~r/\A([?>=<]?)([0-9;:]*)([ !"$']*)([@-~])/, rest) do
      [whole, mark, args, _middle, final] ->
        {screen, answer} = csi(mark <> final, numbers(args), screen)
        rest |> cut(whole) |> parse(screen, answers <> answer)

      nil ->
        {%{screen | rest: all}, answers}
    end
  end

  # Titles, links and questions about colours end with BEL or ESC \.
  defp parse(<<"\e", kind, rest::binary>> = all, screen, answers) when kind in [?], ?P, ?_] do
    case Regex.run(~r/\A[^\a\e]*(\a|\e\\)/s, rest) do
      [whole, _end] -> rest |> cut(whole) |> parse(screen, answers)
      nil -> {%{screen | rest: all}, answers}
    end
  end

  defp parse(<<"\e", kind, _, rest::binary>>, screen, answers) when kind in [?(, ?), ?#],
    do: parse(rest, screen, answers)

  defp parse("\e7" <> rest, screen, answers),
    do: parse(rest, %{screen | saved: screen.at}, answers)

  defp parse("\e8" <> rest, screen, answers),
    do: parse(rest, move(screen, screen.saved), answers)

  defp parse("\eM" <> rest, screen, answers), do: parse(rest, up(screen), answers)
  defp parse("\eD" <> rest, screen, answers), do: parse(rest, down(screen), answers)
  defp parse(<<"\e", _, rest::binary>>, screen, answers), do: parse(rest, screen, answers)
  defp parse("\e", screen, answers), do: {%{screen | rest: "\e"}, answers}
  defp parse("\n" <> rest, screen, answers), do: parse(rest, down(screen), answers)

  defp parse("\r" <> rest, screen, answers),
    do: parse(rest, %{screen | at: {row(screen), 0}}, answers)

  defp parse("\b" <> rest, screen, answers),
    do: parse(rest, move(screen, {row(screen), col(screen) - 1}), answers)

  defp parse("\t" <> rest, screen, answers),
    do: parse(rest, move(screen, {row(screen), div(col(screen), 8) * 8 + 8}), answers)

  defp parse(<<control, rest::binary>>, screen, answers) when control < 32 or control == 127,
    do: parse(rest, screen, answers)

  defp parse(<<char::utf8, rest::binary>>, screen, answers),
    do: parse(rest, put(screen, <<char::utf8>>), answers)

  # Half of a character, or none.
  defp parse(bytes, screen, answers) when byte_size(bytes) < 4,
    do: {%{screen | rest: bytes}, answers}

  defp parse(<<_, rest::binary>>, screen, answers), do: parse(rest, put(screen, "?"), answers)

  defp cut(rest, whole),
    do: binary_part(rest, byte_size(whole), byte_size(rest) - byte_size(whole))

  defp numbers(args) do
    for part <- String.split(args, [";", ":"]) do
      case Integer.parse(part) do
        {n, _} -> n
        :error -> nil
      end
    end
  end

  # --- Control sequences --------------------------------------------------------------------------

  defp csi(final, [first | _] = args, screen) do
    n = max(first || 1, 1)
    {row, col} = screen.at

    case final do
      "A" -> {move(screen, {row - n, col}), ""}
      "B" -> {move(screen, {row + n, col}), ""}
      "C" -> {move(screen, {row, col + n}), ""}
      "D" -> {move(screen, {row, col - n}), ""}
      "E" -> {move(screen, {row + n, 0}), ""}
      "F" -> {move(screen, {row - n, 0}), ""}
      "G" -> {move(screen, {row, n - 1}), ""}
      "d" -> {move(screen, {n - 1, col}), ""}
      f when f in ["H", "f"] -> {move(screen, {n - 1, (Enum.at(args, 1) || 1) - 1}), ""}
      "J" -> {erase(screen, display(first || 0, screen.at)), ""}
      "K" -> {erase(screen, line(first || 0, screen.at)), ""}
      "X" -> {erase(screen, &(&1 >= {row, col} and &1 < {row, col + n})), ""}
      "L" -> {scroll(screen, row, bottom(screen), -n), ""}
      "M" -> {scroll(screen, row, bottom(screen), n), ""}
      "S" -> {scroll(screen, top(screen), bottom(screen), n), ""}
      "T" -> {scroll(screen, top(screen), bottom(screen), -n), ""}
      "P" -> {shift(screen, n), ""}
      "@" -> {shift(screen, -n), ""}
      "r" -> {region(screen, args), ""}
      "s" -> {%{screen | saved: screen.at}, ""}
      "u" -> {move(screen, screen.saved), ""}
      "n" when first == 6 -> {screen, "\e[#{row + 1};#{col + 1}R"}
      "c" -> {screen, "\e[?1;2c"}
      f when f in ["?h", "?l"] and first in [47, 1047, 1049] -> {%{screen | cells: %{}}, ""}
      _style_or_mode -> {screen, ""}
    end
  end

  defp display(0, at), do: &(&1 >= at)
  defp display(1, at), do: &(&1 <= at)
  defp display(_all, _at), do: fn _ -> true end

  defp line(0, {row, col}), do: fn {r, c} -> r == row and c >= col end
  defp line(1, {row, col}), do: fn {r, c} -> r == row and c <= col end
  defp line(_all, {row, _}), do: fn {r, _} -> r == row end

  defp erase(screen, erased?),
    do: %{screen | cells: Map.reject(screen.cells, fn {at, _} -> erased?.(at) end)}

  defp shift(%{at: {row, col}} = screen, n) do
    cells =
      for {{r, c}, char} <- screen.cells,
          r != row or c < col or n < 0 or c >= col + n,
          into: %{},
          do: {if(r == row and c >= col, do: {r, c - n}, else: {r, c}), char}

    %{screen | cells: cells}
  end

  defp region(screen, [first | rest]) do
    last = List.first(rest) || screen.rows
    %{screen | region: {max(first || 1, 1) - 1, min(last, screen.rows) - 1}, at: {0, 0}}
  end

  # --- Characters and lines -----------------------------------------------------------------------

  defp row(screen), do: elem(screen.at, 0)
  defp col(screen), do: elem(screen.at, 1)
  defp top(screen), do: elem(screen.region, 0)
  defp bottom(screen), do: elem(screen.region, 1)

  defp move(screen, {row, col}) do
    row = row |> max(0) |> min(screen.rows - 1)
    %{screen | at: {row, col |> max(0) |> min(screen.cols - 1)}}
  end

  # The cursor may stand behind the last column until the next character.
  defp put(%{at: {row, col}, cols: cols} = screen, char) when col >= cols,
    do: %{screen | at: {row, 0}} |> down() |> put(char)

  defp put(%{at: {row, col}} = screen, char),
    do: %{screen | cells: Map.put(screen.cells, {row, col}, char), at: {row, col + 1}}

  defp down(%{at: {row, col}, region: {_top, row}} = screen),
    do: %{scroll(screen, top(screen), row, 1) | at: {row, col}}

  defp down(%{at: {row, col}} = screen), do: move(screen, {row + 1, col})

  defp up(%{at: {row, _col}, region: {row, _}} = screen),
    do: scroll(screen, row, bottom(screen), -1)

  defp up(%{at: {row, col}} = screen), do: move(screen, {row - 1, col})

  # Lines go up by n, or down if n is negative, and leave the region.
  defp scroll(screen, from, to, n) do
    cells =
      for {{row, col}, char} <- screen.cells,
          inside? = row in from..to//1,
          new = if(inside?, do: row - n, else: row),
          not inside? or new in from..to//1,
          into: %{},
          do: {{new, col}, char}

    %{screen | cells: cells}
  end
end
