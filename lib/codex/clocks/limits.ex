defmodule Codex.Clocks.Limits do
  @moduledoc false
  # From options to the limits of `Codex.Clocks`, and from a limit that ran out to the error that says so; for both lanes.

  alias Codex.{Clocks, TransportError}

  @doc "The limits of a run. `default` is that of calls that block, in ms; nil where the run is read as a stream."
  @spec of(map(), timeout() | nil) :: keyword()
  def of(settings, default) do
    [
      start: settings.start_timeout_ms,
      silence: silence(settings, default),
      stall: settings.idle_timeout_ms,
      total: settings.total_timeout_ms
    ]
  end

  # Where the call blocks, there is a default, and the limit for streams does not count.
  defp silence(settings, nil), do: settings.stream_idle_timeout_ms || settings.timeout_ms
  defp silence(settings, default), do: settings.timeout_ms || default

  @doc "The option that sets the limit for silence."
  @spec silence_option(map(), timeout() | nil) :: :stream_idle_timeout_ms | :timeout_ms
  def silence_option(settings, default) do
    if default == nil and settings.stream_idle_timeout_ms != nil,
      do: :stream_idle_timeout_ms,
      else: :timeout_ms
  end

  @doc "The error of a limit that has run out."
  @spec error(Clocks.t(), Clocks.name(), Clocks.limit(), atom()) :: TransportError.t()
  def error(clocks, name, limit, silence_option) do
    option = option(name, silence_option)

    %TransportError{
      reason_code: :timeout,
      message: words(name, limit) <> " (#{option})",
      timeout_ms: limit,
      clock: Clocks.clock(name),
      option: option,
      open: Clocks.open(clocks),
      retryable?: true
    }
  end

  defp words(:start, ms), do: "start timeout: codex sent no event for #{ms} ms"
  defp words(:request, ms), do: "request timeout: the app-server gave no answer for #{ms} ms"
  defp words(:silence, ms), do: "idle timeout: codex sent nothing for #{ms} ms"
  defp words(:stall, ms), do: "idle timeout: the turn came no further for #{ms} ms"
  defp words(:total, ms), do: "total timeout: the run was not over after #{ms} ms"

  # The one that has to be raised.
  defp option(:start, _), do: :start_timeout_ms
  defp option(:request, _), do: :request_timeout_ms
  defp option(:stall, _), do: :idle_timeout_ms
  defp option(:total, _), do: :total_timeout_ms
  defp option(:silence, silence_option), do: silence_option
end
