defmodule Codex.Telemetry.OpenTelemetryTest do
  # The whole VM has `:telemetry` and OpenTelemetry, or has not.
  use ExUnit.Case, async: false

  import Codex.Test.Steps
  alias Codex.{OpenTelemetryStandIn, Stub, Telemetry, TelemetryStandIn, Test, Thread}

  @moduletag :tmp_dir
  # `Codex.OpenTelemetryStandIn` defines it.
  @compile {:no_warn_undefined, :otel_ctx}

  @prompt "a prompt with private words"
  @command %{type: "command_execution", id: "item_1", command: "private"}
  @started Map.merge(@command, %{aggregated_output: "", exit_code: nil, status: "in_progress"})
  @failed Map.merge(@command, %{aggregated_output: "private", exit_code: 2, status: "failed"})
  @search %{type: "web_search", id: "item_2", query: "private"}

  test "needs :telemetry and opentelemetry_api" do
    assert Telemetry.attach_opentelemetry() == {:error, :no_telemetry}
    TelemetryStandIn.load!()
    assert {:error, :opentelemetry_unavailable} = error = Telemetry.attach_opentelemetry()
    assert %{kind: :unsupported} = error |> elem(1) |> Codex.Error.normalize()
  end

  describe "with OpenTelemetry" do
    setup do
      TelemetryStandIn.load!()
      OpenTelemetryStandIn.load!()
      guide = File.read!("guides/telemetry.md")
      [code] = Regex.run(~r/^:ok = Codex.Telemetry.attach_opentelemetry.*$/m, guide)
      Code.eval_string(code)
      assert Telemetry.attach_opentelemetry() == {:error, :already_exists}
      :ok
    end

    # A program that prints these lines in a turn; `end_of_turn` is a command.
    defp thread(dir, lines, end_of_turn, options \\ []) do
      lines =
        for {stage, item} <- lines, do: Codex.JSON.encode!(%{type: "item.#{stage}", item: item})

      script = for line <- lines, do: "printf '%s\\n' '#{line}'\n"
      start = ~s(cat >/dev/null; echo "$started"\n)
      Stub.thread(dir, "#{start}#{script}#{end_of_turn}", options)
    end

    # Every span has ended once, and the process keeps nothing.
    defp spans! do
      spans = OpenTelemetryStandIn.spans()

      for span <- spans,
          span.scope == :codex_sdk,
          do: assert({span.name, span.ends} == {span.name, 1})

      assert for({{Codex.Telemetry.OpenTelemetry, _} = key, _} <- Process.get(), do: key) == []
      refute inspect(spans, limit: :infinity, printable_limit: :infinity) =~ "private"
      spans
    end

    test "a turn is a span below the caller's, and its tools are spans below it", context do
      parent = OpenTelemetryStandIn.start_parent!()

      lines = [started: @started, completed: @failed, completed: @search]
      last = ~s(echo "$message"; echo "$completed")
      options = [model: "gpt-test", telemetry_content: true]
      thread = thread(context.tmp_dir, lines, last, options)
      assert {:ok, result} = Thread.run(thread, @prompt)
      assert [_app, turn, command, search] = spans!()

      assert %{name: "invoke_agent codex", kind: :client, parent: ^parent, status: nil} = turn
      assert turn.events == ["codex.agent_message"]

      assert turn.attributes == %{
               "gen_ai.operation.name": "invoke_agent",
               "gen_ai.provider.name": "openai",
               "gen_ai.agent.name": "codex",
               "gen_ai.request.model": "gpt-test",
               "gen_ai.conversation.id": result.thread.thread_id,
               "gen_ai.usage.input_tokens": 100,
               "gen_ai.usage.output_tokens": 20,
               "codex.transport": "exec",
               "codex.result": "ok",
               "codex.attempts": 1
             }

      assert %{name: "execute_tool command", kind: :internal, parent: id} = command
      assert id == turn.id
      assert command.status == {:status, :error, "the tool failed"}

      assert command.attributes == %{
               "gen_ai.operation.name": "execute_tool",
               "gen_ai.tool.name": "command",
               "gen_ai.tool.call.id": "item_1",
               "codex.item.type": "command_execution",
               "error.type": "failed"
             }

      # An item without a start has a span, too.
      assert %{name: "execute_tool web_search", parent: ^id, status: nil} = search

      # The context of the caller is as before.
      assert :otel_ctx.get_current().span == parent
    end

    test "failures set the status, and open tools end with the turn", %{tmp_dir: dir} do
      assert {:error, _} = Thread.run(thread(dir, [started: @started], "exit 75"), @prompt)
      assert [turn, _command] = spans!()
      assert {:status, :error, message} = turn.status
      assert message =~ "75"
      assert %{"error.type": "crashed", "codex.result": "error"} = turn.attributes
    end

    test "a reader that stops early ends the span", %{tmp_dir: dir} do
      thread = thread(dir, [], "sleep 60")
      {:ok, events} = Thread.run_turn_streamed(thread, @prompt)
      assert [_first] = Enum.take(events, 1)
      assert [%{status: nil, attributes: %{"codex.result": "early_exit"}}] = spans!()
    end

    test "another prefix has a handler of its own", %{tmp_dir: dir} do
      thread = Stub.thread(dir, ~s(cat >/dev/null; echo "$turn"), telemetry_prefix: [:my, :agent])
      assert {:ok, _} = Thread.run(thread, @prompt)
      assert spans!() == []
      assert Telemetry.attach_opentelemetry(handler_id: "mine", prefix: [:my, :agent]) == :ok
      assert {:ok, _} = Thread.run(thread, @prompt)
      assert [%{name: "invoke_agent codex"}] = spans!()
    end

    @tag :codex_cli
    test "real turns on both transports" do
      model = Test.start!([shell("echo private"), "done", shell("echo private"), "done"])
      {:ok, conn} = Codex.AppServer.connect(Test.options(model), cwd: model.workspace)
      options = Test.thread_options(model)

      for transport <- [:exec, {:app_server, conn}] do
        {:ok, thread} = Codex.start_thread(Test.options(model), [transport: transport] ++ options)
        assert {:ok, _} = Thread.run(thread, @prompt)
      end

      Codex.AppServer.disconnect(conn)
      assert [exec, _, app_server, tool] = spans!()
      assert exec.attributes[:"codex.transport"] == "exec"
      assert app_server.attributes[:"codex.transport"] == "app_server"
      assert tool.parent == app_server.id

      for turn <- [exec, app_server],
          do: assert(turn.attributes[:"gen_ai.usage.input_tokens"] > 0)
    end
  end
end
