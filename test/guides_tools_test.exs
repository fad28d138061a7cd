defmodule Codex.GuidesToolsTest do
  # Runs the code of `guides/tools.md` with the real CLI and a scripted model. Not async: the guide
  # registers a tool.
  use ExUnit.Case, async: false

  import Codex.Test.Steps

  @moduletag :codex_cli

  @guide File.read!(Path.expand("../guides/tools.md", __DIR__))
  @blocks for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, @guide), do: code

  test "the code of the guide runs" do
    Codex.Tools.reset_metrics()

    model =
      Codex.Test.start!([
        tool_call("order_status", %{number: "17"}),
        "It is sent.",
        tool_call("order_status", %{number: "17"}, namespace: "mcp__host"),
        "It is lost.",
        tool_call("file_search", %{pattern: "**/*.md", content: "licen[cs]e"}),
        tool_call("shell", %{command: ["rm", "-r", "."]}),
        "One file."
      ])

    File.write!(Path.join(model.workspace, "notes.md"), "The licence is MIT.\n")
    File.write!(Path.join(model.workspace, "other.md"), "Nothing.\n")

    code =
      @blocks
      |> Enum.join("\n")
      |> String.replace("connect([], ", "connect(client, [cwd: workspace] ++ ")
      |> String.replace("++ experimental_api: true", "++ [experimental_api: true]")
      |> String.replace("start_thread([], transport", "start_thread(client, transport")
      |> String.replace("start_thread([],\n    transport", "start_thread(client,\n    transport")
      |> String.replace(
        "start_thread([],\n    tools",
        "start_thread(client,\n    working_directory: workspace, skip_git_repo_check: true, tools"
      )

    out =
      ExUnit.CaptureIO.capture_io(fn ->
        {_result, variables} =
          Code.eval_string(code, client: Codex.Test.options(model), workspace: model.workspace)

        Codex.AppServer.disconnect(variables[:conn])
      end)

    assert out =~ "It is sent.\n"
    assert out =~ "It is lost.\n"
    assert out =~ ~s(cannot be named "view_image": the CLI has a tool of this name)
    assert out =~ "One file.\n"

    assert [_, told, _, told_by_exec, _, found, denied] =
             for(r <- Codex.Test.requests(model), do: output(r))

    assert Codex.JSON.decode(told) == {:ok, %{"number" => "17", "status" => "sent"}}
    assert told_by_exec =~ ~s("status":"lost")
    assert {:ok, %{"files" => [%{"path" => "notes.md"}]}} = Codex.JSON.decode(found)
    assert denied =~ "denied"
    assert File.exists?(Path.join(model.workspace, "notes.md"))
  end

  defp output(%{body: %{"input" => input}}) do
    case List.last(input) do
      # The CLI puts the time before the output of an MCP server.
      %{"type" => "function_call_output", "output" => [_ | _] = items} -> List.last(items)["text"]
      %{"type" => "function_call_output", "output" => text} -> text
      _other -> nil
    end
  end
end
