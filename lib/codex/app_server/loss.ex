defmodule Codex.AppServer.Loss do
  @moduledoc false
  # Why a turn over a connection did not begin, or did not come to its end, as the exception that the other lane raises, too.

  alias Codex.{Error, Subprocess, TransportError}
  alias Codex.Error.Classifier

  @doc "The exception of what a connection says, or of how its process ended."
  @spec error(term()) :: TransportError.t()
  def error({:app_server_down, info}), do: down(info)
  def error({:down, {:shutdown, reason}}), do: error(reason)

  def error({:down, reason}) when reason in [:normal, :noproc, :shutdown],
    do: lost(:crashed, "the connection to the app-server was closed")

  def error({:down, _reason}), do: lost(:crashed, "the connection to the app-server has crashed")
  def error(:noproc), do: error({:down, :noproc})

  def error({:no_connection, name}),
    do: lost(:crashed, "there is no connection: no process is named #{inspect(name)}")

  def error(method) when method in ["thread/closed", "thread/deleted"],
    do: lost(:protocol, "the server told #{method} in mid-turn")

  def error(other) do
    error = Error.normalize(other)

    %{
      lost(error.kind, error.message)
      | retryable?: error.retryable?,
        retry_after_ms: error.retry_after_ms,
        resets_at: error.resets_at,
        http_status: error.http_status
    }
  end

  # As of a process that ended without ending the turn.
  defp down(%{exit_status: status, signal: signal} = info) when status != nil or signal != nil do
    stderr = Map.get(info, :stderr) || ""
    number = signal && number(signal)
    ended = %{status: status, signal: number, started?: true}
    verdict = stderr |> Classifier.ended(ended) |> stopped(status)

    %{
      lost(verdict.kind, words(status, signal, Classifier.last_words(stderr)))
      | exit_status: status || 128 + number,
        signal: signal,
        stderr: stderr,
        retryable?: verdict.retryable?
    }
  end

  defp down(%{reason: {:closed, code, text}}) do
    number = if code, do: " (#{code})", else: ""
    why = if text == "", do: "", else: ": " <> text
    lost(:crashed, "the app-server closed the connection#{number}#{why}")
  end

  defp down(%{reason: :disconnected}), do: error(:noproc)
  defp down(%{reason: reason}) when reason in [:noproc, :normal], do: error(:noproc)

  defp down(info) do
    case info do
      %{reason: %Subprocess.Error{} = error} -> error(error)
      _ -> error({:down, :crashed})
    end
  end

  # It ends by itself, and well, when it is asked to: by SIGTERM.
  defp stopped(verdict, 0), do: %{verdict | kind: :crashed, retryable?: true}
  defp stopped(verdict, _status), do: verdict

  defp words(0, nil, _said),
    do:
      "the app-server has ended in mid-turn with status 0, as it does when it is told to (SIGTERM)"

  defp words(_status, signal, _said) when signal != nil,
    do: "the app-server was ended by signal #{signal}"

  defp words(status, nil, ""), do: "the app-server exited with status #{status}: it said nothing"
  defp words(status, nil, said), do: "the app-server exited with status #{status}: #{said}"

  defp number(signal) when is_integer(signal), do: signal
  defp number(signal), do: Subprocess.Signal.number!(signal)

  defp lost(kind, message), do: %TransportError{reason_code: kind, message: message}
end
