defmodule Codex.ExecTest do
  use ExUnit.Case, async: true

  import Codex.OptionErrors, only: [short: 1]
  doctest Codex
  doctest Codex.Options
  doctest Codex.Options.Overrides
  doctest Codex.Thread.Options
  doctest Codex.OutputSchemaFile
  doctest Codex.Options.Sandbox

  import Codex.Stub, only: [thread: 2, alive?: 1, eventually: 1]
  alias Codex.{Error, Events, Exec, Stub, Thread, TransportError}
  alias Codex.Turn.Result

  @moduletag :tmp_dir

  # Returns the file that the script wrote, once it exists.
  defp read_pid(path) do
    assert eventually(fn -> match?({:ok, <<_, _::binary>>}, File.read(path)) end)
    path |> File.read!() |> String.trim()
  end

  describe "a turn" do
    test "ends with the terminal event and the exit", %{tmp_dir: dir} do
      {:ok, result} = dir |> thread(~S(cat >/dev/null; echo "$turn")) |> Thread.run("hi")
      assert result.final_response.text == "Hello"
      assert result.usage == %{"input_tokens" => 100, "output_tokens" => 20}
      assert result.usage_scope == :turn
      assert result.thread.thread_id == "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"

      assert [%Events.ThreadStarted{}, %Events.ItemCompleted{}, %Events.TurnCompleted{}] =
               result.events
    end

    test "begins behind a byte order mark, and its lines may end with CRLF", %{tmp_dir: dir} do
      body = ~S(cat >/dev/null; printf '\357\273\277'; echo "$turn" | awk '{printf "%s\r\n", $0}')
      {:ok, result} = dir |> thread(body) |> Thread.run("hi")
      assert result.final_response.text == "Hello"
      assert result.thread.thread_id == "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"
    end

    test "the prompt is on stdin, whole, and not in the arguments", %{tmp_dir: dir} do
      prompt = "first line\n  é \u2028 \"quoted\" --flag\n" <> String.duplicate("x", 500_000)
      body = ~s(cat > #{dir}/prompt; echo "$@" > #{dir}/args; echo "$turn")
      {:ok, _} = dir |> thread(body) |> Thread.run(prompt)
      assert File.read!(Path.join(dir, "prompt")) == prompt
      assert File.read!(Path.join(dir, "args")) == "exec --json -- -\n"
    end

    test "an unterminated last line counts", %{tmp_dir: dir} do
      assert {:ok, %{final_response: %{text: "Hello"}}} =
               dir |> thread(~S(printf '%s' "$turn")) |> Thread.run("hi")
    end

    test "a failed turn gives its own message, not the exit status", %{tmp_dir: dir} do
      body = ~S(echo "$started"
        echo '{"type":"error","message":"model gone"}'
        echo '{"type":"turn.failed","error":{"message":"model gone"}}'
        echo noise >&2; exit 1)

      thread = thread(dir, body)
      assert {:error, {:turn_failed, %Error{message: "model gone"}}} = Thread.run(thread, "hi")

      assert {:error, {:turn_failed, %Error{message: "model gone"}}} =
               Exec.run("hi", codex_opts: thread.codex_opts)

      {:ok, stream} = Thread.run_turn_streamed(thread, "hi")

      assert [%Events.ThreadStarted{}, %Events.Error{}, %Events.TurnFailed{}] =
               Enum.to_list(stream)

      {:ok, run} = Thread.run_streamed(thread, "hi")
      assert_raise Error, "model gone", fn -> Stream.run(Codex.RunResultStreaming.events(run)) end
    end

    test "an error event that announces a retry fails nothing", %{tmp_dir: dir} do
      body = ~S(echo '{"type":"error","message":"Reconnecting... 1/2"}'; echo "$turn")
      assert {:ok, %{final_response: %{text: "Hello"}}} = dir |> thread(body) |> Thread.run("hi")
    end

    test "fields of other types than the CLI sends fail nothing", %{tmp_dir: dir} do
      body = ~S(echo '{"type":"thread.started","thread_id":"t","metadata":[1]}'
        echo '{"type":"item.completed","item":{"type":"agent_message","text":5}}'
        echo '{"type":"turn.completed","usage":[]}')

      assert {:ok, %{final_response: %{text: 5, parsed: nil}, usage: nil}} =
               dir |> thread(body) |> Thread.run("hi", output_schema: %{type: "object"})

      body = ~S(echo '{"type":"thread.started","thread_id":5}'; exec sleep 1000)

      {:ok, thread} =
        Codex.resume_thread("01a1f6cd-7e5b-7451-8c66-48b5fcaa07af",
          codex_path: Stub.write!(dir, body)
        )

      assert {:error, {:exec_failed, %Error{kind: :thread_not_found}}} = Thread.run(thread, "hi")
    end

    test "what comes after the terminal event does not matter", %{tmp_dir: dir} do
      assert {:ok, _} = dir |> thread(~S(echo "$turn"; exit 9)) |> Thread.run("hi")
      assert {:ok, _} = dir |> thread(~S(echo "$turn"; kill -9 $$)) |> Thread.run("hi")
    end

    test "recorded streams fail with their own message", %{tmp_dir: dir} do
      for name <- Codex.Fixtures.exec(),
          stream = Codex.Fixtures.stream(name),
          %Events.TurnFailed{error: %{"message" => message}} <- [
            List.last(Codex.JSONL.decode(stream))
          ] do
        path = Path.join(dir, name)
        File.write!(path, stream)
        thread = thread(dir, "cat >/dev/null; cat #{path}; exit 1")
        assert {:error, {:turn_failed, %Error{message: ^message}}} = Thread.run(thread, "hi")
      end
    end
  end

  describe "a CLI that does not end the turn" do
    test "exit status and stderr", %{tmp_dir: dir} do
      thread =
        thread(
          dir,
          ~S(echo "$started"; echo "not an event"; echo "thread panicked" >&2; exit 101)
        )

      assert {:error, {:exec_failed, %Error{kind: :crashed} = error}} = Thread.run(thread, "hi")
      assert error.details.exit_status == 101
      assert error.details.stderr == "thread panicked\nnot an event"
      assert error.message =~ "101"

      assert {:error, %TransportError{exit_status: 101, retryable?: false}} =
               Exec.run("hi", codex_opts: thread.codex_opts)

      {:ok, stream} = Thread.run_turn_streamed(thread, "hi")
      assert_raise Error, ~r/101/, fn -> Enum.to_list(stream) end
    end

    test "exit status 0", %{tmp_dir: dir} do
      assert {:error, {:exec_failed, %Error{kind: :protocol, details: %{exit_status: 0}}}} =
               dir |> thread(~S(echo "$started")) |> Thread.run("hi")
    end

    test "signals", %{tmp_dir: dir} do
      assert {:error,
              {:exec_failed,
               %Error{
                 kind: :killed,
                 details: %{signal: :kill, exit_status: 137, retryable?: true}
               }}} = dir |> thread("kill -9 $$") |> Thread.run("hi")

      assert {:error, {:exec_failed, %Error{kind: :interrupted, details: %{signal: :int}}}} =
               dir |> thread("kill -2 $$; sleep 5") |> Thread.run("hi")
    end

    test "half a line", %{tmp_dir: dir} do
      assert {:error, {:exec_failed, %Error{kind: :crashed, details: details}}} =
               dir |> thread(~S(printf '{"type":"turn.com'; exit 3)) |> Thread.run("hi")

      assert details.stderr == ~S({"type":"turn.com)
    end

    test "death before stdin is read", %{tmp_dir: dir} do
      assert {:error,
              {:exec_failed, %Error{kind: :crashed, details: %{exit_status: 4, stderr: "no"}}}} =
               dir
               |> thread("echo no >&2; exec <&-; exit 4")
               |> Thread.run(String.duplicate("x", 900_000))
    end

    test "stderr is bounded, and the error says that it was cut", %{tmp_dir: dir} do
      body =
        "i=0; while [ $i -lt 4000 ]; do echo 'a line of sixty-four bytes, which is repeated many many times ..' >&2; i=$((i+1)); done; exit 1"

      assert {:error, {:exec_failed, %Error{details: details}}} =
               dir |> thread(body) |> Thread.run("hi")

      assert byte_size(details.stderr) <= 65_536
    end

    test "stderr that is not UTF-8 keeps its last words", %{tmp_dir: dir} do
      body =
        "i=0; while [ $i -lt 900 ]; do printf 'x%0.s\\303\\251\\303\\251\\303\\251\\303\\251' 1 2 3 4 5 6 7 8 9 10 >&2; i=$((i+1)); done; " <>
          "printf '\\377\\nlast words\\n' >&2; exit 1"

      assert {:error, {:exec_failed, %Error{message: message, details: %{stderr: stderr}}}} =
               dir |> thread(body) |> Thread.run("hi")

      assert message == "codex exited with status 1: last words"
      assert String.valid?(stderr)
      assert String.ends_with?(stderr, "éé\uFFFD\nlast words")
    end

    test "silence", %{tmp_dir: dir} do
      body = "echo $$ > #{dir}/pid; echo \"$started\"; exec sleep 1000"
      thread = thread(dir, body)

      assert {:error, {:exec_failed, %Error{kind: :timeout, details: %{timeout_ms: 300}}}} =
               Thread.run(thread, "hi", timeout_ms: 300)

      refute alive?(read_pid(Path.join(dir, "pid")))

      assert {:error, {:codex_timeout, 300}} =
               Exec.run("hi", codex_opts: thread.codex_opts, timeout_ms: 300)

      {:ok, stream} = Thread.run_turn_streamed(thread, "hi", stream_idle_timeout_ms: 300)
      error = assert_raise Error, ~r/idle timeout/, fn -> Enum.to_list(stream) end
      assert %{exit_status: nil, retryable?: true, kind: :timeout} = error
    end

    test "closed output", %{tmp_dir: dir} do
      body = "echo $$ > #{dir}/pid; echo \"$started\"; exec >&- 2>&-; exec sleep 1000"

      assert {:error, {:exec_failed, %Error{kind: :protocol, message: message}}} =
               dir |> thread(body) |> Thread.run("hi", exit_timeout_ms: 300)

      assert message =~ "closed its output"
      refute alive?(read_pid(Path.join(dir, "pid")))
    end

    test "no exit after the end of the turn", %{tmp_dir: dir} do
      body = "echo $$ > #{dir}/pid; echo \"$turn\"; exec sleep 1000"

      assert {:ok, %{final_response: %{text: "Hello"}}} =
               dir |> thread(body) |> Thread.run("hi", exit_timeout_ms: 300)

      refute alive?(read_pid(Path.join(dir, "pid")))
    end

    test "a grandchild that holds the output open", %{tmp_dir: dir} do
      body = "sleep 1000 & echo $! > #{dir}/pid; echo \"$turn\""
      assert {:ok, _} = dir |> thread(body) |> Thread.run("hi")
      refute alive?(read_pid(Path.join(dir, "pid")))
    end
  end

  describe "stopping" do
    # A command in a session of its own, under a CLI that ignores all that can be ignored.
    @stubborn """
    trap '' INT TERM HUP
    setsid sh -c 'trap "" INT TERM HUP; echo $$ > DIR/grandchild; while :; do sleep 1; done' &
    echo $$ > DIR/child
    while [ ! -s DIR/grandchild ]; do sleep 0.01; done
    echo "$started"
    while :; do sleep 1; done
    """

    defp stubborn(dir), do: String.replace(@stubborn, "DIR", dir)
    defp pids(dir), do: for(name <- ["child", "grandchild"], do: read_pid(Path.join(dir, name)))

    test "halting the stream ends everything", %{tmp_dir: dir} do
      {:ok, stream} = dir |> thread(stubborn(dir)) |> Thread.run_turn_streamed("hi")
      assert [%Events.ThreadStarted{}] = Enum.take(stream, 1)
      for pid <- pids(dir), do: assert(eventually(fn -> not alive?(pid) end))
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "SIGINT comes first", %{tmp_dir: dir} do
      body =
        "trap 'echo int > #{dir}/signal; exit 1' INT; echo \"$started\"; while :; do sleep 0.05; done"

      {:ok, stream} = dir |> thread(body) |> Thread.run_turn_streamed("hi")
      Enum.take(stream, 1)
      assert File.read!(Path.join(dir, "signal")) == "int\n"
    end

    test "an exception in the reader ends everything", %{tmp_dir: dir} do
      {:ok, stream} = dir |> thread(stubborn(dir)) |> Thread.run_turn_streamed("hi")
      assert_raise RuntimeError, fn -> Enum.each(stream, fn _ -> raise "mine" end) end
      for pid <- pids(dir), do: assert(eventually(fn -> not alive?(pid) end))
    end

    test "a killed reader ends everything", %{tmp_dir: dir} do
      {:ok, stream} = dir |> thread(stubborn(dir)) |> Thread.run_turn_streamed("hi")
      reader = spawn(fn -> Stream.run(stream) end)
      pids = pids(dir)
      Process.exit(reader, :kill)
      for pid <- pids, do: assert(eventually(fn -> not alive?(pid) end))
    end

    test "cancel/1 works from any process, and the reader hears of it", %{tmp_dir: dir} do
      thread = thread(dir, stubborn(dir))
      token = "token-#{System.unique_integer()}"
      run = Task.async(fn -> Thread.run(thread, "hi", cancellation_token: token) end)
      pids = pids(dir)
      assert Exec.cancel(token) == :ok

      assert {:error,
              {:exec_failed, %Error{kind: :interrupted, message: "the run was cancelled"}}} =
               Task.await(run)

      for pid <- pids, do: assert(eventually(fn -> not alive?(pid) end))
      assert Exec.cancel(token) == {:error, :not_found}
    end
  end

  describe "schema files" do
    @schema %{type: "object"}

    defp schema_path(dir), do: read_pid(Path.join(dir, "schema"))

    @schema_body ~S(while [ $# -gt 1 ]; do [ "$1" = --output-schema ] && s=$2; shift; done; echo "$s" > DIR/schema; cp "$s" DIR/copy;)

    defp schema_body(dir, rest), do: String.replace(@schema_body, "DIR", dir) <> rest

    test "are there while the CLI runs and gone afterwards, however it ends", %{tmp_dir: dir} do
      answer =
        ~S(echo '{"type":"item.completed","item":{"type":"agent_message","text":"{\"a\":[1]}"}}'; echo "$completed")

      {:ok, result} =
        dir |> thread(schema_body(dir, answer)) |> Thread.run("hi", output_schema: @schema)

      assert File.read!(Path.join(dir, "copy")) == ~S({"type":"object"})
      assert result.final_response.parsed == %{"a" => [1]}
      assert Result.json(result) == {:ok, %{"a" => [1]}}
      refute File.exists?(schema_path(dir))

      {:error, _} =
        dir |> thread(schema_body(dir, "exit 1")) |> Thread.run("hi", output_schema: @schema)

      refute File.exists?(schema_path(dir))
    end

    test "are gone where the reader is killed", %{tmp_dir: dir} do
      thread = thread(dir, schema_body(dir, "exec sleep 1000"))
      reader = spawn(fn -> Thread.run(thread, "hi", output_schema: @schema) end)
      path = schema_path(dir)
      assert File.exists?(path)
      Process.exit(reader, :kill)
      assert eventually(fn -> not File.exists?(path) end)
    end

    test "are private from their first moment, and so is their folder", %{tmp_dir: dir} do
      File.mkdir!(Path.join(dir, "tmp"))

      # In a VM of its own, with a temporary directory of its own: only its files are looked at,
      # as another user would, as fast as possible. The profile of a long text is in the home.
      code = """
      {:ok, _} = Application.ensure_all_started(:codex_sdk)
      [dir, codex] = System.argv()
      tmp = Path.join(dir, "tmp")

      look = fn look, seen ->
        seen =
          for name <- File.ls!(tmp) ++ Enum.map(File.ls!(dir), &("../" <> &1)),
              name =~ ~r/codex[_-]sdk[_-]/,
              {:ok, stat} <- [File.stat(Path.join(tmp, name))],
              reduce: seen,
              do: (seen -> MapSet.put(seen, {stat.type, rem(stat.mode, 0o1000)}))

        receive do
          {:tell, pid} -> send(pid, {:seen, seen})
        after
          0 -> look.(look, seen)
        end
      end

      watcher = spawn_link(fn -> look.(look, MapSet.new()) end)
      text = String.duplicate("x", 200_000)

      {:ok, thread} =
        Codex.start_thread([codex_path_override: codex, codex_home: dir], developer_instructions: text)

      for _ <- 1..40, do: {:ok, _} = Codex.Thread.run(thread, "hi", output_schema: %{type: "object"})
      send(watcher, {:tell, self()})
      receive do: ({:seen, seen} -> IO.puts(["SEEN ", inspect(Enum.sort(seen))]))
      """

      codex = Stub.write!(dir, ~S(cat >/dev/null; echo "$turn"))
      ebin = Application.app_dir(:codex_sdk, "ebin")
      command = ~S(umask 0; exec elixir -pa "$1" -e "$2" "$3" "$4")

      assert {said, 0} =
               System.cmd("sh", ["-c", command, "sh", ebin, code, dir, codex],
                 env: %{"TMPDIR" => Path.join(dir, "tmp")},
                 stderr_to_stdout: true
               )

      assert said =~ "SEEN [directory: 448, regular: 384]\n"
    end

    test "are not left by a reader that is killed before the CLI starts", %{tmp_dir: dir} do
      home = Path.join(dir, "home")
      File.mkdir!(home)
      text = String.duplicate("x", 200_000)
      thread = thread(dir, "exec sleep 1000")
      thread = put_in(thread.codex_opts.codex_home, home)
      thread = put_in(thread.thread_opts.developer_instructions, text)

      for n <- 1..60 do
        reader = spawn(fn -> Thread.run(thread, "hi") end)
        # At another point each time.
        for _ <- 1..(n * 500), do: :erlang.yield()
        Process.exit(reader, :kill)
      end

      assert eventually(fn -> File.ls!(home) == [] end)
    end

    test "answers that are not JSON are said to be none", %{tmp_dir: dir} do
      {:ok, result} = dir |> thread(~S(echo "$turn")) |> Thread.run("hi", output_schema: @schema)
      assert result.final_response.parsed == nil
      assert Result.json(result) == {:error, {:invalid_json, {:syntax, 0}}}
      {:ok, result} = dir |> thread(~S(echo "$turn")) |> Thread.run("hi")
      assert Result.json(result) == {:error, :not_structured}
    end
  end

  test "whatever failed is a Codex.Error" do
    for failure <- [~D[2020-01-01], %{codexErrorInfo: "other"}, [1], nil, {:error, :closed}] do
      assert %Error{message: message} = Error.normalize(failure)
      assert is_binary(message)
    end

    assert Error.normalize(%{codexErrorInfo: "other"}).details.codex_error_info == "other"
  end

  describe "bad input" do
    test "programs that are none", %{tmp_dir: dir} do
      text = Path.join(dir, "text")
      File.write!(text, "no program")
      noexec = Path.join(dir, "noexec")
      File.write!(noexec, "\0\0\0\0")
      File.chmod!(noexec, 0o755)

      for {path, reason} <- [
            {Path.join(dir, "missing"), {:codex_binary_missing, Path.join(dir, "missing")}},
            {dir, {:codex_binary_not_regular, dir}},
            {text, {:codex_binary_not_executable, text}}
          ] do
        {:ok, thread} = Codex.start_thread(codex_path: path)
        assert Thread.run(thread, "hi") == {:error, reason}
        assert Thread.run_turn_streamed(thread, "hi") == {:error, reason}
      end

      {:ok, thread} = Codex.start_thread(codex_path: noexec)
      assert {:error, {:exec_failed, %Error{kind: :cli_not_found}}} = Thread.run(thread, "hi")
    end

    test "directories, images and prompts that are none", %{tmp_dir: dir} do
      path = Stub.write!(dir, ~S(echo "$turn"))
      {:ok, thread} = Codex.start_thread([codex_path: path], working_directory: "/no/such")
      assert Thread.run(thread, "hi") == {:error, {:invalid_working_directory, "/no/such"}}

      {:ok, thread} = Codex.start_thread(codex_path: path)

      assert Thread.run(thread, "hi", images: ["/no.png"]) ==
               {:error, {:image_not_found, "/no.png"}}

      assert Thread.run(thread, "") == {:error, {:invalid_input, ""}}
      assert Thread.run(thread, <<0xFF>>) == {:error, {:invalid_input, :not_utf8}}
      assert Thread.run(thread, 7) == {:error, {:invalid_input, 7}}

      assert Thread.run(thread, [%{type: :image, url: "x"}]) ==
               {:error, {:unsupported_input, :exec}}

      assert Thread.run(thread, [%{type: :text}]) == {:error, {:invalid_input, %{type: :text}}}

      limit = 1_048_576

      assert Thread.run(thread, String.duplicate("é", limit + 1)) ==
               {:error, {:input_too_large, limit + 1, limit}}

      assert {:ok, _} = Thread.run(thread, String.duplicate("é", limit))
    end

    test "options that are none name the nearest" do
      {:ok, thread} = Codex.start_thread(codex_path: "/bin/true")

      assert {:error,
              %Codex.OptionError{reason: :unknown, path: [:timout_ms], nearest: :timeout_ms}} =
               Thread.run(thread, "hi", timout_ms: 1)

      assert {:error,
              %Codex.OptionError{reason: :unknown, path: ["timout_ms"], nearest: :timeout_ms}} =
               Thread.run(thread, "hi", %{"timout_ms" => 1})

      for {option, n} <- [
            timeout_ms: 0,
            timeout_ms: 0x100000000,
            exit_timeout_ms: 0x100000000,
            stream_idle_timeout_ms: 0x100000000,
            max_line_bytes: 0x8000000000000000
          ] do
        assert short(Thread.run(thread, "hi", [{option, n}])) == {:error, {:invalid, [option], n}}
      end

      assert short(Exec.run("hi", codex_opts: thread.codex_opts, timeout_ms: 0)) ==
               {:error, {:invalid, [:timeout_ms], 0}}

      assert short(Codex.start_thread(base_url: 5)) ==
               {:error, {:invalid, [:base_url], "[redacted]"}}

      assert short(Thread.run(thread, "hi", env: [{"A=B", "c"}])) ==
               {:error, {:invalid, [:env], "[redacted]"}}

      assert Thread.run(thread, "hi", output_schema: %{a: self()}) |> elem(1) |> elem(0) ==
               :invalid_output_schema

      assert {:error,
              %Codex.OptionError{reason: :unknown, path: [:max_attempt], nearest: :max_attempts}} =
               Thread.run_auto(thread, "hi", max_attempt: 1)

      for options <- [[], [codex_opts: nil], [thread: thread]],
          do: assert(Exec.run("hi", options) == {:error, :missing_options})

      for {option, value, shown} <- [
            {:codex_opts, [api_key: "sk"], "[redacted]"},
            {:thread, {:ok, thread}, "[redacted]"},
            {:thread, %{thread_opts: %{}}, "[redacted]"},
            {:output_schema_path, 1, 1}
          ] do
        options = Keyword.put([codex_opts: thread.codex_opts], option, value)
        assert short(Exec.run("hi", options)) == {:error, {:invalid, [option], shown}}
      end

      assert short(Exec.run("hi", codex_opts: thread.codex_opts, attachments: 1)) ==
               {:error, {:invalid, [:attachments], 1}}

      assert short(Exec.run("hi", codex_opts: thread.codex_opts, continuation_token: "t")) ==
               {:error, {:unsupported, [:continuation_token], nil}}

      assert Exec.review(:everything, codex_opts: thread.codex_opts) ==
               {:error, {:invalid_review_target, :everything}}

      both = [full_auto: true, dangerously_bypass_approvals_and_sandbox: true]

      assert short(Codex.start_thread([], both)) == {:error, {:invalid, [:full_auto], true}}

      assert Thread.run(thread, "hi", ask_for_approval: :untrusted) ==
               {:error, {:unsupported_option, :ask_for_approval, :untrusted}}
    end

    test "a line over the budget is an error event; the turn goes on", %{tmp_dir: dir} do
      body = ~S(echo "$started"; head -c 100000 /dev/zero | tr '\0' x; echo; echo "$turn")
      assert {:ok, result} = dir |> thread(body) |> Thread.run("hi", max_line_bytes: 50_000)

      for {option, text} <- [max_line_bytes: "max_line_bytes", max_line_nodes: "over 1 values"] do
        assert {:error, {:exec_failed, error}} =
                 dir |> thread("echo \"$turn\"") |> Thread.run("hi", [{option, 1}])

        assert error.kind == :overflow
        assert error.message =~ text
      end

      assert [%Events.Error{additional_details: %{"line_bytes" => 100_000}}] =
               for(%Events.Error{} = e <- result.events, do: e)
    end

    test "so is one of too many values", %{tmp_dir: dir} do
      body = ~S(echo "$started"; echo '[[],[],[],[],[],[],[],[],[],[]]'; echo "$turn")
      assert {:ok, result} = dir |> thread(body) |> Thread.run("hi", max_line_nodes: 10)

      assert [%Events.Error{additional_details: %{"max_line_nodes" => 10}}] =
               for(%Events.Error{} = e <- result.events, do: e)

      assert {:error, %Codex.OptionError{path: [:max_line_nodes], value: 0}} =
               dir |> thread(body) |> Thread.run("hi", max_line_nodes: 0)
    end

    test "no secret is shown" do
      {:ok, thread} =
        Codex.start_thread([api_key: "sk-secret", env: %{"TOKEN" => "sk-secret"}],
          config_overrides: ["a.token=sk-secret", {"b", "sk-secret"}]
        )

      refute inspect(thread) =~ "sk-secret"
      assert inspect(thread) =~ "TOKEN"
      assert inspect(thread) =~ "a.token=[redacted]"

      assert {:error, %Codex.OptionError{reason: :not_options, value: :odd}} =
               Codex.start_thread([{:api_key, "sk-secret"}, :odd])

      for {bad, which} <- [
            {["a=sk-secret", %{}], []},
            {%{"k" => {:x, "sk-secret"}}, ["k"]},
            {["a=1" | "x"], []},
            {%{"a=b" => 1}, []},
            {7, []}
          ] do
        assert short(Codex.start_thread([], config_overrides: bad)) ==
                 {:error, {:invalid, [:config_overrides | which], "[redacted]"}}
      end
    end

    test "a key from a variable that is not set is an error" do
      for key <- [nil, "", " \n"], options <- [[api_key: key], %{"api_key" => key}] do
        assert {:error, error} = Codex.start_thread(options)
        assert %Codex.OptionError{path: [:api_key]} = error
        assert Exception.message(error) =~ "is the variable set"
      end

      {:ok, options} = Codex.Options.new([])
      assert options.api_key == nil

      assert short(Codex.start_thread(%{options | api_key: ""})) ==
               {:error, {:invalid, [:api_key], ""}}

      assert {:ok, _} = Codex.start_thread(options)
      assert short(Codex.start_thread(base_url: "")) == {:error, {:invalid, [:base_url], ""}}
    end

    test "what is no list of options or blocks", %{tmp_dir: dir} do
      thread = thread(dir, ~S(echo "$turn"))

      assert {:error, %Codex.OptionError{reason: :not_options, value: :odd}} =
               Thread.run(thread, "hi", [:odd])

      assert {:error, %Codex.OptionError{reason: :not_options, value: :odd}} =
               Thread.run_auto(thread, "hi", [:odd])

      blocks = [%{type: :text, text: "a"} | :b]
      assert Thread.run(thread, blocks) == {:error, {:invalid_input, blocks}}
      assert Thread.run(thread, [%{type: {1}}]) == {:error, {:invalid_input, %{type: {1}}}}
      dirs = ["a" | "b"]

      assert short(Codex.start_thread([], additional_directories: dirs)) ==
               {:error, {:invalid, [:additional_directories], dirs}}
    end

    test "string keys are keys", %{tmp_dir: dir} do
      thread = thread(dir, ~S(echo "$turn"))
      opts = %{"turn_opts" => %{"timeout_ms" => 5_000}}
      assert {:ok, _} = Thread.run(thread, "hi", opts)

      assert {:ok, _} =
               Exec.run("hi", %{"codex_opts" => thread.codex_opts, "timeout_ms" => 5_000})
    end

    test "every way to run a turn takes the same options", %{tmp_dir: dir} do
      thread = thread(dir, ~S(echo "$turn"))

      runs = [
        &Thread.run(thread, "hi", &1),
        &Thread.run(thread, "hi", turn_opts: &1),
        &Thread.run_turn(thread, "hi", &1),
        &Thread.run_streamed(thread, "hi", &1),
        &Thread.run_turn_streamed(thread, "hi", &1)
      ]

      for run <- runs do
        assert {:ok, _} = run.(config_overrides: %{"a.b" => 1, "c" => ~D[2026-01-02]})
        assert {:error, %{reason: :unknown, nearest: :model}} = run.(modle: "x")
      end

      assert {:ok, _} = Thread.run(thread, "hi", nil)
    end

    test "options beside turn_opts are checked", %{tmp_dir: dir} do
      thread = thread(dir, ~S(echo "$turn"))
      assert {:ok, _} = Thread.run(thread, "hi", turn_opts: [], timeout_ms: 5_000)

      assert {:error, %{reason: :unknown, key: :modle}} =
               Thread.run(thread, "hi", turn_opts: [], modle: "x")

      assert {:error, error} = Thread.run(thread, "hi", turn_opts: 5)

      assert Exception.message(error) ==
               "option :turn_opts must be a keyword list or a map, got: 5"
    end

    test "options that do not go together" do
      {:ok, thread} = Codex.start_thread([codex_path: "/bin/true"], full_auto: true)

      assert short(Thread.run(thread, "hi", dangerously_bypass_approvals_and_sandbox: true)) ==
               {:error, {:invalid, [:full_auto], true}}

      assert Exec.review("look", codex_opts: thread.codex_opts, attachments: ["i.png"]) ==
               {:error, {:unsupported_option, :images}}
    end
  end

  describe "arguments and environment" do
    defp seen(dir, opts, thread_opts, turn_opts) do
      path =
        Stub.write!(
          dir,
          ~s(for a in "$@"; do echo "$a"; done > #{dir}/args; env > #{dir}/env; echo "$turn")
        )

      {:ok, thread} = Codex.start_thread([codex_path: path] ++ opts, thread_opts)
      {:ok, _} = Thread.run(thread, "hi", turn_opts)

      env =
        for line <- File.stream!(Path.join(dir, "env")),
            [k, v] <- [String.split(String.trim(line), "=", parts: 2)],
            into: %{},
            do: {k, v}

      {dir |> Path.join("args") |> File.read!() |> String.split("\n", trim: true), env}
    end

    test "nothing is sent that was not set", %{tmp_dir: dir} do
      assert {["exec", "--json", "--", "-"], env} = seen(dir, [], [], [])
      refute Map.has_key?(env, "CODEX_API_KEY")
    end

    test "every option has its place", %{tmp_dir: dir} do
      {args, _} =
        seen(
          dir,
          [model: "m0", reasoning_effort: :high, base_url: "http://127.0.0.1:1"],
          [
            model: "m1",
            sandbox: :workspace_write,
            working_directory: dir,
            additional_directories: ["/a", "/b"],
            skip_git_repo_check: true,
            ask_for_approval: :on_request,
            network_access_enabled: false,
            model_verbosity: :low,
            profile: "p",
            config_overrides: %{"x.y" => "say \"hi\""}
          ],
          profile: "q",
          color: :never,
          config_overrides: ["z=1"]
        )

      {flags, config} = Enum.split_while(Enum.drop(args, 2), &(&1 != "--config"))

      assert flags ==
               ~w(--profile q --cd #{dir} --add-dir /a --add-dir /b --skip-git-repo-check --model m1) ++
                 ~w(--sandbox workspace-write --color never)

      assert config
             |> Enum.drop(-2)
             |> Enum.chunk_every(2)
             |> Enum.map(fn ["--config", told] -> told end) == [
               ~S(openai_base_url="http://127.0.0.1:1"),
               ~S(model_reasoning_effort="high"),
               ~S(model_verbosity="low"),
               "sandbox_workspace_write.network_access=false",
               ~S(approval_policy="on-request"),
               ~S(x.y="say \"hi\""),
               "z=1"
             ]
    end

    test "what the CLI dropped maps to what it has", %{tmp_dir: dir} do
      {args, _} = seen(dir, [], [full_auto: true], [])

      assert args == [
               "exec",
               "--json",
               "--sandbox",
               "workspace-write",
               "--config",
               "approval_policy=\"on-request\"",
               "--",
               "-"
             ]

      {args, _} = seen(dir, [], [full_auto: true, sandbox: :read_only], full_auto: false)
      assert args == ["exec", "--json", "--sandbox", "read-only", "--", "-"]
    end

    test "the key is in the environment and nowhere else", %{tmp_dir: dir} do
      {args, env} =
        seen(dir, [api_key: "sk-secret", env: %{"A" => "1", "HOME" => nil}], [],
          env: [A: 2, B: "3"]
        )

      assert %{
               "CODEX_API_KEY" => "sk-secret",
               "OPENAI_API_KEY" => "sk-secret",
               "A" => "2",
               "B" => "3"
             } = env

      refute Map.has_key?(env, "HOME")
      refute Enum.any?(args, &(&1 =~ "sk-secret"))
    end

    test "a clean environment", %{tmp_dir: dir} do
      System.put_env("CODEX_SDK_TEST_LEAK", "1")
      {_, env} = seen(dir, [codex_home: dir], [], clear_env?: true, env: %{"B" => "3"})
      assert %{"PATH" => _, "CODEX_HOME" => ^dir, "B" => "3"} = env
      refute Map.has_key?(env, "CODEX_SDK_TEST_LEAK")
    end

    test "images and threads", %{tmp_dir: dir} do
      image = Path.join(dir, "i.png")
      File.write!(image, "")
      {args, _} = seen(dir, [], [attachments: [image]], images: [%{path: image}])
      assert args == ["exec", "--json", "-i", image, "-i", image, "--", "-"]

      path = Stub.write!(dir, ~s(for a in "$@"; do echo "$a"; done > #{dir}/args; echo "$turn"))
      {:ok, thread} = Codex.resume_thread(:last, codex_path: path)

      {:ok, _} =
        Thread.run(thread, [
          %{type: :text, text: "a"},
          %{"type" => "local_image", "path" => image}
        ])

      assert File.read!(Path.join(dir, "args")) ==
               "exec\n--json\nresume\n--last\n-i\n#{image}\n--\n-\n"
    end
  end

  describe "resuming" do
    @id "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"

    test "a thread that is another one is an error, and stopped", %{tmp_dir: dir} do
      body = "echo $$ > #{dir}/pid; echo \"$started\"; exec sleep 1000"
      other = "01a1f6cd-7e5b-7451-8c66-48b5fcaa0700"
      {:ok, thread} = Codex.resume_thread(other, codex_path: Stub.write!(dir, body))

      assert {:error, {:exec_failed, %Error{kind: :thread_not_found, message: message}}} =
               Thread.run(thread, "hi")

      assert message =~ other
      refute alive?(read_pid(Path.join(dir, "pid")))
    end

    test "usage of a thread that somebody else began is its total, and says so", %{tmp_dir: dir} do
      body = ~S(echo "$started"; echo '{"type":"turn.completed","usage":{"input_tokens":300}}')
      {:ok, thread} = Codex.resume_thread(@id, codex_path: Stub.write!(dir, body))

      assert {:ok, %{usage: %{"input_tokens" => 300}, usage_scope: :thread} = result} =
               Thread.run(thread, "hi")

      assert {:ok, %{usage: %{"input_tokens" => 0}, usage_scope: :turn}} =
               Thread.run(result.thread, "hi")
    end

    test "/new forgets the thread", %{tmp_dir: dir} do
      {:ok, thread} =
        Codex.resume_thread(@id,
          codex_path: Stub.write!(dir, ~s(echo "$@" > #{dir}/args; echo "$turn"))
        )

      assert {:ok, %{usage_scope: :turn}} = Thread.run(thread, " /new\n")
      assert File.read!(Path.join(dir, "args")) == "exec --json -- -\n"
    end
  end

  describe "RunResultStreaming" do
    alias Codex.{RunResultStreaming, StreamEvent}

    test "pop gives one at a time, from any process", %{tmp_dir: dir} do
      {:ok, run} = dir |> thread(~S(echo "$turn")) |> Thread.run_streamed("hi")
      assert {:ok, %StreamEvent.AgentUpdated{}} = RunResultStreaming.pop(run)

      assert {:ok, %StreamEvent.RunItem{type: :thread_started}} =
               Task.await(Task.async(fn -> RunResultStreaming.pop(run) end))

      assert {:ok, %StreamEvent.RunItem{type: :item_completed}} = RunResultStreaming.pop(run)
      assert RunResultStreaming.usage(run) == %{}
      assert {:ok, %StreamEvent.RunItem{type: :turn_completed}} = RunResultStreaming.pop(run)

      assert {:ok,
              %StreamEvent.RawResponses{
                usage: %{"input_tokens" => 100},
                events: [_, _, _],
                thread: thread
              }} = RunResultStreaming.pop(run)

      assert thread.thread_id == "01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"
      assert RunResultStreaming.pop(run) == :done
      assert RunResultStreaming.pop(run) == :done
      assert RunResultStreaming.usage(run) == %{"input_tokens" => 100, "output_tokens" => 20}
    end

    test "a pop that times out loses nothing", %{tmp_dir: dir} do
      body =
        "mkfifo #{dir}/go; echo \"$started\"; read x < #{dir}/go; echo \"$message\"; echo \"$completed\""

      {:ok, run} = dir |> thread(body) |> Thread.run_streamed("hi")
      {:ok, %StreamEvent.AgentUpdated{}} = RunResultStreaming.pop(run)
      {:ok, %StreamEvent.RunItem{type: :thread_started}} = RunResultStreaming.pop(run)
      assert RunResultStreaming.pop(run, 20) == {:error, :timeout}
      assert RunResultStreaming.pop(run, 0) == {:error, :timeout}
      File.write!(Path.join(dir, "go"), "x\n")
      assert {:ok, %StreamEvent.RunItem{type: :item_completed}} = RunResultStreaming.pop(run)
      assert {:ok, %StreamEvent.RunItem{type: :turn_completed}} = RunResultStreaming.pop(run)
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "pops that time out around the arrival lose and double nothing", %{tmp_dir: dir} do
      body =
        ~S|echo "$started"; i=0; while [ $i -lt 200 ]; do echo '{"type":"n","n":'$i'}'; i=$((i+1)); done; | <>
          ~S|echo "$completed"|

      thread = thread(dir, body)

      for _ <- 1..5 do
        {:ok, run} = Thread.run_streamed(thread, "hi")
        assert pop_all(run, []) == Enum.to_list(0..199)
        assert Process.info(self(), :messages) == {:messages, []}
      end
    end

    defp pop_all(run, popped) do
      case RunResultStreaming.pop(run, Enum.random([0, 0, 1, 5])) do
        {:error, :timeout} -> pop_all(run, popped)
        {:ok, %{event: %Events.Unknown{raw: %{"n" => n}}}} -> pop_all(run, [n | popped])
        {:ok, _other} -> pop_all(run, popped)
        :done -> Enum.reverse(popped)
      end
    end

    test "cancel ends a run that is popped, and pop says why", %{tmp_dir: dir} do
      {:ok, run} =
        dir
        |> thread("echo $$ > #{dir}/pid; echo \"$started\"; exec sleep 1000")
        |> Thread.run_streamed("hi")

      {:ok, _} = RunResultStreaming.pop(run)
      {:ok, _} = RunResultStreaming.pop(run)
      waiting = Task.async(fn -> RunResultStreaming.pop(run) end)
      assert :ok = RunResultStreaming.cancel(run)
      assert {:error, %{message: "the run was cancelled"}} = Task.await(waiting)
      assert RunResultStreaming.pop(run) == :done
      refute alive?(read_pid(Path.join(dir, "pid")))
    end

    test "runs with the same token, or with none, are popped each by itself", %{tmp_dir: dir} do
      thread = thread(dir, ~S(echo "$turn"))

      for opts <- [[cancellation_token: "same"], [cancellation_token: nil]] do
        {:ok, a} = Thread.run_streamed(thread, "a", opts)
        {:ok, b} = Thread.run_streamed(thread, "b", opts)
        assert {:ok, %StreamEvent.AgentUpdated{}} = RunResultStreaming.pop(a)
        assert {:ok, %StreamEvent.AgentUpdated{}} = RunResultStreaming.pop(b)
        for run <- [a, b], do: assert(:ok = RunResultStreaming.cancel(run))
      end
    end

    test "many that pop share the events, and all hear of the end", %{tmp_dir: dir} do
      thread = thread(dir, ~S(echo "$turn"))

      for _ <- 1..20 do
        {:ok, run} = Thread.run_streamed(thread, "hi")
        pop = fn _ -> fn -> RunResultStreaming.pop(run) end |> Stream.repeatedly() |> popped() end
        events = 1..4 |> Enum.map(&Task.async(fn -> pop.(&1) end)) |> Task.await_many()
        assert events |> List.flatten() |> length() == 5
      end
    end

    defp popped(pops) do
      pops |> Stream.take_while(&(&1 != :done)) |> Enum.map(fn {:ok, event} -> event end)
    end

    test "a failure that comes after a pop gave up is not lost", %{tmp_dir: dir} do
      body = "mkfifo #{dir}/go; echo \"$started\"; read x < #{dir}/go; exit 3"
      {:ok, run} = dir |> thread(body) |> Thread.run_streamed("hi")
      for _ <- 1..2, do: {:ok, _} = RunResultStreaming.pop(run)
      assert RunResultStreaming.pop(run, 20) == {:error, :timeout}
      [{reader, _}] = Registry.lookup(Codex.RunResultStreaming.Registry, run.progress)
      {:links, links} = Process.info(reader, :links)
      port = Enum.find(links, &is_port/1)
      File.write!(Path.join(dir, "go"), "x\n")
      assert eventually(fn -> Port.info(port) == nil end)

      assert {:error, %Error{exit_status: 3}} = RunResultStreaming.pop(run)
      assert RunResultStreaming.pop(run) == :done
      assert eventually(fn -> not Process.alive?(reader) end)
    end

    test "cancel leaves nothing that waits for a pop", %{tmp_dir: dir} do
      {:ok, run} =
        dir |> thread("echo \"$started\"; exec sleep 1000") |> Thread.run_streamed("hi")

      for _ <- 1..2, do: {:ok, _} = RunResultStreaming.pop(run)
      [{reader, _}] = Registry.lookup(Codex.RunResultStreaming.Registry, run.progress)
      ref = Process.monitor(reader)
      :ok = RunResultStreaming.cancel(run)
      assert_receive {:DOWN, ^ref, :process, _, :normal}, 5_000

      assert {:error, %Error{kind: :interrupted, message: "the run was cancelled"}} =
               RunResultStreaming.pop(run)

      assert RunResultStreaming.pop(run) == :done
    end

    test "cancel ends this run only, and a token of the caller ends all that have it", %{
      tmp_dir: dir
    } do
      body = "echo $$ > #{dir}/$$.pid; echo \"$started\"; exec sleep 1000"
      thread = thread(dir, body)
      token = "token-#{System.unique_integer()}"

      [first, second, third] =
        for _ <- 1..3 do
          {:ok, run} = Thread.run_streamed(thread, "hi", cancellation_token: token)
          {:ok, _} = RunResultStreaming.pop(run)
          {:ok, _} = RunResultStreaming.pop(run)
          run
        end

      :ok = RunResultStreaming.cancel(first)
      assert {:error, _} = RunResultStreaming.pop(first)
      assert RunResultStreaming.pop(second, 20) == {:error, :timeout}
      :ok = Exec.cancel(token)
      assert {:error, %{message: "the run was cancelled"}} = RunResultStreaming.pop(second)
      assert {:error, %{message: "the run was cancelled"}} = RunResultStreaming.pop(third)

      for file <- Path.wildcard(Path.join(dir, "*.pid")) do
        pid = read_pid(file)
        assert eventually(fn -> not alive?(pid) end)
      end
    end

    test "a run that was cancelled before does not start", %{tmp_dir: dir} do
      {:ok, run} =
        dir |> thread("echo $$ > #{dir}/pid; echo \"$turn\"") |> Thread.run_streamed("hi")

      :ok = RunResultStreaming.cancel(run)
      assert_raise Error, ~r/cancelled/, fn -> Enum.to_list(RunResultStreaming.events(run)) end
      refute File.exists?(Path.join(dir, "pid"))
    end

    test "the process behind pop ends with the one that popped first", %{tmp_dir: dir} do
      {:ok, run} =
        dir
        |> thread("echo $$ > #{dir}/pid; echo \"$started\"; exec sleep 1000")
        |> Thread.run_streamed("hi")

      test = self()

      popper =
        spawn(fn ->
          for _ <- 1..2, do: RunResultStreaming.pop(run)
          send(test, :popped)
          RunResultStreaming.pop(run, :infinity)
        end)

      assert_receive :popped, 5_000
      pid = read_pid(Path.join(dir, "pid"))
      Process.exit(popper, :kill)
      assert eventually(fn -> not alive?(pid) end)

      # The others hear of it, and the turn is not run again.
      assert {:error, %Error{kind: :interrupted}} = RunResultStreaming.pop(run)
      assert RunResultStreaming.pop(run) == :done
      assert read_pid(Path.join(dir, "pid")) == pid
    end
  end
end
