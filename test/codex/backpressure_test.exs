defmodule Codex.BackpressureTest do
  # Not async: looks at the memory of the whole VM.
  use ExUnit.Case, async: false

  import Codex.Stub, only: [thread: 2, eventually: 1]
  alias Codex.{Events, Thread}

  @moduletag :tmp_dir

  test "a reader that sleeps makes the CLI wait, and loses nothing", %{tmp_dir: dir} do
    text = String.duplicate("x", 1000)
    line = ~s({"type":"item.completed","item":{"type":"agent_message","text":"#{text}"}}\n)
    File.write!(Path.join(dir, "lines"), String.duplicate(line, 60))
    written = Path.join(dir, "written")
    File.write!(written, "0")

    body =
      "echo \"$started\"; i=0; " <>
        "while [ $i -lt 1000 ]; do cat #{dir}/lines; i=$((i+1)); echo $i > #{written}; done; " <>
        "echo \"$completed\""

    {:ok, stream} = dir |> thread(body) |> Thread.run_turn_streamed("hi")
    before = :erlang.memory(:total)

    events =
      Enum.reduce(stream, 0, fn
        %Events.ThreadStarted{}, 0 ->
          # The child writes until its pipe and the credit are full, and then stops.
          assert eventually(fn ->
                   now = File.read!(written)
                   Process.sleep(200)
                   now not in ["", "0\n"] and now == File.read!(written)
                 end)

          {count, _} = Integer.parse(File.read!(written))
          assert count in 1..20
          assert :erlang.memory(:total) - before < 8_000_000
          1

        _event, n ->
          n + 1
      end)

    assert events == 60_002
  end
end
