defmodule Mix.Tasks.Codex.ExecTest do
  # The tasks run as processes of the operating system, with the real CLI and a scripted model.
  use ExUnit.Case, async: true

  import Codex.PseudoTerminal, only: [env: 1, mix: 2, mix: 3, open: 2, quoted: 1, type: 2]
  import Codex.Test.Steps
  alias Codex.{PseudoTerminal, Stub, Test}

  @moduletag :codex_cli
  @moduletag :tmp_dir

  defp args(model, more),
    do: ["codex.exec" | more] ++ ["--skip-git-repo-check", "--cwd", model.workspace]

  defp line(model, more), do: "mix " <> Enum.map_join(args(model, more), " ", &quoted/1)

  @states "; echo status=$?; stty -a | tr ';' '\\n' | grep 'intr ='"

  test "prints the answer alone, without escapes of the terminal, if stdout is no terminal" do
    model = Test.start!([shell("echo out"), "\e]0;title\aThe \e[31manswer\e[0m."])
    assert {"The answer.\n", 0} = mix(args(model, ["Hello"]), env(model))

    Test.push(model, "From stdin.")
    assert {"From stdin.\n", 0} = mix(args(model, ["-"]), env(model), input: "a prompt")
    %{body: %{"input" => input}} = List.last(Test.requests(model))
    assert [%{"text" => "a prompt"}] = List.last(input)["content"]
  end

  test "prints events as JSON, continues a thread, and passes options on", %{tmp_dir: dir} do
    model = Test.start!([message("One\u202E."), json(%{n: 2})])
    assert {out, 0} = mix(args(model, ["Hello", "--json"]), env(model))

    events =
      for line <- String.split(out, "\n", trim: true) do
        {:ok, event} = Codex.JSON.decode(line)
        event
      end

    assert [%{"type" => "thread.started", "thread_id" => id} | _] = events
    assert %{"item" => %{"text" => "One\u202E."}} = Enum.find(events, & &1["item"])
    # The characters are data, but not raw.
    refute out =~ "\u202E"
    assert List.last(events)["type"] == "turn.completed"

    file = Path.join(dir, "schema.json")

    number = %{type: "object", properties: %{n: %{type: "integer"}}, required: ["n"]}
    File.write!(file, Codex.JSON.encode!(Map.put(number, :additionalProperties, false)))

    tee = Path.join(dir, "tee")
    more = ["More", "--resume", id, "--output-schema", file, "--reasoning-effort", "low"]
    more = more ++ ["--tee", tee]
    assert {~s({"n":2}\n), 0} = mix(args(model, more), env(model))
    %{body: body} = List.last(Test.requests(model))
    assert inspect(body["input"]) =~ "Hello"
    assert [_run] = File.ls!(tee)
    assert body["reasoning"]["effort"] == "low"
    assert body["text"]["format"]["type"] == "json_schema"
  end

  test "stops the turn if nobody reads stdout any more" do
    # The commands of the turn would run on.
    model = Test.start!([shell("echo one"), shell("echo two"), shell("sleep 61"), "End."])
    first = line(model, ["Hello", "--json"]) <> " | head -n 1; echo status=${PIPESTATUS[0]}"
    assert {out, 0} = System.cmd("bash", ["-c", first], env: env(model), cd: File.cwd!())
    assert [~s({) <> _, "status=141"] = String.split(out, "\n", trim: true)
    assert Stub.eventually(fn -> Stub.running("sleep 61") == [] end)
  end

  test "has an exit status for each end", %{tmp_dir: dir} do
    model = Test.start!([http_error(400, "no such thing")])
    stderr = Path.join(dir, "stderr")

    assert {"", 1} = mix(args(model, ["Hello"]), env(model), stderr: stderr)
    assert File.read!(stderr) =~ "the turn failed: "
    assert File.read!(stderr) =~ "no such thing"

    for {more, words} <- [
          {["Hello", "--nonsense"], "unknown or incomplete option --nonsense\n"},
          {["Hello", "--sandbx", "x"], "option --sandbx; did you mean --sandbox?\n"},
          {["Hello", "--api-key", "sk-1"], "unknown or incomplete option --api-key"},
          {["Hello", "--sandbox", "none"], "sandbox must be"},
          {["Hello", "you"], "expected one prompt in quotes"},
          {["-"], "the prompt on stdin is empty"}
        ] do
      assert {"", 2} = mix(args(model, more), env(model), stderr: stderr)
      assert File.read!(stderr) =~ words
    end

    assert length(Test.requests(model)) == 1
  end

  test "shows items, folded commands, diffs and tokens at a terminal, and restores its mode" do
    patch = "*** Begin Patch\n*** Add File: a.txt\n+first\n+second\n*** End Patch\n"

    model =
      Test.start!([
        respond([reasoning("**Looking**"), shell("seq 1 30; sleep 1")]),
        apply_patch(patch),
        "Done \e[2Jhere."
      ])

    more = ["Do it", "--sandbox", "danger-full-access", "--fold", "3"]
    out = (line(model, more) <> @states) |> open(env(model)) |> PseudoTerminal.finish()

    assert out =~ "$ "
    assert out =~ "  | 1\e"
    assert out =~ "  | 3\e"
    refute out =~ "  | 4"
    assert out =~ "… 27 more lines"
    assert out =~ "Add "
    assert out =~ "  | +first"
    assert out =~ "Done here."
    assert out =~ ~r/tokens in \(.* cached\), \d+ out/
    # The status line.
    assert out =~ ~r/running .*seq 1 30.* s/
    assert out =~ "status=0"
    assert out =~ "intr = ^C"
  end

  test "Ctrl-C stops the turn and its commands" do
    mark = "36#{System.unique_integer([:positive])}"
    model = Test.start!([shell("sleep #{mark}")])
    pty = open(line(model, ["Wait", "--sandbox", "danger-full-access"]) <> @states, env(model))
    {_out, pty} = PseudoTerminal.await(pty, ~r/running .*sleep #{mark}/)
    assert Stub.eventually(fn -> Stub.running("sleep #{mark}") != [] end)
    out = pty |> type(<<3>>) |> PseudoTerminal.finish()
    assert out =~ ~r/the turn was stopped; continue it with --resume [-0-9a-f]+/
    assert out =~ "status=130"
    assert out =~ "intr = ^C"
    refute out =~ "BREAK"
    assert Stub.eventually(fn -> Stub.running("sleep #{mark}") == [] end)
  end

  test "Ctrl-C stops a turn whose prompt came through a pipe" do
    model = Test.start!([silence(:infinity)])
    pty = open("echo Wait | #{line(model, ["-"])}" <> @states, env(model))
    {_out, pty} = PseudoTerminal.await(pty, ~r/thinking/)
    out = pty |> type(<<3>>) |> PseudoTerminal.finish()
    assert out =~ "status=130"
    assert out =~ "intr = ^C"
  end

  test "SIGTERM stops the turn; a VM that is killed leaves neither a command nor the mode" do
    for {signal, status} <- [{"TERM", 143}, {"KILL", 137}] do
      mark = "37#{System.unique_integer([:positive])}"
      model = Test.start!([shell("sleep #{mark}")])
      # The shell says the process id, and mix keeps it.
      start =
        "sh -c #{quoted("echo pid=$$; exec " <> line(model, ["Go", "-s", "danger-full-access"]))}"

      pty = open(start <> "; echo status=$?; sleep 2" <> @states, env(model))
      {pid, pty} = PseudoTerminal.await(pty, ~r/pid=\d+/)
      {_out, pty} = PseudoTerminal.await(pty, ~r/running .*sleep #{mark}/)
      assert Stub.eventually(fn -> Stub.running("sleep #{mark}") != [] end)
      "pid=" <> pid = Regex.run(~r/pid=\d+/, pid) |> hd()
      {_, 0} = System.cmd("kill", ["-#{signal}", pid])
      out = PseudoTerminal.finish(pty)
      assert out =~ "status=#{status}"
      assert out =~ "intr = ^C"
      assert Stub.eventually(fn -> Stub.running("sleep #{mark}") == [] end)
    end
  end
end
