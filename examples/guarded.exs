# An agent with limits: hooks refuse commands and protect files, and a budget stops the run.
#
#     mix run examples/guarded.exs "Tidy up this folder"
#     mix run examples/guarded.exs "Tidy up this folder" --tokens 50000
#
# The agent may change files of the current directory, except those named .env. It may not delete
# anything. Uses the login of the Codex CLI. Exit status: 0 with an answer, 1 if the turn failed,
# 2 for wrong arguments, 3 if the budget was used up.

defmodule Guards do
  use Codex.Hooks

  # Runs before each call of a tool. A hook that crashes refuses the call.
  @impl true
  def pre_tool_use(%{tool_name: "Bash", tool_input: %{"command" => command}}) do
    cond do
      command =~ ~r/\b(rm|rmdir|unlink)\b/ -> {:deny, "deletions are not allowed"}
      command =~ ".env" -> {:deny, "the secrets of .env are not for agents"}
      true -> :allow
    end
  end

  def pre_tool_use(%{tool_name: "apply_patch", tool_input: %{"command" => patch}}) do
    if patch =~ ~r/^\*\*\* (Delete File|.* File: .*\.env$)/m,
      do: {:deny, "this file stays as it is"},
      else: :allow
  end

  def pre_tool_use(_event), do: :allow
end

defmodule Guarded do
  alias Codex.{Events, Items}

  def main(args) do
    case OptionParser.parse(args, strict: [tokens: :integer]) do
      {options, [prompt], []} -> run(prompt, options[:tokens] || 200_000)
      _wrong -> failed(~s(usage: guarded.exs "PROMPT" [--tokens N]), 2)
    end
  end

  defp run(prompt, tokens) do
    options = [
      sandbox: :workspace_write,
      skip_git_repo_check: true,
      hooks: Guards,
      budget: [tokens: tokens]
    ]

    with {:ok, thread} <- Codex.start_thread([], options),
         {:ok, result} <- Codex.Thread.run(thread, prompt, on_event: &show/1) do
      IO.puts(Codex.Text.printable(to_string(result)))
      IO.puts("#{result.blocked} calls refused")
      0
    else
      {:error, reason} ->
        error = Codex.Error.normalize(reason)
        failed("guarded: #{error.message}", if(error.kind == :budget, do: 3, else: 1))
    end
  end

  defp show(%Events.ItemCompleted{item: %Items.HookBlocked{} = item}),
    do: IO.puts(Codex.Text.line("[refused #{item.tool}: #{item.reason}]"))

  defp show(_event), do: :ok

  defp failed(text, status) do
    IO.puts(:stderr, text)
    status
  end
end

System.halt(Guarded.main(System.argv()))
