defmodule Codex.Terminal.Screen do
  @moduledoc false
  # The process that writes lines. With a width, it draws a status line below them, ten times a
  # second. The same process writes both, so that they do not mix.

  @frames List.to_tuple(String.graphemes("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"))

  @type style :: :plain | :bold | :dim | :red

  @doc "Starts the process, linked to the caller. Without a width, no status line is drawn."
  @spec start(pos_integer() | nil) :: pid()
  def start(width),
    do: spawn_link(fn -> run(%{width: width, status: nil, since: 0, frame: 0}) end)

  @spec lines(pid(), [{style(), String.t()}]) :: :ok
  def lines(_screen, []), do: :ok
  def lines(screen, lines), do: call(screen, {:lines, lines})

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
        _ = clear(state)
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
    colours? = state.width != nil
    IO.write(for {style, text} <- lines, do: [styled(style, text, colours?), "\n"])
    state
  end

  defp take(%{status: text} = state, {:status, text}), do: state
  defp take(state, {:status, text}), do: %{state | status: text, since: now()}

  defp styled(style, text, colours?) do
    text = Codex.Text.printable(text)

    if style == :plain or not colours?,
      do: text,
      else: IO.ANSI.format_fragment([code(style), text, :reset], true)
  end

  defp code(:bold), do: :bright
  defp code(:dim), do: :faint
  defp code(:red), do: :red

  defp clear(%{width: nil} = state), do: state

  defp clear(state) do
    if state.status, do: IO.write("\r\e[2K")
    state
  end

  defp draw(%{width: width, status: status} = state) when width == nil or status == nil, do: state

  defp draw(state) do
    seconds = :erlang.float_to_binary((now() - state.since) / 1000, decimals: 1)
    text = Codex.Text.line("#{elem(@frames, state.frame)} #{state.status} · #{seconds} s")
    # A line that wraps cannot be cleared.
    IO.write(String.slice(text, 0, max(columns(state.width) - 1, 1)))
    state
  end

  defp columns(width) do
    case :io.columns() do
      {:ok, columns} -> columns
      {:error, _unknown} -> width
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
