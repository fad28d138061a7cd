defmodule Codex.Error.RunTest do
  # Errors of runs whose CLI fails.
  use ExUnit.Case, async: true

  import Codex.Stub, only: [thread: 2, thread: 3]
  alias Codex.{Error, Events, Exec, Fixtures, Thread, TransportError, Turn}

  @moduletag :tmp_dir

  # A CLI that ends as it did when this was recorded.
  defp replay(dir, name) do
    meta = Fixtures.meta(name)
    stdout = Path.join(dir, name <> ".out")
    stderr = Path.join(dir, name <> ".err")
    File.write!(stdout, Fixtures.stream(name))
    File.write!(stderr, meta["stderr_tail"])

    ending =
      if meta["signal"],
        do: "kill -s #{String.slice(meta["signal"], 3..-1//1)} $$; sleep 5",
        else: "exit #{meta["exit_status"]}"

    thread(dir, "cat >/dev/null; cat #{stdout}; cat #{stderr} >&2; #{ending}")
  end

  test "an error on stderr instead of a turn has a kind and its own message", %{
    tmp_dir: dir
  } do
    for {name, kind, retryable?, words} <- [
          {"toml_syntax_error", :config, false,
           ~r/\AError loading config.toml:\n.*invalid basic string/},
          {"no_git_repo", :not_a_git_repo, false, ~r/\ANot inside a trusted directory/},
          {"concurrent_resume", :thread_busy, true, ~r/\AError: thread\/resume: .*active writer/},
          {"mcp_server_required_fails", :mcp, false,
           ~r/\AError: thread\/start: .*broken: No such/},
          {"bad_flag", :cli_unsupported, false,
           ~r/\Aerror: unexpected argument '--no-such-flag'/},
          {"resume_unknown_id", :thread_not_found, false, ~r/no rollout found/}
        ] do
      assert {:error, {:exec_failed, error}} = dir |> replay(name) |> Thread.run("hi")
      assert {name, error.kind, error.retryable?} == {name, kind, retryable?}
      assert error.message =~ words

      assert error.stderr =~
               words |> Regex.source() |> String.replace_prefix("\\A", "") |> Regex.compile!("m")

      assert error.exit_status == Fixtures.meta(name)["exit_status"]
      assert %Turn.Result{events: [], final_response: nil} = error.result

      assert {:error, %TransportError{reason_code: ^kind, retryable?: ^retryable?}} =
               Exec.run("hi", codex_opts: replay(dir, name).codex_opts)
    end
  end

  test "an exit with status 1 during a turn, without a message, counts as SIGINT", %{
    tmp_dir: dir
  } do
    assert {:error, {:exec_failed, %Error{kind: :interrupted, exit_status: 1, result: result}}} =
             dir |> replay("signal_sigint_during_stream") |> Thread.run("hi")

    assert [%Events.ThreadStarted{} | _] = result.events
    assert is_binary(result.thread.thread_id)
  end

  test "a failed turn has the result so far, and the last error event", %{
    tmp_dir: dir
  } do
    assert {:error, {:exec_failed, %Error{kind: :killed, retryable?: true} = error}} =
             dir |> replay("server_down") |> Thread.run("hi")

    assert %Events.Error{message: "Reconnecting... waiting for network" <> _} = error.event
    assert Error.normalize(%{message: error.event.message}).kind == :connection_refused
    assert [%Events.ThreadStarted{} | _] = error.result.events

    assert {:error, {:exec_failed, %Error{kind: :timeout, details: %{clock: :idle}} = error}} =
             dir
             |> thread(~S(echo "$started"; echo "$message"; exec sleep 1000))
             |> Thread.run("hi", timeout_ms: 300)

    assert error.result.final_response.text == "Hello"
    assert error.retryable?
  end

  test "a run that could not start has no result", %{tmp_dir: dir} do
    path = Path.join(dir, "none")
    File.write!(path, "\0\0\0\0")
    File.chmod!(path, 0o755)
    {:ok, thread} = Codex.start_thread(codex_path: path)

    assert {:error, {:exec_failed, %Error{kind: :cli_not_found, retryable?: false} = error}} =
             Thread.run(thread, "hi")

    assert error.result.events == []
  end

  test "Codex.Exec gives the failed event and those before it", %{tmp_dir: dir} do
    events = Codex.JSONL.decode(Fixtures.stream("http_429"))

    assert {:error,
            {:turn_failed, %Error{kind: :rate_limit, event: %Events.TurnFailed{}} = error}} =
             Exec.run("hi", codex_opts: replay(dir, "http_429").codex_opts)

    assert error.result.events == events
  end

  test "keys of ours that the CLI repeats are shown nowhere", %{tmp_dir: dir} do
    key = "sk-of-the-client-7731"
    token = "token-of-the-turn-1812"

    body = ~s(echo '{"type":"error","message":"bad #{key}"}'
      echo '{"type":"turn.failed","error":{"message":"bad #{key} #{token}"}}'; exit 1)

    options = [env: %{"MY_TOKEN" => token}]
    secret? = &(inspect(&1, structs: false, limit: :infinity) =~ ~r/7731|1812/)
    thread = thread(dir, body, api_key: key)
    assert {:error, {:turn_failed, error}} = Thread.run(thread, "hi", options)
    assert error.message == "bad [redacted] [redacted]"
    # The thread itself keeps the key, to run with.
    refute secret?.(%{error | result: error.result.events})
    refute inspect(error) =~ ~r/7731|1812/

    thread = thread(dir, "echo 'Error: bad #{key} #{token}' >&2; exit 1", api_key: key)
    assert {:error, {:exec_failed, error}} = Thread.run(thread, "hi", options)
    assert error.message == "codex exited with status 1: Error: bad [redacted] [redacted]"
    refute secret?.(%{error | result: error.result.events})

    {:ok, stream} = Thread.run_turn_streamed(thread, "hi", options)
    refute assert_raise(Error, fn -> Stream.run(stream) end) |> secret?.()
  end

  describe "the real CLI" do
    @describetag :codex_cli
    import Codex.Test.Steps

    defp start(script, opts \\ [], thread_opts \\ []) do
      {_model, thread} = Codex.Scripted.start(script, opts, thread_opts)
      thread
    end

    defp run(step, opts \\ [], thread_opts \\ []) do
      assert {:error, {:turn_failed, error}} =
               [step] |> start(opts, thread_opts) |> Thread.run("hi")

      error
    end

    @tag :cli_pin
    test "fails with kinds" do
      body = &%{error: Map.new(&1)}

      for {step, kind, status} <- [
            {http_error(401, body.(message: "bad key")), :unauthorized, 401},
            {http_error(403, body.(message: "not here")), :forbidden, 403},
            {http_error(
               404,
               body.(message: "The model `x` does not exist", code: "model_not_found")
             ), :model_not_found, nil},
            {http_error(400, body.(message: "too long", code: "context_length_exceeded")),
             :context_window, nil},
            {http_error(400, body.(message: "no", type: "invalid_request_error")),
             :invalid_request, nil},
            {http_error(429, body.(message: "slow down")), :rate_limit, 429},
            {http_error(429, body.(message: "pay", code: "insufficient_quota")), :quota, nil},
            {http_error(500, "oops"), :server_error, nil},
            {http_error(502, "oops"), :server_error, 502},
            {failed("server_is_overloaded", "full"), :overloaded, nil},
            {failed("rate_limit_exceeded", "Rate limit. Please try again in 1.3s."), :rate_limit,
             nil},
            {incomplete("content_filter"), :content_policy, nil},
            {incomplete("max_output_tokens"), :incomplete, nil},
            {cut([message("half")], after: 1), :stream_disconnected, nil}
          ] do
        error = run(step)
        assert {error.message, error.kind, error.http_status} == {error.message, kind, status}
      end
    end

    test "fails with a kind for statuses whose body is no JSON, on both transports" do
      for {status, body, known} <- [
            {400, "bad", nil},
            {400, "", nil},
            {400, "<html>no</html>", nil},
            {404, "nope", 404},
            {409, "bad", 409},
            {418, "tea", 418},
            {422, "bad", 422}
          ] do
        step = http_error(status, body)
        {model, thread} = Codex.Scripted.start([step, step])
        over = Codex.Connected.thread!(model, Codex.Connected.connect!(model))

        for thread <- [thread, over] do
          assert {:error, {:turn_failed, error}} = Thread.run(thread, "hi")

          assert {status, error.kind, error.retryable?, error.http_status} ==
                   {status, :invalid_request, false, known}

          assert error.message != ""
        end
      end
    end

    test "leaves stack backtraces out of messages" do
      client = [env: %{"RUST_BACKTRACE" => "1"}]
      id = "01a219a7-968a-70c1-ac27-c6916216cf06"
      model = Codex.Test.start!([])
      options = Keyword.update!(Codex.Test.options(model), :env, &Map.merge(&1, client[:env]))
      {:ok, thread} = Codex.resume_thread(id, options, Codex.Test.thread_options(model))

      assert {:error, {:exec_failed, error}} = Thread.run(thread, "hi")
      assert error.kind == :thread_not_found
      assert error.message =~ "no rollout found"
      refute error.message =~ ~r/backtrace|unknown>|\n/
      assert error.stderr =~ "Stack backtrace:"
    end

    test "tells in words how long to wait" do
      error = run(failed("rate_limit_exceeded", "Rate limit. Please try again in 1.3s."))
      assert {error.retryable?, error.retry_after_ms} == {true, 1_300}
    end

    test "tells on the clock when a limit ends: today, and later" do
      for hours <- [0, 26, 24 * 40] do
        at = System.os_time(:second) + hours * 3600 + 90

        error =
          run(
            http_error(429, %{
              error: %{type: "usage_limit_reached", plan_type: "plus", resets_at: at}
            })
          )

        assert {error.kind, error.retryable?} == {:usage_limit, false}
        # The time of the CLI has no seconds.
        assert {error.message, DateTime.to_unix(error.resets_at)} ==
                 {error.message, at - rem(at, 60)}

        assert error.retry_after_ms <= (hours * 3600 + 90) * 1000
      end
    end

    test "repeats a key in its failure, and we do not" do
      key = "sk-known-to-us-55512345"
      error = run(http_error(403, %{error: %{message: "no entry for #{key}"}}))
      assert error.message =~ key

      thread = start([http_error(403, %{error: %{message: "no entry for #{key}"}})])
      assert {:error, {:turn_failed, error}} = Thread.run(thread, "hi", env: %{"SOME_KEY" => key})
      assert error.message =~ "403 Forbidden: no entry for [redacted]"
    end

    test "says what it does not start with" do
      for {thread_opts, kind, words} <- [
            {[config_overrides: ["sandbox_mode=bogus"]], :config,
             ~r/^Error loading config.toml: unknown variant/},
            {[config_overrides: %{model_provider: "nope"}], :config,
             ~r/^Error: Model provider `nope` not found/},
            {[skip_git_repo_check: false], :not_a_git_repo,
             ~r/^Not inside a trusted directory.* set the option skip_git_repo_check: true\.$/}
          ] do
        assert {:error, {:exec_failed, error}} =
                 ["never"] |> start([], thread_opts) |> Thread.run("hi")

        assert {thread_opts, error.kind} == {thread_opts, kind}
        assert error.message =~ words
        refute error.retryable?
      end
    end
  end
end
