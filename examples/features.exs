# Lists the features of the Codex CLI, and runs a turn with some of them on or off.
#
#     mix run examples/features.exs
#     mix run examples/features.exs --disable goals
#     mix run examples/features.exs --disable goals "What does this project do?"
#
# Without a prompt, prints each feature with its stage and state. The flags hold for one command or
# turn, and change no file; Codex.CLI.features_enable/2 and features_disable/2 change the
# configuration. Uses the login of the Codex CLI. Exit status: 0, 1 for a failure, 2 for wrong
# arguments.

defmodule Features do
  def main(args) do
    case OptionParser.parse(args, strict: [enable: :keep, disable: :keep]) do
      {options, [], []} -> list(toggles(options))
      {options, [prompt], []} -> run(prompt, toggles(options))
      _wrong -> failed(~s(usage: features.exs [--enable NAME] [--disable NAME] ["PROMPT"]), 2)
    end
  end

  defp toggles(options) do
    for name <- [:enable, :disable],
        values = Keyword.get_values(options, name),
        values != [],
        do: {name, values}
  end

  defp list(toggles) do
    case Codex.CLI.features_list(toggles) do
      {:ok, features} ->
        for feature <- features,
            do: IO.puts("#{feature.name}  #{feature.stage}  #{state(feature.enabled)}")

        0

      {:error, error} ->
        failed("features: #{error.message}", 1)
    end
  end

  defp state(enabled), do: if(enabled, do: "on", else: "off")

  defp run(prompt, toggles) do
    options = [sandbox: :read_only, skip_git_repo_check: true] ++ toggles

    with {:ok, thread} <- Codex.start_thread([], options),
         {:ok, result} <- Codex.Thread.run(thread, prompt) do
      IO.puts(Codex.Text.printable(to_string(result)))
      0
    else
      {:error, reason} -> failed("features: #{Codex.Error.normalize(reason).message}", 1)
    end
  end

  defp failed(text, status) do
    IO.puts(:stderr, text)
    status
  end
end

System.halt(Features.main(System.argv()))
