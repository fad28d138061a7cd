defmodule Codex.Approvals.Spans do
  @moduledoc false
  # Telemetry of reviews of host tools. `Codex.AppServer.Spans` covers the requests of a server.

  alias Codex.Telemetry

  @doc "Reads a field of an event whose keys are atoms or strings."
  @spec field(map(), atom()) :: term()
  def field(event, key) do
    with nil <- Map.get(event, key), do: Map.get(event, Atom.to_string(key))
  end

  @doc "Emits the start and the stop event of a review. A deferred decision has no stop event here."
  @spec review(map(), map(), (... -> decision)) :: decision when decision: term()
  def review(event, context, review) do
    if Telemetry.listening?(), do: observed(event, context, review), else: review.()
  end

  defp observed(event, context, review) do
    prefix = prefix(context)
    meta = meta(event, context)
    emit(prefix, :requested, %{}, meta)
    began = System.monotonic_time()

    try do
      review.()
    catch
      kind, reason ->
        emit(prefix, :denied, Telemetry.spent(began), Map.put(meta, :reason, :failed))
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      decision ->
        with {stage, more} <- outcome(decision),
             do: emit(prefix, stage, Telemetry.spent(began), Map.merge(meta, more))

        decision
    end
  end

  defp outcome(:allow), do: {:approved, %{}}
  defp outcome({:deny, "approval timeout"}), do: {:timeout, %{}}
  defp outcome({:deny, reason}), do: {:denied, %{reason: reason}}
  defp outcome(_later), do: nil

  defp meta(event, context) do
    %{
      lane: nil,
      originator: :sdk,
      method: nil,
      tool: field(event, :tool_name) || field(event, :tool),
      call_id: id(event, context, :call_id),
      thread_id: id(event, context, :thread_id) || thread_id(context),
      turn_id: id(event, context, :turn_id)
    }
  end

  defp id(event, context, key),
    do: field(event, key) || if(is_map(context), do: field(context, key))

  defp thread_id(%{thread: %{thread_id: id}}), do: id
  defp thread_id(_context), do: nil

  defp prefix(%{thread: %{codex_opts: %{telemetry_prefix: [_ | _] = prefix}}}), do: prefix
  defp prefix(_context), do: [:codex]

  defp emit(prefix, stage, measurements, meta) do
    measurements = Map.put(measurements, :system_time, System.system_time())
    Telemetry.execute(prefix ++ [:approval, stage], measurements, meta)
  end
end
