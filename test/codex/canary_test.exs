defmodule Codex.CanaryTest do
  # Marked secrets, through everything that may go wrong: none is ever shown.
  use ExUnit.Case, async: false

  import Codex.Stub, only: [write!: 2]
  import Codex.Test.Steps
  import ExUnit.CaptureLog
  alias Codex.{Auth, Error, Exec, Logins, Test, Thread}
  alias Codex.Auth.Credentials

  @moduletag :tmp_dir

  # A word that is nowhere else, and in every secret.
  @mark "canary7f3a"
  @key "sk-#{@mark}-api-key"
  @env_token "tok-#{@mark}-environment"
  @bearer "tok-#{@mark}-provider"
  @header "tok-#{@mark}-header"
  @mcp "tok-#{@mark}-mcp"

  # All that a run may be given.
  defp secrets do
    {
      [api_key: @key, env: %{"MY_SECRET_TOKEN" => @env_token}],
      [
        model_providers: %{
          "other" => %{
            "name" => "other",
            "base_url" => "http://127.0.0.1:9/v1",
            "experimental_bearer_token" => @bearer,
            "http_headers" => %{"x-token" => @header}
          }
        },
        mcp_servers: %{"tiny" => %{"command" => "true", "env" => %{"TINY_TOKEN" => @mcp}}},
        shell_environment_policy: %{set: %{"SET_TOKEN" => @env_token}},
        metadata: %{"session" => @env_token, user: @env_token},
        labels: %{"session" => @env_token}
      ]
    }
  end

  # Runs something and gives all that a person could read of it.
  defp shown(fun) do
    log =
      capture_log(fn ->
        result = fun.()
        send(self(), {:shown, inspect(result, limit: :infinity, printable_limit: :infinity)})
      end)

    assert_received {:shown, result}
    log <> result
  end

  defp messages(result) do
    case result do
      {:error, {_tag, %{__exception__: true} = error}} -> Exception.message(error)
      {:error, %{__exception__: true} = error} -> Exception.message(error)
      {:error, error} -> Exception.message(Error.normalize(error))
      _ok -> ""
    end
  end

  defp hidden!(text) do
    refute text =~ @mark, "shown: " <> inspect(Regex.run(~r/.{0,80}#{@mark}.{0,20}/s, text))
    true
  end

  test "values that hold secrets do not show them", %{tmp_dir: dir} do
    {global, thread} = secrets()
    stub = write!(dir, "exit 0")
    {:ok, thread} = Codex.start_thread([codex_path: stub] ++ global, thread)
    {:ok, options} = Codex.Options.new(global)
    {:ok, exec} = Exec.Options.new(codex_opts: options, thread: thread)
    {:ok, run} = Thread.run_streamed(thread, "hello")
    login = Credentials.api_key(@key)
    {:ok, chatgpt} = Credentials.parse(Logins.chatgpt(workspace: "acc"))

    for value <- [
          thread,
          options,
          exec,
          run,
          login,
          {:ok, [login]},
          %{login: login},
          thread.thread_opts
        ] do
      assert hidden!(inspect(value, limit: :infinity, printable_limit: :infinity))
    end

    # Names may be seen.
    policy = inspect(thread.thread_opts, limit: :infinity)
    for name <- ["SET_TOKEN", "session", "user"], do: assert(policy =~ name)

    shown = inspect(chatgpt, limit: :infinity, printable_limit: :infinity)
    refute shown =~ chatgpt.access_token
    refute shown =~ "refresh-1"
  end

  test "bad values are named without their secrets" do
    {global, thread} = secrets()

    for {global, thread} <- [
          {[modle: "x"] ++ global, thread},
          {[model: 5] ++ global, thread},
          {global, [sandbox: :none] ++ thread},
          {[{:odd, 1, 2} | global], thread},
          {[:odd | global], thread},
          {global, [mcp_servers: %{"a" => %{"env" => @mcp, "b" => {:odd, @mcp}}}]},
          {[env: %{"A" => {:odd, @env_token}}], []}
        ] do
      result = Codex.start_thread(global, thread)
      assert hidden!(shown(fn -> result end) <> messages(result))
    end
  end

  test "a CLI that prints its environment and its input, and then fails", %{tmp_dir: dir} do
    {global, thread} = secrets()

    for body <- [
          # on stderr, then an exit
          "env >&2; exit 1",
          # as an invalid event
          ~s(env; echo "$started"; exit 1),
          # as the turn's own failure
          ~s(echo "$started"; printf '{"type":"turn.failed","error":{"message":"no: %s %s"}}\\n' "$CODEX_API_KEY" "$MY_SECRET_TOKEN"; exit 1),
          # as an error that is not the end
          ~s(echo "$started"; printf '{"type":"error","message":"Reconnecting... %s"}\\n' "$CODEX_API_KEY"; env >&2; kill -9 $$)
        ] do
      {:ok, thread} = Codex.start_thread([codex_path: write!(dir, body)] ++ global, thread)

      for run <- [&Thread.run/2, &Thread.run_turn/2] do
        result = run.(thread, "hello")
        assert {:error, _} = result
        assert hidden!(shown(fn -> result end) <> messages(result))
        assert hidden!(shown(fn -> Error.normalize(elem(result, 1)) end))
      end

      text =
        shown(fn ->
          try do
            {:ok, stream} =
              Exec.run_stream("hello", codex_opts: thread.codex_opts, thread: thread)

            Enum.to_list(stream)
          rescue
            error ->
              {error, Exception.message(error), Exception.format(:error, error, __STACKTRACE__)}
          end
        end)

      assert hidden!(text)
    end
  end

  test "events of :telemetry, and lines of its default logger", %{tmp_dir: dir} do
    Codex.TelemetryStandIn.load!()
    Codex.TelemetryStandIn.listen!()
    {global, thread} = secrets()

    log =
      capture_log(fn ->
        :ok = Codex.Telemetry.attach_default_logger()

        for body <- [
              "env >&2; exit 1",
              ~s(echo "$turn"),
              ~s(echo "$started"; printf '{"type":"turn.failed","error":{"message":"no: %s %s"}}\\n' "$CODEX_API_KEY" "$MY_SECRET_TOKEN"; exit 1)
            ] do
          {:ok, thread} = Codex.start_thread([codex_path: write!(dir, body)] ++ global, thread)

          Thread.run(thread, "hello",
            retry: true,
            retry_opts: [max_attempts: 2, base_delay_ms: 1]
          )
        end
      end)

    told = Codex.TelemetryStandIn.told()
    assert Enum.count(told, &match?({[:thread, :start], _, _}, &1)) == 3
    assert hidden!(inspect(told, limit: :infinity, printable_limit: :infinity))
    assert log =~ "codex turn"
    assert hidden!(log)
  end

  test "a process that crashes with all of them at hand", %{tmp_dir: dir} do
    {global, thread} = secrets()
    {:ok, thread} = Codex.start_thread([codex_path: write!(dir, "exit 1")] ++ global, thread)

    log =
      capture_log(fn ->
        {:ok, pid} = Agent.start(fn -> {thread, Credentials.api_key(@key)} end)
        ref = Process.monitor(pid)
        catch_exit(Agent.get(pid, fn _state -> raise "no" end))
        assert_receive {:DOWN, ^ref, _, _, _}
        task = Task.async(fn -> Process.flag(:trap_exit, true) && Thread.run(thread, "hello") end)
        Task.await(task)
      end)

    assert log =~ "no"
    assert hidden!(log)

    status =
      capture_log(fn ->
        :ok =
          Auth.write(Credentials.api_key(@key),
            codex_home: Logins.home!(dir),
            cwd: false,
            store: :ephemeral
          )

        ref = Process.monitor(Codex.Auth.Runtime)
        catch_exit(GenServer.call(Codex.Auth.Runtime, :no_such_call))
        assert_receive {:DOWN, ^ref, _, _, _}, 5_000
      end)

    assert status =~ "Codex.Auth.Runtime"
    assert hidden!(status)
    # A new one is there.
    assert Codex.Stub.eventually(fn -> is_pid(Process.whereis(Codex.Auth.Runtime)) end)
  end

  @tag :codex_cli
  @tag :cli_pin
  test "a real run: output of `ps`, echoes of a provider, and the environment of commands" do
    {global, more} = secrets()

    model =
      Test.start!([shell("ps -eww -o args=; env"), http_error(401, "no such key: #{@key}")],
        config: "model_providers.mock.requires_openai_auth = true"
      )

    {:ok, thread} =
      Codex.start_thread(
        Keyword.update!(
          Test.options(model) ++ [api_key: @key],
          :env,
          &Map.merge(&1, global[:env])
        ),
        Test.thread_options(model) ++
          more ++
          [
            sandbox: :danger_full_access,
            shell_environment_policy: Auth.shell_environment_policy(["MY_SECRET_*", "TINY_TOKEN"])
          ]
      )

    result = Thread.run(thread, "look around")
    assert {:error, _} = result
    assert hidden!(shown(fn -> result end) <> messages(result))

    # The command has run, and saw neither arguments nor variables with a secret. The model got its
    # answer.
    assert [_question, %{body: %{"input" => input}}] = posts(model)
    output = List.last(input)["output"]
    assert output =~ "codex exec --json"
    assert output =~ "CODEX_THREAD_ID"
    assert hidden!(output)
  end

  @tag :codex_cli
  test "by default, commands see the key; the policy hides it" do
    model = Test.start!([shell("env"), "done"])

    {:ok, thread} =
      Codex.start_thread([api_key: @key] ++ Test.options(model), Test.thread_options(model))

    assert {:ok, _} = Thread.run(thread, "look around")
    assert [_, %{body: %{"input" => input}}] = posts(model)
    assert List.last(input)["output"] =~ "CODEX_API_KEY=" <> @key
  end

  defp posts(model), do: for(%{method: "POST"} = request <- Test.requests(model), do: request)
end
