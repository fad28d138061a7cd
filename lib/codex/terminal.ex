defmodule Codex.Terminal do
  @moduledoc """
  Shows runs to people: lines for items, folded commands, diffs and usage, and a status line below
  them if the output is a terminal.

      terminal = Codex.Terminal.start()
      {:ok, thread} = Codex.start_thread()
      show = &Codex.Terminal.event(terminal, &1)
      {:ok, result} = Codex.Thread.run(thread, "Fix the failing test", on_event: show)
      Codex.Terminal.usage(terminal, result.usage)
      Codex.Terminal.stop(terminal)

  Over an app-server, messages of the agent appear as they are written. All texts are made printable
  (`Codex.Text.printable/1`): output of a model or a command cannot drive the terminal, also not with
  an escape sequence that comes in pieces. Colours and the status line appear at a terminal only.

  A process writes all lines, so that the status line does not mix with them. It is linked to the
  caller of `start/1`. If nobody reads the output any more (`… | head`), the functions exit with
  `{:shutdown, 141}`, the exit status of a program that a closed pipe ends.
  """

  alias Codex.Options.Schema
  alias Codex.Terminal.{Render, Screen, Tty}

  @schema Schema.new([
            {:status, :boolean, "whether the status line is drawn",
             shown: "whether the output is a terminal"},
            {:fold, :positive, "the most lines of a command's output and of a diff", default: 5}
          ])

  @enforce_keys [:pid, :fold]
  defstruct [:pid, :fold]

  @typedoc "A running screen: its process, and the option `fold`."
  @type t :: %__MODULE__{pid: pid(), fold: pos_integer()}

  @doc """
  Starts a screen that writes to the group leader of the caller.

  Options:

  #{Schema.docs(@schema)}

  Raises `Codex.OptionError` for invalid options.
  """
  @spec start(keyword() | map()) :: t()
  def start(opts \\ []) do
    opts = Schema.validate!(@schema, opts)
    tty = if opts.status != false, do: Tty.probe()
    width = if opts.status || (tty && tty.stdout), do: (tty && tty.columns) || 80
    %__MODULE__{pid: Screen.start(width), fold: opts.fold}
  end

  @doc "Writes a text as lines."
  @spec line(t(), String.t()) :: :ok
  def line(%__MODULE__{} = terminal, text \\ "") when is_binary(text),
    do: Screen.lines(terminal.pid, [{:plain, text}])

  @doc """
  Writes a piece of a text that goes on, cut anywhere. Its line stays open until a piece ends it, or
  other output begins. An incomplete escape sequence or character waits for the next piece.
  """
  @spec piece(t(), binary()) :: :ok
  def piece(%__MODULE__{} = terminal, piece) when is_binary(piece),
    do: Screen.piece(terminal.pid, nil, piece, "")

  @doc "Sets the text of the status line; nil removes the line."
  @spec status(t(), String.t() | nil) :: :ok
  def status(%__MODULE__{} = terminal, text) when is_binary(text) or is_nil(text),
    do: Screen.status(terminal.pid, text)

  @doc """
  Shows an event of a turn. Takes events of both transports. `prefix` is written before each line,
  for instance the number of the thread.
  """
  @spec event(t(), Codex.Events.t(), String.t()) :: :ok
  def event(terminal, event, prefix \\ "")

  def event(%__MODULE__{} = terminal, %_{} = event, prefix) when is_binary(prefix) do
    {lines, status} = Render.event(event, terminal.fold)
    lines = for {style, text} <- lines, do: {style, indent(text, prefix)}

    :ok =
      case Render.text(event) do
        {:piece, id, text} -> Screen.piece(terminal.pid, {:item, id}, text, prefix)
        {:whole, id, text} -> Screen.whole(terminal.pid, {:item, id}, text, lines, prefix)
        nil -> Screen.lines(terminal.pid, lines)
      end

    if status == :keep, do: :ok, else: Screen.status(terminal.pid, status)
  end

  defp indent(text, prefix), do: prefix <> String.replace(text, "\n", "\n" <> prefix)

  @doc "Shows an item of a turn, as `event/3` does at its end."
  @spec item(t(), Codex.Items.t()) :: :ok
  def item(%__MODULE__{} = terminal, %_{} = item),
    do: Screen.lines(terminal.pid, Render.item(item, terminal.fold))

  @doc "Shows the tokens of a turn, as the `usage` of `Codex.Turn.Result` has them."
  @spec usage(t(), map() | nil) :: :ok
  def usage(%__MODULE__{} = terminal, usage) when is_map(usage) or is_nil(usage),
    do: Screen.lines(terminal.pid, [{:dim, Render.usage(usage)}])

  @doc "Removes the status line and ends the process."
  @spec stop(t()) :: :ok
  def stop(%__MODULE__{} = terminal), do: Screen.stop(terminal.pid)
end
