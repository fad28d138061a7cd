defmodule Codex.Telemetry.MetricsTest do
  # The whole VM has `:telemetry` and `Telemetry.Metrics`, or has not.
  use ExUnit.Case, async: false

  alias Codex.{Stub, Telemetry, TelemetryStandIn, Thread}
  alias Codex.Telemetry.Table

  # `Codex.TelemetryStandIn` defines it.
  @compile {:no_warn_undefined, :telemetry}

  # Stands in for the package telemetry_metrics.
  @source """
  defmodule Telemetry.Metrics do
    for kind <- [:counter, :sum, :summary] do
      def unquote(kind)([_ | _] = name, options),
        do: Map.merge(%{kind: unquote(kind), name: name}, Map.new(options))
    end
  end
  """

  setup do
    Code.compile_string(@source)

    on_exit(&unload/0)
  end

  defp unload do
    :code.delete(Elixir.Telemetry.Metrics)
    :code.purge(Elixir.Telemetry.Metrics)
  end

  defp name(metric), do: Enum.join(metric.name, ".")

  test "without the package, the error names it" do
    unload()
    assert_raise RuntimeError, ~r/telemetry_metrics, "~> 1.0"/, fn -> Telemetry.metrics() end
  end

  test "events, measurements and tags exist, and names are unique" do
    metrics = Telemetry.metrics([:my, :agent])
    names = Enum.map(metrics, &name/1)
    assert "my.agent.thread.stop.duration_ms" in names
    assert names == Enum.uniq(names)

    for metric <- metrics do
      [:my, :agent | event] = metric.event_name
      {measurements, metadata, _content} = Table.keys(event)
      assert {name(metric), metric.tags -- metadata} == {name(metric), []}

      if is_atom(metric.measurement),
        do: assert(metric.measurement in measurements),
        else: assert(:delta in metadata)
    end
  end

  @tag :tmp_dir
  test "count the tokens and the time of a turn", %{tmp_dir: dir} do
    TelemetryStandIn.load!()
    test = self()

    record = fn event, measurements, meta, _ ->
      send(test, {:event, event, measurements, meta})
    end

    :ok = :telemetry.attach_many("record", Telemetry.events(), record, nil)
    assert {:ok, _} = Thread.run(Stub.thread(dir, ~s(cat >/dev/null; echo "$turn")), "Hello")
    events = events()

    values =
      for metric <- Telemetry.metrics(),
          {event, measurements, meta} <- events,
          event == metric.event_name,
          into: %{},
          do: {name(metric), value(metric.measurement, measurements, meta)}

    assert %{
             "codex.thread.token_usage.updated.input_tokens" => 100,
             "codex.thread.token_usage.updated.output_tokens" => 20,
             "codex.thread.token_usage.updated.cached_input_tokens" => nil,
             "codex.thread.stop.duration_ms" => ms
           } = values

    assert is_integer(ms)
  end

  defp value(fun, measurements, meta) when is_function(fun, 2), do: fun.(measurements, meta)
  defp value(key, measurements, _meta), do: measurements[key]

  defp events do
    receive do
      {:event, event, measurements, meta} -> [{event, measurements, meta} | events()]
    after
      0 -> []
    end
  end
end
