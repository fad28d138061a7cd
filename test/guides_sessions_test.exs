defmodule Codex.GuidesSessionsTest do
  # Runs the code of `guides/sessions.md` on a recorded home.
  use ExUnit.Case, async: true

  @moduletag :tmp_dir

  @guide File.read!(Path.expand("../guides/sessions.md", __DIR__))
  @blocks for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, @guide), do: code

  test "the code of the guide runs", %{tmp_dir: folder} do
    home = Codex.SessionStores.unpack!(folder, "0.171.0/tools")
    code = Enum.join(@blocks, "\n")

    out =
      ExUnit.CaptureIO.capture_io(fn ->
        {{:ok, page}, variables} = Code.eval_string(code, home: home)
        assert [_session] = page.sessions
        File.rm!(variables[:index])
        send(self(), {:usage, variables[:usage]})
      end)

    assert_received {:usage, %{usage: %{"input_tokens" => 3222}}}
    assert out =~ "completed: please do the work"
    assert out =~ "echo one; echo two' (0)"
  end
end
