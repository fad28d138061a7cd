defmodule Codex.Test.CassetteTest do
  # The provider of a recording is a server with a scripted model; the CLI is the real one.
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  alias Codex.{Sessions, Test, Thread}
  alias Codex.Test.Cassette

  @moduletag :tmp_dir

  @key "sk-live-0123456789abcdef"

  defp thread(model) do
    options = Test.thread_options(model) ++ [sandbox: :danger_full_access]
    {:ok, thread} = Codex.start_thread(Test.options(model), options)
    thread
  end

  defp record(path, script) do
    provider = Test.start!(script)
    headers = [{"authorization", "Bearer " <> @key}]
    {provider, Test.record(path, upstream: provider.url, headers: headers)}
  end

  defp ask(model, text) do
    {:ok, result} = Thread.run(thread(model), text)
    result.final_response.text
  end

  describe "record and replay" do
    @describetag :codex_cli

    test "answer the same run without the provider", %{tmp_dir: dir} do
      path = Path.join(dir, "cassettes/greet.jsonl")
      {provider, model} = record(path, [shell("echo $((20 + 3))"), "The sum is 23. #{@key}"])
      assert ask(model, "Add, at 2026-01-02") =~ "23"

      assert [first, second] = Test.requests(provider)
      assert first.headers["authorization"] == "Bearer " <> @key
      assert inspect(second.body["input"]) =~ "23"
      assert length(Test.requests(model)) == 2
      refute File.read!(path) =~ @key

      :ok = Test.stop(provider)
      replayed = Test.replay(path)
      # Another day, another home, another workspace.
      assert ask(replayed, "Add, at 2027-03-04") == "The sum is 23. [redacted]"
    end

    test "show the difference to the nearest request, and the answers left over", %{tmp_dir: dir} do
      path = Path.join(dir, "greet.jsonl")
      {_provider, model} = record(path, ["One.", "Two."])
      assert ask(model, "First question") == "One."
      assert ask(model, "Second question") == "Two."

      # The check at the end of this test would find the answers that were not asked for.
      cassette = Cassette.read!(path)
      replayed = Test.start!([], default: Cassette.player(cassette))
      assert ask(replayed, "Second question") == "Two."

      assert_raise RuntimeError, ~r/1 of 2 recorded answers .*\(line 1\)/, fn ->
        Cassette.check!(cassette)
      end

      assert {:error, {:turn_failed, error}} = Thread.run(thread(replayed), "First question?")
      assert error.message =~ "line 1 (- recorded, + sent)"
      assert error.message =~ ~r/^- .*First question$/m
      assert error.message =~ ~r/^\+ .*First question\?$/m

      assert ask(replayed, "First question") == "One."
      assert Cassette.check!(cassette) == :ok
      assert {:error, {:turn_failed, error}} = Thread.run(thread(replayed), "First question")
      assert error.message =~ "all answers of #{path} were given"
    end

    test "keep failures of the provider", %{tmp_dir: dir} do
      path = Path.join(dir, "failed.jsonl")
      {_provider, model} = record(path, [http_error(400, %{error: %{message: "no such thing"}})])
      assert {:error, {:turn_failed, recorded}} = Thread.run(thread(model), "Ask")
      assert recorded.message =~ "no such thing"
      assert {:error, {:turn_failed, again}} = Thread.run(thread(Test.replay(path)), "Ask")
      assert again.message == recorded.message
    end
  end

  test "answers that are left over fail the test", %{tmp_dir: dir} do
    path = Path.join(dir, "left.jsonl")
    entry = %{fingerprint: "f", request: %{}, response: %{status: 200, type: nil, body: ""}}
    File.write!(path, Codex.JSON.encode!(entry) <> "\n")

    file = Path.join(dir, "left_test.exs")

    File.write!(file, """
    {:ok, _} = Application.ensure_all_started(:codex_sdk)
    ExUnit.start()
    defmodule LeftTest do
      use ExUnit.Case
      test "asks nothing", do: assert %Codex.Test{} = Codex.Test.replay(#{inspect(path)})
    end
    """)

    {out, _status} = Codex.OtherVM.run("Code.require_file(#{inspect(file)})")
    assert out =~ "1 of 1 recorded answers were not asked for"
    # The words of Elixir 1.20 are others.
    assert out =~ ~r/1 test, 1 failure|Failed: 1 test/
  end

  test "options and files are checked", %{tmp_dir: dir} do
    path = Path.join(dir, "x.jsonl")
    assert_raise Codex.OptionError, ~r/upstream/, fn -> Test.record(path, headers: []) end

    error =
      assert_raise Codex.OptionError, fn ->
        Test.record(path,
          upstream: "http://127.0.0.1:9/v1",
          headers: [{"a", :not_a_string}, {"b", @key}]
        )
      end

    refute Exception.message(error) =~ @key

    assert_raise ArgumentError, ~r/cannot read the cassette .*x.jsonl/, fn ->
      Test.replay(path)
    end

    File.write!(path, "nonsense\n")
    assert_raise ArgumentError, ~r/line 1 of .* is no entry/, fn -> Test.replay(path) end
  end

  describe "mix codex.script" do
    @describetag :codex_cli

    test "makes a script of a recorded thread that runs again", %{tmp_dir: dir} do
      patch = "*** Begin Patch\n*** Add File: a.txt\n+one\n*** End Patch\n"
      script = [respond([reasoning("**Hm**"), shell("echo hi")]), apply_patch(patch), "Done."]
      model = Test.start!(script)
      {:ok, result} = Thread.run(thread(model), "Do it")
      id = result.thread.thread_id
      file = Path.join(dir, "script.exs")
      args = ["codex.script", id, "--to", file, "--codex-home", model.home]
      assert {"Wrote " <> _, 0} = Codex.PseudoTerminal.mix(args, Codex.PseudoTerminal.env(model))
      assert {"", 2} = Codex.PseudoTerminal.mix(args, Codex.PseudoTerminal.env(model))

      {steps, _} = Code.eval_string(File.read!(file), [], __ENV__)
      again = Test.start!(steps)
      {:ok, result} = Thread.run(thread(again), "Do it")
      assert result.final_response.text == "Done."
      assert File.read!(Path.join(again.workspace, "a.txt")) == "one\n"
      assert {:ok, session} = Sessions.find(result.thread.thread_id, codex_home: again.home)
      assert session.id == result.thread.thread_id
      assert Test.remaining(again) == 0
    end
  end
end
