defmodule Codex.Terminal.Screen do
  @moduledoc false
  # The process that writes lines, and texts that come in pieces. With a width, it draws a status
  # line below them, ten times a second. The same process writes all of it, so that nothing mixes.
  #
  # A line that a piece has left open keeps the status line away; other output begins a new line.

  alias Codex.Terminal.Pieces
  alias Codex.Text

  @frames List.to_tuple(String.graphemes("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"))

  @type style :: :plain | :bold | :dim | :red
  @type line :: {style(), String.t()}

  @doc "Starts the process, linked to the caller. Without a width, no status line is drawn."
  @spec start(pos_integer() | nil) :: pid()
  def start(width) do
    state = %{width: width, status: nil, drawn?: false, since: 0, frame: 0, pieces: %Pieces{}}
    spawn_link(fn -> run(state) end)
  end

  @spec lines(pid(), [line()]) :: :ok
  def lines(_screen, []), do: :ok
  def lines(screen, lines), do: call(screen, {:lines, lines})

  @doc "Writes a piece of a text; `prefix` begins each of its lines."
  @spec piece(pid(), term(), binary(), String.t()) :: :ok
  def piece(screen, key, bytes, prefix), do: call(screen, {:piece, key, bytes, prefix})

  @doc "Ends a text, which is known now: the lines, if no piece of it came, else the missing rest."
  @spec whole(pid(), term(), binary(), [line()], String.t()) :: :ok
  def whole(screen, key, text, lines, prefix),
    do: call(screen, {:whole, key, text, lines, prefix})

  @spec status(pid(), String.t() | nil) :: :ok
  def status(screen, text), do: call(screen, {:status, text})

  @spec stop(pid()) :: :ok
  def stop(screen), do: call(screen, :stop)

  # Callers wait: a turn goes no faster than its lines are read.
  defp call(screen, request) do
    ref = Process.monitor(screen)
    send(screen, {request, self(), ref})

    receive do
      ^ref ->
        Process.demonitor(ref, [:flush])
        :ok

      {:DOWN, ^ref, _, _, _closed} ->
        exit({:shutdown, 141})
    end
  end

  # The reader of the output may have ended.
  defp run(state) do
    loop(state)
  rescue
    _closed in ErlangError -> :ok
  end

  defp loop(state) do
    wait = if state.width && state.status, do: 100, else: :infinity

    receive do
      {:stop, from, ref} ->
        _ = state |> clear() |> write(Pieces.finish(state.pieces))
        send(from, ref)

      {request, from, ref} ->
        state = state |> clear() |> take(request) |> draw()
        send(from, ref)
        loop(state)
    after
      wait ->
        frame = rem(state.frame + 1, tuple_size(@frames))
        loop(draw(clear(%{state | frame: frame})))
    end
  end

  defp take(state, {:lines, lines}) do
    state = write(state, Pieces.break(state.pieces))
    IO.write(for {style, text} <- lines, do: [styled(style, text, state.width != nil), "\n"])
    state
  end

  defp take(state, {:piece, key, bytes, prefix}),
    do: write(state, Pieces.add(state.pieces, key, bytes, prefix))

  defp take(state, {:whole, key, text, lines, prefix}) do
    case Pieces.complete(state.pieces, key, text, prefix) do
      :unknown -> take(state, {:lines, lines})
      written -> write(state, written)
    end
  end

  defp take(%{status: text} = state, {:status, text}), do: state
  defp take(state, {:status, text}), do: %{state | status: text, since: now()}

  defp write(state, {output, pieces}) do
    if output != "", do: IO.write(output)
    %{state | pieces: pieces}
  end

  defp styled(style, text, colours?) do
    text = Text.printable(text)

    if style == :plain or not colours?,
      do: text,
      else: IO.ANSI.format_fragment([code(style), text, :reset], true)
  end

  defp code(:bold), do: :bright
  defp code(:dim), do: :faint
  defp code(:red), do: :red

  defp clear(%{drawn?: false} = state), do: state

  defp clear(state) do
    IO.write("\r\e[2K")
    %{state | drawn?: false}
  end

  defp draw(%{width: width, status: status} = state) when width == nil or status == nil, do: state

  defp draw(state) do
    if Pieces.open?(state.pieces) do
      state
    else
      seconds = :erlang.float_to_binary((now() - state.since) / 1000, decimals: 1)
      text = Text.line("#{elem(@frames, state.frame)} #{state.status} · #{seconds} s")
      # A line that wraps cannot be cleared.
      IO.write(String.slice(text, 0, max(columns(state.width) - 1, 1)))
      %{state | drawn?: true}
    end
  end

  defp columns(width) do
    case :io.columns() do
      {:ok, columns} -> columns
      {:error, _unknown} -> width
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
