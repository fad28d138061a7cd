defmodule Codex.Telemetry do
  @moduledoc """
  What the SDK tells to `:telemetry`, where the host application has it. Without it nothing happens.

  The first part of every name is the option `telemetry_prefix` of the client, `[:codex]` by default.

  ## Events

  `[:codex, :retry, :attempt]` - an attempt of a call with `retry` or `rate_limit` on has ended; from `Codex.Retry` as well.

    * measurements: `system_time` (native units), `duration` (of the attempt, native units), `delay_ms` (the wait that
      follows, 0 where none does; where the gate of `Codex.RateLimit` is waited for, it is how long that is closed)
    * metadata: `attempt` (from 1), `max_attempts`, `outcome` (`:ok`; `:retry`: another attempt follows; `:error`: none does),
      `reason` (what failed, nil for `:ok`), `kind` (its kind, as in `Codex.Error`), `mode` (what follows: `:repeat`, `:resume`, or nil)

  `[:codex, :rate_limit, :rate_limited]` - a limit was hit.

    * measurements: `system_time` (native units)
    * metadata: `delay_ms`, `attempt` (how often this call was limited), `info` (see `Codex.RateLimit.detect/1`)

  A duration becomes milliseconds with `System.convert_time_unit(duration, :native, :millisecond)`.
  """

  @doc """
  Calls `:telemetry.execute/3` where that module is loaded: whoever attached a handler has loaded it.

      iex> Codex.Telemetry.execute([:codex, :retry, :attempt], %{delay_ms: 0}, %{attempt: 1})
      :ok
  """
  @spec execute([atom(), ...], map(), map()) :: :ok
  def execute([_ | _] = event, measurements, metadata)
      when is_map(measurements) and is_map(metadata) do
    if :erlang.function_exported(:telemetry, :execute, 3),
      do: call(:telemetry, [event, measurements, metadata])

    :ok
  end

  # The module need not exist when this one is compiled, nor when Dialyzer looks at it: it is named only when it is called.
  defp call(module, arguments), do: apply(module, :execute, arguments)
end
