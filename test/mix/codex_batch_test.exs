defmodule Mix.Tasks.Codex.BatchTest do
  # Mix.shell/1 belongs to the VM.
  use ExUnit.Case, async: false

  alias Codex.Stub
  alias Mix.Tasks.Codex.Batch

  @moduletag :tmp_dir

  @echo """
  prompt=$(cat)
  echo "$prompt" >> "$(dirname "$0")/prompts"
  if [ "$prompt" = fail ]; then
    echo "$started"; echo '{"type":"turn.failed","error":{"message":"no"}}'; exit 1
  fi
  echo "$started"
  echo '{"type":"item.completed","item":{"id":"0","type":"agent_message","text":"'"$prompt"'"}}'
  echo "$completed"
  """

  setup %{tmp_dir: dir} do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)
    stub = Stub.write!(dir, @echo)
    out = Path.join(dir, "results.jsonl")
    argv = ["--out", out, "--codex", stub, "--codex-home", dir, "--skip-git-repo-check"]
    %{argv: argv ++ ["--max", "2"], out: out}
  end

  defp jobs!(dir, lines) do
    path = Path.join(dir, "jobs.jsonl")
    File.write!(path, Enum.join(lines, "\n"))
    path
  end

  defp results(out) do
    for line <- out |> File.read!() |> String.split("\n", trim: true) do
      {:ok, result} = Codex.JSON.decode(line)
      result
    end
    |> Enum.sort_by(&to_string(&1["key"]))
  end

  defp prompts(dir),
    do: dir |> Path.join("prompts") |> File.read!() |> String.split("\n", trim: true)

  test "writes a report of the batch", %{tmp_dir: dir, argv: argv} do
    page = Path.join(dir, "report.html")
    jobs = jobs!(dir, [~S("one"), ~S("fail")])
    assert catch_exit(Batch.run([jobs, "--report", page | argv])) == {:shutdown, 1}
    assert File.read!(page) =~ "<dd>1 ok, 1 failed\n"

    argv = ["--report", Path.join(dir, "missing/report.html"), "--resume" | argv]
    assert_raise Mix.Error, ~r/report\.html/, fn -> Batch.run([jobs | argv]) end
  end

  test "writes a line for each job, and resumes", %{tmp_dir: dir, argv: argv, out: out} do
    first = [
      ~S("one"),
      "",
      ~S({"key": "b", "prompt": "two", "options": {"sandbox": "read-only"}})
    ]

    assert Batch.run([jobs!(dir, first) | argv]) == nil
    assert_received {:mix_shell, :error, ["2 ok, 240 tokens"]}

    assert [
             %{"key" => 0, "status" => "ok", "text" => "one", "attempts" => 1},
             %{"key" => "b"} = b
           ] = results(out)

    assert %{"text" => "two", "error" => nil, "usage" => %{"input_tokens" => 100}} = b
    assert b["node"] == "nonode@nohost" or is_binary(b["node"])

    more = [
      ~S({"key": "c", "prompt": "fail"}),
      "nonsense",
      "[1]",
      ~S({"key": "f", "prompt": "six"})
    ]

    path = jobs!(dir, first ++ more)
    assert_raise Mix.Error, ~r/use --resume/, fn -> Batch.run([path | argv]) end
    assert catch_exit(Batch.run([path, "--resume" | argv])) == {:shutdown, 1}
    assert_received {:mix_shell, :error, ["3 ok, 3 failed, 360 tokens"]}
    assert [_, _, _, _, _, _] = lines = results(out)

    assert for(%{"status" => "failed"} = r <- lines, do: r["error"]["message"]) |> Enum.sort() ==
             [
               "line 5 is no job: the text is not one JSON document: it has a byte that is out of " <>
                 "place, at byte 0",
               "line 6 is neither a JSON string nor an object",
               "no"
             ]

    assert Enum.sort(prompts(dir)) == ["fail", "one", "six", "two"]
  end

  test "stops at a budget, and goes on with a larger one", %{tmp_dir: dir, argv: argv, out: out} do
    path = jobs!(dir, for(n <- 1..6, do: ~s("job #{n}")))
    argv = argv ++ ["--max", "1"]
    assert catch_exit(Batch.run([path, "--budget", "0.2K" | argv])) == {:shutdown, 1}
    assert Enum.map(results(out), & &1["status"]) == ["ok", "ok", "skipped"]
    assert Batch.run([path, "--budget", "1M", "--resume" | argv]) == nil
    assert length(results(out)) == 6
    assert length(prompts(dir)) == 6
  end

  test "says what is wrong", %{tmp_dir: dir, argv: argv} do
    path = jobs!(dir, [~S("one")])

    for {argv, words} <- [
          {[path], ~r/--out is missing/},
          {argv, ~r/^usage: mix codex.batch FILE/},
          {[path, "--nonsense" | argv], ~r/unknown or incomplete option --nonsense/},
          {[path, "--budget", "many" | argv], ~r/expected --budget with tokens, such as 2M/},
          {[path | argv] ++ ["--max", "0"], ~r/:max_concurrency must be/},
          {[path, "--sandbox", "none" | argv], ~r/:sandbox\] must be/},
          {["/no/such/file" | argv], ~r"there is no file /no/such/file"},
          {[path, "--resume" | argv], ~r/there is no journal/}
        ] do
      assert_raise Mix.Error, words, fn -> Batch.run(argv) end
    end
  end
end
