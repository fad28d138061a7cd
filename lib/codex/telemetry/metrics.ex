defmodule Codex.Telemetry.Metrics do
  @moduledoc false
  # The metrics of `Codex.Telemetry.metrics/1`, as data: the kind, the event, the last part of the
  # name, the measurement, the unit, the tags and the description.

  @compile {:no_warn_undefined, Telemetry.Metrics}

  @turn [:thread, :stop]
  @tokens [:thread, :token_usage, :updated]

  @rows [
    {:counter, @turn, :count, :duration_ms, :unit, [:lane, :result], "turns that ended"},
    {:summary, @turn, :duration_ms, :duration_ms, :millisecond, [:lane, :result],
     "time of turns"},
    {:counter, [:thread, :exception], :count, :duration_ms, :unit, [:lane],
     "turns that the CLI did not end"},
    {:sum, @tokens, :input_tokens, {:delta, "input_tokens"}, :unit, [:lane], "input tokens"},
    {:sum, @tokens, :cached_input_tokens, {:delta, "cached_input_tokens"}, :unit, [:lane],
     "input tokens from the cache of the provider"},
    {:sum, @tokens, :output_tokens, {:delta, "output_tokens"}, :unit, [:lane], "output tokens"},
    {:summary, [:tool, :success], :duration_ms, :duration_ms, :millisecond, [:tool],
     "time of tools that succeeded"},
    {:counter, [:tool, :failure], :count, :system_time, :unit, [:tool],
     "tools that failed or were declined"},
    {:counter, [:approval, :approved], :count, :system_time, :unit, [:tool], "approved requests"},
    {:counter, [:approval, :denied], :count, :system_time, :unit, [:tool], "denied requests"},
    {:counter, [:approval, :timeout], :count, :system_time, :unit, [:tool],
     "requests without an answer in time"},
    {:counter, [:retry, :attempt], :count, :duration, :unit, [:outcome, :kind],
     "attempts of calls with retry"},
    {:counter, [:rate_limit, :rate_limited], :count, :system_time, :unit, [],
     "limits that were reached"},
    {:summary, [:request, :stop], :duration_ms, :duration_ms, :millisecond, [:method, :result],
     "time of requests to app-servers"}
  ]

  @doc "Builds the metrics with `Telemetry.Metrics`."
  @spec build([atom()]) :: [struct()]
  def build(prefix) do
    for {kind, event, last, measurement, unit, tags, description} <- @rows do
      options = [
        event_name: prefix ++ event,
        measurement: measurement(measurement),
        unit: unit,
        tags: tags,
        description: description
      ]

      apply(library(), kind, [prefix ++ event ++ [last], options])
    end
  end

  # nil is no measurement to reporters: the tokens of this turn are not known.
  defp measurement({:delta, name}),
    do: fn _measurements, meta -> meta.delta && meta.delta[name] end

  defp measurement(name), do: name

  # A function, because Dialyzer does not know the module.
  defp library, do: Telemetry.Metrics
end
