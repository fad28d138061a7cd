defmodule Codex.OtelTest do
  # Codex's own export, of a real turn, to a collector on loopback.
  use ExUnit.Case, async: true

  import Codex.Test.Steps
  alias Codex.{Http, JSON, Test, Thread}

  @moduletag :codex_cli

  @prompt "a prompt with private words"
  @parent "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

  defp run!(options, env \\ %{}) do
    test = self()

    url =
      Http.start!(fn
        "/v1/logs", body ->
          send(test, {:logs, body})
          {200, %{}}

        "/v1/traces", _spans ->
          {200, %{}}
      end)

    options = String.replace(options, "COLLECTOR", url)

    config = """
    otel.environment = "test"
    otel.metrics_exporter = "none"
    otel.exporter.otlp-http.endpoint = "#{url}/v1/logs"
    otel.exporter.otlp-http.protocol = "json"
    #{options}
    """

    model = Test.start!([shell("echo private output"), "done"], config: config)
    global = Keyword.update!(Test.options(model), :env, &Map.merge(&1, env))
    {:ok, thread} = Codex.start_thread(global, Test.thread_options(model))
    assert {:ok, result} = Thread.run(thread, @prompt)
    {result.thread.thread_id, records()}
  end

  # The CLI has sent all of them when it has ended.
  defp records do
    receive do
      {:logs, body} ->
        {:ok, logs} = JSON.decode(body)

        for(
          %{"scopeLogs" => scopes} <- logs["resourceLogs"],
          %{"logRecords" => records} <- scopes,
          record <- records,
          do: Map.put(attributes(record), "trace", record["traceId"])
        ) ++ records()
    after
      0 -> []
    end
  end

  defp attributes(%{"attributes" => attributes}) do
    Map.new(attributes, fn %{"key" => key, "value" => value} ->
      {key, value |> Map.values() |> List.first()}
    end)
  end

  defp named(records, name), do: Enum.filter(records, &(&1["event.name"] == name))

  test "records of a turn arrive: request, decision, result, and a prompt that is redacted" do
    {thread_id, records} = run!("")
    assert [%{"prompt" => "[REDACTED]"}] = named(records, "codex.user_prompt")
    refute inspect(records, limit: :infinity, printable_limit: :infinity) =~ @prompt

    assert [_, _] = requests = named(records, "codex.api_request")
    assert Enum.all?(requests, &(&1["http.response.status_code"] in ["200", 200]))

    assert [%{"tool_name" => "exec_command", "decision" => "approved"}] =
             named(records, "codex.tool_decision")

    assert [%{"tool_name" => "exec_command", "success" => success} = result] =
             named(records, "codex.tool_result")

    assert success in ["true", true]
    # Arguments and outputs of tools are in it, whatever is said of prompts.
    assert result["arguments"] =~ "echo private output"
    assert result["output"] =~ "private output"

    # The ids that both sides share.
    assert records |> Enum.map(& &1["conversation.id"]) |> Enum.uniq() == [thread_id]
  end

  test "the prompt is there when it is asked for" do
    {_, records} = run!("otel.log_user_prompt = true")
    assert [%{"prompt" => @prompt}] = named(records, "codex.user_prompt")
  end

  test "a trace of the application goes on in the CLI" do
    # Without an exporter, there are no traces, and records have no trace.
    traces = """
    otel.trace_exporter.otlp-http.endpoint = "COLLECTOR/v1/traces"
    otel.trace_exporter.otlp-http.protocol = "json"
    """

    {_, records} = run!(traces, %{"TRACEPARENT" => @parent})
    traced = for %{"trace" => trace} <- records, trace != "", uniq: true, do: trace
    assert traced == ["0af7651916cd43dd8448eb211c80319c"]
  end

  # Each conversation of the records, with its traces.
  defp traces(records) do
    for %{"conversation.id" => id, "trace" => trace} <- records, trace != "", reduce: %{} do
      traces -> Map.update(traces, id, [trace], &Enum.uniq([trace | &1]))
    end
  end

  test "two turns at once on one server go on in two traces" do
    test = self()

    url =
      Http.start!(fn
        "/v1/logs", body ->
          send(test, {:logs, body})
          {200, %{}}

        "/v1/traces", _spans ->
          {200, %{}}
      end)

    config = """
    otel.metrics_exporter = "none"
    otel.exporter.otlp-http.endpoint = "#{url}/v1/logs"
    otel.exporter.otlp-http.protocol = "json"
    otel.trace_exporter.otlp-http.endpoint = "#{url}/v1/traces"
    otel.trace_exporter.otlp-http.protocol = "json"
    """

    # Each turn waits for the other.
    answer = fn _request ->
      send(test, {:asked, self()})
      receive(do: (:go -> "done"))
    end

    model = Test.start!([], config: config, default: answer)
    {:ok, conn} = Codex.AppServer.connect(Test.options(model), cwd: model.workspace)
    options = Test.thread_options(model) ++ [transport: {:app_server, conn}]

    turns =
      for trace <- ["1af7651916cd43dd8448eb211c80319c", "2af7651916cd43dd8448eb211c80319c"] do
        Task.async(fn ->
          {:ok, thread} = Codex.start_thread([], options)
          parent = "00-#{trace}-b7ad6b7169203331-01"
          {:ok, result} = Thread.run(thread, @prompt, trace: parent)
          {result.thread.thread_id, [trace]}
        end)
      end

    assert_receive {:asked, one}, 30_000
    assert_receive {:asked, other}, 30_000
    for answering <- [one, other], do: send(answering, :go)
    expected = turns |> Task.await_many(60_000) |> Map.new()

    # The server sends the last batch at its end.
    ended = Process.monitor(conn)
    :ok = Codex.AppServer.disconnect(conn)
    assert_receive {:DOWN, ^ended, :process, _, _}, 10_000
    records = records()
    assert traces(named(records, "codex.user_prompt")) == expected
    assert traces(records) == expected
  end
end
