defmodule Mix.Tasks.Codex.ChatTest do
  # The task runs as a process of the operating system, with the real CLI and a scripted model.
  use ExUnit.Case, async: true

  import Codex.PseudoTerminal, only: [env: 1, mix: 3, open: 2, quoted: 1, type: 2]
  import Codex.Test.Steps
  alias Codex.{PseudoTerminal, Test}

  @moduletag :codex_cli
  @moduletag :tmp_dir

  defp chat(model, more) do
    args = ["codex.chat", "--cwd", model.workspace | more]
    pty = open("mix #{Enum.map_join(args, " ", &quoted/1)}; echo status=$?", env(model))
    {_out, pty} = PseudoTerminal.await(pty, ~r/answer a question\]/)
    pty
  end

  defp await(pty, pattern), do: PseudoTerminal.await(pty, pattern)

  defp asking(cmd), do: shell(cmd, sandbox_permissions: "require_escalated", justification: "why")

  test "asks before commands, and keeps threads apart" do
    model =
      Test.start!([asking("touch made"), "Not made.", asking("touch made"), "Made."], git: true)

    pty = chat(model, ["--sandbox", "read-only", "--ask-for-approval", "on-request"])
    {_, pty} = pty |> type("Make it\n") |> await(~r/\[may I\? .*touch made.* \(why\) y\/a\/n\]/)
    {_, pty} = pty |> type("n\n") |> await(~r/Not made\.\r\n.* out/s)
    refute File.exists?(Path.join(model.workspace, "made"))

    {_, pty} = pty |> type("/new\n") |> await(~r/\[thread 2\]/)
    {_, pty} = pty |> type("Make it now\n") |> await(~r/\[2: may I\? .*touch made/)
    {_, pty} = pty |> type("y\n") |> await(~r/\[2\] Made\..* out/s)
    assert File.exists?(Path.join(model.workspace, "made"))

    {_, pty} = pty |> type("/threads\n") |> await(~r/\[1 [-0-9a-f]+ \].*\[2 [-0-9a-f]+ current/s)
    assert pty |> type("/quit\n") |> PseudoTerminal.finish() =~ "status=0"
    %{body: %{"input" => input}} = List.last(Test.requests(model))
    refute inspect(input) =~ "Not made."
  end

  test "steers a running turn; Ctrl-C stops it, and ends a chat that is idle" do
    model = Test.start!([shell("sleep 3"), "Both.", silence(:infinity)], git: true)
    pty = chat(model, ["--sandbox", "danger-full-access"])
    pty = type(pty, "First\n")
    {:ok, _request} = Test.await_request(model, 60_000)
    {_, pty} = pty |> type("And second\n") |> await(~r/\[added to the turn\]/)
    {_, pty} = await(pty, ~r/Both\.\r\n.* out/s)
    {:ok, %{body: %{"input" => input}}} = Test.await_request(model, 60_000)
    assert inspect(input) =~ "And second"

    pty = type(pty, "Wait\n")
    {:ok, _request} = Test.await_request(model, 60_000)
    {_, pty} = pty |> type(<<3>>) |> await(~r/\[stopped\]/)
    assert pty |> type(<<3>>) |> PseudoTerminal.finish() =~ "status=0"
  end

  test "shows an answer while it is written, without its escapes" do
    pieces = ["Gr", "een\e", "[2J li", "ght\e]0;ti", "tle\a."]
    answer = message(Enum.join(pieces), deltas: pieces, delta_delay_ms: 700)
    model = Test.start!([answer], git: true)
    pty = chat(model, [])
    # The answer is not complete yet: it ends with a line.
    {out, pty} = pty |> type("Hello\n") |> await(~r/Green li/)
    refute out =~ "light"
    {more, pty} = await(pty, ~r/ght\.\r\n.* out\r\n/s)
    out = out <> more <> (pty |> type("/quit\n") |> PseudoTerminal.finish())
    assert out =~ "status=0"
    refute out =~ "\e[2J"
    refute out =~ "title"
    # The answer is there once.
    assert [_, _] = String.split(out, "Green light.\r\n")
  end

  test "takes lines from a pipe, and ends after the last turn", %{tmp_dir: dir} do
    model = Test.start!(["Hi \e[2Jthere."], git: true)
    args = ["codex.chat", "--cwd", model.workspace]
    assert {out, 0} = mix(args, env(model), input: "Hello\n")
    assert out =~ "Hi there.\n"
    refute out =~ "\e"

    stderr = Path.join(dir, "stderr")
    assert {_, 2} = mix(args ++ ["--ephemeral", "word"], env(model), input: "", stderr: stderr)
    assert File.read!(stderr) =~ "usage: mix codex.chat"
  end
end
