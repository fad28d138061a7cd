defmodule Codex.Exec.Loss do
  @moduledoc false
  # Why a run of the CLI did not begin, or did not end its turn, as the exception that its reader gets. Pure.

  alias Codex.{Error, Subprocess, TransportError}
  alias Codex.Error.Classifier

  # Of the launcher; what holds for the first event holds for the program, too.
  @program_timeout 5_000

  @doc "The program could not be started; `limit` is the option of the clock for that."
  @spec not_started(Subprocess.Error.t(), pos_integer() | nil) :: TransportError.t()
  def not_started(error, limit) do
    error = child(error, "codex could not be started")

    if error.clock == :start,
      do: %{error | timeout_ms: limit || @program_timeout, option: :start_timeout_ms},
      else: error
  end

  @doc "It was lost while it ran."
  @spec lost(Subprocess.Error.t()) :: TransportError.t()
  def lost(error), do: child(error, "codex was lost")

  defp child(error, what) do
    known = Error.normalize(error)

    %TransportError{
      reason_code: known.kind,
      message: "#{what}: #{known.message}",
      retryable?: known.retryable?,
      clock: known.details[:clock]
    }
  end

  @doc "It closed its output and did not exit."
  @spec lives_on() :: TransportError.t()
  def lives_on do
    %TransportError{
      reason_code: :protocol,
      message: "codex closed its output without ending the turn, and lives on"
    }
  end

  @doc "Somebody cancelled it."
  @spec cancelled() :: TransportError.t()
  def cancelled,
    do: %TransportError{reason_code: :interrupted, message: "the run was cancelled"}

  @typedoc """
  How it ended, what it said, the last event of an error, whether there was an event, whether
  somebody cancelled it, and which thread was wanted.
  """
  @type ending :: %{
          exit: Subprocess.Exit.t(),
          said: String.t(),
          event: Codex.Events.t() | nil,
          started?: boolean(),
          cancelled?: boolean(),
          resume: nil | :last | {:fork, String.t()} | String.t()
        }

  @doc "It exited without ending the turn."
  @spec cut_short(ending()) :: TransportError.t()
  def cut_short(%{exit: exit, said: said} = ending) do
    signal = exit.signal && number(exit.signal)
    end_ = %{status: exit.status, signal: signal, started?: ending.started?}
    verdict = Classifier.ended(said, end_)

    error = %TransportError{
      exit_status: exit.status || 128 + signal,
      signal: exit.signal,
      reason_code: verdict.kind,
      retryable?: verdict.retryable?,
      retry_after_ms: verdict.retry_after_ms,
      resets_at: verdict.resets_at,
      http_status: verdict.http_status
    }

    last = Classifier.last_words(said)

    cond do
      ending.cancelled? ->
        cancelled = "the run was cancelled"
        %{error | reason_code: :interrupted, retryable?: false, message: cancelled}

      verdict.kind == :thread_not_found ->
        %{error | message: thread_not_found(ending.resume, last).message}

      verdict.kind == :protocol and dropped?(ending.event) ->
        text = "the end of the turn cannot be read: " <> ending.event.message
        %{error | reason_code: :overflow, retryable?: false, message: text}

      true ->
        %{error | message: why(error, last)}
    end
  end

  # A line over a limit, which may have been the end of the turn.
  defp dropped?(%Codex.Events.Error{additional_details: %{"line_bytes" => _}}), do: true
  defp dropped?(_event), do: false

  defp why(%{reason_code: :interrupted}, _last), do: "codex was interrupted"

  defp why(%{reason_code: :killed, signal: signal}, _last),
    do: "codex was ended by signal #{signal}"

  defp why(%{reason_code: :protocol}, _last), do: "codex exited without ending the turn"

  defp why(%{reason_code: :crashed, exit_status: status}, ""),
    do: "codex exited with status #{status}: it said nothing"

  defp why(%{reason_code: :crashed, exit_status: status}, last),
    do: "codex exited with status #{status}: #{last}"

  defp why(_error, last), do: last

  @doc "There is no such thread, or another one began."
  @spec thread_not_found(nil | :last | {:fork, String.t()} | String.t(), String.t()) ::
          TransportError.t()
  def thread_not_found(resume, why) do
    %TransportError{
      reason_code: :thread_not_found,
      message: "no thread #{inspect(wanted(resume))}: #{why}"
    }
  end

  defp wanted({:fork, id}), do: id
  defp wanted(id), do: id

  defp number(signal) when is_integer(signal), do: signal
  defp number(signal), do: Subprocess.Signal.number!(signal)
end
