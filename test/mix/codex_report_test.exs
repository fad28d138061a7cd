defmodule Mix.Tasks.Codex.ReportTest do
  # The task runs as a process of the operating system, with the real CLI.
  use ExUnit.Case, async: true
  doctest Mix.CodexReport

  import Codex.PseudoTerminal, only: [env: 1, mix: 2, mix: 3]
  alias Codex.Test

  @moduletag :codex_cli
  @moduletag :tmp_dir

  @key "sk-test-0123456789abcdefghij"

  test "packs what a report needs, and shows what it redacted", %{tmp_dir: dir} do
    model = Test.start!(["My key is #{@key}."], config: ~s(user_token = "abc def"\n))
    {:ok, thread} = Codex.start_thread(Test.options(model), Test.thread_options(model))
    {:ok, result} = Codex.Thread.run(thread, "Ask ann@example.com")
    log = Path.join(model.home, "log")
    File.mkdir_p!(log)
    fill = String.duplicate("INFO nothing\n", 30_000)
    File.write!(Path.join(log, "codex-tui.log"), fill <> "WARN Bearer abcdefghijklmnop\e[2J\n")
    secret = "a value of the environment"

    to = Path.join(dir, "report.tar.gz")
    env = Map.merge(env(model), %{"MY_SECRET" => secret})
    File.write!(Path.join(log, "other.log"), secret <> "\n")
    args = ["codex.report", "--to", to, "--session", result.thread.thread_id]

    assert {out, 0} = mix(args ++ ["--dry-run"], env)
    refute File.exists?(to)
    refute out =~ "Wrote"
    assert {out, 0} = mix(args, env)
    assert out =~ "Wrote"

    for words <- [
          "log/codex-tui.log: 262",
          "WARN Bearer [redacted]",
          ~s(user_token = "[redacted]"),
          "My key is [redacted]"
        ],
        do: assert(out =~ words)

    refute out =~ @key
    refute out =~ "\e"
    assert Bitwise.band(File.stat!(to).mode, 0o777) == 0o600

    {:ok, files} = :erl_tar.extract(to, [:memory, :compressed])
    names = for {name, _} <- files, do: to_string(name)
    assert "doctor.json" in names and "config.toml" in names and "session.json" in names
    assert "log/codex-tui.log" in names and "log/other.log" in names

    for {_name, text} <- files,
        word <- [@key, "abcdefghijklmnop", "abc def", secret, "ann@example.com"],
        do: refute(text =~ word)

    stderr = Path.join(dir, "stderr")
    assert {"", 2} = mix(args, env, stderr: stderr)
    assert File.read!(stderr) =~ "exists; use --to"
  end
end
