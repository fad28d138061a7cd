defmodule Codex.TUI do
  @moduledoc false
  # A person in front of an interactive session: sees its screen and types. The screen answers the
  # questions of the TUI.

  import ExUnit.Assertions

  alias Codex.CLI.Session
  alias Codex.Screen

  # The TUI of a busy machine.
  @wait 60_000

  @enforce_keys [:session, :screen]
  defstruct @enforce_keys ++ [:exit]

  @doc "Starts a session of a scripted model. `how` is `:start`, or `{:resume, thread}`."
  def start!(model, opts \\ [], how \\ :start) do
    # With `remote`, the directory is the server's.
    own = if opts[:remote], do: [], else: [working_directory: model.workspace]
    opts = Keyword.merge([size: {30, 90}] ++ own, opts)

    {:ok, session} =
      case how do
        :start -> Session.start(Codex.Test.options(model), opts)
        {word, thread} -> apply(Session, word, [thread, Codex.Test.options(model), opts])
      end

    %__MODULE__{session: session, screen: Screen.new(opts[:size])}
  end

  @doc "Returns options of a model: titles of threads have an answer of their own."
  def model_options(more \\ []) do
    title = [
      contains: "Generate a concise, single-line task title",
      step: ~s({"title":"A title"})
    ]

    rules = Keyword.get(more, :rules, []) ++ [title ++ [times: :infinity]]

    [config: "check_for_update_on_startup = false\n", rules: rules] ++
      Keyword.delete(more, :rules)
  end

  @doc "Waits until the screen shows a text or fits a regex."
  def see(tui, text) do
    tui = wait(tui, &shows?(&1, text), now() + @wait)
    if shows?(tui, text), do: tui, else: flunk(missing(tui, text))
  end

  @doc "Returns whether the screen shows a text or fits a regex."
  def shows?(tui, text), do: Screen.text(tui.screen) =~ text

  defp missing(tui, text),
    do: "expected #{inspect(text)} on the screen, got:\n#{Screen.text(tui.screen)}"

  @doc "Waits for the exit of the CLI."
  def ended(%{exit: nil} = tui), do: tui |> receive_next(@wait) |> ended()
  def ended(%{exit: exit}), do: exit

  @doc "Presses Ctrl-C until the CLI exits: the first may interrupt a turn that is just ending."
  def quit(tui), do: press(tui, <<3>>, & &1.exit).exit

  @doc """
  Presses a key until the function returns true for the terminal: a dialog that has just opened
  may not take keys yet.
  """
  def press(tui, key, done?, times \\ 10) do
    tui = tui |> type(key) |> wait(done?, now() + 3_000)

    cond do
      done?.(tui) -> tui
      times > 0 -> press(tui, key, done?, times - 1)
      true -> flunk("the key #{inspect(key)} had no effect:\n#{Screen.text(tui.screen)}")
    end
  end

  defp wait(tui, done?, deadline) do
    if done?.(tui) || tui.exit != nil || now() > deadline,
      do: tui,
      else: tui |> receive_next(deadline - now()) |> wait(done?, deadline)
  end

  @doc "Types a text, waits until it stands on the screen, and presses Enter."
  def enter(tui, text), do: tui |> type(text) |> see(text) |> type("\r")

  def type(tui, keys) do
    {:ok, session} = Session.write(tui.session, keys)
    %{tui | session: session}
  end

  def resize(tui, size) do
    {:ok, session} = Session.resize(tui.session, size)
    %{tui | session: session, screen: Screen.resize(tui.screen, size)}
  end

  defp receive_next(tui, ms) do
    case Session.next(tui.session, max(ms, 0)) do
      {:ok, session, outputs} -> Enum.reduce(outputs, %{tui | session: session}, &output/2)
      :timeout -> tui
      {:error, _session, error} -> flunk("the session was lost: #{Exception.message(error)}")
    end
  end

  defp output({:exit, exit}, tui), do: %{tui | exit: exit}

  defp output({:data, bytes}, tui) do
    {screen, answers} = Screen.feed(tui.screen, bytes)
    tui = %{tui | screen: screen}

    case answers != "" && Session.write(tui.session, answers) do
      {:ok, session} -> %{tui | session: session}
      _none_or_ended -> tui
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
