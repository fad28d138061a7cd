defmodule Codex.Telemetry.OpenTelemetry do
  @moduledoc false
  # The handler of `Codex.Telemetry.attach_opentelemetry/1`: an OpenTelemetry span for each turn and
  # for each tool in it, with the attributes of the semantic conventions for generative AI.
  #
  # The process that reads a turn emits its events, so the open spans are in the dictionary of that
  # process, under the `span_token` of the turn. They end with the turn; if the process is killed,
  # OpenTelemetry drops them.

  # The application may lack the package: `available?/0` is checked before a handler is attached.
  @compile {:no_warn_undefined, [:opentelemetry, :otel_ctx, :otel_span, :otel_tracer]}

  # Further tools have no span.
  @max_open 1_000

  @events [
    [:thread, :start],
    [:thread, :token_usage, :updated],
    [:item, :completed],
    [:tool, :start],
    [:tool, :success],
    [:tool, :failure],
    [:thread, :stop],
    [:thread, :exception]
  ]

  @doc "Returns whether the package `opentelemetry_api` is loaded."
  @spec available?() :: boolean()
  def available?,
    do: Enum.all?([api(), context(), span(), tracer()], &Code.ensure_loaded?/1)

  @doc "Returns the names of the events to handle."
  @spec events([atom()]) :: [[atom(), ...]]
  def events(prefix), do: Enum.map(@events, &(prefix ++ &1))

  @doc "Handles an event of a turn."
  @spec handle([atom(), ...], map(), map(), %{prefix: [atom()]}) :: :ok
  def handle(event, _measurements, meta, %{prefix: prefix}) do
    key = {__MODULE__, meta.span_token}

    case event |> Enum.drop(length(prefix)) |> on(meta, Process.get(key)) do
      nil -> Process.delete(key)
      turn -> Process.put(key, turn)
    end

    :ok
  end

  ## Turns

  defp on([:thread, :start], meta, _turn) do
    attributes = %{
      "gen_ai.operation.name": "invoke_agent",
      "gen_ai.provider.name": "openai",
      "gen_ai.agent.name": "codex",
      "codex.transport": to_string(meta.lane)
    }

    attributes = put(attributes, :"gen_ai.request.model", meta.model)
    %{span: start("invoke_agent codex", :client, attributes), tools: %{}}
  end

  # The handler was attached during the turn.
  defp on(_event, _meta, nil), do: nil

  defp on([:thread, :token_usage, :updated], %{delta: %{} = tokens}, turn) do
    %{}
    |> put(:"gen_ai.usage.input_tokens", tokens["input_tokens"])
    |> put(:"gen_ai.usage.output_tokens", tokens["output_tokens"])
    |> put(:"gen_ai.usage.cache_read.input_tokens", tokens["cached_input_tokens"])
    |> put(:"gen_ai.usage.reasoning.output_tokens", tokens["reasoning_output_tokens"])
    |> then(&span().set_attributes(turn.span, &1))

    turn
  end

  # Messages and reasoning have no start: they are events of the span.
  defp on([:item, :completed], %{item_type: type}, turn)
       when type in [:agent_message, :reasoning] do
    span().add_event(turn.span, "codex.#{type}", %{})
    turn
  end

  defp on([:tool, :start], meta, turn), do: open(turn, meta)

  defp on([:tool, outcome], meta, turn) when outcome in [:success, :failure] do
    case Map.pop(turn.tools, meta.call_id) do
      {nil, _tools} ->
        turn |> open(meta) |> close(meta)

      {_span, _tools} ->
        close(turn, meta)
    end
  end

  defp on([:thread, :stop], meta, turn), do: finish(turn, meta, meta.error)
  defp on([:thread, :exception], meta, turn), do: finish(turn, meta, meta.reason)
  defp on(_event, _meta, turn), do: turn

  defp finish(turn, meta, error) do
    for {_id, tool} <- turn.tools, do: span().end_span(tool)

    %{"codex.result": to_string(meta.result), "codex.attempts": meta.attempts}
    |> put(:"gen_ai.conversation.id", meta.thread_id)
    |> then(&span().set_attributes(turn.span, &1))

    if error, do: failed(turn.span, error.kind, error.message)
    span().end_span(turn.span)
    nil
  end

  ## Tools

  defp open(%{tools: tools} = turn, _meta) when map_size(tools) >= @max_open, do: turn

  defp open(turn, meta) do
    attributes = %{
      "gen_ai.operation.name": "execute_tool",
      "gen_ai.tool.name": to_string(meta.tool),
      "gen_ai.tool.call.id": meta.call_id,
      "codex.item.type": to_string(meta.item_type)
    }

    attributes = put(attributes, :"codex.mcp.server", meta.server)
    tool = in_turn(turn, fn -> start("execute_tool #{meta.tool}", :internal, attributes) end)
    put_in(turn.tools[meta.call_id], tool)
  end

  defp close(turn, meta) do
    {tool, tools} = Map.pop(turn.tools, meta.call_id)

    if tool do
      if meta.result == :error, do: failed(tool, meta.error, "the tool #{meta.error}")
      span().end_span(tool)
    end

    %{turn | tools: tools}
  end

  ## Spans

  # The parent is the current span of the process.
  defp start(name, kind, attributes) do
    options = %{kind: kind, attributes: attributes}
    tracer().start_span(api().get_tracer(:codex_sdk), name, options)
  end

  defp in_turn(turn, fun) do
    token = context().attach(tracer().set_current_span(context().get_current(), turn.span))

    try do
      fun.()
    after
      context().detach(token)
    end
  end

  defp failed(span, kind, message) do
    span().set_attribute(span, :"error.type", to_string(kind))
    span().set_status(span, api().status(:error, message))
  end

  defp put(attributes, _name, nil), do: attributes
  defp put(attributes, name, value), do: Map.put(attributes, name, value)

  # Functions, because Dialyzer does not know the modules.
  defp api, do: :opentelemetry
  defp context, do: :otel_ctx
  defp span, do: :otel_span
  defp tracer, do: :otel_tracer
end
