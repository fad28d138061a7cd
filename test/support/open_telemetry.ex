defmodule Codex.OpenTelemetryStandIn do
  @moduledoc """
  Stands in for `opentelemetry_api` with an SDK that keeps spans in a table: the functions that the
  bridge calls, with the names, arguments and results of that package.
  """

  @modules [:opentelemetry, :otel_ctx, :otel_tracer, :otel_span]
  # They are compiled while a test runs.
  @compile {:no_warn_undefined, @modules}
  @table :open_telemetry_stand_in

  @source """
  defmodule :opentelemetry do
    def get_tracer(name) when is_atom(name), do: {:stand_in, name}
    def status(:error, message) when is_binary(message), do: {:status, :error, message}
  end

  defmodule :otel_ctx do
    def get_current, do: Process.get(:stand_in_ctx, %{})

    def attach(ctx) do
      previous = get_current()
      Process.put(:stand_in_ctx, ctx)
      previous
    end

    def detach(token) do
      Process.put(:stand_in_ctx, token)
      :ok
    end
  end

  defmodule :otel_tracer do
    def current_span_ctx(ctx), do: ctx[:span]
    def set_current_span(ctx, span), do: Map.put(ctx, :span, span)

    def set_current_span(span),
      do: :otel_ctx.attach(set_current_span(:otel_ctx.get_current(), span))

    def start_span({:stand_in, scope}, name, %{kind: kind, attributes: attributes})
        when is_binary(name) and is_map(attributes) do
      id = System.unique_integer([:positive, :monotonic])
      parent = current_span_ctx(:otel_ctx.get_current())

      span = %{
        id: id,
        parent: parent,
        scope: scope,
        name: name,
        kind: kind,
        attributes: attributes,
        events: [],
        status: nil,
        ends: 0
      }

      :ets.insert(#{inspect(@table)}, {id, span})
      id
    end
  end

  defmodule :otel_span do
    def set_attribute(span, name, value), do: set_attributes(span, %{name => value})

    def set_attributes(span, attributes) when is_map(attributes),
      do: update(span, &%{&1 | attributes: Map.merge(&1.attributes, attributes)})

    def add_event(span, name, attributes) when is_binary(name) and is_map(attributes),
      do: update(span, &%{&1 | events: &1.events ++ [name]})

    def set_status(span, {:status, :error, _} = status), do: update(span, &%{&1 | status: status})

    def end_span(span) do
      update(span, &%{&1 | ends: &1.ends + 1})
      span
    end

    defp update(id, fun) do
      [{^id, span}] = :ets.lookup(#{inspect(@table)}, id)
      :ets.insert(#{inspect(@table)}, {id, fun.(span)})
    end
  end
  """

  @doc "Loads the modules until the test ends. No other test may run meanwhile."
  def load! do
    :ets.new(@table, [:named_table, :public])
    Code.compile_string(@source)

    ExUnit.Callbacks.on_exit(fn ->
      for module <- @modules, do: :code.delete(module) and :code.purge(module)
    end)
  end

  @doc "Returns the spans, in the order of their starts."
  def spans,
    do: for({_id, span} <- @table |> :ets.tab2list() |> Enum.sort(), do: span)

  @doc "Starts a span of the application, which is current in this process."
  def start_parent! do
    span =
      :otel_tracer.start_span(
        {:stand_in, :app},
        "app",
        %{kind: :internal, attributes: %{}}
      )

    :otel_tracer.set_current_span(span)
    span
  end
end
