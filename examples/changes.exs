# Lists the file changes of a recorded thread, makes them in another directory, or takes them back.
#
#     mix run examples/changes.exs ID               # the changed files of each turn
#     mix run examples/changes.exs ID --to DIR      # makes the same changes in another work tree
#     mix run examples/changes.exs ID --undo        # takes them back where they were made
#
# ID is the id of a thread or the beginning of it; examples/sessions.exs lists the ids. All is
# checked before anything is written. Exit status: 0, 1 if nothing was changed because of a failure,
# or 2 for wrong arguments.

defmodule Changes do
  alias Codex.{Events, Items, Sessions}

  def main(args) do
    case OptionParser.parse(args, strict: [to: :string, undo: :boolean]) do
      {[], [id], []} -> found(id, &list/1)
      {[to: dir], [id], []} -> found(id, &apply_to(&1, dir))
      {[undo: true], [id], []} -> found(id, &undo/1)
      _wrong -> failed("usage: changes.exs ID [--to DIR | --undo]", 2)
    end
  end

  defp found(id, fun) do
    with {:ok, session} <- Sessions.find(id), :ok <- fun.(session) do
      0
    else
      {:error, reason} -> failed("changes: #{Codex.Error.normalize(reason).message}", 1)
    end
  end

  defp list(session) do
    with {:ok, transcript} <- Sessions.read(session) do
      for turn <- transcript.turns do
        IO.puts("> #{Codex.Text.line(turn.prompt || "")}")

        for %Items.FileChange{changes: changes} <- Sessions.Turn.items(turn),
            change <- changes,
            do: IO.puts(Codex.Text.line("#{change.kind} #{change.path}"))
      end

      :ok
    end
  end

  # The changes of all turns are one patch: either all of it fits or nothing is written.
  defp apply_to(session, dir) do
    with {:ok, transcript} <- Sessions.read(session),
         events =
           for(turn <- transcript.turns, %Events.ItemCompleted{} = e <- turn.events, do: e),
         {:ok, applied} <- Sessions.apply(events, from: session.cwd, cwd: dir) do
      for path <- Enum.uniq(applied.paths), do: IO.puts("changed #{Codex.Text.line(path)}")
      :ok
    end
  end

  defp undo(session) do
    with {:ok, transcript} <- Sessions.read(session),
         {:ok, done} <- Sessions.undo(transcript.turns, cwd: session.cwd) do
      for path <- done.restored, do: IO.puts("restored #{Codex.Text.line(path)}")
      for path <- done.removed_paths, do: IO.puts("removed #{Codex.Text.line(path)}")

      # Nothing can take back the effects of commands.
      for %Items.CommandExecution{command: command} <- done.not_undone,
          do: IO.puts("not undone: #{Codex.Text.line(command)}")

      :ok
    end
  end

  defp failed(text, status) do
    IO.puts(:stderr, text)
    status
  end
end

System.halt(Changes.main(System.argv()))
