defmodule Codex.GuidesCheatsheetTest do
  # Runs the code of guides/cheatsheet.cheatmd and guides/coming_from.md with the real CLI.
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  alias Codex.Test

  @moduletag :codex_cli

  @guides Path.expand("../guides", __DIR__)
  # One pixel.
  @png "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk" <>
         "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

  defp blocks(name) do
    text = File.read!(Path.join(@guides, name))
    for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, text), do: code
  end

  test "the code of the cheatsheet runs from its beginning to its end" do
    named = [contains: "Name it", step: json(%{title: "Shop", tags: ["web"]})]
    model = Test.start!([], rules: [named], default: "A shop.", git: true)
    image = Path.join(model.workspace, "a.png")
    File.write!(image, Base.decode64!(@png))

    bindings = [
      client: Test.options(model),
      options: Test.thread_options(model),
      home: model.home,
      image: image
    ]

    code = "cheatsheet.cheatmd" |> blocks() |> Enum.join("\n")

    printed =
      ExUnit.CaptureIO.capture_io(fn ->
        {restored, variables} = Code.eval_string(code, bindings)
        send(self(), {:ran, restored, variables})
      end)

    assert printed =~ "A shop.\nagent_message\n"
    assert_received {:ran, [], variables}
    assert variables[:title] == "Shop"
    assert Enum.any?(variables[:page].sessions, &(&1.id == variables[:id]))
  end

  # Runs a block with the scripted model in place of the user's CLI.
  defp coming_from(text, model, from, to) do
    code = Enum.find(blocks("coming_from.md"), &(&1 =~ text)) || flunk("no block has #{text}")
    assert code =~ from
    bindings = [client: Test.options(model), thread_options: Test.thread_options(model)]

    ExUnit.CaptureIO.capture_io(fn ->
      code |> String.replace(from, to) |> Code.eval_string(bindings)
    end)
  end

  test "the code beside that of other SDKs runs" do
    given = "start_thread([], options)"
    to = "start_thread(client, thread_options ++ Keyword.delete(options, :working_directory))"
    assert coming_from("CodexWrapper", Test.start!(["Done."]), given, to) == "Done.\n"

    model = Test.start!([json(%{summary: "Short."})])
    to = "start_thread(client, [sandbox: :read_only] ++ thread_options)"
    assert coming_from("JSON.parse", model, "start_thread([], sandbox: :read_only)", to) == ""

    model = Test.start!(["Hello."])
    assert coming_from("with Codex", model, "connect()", "connect(client)") == "Hello.\n"
  end
end
