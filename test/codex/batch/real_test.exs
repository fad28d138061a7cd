defmodule Codex.Batch.RealTest do
  # Batches of the real CLI with a scripted model; `:telemetry` is stood in for.
  use ExUnit.Case, async: false

  alias Codex.{Batch, TelemetryStandIn, Test}
  alias Codex.Telemetry.Table

  @moduletag :codex_cli
  @moduletag timeout: 300_000

  # Answers with the last prompt.
  defp echo(%{body: %{"input" => input}}) do
    %{"content" => [%{"text" => text} | _]} = List.last(input)
    Test.Steps.message("You said: " <> text)
  end

  defp start(options \\ []) do
    model = Test.start!([], default: &echo/1)
    {model, [client: Test.options(model), thread: Test.thread_options(model)] ++ options}
  end

  defp sent(model),
    do: length(for %{path: "/v1/responses" <> _} = r <- Test.requests(model), do: r)

  test "each job runs once in a thread of its own" do
    {model, options} = start(max_concurrency: 3)
    batch = Codex.map(1..8, &%{key: "k#{&1}", prompt: "job #{&1}"}, options)
    results = Enum.to_list(batch)
    assert Enum.map(results, &to_string(&1.result)) == for(n <- 1..8, do: "You said: job #{n}")
    assert results |> Enum.map(& &1.thread_id) |> Enum.uniq() |> length() == 8
    assert sent(model) == 8
  end

  test "the cost comes from the recorded thread if no option names the model" do
    {_model, options} = start(max_concurrency: 1)
    slug = "codex-test"
    {:ok, batch} = Batch.new(["a"], options ++ [budget: [usd: 1.0]])
    [%{thread_id: id}] = Enum.to_list(batch)

    {:ok, %{rows: [_ | _]} = usage} =
      Codex.Sessions.usage(id, codex_home: options[:client][:codex_home], by: :model)

    slug = hd(usage.rows).key || slug

    {:ok, batch} =
      Batch.new(~w(a b c), options ++ [budget: [usd: 1.0], prices: %{slug => {1.0e6, 0, 0}}])

    assert [%{status: :ok, usd: usd}, %{status: :skipped, error: %{details: %{option: :budget}}}] =
             Enum.to_list(batch)

    assert usd > 1.0
  end

  test "telemetry has a span for the batch and for each job" do
    TelemetryStandIn.load!()
    TelemetryStandIn.listen!()
    {_model, options} = start()
    {:ok, batch} = Batch.new(["a", %{}], options)
    assert [:ok, :failed] = Enum.map(batch, & &1.status)

    told =
      for {[:batch | _] = name, measurements, metadata} <- TelemetryStandIn.told(),
          do: {name, measurements, metadata}

    for {name, measurements, metadata} <- told do
      {wanted, known, _content} = Table.keys(name)
      assert {name, Enum.sort(Map.keys(measurements))} == {name, Enum.sort(wanted)}
      assert {name, Enum.sort(Map.keys(metadata))} == {name, Enum.sort(known)}
      assert metadata.batch == batch.ref
    end

    names = Enum.map(told, &elem(&1, 0))
    assert hd(names) == [:batch, :start]
    assert {[:batch, :stop], _, %{reason: :done, counts: %{ok: 1, failed: 1}}} = List.last(told)
    assert Enum.count(names, &(&1 == [:batch, :job, :start])) == 1
    assert Enum.count(names, &(&1 == [:batch, :job, :stop])) == 2
  end
end
