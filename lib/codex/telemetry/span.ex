defmodule Codex.Telemetry.Span do
  @moduledoc false
  # A turn as `:telemetry` is told of it: a stream of its elements, with what is emitted on the way. Lane-neutral: elements are
  # events, `{:attempts, n}`, and at the end of a turn that was lost `{:failed, exception}`.

  alias Codex.{Error, Events, Items, Telemetry, Turn}

  # More tools are not in use at once. Of others only the end is told.
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

  @typedoc """
  Which turn: the prefix of names, metadata that all of its events have, its input, what its thread has used before (nil
  where that is not known), and whether content is told.
  """
  @type about :: %{
          prefix: [atom(), ...],
          meta: map(),
          input: term(),
          known: map() | nil,
          content?: boolean()
        }

  @doc "What there is to know of a run before it begins."
  @spec about(:exec | :app_server, Codex.Thread.t() | nil, term(), map()) :: about()
  def about(lane, thread, input, settings) do
    known =
      case thread do
        %{thread_id: nil, resume: nil, fork_of: nil} -> %{}
        %{usage: usage} when usage != %{} -> usage
        _ -> nil
      end

    %{
      prefix: settings.telemetry_prefix,
      meta: %{lane: lane, thread_id: thread && thread.thread_id},
      input: input,
      known: known,
      content?: settings.telemetry_content == true
    }
  end

  @doc """
  The stream that `run` gives, told of. With `:raise`, a turn that was lost raises; with `:element`, `{:failed, exception}` goes on to the
  reader. `run` gets prefix and metadata for what else there is to tell of the turn.
  """
  @spec observe(({[atom(), ...], map()} -> Enumerable.t()), about(), :raise | :element) ::
          Enumerable.t()
  def observe(run, about, lost) when is_function(run, 1) do
    fn acc, reducer -> first(acc, reducer, run, about, lost) end
  end

  # Nothing begins before the reader wants an element.
  defp first({:suspend, acc}, reducer, run, about, lost),
    do: {:suspended, acc, &first(&1, reducer, run, about, lost)}

  defp first({:halt, acc}, _reducer, _run, _about, _lost), do: {:halted, acc}

  defp first({:cont, acc}, reducer, run, about, lost) do
    span = start(about)
    stream = run.({span.prefix, span.meta})

    step = fn element, {acc, span} ->
      span = saw(element, named(element, span))
      deliver(element, acc, reducer, span, lost)
    end

    drive(fn -> Enumerable.reduce(stream, {:cont, {acc, span}}, step) end, span, lost)
  end

  defp deliver({:failed, _error}, acc, _reducer, span, :raise), do: {:halt, {acc, span}}

  # What is for a result only.
  defp deliver(element, acc, _reducer, span, :raise) when is_tuple(element),
    do: {:cont, {acc, span}}

  defp deliver(element, acc, reducer, span, _lost) do
    {command, acc} = reducer.(element, acc)
    {command, {acc, span}}
  catch
    # What the reader raises passes through the stream, which ends the run on the way.
    kind, reason -> throw({__MODULE__, span, kind, reason, __STACKTRACE__})
  end

  # What is known travels with the accumulator.
  defp drive(reduce, span, lost) do
    case guarded(reduce, span) do
      {:suspended, {acc, span}, continue} ->
        {:suspended, acc,
         fn {command, acc} -> drive(fn -> continue.({command, {acc, span}}) end, span, lost) end}

      {how, {acc, span}} ->
        finish(span)

        case {span.failed, lost} do
          {{:lost, error}, :raise} -> raise error
          _ -> {how, acc}
        end
    end
  end

  defp guarded(reduce, span) do
    reduce.()
  catch
    :throw, {__MODULE__, span, kind, reason, trace} ->
      finish(span)
      :erlang.raise(kind, reason, trace)

    # The run could not begin.
    :error, %Error{} = error ->
      trace = __STACKTRACE__
      finish(saw({:failed, error}, span))
      :erlang.raise(:error, error, trace)

    kind, reason ->
      trace = __STACKTRACE__
      finish(span)
      :erlang.raise(kind, reason, trace)
  end

  # --- Beginning and end ------------------------------------------------------------------------------------------------

  defp start(about) do
    own = %{originator: :sdk, span_token: make_ref(), thread_id: nil, turn_id: nil}
    meta = Map.merge(own, about.meta)

    span = %__MODULE__{
      prefix: about.prefix,
      meta: meta,
      began: System.monotonic_time(),
      known: about.known,
      content?: about.content?
    }

    emit(span, [:thread, :start], %{}, %{}, fn -> %{input: about.input} end)
    span
  end

  defp finish(%{failed: {:lost, error}} = span) do
    reason = Error.normalize(error)
    reason = if span.content?, do: reason, else: Telemetry.bare(reason)
    details = %{result: :error, reason: reason, attempts: span.attempts}
    emit(span, [:thread, :exception], spent(span.began), details)
  end

  defp finish(span) do
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

    emit(span, [:thread, :stop], spent(span.began), details)
  end

  # --- On the way -------------------------------------------------------------------------------------------------------

  # Attempts have turns of their own: the newest counts.
  defp named(%{turn_id: id}, span) when is_binary(id), do: put_in(span.meta.turn_id, id)
  defp named(_element, span), do: span

  defp saw({:attempts, n}, span), do: %{span | attempts: n}
  defp saw({:failed, error}, span), do: %{span | failed: {:lost, error}}
  defp saw(%Events.ThreadStarted{thread_id: id}, span), do: put_in(span.meta.thread_id, id)

  defp saw(%Events.ThreadTokenUsageUpdated{usage: total}, span), do: %{span | total: total}

  defp saw(%Events.TurnCompleted{} = event, span) do
    {total, delta} = usage(event, span)

    if is_map(total) do
      emit(span, [:thread, :token_usage, :updated], %{}, %{usage: total, delta: delta})
    end

    fail(%{span | usage: total || %{}}, event)
  end

  defp saw(%Events.TurnFailed{} = event, span), do: fail(span, event)

  defp saw(%Events.ItemStarted{item: item}, span), do: span |> item(:started, item) |> open(item)
  defp saw(%Events.ItemUpdated{item: item}, span), do: item(span, :updated, item)

  defp saw(%Events.ItemCompleted{item: item}, span),
    do: span |> item(:completed, item) |> close(item)

  defp saw(%Events.TurnDiffUpdated{diff: diff}, span) do
    emit(span, [:turn, :diff, :updated], %{}, %{}, fn -> %{diff: diff} end)
    span
  end

  defp saw(%Events.TurnCompaction{stage: stage, compaction: compaction}, span),
    do: compaction(span, stage, compaction)

  defp saw(_event, span), do: span

  defp fail(span, event) do
    case Turn.failure(event) do
      nil -> span
      error -> %{span | failed: span.failed || {:turn, error}}
    end
  end

  # What is told of it is numbers.
  defp compaction(span, stage, compaction) do
    stage = if stage in [:started, :completed, :failed], do: stage, else: :unknown
    told = if is_map(compaction), do: compaction, else: %{}
    savings = told["token_savings"] || told["tokenSavings"]
    details = %{compaction: Map.filter(told, fn {_, n} -> is_number(n) end), stage: stage}
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
    # On the app-server (0.169) it is an item.
    if match?(%Items.ContextCompaction{}, item), do: compaction(span, stage, %{}), else: span
  end

  defp type(%{type: type}), do: type
  defp type(_item), do: nil

  # --- Tools ------------------------------------------------------------------------------------------------------------

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
        emit(span, [:tool, :success], spent(began), Map.put(tool(item), :result, :ok), content)

      error ->
        details = %{result: :error, error: error, exit_code: Map.get(item, :exit_code)}
        emit(span, [:tool, :failure], spent(began), Map.merge(tool(item), details), content)
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

  # --- Events -----------------------------------------------------------------------------------------------------------

  @doc "Measurements of something that began then."
  @spec spent(integer() | nil) :: map()
  def spent(nil), do: %{duration: nil, duration_ms: nil}

  def spent(began) do
    duration = System.monotonic_time() - began
    %{duration: duration, duration_ms: System.convert_time_unit(duration, :native, :millisecond)}
  end

  defp emit(span, name, measurements, details, content \\ nil) do
    metadata = Map.merge(span.meta, details)
    metadata = if span.content? and content, do: Map.merge(metadata, content.()), else: metadata
    measurements = Map.put(measurements, :system_time, System.system_time())
    Telemetry.execute(span.prefix ++ name, measurements, metadata)
  end
end
