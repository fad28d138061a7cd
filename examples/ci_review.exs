# A gate for CI that reviews changes.
#
#     mix run examples/ci_review.exs                 # the uncommitted changes
#     mix run examples/ci_review.exs --base main     # the commits since the branch main
#     mix run examples/ci_review.exs --base main --seconds 1200 --attempts 5
#
# Reviews the repository in the current directory, with the login of the Codex CLI; in CI, set
# CODEX_API_KEY (guides/auth.md). An application that depends on codex_sdk runs
#
#     mix run deps/codex_sdk/examples/ci_review.exs --base main
#
# Exit status: 0 if the verdict is "correct" without urgent findings, 1 if a finding is urgent (P0,
# P1 or without a priority) or the verdict differs, 2 if there is no readable review.

defmodule CIReview do
  @flags [base: :string, seconds: :integer, attempts: :integer]

  def main(args) do
    case OptionParser.parse(args, strict: @flags) do
      {options, [], []} ->
        options |> review() |> report()

      _wrong ->
        IO.puts(:stderr, "usage: ci_review.exs [--base BRANCH] [--seconds N] [--attempts N]")
        2
    end
  end

  defp review(options) do
    target = if branch = options[:base], do: {:base_branch, branch}, else: :uncommitted_changes

    turn = [
      total_timeout_ms: :timer.seconds(options[:seconds] || 600),
      retry_opts: [max_attempts: options[:attempts] || 3, on_retry: &announce/2]
    ]

    with {:ok, thread} <- Codex.start_thread([], sandbox: :read_only),
         do: Codex.Thread.review(thread, target, turn)
  end

  defp announce(attempt, reason),
    do: IO.puts(:stderr, "attempt #{attempt} failed: #{message(reason)}")

  defp report({:ok, %{review: review}}) do
    for finding <- review.findings do
      # With "- ", a path cannot look like a command of GitHub Actions.
      IO.puts("- #{finding}")
      if System.get_env("GITHUB_ACTIONS") == "true", do: IO.puts(annotation(finding))
    end

    urgent = Enum.count(review.findings, &urgent?/1)
    verdict = review.correctness || "missing"
    IO.puts("#{length(review.findings)} findings, #{urgent} urgent; verdict: #{verdict}")
    if urgent == 0 and review.correctness == :correct, do: 0, else: 1
  end

  defp report({:error, reason}) do
    IO.puts(:stderr, "no review: #{message(reason)}")
    2
  end

  defp message(reason), do: Codex.Error.normalize(reason).message

  # A finding without a priority may be urgent.
  defp urgent?(finding), do: finding.priority not in [2, 3]

  defp annotation(finding) do
    level = if urgent?(finding), do: "error", else: "warning"
    place = finding.location || %{path: nil, start_line: nil, end_line: nil}
    path = place.path && Path.relative_to_cwd(place.path)

    properties =
      for {name, value} <- [
            file: path,
            line: place.start_line,
            endLine: place.end_line,
            title: finding.title
          ],
          value != nil,
          do: "#{name}=#{property(to_string(value))}"

    "::#{level} #{Enum.join(properties, ",")}::#{text(finding.body || finding.title || "")}"
  end

  defp property(value) do
    value |> text() |> String.replace(":", "%3A") |> String.replace(",", "%2C")
  end

  defp text(value) do
    value
    |> Codex.Text.printable()
    |> String.replace("%", "%25")
    |> String.replace("\n", "%0A")
  end
end

System.halt(CIReview.main(System.argv()))
