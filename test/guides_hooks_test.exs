defmodule Codex.GuidesHooksTest do
  # Runs the code of guides/hooks.md with the real CLI.
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  import ExUnit.CaptureIO
  alias Codex.Test

  @moduletag :codex_cli
  @moduletag capture_log: true

  @guide Path.expand("../guides/hooks.md", __DIR__)
  @blocks for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, File.read!(@guide)), do: code

  defp block!(text), do: Enum.find(@blocks, &(&1 =~ text)) || flunk("no block has #{text}")

  defp model(steps) do
    model = Test.start!(steps)
    options = Test.thread_options(model) ++ [sandbox: :danger_full_access]
    {model, client: Test.options(model), options: options}
  end

  defp thread({_model, bindings}, more \\ []) do
    {:ok, thread} = Codex.start_thread(bindings[:client], bindings[:options] ++ more)
    [thread: thread] ++ bindings
  end

  defp run!(text, bindings), do: text |> block!() |> Code.eval_string(bindings) |> elem(0)

  test "the first example refuses a deletion" do
    {model, bindings} = model([shell("rm -f a"), "Done."])
    File.write!(Path.join(model.workspace, "a"), "")
    printed = capture_io(fn -> assert run!("result.blocked", bindings) == 1 end)
    assert printed == "refused: Bash: deletions are not allowed\n"
    assert File.exists?(Path.join(model.workspace, "a"))
  end

  test "the module adds context, rewrites and goes on" do
    Code.eval_string(block!("MyApp.AgentHooks"))
    {model, _} = started = model([shell("git push origin main"), "Done.", "Again."])
    [{:thread, thread} | _] = thread(started, hooks: MyApp.AgentHooks)
    assert {:ok, %{final_response: %{text: "Again."}}} = Codex.Thread.run(thread, "go")

    shown =
      model
      |> Test.requests()
      |> List.last()
      |> inspect(limit: :infinity, printable_limit: :infinity)

    for words <- ["Today is", "pushed by the release job", "Run the tests before"],
        do: assert(shown =~ words)
  end

  test "the policy allows tests alone" do
    {model, bindings} = model([shell("touch a"), "Done."])
    {:ok, thread} = run!("only mix test", bindings)
    assert {:ok, %{blocked: 1}} = Codex.Thread.run(thread, "go")
    refute File.exists?(Path.join(model.workspace, "a"))
  end

  test "until, budget and redact" do
    assert {:ok, %{final_response: %{text: "42"}}} =
             run!("What is six times seven", thread(model(["41", "42"])))

    assert run!("Refactor everything", thread(model(["Done."]))) == "Done."

    assert %{outputs: 1} =
             run!("Show the settings", thread(model([shell("echo hunter$((1 + 1))"), "Done."])))
  end
end
