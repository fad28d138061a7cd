defmodule Codex.Turn.Span do
  @moduledoc false
  # The telemetry of a turn, for any transport: a span, and events for items, tools and usage. A
  # value of `Codex.Turn.Driver`, which shows it every element of the turn.

  alias Codex.{Events, Items, Redaction, Telemetry, Turn}

  # Tools beyond this number have no start time.
  @max_open 1_000

  @tools [
    Items.CommandExecution,
    Items.DynamicToolCall,
    Items.McpToolCall,
    Items.FileChange,
    Items.WebSearch,
    Items.CollabToolCall
  ]

  @enforce_keys [:prefix, :meta, :began]
  defstruct [
    :prefix,
    :meta,
    :began,
    :usage,
    :failed,
    :known,
    :total,
    content?: false,
    attempts: 1,
    open: %{}
  ]

  @type t :: %__MODULE__{}

  @doc "Begins the span of a turn, if an application listens."
  @spec start(Codex.Turn.Job.t()) :: t() | nil
  def start(job), do: if(Telemetry.listening?(), do: begin(job))

  defp begin(%{thread: thread, settings: settings} = job) do
    transport = if job.transport == :exec, do: :exec, else: :app_server
    thread_id = thread && thread.thread_id

    meta = %{
      lane: transport,
      originator: :sdk,
      span_token: make_ref(),
      thread_id: thread_id,
      turn_id: nil
    }

    span = %__MODULE__{
      prefix: settings.telemetry_prefix,
      meta: meta,
      began: System.monotonic_time(),
      known: known(thread),
      content?: settings.telemetry_content == true
    }

    emit(span, [:thread, :start], %{}, %{model: settings.model}, fn ->
      {input, _count} = mask(elem(job.task, 1), settings.redact)
      %{input: input}
    end)

    span
  end

  defp mask(input, []), do: {input, 0}
  defp mask(input, patterns), do: Redaction.mask(input, Redaction.new(patterns))

  # The tokens that the thread has used before, or nil.
  defp known(%{thread_id: nil, resume: nil, fork_of: nil}), do: %{}
  defp known(%{usage: usage}) when usage != %{}, do: usage
  defp known(_thread), do: nil

  @doc "Returns prefix and metadata for the events of the turn's process, or nil."
  @spec of(t() | nil) :: {[atom(), ...], map()} | nil
  def of(nil), do: nil
  def of(span), do: {span.prefix, span.meta}

  @doc "Emits the events of one element of a turn."
  @spec observe(t(), Codex.Turn.Stored.element()) :: t()
  def observe(span, element), do: note(element, named(element, span))

  @doc "Ends the span: with `:exception` after an attempt that failed, else with `:stop`."
  @spec finish(t() | nil) :: :ok
  def finish(nil), do: :ok

  def finish(%{failed: {:failed, error}} = span) do
    reason = if span.content?, do: error, else: Telemetry.bare(error)
    details = %{result: :error, reason: reason, attempts: span.attempts}
    emit(span, [:thread, :exception], Telemetry.spent(span.began), details)
  end

  def finish(span) do
    {result, error} =
      case span.failed do
        {:turn, error} -> {:error, %{kind: error.kind, message: error.message}}
        nil when span.usage == nil -> {:early_exit, nil}
        nil -> {:ok, nil}
      end

    details = %{
      result: result,
      early_exit?: result == :early_exit,
      error: error,
      attempts: span.attempts,
      usage: span.usage
    }

    emit(span, [:thread, :stop], Telemetry.spent(span.began), details)
  end

  ## Elements

  # Attempts have turns of their own: the newest counts.
  defp named(%{turn_id: id}, span) when is_binary(id), do: put_in(span.meta.turn_id, id)
  defp named(_element, span), do: span

  defp note({:attempts, n}, span), do: %{span | attempts: n}
  defp note({:failed, error}, span), do: %{span | failed: {:failed, error}}
  defp note(%Events.ThreadStarted{thread_id: id}, span), do: put_in(span.meta.thread_id, id)

  defp note(%Events.ThreadTokenUsageUpdated{usage: total}, span), do: %{span | total: total}

  defp note(%Events.TurnCompleted{} = event, span) do
    {total, delta} = usage(event, span)

    if is_map(total) do
      emit(span, [:thread, :token_usage, :updated], %{}, %{usage: total, delta: delta})
    end

    fail(%{span | usage: total || %{}}, event)
  end

  defp note(%Events.TurnFailed{} = event, span), do: fail(span, event)

  defp note(%Events.ItemStarted{item: item}, span), do: span |> item(:started, item) |> open(item)
  defp note(%Events.ItemUpdated{item: item}, span), do: item(span, :updated, item)

  defp note(%Events.ItemCompleted{item: item}, span),
    do: span |> item(:completed, item) |> close(item)

  defp note(%Events.TurnDiffUpdated{diff: diff}, span) do
    emit(span, [:turn, :diff, :updated], %{}, %{}, fn -> %{diff: diff} end)
    span
  end

  defp note(%Events.TurnCompaction{stage: stage, compaction: compaction}, span),
    do: compaction(span, stage, compaction)

  defp note(_event, span), do: span

  defp fail(span, event) do
    case Turn.failure(event) do
      nil -> span
      error -> %{span | failed: span.failed || {:turn, error}}
    end
  end

  # Only numbers are emitted.
  defp compaction(span, stage, compaction) do
    stage = if stage in [:started, :completed, :failed], do: stage, else: :unknown
    facts = if is_map(compaction), do: compaction, else: %{}
    savings = facts["token_savings"] || facts["tokenSavings"]
    details = %{compaction: Map.filter(facts, fn {_, n} -> is_number(n) end), stage: stage}
    emit(span, [:turn, :compaction, stage], %{token_savings: savings}, details)
    span
  end

  # The running total, and the part of this turn.
  defp usage(%{usage: usage, usage_scope: :turn}, span), do: {span.total, usage}
  defp usage(%{usage: nil}, _span), do: {nil, nil}
  defp usage(%{usage: total}, span), do: {total, delta(total, span.known)}

  defp delta(_usage, nil), do: nil

  defp delta(usage, known) do
    Map.new(usage, fn
      {name, n} when is_number(n) -> {name, n - number(known[name])}
      other -> other
    end)
  end

  defp number(n) when is_number(n), do: n
  defp number(_none), do: 0

  defp item(span, stage, item) do
    details = %{
      item_id: Map.get(item, :id),
      item_type: type(item),
      status: Map.get(item, :status)
    }

    emit(span, [:item, stage], %{}, details, fn -> %{item: item} end)
    # Over an app-server it is an item.
    if match?(%Items.ContextCompaction{}, item), do: compaction(span, stage, %{}), else: span
  end

  defp type(%{type: type}), do: type
  defp type(_item), do: nil

  ## Tools

  defp open(span, %type{id: id} = item) when type in @tools do
    emit(span, [:tool, :start], %{}, tool(item), fn -> %{arguments: arguments(item)} end)

    if map_size(span.open) < @max_open,
      do: put_in(span.open[id], System.monotonic_time()),
      else: span
  end

  defp open(span, _item), do: span

  defp close(span, %type{id: id} = item) when type in @tools do
    {began, open} = Map.pop(span.open, id)
    content = fn -> %{arguments: arguments(item), output: output(item)} end

    case error(item) do
      nil ->
        emit(
          span,
          [:tool, :success],
          Telemetry.spent(began),
          Map.put(tool(item), :result, :ok),
          content
        )

      error ->
        details = %{result: :error, error: error, exit_code: Map.get(item, :exit_code)}

        emit(
          span,
          [:tool, :failure],
          Telemetry.spent(began),
          Map.merge(tool(item), details),
          content
        )
    end

    %{span | open: open}
  end

  defp close(span, _item), do: span

  defp tool(item),
    do: %{
      tool: name(item),
      server: Map.get(item, :server),
      call_id: item.id,
      item_type: type(item)
    }

  defp name(%Items.CommandExecution{}), do: "command"
  defp name(%Items.FileChange{}), do: "apply_patch"
  defp name(%Items.WebSearch{}), do: "web_search"
  defp name(%{tool: tool}), do: tool

  defp error(%{status: status}) when status in [:failed, :declined], do: status
  defp error(_item), do: nil

  defp arguments(%Items.CommandExecution{command: command}), do: command
  defp arguments(%Items.FileChange{changes: changes}), do: changes
  defp arguments(%Items.WebSearch{query: query}), do: query
  defp arguments(%{arguments: arguments}), do: arguments
  defp arguments(%{prompt: prompt}), do: prompt

  defp output(%Items.CommandExecution{aggregated_output: output}), do: output
  defp output(%Items.DynamicToolCall{content_items: items}), do: items
  defp output(%Items.McpToolCall{result: result, error: error}), do: error || result
  defp output(_item), do: nil

  ## Events

  defp emit(span, name, measurements, details, content \\ nil) do
    metadata = Map.merge(span.meta, details)
    metadata = if span.content? and content, do: Map.merge(metadata, content.()), else: metadata
    measurements = Map.put(measurements, :system_time, System.system_time())
    Telemetry.execute(span.prefix ++ name, measurements, metadata)
  end
end
