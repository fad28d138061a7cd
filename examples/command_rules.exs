# Asks the rules of the Codex CLI whether an agent may run a command, without an agent.
#
#     mix run examples/command_rules.exs my.rules git push origin main
#
# `my.rules` is a file such as prefix_rule(pattern=["git", "push"], decision="prompt"). Prints the
# decision: allow, prompt, forbidden, or "no rule". Exit status: 0 for allow, 1 for all other
# decisions, 2 if there is no decision. So a test can hold the rules of a team.

defmodule CommandRules do
  def main([rules | [_ | _] = command]) do
    case Codex.CLI.execpolicy_check([rules], command) do
      {:ok, %{decision: decision}} ->
        IO.puts(decision || "no rule")
        if decision == :allow, do: 0, else: 1

      # Each error of a command has a kind, and the words of the CLI.
      {:error, error} ->
        failed("command_rules: #{error.kind}: #{error.message}")
    end
  end

  def main(_args), do: failed("usage: command_rules.exs RULES COMMAND [ARGUMENT]...")

  defp failed(text) do
    IO.puts(:stderr, text)
    2
  end
end

System.halt(CommandRules.main(System.argv()))
