defmodule Codex.Sessions.ExportTest do
  use ExUnit.Case, async: true

  alias Codex.{Events, Items, JSON}
  alias Codex.Sessions.{Export, Session, Turn}
  alias Codex.Test.Chromium

  @hostile "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">" <>
             "</pre></style> ```` ' \" & \e[31mred\e[0m \u202Eabc"

  defp usage(input, cached, output) do
    %{"input_tokens" => input, "cached_input_tokens" => cached, "output_tokens" => output}
  end

  defp turns do
    items = [
      %Items.UserMessage{
        id: "1",
        content: [
          %{"type" => "text", "text" => "Mend the parser. " <> @hostile},
          %{"type" => "image", "url" => "data:image/png;base64,iVBORw0KGgo="},
          %{"type" => "localImage", "path" => "/tmp/pic.png"}
        ]
      },
      %Items.Reasoning{id: "2", text: "Thinking. " <> @hostile},
      %Items.Reasoning{id: "2", text: ""},
      %Items.CommandExecution{
        id: "3",
        command: "cat <<'EOF'\n#{@hostile}\nEOF",
        aggregated_output: String.duplicate("x", 3_000) <> @hostile,
        exit_code: 2,
        status: :failed,
        duration_ms: 5_321
      },
      %Items.FileChange{
        id: "4",
        status: :completed,
        changes: [
          %{
            path: "/srv/a_#{@hostile}",
            kind: :update,
            move_path: nil,
            diff: "@@ -1 +1 @@\n-old\n+#{@hostile}\n"
          },
          %{path: "/srv/new", kind: :add, move_path: nil, diff: "first\nsecond\n"}
        ]
      },
      %Items.McpToolCall{
        id: "5",
        server: "s",
        tool: "t",
        arguments: %{"a" => @hostile},
        result: %{"b" => 1},
        status: :completed
      },
      %Items.WebSearch{id: "6", query: @hostile},
      %Items.TodoList{id: "7", items: [%{text: "needle", completed: true}]},
      %Items.Error{id: "8", message: @hostile},
      %Items.Unknown{id: "9", type: "sorcery", raw: %{"type" => "sorcery", "x" => @hostile}},
      %Items.AgentMessage{id: "10", text: "Done. " <> @hostile, phase: "final_answer"}
    ]

    first = %Turn{
      id: "t1",
      status: :completed,
      model: "gpt-6",
      started: "2026-11-26T20:03:21.848Z",
      usage: usage(12_345, 9_000, 800),
      events: for(item <- items, do: %Events.ItemCompleted{item: item})
    }

    [first, %{first | id: "t2", status: :interrupted, reverted: true, usage: nil, events: []}]
  end

  defp session do
    %Session{
      id: "01a21974-9a2c-7ee2-99c0-c701c4970c46",
      title: @hostile,
      cwd: "/srv/" <> @hostile,
      models: ["gpt-6"],
      started: "2026-11-26T20:03:21.848Z",
      usage: usage(12_345, 9_000, 800)
    }
  end

  defp export(format, most \\ 65_536) do
    format
    |> Export.stream(session(), turns(), most)
    |> Enum.to_list()
    |> IO.iodata_to_binary()
  end

  describe "html" do
    test "has all texts, escaped, and nothing that loads" do
      html = export(:html)
      assert html =~ "Mend the parser. &lt;script&gt;"
      assert html =~ "12,345 in (9,000 cached), 800 out"
      assert html =~ "2026-11-26 20:03:21 UTC"
      assert html =~ ~s(<span class="add">+second\n</span>)
      assert html =~ "Turn 1: 9,000 cached, 3,345 input, 800 output"
      # The only script is that of the page.
      assert length(String.split(html, "<script")) == 2
      refute html =~ "<img src=x"
      refute html =~ "\e"
      refute html =~ "\u202E"
      refute html =~ ~r/(src|href)="(?!data:image\/|#)/
    end

    test "long texts are cut, with the number of bytes that are left out" do
      assert export(:html, 1_000) =~ ~r/x{1000}\n… 2,\d{3} more bytes/
    end

    @tag :chromium
    @tag :tmp_dir
    test "runs in a browser: its search works, and texts run nothing", %{tmp_dir: dir} do
      file = Path.join(dir, "session.html")
      File.write!(file, export(:html))

      dom = Chromium.dom!(file)
      assert dom =~ "<title>&lt;script&gt;"
      refute dom =~ "<title>owned"
      assert dom =~ ~s(<div class="search">)
      assert hidden(dom) == 0

      found = Chromium.dom!(file <> "#search=NEEDLE")
      assert found =~ ~s(<output class="muted">1 of 10</output>)
      assert hidden(found) == 9 + 1
      # Text inside a folded entry opens it.
      assert Chromium.dom!(file <> "#search=second") =~ ~r/<details open="">.*\+second/s
    end

    @tag :chromium
    @tag :tmp_dir
    test "fits a phone, in light and dark", %{tmp_dir: dir} do
      file = Path.join(dir, "session.html")
      File.write!(file, export(:html))
      light = Chromium.pixels!(file, dir, size: {390, 800})
      dark = Chromium.pixels!(file, dir, size: {390, 800}, dark: true)
      assert light.corner > 200 and dark.corner < 60
    end
  end

  defp hidden(dom), do: length(Regex.scan(~r/<(?:div|section) class="[^"]*"[^>]* hidden=""/, dom))

  test "markdown keeps data in fences that it cannot end" do
    text = export(:markdown)
    assert text =~ "# \\<script\\>document.title='owned'"
    assert text =~ "> Mend the parser. "
    assert text =~ "`````\ncat <<'EOF'\n"
    assert text =~ "interrupted, reverted"
    assert text =~ "### Plan\n\n> - [x] needle\n"
    refute text =~ "\e"
  end

  test "json is whole, with the names of structs" do
    {:ok, data} = export(:json) |> JSON.decode()
    assert data["title"] == @hostile
    assert data["parent"] == nil and data["archived"] == false
    assert [%{"id" => "t1", "status" => "completed", "items" => items}, second] = data["turns"]
    assert second["reverted"] == true
    assert length(items) == 11
    assert Enum.at(items, 3)["aggregated_output"] =~ @hostile

    assert {:ok, empty} =
             JSON.decode(
               IO.iodata_to_binary(Enum.to_list(Export.stream(:json, session(), [], 1)))
             )

    assert empty["turns"] == []
  end
end
