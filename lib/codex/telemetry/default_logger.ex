defmodule Codex.Telemetry.DefaultLogger do
  @moduledoc false
  # The handler of `Codex.Telemetry.attach_default_logger/1`: a line for each turn, attempt and
  # limit and for outputs that are cut, and at level debug for each tool and process. Lines have no
  # content, even if the events have.

  require Logger

  alias Codex.{Format, Text}

  @logged [
    [:thread, :stop],
    [:thread, :exception],
    [:retry, :attempt],
    [:rate_limit, :rate_limited],
    [:tool, :success],
    [:tool, :failure],
    [:tool, :output_cut],
    [:process, :stop]
  ]

  def events(prefix), do: Enum.map(@logged, &(prefix ++ &1))

  def handle(event, measurements, metadata, %{level: level, prefix: prefix}) do
    name = Enum.drop(event, length(prefix))

    case line(name, measurements, metadata) do
      nil -> :ok
      {other, line} -> Logger.log(other || level, fn -> Text.line("codex " <> line) end)
    end
  end

  defp line([:thread, :stop], measurements, %{result: result} = meta) do
    error = with %{kind: kind} <- meta.error, do: " (#{kind})"
    tokens = with %{} = usage <- meta.usage, do: ", " <> tokens(usage)
    level = if result == :error, do: :warning
    {level, "turn #{result}#{error} in #{ms(measurements)}#{tokens}#{thread(meta)}"}
  end

  defp line([:thread, :exception], measurements, meta),
    do: {:warning, "turn failed (#{meta.reason.kind}) after #{ms(measurements)}#{thread(meta)}"}

  defp line([:retry, :attempt], _measurements, %{outcome: :ok}), do: nil

  defp line([:retry, :attempt], measurements, meta) do
    next =
      if meta.outcome == :retry,
        do: ", next in #{measurements.delay_ms} ms",
        else: ", no further attempt"

    {:warning, "attempt #{meta.attempt} of #{meta.max_attempts} failed (#{meta.kind})#{next}"}
  end

  defp line([:rate_limit, :rate_limited], _measurements, meta),
    do: {:warning, "rate limited for #{meta.delay_ms} ms"}

  defp line([:tool, :output_cut], measurements, meta) do
    {:warning,
     "tool #{meta.tool} returned #{measurements.bytes} bytes, of which the model sees " <>
       "#{measurements.limit}#{thread(meta)}"}
  end

  defp line([:tool, outcome], measurements, meta) do
    server = with name when is_binary(name) <- meta.server, do: name <> "/"
    {:debug, "tool #{server}#{meta.tool} #{outcome} in #{ms(measurements)}#{thread(meta)}"}
  end

  defp line([:process, :stop], measurements, meta) do
    how = if meta.signal, do: "signal #{meta.signal}", else: "status #{meta.exit_status}"
    {:debug, "process #{meta.os_pid} ended with #{how} after #{ms(measurements)}"}
  end

  defp ms(%{duration_ms: nil}), do: "an unknown time"
  defp ms(%{duration_ms: ms}), do: "#{ms} ms"

  defp thread(%{thread_id: nil}), do: ""
  defp thread(%{thread_id: id}), do: ", thread #{id}"

  defp tokens(usage) do
    {input, output} = {usage["input_tokens"] || 0, usage["output_tokens"] || 0}
    "#{Format.tokens(input)} tokens in, #{Format.tokens(output)} out"
  end
end
