defmodule Codex.GuidesSkillsTest do
  # Runs the code of `guides/skills_prompts.md`.
  use ExUnit.Case, async: true

  @moduletag :tmp_dir

  @guide File.read!(Path.expand("../guides/skills_prompts.md", __DIR__))
  @blocks for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, @guide), do: code
  @skill ~r/^```text\n(.*?)^```/ms |> Regex.run(@guide) |> List.last()

  defp write(path, text) do
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, text)
  end

  test "the code of the guide runs", %{tmp_dir: dir} do
    home = Path.join(dir, "home")
    cwd = Path.join(dir, "work")
    File.mkdir_p!(cwd)
    write(Path.join(home, "skills/release/SKILL.md"), @skill)
    write(Path.join(home, "skills/broken/SKILL.md"), "no front matter\n")
    write(Path.join(home, "prompts/review.md"), "Review $FILE for $FOCUS.")

    out =
      ExUnit.CaptureIO.capture_io(fn ->
        {_result, variables} =
          @blocks |> Enum.join("\n") |> Code.eval_string(home: home, cwd: cwd)

        send(self(), {:variables, Map.new(variables)})
      end)

    assert_received {:variables, variables}
    assert variables.text == @skill
    assert variables.prompt == "Review lib/my app.ex for errors."
    assert %{"enabled" => false, "transport" => %{"type" => "streamable_http"}} = variables.docs

    assert out =~
             "broken/SKILL.md: missing YAML frontmatter delimited by --- (missing_front_matter)"

    assert out =~ "args is not supported for streamable_http"
  end
end
